"""The rivals and the losses return what their authors' code returned; every model takes its authors' state dict.

`parity/` holds arrays of whole models on images, `parity/heads/` of their heads on maps of layer 4; recipe.py made the
weights and inputs of both. Norms are summed in float64, as those in the arrays: torch's own is off by 6e-4 of them on
8 million entries on one thread.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import recipe

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.models.losses import Loss
from mlclib.models.query2label import positions

PARITY = Path(__file__).parent / "parity"
HEADS = PARITY / "heads"
EXACT = {"rtol": 1e-4, "atol": 0}


def q2l_options(golden, **options):
    names = {"hidden_dim": "width", "dim_feedforward": "feedforward", "nheads": "heads"}
    names |= {"enc_layers": "encoder_layers", "dec_layers": "decoder_layers"}
    read = {ours: int(golden[theirs]) for theirs, ours in names.items() if theirs in golden}
    return {**read, "input_projection": True, **options}


def groups(golden):
    return {"groups": int(golden["groups"])}


THROUGH = {"loss": {"through_weight": True}}
CASES = {  # id: (model, folder, stem, prefix of the case's arrays, options)
    "q2l": ("query2label", PARITY, "q2l", "", q2l_options),
    "q2l head": ("query2label", HEADS, "q2l", "", q2l_options),
    "q2l head through": ("query2label", HEADS, "q2l", "through_", lambda golden: q2l_options(golden, **THROUGH)),
    "ml_decoder": ("ml_decoder", PARITY, "ml_decoder", "", groups),
    "ml_decoder groups": ("ml_decoder", PARITY, "ml_decoder_groups5", "", groups),
    "ml_decoder head": ("ml_decoder", HEADS, "ml_decoder", "", lambda _: {}),
    "ml_decoder head 10": ("ml_decoder", HEADS, "ml_decoder", "groups10_", lambda _: {"groups": 10}),
    "ml_decoder head 6": ("ml_decoder", HEADS, "ml_decoder", "groups6_", lambda _: {"groups": 6}),
    "ssgrl": ("ssgrl", PARITY, "ssgrl", "", lambda _: {}),
    "ssgrl head": ("ssgrl", HEADS, "ssgrl", "", lambda golden: {"steps": int(golden["time_step"])}),
}


def csra_head(heads, lam):
    return "csra", HEADS, "csra", f"heads{heads}_lam{lam}_", lambda _: {"heads": heads, "lam": lam}


CASES |= {
    "csra 1": ("csra", PARITY, "csra1", "", lambda _: {"heads": 1, "lam": 0.1}),
    "csra 4": ("csra", PARITY, "csra4", "", lambda _: {"heads": 4, "lam": 0.5}),
    **{f"csra head {h} {lam}": csra_head(h, lam) for h in (1, 2, 4, 6, 8) for lam in (0.1, 0.5)},
    "add_gcn": ("add_gcn", PARITY, "add_gcn", "", lambda _: {}),
    "add_gcn head": ("add_gcn", HEADS, "add_gcn", "", lambda _: {}),
    "add_gcn head small": ("add_gcn", HEADS, "add_gcn", "small_", lambda _: {}),
    "ml_gcn": ("ml_gcn", PARITY, "ml_gcn", "", lambda _: {}),
    "ml_gcn head": ("ml_gcn", HEADS, "ml_gcn", "", lambda _: {}),
}


def shapes_of(folder, stem, golden, prefix=""):
    changed = json.loads(str(golden[f"{prefix}shapes"])) if f"{prefix}shapes" in golden else {}
    listed = json.loads((folder / f"{stem}_state_dict.json").read_text())
    heads = int(prefix[5]) if prefix.startswith("heads") else 99  # fewer take the first names of the list of 8
    listed = {
        name: shape for name, shape in listed.items() if "multi_head." not in name or int(name.split(".")[2]) < heads
    }
    return {name: tuple(shape) for name, shape in {**listed, **changed}.items()}


def fresh(name, **options):
    """The model of 20 labels."""
    return models.build(
        name,
        labels=20,
        label_vectors=0.4 * recipe.draw("label_vectors", (20, 300)),
        cooccurrence=recipe.cooccurrence(20),
        backbone="resnet101",
        **options,
    )


def built(name, shapes, **options):
    """The same with the recipe's weights of the authors' names."""
    model = fresh(name, **options)
    models.load_authors(model, {key: recipe.fill(key, shape) for key, shape in shapes.items()})
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_are_the_authors(case):
    name, folder, stem, prefix, options = CASES[case]
    golden = np.load(folder / f"{stem}_20.npz")
    model = built(name, shapes_of(folder, stem, golden, prefix), **options(golden))
    if "grid" in golden:
        grid = int(golden["grid"])
        scale = float(golden["small_scale"]) if prefix == "small_" else 1.0
        output = model.classify({4: torch.tensor(scale * np.abs(recipe.draw("feature_map", (2, 2048, grid, grid))))})
    else:
        output = model(torch.tensor(recipe.draw("image", (2, 3, *2 * (int(golden["input_size"]),)))))
    targets = torch.tensor(np.where(recipe.draw("targets", (2, 20)) > 0.8, 1, -1), dtype=torch.int8)
    loss = model.loss(output, targets)
    loss.backward()
    own = "" if prefix == "through_" else prefix  # the same values, other gradients
    logits = golden[f"{own}logits"]
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=0, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(loss.detach(), golden[f"{own}loss"], **EXACT)

    if f"{prefix}grad_names" not in golden:
        return
    ours, names = dict(model.named_parameters()), model.authors_names()
    norms = {str(n): ours[names[str(n)]].grad.double().norm().item() for n in golden[f"{prefix}grad_names"]}
    wanted = dict(zip(norms, golden[f"{prefix}grad_norms"], strict=True))
    zero = {"word_semantic.fc_3.bias", "word_semantic.fc_a.bias"} & names.keys()
    for key in zero:  # rounding in theirs
        assert ours[names[key]].grad.norm() < 1e-6
    kept = [key for key in norms if key not in zero]
    np.testing.assert_allclose([norms[key] for key in kept], [wanted[key] for key in kept], **EXACT)
    learnt = {key for key, parameter in ours.items() if not key.startswith("backbone.")}
    assert learnt == {names[key] for key in norms.keys() | zero if not names[key].startswith("backbone.")}

    if case.startswith("add_gcn head"):
        wanted = golden[f"{own}dynamic_adjacency"]
        np.testing.assert_allclose(output.edges.detach(), wanted, rtol=0, atol=1e-4)
        for ours_, theirs in ((output.pooled, "out1"), (output.graph, "out2")):
            expected = golden[f"{own}{theirs}"]
            np.testing.assert_allclose(ours_.detach(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    if case.startswith("ml_gcn"):
        np.testing.assert_allclose(model.adjacency, golden["adjacency"], rtol=1e-5, atol=1e-7)
    if case == "q2l head":
        steps = golden["memory_strides"]
        np.testing.assert_allclose(output.memory.detach().mT[:, :: steps[0], :: steps[1]], golden["memory"], atol=1e-4)
    if case == "ssgrl head":
        np.testing.assert_allclose(model.adjacency, golden["adjacency"], rtol=1e-6)
        for part in ("semantic", "graph"):
            actual, expected = getattr(output, part).detach()[:, :, :: golden["strides"][1]], golden[part]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_sine_positions_are_the_authors():
    for file, key in ((PARITY, "pe"), (HEADS, "positions")):
        golden = np.load(file / "q2l_20.npz")
        size, stride = int(golden["hidden_dim"]), int(golden["positions_stride"]) if key == "positions" else 1
        side = golden[key].shape[2]
        ours = positions(side, side, size, torch.device("cpu")).T.view(size, side, side)[::stride]
        np.testing.assert_allclose(ours, golden[key][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["msrn", "dsdl", "q2l", "ml_decoder", "ssgrl", "csra 4", "add_gcn", "ml_gcn"])
def test_every_name_of_the_authors_is_accounted_for_and_what_does_not_fit_is_refused_by_key(case):
    name, folder, stem, _, options = CASES.get(case, (case, PARITY, case, "", lambda _: {}))
    golden = np.load(folder / f"{stem}_20.npz")
    shapes = shapes_of(folder, stem, golden)
    model = fresh(name, **options(golden))
    names, unused, constants = model.authors_names(), model.authors_unused(), model.authors_constants()
    assert sorted([*names, *unused, *constants]) == sorted(shapes)
    head, backbone = ([key for key in names if names[key].startswith("backbone.") == part] for part in (False, True))
    learnt = {key for key, _ in model.named_parameters() if backbone or not key.startswith("backbone.")}
    assert len(set(names.values())) == len(names) and learnt <= set(names.values())
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for missing in (*head[:1], *backbone[:1], *unused):
        with pytest.raises(UserError, match=f"{missing} is missing"):
            models.load_authors(model, {key: value for key, value in state.items() if key != missing})
    for wrong in (*head[:1], *backbone[:1], *unused, *constants):
        with pytest.raises(UserError, match=f"{wrong} is \\[3\\] where the model has"):
            models.load_authors(model, {**state, wrong: torch.zeros(3)})
    with pytest.raises(UserError, match="fc9.weight is left over"):
        models.load_authors(model, {**state, "fc9.weight": torch.zeros(3)})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    models.load_authors(model, state)


@pytest.mark.parametrize(
    ("case", "computed"), [("ml_gcn head", "A"), ("add_gcn head", "mask_mat"), ("q2l head", "backbone.1.pe")]
)
def test_a_state_dict_may_lack_what_the_model_computes(case, computed):
    name, folder, stem, _, options = CASES[case]
    golden = np.load(folder / f"{stem}_20.npz")
    shapes = shapes_of(folder, stem, golden)
    assert shapes.pop(computed)
    grid, model = int(golden["grid"]), built(name, shapes, **options(golden))
    logits = model.classify({4: torch.tensor(np.abs(recipe.draw("feature_map", (2, 2048, grid, grid))))}).logits
    np.testing.assert_allclose(logits.detach(), golden["logits"], rtol=0, atol=1e-4 * np.abs(golden["logits"]).max())


def test_a_state_dict_of_a_head_alone_leaves_the_backbone_as_it_is():
    golden = np.load(HEADS / "ssgrl_20.npz")
    shapes = shapes_of(HEADS, "ssgrl", golden)
    model = fresh("ssgrl")
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    models.load_authors(model, {key: torch.zeros(shape) for key, shape in shapes.items()})
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.state_dict().items())
    assert model.head.W.abs().max() == 0
    one = {"resnet_101.conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(UserError, match="resnet_101.bn1.weight is missing"):
        models.load_authors(model, {**{key: torch.zeros(shape) for key, shape in shapes.items()}, **one})


def loss_of(case):
    """The loss, and whether difficult labels count as present, of a name in the arrays of losses."""
    name, _, difficult = case.partition("__")
    kind, *numbers = name.removesuffix("_nograd").split("_")
    if kind == "asl":
        absent, present, clip = (float(number) for number in numbers)
        clip = clip / 100 if clip == 5 else clip
        through = not name.endswith("_nograd")
        loss = Loss(gamma_present=present, gamma_absent=absent, clip=clip, through_weight=through, reduction="sum")
    elif kind == "focal":
        alpha = 0.0 if numbers[0] in ("none", "2") else float(numbers[0])
        loss = Loss(gamma_present=2.0, gamma_absent=2.0, alpha=alpha, reduction="sum")
    else:
        loss = Loss(reduction="mean" if name == "soft_margin_mean" else "sum")
    return loss, difficult or "absent"


def loss_cases():
    for file in (PARITY / "losses_64x20.npz", HEADS / "losses_64x20.npz"):
        for name, value in np.load(file).items():
            if value.shape == (4,):
                yield pytest.param(file, name, id=f"{file.parent.name} {name}")


@pytest.mark.parametrize(("file", "case"), loss_cases())
def test_losses_and_their_gradients_are_the_authors(file, case):
    golden = np.load(file)
    scores, targets = recipe.scores_and_targets(64, 20)
    loss, difficult = loss_of(case)
    logits = torch.tensor(scores, requires_grad=True)
    value = loss(logits, torch.tensor(targets, dtype=torch.int8), difficult)
    (gradient,) = torch.autograd.grad(value, logits)
    present = torch.tensor(targets > 0 if difficult == "absent" else targets >= 0)
    parts = [gradient, gradient[~present], gradient[present]]
    actual = [value.item(), *(part.double().norm().item() for part in parts)]
    np.testing.assert_allclose(actual, golden[case], **EXACT)
    if f"{case}_grad" in golden:
        wanted = golden[f"{case}_grad"]
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
