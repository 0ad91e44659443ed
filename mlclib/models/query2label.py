"""Query2Label (Liu et al., arXiv 2107.10834): each label is a query that looks through the map for itself."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclib.models import base
from mlclib.models.base import AttentionMaps, Backbone, Classifier, Dropout, LabelInfo, Loss, Maps, Positive
from mlclib.models.transformer import DecodedOutput, Layer, check_heads


@dataclass(frozen=True)
class Options(base.Options):
    """width: D, of the transformer; the published one is that of ResNet's layer 4. feedforward, heads, encoder_layers,
    decoder_layers, dropout: of its layers.

    input_projection: a 1 x 1 convolution from the map's channels to D even where they are as many (the authors'
    --keep_input_proj); where they are not there always is one.
    """

    width: Annotated[int, Field(ge=4, multiple_of=4)] = 2048  # a sine and a cosine for rows and for columns
    feedforward: Positive = 8192
    heads: Positive = 4
    encoder_layers: base.Count = 1
    decoder_layers: Positive = 2
    input_projection: bool = False
    dropout: Dropout = 0.1

    def __post_init__(self):
        check_heads(self.width, self.heads)


class Query2Label(Classifier):
    """Cells x with sine positions p are encoded (query = key = x + p, value = x); label queries q are decoded from them
    by cross-attention (query = t + q, key = memory + p, value = memory, t = 0 at first), normed, and each decided on by
    a weight vector and a bias of its own.

    The paper's decoder has self-attention among the labels; the authors' code deletes it by default, and so does this:
    no label knows of another. The positions are made for the map's own grid; the authors' are made once for one input
    size, where another is an error, and an oblong map of as many cells takes those of the square.
    """

    Options = Options
    published_loss = Loss(gamma_absent=2.0, through_weight=False, floor=1e-5, scale=1000.0)

    def __init__(self, backbone: Backbone, label_info: LabelInfo, options: Options, loss: Loss):
        super().__init__(backbone, options, loss)
        channels, width = backbone.channels[options.layer], options.width
        project = options.input_projection or channels != width
        self.input_projection = nn.Conv2d(channels, width, 1) if project else nn.Identity()
        sizes = (width, options.heads, options.feedforward, options.dropout)
        self.encoder = nn.ModuleList([Layer(*sizes) for _ in range(options.encoder_layers)])
        self.decoder = nn.ModuleList([Layer(*sizes) for _ in range(options.decoder_layers)])
        # As the authors draw it: over each attention's three matrices as one.
        for matrix in (p for p in (*self.encoder.parameters(), *self.decoder.parameters()) if p.dim() > 1):
            nn.init.xavier_uniform_(matrix)
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(label_info.count, width))
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(1, label_info.count, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, label_info.count).uniform_(-bound, bound))

    def encode(self, map: Tensor) -> Tensor:
        """A map [B, F, h, w] -> memory [B, h w, D]."""
        cells = self.input_projection(map).flatten(2).transpose(1, 2)
        places = positions(*map.shape[2:], self.options.width, map.device)
        for layer in self.encoder:
            placed = cells + places
            cells, _ = layer(cells, placed, placed, cells)
        return cells

    def decode(self, queries: Tensor, memory: Tensor, map: Tensor, weights: bool = False) -> tuple[Tensor, Any]:
        """Queries [B, K, D], which do not know of each other -> [B, K, D], and with `weights` the last layer's
        attention [B, K, h w].
        """
        placed = memory + positions(*map.shape[2:], self.options.width, map.device)
        decoded, attention = torch.zeros_like(queries), None
        for layer in self.decoder:
            decoded, attention = layer(decoded, decoded + queries, placed, memory, weights)
        return self.norm(decoded), attention

    def classify(self, maps: Maps) -> DecodedOutput:
        map = maps[self.options.layer]
        memory = self.encode(map)
        decoded, _ = self.decode(self.queries.expand(memory.shape[0], -1, -1), memory, map)
        return DecodedOutput(((decoded * self.weight).sum(2) + self.bias).float(), memory)

    def embeddings(self) -> tuple[None, Tensor]:
        return None, self.queries

    def own_maps(self, maps: Maps, output: DecodedOutput, labels: Tensor, group: int | None = None) -> AttentionMaps:
        """ "cross-attention": where the label's query looks in the last decoder layer, the mean of the heads."""
        map = maps[self.options.layer]
        with torch.no_grad():
            _, attention = self.decode(self.queries[labels][:, None], output.memory, map, weights=True)
        return self.on_its_layer("cross-attention", attention.view(-1, *map.shape[2:]))

    def authors_names(self) -> dict[str, str]:
        modules = {"transformer.decoder.norm": "norm", "input_proj": "input_projection"}
        parts = {"encoder": ("self_attn", ("norm1", "norm2")), "decoder": ("multihead_attn", ("norm2", "norm3"))}
        for part, names in parts.items():
            for i, layer in enumerate(self.get_submodule(part)):
                modules |= layer.authors_modules(f"transformer.{part}.layers.{i}", f"{part}.{i}", *names)
        backbone = self.resnet_names("backbone.0.body.")  # its norms are frozen, and so count no batches
        backbone = {theirs: ours for theirs, ours in backbone.items() if not theirs.endswith("num_batches_tracked")}
        own = {"query_embed.weight": "queries", "fc.W": "weight", "fc.b": "bias"}
        return backbone | self.names_within(modules) | own

    def authors_constants(self) -> dict[str, tuple[int | None, ...]]:
        return {"backbone.1.pe": (1, self.options.width, None, None)}  # positions, on the grid of their input size


def positions(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """Sine positions of a grid, float32 [h w, size]: half of the channels tell the row, half the column.

    Row i of h is the angle 2 pi (i + 1) / h over 10000^(2k / (size / 2)), its sine and its cosine in turn (DETR, Carion
    et al., ECCV 2020).
    """
    rates = 10000 ** (torch.arange(0, size // 2, 2, device=device) / (size // 2))  # [size / 4]

    def waves(count: int) -> Tensor:  # [count, size / 2]
        angles = 2 * torch.pi * torch.arange(1, count + 1, device=device)[:, None] / (count + 1e-6) / rates
        return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)

    rows, columns = waves(height)[:, None].expand(-1, width, -1), waves(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), 2).flatten(0, 1)
