"""What jobs take: each measures itself, and the next plan asks for as much."""

import dataclasses
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlclib.common.files import write_text

VARIABLE = "MLCLIB_TIMES"  # the environment variable that names the file in which a job leaves what it took


@dataclass(frozen=True)
class Cost:
    """Seconds that a job takes and megabytes that it needs at its peak; None where that is not known."""

    seconds: float | None
    memory: float | None


def costs(folder: Path) -> dict[str, Cost]:
    """What each job of an experiment took when it last ran, by its `Job.file`."""
    return {path.stem: Cost(**json.loads(path.read_text("utf-8"))) for path in (folder / "times").glob("*.json")}


@contextmanager
def measured(path: str | None) -> Iterator[None]:
    """Within, a job measures its seconds and its peak memory, and leaves them at `path` when it ends well."""
    started = time.monotonic()
    yield
    if path:
        peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cost = Cost(round(time.monotonic() - started, 2), round(sum(peaks) / 1000, 1))  # of kB
        write_text(path, json.dumps(dataclasses.asdict(cost)))
