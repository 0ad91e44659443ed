"""Calibration errors are those of a plain loop, a temperature is found again, and all is told of the right runs."""

import math

import numpy as np
import pytest
from made_runs import make, targets

from mlclib.common.errors import UserError
from mlclib.metrics import calibration
from mlclib.results import calibration as tables
from mlclib.runs import store


def plain(logits, marks, temperature=1.0):
    """Expected calibration error and log loss, cell by cell."""
    bins, loss, cells = [[] for _ in range(15)], 0.0, 0
    for logit, mark in zip(logits.ravel().tolist(), marks.ravel().tolist(), strict=True):
        if mark == 0:
            continue
        p = 1 / (1 + math.exp(-logit / temperature))
        at = next(m for m in range(15) if p <= (m + 1) / 15 or m == 14)
        bins[at].append((p, mark == 1))
        loss, cells = loss - math.log(p if mark == 1 else 1 - p), cells + 1
    error = sum(abs(sum(hit - p for p, hit in cell)) for cell in bins) / cells
    return error, loss / cells, bins


def drawn(temperature, images=4000, seed=0):
    """Logits that are `temperature` times what is true: labels are drawn with the sigmoid of the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1.5, size=(images, 5))
    marks = np.where(rng.random(true.shape) < 1 / (1 + np.exp(-true)), 1, -1).astype(np.int8)
    marks[rng.random(true.shape) < 0.05] = 0
    return (temperature * true).astype(np.float32), marks


@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_error_and_loss_are_those_of_a_plain_loop(temperature):
    logits, marks = drawn(2.0, images=60)
    error, loss, bins = plain(logits, marks, temperature)
    assert calibration.expected_error(logits, marks, temperature) == pytest.approx(error, abs=1e-12)
    assert calibration.log_loss(logits, marks, temperature) == pytest.approx(loss, abs=1e-12)
    counted = marks != 0
    squares = (1 / (1 + np.exp(-logits[counted] / temperature)) - (marks[counted] == 1)) ** 2
    assert calibration.brier_score(logits, marks, temperature) == pytest.approx(squares.mean(), abs=1e-7)
    frame = calibration.reliability(logits, marks, temperature)
    assert frame["count"].tolist() == [len(cell) for cell in bins]
    for row, cell in zip(frame.itertuples(), bins, strict=True):
        wanted = np.mean(cell, axis=0) if cell else (np.nan, np.nan)
        np.testing.assert_allclose((row.probability, row.present), wanted, atol=1e-12)
    by_label = calibration.expected_error_by_label(logits, marks, temperature)
    wanted = [plain(logits[:, [c]], marks[:, [c]], temperature)[0] for c in range(5)]
    np.testing.assert_allclose(by_label, wanted, atol=1e-12)


def test_a_calibrated_model_lies_at_the_floor_and_another_above_it():
    above = 0
    for seed in range(40):
        logits, marks = drawn(1.0, images=150, seed=seed)
        floor = calibration.error_floor(logits, marks)
        observed = calibration.expected_error_by_label(logits, marks).mean()
        assert 0.6 * floor.mean < observed < 1.6 * floor.mean
        above += observed > floor.high
        hot = 3 * logits
        assert calibration.expected_error_by_label(hot, marks).mean() > calibration.error_floor(hot, marks).high
    assert above <= 6  # one in twenty


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_recovered_and_calibrates(temperature):
    logits, marks = drawn(temperature)
    fitted = calibration.fitted_temperature(logits, marks)
    assert fitted == pytest.approx(temperature, rel=0.05)
    losses = [calibration.log_loss(logits, marks, fitted * factor) for factor in (0.98, 1.0, 1.02)]
    assert losses[1] == min(losses)
    fresh, others = drawn(temperature, seed=1)
    assert calibration.expected_error(fresh, others, fitted) < 0.01
    if temperature != 1:
        assert calibration.expected_error(fresh, others) > 0.05


def test_extreme_logits_give_finite_errors_and_difficult_cells_count_nothing():
    logits, marks = np.array([[1e4, -1e4, 5.0]], np.float32), np.array([[1, 1, 0]], np.int8)
    assert calibration.expected_error(logits, marks) == pytest.approx(0.5)
    assert calibration.log_loss(logits, marks) == pytest.approx(5000)
    assert np.isnan(calibration.expected_error_by_label(logits, marks)).tolist() == [False, False, True]
    assert np.isnan(calibration.log_loss(logits[:, 2:], marks[:, 2:]))


def test_no_temperature_is_fitted_to_what_is_never_wrong():
    marks = targets()
    with pytest.raises(UserError, match="no temperature can be fitted where no label is wrong"):
        calibration.fitted_temperature(3.0 * marks, marks)


def with_validation(run, heat, seed):
    logits, marks = drawn(heat, images=500, seed=seed)
    store.write_predictions(run.folder / "validation.npz", [str(i) for i in range(500)], marks, last=logits)
    return logits, marks


def test_the_temperature_comes_from_the_validation_part_and_is_scored_on_the_test_part(tmp_path):
    runs = [make(tmp_path, "gmp", seed, 2.0) for seed in (0, 1)]
    fitted = [calibration.fitted_temperature(*with_validation(run, 2.0, seed)) for seed, run in enumerate(runs)]
    table = tables.calibration_table("gmp", runs)
    before, after = table.frame.to_dict("records")
    plainly = [plain(run.logits["last"], run.targets)[0] for run in runs]
    heated = [plain(run.logits["last"], run.targets, heat)[0] for run, heat in zip(runs, fitted, strict=True)]
    assert before["ECE"] == pytest.approx(100 * np.mean(plainly)) and before["temperature"] == 1
    assert after["ECE"] == pytest.approx(100 * np.mean(heated))
    assert after["temperature"] == pytest.approx(np.mean(fitted))
    assert table.spread["ECE"][1] == pytest.approx(100 * np.std(heated, ddof=1))
    sentence = tables.calibration_sentence(table)
    assert f"{before['ECE']:.2f} points off on average (ECE), and {after['ECE']:.2f} after a temperature of" in sentence
    assert "fitted on the validation part" in table.caption
    floors = [calibration.error_floor(run.logits["last"], run.targets, heat).high
              for run, heat in zip(runs, fitted, strict=True)]  # fmt: skip
    assert after["floor, 95 %"] == pytest.approx(100 * np.mean(floors))
    assert ("above the" in sentence) == (after["ECE by label"] > after["floor, 95 %"])
    figure = tables.reliability_figure("gmp", runs)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["as said", "as trained", "after temperature"]
    bins = calibration.reliability(runs[0].logits["last"], runs[0].targets)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), bins["present"])


def test_without_a_validation_part_there_is_no_temperature_and_it_says_so(tmp_path):
    run = make(tmp_path, "gmp")
    table = tables.calibration_table("gmp", [run])
    assert np.isnan(table.frame["temperature"][1]) and np.isfinite(table.frame["ECE"][0])
    assert "not fitted: there is no validation part" in table.caption
    assert "No temperature can be fitted" in tables.calibration_sentence(table)
