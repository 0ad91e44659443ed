"""What a data set holds (01_data): its parts, labels, images, co-occurrence and label graphs."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from mlclib import models
from mlclib.datasets.base import Dataset, Split
from mlclib.datasets.images import open_rgb
from mlclib.results import captions
from mlclib.results.style import COLOURS, graph_layout
from mlclib.results.table import written
from mlclib.runs.study import Study


def parts_table(dataset: Dataset) -> pd.DataFrame:
    """One row per split: images, labels, labels per image, difficult ones, boxes."""
    rows = {
        part: {
            "images": len(split),
            "labels": len(dataset.labels),
            "present per image": round(float((split.targets == 1).sum(1).mean()), 2),
            "difficult (%)": round(100 * float((split.targets == 0).mean()), 2),
            "boxes": sum(map(len, split.boxes)) if split.boxes else "none",
        }
        for part, split in dataset.splits.items()
    }
    return pd.DataFrame(rows).T.rename_axis(f"{dataset.name} {dataset.checksum()[:8]}")


def parts_sentence(dataset: Dataset) -> str:
    """How alike the training and the test part are, by the labels that their images show."""
    train, test = ((dataset.splits[part].targets == 1) for part in ("train", "test"))
    if not test.any():
        return f"{captions.HIDDEN}. Labels per training image: {train.sum(1).mean():.2f}."
    share, other = 100 * train.mean(0), 100 * test.mean(0)
    most = int(np.abs(share - other).argmax())
    return (
        f"Labels per image: {train.sum(1).mean():.2f} in training, {test.sum(1).mean():.2f} in test. The two parts "
        f"differ most in {dataset.labels[most]}, on {share[most]:.1f} % and {other[most]:.1f} % of their images."
    )


def frequency_figure(dataset: Dataset) -> Figure:
    """Bars: the share of images that show each label, in every split, most frequent first."""
    shares = pd.DataFrame(
        {part: 100 * (split.targets == 1).mean(0) for part, split in dataset.splits.items()}, index=dataset.labels
    )
    shares = shares.sort_values(shares.columns[0], ascending=False)
    figure, axes = plt.subplots(figsize=(max(7, 0.32 * len(shares)), 4))
    shares.plot.bar(ax=axes, width=0.8, color=COLOURS)
    (rare, low), (common, high) = ((shares.index[at], shares.iloc[at, 0]) for at in (-1, 0))
    axes.set(ylabel="images that show it (%)", xlabel="")
    axes.set_title(f"{dataset.name}: from {low:.1f}% ({rare}) to {high:.1f}% ({common})")
    axes.grid(axis="x", visible=False)
    return figure


def frequency_sentence(dataset: Dataset) -> str:
    """On how few test images the AP of the rarest label rests."""
    counts = pd.Series((dataset.splits["test"].targets == 1).sum(0), dataset.labels)
    shown = counts[counts > 0]
    if shown.empty:
        return f"{captions.HIDDEN}."
    without = ", ".join(counts.index[counts == 0])
    return (
        f"{shown.min()} test images show {shown.idxmin()} and {shown.max()} show {shown.idxmax()}; the APs of both "
        f"count the same in mAP. Labels with fewer than 30 test images: {(shown < 30).sum()} of {len(shown)}."
        + (f" Without a test image, and so without an AP: {without}." if without else "")
    )


def cooccurrence_figure(counts: np.ndarray, totals: np.ndarray, labels: Sequence[str]) -> Figure:
    """Heat map of P(column | row) from co-occurrence counts [C, C] and label counts [C]."""
    shares = pd.DataFrame(counts / np.maximum(totals, 1)[:, None], index=labels, columns=labels)
    side = max(6, 0.3 * len(labels) + 2)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    bar = {"label": "P(column | row)", "shrink": 0.7}
    sns.heatmap(shares, cmap="cividis", vmin=0, vmax=1, square=True, ax=axes, cbar_kws=bar)
    (row, column), share = shares.stack().idxmax(), 100 * shares.to_numpy().max()
    axes.set_title(f"Highest share: {share:.0f}% of images with {row} show {column}")
    return figure


def cooccurrence_sentence(counts: np.ndarray, totals: np.ndarray, images: int, labels: Sequence[str]) -> str:
    """Which labels come together beyond chance, and which shun each other, by the correlation of being there over
    `images` training images (the phi coefficient), from their counts [C, C] and [C].
    """
    both, own = np.asarray(counts, float), np.asarray(totals, float)
    spread = np.sqrt(own * (images - own))
    phi = (images * both - np.outer(own, own)) / np.outer(spread, spread).clip(1e-12)
    first, second = np.triu_indices(len(labels), 1)
    phi, never = phi[first, second], int((both[first, second] == 0).sum())
    pairs = [f"{labels[a]} and {labels[b]} ({written(r, '+.2f')})" for a, b, r in zip(first, second, phi, strict=True)]
    most, least = pairs[phi.argmax()], pairs[phi.argmin()]
    return (
        f"The labels {most} occur together most, {least} least (by the phi coefficient, which is 0 by chance). "
        f"{never} of {len(phi)} pairs never occur together."
    )


def samples_figure(split: Split, labels: Sequence[str], rows: Sequence[int]) -> Figure:
    """A grid of images with their boxes (where known) and labels; a difficult label stands in brackets."""
    height = -(-len(rows) // 4)
    figure, grid = plt.subplots(height, 4, figsize=(12, 3.3 * height), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, row in zip(grid.flat, rows, strict=False):
        axes.imshow(open_rgb(split.paths[row]))
        for label, x0, y0, x1, y1 in split.boxes[row] if split.boxes else ():
            look = {"fill": False, "color": COLOURS[int(label) % 10], "lw": 1.5}
            axes.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, **look))
        targets = zip(labels, split.targets[row], strict=True)
        names = [label if target > 0 else f"({label})" for label, target in targets if target >= 0]
        lines = [", ".join(names[i : i + 3]) for i in range(0, len(names), 3)]
        axes.set_title("\n".join(lines), fontsize=9)
    figure.tight_layout()
    return figure


def samples_sentence(split: Split) -> str:
    """How many labels an image of the split shows."""
    counts = (split.targets == 1).sum(1)
    return (
        f"An image of this part shows {counts.min()} to {counts.max()} labels (median {np.median(counts):.0f}). "
        f"{100 * (counts == 1).mean():.0f} % of the images show a single label."
    )


def label_graphs(study: Study) -> dict[str, np.ndarray]:
    """The label graphs, float32 [C, C], that the experiment's models are built with, by a title that says which
    models have it and how it is made; none where no model has one.
    """
    graphs: dict[str, tuple[list[str], np.ndarray]] = {}
    for name in study.experiment.models:
        run = study.experiment.run_config(name)
        kind, options = models.find(run.model), models.check_options(run.model, run.options)
        graph = kind.label_graph(study.label_info(run), options)
        if graph is None:
            continue
        source = "the training split" if run.cooccurrence == "train" else Path(run.cooccurrence).name
        choices = {key: value for key, value in dataclasses.asdict(options).items() if key.startswith("graph")}
        origin = ", ".join([*(f"{key} {value}" for key, value in choices.items()), f"counts of {source}"])
        same = next((title for title, (_, other) in graphs.items() if np.array_equal(other, graph.numpy())), origin)
        graphs.setdefault(same, ([], graph.numpy()))[0].append(name)
    return {f"{', '.join(map(models.title, names))} ({origin})": graph for origin, (names, graph) in graphs.items()}


def label_graph_figure(adjacency: np.ndarray, labels: Sequence[str], totals: np.ndarray, title: str) -> Figure:
    """A label graph: an arrow i -> j where A^[j, i] > 0 (j attends to i); a node's area is its label's count."""
    links = (adjacency > 0) & ~np.eye(len(labels), dtype=bool)
    graph = nx.DiGraph([(labels[i], labels[j]) for i, j in np.argwhere(links.T)])
    graph.add_nodes_from(labels)
    size = 150 + 2000 * np.asarray(totals) / max(1, np.max(totals))
    figure, axes = plt.subplots(figsize=(9, 7))
    nx.draw_networkx(
        graph, graph_layout(graph), nodelist=list(labels), node_size=size, node_color=[COLOURS[9]], edge_color="0.55",
        font_size=9, arrowsize=9, ax=axes,
    )  # fmt: skip
    edges, possible, alone = graph.number_of_edges(), links.size - len(labels), nx.number_of_isolates(graph)
    axes.set_title(f"Label graph of {title}:\n{edges} of {possible} possible edges, {alone} labels stand alone")
    axes.axis("off")
    return figure


def graphs_sentence(graphs: Mapping[str, np.ndarray], labels: Sequence[str]) -> str:
    """For each label graph A^ [C, C], by title: from which label most others learn, and how many learn from none."""
    sentences = []
    for title, adjacency in graphs.items():
        links = (adjacency > 0) & ~np.eye(len(labels), dtype=bool)  # [learner, taught by]
        most, alone = int(links.sum(0).argmax()), int((~links.any(1)).sum())
        sentences.append(
            f"In the graph of {title} most edges start at {labels[most]} (to {links[:, most].sum()} of {len(links)} "
            f"labels). Labels without an edge from another: {alone}."
            if links.any()
            else f"The graph of {title} has no edge between two labels."
        )
    return " ".join(sentences) or "No model of this experiment works on a label graph."
