"""GMP, the baseline: a global max pool of the stride-32 map and one linear layer."""

from collections.abc import Mapping

from torch import Tensor, nn

from mlclib.models.backbones import Backbone
from mlclib.models.base import Affine, Classifier, Labels, Options, Output
from mlclib.models.losses import Loss


class GMP(Classifier):
    """Global max pool of layer 4, then Linear(channels -> labels). Loss: multi-label soft margin."""

    pool = "amax"

    def __init__(self, backbone: Backbone, labels: Labels, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        self.head = nn.Linear(backbone.channels[4], labels.count)

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        feature = getattr(maps[4], self.pool)((2, 3))  # [B, channels]
        return Output(self.head(feature).float())

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.head.weight

    def exported(self) -> nn.Module:
        return Affine(self, self.pool)
