"""The ablation figure draws what its table states."""

import numpy as np
import pytest
from made_runs import make

from mlclib.results import ablation, ablation_figures


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    gains = {"gmp": 0.2, "msrn": 1.0, "dsdl": 1.05}
    return {model: [make(results, model, seed, gain) for seed in (0, 1)] for model, gain in gains.items()}


def test_bars_are_the_intervals_of_the_differences_set_off_from_the_full_model(models):
    variants = {"2": models["gmp"], "2, 4": models["dsdl"], "2, 3, 4": models["msrn"]}
    table = ablation.compare("msrn", "layers", variants, models["msrn"])
    axes = ablation_figures.compare(table).axes[0]
    full = table.frame["mAP"][2]
    bars = [line.get_xydata() for line in axes.lines if line.get_linewidth() == 5 and len(line.get_xdata())]
    for row, bar in zip((0, 1), bars, strict=True):  # none for the full model itself
        low, high = (full + table.frame[column][row] for column in ("Δ low", "Δ high"))
        np.testing.assert_allclose(bar, [[low, row], [high, row]])
    seeds = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"]
    for drawn, runs in zip(seeds, variants.values(), strict=True):
        np.testing.assert_allclose(drawn, [ablation_figures.mean_ap(run) for run in runs])
    apart = (table.frame["q"] < 0.05).sum()
    assert f"\n{apart} of 2 differ from the full model (q < 0.05); best is " in axes.get_title(loc="right")
    assert apart >= 1  # gmp was made far worse


def test_an_axis_of_the_full_model_alone_is_drawn_too(models):
    variants = {"2, 3, 4": models["msrn"]}
    axes = ablation_figures.compare(ablation.compare("msrn", "layers", variants, models["msrn"])).axes[0]
    assert "0 of 0 differ" in axes.get_title(loc="right")


def test_without_a_full_model_there_are_dots_and_no_bars(models):
    variants = {"2": models["gmp"], "3": models["dsdl"]}
    axes = ablation_figures.compare(ablation.compare("msrn", "layers", variants, [])).axes[0]
    assert not [line for line in axes.lines if line.get_linewidth() == 5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "3"]
