"""What every model of the registry promises: any layer, grid, label count and batch; half precision; own maps; export.

A model that joins the registry is tried here without a line of its own, but for what SMALL makes small.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import OWN_MAPS, build, some_maps, some_targets

from mlclib import models
from mlclib.attention import maps as attention
from mlclib.attention.maps import Key
from mlclib.common.errors import UserError
from mlclib.inference.export import difference, trace

ON_ONE_MAP = [name for name in models.NAMES if "layer" in models.options_of(name)]


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize(("labels", "size"), [(1, (96, 160)), (2, (32, 32)), (120, (224, 64))])
def test_any_number_of_labels_and_any_grid_train_also_a_batch_of_one(name, labels, size):
    model = build(name, labels).train()
    output = model.classify(some_maps(1, *size))
    assert output.logits.shape == (1, labels)
    loss = model.loss(output, some_targets(1, labels))
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    before, learnt = model.embeddings()
    assert len(learnt) == labels and (before is None or len(before) == labels)


@pytest.mark.parametrize("name", ON_ONE_MAP)
def test_a_model_on_one_map_takes_another_layer(name):
    model = build(name, layer=3).eval()
    assert model.backbone.layers == (3,)
    images = torch.randn(2, 3, 64, 64)
    maps = model.backbone(images)
    with torch.no_grad():
        assert torch.equal(model.classify(maps).logits, model(images).logits)
        exported = model.exported()(images)
    torch.testing.assert_close(exported, model(images).logits, rtol=1e-4, atol=1e-4)
    heatmaps = attention.explain(model, maps, [[0], [3]], 64)
    assert {key.layer for key in heatmaps} <= {"3", "all"} and Key("grad-cam", "3") in heatmaps
    assert name not in OWN_MAPS or Key(OWN_MAPS[name], "3") in heatmaps
    with pytest.raises(UserError, match="unknown layer '5' in model .*; known: 2, 3, 4"):
        build(name, layer=5)


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_in_bfloat16_and_channels_last_gives_finite_gradients(name, frozen):
    model = build(name, frozen=frozen).to(memory_format=torch.channels_last).train()
    images = torch.randn(2, 3, 96, 128).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(model(images), some_targets(2))
    loss.backward()
    learnt = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert loss.dtype == torch.float32 and all(model.get_parameter(key).grad.isfinite().all() for key in learnt)
    assert any(key.startswith("backbone.") for key in learnt) != frozen
    assert any(not key.startswith("backbone.") for key in learnt)


@pytest.mark.parametrize("name", models.NAMES)
def test_channels_last_changes_no_logit_by_more_than_rounding(name):
    model, images = build(name).eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain = model(images).logits
        fast = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize("name", models.NAMES)
def test_an_onnx_file_gives_the_same_logits_for_any_batch(name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = build(name).eval()
    trace(model, tmp_path / "model.onnx", 64)
    assert difference(tmp_path / "model.onnx", model, 64) < 1e-4


def test_no_network_is_asked_for_weights_that_nobody_named(monkeypatch):
    import socket

    def refused(*_, **__):
        raise AssertionError("a model without weights reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    assert models.build("gmp", labels=2, backbone="resnet101").backbone.channels == {4: 2048}


def test_numbers_may_be_numpy_s():
    model = build("csra", labels=np.int64(3), heads=np.int64(2), lam=np.float32(0.5))
    assert len(model.heads) == 2 and model.options.lam == 0.5


class Maps(torch.nn.Module):
    """What a ResNet-101 is to a head."""

    channels = {2: 512, 3: 1024, 4: 2048}


@pytest.mark.parametrize("name", models.NAMES)
def test_the_documented_row_of_a_model_is_true(name):
    lines = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| `")]
    (row,) = [row for row in rows if len(row) == 5 and f"`{name}`" in row[0]]
    _, _, options, parameters, _ = row
    assert set(re.findall("`(.+?)`", options)) <= models.options_of(name).keys()
    kind, stated = models.find(name), [float(number) for number in re.findall(r"([\d.]+) M", parameters)]
    for labels, ratio, written in zip((20, 80), (0.2, 0.05), 2 * stated if len(stated) == 1 else stated, strict=False):
        info = models.LabelInfo(labels, torch.ones(labels, 300), torch.zeros(labels, labels), torch.ones(labels))
        read = kind.Options(group_ratio=ratio) if name == "msrn" else kind.Options()
        learnt = sum(p.numel() for p in kind(Maps(), info, read, kind.published_loss).parameters()) / 1e6
        assert float(f"{learnt:.2f}" if learnt < 1 else f"{learnt:.1f}" if learnt < 10 else f"{learnt:.0f}") == written
