"""What the experiments with a learning backbone would take on GPUs, on paper: docs/scaling.md.

    python -m benchmarks.scaling --count        counts the work of each model (no GPU, minutes) into counted.csv
    python -m benchmarks.scaling                writes docs/scaling.md from the figures in results/benchmarks
    python -m benchmarks.scaling --throughput 50   for a device of 50 T multiply-adds a second instead of the named ones

The multiply-adds of a training step of each model are counted by torch's FlopCounterMode on tensors without data. A GPU
is taken to do as many of them a second as it did in a training of ResNet-50 that its maker published. Time, disk and
memory of runs are then those of `python -m mlclib check`, from a step that is reckoned instead of made.
"""

import argparse
import csv
import heapq
import inspect
import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.report import FOLDER
from mlclib import config, datasets, models
from mlclib.common.files import write_text, written_whole
from mlclib.config import Experiment, RunConfig
from mlclib.datasets import labels, scenes
from mlclib.datasets.base import Dataset, Split
from mlclib.models.cost import multiply_adds
from mlclib.runs import check
from mlclib.runs.check import Estimate, Step

PAGE = Path("docs/scaling.md")
COUNTED = FOLDER / "counted.csv"
MEASURED = FOLDER / "amd-epyc.csv"
ANCHOR = "resnet50", 1000, 224  # model, labels, input size of the published training
SETS = ("voc2007", "voc2012", "coco2014", "nuswide", "apparel")
SEEDS = 5
LOADING = "pipeline, 0 workers, 448 px, msrn"  # the row of MEASURED on images a second and process
GPUS = 64  # 8 machines of 8
CORES = 8  # that load images for one GPU


@dataclass(frozen=True)
class Device:
    """images: of ResNet-50 v1.5 at 224 px, trained a second in mixed precision; memory: bytes."""

    name: str
    images: float
    memory: float


SOURCE = (
    "https://github.com/NVIDIA/DeepLearningExamples/blob/master/PyTorch/Classification/ConvNets/resnet50v1.5/README.md"
)
DEVICES = (Device("A100 80 GB", 2470, 80e9), Device("V100 16 GB", 1200, 16e9))


@dataclass(frozen=True)
class Work:
    """What one image costs a model: multiply-adds forward and of a training step, bytes kept for the backward pass in
    float32; and bytes of what a run's weights hold, and of what learns.
    """

    forward: float
    step: float
    kept: float
    state: float
    learnt: float


def programmes() -> dict[str, list[Experiment]]:
    """The shipped experiments whose backbone learns; and every model and ablation axis on every data set."""
    shipped = [config.load(path) for path in sorted(config.FOLDER.glob("[!_]*.yaml"))]
    crossed, parts = [], ("_peers.yaml", "_peers_common.yaml", "_ablations.yaml")
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            files = [str(config.FOLDER.resolve() / file) for file in (f"{name}.yaml", *parts)]
            path = Path(folder) / f"{name}.yaml"
            path.write_text(yaml.safe_dump({"include": files, "seeds": list(range(SEEDS))}), encoding="utf-8")
            crossed.append(config.load(path))
    return {
        "The shipped experiments": [one for one in shipped if not one.backbone.frozen],
        f"Every model and every ablation on every data set, {SEEDS} seeds": crossed,
    }


def asked(experiments: list[Experiment]) -> Iterator[tuple[Experiment, str, list[RunConfig]]]:
    """The runs of each model of each experiment, each run once: a configuration a seed."""
    seen = set()
    for experiment in experiments:
        todo: dict[str, list[RunConfig]] = defaultdict(list)
        for model, run in check.asked(experiment):
            for seed in experiment.seeds:
                key = json.dumps([run.identity(), seed])
                if key not in seen:
                    todo[model].append(run)
                seen.add(key)
        yield from ((experiment, model, found) for model, found in todo.items())


def key_of(run: RunConfig) -> tuple[str, int, int]:
    """Model, labels and input size that the run's work is counted at: Apparel's 11 labels count as VOC's 20, and
    NUS-WIDE's 81 as COCO's 80.
    """
    return run.model, 20 if len(datasets.labels_of(run.dataset["name"])) <= 20 else 80, run.input_size


def counted(run: RunConfig) -> Work:
    """The work of a run's model, its weights random."""
    names = datasets.labels_of("voc2007" if key_of(run)[1] == 20 else "coco2014")
    graph = np.ones((len(names), len(names))) - np.eye(len(names))
    model = models.build(
        run.model,
        labels=names,
        label_vectors=labels.vectors(names),
        cooccurrence=(graph, graph.sum(0)),
        backbone=run.backbone.name,
        loss=run.training.loss,
        **run.options,
    )
    targets = torch.ones(2, len(names), dtype=torch.int8)
    return _work(model, lambda images: model.loss(model(images), targets[: len(images)]), run.input_size)


def _work(model: nn.Module, loss: Callable[[Tensor], Tensor], size: int) -> Work:
    """Multiply-adds by the shapes of tensors without data, bytes kept by forward passes of two images and of one."""
    kept = []
    for count in (1, 2):
        held: dict[int, int] = {}
        with check.noting(model.train(), held):
            loss(torch.zeros(count, 3, size, size))
        kept.append(sum(held.values()))
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.zeros(2, 3, size, size)
        step = multiply_adds(lambda: loss(images).backward()) / 2
        with torch.no_grad():
            forward = multiply_adds(partial(model.eval(), images)) / 2
    learnt = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    state = sum(value.nbytes for value in model.state_dict().values())
    return Work(forward, step, kept[1] - kept[0], state, learnt)


def count() -> None:
    """Write COUNTED: the work of each model at each size that the programmes need, and of the anchor; what stands there
    already is kept.
    """
    needed = {key_of(found[0]): found[0] for all_ in programmes().values() for _, _, found in asked(all_)}
    known = works() if COUNTED.exists() else {}
    anchor = timm.create_model(ANCHOR[0], num_classes=ANCHOR[1])
    rows = {ANCHOR: known.get(ANCHOR) or _work(anchor, lambda images: anchor(images).sum(), ANCHOR[2])}
    for key, run in sorted(needed.items()):
        rows[key] = known.get(key) or counted(run)
        print(f"{', '.join(map(str, key))}: {rows[key].step / 1e9:.1f} G multiply-adds a training step", flush=True)
    with written_whole(COUNTED) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["model", "labels", "input_size", *Work.__annotations__])
        table.writerows(
            [*key, *(f"{getattr(work, field):.6g}" for field in Work.__annotations__)] for key, work in rows.items()
        )


def works() -> dict[tuple[str, int, int], Work]:
    """What COUNTED holds."""
    with open(COUNTED, newline="", encoding="utf-8") as file:
        return {
            (row["model"], int(row["labels"]), int(row["input_size"])): Work(
                *(float(row[field]) for field in Work.__annotations__)
            )
            for row in csv.DictReader(file)
        }


def step_of(run: RunConfig, work: Work, throughput: float) -> Step:
    """The run's step on a device of `throughput` multiply-adds a second."""
    recipe = run.training
    batch = -(-recipe.batch_size // recipe.accumulate)
    slots = work.learnt * (int(recipe.momentum > 0) if recipe.optimizer == "sgd" else 2)
    averaged = work.state if recipe.ema else 0
    kept = work.kept * batch * (1 if recipe.precision == "float32" else 0.5)
    return Step(
        images=batch,
        batch=batch,
        device="cuda",
        learn=work.step / throughput,
        look=work.forward / throughput,
        load=1 / _measured(LOADING)[0],
        show=0.0,
        memory=int(work.state + averaged + work.learnt + slots + kept),
        state=int(work.state),
        averaged=int(averaged),
        slots=int(slots),
    )


def sized(experiment: Experiment) -> Dataset:
    """The experiment's data set as far as its sizes go; scenes are as many as are drawn unless told otherwise."""
    name = experiment.dataset["name"]
    names = datasets.labels_of(name)
    drawn = inspect.signature(scenes.load).parameters
    parts = datasets.published_images(name) or {part: drawn[part].default for part in ("train", "val", "test")}
    none = np.empty((0, len(names)), np.int8)
    return Dataset(name, names, {part: Split([""] * images, [], none) for part, images in parts.items()})


def estimates(experiments: list[Experiment], throughput: float) -> list[tuple[Experiment, Estimate, bool]]:
    """What `check` would say of each model of each experiment; and whether its runs start from another's."""
    known, found = works(), []
    for experiment, model, runs in asked(experiments):
        step = step_of(runs[0], known[key_of(runs[0])], throughput)
        one = check.estimate(model, runs, step, sized(experiment), cores=CORES)
        found.append((experiment, one, bool(runs[0].training.init)))
    return found


def makespan(found: list[tuple[Experiment, Estimate, bool]], gpus: int) -> float:
    """Hours until the last run ends where each takes one GPU and the longest begin first; runs that start from another
    begin when all the others have ended.
    """
    ended = 0.0
    for later in (False, True):
        free = [ended] * gpus
        hours = (one.hours / one.runs for _, one, init in found if init == later for _ in range(one.runs))
        for length in sorted(hours, reverse=True):
            heapq.heapreplace(free, free[0] + length)
        ended = max(free)
    return ended


TEXT = """# What the whole programme would take

Made by `python -m benchmarks.scaling` from [results/benchmarks](../results/benchmarks). No GPU was at hand: **no figure
on this page was measured on one**.

- **Counted**: the multiply-adds of each model's training step, by torch's FlopCounterMode
  ([counted.csv](../results/benchmarks/counted.csv)); elementwise work counts nothing. Apparel's 11 labels count
  as VOC's 20, the 22 of scenes and NUS-WIDE's 81 as COCO's 80.
- **Assumed**: a GPU does as many multiply-adds a second as in the training of ResNet-50 v1.5 at 224 px in mixed
  precision that its maker published ([source], read in November 2026): {published}, {anchor:.1f} G multiply-adds each.
  That makes {rates}. It is a favourable case: large batches, and images that are decoded on the GPU.
  `--throughput` reckons with another figure.
- **Measured, on a CPU**: one thread of an AMD EPYC did {cpu} multiply-adds a second in float32 training steps of
  ResNet-101 models. So much does the time of a multiply-add differ from model to model. Loading takes {load:.1f} ms an
  image and process, and {cores} cores load for each GPU.
- **As `check` reckons**: epochs x images x step, the test split scored after each epoch, ablations at the cost of their
  model; on disk the weights and predictions of finished runs, and two checkpoints of the run under way. Memory is
  weights, gradients, optimizer and what is kept for the backward pass (half of what it is in float32 where a recipe
  computes in 16 bits), without what the allocator and cuDNN take beside.
- **Left out**: attention, tables, the data sets on disk (see the README), runs that fail, and the experiments on frozen
  features, which take minutes on a laptop.

[source]: {source}

"""


def page(throughput: float | None = None) -> str:
    """The document; throughput: T multiply-adds a second of another device than the named ones."""
    known = works()
    each = known[ANCHOR].step
    rates = {one.name: one.images * each for one in DEVICES}
    text = TEXT.format(
        published=" and ".join(f"{one.images:,.0f} images a second on one {one.name}" for one in DEVICES),
        anchor=each / 1e9,
        rates=" and ".join(f"{rate / 1e12:.1f} T multiply-adds a second ({name})" for name, rate in rates.items()),
        cpu=_on_cpu(known),
        load=1e3 / _measured(LOADING)[0],
        cores=CORES,
        source=SOURCE,
    )
    if throughput:
        rates = {f"{throughput:g} T a second": throughput * 1e12}
    parts = [f"## {title}\n\n{_programme(found, rates)}" for title, found in programmes().items()]
    return text + "\n\n".join([*parts, f"## The models\n\n{_models(known)}"]) + "\n"


def _programme(experiments: list[Experiment], rates: dict[str, float]) -> str:
    """A row an experiment, and how long it all takes on one GPU and on many."""
    found = {name: estimates(experiments, rate) for name, rate in rates.items()}

    def row(name: str, wanted: Collection[str]) -> list[str]:
        own = [[one for experiment, one, _ in each if experiment.name in wanted] for each in found.values()]
        hours = (f"{sum(one.hours for one in each):,.0f}" for each in own)
        memory, disk = max(one.memory for one in own[0]), sum(one.disk for one in own[0])
        return [name, f"{sum(one.runs for one in own[0]):,}", *hours, check.size(memory), check.size(disk)]

    first = next(iter(found.values()))
    names = list(dict.fromkeys(experiment.name for experiment, _, _ in first))
    head = ["experiment", "runs", *(f"GPU-hours, {name}" for name in rates), "memory of the largest step", "disk"]
    table = _table(head, [*(row(name, [name]) for name in names), row("all", names)])
    said = []
    for name, each in found.items():
        hours, wide = sum(one.hours for _, one, _ in each), makespan(each, GPUS)
        used = 100 * hours / (GPUS * wide)
        said.append(f"- {name}: {hours / 24:,.0f} days on one GPU; {wide / 24:,.1f} days on 8 x 8, {used:.0f} % used.")
        memory = next((device.memory for device in DEVICES if device.name == name), math.inf)
        if large := [f"{one.model} of {experiment.name}" for experiment, one, _ in each if one.memory > memory]:
            said[-1] += f" Steps that it does not hold whole (`training.accumulate`): {', '.join(large)}."
    more = check.size(2 * (GPUS - 1) * max(one.checkpoint for _, one, _ in first))
    return (
        f"{table}\n\nOn 8 x 8 each run has one GPU, the longest begin first, and runs that start from another's "
        f"weights wait for all others; {GPUS} runs under way hold up to {more} more in checkpoints.\n\n"
        + "\n".join(said)
    )


def _models(known: dict[tuple[str, int, int], Work]) -> str:
    head = ["model", "labels", "px", "forward, G", "training step, G", "kept an image, float32", "weights"]
    rows = []
    for (name, count, pixels), work in known.items():
        counts = [f"{work.forward / 1e9:.1f}", f"{work.step / 1e9:.1f}", check.size(work.kept), check.size(work.state)]
        rows.append([name, str(count), str(pixels), *counts])
    return _table(head, rows)


def _on_cpu(known: dict[tuple[str, int, int], Work]) -> str:
    """The multiply-adds a second of the steps that were measured, as a phrase."""
    said = []
    for model, size, count in (("msrn", "VOC", 20), ("msrn", "COCO", 80), ("dsdl", "COCO", 80)):
        _, detail = _measured(f"training step, {model} at {size} size, share of the head")
        batch, seconds = re.search(r"batch (\d+), float32: \S+ s of (\S+) s", detail).groups()
        rate = int(batch) * known[model, count, 448].step / float(seconds)
        said.append(f"{rate / 1e9:.0f} G ({model} at {size} size, {float(seconds) / int(batch):.2f} s an image)")
    return ", ".join(said)


def _measured(name: str) -> tuple[float, str]:
    with open(MEASURED, newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["name"] == name)
    return float(row["value"]), row["detail"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", action="store_true", help="count the work of models that is not counted yet")
    parser.add_argument("--throughput", type=float, help="T multiply-adds a second of a device; printed, not written")
    arguments = parser.parse_args()
    if arguments.count:
        count()
    if arguments.throughput:
        print(page(arguments.throughput))
    else:
        write_text(PAGE, page())
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
