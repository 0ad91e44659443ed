"""The jobs of an experiment: what each rests on, whether its result is current, and why it is not.

A job is one run, the layer maps of one split, one executed notebook, or the experiment's page. A run says itself what
it rests on (`Study.outdated`). A notebook leaves a record, results/<experiment>/stages/<stage>.json: what it rested on
(its cells and the code behind them, its part of the configuration, the data, the runs and files that it reads, the
versions of packages), and the checksum of each table and figure that it wrote. A job is current while nothing of that
differs. Order and parallel execution are Snakemake's (see Snakefile).
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlclib import models
from mlclib.common import sources
from mlclib.common.errors import unknown
from mlclib.common.files import WRITTEN, sha256, write_text
from mlclib.config import TUNED
from mlclib.runs import execution, store
from mlclib.runs.study import Study
from mlclib.training.features import verified

KEPT = "jobs.json"
SHOWN = ("tables", "figures", "photographs")  # folders that notebooks write their results to


@dataclass(frozen=True)
class Job:
    """name: "maps train", "train msrn seed 0", "02_train-msrn", "page". command: arguments of `python -m mlclib`.

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
        if self.kind == "train":
            return " ".join(self.name.split()[:2])
        return self.name.partition("-")[0]

    @property
    def file(self) -> str:
        """Its name as that of a file."""
        return self.name.replace("/", "_").replace(" ", "_")


@dataclass(frozen=True)
class Stage:
    """One notebook with its parameters, and the runs it reads: names of `Study.every_run`."""

    notebook: str
    parameters: dict[str, str]
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join((self.notebook, *self.parameters.values()))


def jobs(study: Study, arguments: tuple[str, ...], cores: int, force: bool = False) -> list[Job]:
    """The jobs that bring the experiment up to date, in an order in which they can run; those that are current too.

    arguments: how the experiment, its data and its results are named on the command line. force: nothing is current.
    """
    forced = ("--force",) if force else ()
    threads = study.experiment.training.threads or cores
    every, found = study.every_run(), {}
    frozen = study.experiment.backbone.frozen
    prepared = tuple(f"maps {part}" for part in study.dataset.splits) if frozen else ()
    for name, (run, seed) in every.items():
        outdated = study.outdated(run, seed)
        reasons = (*forced, *(["it is not trained"] if outdated is None else outdated))
        command = ("run", *arguments, "--name", name, *forced)
        found[f"train {name}"] = Job(f"train {name}", command, prepared, threads, reasons)
    stages = {stage.name: stage for stage in every_stage(study)}
    for name, stage in stages.items():
        needs = (*(f"train {run}" for run in stage.runs), *prepared)
        reasons = (*forced, *_outdated(study, stage))
        command = ("stage", *arguments, "--name", name)
        found[name] = Job(name, command, needs, threads if stage.notebook == "04_attention" else 1, reasons)
    found["page"] = Job("page", ("report", *arguments), tuple(stages), 1, (*forced, *_outdated_page(study, stages)))
    found = _with_waiting(found)
    if any(job.reasons for name, job in found.items() if name != "page"):
        maps = _maps(study, prepared, arguments, cores)
        found = {**maps, **found}
    return list(_with_waiting(found).values())


def every_stage(study: Study) -> list[Stage]:
    """The notebooks of the experiment, in the order of their numbers."""
    setting = study.experiment
    if setting.tuning:
        return [Stage("01_data", {}, ()), Stage("07_tuning", {}, tuple(study.every_run()))]
    by_folder = {folder: name for name, folder in study.every_folder().items()}

    def named(*configurations) -> tuple[str, ...]:
        folders = (folder for run in configurations for folder in study.run_folders(run, setting.seeds))
        return tuple(dict.fromkeys(by_folder[folder] for folder in folders))

    full = {model: setting.run(model) for model in setting.models}
    looked_at = setting.models if setting.attention.models is None else setting.attention.models
    variants = {
        (model, axis): list(setting.variants(model, axis).values())
        for model in setting.ablation
        for axis in setting.axes(model)
    }
    found = [Stage("01_data", {}, ())]
    found += [Stage("02_train", {"model": model}, named(run)) for model, run in full.items()]
    for (model, axis), configurations in variants.items():
        found.append(Stage("03_ablation", {"model": model, "axis": axis}, named(full[model], *configurations)))
    found += [Stage("04_attention", {"model": model}, named(full[model])) for model in looked_at]
    everything = named(*full.values(), *(run for each in variants.values() for run in each))
    found += [Stage("05_tables", {}, everything), Stage("06_protocols", {}, named(*full.values()))]
    return found


def execute(study: Study, experiment: str, name: str) -> Path:
    """Run one stage's notebook and leave its record.

    experiment: its name or YAML file, as the notebook is given it. Raises UserError where the notebook fails, or where
    there is no such stage.
    """
    stages = {stage.name: stage for stage in every_stage(study)}
    if name not in stages:
        raise unknown("stage", name, stages, where=f"experiment {study.experiment.name!r}")
    stage = stages[name]
    rests_on = inputs(study, stage)
    given = {"experiment": experiment, "data": str(study.root), "results": str(study.results)}
    copy = study.folder / "notebooks" / f"{name}.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "written"
        log.touch()
        os.environ[WRITTEN] = str(log)
        try:
            execution.execute(Path("notebooks") / f"{stage.notebook}.ipynb", copy, {**given, **stage.parameters})
        finally:
            del os.environ[WRITTEN]
        written = {Path(line) for line in log.read_text(encoding="utf-8").splitlines()}
    kept = [path for path in sorted(written) if path.exists() and (path.parent.name in SHOWN or TUNED in path.name)]
    outputs = {os.path.relpath(path, study.folder.resolve()): sha256(path) for path in kept}
    _drop(study, set(record(study, name).get("outputs", ())) - outputs.keys(), but=name)
    _write(study, name, rests_on, outputs)
    return copy


def shown(study: Study) -> set[str]:
    """The tables and figures that the experiment's stages wrote into its folder, relative to it."""
    written = {path for stage in every_stage(study) for path in record(study, stage.name).get("outputs", ())}
    return {path for path in written if Path(path).parent.name in SHOWN}


def page_written(study: Study, path: Path) -> None:
    """Leave the record of the experiment's page at `path`."""
    stages = {stage.name: stage for stage in every_stage(study)}
    _write(study, "page", _page_inputs(study, stages), {path.relative_to(study.folder).as_posix(): sha256(path)})


def keep(study: Study, every: list[Job]) -> None:
    """Leave results/<experiment>/jobs.json for the site: its title, notes and whole configuration, and all its jobs."""
    experiment = json.loads(json.dumps(dataclasses.asdict(study.experiment), default=str))
    kept = {"experiment": experiment, "jobs": [dataclasses.asdict(job) for job in every]}
    write_text(study.folder / KEPT, json.dumps(kept, indent=1))


def kept(folder: Path) -> tuple[dict[str, Any], list[Job]] | None:
    """The experiment and the jobs that `keep` left in its folder; None where it left none."""
    if not (folder / KEPT).exists():
        return None
    told = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    return told["experiment"], [Job(**job) for job in told["jobs"]]


def clear(study: Study) -> None:
    """Remove the records, notebooks, tables and figures of stages that the experiment no longer has."""
    kept = {stage.name for stage in every_stage(study)} | {"page"}
    for path in (study.folder / "stages").glob("*.json"):
        if path.stem not in kept:
            _drop(study, set(record(study, path.stem).get("outputs", ())), but=path.stem)
            for left in (study.folder / "notebooks").glob(f"{path.stem}.*"):
                left.unlink()
            path.unlink()


def record(study: Study, name: str) -> dict[str, Any]:
    """What the stage `name` left of its last execution: {"inputs": ..., "outputs": ...}; empty where there is none."""
    try:
        return json.loads((study.folder / "stages" / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _drop(study: Study, paths: set[str], but: str) -> None:
    """Remove these files of the experiment's folder, but for those that stand in the record of another stage too."""
    others = {path.stem for path in (study.folder / "stages").glob("*.json")} - {but}
    for path in paths.difference(*(record(study, name).get("outputs", ()) for name in others)):
        (study.folder / path).unlink(missing_ok=True)


def _write(study: Study, name: str, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    write_text(study.folder / "stages" / f"{name}.json", json.dumps({"inputs": inputs, "outputs": outputs}, indent=1))


def _outdated(study: Study, stage: Stage) -> list[str]:
    return _differs(study, stage.name, inputs(study, stage))


def _outdated_page(study: Study, stages: dict[str, Stage]) -> list[str]:
    return _differs(study, "page", _page_inputs(study, stages))


def _differs(study: Study, name: str, inputs: dict[str, str]) -> list[str]:
    """Why the record of `name` holds no more, a phrase each: changed inputs, outputs missing or changed by hand."""
    before = record(study, name)
    if not before:
        return ["it has not run"]
    found = sources.changes(before["inputs"], inputs)
    for path, digest in before["outputs"].items():
        file = study.folder / path
        if not file.exists():
            found.append(f"{path} is missing")
        elif sha256(file) != digest:
            found.append(f"{path} was changed by hand")
    return found


def inputs(study: Study, stage: Stage) -> dict[str, str]:
    """What the notebook's result rests on, by name in words: of files and code a digest, of packages the version, of
    configuration the text. The stage is current while its record holds the same.
    """
    setting, folders = study.experiment, study.every_folder()
    found = sources.notebook(Path("notebooks") / f"{stage.notebook}.ipynb")
    found["data"] = study.checksum
    model_files = {"01_data": list(setting.models), "04_attention": [stage.parameters.get("model", "")]}
    for model in model_files.get(stage.notebook, ()):
        found |= sources.parts(models.find(setting.run(model).model).__module__)
    shown: dict[str, Any] = {"title": setting.title, "notes": setting.notes, "parameters": stage.parameters}
    if "model" not in stage.parameters:  # a table of all models has them by these names, in this order
        shown["models"] = tuple(setting.models)
    axes = {"03_ablation": [tuple(stage.parameters.values())]}
    axes["05_tables"] = [(model, axis) for model in setting.ablation for axis in setting.axes(model)]
    shown["ablation"] = {" ".join(one): tuple(setting.variants(*one)) for one in axes.get(stage.notebook, ())}
    if stage.notebook == "04_attention":
        shown["attention"] = {"images": setting.attention.images, "scored": setting.attention.scored}
        shown["attention"]["tried"] = setting.attention.tried
    if stage.notebook == "07_tuning":
        shown["tuning"] = setting.tuning.ranges
    found |= dict(_flat(shown))
    for name in stage.runs:
        folder = folders[name]
        for file in ("manifest.json", store.ACCEPTED):
            if (folder / file).exists():
                found[f"run {name}, {file}"] = sha256(folder / file)
    if stage.notebook in ("05_tables", "06_protocols"):
        for path in sorted((study.folder / "external").glob("*")):
            found[f"external/{path.name}"] = sha256(path)
        for name, (run,) in study.scored_checkpoints().items():
            found[name] = sha256(run.folder / "manifest.json")
    return found


def _page_inputs(study: Study, stages: dict[str, Stage]) -> dict[str, str]:
    """The same of the experiment's page: all that the stages wrote, by their records."""
    written = {path: digest for name in stages for path, digest in record(study, name).get("outputs", {}).items()}
    shown = {"title": study.experiment.title, "notes": study.experiment.notes}
    return {**sources.parts("mlclib.results.report"), **dict(_flat(shown)), **written}


def _maps(study: Study, prepared: tuple[str, ...], arguments: tuple[str, ...], cores: int) -> dict[str, Job]:
    """The jobs `prepared`, "maps <split>", with a reason where the split's cache of layer maps is not whole."""
    found = {}
    for name in prepared:
        part = name.removeprefix("maps ")
        run = study.experiment.run(next(iter(study.experiment.models)))
        there = verified(study.maps_folder(run, part), study.layers)
        reasons = () if there else (f"the layer maps of {part} are not cached",)
        found[name] = Job(name, ("maps", *arguments, "--part", part), (), max(1, cores // 2), reasons)
    return found


def _with_waiting(found: dict[str, Job]) -> dict[str, Job]:
    """The jobs again, where one that is current but comes after one that must run has that as its reason.

    Layer maps are no such reason: cached anew they are the same.
    """
    result: dict[str, Job] = {}
    for name, job in found.items():
        before = [need for need in job.needs if need in result and result[need].reasons and not need.startswith("maps")]
        waits = () if job.reasons or not before else (f"it rests on {_few(before)}",)
        result[name] = Job(job.name, job.command, job.needs, job.threads, (*job.reasons, *waits))
    return result


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted keys and texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)


def run_named(study: Study, name: str) -> tuple[Any, int]:
    """The configuration and seed of the run that `Study.every_run` calls `name`."""
    every = study.every_run()
    if name not in every:
        raise unknown("run", name, every, where=f"experiment {study.experiment.name!r}")
    return every[name]
