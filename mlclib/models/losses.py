"""The loss of logits against labels, one formula for this literature: binary cross-entropy with focusing weights.

With p the probability of a label: a present one costs -(1 - p)^gamma_present log p, an absent one
-(p')^gamma_absent log(1 - p'), where p' = max(p - clip, 0). Without gammas and clip that is the multi-label soft margin
loss (binary cross-entropy); gammas 2 and 2 are the focal loss (Lin et al., ICCV 2017), 0 and 4 with clip 0.05 the
asymmetric loss (Ridnik et al., ICCV 2021, eq. 7).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mlclib.common.errors import unknown
from mlclib.common.validation import Strict, validated

Difficult = Literal["present", "absent", "ignore"]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Loss(Strict):
    """gamma_present, gamma_absent, clip: the focusing exponents and the shift of absent labels' probabilities.

    through_weight: let gradients flow through the focusing weight, as the paper's formula says; the authors' scripts
    (ASL, ML-Decoder, Query2Label) take it as a constant: same value, other gradient. alpha: the weight of present
    labels, absent ones weigh 1 - alpha (the focal loss's balance, 0.25 in its paper; 0: none). floor: the least value
    whose logarithm is taken (the authors' eps). reduction: "mean" over the counted cells, or "sum"; times scale.
    """

    gamma_present: Weight = 0.0
    gamma_absent: Weight = 0.0
    clip: Share = 0.0
    through_weight: bool = True
    alpha: Share = 0.0
    floor: Weight = 0.0
    reduction: Literal["mean", "sum"] = "mean"
    scale: Weight = 1.0

    def __call__(self, logits: Tensor, targets: Tensor, difficult: Difficult) -> Tensor:
        """The loss of logits [B, C] against int8 targets [B, C], in float32 (float64 for float64 logits).

        A difficult label (0) counts as "present", which is how the authors of MSRN and DSDL train, as "absent", or
        ("ignore") is left out of the mean or sum.

        Example:
            >>> targets = torch.tensor([[1, -1, 0]], dtype=torch.int8)
            >>> NAMED["soft-margin"](torch.zeros(1, 3), targets, "ignore")
            tensor(0.6931)
        """
        present = targets >= 0 if difficult == "present" else targets > 0
        logits = logits if logits.dtype == torch.float64 else logits.float()
        terms = self._terms(logits, present)
        if difficult == "ignore":
            terms = terms * (targets != 0)
        if self.reduction == "sum":
            return self.scale * terms.sum()
        mean = terms.sum() / (targets != 0).sum().clamp(min=1) if difficult == "ignore" else terms.mean()
        return mean if self.scale == 1 else self.scale * mean

    def _terms(self, logits: Tensor, present: Tensor) -> Tensor:
        """The loss of each cell [B, C]."""
        if not (self.gamma_present or self.gamma_absent or self.clip or self.alpha or self.floor):
            return F.binary_cross_entropy_with_logits(logits, present.to(logits.dtype), reduction="none")
        # Above zero, however extreme the logit: the slope of a power below 1 is infinite at 0.
        tiny = torch.finfo(logits.dtype).tiny
        p, rest = logits.sigmoid(), (-logits).sigmoid().clamp(min=tiny)
        shifted = (p - self.clip).clamp(min=tiny)
        if self.floor:
            hit, miss = p.clamp(min=self.floor).log(), (1 - shifted).clamp(min=self.floor).log()
        else:
            hit, miss = F.logsigmoid(logits), torch.log1p(-shifted) if self.clip else F.logsigmoid(-logits)
        weights = [rest**self.gamma_present, shifted**self.gamma_absent]
        hard, easy = weights if self.through_weight else [weight.detach() for weight in weights]
        if self.alpha:
            hard, easy = self.alpha * hard, (1 - self.alpha) * easy
        return torch.where(present, -hard * hit, -easy * miss)


NAMED = {
    "soft-margin": Loss(),
    "focal": Loss(gamma_present=2.0, gamma_absent=2.0),
    "asymmetric": Loss(gamma_absent=4.0, clip=0.05),
}


def read(value: "str | Mapping[str, Any] | Loss", own: Loss) -> Loss:
    """The loss that a configuration names: one of NAMED, "own" (the model's published one), or a mapping of what it
    changes of one. Raises UserError for an unknown name, key or value.

    Example:
        >>> read({"name": "asymmetric", "gamma_absent": 2}, own=Loss()).gamma_absent
        2.0
    """
    if isinstance(value, Loss):
        return value
    changes = dict(value) if isinstance(value, Mapping) else {"name": value}
    name, losses = changes.pop("name", "own"), {**NAMED, "own": own}
    if name not in losses:
        raise unknown("loss", name, losses)
    return validated(Loss, {**dataclasses.asdict(losses[name]), **changes}, "the loss")
