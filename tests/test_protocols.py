import math

import numpy as np
import pytest
from made_runs import make, targets

from mlclib.common.errors import UserError
from mlclib.metrics import scores as metrics
from mlclib.models import title
from mlclib.results import protocols
from mlclib.runs import store


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three seeds of one model with averaged weights, and two of one without."""
    results = tmp_path_factory.mktemp("results")
    kept = ("last", "best_test", "ema")
    return {
        "msrn": [make(results, "msrn", seed, 1.5, selections=kept) for seed in range(3)],
        "gmp": [make(results, "gmp", seed, 0.8) for seed in range(2)],
    }


@pytest.fixture(scope="module")
def audit(models):
    return protocols.audit(models)


def value(audit, kind, choice, score, model="msrn", seed=0, column="value"):
    at = (audit["kind"] == kind) & (audit["choice"] == choice) & (audit["score"] == score)
    (cell,) = audit.loc[at & (audit["model"] == model) & (audit["seed"] == seed), column]
    return cell


@pytest.mark.parametrize(
    ("kind", "choice", "selection", "protocol"),
    [
        ("default", "default", "last", {}),
        ("AP", "max-precision envelope (VOC 2010 on)", "last", {"ap": "envelope"}),
        ("AP", "11 points (VOC 2007)", "last", {"ap": "11-point"}),
        ("difficult labels", "counted as absent", "last", {"difficult": "absent"}),
        ("threshold", "probability 0.8", "last", {"threshold": math.log(0.8 / 0.2)}),
        ("top three", "always three", "last", {"top": 3, "threshold": -math.inf}),
        ("epoch", "moving average of the weights", "ema", {}),
        ("together", "best epoch, swept on the test set", "best_test", {"threshold": "sweep"}),
    ],
)
def test_each_choice_scores_the_same_predictions_under_its_protocol(models, audit, kind, choice, selection, protocol):
    run = models["msrn"][1]
    expected = metrics.evaluate(run.logits[selection], run.targets, **protocol)
    default = metrics.evaluate(run.logits["last"], run.targets)
    for score in protocols.SCORES:
        actual = value(audit, kind, choice, score, seed=1)
        if not np.isnan(actual):
            assert actual == pytest.approx(100 * expected[score])
            change = value(audit, kind, choice, score, seed=1, column="change")
            assert change == pytest.approx(100 * (expected[score] - default[score]))
        else:
            assert expected[score] == default[score]  # a score that the choice cannot move


def test_half_precision_ranks_by_what_the_type_can_hold(models, audit):
    run = models["msrn"][0]
    half = run.logits["last"].astype(np.float16)
    rounded = (1 / (1 + np.exp(-half.astype(np.float32)))).astype(np.float16)
    expected = metrics.evaluate(rounded, run.targets, threshold=0.5)
    assert value(audit, "sigmoid before ranking", "in float16", "mAP") == pytest.approx(100 * expected["mAP"])
    assert value(audit, "sigmoid before ranking", "in float16", "CF1") == pytest.approx(100 * expected["CF1"])


def test_the_threshold_of_a_validation_split_is_used_where_there_is_one(tmp_path):
    run = make(tmp_path, "gmp", gain=0.8)
    choice = ("threshold", "swept on a validation split")
    assert np.isnan(value(protocols.audit({"gmp": [run]}), *choice, "CF1", model="gmp"))
    marks = targets(seed=5)
    logits = marks + np.random.default_rng(5).normal(size=marks.shape) - 0.7
    store.write_predictions(run.folder / "validation.npz", run.names, marks, last=logits)
    threshold = metrics.best_threshold(logits.astype(np.float32), marks)
    expected = metrics.evaluate(run.logits["last"], run.targets, threshold=threshold)
    assert threshold < 0
    actual = value(protocols.audit({"gmp": [run]}), *choice, "CF1", model="gmp")
    assert actual == pytest.approx(100 * expected["CF1"])


def test_choices_that_cannot_be_scored_are_nan(models, audit, tmp_path):
    assert np.isnan(value(audit, "epoch", "moving average of the weights", "mAP", model="gmp"))
    hidden = make(tmp_path, "gmp", marks=np.zeros((9, 5), dtype=np.int8))
    assert protocols.audit({"gmp": [hidden]})["value"].isna().all()
    with pytest.raises(UserError, match="no finished run"):
        protocols.audit({"gmp": []})


def test_the_table_states_mean_changes_in_the_order_of_the_choices(models, audit):
    table = protocols.changes_table(audit, models)
    assert list(zip(table.frame["kind"], table.frame["choice"], strict=True)) == list(protocols.ORDER)
    row = [choice.name for choice in protocols.CHOICES].index("counted as absent")
    changes = [
        value(audit, "difficult labels", "counted as absent", "mAP", seed=seed, column="change") for seed in range(3)
    ]
    assert table.frame["mAP msrn"][row] == pytest.approx(np.mean(changes))
    assert table.spread["mAP msrn"][row] == pytest.approx(np.std(changes, ddof=1))
    default = np.mean([value(audit, "default", "default", "mAP", seed=seed) for seed in range(3)])
    assert f"MSRN {default:.1f} mAP" in table.protocol


def test_the_plot_has_a_dot_for_every_finite_change(models, audit):
    figure = protocols.changes_figure(audit)
    dots = sum(len(line.get_xdata()) for axis in figure.axes for line, *_ in axis.containers)
    changes = protocols.changes(audit)["mean"]
    assert dots == changes.notna().sum()
    assert all(title(word) in figure.get_suptitle() for word in changes.abs().idxmax())
