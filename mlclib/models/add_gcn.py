"""ADD-GCN, attention-driven dynamic graph convolutional network (Ye et al., ECCV 2020, arXiv 2012.02994)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import AttentionMaps, Backbone, Classifier, LabelInfo, Loss, Maps, Output, Positive
from mlclib.models.linear import batch_norm


@dataclass(frozen=True)
class Options(base.Options):
    """width: of a label's vector in the graph."""

    width: Positive = 1024


@dataclass
class ADDGCNOutput(Output):
    """logits [B, C], the mean of `pooled` (the highest score of any cell) and `graph` (after the graph), both [B, C].

    mask [B, C, h, w]: the sigmoid of each cell's score; edges [B, C, C]: the image's own graph.
    """

    pooled: Tensor
    graph: Tensor
    mask: Tensor
    edges: Tensor


class ADDGCN(Classifier):
    """Each cell is scored for each label, m = sigmoid(W x); a label's vector is v = sum over cells of m (T x + t), and
    so grows with the picture's size. A static graph, then one made of the image, change the vectors; a weight vector a
    label scores them, and the mean with the highest cell's score is the logit, in training and in evaluation.

    Static: x = v + LeakyReLU(S LeakyReLU(v A)). Dynamic: E = sigmoid(D [g; x]), with g = LeakyReLU(BN(G mean(x))) at
    every label; z = v + LeakyReLU(R LeakyReLU(x E)). All slopes are 0.2. The authors score every label's vector with
    every label's weights and keep the diagonal by a mask; here only the diagonal is computed.
    """

    Options = Options

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        features, count, width = backbone.channels[options.layer], label_info.count, options.width
        self.score = nn.Conv2d(features, count, 1, bias=False)
        self.transform = nn.Conv2d(features, width, 1)
        self.static_edges = nn.Conv1d(count, count, 1, bias=False)
        self.static = nn.Conv1d(width, width, 1)
        self.overall = nn.Conv1d(width, width, 1)
        self.overall_norm = nn.BatchNorm1d(width)
        self.dynamic_edges = nn.Conv1d(2 * width, count, 1)
        self.dynamic = nn.Conv1d(width, width, 1)
        self.last = nn.Conv1d(width, count, 1)

    def classify(self, maps: Maps) -> ADDGCNOutput:
        map = maps[self.options.layer]
        scores = self.score(map)  # [B, C, h, w]
        mask = scores.sigmoid()
        vectors = self.transform(map).flatten(2) @ mask.flatten(2).transpose(1, 2)  # [B, W, C], sums, not means
        # Along a learnt graph, the same for every image. (ONNX knows transpose, and not mT.)
        static = F.leaky_relu(self.static_edges(vectors.transpose(1, 2)), 0.2).transpose(1, 2)
        x = vectors + F.leaky_relu(self.static(static), 0.2)
        overall = batch_norm(self.overall_norm, self.overall(x.mean(2, keepdim=True))[:, :, 0])
        overall = F.leaky_relu(overall, 0.2)[:, :, None].expand_as(x)
        edges = self.dynamic_edges(torch.cat((overall, x), 1)).sigmoid()
        z = vectors + F.leaky_relu(self.dynamic(F.leaky_relu(x @ edges, 0.2)), 0.2)
        graph = self.scored(z)
        pooled = scores.flatten(2).amax(2)
        return ADDGCNOutput(((pooled + graph) / 2).float(), pooled, graph, mask, edges)

    def scored(self, z: Tensor) -> Tensor:
        """The labels' vectors [B, W, C], each scored by its own weights -> [B, C]."""
        return (z * self.last.weight[:, :, 0].T).sum(1) + self.last.bias

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.score.weight[:, :, 0, 0]

    def own_maps(self, maps: Maps, output: ADDGCNOutput, labels: Tensor, group: int | None = None) -> AttentionMaps:
        """ "mask": the sigmoid by which the label's vector takes each cell."""
        return self.on_its_layer("mask", output.mask.detach()[torch.arange(len(labels)), labels])

    def authors_names(self) -> dict[str, str]:
        modules = {
            "fc": "score", "conv_transform": "transform", "gcn.static_adj.0": "static_edges",
            "gcn.static_weight.0": "static", "gcn.conv_global": "overall", "gcn.bn_global": "overall_norm",
            "gcn.conv_create_co_mat": "dynamic_edges", "gcn.dynamic_weight": "dynamic", "last_linear": "last",
        }  # fmt: skip
        return self.resnet_names("features.", sequential=True) | self.names_within(modules)

    def authors_constants(self) -> dict[str, tuple[int, ...]]:
        count = self.last.out_channels
        return {"mask_mat": (count, count)}
