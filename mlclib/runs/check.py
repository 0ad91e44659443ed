"""Before a long run: is everything there that it needs, and what will it take?

What is missing is named all at once, each thing in a sentence with what brings it. Each model is built, and one step
of it, forward and backward, tells how long the whole experiment will take.
"""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import send_to_device

from mlclib import config, datasets
from mlclib.common.errors import UserError
from mlclib.config import RunConfig
from mlclib.datasets import integrity
from mlclib.models import backbones
from mlclib.models.base import Classifier
from mlclib.runs.run import Run, start_of
from mlclib.runs.study import Study
from mlclib.runs.times import words
from mlclib.training import features
from mlclib.training.checkpoints import trained_state
from mlclib.training.inputs import Images, Maps, transform_of
from mlclib.training.settings import autocast, torch_settings
from mlclib.training.trainer import Trainer

SMALL = 2000  # images of a data set that are opened
FEW = 2  # images of a step on a CPU, where a whole one may take minutes
SHORT = 3.0  # seconds: what took less is timed a second time


@dataclass(frozen=True)
class Report:
    """What `check` says; str() shows it all. missing, warnings: sentences.

    estimates: one row per model, of all its runs one after another, its own and those of its ablations, which count
    alike. step: seconds of a whole batch. seconds: of the runs. memory: peak bytes of a step on the GPU, None on a CPU.
    disk: bytes of the finished runs and of the checkpoints of the one under way.
    """

    experiment: str
    facts: tuple[str, ...]
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    estimates: tuple[dict[str, Any], ...] = ()

    @property
    def ok(self) -> bool:
        return not self.missing

    def __str__(self) -> str:
        lines = [*self.facts]
        if self.estimates:
            table = pd.DataFrame(self.estimates).astype(object)
            table["step"] = table["step"].map("{:.3g} s".format)
            table["seconds"] = table["seconds"].map(words)
            for column in ("memory", "disk"):
                table[column] = table[column].map(gigabytes)
            total = words(sum(one["seconds"] for one in self.estimates))
            lines += ["", table.rename(columns={"seconds": "time"}).to_string(index=False), f"{total} in all", ""]
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
    estimates: list[dict[str, Any]] = []
    todo = to_train(study, missing, force)
    if not todo and not missing:
        return Report(setting.name, ("every run is finished: nothing to train",))
    with missing.noted():
        facts.append(_data(study, missing, warnings))
    with missing.noted():
        facts.append(_weights(setting.backbone))
    for model in dict.fromkeys(run.model for run in todo):
        asked = [run for run in todo if run.model == model]
        with missing.noted():
            for configuration in {repr(run.configuration): run.configuration for run in asked}.values():
                net = study.build(_with_random_weights(configuration))
                warnings += study.vectors_notes(configuration, net)
                warnings += [f"{model}: {sentence}" for sentence in net.size_warnings(configuration.input_size)]
            estimates.append(_estimate(study, model, asked))
    if todo and setting.backbone.frozen:
        with missing.noted():
            estimates += _estimate_maps(study)
    need, free = sum(estimate["disk"] for estimate in estimates), _free_disk(study.results)
    if not todo:
        facts.append("models, steps and disk are checked once the data set can be read")
    if need:
        facts.append(f"disk: {gigabytes(need)} needed, {gigabytes(free)} free in {study.results}")
    if need > free:
        missing.append(
            f"{study.results} has {gigabytes(free)} free and the runs of {setting.name} need {gigabytes(need)}: free "
            "some, or name a folder on a larger disk with --results"
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


def announce(study: Study, wanted: Iterable[Run]) -> None:
    """Where these runs take more than a minute to train, say so before they do."""
    stale = [run for run in wanted if run.reasons]
    models = dict.fromkeys(run.model for run in stale)
    rows = []
    with suppress(UserError):  # training will raise it too
        rows += [_estimate(study, model, [run for run in stale if run.model == model]) for model in models]
        rows += _estimate_maps(study) if stale and study.experiment.backbone.frozen else []
    if (seconds := sum(row["seconds"] for row in rows)) > 60:
        print(f"This trains {len(stale)} runs, about {words(seconds)}; interrupt to stop.", flush=True)


def _estimate(study: Study, model: str, asked: list[Run]) -> dict[str, Any]:
    """A row of `Report.estimates`, from one step of the experiment's configuration of the model, forward and backward.

    Raises UserError where the step does not fit, or the trainer refuses the run.
    """
    configuration, splits = study.experiment.run(model), study.dataset.splits
    recipe, device = configuration.training, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = study.build(_with_random_weights(configuration))  # a step costs the same whatever the weights
    batch = min(math.ceil(recipe.batch_size / recipe.accumulate), len(splits["train"]))
    if configuration.backbone.frozen:
        train, keys = _blank_maps(net, configuration.input_size, splits["train"].targets), [(0, 0)] * batch
    else:
        train, keys = study.inputs(configuration, "train"), _keys(study, batch if device.type == "cuda" else FEW)

    def learn() -> None:
        trainer.wrapped.train()
        with autocast(recipe.precision, device):
            loss = trainer.model.loss(trainer.wrapped(inputs), targets)
        loss.backward()
        trainer.optimizer.zero_grad()

    def look() -> None:
        with torch.no_grad(), autocast(recipe.evaluation_precision, device):
            trainer.model.eval()(inputs)

    with torch_settings(recipe):
        trainer = Trainer(net, train, train, recipe, 0, study.results)
        inputs, targets = send_to_device(train.__getitems__(keys), device)
        if not configuration.backbone.frozen:
            inputs = inputs.to(memory_format=torch.channels_last)
        try:
            times = [_seconds(work, device) / len(keys) for work in (lambda: train.__getitems__(keys), learn, look)]
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
    state = sum(value.nbytes for value in trained_state(trainer.model).values())
    return {
        "model": model,
        "runs": len(asked),
        "step": recipe.batch_size * (times[1] + load),
        "seconds": epochs * sizes["train"] * (times[1] + load) + looks * (times[2] + load),
        "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "disk": (len(asked) + 3 * 4) * state,  # three checkpoints at most, each of weights and the optimizer's state
    }


def _estimate_maps(study: Study) -> list[dict[str, Any]]:
    """A row of `Report.estimates` for the layer maps that are not cached, from a pass over some images; or none."""
    splits, device = study.dataset.splits.items(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    missing = [split for part, split in splits if not features.verified(study.maps_folder(part), study.layers)]
    if not missing:
        return []
    configuration, count = study.experiment.run(next(iter(study.experiment.models))), sum(map(len, missing))
    backbone = backbones.Backbone(configuration.backbone.name, None, study.layers).eval().to(device)
    images, keys = Images(study.dataset.splits["train"], transform_of(configuration.identity())), _keys(study, FEW)
    maps: dict[int, torch.Tensor] = {}

    def look() -> None:
        with torch.inference_mode():
            maps.update(backbone(images.__getitems__(keys)[0].to(device)))

    seconds = _seconds(look, device) / len(keys)
    size = 2 * sum(values[0].numel() for values in maps.values())  # float16
    step, whole = configuration.training.batch_size * seconds, count * seconds
    return [{"model": "layer maps", "runs": 0, "step": step, "seconds": whole, "memory": None, "disk": count * size}]


def _keys(study: Study, count: int) -> list[tuple[int, int]]:
    """The keys of so many training images that are there, some twice where these are few."""
    train = study.dataset.splits["train"]
    rows = np.flatnonzero([path.exists() for path in train.paths[:400]])
    if not len(rows):
        raise UserError(f"no step can be timed without training images, such as {train.paths[0]}")
    return [(0, int(row)) for row in np.resize(rows, min(count, len(train)))]


def _blank_maps(net: Classifier, input_size: int, targets: np.ndarray) -> Maps:
    """What stands for the cached layer maps of the training images, which need not be there yet."""
    sides = {layer: math.ceil(input_size / stride) for layer, stride in net.backbone.strides.items()}
    shapes = {layer: (len(targets), net.backbone.channels[layer], side, side) for layer, side in sides.items()}
    return Maps({layer: np.broadcast_to(np.float16(0), shape) for layer, shape in shapes.items()}, targets)


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


def _opened(study: Study, there: set[Path], missing: _Sentences, warnings: list[str]) -> str:
    """Open the images of a data set that is not large, and say how many.

    Those that cannot be trained on are added to `missing`, and to `warnings` what is changed in pictures on opening.
    """
    dataset = study.dataset
    if study.seal.exists():
        warnings += _below_title(study.seal.read_text(encoding="utf-8"))
        return "all images were opened before"
    if len(there) > SMALL:
        return "training opens each of them first"
    rows = {
        part: [row for row, path in enumerate(split.paths) if path in there] for part, split in dataset.splits.items()
    }
    splits = {part: dataset.splits[part].take(rows[part]) for part in rows}
    report = integrity.verify(dataclasses.replace(dataset, splits=splits))
    if reason := report.remedy(study.experiment.name, study.experiment.exclude):
        missing.append(reason)
        report = dataclasses.replace(report, problems={})  # they are said already
    warnings += _below_title(str(report))
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


def gigabytes(count: float | None) -> str:
    """Bytes in GB; "-" for None."""
    return "-" if count is None else f"{count / 1e9:.2g} GB"
