"""Figures of training (02_train). Each function draws one and returns it, unwritten."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.figures.style import COLOURS


def curves(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Training loss and test mAP over epochs, a line a model (mean over its seeds) with the seeds' range as a band."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for colour, (name, runs) in zip(COLOURS, histories.items(), strict=False):
        epochs = runs[0]["epoch"]
        for axes, key, factor in ((left, "loss", 1), (right, "mAP", 100)):
            values = factor * np.stack([run[key] for run in runs])
            axes.plot(epochs, values.mean(0), color=colour, label=name)
            axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.2, lw=0)
    left.set(xlabel="epoch", ylabel="training loss", title="Training loss")
    best = {name: 100 * np.mean([run["mAP"].iloc[-1] for run in runs]) for name, runs in histories.items()}
    top = max(best, key=best.get)
    ends = f"{top} ends at {best[top]:.1f}%" if np.isfinite(best[top]) else "the test labels are not public"
    right.set(xlabel="epoch", ylabel="test mAP (%)", title=f"Test mAP: {ends}")
    right.legend()
    figure.tight_layout()
    return figure
