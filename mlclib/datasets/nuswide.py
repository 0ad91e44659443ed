"""NUS-WIDE with its 81 labels, in either of its two layouts; labels in the order of the authors of MSRN.

"csv", the split of ASL (arXiv 2009.14119) that MSRN uses, without images that have no label:

    nus_wid_data.csv              header, then: path below the root, "['clouds', 'sky']", train or val

"official", the split of the data set's authors:

    ImageList/{Train,Test}Imagelist.txt                        "<folder>\\<file>.jpg", one per line
    Groundtruth/TrainTestLabels/Labels_<label>_{Train,Test}.txt  1 or 0 per line, in the order of the list
    Flickr/<folder>/<file>.jpg

Source: Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore, CIVR 2009.
"""

import csv
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import Dataset, Split, read_lines, targets_of

LABELS = (
    "clouds", "sky", "person", "street", "window", "tattoo", "wedding", "animal", "cat", "buildings", "tree",
    "airport", "plane", "water", "grass", "cars", "road", "snow", "sunset", "railroad", "train", "flowers", "plants",
    "house", "military", "horses", "nighttime", "lake", "rocks", "waterfall", "sun", "vehicle", "sports",
    "reflection", "temple", "statue", "ocean", "town", "beach", "tower", "toy", "book", "bridge", "fire", "mountain",
    "rainbow", "garden", "police", "coral", "fox", "sign", "dog", "cityscape", "sand", "dancing", "leaf", "tiger",
    "moon", "birds", "food", "cow", "valley", "fish", "harbor", "bear", "castle", "boats", "running", "glacier",
    "swimmers", "elk", "frost", "protest", "soccer", "flags", "zebra", "surf", "whales", "computer", "earthquake",
    "map",
)  # fmt: skip
TABLE = "nus_wid_data.csv"
PARTS = (("train", "train"), ("test", "val"))  # of the table
SIZES = {"Train": 161789, "Test": 107859}
# The official lists; how many images the table of ASL holds stands nowhere at hand, so a copy of it never compares.
PUBLISHED = {"nuswide": {"train": SIZES["Train"], "test": SIZES["Test"]}}
BY_HAND = (
    "NUS-WIDE has no public archive to verify: put nus_wid_data.csv (from the model zoo of ASL, "
    "github.com/Alibaba-MIIL/ASL) into {root} and the images where its first column says, below {root}; "
    "or the official ImageList, Groundtruth and Flickr folders "
    "(lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html)"
)


def load(root: Path, *, layout: Literal["csv", "official"] | None = None, unlabelled: bool = True) -> Dataset:
    """Read NUS-WIDE from `root` in `layout`; by default "csv" where nus_wid_data.csv lies there, else "official".

    unlabelled=False leaves out the images of the official lists that have none of the 81 labels.
    Raises UserError for a missing file, an unknown label or split, and label files of the wrong length.
    """
    if layout is None:
        layout = "csv" if (root / TABLE).exists() else "official"
    splits, notes = _from_csv(root) if layout == "csv" else _from_lists(root)
    if not unlabelled:
        for key, split in splits.items():
            rows = np.flatnonzero((split.targets == 1).any(axis=1))
            notes.append(f"{len(split) - len(rows):,} {key} images without a label left out")
            splits[key] = split.take(rows)
    return Dataset("nuswide", LABELS, splits, tuple(notes))


def _from_csv(root: Path) -> tuple[dict[str, Split], list[str]]:
    path = root / TABLE
    files: dict[str, list[str]] = {"train": [], "val": []}
    lists: dict[str, list[list[str]]] = {"train": [], "val": []}
    rows = csv.reader(read_lines(path, "the rows path, label list, split of NUS-WIDE"))
    next(rows, None)
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        if len(row) < 3:
            raise UserError(f"{place}: expected path, label list and split, got {row}")
        names = [name for part in row[1].strip("[] ").split(",") if (name := part.strip(" '\""))]
        if odd := [name for name in names if name not in LABELS]:
            raise unknown("label", odd[0], LABELS, place)
        if row[2] not in files:
            raise unknown("split", row[2], files, place)
        files[row[2]].append(row[0])
        lists[row[2]].append(names)
    splits = {key: _named(root, files[part], targets_of(lists[part], LABELS)) for key, part in PARTS}
    return splits, [f"the NUS-WIDE split of {TABLE} (ASL): {len(splits['train']):,} and {len(splits['test']):,} images"]


def _from_lists(root: Path) -> tuple[dict[str, Split], list[str]]:
    splits, notes = {}, ["the official NUS-WIDE split"]
    for key, part in (("train", "Train"), ("test", "Test")):
        files = read_lines(root / "ImageList" / f"{part}Imagelist.txt", "image paths, one per line")
        targets = np.empty((len(files), len(LABELS)), dtype=np.int8)
        for column, label in enumerate(LABELS):
            path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{label}_{part}.txt"
            marks = read_lines(path, f"1 or 0 for the label {label!r}, one per line")
            if len(marks) != len(files) or not set(marks) <= {"0", "1"}:
                raise UserError(f"{path}: expected {len(files)} lines of 0 or 1, as many as images, got {len(marks)}")
            targets[:, column] = [1 if mark == "1" else -1 for mark in marks]
        splits[key] = _named(root / "Flickr", [file.replace("\\", "/") for file in files], targets)
        if len(files) != SIZES[part]:
            notes.append(f"{len(files):,} of the {SIZES[part]:,} images of NUS-WIDE {part}")
    return splits, notes


def _named(folder: Path, files: list[str], targets: np.ndarray) -> Split:
    return Split([str(PurePosixPath(f).with_suffix("")) for f in files], [folder / f for f in files], targets)
