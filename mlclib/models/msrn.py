"""MSRN, multi-layered semantic representation network (Che et al., arXiv 2106.11596)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.models import base
from mlclib.models.base import Backbone, Classifier, LabelInfo, Loss, Maps, Output, Positive, float32, halved
from mlclib.models.graphs import adjacency
from mlclib.models.pooling import semantic_pooling, semantic_weights


@dataclass(frozen=True)
class Options(base.Shared):
    """layers: maps to pool, of 2, 3, 4. group_ratio: groups per label, G = int(ratio * C); 0 for no groups.

    head: "mlp" (the published checkpoints) or "elementwise" (a weight vector and bias per label). width: D.
    graph: which labels attend to each other: "cooccurrence" (P(j|i) >= graph_threshold), "random" (as many edges,
    drawn once from a fixed seed), "identity" (each to itself alone) or "none" (no attention: plain layers).
    learn_vectors: let the label vectors be learnt. group_loss_weight: of the labels' distance to their groups.
    """

    layers: Annotated[tuple[base.Layer, ...], Field(min_length=1)] = (2, 3, 4)
    group_ratio: Annotated[float, Field(ge=0)] = 0.2
    head: Literal["mlp", "elementwise"] = "mlp"
    width: Positive = 512
    graph: Literal["cooccurrence", "identity", "random", "none"] = "cooccurrence"
    graph_threshold: base.Probability = 0.4
    learn_vectors: bool = False
    group_loss_weight: float = 1e-4

    def __post_init__(self):
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers {list(self.layers)} must hold each layer once")


@dataclass
class MSRNOutput(Output):
    """logits [B, C]; label embeddings [C, D], group embeddings [G, D] and the soft assignment [C, G] of the step.

    pooled: what the head decides on, before its tanh: [B, C + G, D * layers] ("mlp"), or for each label its own pooled
    vector and what its groups bring back to it: [B, C, 2 D * layers] ("elementwise"; without groups its own alone).
    """

    pooled: Tensor
    labels: Tensor
    groups: Tensor
    assignment: Tensor


class GraphAttention(nn.Module):
    """One head of graph attention with a skip: h = X W; out = ELU(softmax(e) h + h) (Velickovic et al., ICLR 2018).

    e_ij = LeakyReLU_0.2(a^T [h_i, h_j]) over the j with edges[i, j]; without edges it is ELU(h).
    """

    def __init__(self, inputs: int, outputs: int, attends: bool):
        super().__init__()
        self.W = nn.Parameter(torch.empty(inputs, outputs))
        nn.init.xavier_uniform_(self.W, gain=2**0.5)
        if attends:
            self.a = nn.Parameter(torch.empty(2 * outputs, 1))
            nn.init.xavier_uniform_(self.a, gain=2**0.5)

    def forward(self, nodes: Tensor, edges: Tensor | None) -> Tensor:
        h = nodes @ self.W  # [C, outputs]
        if edges is None:
            return F.elu(h)
        source, target = (h @ self.a.view(2, -1).T).unbind(1)  # [C] each: a^T [h_i, h_j] is a sum of two terms
        energies = F.leaky_relu(source[:, None] + target, 0.2).masked_fill(~edges, -torch.inf)  # [C, C]
        return F.elu(energies.softmax(1) @ h + h)  # + h: unlike the paper that it follows


class Elementwise(nn.Module):
    """One weight vector and one bias per label: [B, C, F] -> [B, C]."""

    def __init__(self, labels: int, features: int):
        super().__init__()
        bound = features**-0.5
        self.W = nn.Parameter(torch.empty(labels, features).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.empty(labels).uniform_(-bound, bound))

    def forward(self, nodes: Tensor) -> Tensor:
        return torch.einsum("bcf,cf->bc", nodes, self.W) + self.B


class MSRN(Classifier):
    """Labels and groups of labels, embedded on the label graph, pool the maps of several layers by soft attention."""

    Options = Options

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        labels, width = label_info.count, options.width
        groups = int(options.group_ratio * labels)
        if options.group_ratio and not groups:
            raise UserError(
                f"group_ratio {options.group_ratio} of {labels} labels makes no group; "
                f"give at least {1 / labels:.3g}, or 0 to go without groups"
            )
        base.stored(self, "label_vectors", label_info.need("vectors"), options.learn_vectors)
        graph = self.label_graph(label_info, options)
        attends = graph is not None
        if attends:
            self.register_buffer("adjacency", graph)
        # Layer 4 is taken as it is; the authors' checkpoints hold a refinement of layer 1 too, which nothing uses.
        self.refine = nn.ModuleDict({str(k): nn.Conv2d(c, c, 1) for k, c in backbone.channels.items() if k < 4})
        self.project = nn.ModuleDict({str(k): nn.Conv2d(c, width, 1) for k, c in backbone.channels.items()})
        self.embed = nn.Linear(self.label_vectors.shape[1], 256)
        self.label_layers = nn.ModuleList([GraphAttention(256, 300, attends), GraphAttention(300, width, attends)])
        if groups:
            self.group_features = GraphAttention(width, width, attends)
            self.group_assignment = GraphAttention(width, groups, attends)
        pooled = width * len(options.layers)
        if options.head == "mlp":
            self.head = nn.Sequential(
                nn.Flatten(), nn.Linear((labels + groups) * pooled, 2048), nn.LeakyReLU(), nn.Linear(2048, labels)
            )
        else:
            self.head = Elementwise(labels, pooled * (2 if groups else 1))

    @classmethod
    def layers(cls, options: Options) -> tuple[int, ...]:
        return options.layers

    @classmethod
    def label_graph(cls, label_info: LabelInfo, options: Options) -> Tensor | None:
        if options.graph == "none":
            return None
        counts, totals = label_info.need("counts"), label_info.need("totals")
        return adjacency(counts, totals, options.graph, options.graph_threshold)

    def pooled_maps(self, maps: Maps) -> dict[int, Tensor]:
        """{layer: [B, C_layer, h/2, w/2]}: 1x1 convolution (layers 2, 3), then a 2x2 max pool, before projection."""
        pooled = {}
        for key in self.project:
            map = maps[int(key)]
            map = self.refine[key](map) if key in self.refine else map
            pooled[int(key)] = F.max_pool2d(map, halved(map))
        return pooled

    def projected(self, maps: Maps) -> dict[int, Tensor]:
        """{layer: [B, D, h/2, w/2]}: the maps p that labels and groups pool."""
        return {layer: self.project[str(layer)](map) for layer, map in self.pooled_maps(maps).items()}

    def nodes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Label embeddings [C, D], group embeddings [G, D] and soft assignment [C, G], float32; G may be 0.

        They depend on no image, so they are computed once per step. Groups are DiffPool's (Ying et al., NeurIPS 2018).
        """
        with float32(self.label_vectors):
            edges = self.adjacency > 0 if self.options.graph != "none" else None
            labels = self.embed(self.label_vectors)
            for layer in self.label_layers:
                labels = layer(labels, edges)
            if not self.options.group_ratio:
                return labels, labels.new_zeros(0, labels.shape[1]), labels.new_zeros(len(labels), 0)
            positive = labels.relu()
            assignment = self.group_assignment(positive, edges).softmax(1)
            return labels, assignment.T @ self.group_features(positive, edges), assignment

    def classify(self, maps: Maps) -> MSRNOutput:
        labels, groups, assignment = self.nodes()
        pooled = self.pooled(maps, torch.cat((labels, groups)), assignment)
        return MSRNOutput(self.head(pooled.tanh()).float(), pooled, labels, groups, assignment)

    def pooled(self, maps: Maps, nodes: Tensor, assignment: Tensor) -> Tensor:
        """What the head decides on, MSRNOutput.pooled, from the nodes [C + G, D] and the assignment [C, G]."""
        layers = [semantic_pooling(map.flatten(2).transpose(1, 2), nodes) for map in self.projected(maps).values()]
        pooled = torch.cat(layers, 2)  # [B, C + G, D * layers]
        if self.options.head == "mlp" or not assignment.shape[1]:
            return pooled
        own, groups = pooled.split(assignment.shape, 1)
        return torch.cat((own, assignment @ groups), 2)

    def loss(self, output: MSRNOutput, targets: Tensor) -> Tensor:
        """Soft margin + group_loss_weight * sum over labels of the distance to the group each belongs to most."""
        return self.label_term(output.logits, targets) + self.group_loss(output)

    @property
    def sums_over_batch(self) -> bool:
        """Where the labels' loss is a sum over images: its parts add up, and the group loss counts once per part."""
        return self.label_loss.reduction == "sum" and self.options.group_ratio > 0

    def group_loss(self, output: MSRNOutput) -> Tensor:
        """The weighted sum over labels i of || L_i - groups[argmax_j S_ij] ||_2; 0 without groups."""
        if not len(output.groups):
            return output.labels.new_zeros(())
        # The choice of a group has no gradient: labels and groups move, the assignment does not.
        distances = (output.labels - output.groups[output.assignment.argmax(1)]).norm(dim=1)
        return self.options.group_loss_weight * distances.sum()

    def embeddings(self) -> tuple[Tensor, Tensor]:
        return self.label_vectors, self.nodes()[0]

    def assignment(self) -> Tensor:
        return self.nodes()[2]

    def own_maps(self, maps: Maps, output: MSRNOutput, labels: Tensor, group: int | None = None) -> base.AttentionMaps:
        """Semantic pooling's weights w_id of a label's (or a group's) node over the locations i, for each channel d:
        their "mean" over the channels, and their mean "weighted" by |d logit / d r_d|, how far the channel's pooled
        value moves the label's logit (paper, section 3.3).
        """
        if group is not None and not 0 <= group < len(output.groups):
            raise UserError(f"there is no group {group}: this model has {len(output.groups)} groups, counted from 0")
        logits = output.logits.gather(1, labels[:, None]).sum()  # of one label per image, so one pass gives all slopes
        (slopes,) = torch.autograd.grad(logits, output.pooled, retain_graph=True)
        with torch.no_grad():
            nodes = output.labels[labels] if group is None else output.groups[group].expand(len(labels), -1)  # [B, D]
            slopes = self._of_node(slopes, labels, output.assignment, group).abs().split(nodes.shape[1], 1)
            attention = {}
            for (layer, map), strength in zip(self.projected(maps).items(), slopes, strict=True):
                weights = semantic_weights(map.flatten(2).mT, nodes[:, None, None])[:, :, 0]  # [B, N, D]
                strength = strength / strength.sum(1, keepdim=True).clamp(min=1e-30)
                cell = self.backbone.strides[layer] * halved(maps[layer])[0]
                for method, reduced in (("mean", weights.mean(2)), ("weighted", (weights * strength[:, None]).sum(2))):
                    attention[method, str(layer)] = reduced.view(-1, *map.shape[2:]), cell
        return attention

    def _of_node(self, slopes: Tensor, labels: Tensor, assignment: Tensor, group: int | None) -> Tensor:
        """d logit / d r of the label's own pooled vector r, or the group's: [B, layers * D]."""
        count, batch = len(assignment), torch.arange(len(labels))
        if self.options.head == "elementwise" and assignment.shape[1]:
            own, shared = slopes.chunk(2, 2)  # a label's own vector, and what its groups bring back to it
            return own[batch, labels] if group is None else torch.einsum("bcf,c->bf", shared, assignment[:, group])
        return slopes[batch, labels if group is None else count + group]

    def exported(self) -> nn.Module:
        return _Constant(self)

    def size_warnings(self, input_size: int) -> list[str]:
        return base.edges_lost("MSRN", self.backbone, self.options.layers, input_size)

    def authors_names(self) -> dict[str, str]:
        modules = {"fc_label": "embed"}
        modules |= {f"resnet_101.conv_buffer{int(key) - 1}": f"refine.{key}" for key in self.refine}
        modules |= {f"ProjectM.{int(key) - 2}": f"project.{key}" for key in self.project}
        modules |= {f"label_embed.layers.{i}": f"label_layers.{i}" for i in range(2)}
        if self.options.group_ratio:
            modules["group_embed.layers.0.embed"] = "group_features"
            modules["group_embed.layers.0.assign_mat"] = "group_assignment"
        own = {"W": "head.W", "B": "head.B"}
        if self.options.head == "mlp":
            modules, own = modules | {"fc1": "head.1", "fc2": "head.3"}, {}
        return self.resnet_names("resnet_101.") | self.names_within(modules) | own

    def authors_unused(self) -> dict[str, tuple[int, ...]]:
        unused = {"resnet_101.conv_buffer0.weight": (256, 256, 1, 1), "resnet_101.conv_buffer0.bias": (256,)}
        labels, pooled = len(self.label_vectors), self.options.width * len(self.project)
        if self.options.head == "mlp":
            return unused | {"W": (labels, 2 * pooled), "B": (labels,)}
        nodes = labels + int(self.options.group_ratio * labels)
        fc1 = {"fc1.weight": (2048, nodes * pooled), "fc1.bias": (2048,)}
        return unused | fc1 | {"fc2.weight": (labels, 2048), "fc2.bias": (labels,)}


class _Constant(nn.Module):
    """MSRN as it is after training: its nodes depend on no image, so they are constants."""

    def __init__(self, model: MSRN):
        super().__init__()
        self.model = model
        with torch.no_grad():
            labels, groups, assignment = model.nodes()
        self.register_buffer("nodes", torch.cat((labels, groups)))
        self.register_buffer("assignment", assignment)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.head(self.model.pooled(self.model.backbone(images), self.nodes, self.assignment).tanh())
