"""Before a long run: is everything there that it needs, and what will it take?

What is missing is named all at once, each thing in a sentence with what brings it. Each model is built; where the
backbone learns, one true step of it, forward and backward, tells how long the whole experiment will take.
"""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mlclib import config, datasets
from mlclib.common.errors import UserError
from mlclib.config import RunConfig
from mlclib.datasets import integrity
from mlclib.models import backbones
from mlclib.models.base import Classifier
from mlclib.runs.run import Run, start_of
from mlclib.runs.study import Study
from mlclib.training import features
from mlclib.training.checkpoints import trained_state
from mlclib.training.settings import autocast, torch_settings
from mlclib.training.trainer import Trainer

SMALL = 2000  # images of a data set of which all are opened
OPENED = 50  # images of each split of a larger one
FEW = 2  # images of a step on a CPU, where a whole one may take minutes
SHORT = 3.0  # seconds: what took less is timed a second time


@dataclass(frozen=True)
class Estimate:
    """What all runs of a model will take, one after another: its own and those of its ablations, which count alike.

    images: that the step was timed on; step: seconds of a whole batch; memory: peak bytes of a step on the GPU, None on
    a CPU; disk: bytes of the finished runs and of the two checkpoints of the one under way.
    """

    model: str
    runs: int
    images: int
    step: float
    hours: float
    memory: int | None
    disk: int


@dataclass(frozen=True)
class Report:
    """What `check` says; str() shows it all. missing, warnings: sentences."""

    experiment: str
    facts: tuple[str, ...]
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.missing

    def __str__(self) -> str:
        lines = [*self.facts]
        if self.estimates:
            lines += ["", _table(self.estimates), ""]
        lines += [f"missing: {sentence}" for sentence in self.missing]
        lines += [f"warning: {sentence}" for sentence in self.warnings]
        end = "all is there" if self.ok else f"not ready, {len(self.missing)} missing"
        return "\n".join([*lines, f"{self.experiment}: {end}"])


class _Sentences(list[str]):
    """The sentences of what is missing; within `noted`, a UserError ends the block and becomes one of them."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self.append(str(error))


def check(study: Study, force: bool = False) -> Report:
    """What the experiment's runs need and will take. Nothing is trained; force: finished runs are trained again."""
    setting, missing = study.experiment, _Sentences()
    facts: list[str] = []
    warnings: list[str] = []
    estimates: list[Estimate] = []
    todo = to_train(study, missing, force)
    if not todo and not missing:
        return Report(setting.name, ("every run is finished: nothing to train",))
    with missing.noted():
        facts.append(_data(study, missing, warnings))
    with missing.noted():
        facts.append(_weights(setting.backbone))
    need, free = 0, _free_disk(study.results)
    if todo and setting.backbone.frozen:
        for configuration in {repr(run.configuration): run.configuration for run in todo}.values():
            with missing.noted():
                warnings += study.vectors_notes(configuration, _step_on_blank_maps(study, configuration))
        with missing.noted():
            need = _bytes_of_maps(study)
    elif todo:
        for model in dict.fromkeys(run.model for run in todo):
            with missing.noted():
                asked = [run for run in todo if run.model == model]
                estimates.append(_estimate(study, model, asked, warnings))
        need = sum(estimate.disk for estimate in estimates)
    else:
        facts.append("models, steps and disk are checked once the data set can be read")
    if need:
        facts.append(f"disk: {size(need)} needed, {size(free)} free in {study.results}")
    if need > free:
        missing.append(
            f"{study.results} has {size(free)} free and the runs of {setting.name} need {size(need)}: free some, or "
            "name a folder on a larger disk with --results"
        )
    return Report(
        setting.name, tuple(facts), tuple(dict.fromkeys(missing)), tuple(dict.fromkeys(warnings)), tuple(estimates)
    )


def first(study: Study, arguments: Iterable[str], force: bool) -> None:
    """`check` in a process of its own, which gives a GPU's memory back, where runs are to be trained.

    arguments: those by which the command line finds the study. Raises UserError where something is missing.
    """
    missing = _Sentences()
    if not to_train(study, missing, force) and not missing:
        return
    command = [sys.executable, "-m", "mlclib", "check", *arguments, *(["--force"] if force else [])]
    if subprocess.run(command).returncode:
        raise UserError(f"{study.experiment.name} is not ready to train: mend what is named above as missing")


def to_train(study: Study, missing: _Sentences | None = None, force: bool = False) -> list[Run]:
    """The runs that are not finished and current. What keeps them from being resolved is added to `missing`."""
    missing = _Sentences() if missing is None else missing
    starts = dict.fromkeys(study.experiment.run(model).training.init for model in study.experiment.models)
    for pattern in filter(None, starts):
        with missing.noted():
            start_of(pattern)
    with missing.noted():
        return [run for run in study.runs.values() if run.reasons or force]
    return []


def _step_on_blank_maps(study: Study, configuration: RunConfig) -> Classifier:
    """Build the model and train it on blank maps, as many as the last batch of an epoch will have; gives the model."""
    model = study.build(_with_random_weights(configuration))
    count, batch = len(study.dataset.splits["train"]), configuration.training.batch_size
    rows = count % batch or min(batch, count)
    sides = {layer: math.ceil(configuration.input_size / stride) for layer, stride in model.backbone.strides.items()}
    maps = {layer: torch.zeros(rows, model.backbone.channels[layer], side, side) for layer, side in sides.items()}
    targets = torch.from_numpy(study.dataset.splits["train"].targets[:rows])
    model.train()
    model.loss(model.classify(maps), targets).backward()
    return model


def _estimate(study: Study, model: str, asked: list[Run], warnings: list[str]) -> Estimate:
    """What a model's runs take, from one step of the experiment's configuration of it, forward and backward.

    Raises UserError where the step does not fit, or the trainer refuses the run.
    """
    configuration, splits = study.experiment.run(model), study.dataset.splits
    recipe, device = configuration.training, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = study.build(_with_random_weights(configuration))  # a step costs the same whatever the weights
    warnings += [f"{model}: {sentence}" for sentence in net.size_warnings(configuration.input_size)]
    warnings += study.vectors_notes(configuration, net)
    train = study.inputs(configuration, "train")
    rows = np.flatnonzero([path.exists() for path in splits["train"].paths[:400]])
    if not len(rows):
        raise UserError(f"{model}: no step can be timed without training images")
    batch = min(math.ceil(recipe.batch_size / recipe.accumulate), len(splits["train"]))
    count = batch if device.type == "cuda" else min(batch, FEW)
    keys = [(0, int(rows[i % len(rows)])) for i in range(count)]

    def learn() -> None:
        trainer.wrapped.train()
        with autocast(recipe.precision, device):
            loss = trainer.model.loss(trainer.wrapped(pictures), targets)
        loss.backward()
        trainer.optimizer.zero_grad()

    def look() -> None:
        with torch.no_grad(), autocast(recipe.evaluation_precision, device):
            trainer.model.eval()(pictures)

    with torch_settings(recipe):
        trainer = Trainer(net, train, study.inputs(configuration, "test"), recipe, 0, study.results)
        pictures, targets = (part.to(device) for part in train.__getitems__(keys))
        pictures = pictures.to(memory_format=torch.channels_last)
        try:
            times = [_seconds(work, device) / count for work in (lambda: train.__getitems__(keys), learn, look)]
        except torch.OutOfMemoryError:
            raise UserError(
                f"model {configuration.model} does not fit: a step of {batch} images needs more memory than the GPU "
                "has: lower training.batch_size, raise training.accumulate, or set training.precision: bfloat16"
            ) from None
    load = times[0] / max(1, min(recipe.workers, os.cpu_count() or 1))
    sizes = {part: len(split) for part, split in splits.items()}
    models = 2 if recipe.ema else 1  # that are scored
    scored = models * (sizes.get("val", 0) + sizes["test"] * (recipe.eval_test_each_epoch or "val" not in sizes))
    epochs = sum(run.configuration.training.epochs for run in asked)
    looks = epochs * scored + len(asked) * models * sizes["test"]
    seconds = epochs * sizes["train"] * (times[1] + load) + looks * (times[2] + load)
    state = sum(value.nbytes for value in trained_state(trainer.model).values())
    return Estimate(
        model=model,
        runs=len(asked),
        images=count,
        step=recipe.batch_size * (times[1] + load),
        hours=seconds / 3600,
        memory=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        disk=(len(asked) + 3 * 4) * state,  # three checkpoints at most, each of weights and the optimizer's state
    )


def _data(study: Study, missing: _Sentences, warnings: list[str]) -> str:
    """What the data set holds; images that are not there, or cannot be trained on, are added to `missing`.

    warnings: what else someone should know of its images, as far as they were opened.
    """
    dataset, name = study.dataset, study.experiment.dataset["name"]
    paths = [path for split in dataset.splits.values() for path in split.paths]
    files = {folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in {p.parent for p in paths}}
    lost = [path for path in paths if path.name not in files[path.parent]]
    command = f"python -m mlclib data {name} --root"
    if lost:
        brings = (
            f"`{command} NEW` fetches all anew into an empty folder NEW"
            if datasets.archives(name)
            else f"`{command} {study.root}` says how to get them"
        )
        more = f" and {len(lost) - integrity.SHOWN:,} more" if len(lost) > integrity.SHOWN else ""
        missing.append(
            f"{len(lost):,} of the {len(paths):,} images of {name} are missing, first "
            f"{', '.join(map(str, lost[: integrity.SHOWN]))}{more}: {brings}, or name "
            f"them under `exclude` in experiment {study.experiment.name}"
        )
    opened = _opened(study, {path for path in paths if path.name in files[path.parent]}, missing, warnings)
    sizes = ", ".join(f"{len(split):,} {part}" for part, split in dataset.splits.items())
    whole = "" if lost else ", all files there"
    return "; ".join([f"data: {name} in {study.root}, {sizes} images{whole}", opened, *dataset.notes])


def _opened(study: Study, files: set[Path], missing: _Sentences, warnings: list[str]) -> str:
    """Open all images of a small data set, or some of a large one, and say how many.

    Those that cannot be trained on are added to `missing`, and to `warnings` what is changed in pictures on opening.
    """
    dataset = study.dataset
    if study.seal.exists():
        warnings += _below_title(study.seal.read_text(encoding="utf-8"))
        return "all images were opened before"
    splits = {}
    for part, split in dataset.splits.items():
        rows = [row for row, path in enumerate(split.paths) if path in files]
        some = np.unique(np.linspace(0, len(rows) - 1, OPENED).astype(int)) if rows else []
        splits[part] = split.take(rows if len(files) <= SMALL else [rows[place] for place in some])
    report = integrity.verify(dataclasses.replace(dataset, splits=splits))
    if reason := report.remedy(study.experiment.name, study.experiment.exclude):
        missing.append(reason)
    if reason or report.images < len(files):  # said already, or not looked for in all images
        report = dataclasses.replace(report, problems={})
    warnings += _below_title(str(report))
    if report.images < len(files):
        return f"{report.images:,} of them opened, training opens all"
    return f"all {report.images:,} opened"


def _below_title(report: str) -> list[str]:
    """What a report of `integrity.verify` says below its first line, as one warning, or none where it says nothing."""
    _, *lines = report.replace("warning, ", "").splitlines()
    return ["\n".join(lines)] if lines else []


def _weights(backbone: config.Backbone) -> str:
    """Where the backbone's weights are from; what timm publishes is brought into its cache."""
    import timm

    try:
        backbones.Backbone(backbone.name, backbone.weights)
    except UserError as error:
        source = timm.is_model(backbone.name) and timm.get_pretrained_cfg(backbone.name).hf_hub_id
        if backbone.weights != "pretrained" or not source:
            raise
        raise UserError(
            f"{error}; where there is a network, `hf download {source} model.safetensors --local-dir weights` brings "
            "that file, which backbone.weights: weights/model.safetensors then names"
        ) from error
    return f"weights: {backbone.name}, {backbone.weights or 'random'}"


def _bytes_of_maps(study: Study) -> int:
    """Bytes of the layer maps that are still to be cached."""
    splits = study.dataset.splits.items()
    missing = [split for part, split in splits if not features.verified(study.maps_folder(part), study.layers)]
    backbone = backbones.Backbone(study.experiment.backbone.name, None, study.layers)
    cells = {layer: math.ceil(study.experiment.input_size / stride) ** 2 for layer, stride in backbone.strides.items()}
    return 2 * sum(map(len, missing)) * sum(backbone.channels[layer] * cells[layer] for layer in cells)  # float16


def _with_random_weights(configuration: RunConfig) -> RunConfig:
    return dataclasses.replace(configuration, backbone=dataclasses.replace(configuration.backbone, weights=None))


def _free_disk(folder: Path) -> int:
    exists = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(exists).free


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `work` takes; the lesser of two where it is short."""
    times: list[float] = []
    while not times or (len(times) == 1 and times[0] < SHORT):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def _table(estimates: Iterable[Estimate]) -> str:
    rows = [
        {
            "model": one.model,
            "runs": one.runs,
            "timed on": f"{one.images} images",
            "seconds per step": f"{one.step:.3g}",
            "hours": f"{one.hours:.3g}",
            "peak memory": size(one.memory) if one.memory else "-",
            "disk": size(one.disk),
        }
        for one in estimates
    ]
    hours = f"{sum(one.hours for one in estimates):.3g} hours in all, one run after another"
    return f"{pd.DataFrame(rows).to_string(index=False)}\n{hours}"


def size(count: float) -> str:
    """Bytes as a person reads them.

    Example:
        >>> size(18_800_000)
        '18.8 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
