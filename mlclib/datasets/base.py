"""What every data set gives: named images, int8 targets, label names, and boxes where known."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Split:
    """One part of a data set, its rows in a fixed order.

    names: N unique image names. paths: N image files.
    targets: int8 [N, C]; 1 present, 0 difficult (unknown), -1 absent.
    boxes: None where the source has none; else an array a image, float32 [K, 5] of
    (label index, x0, y0, x1, y1) in pixels of the stored image, 0-based, x1 and y1 exclusive.
    """

    names: list[str]
    paths: list[Path]
    targets: np.ndarray
    boxes: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Dataset:
    """A data set: its label names in the order of the target columns, and its splits.

    splits has "train" and "test", and "val" where one is set apart.
    notes are sentences that a table's caption must carry (exclusions, made splits, bias).
    version tells pictures of one name and other content apart, where the project draws them itself.
    """

    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    notes: tuple[str, ...] = ()
    version: str = ""

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
    """One published file. size, unpacked: bytes; holds: a path below the root that only this archive brings.

    login: True where the host wants an account, so that a person has to download it.
    """

    url: str
    size: int
    sha256: str
    holds: str
    unpacked: int
    login: bool = False

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]
