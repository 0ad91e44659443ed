"""Accuracy against cost (05_tables)."""

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlclib.results.ablation_figures import mean_ap
from mlclib.results.captions import Models
from mlclib.results.cost import HEAD, PARAMETERS
from mlclib.results.style import COLOURS, said
from mlclib.results.table import Table

MARKERS = "osD^vP*X<>p"


def cost(table: Table, models: Models, selection: str = "last") -> Figure:
    """`tables.cost.cost` as two scatter plots: test mAP (%) of each seed (small) and their mean (large), by what the
    head learns and by what it computes. A line joins the models that no other one beats at the same cost or less.
    """
    frame = table.frame.dropna()
    if frame.empty:
        return said("No model here has both a score and a counted cost.")
    figure, panels = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for axes, column in zip(panels, (PARAMETERS, HEAD), strict=True):
        front = frame[~_beaten(frame, column)].sort_values(column)
        axes.plot(front[column], front["mAP"], color="0.7", lw=1, zorder=0)
        for row, model, mean, value in frame[["model", "mAP", column]].itertuples():
            look = {"color": COLOURS[row % len(COLOURS)], "marker": MARKERS[row % len(MARKERS)], "ls": ""}
            seeds = [mean_ap(run, selection) for run in models[model]]
            axes.plot([value] * len(seeds), seeds, alpha=0.4, ms=4, **look)
            axes.plot(value, mean, ms=9, label=model, **look)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        what = "learns" if column == PARAMETERS else "computes"
        title = f"By what the head {what}: unbeaten {', '.join(front['model'])}"
        axes.set(xlabel=column, title=textwrap.fill(title, 52))
    panels[0].set_ylabel("test mAP (%)")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    figure.tight_layout()
    return figure


def _beaten(frame: pd.DataFrame, column: str) -> pd.Series:
    """Whether another model costs no more, scores no less, and is better in one of the two."""
    cost, score = frame[column].to_numpy(), frame["mAP"].to_numpy()
    no_worse = (cost[None] <= cost[:, None]) & (score[None] >= score[:, None])
    better = (cost[None] < cost[:, None]) | (score[None] > score[:, None])
    return pd.Series((no_worse & better).any(1), frame.index)
