"""Figures of training (02_train). Each function draws one and returns it, unwritten."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.results.captions import Models
from mlclib.results.style import COLOURS
from mlclib.results.table import written
from mlclib.runs.store import FinishedRun


def curves(models: Models) -> Figure:
    """Training loss and mAP over epochs, a line a model (mean over its seeds) with the seeds' range as a band.

    mAP is that of the part which history.csv scores after every epoch: validation, or test where there is none.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for colour, (name, runs) in zip(COLOURS, models.items(), strict=False):
        for axes, key, factor in ((left, "loss", 1), (right, "mAP", 100)):
            values = factor * _over_epochs(runs, key)
            axes.plot(values.columns, values.mean(), color=colour, label=name)
            axes.fill_between(values.columns, values.min(), values.max(), color=colour, alpha=0.2, lw=0)
    left.set(xlabel="epoch", ylabel="training loss", title="Training loss")
    best = {name: 100 * _over_epochs(runs, "mAP").iloc[:, -1].mean() for name, runs in models.items()}
    top, part = max(best, key=best.get), _watched(models[next(iter(models))])
    ends = f"{top} ends at {best[top]:.1f}%" if np.isfinite(best[top]) else "the test labels are not public"
    right.set(xlabel="epoch", ylabel=f"{part} mAP (%)", title=f"{part.capitalize()} mAP: {ends}")
    right.legend()
    figure.tight_layout()
    return figure


def curves_finding(runs: list[FinishedRun]) -> str:
    """In a sentence: whether training had come to rest, and how far the best epoch stands above the last."""
    if "checkpoint" in runs[0].about:
        return "The authors trained this checkpoint: how it learnt is not known here."
    mean, loss, part = 100 * _over_epochs(runs, "mAP").mean(), _over_epochs(runs, "loss").mean(), _watched(runs)
    late = max(1, round(0.75 * len(loss)))  # the epoch from which the last quarter counts
    change = written(100 * (loss.iloc[-1] / loss[late] - 1), "+.0f")
    fell = f"Over the epochs after {late} the training loss changed by {change} %"
    if mean.isna().any():
        return f"{fell}; the test labels are not public."
    best, change = int(mean.idxmax()), written(mean.iloc[-1] - mean[late], "+.1f")
    above = mean[best] - mean.iloc[-1]
    text = (
        f"{fell} and the {part} mAP by {change} points; its mean over the seeds is highest after epoch {best} of "
        f"{len(mean)}" + (f", {above:.1f} points above the last." if above > 0 else ".")
    )
    note = " These are test images: no epoch may be chosen by this curve." if part == "test" else ""
    return text + note


def _over_epochs(runs: list[FinishedRun], column: str) -> pd.DataFrame:
    """A column of the runs' histories: a row a run, a column an epoch."""
    return pd.DataFrame([run.history.set_index("epoch")[column] for run in runs])


def _watched(runs: list[FinishedRun]) -> str:
    """The part of the data whose mAP stands in history.csv."""
    return "validation" if "val" in runs[0].about["data"]["images"] else "test"
