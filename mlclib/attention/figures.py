"""Figures of images and maps over them (04_attention). Each function draws one and returns it, unwritten."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mlclib.attention import evaluation, learnt, saliency
from mlclib.attention.saliency import Example, Key, Subject
from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.metrics import resampling as significance
from mlclib.results.style import COLOURS, draw_boxes, text_figure
from mlclib.results.table import written

SCORES = {"pointing": "pointing game", "energy": "energy inside", "curve": "curve area"}


def grid(
    images: Sequence[Image.Image],
    titles: Sequence[str],
    maps: Sequence[Mapping[Key, Tensor]],
    boxes: Sequence[np.ndarray] = (),
    keys: Sequence[Key] = (),
) -> Figure:
    """Each input, then the map of each key over the greyed image, all with the boxes [K, 4] in pixels.

    titles: what each image is about, in a line or two. maps: {key: [GRID, GRID]}; keys: which of them (default:
    `main_keys`). Yellow is where the map is highest, each map on a scale of its own.
    """
    keys = list(keys) or main_keys(maps[0])
    width = 1 + len(keys)
    across = min(len(images), max(1, 6 // width))
    rows = -(-len(images) // across)
    figure, places = plt.subplots(
        rows, across * width, figsize=(2.3 * across * width, 2.55 * rows), squeeze=False, layout="constrained"
    )
    cells = places.reshape(rows * across, width)
    for at, (image, title, shown) in enumerate(zip(images, titles, maps, strict=True)):
        first, *others = cells[at]
        first.imshow(image)
        first.set_title(title, fontsize=11)
        for axes, key in zip(others, keys, strict=True):
            _overlay(axes, image, shown[key])
            axes.set_title(str(key) if at < across else "", fontsize=11)
        for axes in cells[at]:
            draw_boxes(axes, boxes[at] if len(boxes) else ())
    for axes in places.flat:
        axes.axis("off")
    plt.close(figure)
    return figure


def examples(shown: Sequence[Example], split: Split, labels: Sequence[str], keys: Sequence[Key] = ()) -> Figure:
    """A row an example: the image with the label's boxes and probability, then its maps (`grid`)."""
    said = {1: "present", 0: "unknown", -1: "absent"}
    titles = [f"{labels[one.label]}: {one.probability:.2f}\n({said[one.target]})" for one in shown]
    pictures = [open_rgb(split.paths[one.row]) for one in shown]
    figure = grid(pictures, titles, [one.maps for one in shown], [one.boxes for one in shown], keys)
    known = [one for one in shown if one.target]
    right = sum((one.probability >= 0.5) == (one.target == 1) for one in known)
    told = f"{right} of {len(known)} labels recognised" if known else "What these images show is not public"
    figure.suptitle(f"{told}; where each map looks for them")
    return figure


def examples_finding(shown: Sequence[Example], split: Split) -> str:
    """In a sentence: how much of each method's map lies in the boxes of the label, beside the share that boxes take."""
    inside, area = [], []
    for one in shown:
        masks = [mask for _, label, _, mask in saliency.boxed(split, one.row) if label == one.label]
        for mask in masks:
            area.append(float(mask.float().mean()))
            inside.append({key.method: float((one.maps[key] * mask).sum()) for key in saliency.overall(one.maps)})
    if not inside:
        return "No boxes are known of these labels: their maps can be looked at, and not scored."
    named = ", ".join(f"{method} {100 * share:.0f} %" for method, share in pd.DataFrame(inside).mean().items())
    return (
        f"In these {len(inside)} examples the boxes take {100 * np.mean(area):.0f} % of the picture; of the maps over "
        f"all layers there lie in them: {named}."
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
    draw_boxes(left, boxes)
    _overlay(middle, image, map)
    draw_boxes(middle, boxes)
    middle.set_title(str(key))
    for axes in (left, middle):
        axes.axis("off")
    top = np.argsort(-probabilities, kind="stable")[: min(8, len(labels))][::-1]
    present = [targets is not None and targets[c] == 1 for c in top]
    right.barh(range(len(top)), probabilities[top], color=[COLOURS[0] if blue else "0.8" for blue in present])
    right.set_yticks(range(len(top)), [labels[c] for c in top])
    right.set(xlim=(0, 1), xlabel="probability")
    sns.despine(ax=right)
    said = "" if targets is None else {1: " (present)", 0: " (unknown)", -1: " (absent)"}[int(targets[label])]
    left.set_title(f"{labels[label]}{said}: {probabilities[label]:.2f}")
    plt.close(figure)
    return figure


def main_keys(maps: Mapping[Key, Tensor]) -> list[Key]:
    """The maps worth a picture: "weighted" layer by layer where there is one, and Grad-CAM over all layers."""
    return [key for key in maps if key.method == "weighted" and key.layer != "all"] + [
        [key for key in maps if key.method == "grad-cam"][-1]
    ]


def bars(subject: Subject, rows: Sequence[int]) -> Figure:
    """Images with their eight highest logits (for DSDL its coefficients); blue are labels that the image shows."""
    figure, places = plt.subplots(
        2, len(rows), figsize=(3 * len(rows), 5.4), squeeze=False, layout="constrained", height_ratios=(1, 1.1)
    )
    scores = _logits(subject, rows)
    right = total = 0
    for (above, below), row, score in zip(places.T, rows, scores, strict=True):
        above.imshow(open_rgb(subject.split.paths[row]))
        above.axis("off")
        present = subject.split.targets[row] == 1
        order = np.argsort(-score, kind="stable")
        top = order[: min(8, len(order))][::-1]
        below.barh(range(len(top)), score[top], color=[COLOURS[0] if present[c] else "0.8" for c in top])
        below.set_yticks(range(len(top)), [subject.labels[c] for c in top], fontsize=11)
        below.axvline(0, color="0.3", lw=1)
        below.set_xlabel("logit (present from 0)")
        sns.despine(ax=below)
        right, total = right + int(present[order[: present.sum()]].sum()), total + int(present.sum())
    told = f"{right} of the {total} labels shown (blue) are among their image's highest scores"
    figure.suptitle(told if total else "The highest scores of images whose labels are not public")
    plt.close(figure)
    return figure


def bars_finding(subject: Subject, rows: Sequence[int]) -> str:
    """In a sentence: the surest wrong label of these images, and the label that they show and that is least sure."""
    scores, targets = _logits(subject, rows), subject.split.targets[list(rows)]
    told = []
    absent = (targets == -1, "absent and likeliest", np.argmax)
    for which, what, pick in (absent, (targets == 1, "present and least likely", np.argmin)):
        if which.any():
            row, label = np.argwhere(which)[pick(scores[which])]
            claim = "claimed" if scores[row, label] >= 0 else "not claimed"
            told.append(f"{what} is {subject.labels[label]} (logit {written(scores[row, label], '+.1f')}, {claim})")
    return f"In these images {'; '.join(told)}." if told else "What these images show is not public."


def localisation(scores: pd.DataFrame) -> Figure:
    """Mean scores of `evaluation.localisation` by the size of the things: a column a method, a line a layer.

    Bars are 95 % intervals over images and seeds; grey lines are the centre and the random map.
    """
    if scores.empty:
        return text_figure("No boxes are known here, so the maps are shown and not scored")
    methods = [method for method in dict.fromkeys(scores["method"]) if method not in saliency.BASELINES]
    names = {"2": COLOURS[0], "3": COLOURS[1], "4": COLOURS[2], "all": "black"}
    figure, places = plt.subplots(
        len(SCORES), len(methods), figsize=(3 + 2.9 * len(methods), 8), squeeze=False, sharey="row", sharex=True,
        layout="constrained",
    )  # fmt: skip
    sizes = [size for size in evaluation.SIZES if (scores["size"] == size).any()]
    for column, method in enumerate(methods):
        for axes, score in zip(places[:, column], SCORES, strict=True):
            for baseline, style in zip(saliency.BASELINES, ("--", ":"), strict=True):
                means = scores[scores["method"] == baseline].groupby("size", observed=True)[score].mean()
                axes.plot(range(len(sizes)), means[sizes], style, color="0.45", label=baseline, lw=2)
            one = scores[scores["method"] == method]
            for shift, (layer, colour) in enumerate((k, v) for k, v in names.items() if (one["layer"] == k).any()):
                drawn = [_interval(one[(one["layer"] == layer) & (one["size"] == size)], score) for size in sizes]
                mean, low, high = np.array(drawn).T
                where = np.arange(len(sizes)) + 0.06 * (shift - 1.5)
                label = "all layers" if layer == "all" else f"layer {layer}"
                reach = np.clip((mean - low, high - mean), 0, None)  # of few images the mean may lie outside
                axes.errorbar(where, mean, reach, fmt="o-", color=colour, label=label, ms=5, lw=1.8)
            axes.set_xticks(range(len(sizes)), sizes)
            axes.set_xlim(-0.35, len(sizes) - 0.65)
            sns.despine(ax=axes)
        places[0, column].set_title(method)
        places[-1, column].set_xlabel("things")
    for axes, name in zip(places[:, 0], SCORES.values(), strict=True):
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
    handles = {
        label: handle for axes in places[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"{layer_finding(scores)}\n{label_finding(scores)}", fontsize=13)
    plt.close(figure)
    return figure


def localisation_finding(scores: pd.DataFrame) -> str:
    """In a sentence a method: on things of which size its map over all layers lies better than both maps that saw no
    image, by curve area, and whether it is the label's own: the 95 % interval of `specific` lies above 0.
    """
    if scores.empty:
        return "No boxes are known here, so nothing is said of where the maps lie."
    kept = evaluation.over_layers(scores)
    means = kept.groupby(["method", "size"], observed=True)["curve"].mean()
    blind = means.loc[list(saliency.BASELINES)].groupby("size", observed=True).max()
    told = []
    for method, known in kept[~kept["method"].isin(saliency.BASELINES)].groupby("method", sort=False):
        better = [str(size) for size, area in means[method].items() if area > blind[size]]
        where = f"on {' and '.join(better)} things" if better else "on things of no size"
        where = "on things of every size" if len(better) == len(blind) > 1 else where
        shown = known["specific"].notna().any() and _interval(known, "specific")[1] > 0
        own = "is the label's own" if shown else "may be any label's"
        told.append(f"{method} lies better than centre and random {where} and {own}")
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."


def layer_finding(scores: pd.DataFrame) -> str:
    """A sentence a method: in which layer small and large things are found best, by the curve area.

    In brackets that layer's area and that of the better of the two maps that saw no image.
    """
    means = scores.groupby(["size", "method", "layer"], observed=True)["curve"].mean()
    methods, sentences = [m for m in dict.fromkeys(scores["method"]) if m not in ("mean", *saliency.BASELINES)], []
    sizes = means.index.unique("size")
    for method in methods:
        parts = []
        for size in dict.fromkeys((sizes[0], sizes[-1])):
            layers = means[size, method].drop("all", errors="ignore")
            name, blind = max(((name, means[size, name, ""]) for name in saliency.BASELINES), key=lambda one: one[1])
            better = layers.max() > blind
            found = f"best in layer {layers.idxmax()}" if better else f"in no layer better than the {name} map"
            parts.append(f"{size} things {found} ({layers.max():.2f}, {name} {blind:.2f})")
        sentences.append(f"{method.capitalize()} maps find {', '.join(parts)}")
    return "\n".join(sentences)


def label_finding(scores: pd.DataFrame) -> str:
    """In a sentence: how much better a label's own map lies in its boxes than the map of another label shown."""
    own = scores[~scores["method"].isin(saliency.BASELINES)].dropna(subset="specific")
    kept = evaluation.over_layers(own).groupby("method", sort=False)
    said = ", ".join(f"{method} {_said_interval(rows, 'specific')}" for method, rows in kept)
    return f"The label's own map lies better in its boxes than another label's map, by curve area:\n{said}"


def curves(frame: pd.DataFrame) -> Figure:
    """Deletion and insertion curves of `evaluation.faithfulness`, means over the examples, with their areas.

    The title says by how much the best map beats the random one, with its 95 % interval over
    images.
    """
    areas = evaluation.curve_areas(frame)
    means = areas.groupby(["method", "layer"], sort=False)[["deletion", "insertion"]].mean()
    random = areas[areas["method"] == "random"].set_index("example")
    figure, places = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, layout="constrained")
    marks, said = "osD^vP*X", []
    for axes, curve in zip(places, ("deletion", "insertion"), strict=True):
        for at, ((method, layer), area) in enumerate(means[curve].items()):
            rows = frame[(frame["method"] == method) & (frame["layer"] == layer) & (frame["curve"] == curve)]
            mean = rows.groupby("share")["probability"].mean()
            baseline = method in saliency.BASELINES
            axes.plot(
                mean.index, mean, color="0.45" if baseline else COLOURS[at % len(COLOURS)], ls=":" if baseline else "-",
                marker=marks[at % 8], ms=5, label=f"{Key(method, layer)}: {area:.2f}",
            )  # fmt: skip
        own = means[curve].drop(index=list(saliency.BASELINES), level=0)
        better, best = ("lower", own.idxmin()) if curve == "deletion" else ("higher", own.idxmax())
        gain = areas.set_index(["method", "layer"]).loc[[best]].set_index("example")
        gain = gain.assign(**{curve: gain[curve] - random[curve]})
        said.append(
            f"{curve.capitalize()}: {Key(*best)} is {_said_interval(gain, curve)} from random, {better} is better"
        )
        axes.set(xlabel=f"share of the picture {'hidden' if curve == 'deletion' else 'shown'}", ylim=(0, 1))
        axes.set_title(f"{curve} ({better} is better)")
        axes.legend(frameon=False, title="area", fontsize=9)
        sns.despine(ax=axes)
    places[0].set_ylabel("probability of the label")
    figure.suptitle("\n".join(said), fontsize=13)
    plt.close(figure)
    return figure


def curves_finding(frame: pd.DataFrame) -> str:
    """In a sentence: how far the probability falls when the first step of `evaluation.faithfulness` is hidden in the
    order of the best map by the area of deletion, and in random order.
    """
    deletion = frame[frame["curve"] == "deletion"]
    means = deletion.groupby(["method", "layer", "share"], sort=False)["probability"].mean()
    areas = evaluation.curve_areas(frame).groupby(["method", "layer"], sort=False)["deletion"].mean()
    best = areas.drop(index=list(saliency.BASELINES), level=0).idxmin()
    whole, first = sorted(deletion["share"].unique())[:2]
    return (
        f"With {100 * first:.0f} % of the picture hidden in the order of {Key(*best)}, the probability of the label "
        f"falls from {means[(*best, whole)]:.2f} to {means[(*best, first)]:.2f}, in random order to "
        f"{means['random', '', first]:.2f} (means over {frame['example'].nunique()} examples)."
    )


def groups(subject: Subject, rows: Sequence[int]) -> Figure | None:
    """Where the model's groups of labels look: images under each group's mean map over all layers.

    None for a model without groups.
    """
    shares, seen = learnt.assignment(subject.model), subject.maps(rows)
    if not shares.shape[1]:
        return None
    maps, any_label = {}, [0] * len(rows)  # a mean map is no label's
    for number in range(shares.shape[1]):
        members = [subject.labels[i] for i in np.argsort(-shares[:, number]) if shares[i].argmax() == number]
        named = ", ".join(members[:2]) + ", ..." * (len(members) > 2) or "no label's first"
        of_group = saliency.explain(subject.model, seen, any_label, subject.transform.size, number)
        maps[Key(f"group {number}\n{named}", "")] = [map for key, map in of_group.items() if key.method == "mean"][-1]
    by_image = [{key: map[at] for key, map in maps.items()} for at in range(len(rows))]
    shown = [[subject.labels[i] for i in np.flatnonzero(subject.split.targets[row] == 1)] for row in rows]
    titles = [", ".join(labels[:2]) + (",\n" + ", ".join(labels[2:4]) if labels[2:] else "") for labels in shown]
    figure = grid([open_rgb(subject.split.paths[row]) for row in rows], titles, by_image, keys=list(maps))
    if len(maps) > 1:
        alike = np.mean([np.corrcoef([m.numpy().ravel() for m in one.values()]).min() for one in by_image])
        figure.suptitle(f"The two groups' maps of an image that differ most correlate by {alike:+.2f} (mean of these)")
    return figure


def _logits(subject: Subject, rows: Sequence[int]) -> np.ndarray:
    """float32 [B, C] of these images."""
    with torch.no_grad():
        return subject.model.classify(subject.maps(rows)).logits.numpy()


def _interval(rows: pd.DataFrame, score: str) -> tuple[float, float, float]:
    """Mean score of maps and its 95 % interval over images and seeds, those without a score left out."""
    known = rows.dropna(subset=score)
    seeds = known["seed"] if "seed" in known else np.zeros(len(known))
    return significance.of_means(known[score].to_numpy(), known["row"].to_numpy(), np.asarray(seeds))


def _said_interval(rows: pd.DataFrame, score: str) -> str:
    mean, low, high = _interval(rows, score)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _overlay(axes: Axes, image: Image.Image, map: Tensor) -> None:
    grey = np.asarray(image.convert("L"))
    axes.imshow(grey, cmap="gray", vmin=-80, vmax=330)
    extent = (-0.5, grey.shape[1] - 0.5, grey.shape[0] - 0.5, -0.5)
    axes.imshow(map.numpy(), cmap="viridis", alpha=0.5, extent=extent, interpolation="bilinear")
