"""What each rival promises that others do not; that they compute what their authors do, test_parity_rivals.py says."""

import made_models
import numpy as np
import pytest
import torch
from made_models import OWN_MAPS

from mlclib import models
from mlclib.models.query2label import positions


def build(name, labels=6, **options):
    return made_models.build(name, labels, **options).eval()


def some_map(height, width, batch=2):
    return torch.randn(batch, 96, height, width, generator=torch.Generator().manual_seed(1)).relu()


@pytest.mark.parametrize("name", ["query2label", "ml_decoder"])
def test_a_decoder_s_own_map_is_what_its_query_takes_of_each_cell(name):
    """One head that hands on its memory as it is: the attended vector is the cells' sum by the map."""
    model, map = build(name, labels=5, heads=1), some_map(3, 4)
    last = model.layer if name == "ml_decoder" else model.decoder[-1]
    width = model.options.width
    with torch.no_grad():
        last.attention.in_proj_weight[2 * width :] = torch.eye(width)
        last.attention.out_proj.weight.copy_(torch.eye(width))
    attended = []
    last.attention.register_forward_hook(lambda module, inputs, output: attended.append(output[0]))
    output = model.classify({4: map})
    ((key, (own, cell)),) = model.own_maps({4: map}, output, torch.tensor([4, 1])).items()
    assert key == (OWN_MAPS[name], "4") and cell == 32
    taken = torch.einsum("bn,bnd->bd", own.flatten(1), output.memory)
    torch.testing.assert_close(taken, attended[0][[0, 1], [4, 1]], rtol=1e-4, atol=1e-5)


def test_ssgrl_s_own_map_is_what_a_label_s_feature_takes_of_each_pooled_cell():
    model, map = build("ssgrl"), some_map(4, 6)
    output = model.classify({4: map})
    own, cell = model.own_maps({4: map}, output, torch.tensor([5, 1]))["semantic", "4"]
    pooled = torch.nn.functional.avg_pool2d(map, 2)
    torch.testing.assert_close(torch.einsum("bhw,bfhw->bf", own, pooled), output.semantic[[0, 1], [5, 1]])
    assert cell == 64


@pytest.mark.parametrize("heads", [1, 2])
def test_csra_s_own_map_weighs_the_scores_beside_their_mean(heads):
    model, map = build("csra", heads=heads, lam=0.5), some_map(3, 4)
    output = model.classify({4: map})
    own, cell = model.own_maps({4: map}, output, torch.tensor([5, 1]))["residual", "4"]
    scores = output.scores[[0, 1], :, [5, 1]]  # [B, H, h, w]
    highest = scores[:, -1] == scores[:, -1].amax((1, 2), keepdim=True)
    expected = scores[:, 0].flatten(1).softmax(1).view_as(own)
    torch.testing.assert_close(own, expected if heads == 1 else (expected + highest) / 2)
    assert cell == 32


def test_add_gcn_s_own_map_is_the_sigmoid_of_its_scores_and_ml_gcn_has_none():
    model, map = build("add_gcn"), some_map(3, 4)
    ((key, (mask, cell)),) = model.own_maps({4: map}, model.classify({4: map}), torch.tensor([5, 1])).items()
    wanted = torch.einsum("bfhw,bf->bhw", map, model.score.weight[[5, 1], :, 0, 0]).sigmoid()
    torch.testing.assert_close(mask, wanted)
    assert (key, cell) == (("mask", "4"), 32)
    assert build("ml_gcn").own_maps({4: map}, None, torch.tensor([5, 1])) == {}


def test_the_map_of_a_cell_lies_on_its_place():
    """A query that looks for what stands in one cell alone finds it there, in rows as in columns."""
    model, map = build("ml_decoder"), torch.zeros(1, 96, 3, 5)
    map[0, :, 1, 4] = 1
    changed = model.own_maps({4: map}, model.classify({4: map}), torch.tensor([0]))["cross-attention", "4"][0][0]
    others = torch.ones(3, 5, dtype=torch.bool)
    others[1, 4] = False
    assert changed[others].std() < 1e-6 and (changed[1, 4] - changed[0, 0]).abs() > 1e-5


def test_positions_know_rows_from_columns_at_any_grid():
    tall, wide = (positions(h, w, 8, torch.device("cpu")).view(h, w, 8) for h, w in ((7, 28), (28, 7)))
    torch.testing.assert_close(tall[..., :4], wide[..., 4:].transpose(0, 1))
    assert not torch.equal(tall.flatten(0, 1), positions(14, 14, 8, torch.device("cpu")))


@pytest.mark.parametrize(("size", "sees"), [(96, False), (128, True)])
def test_ssgrl_names_the_edge_that_it_does_not_see(size, sees):
    model, map = build("ssgrl"), some_map(size // 32, size // 32)
    other = map.clone()
    other[:, :, -1] += 1
    same = torch.equal(model.classify({4: map}).logits, model.classify({4: other}).logits)
    assert same != sees and bool(model.size_warnings(size)) != sees
    assert model.size_warnings(32) == []


def test_ssgrl_learns_from_the_conditional_probabilities_it_shows():
    counts, totals = np.array([[0, 3, 1], [3, 0, 0], [1, 0, 0]]), np.array([4, 6, 0])
    labels = models.LabelInfo(3, counts=counts, totals=totals)
    kind = models.find("ssgrl")
    graph = kind.label_graph(labels, kind.Options())
    torch.testing.assert_close(graph, torch.tensor([[0, 0.75, 0.25], [0.5, 0, 0], [1, 0, 0]]))
    assert kind.label_graph(labels, kind.Options(steps=0)) is None


@pytest.mark.parametrize(
    ("name", "difficult"), [("query2label", "present"), ("ml_decoder", "present"), ("ssgrl", "absent")]
)
def test_difficult_labels_train_by_default_as_in_the_authors_code(name, difficult):
    assert models.find(name).Options().difficult == difficult
