"""Backbones of today: plain vision transformers, of one stride, carry every model as hierarchies do."""

import pytest
import timm
import torch
from made_models import OWN_MAPS, build, some_targets
from safetensors.torch import save_file

from mlclib import models
from mlclib.attention import maps as attention
from mlclib.attention.maps import Key
from mlclib.common.errors import UserError
from mlclib.inference.export import difference, trace
from mlclib.models.backbones import Backbone

VIT = "test_vit3"  # nine blocks of stride 16 and a register
STRIDES = {
    VIT: {2: 16, 3: 16, 4: 16},
    "test_vit": {2: 16, 3: 16, 4: 16},
    "vit_tiny_patch16_224": {2: 16, 3: 16, 4: 16},
    "resnet101": {2: 8, 3: 16, 4: 32},
    "tf_efficientnet_lite0": {2: 8, 3: 16, 4: 32},
    "swin_tiny_patch4_window7_224": {2: 8, 3: 16, 4: 32},
    "test_convnext": {2: 8, 3: 16, 4: 32},
    "efficientvit_b0": {2: 8, 3: 16, 4: 32},
    "efficientvit_m0": {2: 16, 3: 32, 4: 64},
}


@pytest.mark.parametrize("name", STRIDES)
def test_maps_have_the_stride_and_the_channels_that_the_backbone_says(name):
    backbone = Backbone(name).eval()
    assert backbone.strides == STRIDES[name]
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, 64, 128))
    shapes = {layer: tuple(map.shape) for layer, map in maps.items()}
    assert shapes == {k: (2, backbone.channels[k], 64 // s, 128 // s) for k, s in STRIDES[name].items()}


@pytest.mark.parametrize(("name", "blocks"), [("test_vit", (2, 4, 6)), (VIT, (3, 6, 9)), ("test_vit2", (2, 5, 8))])
def test_layers_of_one_stride_end_after_thirds_of_the_blocks_normed_without_prefix_tokens(name, blocks, tmp_path):
    whole = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    images, outputs = torch.randn(1, 3, 96, 64), {}
    for layer, block in zip((2, 3, 4), blocks, strict=True):
        hook = lambda module, inputs, output, layer=layer: outputs.update({layer: output})  # noqa: E731
        whole.blocks[block - 1].register_forward_hook(hook)
    with torch.no_grad():
        whole(images)
        for layers in ((2, 3, 4), (2,), (3, 4)):
            backbone = Backbone(name, tmp_path / "weights.safetensors", layers).eval()
            assert len(backbone.net.model.blocks) == blocks[max(layers) - 2]
            for layer, map in backbone(images).items():
                cells = whole.norm(outputs[layer])[:, whole.num_prefix_tokens :]
                torch.testing.assert_close(map, cells.mT.reshape(1, -1, 6, 4))


@pytest.mark.parametrize(("name", "words"), [(VIT, "multiple of 16"), ("mixer_s16_224", "made for")])
def test_a_size_that_the_network_refuses_is_one_sentence(name, words):
    with pytest.raises(UserError, match=f"{name} takes no images of 100 x 64 pixels.*{words}") as error:
        Backbone(name)(torch.randn(1, 3, 100, 64))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layer", [2, 3])
def test_the_first_blocks_can_stop_learning(layer):
    backbone = Backbone(VIT)
    backbone.freeze_part(layer)
    learns = {key for key, p in backbone.named_parameters() if p.requires_grad}
    blocks = {key.split(".")[3] for key in learns if ".blocks." in key}
    assert blocks == {str(block) for block in range(3 * (layer - 1), 9)}
    assert not any(word in key for key in learns for word in ("embed", "token"))
    with pytest.raises(UserError, match="no stage of layer 1"):
        backbone.freeze_part(1)


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_steps_shows_its_attention_and_exports_on_a_plain_transformer(name, tmp_path):
    model = build(name, 6, backbone=VIT).train()
    loss = model.loss(model(torch.randn(2, 3, 64, 96)), some_targets(2, 6))
    loss.backward()
    learnt = [key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert loss.isfinite() and any(key.startswith("backbone.") for key in learnt)
    model.eval()
    images = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        maps = model.backbone(images)
        assert torch.equal(model.classify(maps).logits, model(images).logits)
    heatmaps = attention.explain(model, maps, [[0], [3]], 80)
    for map in heatmaps.values():
        assert map.shape == (2, 1, attention.GRID, attention.GRID) and not map.requires_grad
        torch.testing.assert_close(map.sum((2, 3)), torch.ones(2, 1), rtol=1e-4, atol=0)
    layer = str(max(model.backbone.layers))
    assert Key("grad-cam", layer) in heatmaps and (name not in OWN_MAPS or Key(OWN_MAPS[name], layer) in heatmaps)
    lost = model.size_warnings(80)
    assert len(lost) == {"msrn": 3, "ssgrl": 1}.get(name, 0) and all("5 x 5 cells at 80 px" in one for one in lost)
    assert model.size_warnings(64) == []
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    trace(model, tmp_path / "model.onnx", 64)
    assert difference(tmp_path / "model.onnx", model, 64) < 1e-4
