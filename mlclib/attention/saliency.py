"""Where a model looks for a label, and whether that is where the label's things are.

Maps come by method. Some models have attention of their own, which their files explain (`own_maps`): MSRN's is "mean"
and "weighted". "grad-cam" suits every model and is the neutral one: ReLU(sum_c a_c A_c) with a_c the mean of
d logit / d A_c over the locations of a layer's map A (Selvaraju et al., ICCV 2017). "centre" and "random" are
baselines.

A map is a distribution: float32 [GRID, GRID] over the whole image, upsampled bilinearly, not negative, of sum 1 (the
uniform one where Grad-CAM is zero everywhere). Layer "all" is the mean of the layers' distributions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb
from mlclib.models.base import Classifier
from mlclib.training.inputs import Images, Maps
from mlclib.transforms import Transform

GRID = 112  # cells a side of every map: twice the 56 of the finest layer (stride 8) at 448 px
BASELINES = ("centre", "random")


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
        found[Key("grad-cam", str(layer))] = _grad_cam(map, gradient), model.backbone.strides[layer]
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
        by_share = sorted(boxed(split, row), key=lambda one: one[2])
        likeliest = [int(label) for label in present[np.argsort(-probabilities.numpy()[present], kind="stable")]]
        ends = [by_share[0][1], by_share[-1][1]] if by_share else likeliest[:2]
        for label in dict.fromkeys(wanted or ends):
            maps = {**explain(subject.model, seen, [label], subject.transform.size), **baselines([row], [label])}
            own, target = boxes[boxes[:, 0] == label, 1:], int(split.targets[row, label])
            found.append(
                Example(row, label, float(probabilities[label]), target, own, {k: m[0] for k, m in maps.items()})
            )
    return found


def overall(keys: Iterable[Key]) -> list[Key]:
    """Of maps in their order, each method's last: that over all its layers, where it has several."""
    return list({key.method: key for key in keys}.values())


def chosen(names: str, labels: Sequence[str]) -> list[int]:
    """The columns of the labels named in `names`, with commas between. Raises UserError for an unknown label."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in labels:
            raise unknown("label", name, labels)
    return [list(labels).index(name) for name in wanted]


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


def boxed(split: Split, row: int) -> list[tuple[int, int, float, Tensor]]:
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
