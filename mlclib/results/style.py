"""What the figures share: colours, one sentence in place of a figure, boxes, where a graph's nodes go, and labels as
figures and file names can hold them.
"""

import hashlib
import re
import sys
import unicodedata
from collections.abc import Hashable, Sequence
from functools import cache
from urllib.parse import quote

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
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


def label_heatmap(
    axes: Axes, values: np.ndarray, order: Sequence[int], labels: Sequence[str], title: str, bar: str, **look: object
) -> None:
    """Values [C, C] of pairs of labels, in this order, but for a label with itself. bar: the colour bar's title."""
    names = [safe_text(labels[label]) for label in order]
    pairs = np.where(np.eye(len(values), dtype=bool), np.nan, values)[np.ix_(order, order)]
    look = {"cmap": "cividis", "square": True, "xticklabels": 1, "yticklabels": 1} | look
    sns.heatmap(pd.DataFrame(pairs, names, names), ax=axes, cbar_kws={"label": bar, "shrink": 0.7}, **look)
    axes.set_title(title)


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


def safe_text(text: str) -> str:
    """`text` as a figure can show it: "$" begins no mathematics, and what no installed font can draw is written out.

    Where a font other than the figures' own has a character, that font joins theirs.
    """
    return "".join(_drawable(character) for character in text)


@cache
def _drawable(character: str) -> str:
    own = font_manager.findfont(font_manager.FontProperties())
    if character == "$":
        return r"\$"
    if character.isspace() or ord(character) in _characters(own):
        return character
    for font in font_manager.fontManager.ttflist:
        # matplotlib's own "Last Resort" has a box for every character
        if "Last Resort" not in font.name and ord(character) in _characters(font.fname):
            plt.rcParams["font.family"] = [*plt.rcParams["font.family"], font.name]
            return character
    if unicodedata.category(character) in ("Cf", "Mn"):  # joins or varies its neighbours, and shows nothing itself
        return ""
    print(f"figures write out {character!r}, which no installed font has; Noto Sans CJK may", file=sys.stderr)
    name = unicodedata.name(character, "ideograph").lower()
    return f"[U+{ord(character):04X}]" if "ideograph" in name else f"[{name}]"


@cache
def _characters(path: str) -> frozenset[int]:
    """What a font file can draw; nothing where its letters are pictures, which matplotlib cannot scale."""
    font = font_manager.get_font(path)
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def safe_file_name(text: str) -> str:
    """`text` as part of a file name on any system, another for each text: / \\ : * ? " < > | % and such as %2F.

    A long text is cut, and ends in a digest of it all.
    """
    name = re.sub(r'[\x00-\x1f/\\:*?"<>|%]', lambda match: quote(match[0], safe=""), text)
    if len(name.encode()) <= 120:
        return name
    return f"{name.encode()[:100].decode(errors='ignore')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
