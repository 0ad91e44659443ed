"""docs/scaling.md is what its script makes of the tracked figures, and the script reckons as it says."""

from pathlib import Path

import pytest

from benchmarks import scaling
from mlclib import config, models

ROOT = Path(__file__).parents[1]
RATE = 3e13


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_document_is_what_the_script_writes_from_the_tracked_figures():
    assert scaling.PAGE.read_text(encoding="utf-8") == scaling.page()


@pytest.mark.parametrize("model", ["gmp", "msrn"])
def test_the_counts_are_those_of_the_models_that_stand(model):
    run = config.load("voc2007").run(model)
    counted, known = scaling.counted(run), scaling.works()[scaling.key_of(run)]
    for field in scaling.Work.__annotations__:
        assert getattr(counted, field) == pytest.approx(getattr(known, field), rel=1e-5), field


def test_the_anchor_is_resnet_50_as_everyone_counts_it():
    work = scaling.works()[scaling.ANCHOR]
    assert work.forward == pytest.approx(4.1e9, rel=0.01)  # He et al., CVPR 2016, table 1: 3.8; v1.5 strides later
    assert work.state / 4 == pytest.approx(25.6e6, rel=0.01)
    assert 2.9 < work.step / work.forward < 3  # the first layer needs no gradient of the images


def test_hours_are_epochs_times_images_times_multiply_adds():
    experiment = config.load("voc2007")
    (_, one, init), *_ = scaling.estimates([experiment], RATE)
    work = scaling.works()["gmp", 20, 448]
    assert one.model == "gmp" and one.runs == 3 and not init
    seconds = 3 * 40 * (5011 * work.step + 4952 * work.forward) / RATE
    assert one.hours == pytest.approx(seconds / 3600)
    assert one.memory == pytest.approx(work.state + 2 * work.learnt + 24 * work.kept / 2)


def test_every_run_is_counted_once():
    _, crossed = scaling.programmes().values()
    voc = config.load("voc2007")
    alone = sum(len(runs) for _, _, runs in scaling.asked([voc]))
    assert sum(len(runs) for _, _, runs in scaling.asked([voc, voc])) == alone == 3 * (3 + 6 + 5 + 3)
    assert {one.name for one in crossed} == set(scaling.SETS)
    for experiment in crossed:
        assert len(experiment.seeds) == scaling.SEEDS and set(experiment.models) == set(models.NAMES)
