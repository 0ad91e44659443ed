"""An exported run gives PyTorch's logits in onnxruntime, for any batch, or is not written."""

import json

import numpy as np
import pytest
import torch

from mlclib.common.errors import UserError
from mlclib.inference import export, predict

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("model", ["gmp", "msrn", "dsdl"])
def test_an_exported_run_gives_the_same_logits_for_any_batch(tiny_study, tmp_path, model):
    folder = tiny_study.run_folder(tiny_study.experiment.run(model), 0)
    assert export.export(folder, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["labels"] == list(tiny_study.dataset.labels) and facts["input_size"] == 64
    images = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        wanted = predict.load_model(folder)(images).logits
    for batch in (1, 5):
        [found] = session.run(["logits"], {"images": images[:batch].numpy()})
        np.testing.assert_allclose(found, wanted[:batch], atol=1e-4)


def test_both_heads_and_no_groups_are_pooled_as_the_model_does():
    for options in ({"head": "mlp"}, {"head": "elementwise", "group_ratio": 0.0}, {"head": "mlp", "group_ratio": 0.0}):
        model = msrn(**options)
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            np.testing.assert_allclose(model.exported()(images), model(images).logits, atol=1e-5)


def test_dsdls_learnt_coefficients_keep_their_bias():
    from mlclib import models

    torch.manual_seed(0)
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    model = models.build(
        "dsdl", labels=6, label_vectors=vectors, backbone="tf_efficientnet_lite0", coefficients="learnt"
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        np.testing.assert_allclose(model.exported()(images), model(images).logits, rtol=1e-4, atol=1e-5)


def test_a_model_that_differs_is_not_written(tiny_study, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "difference", lambda *_: 0.5)
    folder = tiny_study.run_folder(tiny_study.experiment.run("gmp"), 0)
    with pytest.raises(UserError, match="differs from PyTorch by up to 0.5"):
        export.export(folder, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def msrn(**options):
    from mlclib import models

    torch.manual_seed(0)
    counts = np.random.default_rng(0).integers(0, 9, (10, 10)) * (1 - np.eye(10))
    return models.build(
        "msrn",
        labels=10,
        label_vectors=np.random.default_rng(1).normal(size=(10, 6)),
        cooccurrence=(counts, np.full(10, 12)),
        backbone="tf_efficientnet_lite0",
        width=8,
        **options,
    ).eval()
