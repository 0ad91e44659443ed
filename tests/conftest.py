"""Fixtures that several test files share."""

import os
import sys
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for a hub
sys.modules.setdefault("rfc3987_syntax", None)  # a grammar of addresses that nbformat would parse for seconds
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share the cores, a worker each

TINY = """
title: A tiny study for tests
dataset: {name: scenes, train: 24, val: 8, test: 12, root: ROOT}
input_size: 64
backbone: {name: tf_efficientnet_lite0, weights: offline, frozen: true}
seeds: [0]
training: {epochs: 2, batch_size: 8, learning_rate: 2e-3, threads: 1}
models:
  gmp: {}
  msrn: {options: {head: elementwise, width: 16}}
  dsdl: {}
ablation:
  msrn:
    layers: [[4], [2, 3, 4]]
attention: {images: [0, 1], n_localisation: 6, n_faithfulness: 2}
"""

# The files that take longest start first and the experiments, each a job of its own, come last, so that no worker is
# left alone with a long file at the end.
LONGEST = ("test_workbook.py", "test_killed.py", "test_verify.py", "test_plan.py", "test_site.py")


def pytest_collection_modifyitems(items):
    places = {name: number for number, name in enumerate(LONGEST)} | {"test_experiments.py": 99}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


class ByFile(LoadFileScheduling):
    """A file's tests stay on one worker, which makes its fixtures once; the experiments, which share none, go alone."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return nodeid if file.endswith("test_experiments.py") else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside a developer's checkout; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder shared/ is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory) -> Path:
    """An experiment file that trains in seconds."""
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(folder / "scenes")), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_study(tiny_yaml):
    """A study with finished runs of gmp, msrn and dsdl, one seed each; read it, do not change it."""
    from mlclib import config
    from mlclib.runs.study import Study

    study = Study(config.load(tiny_yaml), results=tiny_yaml.parent / "results")
    for model in study.experiment.models:
        study.train(model)
    return study


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Finished runs of two models alike but for chance, and of one clearly worse; two seeds each."""
    from made_runs import make

    results, gains = tmp_path_factory.mktemp("results"), {"gmp": 0.3, "msrn": 1.5, "dsdl": 1.49}
    return {model: [make(results, model, seed, gain) for seed in (0, 1)] for model, gain in gains.items()}
