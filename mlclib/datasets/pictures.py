"""The picture files in a folder, and which of them a table or an annotation file means."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from mlclib.common.errors import UserError
from mlclib.datasets.base import SUFFIXES


def files_below(folder: Path) -> tuple[list[str], list[str]]:
    """The pictures below `folder` and the other files, as sorted relative paths.

    Hidden files and folders (macOS's ._* too) and __MACOSX count for nothing.
    """
    pictures, others = [], []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if not name.startswith("."):
                path = Path(place, name).relative_to(folder).as_posix()
                (pictures if Path(name).suffix.lower() in SUFFIXES else others).append(path)
    return sorted(pictures), sorted(others)


def located(folder: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The paths below `folder` of the pictures that are named so, and a note where they differ from the names.

    A name may lack its suffix or differ in case. If no name is found so, all are tried without their first folder or
    folders ("CheXpert-v1.0/train/1.jpg" in CheXpert-v1.0), then bare names in all folders. A name that is not found
    stays as it is. Raises UserError where a name fits several files.
    """
    if all((folder / name).is_file() for name in names):
        return names, []
    pictures, _ = files_below(folder)
    by_path, by_name = defaultdict(set), defaultdict(set)
    for picture in pictures:
        for key in (picture, str(PurePosixPath(picture).with_suffix(""))):
            by_path[key.lower()].add(picture)
            by_name[PurePosixPath(key.lower()).name].add(picture)
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    depth = min((len(path.parts) for path in paths), default=1)
    rules = [(by_path, drop) for drop in range(depth)] + [(by_name, 0)] * (depth == 1)
    for index, drop in rules:
        keys = ["/".join(path.parts[drop:]).lower() for path in paths]
        if any(key in index for key in keys):
            break
    else:
        return names, []
    result = []
    for name, key in zip(names, keys, strict=True):
        options = sorted(index.get(key, ()))
        if len(options) > 1 and name not in options:
            raise UserError(f"{name!r} may be {options[0]} or {options[1]} below {folder}: name the whole path")
        result.append(name if name in options or not options else options[0])
    changed = [pair for pair in zip(names, result, strict=True) if pair[0] != pair[1]]
    notes = [f"{len(changed):,} file names completed, such as {old} to {new}" for old, new in changed[:1]]
    return result, notes
