"""What a trained model has learnt about its labels: vectors, neighbours, groups and graph, each as table or figure."""

from collections.abc import Sequence
from typing import NamedTuple

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

from mlclib import models
from mlclib.attention.maps import ModelOnSplit
from mlclib.datasets.labels import similarity
from mlclib.results.style import COLOURS, graph_layout, label_heatmap, safe_text
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun


class Learnt(NamedTuple):
    """What a model holds of its C labels after training.

    before: their vectors before training [C, V] or None; after: as learnt [C, D]. shares: the soft assignment of labels
    to groups [C, G], G may be 0. graph: its label graph [C, C], all zero for a model without one.
    """

    labels: Sequence[str]
    before: np.ndarray | None
    after: np.ndarray
    shares: np.ndarray
    graph: np.ndarray

    @property
    def group(self) -> np.ndarray | None:
        """The group that each label belongs to most, int [C]; None without groups."""
        return self.shares.argmax(1) if self.shares.shape[1] else None

    def members(self, group: int) -> list[int]:
        """The labels that belong to this group most, the firmest first."""
        order = np.argsort(-self.shares[:, group], kind="stable")
        return [int(label) for label in order if self.group[label] == group]


def learnt(subject: ModelOnSplit) -> Learnt:
    """What the model has learnt about its labels."""
    model, count = subject.model, len(subject.labels)
    graph = getattr(model, "adjacency", torch.zeros(count, count))
    with torch.no_grad():
        tensors = *model.embeddings(), model.assignment(), graph
    return Learnt(subject.labels, *(None if one is None else one.detach().numpy() for one in tensors))


def nearest(vectors: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """For each row the `count` other rows of highest cosine similarity: their numbers and similarities [C, count]."""
    values = similarity(vectors) - 3 * np.eye(len(vectors))
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(values, order, axis=1)


def tables(learnt: Learnt, model: str, run: FinishedRun) -> list[Table]:
    """Each label's nearest labels, and the groups where the model has any. model, run: whose they are."""
    labels, name, runs = learnt.labels, models.title(model), {"": [run]}
    frame = pd.DataFrame({"label": labels})
    for column, vectors in (("nearest before", learnt.before), ("nearest as learnt", learnt.after)):
        if vectors is not None:
            frame[column] = [
                ", ".join(f"{labels[other]} ({value:.2f})" for other, value in zip(*row, strict=True))
                for row in zip(*nearest(vectors), strict=True)
            ]
    caption = "In brackets the cosine similarity of their vectors."
    both = [Table(f"labels-{model}", f"Each label's nearest labels to {name}", frame, caption, runs=runs)]
    if learnt.group is not None:
        groups = range(learnt.shares.shape[1])
        members = [[f"{labels[i]} ({learnt.shares[i, group]:.2f})" for i in learnt.members(group)] for group in groups]
        frame = pd.DataFrame({"group": map(str, groups), "members": [", ".join(each) or "none" for each in members]})
        caption = "A label is listed in its main group, in brackets its weight there."
        title = f"The groups that {name} has made of the labels"
        both.append(Table(f"labels-{model}-groups", title, frame, caption, runs=runs))
    return both


def vectors_finding(learnt: Learnt) -> str:
    """In a sentence: which labels are most alike to the model, and how many keep the nearest label they began with."""
    order, values = nearest(learnt.after, 1)
    first = values[:, 0].argmax()
    pair = f"{learnt.labels[first]} and {learnt.labels[order[first, 0]]}"
    text = f"After training the vectors of {pair} are most similar (cosine {values[first, 0]:.2f})."
    if learnt.before is None:
        return f"{text} This model starts from no label vectors."
    kept = (nearest(learnt.before, 1)[0] == order).sum()
    return f"{text} {kept} of {len(order)} labels have the same nearest label as before training."


def groups_finding(learnt: Learnt) -> str:
    """In a sentence: how firmly labels belong to the groups that the model has made of them."""
    if learnt.group is None:
        return "This model makes no groups of labels."
    firm, sizes = (learnt.shares.max(1) > 0.5).sum(), np.bincount(learnt.group, minlength=learnt.shares.shape[1])
    return (
        f"{firm} of {len(learnt.labels)} labels have more than half of their weight in one of the {len(sizes)} groups. "
        f"The largest group is the main one of {sizes.max()} labels, and {(sizes == 0).sum()} groups of none."
    )


def figures(learnt: Learnt, cooccurrence: tuple[np.ndarray, np.ndarray]) -> dict[str, Figure]:
    """By name, the label graph of a model with groups alone. cooccurrence: counts [C, C] and totals [C] in training."""
    both = {"embeddings": embeddings(learnt), "similarities": similarities(learnt, *cooccurrence)}
    return both if learnt.group is None else both | {"label-graph": label_graph(learnt)}


def label_graph(learnt: Learnt) -> Figure:
    """Labels by the colour of their group, joined by the model's graph, either way; its title compares the share of
    edges within groups with that of all pairs.
    """
    joined, group = np.triu((learnt.graph > 0) | (learnt.graph.T > 0), 1), learnt.group
    graph = nx.Graph([(int(i), int(j)) for i, j in np.argwhere(joined)])
    graph.add_nodes_from(range(len(learnt.labels)))
    spot = graph_layout(graph)
    figure, axes = plt.subplots(figsize=(9, 7), layout="constrained")
    nx.draw_networkx_edges(graph, spot, ax=axes, edge_color="0.75")
    for number in np.unique(group):
        nodes = np.flatnonzero(group == number).tolist()
        share = learnt.shares[nodes, number].mean()
        nx.draw_networkx_nodes(
            graph, spot, nodes, ax=axes, node_size=520, node_color=[COLOURS[number % len(COLOURS)]], edgecolors="0.3",
            node_shape="osD^vphd"[number % 8], label=f"group {number}: {len(nodes)} labels ({share:.2f})",
        )  # fmt: skip
    outline = [withStroke(linewidth=3, foreground="white")]
    for node, place in spot.items():
        _write_label(axes, learnt.labels[node], place, 13, 11).set_path_effects(outline)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=0.5, title="mean share in brackets")
    same = group[:, None] == group
    chance = same[np.triu_indices(len(group), 1)].mean()
    within = f"{same[joined].mean():.0%} of edges join labels of one group" if graph.edges else "The graph has no edges"
    used = f"{len(np.unique(group))} of {learnt.shares.shape[1]} groups used"
    axes.set_title(f"{within}, {chance:.0%} of all pairs do ({used})")
    axes.axis("off")
    axes.margins(0.1)
    return figure


def embeddings(learnt: Learnt) -> Figure:
    """t-SNE (cosine, seeded) of the labels' vectors before and after learning, coloured by group; its title says how
    many of each label's three nearest labels stay.
    """
    shown, count = {"before: label vectors": learnt.before, "after: as learnt": learnt.after}, len(learnt.labels)
    if learnt.before is None:
        shown = {"as learnt, from no label vectors": learnt.after}
    figure, places = plt.subplots(1, len(shown), figsize=(6.2 * len(shown), 5.6), squeeze=False, layout="constrained")
    colours = ["0.35"] * count if learnt.group is None else [COLOURS[number % len(COLOURS)] for number in learnt.group]
    projection = TSNE(2, perplexity=min(10, (count - 1) / 3), metric="cosine", init="random", random_state=0)
    for axes, (name, vectors) in zip(places[0], shown.items(), strict=True):
        flat = projection.fit_transform(vectors)
        axes.scatter(*flat.T, c=colours, s=45, edgecolors="0.3", lw=0.5)
        for label, place in zip(learnt.labels, flat, strict=True):
            _write_label(axes, label, place, 6, 10)
        axes.set(xticks=[], yticks=[], title=name)
        axes.margins(0.1)
        sns.despine(ax=axes, left=True, bottom=True)
    if learnt.before is not None:
        near = [nearest(vectors)[0] for vectors in (learnt.before, learnt.after)]
        kept = np.mean([len(set(before) & set(after)) / 3 for before, after in zip(*near, strict=True)])
        chance = f"{3 / (count - 1):.0%} by chance"
        figure.suptitle(f"Learning keeps {kept:.0%} of each label's three nearest labels ({chance})")
    return figure


def similarities(learnt: Learnt, counts: np.ndarray, totals: np.ndarray) -> Figure:
    """P(column | row) in the training images beside the cosine similarity of the learnt vectors, in one order; the
    title says by their rank correlation whether labels that come together became alike.
    """
    shares, alike = counts / np.maximum(totals, 1)[:, None], similarity(learnt.after)
    order = leaves_list(linkage(squareform(2 - shares - shares.T, checks=False), "average", optimal_ordering=True))
    off = ~np.eye(len(shares), dtype=bool)
    rank = spearmanr((shares + shares.T)[off], alike[off]).statistic
    side = max(5.2, 0.24 * len(shares) + 1.5)
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * side + 1, side), layout="constrained")
    label_heatmap(left, shares, order, learnt.labels, "together in images", "P(column | row)")
    title = f"as learnt (mean {alike[off].mean():.2f})"
    label_heatmap(right, alike, order, learnt.labels, title, "cosine similarity")
    figure.suptitle(f"Co-occurrence and similarity of learnt vectors: rank correlation {rank:+.2f}")
    return figure


def _write_label(axes: plt.Axes, label: str, place: np.ndarray, above: float, size: float) -> plt.Annotation:
    """A label's name, `above` points over its place."""
    return axes.annotate(safe_text(label), place, (0, above), textcoords="offset points", ha="center", fontsize=size)
