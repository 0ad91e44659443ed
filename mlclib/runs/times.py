"""What jobs take: each measures itself, or `check` estimates it, and the next plan asks for as much."""

import dataclasses
import json
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlclib.common.files import write_text

VARIABLE = "MLCLIB_TIMES"  # the environment variable that names the file in which a job leaves what it took


@dataclass(frozen=True)
class Cost:
    """Seconds that a job takes and megabytes that it needs at its peak; None where that is not known."""

    seconds: float | None
    memory: float | None


def costs(folder: Path) -> dict[str, Cost]:
    """What each job of an experiment last took, by `Job.file`, and what `check` estimated, by `Job.like`."""
    return {path.stem: Cost(**json.loads(path.read_text("utf-8"))) for path in (folder / "times").glob("*.json")}


def write_estimates(folder: Path, estimates: Iterable[dict[str, Any]]) -> None:
    """Leave what `check` estimated of a run of each model, for the experiment in `folder`."""
    for one in (one for one in estimates if one["runs"]):  # layer maps are no run
        cost = {"seconds": one["seconds"] / one["runs"], "memory": one["memory"] and one["memory"] / 1e6}
        write_text(folder / "times" / f"train {one['model']}.json", json.dumps(cost))


def words(seconds: float) -> str:
    """A length of time as a person says it: "8 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


@contextmanager
def measured(path: str | None) -> Iterator[None]:
    """Within, a job measures its seconds and its peak memory, and leaves them at `path` when it ends well."""
    started = time.monotonic()
    yield
    if path:
        # Not their sum: what a process starts counts with its parent's memory until it runs its own program.
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cost = Cost(round(time.monotonic() - started, 2), round(max(peaks) / 1000, 1))  # of kB
        write_text(path, json.dumps(dataclasses.asdict(cost)))
