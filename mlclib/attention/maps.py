"""Attention maps: where a model looks for a label.

Maps come by method. Some models have attention of their own, which their files explain (`own_maps`): MSRN's is "mean"
and "weighted". "grad-cam" suits every model and is the neutral one: ReLU(sum_c a_c A_c) with a_c the mean of
d logit / d A_c over the locations of a layer's map A (Selvaraju et al., ICCV 2017). Baselines: "centre", "random".

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

from mlclib.common.errors import UserError, check_name
from mlclib.datasets.base import Split
from mlclib.datasets.images import open_rgb, size_of
from mlclib.models.base import Classifier
from mlclib.training.inputs import Images, Maps
from mlclib.transforms import Transform

GRID = 112  # cells per side of every map: twice the 56 of the finest layer (stride 8) at 448 px
BASELINES = ("centre", "random")


class Key(NamedTuple):
    """Which map: a method, and a layer ("2", "3", "4", "all") or "" for a baseline."""

    method: str
    layer: str

    def __str__(self) -> str:
        if not self.layer:
            return self.method
        return f"{self.method}, " + ("all layers" if self.layer == "all" else f"layer {self.layer}")


class ModelOnSplit(NamedTuple):
    """A model, and the split that it looks at: as images for the reader, and as inputs for the model."""

    model: Classifier
    transform: Transform
    inputs: Images | Maps
    split: Split
    labels: Sequence[str]

    def picture(self, row: int) -> Image.Image:
        """The image of this row, as a reader sees it."""
        return open_rgb(self.split.paths[row])

    def layer_maps(self, rows: Sequence[int]) -> dict[int, Tensor]:
        """The layer maps of these images, {layer: [B, C, h, w]}."""
        return layer_maps(self.model, self.inputs.__getitems__([(0, int(row)) for row in rows])[0])


class Example(NamedTuple):
    """A label in an image: its probability, target (1 present, 0 unknown, -1), boxes [K, 4] and maps [GRID, GRID]."""

    row: int
    label: int
    probability: float
    target: int
    boxes: np.ndarray
    maps: dict[Key, Tensor]


class BoxedLabel(NamedTuple):
    """A label with boxes in an image: the side share of its largest box, and the cells [GRID, GRID] inside any."""

    label: int
    share: float
    mask: Tensor


def layer_maps(model: Classifier, inputs: Tensor | Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The layer maps of images [B, 3, H, W]; inputs that are cached maps as they are."""
    with torch.no_grad():
        return model.backbone(inputs) if isinstance(inputs, Tensor) else inputs


def logits(model: Classifier, maps: Mapping[int, Tensor]) -> np.ndarray:
    """Logits, float32 [B, C], of layer maps."""
    with torch.no_grad():
        return model.classify(maps).logits.numpy()


def probabilities(model: Classifier, maps: Mapping[int, Tensor]) -> np.ndarray:
    """The probability of each label, float32 [B, C], of layer maps."""
    return torch.from_numpy(logits(model, maps)).sigmoid().numpy()


def explain(
    model: Classifier, maps: dict[int, Tensor], labels: Sequence[list[int]], input_size: int, group: int | None = None
) -> dict[Key, Tensor]:
    """Every map of K labels of each image: {key: float32 [B, K, GRID, GRID]}.

    maps: of B images of side `input_size`, as `layer_maps` gives them. labels: indices [B, K]. With `group`, the
    model's own maps are those of that group, "weighted" by how it moves the label's logit. Raises UserError for a
    group that the model does not have.
    """
    maps = {layer: maps[layer].detach().float().requires_grad_() for layer in model.backbone.layers}
    by_label = []
    with torch.enable_grad():
        output = model.classify(maps)
        for column in torch.as_tensor(labels).T:
            chosen = output.logits.gather(1, column[:, None]).sum()
            gradients = torch.autograd.grad(chosen, list(maps.values()), retain_graph=True)
            coarse = dict(model.own_maps(maps, output, column, group))
            for (layer, map), gradient in zip(maps.items(), gradients, strict=True):
                weights = gradient.mean((2, 3), keepdim=True)
                coarse["grad-cam", str(layer)] = F.relu((weights * map.detach()).sum(1)), model.backbone.strides[layer]
            by_label.append({Key(*key): _on_image(map, cell / input_size) for key, (map, cell) in coarse.items()})
    return _with_all({key: torch.stack([maps[key] for maps in by_label], 1) for key in by_label[0]})


def baselines(rows: Sequence[int], labels: Sequence[Sequence[int]]) -> dict[Key, Tensor]:
    """Maps that saw no image: {key: float32 [B, K, GRID, GRID]}. rows: B images. labels: K labels of each.

    "centre" is a Gaussian of deviation 1/4 side (the centre baseline of Choe et al., CVPR 2020), "random" 7 x 7 uniform
    values from (row, label), upsampled.
    """
    offset = (torch.arange(GRID) + 0.5) / GRID - 0.5
    bell = torch.exp(-(offset**2) / (2 * 0.25**2))
    pairs = [(int(row), int(label)) for row, columns in zip(rows, labels, strict=True) for label in columns]
    draws = np.stack([np.random.default_rng(pair).random((7, 7)) for pair in pairs])
    random = _on_image(torch.from_numpy(draws).float(), 1 / 7).unflatten(0, (len(rows), -1))
    return {Key("centre", ""): _distribution((bell[:, None] * bell)[None]).expand_as(random), Key("random", ""): random}


def examples(subject: ModelOnSplit, rows: Sequence[int], wanted: Sequence[int] = ()) -> list[Example]:
    """Images to look at, each with the labels `wanted` or, without any, with its smallest and its largest thing.

    Where no boxes are known it is the two likeliest of the labels that the image shows, or of all where it shows none.
    Raises UserError for a row that the split does not have.
    """
    shown, split = [], subject.split
    for row in rows:
        if not 0 <= row < len(split):
            raise UserError(f"there is no image {row}: the split has {len(split)} images, counted from 0")
        seen = subject.layer_maps([row])
        likely = probabilities(subject.model, seen)[0]
        by_size = [one.label for one in sorted(boxed_labels(split, row), key=lambda one: one.share)]
        present = np.flatnonzero(split.targets[row] == 1).tolist() or range(len(likely))  # all where none is known
        by_score = sorted(present, key=lambda label: -likely[label])
        labels = list(dict.fromkeys(wanted or by_size[:1] + by_size[-1:] or by_score[:2]))
        maps = explain(subject.model, seen, [labels], subject.transform.size) | baselines([row], [labels])
        for at, label in enumerate(labels):
            target, of_label = int(split.targets[row, label]), {key: map[0, at] for key, map in maps.items()}
            shown.append(Example(row, label, float(likely[label]), target, boxes_of(split, row, label), of_label))
    return shown


def overall(keys: Iterable[Key]) -> list[Key]:
    """One key per method: its map over all layers if there are several, else its only map."""
    return list({key.method: key for key in keys}.values())


def label_columns(names: str, labels: Sequence[str]) -> list[int]:
    """The columns of the labels named in `names`, with commas between. Raises UserError for an unknown label."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        check_name("label", name, labels)
    return [list(labels).index(name) for name in wanted]


def boxes_of(split: Split, row: int, label: int) -> np.ndarray:
    """The boxes [K, 4] of one label in image `row`, in pixels; none where the split has no boxes."""
    boxes = split.boxes[row] if split.boxes is not None else np.empty((0, 5), np.float32)
    return boxes[boxes[:, 0] == label, 1:]


def boxed_labels(split: Split, row: int) -> list[BoxedLabel]:
    """Each label with boxes in image `row`, by label."""
    if split.boxes is None or not len(split.boxes[row]):
        return []
    scale = np.tile(size_of(split.paths[row]), 2)
    labels = []
    for label in np.unique(split.boxes[row][:, 0]).astype(int):
        boxes = boxes_of(split, row, label) / scale
        mask = torch.zeros(GRID, GRID, dtype=torch.bool)
        for left, top, right, bottom in np.round(boxes * GRID).astype(int):
            left, top = min(left, GRID - 1), min(top, GRID - 1)  # a box smaller than a cell fills one
            mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        labels.append(BoxedLabel(int(label), float(np.sqrt(areas.max())), mask))
    return labels


def _on_image(map: Tensor, cell: float) -> Tensor:
    """A map [B, h, w], whose cells are `cell` of the image's side, as distributions [B, GRID, GRID] over the image.

    What its cells do not reach (pooling drops an odd last row and column) is 0; what lies beyond the image is cut.
    """
    size = [max(1, round(side * cell * GRID)) for side in map.shape[1:]]
    map = F.interpolate(map.detach().float()[:, None], size=size, mode="bilinear")[:, 0, :GRID, :GRID]
    return _distribution(F.pad(map, (0, GRID - map.shape[2], 0, GRID - map.shape[1])))


def _distribution(map: Tensor) -> Tensor:
    total = map.sum((1, 2), keepdim=True)
    return torch.where(total > 0, map / total.clamp(min=1e-30), 1 / GRID**2)


def _with_all(by_layer: dict[Key, Tensor]) -> dict[Key, Tensor]:
    """The maps in the order of their methods, each method of several layers followed by its mean over them."""
    by_method: dict[Key, Tensor] = {}
    for method in dict.fromkeys(key.method for key in by_layer):
        layers = {key: map for key, map in by_layer.items() if key.method == method}
        mean = {Key(method, "all"): torch.stack(list(layers.values())).mean(0)} if len(layers) > 1 else {}
        by_method |= layers | mean
    return by_method
