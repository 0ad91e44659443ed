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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from mlclib import config, datasets
from mlclib.common.errors import UserError, some_of
from mlclib.config import RunConfig
from mlclib.datasets import integrity
from mlclib.models import backbones
from mlclib.models.base import Classifier
from mlclib.runs.run import Run, start_of
from mlclib.runs.study import Study
from mlclib.runs.times import words
from mlclib.training import checkpoints, features
from mlclib.training.inputs import Images, Maps, transform_of
from mlclib.training.settings import torch_settings
from mlclib.training.trainer import Trainer

SMALL = 2000  # a data set of at most so many images has every image opened
FEW = 2  # images of a step on a CPU, where a whole one may take minutes
SHORT = 3.0  # seconds: what took less is timed a second time
FORWARD = 1 / 3  # of a step's time; the pass backward takes twice as long


@dataclass(frozen=True)
class Report:
    """What `check` says; str() shows it all. missing, warnings: sentences.

    estimates: one row per model, for all its runs in sequence; an ablation's run is taken to cost as much as the
    model's own. step: seconds of a whole batch. seconds: of the runs. memory: peak bytes of a step on the GPU, None on
    a CPU. disk: bytes of the finished runs and of the checkpoints of the one under way.
    """

    experiment: str
    facts: list[str]
    missing: list[str]
    warnings: list[str]
    estimates: list[dict[str, Any]]

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
        end = f"not ready, {len(self.missing)} missing" if self.missing else "all is there"
        return "\n".join([*lines, f"{self.experiment}: {end}"])


@contextmanager
def _noted(sentences: list[str]) -> Iterator[None]:
    """Within, a UserError ends the block and becomes one of the sentences."""
    try:
        yield
    except UserError as error:
        if str(error) not in sentences:
            sentences.append(str(error))


def check(study: Study, force: bool = False) -> Report:
    """What the runs need, and estimates of their time, memory and disk. force: count finished runs as untrained."""
    setting = study.experiment
    report = Report(setting.name, [], [], [], [])
    facts, missing = report.facts, report.missing
    todo = to_train(study, missing, force)
    if not todo and not missing:
        facts.append("every run is finished: nothing to train")
        return report
    with _noted(missing):
        facts.append(_data(study, missing, report.warnings))
    with _noted(missing):
        facts.append(_weights(setting.backbone))
    warnings = {}
    for run in {repr(run.configuration): run for run in todo}.values():
        with _noted(missing):
            net = study.build(_with_random_weights(run.configuration))
            sizes = [f"{run.model}: {sentence}" for sentence in net.size_warnings(run.configuration.input_size)]
            warnings |= dict.fromkeys((*study.vectors_notes(run.configuration, net), *sizes))
    report.warnings.extend(warnings)
    report.estimates.extend(_estimates(study, todo, missing))
    if not todo:
        facts.append("models, steps and disk are checked once the data set can be read")
    if report.estimates:
        need, free = sum(row["disk"] for row in report.estimates), shutil.disk_usage(study.results).free
        facts.append(f"disk: {gigabytes(need)} needed, {gigabytes(free)} free in {study.results}")
        if need > free:
            missing.append(
                f"{study.results} has {gigabytes(free)} free and the runs of {setting.name} need {gigabytes(need)}: "
                "free some, or name a folder on a larger disk with --results"
            )
    return report


def first(study: Study, arguments: Iterable[str], force: bool) -> None:
    """`check` in a process of its own, which gives a GPU's memory back, where runs are to be trained.

    arguments: those by which the command line finds the study. Raises UserError where something is missing.
    """
    missing: list[str] = []
    if not to_train(study, missing, force) and not missing:
        return
    command = [sys.executable, "-m", "mlclib", "check", *arguments, *(["--force"] if force else [])]
    if subprocess.run(command).returncode:
        raise UserError(f"{study.experiment.name} is not ready to train: mend what is named above as missing")


def to_train(study: Study, missing: list[str], force: bool) -> list[Run]:
    """The runs that are not finished and current. What keeps them from being resolved is added to `missing`."""
    starts = dict.fromkeys(study.experiment.run_config(model).training.init for model in study.experiment.models)
    for pattern in filter(None, starts):
        with _noted(missing):
            start_of(pattern)
    with _noted(missing):
        return [run for run in study.runs.values() if force or run.reasons]
    return []


def announce(study: Study, runs: list[Run]) -> None:
    """Where these runs take more than a minute to train, say so before they do."""
    seconds = sum(row["seconds"] for row in _estimates(study, runs, missing=[]))  # training names what is missing
    if seconds > 60:
        print(f"This trains {len(runs)} runs, about {words(seconds)}; interrupt to stop.", flush=True)


def _estimates(study: Study, runs: list[Run], missing: list[str]) -> list[dict[str, Any]]:
    """The rows of `Report.estimates`."""
    rows = []
    for model in dict.fromkeys(run.model for run in runs):
        with _noted(missing):
            rows.append(_estimate(study, model, [run for run in runs if run.model == model]))
    if runs and study.experiment.backbone.frozen:
        with _noted(missing):
            rows += _estimate_maps(study)
    return rows


def _estimate(study: Study, model: str, runs: list[Run]) -> dict[str, Any]:
    """A row of `Report.estimates`, from one step of the experiment's configuration of the model.

    Raises UserError where the step does not fit, or the trainer refuses the run.
    """
    configuration, splits = study.experiment.run_config(model), study.dataset.splits
    recipe, device = configuration.training, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = study.build(_with_random_weights(configuration))  # a step costs the same whatever the weights
    count = min(math.ceil(recipe.batch_size / recipe.accumulate), len(splits["train"]))
    if configuration.backbone.frozen:
        train, keys = _blank_maps(net, configuration.input_size, splits["train"].targets), [(0, 0)] * count
    else:
        train, keys = study.inputs(configuration, "train"), _keys(study, count if device.type == "cuda" else FEW)
    inputs, targets = train.__getitems__(keys)
    with torch_settings(recipe):
        trainer = Trainer(net, train, train, recipe, 0, study.results)
        trainer.wrapped.train()
        load = _seconds(lambda: train.__getitems__(keys), device) / len(keys)
        try:
            step = _seconds(lambda: trainer.step([(inputs, targets)], targets), device) / len(keys)
        except torch.OutOfMemoryError:
            raise UserError(
                f"model {configuration.model} does not fit: a step of {count} images needs more memory than the GPU "
                "has: lower training.batch_size, raise training.accumulate, or set training.precision: bfloat16"
            ) from None
    load /= max(1, min(recipe.workers, os.cpu_count() or 1))
    sizes = {part: len(split) for part, split in splits.items()}
    scored = sizes.get("val", 0) + sizes["test"] * (recipe.eval_test_each_epoch or "val" not in sizes)
    epochs = sum(run.configuration.training.epochs for run in runs)
    looks = (2 if recipe.ema else 1) * (epochs * scored + len(runs) * sizes["test"])
    weights = sum(value.nbytes for value in checkpoints.trained_state(trainer.model).values())
    return {
        "model": model,
        "runs": len(runs),
        "step": recipe.batch_size * (step + load),
        "seconds": epochs * sizes["train"] * (step + load) + looks * (FORWARD * step + load),
        "memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "disk": (len(runs) + 2 * checkpoints.SIZE) * weights,
    }


def _estimate_maps(study: Study) -> list[dict[str, Any]]:
    """A row of `Report.estimates` for the layer maps that are not cached, from a pass over some images; or none."""
    splits, device = study.dataset.splits.items(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    missing = [split for part, split in splits if not features.verified(study.maps_folder(part), study.layers)]
    if not missing:
        return []
    configuration, count = study.experiment.run_config(next(iter(study.experiment.models))), sum(map(len, missing))
    backbone = backbones.Backbone(configuration.backbone.name, None, study.layers).eval().to(device)
    images, keys = Images(study.dataset.splits["train"], transform_of(configuration.identity())), _keys(study, FEW)
    with torch.inference_mode():
        maps = backbone(images.__getitems__(keys[:1])[0].to(device))
        seconds = _seconds(lambda: backbone(images.__getitems__(keys)[0].to(device)), device) / len(keys)
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


def _data(study: Study, missing: list[str], warnings: list[str]) -> str:
    """What the data set holds; images that are not there are added to `missing`.

    A data set that is not large has all its images opened, and `warnings` names what that changes in them.
    """
    dataset, name = study.dataset, study.experiment.dataset["name"]
    paths = [path for split in dataset.splits.values() for path in split.paths]
    opened = "training opens each of them first"
    if lost := [path for path in paths if not path.exists()]:
        command = f"python -m mlclib data {name} --root"
        fetches = f"`{command} NEW` fetches all anew into an empty folder NEW"
        brings = fetches if datasets.archives(name) else f"`{command} {study.root}` says how to get them"
        missing.append(
            f"{len(lost):,} of the {len(paths):,} images of {name} are missing, first "
            f"{some_of(lost, integrity.SHOWN)}: {brings}, or name "
            f"them under `exclude` in experiment {study.experiment.name}"
        )
    elif len(paths) <= SMALL or study.image_report.exists():
        study.check_images()
        _, *lines = study.image_report.read_text(encoding="utf-8").replace("warning, ", "").splitlines()
        warnings += ["\n".join(lines)] if lines else []
        opened = "all images were opened"
    sizes = ", ".join(f"{len(split):,} {part}" for part, split in dataset.splits.items())
    return "; ".join([f"data: {name} in {study.root}, {sizes} images", opened, *dataset.notes])


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
