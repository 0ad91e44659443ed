"""How much of a score, or of a difference between two models, may be chance.

Two kinds of chance: which images the test set holds (bootstrap over images) and which seed a model was trained with
(spread over seeds). Logits [N, C] are one run; [S, N, C] are S seeds of one configuration on the same images, whose
score is the mean of the S scores. With several seeds each draw resamples the seeds too, which for few seeds still
understates their part of the variance, by (S - 1) / S.

Intervals are bias-corrected percentile intervals (Efron, Canadian Journal of Statistics 9, 1981): a positive
drawn twice counts twice at its own rank, so that resampled APs lie above the plain one, the more so the rarer a class
is, and plain percentiles would lie too high. A permutation test is left out on purpose: exchanging two models' logits
image by image mixes their scales, and so tests more than whether their scores agree.
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mlclib.errors import UserError, unknown
from mlclib.metrics import APS, RATES, checked, decide, mean_defined, precision_mean, rates


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
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size:
        raise UserError("a mean over seeds needs the scores of at least one seed")
    mean = values.mean(axis=0)
    return mean, values.std(axis=0, ddof=1) if len(values) > 1 else np.full_like(mean, np.nan)


def bootstrap(
    logits: np.ndarray,
    targets: np.ndarray,
    score: str = "mAP",
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    **protocol: object,
) -> tuple[float, float]:
    """The interval (low, high) of `score` at confidence `level`, from `draws` resamples of the test images.

    score: "mAP" or one of metrics.RATES; protocol: ap, difficult, threshold (a number) and top of metrics.evaluate.
    A class without a positive in a resample is left out of that resample's means, as evaluate does, and a resample
    without any positive is left out. The same seed draws the same images for any model and score. Raises UserError
    as evaluate does, and for a threshold that is not a number: `metrics.best_threshold` gives one.
    """
    values = _resampled([logits], targets, score, draws, seed, protocol)[0]
    return _interval(values, level)


def paired(
    logits_a: np.ndarray,
    logits_b: np.ndarray,
    targets: np.ndarray,
    score: str = "mAP",
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    **protocol: object,
) -> Difference:
    """Whether model a scores otherwise than model b on the same images: paired bootstrap.

    Every draw scores both models on the same resampled images (seeds, where given, are drawn for each model apart).
    p is the 1 - level at which the interval comes to touch 0; where no draw reaches 0, at most 2 / (draws + 1), and
    with finitely many draws never 0. The rest is as in `bootstrap`.
    """
    a, b = _resampled([logits_a, logits_b], targets, score, draws, seed, protocol)
    differences = a - b
    plain, drawn = _split(differences)
    if not drawn.size:
        return Difference(plain, np.nan, np.nan, np.nan)
    side = _standing(drawn, 0.0) - 2 * _standing(drawn, plain)
    p = 2 * _NORMAL.cdf(-abs(side))
    if (drawn > 0).all() or (drawn < 0).all():  # where 0 stands is then a bound, which the bias would carry into p
        p = min(p, 2 / (drawn.size + 1))
    return Difference(plain, *_interval(differences, level), p)


_NORMAL = NormalDist()
Scorer = Callable[[np.ndarray], np.ndarray]  # how often each image was drawn, int [N, draws] -> scores [draws]


def _resampled(
    models: list[np.ndarray], targets: np.ndarray, score: str, draws: int, seed: int, protocol: dict
) -> list[np.ndarray]:
    """For each model its plain score, then those of the resamples: [1 + draws]."""
    if draws < 1:
        raise UserError(f"draws must be 1 or more, not {draws}")
    models = [np.asarray(logits) for logits in models]
    models = [logits if logits.ndim == 3 else logits[None] for logits in models]
    if not all(len(logits) for logits in models):
        raise UserError("logits of shape [seeds, images, labels] hold no seed; give at least one run")
    scorers = [_scorer(run, targets, score, **protocol) for logits in models for run in logits]
    rng = np.random.default_rng(seed)
    scores = np.concatenate([[scorer(drawn) for scorer in scorers] for drawn in _counts(len(targets), draws, rng)], 1)
    result = []
    for runs in np.split(scores, np.cumsum([len(logits) for logits in models])[:-1]):
        seeds = rng.integers(len(runs), size=(len(runs), draws))
        resampled = np.take_along_axis(runs[:, 1:], seeds, axis=0).mean(axis=0)
        result.append(np.concatenate([[runs[:, 0].mean()], resampled]))
    return result


def _counts(images: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image stands in a resample, int32 [N, draws] piece by piece; first every image once."""
    yield np.ones((images, 1), dtype=np.int32)
    piece = max(1, 2**19 // images)  # what stays in a core's cache
    for start in range(0, draws, piece):
        size = min(piece, draws - start)
        drawn = rng.integers(images, size=(size, images)) + images * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        yield np.ascontiguousarray(counts.T, dtype=np.int32)


def _scorer(
    logits: np.ndarray,
    targets: np.ndarray,
    score: str,
    *,
    ap: str = "ranks",
    difficult: str = "ignore",
    threshold: float = 0.0,
    top: int | None = None,
) -> Scorer:
    if score not in ("mAP", *RATES):
        raise unknown("score", score, ("mAP", *RATES))
    if ap not in APS:
        raise unknown("average precision", ap, APS)
    if isinstance(threshold, str):
        raise UserError(f"threshold must be a number for a resample, not {threshold!r}; see metrics.best_threshold")
    logits, targets = checked(logits, targets, difficult)
    if score == "mAP":
        classes = [_ap_scorer(*column, ap) for column in zip(logits.T, targets.T, strict=True)]
        return lambda drawn: mean_defined(np.stack([scorer(drawn) for scorer in classes], axis=1))
    present, predicted = targets == 1, decide(logits, threshold, top) & (targets != 0)
    cells = [cell.astype(np.float64) for cell in (predicted & present, predicted, present)]
    return lambda drawn: rates(*(drawn.T.astype(np.float64) @ cell for cell in cells))[score]


def _ap_scorer(logits: np.ndarray, targets: np.ndarray, ap: str) -> Scorer:
    """AP of one class in resamples, from one sort: a step of the ranking a distinct logit of its positives."""
    order = np.argsort(-logits, kind="stable")
    order = order[targets[order] != 0]
    positives = order[targets[order] == 1]
    if not positives.size:
        return lambda drawn: np.full(drawn.shape[1], np.nan)
    steps, first = np.unique(-logits[positives], return_index=True)
    ends = np.searchsorted(-logits[order], steps, side="right")
    begins = np.concatenate([[0], ends[:-1]])
    order = order[: ends[-1]]

    def scores(drawn: np.ndarray) -> np.ndarray:
        hits = np.add.reduceat(drawn[positives], first, axis=0)
        tp = hits.cumsum(axis=0)
        return precision_mean(hits, tp, np.add.reduceat(drawn[order], begins, axis=0).cumsum(axis=0) - tp, ap)

    return scores


def _split(values: np.ndarray) -> tuple[float, np.ndarray]:
    """The plain score, and the draws that have one: none where the plain one is NaN."""
    return float(values[0]), values[1:][~np.isnan(values[1:]) & ~np.isnan(values[0])]


def _standing(drawn: np.ndarray, value: float) -> float:
    """Where `value` stands among the draws, in standard deviations of a normal; finite beyond the last draw too."""
    below = (drawn < value).sum() + (drawn == value).sum() / 2
    return _NORMAL.inv_cdf((below + 0.5) / (drawn.size + 1))


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, not {level}")
    plain, drawn = _split(values)
    if not drawn.size:
        return np.nan, np.nan
    bias, reach = 2 * _standing(drawn, plain), _NORMAL.inv_cdf((1 + level) / 2)
    low, high = np.quantile(drawn, [_NORMAL.cdf(bias - reach), _NORMAL.cdf(bias + reach)])
    return float(low), float(high)
