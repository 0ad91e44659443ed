"""Whether a data set is what it says: every image opened, every label looked at, and all of it in one checksum.

Problems make training on the set wrong or impossible; warnings are things that someone should know.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mlclib.common.errors import UserError
from mlclib.common.files import sha256, write_text
from mlclib.datasets import images
from mlclib.datasets.base import Dataset

SHOWN = 10  # names listed of each kind
_UNUSABLE = ("missing", "unreadable", "wrong size")
_BY_HAND = "in two splits, with labels to unite"


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

    def remedy(self, experiment: str, excluded: Collection[str] = ()) -> str:
        """What is to be done before anything can be trained on these images; empty where nothing is.

        experiment: its name; excluded: what it leaves out already. Of a picture in several splits the copies in the
        test split stay (of training and validation, the latter). It is not advised to leave out a copy where that
        would lose a label.
        """
        unusable = {name for kind in _UNUSABLE for name in self.problems.get(kind, {})}
        shared = self.problems.get("in two splits", {})
        out = json.dumps(sorted({*excluded, *unusable, *shared}), ensure_ascii=False)
        if unusable:
            problems = dataclasses.replace(self, warnings={})
            return f"{problems}\nget these images anew, or write `exclude: {out}` in experiment {experiment}"
        start = f"data set {self.dataset} has pictures in two splits, so that a score would reward learning by heart"
        if by_hand := self.problems.get(_BY_HAND):
            return (
                f"{start} ({'; '.join(dict.fromkeys(by_hand.values()))}): move all copies of a picture into one split, "
                "each with the labels of all its copies"
            )
        if shared:
            copies = "; ".join(dict.fromkeys(shared.values()))
            return f"{start} ({copies}): write `exclude: {out}` in experiment {experiment} to leave these out"
        return ""

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
    that is marked absent), "in two splits" (the same name, or the same bytes), "in two splits, with labels to unite"
    (the same bytes, where a copy that is left out would take labels with it), "label without images" (no training
    image shows it). Warnings: "duplicate" (the same bytes twice in one split), "no label" (an image
    that shows none), "empty split", and what datasets/images.py changes in pictures ("turned by its EXIF tag", ...).
    """
    problems, warnings = defaultdict(dict), defaultdict(dict)
    copies: dict[str, list[tuple[str, str]]] = defaultdict(list)  # by the digest of their bytes: (split, name)
    rows = [(key, split, row) for key, split in dataset.splits.items() for row in range(len(split))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and hashlib digests without the GIL
        files = pool.map(_open, [split.paths[row] for _, split, row in rows])
        files = tqdm(files, total=len(rows), desc="verifying", unit=" images", disable=None)
        for (key, split, row), opened in zip(rows, files, strict=True):
            name = split.names[row]
            if isinstance(opened, FileNotFoundError):
                problems["missing"][name] = str(split.paths[row])
                continue
            if isinstance(opened, Exception):
                problems["unreadable"][name] = str(opened)
                continue
            digest, (width, height), changes = opened
            copies[digest].append((key, name))
            for change, mode in changes.items():
                warnings[change][name] = mode
            if split.boxes is not None and len(boxes := split.boxes[row]):
                right, low = boxes[:, 3].max(), boxes[:, 4].max()
                if right > width + 1 or low > height + 1:
                    problems["wrong size"][name] = f"{width} x {height}, its boxes reach {right:.0f} x {low:.0f}"
                labels = boxes[:, 0].astype(int)
                if len(odd := labels[split.targets[row, labels] == -1]):
                    problems["box without label"][name] = dataset.labels[odd[0]]

    for places in copies.values():
        what = " = ".join(f"{key} {name}" for key, name in places)
        last = max((key for key, _ in places), key=("train", "val", "test").index)
        if earlier := {name: what for key, name in places if key != last}:
            marks = [_shown(dataset, *place) for place in places]
            kind = "in two splits"
            if len(set(marks)) > 1 or len({name for _, name in places}) < len(places):
                what = " = ".join(f"{key} {name} ({mark})" for (key, name), mark in zip(places, marks, strict=True))
                kind = _BY_HAND
            problems[kind].update(dict.fromkeys(earlier, what))
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


def _shown(dataset: Dataset, key: str, name: str) -> str:
    """The labels that an image shows, those that are difficult in brackets."""
    split = dataset.splits[key]
    targets = zip(dataset.labels, split.targets[split.names.index(name)], strict=True)
    return ", ".join(label if target > 0 else f"({label})" for label, target in targets if target >= 0) or "no label"


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
    return dataset.with_splits(splits, f"{len(set(names))} images excluded: {', '.join(sorted(set(names)))}")


def _open(path: Path) -> tuple[str, tuple[int, int], dict[str, str]] | Exception:
    """SHA-256 and size of a picture, and what is changed in it on opening, each with its mode; or why it cannot be."""
    try:
        digest, (image, changes) = sha256(path), images.open_and_list_changes(path)
        return digest, image.size, changes
    except (OSError, UserError) as error:
        return error


def checksum(dataset: Dataset, index: Path) -> str:
    """SHA-256 over labels, splits, names, targets and the bytes of every image; nothing of where they lie.

    index: a file that remembers each image's checksum by its size and time of change, so that only new and changed
    images are read. A file that cannot be read counts as missing here; `verify` names it.
    """
    try:
        before = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    paths = [path for key in sorted(dataset.splits) for path in dataset.splits[key].paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        now = dict(zip(map(str, paths), pool.map(lambda path: _seen(path, before.get(str(path))), paths), strict=True))
    if now != before:
        write_text(index, json.dumps(now))
    digest = hashlib.sha256(dataset.checksum().encode())
    digest.update("".join(seen[-1] for seen in now.values()).encode())
    return digest.hexdigest()


def _seen(path: Path, before: list | None) -> list:
    """[size, time of change, SHA-256] of a file, its SHA-256 as `before` where the other two are the same."""
    try:
        stat = path.stat()
        if before and before[:2] == [stat.st_size, stat.st_mtime_ns]:
            return before
        return [stat.st_size, stat.st_mtime_ns, sha256(path)]
    except OSError:
        return [0, 0, "missing"]
