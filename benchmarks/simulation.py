"""Predictions whose population scores are known: binormal logits (a normal for the images with a label, another for
those without), so that promises of mlclib.metrics can be held against the truth.

The logit of seed s of a model for label c on an image is (d_c + seed effect of s) where the label is present, else 0,
plus standard normal noise. The noise is shared in part by all models (an image is hard for all), in part by the seeds
of a model (an image is hard for this model), and in part belongs to the seed and the image together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from mlclib.metrics import evaluate, labels_with, pairwise, resampling
from mlclib.metrics.scores import FREQUENT

# Test images with each label: of the drawn scenes, and of VOC 2007's photographs as photographs-frozen scores them.
SCENES = (91, 113, 64, 133, 93, 89, 46, 34, 53, 25, 152, 70, 77, 105, 63, 87, 93, 78, 52, 58, 73, 64)
PHOTOGRAPHS = (5, 9, 1, 5, 6, 108, 469, 220, 9, 1, 2, 15, 6, 27, 232, 7, 6, 172, 12)

DRAWS = 400  # of the bootstrap: the least p is below what a test meets among ten pairs

_RANKS = (np.arange(2000) + 0.5) / 2000  # where on the positives' distribution precision is taken
_SEEDS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)  # over the seeds' normal distribution


@dataclass(frozen=True)
class World:
    """A kind of test set and of models.

    images: how many a test set holds. positives: expected positives of each label, [C]. level: mAP in the population
    of a model whose separation is 0 above the common one. seed_sd: standard deviation over seeds of the separation, in
    units of the noise. shared, both: which share of the noise's variance all models have in common, and which is of
    seed and image together; the rest belongs to the model and the image.
    """

    images: int
    positives: tuple[int, ...]
    level: float
    seed_sd: float
    shared: float = 0.6
    both: float = 0.2

    @cached_property
    def prevalence(self) -> np.ndarray:
        return np.array(self.positives) / self.images

    @cached_property
    def separations(self) -> np.ndarray:
        """The common separation of each label, [C]: labels differ by half a unit, as a fixed seed draws them."""
        spread = 0.5 * np.random.default_rng(0).standard_normal(len(self.positives))
        mean = brentq(lambda d: self._mean_over_seeds(d + spread).mean() - self.level, 0, 6)
        return mean + spread

    def population(self, shift: float) -> np.ndarray:
        """The AP of each label in the population, mean over all seeds, of a model so far above the common one: [C]."""
        if shift not in self._populations:
            self._populations[shift] = self._mean_over_seeds(self.separations + shift)
        return self._populations[shift]

    @cached_property
    def _populations(self) -> dict[float, np.ndarray]:
        return {}

    def shift(self, gap: float) -> float:
        """How far a model must be shifted for its mAP in the population, over the labels expected to be frequent, to
        lie `gap` above the common one's.
        """
        labels = np.array(self.positives) >= FREQUENT
        labels = labels if labels.any() else ~labels
        common = self.population(0)[labels].mean()
        return brentq(lambda shift: self.population(shift)[labels].mean() - common - gap, 0, 3)

    def draw(
        self, shifts: Sequence[float], seeds: int, rng: np.random.Generator
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """One test set, and the logits of so many seeds of models with these shifts: [S, N, C] of each, and [N, C]."""
        present = rng.random((self.images, len(self.positives))) < self.prevalence
        size = present.shape
        shared = np.sqrt(self.shared) * rng.standard_normal(size)
        models = []
        for shift in shifts:
            own = np.sqrt(1 - self.shared - self.both) * rng.standard_normal(size)
            noise = shared + own + np.sqrt(self.both) * rng.standard_normal((seeds, *size))
            effects = self.seed_sd * rng.standard_normal((seeds, 1, 1))
            models.append((present * (self.separations + shift + effects) + noise).astype(np.float32))
        return models, np.where(present, 1, -1).astype(np.int8)

    def _mean_over_seeds(self, separations: np.ndarray) -> np.ndarray:
        if not self.seed_sd:
            return average_precision(separations, self.prevalence)
        each = [average_precision(separations + self.seed_sd * effect, self.prevalence) for effect in _SEEDS]
        return _WEIGHTS @ np.array(each) / _WEIGHTS.sum()


def average_precision(separations: np.ndarray, prevalence: np.ndarray) -> np.ndarray:
    """The population AP of binormal logits, [C]: the mean over the positives of the precision at their logit."""
    thresholds = np.asarray(separations)[:, None] - ndtri(_RANKS)
    hits, false_alarms = prevalence[:, None] * _RANKS, (1 - prevalence)[:, None] * ndtr(-thresholds)
    return (hits / (hits + false_alarms)).mean(axis=1)


class Contest(NamedTuple):
    """One test set and its models, as the tables judge them over the frequent labels.

    pairs: all pairs of models. truths, estimates [M]: mAP in the population over these labels, and on the test set.
    lows, highs [M]: its interval. all_labels: truth, estimate, low and high of the first model over every label.
    """

    pairs: list[pairwise.Pair]
    truths: np.ndarray
    estimates: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    all_labels: tuple[float, float, float, float]


def contest(world: World, shifts: Sequence[float], seeds: int, number: int) -> Contest:
    """Test set `number` of this kind, through the functions that the tables of results call."""
    models, targets = world.draw(shifts, seeds, np.random.default_rng([seeds, number]))
    defined = (targets == 1).any(axis=0)
    labels = labels_with(targets) or np.flatnonzero(defined).tolist()  # as captions.frequent
    options = {"draws": DRAWS, "seed": number}
    pairs = pairwise.compare(models, targets, margin=0.01, labels=labels, **options)
    intervals = np.array([resampling.bootstrap(model, targets, labels=labels, **options) for model in models])
    estimates = [np.mean([evaluate(run, targets, labels=labels)["mAP"] for run in model]) for model in models]
    whole = (
        world.population(shifts[0])[defined].mean(),
        np.mean([evaluate(run, targets)["mAP"] for run in models[0]]),
        *resampling.bootstrap(models[0], targets, **options),
    )
    resampling._drawn.cache_clear()
    truths = np.array([world.population(shift)[labels].mean() for shift in shifts])
    return Contest(pairs, truths, np.array(estimates), *intervals.T, whole)
