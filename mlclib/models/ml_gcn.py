"""ML-GCN, multi-label recognition with graph convolutional networks (Chen et al., CVPR 2019, arXiv 1904.03582)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import (
    Affine,
    Backbone,
    Classifier,
    LabelInfo,
    Loss,
    Maps,
    Output,
    Positive,
    Probability,
    float32,
)
from mlclib.models.graphs import adjacency


@dataclass(frozen=True)
class Options(base.Options):
    """hidden: width between the two graph convolutions. graph_threshold: P(j|i) from which there is an edge."""

    hidden: Positive = 1024
    graph_threshold: Probability = 0.4


class MLGCN(Classifier):
    """The labels' classifiers [C, F] are made of their word vectors by two graph convolutions, A^ (X W), LeakyReLU 0.2
    in between, and score the map's global max pool: logits = f classifiers^T.

    The label branch does not depend on the picture: once trained it is one constant matrix, as costly as GMP. The
    authors' pool is 14 x 14 at stride 14, which is global at 448 px and sees a corner of larger maps; this is global at
    every size. Their state dict holds the graph before normalisation (A); it is computed from the counts given.
    """

    Options = Options

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        self.register_buffer("label_vectors", label_info.need("vectors"))
        self.register_buffer("adjacency", self.label_graph(label_info, options))
        sizes = (self.label_vectors.shape[1], options.hidden, backbone.channels[options.layer])
        self.w1, self.w2 = (
            nn.Parameter(torch.empty(inputs, outputs).uniform_(-(outputs**-0.5), outputs**-0.5))
            for inputs, outputs in zip(sizes, sizes[1:], strict=False)
        )

    @classmethod
    def label_graph(cls, label_info: LabelInfo, options: Options) -> Tensor:
        counts, totals = label_info.need("counts"), label_info.need("totals")
        return adjacency(counts, totals, "cooccurrence", options.graph_threshold)

    def classifiers(self) -> Tensor:
        """The labels' classifiers, float32 [C, F]."""
        with float32(self.w1):
            hidden = F.leaky_relu(self.adjacency @ (self.label_vectors @ self.w1), 0.2)
            return self.adjacency @ (hidden @ self.w2)

    def classify(self, maps: Maps) -> Output:
        feature = maps[self.options.layer].amax((2, 3))  # [B, F]
        return Output((feature @ self.classifiers().to(feature.dtype).T).float())

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.label_vectors, self.classifiers()

    def exported(self) -> nn.Module:
        return Affine(self, "amax")

    def authors_names(self) -> dict[str, str]:
        return {"gc1.weight": "w1", "gc2.weight": "w2", **self.resnet_names("features.", sequential=True)}

    def authors_constants(self) -> dict[str, tuple[int, ...]]:
        return {"A": tuple(self.adjacency.shape)}
