"""What each model costs beside what it scores (05_tables), as each run counted it when it ended (models/cost.py)."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.models import title
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import all_scores, over_seeds, scored_table
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

PARAMETERS, HEAD = "head, M parameters", "head, M multiply-adds"
BACKBONE, SHARE = "backbone, G multiply-adds", "head / backbone, %"
MARKERS = "osD^vP*X<>p"


def cost_table(models: Models, *, selection: str = "last") -> Table:
    """Models x mAP and the cost of their heads; a dash where a run counted none, as predictions from outside."""
    captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, all_scores)
    costs = pd.DataFrame({model: counted_cost(runs[0]) for model, runs in models.items()}).T
    return scored_table(
        "cost", "What each model costs", models, mean[["mAP"]].join(costs).reset_index(names="model"),
        selection=selection,
        spread=spread[["mAP"]].reset_index(drop=True),
        formats={PARAMETERS: ",.2f", HEAD: ",.2f", BACKBONE: ".2f", SHARE: ".2g"},
        best=("mAP",),
        caption=f"{captions.average(models, 'mAP in percent')} Head: everything but the backbone, by its learnt "
        "parameters and its multiply-adds for one image.",
        protocol=[
            "Multiply-adds: of matrix products, convolutions and attention, for one image of the input size. Not "
            "counted: what is computed once per batch (a label graph), elementwise operations, and DSDL's linear solve."
        ],
    )  # fmt: skip


def cost_figure(table: Table, models: Models, selection: str = "last") -> Figure:
    """`cost_table` as two scatter plots: test mAP (%) of each seed (small) and their mean (large), by what the head
    learns and by what it computes. A line joins the models that no other one beats at the same cost or less.
    """
    frame = table.frame.dropna()
    if frame.empty:
        return text_figure("No model here has both a score and a counted cost.")
    figure, panels = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for axes, column, verb in zip(panels, (PARAMETERS, HEAD), ("learns", "computes"), strict=True):
        front = unbeaten(frame, column)
        axes.plot(front[column], front["mAP"], color="0.7", lw=1, zorder=0)
        for row, model, mean, value in frame[["model", "mAP", column]].itertuples():
            look = {"color": COLOURS[row % len(COLOURS)], "marker": MARKERS[row % len(MARKERS)], "ls": ""}
            seeds = [all_scores(run, selection)["mAP"] for run in models[model]]
            axes.plot([value] * len(seeds), seeds, alpha=0.4, ms=4, **look)
            axes.plot(value, mean, ms=9, label=title(model), **look)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        text = f"By what the head {verb}: unbeaten {', '.join(map(title, front['model']))}"
        axes.set(xlabel=column, title=textwrap.fill(text, 52, break_on_hyphens=False))
    panels[0].set_ylabel("test mAP (%)")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    figure.tight_layout()
    return figure


def cost_sentence(table: Table) -> str:
    """The models whose mAP no other reaches whose head learns as little, from the smallest head on."""
    counted = table.frame.dropna(subset=["mAP", PARAMETERS])
    if counted.empty:
        return "No run here has both a mAP and a count of what its head learns."
    front = unbeaten(counted, PARAMETERS)
    rows = front[["model", PARAMETERS, "mAP"]].itertuples(index=False)
    return (
        f"For {len(front)} of {len(counted)} models no head of the same size or less has a higher mAP: "
        f"{', '.join(f'{title(model)} ({size:,.2f} M parameters, {mAP:.1f} %)' for model, size, mAP in rows)}."
    )


def unbeaten(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows with a higher mAP than every other row that costs no more, from the lowest cost on."""
    rows = frame.sort_values([column, "mAP"], ascending=[True, False])
    return rows[rows["mAP"] > rows["mAP"].cummax().shift(fill_value=-np.inf)]


def counted_cost(run: FinishedRun) -> dict[str, float]:
    """What a run counted, by the table's columns; NaN where it is older than the counting, or not ours."""
    cost = run.about.get("cost", dict.fromkeys(("parameters", "head", "backbone"), np.nan))
    parameters, head, backbone = cost["parameters"], cost["head"], cost["backbone"]
    return {PARAMETERS: parameters / 1e6, HEAD: head / 1e6, BACKBONE: backbone / 1e9, SHARE: 100 * head / backbone}
