import os
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlclib.models import pooling
from mlclib.models.pooling import semantic_pooling, semantic_weights


def plain(features, nodes):
    """The published formulation, [B, N, K, D] and all."""
    weights = (features[:, :, None] * nodes).softmax(1)
    return (weights * features[:, :, None]).sum(1)


def drawn(batch=2, locations=30, nodes=5, width=8, scale=1.0, dtype=torch.float32, channels_last=False):
    torch.manual_seed(0)
    features = scale * torch.randn(batch, width, locations).mT
    if channels_last:
        features = features.contiguous()
    return features.to(dtype).requires_grad_(), torch.randn(nodes, width).requires_grad_()


def derived(function, features, nodes):
    """The pooled [B, K, D] and the gradients of features and nodes for fixed gradients of the pooled."""
    pooled = function(features, nodes)
    ones = torch.linspace(-1, 1, pooled.numel(), dtype=pooled.dtype, device=pooled.device).view_as(pooled)
    return pooled.detach(), *torch.autograd.grad(pooled, (features, nodes), ones)


def in_float64(features, nodes):
    return derived(plain, *(x.detach().cpu().double().requires_grad_() for x in (features, nodes)))


def assert_close(ours, exact, tolerance):
    for a, b in zip(ours, exact, strict=True):
        assert (a.cpu().double() - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("block", [1, 400, 2**18])
def test_it_equals_the_plain_formulation_to_float32_rounding(block, channels_last, monkeypatch):
    monkeypatch.setattr(pooling, "BLOCK", block)
    features, nodes = drawn(scale=3, channels_last=channels_last)
    ours = derived(semantic_pooling, features, nodes)
    assert_close(ours, in_float64(features, nodes), 2e-6)
    assert ours[1].stride() == features.stride()


def test_its_gradients_pass_gradcheck_in_float64():
    features, nodes = (x.detach().double().requires_grad_() for x in drawn(locations=7, nodes=3, width=4))
    assert torch.autograd.gradcheck(semantic_pooling, (features, nodes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_are_summed_in_float32(dtype):
    features, nodes = drawn(locations=2000, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        pooled, d_features, d_nodes = derived(semantic_pooling, features, nodes)
    exact = in_float64(features, nodes)
    assert (pooled.dtype, d_features.dtype, d_nodes.dtype) == (torch.float32, dtype, torch.float32)
    assert_close((pooled, d_nodes), (exact[0], exact[2]), 2e-6)
    assert_close((d_features,), (exact[1],), torch.finfo(dtype).eps)  # rounded once, when it is returned


def test_large_values_neither_overflow_nor_cancel():
    features, nodes = drawn(scale=200)
    features = (features.detach() + 1000).requires_grad_()
    ours, exact = derived(semantic_pooling, features, nodes), in_float64(features, nodes)
    assert all(x.isfinite().all() for x in ours)
    assert_close(ours[:1], exact[:1], 1e-4)  # float32 rounds an exponent of 1e3 to 1e-4


def test_between_forward_and_backward_it_keeps_no_tensor_of_locations_times_nodes():
    features, nodes = drawn(locations=300, nodes=40, width=16)
    kept = {}
    keep = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x)
    with keep:
        pooled = semantic_pooling(features, nodes)
    assert sum(x.numel() for x in kept.values()) <= features.numel() + nodes.numel() + 2 * pooled.numel()


def test_no_tensor_it_makes_is_as_large_as_the_plain_formulation_s():
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            self.elements = max([self.elements, *(x.numel() for x in tree_leaves(result) if torch.is_tensor(x))])
            return result

    features, nodes = drawn(locations=784, nodes=24, width=512)
    with Largest() as ours:
        derived(semantic_pooling, features, nodes)
    with Largest() as theirs:
        derived(plain, features, nodes)
    assert theirs.elements == 2 * 784 * 24 * 512
    assert ours.elements <= max(features.numel(), pooling.BLOCK)


def test_its_weights_are_those_of_the_pooling():
    features, nodes = drawn()
    weights = semantic_weights(features, nodes)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 8))
    torch.testing.assert_close((weights * features[:, :, None]).sum(1), semantic_pooling(features, nodes))


def test_one_location_is_returned_as_it_is():
    features, nodes = drawn(locations=1)
    pooled, d_features, d_nodes = derived(semantic_pooling, features, nodes)
    torch.testing.assert_close(pooled, features.detach().expand(2, 5, 8))
    assert torch.equal(d_nodes, torch.zeros_like(nodes))


INTERPRETED = """
import torch, test_pooling as t
from mlclib.models import pooling
for shape, channels_last in (((2, 70, 3, 40), False), ((1, 30, 5, 8), True)):
    features, nodes = t.drawn(*shape, channels_last=channels_last)
    assert pooling.pooling_triton.runs_on(features, nodes)
    t.assert_close(t.derived(pooling.semantic_pooling, features, nodes), t.in_float64(features, nodes), 2e-6)
features, nodes = t.drawn(1, 20, 2, 8, dtype=torch.bfloat16)
ours, exact = t.derived(pooling.semantic_pooling, features, nodes), t.in_float64(features, nodes)
t.assert_close((ours[0], ours[2]), (exact[0], exact[2]), 2e-6)
assert ours[1].dtype == torch.bfloat16
t.assert_close(ours[1:2], exact[1:2], 2**-7)
double = [x.detach().double() for x in (features, nodes)]
assert not pooling.pooling_triton.runs_on(*double)
"""

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch, test_pooling as t
from mlclib.models import pooling
assert pooling.pooling_triton is None
features, nodes = t.drawn()
t.assert_close(t.derived(pooling.semantic_pooling, features, nodes), t.in_float64(features, nodes), 2e-6)
"""


def run_here(code, **environment):
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(pooling.pooling_triton is None, reason="Triton is not installed")
def test_the_triton_kernels_interpreted_on_the_cpu_equal_the_plain_formulation():
    run_here(INTERPRETED, TRITON_INTERPRET="1")


def test_without_triton_it_goes_on_with_the_loop():
    run_here(WITHOUT_TRITON)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("nodes", [24, 84])
def test_the_triton_kernels_on_a_gpu_equal_the_plain_formulation(nodes, channels_last):
    features, nodes = drawn(2, 784, nodes, 512, channels_last=channels_last)
    on_device = [x.detach().cuda().requires_grad_() for x in (features, nodes)]
    assert pooling.pooling_triton.runs_on(*on_device)
    assert_close(derived(semantic_pooling, *on_device), in_float64(features, nodes), 1e-5)
