"""ML-GCN, multi-label recognition with graph convolutional networks (Chen et al., CVPR 2019, arXiv 1904.03582)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.models import base
from mlclib.models.backbones import Backbone
from mlclib.models.base import Affine, Classifier, Labels, Output, float32, one_of, resnet_names
from mlclib.models.graphs import GRAPHS, adjacency, check_threshold
from mlclib.models.losses import Loss


@dataclass(frozen=True)
class Options(base.Options):
    """hidden: width between the two graph convolutions.

    graph: which labels pass vectors to each other: "cooccurrence" (P(j|i) >= graph_threshold), "random" (as many edges,
    drawn once from a fixed seed) or "identity" (each to itself alone).
    """

    hidden: int = 1024
    graph: str = "cooccurrence"
    graph_threshold: float = 0.4

    def __post_init__(self):
        super().__post_init__()
        if self.hidden < 1:
            raise UserError(f"hidden is {self.hidden}; give at least 1")
        one_of("graph", self.graph, GRAPHS)
        check_threshold(self.graph_threshold)


class MLGCN(Classifier):
    """The labels' classifiers [C, F] are made of their word vectors by two graph convolutions, A^ (X W), LeakyReLU 0.2
    in between, and score the map's global max pool: logits = f classifiers^T.

    The label branch does not depend on the picture: once trained it is one constant matrix, as costly as GMP. The
    authors' pool is 14 x 14 at stride 14, which is global at 448 px and sees a corner of larger maps; this is global at
    every size. Their state dict holds the graph before normalisation (A); it is computed from the counts given.
    """

    Options = Options

    def __init__(self, backbone: Backbone, labels: Labels, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        self.register_buffer("label_vectors", labels.vectors)
        self.register_buffer("adjacency", self.label_graph(labels, options))
        sizes = (self.label_vectors.shape[1], options.hidden, backbone.channels[options.layer])
        self.w1, self.w2 = (
            nn.Parameter(torch.empty(inputs, outputs).uniform_(-(outputs**-0.5), outputs**-0.5))
            for inputs, outputs in zip(sizes, sizes[1:], strict=False)
        )

    @classmethod
    def label_graph(cls, labels: Labels, options: Options) -> Tensor:
        return adjacency(labels.counts, labels.totals, options.graph, options.graph_threshold)

    def classifiers(self) -> Tensor:
        """The labels' classifiers, float32 [C, F]."""
        with float32(self.w1):
            hidden = F.leaky_relu(self.adjacency @ (self.label_vectors @ self.w1), 0.2)
            return self.adjacency @ (hidden @ self.w2)

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        feature = maps[self.options.layer].amax((2, 3))  # [B, F]
        return Output((feature @ self.classifiers().to(feature.dtype).T).float())

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.label_vectors, self.classifiers()

    def exported(self) -> nn.Module:
        return Affine(self, "amax")

    def authors_names(self) -> dict[str, str]:
        stem = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
        return {"gc1.weight": "w1", "gc2.weight": "w2", **resnet_names(self, "features.", stem)}

    def authors_constants(self) -> dict[str, tuple[int, ...]]:
        return {"A": tuple(self.adjacency.shape)}
