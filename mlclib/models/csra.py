"""CSRA, class-specific residual attention (Zhu and Wu, ICCV 2021, arXiv 2108.02456)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import AttentionMaps, Backbone, Classifier, Difficult, LabelInfo, Loss, Maps, Output

MAXIMUM = 99  # the temperature that stands for a maximum
TEMPERATURES = {
    1: (1,), 2: (1, MAXIMUM), 4: (1, 2, 4, MAXIMUM), 6: (1, 2, 3, 4, 5, MAXIMUM), 8: (1, 2, 3, 4, 5, 6, 7, MAXIMUM),
}  # fmt: skip


@dataclass(frozen=True)
class Options(base.Options):
    """heads: how many, each with a temperature of its own (TEMPERATURES); lam: the weight of the attention."""

    difficult: Difficult = "absent"
    heads: Literal[1, 2, 4, 6, 8] = 1
    lam: float = 0.1


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

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        channels = backbone.channels[options.layer]
        self.heads = nn.ModuleList(nn.Conv2d(channels, label_info.count, 1, bias=False) for _ in range(options.heads))

    def classify(self, maps: Maps) -> CSRAOutput:
        map = maps[self.options.layer]
        weights = torch.cat([head.weight / head.weight.norm(dim=1, keepdim=True) for head in self.heads])
        scores = F.conv2d(map, weights.to(map.dtype)).float()  # [B, H C, h, w]
        scores = scores.unflatten(1, (self.options.heads, -1))
        cells = scores.flatten(3)
        logits = cells.mean(3).sum(1)
        for head, temperature in enumerate(TEMPERATURES[self.options.heads]):
            one = cells[:, head]  # summed over heads, not averaged: logits grow with their number
            attended = one.amax(2) if temperature == MAXIMUM else (one * (temperature * one).softmax(2)).sum(2)
            logits = logits + self.options.lam * attended
        return CSRAOutput(logits, scores)

    def embeddings(self) -> tuple[None, Tensor]:
        return None, torch.cat([head.weight[:, :, 0, 0] for head in self.heads], 1)

    def own_maps(self, maps: Maps, output: CSRAOutput, labels: Tensor, group: int | None = None) -> AttentionMaps:
        """ "residual": where each head's attention lies for the label, mean over the heads; of a maximum, its cell."""
        scores = output.scores.detach()[torch.arange(len(labels)), :, labels]  # [B, H, h, w]
        attention = []
        for cells, temperature in zip(scores.flatten(2).unbind(1), TEMPERATURES[self.options.heads], strict=True):
            highest = (cells == cells.amax(1, keepdim=True)).float()
            at_maximum = highest / highest.sum(1, keepdim=True)  # shared where several cells score alike
            attention.append(at_maximum if temperature == MAXIMUM else (temperature * cells).softmax(1))
        return self.on_its_layer("residual", torch.stack(attention).mean(0).view_as(scores[:, 0]))

    def authors_names(self) -> dict[str, str]:
        heads = {f"classifier.multi_head.{i}.head.weight": f"heads.{i}.weight" for i in range(self.options.heads)}
        return heads | self.resnet_names("")
