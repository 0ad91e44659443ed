"""What out-of-fold predictions say of each label: suspects, thresholds, calibration, how many more images it needs.

Each image is predicted by logistic regressions on frozen features that saw neither it nor a near duplicate of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlclib.datasets import stratify
from mlclib.doctor import pictures
from mlclib.doctor.pictures import Pictures
from mlclib.metrics import calibration, resampling

FOLDS = 5
PENALTY = 0.01  # C of the logistic regressions, on standardised features
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the other folds' images, which make the learning curve
DRAWS = 200  # bootstrap draws of the images
GOAL = 0.9  # average precision that the learning curve is followed to
FEW = 20  # training images of a label below which it has too few
REACH = 20  # times the images that are there: the curve is followed no further


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor finds, frames as the functions of their names give them. logits: out of fold, [N, C]."""

    pictures: Pictures
    logits: np.ndarray
    copies: pd.DataFrame
    odd: pd.DataFrame
    suspects: pd.DataFrame
    labels: pd.DataFrame


def diagnose(seen: Pictures, seed: int = 0) -> Diagnosis:
    """All of the doctor's findings on pictures that were looked at."""
    copies = pictures.near_duplicates(seen)
    folds = stratify.split(seen.targets == 1, [1 / FOLDS] * FOLDS, seed)[copies["group"]]
    curve = [out_of_fold(seen.features, seen.targets, folds, share, seed) for share in SHARES]
    clipped = np.clip(curve[-1], 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))
    labels = pd.concat([thresholds(seen, curve[-1], folds), images_needed(seen.targets, curve, seed)], axis=1)
    labels["calibration error"] = calibration.expected_error_by_label(logits, seen.targets)
    return Diagnosis(seen, logits, copies, pictures.outliers(seen), suspects(seen, curve[-1]), labels)


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, folds: np.ndarray, share: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Probabilities, float64 [N, C], of each label in each image by a model that was fitted to the other folds.

    share: of the images of the other folds. Unknown targets (0) are not fitted to. Where the other folds show a label
    in one way only, its probability is the share of their images that show it.
    """
    lots = np.random.default_rng(seed).permutation(len(targets)) / len(targets)
    probabilities = np.empty(targets.shape)
    for fold in np.unique(folds):
        others, own = (folds != fold) & (lots < share), folds == fold
        for column in range(targets.shape[1]):
            rows = others & (targets[:, column] != 0)
            present = targets[rows, column] == 1
            if present.any() and not present.all():
                model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
                probabilities[own, column] = model.fit(features[rows], present).predict_proba(features[own])[:, 1]
            else:
                probabilities[own, column] = present.mean() if len(present) else 0.5
    return probabilities


def suspects(seen: Pictures, probabilities: np.ndarray) -> pd.DataFrame:
    """Labels that may be wrong, by cleanlab's confident learning, the most suspect first; then the unknown ones.

    Columns: row, name, part, label, given, suggested, probability, quality (cleanlab's self-confidence; NaN of an
    unknown label).
    """
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    # What is unknown cannot be wrong: it is taken as predicted, which is never suspect.
    present = np.where(seen.targets == 0, probabilities >= 0.5, seen.targets == 1)
    # cleanlab needs two labels at least, each present and absent somewhere: two correct dummy labels are added
    both = present.any(0) & ~present.all(0)
    more = np.eye(2, dtype=bool)[np.arange(len(present)) % 2]
    lists = [np.flatnonzero(row).tolist() for row in np.c_[present[:, both], more]]
    predicted, wrong, quality = np.c_[probabilities[:, both], more], np.zeros_like(present), probabilities * np.nan
    issues = find_multilabel_issues_per_class(lists, predicted, filter_by="low_self_confidence", n_jobs=1)
    wrong[:, both] = issues[:, :-2]
    quality[:, both] = get_label_quality_scores_per_class(lists, predicted)[:, :-2]
    row, column = np.nonzero(wrong | (seen.targets == 0))
    target, probability = seen.targets[row, column], probabilities[row, column]
    frame = pd.DataFrame({"row": row, **seen.frame.iloc[row][["name", "part"]].reset_index(drop=True)})
    frame["label"] = np.array(seen.labels, dtype=object)[column]
    frame["given"] = np.select([target > 0, target < 0], ["present", "absent"], "unknown")
    frame["suggested"] = np.where(np.where(target == 0, probability >= 0.5, target < 0), "present", "absent")
    frame["probability"], frame["quality"] = probability, np.where(target == 0, np.nan, quality[row, column])
    return frame.sort_values("quality", kind="stable").reset_index(drop=True)


def thresholds(seen: Pictures, probabilities: np.ndarray, folds: np.ndarray) -> pd.DataFrame:
    """One row per label: its images, and the threshold of the best F1 with the precision and recall it has.

    The threshold is chosen on all images; its precision (with Wilson's interval, 95 %) and recall are those of
    thresholds that were chosen, fold by fold, on the other folds.
    """
    rows = []
    for column, label in enumerate(seen.labels):
        labelled = seen.targets[:, column] != 0
        present, values, fold = seen.targets[labelled, column] == 1, probabilities[labelled, column], folds[labelled]
        hits = np.zeros(len(values), dtype=bool)
        for own in (fold == one for one in np.unique(fold)):
            hits[own] = values[own] >= _best_threshold(present[~own], values[~own])
        counts = present.sum(), (present & (seen.frame["part"][labelled] == "train")).sum()
        right, recall = (pd.Series(marks, dtype=float) for marks in (present[hits], hits[present]))
        test = binomtest(int(right.sum()), len(right)) if len(right) else None
        interval = test.proportion_ci(method="wilson") if test else [np.nan] * 2
        rows.append((label, *counts, _best_threshold(present, values), right.mean(), *interval, recall.mean()))
    names = "label,images,training images,threshold,precision,precision low,precision high,recall"
    return pd.DataFrame(rows, columns=names.split(","))


def images_needed(targets: np.ndarray, curve: Sequence[np.ndarray], seed: int = 0) -> pd.DataFrame:
    """One row per label: its AP, and how many more images of it would bring that to GOAL, with the 95 % interval.

    curve: the out-of-fold probabilities of each of SHARES. 1 - AP is taken as a power of the number of images; it is
    fitted anew in each bootstrap draw of the images. inf: more than REACH times what is there.
    """
    aps = np.stack([resampling.average_precisions(values, targets, DRAWS, seed) for values in curve])
    error, x = np.log(np.clip(1 - aps, 1e-4, 1)), np.log(SHARES)  # [shares, 1 + draws, C], [shares]
    slope = np.tensordot(x - x.mean(), error, 1) / ((x - x.mean()) ** 2).sum()
    gap = np.log(1 - GOAL) - (error.mean(0) - slope * x.mean())  # between the end of the curve and the goal
    times = np.exp(np.clip(gap / np.minimum(slope, -1e-9), 0, np.log(2 * REACH)))
    more = np.where(times > REACH, np.inf, np.ceil((times - 1) * (targets == 1).sum(0)))
    low, high = np.quantile(more[1:], (0.025, 0.975), axis=0, method="nearest")
    return pd.DataFrame({"AP": aps[-1, 0], "more": more[0], "more low": low, "more high": high})


def _best_threshold(present: np.ndarray, values: np.ndarray) -> float:
    """The threshold of the highest F1, halfway to the next value below it; 0.5 where no image shows the label."""
    order = np.argsort(-values, kind="stable")
    f1 = 2 * present[order].cumsum() / (np.arange(1, len(values) + 1) + present.sum())
    return float(values[order[f1.argmax() :][:2]].mean()) if present.any() else 0.5
