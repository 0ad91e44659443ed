"""The rivals beside a second derivation in float64 numpy, and what each promises that others do not."""

import made_models
import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from mlclib import models
from mlclib.models.query2label import positions

NAMES = ("query2label", "ml_decoder", "ssgrl")
SMALL = {"query2label": {"feedforward": 24}, "ml_decoder": {"feedforward": 24}, "ssgrl": {"width": 12}}


def build(name, labels=6, **options):
    return made_models.build(name, labels, **{**SMALL.get(name, {}), **options}).eval()


def some_map(height, width, batch=2):
    return torch.randn(batch, 96, height, width, generator=torch.Generator().manual_seed(1)).relu()


def arrays(model):
    return {key: value.double().numpy() for key, value in model.state_dict().items() if "backbone" not in key}


def norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(query, key, value, w, name, heads):
    """Multi-head attention of [B, K, D] over [B, N, D]: the result, and the weights' mean over the heads."""
    matrices, biases = np.split(w[f"{name}.in_proj_weight"], 3), np.split(w[f"{name}.in_proj_bias"], 3)
    q, k, v = (x @ m.T + b for x, m, b in zip((query, key, value), matrices, biases, strict=True))
    size, parts, seen = q.shape[2] // heads, [], 0
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        weights = softmax(q[..., own] @ k[..., own].transpose(0, 2, 1) / np.sqrt(size), axis=2)
        parts.append(weights @ v[..., own])
        seen = seen + weights / heads
    return np.concatenate(parts, 2) @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"], seen


def layer(x, query, key, value, w, name, heads):
    attended, seen = attend(query, key, value, w, f"{name}.attention", heads)
    x = norm(x + attended, w, f"{name}.norm_attended")
    grown = np.maximum(x @ w[f"{name}.linear1.weight"].T + w[f"{name}.linear1.bias"], 0)
    return norm(x + grown @ w[f"{name}.linear2.weight"].T + w[f"{name}.linear2.bias"], w, f"{name}.norm"), seen


def numpy_query2label(w, map, options):
    batch, _, height, width = map.shape
    cells = np.einsum("bchw,dc->bhwd", map, w["input_projection.weight"][:, :, 0, 0]) + w["input_projection.bias"]
    cells, half, places = cells.reshape(batch, height * width, -1), options.width // 2, []
    for i, j in np.ndindex(height, width):
        place = []
        for number, count in ((i, height), (j, width)):
            for d in range(half):
                angle = (number + 1) / (count + 1e-6) * 2 * np.pi / 10000 ** (2 * (d // 2) / half)
                place.append(np.cos(angle) if d % 2 else np.sin(angle))
        places.append(place)
    places = np.array(places)
    for i in range(options.encoder_layers):
        cells, _ = layer(cells, cells + places, cells + places, cells, w, f"encoder.{i}", options.heads)
    queries = np.repeat(w["queries"][None], batch, 0)
    t = np.zeros_like(queries)
    for i in range(options.decoder_layers):
        t, seen = layer(t, t + queries, cells + places, cells, w, f"decoder.{i}", options.heads)
    return (norm(t, w, "norm") * w["weight"]).sum(2) + w["bias"], seen


def numpy_ml_decoder(w, map, options):
    cells = map.reshape(*map.shape[:2], -1).transpose(0, 2, 1)
    memory = np.maximum(cells @ w["embed.weight"].T + w["embed.bias"], 0)
    t = norm(2 * np.repeat(w["queries"][None], len(map), 0), w, "norm")
    t, seen = layer(t, t, memory, memory, w, "layer", options.heads)
    labels, (_, _, factor) = len(w["bias"]), w["weight"].shape
    logits = [t[:, c // factor] @ w["weight"][c // factor, :, c % factor] + w["bias"][c] for c in range(labels)]
    return np.stack(logits, 1), seen[:, np.arange(labels) // factor]


def numpy_ssgrl(w, map, options):
    height, width = map.shape[2] // 2, map.shape[3] // 2
    pooled = map[:, :, : 2 * height, : 2 * width].reshape(*map.shape[:2], height, 2, width, 2).mean((3, 5))
    cells = pooled.reshape(*map.shape[:2], -1).transpose(0, 2, 1)  # [B, N, F]
    words = w["label_vectors"] @ w["words.weight"].T
    met = np.tanh((cells @ w["cells.weight"].T)[:, :, None] * words)  # [B, N, C, width]
    scores = (met @ w["joint.weight"].T + w["joint.bias"]) @ w["score.weight"][0] + w["score.bias"]
    seen = softmax(scores, axis=1).transpose(0, 2, 1)  # [B, C, N]
    first = h = np.einsum("bcn,bnf->bcf", seen, cells)
    edges, at = w["adjacency"], lambda x, name: x @ w[f"network.{name}.weight"].T + w[f"network.{name}.bias"]
    for _ in range(options.steps):
        a = np.concatenate((np.einsum("ij,bjf->bif", edges, h), np.einsum("ji,bjf->bif", edges, h)), 2)
        z, r = expit(at(a, "w3") + at(h, "u3")), expit(at(a, "w4") + at(h, "u3"))
        h = (1 - z) * h + z * np.tanh(at(a, "w5") + at(r * h, "u5"))
    joined = np.tanh(np.concatenate((h, first), 2) @ w["join.weight"].T + w["join.bias"])
    return (joined * w["head.W"]).sum(2) + w["head.B"], seen


def numpy_csra(w, map, options):
    cells, temperatures = map.reshape(*map.shape[:2], -1), {1: [1], 2: [1, 99], 6: [1, 2, 3, 4, 5, 99]}[options.heads]
    logits, seen = 0, 0
    for head, temperature in enumerate(temperatures):
        weight = w[f"heads.{head}.weight"][:, :, 0, 0]
        scores = np.einsum("bfn,cf->bcn", cells, weight / np.sqrt((weight**2).sum(1, keepdims=True)))
        at = scores == scores.max(2, keepdims=True) if temperature == 99 else np.exp(temperature * scores)
        at = at / at.sum(2, keepdims=True)
        logits = logits + scores.mean(2) + options.lam * (scores * at).sum(2)
        seen = seen + at / len(temperatures)
    return logits, seen


def numpy_add_gcn(w, map, options):
    def at(x, name):  # [B, features, cells or labels]
        weight = w[f"{name}.weight"]
        made = np.einsum("of,bfn->bon", weight.reshape(len(weight), -1), x)
        return made + w[f"{name}.bias"][:, None] if f"{name}.bias" in w else made

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    cells = map.reshape(*map.shape[:2], -1)
    scores = at(cells, "score")
    mask = expit(scores)
    v = np.einsum("bwn,bcn->bwc", at(cells, "transform"), mask)
    static = leaky(at(v.transpose(0, 2, 1), "static_edges")).transpose(0, 2, 1)
    x = v + leaky(at(static, "static"))
    overall, bn = at(x.mean(2, keepdims=True), "overall")[:, :, 0], "overall_norm"
    overall = (overall - w[f"{bn}.running_mean"]) / np.sqrt(w[f"{bn}.running_var"] + 1e-5) * w[f"{bn}.weight"]
    overall = leaky(overall + w[f"{bn}.bias"])
    edges = expit(at(np.concatenate((np.repeat(overall[:, :, None], x.shape[2], 2), x), 1), "dynamic_edges"))
    z = v + leaky(at(leaky(np.einsum("bwi,bij->bwj", x, edges)), "dynamic"))
    every = at(z, "last")  # each label's vector by each label's weights, of which the authors keep the diagonal
    return (scores.max(2) + np.einsum("bcc->bc", every)) / 2, mask


def numpy_ml_gcn(w, map, options):
    hidden = w["adjacency"] @ (w["label_vectors"] @ w["w1"])
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    return map.max((2, 3)) @ (w["adjacency"] @ (hidden @ w["w2"])).T, None


DERIVED = {"csra": numpy_csra, "add_gcn": numpy_add_gcn, "ml_gcn": numpy_ml_gcn}
DERIVED |= {"query2label": numpy_query2label, "ml_decoder": numpy_ml_decoder, "ssgrl": numpy_ssgrl}
METHOD = {
    "csra": "residual",
    "add_gcn": "mask",
    "query2label": "cross-attention",
    "ml_decoder": "cross-attention",
    "ssgrl": "semantic",
}


@pytest.mark.parametrize(
    ("name", "labels", "options", "grid"),
    [
        ("query2label", 6, {}, (4, 4)),
        ("query2label", 3, {"encoder_layers": 2, "decoder_layers": 1}, (2, 5)),
        ("ml_decoder", 6, {}, (3, 4)),
        ("ml_decoder", 130, {}, (3, 4)),  # 100 queries for 130 labels
        ("ml_decoder", 13, {"groups": 5}, (1, 1)),
        ("ml_decoder", 3, {"groups": 100}, (2, 2)),
        ("ssgrl", 6, {}, (4, 6)),
        ("ssgrl", 25, {"steps": 1}, (5, 5)),
        ("csra", 6, {}, (3, 4)),
        ("csra", 30, {"heads": 2, "lam": 0.5}, (5, 2)),
        ("csra", 2, {"heads": 6, "lam": 0.4}, (1, 1)),
        ("add_gcn", 6, {}, (3, 4)),
        ("add_gcn", 130, {"width": 24}, (1, 2)),
        ("ml_gcn", 6, {}, (3, 4)),
        ("ml_gcn", 30, {"hidden": 8}, (7, 5)),
    ],
)
def test_logits_and_own_maps_are_a_second_derivation_s(name, labels, options, grid):
    model, map = build(name, labels, **options), some_map(*grid)
    logits, seen = DERIVED[name](arrays(model), map.double().numpy(), model.options)
    output = model.classify({4: map})
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=1e-4, atol=1e-5)
    asked = torch.tensor([labels - 1, 1])
    own = model.own_maps({4: map}, output, asked)
    if name not in METHOD:
        assert own == {}
        return
    assert own.keys() == {(METHOD[name], "4")}
    maps, cell = own[METHOD[name], "4"]
    np.testing.assert_allclose(maps.flatten(1), [seen[0, labels - 1], seen[1, 1]], rtol=1e-4, atol=1e-6)
    assert name == "add_gcn" or torch.allclose(maps.sum((1, 2)), torch.ones(2))  # its mask is no distribution
    assert cell == (64 if name == "ssgrl" else 32)


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


def test_ml_decoder_keeps_its_queries_and_never_learns_them():
    model = build("ml_decoder")
    assert "queries" in model.state_dict() and "queries" not in dict(model.named_parameters())


@pytest.mark.parametrize(
    ("name", "counted"),
    [("query2label", (151_160_852, 151_406_672)), ("ml_decoder", (7_104_532, 7_150_672))],
)
def test_the_default_head_has_the_published_number_of_parameters(name, counted):
    for labels, published in zip((20, 80), counted, strict=True):
        with torch.device("meta"):
            model = models.build(name, labels=labels, backbone="resnet101")
        backbone = sum(p.numel() for p in model.backbone.parameters())
        assert sum(p.numel() for p in model.parameters()) - backbone == published


@pytest.mark.parametrize("name", NAMES)
def test_the_published_loss_is_the_default_one(name):
    model = build(name)
    output = model.classify({4: some_map(4, 4)})
    targets = torch.tensor([[1, 0, -1, -1, 1, -1], [-1, -1, -1, 0, 1, -1]], dtype=torch.int8)
    p = output.logits.double().sigmoid()
    present = targets > 0 if name == "ssgrl" else targets >= 0  # SSGRL counts difficult labels as absent
    clip, gamma = {"query2label": (0, 2), "ml_decoder": (0.05, 4), "ssgrl": (0, 0)}[name]
    shifted = (p - clip).clamp(min=0)
    cells = torch.where(present, -p.log(), -(shifted**gamma) * (1 - shifted).log())
    expected = {"query2label": 1000 * cells.mean(), "ml_decoder": cells.sum(), "ssgrl": cells.mean()}[name]
    torch.testing.assert_close(model.loss(output, targets).double(), expected, rtol=1e-5, atol=0)
