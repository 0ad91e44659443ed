"""ML-Decoder (Ridnik et al., WACV 2023, arXiv 2111.12933): fixed queries look through the map, each for some labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.backbones import Backbone
from mlclib.models.base import Classifier, Labels, Output
from mlclib.models.losses import Loss
from mlclib.models.transformer import Layer, check_sizes

QUERIES = 100  # of full decoding, at most


@dataclass(frozen=True)
class Options(base.Options):
    """groups: the number K of queries, at most one a label; 0 (the authors' -1) is full decoding, K = min(C, 100).

    width, heads, feedforward, dropout: of the one decoder layer.
    """

    groups: int = 0
    width: int = 768
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self.width, self.feedforward, self.heads, self.dropout)


@dataclass
class MLDecoderOutput(Output):
    """logits [B, C]; memory: the embedded cells [B, h w, D] that the queries looked through."""

    memory: Tensor


class MLDecoder(Classifier):
    """Queries q, drawn once and never learnt: t = LN(q + dropout(q)), one layer of cross-attention with the cells
    m = ReLU(W x), no positions, no self-attention; then query k decides on labels k g to k g + g - 1, each by a weight
    vector and a bias of its own, where g is the least that K g reaches C.
    """

    Options = Options
    published_loss = Loss(gamma_absent=4.0, clip=0.05, through_weight=False, reduction="sum")

    def __init__(self, backbone: Backbone, labels: Labels, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        count = min(labels.count, options.groups if options.groups > 0 else QUERIES)
        self.embed = nn.Linear(backbone.channels[options.layer], options.width)
        self.register_buffer("queries", torch.randn(count, options.width))
        self.norm = nn.LayerNorm(options.width)
        self.dropout = nn.Dropout(options.dropout)
        self.layer = Layer(options.width, options.heads, options.feedforward, options.dropout)
        self.weight = nn.Parameter(torch.empty(count, options.width, -(-labels.count // count)))
        nn.init.xavier_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(labels.count))

    def decode(self, queries: Tensor, memory: Tensor, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Queries [B, k, D], which do not know of each other -> [B, k, D], and their attention [B, k, h w]."""
        queries = self.norm(queries + self.dropout(queries))
        return self.layer(queries, queries, memory, memory, weights)

    def classify(self, maps: Mapping[int, Tensor]) -> MLDecoderOutput:
        memory = self.embed(maps[self.options.layer].flatten(2).transpose(1, 2)).relu_()
        decoded, _ = self.decode(self.queries.expand(memory.shape[0], -1, -1), memory)
        logits = torch.einsum("bkd,kdg->bkg", decoded, self.weight).flatten(1)[:, : len(self.bias)]
        return MLDecoderOutput((logits + self.bias).float(), memory)

    def embeddings(self) -> tuple[None, Tensor]:
        """The labels' weight vectors: what is learnt of a label alone."""
        return None, self.weight.mT.flatten(0, 1)[: len(self.bias)]

    def own_maps(
        self, maps: Mapping[int, Tensor], output: MLDecoderOutput, labels: Tensor, group: int | None = None
    ) -> dict[tuple[str, str], tuple[Tensor, float]]:
        """ "cross-attention": where the query that answers for the label looks, the mean of the heads."""
        layer = self.options.layer
        with torch.no_grad():
            queries = self.queries[labels // self.weight.shape[2]]
            _, attention = self.decode(queries[:, None], output.memory, weights=True)
        return {
            ("cross-attention", str(layer)): (attention.view(-1, *maps[layer].shape[2:]), self.backbone.strides[layer])
        }

    def authors_names(self) -> dict[str, str]:
        """Of the head alone, which the authors put on any backbone."""
        names = self.layer.authors_names("decoder.layers.0", "layer", "multihead_attn", ("norm2", "norm3"))
        for kind in ("weight", "bias"):
            names[f"decoder.layers.0.norm1.{kind}"] = f"norm.{kind}"
            names[f"decoder.embed_standart.{kind}"] = f"embed.{kind}"
        names |= {"decoder.query_embed.weight": "queries", "decoder.duplicate_pooling": "weight"}
        return names | {"decoder.duplicate_pooling_bias": "bias"}
