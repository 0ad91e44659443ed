"""Which models are shown to be better, which are equivalent, and which a test set cannot tell apart.

Everywhere: logits [N, C] are one run of a model, [S, N, C] are S seeds of it on the same images; scores [S, 1 + draws]
are those of its seeds, plain and in each bootstrap resample of the images (`resampling.bootstrap_scores`). A model
with one seed is taken as it is: nothing is known of what another seed would have scored.
"""

import itertools
import string
from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from mlclib.common.errors import UserError
from mlclib.metrics import resampling
from mlclib.metrics.resampling import Difference
from mlclib.metrics.variance import ALPHA, VarianceComponents, variance_components

LEAST_SETS = 5  # independent data sets from which average ranks are tested
SEEDS_SHARE = 0.4  # of the variance: above it a verdict rests on few seeds
BETTER, WORSE, EQUIVALENT, UNKNOWN = "better", "worse", "equivalent", "cannot tell"


class Pair(NamedTuple):
    """Model number `a` of a comparison against number `b`; scores are fractions.

    difference: a's score minus b's. p: of no difference, by the bootstrap and by a t test on the means over seeds,
    the larger of the two, so that it is small where both agree; p_equivalence alike, of a difference of the margin
    or more. The corrected p are Holm's over all pairs of the comparison, each kind for itself. equivalent_within: the
    smallest margin within which the pair is shown to be equivalent at level ALPHA over the number of pairs
    (Bonferroni).
    """

    a: int
    b: int
    difference: Difference
    p: float
    p_equivalence: float
    equivalent_within: float
    variance: VarianceComponents
    p_corrected: float = np.nan
    p_equivalence_corrected: float = np.nan

    @property
    def verdict(self) -> str:
        """On a: BETTER or WORSE where a difference is shown, EQUIVALENT where only one within the margin is."""
        if self.p_corrected < ALPHA:
            return BETTER if self.difference.delta > 0 else WORSE
        return EQUIVALENT if self.p_equivalence_corrected < ALPHA else UNKNOWN

    @property
    def hangs_on_seeds(self) -> bool:
        """Whether seeds carry so much of the variance that more of them should be trained before it is believed."""
        return bool(self.variance.seeds_share > SEEDS_SHARE)


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
    `resampling.paired_bootstrap`.

    margin: how large a difference is still no difference, as a share; two models are equivalent where both one-sided
    tests, of a difference of -margin or less and of margin or more, reject (TOST: Schuirmann, J. Pharmacokinet.
    Biopharm. 15, 1987). Each pair's `variance.level` is the level that it meets in Holm's procedure: ALPHA over the
    number of pairs that are not shown to differ, itself among them.

    Example:
        >>> targets = np.tile([[1, -1], [-1, 1]], (50, 1))
        >>> good, bad = 3.0 * targets, np.zeros((100, 2))
        >>> [pair.verdict for pair in compare([good, bad], targets, margin=0.01, draws=100)]
        ['better']
    """
    scores = [resampling.bootstrap_scores(run, targets, score, draws=draws, seed=seed, **protocol) for run in models]
    numbers = list(itertools.combinations(range(len(scores)), 2))
    pairs = [_pair(scores, a, b, margin, seed, len(numbers)) for a, b in numbers]
    corrected = holm([pair.p for pair in pairs]), holm([pair.p_equivalence for pair in pairs])
    shown = int((corrected[0] < ALPHA).sum())
    return [
        pair._replace(
            p_corrected=float(p),
            p_equivalence_corrected=float(q),
            variance=pair.variance._replace(level=ALPHA / (len(pairs) - shown + (p < ALPHA))),
        )
        for pair, p, q in zip(pairs, *corrected, strict=True)
    ]


def _pair(scores: list[np.ndarray], a: int, b: int, margin: float, seed: int, pairs: int) -> Pair:
    # The same seed numbers as in `paired_bootstrap(model, best)`, so that both tables state the same p.
    values = resampling.mean_over_seeds(scores[a], 1, seed) - resampling.mean_over_seeds(scores[b], 0, seed)
    difference, variance = resampling.difference_of_draws(values), variance_components(scores[a], scores[b])
    if not values[1:].size or np.isnan(variance.standard_error):
        return Pair(a, b, difference, np.nan, np.nan, np.nan, variance)
    delta, level = difference.delta, 1 - 2 * ALPHA / pairs
    return Pair(
        a,
        b,
        difference,
        max(difference.p, 2 * variance.p_above(abs(delta))),
        max(
            resampling.one_sided_p(values, -margin),
            resampling.one_sided_p(-values, -margin),
            variance.p_above(margin - abs(delta)),
        ),
        max(*np.abs(resampling.interval(values, level)), abs(delta) + variance.half_width(level)),
        variance,
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

    Example:
        >>> rank_intervals(np.array([[False, False, True], [False, False, False], [False, False, False]]))
        [(1, 2), (1, 3), (2, 3)]
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
    """The letters of `ties` that each model has.

    Example:
        >>> letters(np.array([[False, False, True], [False, False, False], [False, False, False]]))
        ['a', 'ab', 'b']
    """
    sets = ties(better).items()
    return ["".join(letter for letter, models in sets if model in models) for model in range(len(better))]


class Across(NamedTuple):
    """Models over several data sets: average ranks [M], Friedman's test, and how far two average ranks must be apart
    to differ; the last three NaN where there are too few data sets for a test.
    """

    average: np.ndarray
    statistic: float
    p: float
    critical: float


def ranks_across(scores: np.ndarray) -> Across:
    """Average ranks of models from their scores [data sets, M], 1 the highest, ties sharing theirs; Friedman's test of
    no difference (NaN for two models, where there is none), and Nemenyi's critical difference at the 5 % level.

    After Demsar, JMLR 7, 2006. The data sets must share no test image. Below LEAST_SETS of them there are ranks alone.
    Raises UserError where a score is missing, and where there are not two data sets and models.

    Example:
        >>> ranks_across(np.array([[0.9, 0.8, 0.7], [0.6, 0.7, 0.5]])).average.tolist()
        [1.5, 1.5, 3.0]
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or np.isnan(scores).any():
        raise UserError("ranks over data sets need a score of two models or more on each of two data sets or more")
    sets, models = scores.shape
    average = rankdata(-scores, axis=1).mean(axis=0)
    if sets < LEAST_SETS:
        return Across(average, np.nan, np.nan, np.nan)
    statistic, p = friedmanchisquare(*scores.T) if models > 2 else (np.nan, np.nan)
    reach = studentized_range.ppf(1 - ALPHA, models, np.inf) / np.sqrt(2)
    critical = reach * np.sqrt(models * (models + 1) / (6 * sets))
    return Across(average, float(statistic), float(p), float(critical))
