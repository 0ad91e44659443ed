"""Several processes, and parts of a batch, train as one process with the whole batch does; an error ends them all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import made_data
import made_models
import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from mlclib import config
from mlclib.runs import store
from mlclib.runs.study import Study
from mlclib.training import features
from mlclib.training.inputs import Maps
from mlclib.training.optimisation import warmed_up
from mlclib.training.settings import torch_settings
from mlclib.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
LEARNING = """
title: A backbone with batch norm that learns
dataset: {name: scenes, train: 26, val: 7, test: 11, root: ROOT}
input_size: 64
backbone: {name: test_resnet, weights: null, frozen: false}
seeds: [0]
training: {epochs: 2, batch_size: 8, learning_rate: 1e-2, optimizer: sgd, threads: 1, augmentation: msrn}
models:
  gmp: {options: {difficult: ignore}}
  msrn: {options: {head: elementwise, width: 16}}
"""
SHARED = """
title: Batches of odd sizes, with difficult labels
dataset: {name: voc2007, root: ROOT}
exclude: ["100011"]
input_size: 64
backbone: {name: test_resnet, weights: null, frozen: false}
training:
  {epochs: 2, batch_size: 7, learning_rate: 1e-2, optimizer: sgd, threads: 1, augmentation: msrn, frozen_norms: true}
models:
  gmp: {options: {difficult: ignore}, training: {batch_size: 10, accumulate: 2}}
  linear: {options: {difficult: ignore, norm: layer}}
  msrn: {options: {head: elementwise, width: 16, difficult: ignore}}
"""
ONE = [sys.executable, "-m", "mlclib"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def learning(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning")
    path = folder / "learning.yaml"
    path.write_text(LEARNING.replace("ROOT", str(folder / "scenes")), encoding="utf-8")
    Study(config.load(path), results=folder / "drawn").dataset  # noqa: B018
    return path


def run(*command) -> subprocess.CompletedProcess:
    options = {"capture_output": True, "text": True, "timeout": 240, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    return subprocess.run(list(map(str, command)), cwd=ROOT, **options)


ALL = """
import sys, torch
from mlclib import __main__ as line
from mlclib.training.settings import WAIT, processes
processes()  # they wait for one another for days, as where one opens every image first
assert torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout == WAIT
for model in sys.argv[2:]:
    assert line.main(["train", sys.argv[1], "--model", model, "--results", "RESULTS"]) == 0
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An experiment, and the results of its models that two processes trained."""
    folder = tmp_path_factory.mktemp("shared")
    made_data.voc_devkit(folder / "voc", 2007)
    path, script = folder / "shared.yaml", folder / "all.py"
    path.write_text(SHARED.replace("ROOT", str(folder / "voc")), encoding="utf-8")
    script.write_text(ALL.replace("RESULTS", str(folder / "two")), encoding="utf-8")
    done = run(*TWO, script, path, *config.load(path).models)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gmp", "linear", "msrn"])
def test_two_processes_train_a_backbone_of_frozen_norms_as_one_does(shared, tmp_path, model):
    """24 images in sevens leave a batch of 3, two and one a process (in tens one of 4, a part of which is one image);
    11 test images do not divide; difficult labels are left out, of which the parts hold unlike many.
    """
    path, results = shared
    study = Study(config.load(path), results=tmp_path)
    (one,) = study.train(model)
    (two,) = Study(study.experiment, results=results).finished(model)
    assert (study.dataset.splits["train"].targets == 0).sum() == 6
    assert one.names == two.names and len(two.logits["last"]) == 11
    np.testing.assert_allclose(two.history["loss"], one.history["loss"], rtol=2e-5)
    np.testing.assert_allclose(two.logits["last"], one.logits["last"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_there_may_be_more_processes_than_test_images_and_batch_norm_on_cpus_is_warned_of(learning, tmp_path):
    less = f"--set dataset.test=1 --set dataset.root={tmp_path / 'scenes'} --results {tmp_path / 'results'}"
    done = run(*TWO, "-m", "mlclib", "train", learning, "--model", "gmp", *less.split())
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = (tmp_path / "results").rglob("seed-0/manifest.json")
    assert len(store.read(manifest.parent).names) == 1
    assert done.stdout.count("has batch norm, which each of 2 processes on a CPU takes over its own part") == 1


UNREADABLE = """
real = inputs.Images.image
def broken(self, epoch, row):
    if os.environ["RANK"] == "1" and epoch == 1:
        open_rgb("no/such/picture.jpg")
    return real(self, epoch, row)
inputs.Images.image = broken
"""
FULL = """
real, calls = torch.save, []
def full(plain, path):
    calls.append(path)
    if len(calls) == 1:
        raise OSError(28, "No space left on device")
    real(plain, path)
torch.save = full
"""
START = """
import os, sys, torch
from mlclib import __main__ as line
from mlclib.training import inputs
from mlclib.datasets.images import open_rgb
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        pytest.param(UNREADABLE, "cannot read the image no/such/picture.jpg", id="unreadable"),
        pytest.param(FULL, "could not be written (No space left on device)", id="full disk"),
    ],
)
def test_an_error_on_one_process_alone_ends_all_with_its_sentence(learning, tmp_path, broken, sentence):
    (tmp_path / "broken.py").write_text(f"{START}{broken}sys.exit(line.main(sys.argv[1:]))\n")
    given = ["--set", "training.checkpoint_minutes=0.0", "--results", tmp_path / "results"]
    started = time.monotonic()
    done = run(*TWO, tmp_path / "broken.py", "train", learning, "--model", "gmp", *given)
    assert done.returncode != 0 and time.monotonic() - started < 100
    assert "error: " in done.stderr and sentence in done.stderr


@pytest.mark.slow
def test_two_at_once_cache_layer_maps_once(tiny_yaml, tmp_path):
    command = [*ONE, "maps", str(tiny_yaml), "--part", "train", "--results", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in both:
        one.communicate(timeout=120)
        assert one.returncode == 0
    (folder,) = (path.parent for path in tmp_path.rglob("layer4.npy"))
    assert features.verified(folder, (2, 3, 4)) and not list(folder.parent.glob(".*.part"))


@pytest.mark.parametrize(("name", "options"), [("gmp", {}), ("msrn", {"width": 8, "head": "elementwise"})])
def test_difficult_labels_left_out_are_normalised_by_the_whole_batch(tmp_path, name, options):
    rng = np.random.default_rng(0)
    targets = rng.choice([-1, 0, 1], (24, 6), p=[0.4, 0.4, 0.2]).astype(np.int8)
    targets[:4] = 0  # a part without any known label
    maps = {2: rng.random((24, 48, 8, 8)), 3: rng.random((24, 192, 4, 4)), 4: rng.random((24, 96, 2, 2))}
    data = Maps({k: v.astype(np.float16) for k, v in maps.items()}, targets)
    losses, weights = [], []
    for parts in (1, 2, 4):
        model = made_models.build(name, labels=6, frozen=True, difficult="ignore", **options)
        recipe = config.Training(epochs=2, batch_size=8, accumulate=parts, threads=1)
        state = Trainer(model, data, data, recipe, 0, tmp_path / str(parts)).run()
        losses.append([row["loss"] for row in state.history])
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=1e-3, atol=1e-4)


def test_averaged_weights_forget_their_start():
    """TensorFlow's rule, against a plain recursion in float64."""
    model = torch.nn.BatchNorm1d(1)
    average = AveragedModel(model, multi_avg_fn=warmed_up(0.9997), use_buffers=True)
    mean, share = 0.0, 1.0  # share: of the first weights in the average
    for n, value in enumerate(np.random.default_rng(0).standard_normal(6280)):
        model.weight.data.fill_(value)
        model.num_batches_tracked += 1
        average.update_parameters(model)
        decay = min(0.9997, (1 + n) / (10 + n)) if n else 0.0
        mean, share = decay * mean + (1 - decay) * value, share * (decay or 1.0)
    assert float(average.module.weight.detach()) == pytest.approx(mean, rel=1e-3, abs=1e-4)
    assert share < 1e-6 and 0.9997**6280 > 0.15
    assert int(average.module.num_batches_tracked) == 6280


def test_evaluation_is_in_float32_whatever_the_training(learning, tmp_path):
    results = {}
    for precision in ("float32", "bfloat16"):
        changes = {"training.precision": "bfloat16", "training.evaluation_precision": precision}
        study = Study(config.load(learning, changes), results=tmp_path / precision)
        (run,) = study.train("gmp")
        results[precision] = run.logits["last"]
    assert len(np.unique(results["float32"])) > 0.95 * results["float32"].size
    half = torch.from_numpy(results["bfloat16"])
    assert torch.equal(half, half.bfloat16().float()) and not np.array_equal(results["float32"], results["bfloat16"])


def test_what_a_training_sets_in_its_process_is_restored():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch_settings(config.Training(threads=before[0] + 1, deterministic=not before[1])):
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (before[0] + 1, not before[1])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
