import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from test_authors import Command

from mlclib.common.errors import UserError
from mlclib.models.backbones import Backbone, classifier, preprocessing


def test_layers_are_the_same_maps_whichever_are_asked_for_and_no_deeper_stage_is_built():
    torch.manual_seed(0)
    whole = Backbone("resnet18").eval()
    part = Backbone("resnet18", layers=(2,)).eval()
    part.load_state_dict({key: whole.state_dict()[key] for key in part.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(part(images)[2], whole(images)[2])
    assert not any(key.startswith("net.layer3") for key in part.state_dict())


def test_a_frozen_backbone_learns_nothing_even_in_training_mode():
    backbone = Backbone("resnet18").freeze().train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert not any(map.requires_grad for map in maps.values())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "layer", "learns"),
    [("resnet18", 1, "layer2"), ("resnet18", 3, "layer4"), ("tf_efficientnet_lite0", 2, "blocks.3")],
)
def test_the_first_stages_and_every_batch_norm_can_stop_learning(name, layer, learns):
    backbone = Backbone(name)
    backbone.freeze_part(layer)
    backbone.train()
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1, weight_decay=0.1)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    sum(map.square().mean() for map in backbone(torch.randn(4, 3, 64, 64)).values()).backward()
    optimizer.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    first = min(row for row, key in enumerate(before) if key.startswith(f"net.{learns}"))
    later = list(before)[first:]
    assert changed <= set(later)
    assert all(key in changed or key.endswith("bias") for key in later)  # a branch that starts at 0 hands none back

    norms = Backbone(name)
    norms.freeze_part(norms=True)
    norms.train()
    norms(torch.randn(4, 3, 64, 64))
    assert not any(m.training for m in norms.modules() if isinstance(m, torch.nn.BatchNorm2d))
    still = {id(p) for m in norms.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    assert {id(p) for p in norms.parameters() if not p.requires_grad} == still != set()


def test_the_offline_weights_know_the_classes_of_imagenet():
    data = pytest.importorskip("skimage.data")
    mean, std, interpolation = preprocessing("tf_efficientnet_lite0")
    assert (mean, std, interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    model = classifier("tf_efficientnet_lite0", "offline").eval()
    images = []
    for picture in (data.coffee(), data.chelsea()):
        image = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        side = min(image.shape[2:])
        top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
        square = image[:, :, top : top + side, left : left + side]
        images.append(torch.nn.functional.interpolate(square, 224, mode="bicubic", antialias=True))
    with torch.no_grad():
        coffee, cat = model(torch.cat(images)).argmax(1).tolist()
    assert coffee == 967  # espresso
    assert 281 <= cat <= 285  # tabby, tiger cat, Persian, Siamese, Egyptian


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_the_offline_maps_are_those_inside_the_classifier(name):
    whole, backbone = classifier(name, "offline").eval(), Backbone(name, "offline").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = whole.forward_head(whole.bn2(whole.conv_head(backbone(images)[4])))
        torch.testing.assert_close(logits, whole(images))


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("classes", [0, 1000, 7])
def test_a_file_s_weights_are_taken_with_or_without_its_last_layer(kind, classes, tmp_path):
    model = timm.create_model("resnet18", num_classes=classes).eval()
    path = tmp_path / f"weights.{kind}"
    (save_file if kind == "safetensors" else torch.save)(model.state_dict(), path)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(Backbone("resnet18", path).eval()(images)[4], model.forward_features(images))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda state: {f"module.{key}": value for key, value in state.items()}, ["the prefix 'module.'"]),
        (lambda state: {"epoch": 3, "model": state}, ["the key 'model'"]),
        (
            lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 1},
            ["the key 'state_dict'", "the prefix 'model.'"],
        ),
        (lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, []),
    ],
    ids=["DataParallel", "checkpoint", "Lightning", "old torchvision"],
)
def test_weights_as_training_programs_save_them_are_unwrapped_and_the_wrapping_named(wrap, words, tmp_path, capsys):
    model = timm.create_model("test_resnet").eval()
    torch.save(wrap(model.state_dict()), tmp_path / "weights.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = Backbone("test_resnet", tmp_path / "weights.pth").eval()(images)
        torch.testing.assert_close(maps[4], model.forward_features(images))
    printed = capsys.readouterr().err
    assert all(word in printed for word in words) and bool(words) == bool(printed)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_tiny"])
def test_a_file_s_weights_are_taken_where_features_rename_them(name, tmp_path):
    model = timm.create_model(name, num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    ours = Backbone(name, tmp_path / "weights.safetensors", (2,)).state_dict()
    theirs = {key.replace(".", "_"): value for key, value in model.state_dict().items()}
    learnt = {key.removeprefix("net.").replace(".", "_"): value for key, value in ours.items()}
    assert learnt and all(torch.equal(value, theirs[key]) for key, value in learnt.items())


def test_a_file_that_does_not_hold_the_model_is_refused_by_key(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    del state["layer3.0.conv1.weight"]
    state["bn1.weight"] = torch.zeros(3)
    state["spare"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError) as error:
        Backbone("resnet18", tmp_path / "weights.pth")
    for phrase in ("layer3.0.conv1.weight is missing", "bn1.weight is [3] where", "spare is left over"):
        assert phrase in str(error.value)


def test_a_weights_file_that_would_run_a_command_is_refused(tmp_path):
    with open(tmp_path / "weights.pth", "wb") as file:
        pickle.dump({"state_dict": Command(tmp_path / "ran")}, file)
    with pytest.raises(UserError, match="read safely"):
        Backbone("resnet18", tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet1O1", None, "resnet101"),
        ("swin_tiny", None, "swin_tiny_patch4_window7_224"),
        ("resnet101", "offline", "tf_efficientnet_lite0"),
        ("resnet18", "no/such/file.pth", "no weights file"),
    ],
)
def test_what_cannot_be_built_is_one_sentence_that_says_what_can(name, weights, message):
    with pytest.raises(UserError, match=message) as error:
        Backbone(name, weights)
    assert "\n" not in str(error.value)


def test_a_download_that_fails_never_ends_in_random_weights(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host\nand forty more lines")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_path", unreachable, raising=False)
    with pytest.raises(UserError, match=r"resnet18 could not be downloaded \(no route to host\); .*offline") as error:
        Backbone("resnet18", "pretrained")
    assert "\n" not in str(error.value)


def test_a_model_without_published_weights_says_so():
    name = next(name for name in timm.list_models("resnet*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(UserError, match="publishes no weights"):
        Backbone(name, "pretrained")
