"""ML-Decoder (Ridnik et al., WACV 2023, arXiv 2111.12933): fixed queries look through the map, each for some labels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import AttentionMaps, Backbone, Classifier, Dropout, LabelInfo, Loss, Maps, Output, Positive
from mlclib.models.transformer import Layer, check_heads

QUERIES = 100  # of full decoding, at most


@dataclass(frozen=True)
class Options(base.Options):
    """groups: the number K of queries, at most one a label; 0 (the authors' -1) is full decoding, K = min(C, 100).

    width, heads, feedforward, dropout: of the one decoder layer.
    """

    groups: int = 0
    width: Positive = 768
    heads: Positive = 8
    feedforward: Positive = 2048
    dropout: Dropout = 0.1

    def __post_init__(self):
        check_heads(self.width, self.heads)


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

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        count = min(label_info.count, options.groups if options.groups > 0 else QUERIES)
        self.embed = nn.Linear(backbone.channels[options.layer], options.width)
        # A buffer and no parameter: the authors draw the queries once and never train them.
        self.register_buffer("queries", torch.randn(count, options.width))
        self.norm = nn.LayerNorm(options.width)
        self.dropout = nn.Dropout(options.dropout)
        self.layer = Layer(options.width, options.heads, options.feedforward, options.dropout)
        self.weight = nn.Parameter(torch.empty(count, options.width, -(-label_info.count // count)))  # rounded up
        nn.init.xavier_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(label_info.count))

    def decode(self, queries: Tensor, memory: Tensor, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Queries [B, k, D], which do not know of each other -> [B, k, D], and their attention [B, k, h w]."""
        queries = self.norm(queries + self.dropout(queries))
        return self.layer(queries, queries, memory, memory, weights)

    def classify(self, maps: Maps) -> MLDecoderOutput:
        memory = self.embed(maps[self.options.layer].flatten(2).transpose(1, 2)).relu_()
        decoded, _ = self.decode(self.queries.expand(memory.shape[0], -1, -1), memory)
        logits = torch.einsum("bkd,kdg->bkg", decoded, self.weight).flatten(1)[:, : len(self.bias)]
        return MLDecoderOutput((logits + self.bias).float(), memory)

    def embeddings(self) -> tuple[None, Tensor]:
        """The labels' weight vectors: what is learnt of a label alone."""
        return None, self.weight.mT.flatten(0, 1)[: len(self.bias)]

    def own_maps(self, maps: Maps, output: MLDecoderOutput, labels: Tensor, group: int | None = None) -> AttentionMaps:
        """ "cross-attention": where the query that answers for the label looks, the mean of the heads."""
        with torch.no_grad():
            queries = self.queries[labels // self.weight.shape[2]]
            _, attention = self.decode(queries[:, None], output.memory, weights=True)
        return self.on_its_layer("cross-attention", attention.view(-1, *maps[self.options.layer].shape[2:]))

    def authors_names(self) -> dict[str, str]:
        """Of the head alone, which the authors put on any backbone."""
        modules = self.layer.authors_modules("decoder.layers.0", "layer", "multihead_attn", ("norm2", "norm3"))
        modules |= {"decoder.layers.0.norm1": "norm", "decoder.embed_standart": "embed"}
        own = {"decoder.query_embed.weight": "queries", "decoder.duplicate_pooling": "weight"}
        return self.names_within(modules) | own | {"decoder.duplicate_pooling_bias": "bias"}
