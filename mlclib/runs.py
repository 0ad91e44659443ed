"""Runs: one training of one configuration with one seed, each in a folder that proves itself whole.

A run folder holds run.yaml (what was run, on what, when), history.csv, weights.safetensors, predictions.npz,
metrics.json and, written last, manifest.json with the SHA-256 of each of them.  A run is finished when its
manifest verifies; until then checkpoints in the same folder let it go on where it stopped.
"""

import datetime
import glob
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from accelerate import PartialState
from safetensors.torch import load_file, save

from mlclib import authors, config, datasets, labels, metrics, models, transforms
from mlclib.config import Experiment, RunConfig
from mlclib.datasets import integrity
from mlclib.datasets.base import Dataset
from mlclib.errors import UserError
from mlclib.features import cached_maps
from mlclib.files import sha256, write_text, written_whole
from mlclib.inputs import Images, Maps
from mlclib.models import backbones, msrn
from mlclib.models.base import Classifier
from mlclib.progress import Progress
from mlclib.training import Trainer, trained_state

FILES = ("run.yaml", "history.csv", "weights.safetensors", "predictions.npz", "validation.npz", "metrics.json")
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """A finished run, read back.

    logits float32 [N, C] by selection: "last", "best" (best test epoch) and, where kept, "ema"; targets int8 [N, C].
    about is run.yaml: configuration, seed, labels, provenance.
    """

    folder: Path
    about: dict[str, Any]
    names: list[str]
    logits: dict[str, np.ndarray]
    targets: np.ndarray

    @property
    def seed(self) -> int:
        return self.about["seed"]

    @property
    def labels(self) -> list[str]:
        return self.about["labels"]

    @property
    def history(self) -> pd.DataFrame:
        """history.csv: a row an epoch."""
        return pd.read_csv(self.folder / "history.csv")


class Study:
    """An experiment together with its data set on disk and the folder that holds its results."""

    def __init__(self, experiment: Experiment, data: str | Path = "", results: str | Path = "results"):
        """data: the data set's folder where it is not the one that the experiment names."""
        self.experiment, self.results = experiment, Path(results)
        self.root = Path(data or experiment.dataset["root"])
        self.folder = self.results / experiment.name

    @cached_property
    def dataset(self) -> Dataset:
        options = {key: value for key, value in self.experiment.dataset.items() if key not in ("name", "root")}
        whole = datasets.load(self.experiment.dataset["name"], self.root, **options)
        return integrity.exclude(whole, self.experiment.exclude)

    @cached_property
    def cooccurrence(self) -> tuple[np.ndarray, np.ndarray]:
        """Co-occurrence counts [C, C] and label counts [C] of the training split."""
        return labels.cooccurrence(self.dataset.splits["train"].targets)

    def build(self, run: RunConfig) -> Classifier:
        """The run's model with fresh weights; draws from torch's global generator."""
        backbone, names, graph = run.backbone, self.dataset.labels, self.cooccurrence
        published = run.label_vectors.endswith(".pkl")
        vectors = (
            authors.read_label_vectors(run.label_vectors, names)
            if published
            else labels.vectors(names, run.label_vectors)
        )
        if run.cooccurrence != "train":
            graph = authors.read_cooccurrence(run.cooccurrence, names, graph[0])
        return models.build(
            run.model,
            labels=names,
            label_vectors=vectors,
            cooccurrence=graph,
            backbone=backbone.name,
            weights=backbone.weights,
            frozen=backbone.frozen,
            loss=run.training.loss,
            **run.options,
        )

    def inputs(self, run: RunConfig, part: str, seed: int = 0) -> Images | Maps:
        """The split `part` as the run's model takes it: cached maps if its backbone is frozen, else images."""
        if run.backbone.frozen:
            return cached_maps(self.dataset, part, run.backbone, run.input_size, self.results)
        looks = (run.input_size, *backbones.preprocessing(run.backbone.name))
        augmented = part == "train" and run.training.augmentation != "none"
        transform = (
            transforms.training(run.training.augmentation, *looks) if augmented else transforms.evaluation(*looks)
        )
        return Images(self.dataset.splits[part], transform, seed)

    def run_folder(self, run: RunConfig, seed: int, **more: str) -> Path:
        """results/runs/<data set>/<model>-<8 hex of its configuration, data and `more`>/seed-<k>."""
        identity = {**self._identity(run), "data": self.dataset.checksum(), **more}
        if run.training.init:
            identity["init"] = sha256(_start(run.training.init) / "manifest.json")
        return self.results / "runs" / self.dataset.name / f"{run.model}-{config.digest(identity)}" / f"seed-{seed}"

    def train(self, run: RunConfig, seeds: tuple[int, ...] | None = None, name: str = "") -> list[Run]:
        """The run's seeds (default: the experiment's), each trained unless it is finished already."""
        return [
            self._train(run, seed, name or run.model) for seed in (self.experiment.seeds if seeds is None else seeds)
        ]

    def train_variants(self, model: str, axis: str) -> dict[str, list[Run]]:
        """The runs of every variant of an ablation axis, trained unless finished already: value -> a run a seed."""
        variants = self.experiment.variants(model, axis)
        return {value: self.train(run, name=f"{model} {axis} {value}") for value, run in variants.items()}

    def label_graph(self) -> np.ndarray:
        """MSRN's normalised label graph A^ of the training split, float32 [C, C]."""
        counts, totals = (torch.from_numpy(array).double() for array in self.cooccurrence)
        return msrn.adjacency(counts, totals, "cooccurrence", msrn.Options.graph_threshold).numpy()

    def prepare(self) -> str:
        """Compute what every run starts from: a frozen backbone's layer maps. Says what there is."""
        setting = self.experiment
        if not setting.backbone.frozen:
            return f"{setting.backbone.name} learns: its maps are computed anew in every step, nothing is cached"
        self.check_images()
        for part in self.dataset.splits:
            cached_maps(self.dataset, part, setting.backbone, setting.input_size, self.results)
        images = sum(map(len, self.dataset.splits.values()))
        return f"the layer maps of {setting.backbone.name} for {images} images of {setting.input_size} px are cached"

    def finished(self, model: str) -> list[Run]:
        """The finished runs of one of the experiment's models, by seed; none where nothing is trained yet."""
        return self._finished(self.experiment.run(model))

    def finished_variants(self, model: str, axis: str) -> dict[str, list[Run]]:
        """The finished runs of each variant of an ablation axis."""
        return {value: self._finished(run) for value, run in self.experiment.variants(model, axis).items()}

    def _finished(self, run: RunConfig) -> list[Run]:
        folders = [self.run_folder(run, seed) for seed in self.experiment.seeds]
        return [read(folder) for folder in folders if finished(folder)]

    def _train(self, run: RunConfig, seed: int, name: str) -> Run:
        folder = self.run_folder(run, seed)
        if finished(folder):
            return read(folder)
        folder.mkdir(parents=True, exist_ok=True)
        started = _now()
        torch.manual_seed(seed)
        model = self.build(run)
        if run.training.init:
            model.backbone.load_state_dict(_backbone_of(_start(run.training.init)))
        with PartialState().main_process_first():  # the others find images checked and layer maps cached
            self.check_images()
            data = [self.inputs(run, part, seed) for part in ("train", "test")]
        trainer = Trainer(
            model, *data, run.training, seed, folder, Progress(f"{name} seed {seed}", run.training.epochs)
        )
        state = trainer.run()
        self._finish(folder, {**self._about(run, seed, started), "best_epoch": state.best_epoch}, run, trainer)
        return read(folder)

    def evaluate(self, run: RunConfig, checkpoint: str | Path) -> Run:
        """Score a checkpoint of the authors on the test split: a run folder without training.

        Raises UserError naming what does not fit where the checkpoint is not that of this model and its options.
        """
        folder, started = self.run_folder(run, 0, checkpoint=sha256(checkpoint)), _now()
        if not finished(folder):
            folder.mkdir(parents=True, exist_ok=True)
            model = self.build(run)
            models.load_authors(model, authors.read_checkpoint(checkpoint))
            self.check_images()
            test = self.inputs(run, "test")
            trainer = Trainer(model, test, test, run.training, 0, folder)
            trainer.state.logits = trainer.evaluate(test)
            self._finish(folder, {**self._about(run, 0, started), "checkpoint": str(checkpoint)}, run, trainer)
        return read(folder)

    def check_images(self) -> None:
        """Open every image once for each state of the data set. Raises UserError with the report of the bad ones."""
        seal = self.results / "verified" / f"{self.dataset.name}-{self.dataset.checksum()[:16]}"
        if seal.exists():
            return
        report = integrity.verify(self.dataset)
        if report.bad_images:
            raise UserError(
                f"{report}\nget these images anew, or name them under `exclude` in experiment {self.experiment.name}"
            )
        write_text(seal, str(report))

    def _finish(self, folder: Path, about: dict[str, Any], run: RunConfig, trainer: Trainer) -> None:
        """Write the run folder's files, by the main process; all processes score a validation split."""
        state, test, val = trainer.state, self.dataset.splits["test"], self.dataset.splits.get("val")
        seen = trainer.evaluate(self.inputs(run, "val")) if val else None
        if trainer.accelerator.is_main_process:
            logits = {"last": state.logits, "best": state.best_logits, "ema": state.ema_logits}
            logits = {key: value.numpy() for key, value in logits.items() if value is not None}
            with written_whole(folder / "weights.safetensors") as part:
                state_dict = {key: value.cpu().contiguous() for key, value in trained_state(trainer.model).items()}
                part.write_bytes(save(state_dict))  # save_file would make a file that its owner alone may read
            write_predictions(folder / "predictions.npz", test.names, test.targets, **logits)
            if val:  # what a threshold may be chosen on
                write_predictions(folder / "validation.npz", val.names, val.targets, last=seen.numpy())
            write_run(folder, about, {key: score(value, test.targets) for key, value in logits.items()})
        trainer.accelerator.wait_for_everyone()

    def _identity(self, run: RunConfig) -> dict[str, Any]:
        plain = run.identity()
        plain["options"] = {**models.options_of(run.model), **plain["options"]}
        return json.loads(json.dumps(plain))

    def _about(self, run: RunConfig, seed: int, started: str) -> dict[str, Any]:
        return {
            "experiment": self.experiment.name,
            "configuration": self._identity(run),
            "seed": seed,
            "notes": list(self.experiment.notes),
            "labels": list(self.dataset.labels),
            "data": {
                "name": self.dataset.name,
                "checksum": self.dataset.checksum(),
                "images": {part: len(split) for part, split in self.dataset.splits.items()},
                "notes": list(self.dataset.notes),
            },
            "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
            "commit": _commit(),
            "hardware": _hardware(),
            "started": started,
            "ended": _now(),
        }


def finished(folder: Path) -> bool:
    """Whether the run's manifest is there and the checksum of each of its files holds."""
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return bool(sums) and all(sha256(folder / name) == digest for name, digest in sums.items())
    except (OSError, ValueError):
        return False


def read(folder: str | Path) -> Run:
    """A finished run. Raises UserError where the folder holds none, or one that is damaged."""
    folder = Path(folder)
    if not finished(folder):
        raise UserError(
            f"{folder} holds no finished run (its manifest.json is missing or does not verify): train it again"
        )
    about = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        logits = {key.removeprefix("logits_"): file[key] for key in file.files if key.startswith("logits_")}
        return Run(folder, about, file["names"].tolist(), logits, file["targets"])


def write_predictions(path: Path, names: list[str], targets: np.ndarray, **logits: np.ndarray) -> None:
    """predictions.npz: names [N], targets int8 [N, C], and logits_<selection> float32 [N, C] for each selection."""
    with written_whole(path) as part, open(part, "wb") as file:
        arrays = {f"logits_{key}": value.astype(np.float32) for key, value in logits.items()}
        np.savez_compressed(file, names=np.array(names), targets=targets.astype(np.int8), **arrays)


def write_run(folder: Path, about: dict[str, Any], scores: dict[str, Any]) -> None:
    """Write run.yaml and metrics.json, then the manifest that makes the run finished, then drop its checkpoints."""
    write_text(folder / "run.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    write_text(folder / "metrics.json", json.dumps(scores, indent=1))
    present = [name for name in FILES if (folder / name).exists()]
    write_text(folder / "manifest.json", json.dumps({name: sha256(folder / name) for name in present}, indent=1))
    for checkpoint in folder.glob("checkpoint-*"):
        checkpoint.unlink()


def score(logits: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """The default protocol's scores as plain numbers: over all labels, and "top3"."""

    def plain(scores: dict[str, Any]) -> dict[str, Any]:
        return {key: np.asarray(value).tolist() for key, value in scores.items()}

    return {**plain(metrics.evaluate(logits, targets)), "top3": plain(metrics.evaluate(logits, targets, top=3))}


def _start(pattern: str) -> Path:
    """The one finished run that training.init names, as a folder or a pattern."""
    found = [Path(path) for path in sorted(glob.glob(pattern)) if finished(Path(path))]
    if len(found) != 1:
        raise UserError(
            f"training.init {pattern!r} matches {len(found)} finished runs and needs one: train it, or name its folder"
        )
    return found[0]


def _backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    """The backbone's weights of another finished run."""
    weights = load_file(read(folder).folder / "weights.safetensors")
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
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpu}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
