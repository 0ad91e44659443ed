"""An exported run gives PyTorch's logits in onnxruntime, for any batch, or is not written."""

import json

import numpy as np
import pytest
import torch
from made_models import build
from PIL import Image

from mlclib import transforms
from mlclib.common.errors import UserError
from mlclib.inference import export, predict

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def by_metadata(path, image):
    """A picture's probabilities by name, from nothing but what the file says."""
    session = onnxruntime.InferenceSession(path)
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    side, resampling = facts["input_size"], Image.Resampling[facts["interpolation"].upper()]
    pixels = np.asarray(image.resize((side, side), resampling), np.float32) / 255
    pixels = (pixels - np.float32(facts["mean"])) / np.float32(facts["std"])
    [logits] = session.run(["logits"], {"images": pixels.transpose(2, 0, 1)[None]})
    return dict(zip(facts["labels"], 1 / (1 + np.exp(-logits[0])), strict=True))


@pytest.mark.parametrize("model", ["gmp", "msrn", "dsdl"])
def test_an_exported_run_gives_the_same_logits_for_any_batch(tiny_study, tmp_path, model):
    folder = tiny_study.runs[f"{model} seed 0"].folder
    assert export.export(folder, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = predict.load_model(folder)(images).logits
    for batch in (1, 5):
        [logits] = session.run(["logits"], {"images": images[:batch].numpy()})
        np.testing.assert_allclose(logits, expected[:batch], atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "interpolation"), [(None, "bicubic"), ("csra", "bilinear"), ("ssgrl", "bilinear"), ("ssgrl", "bicubic")]
)
def test_the_file_s_metadata_are_the_whole_preprocessing(tiny_study, tmp_path, monkeypatch, recipe, interpolation):
    shown = transforms.Transform(64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation, recipe)
    for module in (export, predict):
        monkeypatch.setattr(module, "transform_of", lambda _: shown)
    folder = tiny_study.runs["gmp seed 0"].folder
    export.export(folder, tmp_path / "model.onnx")
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 140, 3), np.uint8)).save(path)
    expected = predict.predict(folder, [path]).probabilities.loc[str(path)].to_dict()
    assert by_metadata(tmp_path / "model.onnx", Image.open(path)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("msrn", {"width": 8, "head": "mlp"}),
        ("msrn", {"width": 8, "head": "elementwise", "group_ratio": 0.0}),
        ("msrn", {"width": 8, "head": "mlp", "group_ratio": 0.0}),
        ("dsdl", {"coefficients": "learnt"}),
    ],
)
def test_what_is_exported_of_a_head_gives_the_model_s_logits(name, options):
    model, images = build(name, **options).eval(), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        np.testing.assert_allclose(model.exported()(images), model(images).logits, rtol=1e-4, atol=1e-5)


def test_a_model_that_differs_is_not_written(tiny_study, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "difference", lambda *_: 0.5)
    folder = tiny_study.runs["gmp seed 0"].folder
    with pytest.raises(UserError, match="differs from PyTorch by up to 0.5"):
        export.export(folder, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
