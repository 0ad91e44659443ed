"""NUS-WIDE with its 81 labels, in either of its two layouts; labels in the order of the authors of MSRN.

The split of ASL (arXiv 2009.14119) that MSRN uses, without images that have no label:

    nus_wid_data.csv              header, then: path below the root, "['clouds', 'sky']", train or val

The official split, of the data set's authors, where that table is not there:

    ImageList/{Train,Test}Imagelist.txt                        "<folder>\\<file>.jpg", one per line
    Groundtruth/TrainTestLabels/Labels_<label>_{Train,Test}.txt  1 or 0 per line, in the order of the list
    Flickr/<folder>/<file>.jpg

Source: Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore, CIVR 2009.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.datasets import table
from mlclib.datasets.base import Dataset, Split, label_names, read_lines
from mlclib.datasets.stratify import split_by_part

LABELS = label_names("nuswide")
TABLE = "nus_wid_data.csv"
SIZES = {"Train": 161789, "Test": 107859}
# The official lists; how many images the table of ASL holds stands nowhere at hand, so a copy of it never compares.
PUBLISHED = {"nuswide": {"train": SIZES["Train"], "test": SIZES["Test"]}}
BY_HAND = (
    "NUS-WIDE has no public archive to verify: put nus_wid_data.csv (from the model zoo of ASL, "
    "github.com/Alibaba-MIIL/ASL) into {root} and the images where its first column says, below {root}; "
    "or the official ImageList, Groundtruth and Flickr folders "
    "(lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html)"
)


def load(root: Path) -> Dataset:
    """Read NUS-WIDE from `root`: the split of ASL where nus_wid_data.csv lies there, else the official one.

    Raises UserError for a missing file, an unknown label or split, and label files of the wrong length.
    """
    if (root / TABLE).exists():
        return _from_table(root / TABLE)
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
    return Dataset("nuswide", LABELS, splits, tuple(notes))


def _from_table(path: Path) -> Dataset:
    rows = table.read(path)
    if odd := [label for label in rows.labels if label not in LABELS]:
        raise unknown("label", odd[0], LABELS, str(path))
    targets = np.full((len(rows.names), len(LABELS)), -1, dtype=np.int8)
    targets[:, [LABELS.index(label) for label in rows.labels]] = rows.targets
    parts = ["train" if part == "train" else "test" for part in rows.parts or ["train"]]
    note = f"the NUS-WIDE split of {TABLE} (ASL): {parts.count('train'):,} and {parts.count('test'):,} images"
    return split_by_part("nuswide", LABELS, _named(path.parent, rows.names, targets), parts, [note], path)


def _named(folder: Path, files: list[str], targets: np.ndarray) -> Split:
    return Split([str(PurePosixPath(f).with_suffix("")) for f in files], [folder / f for f in files], targets)
