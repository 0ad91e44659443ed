"""Which models are shown to be better, which are equivalent, and which a test set cannot tell apart.

Everywhere: logits [N, C] are one run of a model, [S, N, C] are S seeds of it on the same images; scores [S, 1 + draws]
are those of its seeds, plain and in each bootstrap resample of the images (`resampling.of_seeds`). A model of one
seed is taken as it is: nothing is known of what another seed would have scored.
"""

import itertools
import string
from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np
from scipy.special import ndtri
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from mlclib.common.errors import UserError
from mlclib.metrics import resampling
from mlclib.metrics.resampling import Difference

ALPHA, POWER = 0.05, 0.80
REACH = ndtri(1 - ALPHA / 2) + ndtri(POWER)  # a gap of so many standard errors is found with that power
BETTER, WORSE, EQUIVALENT, UNKNOWN = "better", "worse", "equivalent", "cannot tell"


class Parts(NamedTuple):
    """The variance of a difference between two models' means over seeds, by what would lessen it; of scores that are
    fractions.

    images: what more images lessen, whatever the seeds; both: what more images lessen and more seeds too (seeds differ
    most on some images); seeds: what only more seeds lessen, NaN where both models have one. one_seed: what `both` and
    `seeds` would be with one seed of each model; NaN where one of them has no more than one.
    """

    images: float
    both: float
    seeds: float
    one_seed: float

    @property
    def error(self) -> float:
        """The standard error of the difference."""
        return float(np.sqrt(self.images + self.both + np.nan_to_num(self.seeds)))

    @property
    def smallest_gap(self) -> float:
        """The difference that is found at the 5 % level with 80 % power."""
        return float(REACH * self.error)

    def images_needed(self, gap: float, images: int) -> float:
        """The images at which `gap` is found with 80 % power, with the seeds as they are; `images` are there now.

        inf where no number of them is enough.
        """
        left = (gap / REACH) ** 2 - np.nan_to_num(self.seeds)
        return float(np.ceil(images * (self.images + self.both) / left)) if left > 0 else np.inf

    def seeds_needed(self, gap: float) -> float:
        """The seeds of each model at which `gap` is found with 80 % power on these images; inf where no number is
        enough, NaN where a model has one seed, which does not tell how much seeds differ.
        """
        left = (gap / REACH) ** 2 - self.images
        if np.isnan(self.one_seed):
            return np.nan
        return max(1.0, float(np.ceil(self.one_seed / left))) if left > 0 else np.inf


class Pair(NamedTuple):
    """Model number `a` of a comparison against number `b`.

    difference: a's score minus b's, a fraction; low, high: its 90 % interval; p_equivalence: of a difference of the
    margin or more. The corrected p are Holm's over all pairs of the comparison, each kind for itself; the verdict is
    on a.
    """

    a: int
    b: int
    difference: Difference
    low: float
    high: float
    p_equivalence: float
    parts: Parts
    p_corrected: float = np.nan
    p_equivalence_corrected: float = np.nan

    @property
    def verdict(self) -> str:
        """BETTER or WORSE where a difference is shown, EQUIVALENT where it is shown to be within the margin only."""
        if self.p_corrected < ALPHA:
            return BETTER if self.difference.delta > 0 else WORSE
        return EQUIVALENT if self.p_equivalence_corrected < ALPHA else UNKNOWN


def compare(
    models: Sequence[np.ndarray],
    targets: np.ndarray,
    score: str = "mAP",
    *,
    margin: float,
    draws: int,
    seed: int = 0,
    **protocol: object,
) -> list[Pair]:
    """Every pair of models on the same images, the one that is named first as `a`; logits and protocol as of
    `resampling.paired`.

    margin: how large a difference is still no difference, as a share; two models are equivalent where both one-sided
    tests, of a difference of -margin or less and of margin or more, reject (TOST: Schuirmann, J. Pharmacokinet.
    Biopharm. 15, 1987), which is where the 90 % interval lies within the margin.

    Example:
        >>> targets = np.tile([[1, -1], [-1, 1]], (50, 1))
        >>> good, bad = 3.0 * targets, np.zeros((100, 2))
        >>> [pair.verdict for pair in compare([good, bad], targets, margin=0.01, draws=100)]
        ['better']
    """
    scores = [resampling.of_seeds(logits, targets, score, draws=draws, seed=seed, **protocol) for logits in models]
    pairs = [_pair(scores, a, b, margin, seed) for a, b in itertools.combinations(range(len(scores)), 2)]
    corrected = holm([pair.difference.p for pair in pairs]), holm([pair.p_equivalence for pair in pairs])
    return [
        pair._replace(p_corrected=float(p), p_equivalence_corrected=float(q))
        for pair, p, q in zip(pairs, *corrected, strict=True)
    ]


def _pair(scores: list[np.ndarray], a: int, b: int, margin: float, seed: int) -> Pair:
    # Seeds are drawn under the numbers that `paired` gives to a model and the highest: both tables state the same p.
    values = resampling.over_seeds(scores[a], 1, seed) - resampling.over_seeds(scores[b], 0, seed)
    return Pair(
        a,
        b,
        resampling.of_draws(values),
        *resampling.interval(values, 1 - 2 * ALPHA),
        max(resampling.one_sided(values, -margin), resampling.one_sided(-values, -margin)),
        parts(scores[a], scores[b]),
    )


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979); a NaN is no test.

    Example:
        >>> holm([0.01, 0.04, float("nan")]).tolist()
        [0.02, 0.04, nan]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN stand last
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def parts(a: np.ndarray, b: np.ndarray) -> Parts:
    """The variance of the difference between the means of two models' scores [S, 1 + draws], taken apart.

    Images and seeds are crossed random effects. How far a seed leaves its model's mean changes from resample to
    resample by the variance of both together, and on the images as they are it holds that of the seeds too. Intervals
    and p resample images and seeds at once, which counts `both` more than once and of `seeds` (S - 1) / S (Owen,
    Annals of Applied Statistics 1, 2007): where seeds differ most by image they err to the safe side.
    """
    defined = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    if not defined[0] or defined.sum() < 3:
        return Parts(*[np.nan] * 4)
    a, b = a[:, defined], b[:, defined]
    of_a, of_b = _of_one_seed(a), _of_one_seed(b)
    both, seeds = np.nansum([of_a / len(a), of_b / len(b)], axis=0)
    images = (a.mean(axis=0) - b.mean(axis=0))[1:].var(ddof=1) - both
    seeds = np.nan if len(a) == len(b) == 1 else max(0.0, float(seeds))  # an estimate, which may fall below 0
    return Parts(max(0.0, float(images)), float(both), seeds, float(np.maximum(0, (of_a + of_b).sum())))


def _of_one_seed(scores: np.ndarray) -> np.ndarray:
    """The variance of one seed's score by images and seeds together, and by seeds alone; NaN of a single seed."""
    if len(scores) == 1:
        return np.full(2, np.nan)
    residuals, freedom = scores - scores.mean(axis=0), len(scores) - 1
    both = residuals[:, 1:].var(axis=1, ddof=1).sum() / freedom
    return np.array([both, (residuals[:, 0] ** 2).sum() / freedom - both])


def shown_better(pairs: Sequence[Pair], count: int) -> np.ndarray:
    """bool [M, M] of `count` models: whether the row is shown to be better than the column."""
    better = np.zeros((count, count), dtype=bool)
    for pair in pairs:
        better[pair.a, pair.b] = pair.verdict == BETTER
        better[pair.b, pair.a] = pair.verdict == WORSE
    return better


def rank_intervals(better: np.ndarray) -> list[tuple[int, int]]:
    """The ranks that each model may have, 1 the best, from `shown_better`: 1 + the models shown better, to all models
    less those shown worse.

    With p corrected over all pairs the intervals of all models hold together at 95 % (Mogstad, Romano, Shaikh and
    Wilhelm, Review of Economic Studies 91, 2024; Klein, Wright and Wieczorek, J. R. Stat. Soc. A 183, 2020).
    """
    return [(int(1 + lost), int(len(better) - won)) for won, lost in zip(better.sum(1), better.sum(0), strict=True)]


def ties(better: np.ndarray) -> dict[str, list[int]]:
    """The largest sets of models of which no two are told apart, from `shown_better`, each by a letter of its own:
    two models share a letter unless one of them is shown to be better (compact letters: Piepho, Journal of
    Computational and Graphical Statistics 13, 2004).

    A set is the models' numbers, rising; the first model's sets come first.

    Example:
        >>> ties(np.array([[False, False, True], [False, False, False], [False, False, False]]))
        {'a': [0, 1], 'b': [1, 2]}
    """
    tied = nx.from_numpy_array(~(better | better.T))
    names = (letter + "'" * primes for primes in itertools.count() for letter in string.ascii_letters)
    return dict(zip(names, sorted(map(sorted, nx.find_cliques(tied))), strict=False))


def letters(better: np.ndarray) -> list[str]:
    """The letters of `ties` that each model has."""
    sets = ties(better).items()
    return ["".join(letter for letter, models in sets if model in models) for model in range(len(better))]


class Across(NamedTuple):
    """Models over several data sets: average ranks [M], Friedman's test, and how far two average ranks must be apart
    to differ.
    """

    average: np.ndarray
    statistic: float
    p: float
    critical: float


def ranks_across(scores: np.ndarray) -> Across:
    """Average ranks of models from their scores [data sets, M], 1 the highest, ties sharing theirs; Friedman's test of
    no difference (NaN for two models, where there is none), and Nemenyi's critical difference at the 5 % level.

    After Demsar, JMLR 7, 2006. Raises UserError where a score is missing, or there are not two data sets and models.

    Example:
        >>> ranks_across(np.array([[0.9, 0.8, 0.7], [0.6, 0.7, 0.5]])).average.tolist()
        [1.5, 1.5, 3.0]
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or np.isnan(scores).any():
        raise UserError("ranks over data sets need a score of two models or more on each of two data sets or more")
    sets, models = scores.shape
    statistic, p = friedmanchisquare(*scores.T) if models > 2 else (np.nan, np.nan)
    reach = studentized_range.ppf(1 - ALPHA, models, np.inf) / np.sqrt(2)
    critical = reach * np.sqrt(models * (models + 1) / (6 * sets))
    return Across(rankdata(-scores, axis=1).mean(axis=0), float(statistic), float(p), float(critical))
