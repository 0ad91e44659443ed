"""docs/scaling.md is what its script makes of the measured speeds."""

from pathlib import Path

import pytest

from benchmarks import scaling
from mlclib import config

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_document_is_what_the_script_writes_from_the_measured_speeds():
    assert (ROOT / scaling.PAGE).read_text(encoding="utf-8") == scaling.page()


def test_hours_are_epochs_times_images_over_speed(monkeypatch):
    monkeypatch.setattr(scaling, "speeds", lambda: {"msrn, training step": 5011 / 60, "msrn, evaluation": 4952 / 30})
    run = config.load("voc2007").run("msrn")
    assert scaling.hours(run) == pytest.approx(run.training.epochs * 90 / 3600)
