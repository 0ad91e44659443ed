"""Files that are either whole or not there, their checksums, and locks between processes."""

import datetime
import errno
import hashlib
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

from mlclib.common.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, in the user's quota, or in one file
STALE = 60.0  # seconds without a sign of life after which another machine may take over a lock
WRITTEN = "MLCLIB_WRITTEN"  # environment variable: a file to which each written path is appended


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    The data is flushed to disk before the rename. When the block raises, the temporary file is removed and `path`
    stays as it was. Raises UserError where the disk is full.
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


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def sealed(path: Path) -> Iterator[Path]:
    """`written_whole`; the SHA-256 of the file stands beside it, in a .sha256, so that `holds` can tell."""
    with written_whole(path) as part:
        yield part
        checksum = sha256(part)
    write_text(path.with_suffix(".sha256"), checksum)


def holds(path: Path) -> bool:
    """Whether the file that `sealed` wrote to `path` is there and has its checksum."""
    seal = path.with_suffix(".sha256")
    return path.exists() and seal.exists() and sha256_once(path) == seal.read_text(encoding="utf-8")


def no_room(error: Exception, path: str | Path) -> UserError | None:
    """The sentence for an `error` that a full disk caused while `path` was written; None for any other error."""
    for cause in (error, error.__context__):  # torch.save raises a RuntimeError whose context is the disk's error
        if isinstance(cause, OSError) and cause.errno in FULL:
            return UserError(
                f"{path} could not be written ({cause.strerror}): free some disk and start the same command again; "
                "what was written before stays"
            )
    return None


def sha256(path: str | Path) -> str:
    """SHA-256 of the file at `path`, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """`sha256`, for which each state of a file is read once per process."""
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _sha256_of(path: Path, *state: int) -> str:
    return sha256(path)


@contextmanager
def file_lock(path: str | Path, what: str, waits: bool = True) -> Iterator[None]:
    """Hold the lock at `path` for the work `what`; the system frees it however the process ends.

    If another process holds it: wait, or raise UserError if `waits` is False. Both name the other process.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_name(f"{path.name}.owner")
    # The system's lock may not reach other machines of a shared file system. The claim does: a file whose time is
    # renewed while its process lives. A process that lost it because it was suspended for too long must stop.
    claim = SoftFileLease(
        path.with_name(f"{path.name}.claim"),
        lease_duration=STALE,
        on_compromise=lambda _: os.kill(os.getpid(), signal.SIGTERM),
    )
    with ExitStack() as stack:
        for lock, timeout in ((FileLock(path), 0), (claim, 1)):  # the second try takes over a dead process's claim
            try:
                stack.enter_context(lock.acquire(timeout=timeout))
            except Timeout:
                other = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
                if not waits:
                    raise UserError(f"{what} is at work already ({other}): wait until it ends, or end it") from None
                print(f"{what} is at work already ({other}): waiting until it ends", flush=True)
                stack.enter_context(lock.acquire())
        now = datetime.datetime.now().isoformat(" ", "seconds")
        write_text(owner, f"process {os.getpid()} on {platform.node()}, since {now}")
        stack.callback(owner.unlink, missing_ok=True)
        yield
