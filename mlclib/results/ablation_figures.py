"""The figure of an ablation (03_ablation, 05_tables)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlclib.metrics import scores as metrics
from mlclib.results.style import COLOURS
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun


def compare(table: Table, selection: str = "last") -> Figure:
    """One axis of `tables.ablation.compare` as a dot plot: test mAP (%) of each seed (dots) and their mean.

    The full model is the dashed line; a bar is the 95 % interval of the difference to it, set off from that line, so
    that a bar which crosses the line is a difference that may be chance. Without a full model there are no bars.
    """
    frame, names, full = table.frame, table.frame.iloc[:, 0], table.reference is not None
    reach = frame[["Δ low", "Δ high"]].to_numpy()
    figure, axes = plt.subplots(figsize=(8, (0.5 if len(frame) <= 12 else 0.36) * len(frame) + 2))
    bar = {"color": "0.8", "lw": 5, "solid_capstyle": "butt"}
    if full:
        whole = frame["mAP"][table.reference]
        axes.axvline(whole, color=COLOURS[1], lw=1, ls="--", label="full model")
        axes.plot([], [], label="difference, 95 %", **bar)
    for row, (name, mean) in enumerate(zip(names, frame["mAP"], strict=True)):
        colour = COLOURS[1] if row == table.reference else COLOURS[0]
        seeds = [mean_ap(run, selection) for run in table.runs[name]]
        if full and row != table.reference:
            axes.plot(whole + reach[row], [row, row], **bar)
        axes.plot(seeds, [row] * len(seeds), "o", color=colour, alpha=0.45, ms=6)
        axes.plot(mean, row, "D", color=colour, ms=8)
    said = f"best is {names[frame['mAP'].idxmax()]} ({frame['mAP'].max():.1f}%)"
    if full:
        axes.legend(fontsize=9)
        said = f"{(frame['q'] < 0.05).sum()} of {len(frame) - 1} differ from the full model (q < 0.05); {said}"
    axes.set_yticks(range(len(frame)), names)
    axes.set(xlabel="test mAP (%)", ylabel=names.name, ylim=(len(frame) - 0.4, -0.6))
    axes.set_title(f"{table.title}\n{said}", loc="right")
    figure.tight_layout()
    return figure


def mean_ap(run: FinishedRun, selection: str = "last") -> float:
    """The run's test mAP in percent, of the selected logits under the default protocol; NaN where it has none."""
    logits = run.logits.get(selection)
    return np.nan if logits is None else 100 * float(metrics.evaluate(logits, run.targets)["mAP"])
