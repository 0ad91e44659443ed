"""The decisions that a model is surest of and wrong about, with their pictures (02_train)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.results import captions
from mlclib.results.style import draw_boxes, said
from mlclib.results.table import written
from mlclib.runs.store import FinishedRun


def worst(runs: list[FinishedRun], count: int = 6) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (image, label) pairs of the false alarms with the highest logits, and of the misses with the lowest, at most
    `count` of each. Logits are means over the seeds; what is wrong is decided at logit 0, difficult labels left out.
    """
    logits, targets = _mean_logits(runs), runs[0].targets

    def first(wrong: np.ndarray, sign: int) -> list[tuple[int, int]]:
        pairs = np.argwhere(wrong)
        order = np.argsort(sign * logits[wrong], kind="stable")[:count]
        return [(int(row), int(label)) for row, label in pairs[order]]

    return first((targets == -1) & (logits >= 0), -1), first((targets == 1) & (logits < 0), 1)


def mistakes(runs: list[FinishedRun], split: Split, count: int = 6) -> Figure:
    """The pictures of `worst`: false alarms above; misses below, with the boxes of the label where they are known.

    split: the test part that the runs are scored on.
    """
    labels, logits = runs[0].labels, _mean_logits(runs)
    if not (runs[0].targets == 1).any():
        return said(f"{captions.HIDDEN}.")
    found = worst(runs, count)
    figure, places = plt.subplots(2, count, figsize=(2.6 * count, 6.6), layout="constrained")
    for pairs, line, what, beside in zip(found, places, ("claimed", "missed"), ("shows", "beside"), strict=True):
        for axes in line:
            axes.axis("off")
        for axes, (row, label) in zip(line, pairs, strict=False):
            axes.imshow(open_rgb(split.paths[row]))
            if what == "missed" and split.boxes is not None:
                draw_boxes(axes, split.boxes[row][split.boxes[row][:, 0] == label, 1:])
            others = [labels[c] for c in np.flatnonzero(split.targets[row] == 1) if c != label]
            under = ", ".join(others[:3]) + ", ..." * (len(others) > 3) or "no other label"
            title = f"{what}: {labels[label]}, logit {written(logits[row, label], '+.1f')}\n{beside} {under}"
            axes.set_title(title, fontsize=9, wrap=True)
    figure.suptitle("Above what is claimed most surely and is not there, below what is there and denied most surely")
    plt.close(figure)
    return figure


def mistakes_finding(runs: list[FinishedRun]) -> str:
    """In a sentence: how many decisions are wrong and how, how sure the false alarms are, which labels are in them."""
    logits, targets = _mean_logits(runs), runs[0].targets
    present, absent = targets == 1, targets == -1
    if not present.any():
        return f"{captions.HIDDEN}."
    misses, alarms = present & (logits < 0), absent & (logits >= 0)
    text = f"{misses.sum():,} of {present.sum():,} labels are missed and {alarms.sum():,} claimed wrongly"
    for wrong, what in ((misses, "missed"), (alarms, "claimed wrongly")):
        if wrong.any():
            most = int(wrong.sum(0).argmax())
            text += f"; most often {what} is {runs[0].labels[most]} ({wrong[:, most].sum()})"
    hits = logits[present & (logits >= 0)]
    if alarms.any() and len(hits):
        sure = 100 * (logits[alarms] > np.median(hits)).mean()
        text += f"; {sure:.0f} % of the false alarms are surer than half of the right claims"
    return f"{text}."


def _mean_logits(runs: list[FinishedRun]) -> np.ndarray:
    return np.mean([run.logits["last"] for run in runs], axis=0)
