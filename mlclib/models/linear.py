"""The strong linear baseline: one linear layer on both poolings of a map, each feature standardised."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import Backbone, Classifier, LabelInfo, Loss, Maps, Output


@dataclass(frozen=True)
class Options(base.Options):
    """norm: of the pooled features: "batch" (each feature to mean 0 and deviation 1 over images, as a logistic
    regression is usually given them), "layer" (each image's features) or "none".
    """

    norm: Literal["batch", "layer", "none"] = "batch"


class Linear(Classifier):
    """Mean and max pool of the map side by side, normalised without a learnt scale, then Linear(2 channels -> labels).

    A scale learnt before a linear layer adds nothing to it but a second way to the same function.
    """

    Options = Options

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        features = 2 * backbone.channels[options.layer]
        if options.norm == "batch":
            self.norm = nn.BatchNorm1d(features, affine=False)
        self.head = nn.Linear(features, label_info.count)

    def features(self, map: Tensor) -> Tensor:
        """A map [B, F, h, w] -> pooled and normalised [B, 2 F]."""
        pooled = torch.cat((map.mean((2, 3)), map.amax((2, 3))), 1)
        if self.options.norm == "batch":
            return batch_norm(self.norm, pooled)
        return F.layer_norm(pooled, pooled.shape[1:]) if self.options.norm == "layer" else pooled

    def classify(self, maps: Maps) -> Output:
        return Output(self.head(self.features(maps[self.options.layer])).float())

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.head.weight


def batch_norm(norm: nn.Module, features: Tensor) -> Tensor:
    """`norm` (a BatchNorm1d) of features [B, F]; one image alone, which has no variance, takes the running statistics.

    (A SyncBatchNorm, which takes its place on several GPUs, sees the images of the other processes too.)
    """
    if norm.training and len(features) == 1 and not isinstance(norm, nn.SyncBatchNorm):
        return F.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(features)
