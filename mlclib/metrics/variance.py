"""What a score, or a difference between two models, owes to the test images and what to the seeds, and what follows:
standard errors, t tests and power.

Scores are [S, 1 + draws]: those of a model's S seeds, plain and in each bootstrap resample of the images
(`resampling.bootstrap_scores`).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri, stdtr, stdtrit

ALPHA, POWER = 0.05, 0.80
MANY = 1e8  # degrees of freedom that are as good as infinite
BEYOND = 100  # no number of images or seeds is named above so many times what is there


class VarianceComponents(NamedTuple):
    """Variance components of a score, or of the difference of two models, as means over seeds; scores are fractions.

    images: component of the test images. interaction: that of images and seeds. seeds: component of the seeds, NaN
    where every model has one seed. seed_variances: for each model the variance of its mean over seeds on these images
    (interaction and seeds), NaN for one seed. counts: number of seeds of each model. level: significance level of the
    two-sided test, after the correction for all pairs.
    """

    images: float
    interaction: float
    seeds: float
    seed_variances: tuple[float, ...]
    counts: tuple[int, ...]
    level: float = ALPHA

    @property
    def standard_error(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.images + self.interaction + np.nan_to_num(self.seeds)))

    @property
    def seeds_share(self) -> float:
        """The share of the variance that only more seeds lessen; NaN where every model has one seed."""
        return self.seeds / self.standard_error**2 if self.standard_error else np.nan

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the standard error (Satterthwaite, Biometrics Bulletin 2, 1946): few where few seeds
        carry the variance; inf where every model has one seed, whose variance is not known.
        """
        counted = zip(self.seed_variances, self.counts, strict=True)
        squares = [variance**2 / (count - 1) for variance, count in counted if count > 1]
        return float(self.standard_error**4 / sum(squares)) if sum(squares) else np.inf

    def p_above(self, excess: float) -> float:
        """One-sided p of a t test: of a value that lies `excess` or more above the hypothesis, if that is true."""
        if not self.standard_error:
            return float(np.sign(-excess) / 2 + 0.5)
        return float(stdtr(min(self.degrees_of_freedom, MANY), -excess / self.standard_error))

    def half_width(self, level: float) -> float:
        """Half the width of the interval of confidence `level`."""
        return float(stdtrit(min(self.degrees_of_freedom, MANY), (1 + level) / 2) * self.standard_error)

    def power(self, gap: float) -> float:
        """The probability that a true difference of `gap` is shown at `level`, by the t test and by the bootstrap too.

        Both look at the same difference, which is normal about `gap`, and at the same estimate of the variance by
        seeds, which follows a chi-squared distribution. The bootstrap resamples images and seeds at once, which counts
        `interaction` more than once and of `seeds` the part (S - 1) / S (Owen, Annals of Applied Statistics 1, 2007).
        """
        if not self.standard_error:
            return float(gap > 0)
        fewer = np.maximum(np.array(self.counts) - 1.0, 1)  # of a single seed the variance is 0 below
        chances = np.random.default_rng(0).random((200, len(fewer)))
        seed_variances = np.nan_to_num(self.seed_variances) * chdtri(fewer, chances) / fewer
        total = seed_variances.sum(axis=1)
        variance = self.images + np.maximum(self.interaction, total)
        squares = (seed_variances**2 / fewer).sum(axis=1)
        freedom = variance**2 / np.maximum(squares, 1e-12 * variance**2)
        of_t = stdtrit(freedom, 1 - self.level / 2) * np.sqrt(variance)
        resampled = self.images + self.interaction + (1 - 1 / np.mean(self.counts)) * (self.interaction + total)
        of_bootstrap = ndtri(1 - self.level / 2) * np.sqrt(resampled)
        return float(ndtr((gap - np.maximum(of_t, of_bootstrap)) / self.standard_error).mean())

    @property
    def smallest_gap(self) -> float:
        """The true difference that is shown with 80 % power."""
        if not self.standard_error > 0:
            return self.standard_error  # 0, or NaN where nothing is scored
        high = self.standard_error
        while self.power(high) < POWER:
            high *= 2
        return float(brentq(lambda gap: self.power(gap) - POWER, 0, high))

    def images_needed(self, gap: float, images: int) -> float:
        """The images at which a true difference of `gap` is shown with 80 % power, with the seeds as they are.

        images: those that are there now. Rounded up to one digit, NaN beyond 100 times those that are there.
        """
        return next((n for n in _one_digit(images) if self._scaled(images / n, 1).power(gap) >= POWER), np.nan)

    def seeds_needed(self, gap: float) -> float:
        """The seeds of each model at which a true difference of `gap` is shown with 80 % power on these images.

        Rounded as in `images_needed`; at least 2. NaN too where a model has one seed, which does not tell how much
        seeds differ.
        """
        if min(self.counts) < 2:
            return np.nan
        seeds = float(np.mean(self.counts))
        numbers = (n for n in _one_digit(seeds) if n > 1)
        return next((n for n in numbers if self._scaled(1, seeds / n).power(gap) >= POWER), np.nan)

    def _scaled(self, images: float, seeds: float) -> "VarianceComponents":
        """What the parts would be if the images and the seeds were fewer by these factors."""
        both, own = self.interaction * images * seeds, np.nan_to_num(self.seeds) * seeds
        before = self.interaction + np.nan_to_num(self.seeds)
        factor = (both + own) / before if before else seeds
        return self._replace(
            images=self.images * images,
            interaction=both,
            seeds=own,
            seed_variances=tuple(factor * part for part in self.seed_variances),
            counts=tuple(count / seeds for count in self.counts),
        )


def variance_components(a: np.ndarray, b: np.ndarray | None = None) -> VarianceComponents:
    """The variance of the mean over seeds of scores `a` [S, 1 + draws], or of its difference to that of `b`.

    Images and seeds are crossed random effects. A seed's residual is its score minus the model's mean over seeds. Its
    variance over the resamples estimates the interaction. Its square on the original images estimates interaction and
    seeds.

    Example:
        >>> seeds = np.array([[0.70, 0.69, 0.70, 0.71], [0.72, 0.71, 0.72, 0.73]])  # plain, then in three resamples
        >>> round(variance_components(seeds).standard_error, 4), round(variance_components(seeds).seeds_share, 2)
        (0.0141, 0.5)
    """
    models = [a] if b is None else [a, b]
    defined = np.all([np.isfinite(scores).all(axis=0) for scores in models], axis=0)
    counts = tuple(len(scores) for scores in models)
    if not defined[0] or defined.sum() < 3:
        return VarianceComponents(np.nan, np.nan, np.nan, (np.nan,) * len(models), counts)
    models = [scores[:, defined] for scores in models]
    both, own = np.transpose([_by_seeds(scores) for scores in models])
    means = [scores.mean(axis=0) for scores in models]
    images = (means[0] - (means[1] if b is not None else 0))[1:].var(ddof=1) - np.nansum(both)
    seeds = np.nan if max(counts) == 1 else max(0.0, float(np.nansum(own - both)))  # an estimate may be below 0
    return VarianceComponents(max(0.0, float(images)), float(np.nansum(both)), seeds, tuple(map(float, own)), counts)


def _by_seeds(scores: np.ndarray) -> tuple[float, float]:
    """The variance of a mean over seeds by images and seeds together, and by all that differs between seeds on these
    images; NaN of a single seed.
    """
    if len(scores) == 1:
        return np.nan, np.nan
    residuals, scale = scores - scores.mean(axis=0), len(scores) * (len(scores) - 1)
    return residuals[:, 1:].var(axis=1, ddof=1).sum() / scale, (residuals[:, 0] ** 2).sum() / scale


def _one_digit(here: float) -> np.ndarray:
    """The numbers of one digit from 1 to 100 times what is `here`: 1, 2, ..., 9, 10, 20, ..."""
    digits = np.outer(10 ** np.arange(12), np.arange(1, 10)).ravel()
    return digits[digits <= BEYOND * here].astype(float)
