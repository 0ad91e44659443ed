"""A cluster for tests, of this one machine: `cluster.py SCRIPT` submits a job's script, as sbatch does.

A job is a process group of its own. Some are preempted as on a cluster: SIGTERM to all of it, and SIGKILL to what does
not end, or SIGKILL at once, as when a machine dies; then the job is queued again and its script starts anew. Which,
when and how follows from CLUSTER_SEED and the job's number; it is noted in the file CLUSTER_LOG.
"""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PATIENCE = 10.0  # seconds from SIGTERM to SIGKILL


def submit(script: str) -> int:
    """Start the job and return at once; its number, which is how many were submitted before it."""
    log = Path(os.environ["CLUSTER_LOG"])
    number = log.read_text(encoding="utf-8").count("submitted") if log.exists() else 0
    note(f"job {number} was submitted: {Path(script).name}")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, __file__, script, str(number)], start_new_session=True, **quiet)
    return number


def work(script: str, number: int) -> int:
    """Run a job's script to its end, however often it is preempted; its exit status."""
    draw = random.Random(f"{os.environ['CLUSTER_SEED']} {number}")
    for preemption in draw.choice(([], [signal.SIGTERM], [signal.SIGKILL], [signal.SIGTERM, signal.SIGKILL])):
        job = subprocess.Popen(["sh", script], start_new_session=True)
        try:
            return job.wait(draw.uniform(1, 8))
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, preemption)
        note(f"job {number} was sent {preemption.name} and queued again")
        with suppress(subprocess.TimeoutExpired):
            job.wait(PATIENCE)
        if alive(job.pid):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    return subprocess.run(["sh", script], start_new_session=True).returncode


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def note(line: str) -> None:
    with open(os.environ["CLUSTER_LOG"], "a", encoding="utf-8") as log:
        log.write(f"{line}\n")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(submit(sys.argv[1]))
    else:
        sys.exit(work(sys.argv[1], int(sys.argv[2])))
