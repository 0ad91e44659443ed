"""Whether a data set is what it says: every image opened, every label looked at.

Problems make training on the set wrong or impossible; warnings are things that someone should know.
"""

import dataclasses
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mlclib.common.errors import UserError
from mlclib.datasets import images
from mlclib.datasets.base import Dataset

SHOWN = 10  # names listed of each kind
_UNUSABLE = ("missing", "unreadable", "wrong size")


@dataclass(frozen=True)
class Report:
    """The result of `verify`. problems, warnings: by kind, the names of images or labels with what is wrong."""

    dataset: str
    images: int
    problems: dict[str, dict[str, str]]
    warnings: dict[str, dict[str, str]]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def bad_images(self) -> list[str]:
        """Names of the images that cannot be trained on, as `exclude` takes them."""
        return sorted({name for kind in _UNUSABLE for name in self.problems.get(kind, {})})

    @property
    def shared_images(self) -> list[str]:
        """Names to `exclude` so that no picture stands in two splits: all but the copies in the test split (of
        training and validation, the latter).
        """
        return sorted(self.problems.get("in two splits", {}))

    def __str__(self) -> str:
        lines = [f"{self.dataset}: {self.images:,} images, {'all is well' if self.ok else 'with problems'}"]
        for title, kinds in (("problem", self.problems), ("warning", self.warnings)):
            for kind, things in kinds.items():
                lines.append(f"{title}, {kind}: {len(things):,}")
                lines += [f"  {name}: {what}" for name, what in list(things.items())[:SHOWN]]
                if len(things) > SHOWN:
                    lines.append(f"  and {len(things) - SHOWN:,} more")
        return "\n".join(lines)


def verify(dataset: Dataset) -> Report:
    """Decode every image of `dataset` in full, on all cores, and check its labels and splits against one another.

    Problems: "missing", "unreadable" (truncated ones too), "wrong size" (a box reaches more than a pixel beyond
    the image, as when it was made smaller after its boxes were drawn), "box without label" (a box of a label
    that is marked absent), "in two splits" (the same name, or the same bytes), "label without images" (no
    training image shows it). Warnings: "duplicate" (the same bytes twice in one split), "no label" (an image
    that shows none), "empty split", and what datasets/images.py changes in pictures ("turned by its EXIF tag", ...).
    """
    problems, warnings = defaultdict(dict), defaultdict(dict)
    copies: dict[str, list[tuple[str, str]]] = defaultdict(list)  # by the digest of their bytes: (split, name)
    rows = [(key, split, row) for key, split in dataset.splits.items() for row in range(len(split))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and hashlib digests without the GIL
        files = pool.map(_open, [split.paths[row] for _, split, row in rows])
        files = tqdm(files, total=len(rows), desc="verifying", unit=" images", disable=None)
        for (key, split, row), file in zip(rows, files, strict=True):
            name = split.names[row]
            if file.problem:
                problems[file.problem][name] = file.reason
                continue
            copies[file.digest].append((key, name))
            for change in file.changes:
                warnings[change][name] = file.mode
            if split.boxes is not None and len(boxes := split.boxes[row]):
                width, height = boxes[:, 3].max(), boxes[:, 4].max()
                if width > file.size[0] + 1 or height > file.size[1] + 1:
                    size = f"{file.size[0]} x {file.size[1]}"
                    problems["wrong size"][name] = f"{size}, its boxes reach {width:.0f} x {height:.0f}"
                labels = boxes[:, 0].astype(int)
                if len(odd := labels[split.targets[row, labels] == -1]):
                    problems["box without label"][name] = dataset.labels[odd[0]]

    for places in copies.values():
        what = " = ".join(f"{key} {name}" for key, name in places)
        last = max((key for key, _ in places), key=("train", "val", "test").index)
        if earlier := {name: what for key, name in places if key != last}:
            problems["in two splits"].update(earlier)
        elif len(places) > 1:
            warnings["duplicate"][places[0][1]] = what
    for name, count in Counter(name for split in dataset.splits.values() for name in set(split.names)).items():
        if count > 1:
            where = [key for key, split in dataset.splits.items() if name in split.names]
            problems["in two splits"][name] = f"{name} in {' and '.join(where)}"
    for key, split in dataset.splits.items():
        if not len(split):
            warnings["empty split"][key] = "no images"
        for row in np.flatnonzero((split.targets == -1).all(axis=1)):
            warnings["no label"][split.names[row]] = f"shows none of the labels ({key})"
    for column in np.flatnonzero(~(dataset.splits["train"].targets == 1).any(axis=0)):
        problems["label without images"][dataset.labels[column]] = "no training image shows it"
    return Report(dataset.name, len(rows), dict(problems), dict(warnings))


def exclude(dataset: Dataset, names: Collection[str]) -> Dataset:
    """`dataset` without the images `names`; a note says which. Raises UserError for a name that is not there."""
    if not names:
        return dataset
    if lost := sorted(set(names) - {name for split in dataset.splits.values() for name in split.names}):
        raise UserError(f"cannot exclude {lost[0]!r} from data set {dataset.name!r}: no image has that name")
    splits = {
        key: split.take([row for row, name in enumerate(split.names) if name not in names])
        for key, split in dataset.splits.items()
    }
    note = f"{len(set(names))} images excluded: {', '.join(sorted(set(names)))}"
    return dataclasses.replace(dataset, splits=splits, notes=(*dataset.notes, note))


@dataclass(frozen=True)
class _File:
    problem: str = ""
    reason: str = ""
    digest: str = ""
    mode: str = ""
    changes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)


def _open(path: Path) -> _File:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with Image.open(file) as image:
                mode, changes = image.mode, images.changes(image)
            size = images.open_rgb(file).size
        return _File(digest=digest, mode=mode, changes=tuple(changes), size=size)
    except FileNotFoundError:
        return _File("missing", str(path))
    except Exception as error:  # as in datasets/images.py: Pillow's decoders raise nearly anything
        return _File("unreadable", str(error))
