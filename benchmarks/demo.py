"""What `make reproduce` of the demo costs at two commits, one after the other on the same machine.

    python -m benchmarks.demo 14c1433 HEAD

Each commit is cloned into an empty folder, with this checkout's environment. Rows go to results/benchmarks/<device>.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks import report

ROOT = Path(__file__).parents[1]


def main() -> None:
    rows = []
    for commit in sys.argv[1:3]:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(commit, Path(folder))
    print(report.write(rows))


def measure(commit: str, folder: Path) -> list[dict[str, object]]:
    """Rows of wall seconds, seconds of user and system, gigabytes written, and the peak of the largest process."""
    git = ["git", "-C", str(ROOT)]
    named = subprocess.run([*git, "rev-parse", "--short", commit], capture_output=True, text=True, check=True)
    short = named.stdout.strip()
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", short], check=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (ROOT / ".venv" / ".ready").touch()  # so that make finds the environment newer than the clone's lock file
    before, started, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), Peak()
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    with peak, open(folder / "log", "w") as log:
        done = subprocess.run(["make", "reproduce"], cwd=clone, env=environment, stdout=log, stderr=log)
    if done.returncode:
        sys.exit((folder / "log").read_text(encoding="utf-8"))
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    values = {
        "wall": (wall, "s"),
        "user and system": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "s"),
        "system": (after.ru_stime - before.ru_stime, "s"),
        "written to disk": (512 * (after.ru_oublock - before.ru_oublock) / 1e9, "GB"),
        "largest process": (peak.bytes / 1e9, "GB"),
    }
    detail = f"fresh clone at {short}, {os.cpu_count()} cores"
    return [
        {"name": f"demo at {short}, {name}", "value": value, "unit": unit, "detail": detail}
        for name, (value, unit) in values.items()
    ]


class Peak:
    """Within, the resident memory of the largest process below this one, looked at once a second."""

    def __init__(self) -> None:
        self.bytes, self._over = 0, threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(1.0):
            for child in psutil.Process().children(recursive=True):
                try:
                    self.bytes = max(self.bytes, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


if __name__ == "__main__":
    main()
