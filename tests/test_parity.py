"""Both models, with the authors' weights, return what the authors' published code returned.

A case is a file parity/<model>_*.npz; any label count, input size and salt will do.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import recipe

from mlclib import models
from mlclib.common.errors import UserError

PARITY = Path(__file__).parent / "parity"
EXACT = {"rtol": 1e-4, "atol": 0}


def listed_shapes(name):
    return {key: tuple(shape) for key, shape in json.loads((PARITY / f"{name}_state_dict.json").read_text()).items()}


def authors_shapes(model):
    own = model.state_dict()
    return {theirs: tuple(own[ours].shape) for theirs, ours in model.authors_names().items()} | model.authors_unused()


def authors_state(model, salt):
    return {key: torch.as_tensor(recipe.fill(key, shape, salt)) for key, shape in authors_shapes(model).items()}


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
    models.load_authors(model, authors_state(model, salt))
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


@pytest.fixture(scope="module", params=["msrn", "dsdl"])
def published(request):
    """(name, model) of 20 labels, as listed in parity/*_state_dict.json."""
    vectors = np.ones((20, 300), np.float32)
    options = {"cooccurrence": recipe.cooccurrence(20)} if request.param == "msrn" else {}
    return request.param, models.build(request.param, labels=20, label_vectors=vectors, **options)


def test_every_name_and_shape_of_the_authors_state_dict_is_accounted_for(published):
    name, model = published
    assert authors_shapes(model) == listed_shapes(name)
    assert {key for key, _ in model.named_parameters()} <= set(model.authors_names().values())


def test_a_state_dict_that_does_not_fit_is_refused_by_key(published):
    name, model = published
    state = {key: torch.zeros(shape) for key, shape in listed_shapes(name).items()}
    for key in ("W", "fc2.bias", "resnet_101.conv_buffer0.bias") if name == "msrn" else ("W1", "features.0.weight"):
        with pytest.raises(UserError, match=f"{key} is missing"):
            models.load_authors(model, {k: v for k, v in state.items() if k != key})
        with pytest.raises(UserError, match=f"{key} is \\[3\\] where the model has"):
            models.load_authors(model, {**state, key: torch.zeros(3)})
    with pytest.raises(UserError, match="fc9.weight is left over"):
        models.load_authors(model, {**state, "fc9.weight": torch.zeros(3)})


def test_a_refused_state_dict_changes_nothing(published):
    name, model = published
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError):
        models.load_authors(model, {key: torch.zeros(shape) for key, shape in [*listed_shapes(name).items()][1:]})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_without_published_weights_says_so():
    model = models.build("gmp", labels=3, backbone="resnet18")
    with pytest.raises(UserError, match="GMP has no checkpoint of its authors"):
        models.load_authors(model, {})
