"""Semantic pooling on CUDA: the sums of `pooling._Blocks` as three Triton kernels, float32 whatever the inputs.

Each program keeps one tile of the map, [BLOCK_N locations, BLOCK_D channels], in registers. Nothing of size
locations x nodes is ever written, and no sum depends on the order in which programs end.
TRITON_INTERPRET=1, set before the first import of Triton, runs them on the CPU.
"""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_N, BLOCK_D = 64, 32


def runs_on(features: Tensor, nodes: Tensor) -> bool:
    """Whether the kernels take these: on CUDA or interpreted, and neither in float64."""
    on_device = features.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    return on_device and torch.float64 not in (features.dtype, nodes.dtype)


def forward(features: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """features [B, N, D], nodes [K, D] -> pooled [B, K, D] and the logarithm of the softmax's denominators."""
    batch, locations, width = features.shape
    pooled = torch.empty((batch, *nodes.shape), dtype=torch.float32, device=features.device)
    logsum = torch.empty_like(pooled)
    with torch.cuda.device_of(features):
        _forward[len(nodes), triton.cdiv(width, BLOCK_D), batch](
            features, nodes.float().contiguous(), pooled, logsum, *features.stride(), locations, width, BLOCK_N, BLOCK_D
        )
    return pooled, logsum


def backward(features: Tensor, nodes: Tensor, pooled: Tensor, logsum: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of features and nodes, in their dtypes, from the gradient [B, K, D] of the pooled."""
    batch, locations, width = features.shape
    n, grad = nodes.float().contiguous(), grad.contiguous()
    d_features = torch.empty_like(features)
    d_nodes = torch.empty_like(pooled)
    columns = triton.cdiv(width, BLOCK_D)
    with torch.cuda.device_of(features):
        _backward_features[triton.cdiv(locations, BLOCK_N), columns, batch](
            features, n, pooled, logsum, grad, d_features, *features.stride(), *d_features.stride(),
            locations, len(nodes), width, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        _backward_nodes[len(nodes), columns, batch](
            features, n, pooled, logsum, grad, d_nodes, *features.stride(), locations, width, BLOCK_N, BLOCK_D
        )
    return d_features, d_nodes.sum(0).to(nodes.dtype)


@triton.jit
def _forward(p_ptr, n_ptr, r_ptr, log_ptr, sb, sn, sd, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    k, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.load(n_ptr + k * D + d, mask=d < D, other=0.0)
    top = tl.full((BLOCK_D,), -float("inf"), tl.float32)
    below = tl.zeros((BLOCK_D,), tl.float32)
    above = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, N, BLOCK_N):  # softmax in one pass: what was summed is rescaled when the maximum grows
        i = start + tl.arange(0, BLOCK_N)
        inside = (i < N)[:, None] & (d < D)[None, :]
        p = tl.load(p_ptr + image * sb + i[:, None] * sn + d[None, :] * sd, mask=inside, other=0.0).to(tl.float32)
        z = tl.where((i < N)[:, None], p * n[None, :], -float("inf"))
        higher = tl.maximum(top, tl.max(z, 0))
        w = tl.exp(z - higher[None, :])
        scale = tl.exp(top - higher)
        below = below * scale + tl.sum(w, 0)
        above = above * scale + tl.sum(w * p, 0)
        top = higher
    at = (image * tl.num_programs(0) + k) * D + d
    tl.store(r_ptr + at, above / below, mask=d < D)
    tl.store(log_ptr + at, top + tl.log(below), mask=d < D)


@triton.jit
def _backward_features(
    p_ptr, n_ptr, r_ptr, log_ptr, g_ptr, out_ptr, sb, sn, sd, ob, on, od, N, K, D,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    image = tl.program_id(2).to(tl.int64)
    inside = (i < N)[:, None] & (d < D)[None, :]
    p = tl.load(p_ptr + image * sb + i[:, None] * sn + d[None, :] * sd, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for k in range(K):
        at = (image * K + k) * D + d
        n = tl.load(n_ptr + k * D + d, mask=d < D, other=0.0)[None, :]
        r = tl.load(r_ptr + at, mask=d < D, other=0.0)[None, :]
        log = tl.load(log_ptr + at, mask=d < D, other=0.0)[None, :]
        g = tl.load(g_ptr + at, mask=d < D, other=0.0)[None, :]
        total += g * tl.exp(p * n - log) * (1 + n * (p - r))
    out = out_ptr + image * ob + i[:, None] * on + d[None, :] * od
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_nodes(
    p_ptr, n_ptr, r_ptr, log_ptr, g_ptr, out_ptr, sb, sn, sd, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    k, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    at = (image * tl.num_programs(0) + k) * D + d
    n = tl.load(n_ptr + k * D + d, mask=d < D, other=0.0)[None, :]
    r = tl.load(r_ptr + at, mask=d < D, other=0.0)[None, :]
    log = tl.load(log_ptr + at, mask=d < D, other=0.0)[None, :]
    total = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, N, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        inside = (i < N)[:, None] & (d < D)[None, :]
        p = tl.load(p_ptr + image * sb + i[:, None] * sn + d[None, :] * sd, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(tl.where(inside, tl.exp(p * n - log) * (p - r) * (p - r), 0.0), 0)
    tl.store(out_ptr + at, total * tl.load(g_ptr + at, mask=d < D, other=0.0), mask=d < D)
