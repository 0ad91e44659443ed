"""What the models made of transformer layers share: one post-norm layer, of self- or of cross-attention."""

from torch import Tensor, nn


class Layer(nn.Module):
    """y = LN(x + MHA(query, key, value)), then LN(y + W2 relu(W1 y)), with dropout as Vaswani et al. (NIPS 2017)."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm_attended = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """x, query: [B, K, D]; key, value: [B, N, D] -> [B, K, D], and with `weights` the mean attention of the heads,
        [B, K, N]; without, it is never held.
        """
        attended, attention = self.attention(query, key, value, need_weights=weights)
        x = self.norm_attended(x + self.dropout(attended))
        hidden = self.dropout(self.linear1(x)).relu_()  # in place, as dropout and relu commute
        return self.norm(x + self.dropout(self.linear2(hidden))), attention

    def authors_modules(self, theirs: str, ours: str, attention: str, norms: tuple[str, str]) -> dict[str, str]:
        """{the authors' name of each of the layer's modules: ours}; attention, norms: how they call those modules."""
        modules = {attention: "attention", norms[0]: "norm_attended", norms[1]: "norm"}
        modules |= {"linear1": "linear1", "linear2": "linear2"}
        return {f"{theirs}.{their}": f"{ours}.{our}" for their, our in modules.items()}


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError unless the heads share the width evenly."""
    if width % heads:
        raise ValueError(f"width {width} is no multiple of heads {heads}; choose others, as heads share it evenly")
