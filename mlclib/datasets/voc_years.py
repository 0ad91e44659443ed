"""VOC 2007 and VOC 2012 together, as one data set: more photographs of the same twenty things.

VOCdevkit/VOC2007/..., VOCdevkit/VOC2012/...    both in one folder, each as voc.py reads it
"""

from pathlib import Path

import numpy as np

from mlclib.datasets import voc
from mlclib.datasets.base import Dataset, Split
from mlclib.datasets.voc import LABELS

__all__ = ["ARCHIVES", "LABELS", "load"]

ARCHIVES = {"voc2007+2012": tuple(archive for archives in voc.ARCHIVES.values() for archive in archives)}


def load(root: str | Path, *, ids2007: str | None = None, parts2012: str | None = None) -> Dataset:
    """Read both years from `root`, the folder that holds VOCdevkit.

    ids2007: the images of VOC 2007 that are used, as `ids` of voc.load. parts2012: the division of VOC 2012, as
    `parts` there; without it train is trained on and val tested, as the labels of its test images are not public.
    There are boxes where both years have them. Raises UserError as voc.load does.
    """
    older = voc.load(root, year=2007, ids=ids2007)
    newer = (
        voc.load(root, year=2012, parts=parts2012)
        if parts2012
        else voc.load(root, year=2012, train="train", test="val")
    )
    splits = {}
    for key in ("train", "val", "test"):
        halves = [year.splits[key] for year in (older, newer) if key in year.splits]
        if halves:
            splits[key] = _joined(halves)
    return Dataset("voc2007+2012", LABELS, splits, (*older.notes, *newer.notes))


def _joined(halves: list[Split]) -> Split:
    boxes = None
    if all(half.boxes is not None for half in halves):
        boxes = [box for half in halves for box in half.boxes]
    names, paths = ([value for half in halves for value in getattr(half, key)] for key in ("names", "paths"))
    return Split(names, paths, np.concatenate([half.targets for half in halves]), boxes)
