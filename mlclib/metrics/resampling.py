"""How much of a score, or of a difference between two models, may be chance.

Two kinds of chance: which images the test set holds (bootstrap over images) and which seed a model was trained with
(spread over seeds). Logits [N, C] are one run; [S, N, C] are S seeds of one configuration on the same images, whose
score is the mean of the S scores. With several seeds each draw resamples the seeds too, which for few seeds still
understates their part of the variance, by (S - 1) / S.

A positive drawn twice counts twice at its own rank. Resampled APs therefore lie above the plain one, the more so the
rarer a class is, and a sample's AP lies above the population's in much the same way. The interval of a score is
shifted down by that bias and as wide as the standard error says (`bootstrap`). The interval of a difference, whose
biases mostly cancel, is the bias-corrected percentile interval (Efron, Canadian Journal of Statistics 9, 1981).
docs/statistics.md shows how often both hold the truth.

A permutation test is left out on purpose: exchanging two models' logits
image by image mixes their scales, and so tests more than whether their scores agree.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mlclib.common.errors import UserError, check_name
from mlclib.metrics.scores import (
    APS,
    RATES,
    checked,
    columns,
    decide,
    mean_defined,
    precision_mean,
    rates,
)
from mlclib.metrics.variance import ALPHA, variance_components


class Difference(NamedTuple):
    """Score of a minus score of b, its interval, and the two-sided p of no difference."""

    delta: float
    low: float
    high: float
    p: float

    @property
    def within_noise(self) -> bool:
        """Whether the interval does not leave out 0; so too where there is none, because no score is defined."""
        return not (self.low > 0 or self.high < 0)


def mean_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation (n - 1) of scores over seeds, the first axis; one seed has deviation NaN.

    Raises UserError where there is no seed.

    Example:
        >>> mean, deviation = mean_sd([0.5, 0.7, 0.9])
        >>> round(float(mean), 3), round(float(deviation), 3)
        (0.7, 0.2)
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        raise UserError("a mean over seeds needs the scores of at least one seed")
    mean = values.mean(axis=0)
    return mean, values.std(axis=0, ddof=1) if len(values) > 1 else np.full_like(mean, np.nan)


DRAWS = 10_000  # resamples of a small test set; see `draws_for`
_CELLS = 1e10  # images x labels x resamples of a run that a core scores in about 40 s (benchmarks/scores.py)


def draws_for(images: int, labels: int) -> int:
    """How many resamples a comparison makes: DRAWS, and fewer where images x labels are so many that two models of
    three seeds would take more than two minutes on two cores; at least 200.
    """
    return int(np.clip(_CELLS / (images * labels), 200, DRAWS))


def least_p(draws: int) -> float:
    """The smallest two-sided p that so many resamples can show: where no draw lies beyond 0, one more might have.

    Example:
        >>> least_p(1999)
        0.001
    """
    return 2 / (draws + 1)


def bootstrap(
    logits: np.ndarray, targets: np.ndarray, score: str = "mAP", *, draws: int = 1000, seed: int = 0, **protocol: object
) -> tuple[float, float]:
    """The 95 % interval (low, high) of `score`, from `draws` resamples of the test images.

    It is the score, less the bias by which the resamples lie above it, and on either side the standard error by images
    and seeds (`variance.variance_components`) times Student's t; it ends at 0 and 1.

    score: "mAP", "AP" of the class `label`, or one of RATES; protocol: label, and labels, ap, difficult, threshold (a
    number) and top of `evaluate`. A class without a positive in a resample is left out of that resample's means, as
    `evaluate` does, and a resample without any positive is left out. The same seed draws the same images for any model
    and score; what was drawn for a run is cached, so that further scores and pairs of it cost little. Raises UserError
    as `evaluate` does, and for a threshold that is not a number: `best_threshold` gives one.

    Example:
        >>> targets = np.tile([[1, -1], [-1, 1]], (50, 1))
        >>> bootstrap(3.0 * targets, targets, draws=100)
        (1.0, 1.0)
    """
    scores = bootstrap_scores(logits, targets, score, draws=draws, seed=seed, **protocol)
    plain, drawn = _split(scores.mean(axis=0))
    if not drawn.size:
        return np.nan, np.nan
    center, reach = 2 * plain - drawn.mean(), variance_components(scores).half_width(1 - ALPHA)
    return float(np.clip(center - reach, 0, 1)), float(np.clip(center + reach, 0, 1))


def paired_bootstrap(
    logits_a: np.ndarray,
    logits_b: np.ndarray,
    targets: np.ndarray,
    score: str = "mAP",
    *,
    draws: int = 1000,
    seed: int = 0,
    **protocol: object,
) -> Difference:
    """Whether model a scores otherwise than model b on the same images: paired bootstrap.

    Every draw scores both models on the same resampled images (seeds, where given, are drawn for each model apart).
    p is 1 less the confidence at which the interval comes to touch 0, and never below `least_p(draws)`: nothing is
    extrapolated beyond the last draw. The rest is as in `bootstrap`.

    Example:
        >>> targets = np.tile([[1, -1], [-1, 1]], (50, 1))
        >>> paired_bootstrap(3.0 * targets, np.zeros((100, 2)), targets, draws=100).delta
        0.5
    """
    both = (logits_a, logits_b)
    a, b = (bootstrap_scores(logits, targets, score, draws=draws, seed=seed, **protocol) for logits in both)
    return difference_of_draws(mean_over_seeds(a, 0, seed) - mean_over_seeds(b, 1, seed))


def difference_of_draws(differences: np.ndarray) -> Difference:
    """The difference, its interval and p, of differences [1 + draws], the plain one first; NaN where none is."""
    p = 2 * min(one_sided_p(differences, 0.0), one_sided_p(-differences, 0.0))
    return Difference(float(differences[0]), *interval(differences), p)


def one_sided_p(values: np.ndarray, bound: float) -> float:
    """p of "the score is `bound` or less", of values [1 + draws], the plain one first; NaN where none is.

    It is the tail that the bias-corrected interval leaves out when its lower end comes to touch `bound`, and
    `least_p(draws)` / 2 at least.
    """
    plain, drawn = _split(values)
    if not drawn.size:
        return np.nan
    least = least_p(drawn.size) / 2
    if (drawn > bound).all() or (drawn < bound).all():
        return least if drawn[0] > bound else 1 - least
    return max(least, _NORMAL.cdf(_standing(drawn, bound) - 2 * _standing(drawn, plain)))


def bootstrap_mean(
    values: np.ndarray, images: np.ndarray, seeds: np.ndarray, draws: int = 2000
) -> tuple[float, float, float]:
    """Mean of `values` [n] with its 95 % interval: (mean, low, high), NaN where there is none.

    images, seeds: the image and the seed that each value is of. Each draw resamples the images and the seeds, whole
    images with all that is of them, as `bootstrap` does for scores.
    """
    if not len(values):
        return np.nan, np.nan, np.nan
    (_, row), (_, column) = (np.unique(keys, return_inverse=True) for keys in (images, seeds))
    sums, counts = np.zeros((2, column.max() + 1, row.max() + 1))
    np.add.at(sums, (column, row), values)
    np.add.at(counts, (column, row), 1)
    rng = np.random.default_rng(0)
    drawn = np.concatenate(list(_counts(sums.shape[1], draws, rng)), axis=1)
    often = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws).T
    often = np.concatenate([np.ones((len(sums), 1)), often], axis=1)
    total, size = (((often.T @ part) * drawn.T).sum(axis=1) for part in (sums, counts))
    means = np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0)
    return float(means[0]), *interval(means)


_NORMAL = NormalDist()
Scorer = Callable[[np.ndarray], np.ndarray]  # how often each image was drawn, int [N, draws] -> scores [draws, ...]


def bootstrap_scores(
    logits: np.ndarray, targets: np.ndarray, score: str = "mAP", *, draws: int, seed: int = 0, **protocol: object
) -> np.ndarray:
    """The score of each seed, plain and of the resamples of the images: [S, 1 + draws]; arguments as of `bootstrap`."""
    if draws < 1:
        raise UserError(f"draws must be 1 or more, not {draws}")
    check_name("score", score, ("mAP", "AP", *RATES))
    label, labels = protocol.pop("label", None), protocol.pop("labels", None)
    for name in protocol:
        check_name("keyword", name, ("ap", "difficult", "threshold", "top"))
    logits = np.asarray(logits)
    runs = logits if logits.ndim == 3 else logits[None]
    if not len(runs):
        raise UserError("logits of shape [seeds, images, labels] hold no seed; give at least one run")
    of_rates = score in RATES
    used = ("difficult", "threshold", "top") if of_rates else ("difficult", "ap")
    options = {name: value for name, value in protocol.items() if name in used}
    if of_rates and labels is not None:
        options["labels"] = tuple(labels)
    drawn = [_drawn(_frozen(run), _frozen(targets), of_rates, draws, seed, **options) for run in runs]
    if score == "mAP":
        return mean_defined(np.stack(drawn)[..., columns(labels)])
    return np.stack([values[:, RATES.index(score) if of_rates else label] for values in drawn])


def mean_over_seeds(scores: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """The mean of the seeds in `scores` [S, 1 + draws], and in each draw that of resampled seeds: [1 + draws].

    number: which model of a comparison it is; the seeds of each are drawn apart.
    """
    runs, draws = len(scores), scores.shape[1] - 1
    seeds = np.random.default_rng([seed, 1 + number]).integers(runs, size=(runs, draws))
    resampled = np.take_along_axis(scores[:, 1:], seeds, axis=0).mean(axis=0)
    return np.concatenate([[scores[:, 0].mean()], resampled])


def average_precisions(logits: np.ndarray, targets: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """AP of every class, of all images and of each resample, [1 + draws, C]; NaN of a class without positives."""
    return _drawn(_frozen(logits), _frozen(targets), False, draws, seed)


def _frozen(array: np.ndarray) -> tuple[bytes, str, tuple[int, ...]]:
    """An array as the key of a cache; `_thawed` gives the array."""
    array = np.asarray(array)
    return array.tobytes(), array.dtype.str, array.shape


def _thawed(content: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape)


@lru_cache(maxsize=512)
def _drawn(
    logits: tuple,
    targets: tuple,
    of_rates: bool,
    draws: int,
    seed: int,
    *,
    ap: str = "ranks",
    difficult: str = "ignore",
    threshold: float = 0.0,
    top: int | None = None,
    labels: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Of one run, plain and in each resample: all RATES [1 + draws, 6], or the AP of every class [1 + draws, C]."""
    if isinstance(threshold, str):
        raise UserError(f"threshold must be a number for a resample, not {threshold!r}; see metrics.best_threshold")
    check_name("average precision", ap, APS)
    logits, targets = checked(_thawed(*logits), _thawed(*targets), difficult)
    scorer = _rate_scorer(logits, targets, threshold, top, labels) if of_rates else _ap_scorer(logits, targets, ap)
    return np.concatenate([scorer(counts) for counts in _counts(len(targets), draws, np.random.default_rng(seed))])


def _counts(images: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image stands in a resample, int32 [N, draws] piece by piece; first every image once."""
    yield np.ones((images, 1), dtype=np.int32)
    piece = max(1, 2**19 // images)  # what stays in a core's cache
    for start in range(0, draws, piece):
        size = min(piece, draws - start)
        drawn = rng.integers(images, size=(size, images)) + images * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        yield np.ascontiguousarray(counts.T, dtype=np.int32)


def _rate_scorer(
    logits: np.ndarray, targets: np.ndarray, threshold: float, top: int | None, labels: tuple[int, ...] | None
) -> Scorer:
    """All RATES in resamples."""
    present, predicted = targets == 1, decide(logits, threshold, top) & (targets != 0)
    cells = [cell[:, columns(labels)].astype(np.float64) for cell in (predicted & present, predicted, present)]
    return lambda counts: np.stack([*rates(*(counts.T.astype(np.float64) @ cell for cell in cells)).values()], axis=1)


def _ap_scorer(logits: np.ndarray, targets: np.ndarray, ap: str) -> Scorer:
    """AP of every class in resamples."""
    scorers = [_class_scorer(*column, ap) for column in zip(logits.T, targets.T, strict=True)]
    return lambda counts: np.stack([scorer(counts) for scorer in scorers], axis=1)


def _class_scorer(logits: np.ndarray, targets: np.ndarray, ap: str) -> Scorer:
    """AP of one class in resamples, from one sort: one step of the ranking for each distinct logit of its positives."""
    order = np.argsort(-logits, kind="stable")
    order = order[targets[order] != 0]
    positives = order[targets[order] == 1]
    if not positives.size:
        return lambda counts: np.full(counts.shape[1], np.nan)
    steps, first = np.unique(-logits[positives], return_index=True)
    last_positive = np.append(first[1:], positives.size) - 1
    last_image = np.searchsorted(-logits[order], steps, side="right") - 1
    order = order[: last_image[-1] + 1]

    def scores(counts: np.ndarray) -> np.ndarray:
        tp = counts[positives].cumsum(axis=0, dtype=np.int32)[last_positive]
        predicted = counts[order].cumsum(axis=0, dtype=np.int32)[last_image]
        return precision_mean(np.diff(tp, axis=0, prepend=np.int32(0)), tp, predicted - tp, ap)

    return scores


def _split(values: np.ndarray) -> tuple[float, np.ndarray]:
    """The plain score, and the draws that have one: none where the plain one is NaN."""
    return float(values[0]), values[1:][~np.isnan(values[1:]) & ~np.isnan(values[0])]


def _standing(drawn: np.ndarray, value: float) -> float:
    """Standard normal quantile of the mid-rank of `value` among the draws: Efron's z0, finite at the ends too."""
    below = (drawn < value).sum() + (drawn == value).sum() / 2
    return _NORMAL.inv_cdf((below + 0.5) / (drawn.size + 1))


def interval(values: np.ndarray, level: float = 1 - ALPHA) -> tuple[float, float]:
    """The bias-corrected percentile interval of a score: values [1 + draws], the plain one first; NaN where none is."""
    plain, drawn = _split(values)
    if not drawn.size:
        return np.nan, np.nan
    bias, reach = 2 * _standing(drawn, plain), _NORMAL.inv_cdf((1 + level) / 2)
    low, high = np.quantile(drawn, [_NORMAL.cdf(bias - reach), _NORMAL.cdf(bias + reach)])
    return float(low), float(high)
