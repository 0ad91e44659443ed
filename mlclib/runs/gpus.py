"""One GPU for each job of this machine: named by the driver, claimed by a lock that the system frees."""

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"  # which GPUs CUDA shows to a process and to those that it starts


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is no driver."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True)
    return answer.stdout.split() if answer.returncode == 0 else []


@contextmanager
def claim_gpu() -> Iterator[None]:
    """Within, this process and those it starts see one GPU, which no other job of this user on this machine has.

    Waits until one is free. To be entered before CUDA is first asked for anything. Where exactly one is visible, as in
    a job of Slurm, it was given already; without a GPU nothing changes.
    """
    names = visible_gpus()
    if len(names) < 2 and VISIBLE in os.environ or not names:
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"mlclib-gpus-{getpass.getuser()}"  # GPUs are of a machine, as its /tmp is
    folder.mkdir(exist_ok=True)
    before = os.environ.get(VISIBLE)
    name, lock = _first_free({name: FileLock(folder / f"{name.strip()}.lock") for name in names})
    os.environ[VISIBLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
        lock.release()


def _first_free(locks: dict[str, FileLock]) -> tuple[str, FileLock]:
    while True:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return name, lock
        time.sleep(1)
