"""Files that are either whole or not there, and their checksums."""

import datetime
import errno
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlclib.common.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, or for this user, or in one file
WRITTEN = "MLCLIB_WRITTEN"  # the environment variable that names a file in which each path written is noted


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    The data is flushed to disk before the rename; when the block raises, the
    temporary file goes and whatever stood at `path` stays as it was. Raises
    UserError where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        if log := os.environ.get(WRITTEN):
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{path.resolve()}\n")
    except (OSError, RuntimeError) as error:
        found = (error, error.__context__)  # torch.save says that its writer failed, and why in its context
        full = [reason for reason in found if isinstance(reason, OSError) and reason.errno in FULL]
        if not full:
            raise
        raise UserError(
            f"{path} could not be written ({full[0].strerror}): free some disk and start the same command again; what "
            "was written before stays"
        ) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def held(path: str | Path, what: str, waits: bool = True) -> Iterator[None]:
    """Hold `path` as a lock, which the system frees however the process ends; `what` is held, for the sentence.

    Where another process holds it: waits, saying who has it, or without `waits` raises UserError that says so.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(path), path.with_name(f"{path.name}.owner")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        if not waits:
            raise UserError(f"{what} is at work already ({who}): wait until it ends, or end it") from None
        print(f"{what} is at work already ({who}): waiting until it ends", flush=True)
        lock.acquire()
    try:
        now = datetime.datetime.now().isoformat(" ", "seconds")
        write_text(owner, f"process {os.getpid()} on {platform.node()}, since {now}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of the file at `path`, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
