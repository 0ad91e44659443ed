"""Batch norm over the parts of a batch that several processes hold."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F


class _Summed(torch.autograd.Function):
    """The sum of a tensor over all processes, and of its gradients."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _Summed.apply(gradient)


@contextmanager
def synchronised_batch_norm() -> Iterator[None]:
    """Within, F.batch_norm in training takes mean and variance over the parts of all processes.

    torch.nn.SyncBatchNorm does it on CUDA alone; gradients flow through both sums, as there.
    """
    plain = F.batch_norm

    def batch_norm(input, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        if not training:
            return plain(input, mean, var, weight, bias, training, momentum, eps)
        wide = input.float()
        over = [axis for axis in range(input.ndim) if axis != 1]
        counted = wide.new_full((1,), input.numel() / input.shape[1])
        sums = _Summed.apply(torch.cat((wide.sum(over), counted)))
        average, count = sums[:-1] / sums[-1].detach(), sums[-1].detach()
        shape = [1, -1] + [1] * (input.ndim - 2)
        away = wide - average.view(shape)
        spread = _Summed.apply((away**2).sum(over)) / count
        if mean is not None:
            with torch.no_grad():
                mean.lerp_(average.to(mean.dtype), momentum)
                var.lerp_((spread * count / (count - 1)).to(var.dtype), momentum)
        out = away * (spread + eps).rsqrt().view(shape)
        if weight is not None:
            out = out * weight.view(shape) + bias.view(shape)
        return out.to(input.dtype)

    F.batch_norm = batch_norm
    try:
        yield
    finally:
        F.batch_norm = plain
