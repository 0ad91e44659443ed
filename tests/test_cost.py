"""A model's cost is what its mathematics says, runs keep it, and table and figure show it beside the score."""

import made_models
import numpy as np
import pandas as pd
import pytest
import torch
from made_runs import make

from mlclib import models
from mlclib.metrics import scores as metrics
from mlclib.models.cost import cost, multiply_adds
from mlclib.results import cost as cost_tables
from mlclib.results.cost import BACKBONE, HEAD, PARAMETERS, SHARE

C, F, N, V = 10, 96, 16, 50  # labels, channels and cells of layer 4 of test_resnet at 128 px, words


def layer(width, feedforward):
    """Parameters of a transformer layer: attention, feed-forward part, two norms."""
    return 4 * (width**2 + width) + (width * feedforward + feedforward) + (feedforward * width + width) + 4 * width


def transformer(width, feedforward, queries, cells):
    """Multiply-adds of a layer: queries and result, keys and values, the attention, the feed-forward part."""
    attention = 2 * queries * width**2 + 2 * cells * width**2 + 2 * queries * cells * width
    return attention + 2 * queries * width * feedforward


W, H, STEPS = 16, 32, 3
EXPECTED = {  # name: (options, parameters, multiply-adds an image)
    "gmp": ({}, F * C + C, F * C),
    "linear": ({}, 2 * F * C + C, 2 * F * C),
    "ml_gcn": ({"hidden": H}, V * H + H * F, F * C),  # the label branch is made once a batch
    "dsdl": ({"hidden": H}, V * H + H * F, F * C),
    "csra": ({"heads": 2}, 2 * F * C, 2 * F * C * N),
    "add_gcn": (
        {"width": W},
        F * C + (F * W + W) + C * C + 3 * (W * W + W) + 2 * W + (2 * W * C + C) + (W * C + C),
        # score and transform, masked sum, static edges and layer, global, dynamic edges, x E, dynamic layer
        N * F * C + N * F * W + N * W * C + C * C * W + C * W * W + W * W + 2 * W * C * C + W * C * C + C * W * W,
    ),
    "ml_decoder": (
        {"width": W, "feedforward": H, "heads": 2},
        (F * W + W) + 2 * W + layer(W, H) + W * C + C,
        N * F * W + transformer(W, H, C, N) + C * W,
    ),
    "query2label": (
        {"width": W, "feedforward": H, "heads": 2},
        (F * W + W) + 3 * layer(W, H) + 2 * W + 2 * C * W + C,
        N * F * W + transformer(W, H, N, N) + 2 * transformer(W, H, C, N),  # its own weighing of labels is elementwise
    ),
    "ssgrl": (
        {"width": W, "steps": STEPS},
        F * W + V * W + (W * W + W) + (W + 1) + 3 * (2 * F * F + F) + 2 * (F * F + F) + (2 * F * F + F) + C * F + C,
        # cells, their scores, the softmax's sums; each step: neighbours both ways, three and two matrices; join, head
        (N // 4) * (F * W + C * W + C * F) + STEPS * C * (2 * C * F + 6 * F * F + 2 * F * F) + C * (2 * F * F + F),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_cost_of_a_head_is_that_of_its_mathematics(name):
    options, parameters, products = EXPECTED[name]
    model = made_models.build(name, C, **options)
    counted = cost(model, 128)
    assert counted.parameters == parameters
    assert counted.head == products


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_s_cost_is_counted_and_leaves_it_as_it_was(name):
    model = made_models.build(name, C, frozen=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    counted = cost(model, 128)
    assert model.training and not model.backbone.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert counted.head > 0 and counted.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.backbone == multiply_adds(lambda: model.backbone(torch.zeros(1, 3, 128, 128))) > 0


def test_a_convolution_s_multiply_adds():
    assert multiply_adds(lambda: torch.nn.Conv2d(3, 8, 3)(torch.zeros(2, 3, 10, 12))) == 2 * 8 * 3 * 9 * 8 * 10


def test_a_run_keeps_its_cost_and_the_table_shows_it(tiny_study):
    runs = {model: tiny_study.finished(model) for model in tiny_study.experiment.models}
    table = cost_tables.cost_table(runs)
    labels, channels = len(tiny_study.dataset.labels), 320
    row = table.frame.set_index("model").loc["gmp"]
    assert row[PARAMETERS] == (channels * labels + labels) / 1e6 and row[HEAD] == channels * labels / 1e6
    assert row[SHARE] == pytest.approx(0.1 * row[HEAD] / row[BACKBONE])
    (run,) = runs["gmp"]
    assert row["mAP"] == pytest.approx(100 * metrics.evaluate(run.logits["last"], run.targets)["mAP"])


@pytest.fixture
def some(tmp_path):
    """Runs of four models: b costs more than a and is worse, c costs more and is better, d has no cost."""
    runs = {}
    for name, gain, size in (("a", 0.5, 10), ("b", 0.2, 20), ("c", 1.5, 30), ("d", 2.0, None)):
        runs[name] = [make(tmp_path, name, seed, gain) for seed in (0, 1)]
        for run in runs[name] if size else ():
            run.about["cost"] = {"parameters": size * 10**6, "head": size * 10**6, "backbone": 100 * 10**9}
    return runs


def test_the_figure_joins_the_models_that_none_beats_at_their_cost(some):
    table = cost_tables.cost_table(some)
    assert table.frame[HEAD].tolist()[:3] == [10, 20, 30] and pd.isna(table.frame[PARAMETERS][3])
    figure = cost_tables.cost_figure(table, some)
    for axes in figure.axes:
        front = axes.lines[0].get_xydata()
        assert front[:, 0].tolist() == [10, 30] and axes.get_title().endswith("unbeaten a, c")
        np.testing.assert_allclose(front[:, 1], table.frame["mAP"][[0, 2]])
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["a", "b", "c"]
    alone = {"d": some["d"]}  # without a counted cost
    figure = cost_tables.cost_figure(cost_tables.cost_table(alone), alone)
    assert "counted cost" in figure.axes[0].texts[0].get_text()
