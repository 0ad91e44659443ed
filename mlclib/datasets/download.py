"""Fetching a data set's official archives: resumed, verified, unpacked, never twice and never half.

An archive goes through <root>/archives: `<file>.part` while it downloads, `<file>` once its SHA-256 is
right, and `<file>.done` when its contents stand below <root>, whereupon the archive is removed. It is
unpacked aside and moved into place, so that a kill at any point leaves a state from which the same call goes on.
"""

import fcntl
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm.auto import tqdm

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.common.files import sha256, write_text
from mlclib.datasets.base import Archive

TRIES = 5  # attempts without a single new byte before a download is given up
PAUSE = 1.0  # seconds before the second attempt, doubled before each later one
TIMEOUT = 30.0  # seconds without an answer


def get(name: str, root: str | Path) -> list[Path]:
    """Bring the archives of data set `name` below `root`; returns the paths that were missing and now stand there.

    Raises UserError, in one sentence that says what to do, for an unknown data set, one that has to be fetched by
    hand, a full disk, a host that does not answer (with URL, expected path and checksum), wrong bytes, and an
    archive with a member that would land outside `root`.
    """
    root = Path(root)
    archives = datasets.archives(name)
    if not archives:
        raise UserError(datasets.by_hand(name).format(root=root))
    folder = root / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        missing = [archive for archive in archives if not _done(root, archive)]
        for archive in archives:
            if archive not in missing:
                (folder / archive.name).unlink(missing_ok=True)  # killed just before it was removed
        _check_space(root, missing)
        for archive in missing:
            file = folder / archive.name
            if not file.exists():
                if archive.login:
                    raise UserError(f"{archive.name} needs a free account: {_by_hand(archive, file)}")
                _download(archive, file)
            elif (found := sha256(file)) != archive.sha256:
                raise UserError(f"{file} has the SHA-256 {found}, not {archive.sha256}; remove it and run again")
            _unpack(file, root)
            if not (root / archive.holds).exists():
                raise UserError(f"{file} did not bring {root / archive.holds}; remove it and run again")
            write_text(file.with_name(f"{file.name}.done"), archive.sha256 + "\n")
            file.unlink()
    return [root / archive.holds for archive in missing]


def _done(root: Path, archive: Archive) -> bool:
    """Unpacked by us, or by someone else: then there is no archive of ours that is still to be unpacked."""
    file = root / "archives" / archive.name
    unpacked_elsewhere = not file.exists() and not file.with_name(f"{file.name}.part").exists()
    return (root / archive.holds).exists() and (file.with_name(f"{file.name}.done").exists() or unpacked_elsewhere)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock that the system frees however the process ends."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process is fetching into {folder.parent}; wait until it ends") from None
        yield


def _check_space(root: Path, missing: list[Archive]) -> None:
    """Archives are unpacked and removed one by one: all contents, and the largest archive beside them."""
    part = [root / "archives" / f"{a.name}{end}" for a in missing for end in ("", ".part")]
    have = sum(path.stat().st_size for path in part if path.exists())
    need = sum(a.unpacked for a in missing) + max((a.size for a in missing), default=0) - have
    free = shutil.disk_usage(root).free
    if need > free:
        raise UserError(
            f"{root} needs {need / 1e9:.1f} GB more and has {free / 1e9:.1f} GB; free some or change --root"
        )


def _by_hand(archive: Archive, file: Path) -> str:
    return (
        f"download {archive.url} ({archive.size / 1e6:,.0f} MB, SHA-256 {archive.sha256}) to {file} and run this again"
    )


def _download(archive: Archive, file: Path) -> None:
    part = file.with_name(f"{file.name}.part")
    tries, reason = 0, ""
    with tqdm(total=archive.size, desc=archive.name, unit="B", unit_scale=True, disable=None) as bar:
        while (have := part.stat().st_size if part.exists() else 0) != archive.size:
            if have > archive.size:
                part.unlink()
                have = 0
            if tries == TRIES:
                raise UserError(f"cannot fetch {archive.name} ({reason}); {_by_hand(archive, file)}")
            if tries:
                time.sleep(PAUSE * 2 ** (tries - 1))
            try:
                _append(archive, part, have, bar)
                reason = "the connection was cut"
            except urllib.error.HTTPError as error:
                if error.code == 416:  # the host's file is shorter than what is here: begin anew
                    part.unlink(missing_ok=True)
                elif error.code < 500:
                    raise UserError(
                        f"{archive.url} answers {error.code} {error.reason}; find {archive.name} elsewhere, "
                        f"then {_by_hand(archive, file)}"
                    ) from None
                reason = f"{error.code} {error.reason}"
            except (OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            now = part.stat().st_size if part.exists() else 0
            if now > archive.size:
                reason = f"the host sends more than the {archive.size} bytes of the archive"
            tries = 0 if have < now <= archive.size else tries + 1
    if (found := sha256(part)) != archive.sha256:
        part.unlink()
        raise UserError(
            f"{archive.url} gave wrong bytes (SHA-256 {found}); run this again, or {_by_hand(archive, file)}"
        )
    os.replace(part, file)


def _append(archive: Archive, part: Path, have: int, bar: tqdm) -> None:
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        bar.reset(archive.size)
        bar.update(have if resumed else 0)
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(1 << 18):
                file.write(block)
                bar.update(len(block))
                if file.tell() > archive.size:
                    return


def _unpack(file: Path, root: Path) -> None:
    aside = file.with_name(f"{file.name}.unpacking")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _extract(file, aside)
        _merge(aside, root)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{file} is no whole archive ({error}); remove it and run again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {file} below {root}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _extract(file: Path, aside: Path) -> None:
    """Write the files and folders of an archive below `aside`; anything else in it is refused."""
    with zipfile.ZipFile(file) if file.suffix == ".zip" else tarfile.open(file) as archive:
        members = _zip_members(archive) if isinstance(archive, zipfile.ZipFile) else _tar_members(archive)
        for name, kind, content in tqdm(members, desc=f"unpacking {file.name}", unit=" files", disable=None):
            path = PurePosixPath(name)
            if kind == "other" or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                raise UserError(f"{file} holds {name!r}, which is no plain file inside it; remove it, do not trust it")
            target = aside / path
            if kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    for member in archive:
        if member.isfile():
            yield member.name, "file", archive.extractfile(member)
        else:
            yield member.name, "folder" if member.isdir() else "other", None


def _zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
        if member.is_dir():
            yield member.filename, "folder", None
        elif kind in (0, stat.S_IFREG):
            yield member.filename, "file", archive.open(member)
        else:
            yield member.filename, "other", None


def _merge(source: Path, target: Path) -> None:
    """Move all of `source` into `target`, whole folders at once where `target` has none of that name."""
    for path in sorted(source.iterdir()):
        goal = target / path.name
        if path.is_dir() and goal.is_dir():
            _merge(path, goal)
        else:
            os.replace(path, goal)
