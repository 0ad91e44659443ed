"""Figures of a data set (01_data). Each function draws one and returns it, unwritten."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mlclib.datasets import images
from mlclib.datasets.base import Dataset, Split
from mlclib.results import captions
from mlclib.results.style import COLOURS, placed
from mlclib.results.table import written


def label_frequencies(dataset: Dataset) -> Figure:
    """Bars: the share of images that show each label, in every split, most frequent first."""
    shares = pd.DataFrame(
        {part: 100 * (split.targets == 1).mean(0) for part, split in dataset.splits.items()}, index=dataset.labels
    )
    shares = shares.sort_values(shares.columns[0], ascending=False)
    figure, axes = plt.subplots(figsize=(max(7, 0.32 * len(shares)), 4))
    shares.plot.bar(ax=axes, width=0.8, color=COLOURS)
    axes.set(ylabel="images that show it (%)", xlabel="")
    first = shares.iloc[:, 0]
    axes.set_title(
        f"{dataset.name}: from {first.iloc[-1]:.1f}% ({first.index[-1]}) to {first.iloc[0]:.1f}% ({first.index[0]})"
    )
    axes.grid(axis="x", visible=False)
    return figure


def frequency_finding(dataset: Dataset) -> str:
    """In a sentence: on how few test images the AP of the rarest label rests."""
    counts = (dataset.splits["test"].targets == 1).sum(0)
    if not counts.any():
        return f"{captions.HIDDEN}."
    shown = np.flatnonzero(counts)
    rare, common = shown[counts[shown].argmin()], counts.argmax()
    without = [label for label, count in zip(dataset.labels, counts, strict=True) if not count]
    none = f" Without a test image, and so without an AP: {', '.join(without)}." if without else ""
    return (
        f"The AP of {dataset.labels[rare]} rests on {counts[rare]} test images that show it, that of "
        f"{dataset.labels[common]} on {counts[common]}, and in mAP both count alike; {(counts[shown] < 30).sum()} of "
        f"{len(shown)} labels have fewer than 30.{none}"
    )


def cooccurrence(counts: np.ndarray, totals: np.ndarray, labels: Sequence[str]) -> Figure:
    """Heat map of P(column | row) from co-occurrence counts [C, C] and label counts [C]."""
    shares = pd.DataFrame(counts / np.maximum(totals, 1)[:, None], index=labels, columns=labels)
    side = max(6, 0.3 * len(labels) + 2)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    sns.heatmap(
        shares,
        cmap="cividis",
        vmin=0,
        vmax=1,
        square=True,
        ax=axes,
        cbar_kws={"label": "P(column | row)", "shrink": 0.7},
    )
    row, column = np.unravel_index(np.argmax(shares.to_numpy()), shares.shape)
    axes.set_title(
        f"Together most often: {100 * shares.iat[row, column]:.0f}% of images with {labels[row]} show {labels[column]}"
    )
    return figure


def cooccurrence_finding(counts: np.ndarray, totals: np.ndarray, images: int, labels: Sequence[str]) -> str:
    """In a sentence: which labels come together beyond chance, and which shun each other, by the correlation of being
    there over `images` training images (the phi coefficient), from their counts [C, C] and [C].
    """
    both, own = np.asarray(counts, float), np.asarray(totals, float)
    spread = np.sqrt(own * (images - own))
    phi = (images * both - np.outer(own, own)) / np.outer(spread, spread).clip(1e-12)
    first, second = np.triu_indices(len(labels), 1)
    phi, never = phi[first, second], int((both[first, second] == 0).sum())
    pair = [
        f"{labels[first[at]]} and {labels[second[at]]} ({written(phi[at], '+.2f')})"
        for at in (phi.argmax(), phi.argmin())
    ]
    return (
        f"Beyond chance, {pair[0]} come together most and {pair[1]} least, by the correlation of being in an image; "
        f"{never} of {len(phi)} pairs never come together."
    )


def samples(split: Split, labels: Sequence[str], rows: Sequence[int], columns: int = 4) -> Figure:
    """A grid of images with their boxes (where known) and labels; a difficult label stands in brackets."""
    height = -(-len(rows) // columns)
    figure, grid = plt.subplots(height, columns, figsize=(3 * columns, 3.3 * height), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, row in zip(grid.flat, rows, strict=False):
        axes.imshow(images.open_rgb(split.paths[row]))
        for label, x0, y0, x1, y1 in split.boxes[row] if split.boxes else ():
            axes.add_patch(
                plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=COLOURS[int(label) % 10], lw=1.5)
            )
        named = [
            labels[c] if value > 0 else f"({labels[c]})" for c, value in enumerate(split.targets[row]) if value >= 0
        ]
        lines = [", ".join(named[i : i + 3]) for i in range(0, len(named), 3)]
        axes.set_title("\n".join(lines), fontsize=9)
    figure.tight_layout()
    return figure


def samples_finding(split: Split) -> str:
    """In a sentence: how many labels an image of the split shows."""
    counts = (split.targets == 1).sum(1)
    return (
        f"An image of this part shows {counts.min()} to {counts.max()} labels, {np.median(counts):.0f} in the middle; "
        f"{100 * (counts == 1).mean():.0f} % show one label alone."
    )


def label_graph(adjacency: np.ndarray, labels: Sequence[str], totals: np.ndarray, title: str) -> Figure:
    """A label graph: an arrow i -> j where A^[j, i] > 0 (j attends to i); a node's area is its label's count."""
    edges = [
        (labels[i], labels[j]) for i in range(len(labels)) for j in range(len(labels)) if i != j and adjacency[j, i] > 0
    ]
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(labels)
    size = 150 + 2000 * np.asarray(totals) / max(1, np.max(totals))
    figure, axes = plt.subplots(figsize=(9, 7))
    nx.draw_networkx(
        graph, placed(graph), nodelist=list(labels), node_size=size, node_color=[COLOURS[9]], edge_color="0.55",
        font_size=9, arrowsize=9, ax=axes,
    )  # fmt: skip
    alone = sum(1 for label in labels if graph.degree(label) == 0)
    possible = len(labels) * (len(labels) - 1)
    axes.set_title(f"Label graph of {title}:\n{len(edges)} of {possible} possible edges, {alone} labels stand alone")
    axes.axis("off")
    return figure


def graphs_finding(graphs: Mapping[str, np.ndarray], labels: Sequence[str]) -> str:
    """A sentence for each label graph A^ [C, C] by its title: from which label most others learn, and how many learn
    from none.
    """
    said = []
    for title, graph in graphs.items():
        edges = (graph > 0) & ~np.eye(len(labels), dtype=bool)  # [learner, taught by]
        most, alone = int(edges.sum(0).argmax()), int((~edges.any(1)).sum())
        said.append(
            f"In the graph of {title} {edges[:, most].sum()} of {len(edges)} labels learn from {labels[most]}, from no "
            f"other more, and {alone} from none."
            if edges.any()
            else f"In the graph of {title} no label learns from another."
        )
    return " ".join(said) or "No model of this experiment works on a label graph."
