"""Scores of multi-label predictions, each protocol of this literature under its name.

Everywhere: logits are real numbers [N, C], one row per image; targets are integers [N, C], 1 present, 0 difficult
(unknown), -1 absent. Scores are fractions in float64. Equal logits are never ordered: all of a tie are answered
together, as in scikit-learn. `difficult` says what becomes of a 0: "ignore" leaves the cell out of every count
(it is no true positive, not predicted, not present; it takes no rank), "absent" counts it as -1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlclib.common.errors import UserError, check_name

APS = ("ranks", "envelope", "11-point")
RATES = ("CP", "CR", "CF1", "OP", "OR", "OF1")
THRESHOLDS = np.arange(-10, 10) / 10  # the published sweep, of MSRN's meter
FREQUENT = 20  # positives of a label in the test set from which its AP is told from chance


class Score(NamedTuple):
    """A score of `ranking` or `examples` under its key there; lower: whether less is better; factor: as it is shown."""

    key: str
    lower: bool = False
    factor: float = 100.0


# What the table of further scores shows: to add one, give it here and return it below.
FURTHER = {
    "label ranking AP": Score("label_ranking_AP"),
    "macro AUC": Score("macro_AUC"),
    "micro AUC": Score("micro_AUC"),
    "example F1": Score("example_F1"),
    "exact match": Score("exact_match"),
    "coverage error": Score("coverage_error", lower=True, factor=1.0),
    "ranking loss": Score("ranking_loss", lower=True),
    "Hamming loss": Score("hamming_loss", lower=True),
}


def evaluate(
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    ap: str = "ranks",
    difficult: str = "ignore",
    threshold: float | str = 0.0,
    top: int | None = None,
    labels: Sequence[int] | None = None,
) -> dict:
    """Average precision and precision, recall, F1 of `logits` [N, C] against `targets` [N, C].

    The mapping holds, as fractions:

    - AP [C] and mAP, its mean over the classes that have one. ap="ranks": mean over the positives of the precision
      at their rank (scikit-learn's; the meter of ML-GCN, DSDL and MSRN); "envelope": the precision at a recall is the
      highest at that recall or above (VOC 2010 on); "11-point": mean of that envelope at recalls 0, 0.1, ..., 1
      (VOC 2007), recalls compared exactly, as integers.
    - CP, CR: mean over classes of true positives / predicted and / present; OP, OR: the same over all decisions
      summed; CF1 = 2 CP CR / (CP + CR), OF1 alike (Wang et al., CNN-RNN, CVPR 2016, section 4; not the mean of the
      classes' F1). A class that nothing was predicted for has precision 0, as in the authors' meters.
    - threshold: a label is predicted where its logit >= the threshold. "sweep" takes the best of the published
      THRESHOLDS on this very set, which is how MSRN's figures were made: optimistic, to be labelled so.
    - undefined: indices of the classes with no positive. They have no AP (NaN), and enter neither CP nor CR.

    labels: numbers of the classes that mAP and the six rates are taken over, all of them where None; AP is of every
    class. `labels_with` gives those that are frequent enough.

    With `top`, a label must also be among the `top` highest logits of its image, difficult ones competing (a model
    does not see the mark); of equal logits the earlier column goes first. threshold=-inf then gives exactly `top`.
    Where no class has a positive the figures that divide by it are NaN.

    Raises UserError for arrays that do not fit the above and for unknown names.

    Example:
        >>> scores = evaluate(np.array([[2.0, -1.0], [1.0, 3.0], [-2.0, 1.0]]), np.array([[1, -1], [-1, 1], [1, -1]]))
        >>> round(scores["mAP"], 3), scores["CP"], scores["CR"]
        (0.917, 0.5, 0.75)
    """
    check_name("average precision", ap, APS)
    logits, targets = checked(logits, targets, difficult)
    precisions = np.array([_average_precision(*columns, ap) for columns in _by_class(logits, targets)])
    threshold, predicted = _decided(logits, targets, threshold, top)
    present = targets == 1
    counts = [cells.sum(axis=0) for cells in (predicted & present, predicted & (targets != 0), present)]
    scores = rates(*(count[columns(labels)] for count in counts))
    return {
        "AP": precisions,
        "mAP": float(mean_defined(precisions[columns(labels)])),
        **{name: float(value) for name, value in scores.items()},
        "threshold": threshold,
        "undefined": np.flatnonzero(np.isnan(precisions)).tolist(),
    }


def labels_with(targets: np.ndarray, least: int = FREQUENT) -> list[int]:
    """The numbers of the labels with at least so many positives among `targets` [N, C]; for `labels` of `evaluate`.

    The AP of a label with few positives lies above that of the population and hangs on each of them: over all labels
    of a small test set mAP is too high by points.

    Example:
        >>> labels_with(np.array([[1, -1], [1, 1]]), 2)
        [0]
    """
    return np.flatnonzero((np.asarray(targets) == 1).sum(axis=0) >= least).tolist()


def best_threshold(logits: np.ndarray, targets: np.ndarray) -> float:
    """The logit threshold with the highest CF1 + OF1 on this set, the lowest of equals.

    It is one of every tenth from the lowest logit to the highest, so that the best lies at no edge (steps are larger
    where there would be more than 1,000). On a validation split its result is a fair `threshold` for `evaluate` on the
    test split. Raises UserError as `evaluate` does, and where no label is present.

    Example:
        >>> best_threshold(np.array([[0.5], [0.2], [-0.5]]), np.array([[1], [-1], [-1]]))
        0.3
    """
    logits, targets = checked(logits, targets, "ignore")
    low, high = int(np.floor(10 * logits.min())), int(np.ceil(10 * logits.max()))
    return _best_threshold(logits, targets, None, np.arange(low, high + 1, max(1, (high - low) // 1000)) / 10)


def ranking(logits: np.ndarray, targets: np.ndarray, *, difficult: str = "ignore") -> dict:
    """How well each image's labels, and each label's images, are ordered.

    coverage_error: how far down an image's ranking its last present label stands, mean over images (0 for an image
    without one). label_ranking_AP: mean over images of the mean over present labels of the precision at their rank
    (1 for an image without one). ranking_loss: the share of (present, absent) pairs of an image that are not
    ordered, ties among them, mean over images (0 for an image without a pair). These are scikit-learn's definitions
    (Tsoumakas et al., Mining Multi-label Data, 2010), which MSRN's meter follows.

    AUC [C]: the chance that a positive stands above a negative, a tie counting half; NaN for a class without
    both. macro_AUC: mean over the classes that have one. micro_AUC: over all cells at once.

    Example:
        >>> scores = ranking(np.array([[3.0, 1.0, 2.0]]), np.array([[1, 1, -1]]))
        >>> scores["coverage_error"], scores["ranking_loss"]
        (3.0, 0.5)
    """
    from scipy.stats import rankdata  # takes a second, and training does without it

    logits, targets = checked(logits, targets, difficult)
    present, counted = targets == 1, targets != 0
    # Cells that do not count go to the bottom, where they change no rank of those that do.
    rank, rank_of_present = (rankdata(np.where(cells, -logits, np.inf), "max", axis=1) for cells in (counted, present))
    positives, negatives = present.sum(axis=1), (targets == -1).sum(axis=1)
    precision = np.where(present, rank_of_present / rank, 0).sum(axis=1) / np.maximum(positives, 1)
    disordered = np.where(present, rank - rank_of_present, 0).sum(axis=1) / np.maximum(positives * negatives, 1)
    auc = np.array([_auc(*columns) for columns in _by_class(logits, targets)])
    return {
        "coverage_error": float(np.where(present, rank, 0).max(axis=1).mean()),
        "label_ranking_AP": float(np.where(positives > 0, precision, 1).mean()),
        "ranking_loss": float(disordered.mean()),
        "AUC": auc,
        "macro_AUC": float(mean_defined(auc)),
        "micro_AUC": _auc(np.sort(logits[present]), np.sort(logits[targets == -1])),
    }


def examples(
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    difficult: str = "ignore",
    threshold: float | str = 0.0,
    top: int | None = None,
) -> dict:
    """Scores of whole images: example_F1, exact_match, hamming_loss; predicted labels as in `evaluate`.

    example_F1: mean over images of 2 TP / (predicted + present), 1 where both are none. exact_match: the share of
    images with every label right. hamming_loss: the share of wrong cells.

    Example:
        >>> examples(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1, -1], [1, -1]]))["exact_match"]
        0.5
    """
    logits, targets = checked(logits, targets, difficult)
    _, predicted = _decided(logits, targets, threshold, top)
    counted, present = targets != 0, targets == 1
    wrong = (predicted != present) & counted
    size = (predicted & counted).sum(axis=1) + present.sum(axis=1)
    overlap = 2 * (predicted & present).sum(axis=1)
    return {
        "example_F1": float(np.where(size > 0, overlap / np.maximum(size, 1), 1.0).mean()),
        "exact_match": float((~wrong.any(axis=1)).mean()),
        "hamming_loss": float(wrong.sum() / counted.sum()) if counted.any() else float("nan"),
    }


# The functions below are shared with metrics.resampling, which scores many resamples at once.


def checked(logits: np.ndarray, targets: np.ndarray, difficult: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits as finite floats and targets as int8, one shape [N, C], the 0 of targets recoded as `difficult` says."""
    check_name("treatment of difficult labels", difficult, ("ignore", "absent"))
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise UserError(
            f"logits {logits.shape} and targets {targets.shape} must be two arrays of one shape, images x labels"
        )
    if not logits.size:
        raise UserError(f"logits of shape {logits.shape} hold nothing to score; give at least one image and one label")
    if logits.dtype.kind not in "fiu":
        raise UserError(f"logits must be real numbers, not {logits.dtype}")
    if logits.dtype != np.float32:
        logits = logits.astype(np.float32 if logits.dtype == np.float16 else np.float64)
    bad = ~np.isfinite(logits)
    if bad.any():
        rows, columns = bad.any(axis=1), bad.any(axis=0)
        raise UserError(
            f"logits hold {bad.sum()} NaN or infinite values, in {rows.sum()} rows (first: {rows.argmax()}) and "
            f"{columns.sum()} columns (first: {columns.argmax()}); look for a training that diverged"
        )
    if targets.dtype.kind not in "iu":
        raise UserError(f"targets must be integers (1 present, 0 difficult, -1 absent), not {targets.dtype}")
    if targets.min() < -1 or targets.max() > 1:
        raise UserError(
            f"targets range from {targets.min()} to {targets.max()} but may only be 1 present, 0 difficult, -1 absent"
        )
    targets = targets.astype(np.int8)
    if difficult == "absent":
        targets[targets == 0] = -1
    return logits, targets


def columns(labels: Sequence[int] | None) -> slice | list[int]:
    """The index of the columns that count; all of them where None."""
    return slice(None) if labels is None else list(labels)


def decide(logits: np.ndarray, threshold: float, top: int | None) -> np.ndarray:
    """Which labels are predicted, bool [N, C]: logit >= threshold and, with `top`, among the image's `top` highest."""
    # float64, so that a threshold is not rounded to the logits' own precision
    predicted = logits >= np.float64(threshold)
    return predicted if top is None else predicted & _among_top(logits, top)


def rates(tp: np.ndarray, predicted: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """CP, CR, CF1, OP, OR, OF1 from the classes' counts [..., C] of true positives, predicted and present labels."""
    hits_of_class = np.where(present > 0, tp, np.nan)
    cp = mean_defined(hits_of_class / np.maximum(predicted, 1))
    cr = mean_defined(hits_of_class / np.maximum(present, 1))
    hits, cells = tp.sum(axis=-1), present.sum(axis=-1)
    op = hits / np.maximum(predicted.sum(axis=-1), 1)
    overall_recall = np.where(cells > 0, hits / np.maximum(cells, 1), np.nan)
    figures = (cp, cr, _harmonic(cp, cr), op, overall_recall, _harmonic(op, overall_recall))
    return dict(zip(RATES, figures, strict=True))


def precision_mean(hits: np.ndarray, tp: np.ndarray, fp: np.ndarray, ap: str) -> np.ndarray:
    """AP along the first axis, which runs from high to low logits, from the counts at some of them.

    hits: positives at each step, tp and fp: positives and negatives at or above its logit, 0 / 0 counting as 0;
    every positive belongs to some step. NaN where there is no positive.
    """
    total = hits.sum(axis=0)
    precision = tp / np.maximum(tp + fp, 1)
    if ap == "11-point":
        mean = sum(np.where(10 * tp >= tenth * total, precision, 0).max(axis=0) for tenth in range(11)) / 11
        return np.where(total > 0, mean, np.nan)
    if ap == "envelope":
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return np.where(total > 0, (hits * precision).sum(axis=0) / np.maximum(total, 1), np.nan)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is left.

    Example:
        >>> mean_defined(np.array([[1.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])).tolist()
        [1.5, nan]
    """
    defined = ~np.isnan(values)
    count = defined.sum(axis=-1)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1.0, total)


def _by_class(logits: np.ndarray, targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The sorted logits of each class's positives and of its negatives."""
    columns = zip(np.ascontiguousarray(logits.T), np.ascontiguousarray(targets.T), strict=True)
    return [(np.sort(logit[target == 1]), np.sort(logit[target == -1])) for logit, target in columns]


def _average_precision(positives: np.ndarray, negatives: np.ndarray, ap: str) -> float:
    if not positives.size:
        return np.nan
    falling = positives[::-1]
    tp = positives.size - np.searchsorted(positives, falling)
    fp = negatives.size - np.searchsorted(negatives, falling)
    return float(precision_mean(np.ones_like(tp), tp, fp, ap))


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    if not (positives.size and negatives.size):
        return float("nan")
    below, not_above = (np.searchsorted(negatives, positives, side).mean() for side in ("left", "right"))
    return float((below + not_above) / (2 * negatives.size))


def _among_top(logits: np.ndarray, top: int) -> np.ndarray:
    if not isinstance(top, int | np.integer) or isinstance(top, bool) or top < 1:
        raise UserError(f"top must be a whole number from 1 on, or None for no limit, not {top!r}")
    among = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(among, np.argsort(-logits, axis=1, kind="stable")[:, :top], True, axis=1)
    return among


def _decided(
    logits: np.ndarray, targets: np.ndarray, threshold: float | str, top: int | None
) -> tuple[float, np.ndarray]:
    if isinstance(threshold, str):
        check_name("threshold", threshold, ("sweep",))
        threshold = _best_threshold(logits, targets, top, THRESHOLDS)
    if np.isnan(threshold):
        raise UserError("threshold must be a number or 'sweep', not NaN")
    return float(threshold), decide(logits, threshold, top)


def _best_threshold(logits: np.ndarray, targets: np.ndarray, top: int | None, thresholds: np.ndarray) -> float:
    present = targets == 1
    if not present.any():
        raise UserError("no label is present in any image, so no threshold is best; give a number as threshold")
    # how many of the thresholds a cell passes, then one histogram a class instead of a pass a threshold
    passed = np.searchsorted(thresholds, logits, side="right")
    if top is not None:
        passed[~_among_top(logits, top)] = 0
    classes, bins = logits.shape[1], len(thresholds) + 1
    cell = passed + bins * np.arange(classes)

    def at_each_threshold(which: np.ndarray) -> np.ndarray:
        histogram = np.bincount(cell[which], minlength=classes * bins).reshape(classes, bins)
        return histogram[:, :0:-1].cumsum(axis=1)[:, ::-1].T

    scores = rates(at_each_threshold(present), at_each_threshold(targets != 0), present.sum(axis=0))
    return float(thresholds[np.argmax(scores["CF1"] + scores["OF1"])])


def annotation(logits: np.ndarray, targets: np.ndarray, top: int = 5) -> dict[str, float]:
    """The scores of the literature on image annotation (Corel-5k): every image is given its `top` highest words.

    P: mean over words of true positives / images given the word, 0 for a word that no image is given. R: mean over
    words of true positives / images that show it. F1: 2 P R / (P + R). Words that no image shows count nowhere.
    N+: how many words have a recall above 0. P, R and F1 are fractions.
    Source: Makadia, Pavlovic, Kumar, A New Baseline for Image Annotation, ECCV 2008, section 5.

    Raises UserError for arrays that `evaluate` refuses and a `top` below 1.

    >>> logits = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]])
    >>> targets = np.array([[1, 1, -1], [-1, 1, -1]])
    >>> annotation(logits, targets, top=2)
    {'P': 0.75, 'R': 0.75, 'F1': 0.75, 'N+': 2}
    """
    logits, targets = checked(logits, targets, "ignore")
    given, present = decide(logits, -np.inf, top), targets == 1
    tp = (given & present).sum(axis=0)
    scores = rates(tp, (given & (targets != 0)).sum(axis=0), present.sum(axis=0))
    return {**{name[1:]: float(scores[name]) for name in ("CP", "CR", "CF1")}, "N+": int((tp > 0).sum())}
