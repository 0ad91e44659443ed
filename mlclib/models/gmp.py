"""GMP, the baseline: a global max pool of a map and one linear layer."""

from torch import Tensor, nn

from mlclib.models.base import Affine, Backbone, Classifier, LabelInfo, Loss, Maps, Options, Output


class GMP(Classifier):
    """Global max pool of the map, then Linear(channels -> labels). Loss: multi-label soft margin."""

    pool = "amax"

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        self.head = nn.Linear(backbone.channels[options.layer], label_info.count)

    def classify(self, maps: Maps) -> Output:
        feature = getattr(maps[self.options.layer], self.pool)((2, 3))  # [B, channels]
        return Output(self.head(feature).float())

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.head.weight

    def exported(self) -> nn.Module:
        return Affine(self, self.pool)
