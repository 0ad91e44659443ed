"""Does results/<experiment> hold what its runs give? Every file there is compared with something.

- runs: each file with the SHA-256 in the manifest of its run;
- tables that rest on predictions alone: their notebooks are executed again, and each csv is compared byte for byte;
- all other files (attention, figures, other formats of a table, the page): with the SHA-256 in the record that their
  notebook left, and that record with the runs and the data that stand now;
- with a share to retrain: runs are trained again, and their scores compared (retrain.py).
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from mlclib import config
from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import sha256
from mlclib.runs import plan, store
from mlclib.runs.study import Study
from mlclib.verify import record, retrain

RESULTS = ("data ", "run ", "external/")  # prefixes of a notebook's inputs that are data or runs and not code


@dataclass
class Report:
    """What `verify` says. problems: what is contradicted, missing or damaged. unsure: what cannot be decided."""

    experiment: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = self.facts + [f"cannot tell: {one}" for one in self.unsure] + [f"wrong: {one}" for one in self.problems]
        return "\n".join([*lines, f"{self.experiment}: {'NOT ' if self.problems else ''}verified"])


def verify(study: Study, experiment: str, share: float | None = None, seed: int = 0) -> Report:
    """Check the results of an experiment. Write their record (record.py) where nothing is wrong.

    experiment: its name or YAML file, as the notebooks take it. share: of the runs, to be trained again. seed: which
    runs are drawn. Raises UserError for a share outside 0 to 1.
    """
    report = Report(study.experiment.name)
    whole = _runs(study, report)
    compared = set() if report.problems else _tables(study, experiment, report)
    _records(study, report, compared)
    if share is not None and whole:
        names = retrain.drawn(whole, share, seed)
        sentences = retrain.retrained(study, names)
        counts = ", ".join(f"{len(each)} {verdict}" for verdict, each in sentences.items() if each)
        report.facts += [f"trained anew: {', '.join(names)}; scores: {counts}", *sentences[retrain.NOISE]]
        report.problems += sentences[retrain.CONTRADICTED]
        report.unsure += sentences[retrain.UNKNOWN]
    if not report.problems:
        report.facts.append(f"record: {record.write(study)}")
    return report


def _runs(study: Study, report: Report) -> list[str]:
    """The names of the runs that are whole. What is wrong with the others goes into the report."""
    whole, outdated = [], Counter()
    for name, run in study.runs.items():
        if not run.finished:
            bad = ", ".join(store.damaged(run.folder))
            report.problems.append(f"run {name}: {bad} of {run.folder} is damaged or missing; train it again")
        else:
            whole.append(name)
            outdated.update(run.changes)
    report.facts.append(f"runs: {len(whole)} of {len(study.runs)} are whole, each file by its checksum")
    report.facts += [f"code: {reason} since {count} of the runs were made" for reason, count in outdated.items()]
    return whole


def _tables(study: Study, experiment: str, report: Report) -> set[str]:
    """Execute again, in another folder, the notebooks whose csv files rest on predictions, and compare these files.

    Returns the csv files compared, by their path in the experiment's folder.
    """
    with tempfile.TemporaryDirectory(prefix="mlclib-verify-") as folder:
        fresh, settings = _linked(study, experiment, Path(folder))
        for stage in [one for one in plan.stages(study) if one.declaration.from_predictions]:
            if any(path.endswith(".csv") for path in plan.record(study, stage.name).get("outputs", ())):
                try:
                    plan.execute(fresh, str(settings), stage.name)
                except UserError as error:
                    report.problems.append(str(error))
        again = {path.name: path.read_bytes() for path in sorted(fresh.folder.glob("tables/*.csv"))}
    stands = {path.name: path.read_bytes() for path in study.folder.glob("tables/*.csv")}
    same = [name for name in again if again[name] == stands.get(name)]
    for name in sorted(again.keys() - same):
        difference = _difference(stands[name], again[name]) if name in stands else "it is missing"
        report.problems.append(f"{study.folder / 'tables' / name} is contradicted: {difference}")
    count, names = f"{len(same)} of {len(again)}", ", ".join(name.removesuffix(".csv") for name in same)
    report.facts.append(f"tables: {count} come out of the predictions to the same bytes ({names})")
    return {f"tables/{name}" for name in again}


def _linked(study: Study, experiment: str, folder: Path) -> tuple[Study, Path]:
    """The study with its results in `folder`, where its runs are links, and the YAML file of its experiment there.

    Nothing that a notebook writes there changes the runs, or the settings that a tuning wrote beside its own YAML file.
    Runs made by other code are accepted there, since a notebook would otherwise train them again.
    """
    fresh = Study(study.experiment, study.root, folder)
    runs = (study.results / "runs").resolve()
    shutil.copytree(runs / study.dataset.name, folder / "runs" / study.dataset.name, copy_function=os.symlink)
    fresh.folder.mkdir()
    (folder / "verified").symlink_to((study.results / "verified").resolve())
    (fresh.folder / "external").symlink_to((study.folder / "external").resolve())
    for run in fresh.runs.values():
        run.accept()
    settings = folder / f"{study.experiment.name}.yaml"
    settings.write_text(json.dumps({"include": str(config.file_of(experiment).resolve())}), encoding="utf-8")
    return fresh, settings


def _difference(stands: bytes, again: bytes) -> str:
    """The first line that differs, in words."""
    lines = enumerate(zip_longest(stands.split(b"\n"), again.split(b"\n"), fillvalue=b"no line"), start=1)
    number, both = next((number, both) for number, both in lines if both[0] != both[1])
    old, new = (line.decode(errors="replace")[:100] for line in both)
    return f"line {number} is {old!r}, and its runs' predictions give {new!r}"


def _records(study: Study, report: Report, compared: set[str]) -> None:
    """Compare each file with the record of the notebook that wrote it, and each record with the runs and the data."""
    stages, unchanged, recorded = {stage.name: stage for stage in plan.stages(study)}, set(), set()
    for name in (*stages, "page"):
        left = plan.record(study, name)
        if not left:
            report.problems.append(f"the record of {name} is missing: `make reproduce` makes it")
            continue
        recorded |= left["outputs"].keys()
        files = {path: study.folder / path for path in left["outputs"]}
        same = {path for path, file in files.items() if file.is_file() and sha256(file) == left["outputs"][path]}
        unchanged |= same
        wrong = files.keys() - same - compared  # where lines are compared, that says more
        report.problems += [f"{files[path]} is missing or not what {name} wrote" for path in sorted(wrong)]
        changed = sources.changes(left["inputs"], plan.inputs(study, stages[name])) if name in stages else []
        others = [reason for reason in changed if reason.startswith(RESULTS)]
        report.problems += [f"{name} was made of other runs or data: {reason}" for reason in others]
        if len(changed) > len(others) and not stages[name].declaration.from_predictions:
            report.unsure.append(f"whether {name} would come out the same: its code changed (`status` says where)")
    count = f"{len(unchanged)} of {len(recorded)}"
    report.facts.append(f"files: {count} tables, figures and pages are what their notebook wrote, by checksum")
    stray = {f"tables/{path.name}" for path in study.folder.glob("tables/*.csv")} - recorded - compared
    report.unsure += [f"nothing says what made {study.folder / path}" for path in sorted(stray)]
