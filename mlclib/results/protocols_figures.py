"""The figure of the protocol audit (06_protocols)."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mlclib.results import captions
from mlclib.results.protocols import ORDER, SCORES, changes
from mlclib.results.style import said
from mlclib.results.table import written


def choices(frame: pd.DataFrame) -> Figure:
    """A dot a model for each choice of the audit `frame` and score; lines reach one standard deviation over seeds."""
    summary = changes(frame).dropna(subset="mean")
    if summary.empty:
        return said(captions.HIDDEN)
    order = [key for key in ORDER if key in summary.index.droplevel(["model", "score"])][::-1]
    models = list(dict.fromkeys(frame["model"]))
    colours = sns.color_palette("colorblind", len(models))
    figure, axes = plt.subplots(
        1, len(SCORES), figsize=(11, 1.5 + 0.36 * len(order)), sharey=True, layout="constrained"
    )
    for axis, score in zip(axes, SCORES, strict=True):
        for at, (model, colour) in enumerate(zip(models, colours, strict=True)):
            dots = summary[(summary.index.get_level_values("model") == model)].xs(score, level="score")
            height = [
                order.index(key) + 0.5 * (0.5 - (at + 0.5) / len(models)) for key in dots.index.droplevel("model")
            ]
            axis.errorbar(
                dots["mean"],
                height,
                xerr=dots["std"].fillna(0),
                fmt="osD^vP*X"[at % 8],
                color=colour,
                ms=5,
                lw=1,
                label=model,
            )
        axis.axvline(0, color="0.4", lw=1, zorder=0)
        axis.grid(axis="y", color="0.92", zorder=0)
        axis.set(title=score, xlabel="points against the default")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(order)), [f"{kind}: {choice}" for kind, choice in order])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(models), frameon=False)
    figure.suptitle(_finding(summary))
    return figure


def _finding(summary: pd.DataFrame) -> str:
    """The choice that moves a score furthest, as a sentence."""
    kind, choice, model, score = summary["mean"].abs().idxmax()
    points = summary["mean"][kind, choice, model, score]
    return f"{kind}, {choice}: {written(points, '+.1f')} {score} points for {model}, the furthest of all choices"
