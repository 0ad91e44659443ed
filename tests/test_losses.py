"""A loss is what its formula says, in value and slope, and stays finite at any logit."""

import numpy as np
import pytest
import torch
from made_models import build
from scipy.special import expit

from mlclib.common.errors import UserError
from mlclib.models.losses import NAMED, Loss, read

KINDS = [
    *NAMED.values(),
    Loss(gamma_absent=2.0, through_weight=False, floor=1e-5, scale=1000.0),
    Loss(gamma_present=1.0, gamma_absent=4.0, clip=0.05, reduction="sum"),
    Loss(gamma_present=0.5, gamma_absent=0.5),
    Loss(gamma_present=0.5, gamma_absent=0.5, clip=0.05),
    Loss(gamma_present=2.0, gamma_absent=2.0, alpha=0.25),
    Loss(clip=0.2),
    Loss(floor=1e-8),
]


def some(rows=6, labels=5, dtype=torch.float64):
    torch.manual_seed(0)
    targets = torch.randint(-1, 2, (rows, labels), dtype=torch.int8)
    return torch.randn(rows, labels, dtype=dtype, requires_grad=True), targets


@pytest.mark.parametrize("loss", KINDS, ids=str)
@pytest.mark.parametrize("difficult", ["present", "absent", "ignore"])
def test_a_loss_is_its_formula_in_float64(loss, difficult):
    logits, targets = some()
    p, t = expit(logits.detach().numpy()), targets.numpy()
    present = t >= 0 if difficult == "present" else t > 0
    counted = t != 0 if difficult == "ignore" else np.full(t.shape, True)
    shifted = np.maximum(p - loss.clip, 0)
    balance = (loss.alpha, 1 - loss.alpha) if loss.alpha else (1, 1)
    hit = -((1 - p) ** loss.gamma_present) * np.log(np.maximum(p, loss.floor)) * balance[0]
    miss = -(shifted**loss.gamma_absent) * np.log(np.maximum(1 - shifted, loss.floor)) * balance[1]
    cells = np.where(present, hit, miss)[counted]
    expected = loss.scale * (cells.sum() if loss.reduction == "sum" else cells.mean())
    np.testing.assert_allclose(loss(logits, targets, difficult).item(), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [loss for loss in KINDS if loss.through_weight], ids=str)
def test_the_slope_is_that_of_the_value(loss):
    logits, targets = some()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, "present"), logits)


@pytest.mark.parametrize("loss", [loss for loss in KINDS if loss.gamma_absent], ids=str)
def test_a_constant_weight_keeps_the_value_and_changes_the_slope(loss):
    logits, targets = some()
    results = {}
    for through in (True, False):
        value = read({"through_weight": through}, loss)(logits, targets, "absent")
        results[through] = value.item(), torch.autograd.grad(value, logits)[0]
    assert results[True][0] == results[False][0]
    assert (results[True][1] - results[False][1]).abs().max() > 1e-3 * results[True][1].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("loss", KINDS, ids=str)
def test_extreme_logits_give_finite_values_and_slopes(loss, dtype):
    """A logit of 17 is a probability of 1 in float32, one of -104 a probability of 0."""
    sizes = torch.tensor([0.0, 16, 17, 20, 40, 88, 100, 104, 200, 1000])
    logits = torch.cat((sizes, -sizes))[None].repeat(3, 1).to(dtype).requires_grad_()
    targets = torch.tensor([1, 0, -1], dtype=torch.int8)[:, None].expand(logits.shape)
    for difficult in ("present", "absent", "ignore"):
        value = loss(logits, targets, difficult)
        (slope,) = torch.autograd.grad(value, logits)
        assert value.isfinite() and slope.isfinite().all() and value.dtype != torch.bfloat16
    wrong, right = loss(-1000.0 * targets, targets, "ignore"), loss(1000.0 * targets, targets, "ignore")
    assert wrong > 1 and 0 <= right < 1e-30


@pytest.mark.parametrize("difficult", ["present", "absent", "ignore"])
@pytest.mark.parametrize("loss", [Loss(), Loss(reduction="sum", scale=3.0), "own"], ids=str)
def test_the_parts_of_a_batch_add_up_to_it_by_their_shares(loss, difficult):
    """Also where a part knows nothing of any label; ML-Decoder's own loss is a sum."""
    model = build("ml_decoder", 5, loss=loss, difficult=difficult)
    logits, targets = some()
    targets[0] = 0
    shares = []
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        share = model.share(targets[rows], targets)
        shares.append(share * model.label_term(logits[rows], targets[rows]))
    assert not model.sums_over_batch
    torch.testing.assert_close(sum(shares), model.label_term(logits, targets), rtol=1e-12, atol=0)


def test_a_loss_that_no_shares_put_together_says_so():
    assert build("dsdl", 5).sums_over_batch  # norms
    assert not build("msrn", 5).sums_over_batch
    assert build("msrn", 5, loss={"reduction": "sum"}).sums_over_batch
    assert not build("msrn", 5, loss={"reduction": "sum"}, group_ratio=0.0).sums_over_batch


@pytest.mark.parametrize("change", [{"alpha": 1.0}, {"clip": 1.0}, {"gamma_absent": -1.0}, {"floor": -1.0}])
def test_a_loss_without_sense_is_refused(change):
    with pytest.raises(UserError, match=f"{next(iter(change))} of the loss must be"):
        read({"name": "focal", **change}, Loss())
