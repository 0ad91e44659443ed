"""Semantic pooling (MSRN, section 3.3), without the [B, locations, nodes, channels] tensors of its plain formulation.

For a node n (a label or group embedding), a channel d and the locations i of a map p:
w_i = softmax_i(p_id n_d) and r_d = sum_i w_i p_id. With g the gradient of r, both gradients follow from w alone:
dp_i = sum over nodes of g w_i (1 + n (p_i - r)) and dn = g sum_i w_i (p_i - r)^2, the variance of p under w.
So only the inputs, r and the logarithm of the softmax's denominator are kept, and w is made again, a few channels at
a time.
"""

import torch
from torch import Tensor

try:
    from mlclib.models import pooling_triton
except ImportError:  # torch was installed without Triton
    pooling_triton = None

BLOCK = 2**18  # elements of w at a time
LEAST = -60.0  # exponent: e^-60 adds nothing to a sum of 1 or more, and processors are slow at what underflows


def semantic_pooling(features: Tensor, nodes: Tensor) -> Tensor:
    """Pool features [B, N, D] for each of nodes [K, D] -> [B, K, D], of the wider of their two dtypes.

    Sums are in float32 (float64 for float64 inputs) whatever the dtypes and autocast. Between forward and backward
    it keeps [B, N, D] and [B, K, D] alone. A Triton kernel on CUDA, a loop over blocks of channels elsewhere.
    """
    return _SemanticPooling.apply(features, nodes)


def semantic_weights(features: Tensor, nodes: Tensor) -> Tensor:
    """The weights of semantic pooling, float32 [B, N, K, D], summing to 1 over the N locations.

    They are as large as this says: meant for a few nodes or channels at a time.
    """
    return torch.softmax(features[:, :, None].float() * nodes.float(), dim=1)


class _SemanticPooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, nodes: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            pooled, logsum = _kernels(features, nodes).forward(features, nodes)
        ctx.save_for_backward(features, nodes, pooled, logsum)
        return pooled.to(torch.promote_types(features.dtype, nodes.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        features, nodes, pooled, logsum = ctx.saved_tensors
        with torch.autocast(features.device.type, enabled=False):
            return _kernels(features, nodes).backward(features, nodes, pooled, logsum, grad.to(pooled.dtype))


def _kernels(features: Tensor, nodes: Tensor):
    return pooling_triton if pooling_triton and pooling_triton.runs_on(features, nodes) else _Blocks


class _Blocks:
    """The operation on any device: blocks of channels, of one image or several, whose weights stay in the cache."""

    @staticmethod
    def each(features: Tensor, nodes: Tensor):
        """Yield (images, channels, p [I, d, 1, N], n [d, K, 1]) in the dtype of the sums; weights are [I, d, K, N]."""
        wide, (batch, locations, width) = _wide(features, nodes), features.shape
        columns = nodes.to(wide).T[..., None]
        step = max(1, BLOCK // max(1, locations * len(nodes)))  # maps of one channel
        many = max(1, step // max(1, width))
        for first in range(0, width, step):
            channels = slice(first, first + step)
            for start in range(0, batch, many):
                images = slice(start, start + many)
                maps = features.mT[images, channels].to(wide).contiguous()
                yield images, channels, maps[:, :, None], columns[channels]

    @classmethod
    def forward(cls, features: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        pooled = features.new_empty((len(features), *nodes.shape), dtype=_wide(features, nodes))
        logsum = torch.empty_like(pooled)
        for images, channels, p, n in cls.each(features, nodes):
            top = torch.where(n > 0, p.amax(3, keepdim=True), p.amin(3, keepdim=True)) * n  # max over i of p_i n
            w = torch.addcmul(-top, p, n).clamp_(min=LEAST).exp_()
            sums = w @ torch.cat((p, torch.ones_like(p)), 2).mT  # [I, d, K, 2]: of w p, and of w
            pooled[images, :, channels] = (sums[..., 0] / sums[..., 1]).mT
            logsum[images, :, channels] = (top[..., 0] + sums[..., 1].log()).mT
        return pooled, logsum

    @classmethod
    def backward(cls, features: Tensor, nodes: Tensor, pooled: Tensor, logsum: Tensor, grad: Tensor):
        d_features = torch.empty_like(features)
        d_nodes = torch.zeros_like(pooled[0])
        for images, channels, p, n in cls.each(features, nodes):
            r, log, g = (x[images, :, channels].mT[..., None] for x in (pooled, logsum, grad))  # [I, d, K, 1]
            w = torch.addcmul(-log, p, n).clamp_(min=LEAST).exp_()
            away = p - r
            d_p = g.mT @ w  # [I, d, 1, N]
            d_p += (g * n).mT @ w.mul_(away)
            d_features[images, :, channels] = d_p[:, :, 0].mT.to(features.dtype)
            d_nodes[:, channels] += (g[..., 0] * torch.linalg.vecdot(w, away)).sum(0).T
        return d_features, d_nodes.to(nodes.dtype)


def _wide(features: Tensor, nodes: Tensor) -> torch.dtype:
    """The dtype of the sums."""
    return torch.promote_types(torch.promote_types(features.dtype, nodes.dtype), torch.float32)
