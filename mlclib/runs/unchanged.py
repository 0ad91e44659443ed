"""A quick answer to "is there anything to do?": nothing changed since the plan last found that there is not.

The plan reads every run, table and source, for which it imports torch and pandas. Where it finds nothing to do, it
leaves the size and the time of change of every file that this rests on. While all of them are the same, and their
folders hold no other files, the answer stands, and nothing heavy is imported.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from mlclib.common.files import write_text
from mlclib.common.sources import ROOT

FILE = "unchanged.json"
OWN = ("mlclib", "notebooks", "experiments", "data/*.csv", "requirements.lock")  # of the project
LEFT = ("stages", "tables", "figures", "photographs", "external", "README.md")  # of an experiment


def since(folder: Path, experiment: str, data: str) -> int | None:
    """How many jobs were all up to date when the plan last looked; None where anything changed since, or it never did.

    folder: of the experiment's results. experiment, data: as the command line names them.
    """
    try:
        note = json.loads((folder / FILE).read_text(encoding="utf-8"))
        same = note["asked"] == [experiment, data] and _stats(note["watched"]) == note["files"]
    except (OSError, ValueError, KeyError):
        return None
    return note["jobs"] if same else None


def note(folder: Path, experiment: str, data: str, jobs: int, rests_on: Iterable[Path], started: int) -> None:
    """Leave for `since` that all jobs are up to date, unless a file changed while the plan looked.

    rests_on: the data set, the runs, and files of the configuration; the project's own files and those of the
    experiment's results are watched besides. started: when the plan began to look, in nanoseconds since 1970.
    """
    own = [path for pattern in OWN for path in ROOT.glob(pattern)]
    files = [*(folder / name for name in LEFT), *Path(experiment).parent.glob("*.y*ml")]  # with what it includes
    watched = list(dict.fromkeys(map(str, [*own, *files, *rests_on])))
    files = _stats(watched)
    if all(changed < started for _, changed in files.values()):
        state = {"asked": [experiment, data], "jobs": jobs, "watched": watched, "files": files}
        write_text(folder / FILE, json.dumps(state))


def _stats(watched: Iterable[str]) -> dict[str, list[int]]:
    """[size, time of change] of each file, and of every file in a folder."""
    files = (file for path in map(Path, watched) for file in (path.rglob("*") if path.is_dir() else [path]))
    stats = {file: file.stat() for file in files if file.suffix != ".pyc" and file.is_file()}
    return {str(file): [stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()}
