"""Your own images: a table that names them and their labels, or a folder a label.

A table (CSV or Parquet) has a column `path`, below the table's folder, and either one column a label or one
column `labels` with a separated list; a column `split` (train, val, test) is optional:

    path,cat,dog,split            path,labels,split
    a.jpg,1,0,train               a.jpg,cat,train
    b.jpg,1,1,test                b.jpg,cat|dog,test

Label columns hold 1 present, 0 absent; where any of them holds -1, -1 is absent and 0 unknown.
Class folders are <label>/<image>, or train/<label>/<image> and test/<label>/<image>.
"""

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from mlclib.common.errors import UserError, unknown
from mlclib.common.files import write_text
from mlclib.datasets import stratify
from mlclib.datasets.base import Dataset, Seed, Split

SPLITS = ("train", "val", "test")
BY_HAND = "a folder data set is your own: point {root} at your images"
SEPARATORS = ("|", ";", ",", "/", "\t")  # the usual ones, of which a column of labels has one
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


def load(
    root: str | Path,
    *,
    table: str | None = None,
    separator: Annotated[str, Field(min_length=1)] = "|",
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3,
    seed: Seed = 0,
) -> Dataset:
    """Read the images that `table` (below `root`) names, or without a table the class folders of `root`.

    separator: what stands between the labels of a `labels` column. Without splits, a share `test_share` of
    the images becomes the test split by iterative stratification from `seed`; the split is written to
    <table>.splits.csv (class folders: splits.csv) and read from there ever after.
    Raises UserError for a missing file or column, an odd value, an image named twice, a label named nowhere,
    a cell of labels with another separator, and for a splits file that does not fit the images or the options.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no folder {root}, expected there: your images")
    if table is None:
        names, labels, targets, given = _from_folders(root)
        source, base = root / "splits.csv", root
    else:
        path = root / table
        names, labels, targets, given = _from_table(path, separator)
        source, base = path.with_name(f"{path.stem}.splits.csv"), path.parent
    if given is None:
        given = _written_splits(source, names, targets, test_share, seed)
        notes = (f"train and test split made by iterative stratification, see {source.name}",)
    else:
        notes = ()
    for need in ("train", "test"):
        if need not in given:
            raise UserError(f"no image of {table or root} is in the split {need!r}")
    splits = {}
    for key in SPLITS:
        rows = [i for i, split in enumerate(given) if split == key]
        if rows:
            chosen = [names[i] for i in rows]
            splits[key] = Split(chosen, [base / name for name in chosen], targets[rows])
    return Dataset("folder", labels, splits, notes)


def _from_table(path: Path, separator: str) -> tuple[list[str], tuple[str, ...], np.ndarray, list[str] | None]:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path).astype("string")
        else:
            frame = pd.read_csv(path, dtype="string", keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' and Arrow's own errors are ValueErrors
        raise UserError(f"cannot read {path}, expected there: a CSV or Parquet table with a column path") from error
    if "path" not in frame:
        raise unknown("column", "path", frame.columns, f"{path}; the table needs it")
    frame = frame.fillna("").apply(lambda column: column.str.strip())
    names = frame["path"].tolist()
    if twice := frame["path"][frame["path"].duplicated()].tolist():
        raise UserError(f"{path} names the image {twice[0]!r} twice; keep one row an image")
    given = frame["split"].tolist() if "split" in frame else None
    for row, split in enumerate(given or ()):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS, f"{path}, row {row + 1}")
    if "labels" in frame:
        lists = [[part.strip() for part in cell.split(separator) if part.strip()] for cell in frame["labels"]]
        labels = tuple(sorted({name for names_here in lists for name in names_here}))
        _check_separator(path, frame["labels"].tolist(), lists, separator)
        targets = _marked(lists, labels)
    else:
        labels = tuple(str(c) for c in frame.columns if c not in ("path", "split"))
        cells = frame[list(labels)].replace({"1.0": "1", "0.0": "0", "-1.0": "-1"}).to_numpy(dtype=object)
        for row, column in np.argwhere(~np.isin(cells.astype(str), ("1", "0", "-1"))):
            raise UserError(
                f"{path}, row {row + 1}, label {labels[column]!r}: expected 1, 0 or -1, got {cells[row, column]!r}"
            )
        targets = cells.astype(np.int8)
        if not (targets == -1).any():
            targets = np.where(targets == 1, 1, -1).astype(np.int8)
    if not labels or not names:
        raise UserError(f"{path} names no label or no image")
    return names, labels, targets, given


def _check_separator(path: Path, cells: list[str], lists: list[list[str]], separator: str) -> None:
    """Raise UserError for the first cell with a label that another separator parts, where it can be no label's name:
    `separator` stands in no cell at all, or each part is a label itself.
    """
    unused, labels = not any(separator in cell for cell in cells), {name for names in lists for name in names}
    for row, names in enumerate(lists):
        for name, other in itertools.product(names, SEPARATORS):
            parts = {part.strip() for part in name.split(other)} - {""}
            if len(parts) > 1 and (unused or parts <= labels):
                raise UserError(
                    f"{path}, row {row + 1}, column 'labels': expected {separator!r} between labels, got "
                    f"{cells[row]!r}; write it so, or set the data set's option separator: {json.dumps(other)} (a "
                    f"single label with {other!r} in its name must be renamed)"
                )


def _from_folders(root: Path) -> tuple[list[str], tuple[str, ...], np.ndarray, list[str] | None]:
    tops = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    split_first = bool(tops) and set(tops) <= set(SPLITS)
    pattern = "*/*/*" if split_first else "*/*"
    files = sorted(p.relative_to(root) for p in root.glob(pattern) if p.suffix.lower() in SUFFIXES)
    files = [f for f in files if not any(part.startswith(".") for part in f.parts)]
    if not files:
        raise UserError(f"no images in {root}: expected <label>/<image>, train/<label>/<image>, or the option table")
    lists = [[f.parent.name] for f in files]
    labels = tuple(sorted({names[0] for names in lists}))
    given = [f.parts[0] for f in files] if split_first else None
    return [f.as_posix() for f in files], labels, _marked(lists, labels), given


def _marked(lists: list[list[str]], labels: tuple[str, ...]) -> np.ndarray:
    columns = {label: i for i, label in enumerate(labels)}
    targets = np.full((len(lists), len(labels)), -1, dtype=np.int8)
    for row, names in enumerate(lists):
        targets[row, [columns[name] for name in names]] = 1
    return targets


def _written_splits(path: Path, names: list[str], targets: np.ndarray, test_share: float, seed: int) -> list[str]:
    title = f"# iterative stratification, seed {seed}, test share {test_share}"
    if not path.exists():
        parts = stratify.split(targets == 1, (1 - test_share, test_share), seed)
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["path", "split"])
        rows.writerows(zip(names, np.array(["train", "test"])[parts], strict=True))
        try:
            write_text(path, f"{title}\n{text.getvalue()}")
        except OSError as error:
            raise UserError(f"cannot write the split to {path} ({error}); give the table a column split") from error
    with open(path, newline="", encoding="utf-8") as file:
        found = file.readline().rstrip("\n")
        rows = list(csv.reader(file))
    if found != title:
        raise UserError(f"{path} says {found!r}, but the options say {title!r}; remove the file to make a new split")
    splits = {row[0]: row[1] for row in rows[1:] if len(row) == 2 and row[1] in SPLITS}
    if odd := set(splits).symmetric_difference(names):
        raise UserError(
            f"{path} does not fit the images: {len(odd)} stand on one side alone, such as {min(odd)!r}; "
            f"remove the file to make a new split"
        )
    return [splits[name] for name in names]
