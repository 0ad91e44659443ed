"""Pictures: images with maps over them and with the scores of their labels, and a sentence for each."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mlclib.attention.learnt import Learnt
from mlclib.attention.maps import Example, Key, ModelOnSplit, boxed_labels, explain, logits, overall
from mlclib.results.style import COLOURS, draw_boxes, safe_text
from mlclib.results.table import written

MARKS = {1: "present", 0: "unknown", -1: "absent"}


def grid(
    images: Sequence[Image.Image],
    titles: Sequence[str],
    maps: Sequence[Mapping[Key, Tensor]],
    boxes: Sequence[np.ndarray] = (),
    keys: Sequence[Key] = (),
) -> Figure:
    """Each image, then its maps {key: [GRID, GRID]} over it in grey, all with its boxes [K, 4] in pixels.

    keys: which of the maps (default: `main_keys`). Yellow is where a map is highest, each on a scale of its own.
    """
    keys = list(keys) or main_keys(maps[0])
    width = 1 + len(keys)
    across = min(len(images), max(1, 6 // width))
    rows = -(-len(images) // across)
    size = (2.3 * across * width, 2.55 * rows)
    figure, places = plt.subplots(rows, across * width, figsize=size, squeeze=False, layout="constrained")
    cells = places.reshape(rows * across, width)
    for at, (image, title) in enumerate(zip(images, titles, strict=True)):
        first, *others = cells[at]
        first.imshow(image)
        first.set_title(safe_text(title), fontsize=11)
        for axes, key in zip(others, keys, strict=True):
            _overlay(axes, image, maps[at][key])
            axes.set_title(safe_text(str(key)) if at < across else "", fontsize=11)
        for axes in cells[at]:
            draw_boxes(axes, boxes[at] if len(boxes) else ())
    for axes in places.flat:
        axes.axis("off")
    plt.close(figure)
    return figure


def main_keys(maps: Mapping[Key, Tensor]) -> list[Key]:
    """The maps worth a picture: "weighted" layer by layer where there is one, and Grad-CAM over all layers."""
    weighted = [key for key in maps if key.method == "weighted" and key.layer != "all"]
    return weighted + [key for key in overall(maps) if key.method == "grad-cam"]


def examples(shown: Sequence[Example], subject: ModelOnSplit) -> Figure:
    """A row per example: the image with the label's boxes and probability, then its maps (`grid`)."""
    titles = [f"{subject.labels[one.label]}: {one.probability:.2f}\n({MARKS[one.target]})" for one in shown]
    images = [subject.picture(one.row) for one in shown]
    figure = grid(images, titles, [one.maps for one in shown], [one.boxes for one in shown])
    right = [(one.probability >= 0.5) == (one.target == 1) for one in shown if one.target]
    recognised = f"{sum(right)} of {len(right)} labels recognised" if right else "What these images show is not public"
    figure.suptitle(f"{recognised}; where each map looks for them")
    return figure


def examples_finding(shown: Sequence[Example], subject: ModelOnSplit) -> str:
    """In a sentence: how much of each method's map lies in the boxes of the label, beside the share that boxes take."""
    masks = {(one.row, boxed.label): boxed.mask for one in shown for boxed in boxed_labels(subject.split, one.row)}
    pairs = [(one.maps, masks[one.row, one.label]) for one in shown if (one.row, one.label) in masks]
    if not pairs:
        return "There are no boxes of these labels, so their maps are not scored."
    area = np.mean([float(mask.float().mean()) for _, mask in pairs])
    inside = {key: np.mean([float((maps[key] * mask).sum()) for maps, mask in pairs]) for key in overall(pairs[0][0])}
    methods = ", ".join(f"{key.method} {100 * share:.0f} %" for key, share in inside.items())
    return (
        f"In these {len(pairs)} examples the boxes of the label cover {100 * area:.0f} % of the picture. Share of each "
        f"map's weight (over all layers) that lies in them: {methods}."
    )


def view(
    image: Image.Image, key: Key, map: Tensor, labels: Sequence[str], label: int, probabilities: np.ndarray,
    targets: np.ndarray | None = None, boxes: np.ndarray = (),
) -> Figure:  # fmt: skip
    """One image for the explorer: with the label's boxes, under a map, and its eight likeliest labels (blue: present).

    probabilities [C]; targets int8 [C] or None where unknown; boxes [K, 4] in pixels.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.9), layout="constrained")
    left.imshow(image)
    _overlay(middle, image, map)
    for axes in (left, middle):
        draw_boxes(axes, boxes)
        axes.axis("off")
    present = np.zeros(len(labels), bool) if targets is None else targets == 1
    _top_labels(right, probabilities, labels, present)
    right.set(xlim=(0, 1), xlabel="probability")
    mark = "" if targets is None else f" ({MARKS[int(targets[label])]})"
    left.set_title(safe_text(f"{labels[label]}{mark}: {probabilities[label]:.2f}"))
    middle.set_title(str(key))
    plt.close(figure)
    return figure


def bars(subject: ModelOnSplit, rows: Sequence[int]) -> Figure:
    """Images with their eight highest logits (for DSDL its coefficients); blue are labels that the image shows."""
    look = {"figsize": (3 * len(rows), 5.4), "height_ratios": (1, 1.1), "layout": "constrained"}
    figure, places = plt.subplots(2, len(rows), squeeze=False, **look)
    scores, present = logits(subject.model, subject.layer_maps(rows)), subject.split.targets[list(rows)] == 1
    right = 0
    for (above, below), row, score, shown in zip(places.T, rows, scores, present, strict=True):
        above.imshow(subject.picture(row))
        above.axis("off")
        _top_labels(below, score, subject.labels, shown, fontsize=11)
        below.axvline(0, color="0.3", lw=1)
        below.set_xlabel("logit (0: probability 0.5)")
        right += shown[np.argsort(-score, kind="stable")[: shown.sum()]].sum()
    text = f"{right} of the {present.sum()} labels (blue) rank first: the top k of an image with k labels"
    figure.suptitle(text if present.any() else "The highest scores of images whose labels are not public")
    return figure


def bars_finding(subject: ModelOnSplit, rows: Sequence[int]) -> str:
    """In a sentence: the surest wrong label of these images, and the label that they show and that is least sure."""
    scores, targets = logits(subject.model, subject.layer_maps(rows)), subject.split.targets[list(rows)]
    parts = []
    for mark, what, end, pick in ((-1, "absent", "highest", np.argmax), (1, "present", "lowest", np.argmin)):
        places = np.argwhere(targets == mark)
        if len(places):
            row, label = places[pick(scores[targets == mark])]
            claim = "predicted" if scores[row, label] >= 0 else "not predicted"
            score = f"{written(scores[row, label], '+.1f')}, {claim}"
            parts.append(f"Of the {what} labels {subject.labels[label]} has the {end} logit ({score}).")
    return " ".join(parts) or "What these images show is not public."


def groups(subject: ModelOnSplit, rows: Sequence[int], learnt: Learnt) -> Figure | None:
    """Images under the mean map over all layers of each group of labels; None for a model without groups.

    The title says by how much the two groups that differ most correlate.
    """
    if learnt.group is None:
        return None
    maps, layers = {}, subject.layer_maps(rows)
    for number in range(learnt.shares.shape[1]):
        members = [subject.labels[label] for label in learnt.members(number)]
        names = ", ".join(members[:2]) + ", ..." * (len(members) > 2) or "no label's first"
        any_label = [[0]] * len(rows)  # a mean map is no label's
        of_group = explain(subject.model, layers, any_label, subject.transform.size, number)
        (key,) = (key for key in overall(of_group) if key.method == "mean")
        maps[Key(f"group {number}\n{names}", "")] = of_group[key][:, 0]
    by_image = [{key: map[at] for key, map in maps.items()} for at in range(len(rows))]
    shown = [[subject.labels[label] for label in np.flatnonzero(subject.split.targets[row] == 1)] for row in rows]
    titles = [", ".join(labels[:2]) + (",\n" + ", ".join(labels[2:4]) if labels[2:] else "") for labels in shown]
    figure = grid([subject.picture(row) for row in rows], titles, by_image, keys=list(maps))
    if len(maps) > 1:
        alike = np.mean([np.corrcoef([map.numpy().ravel() for map in one.values()]).min() for one in by_image])
        figure.suptitle(f"The two groups' maps of an image that differ most correlate by {alike:+.2f} (mean of these)")
    return figure


def _top_labels(
    axes: Axes, scores: np.ndarray, labels: Sequence[str], present: np.ndarray, fontsize: float | None = None
) -> None:
    """Bars of the eight highest scores, the highest above; blue are the labels `present`, bool [C]."""
    top = np.argsort(-scores, kind="stable")[:8][::-1]
    axes.barh(range(len(top)), scores[top], color=[COLOURS[0] if present[label] else "0.8" for label in top])
    axes.set_yticks(range(len(top)), [safe_text(labels[label]) for label in top], fontsize=fontsize)
    sns.despine(ax=axes)


def _overlay(axes: Axes, image: Image.Image, map: Tensor) -> None:
    grey = np.asarray(image.convert("L"))
    axes.imshow(grey, cmap="gray", vmin=-80, vmax=330)
    extent = (-0.5, grey.shape[1] - 0.5, grey.shape[0] - 0.5, -0.5)
    axes.imshow(map.numpy(), cmap="viridis", alpha=0.5, extent=extent, interpolation="bilinear")
