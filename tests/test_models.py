"""What every model and variant promises of learning and numbers, and each formula written out a second time."""

import numpy as np
import pytest
import torch
from made_models import build, label_info, some_maps, some_targets
from torch import nn

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.models.losses import NAMED

LABELS = 10
SOFT_MARGIN = NAMED["soft-margin"]

VARIANTS = [
    ("gmp", {}),
    ("msrn", {}),
    ("msrn", {"layers": [4]}),
    ("msrn", {"layers": [3, 2], "head": "elementwise"}),
    ("msrn", {"head": "elementwise", "group_ratio": 0}),
    ("msrn", {"graph": "identity"}),
    ("msrn", {"graph": "random", "learn_vectors": True}),
    ("msrn", {"graph": "none"}),
    ("dsdl", {}),
    ("dsdl", {"coefficients": "learnt", "learn_vectors": True}),
    ("dsdl", {"alpha": 0.1, "reconstruction": False, "sparsity": False}),
    ("query2label", {"loss": "soft-margin"}),
    ("query2label", {"loss": "focal", "width": 96, "input_projection": False}),
    ("query2label", {"loss": "soft-margin", "encoder_layers": 0, "decoder_layers": 1}),
    ("ml_decoder", {"loss": "soft-margin"}),
    ("ml_decoder", {"loss": "soft-margin", "groups": 5}),
    ("ssgrl", {}),
    ("ssgrl", {"steps": 0}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_variant_gives_float32_logits_and_a_gradient_to_each_of_its_parameters(name, options):
    model = build(name, **options)
    output = model.classify(some_maps())
    assert output.logits.shape == (4, LABELS) and output.logits.dtype == torch.float32
    loss = model.loss(output, some_targets())
    assert loss.isfinite() and 0.1 < loss < 10
    loss.backward()
    head = [(key, p) for key, p in model.named_parameters() if not key.startswith("backbone.")]
    assert head
    for key, parameter in head:
        if options.get("graph") == "identity" and key.endswith(".a"):
            continue  # the softmax of one energy is 1 whatever it is
        if name == "ssgrl" and key in ("joint.bias", "score.bias"):
            continue  # a constant before a softmax
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_variant_learns_labels_that_show_in_the_maps(name, options):
    model, maps, targets = build(name, **options), some_maps(16, 64), some_targets(16)
    for map in maps.values():
        map[:, : 4 * LABELS] += 6 * (targets >= 0).repeat(1, 4)[:, :, None, None]
    optimizer = torch.optim.AdamW(model.parameter_groups(3e-3, 0.1))
    start = SOFT_MARGIN(model.classify(maps).logits, targets, "present").item()
    for _ in range(25):
        optimizer.zero_grad()
        model.loss(model.classify(maps), targets).backward()
        optimizer.step()
    assert SOFT_MARGIN(model.classify(maps).logits, targets, "present").item() < 0.6 * start


@pytest.mark.parametrize("name", models.NAMES)
def test_cached_maps_give_what_images_give(name):
    model = build(name, frozen=True).train()
    images, logits = torch.randn(2, 3, 64, 64), []
    for cached in (True, False):
        torch.manual_seed(0)  # of dropout
        logits.append(model.classify(model.backbone(images)).logits if cached else model(images).logits)
    assert torch.equal(*logits)


@pytest.mark.parametrize("name", models.NAMES)
def test_a_seed_gives_one_model_and_its_state_dict_makes_another_seed_s_model_alike(name):
    model, again, other = (build(name, seed=seed).eval() for seed in (1, 1, 2))
    first, third = model.state_dict(), other.state_dict()
    assert all(torch.equal(value, first[key]) for key, value in again.state_dict().items())
    assert any(not torch.equal(first[key], third[key]) for key in first if not key.startswith("backbone."))
    other.load_state_dict(first)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, other(images).logits)


@pytest.mark.parametrize("name", models.NAMES)
def test_parameter_groups_hold_each_learnt_parameter_once(name):
    model = build(name)
    head, backbone = model.parameter_groups(0.5, 0.1)
    assert (head["lr"], backbone["lr"]) == (0.5, 0.05)
    assert {id(p) for p in backbone["params"]} == {id(p) for p in model.backbone.parameters()}
    together = [id(p) for group in (head, backbone) for p in group["params"]]
    assert len(together) == len(set(together)) and set(together) == {id(p) for p in model.parameters()}
    model.backbone.freeze()
    assert [{id(p) for p in group["params"]} for group in model.parameter_groups(0.5, 0.1)] == [
        {id(p) for p in head["params"]}
    ]


@pytest.mark.parametrize("name", models.NAMES)
def test_bfloat16_changes_logits_and_loss_by_no_more_than_its_rounding(name):
    model, maps, targets = build(name).eval(), some_maps(), some_targets()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.classify({layer: map.bfloat16() for layer, map in maps.items()})
        loss = model.loss(output, targets)
    exact = model.classify(maps)
    assert output.logits.dtype == torch.float32 and loss.dtype == torch.float32
    tolerance = 10 * torch.finfo(torch.bfloat16).eps
    assert (output.logits - exact.logits).abs().max() < tolerance * exact.logits.abs().max()
    torch.testing.assert_close(loss, model.loss(exact, targets), rtol=tolerance, atol=0)


# MSRN


def test_the_elementwise_head_joins_each_label_with_its_share_of_the_groups():
    model = build("msrn", head="elementwise", layers=[4])
    maps = some_maps(1)
    output = model.classify(maps)
    map = model.projected(maps)[4][0].flatten(1)  # [D, N]
    pooled = [((map * node[:, None]).softmax(1) * map).sum(1) for node in torch.cat((output.labels, output.groups))]
    for c in range(LABELS):
        shared = sum(s * group for s, group in zip(output.assignment[c], pooled[LABELS:], strict=True))
        expected = torch.cat((pooled[c], shared)).tanh() @ model.head.W[c] + model.head.B[c]
        torch.testing.assert_close(output.logits[0, c], expected)


def test_the_random_graph_has_as_many_edges_and_is_always_the_same():
    torch.manual_seed(1)
    kinds = {graph: build("msrn", graph=graph).adjacency > 0 for graph in ("cooccurrence", "random", "identity")}
    assert kinds["random"].sum() == kinds["cooccurrence"].sum() > LABELS
    assert not torch.equal(kinds["random"], kinds["cooccurrence"])
    assert torch.equal(kinds["random"], build("msrn", seed=7, graph="random").adjacency > 0)
    assert torch.equal(kinds["identity"], torch.eye(LABELS, dtype=torch.bool))


def test_without_a_graph_no_label_s_embedding_depends_on_another():
    def change(graph):
        model = build("msrn", graph=graph)
        before = model.nodes()[0]
        model.label_vectors[0] += 1
        return (model.nodes()[0] - before).abs().amax(1) > 1e-6

    assert change("none").tolist() == [True] + [False] * (LABELS - 1)
    assert change("identity").tolist() == [True] + [False] * (LABELS - 1)
    assert change("cooccurrence").sum() > 1


def test_a_label_that_no_image_shows_has_no_edge_and_spoils_nothing():
    counts, totals = (x.copy() for x in label_info(LABELS)["cooccurrence"])
    counts[3], counts[:, 3], totals[3] = 0, 0, 0
    model = build("msrn", cooccurrence=(counts, totals))
    assert model.adjacency.isfinite().all()
    assert (model.adjacency[3] > 0).nonzero().tolist() == [[3]]
    assert model.classify(some_maps()).logits.isfinite().all()


# DSDL


def test_dsdl_s_loss_is_its_formula_and_each_term_can_be_left_out():
    maps, targets = some_maps(), some_targets()

    def parts(**options):
        model = build("dsdl", alpha=2.0, lambd=3.0, beta=0.01, **options)
        output = model.classify(maps)
        code = (output.logits @ output.dictionary - output.feature).pow(2).sum().sqrt()
        cosine = nn.functional.cosine_similarity(model.label_vectors, output.reconstruction, dim=1).mean()
        margin = SOFT_MARGIN(output.logits, targets, "present")
        return model.loss(output, targets), margin, code, output.logits.pow(2).sum().sqrt(), cosine

    loss, margin, code, size, cosine = parts()
    torch.testing.assert_close(loss, (margin + 0.01 * (code + 3 * size)) / cosine)
    loss, margin, code, size, cosine = parts(sparsity=False)
    torch.testing.assert_close(loss, (margin + 0.01 * code) / cosine)
    loss, margin, code, size, cosine = parts(reconstruction=False)
    torch.testing.assert_close(loss, margin + 0.01 * (code + 3 * size))


# Options and inputs


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dsdI", {}, "did you mean 'dsdl'.*known: .*gmp, .*msrn"),
        ("msrn", {"group_ration": 0.2}, "group_ratio"),
        ("dsdl", {"layers": [4]}, "known: alpha, beta"),
        ("msrn", {"layers": [1, 2]}, "value of layers '1'.*2, 3, 4"),
        ("msrn", {"layers": []}, "layers of model msrn must hold one or more"),
        ("msrn", {"layers": [4, 4]}, "each layer once"),
        ("msrn", {"layers": 4}, "layers of model msrn must be a list"),
        ("msrn", {"head": "linear"}, "elementwise, mlp"),
        ("msrn", {"graph": "star"}, "cooccurrence, identity, none, random"),
        ("msrn", {"group_ratio": 0.05}, "makes no group"),
        ("msrn", {"group_ratio": "0.2"}, "must be a number"),
        ("msrn", {"learn_vectors": 1}, "must be true or false"),
        ("msrn", {"width": True}, "must be a whole number"),
        ("msrn", {"label_vectors": None}, "needs label_vectors"),
        ("msrn", {"label_vectors": np.ones((3, 50))}, r"shape \[3, 50\] and must have shape \[10, V\]"),
        ("msrn", {"cooccurrence": None}, "needs co-occurrence"),
        ("msrn", {"cooccurrence": (np.ones((10, 10)), np.ones(9))}, r"totals have shape \[9\]"),
        ("dsdl", {"label_vectors": np.full((10, 50), np.nan)}, "not finite"),
        ("dsdl", {"alpha": 0}, "alpha of model dsdl must be greater than 0"),
        ("dsdl", {"coefficients": "closed"}, "closed-form, learnt"),
        ("gmp", {"difficult": "unknown"}, "absent, ignore, present"),
        ("query2label", {"width": 32, "heads": 5}, "width 32 is no multiple of heads 5"),
        ("query2label", {"width": 30, "heads": 3}, "multiple of 4"),
        (
            "query2label",
            {"decoder_layers": 0},
            "decoder_layers of model query2label must be greater than or equal to 1",
        ),
        ("ssgrl", {"steps": -1}, "steps of model ssgrl.*not -1"),
    ],
)
def test_a_mistake_is_one_sentence_that_lists_the_valid_choices(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, **options)


def test_labels_may_be_names_and_inputs_tensors():
    given = label_info(LABELS)
    tensors = {
        "label_vectors": torch.as_tensor(given["label_vectors"]),
        "cooccurrence": tuple(torch.as_tensor(x) for x in given["cooccurrence"]),
    }
    arrays = build("msrn", labels=[f"thing {i}" for i in range(LABELS)], layers=[2])
    assert arrays.backbone.layers == (2,) and set(arrays.project) == {"2"}  # no stage is built that no layer needs
    state = build("msrn", **tensors, layers=[2]).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in arrays.state_dict().items())


@pytest.mark.parametrize(("name", "change"), [
    ("msrn", {"group_loss_weight": 0.1}), ("msrn", {"learn_vectors": True}), ("dsdl", {"learn_vectors": True}),
    ("dsdl", {"coefficients": "learnt"}), ("linear", {"norm": "none"}),
])  # fmt: skip
def test_an_option_changes_the_loss_or_what_learns(name, change):
    models = [build(name, **options) for options in ({}, change)]
    losses = [model.loss(model.classify(some_maps()), some_targets()).item() for model in models]
    learnt = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models]
    assert losses[0] != losses[1] or learnt[0] != learnt[1]
