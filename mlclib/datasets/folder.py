"""Your own images: a table that names them and their labels (see table.py), or one folder for each label.

Folders are <label>/<image>, or <part>/<label>/<image>, with train, val (valid, validation) and test as parts. A
picture that lies in the folders of several labels, the same to the byte, is one picture with these labels.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlclib.common.errors import UserError
from mlclib.common.files import sha256
from mlclib.datasets import pictures
from mlclib.datasets.base import PARTS, Dataset, Seed, Share, Split, targets_of
from mlclib.datasets.cells import Meaning, Unknown
from mlclib.datasets.stratify import split_by_part, with_test_split
from mlclib.datasets.table import Columns, Table
from mlclib.datasets.table import read as read_table

BY_HAND = "a folder data set is your own: point {root} at your images"


def load(
    root: Path,
    *,
    table: str | None = None,
    columns: Columns | None = None,
    separator: Annotated[str, Field(min_length=1)] | None = None,
    values: dict[str, Meaning] | None = None,
    unknown: Unknown | None = None,
    encoding: str | None = None,
    test_share: Share = 0.3,
    seed: Seed = 0,
) -> Dataset:
    """Read the images that `table` (below `root`) names, or without a table the folders of `root`.

    columns: which columns hold what, where their names do not say so. separator: what stands between the labels of a
    column of lists, or none. values: what cells of labels mean, such as {"-1": unknown}. unknown: what unknown cells
    count as; "difficult" ones are left out of the scores. encoding: of the table, where it is not UTF-8 or UTF-16.
    Without parts, a share `test_share` of the images becomes the test part by iterative stratification from `seed`;
    the split is written to <table>.splits.csv (folders: splits.csv) and read from there ever after.
    Raises UserError for a missing file or column, an odd value, two readings that both fit, and a splits file that does
    not fit the images or the options.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}, expected there: your images")
    if table is None:
        source, folder, splits = root, root, root / "splits.csv"
        rows = _from_folders(root)
    else:
        source = root / Path(table).expanduser()
        folder, splits = source.parent, source.with_name(f"{source.stem}.splits.csv")
        rows = read_table(source, columns, separator, values, unknown, encoding)
        names, completed = pictures.located(folder, rows.names)
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise UserError(f"{source} names the image {twice!r} in two rows; write one row with all its labels")
        rows = rows._replace(names=names, notes=[*rows.notes, *completed])
    whole = Split(rows.names, [folder / name for name in rows.names], rows.targets)
    if rows.parts is not None:
        return split_by_part("folder", rows.labels, whole, rows.parts, rows.notes, source)
    dataset = Dataset("folder", rows.labels, {"train": whole}, tuple(rows.notes))
    return with_test_split(dataset, splits, test_share, seed)


def _from_folders(root: Path) -> Table:
    """What a table would say of the folders of labels in `root`, or in the one folder that it holds."""
    files, others = pictures.files_below(root)
    base, start = [file.split("/") for file in files], 0
    while base and min(map(len, base)) > start + 2 and len({file[start] for file in base}) == 1:
        start += 1  # one folder that holds all others
    tops = sorted({file[start] for file in base if len(file) > start + 1})
    parts = {top: PARTS[top.lower()] for top in tops if top.lower() in PARTS}
    if "train" not in parts.values() or len(parts) < 2:
        parts = {}
    if parts and (odd := [top for top in tops if top not in parts]):
        raise UserError(
            f"the folders {', '.join(parts)} of {root} are parts of a split and {odd[0]!r} is none: move it into "
            "them, or out of the folder"
        )
    depth = start + bool(parts)
    chosen = [file for file in base if len(file) == depth + 2]
    labels = tuple(sorted({file[depth] for file in chosen}))
    if len(labels) < 2:
        held = f" (there are the folders {', '.join(tops)})" if tops else ""
        tables = [other for other in others if other.endswith((".csv", ".tsv", ".parquet"))]
        which = f", such as table: {tables[0]}" if tables else ""
        raise UserError(
            f"no images in folders of labels in {root}{held}: expected <label>/<image> or train/<label>/<image>; or "
            f"name the table of labels by the option table{which}"
        )
    left = [*others, *("/".join(file) for file in base if len(file) != depth + 2)]
    left = [file for file in left if not file.endswith("splits.csv")]
    notes = []
    if left:
        notes.append(f"{len(left):,} files left out that are no picture in a folder of a label, such as {left[0]}")
    if start:
        notes.append(f"read from the folder {'/'.join(base[0][:start])}")
    shown = _merged_copies(root, chosen, depth, parts)
    if copies := len(chosen) - len(shown):
        notes.append(f"{copies:,} copies of pictures left out; a picture has the labels of all its folders")
    part_of = [parts[name.split("/")[start]] for name in shown] if parts else None
    return Table(list(shown), labels, targets_of(list(shown.values()), labels), part_of, notes)


def _merged_copies(root: Path, files: list[list[str]], depth: int, parts: dict[str, str]) -> dict[str, list[str]]:
    """The labels of each different picture, by its name: that of the first of the files which are the same."""
    paths = [root.joinpath(*file) for file in files]
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    repeated = {size for size, count in Counter(sizes).items() if size and count > 1}
    first: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    for file, path, size in zip(files, paths, sizes, strict=True):
        original = first.setdefault(sha256(path) if size in repeated else str(path), file)
        name = "/".join(original)
        if parts and parts[original[depth - 1]] != parts[file[depth - 1]]:
            raise UserError(
                f"{name} and {'/'.join(file)} in {root} are the same picture in two parts: move all its copies into "
                "one part, each in the folder of its label"
            )
        labels.setdefault(name, []).append(file[depth])
    return labels
