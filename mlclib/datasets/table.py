"""The table of labels of one's own images, as spreadsheets and public data sets have it.

A CSV (parted by commas, semicolons, tabs or bars) or Parquet file with a column that names the pictures, and either
one column for each label or one column with the labels of each picture; a column with the part (train, val, test) is
optional:

    path,cat,dog,split            image;labels               ImageID,tags
    a.jpg,1,0,train               a.jpg;cat                  a,cat sofa
    b.jpg,1,1,test                b.jpg;cat|dog              b,"['cat', 'dog']"

Whatever is not certain is a question to the user: nothing is guessed, and what was found out stands in the notes.
"""

import codecs
import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlclib.common.errors import UserError, some_of, unknown
from mlclib.common.validation import Strict
from mlclib.datasets import cells
from mlclib.datasets.base import PARTS, targets_of

# Column names by what they hold, without case, blanks and signs.
_PATH = {"path", "filepath", "imagepath", "file", "filename", "image", "imagename", "imagefile", "imageid"}
_PATH |= {"imageindex", "img", "imgpath", "imgname", "imgid", "picture", "photo"}
_LABELS = {"label", "labels", "tag", "tags", "class", "classes", "category", "categories", "labelname", "findinglabels"}
_LABELS |= {"genre", "genres", "labelnames", "annotation", "annotations", "choice", "choices"}
_SPLIT = {"split", "splits", "set", "subset", "partition", "part", "splitname"}


@dataclass(frozen=True)
class Columns(Strict):
    """Which columns hold what, where their names do not say so.

    labels: the name of the one column with the labels of each picture, or the names of the columns of single labels.
    """

    path: str | None = None
    labels: str | tuple[str, ...] | None = None
    split: str | None = None


class Table(NamedTuple):
    """names: N pictures as the table names them; targets: int8 [N, C]; parts: N of train, val, test, or None."""

    names: list[str]
    labels: tuple[str, ...]
    targets: np.ndarray
    parts: list[str] | None
    notes: list[str]


def read(
    path: Path,
    columns: Columns | None = None,
    separator: str | None = None,
    values: Mapping[str, cells.Meaning] | None = None,
    unknown_as: cells.Unknown | None = None,
    encoding: str | None = None,
) -> Table:
    """Read the table at `path`; folder.load says what the other arguments mean.

    Raises UserError for a file that is no table, a column or cell that cannot be what it should be, and wherever two
    readings are possible.
    """
    frame = _frame(path, encoding)
    path_column, label_columns, split_column, notes = _roles(path, frame, columns or Columns(), bool(values))
    names = frame[path_column].tolist()
    if "" in names:
        raise UserError(f"{path}, row {names.index('') + 1}: the column {path_column!r} names no picture")
    parts = None if split_column is None else [PARTS.get(_plain(cell)) for cell in frame[split_column]]
    if parts and None in parts:
        row = parts.index(None)
        raise unknown("split", frame[split_column].iloc[row], PARTS, f"{path}, row {row + 1}")
    if isinstance(label_columns, str):
        lists, note = cells.lists(path, label_columns, frame[label_columns].tolist(), separator)
        names, lists, parts, again = _united(path, names, lists, parts)
        labels = sorted({label for cell in lists for label in cell})
        labels.sort(key=int if all(map(str.isdecimal, labels)) else None)
        targets = targets_of(lists, labels)
        notes += [f"{len(labels)} labels, {note}", *again]
    else:
        labels = label_columns
        targets, note = cells.marks(path, frame[labels], values or {}, unknown_as)
        notes += note
    if not labels or not names:
        raise UserError(f"{path} names no label or no image")
    return Table(names, tuple(labels), targets, parts, notes)


def _frame(path: Path, encoding: str | None) -> pd.DataFrame:
    """The cells as stripped texts (a list in a Parquet cell as a list of texts), under stripped column names."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            raw = pd.read_parquet(path)
            raw = raw if raw.index.name is None else raw.reset_index()
            header, rows = list(map(str, raw.columns)), raw.astype(object).to_numpy().tolist()
        else:
            header, *rows = _csv_rows(path, encoding)
    except (OSError, EOFError, ValueError, csv.Error) as error:  # Arrow's own errors are ValueErrors
        raise UserError(f"cannot read {path} as a CSV or Parquet table with a header: {error}") from error
    header = [name.strip() for name in header]
    frame = pd.DataFrame([[_text(cell) for cell in row] for row in rows], columns=header, dtype=object)
    if twice := [name for name, count in Counter(header).items() if count > 1 and name]:
        raise UserError(f"{path} has two columns {twice[0]!r}: rename or remove one")
    return frame[[name for name in header if name and not name.startswith("Unnamed: ")]]  # pandas' row numbers


def _csv_rows(path: Path, encoding: str | None) -> list[list[str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{path} is a spreadsheet or an archive; save the table as CSV (UTF-8)")
    if encoding is None:
        marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if marked else "utf-16-le" if data[1:2] == b"\0" else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        line = data[: getattr(error, "start", 0)].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: the text is not {encoding.removesuffix('-sig')}; save the table as UTF-8, or name "
            "its encoding in the data set's options, such as encoding: cp1252 (Excel on Windows)"
        ) from error
    first, _, rest = text.partition("\n")
    if first.startswith("sep="):  # a line that Excel writes for itself
        text, first = rest, rest.partition("\n")[0]
    delimiter = max(",;\t|", key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header = next(reader, [])
    if not header:
        raise ValueError("it is empty")
    rows = [header]
    for row in filter(None, reader):  # an empty line is no row
        while len(row) > len(header) and not row[-1].strip():
            row.pop()
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {reader.line_num}: {len(row)} cells, but the header has {len(header)}; put a cell that "
                f"holds {delimiter!r} in quotes: {delimiter.join(row)!r:.80}"
            )
        rows.append(row)
    return rows


def _text(cell: object) -> str | list:
    if isinstance(cell, list | tuple | set | np.ndarray):
        return [_text(part) for part in cell]
    if isinstance(cell, dict):  # of Hugging Face's images the path
        return _text(cell["path"]) if "path" in cell else json.dumps(cell, default=str)
    return "" if cell is None or cell is pd.NA or cell != cell else str(cell).strip()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _roles(
    path: Path, frame: pd.DataFrame, columns: Columns, own_marks: bool
) -> tuple[str, str | list[str], str | None, list[str]]:
    """The column of pictures, the one of lists or those of single labels, the one of parts, and notes."""
    header = list(frame.columns)
    labels = columns.labels if isinstance(columns.labels, str | None) else list(columns.labels)
    for name in (columns.path, columns.split, *([labels] if isinstance(labels, str) else labels or ())):
        if name is not None and name not in header:
            raise unknown("column", name, header, str(path))
    image = columns.path or _path_column(path, header)
    split = columns.split or next((name for name in header if _plain(name) in _SPLIT), None)
    if split is not None and columns.split is None and _plain(split) != "split":  # it may be a label of that name
        split = split if all(_plain(str(cell)) in PARTS for cell in frame[split]) else None
    rest = [name for name in header if name not in (image, split)]
    labels = labels or _label_columns(path, frame[rest], own_marks)
    others = [name for name in rest if name != labels and name not in labels]
    return image, labels, split, [f"columns that are no labels left out: {some_of(others, 8)}"] if others else []


def _path_column(path: Path, header: list[str]) -> str:
    named = [name for name in header if _plain(name) == "path"] or [name for name in header if _plain(name) in _PATH]
    if len(named) == 1:
        return named[0]
    raise UserError(
        f"{path} has {'several columns' if named else 'no column'} that may name the pictures (its columns: "
        f"{some_of(header, 8)}); say in the data set's options which does: "
        + " or ".join(_option("path", name) for name in named or header[:1])
    )


def _label_columns(path: Path, frame: pd.DataFrame, own_marks: bool) -> str | list[str]:
    """The column with the labels of each picture, or those of single labels. own_marks: marks have other values."""
    of_marks = [name for name in frame if frame[name].map(cells.is_mark).all()]
    of_lists = [name for name in frame if name not in of_marks and _plain(name) in _LABELS]
    odd = [name for name in frame if name not in (*of_marks, *of_lists)]
    if of_lists:
        of_marks = [name for name in of_marks if any(frame[name])]  # an empty column is no second reading
    if len(of_lists) == 1 and not of_marks:
        return of_lists[0]
    if not of_lists and (not odd or own_marks):
        return list(frame)
    choices = [_option("labels", name) for name in of_lists or odd[:1]]
    choices += [_option("labels", of_marks)] if of_marks else []
    if of_lists:
        reason = f"the labels may stand in the column {' or '.join(map(repr, of_lists))}"
        reason += f" or in the columns {some_of(of_marks, 8)} of 1 and 0" if of_marks else ""
    else:
        row, cell = next((row, cell) for row, cell in enumerate(frame[odd[0]], 1) if not cells.is_mark(cell))
        reason = f"in row {row} the column {odd[0]!r} holds {cell!r}, where a label has 1, 0 or -1"
        if not of_marks:
            choices.append(f"values: {{{json.dumps(cell, ensure_ascii=False)}: present}} if that marks a label")
    raise UserError(
        f"{path}: {reason}; rename the column that lists labels to 'labels', or say in the data set's options which "
        f"are the labels: {' or '.join(choices)}"
    )


def _option(key: str, value: str | list[str]) -> str:
    return f"columns: {{{key}: {json.dumps(value, ensure_ascii=False)}}}"


def _united(
    path: Path, names: list[str], lists: list[list[str]], parts: list[str] | None
) -> tuple[list[str], list[list[str]], list[str] | None, list[str]]:
    """One row for each picture, with the labels of all its rows: some tables have one row for each label."""
    labels: dict[str, list[str]] = {}
    part_of: dict[str, str] = {}
    for name, own, part in zip(names, lists, parts or [""] * len(names), strict=True):
        if part_of.setdefault(name, part) != part:
            raise UserError(f"{path} names the image {name!r} in two parts, {part_of[name]} and {part}: choose one")
        labels.setdefault(name, []).extend(own)
    again = len(names) - len(labels)
    note = [f"{again:,} rows name an image again; it has the labels of all its rows"] if again else []
    return list(labels), list(labels.values()), parts and list(part_of.values()), note
