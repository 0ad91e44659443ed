"""One GPU for each job of this machine: named by the driver, claimed by a lock that the system frees."""

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"  # which GPUs CUDA shows to a process and to those that it starts
_held: list[FileLock] = []  # until the process ends


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is no driver."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True)
    return answer.stdout.split() if answer.returncode == 0 else []


def claim_gpu() -> None:
    """From now on this process and those it starts see one GPU, which no other job of this user on this machine has.

    Waits until one is free. To be called before CUDA is first asked for anything. Where exactly one is visible, as in
    a job of Slurm, it was given already; without a GPU nothing changes.
    """
    names = visible_gpus()
    folder = Path(tempfile.gettempdir()) / f"mlclib-gpus-{getpass.getuser()}"  # GPUs are of a machine, as its /tmp is
    while names and (len(names) > 1 or VISIBLE not in os.environ):
        folder.mkdir(exist_ok=True)
        for name in names:
            lock = FileLock(folder / f"{name.strip()}.lock")
            with suppress(Timeout):
                lock.acquire(timeout=0)
                _held.append(lock)
                os.environ[VISIBLE] = name
                return
        time.sleep(1)
