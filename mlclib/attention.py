"""Where a model looks for a label, and whether that is where the label's things are.

Maps come by method. Some models have attention of their own, which their files explain (`own_maps`): MSRN's is "mean"
and "weighted". "grad-cam" suits every model and is the neutral one: ReLU(sum_c a_c A_c) with a_c the mean of
d logit / d A_c over the locations of a layer's map A (Selvaraju et al., ICCV 2017). "centre" and "random" are
baselines.

A map is a distribution: float32 [GRID, GRID] over the whole image, upsampled bilinearly, not negative, of sum 1 (the
uniform one where Grad-CAM is zero everywhere). Layer "all" is the mean of the layers' distributions.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.errors import UserError, unknown
from mlclib.inputs import Images, Maps
from mlclib.models.backbones import STRIDES
from mlclib.models.base import Classifier
from mlclib.rendering import Table
from mlclib.transforms import Transform

GRID = 112  # cells a side of every map: finer than the finest layer at 448 px, 28 px of a side of 3,136
BLOCKS = 14  # blocks a side that deletion and insertion hide or show
SIZES = {"small": 0.125, "medium": 0.25, "large": np.inf}  # side share below which a thing is so large
BASELINES = ("centre", "random")
SCORES = ("pointing", "energy", "curve")


class Key(NamedTuple):
    """Which map: a method, and a layer ("2", "3", "4", "all") or "" for a baseline."""

    method: str
    layer: str

    def __str__(self) -> str:
        if not self.layer:
            return self.method
        return f"{self.method}, " + ("all layers" if self.layer == "all" else f"layer {self.layer}")


class Subject(NamedTuple):
    """A model, and the split that it looks at: as images for the reader, and as inputs for the model."""

    model: Classifier
    transform: Transform
    inputs: Images | Maps
    split: Split
    labels: Sequence[str]

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """These images as the model's backbone takes them, float32 [B, 3, S, S]."""
        return torch.stack([self.transform(open_rgb(self.split.paths[row])) for row in rows])

    def maps(self, rows: Sequence[int]) -> dict[int, Tensor]:
        """The layer maps of these images, {layer: [B, C, h, w]}."""
        return layer_maps(self.model, self.inputs.__getitems__([(0, int(row)) for row in rows])[0])


class Example(NamedTuple):
    """One label in one image: its probability, whether it is present (1, 0 unknown, -1), its boxes [K, 4], its maps."""

    row: int
    label: int
    probability: float
    target: int
    boxes: np.ndarray
    maps: dict[Key, Tensor]


def layer_maps(model: Classifier, inputs: Tensor | Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The layer maps that the model classifies, from its cached maps or from images [B, 3, H, W]."""
    if isinstance(inputs, Tensor):
        with torch.no_grad():
            return model.backbone(inputs)
    return {layer: inputs[layer] for layer in model.backbone.layers}


def explain(
    model: Classifier, maps: Mapping[int, Tensor], labels: Sequence[int], input_size: int, group: int | None = None
) -> dict[Key, Tensor]:
    """Every map of one label an image: {key: float32 [B, GRID, GRID]}.

    maps: of B images of side `input_size`, as `layer_maps` gives them; labels: a label's index an image. With `group`,
    the model's own maps are those of that group, "weighted" by how it moves the label's logit.
    Raises UserError for a group that the model does not have.
    """
    maps = {layer: maps[layer].detach().float().requires_grad_() for layer in model.backbone.layers}
    labels = torch.as_tensor(labels)
    with torch.enable_grad():
        output = model.classify(maps)
        chosen = output.logits.gather(1, labels[:, None]).sum()
        gradients = torch.autograd.grad(chosen, list(maps.values()), retain_graph=True)
        own = model.own_maps(maps, output, labels, group)
    found = {Key(*key): (map.float(), cell) for key, (map, cell) in own.items()}
    for (layer, map), gradient in zip(maps.items(), gradients, strict=True):
        found[Key("grad-cam", str(layer))] = _grad_cam(map, gradient), STRIDES[layer]
    by_layer = {key: _on_image(map, cell / input_size) for key, (map, cell) in found.items()}
    return _with_all({key: map.detach() for key, map in by_layer.items()})


def baselines(rows: Sequence[int], labels: Sequence[int]) -> dict[Key, Tensor]:
    """Maps that saw no image: a Gaussian of deviation 1/4 side at the centre (the centre baseline of Choe et al., CVPR
    2020), and 7 x 7 uniform random values from (row, label), upsampled. {key: float32 [B, GRID, GRID]}.
    """
    offset = (torch.arange(GRID) + 0.5) / GRID - 0.5
    bell = torch.exp(-(offset**2) / (2 * 0.25**2))
    draws = [
        np.random.default_rng([int(row), int(label)]).random((7, 7)) for row, label in zip(rows, labels, strict=True)
    ]
    centre = _distribution((bell[:, None] * bell).expand(len(draws), -1, -1))
    return {Key("centre", ""): centre, Key("random", ""): _on_image(torch.tensor(np.array(draws)).float(), 1 / 7)}


def compare(maps: Tensor, masks: Tensor) -> dict[str, np.ndarray]:
    """Scores of maps [M, GRID, GRID] against boolean masks of where the things are: {name: float [M]}, 0 to 1.

    pointing: whether the highest cell lies inside (Zhang et al., IJCV 2018, without their 15 px of tolerance; of cells
    that tie, the share inside). energy: the share of the map inside (Wang et al., Score-CAM, CVPR-W 2020).
    curve: the area under the precision-recall curve of the cells above a threshold, over all thresholds (PxAP of
    Choe et al., CVPR 2020, each map by itself, boxes as masks); a map that says nothing scores the share inside.
    """
    maps, inside = maps.flatten(1), masks.flatten(1)
    highest = maps == maps.amax(1, keepdim=True)
    return {
        "pointing": ((highest & inside).sum(1) / highest.sum(1)).numpy(),
        "energy": ((maps * inside).sum(1) / maps.sum(1)).numpy(),
        "curve": np.array([_curve_area(*one) for one in zip(maps.numpy(), inside.numpy(), strict=True)]),
    }


def examples(subject: Subject, rows: Sequence[int], wanted: Sequence[int] = ()) -> list[Example]:
    """Images to look at, each with the labels `wanted` or, without any, with its smallest and its largest thing.

    Where no boxes are known it is the two likeliest of the labels that the image shows, and of all where that is not
    known or none.
    Raises UserError for a row that the split does not have.
    """
    found, split = [], subject.split
    for row in rows:
        if not 0 <= row < len(split):
            raise UserError(f"there is no image {row}: the split has {len(split)} images, counted from 0")
        seen = subject.maps([row])
        with torch.no_grad():
            probabilities = subject.model.classify(seen).logits[0].sigmoid()
        boxes = split.boxes[row] if split.boxes is not None else np.empty((0, 5), np.float32)
        known = np.flatnonzero(split.targets[row] == 1)
        present = known if len(known) else np.arange(len(subject.labels))  # hidden, or none
        by_share = sorted(_boxed(split, row), key=lambda one: one[2])
        likeliest = [int(label) for label in present[np.argsort(-probabilities.numpy()[present], kind="stable")]]
        ends = [by_share[0][1], by_share[-1][1]] if by_share else likeliest[:2]
        for label in dict.fromkeys(wanted or ends):
            maps = {**explain(subject.model, seen, [label], subject.transform.size), **baselines([row], [label])}
            own, target = boxes[boxes[:, 0] == label, 1:], int(split.targets[row, label])
            found.append(
                Example(row, label, float(probabilities[label]), target, own, {k: m[0] for k, m in maps.items()})
            )
    return found


def localisation(subjects: Mapping[int, Subject], rows: Sequence[int]) -> pd.DataFrame:
    """Every map of every label that an image of `rows` shows, scored against its boxes.

    subjects: the model as each seed trained it, by seed. One row a map, with the columns seed, row, image, label, share
    (of the image's side: the square root of the area of the label's largest box over the image's), size (a key of
    SIZES), method, layer, SCORES, and specific: the curve area less the one that the map of another label shown in the
    same image has in these boxes (NaN where it shows none). A map that is not specific shows where things are,
    not where this label is. Empty where no boxes are known.
    """
    first = next(iter(subjects.values()))
    pairs, frames = [pair for row in rows for pair in _boxed(first.split, row)], []
    for start, end in _whole_images([pair[0] for pair in pairs]):
        places, columns, shares, masks = zip(*pairs[start:end], strict=True)
        about = {
            "row": places,
            "image": [first.split.names[row] for row in places],
            "label": [first.labels[column] for column in columns],
            "share": shares,
        }
        others = [_other(places, one) for one in range(len(places))]
        blind = baselines(places, columns)
        for seed, subject in subjects.items():
            maps = explain(subject.model, subject.maps(places), columns, subject.transform.size) | blind
            for key, map in maps.items():
                scores = compare(map, torch.stack(masks))
                swapped = [
                    np.nan if other is None else _curve_area(map[other].numpy().ravel(), mask.numpy().ravel())
                    for other, mask in zip(others, masks, strict=True)
                ]
                scores["specific"] = scores["curve"] - swapped
                frames.append(pd.DataFrame({"seed": seed, **about, **key._asdict(), **scores}))
    columns = ["seed", "row", "image", "label", "share", "method", "layer", *SCORES, "specific"]
    scores = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    edges = [0, *SIZES.values()]
    scores.insert(5, "size", pd.cut(scores["share"].astype(float), edges, right=False, labels=list(SIZES)))
    return scores


def summary(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean scores of `localisation` by method, layer and the columns `by`, and of how many labels in images."""
    groups = scores.groupby([*by, "method", "layer"], sort=False, observed=True)
    return groups[[*SCORES, "specific"]].mean().assign(count=groups.size()).reset_index()


def faithfulness(subject: Subject, shown: Sequence[Example], steps: int = 7) -> pd.DataFrame:
    """Deletion and insertion curves (Petsiuk et al., RISE, BMVC 2018): does the label's probability follow the map?

    Each method's map over all its layers is tried. BLOCKS x BLOCKS blocks of the picture are taken in the order of the
    map. Deletion paints them in the mean colour: the sooner the probability falls, the better. Insertion shows them in
    a blurred picture: the sooner it rises, the better. One row an example, map, curve and step, with the columns
    example, row, method, layer, curve, share (of the blocks taken) and probability.
    """
    frames = [
        frame.assign(example=number, row=example.row)
        for number, example in enumerate(shown)
        for frame in _curves(subject, example, np.linspace(0, 1, steps + 1))
    ]
    return pd.concat(frames, ignore_index=True)


def _curves(subject: Subject, example: Example, shares: np.ndarray) -> Iterator[pd.DataFrame]:
    """The two curves of each map of one example."""
    picture, side = subject.pictures([example.row]), subject.transform.size
    blurred = vision.gaussian_blur(picture, [2 * (side // 8) + 1] * 2, [side / 24] * 2)
    starts = {"deletion": (picture, torch.zeros_like(picture)), "insertion": (blurred, picture)}
    keys = overall(example.maps)
    maps = torch.stack([example.maps[key] for key in keys])[:, None]
    rank = F.adaptive_avg_pool2d(maps, BLOCKS).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1)
    counts = torch.tensor([round(share * BLOCKS**2) for share in shares])
    taken = (rank[:, None] < counts[1:-1, None]).float().view(-1, 1, BLOCKS, BLOCKS)  # [maps * steps within, ...]
    taken = F.interpolate(taken, size=(side, side), mode="nearest")
    for curve, (start, end) in starts.items():
        versions = torch.cat((start, end, torch.where(taken > 0, end, start)))  # both ends are the same for every map
        versions = versions.contiguous(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        with torch.no_grad():
            found = subject.model(versions).logits.sigmoid()[:, example.label].numpy()
        for key, within in zip(keys, found[2:].reshape(len(keys), -1), strict=True):
            values = [found[0], *within, found[1]]
            yield pd.DataFrame({**key._asdict(), "curve": curve, "share": shares, "probability": values})


def overall(maps: Mapping[Key, Tensor]) -> list[Key]:
    """The one map of each method that speaks for all its layers."""
    return list({key.method: key for key in maps}.values())


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Areas under the curves of `faithfulness`, trapezoids: example, row, method, layer, deletion, insertion."""
    grouped = curves.groupby(["example", "row", "method", "layer", "curve"], sort=False)
    areas = grouped.apply(lambda one: np.trapezoid(one["probability"], one["share"]), include_groups=False)
    return areas.unstack("curve").reset_index()


def tables(scores: pd.DataFrame, name: str, about: str) -> list[Table]:
    """`localisation` as two tables, by size of the things and by label; none where nothing was scored.

    name: the tables' file name; about: a sentence on the model and the images.
    """
    if scores.empty:
        return []
    caption = (
        f"{about} In percent. Pointing: the highest cell lies in a box of the label; energy: share of the map inside; "
        "curve: area under the precision-recall curve of the cells; specific: by how much it exceeds that of the map "
        "of another label which the image shows (0: the map is not the label's). Small things take less than 1/8 of "
        "the image's side (square root of the area), large ones 1/4 or more. Centre and random saw no image."
    )
    by_size = _by_map(scores)
    each = pd.concat([_by_map(one) for _, one in scores.groupby("seed")])
    spread = each.groupby(level=["method", "layer"], sort=False).std().drop(index=list(BASELINES), level=0)
    spread = spread.reindex(by_size.index).reset_index(drop=True)  # none for what saw neither image nor seed
    by_size = by_size.reset_index()
    counts = scores.drop_duplicates(["row", "label"])
    sizes = ", ".join(f"{count} {size}" for size, count in counts["size"].value_counts(sort=False).items())
    last = by_size.groupby("method", sort=False)["layer"].last()
    kept = scores[scores["layer"] == scores["method"].map(last)]
    by_label = summary(kept, ["label"]).pivot(index="label", columns="method", values="curve")[last.index].mul(100)
    by_label = counts.groupby("label", sort=False).agg(things=("row", "size"), share=("share", "mean")).join(by_label)
    by_label = by_label.assign(share=100 * by_label["share"]).sort_values("share", kind="stable").reset_index()
    return [
        Table(
            name=name,
            title=f"Where the maps lie: {len(counts)} labels in {counts['row'].nunique()} images ({sizes})",
            frame=by_size,
            caption=caption,
            spread=spread,
            best=tuple(by_size.columns[2:]),
        ),
        Table(
            name=f"{name}-labels",
            title="Area under the localisation curve by label, smallest things first",
            frame=by_label,
            caption=f"{caption} share: mean share of the side. Maps of several layers are the mean over them.",
            formats={"things": ".0f"},
            best=tuple(last.index),
            across=True,
        ),
    ]


def embeddings(model: Classifier) -> tuple[np.ndarray | None, np.ndarray]:
    """The labels' vectors before training [C, V] (None for a model that starts without) and as learnt [C, D]."""
    with torch.no_grad():
        before, after = model.embeddings()
    return None if before is None else before.detach().numpy(), after.detach().numpy()


def similarity(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity [C, C] of the rows of `vectors`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit @ unit.T


def nearest(vectors: np.ndarray, labels: Sequence[str], count: int = 3) -> list[str]:
    """For each label the `count` labels of highest cosine similarity, with the similarity in brackets."""
    values = similarity(vectors) - 3 * np.eye(len(labels))
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return [", ".join(f"{labels[j]} ({values[i, j]:.2f})" for j in row) for i, row in enumerate(order)]


def assignment(model: Classifier) -> np.ndarray:
    """The soft assignment of labels to groups [C, G]; G is 0 for a model without groups."""
    with torch.no_grad():
        return model.assignment().numpy()


def learnt(subject: Subject, name: str) -> list[Table]:
    """What the model has learnt of the labels as tables: each label's nearest, and MSRN's groups where there are any.

    name: the first table's file name; the second's is <name>-groups.
    """
    before, after = embeddings(subject.model)
    frame = pd.DataFrame({"label": list(subject.labels), "nearest as learnt": nearest(after, subject.labels)})
    if before is not None:
        frame.insert(1, "nearest before", nearest(before, subject.labels))
    found = [Table(name, "Each label's nearest labels", frame, "In brackets the cosine similarity of their vectors.")]
    shares = assignment(subject.model)
    rows = []
    for group in range(shares.shape[1]):
        members = [i for i in np.argsort(-shares[:, group], kind="stable") if shares[i].argmax() == group]
        rows.append((str(group), ", ".join(f"{subject.labels[i]} ({shares[i, group]:.2f})" for i in members) or "none"))
    if rows:
        frame = pd.DataFrame(rows, columns=["group", "members"])
        caption = "A label stands with the group it belongs to most, in brackets its share in it."
        found.append(Table(f"{name}-groups", "The groups that the model has made of the labels", frame, caption))
    return found


def chosen(names: str, labels: Sequence[str]) -> list[int]:
    """The columns of the labels named in `names`, with commas between. Raises UserError for an unknown label."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in labels:
            raise unknown("label", name, labels)
    return [list(labels).index(name) for name in wanted]


def _by_map(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores in percent, a row (method, layer); the curve area by size of the things too."""
    by_size = summary(scores, ["size"]).pivot(index=["method", "layer"], columns="size", values="curve")
    every = summary(scores).set_index(["method", "layer"])[[*SCORES, "specific"]]
    return 100 * every.join(by_size.add_prefix("curve, "))


def _curve_area(map: np.ndarray, inside: np.ndarray) -> float:
    """Mean over the cells inside of the precision of all cells no lower: average precision, ties together."""
    every, hits = np.sort(map), np.sort(map[inside])
    return float(np.mean((len(hits) - np.searchsorted(hits, hits)) / (len(every) - np.searchsorted(every, hits))))


def _grad_cam(map: Tensor, gradient: Tensor) -> Tensor:
    return F.relu((gradient.mean((2, 3), keepdim=True) * map).sum(1))


def _on_image(map: Tensor, cell: float) -> Tensor:
    """A map [B, h, w], whose cells are `cell` of the image's side, as distributions [B, GRID, GRID] over the image.

    What its cells do not reach (pooling drops an odd last row and column) is 0; what lies beyond the image is cut.
    """
    size = [max(1, round(side * cell * GRID)) for side in map.shape[1:]]
    reached = F.interpolate(map[:, None], size=size, mode="bilinear", align_corners=False)[:, 0, :GRID, :GRID]
    return _distribution(F.pad(reached, (0, GRID - reached.shape[2], 0, GRID - reached.shape[1])))


def _distribution(map: Tensor) -> Tensor:
    total = map.sum((1, 2), keepdim=True)
    return torch.where(total > 0, map / total.clamp(min=1e-30), 1 / GRID**2)


def _with_all(by_layer: dict[Key, Tensor]) -> dict[Key, Tensor]:
    """The maps in the order of their methods, each method of several layers followed by its mean over them."""
    result: dict[Key, Tensor] = {}
    for method in dict.fromkeys(key.method for key in by_layer):
        layers = {key: map for key, map in by_layer.items() if key.method == method}
        result |= layers
        if len(layers) > 1:
            result[Key(method, "all")] = torch.stack(list(layers.values())).mean(0)
    return result


def _whole_images(rows: Sequence[int], size: int = 32) -> list[tuple[int, int]]:
    """Where batches of about `size` begin and end, so that what is of one image, side by side, stays together."""
    found, start = [], 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or (at - start >= size and rows[at] != rows[at - 1]):
            found.append((start, at))
            start = at
    return found


def _other(rows: Sequence[int], one: int) -> int | None:
    """The next place (then from the start again) that has the same row as place `one`; None where there is none."""
    turned = [*range(one + 1, len(rows)), *range(one)]
    return next((other for other in turned if rows[other] == rows[one]), None)


def _boxed(split: Split, row: int) -> list[tuple[int, int, float, Tensor]]:
    """(row, label, side share of its largest box, mask bool [GRID, GRID]) of each label with boxes in image `row`."""
    if split.boxes is None or not len(split.boxes[row]):
        return []
    with Image.open(split.paths[row]) as image:
        scale = np.tile(image.size, 2)
    found = []
    for label in np.unique(split.boxes[row][:, 0]).astype(int):
        boxes = split.boxes[row][split.boxes[row][:, 0] == label, 1:] / scale
        mask = torch.zeros(GRID, GRID, dtype=torch.bool)
        for left, top, right, bottom in np.round(boxes * GRID).astype(int):
            left, top = min(left, GRID - 1), min(top, GRID - 1)  # a box smaller than a cell fills one
            mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        found.append((row, int(label), float(np.sqrt(areas.max())), mask))
    return found
