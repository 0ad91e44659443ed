"""The jobs of an experiment: what each rests on, whether its result is current, and why it is not.

A job trains the runs of one configuration, caches the layer maps of one split, executes one notebook, or writes the
experiment's page. A run knows itself whether it is current (`Run.reasons`). A notebook leaves a record in
results/<experiment>/stages/<stage>.json: what it rested on (its cells and the code behind them, its part of the
configuration, the data, the runs and files that it reads, versions of packages), and the checksum of each table and
figure that it wrote. It is current while nothing of that differs. Order and parallel execution are Snakemake's.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from mlclib import models
from mlclib.common import sources
from mlclib.common.errors import check_name, some_of
from mlclib.common.files import WRITTEN, sha256, write_text
from mlclib.config import TUNED
from mlclib.runs import notebooks, store
from mlclib.runs.notebooks import Declaration
from mlclib.runs.run import Run
from mlclib.runs.study import Study

JOBS = "jobs.json"
LEARNING_CURVE = "training.images"  # an ablation axis that has one table and figure over all models, in 05_tables
SHOWN = ("tables", "figures", "photographs")  # folders that notebooks write their results to


@dataclass(frozen=True)
class Job:
    """name: "maps train", "train msrn seeds 0, 1", "02_train-msrn", "page". command: arguments of `python -m mlclib`.

    needs: names of jobs that come before. reasons: why it must run, a phrase each; none where it is current.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    threads: int = 1
    reasons: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """ "maps", "train", "notebook" or "page": the rule of the Snakefile that runs it."""
        first = self.name.partition(" ")[0]
        return first if first in ("maps", "train", "page") else "notebook"

    @property
    def like(self) -> str:
        """What jobs that take about as long have in common: the model of a run, the notebook of a stage."""
        return " ".join(self.name.split()[:2]) if self.kind == "train" else self.name.partition("-")[0]

    @property
    def file(self) -> str:
        """Its name as that of a file."""
        return self.name.replace("/", "_").replace(" ", "_").replace(",", "")


@dataclass(frozen=True)
class Stage:
    """One notebook with its parameters, and the runs that it reads."""

    path: Path
    declaration: Declaration
    parameters: dict[str, str]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return "-".join((self.path.stem, *self.parameters.values()))


def jobs(
    study: Study, arguments: tuple[str, ...], cores: int, force: bool = False, together: bool = False
) -> list[Job]:
    """The jobs that bring the experiment up to date, in an order in which they can run; those that are current too.

    arguments: how the experiment, its data and its results are named on the command line. force: nothing is current.
    together: one job trains all seeds of a configuration, where a training is shorter than a process takes to start.
    """
    forced = ("--force",) if force else ()
    threads = study.experiment.training.threads or cores
    maps = {f"maps {part}": part for part in study.dataset.splits} if study.experiment.backbone.frozen else {}
    plan: dict[str, Job] = {}

    def add(name: str, command: str, *more: str, needs: Iterable[str], reasons: Iterable[str], threads: int) -> None:
        """Add a job. It is stale for its own reasons, or if it needs a stale job; new layer maps are as the old."""
        reasons = (*forced, *reasons)
        if stale := [need for need in needs if need in plan and plan[need].reasons]:
            reasons = reasons or (f"it rests on {some_of(stale, 3)}",)
        plan[name] = Job(name, (command, *arguments, *more), tuple(needs), threads, reasons)

    job_of: dict[str, str] = {}
    for _, runs in groupby(study.runs.values(), lambda run: run.folder.parent if together else run.folder):
        group = list(runs)
        reasons = {run.name: run.reasons for run in group}
        stale = [run for run in group if reasons[run.name] or force] or group
        seeds = f"seeds {', '.join(str(run.seed) for run in stale)}" if stale[1:] else f"seed {stale[0].seed}"
        name = f"train {stale[0].name.rpartition(' seed ')[0]} {seeds}"
        named = [word for run in stale for word in ("--name", run.name)]
        why = dict.fromkeys(chain(*reasons.values()))
        add(name, "run", *named, *forced, needs=maps, reasons=why, threads=threads)
        job_of |= dict.fromkeys(reasons, name)
    training, every = any(job.reasons for job in plan.values()), stages(study)
    for stage in every:
        passes, why = stage.declaration.all_threads, _differences(study, stage.name, inputs(study, stage))
        needs = dict.fromkeys([*(job_of[run.name] for run in stage.runs), *(maps if training or passes else ())])
        add(stage.name, "stage", "--name", stage.name, needs=needs, reasons=why, threads=threads if passes else 1)
    why = _differences(study, "page", _page_inputs(study, every))
    add("page", "report", needs=[stage.name for stage in every], reasons=why, threads=1)
    needed = {need for job in plan.values() if job.reasons for need in job.needs}
    return [*(_maps(study, name, arguments, cores) for name in maps if name in needed), *plan.values()]


def stages(study: Study) -> list[Stage]:
    """The notebooks of the experiment, in the order of their names: those that declare to be run over what it has."""
    absent = {"runs", "variants"} if study.experiment.tuning else {"trials"}  # a tuning has trials in place of runs
    every = []
    for path in sorted(notebooks.FOLDER.glob("*.ipynb")):
        declaration = notebooks.declared(path)
        if declaration and not absent.intersection(declaration.reads):
            every += [_stage(study, path, declaration, parameters) for parameters in _over(study, declaration)]
    return every


def execute(study: Study, experiment: str, name: str) -> Path:
    """Run one stage's notebook and leave its record; the executed copy.

    experiment: its name or YAML file, as the notebook is given it. Raises UserError where the notebook fails, or where
    there is no such stage.
    """
    by_name = {stage.name: stage for stage in stages(study)}
    check_name("stage", name, by_name, f"experiment {study.experiment.name!r}")
    stage = by_name[name]
    rests_on = inputs(study, stage)
    parameters = {"experiment": experiment, "data": str(study.root), "results": str(study.results), **stage.parameters}
    copy = study.folder / "notebooks" / f"{name}.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "written"
        log.touch()
        os.environ[WRITTEN] = str(log)
        try:
            notebooks.execute(stage.path, copy, parameters)
        finally:
            del os.environ[WRITTEN]
        written = [Path(line) for line in dict.fromkeys(log.read_text(encoding="utf-8").splitlines())]
    results = [path for path in written if path.exists() and (path.parent.name in SHOWN or TUNED in path.name)]
    outputs = {os.path.relpath(path, study.folder.resolve()): sha256(path) for path in results}
    before = record(study, name).get("outputs", ())
    _write(study, name, rests_on, outputs)
    _remove(study, before)
    return copy


def shown(study: Study) -> list[str]:
    """The tables and figures that the experiment's stages wrote into its folder, relative to it, in that order."""
    written = (path for stage in stages(study) for path in record(study, stage.name).get("outputs", ()))
    return [path for path in dict.fromkeys(written) if Path(path).parent.name in SHOWN]


def page_written(study: Study, path: Path) -> None:
    """Leave the record of the experiment's page at `path`."""
    outputs = {path.relative_to(study.folder).as_posix(): sha256(path)}
    _write(study, "page", _page_inputs(study, stages(study)), outputs)


def write_jobs(study: Study, every: list[Job]) -> None:
    """Leave results/<experiment>/jobs.json for the site: the whole configuration, and all jobs."""
    experiment = json.loads(json.dumps(dataclasses.asdict(study.experiment), default=str))
    text = json.dumps({"experiment": experiment, "jobs": [dataclasses.asdict(job) for job in every]}, indent=1)
    write_text(study.folder / JOBS, text)


def read_jobs(folder: Path) -> tuple[dict[str, Any], list[Job]] | None:
    """The experiment and the jobs that `write_jobs` left in its folder; None where it left none."""
    if not (folder / JOBS).exists():
        return None
    left = json.loads((folder / JOBS).read_text(encoding="utf-8"))
    return left["experiment"], [Job(**job) for job in left["jobs"]]


def clear(study: Study) -> None:
    """Remove the records, notebooks, tables and figures of stages that the experiment no longer has."""
    names = {stage.name for stage in stages(study)} | {"page"}
    for path in (study.folder / "stages").glob("*.json"):
        if path.stem not in names:
            before = record(study, path.stem).get("outputs", ())
            for file in (path, *(study.folder / "notebooks").glob(f"{path.stem}.*")):
                file.unlink()
            _remove(study, before)


def record(study: Study, name: str) -> dict[str, Any]:
    """What the stage `name` left of its last execution: {"inputs": ..., "outputs": ...}; empty where there is none."""
    try:
        return json.loads((study.folder / "stages" / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def inputs(study: Study, stage: Stage) -> dict[str, str]:
    """What the notebook's result rests on, by name in words: of files and code a digest, of packages the version, of
    configuration the text. The stage is current while its record holds the same.
    """
    setting, reads, model = study.experiment, stage.declaration.reads, stage.parameters.get("model")
    rests_on = sources.notebook_digests(stage.path) | {"data": study.checksum}
    for name in ([model] if model else setting.models) if "model code" in reads else ():
        rests_on |= sources.code_digests(models.find(setting.run_config(name).model).__module__)
    shown: dict[str, Any] = {"title": setting.title, "notes": setting.notes, "parameters": stage.parameters}
    if not model:  # a table of all models has them by these names, in this order
        shown["models"] = tuple(setting.models)
    if "variants" in reads:
        axes = [(one, axis) for one in ([model] if model else setting.ablation) for axis in setting.axes(one)]
        shown["ablation"] = {" ".join(one): tuple(setting.variants(*one)) for one in axes}
    if "attention" in reads:
        shown["attention"] = {**dataclasses.asdict(setting.attention), "models": ""}
    if "causes" in reads:
        shown["causes"] = dataclasses.asdict(setting.causes)
    if "trials" in reads:
        shown["tuning"] = dataclasses.asdict(setting.tuning)["ranges"]
    rests_on |= _flat(shown)
    for run in stage.runs:
        for file in (run.folder / "manifest.json", run.folder / store.ACCEPTED):
            if file.exists():
                rests_on[f"run {run.name}, {file.name}"] = sha256(file)
    if "external" in reads:
        from mlclib.runs import train

        outside = sorted((study.folder / "external").glob("*"))
        rests_on |= {f"external/{path.name}": sha256(path) for path in outside}
        scored = train.scored_checkpoints(study).items()
        rests_on |= {name: sha256(run.folder / "manifest.json") for name, (run,) in scored}
    return rests_on


def _over(study: Study, declaration: Declaration) -> list[dict[str, str]]:
    """The parameters of a notebook's jobs, one mapping per job."""
    setting = study.experiment
    axes = [(model, axis) for model in setting.ablation for axis in setting.axes(model) if axis != LEARNING_CURVE]
    return {
        "experiment": [{}],
        "causes": [{}] if setting.causes else [],
        "model": [{"model": model} for model in setting.models],
        "attended model": [{"model": model} for model in setting.attended],
        "axis": [{"model": model, "axis": axis} for model, axis in axes],
    }[declaration.over]


def _stage(study: Study, path: Path, declaration: Declaration, parameters: dict[str, str]) -> Stage:
    """A stage with the runs that its declaration says it reads."""
    asked = [
        configuration
        for model, axis, _, configuration in study.experiment.configurations()
        if ("variants" if axis else "runs") in declaration.reads
        and parameters.get("model", model) == model
        and (not axis or parameters.get("axis", axis) == axis)
    ]
    runs = study.runs.values() if "trials" in declaration.reads else study.runs_of(*asked)
    return Stage(path, declaration, parameters, tuple(runs))


def _page_inputs(study: Study, every: list[Stage]) -> dict[str, str]:
    """What the experiment's page rests on: all that the stages wrote, by their records."""
    written = {path: digest for stage in every for path, digest in record(study, stage.name).get("outputs", {}).items()}
    shown = {"title": study.experiment.title, "notes": study.experiment.notes}
    return {**sources.code_digests("mlclib.results.report"), **_flat(shown), **written}


def _differences(study: Study, name: str, now: dict[str, str]) -> list[str]:
    """Why the record of `name` holds no more, a phrase each: changed inputs, outputs missing or changed by hand."""
    before = record(study, name)
    if not before:
        return ["it has not run"]
    reasons = sources.changes(before["inputs"], now)
    for path, digest in before["outputs"].items():
        file = study.folder / path
        if not file.exists():
            reasons.append(f"{path} is missing")
        elif sha256(file) != digest:
            reasons.append(f"{path} was changed by hand")
    return reasons


def _maps(study: Study, name: str, arguments: tuple[str, ...], cores: int) -> Job:
    """The job "maps <split>"."""
    from mlclib.training import features

    part = name.removeprefix("maps ")
    whole = features.verified(study.maps_folder(part), study.layers)
    reasons = () if whole else (f"the layer maps of {part} are not cached",)
    return Job(name, ("maps", *arguments, "--part", part), (), max(1, cores // 2), reasons)


def _remove(study: Study, paths: Iterable[str]) -> None:
    """Remove these files of the experiment's folder, but for those that a record names."""
    names = [path.stem for path in (study.folder / "stages").glob("*.json")]
    for path in set(paths).difference(*(record(study, name).get("outputs", ()) for name in names)):
        (study.folder / path).unlink(missing_ok=True)


def _write(study: Study, name: str, rests_on: dict[str, str], outputs: dict[str, str]) -> None:
    text = json.dumps({"inputs": rests_on, "outputs": outputs}, indent=1)
    write_text(study.folder / "stages" / f"{name}.json", text)


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested configuration as dotted keys and texts."""
    if isinstance(value, dict):
        inner = [_flat(part, f"{name}.{key}" if name else str(key)) for key, part in value.items()]
        return {key: text for each in inner for key, text in each.items()}
    return {name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)}
