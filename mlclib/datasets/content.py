"""What stands in a data set's image files, so that a replaced picture is other data."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlclib.common.files import sha256, write_text
from mlclib.datasets.base import Dataset


def checksum(dataset: Dataset, index: Path) -> str:
    """SHA-256 over labels, splits, names, targets and the bytes of every image; nothing of where they lie.

    index: a file that remembers each image's checksum by its size and time of change, so that only new and changed
    images are read. A file that cannot be read counts as missing here; `integrity.verify` names it.
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
