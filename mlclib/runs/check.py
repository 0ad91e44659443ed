"""Before a long run: is everything there that it needs, and what will it take?

What is missing is named all at once, each thing in a sentence with what brings it. One true step of each model, forward
and backward at full size, tells how long and how large the whole experiment will be. Where it would take long on a CPU,
or not fit, it is estimated from a step of a few images, and the report says so.
"""

import dataclasses
import glob
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import timm
import torch

from mlclib import config, datasets
from mlclib.common.errors import UserError
from mlclib.config import Experiment, RunConfig
from mlclib.datasets import images
from mlclib.datasets.base import Dataset
from mlclib.models import backbones
from mlclib.models.base import Classifier
from mlclib.runs import store, tuning
from mlclib.runs.study import Study
from mlclib.training import features
from mlclib.training.settings import PRECISION, check_precision, torch_settings
from mlclib.training.trainer import Trainer
from mlclib.training.weights import trained_state

OPENED = 8  # images of each split that are opened
FEW = 2  # images of a step that stands for a whole one, on a CPU
LONG = 3.0  # seconds: what took less is timed a second time, and what will take less is tried
PREFETCHED = 2  # batches that torch's loader keeps ready for each of its processes
# Faithfulness in 04_attention: two labels an image, two curves, both ends and six steps of some four methods.
PASSES_TRIED = 2 * 2 * (2 + 6 * 4)
PACKED = 0.93  # what compression leaves of float32 logits


@dataclass(frozen=True)
class Finding:
    """One sentence: of something that is missing, or (missing false) of something that one should know."""

    sentence: str
    missing: bool = True


@dataclass(frozen=True)
class Step:
    """What a step of one model took. images: how many it was measured on; batch: how many it is meant for.

    learn, look: seconds an image, forward and backward, and in evaluation; load: to read and transform one, in one
    process; show: in evaluation on the CPU, where attention is computed. memory: bytes of a whole step at its peak;
    state: of what a run's weights hold; averaged: of the averaged weights; slots: of the optimizer's state.
    """

    images: int
    batch: int
    device: str
    learn: float
    look: float
    load: float
    show: float
    memory: int
    state: int
    averaged: int
    slots: int


@dataclass(frozen=True)
class Estimate:
    """What all runs of a model will take, one after another: its own and those of its ablations, which count alike.

    measured: images that the step was measured on, 0 for a whole batch; seconds: of a step; memory, disk, checkpoint:
    in bytes. disk: the finished runs and the two checkpoints of the one under way.
    """

    model: str
    runs: int
    batch: int
    measured: int
    seconds: float
    hours: float
    memory: int
    disk: int
    checkpoint: int


@dataclass(frozen=True)
class Report:
    """What `check` found; str() shows it all."""

    experiment: str
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]
    estimates: tuple[Estimate, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The sentences of what is missing."""
        return [finding.sentence for finding in self.findings if finding.missing]

    @property
    def ok(self) -> bool:
        return not self.missing

    def __str__(self) -> str:
        lines = [*self.facts]
        if self.estimates:
            lines += ["", _table(self.estimates), _said_of(self.estimates), ""]
        lines += [f"{'missing' if f.missing else 'warning'}: {f.sentence}" for f in self.findings]
        end = "all is there" if self.ok else f"not ready, {len(self.missing)} missing"
        return "\n".join([*lines, f"{self.experiment}: {end}"])


def check(study: Study, force: bool = False) -> Report:
    """What the experiment's runs need and will take. Nothing is trained; force: finished runs are to be trained again.

    With a frozen backbone, whose runs start at once, no step is made. All that a user can mend is a finding.
    """
    setting, facts, findings, estimates = study.experiment, [], _starts(study.experiment), []
    todo = to_train(study, findings, force)
    if not todo and not findings:
        return Report(setting.name, ("every run is finished: nothing to train",), ())
    with _noted(findings):
        facts.append(_data(study, findings))
    with _noted(findings):
        facts.append(_weights(setting.backbone))
    need, free = 0, _disk_free(study.results)
    if todo and setting.backbone.frozen:
        with _noted(findings):
            need = _maps(study)
    elif todo:
        estimates = [found for model, asked in todo.items() if (found := _model(study, model, asked, findings))]
        need = sum(e.disk for e in estimates) + max((e.checkpoint for e in estimates), default=0)  # one being written
    else:
        facts.append("steps, disk, label vectors and the label graph are checked once the data set can be read")
    if need:
        facts.append(f"disk: {size(need)} needed, {size(free)} free in {study.results}")
    if need > free:
        findings.append(
            Finding(
                f"{study.results} has {size(free)} free and the runs of {setting.name} need {size(need)}: free some, "
                "or name a folder on a larger disk with --results"
            )
        )
    return Report(setting.name, tuple(facts), tuple(dict.fromkeys(findings)), tuple(estimates))


def to_train(study: Study, findings: list[Finding], force: bool = False) -> dict[str, list[RunConfig]]:
    """The runs that are not finished and current, each once, by the experiment's model: a configuration a seed.

    What keeps them from being known is added to `findings`.
    """
    todo: dict[str, list[RunConfig]] = {}
    seen = set()
    with _noted(findings):
        study.dataset  # noqa: B018 read here, so that what it lacks is said once
        if study.experiment.tuning:
            study.trials(next(iter(study.experiment.models)))  # the same of its validation part
        for model, run in asked(study.experiment):
            for seed in study.experiment.seeds:
                folder, current = json.dumps([run.identity(), seed]), False
                if not (run.training.init and _unstarted(run.training.init)):
                    with _noted(findings):
                        folder = study.run_folder(run, seed)
                        current = study.outdated(run, seed) == [] and not force
                if folder not in seen and not current:
                    todo.setdefault(model, []).append(run)
                seen.add(folder)
    return todo


def measure(study: Study, run: RunConfig, model: Classifier, rows: np.ndarray) -> Step:
    """One step forward and backward of the run's model on training images of these rows, and its other passes.

    On a CPU the first step is of a few images. Memory is what is kept for the backward pass, which grows with them by
    as much as a step of them keeps more than one image does, beside weights, gradients and the optimizer's state; where
    that fits, and time allows, a whole step follows. On a GPU the step is whole and memory is its peak.
    Raises UserError where the trainer refuses the run, an image cannot be read, or the GPU does not hold the step.
    """
    recipe, device = run.training, _device()
    batch = min(math.ceil(recipe.batch_size / recipe.accumulate), len(study.dataset.splits["train"]))
    count = batch if device.type == "cuda" else min(batch, FEW)
    train = study.inputs(run, "train")
    kept: dict[int, int] = {}  # what the forward pass keeps: where it lies -> bytes

    def loaded(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, targets = train.__getitems__([(0, int(rows[i % len(rows)])) for i in range(count)])
        return pictures.to(memory_format=torch.channels_last), targets

    def autocast(precision: str) -> torch.autocast:
        return torch.autocast(device.type, PRECISION[precision], enabled=precision != "float32")

    def look() -> None:
        with torch.no_grad(), autocast(recipe.evaluation_precision):
            model.eval()(pictures)

    def learn() -> None:
        kept.clear()
        trainer.wrapped.train()
        with autocast(recipe.precision):
            loss = model.loss(trainer.wrapped(pictures), targets)
        loss.backward()
        trainer.optimizer.zero_grad()

    with torch_settings(recipe):
        load = _best(lambda: loaded(OPENED)) / OPENED
        pictures, targets = loaded(count)
        with torch.no_grad():
            show = _best(lambda: model.eval()(pictures[:1]))
        trainer = Trainer(model, train, study.inputs(run, "test"), recipe, 0, study.results)
        model, pictures, targets = trainer.model, pictures.to(device), targets.to(device)
        learnt = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        slots = learnt * (int(recipe.momentum > 0) if recipe.optimizer == "sgd" else 2)
        averaged = _bytes(model.state_dict()) if recipe.ema else 0
        try:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                learning = _best(learn)
                memory = torch.cuda.max_memory_allocated() + slots
            else:
                with noting(model, kept):
                    with autocast(recipe.precision):
                        model.eval()(pictures[:1])
                    one = sum(kept.values())
                    learning = _best(learn)
                more = (sum(kept.values()) - one) // max(1, count - 1)  # for each further image
                memory = _bytes(model.state_dict()) + averaged + learnt + slots + one + more * (batch - 1)
                if count < batch and learning * batch / count < LONG and memory < _memory_free(device):
                    count = batch
                    pictures, targets = loaded(count)
                    learning = _best(learn)
            looking = _best(look)
        except torch.OutOfMemoryError:
            raise UserError(_too_large(run, f"more than the GPU has in a step of {batch} images")) from None
    return Step(
        images=count,
        batch=batch,
        device=device.type,
        learn=learning / count,
        look=looking / count,
        load=load,
        show=show,
        memory=memory,
        state=_bytes(trained_state(model)),
        averaged=averaged,
        slots=slots,
    )


def estimate(
    model: str, asked: list[RunConfig], step: Step, dataset: Dataset, shown: int = 0, cores: int | None = None
) -> Estimate:
    """What these runs, alike but for their epochs, take, from a step of theirs.

    shown: images that attention looks at, in all.
    """
    recipe = asked[0].training
    sizes = {part: len(split) for part, split in dataset.splits.items()}
    learn, look = (_with_loading(seconds, step, recipe.workers, cores) for seconds in (step.learn, step.look))
    test, val = sizes["test"], sizes.get("val", 0)
    watched, weights = recipe.eval_test_each_epoch or not val, 2 if recipe.ema else 1
    each, end = weights * (val + watched * test), (not watched) * weights * test + bool(val) * test
    epochs = sum(run.training.epochs for run in asked)
    seconds = epochs * (sizes["train"] * learn + each * look) + len(asked) * end * look + shown * step.show
    kept = test * (weights + watched + bool(val)) + val * (weights + 1)  # of the last epoch, averaged, best, chosen
    scores = 4 * len(dataset.labels) * kept
    folder = step.state + int(PACKED * scores)
    checkpoint = step.state * (2 if val else 1) + step.averaged + step.slots + scores
    return Estimate(
        model=model,
        runs=len(asked),
        batch=recipe.batch_size,
        measured=step.images if step.images < step.batch else 0,
        seconds=recipe.batch_size * learn,
        hours=seconds / 3600,
        memory=step.memory,
        disk=len(asked) * folder + 2 * checkpoint,
        checkpoint=checkpoint,
    )


def _model(study: Study, model: str, asked: list[RunConfig], findings: list[Finding]) -> Estimate | None:
    """The estimate of a model's runs, and what is found on the way; none where no step could be made."""
    run, device = study.experiment.run(model), _device()
    for key in ("precision", "evaluation_precision"):
        try:
            check_precision(getattr(run.training, key), device)
        except UserError as error:  # measured all the same, so that everything is known at once
            findings.append(Finding(str(error)))
            run = dataclasses.replace(run, training=dataclasses.replace(run.training, **{key: "float32"}))
    there = np.flatnonzero([path.exists() for path in study.dataset.splits["train"].paths[: 50 * OPENED]])
    if not len(there):
        return None
    free = _memory_free(device)
    random = dataclasses.replace(run, backbone=dataclasses.replace(run.backbone, weights=None))  # a step costs the same
    with _noted(findings):
        built = study.build(random)
        findings += [Finding(f"{model}: {sentence}", missing=False) for sentence in built.size_warnings(run.input_size)]
        step = measure(study, run, built, there)
        if step.memory > free:
            few = f", estimated from a step of {step.images} images" if step.images < step.batch else ""
            need = f"{size(step.memory)} in a step of {step.batch} images{few}, and {size(free)} are free"
            findings.append(Finding(_too_large(run, need)))
        findings += _shared_memory(run)
        return estimate(model, asked, step, study.dataset, _shown(study, model))
    return None


def asked(setting: Experiment) -> list[tuple[str, RunConfig]]:
    """Every configuration that the experiment asks for, with the model that it counts as."""
    if setting.tuning:
        return [(model, run) for model in setting.models for run in tuning.trials(setting, model)]
    asked = [(model, setting.run(model)) for model in setting.models]
    for model in setting.ablation:
        for axis in setting.axes(model):
            asked += [(model, run) for run in setting.variants(model, axis).values()]
    return asked


def _starts(setting: Experiment) -> list[Finding]:
    """What is missing of the runs that others start from."""
    findings = []
    for pattern in dict.fromkeys(run.training.init for _, run in asked(setting) if run.training.init):
        if _unstarted(pattern):
            parts = Path(pattern).parts
            other = parts[parts.index("runs") + 1] if "runs" in parts[:-1] else ""
            known = (config.FOLDER / f"{other}.yaml").is_file()
            how = f"`make reproduce EXPERIMENT={other}` trains it" if known else "train it, or name its folder"
            findings.append(Finding(f"training.init {pattern!r} matches no finished run: {how}"))
    return findings


def _unstarted(pattern: str) -> bool:
    return not any(store.finished(Path(path)) for path in glob.glob(pattern))


def _data(study: Study, findings: list[Finding]) -> str:
    """What the data set holds; images that are not there, or cannot be opened, are added to `findings`."""
    dataset, name = study.dataset, study.experiment.dataset["name"]
    paths = [path for split in dataset.splits.values() for path in split.paths]
    there = {folder: set(os.listdir(folder)) if folder.is_dir() else set() for folder in {p.parent for p in paths}}
    lost = [path for path in paths if path.name not in there[path.parent]]
    command = f"python -m mlclib data {name} --root"
    if lost:
        brings = (
            f"`{command} NEW` fetches all anew into an empty folder NEW"
            if datasets.archives(name)
            else f"`{command} {study.root}` says how to get them"
        )
        findings.append(
            Finding(
                f"{len(lost):,} of the {len(paths):,} images of {name} are missing, first {lost[0]}: {brings}, or name "
                f"them under `exclude` in experiment {study.experiment.name}"
            )
        )
    for split in dataset.splits.values():
        for row in np.unique(np.linspace(0, len(split) - 1, OPENED).astype(int)) if len(split) else ():
            if split.paths[row].name in there[split.paths[row].parent]:
                with _noted(findings):
                    images.open_rgb(split.paths[row])
    sizes = ", ".join(f"{len(split):,} {part}" for part, split in dataset.splits.items())
    whole = "" if lost else ", all files there"
    return "; ".join([f"data: {name} in {study.root}, {sizes} images{whole}", *dataset.notes])


def _weights(backbone: config.Backbone) -> str:
    """Where the backbone's weights are from; what timm publishes is brought into its cache."""
    try:
        backbones.Backbone(backbone.name, backbone.weights)
    except UserError as error:
        if backbone.weights != "pretrained" or not timm.is_model(backbone.name):
            raise
        source = timm.get_pretrained_cfg(backbone.name).hf_hub_id
        if not source:
            raise
        raise UserError(
            f"{error}; where there is a network, `hf download {source} model.safetensors --local-dir weights` brings "
            "that file, which backbone.weights: weights/model.safetensors then names"
        ) from error
    return f"weights: {backbone.name}, {backbone.weights or 'random'}"


def _maps(study: Study) -> int:
    """Bytes of the layer maps that are still to be cached."""
    setting = study.experiment
    run = setting.run(next(iter(setting.models)))
    backbone = backbones.Backbone(setting.backbone.name, None, study.layers)
    cells = {layer: math.ceil(setting.input_size / backbone.strides[layer]) ** 2 for layer in study.layers}
    one = 2 * sum(backbone.channels[layer] * cells[layer] for layer in study.layers)  # float16
    return sum(
        one * len(split)
        for part, split in study.dataset.splits.items()
        if not features.verified(study.maps_folder(run, part), study.layers)
    )


def _shown(study: Study, model: str) -> int:
    """How often 04_attention passes an image through the model, all seeds together."""
    setting, test = study.experiment, study.dataset.splits["test"]
    if model not in (setting.models if setting.attention.models is None else setting.attention.models):
        return 0
    scored = (test.targets[: setting.attention.scored] == 1).sum() if test.boxes is not None else 0
    return len(setting.seeds) * int(scored) + min(setting.attention.tried, len(test)) * PASSES_TRIED


def _with_loading(seconds: float, step: Step, workers: int, cores: int | None = None) -> float:
    """Seconds an image with its loading: after it, or beside it where processes load (on a CPU, by the same cores)."""
    hands = min(workers, cores or os.cpu_count() or 1)
    if hands and step.device == "cuda":
        return max(seconds, step.load / hands)
    return seconds + step.load / max(1, hands)


def _shared_memory(run: RunConfig) -> list[Finding]:
    """Processes hand batches over in shared memory, of which containers have little."""
    place = Path("/dev/shm")
    batch = math.ceil(run.training.batch_size / run.training.accumulate) * 3 * 4 * run.input_size**2
    need = run.training.workers * PREFETCHED * batch
    if not need or not place.is_dir() or (free := shutil.disk_usage(place).free) >= need:
        return []
    return [
        Finding(
            f"{run.training.workers} loader processes need {size(need)} of shared memory and {place} has {size(free)}"
            " free: lower training.workers, or give the container more (docker run --shm-size)"
        )
    ]


def _too_large(run: RunConfig, need: str) -> str:
    return (
        f"model {run.model} needs {need}: lower training.batch_size, raise training.accumulate, or set "
        "training.precision: bfloat16"
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _memory_free(device: torch.device) -> int:
    """Bytes that a run may take on the device, or of this machine; in a container what it may take at all."""
    if device.type == "cuda":  # what this process holds in reserve is its own to take
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    free = psutil.virtual_memory().available
    try:
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no such limit
        return free


def _disk_free(folder: Path) -> int:
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(there).free


def _bytes(state: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in state.values())


def _best(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes; the lesser of two where it is short."""
    found = [_timed(work)]
    if found[0] < LONG:
        found.append(_timed(work))
    return min(found)


def _timed(work: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def noting(model: Classifier, kept: dict[int, int]) -> AbstractContextManager:
    """Within, the bytes of each tensor that is kept for a backward pass, but for the model's own, go to `kept`."""
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold what it came from, and that it: memory for good

    return torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)


@contextmanager
def _noted(findings: list[Finding]) -> Iterator[None]:
    """Within, a UserError ends the block and becomes a finding."""
    try:
        yield
    except UserError as error:
        findings.append(Finding(str(error)))


def _table(estimates: tuple[Estimate, ...]) -> str:
    rows = [
        {
            "model": one.model,
            "runs": str(one.runs),
            "batch": str(one.batch),
            "seconds a step": f"{one.seconds:.3g}",
            "hours": f"{one.hours:.3g}",
            "peak memory": size(one.memory),
            "disk": size(one.disk),
        }
        for one in estimates
    ]
    total = {
        "model": "all",
        "runs": str(sum(one.runs for one in estimates)),
        "hours": f"{sum(one.hours for one in estimates):.3g}",
        "disk": size(sum(one.disk for one in estimates)),
    }
    return pd.DataFrame([*rows, total]).fillna("").to_string(index=False)


def _said_of(estimates: tuple[Estimate, ...]) -> str:
    few = sorted({one.measured for one in estimates} - {0})
    how = f"estimated from a step of {' or '.join(map(str, few))} images" if few else "from a whole step"
    return f"{how}; one run after another, training with evaluation and attention, ablations as their model"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
