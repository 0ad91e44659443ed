"""The promises of docs/statistics.md hold where the truth is known, through the functions that the tables call."""

import numpy as np
import pytest

from benchmarks import statistics
from benchmarks.simulation import World, average_precision
from mlclib.metrics import evaluate


def test_the_simulated_population_is_what_large_samples_score():
    world = World(20_000, (2000, 6000, 12_000), level=0.7, seed_sd=0.1)
    assert world.population(0).mean() == pytest.approx(0.7)
    (model,), targets = world.draw([world.shift(0.05)], 40, np.random.default_rng(0))
    scores = [evaluate(run, targets)["mAP"] for run in model]
    assert np.mean(scores) == pytest.approx(0.75, abs=0.012)
    assert average_precision(np.zeros(2), np.array([0.1, 0.4])) == pytest.approx([0.1, 0.4])


@pytest.mark.parametrize("name", ["scenes-like", "rare labels"])
def test_in_few_contests_intervals_hold_the_truth_and_equal_models_do_not_differ(name):
    equal = statistics.of_equals(statistics.WORLDS[name], seeds=3, contests=8)
    assert equal.coverage > 0.75 and equal.differences > 0.8  # give or take what few contests leave to chance
    assert equal.family_wise <= 0.25


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name, contests", [("scenes-like", 120), ("rare labels", 80), ("seeds dominate", 120)])
def test_equal_models_differ_in_one_contest_of_twenty_at_most(name, contests, seeds):
    equal = statistics.of_equals(statistics.WORLDS[name], seeds, contests * 3 // seeds)
    assert equal.coverage >= {"rare labels": 0.90}.get(name, 0.93) - 0.02
    assert equal.differences >= (0.93 if name != "seeds dominate" else 0.85) - 0.02
    deviation = np.sqrt(0.05 * 0.95 / (contests * 3 // seeds))
    assert equal.family_wise <= 0.05 + 2 * deviation
    if name == "seeds dominate":  # what the t test is for
        assert equal.family_wise_bootstrap > equal.family_wise


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name, gap", [("scenes-like", 0.033), ("rare labels", 0.06)])
def test_the_smallest_gap_is_shown_with_80_percent_power(name, gap, seeds):
    _, power = statistics.power(statistics.WORLDS[name], seeds, 180 // seeds, gap)
    assert 0.6 <= power <= 0.95


def test_the_page_shows_what_the_simulation_wrote():
    text = statistics.PAGE.read_text(encoding="utf-8")
    table = text.partition(statistics.START)[2].partition(statistics.END)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == list(statistics.ROWS)
    for row in rows:
        contests, coverage, error, power = (float(row[at]) for at in (2, 4, 7, 10))
        assert error <= 5 + 2 * np.sqrt(5 * 95 / contests)
        few = row[0] == "few images"  # where the page and the findings say that the promise does not hold
        assert coverage >= (80 if few else 90) and (60 if few else 65) <= power <= 95
