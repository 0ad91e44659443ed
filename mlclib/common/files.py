"""Files that are either whole or not there, and their checksums."""

import datetime
import errno
import hashlib
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

from mlclib.common.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, or for this user, or in one file
STALE = 60.0  # seconds without a sign of life after which another machine may take what a dead one held
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
        raise no_room(error, path) or error from None
    finally:
        part.unlink(missing_ok=True)


def no_room(error: Exception, path: str | Path) -> UserError | None:
    """The sentence for an `error` in writing `path` that a full disk is the reason of; None for any other error."""
    for reason in (error, error.__context__):  # torch.save says that its writer failed, and why in its context
        if isinstance(reason, OSError) and reason.errno in FULL:
            return UserError(
                f"{path} could not be written ({reason.strerror}): free some disk and start the same command again; "
                "what was written before stays"
            )
    return None


@contextmanager
def file_lock(path: str | Path, what: str, waits: bool = True) -> Iterator[None]:
    """Hold `path` as a lock, which is freed however the process ends; `what` is held, for the sentence.

    Where another process holds it: waits, saying who has it, or without `waits` raises UserError that says so.
    On one machine the system keeps the lock. Not every shared file system carries that to other machines, so there is a
    claim beside it, a file whose time is renewed while its process lives: of a machine that died it is taken over after
    STALE seconds. A process that was suspended for longer, and lost it so, is told to stop (SIGTERM).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_name(f"{path.name}.owner")
    claim = SoftFileLease(path.with_name(f"{path.name}.claim"), lease_duration=STALE, on_compromise=_stop)
    with ExitStack() as stack:
        for lock, patience in ((FileLock(path), 0), (claim, 1)):  # a claim is tried twice: a dead process's goes first
            try:
                stack.enter_context(lock.acquire(timeout=patience))
            except Timeout:
                who = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
                if not waits:
                    raise UserError(f"{what} is at work already ({who}): wait until it ends, or end it") from None
                print(f"{what} is at work already ({who}): waiting until it ends", flush=True)
                stack.enter_context(lock.acquire())
        now = datetime.datetime.now().isoformat(" ", "seconds")
        write_text(owner, f"process {os.getpid()} on {platform.node()}, since {now}")
        stack.callback(owner.unlink, missing_ok=True)
        yield


def _stop(lost: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of the file at `path`, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
