"""What every data set gives: named images, int8 targets, label names, and boxes where there are some."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mlclib.common.errors import UserError

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}

# Names of the parts of a data set, as found in tables and folders.
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Split:
    """One part of a data set, its rows in a fixed order.

    names: N unique image names. paths: N image files.
    targets: int8 [N, C]; 1 present, 0 difficult (unknown), -1 absent.
    boxes: None where the source has none; else one array per image, float32 [K, 5] of
    (label index, x0, y0, x1, y1) in pixels of the stored image, 0-based, x1 and y1 exclusive.
    """

    names: list[str]
    paths: list[Path]
    targets: np.ndarray
    boxes: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int]) -> "Split":
        """The split with these rows alone, in this order."""
        boxes = None if self.boxes is None else [self.boxes[row] for row in rows]
        names, paths = ([values[row] for row in rows] for values in (self.names, self.paths))
        return Split(names, paths, self.targets[list(rows)], boxes)


@dataclass(frozen=True)
class Dataset:
    """A data set: its label names in the order of the target columns, and its splits.

    splits has "train" and "test", and "val" where one is set apart.
    notes are sentences that a table's caption must carry (exclusions, new splits, bias).
    version tells pictures of one name and other content apart, where the project draws them itself.
    """

    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    notes: tuple[str, ...] = ()
    version: str = ""

    def with_splits(self, splits: Mapping[str, Split], note: str) -> "Dataset":
        """The data set with these splits in place of its own, and one note more."""
        return replace(self, splits={**self.splits, **splits}, notes=(*self.notes, note))

    def checksum(self) -> str:
        """SHA-256 over labels, splits, image names and targets: what was learnt from, and nothing of where it lies."""
        digest = hashlib.sha256(json.dumps([self.name, self.version, self.labels]).encode())
        for key in sorted(self.splits):
            split = self.splits[key]
            digest.update(json.dumps([key, split.names]).encode())
            digest.update(np.ascontiguousarray(split.targets, dtype=np.int8).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Archive:
    """One published file. size: bytes; holds: a path below the data set's folder that only this archive brings.

    login: True where the host wants an account, so that a person has to download it.
    """

    url: str
    size: int
    sha256: str
    holds: str
    login: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]


def targets_of(lists: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Targets, int8 [N, C], of N images that each show the labels in their list and no other.

    >>> targets_of([["cat"], []], ["cat", "dog"]).tolist()
    [[1, -1], [-1, -1]]
    """
    columns = {label: column for column, label in enumerate(labels)}
    targets = np.full((len(lists), len(labels)), -1, dtype=np.int8)
    for row, present in enumerate(lists):
        targets[row, [columns[label] for label in present]] = 1
    return targets


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of one of the project's own csv files, each by the names of its columns."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label_names(dataset: str) -> tuple[str, ...]:
    """The label names of a public data set in the order of its target columns, from label_names.csv.

    >>> label_names("voc")[:2]
    ('aeroplane', 'bicycle')
    """
    rows = read_rows(Path(__file__).with_name("label_names.csv"))
    return tuple(row["label"] for row in rows if row["dataset"] == dataset)


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, stripped, without empty ones. Raises UserError that says `what` is expected there."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}, expected there: {what}") from error
