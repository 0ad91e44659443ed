"""GMP, the baseline: a global max pool of the stride-32 map and one linear layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mlclib.models.backbones import Backbone
from mlclib.models.base import DIFFICULT, Classifier, Output, one_of


@dataclass(frozen=True)
class Options:
    """difficult: whether a difficult label trains as "present" (as MSRN and DSDL do) or is left out ("ignore")."""

    difficult: str = "present"

    def __post_init__(self):
        one_of("difficult", self.difficult, DIFFICULT)


class GMP(Classifier):
    """Global max pool of layer 4, then Linear(channels -> labels). Loss: multi-label soft margin."""

    def __init__(self, backbone: Backbone, labels: int, options: Options):
        super().__init__(backbone, options)
        self.head = nn.Linear(backbone.channels[4], labels)

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        feature = maps[4].amax((2, 3))  # [B, channels]
        return Output(self.head(feature).float())
