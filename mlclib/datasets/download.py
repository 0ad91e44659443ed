"""Fetching a data set's official archives: resumed, verified, unpacked, and never twice.

An archive goes through <root>/archives: `<file>.part` while it downloads, `<file>` once its SHA-256 is right; when its
contents stand below <root> it is removed. The same call goes on wherever it was killed: what was unpacked in part is
unpacked again.
"""

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock, no_room, sha256
from mlclib.datasets.base import Archive

TRIES = 5  # attempts without a single new byte before a download is given up
PAUSE = 1.0  # seconds before the second attempt, doubled before each later one
TIMEOUT = 30.0  # seconds without an answer


def get(name: str, root: str | Path) -> list[Path]:
    """Bring the archives of data set `name` below `root`; returns the paths that were missing and now stand there.

    Raises UserError, in one sentence that says what to do, for an unknown data set, one that has to be fetched by
    hand, a full disk, a host that does not answer, wrong bytes, and where another process fetches already.
    """
    root = Path(root)
    every = datasets.archives(name)
    if not every:
        raise UserError(datasets.by_hand(name).format(root=root))
    folder = root / "archives"
    with file_lock(folder / ".lock", f"the download into {root}", waits=False):
        # Whoever unpacked an archive, it is done where no file of it lies there that is still to be unpacked.
        missing = [one for one in every if not (root / one.holds).exists() or any(folder.glob(f"{one.name}*"))]
        _check_space(root, missing)
        for archive in missing:
            file = folder / archive.name
            try:
                _bring(archive, file, root)
            except OSError as error:
                raise no_room(error, file) or UserError(f"cannot bring {file} to {root}: {error}") from error
    return [root / archive.holds for archive in missing]


def _check_space(root: Path, missing: list[Archive]) -> None:
    """Pictures do not shrink in an archive: all contents take its size, and the largest archive lies beside them."""
    sizes = [archive.size for archive in missing]
    need = sum(sizes) + max(sizes, default=0) - sum(path.stat().st_size for path in (root / "archives").iterdir())
    if need > (free := shutil.disk_usage(root).free):
        raise UserError(
            f"{root} needs {need / 1e9:.1f} GB more and has {free / 1e9:.1f} GB; free some or change --root"
        )


def _bring(archive: Archive, file: Path, root: Path) -> None:
    """Download `archive` to `file` where it is not there, verify it, unpack it below `root`, and remove it."""
    by_hand = f"download {archive.url} ({archive.size / 1e6:,.0f} MB, SHA-256 {archive.sha256}) to {file} and run again"
    if not file.exists():
        if archive.login:
            raise UserError(f"{archive.name} needs a free account: {by_hand}")
        part = file.with_name(f"{file.name}.part")
        if problem := _download(archive, part):
            raise UserError(f"cannot fetch {archive.url} ({problem}); {by_hand}")
        if (digest := sha256(part)) != archive.sha256:
            part.unlink()
            raise UserError(f"{archive.url} gave wrong bytes (SHA-256 {digest}); run this again, or {by_hand}")
        os.replace(part, file)
    elif (digest := sha256(file)) != archive.sha256:
        raise UserError(f"{file} has the SHA-256 {digest}, not {archive.sha256}; remove it and run again")
    print(f"unpacking {file.name}", flush=True)
    shutil.unpack_archive(file, root, filter=None if file.suffix == ".zip" else "data")
    file.unlink()


def _download(archive: Archive, part: Path) -> str:
    """Append to `part` until it has the archive's size, each time from where it broke off; else why it is given up."""
    tries, problem = 0, ""
    while tries < TRIES:
        have = part.stat().st_size if part.exists() else 0
        if have >= archive.size:
            return ""
        time.sleep(PAUSE * 2 ** (tries - 1) if tries else 0)
        try:
            _append(archive, part, have)
            problem = "the connection was cut"
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.reason}"
            if error.code < 500:
                return problem
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error))
        tries = 0 if part.exists() and part.stat().st_size > have else tries + 1
    return problem


def _append(archive: Archive, part: Path, have: int) -> None:
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        have = have if answer.status == 206 else 0  # 200: the host cannot resume and sends all
        bar = tqdm(total=archive.size, initial=have, desc=archive.name, unit="B", unit_scale=True, disable=None)
        with bar, open(part, "ab" if have else "wb") as file:
            while block := answer.read(min(1 << 18, archive.size - file.tell())):
                file.write(block)
                bar.update(len(block))
