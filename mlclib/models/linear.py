"""The strong linear baseline: one linear layer on both poolings of a map, each feature standardised."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.backbones import Backbone
from mlclib.models.base import Classifier, Labels, Output, one_of
from mlclib.models.losses import Loss


@dataclass(frozen=True)
class Options(base.Options):
    """norm: of the pooled features: "batch" (each feature to mean 0 and deviation 1 over images, as a logistic
    regression is usually given them), "layer" (each image's features) or "none".
    """

    norm: str = "batch"

    def __post_init__(self):
        super().__post_init__()
        one_of("norm", self.norm, ("batch", "layer", "none"))


class Linear(Classifier):
    """Mean and max pool of the map side by side, normalised without a learnt scale, then Linear(2 channels -> labels).

    A scale learnt before a linear layer adds nothing to it but a second way to the same function.
    """

    Options = Options

    def __init__(self, backbone: Backbone, labels: Labels, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        features = 2 * backbone.channels[options.layer]
        if options.norm == "batch":
            self.norm = nn.BatchNorm1d(features, affine=False)
        self.head = nn.Linear(features, labels.count)

    def features(self, map: Tensor) -> Tensor:
        """A map [B, F, h, w] -> pooled and normalised [B, 2 F]."""
        pooled = torch.cat((map.mean((2, 3)), map.amax((2, 3))), 1)
        if self.options.norm == "batch":
            return batch_norm(self.norm, pooled)
        return F.layer_norm(pooled, pooled.shape[1:]) if self.options.norm == "layer" else pooled

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        return Output(self.head(self.features(maps[self.options.layer])).float())

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.head.weight

    def exported(self) -> nn.Module:
        model = copy.deepcopy(self)
        if (
            self.options.norm == "batch"
        ):  # a scale of ones, or ONNX asks for shapes that a transformer's maps do not tell
            model.norm = nn.BatchNorm1d(self.norm.num_features).train(self.training)
            model.norm.load_state_dict(self.norm.state_dict(), strict=False)
        return Classifier.exported(model)


def batch_norm(norm: nn.BatchNorm1d, features: Tensor) -> Tensor:
    """`norm` of features [B, F]; a batch of one image, which has no variance, is taken with the running statistics.

    Where several processes share a batch it is never of one image, though their parts may be.
    """
    shared = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
    if norm.training and features.shape[0] == 1 and not shared:
        return F.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(features)
