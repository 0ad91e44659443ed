"""Studies: an experiment with its data set on disk, and the runs that it asks for, made where they are not there."""

import dataclasses
import datetime
import fnmatch
import glob
import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from mlclib import config, datasets, models
from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import file_lock, sha256, write_text, written_whole
from mlclib.common.machine import processor
from mlclib.common.progress import Progress
from mlclib.config import Experiment, RunConfig
from mlclib.datasets import content, integrity, labels, stratify
from mlclib.datasets.base import Dataset
from mlclib.models import Labels, authors
from mlclib.models.base import Classifier
from mlclib.models.cost import cost
from mlclib.runs import store, tuning
from mlclib.runs.store import FinishedRun
from mlclib.runs.tuning import Trials
from mlclib.training.features import cached_maps
from mlclib.training.inputs import Images, Maps, Repeated, transform_of
from mlclib.training.settings import processes, torch_settings
from mlclib.training.trainer import Trainer
from mlclib.training.weights import trained_state

RUN_CODE = ("mlclib.training.trainer", "mlclib.training.inputs", "mlclib.transforms")  # with its model's own file
MAPS_CODE = ("mlclib.training.features", "mlclib.transforms")  # what cached layer maps rest on
# No part of a run's result: scores are made anew from its predictions, the configuration names its folder.
SCORED_LATER = ("mlclib.metrics.scores", "mlclib.config", *sources.NO_RESULT)
CHECKPOINT = "checkpoint.sha256"  # in the folder of a run that only scored one
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


class Study:
    """An experiment together with its data set on disk and the folder that holds its results."""

    def __init__(self, experiment: Experiment, data: str | Path = "", results: str | Path = "results"):
        """data: the data set's folder where it is not the one that the experiment names."""
        self.experiment, self.results = experiment, Path(results)
        self.root = Path(data or experiment.dataset["root"])
        self.folder = self.results / experiment.name
        self._known: dict[tuple[str, str, int | None], Labels] = {}
        self._homes: dict[str, Path] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data set as read from `root`, without the images that the experiment excludes.

        Raises UserError where files are missing or wrong.
        """
        options = {key: value for key, value in self.experiment.dataset.items() if key not in ("name", "root")}
        whole = datasets.load(self.experiment.dataset["name"], self.root, **options)
        return integrity.exclude(whole, self.experiment.exclude)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of what the data set holds, the bytes of its images with it; nothing of where it lies."""
        lies = config.digest(str(self.root.resolve()))
        return content.checksum(self.dataset, self.results / "verified" / f"{self.dataset.name}-{lies}.json")

    def rows(self, run: RunConfig) -> np.ndarray:
        """The rows of the training split that the run learns from: all, or the first of `training.images`."""
        present = self.dataset.splits["train"].targets == 1
        count = run.training.images
        return np.arange(len(present)) if count is None else stratify.first(present, count)

    @cached_property
    def cooccurrence(self) -> tuple[np.ndarray, np.ndarray]:
        """Co-occurrence counts [C, C] and label counts [C] of the training split."""
        return labels.cooccurrence(self.dataset.splits["train"].targets)

    def known(self, run: RunConfig) -> Labels:
        """What the run's model is told of the labels: their vectors and their co-occurrence."""
        key = run.label_vectors, run.cooccurrence, run.training.images
        if key not in self._known:
            self._known[key] = self._told(run)
        return self._known[key]

    def _told(self, run: RunConfig) -> Labels:
        names = self.dataset.labels
        graph = labels.cooccurrence(self.dataset.splits["train"].targets[self.rows(run)])
        if run.label_vectors.endswith(".pkl"):
            vectors = authors.read_label_vectors(run.label_vectors, names)
        else:
            vectors = labels.vectors(names, run.label_vectors)
        if run.cooccurrence != "train":
            graph = authors.read_cooccurrence(run.cooccurrence, names, graph[0])
        return Labels(len(names), vectors, graph, run.model)

    def build(self, run: RunConfig) -> Classifier:
        """The run's model with fresh weights; draws from torch's global generator."""
        known, backbone = self.known(run), run.backbone
        model = models.build(
            run.model,
            labels=self.dataset.labels,
            label_vectors=known.vectors,
            cooccurrence=(known.counts, known.totals),
            backbone=backbone.name,
            weights=backbone.weights,
            frozen=backbone.frozen,
            loss=run.training.loss,
            **run.options,
        )
        model.backbone.freeze_part(run.training.frozen_layers, run.training.frozen_norms)
        return model

    def inputs(self, run: RunConfig, part: str, seed: int = 0) -> Images | Maps | Repeated:
        """The split `part` as the run's model takes it: cached maps if its backbone is frozen, else images."""
        if run.backbone.frozen:
            whole = self.maps(run, part)
        else:
            varied = part == "train" and run.training.augmentation != "none"
            whole = Images(self.dataset.splits[part], transform_of(run.identity(), varied), seed)
        return Repeated(whole, self.rows(run)) if part == "train" and run.training.images else whole

    def maps(self, run: RunConfig, part: str, layers: tuple[int, ...] = ()) -> Maps:
        """The maps of a split by the run's frozen backbone, from their cache or computed and cached now.

        layers: which; those of the run's model unless given.
        """
        self.check_images()
        split, folder = self.dataset.splits[part], self.maps_folder(run, part)
        return cached_maps(split, folder, run.backbone, run.input_size, layers or _layers(run))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose maps some model of the experiment, or some variant of it, takes."""
        runs = [self.experiment.run(model) for model in self.experiment.models]
        for model in self.experiment.ablation:
            for axis in self.experiment.axes(model):
                runs += self.experiment.variants(model, axis).values()
        return tuple(sorted({layer for run in runs for layer in _layers(run)}))

    def maps_folder(self, run: RunConfig, part: str) -> Path:
        """results/features/<data set>/<backbone>-<input size>-<8 hex of data, backbone, weights and code>/<split>."""
        weights = _content(run.backbone.weights)
        code = sources.parts(*MAPS_CODE, without=SCORED_LATER)
        made = config.digest([self.checksum, run.backbone.name, weights, run.input_size, code])
        name = f"{run.backbone.name}-{run.input_size}-{made}"
        return self.results / "features" / self.dataset.name / name / part

    def run_folder(self, run: RunConfig, seed: int, **more: str) -> Path:
        """results/runs/<data set>/<model>-<8 hex of its configuration, data and `more`>/seed-<k>.

        A file that the configuration names counts by its content.
        """
        return self.run_folders(run, (seed,), **more)[0]

    def run_folders(self, run: RunConfig, seeds: Iterable[int], **more: str) -> list[Path]:
        """`run_folder` of several seeds."""
        key = repr((run, more))
        if key not in self._homes or run.training.init:  # the run that it starts from may be made anew
            self._homes[key] = self._home(run, more)
        return [self._homes[key] / f"seed-{seed}" for seed in seeds]

    def _home(self, run: RunConfig, more: dict[str, str]) -> Path:
        """The folder that holds a folder for each seed."""
        identity = {**run.written_out(), "data": self.checksum, **more}
        known = self.known(run)
        told = [np.asarray(array).tobytes() for array in (known.vectors, known.counts, known.totals)]
        identity["known"] = hashlib.sha256(b"".join(told)).hexdigest()
        for key in ("label_vectors", "cooccurrence"):
            identity[key] = "file" if Path(identity[key]).is_file() else identity[key]
        identity["backbone"] = {**identity["backbone"], "weights": _content(run.backbone.weights)}
        if run.training.init:
            identity["init"] = sha256(_start(run.training.init) / "manifest.json")
        name = run.model.rpartition(":")[2].lower()
        return self.results / "runs" / self.dataset.name / f"{name}-{config.digest(identity)}"

    def code(self, run: RunConfig) -> dict[str, str]:
        """The code and the versions of packages that the run's result rests on: {file or package: digest or version}.

        Its configuration and data are in the name of its folder. How scores are computed is not among it: they are
        made anew from the predictions.
        """
        module = models.find(run.model).__module__
        maps = MAPS_CODE if run.backbone.frozen else ()
        own = sources.parts(*RUN_CODE, module, *maps, without=SCORED_LATER)
        if not module.startswith("mlclib."):
            file = Path(inspect.getsourcefile(models.find(run.model)))
            own[file.name] = sources.digest(file.read_text(encoding="utf-8"))
        return own

    def outdated(self, run: RunConfig, seed: int) -> list[str] | None:
        """Why the run is to be made anew, a phrase a reason: none where it is current, None where it is not finished.

        A run that was accepted (`accept`) although the code had changed is current until it changes again.
        """
        folder = self.run_folder(run, seed)
        _recover(folder)
        if not store.finished(folder):
            return None
        about = store.about(folder)
        now = self.code(run)
        if any(accepted["code"] == now for accepted in about.get("accepted", ())):
            return []
        return sources.changes(about["code"], now)

    def accept(self, run: RunConfig, seed: int) -> list[str]:
        """Take a finished run as current although the code changed; it is written down in the run. The changes."""
        reasons = self.outdated(run, seed)
        if reasons:
            store.accept(self.run_folder(run, seed), self.code(run), reasons, _now())
        return reasons or []

    def every_run(self) -> dict[str, tuple[RunConfig, int]]:
        """Every run that the experiment asks for, each once: a name in words -> configuration and seed."""
        return {name: (run, seed) for name, run, seed in self._every().values()}

    def every_folder(self) -> dict[str, Path]:
        """The folders of these runs, by the same names."""
        return {name: folder for folder, (name, _, _) in self._every().items()}

    def _every(self) -> dict[Path, tuple[str, RunConfig, int]]:
        found: dict[Path, tuple[str, RunConfig, int]] = {}
        if self.experiment.tuning:
            asked = [(name, run) for model in self.experiment.models for name, run in self.trials(model).items()]
        else:
            asked = [(model, self.experiment.run(model)) for model in self.experiment.models]
        for model in self.experiment.ablation:
            for axis in self.experiment.axes(model):
                asked += [(f"{model} {axis} {v}", run) for v, run in self.experiment.variants(model, axis).items()]
        seeds = self.experiment.seeds
        for name, run in asked:
            for seed, folder in zip(seeds, self.run_folders(run, seeds), strict=True):
                found.setdefault(folder, (f"{name} seed {seed}", run, seed))
        return found

    def train(
        self, run: RunConfig, seeds: tuple[int, ...] | None = None, name: str = "", force: bool = False
    ) -> list[FinishedRun]:
        """The run's seeds (default: the experiment's), each trained unless it is finished and current already.

        force: train it although it is.
        """
        seeds = self.experiment.seeds if seeds is None else seeds
        return [self._train(run, seed, name or run.model, force) for seed in seeds]

    def train_variants(self, model: str, axis: str) -> dict[str, list[FinishedRun]]:
        """The runs of every variant of an ablation axis, trained unless finished already: value -> a run a seed."""
        variants = self.experiment.variants(model, axis)
        return {value: self.train(run, name=f"{model} {axis} {value}") for value, run in variants.items()}

    def trials(self, model: str) -> dict[str, RunConfig]:
        """The trials of a model's tuning in order: a name in words -> configuration.

        Raises UserError where the data set has no labelled validation part, by which alone they are scored.
        """
        val = self.dataset.splits.get("val")
        if val is None or not (val.targets == 1).any():
            raise UserError(
                f"experiment {self.experiment.name!r} tunes on the validation part of its data set and "
                f"{self.dataset.name} has none with labels: set one apart, as with `dataset: {{val_share: 0.2}}`"
            )
        return {f"{model} trial {n}": run for n, run in enumerate(tuning.trials(self.experiment, model))}

    def train_trials(self) -> Trials:
        """Every trial of every model, trained unless finished already; see `finished_trials`."""
        for model in self.experiment.models:
            for name, run in self.trials(model).items():
                for seed in self.experiment.seeds:
                    if self.outdated(run, seed) != []:
                        self.train(run, (seed,), name)
        return self.finished_trials()

    def finished_trials(self) -> Trials:
        """The runs of every model's trials with their predictions on the validation images; those on the test images
        are not read. Raises UserError where one is not finished.
        """
        return {
            model: [
                [self._read(run, seed, "validation") for seed in self.experiment.seeds]
                for run in self.trials(model).values()
            ]
            for model in self.experiment.models
        }

    def label_graphs(self) -> dict[str, np.ndarray]:
        """The label graphs, float32 [C, C], that the experiment's models are built with, by a title that says which
        models have it and how it is made; none where no model has one.
        """
        graphs: dict[str, tuple[list[str], np.ndarray]] = {}
        for name in self.experiment.models:
            run = self.experiment.run(name)
            kind, options = models.find(run.model), models.check_options(run.model, run.options)
            graph = kind.label_graph(self.known(run), options)
            if graph is None:
                continue
            source = "the training split" if run.cooccurrence == "train" else Path(run.cooccurrence).name
            told = {key: value for key, value in dataclasses.asdict(options).items() if key.startswith("graph")}
            made = ", ".join([*(f"{key} {value}" for key, value in told.items()), f"counts of {source}"])
            alike = next((known for known, (_, other) in graphs.items() if np.array_equal(other, graph.numpy())), made)
            graphs.setdefault(alike, ([], graph.numpy()))[0].append(name)
        return {f"{', '.join(names)} ({made})": graph for made, (names, graph) in graphs.items()}

    def prepare(self) -> str:
        """Compute what every run starts from: a frozen backbone's layer maps. Says what there is."""
        setting = self.experiment
        if not setting.backbone.frozen:
            return f"{setting.backbone.name} learns: its maps are computed anew in every step, nothing is cached"
        run = setting.run(next(iter(setting.models)))
        for part in self.dataset.splits:
            self.maps(run, part, self.layers)
        images = sum(map(len, self.dataset.splits.values()))
        return f"the layer maps of {setting.backbone.name} for {images} images of {setting.input_size} px are cached"

    def finished(self, model: str) -> list[FinishedRun]:
        """The finished runs of one of the experiment's models, by seed; none where nothing is trained yet."""
        return self.read(self.experiment.run(model))

    def finished_variants(self, model: str, axis: str) -> dict[str, list[FinishedRun]]:
        """The finished runs of each variant of an ablation axis."""
        return {value: self.read(run) for value, run in self.experiment.variants(model, axis).items()}

    def read(self, run: RunConfig) -> list[FinishedRun]:
        """The finished runs of one configuration, by seed."""
        return [self._read(run, seed) for seed in self.experiment.seeds if self.outdated(run, seed) is not None]

    def _read(self, run: RunConfig, seed: int, part: str = "predictions") -> FinishedRun:
        """A finished run, with the notes of today and what of the code changed since it was made."""
        found = store.read(self.run_folder(run, seed), part)
        about = {**found.about, "notes": list(self.experiment.notes), "changed": self.outdated(run, seed)}
        about["data"] = {**about["data"], "notes": list(self.dataset.notes)}
        return dataclasses.replace(found, about=about)

    def _train(self, run: RunConfig, seed: int, name: str, force: bool) -> FinishedRun:
        """The run of one seed, read or trained; of several processes that want it one trains and the others wait."""
        folder = self.run_folder(run, seed)
        if self.outdated(run, seed) == [] and not force:
            return self._read(run, seed)
        main = processes().is_main_process
        lock = file_lock(folder.with_name(f".{folder.name}.lock"), f"the training of {name} seed {seed}")
        with lock if main else nullcontext():
            processes().wait_for_everyone()
            with torch_settings(run.training):
                self._train_alone(run, seed, name, force)
        return self._read(run, seed)

    def _train_alone(self, run: RunConfig, seed: int, name: str, force: bool) -> None:
        folder = self.run_folder(run, seed)
        outdated = self.outdated(run, seed)  # another process may have trained it while this one waited
        if outdated == [] and not force:
            return
        # What was finished stays until the new is whole.
        work = folder if outdated is None else _beside(folder, "new")
        _begin(work, self.code(run))
        started = _now()
        torch.manual_seed(seed)
        model = self.build(run)
        if processes().is_main_process:
            for sentence in model.size_warnings(run.input_size):
                warnings.warn(f"{name}: {sentence}", stacklevel=1)
        if run.training.init:
            model.backbone.load_state_dict(_backbone_of(_start(run.training.init)))
        with processes().main_process_first():  # the others find images checked and layer maps cached
            self.check_images()
            data = {part: self.inputs(run, part, seed) for part in self.dataset.splits}
        progress = Progress(f"{name} seed {seed}", run.training.epochs)
        trainer = Trainer(model, data["train"], data["test"], run.training, seed, work, progress, val=data.get("val"))
        state = trainer.run()
        epochs = {"best_epoch": state.best_epoch, "chosen_epoch": state.chosen_epoch}
        self._finish(work, {**self._about(run, seed, started), **epochs}, run, trainer)
        if work != folder and trainer.accelerator.is_main_process:
            _replace(folder)
        trainer.accelerator.wait_for_everyone()

    def evaluate(self, run: RunConfig, checkpoint: str | Path) -> FinishedRun:
        """Score a checkpoint of the authors on the test split: a run folder without training.

        Raises UserError naming what does not fit where the checkpoint is not that of this model and its options.
        """
        folder, started = self.run_folder(run, 0, checkpoint=sha256(checkpoint)), _now()
        if not store.finished(folder):
            folder.mkdir(parents=True, exist_ok=True)
            model = self.build(run)
            models.load_authors(model, authors.read_checkpoint(checkpoint))
            self.check_images()
            test = self.inputs(run, "test")
            with torch_settings(run.training):
                trainer = Trainer(model, test, test, run.training, 0, folder)
                trainer.state.logits["last"] = trainer.evaluate(test)
                if "val" in self.dataset.splits:
                    trainer.state.val["last"] = trainer.evaluate(self.inputs(run, "val"))
                write_text(folder / CHECKPOINT, sha256(checkpoint))
                self._finish(folder, {**self._about(run, 0, started), "checkpoint": str(checkpoint)}, run, trainer)
        return store.read(folder)

    def scored_checkpoints(self) -> dict[str, list[FinishedRun]]:
        """The authors' checkpoints that `evaluate` scored for a model of the experiment, by a name that says so."""
        found = {}
        for model in self.experiment.models:
            run = self.experiment.run(model)
            stem = self.run_folder(run, 0).parent.name.rpartition("-")[0]
            for note in sorted((self.results / "runs" / self.dataset.name).glob(f"{stem}-*/seed-0/{CHECKPOINT}")):
                checksum = note.read_text(encoding="utf-8")
                if note.parent == self.run_folder(run, 0, checkpoint=checksum) and store.finished(note.parent):
                    name = f"{model} (authors' checkpoint)"
                    found[name if name not in found else f"{name[:-1]} {checksum[:8]})"] = [store.read(note.parent)]
        return found

    def check_images(self) -> None:
        """Open every image once for each state of the data set.

        Raises UserError with the report of the bad ones, or naming those that stand in two splits.
        """
        seal = self.results / "verified" / f"{self.dataset.name}-{self.checksum[:16]}"
        if seal.exists():
            return
        report = integrity.verify(self.dataset)
        shared, name = report.shared_images, self.experiment.name
        out = json.dumps(sorted({*self.experiment.exclude, *report.bad_images, *shared}), ensure_ascii=False)
        if report.bad_images:
            raise UserError(f"{report}\nget these images anew, or write `exclude: {out}` in experiment {name}")
        if shared:
            copies = dict.fromkeys(report.problems["in two splits"][one] for one in shared)
            raise UserError(
                f"data set {self.dataset.name} has pictures in two splits, so that a score would reward learning by "
                f"heart ({'; '.join(copies)}): write `exclude: {out}` in experiment {name} to leave these out"
            )
        write_text(seal, str(report))

    def _finish(self, folder: Path, about: dict[str, Any], run: RunConfig, trainer: Trainer) -> None:
        """Write the run folder's files, by the main process."""
        state, test, val = trainer.state, self.dataset.splits["test"], self.dataset.splits.get("val")
        about["unseen"] = trainer.model.size_warnings(run.input_size)
        about["cost"] = cost(trainer.model, run.input_size)._asdict()
        if trainer.accelerator.is_main_process:
            logits, seen = ({key: value.numpy() for key, value in part.items()} for part in (state.logits, state.val))
            with written_whole(folder / "weights.safetensors") as part:
                state_dict = {key: value.cpu().contiguous() for key, value in trained_state(trainer.model).items()}
                part.write_bytes(save(state_dict))  # save_file would make a file that its owner alone may read
            store.write_predictions(folder / "predictions.npz", test.names, test.targets, **logits)
            if val:  # what a threshold may be chosen on
                store.write_predictions(folder / "validation.npz", val.names, val.targets, **seen)
            store.write_run(folder, about, {key: store.score(value, test.targets) for key, value in logits.items()})
        trainer.accelerator.wait_for_everyone()

    def _about(self, run: RunConfig, seed: int, started: str) -> dict[str, Any]:
        return {
            "experiment": self.experiment.name,
            "configuration": run.written_out(),
            "init": run.training.init and "/".join(_start(run.training.init).parts[-3:]),
            "code": self.code(run),
            "seed": seed,
            "notes": list(self.experiment.notes),
            "labels": list(self.dataset.labels),
            "data": {
                "name": self.dataset.name,
                "checksum": self.checksum,
                "images": {part: len(split) for part, split in self.dataset.splits.items()},
                "notes": list(self.dataset.notes),
            },
            "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
            "commit": _commit(),
            "lock": sha256(sources.LOCK) if sources.LOCK.is_file() else None,
            "hardware": _hardware(),
            "started": started,
            "ended": _now(),
        }


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _begin(folder: Path, code: dict[str, str]) -> None:
    """Make the folder of a run that is to be trained; checkpoints that other code left there do not count."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / store.CODE
    if not note.exists() or json.loads(note.read_text(encoding="utf-8")) != code:
        for left in folder.glob("checkpoint-*"):
            left.unlink()
        write_text(note, json.dumps(code))


def _replace(folder: Path) -> None:
    """Put the run trained beside `folder` in its place. Where a kill comes in between, `_recover` ends it."""
    folder.rename(_beside(folder, "old"))
    _beside(folder, "new").rename(folder)
    shutil.rmtree(_beside(folder, "old"))


def _recover(folder: Path) -> None:
    """End a `_replace` that was cut short: the new run stands in its place where it is whole, else the old one."""
    old, new = _beside(folder, "old"), _beside(folder, "new")
    if old.exists() and not folder.exists():
        (new if store.finished(new) else old).rename(folder)
    if old.exists():
        shutil.rmtree(old)


def _layers(run: RunConfig) -> tuple[int, ...]:
    """Which of the backbone's maps the run's model takes."""
    return tuple(models.find(run.model).layers(models.check_options(run.model, run.options)))


def _content(weights: str | None) -> str | None:
    """A file of weights by its content, a named source by its name."""
    return sha256(weights) if weights and Path(weights).is_file() else weights


def _start(pattern: str) -> Path:
    """The one finished run that training.init names, as a folder or a pattern."""
    found = [Path(path) for path in sorted(glob.glob(pattern)) if store.finished(Path(path))]
    if not found:
        makers = ", ".join(_makers(pattern)) or "none that is there"
        raise UserError(
            f"training.init {pattern!r} matches no finished run: train one first (make reproduce EXPERIMENT=NAME); "
            f"experiments with such runs: {makers}"
        )
    if len(found) > 1:
        listed = "; ".join(f"{folder} of experiment {store.read(folder).about['experiment']}" for folder in found)
        raise UserError(f"training.init {pattern!r} matches {len(found)} finished runs, name one of them: {listed}")
    return found[0]


def _makers(pattern: str) -> list[str]:
    """The shipped experiments whose runs may fit `pattern`, told by data set and model."""
    data, _, model = "/".join(Path(pattern).parts[-3:-1]).partition("/")
    names = []
    for path in sorted(config.FOLDER.glob("[!_]*.yaml")):
        experiment = config.load(path)
        own = [experiment.run(key).model for key in experiment.models]
        if fnmatch.fnmatch(experiment.dataset["name"], data) and fnmatch.filter(own, model.rpartition("-")[0] or "*"):
            names.append(experiment.name)
    return sorted(names)


def _backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    """The backbone's weights of another finished run."""
    weights = load_file(store.read(folder).folder / "weights.safetensors")
    own = {key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")}
    if not own:
        raise UserError(f"training.init names {folder}, whose run kept no backbone weights (its backbone was frozen)")
    return own


def _commit() -> str:
    """The git commit of the working folder, "+changes" if it has any, or "unknown" outside a checkout."""
    git = shutil.which("git")
    if not git:
        return "unknown"
    commit = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True)
    tracked = [git, "status", "--porcelain", "-uno", "--", ".", ":!results"]  # the results change as they are made
    changes = subprocess.run(tracked, capture_output=True, text=True)
    return (
        (commit.stdout.strip() + ("+changes" if changes.stdout.strip() else ""))
        if commit.returncode == 0
        else "unknown"
    )


def _hardware() -> dict[str, Any]:
    gpu = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    there = {"machine": platform.machine(), "processor": processor(), "cores": os.cpu_count()}
    return {**there, "threads": torch.get_num_threads(), "gpus": gpu}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
