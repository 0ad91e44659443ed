"""The leaderboard, drawn (05_tables)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mlclib.metrics.pairwise import ties
from mlclib.results.ablation_figures import mean_ap
from mlclib.results.leaderboard import PairwiseComparison
from mlclib.results.style import COLOURS
from mlclib.results.table import Table


def board(table: Table, found: PairwiseComparison) -> Figure:
    """`tables.leaderboard.board`: models by test mAP (%), their seeds (dots), mean and 95 % interval (bar); beside it
    the ranks that each may have, and a line for each set of models that are not told apart.

    found: what the table was made of.
    """
    frame, letters = table.frame, ties(found.better)
    figure, (scores, ranks) = plt.subplots(
        1,
        2,
        figsize=(9 + 0.3 * len(letters), 1.6 + 0.42 * len(frame)),
        width_ratios=(7, 1.1 + 0.4 * len(letters)),
        sharey=True,
        layout="constrained",
    )
    for row, (model, mean, low, high) in enumerate(
        frame[["model", "mAP", "mAP low", "mAP high"]].itertuples(index=False)
    ):
        seeds = [mean_ap(run, found.selection) for run in found.models[model]]
        scores.plot([low, high], [row, row], color="0.82", lw=7, solid_capstyle="butt", zorder=1)
        scores.plot(seeds, [row] * len(seeds), "o", color=COLOURS[0], alpha=0.5, ms=5)
        scores.plot(mean, row, "|", color="0.1", ms=15, mew=2.5)
        ranks.text(0, row, f"rank {frame['rank'][row]}", va="center", fontsize=11)
    for at, (letter, rows) in enumerate(letters.items()):
        ranks.plot([2.6 + at] * len(rows), rows, "o-", color=COLOURS[1], lw=2, ms=7)
        ranks.text(2.6 + at, -0.75, letter, ha="center", va="bottom", fontsize=11)
    scores.plot([], [], "|", color="0.1", ms=15, mew=2.5, label="mean over seeds")
    scores.plot([], [], "o", color=COLOURS[0], alpha=0.5, ms=5, label="a seed")
    scores.plot([], [], color="0.82", lw=7, label="95 % interval of the mean")
    figure.legend(loc="outside lower left", ncols=3, fontsize=10, frameon=False)
    scores.set_yticks(range(len(frame)), frame["model"])
    scores.set(xlabel="test mAP (%)", ylim=(len(frame) - 0.4, -1.2))
    ranks.set(xlim=(-0.2, 3.2 + len(letters)), xlabel="a line joins models that\nno paired test tells apart")
    ranks.set_xticks([])
    ranks.grid(False)
    ranks.tick_params(axis="y", length=0, labelleft=False)
    for axes in (scores, ranks):
        axes.spines[["top", "right", "left"]].set_visible(False)
    ranks.spines["bottom"].set_visible(False)
    first = sum(best == 1 for best, _ in found.ranks)
    led = f"{frame['model'][0]} leads alone" if first == 1 else f"{first} models may be first"
    figure.suptitle(f"{table.title}: {led}")
    return figure
