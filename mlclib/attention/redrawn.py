"""Test images without one of their labels: scenes are drawn again, in photographs the label's boxes are filled in."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from mlclib.attention.imputation import impute
from mlclib.attention.maps import boxes_of
from mlclib.common.errors import UserError
from mlclib.datasets import scenes
from mlclib.datasets.images import open_rgb, size_of
from mlclib.runs.study import Study

TEST = scenes.SPLITS.index("test")
LARGEST = 0.5  # share of a photograph beyond which too little is left to fill a hole from


class Version(NamedTuple):
    """A picture, and the boxes (left, top, right, bottom) in it by label."""

    picture: Image.Image
    boxes: dict[str, list]


def is_synthetic(study: Study) -> bool:
    """Whether the study's pictures are drawn again; else boxes are filled. Raises UserError where neither can be."""
    test = study.dataset.splits["test"]
    if study.dataset.name != "scenes" and test.boxes is None:
        name = study.dataset.name
        raise UserError(f"`causes` needs scenes, or photographs with boxes, and {name} has none: leave `causes` out")
    return study.dataset.name == "scenes"


def seed(study: Study) -> int:
    """The seed that the study's scenes are drawn with."""
    return int(study.experiment.dataset.get("seed", 0))


def removable(study: Study, row: int) -> list[str]:
    """The labels, difficult ones aside, that test image `row` can be shown without, by name."""
    split, labels = study.dataset.splits["test"], study.dataset.labels
    shown = np.flatnonzero(split.targets[row] == 1)
    if not is_synthetic(study):
        size = size_of(split.paths[row])
        shown = [label for label in shown if 0 < _mask(size, boxes_of(split, row, label)).mean() <= LARGEST]
    return sorted(labels[label] for label in shown)


def versions(study: Study, row: int, without: Sequence[str] = ()) -> list[Version]:
    """Test image `row` as it is, then without each of these labels.

    A scene is drawn again by the same random draws, less the label's things and their shadows. In a photograph the
    label's boxes are filled in, and other labels whose boxes they meet are named no more; difficult things, which have
    no boxes, stay.
    """
    if is_synthetic(study):
        drawn = scenes.draw_versions(seed(study), TEST, row, ["", *without])
        boxes = [_by_label([(box["label"], box["box"]) for box in about["boxes"]]) for _, about in drawn]
        return [Version(picture, own) for (picture, _), own in zip(drawn, boxes, strict=True)]
    split, labels = study.dataset.splits["test"], study.dataset.labels
    picture = open_rgb(split.paths[row])
    pixels = vision.to_dtype(vision.to_image(picture), torch.float32, scale=True)
    boxes = _by_label([(labels[int(label)], box) for label, *box in split.boxes[row].tolist()])
    every = [Version(picture, boxes)]
    for label in without:
        hole = _mask(picture.size, boxes[label])
        apart = {other: own for other, own in boxes.items() if not (hole & _mask(picture.size, own)).any()}
        every.append(Version(vision.to_pil_image(impute(pixels, torch.from_numpy(hole)).clamp(0, 1)), apart))
    return every


def _by_label(boxes: Sequence[tuple[str, list]]) -> dict[str, list]:
    return {label: [box for other, box in boxes if other == label] for label, _ in boxes}


def _mask(size: tuple[int, int], boxes: Sequence) -> np.ndarray:
    """Where the boxes are, bool [H, W]. size: (W, H)."""
    mask = np.zeros(size[::-1], dtype=bool)
    for left, top, right, bottom in np.asarray(boxes, dtype=float).round().astype(int):
        mask[top:bottom, left:right] = True
    return mask
