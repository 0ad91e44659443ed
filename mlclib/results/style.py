"""What the figures share: colours, one sentence in place of a figure, boxes, and where a graph's nodes go."""

from collections.abc import Hashable

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = sns.color_palette("colorblind")
sns.set_theme(style="whitegrid", context="notebook", palette="colorblind")


def graph_layout(graph: nx.Graph) -> dict[Hashable, np.ndarray]:
    """Places for the nodes, by springs (seeded); weak springs between all of them keep those without edges near."""
    springs = nx.complete_graph(graph.nodes)
    nx.set_edge_attributes(springs, 0.05, "weight")
    springs.add_edges_from(graph.to_undirected().edges, weight=1)
    return nx.spring_layout(springs, seed=0, k=3 / np.sqrt(len(graph)), iterations=500)


def text_figure(text: str) -> Figure:
    """A figure that holds one sentence, where there is nothing to draw."""
    figure, axes = plt.subplots(figsize=(9, 1))
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=13)
    axes.axis("off")
    plt.close(figure)
    return figure


def draw_boxes(axes: Axes, boxes: np.ndarray) -> None:
    """Boxes [K, 4] (left, top, right, bottom) in pixels over a picture, seen on light and dark."""
    for left, top, right, bottom in boxes:
        for colour, width in (("black", 3.5), ("white", 1.5)):
            axes.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, lw=width))
