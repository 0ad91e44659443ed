"""SSGRL, semantic-specific graph representation learning (Chen et al., ICCV 2019, arXiv 1908.07325)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import STRIDES, Backbone, Classifier, LabelInfo, Loss, Maps, Output, Positive, halved
from mlclib.models.graphs import conditional
from mlclib.models.msrn import Elementwise


@dataclass(frozen=True)
class Options(base.Options):
    """width: of the space where words meet cells. steps: of the graph network; 0 for none, and no graph."""

    difficult: base.Difficult = "absent"
    width: Positive = 1024
    steps: base.Count = 3


@dataclass
class SSGRLOutput(Output):
    """logits [B, C]; semantic: the labels' features before the graph network, graph: after it, [B, C, F]; attention:
    the softmax over the pooled cells that made them [B, C, h, w].
    """

    semantic: Tensor
    graph: Tensor
    attention: Tensor


class GraphNetwork(nn.Module):
    """A gated graph network (Li et al., ICLR 2016): nodes [B, C, F] along edges [C, C], both ways.

    a = [P h; P^T h]; z = s(W3 a + U3 h); r = s(W4 a + U3 h); h = (1 - z) h + z tanh(W5 a + U5 (r h)).
    The paper gives r a matrix U4 of its own; the authors' code takes z's and never uses U4.
    """

    def __init__(self, features: int, steps: int):
        super().__init__()
        self.steps = steps
        self.w3, self.w4, self.w5 = (nn.Linear(2 * features, features) for _ in range(3))
        self.u3, self.u5 = (nn.Linear(features, features) for _ in range(2))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        for _ in range(self.steps):
            near = torch.cat((edges @ nodes, edges.t() @ nodes), 2)
            own = self.u3(nodes)
            z, r = (self.w3(near) + own).sigmoid(), (self.w4(near) + own).sigmoid()
            nodes = (1 - z) * nodes + z * (self.w5(near) + self.u5(r * nodes)).tanh()
        return nodes


class SSGRL(Classifier):
    """The map, mean-pooled 2 x 2, is pooled for each label by a softmax over its cells of
    a = wa . (W3 tanh(W1 x * W2 v) + b3) + ba, for cells x and the label's words v; the labels' features then pass along
    the graph of conditional probabilities P(j|i), and a weight vector a label decides on tanh(Wo [after; before]).

    The authors' code spreads cells and words over [B, h, w, C, F] and applies W3 there; a is linear in the tanh, so W3
    meets wa first here. b3 and ba move no softmax: their gradient is zero.
    """

    Options = Options

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        features, width = backbone.channels[options.layer], options.width
        self.register_buffer("label_vectors", label_info.need("vectors"))
        if options.steps:
            self.register_buffer("adjacency", self.label_graph(label_info, options))
            self.network = GraphNetwork(features, options.steps)
        self.cells = nn.Linear(features, width, bias=False)
        self.words = nn.Linear(self.label_vectors.shape[1], width, bias=False)
        self.joint = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.join = nn.Linear(2 * features, features)
        self.head = Elementwise(label_info.count, features)

    @classmethod
    def label_graph(cls, label_info: LabelInfo, options: Options) -> Tensor | None:
        """P(j|i), not thresholded."""
        return conditional(label_info.need("counts"), label_info.need("totals")).float() if options.steps else None

    def decoupled(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """A pooled map [B, F, h, w] -> the labels' features [B, C, F] and the softmax that made them [B, C, h w]."""
        cells = map.flatten(2).transpose(1, 2)  # [B, N, F]
        met = (self.cells(cells)[:, None] * self.words(self.label_vectors)[:, None]).tanh_()  # [B, C, N, width]
        score = self.score.weight @ self.joint.weight  # [1, width]
        attention = ((met @ score.T)[..., 0] + self.score(self.joint.bias)).softmax(2)
        return attention @ cells, attention

    def classify(self, maps: Maps) -> SSGRLOutput:
        map = maps[self.options.layer]
        map = F.avg_pool2d(map, halved(map))
        semantic, attention = self.decoupled(map)
        graph = self.network(semantic, self.adjacency) if self.options.steps else semantic
        logits = self.head(self.join(torch.cat((graph, semantic), 2)).tanh())
        return SSGRLOutput(logits.float(), semantic, graph, attention.unflatten(2, map.shape[2:]))

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.label_vectors, self.words(self.label_vectors)

    def own_maps(self, maps: Maps, output: SSGRLOutput, labels: Tensor, group: int | None = None) -> base.AttentionMaps:
        """ "semantic": the softmax over the pooled cells that makes the label's feature."""
        map, layer = output.attention.detach()[torch.arange(len(labels)), labels], self.options.layer
        return {("semantic", str(layer)): (map, STRIDES[layer] * halved(maps[layer])[0])}

    def size_warnings(self, input_size: int) -> list[str]:
        return base.edges_lost("SSGRL", [self.options.layer], input_size)

    def authors_names(self) -> dict[str, str]:
        modules = {"fc_1": "cells", "fc_2": "words", "fc_3": "joint", "fc_a": "score"}
        modules = {f"word_semantic.{theirs}": ours for theirs, ours in modules.items()}
        modules["fc_output"] = "join"
        if self.options.steps:
            names = ("w3", "w4", "w5", "u3", "u5")
            modules |= {f"graph_net.fc_eq{name[1]}_{name[0]}": f"network.{name}" for name in names}
        own = {"classifiers.weight": "head.W", "classifiers.bias": "head.B"}
        return self.resnet_names("resnet_101.") | self.names_within(modules) | own

    def authors_unused(self) -> dict[str, tuple[int, ...]]:
        features = self.backbone.channels[self.options.layer]
        return {"graph_net.fc_eq4_u.weight": (features, features), "graph_net.fc_eq4_u.bias": (features,)}
