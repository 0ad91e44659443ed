"""Figures of what a model has learnt about its labels (04_attention): graphs, groups, embeddings."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr
from sklearn.manifold import TSNE

from mlclib.attention import learnt
from mlclib.attention.saliency import Subject
from mlclib.results.style import COLOURS, graph_layout


def knowledge(subject: Subject, cooccurrence: tuple[np.ndarray, np.ndarray]) -> dict[str, Figure]:
    """What the model knows of its labels: {"embeddings", "similarities" and, where it has groups, "label-graph"}.

    cooccurrence: counts [C, C] and totals [C] of the training images.
    """
    model, labels = subject.model, subject.labels
    before, after = learnt.embeddings(model)
    shares = learnt.assignment(model)
    grouped = shares.shape[1] > 0
    figures = {
        "embeddings": embeddings(before, after, labels, shares.argmax(1) if grouped else None),
        "similarities": similarities(*cooccurrence, after, labels),
    }
    if grouped:
        shown = getattr(model, "adjacency", torch.zeros(len(labels), len(labels)))
        figures["label-graph"] = grouped_graph(shown.numpy(), shares, labels)
    return figures


def knowledge_finding(subject: Subject) -> str:
    """In a sentence: which labels are most alike to the model, and how many keep the nearest label they began with."""
    before, after = learnt.embeddings(subject.model)
    own = 3 * np.eye(len(after))
    alike = learnt.similarity(after) - own
    first, second = np.unravel_index(alike.argmax(), alike.shape)
    text = f"Most alike as learnt are {subject.labels[first]} and {subject.labels[second]} (cosine {alike.max():.2f})"
    if before is None:
        return f"{text}; this model starts from no label vectors."
    kept = ((learnt.similarity(before) - own).argmax(1) == alike.argmax(1)).sum()
    return f"{text}; {kept} of {len(after)} labels keep the nearest label that their vectors began with."


def grouped_graph(adjacency: np.ndarray, assignment: np.ndarray, labels: Sequence[str]) -> Figure:
    """Labels, joined where the model's graph has an edge either way, in the colour and with the number of their group.

    adjacency: the model's label graph [C, C]; assignment [C, G]: its soft assignment of labels to groups.
    """
    joined = np.triu((adjacency > 0) | (adjacency.T > 0), 1)
    group = assignment.argmax(1)
    graph = nx.Graph([(int(i), int(j)) for i, j in np.argwhere(joined)])
    graph.add_nodes_from(range(len(labels)))
    spot = graph_layout(graph)
    figure, axes = plt.subplots(figsize=(9, 7), layout="constrained")
    nx.draw_networkx_edges(graph, spot, ax=axes, edge_color="0.75")
    for number in np.unique(group):
        nodes = np.flatnonzero(group == number).tolist()
        share = assignment[nodes, number].mean()
        nx.draw_networkx_nodes(
            graph, spot, nodes, ax=axes, node_size=520, node_color=[COLOURS[number % len(COLOURS)]], edgecolors="0.3",
            node_shape="osD^vphd"[number % 8], label=f"group {number}: {len(nodes)} labels ({share:.2f})",
        )  # fmt: skip
    for node, (x, y) in spot.items():
        text = axes.annotate(labels[node], (x, y), (0, 13), textcoords="offset points", ha="center", fontsize=11)
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=0.5, title="mean share in brackets")
    same = (group[:, None] == group)[joined]
    pairs = np.triu(np.ones_like(joined), 1).astype(bool)
    chance = (group[:, None] == group)[pairs].mean()
    within = f"{100 * same.mean():.0f}% of edges join labels of one group" if joined.any() else "The graph has no edges"
    used = f"{len(np.unique(group))} of {assignment.shape[1]} groups used"
    axes.set_title(f"{within}, {100 * chance:.0f}% of all pairs do ({used})")
    axes.axis("off")
    axes.margins(0.1)
    plt.close(figure)
    return figure


def embeddings(
    before: np.ndarray | None, after: np.ndarray, labels: Sequence[str], group: np.ndarray | None = None
) -> Figure:
    """t-SNE (cosine, seeded) of the labels' vectors before [C, V] and after learning [C, D], coloured by group [C]."""
    shown = {"before: label vectors": before, "after: as learnt": after}
    if before is None:
        shown = {"as learnt, from no label vectors": after}
    figure, places = plt.subplots(1, len(shown), figsize=(6.2 * len(shown), 5.6), squeeze=False, layout="constrained")
    colours = ["0.35"] * len(labels) if group is None else [COLOURS[number % len(COLOURS)] for number in group]
    for axes, (name, vectors) in zip(places[0], shown.items(), strict=True):
        perplexity = min(10, (len(labels) - 1) / 3)
        flat = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(vectors)
        axes.scatter(*flat.T, c=colours, s=45, edgecolors="0.3", lw=0.5)
        for label, spot in zip(labels, flat, strict=True):
            axes.annotate(label, spot, (0, 6), textcoords="offset points", ha="center", fontsize=10)
        axes.set(xticks=[], yticks=[], title=name)
        axes.margins(0.1)
        sns.despine(ax=axes, left=True, bottom=True)
    if before is not None:
        near = [np.argsort(9 * np.eye(len(labels)) - learnt.similarity(v), 1)[:, :3] for v in (before, after)]
        kept = 100 * np.mean([len(set(a) & set(b)) / 3 for a, b in zip(*near, strict=True)])
        chance = 300 / (len(labels) - 1)
        figure.suptitle(f"Learning keeps {kept:.0f}% of each label's three nearest labels ({chance:.0f}% by chance)")
    plt.close(figure)
    return figure


def similarities(counts: np.ndarray, totals: np.ndarray, vectors: np.ndarray, labels: Sequence[str]) -> Figure:
    """P(column | row) in the training images beside the cosine similarity of the vectors [C, D], in one order."""
    shares = counts / np.maximum(totals, 1)[:, None]
    alike = learnt.similarity(vectors)
    apart = squareform(2 - shares - shares.T, checks=False)
    order = leaves_list(linkage(apart, method="average", optimal_ordering=True))
    off = ~np.eye(len(labels), dtype=bool)
    rank = spearmanr((shares + shares.T)[off], alike[off]).statistic
    side = max(5.2, 0.24 * len(labels) + 1.5)
    figure, places = plt.subplots(1, 2, figsize=(2 * side + 1, side), layout="constrained")
    masked = np.where(off, alike, np.nan)
    for axes, values, title, bar in (
        (places[0], np.where(off, shares, np.nan), "together in images", "P(column | row)"),
        (places[1], masked, f"as learnt (mean {alike[off].mean():.2f})", "cosine similarity"),
    ):
        frame = pd.DataFrame(values[np.ix_(order, order)], [labels[i] for i in order], [labels[i] for i in order])
        sns.heatmap(
            frame, ax=axes, cmap="cividis", square=True, xticklabels=1, yticklabels=1,
            cbar_kws={"label": bar, "shrink": 0.7},
        )  # fmt: skip
        axes.set_title(title)
    figure.suptitle(f"Labels that come together {_strength(rank)} alike as learnt (rank correlation {rank:+.2f})")
    plt.close(figure)
    return figure


def _strength(rank: float) -> str:
    if rank > 0.5:
        return "are"
    if rank > 0.2:
        return "are somewhat"
    return "are hardly" if rank > -0.2 else "are less"
