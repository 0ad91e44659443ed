"""Both models, with the authors' weights, return what the authors' published code returned.

A case is a file parity/<model>_*.npz; any label count, input size and salt will do.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from parity import recipe

from mlclib import models
from mlclib.common.errors import UserError

PARITY = Path(__file__).parent / "parity"
EXACT = {"rtol": 1e-4, "atol": 0}


def close(ours, golden):
    """Equal to 1e-4 of the golden array's largest magnitude."""
    scale = np.abs(golden).max()
    np.testing.assert_allclose(np.asarray(ours) / scale, golden / scale, rtol=0, atol=1e-4)


def stepped(name, golden, **options):
    """The authors' model of a golden file after one forward and backward pass: model, maps, output, loss."""
    labels, size, salt = int(golden["num_classes"]), int(golden["size"]), str(golden["salt"])
    model = models.build(
        name,
        labels=labels,
        label_vectors=0.4 * recipe.draw("label_vectors", (labels, 300), salt),
        cooccurrence=recipe.cooccurrence(labels, salt=salt),
        backbone="resnet101",
        **options,
    )
    own = model.state_dict()
    shapes = {theirs: own[ours].shape for theirs, ours in model.authors_names().items()} | model.authors_unused()
    models.load_authors(model, {key: recipe.fill(key, tuple(shape), salt) for key, shape in shapes.items()})
    model.eval()
    maps = model.backbone(torch.as_tensor(recipe.draw("image", (2, 3, size, size), salt)))
    output = model.classify(maps)
    targets = np.where(recipe.draw("targets", (2, labels), salt) > 0.8, 1, -1).astype(np.int8)
    loss = model.loss(output, torch.as_tensor(targets))
    loss.backward()
    return model, maps, output, loss


def check_gradients(model, golden):
    ours, names = dict(model.named_parameters()), model.authors_names()
    norms = [ours[names[str(name)]].grad.norm().item() for name in golden["grad_names"]]
    np.testing.assert_allclose(norms, golden["grad_norms"], **EXACT)


@pytest.mark.parametrize("file", sorted(PARITY.glob("msrn_*.npz")), ids=lambda path: path.stem)
def test_msrn_returns_the_golden_arrays(file):
    golden = np.load(file)
    ratio = (int(golden["num_groups"]) + 0.5) / int(golden["num_classes"])
    model, maps, output, loss = stepped("msrn", golden, group_ratio=ratio)
    with torch.no_grad():
        pooled = list(model.pooled_maps(maps).values())
        close(output.logits, golden["logits"])
        close(model.adjacency, golden["adjacency"])
        close(output.labels, golden["label_embedding"])
        close(output.groups, golden["group_embedding"])
        close(output.assignment, golden["assignment"])
        np.testing.assert_allclose(model.group_loss(output), golden["group_loss"], **EXACT)
        np.testing.assert_allclose(loss, golden["loss"], **EXACT)
        np.testing.assert_allclose([map.mean() for map in pooled], golden["feature_mean"], **EXACT)
        np.testing.assert_allclose([map.std() for map in pooled], golden["feature_std"], **EXACT)
    check_gradients(model, golden)


@pytest.mark.parametrize("file", sorted(PARITY.glob("dsdl_*.npz")), ids=lambda path: path.stem)
def test_dsdl_returns_the_golden_arrays(file):
    golden = np.load(file)
    options = {key: float(golden[key]) for key in ("alpha", "lambd", "beta")}
    model, _, output, loss = stepped("dsdl", golden, **options)
    with torch.no_grad():
        close(output.logits, golden["scores"])
        close(output.reconstruction[:, ::10], golden["reconstruction"])
        close(output.feature[:, ::16], golden["feature"])
        close(output.dictionary[:, ::16], golden["dictionary"])
        np.testing.assert_allclose(loss, golden["loss"], **EXACT)
    check_gradients(model, golden)


def test_a_model_without_published_weights_says_so():
    model = models.build("gmp", labels=3, backbone="resnet18")
    with pytest.raises(UserError, match="GMP has no checkpoint of its authors"):
        models.load_authors(model, {})
