"""CSRA, class-specific residual attention (Zhu and Wu, ICCV 2021, arXiv 2108.02456)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.models import base
from mlclib.models.backbones import Backbone
from mlclib.models.base import Classifier, Labels, Output, resnet_names
from mlclib.models.losses import Loss

MAXIMUM = 99  # the temperature that stands for a maximum
TEMPERATURES = {
    1: (1,), 2: (1, MAXIMUM), 4: (1, 2, 4, MAXIMUM), 6: (1, 2, 3, 4, 5, MAXIMUM), 8: (1, 2, 3, 4, 5, 6, 7, MAXIMUM),
}  # fmt: skip


@dataclass(frozen=True)
class Options(base.Options):
    """heads: how many, each with a temperature of its own (TEMPERATURES); lam: the weight of the attention."""

    difficult: str = "absent"
    heads: int = 1
    lam: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.heads not in TEMPERATURES:
            raise UserError(f"heads is {self.heads}; give one of {', '.join(map(str, TEMPERATURES))}")


@dataclass
class CSRAOutput(Output):
    """logits [B, C]; scores [B, H, C, h, w]: each head's score of each cell."""

    scores: Tensor


class CSRA(Classifier):
    """A head scores each cell x by unit classifiers, s = w x / ||w||; its logit is mean(s) + lam * sum(s softmax(T s)),
    or max(s) in place of the sum for the highest temperature. The heads' logits are summed.

    The paper's figure 1 is one head with an infinite temperature; the authors' single head has temperature 1.
    """

    Options = Options

    def __init__(self, backbone: Backbone, labels: Labels, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        channels = backbone.channels[options.layer]
        kinds = (nn.Conv2d(channels, labels.count, 1, bias=False) for _ in range(options.heads))
        self.heads = nn.ModuleList(kinds)

    def classify(self, maps: Mapping[int, Tensor]) -> CSRAOutput:
        map = maps[self.options.layer]
        weights = torch.cat([head.weight / head.weight.norm(dim=1, keepdim=True) for head in self.heads])
        scores = F.conv2d(map, weights.to(map.dtype)).float()  # [B, H C, h, w]
        scores = scores.unflatten(1, (self.options.heads, -1))
        cells = scores.flatten(3)
        logits = cells.mean(3).sum(1)
        for head, temperature in enumerate(TEMPERATURES[self.options.heads]):
            one = cells[:, head]
            looked = one.amax(2) if temperature == MAXIMUM else (one * (temperature * one).softmax(2)).sum(2)
            logits = logits + self.options.lam * looked
        return CSRAOutput(logits, scores)

    def embeddings(self) -> tuple[None, Tensor]:
        return None, torch.cat([head.weight[:, :, 0, 0] for head in self.heads], 1)

    def own_maps(
        self, maps: Mapping[int, Tensor], output: CSRAOutput, labels: Tensor, group: int | None = None
    ) -> dict[tuple[str, str], tuple[Tensor, float]]:
        """ "residual": where each head's attention lies for the label, mean over the heads; of a maximum, its cell."""
        chosen = output.scores.detach()[torch.arange(len(labels)), :, labels]  # [B, H, h, w]
        cells, found = chosen.flatten(2), []
        for head, temperature in enumerate(TEMPERATURES[self.options.heads]):
            one = cells[:, head]
            highest = (one == one.amax(1, keepdim=True)).float()
            found.append(
                highest / highest.sum(1, keepdim=True) if temperature == MAXIMUM else (temperature * one).softmax(1)
            )
        layer, mean = self.options.layer, torch.stack(found).mean(0)
        return {("residual", str(layer)): (mean.view(len(labels), *chosen.shape[2:]), self.backbone.strides[layer])}

    def authors_names(self) -> dict[str, str]:
        heads = {f"classifier.multi_head.{i}.head.weight": f"heads.{i}.weight" for i in range(self.options.heads)}
        return heads | resnet_names(self, "")
