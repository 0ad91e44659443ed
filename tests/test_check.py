"""`python -m mlclib check`: what is missing has its sentence; time, memory and disk are foretold as they come."""

import collections
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from test_voc import devkit

from mlclib import __main__ as line
from mlclib import config, models
from mlclib.datasets import voc
from mlclib.datasets.base import Dataset, Split
from mlclib.runs import batch, check, store
from mlclib.runs.check import Finding, Step
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]
LEARNING = """
title: A backbone that learns
dataset: {name: voc2007, root: DATA}
input_size: 64
backbone: {name: test_resnet, weights: null, frozen: false}
seeds: [0, 1]
training: {epochs: 2, batch_size: 8, learning_rate: 1e-2, optimizer: sgd, threads: 1}
models:
  gmp: {}
  msrn: {options: {head: elementwise, width: 16}}
ablation:
  msrn:
    layers: [[4], [2, 3, 4]]
attention: {n_localisation: 4, n_faithfulness: 2}
"""
TRAIN, TEST = 26, 11


def draw(root: Path) -> None:
    """VOC 2007 in its layout, of a few small pictures of noise."""
    rng = np.random.default_rng(0)
    ids = {"trainval": [f"{i:06d}" for i in range(TRAIN)], "test": [f"{i:06d}" for i in range(TRAIN, TRAIN + TEST)]}
    marks = {(i, label): 1 for names in ids.values() for i in names for label in rng.choice(voc.LABELS, 2, False)}
    folder = devkit(root, 2007, ids, marks) / "JPEGImages"
    folder.mkdir()
    for name in (name for names in ids.values() for name in names):
        Image.fromarray(rng.integers(0, 255, (50, 60, 3), np.uint8)).save(folder / f"{name}.jpg")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    draw(folder / "voc")
    return folder / "voc"


@pytest.fixture
def yaml(drawn, tmp_path) -> Path:
    path = tmp_path / "learning.yaml"
    path.write_text(LEARNING.replace("DATA", str(drawn)), encoding="utf-8")
    return path


def study(yaml: Path, data="", **changes) -> Study:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return Study(config.load(yaml, changes), data, yaml.parent / "results")


def test_where_nothing_is_missing_it_says_what_the_runs_will_take_and_trains_nothing(yaml):
    report = check.check(study(yaml))
    assert report.ok and not report.findings, str(report)
    # gmp and msrn with two seeds each; of the axis only [4] is another run than the full model
    assert [(e.model, e.runs) for e in report.estimates] == [("gmp", 2), ("msrn", 4)]
    assert all(e.hours > 0 and e.seconds > 0 and e.memory > 1e6 and e.measured == 0 for e in report.estimates)
    text = str(report)
    assert f"{TRAIN} train, {TEST} test images, all files there" in text
    assert "26 of the 5,011 images of VOC 2007 trainval" in text
    assert "from a whole step" in text and text.endswith("learning: all is there")
    assert not (yaml.parent / "results" / "runs").exists()


def test_where_a_whole_step_takes_long_it_is_estimated_from_a_few_images_and_says_so(yaml, monkeypatch):
    whole = check.check(study(yaml)).estimates
    monkeypatch.setattr(check, "LONG", 0)
    report = check.check(study(yaml))
    assert {e.measured for e in report.estimates} == {2}
    assert "estimated from a step of 2 images" in str(report)
    assert [e.memory for e in report.estimates] == [e.memory for e in whole]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone.weights": "no/weights.pth"}, "no weights file no/weights.pth"),
        (
            {"backbone.weights": "pretrained"},
            "hf download timm/test_resnet.r160_in1k model.safetensors --local-dir weights",
        ),
        ({"backbone.weights": "offline"}, "no offline weights for test_resnet"),
        ({"label_vectors": "no/glove.txt"}, "no/glove.txt"),
        ({"training.precision": "float16"}, "float16 is not computed on a CPU"),
        ({"training.init": "results/runs/coco2014/msrn-*/seed-9"}, "`make reproduce EXPERIMENT=coco2014` trains it"),
        ({"training.init": "somewhere/else"}, "'somewhere/else' matches no finished run: train it"),
        ({"training.accumulate": 3}, "too few for 1 processes times training.accumulate 3"),
    ],
)
def test_what_a_configuration_needs_and_is_not_there_is_named(yaml, changes, words):
    report = check.check(study(yaml, **changes))
    assert not report.ok and words in " ".join(report.missing), str(report)
    assert len(report.missing) == len(set(report.missing)) and str(report).endswith("missing")


def test_a_missing_image_is_named_and_the_step_made_with_the_others(yaml, tmp_path):
    draw(tmp_path / "voc")
    lost = tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000000.jpg"
    lost.unlink()
    report = check.check(study(yaml, tmp_path / "voc"))
    assert report.missing == [
        f"1 of the 37 images of voc2007 are missing, first {lost}: `python -m mlclib data voc2007 --root NEW` fetches "
        "all anew into an empty folder NEW, or name them under `exclude` in experiment learning"
    ]
    assert len(report.estimates) == 2


def test_an_image_that_cannot_be_opened_is_named(yaml, tmp_path):
    draw(tmp_path / "voc")
    broken = tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages" / f"{TRAIN + TEST - 1:06d}.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (sentence,) = check.check(study(yaml, tmp_path / "voc")).missing
    assert f"cannot read the image {broken}" in sentence


def test_all_that_is_missing_is_named_in_one_go(yaml, tmp_path, capsys):
    sets = ["--set", "backbone.weights=no/weights.pth", "--set", "training.init=no/run"]
    places = ["--data", str(tmp_path / "nothing"), "--results", str(tmp_path / "results")]
    assert line.main(["check", str(yaml), *places, *sets]) == 1
    said = capsys.readouterr().out
    assert said.count("missing: ") == 3 and said.endswith("learning: not ready, 3 missing\n")
    assert f"`python -m mlclib data voc2007 --root {tmp_path / 'nothing'}`" in said
    assert "no weights file no/weights.pth" in said and "'no/run' matches no finished run" in said


def test_a_full_disk_is_named_with_what_is_needed(yaml, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    (sentence,) = check.check(study(yaml)).missing
    assert "results has 1 MB free and the runs of learning need" in sentence and "--results" in sentence


def test_loader_processes_need_shared_memory(yaml, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    real, need = shutil.disk_usage, 4 * 2 * 8 * 3 * 64 * 64 * 4  # processes x batches x images x float32 pixels
    for free, missing in ((need, 0), (need - 1, 1)):
        few = usage(free, 0, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, few=few: few if "shm" in str(path) else real(path))
        report = check.check(study(yaml, training__workers=4))
        assert len(report.missing) == missing
    assert "lower training.workers" in report.missing[0]


def test_a_batch_that_does_not_fit_is_refused_from_a_step_of_few_images(yaml, monkeypatch):
    seen = []
    real = models.Classifier.forward
    monkeypatch.setattr(models.Classifier, "forward", lambda self, x: seen.append(len(x)) or real(self, x))
    memory = psutil.virtual_memory()._replace(available=10**8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    large = study(yaml, training__batch_size=4096)
    assert check.check(large).ok  # a batch is never larger than the training split
    train = large.dataset.splits["train"]
    many = Split(train.names * 200, train.paths * 200, np.tile(train.targets, (200, 1)))
    large.dataset = dataclasses.replace(large.dataset, splits={**large.dataset.splits, "train": many})
    seen.clear()
    monkeypatch.setattr(check, "LONG", 1e9)  # time is no reason
    sentence = check.check(large).missing[0]
    assert "in a step of 4096 images, estimated from a step of 2 images, and 100 MB are free: lower" in sentence
    assert max(seen) == check.FEW


def test_what_a_model_does_not_use_of_an_input_size_is_a_warning(yaml, monkeypatch):
    monkeypatch.setattr(models.find("gmp"), "size_warnings", lambda self, size: [f"{size} px is odd"])
    report = check.check(study(yaml))
    assert report.ok and Finding("gmp: 64 px is odd", missing=False) in report.findings
    assert "warning: gmp: 64 px is odd" in str(report)


def test_finished_runs_are_not_counted_and_no_step_is_made_where_all_are_finished(yaml, monkeypatch):
    first = study(yaml, ablation=None)
    first.train(first.experiment.run("gmp"))
    assert [(e.model, e.runs) for e in check.check(first).estimates] == [("msrn", 2)]
    assert [e.runs for e in check.check(first, force=True).estimates] == [2, 2]
    first.train(first.experiment.run("msrn"))
    monkeypatch.setattr(check, "measure", None)
    assert "nothing to train" in str(check.check(first)) and check.check(first).ok


STEP = Step(images=2, batch=8, device="cpu", learn=0.5, look=0.25, load=0.1, show=0.3, memory=7, state=1000, averaged=0,
            slots=900)  # fmt: skip


def made(train: int, test: int, val: int = 0) -> Dataset:
    def split(count):
        return Split(
            [str(i) for i in range(count)], [Path(str(i)) for i in range(count)], -np.ones((count, 5), np.int8)
        )

    sizes = {"train": train, "test": test, **({"val": val} if val else {})}
    return Dataset("made", tuple("abcde"), {part: split(count) for part, count in sizes.items()})


@pytest.mark.parametrize("ema", [None, 0.99])
def test_hours_are_those_of_every_step_and_every_scored_image_counted_one_by_one(yaml, ema):
    run = study(yaml, training__ema=ema, training__epochs=3).experiment.run("gmp")
    found = check.estimate("gmp", [run] * 5, STEP, made(26, 11, 7), shown=9)
    seconds = 0.0
    for _ in range(5):
        for _ in range(3):
            for start in range(0, 26, 8):
                seconds += min(8, 26 - start) * (0.5 + 0.1)
            seconds += 7 * (0.25 + 0.1) * (2 if ema else 1)
        seconds += 11 * (0.25 + 0.1) * (3 if ema else 2)  # by the last weights, the chosen ones, the averaged ones
    seconds += 9 * 0.3
    assert found.hours == pytest.approx(seconds / 3600) and found.seconds == pytest.approx(8 * 0.6)
    assert (found.runs, found.batch, found.measured, found.memory) == (5, 8, 2, 7)


@pytest.mark.parametrize(
    ("device", "workers", "seconds"),
    [("cpu", 0, 0.6), ("cpu", 8, 0.5 + 0.1 / 4), ("cuda", 0, 0.6), ("cuda", 8, 0.5), ("cuda", 1, 0.5)],
)
def test_loading_is_waited_for_only_where_it_is_not_done_beside_the_step(yaml, device, workers, seconds):
    run = study(yaml, training__workers=workers).experiment.run("gmp")
    step = dataclasses.replace(STEP, device=device)
    assert check.estimate("gmp", [run], step, made(26, 11), cores=4).seconds == pytest.approx(8 * seconds)


def test_slow_loading_sets_the_pace_of_a_fast_gpu(yaml):
    run = study(yaml, training__workers=2).experiment.run("gmp")
    step = dataclasses.replace(STEP, device="cuda", learn=0.01)
    assert check.estimate("gmp", [run], step, made(26, 11), cores=4).seconds == pytest.approx(8 * 0.1 / 2)


@pytest.mark.parametrize(
    "recipe", [{}, {"training.optimizer": "adamw", "training.ema": 0.9}, {"training.momentum": 0.0}]
)
def test_the_disk_that_is_foretold_is_what_a_run_takes(yaml, recipe, monkeypatch):
    asked = study(yaml, **recipe, seeds=[0], ablation=None)
    expected = {one.model: one for one in check.check(asked).estimates}
    checkpoints = []
    real = store.write_run

    def noting(folder, *about):
        checkpoints.extend(path.stat().st_size for path in folder.glob("checkpoint-*.pt"))
        real(folder, *about)

    monkeypatch.setattr(store, "write_run", noting)
    (run,) = asked.train(asked.experiment.run("gmp"))
    assert len(checkpoints) == 2
    took = sum(path.stat().st_size for path in run.folder.iterdir()) + sum(checkpoints)
    assert took == pytest.approx(expected["gmp"].disk, rel=0.1)
    assert max(checkpoints) == pytest.approx(expected["gmp"].checkpoint, rel=0.1)


PEAK = """
import sys
import numpy as np, psutil, torch
from mlclib import config
from mlclib.runs import check
from mlclib.runs.study import Study
study = Study(config.load(sys.argv[1], {"input_size": 192, "training.batch_size": 20, "backbone.name": "resnet18",
    "training.precision": sys.argv[2]}))
run = study.experiment.run("gmp")
model = study.build(run)
check.LONG = 0  # a few images, once
step = check.measure(study, run, model, np.arange(20))
pictures, targets = study.inputs(run, "train").__getitems__([(0, i) for i in range(20)])
pictures, before = pictures.to(memory_format=torch.channels_last), psutil.Process().memory_info().rss
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
with torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[2] == "bfloat16"):
    loss = model.train().loss(model(pictures), targets)
loss.backward()
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
own = pictures.nbytes + sum(value.nbytes for value in model.state_dict().values())
print(step.images, step.batch, step.memory - step.slots, int(peak) * 1024 - before + own)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak so")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_memory_of_a_batch_is_foretold_from_a_step_of_two_images(yaml, precision):
    """In a process of its own, whose memory holds nothing that earlier steps gave back and later ones take again."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PEAK, str(yaml), precision]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    images, batch, foretold, took = map(int, done.stdout.split())
    # In bfloat16 the kernels also work in buffers of their own, smaller or larger by the processor.
    near = {"float32": 0.2, "bfloat16": 0.4}[precision]
    assert (images, batch) == (2, 20) and foretold == pytest.approx(took, rel=near)


def test_with_a_frozen_backbone_the_cache_of_maps_is_foretold_and_no_step_is_made(tiny_study, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "measure", None)
    fresh = Study(tiny_study.experiment, results=tmp_path)
    report = check.check(fresh)
    assert report.ok and not report.estimates
    cached = sum(path.stat().st_size for path in tiny_study.results.rglob("layer*.npy"))
    assert check._maps(fresh) == pytest.approx(cached, rel=0.02) and check._maps(tiny_study) == 0


def test_reproduce_checks_first_where_a_backbone_learns_and_has_something_to_train(yaml, tiny_yaml, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command[3] if command[1:3] == ["-m", "mlclib"] else command[2])
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(line.subprocess, "run", run)
    monkeypatch.setattr(batch, "_waited_for", lambda command: commands.append(command[2]))
    monkeypatch.chdir(ROOT)
    results = str(yaml.parent / "results")
    assert line.main(["reproduce", str(yaml), "--results", results]) == 1
    assert commands == ["check"]
    monkeypatch.setattr(check, "to_train", lambda *_: {})
    assert line.main(["reproduce", str(yaml), "--results", results]) == 1
    assert commands == ["check", "snakemake"]
    commands.clear()
    assert line.main(["reproduce", str(tiny_yaml), "--results", results]) == 1  # a frozen backbone
    assert commands == ["snakemake"]


def test_reproduce_stops_with_all_that_is_missing_before_anything_runs(yaml, tmp_path):
    command = [sys.executable, "-m", "mlclib", "reproduce", str(yaml), "--results", str(tmp_path / "results")]
    command += ["--data", str(tmp_path / "nothing")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: learning is not ready to train")
    assert f"`python -m mlclib data voc2007 --root {tmp_path / 'nothing'}`" in done.stdout
    assert not [path for path in (tmp_path / "results").rglob("*") if path.is_file() and ".lock" not in path.name]
