"""Semantic pooling is its plain formulation, in value and gradient, at any dtype and layout."""

import pytest
import torch

from mlclib.models.pooling import semantic_pooling, semantic_weights

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def plain(features, nodes):
    """The published formulation, [B, N, K, D] and all."""
    weights = (features[:, :, None] * nodes).softmax(1)
    return (weights * features[:, :, None]).sum(1)


def drawn(batch=2, locations=30, nodes=5, width=8, scale=1.0, dtype=torch.float32, channels_last=False, device="cpu"):
    torch.manual_seed(0)
    features = scale * torch.randn(batch, width, locations).mT
    if channels_last:
        features = features.contiguous()
    nodes = torch.randn(nodes, width)
    return features.to(device, dtype).requires_grad_(), nodes.to(device).requires_grad_()


def derived(function, features, nodes):
    """The pooled [B, K, D] and the gradients of features and nodes for fixed gradients of the pooled."""
    pooled = function(features, nodes)
    given = torch.linspace(-1, 1, pooled.numel(), dtype=pooled.dtype, device=pooled.device).view_as(pooled)
    return pooled.detach(), *torch.autograd.grad(pooled, (features, nodes), given)


def in_float64(features, nodes):
    return derived(plain, *(x.detach().cpu().double().requires_grad_() for x in (features, nodes)))


def assert_close(ours, exact, tolerance):
    for a, b in zip(ours, exact, strict=True):
        assert (a.cpu().double() - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("locations", "nodes", "width"), [(30, 5, 8), (784, 24, 64), (196, 84, 3), (1, 2, 4)])
def test_it_equals_the_plain_formulation_to_float32_rounding(locations, nodes, width, channels_last, device):
    inputs = drawn(2, locations, nodes, width, scale=3, channels_last=channels_last, device=device)
    ours, exact = derived(semantic_pooling, *inputs), in_float64(*inputs)
    if locations == 1:  # is returned as it is, whatever the node
        assert ours[2].abs().max() < 1e-6
        ours, exact = ours[:2], exact[:2]
    assert_close(ours, exact, 1e-5 if device == "cpu" else 1e-4)


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
    assert_close((pooled, d_nodes), (exact[0], exact[2]), 3e-6)
    assert_close((d_features,), (exact[1],), torch.finfo(dtype).eps)  # rounded once, when it is returned


def test_large_values_neither_overflow_nor_cancel():
    features, nodes = drawn(scale=200)
    features = (features.detach() + 1000).requires_grad_()
    ours, exact = derived(semantic_pooling, features, nodes), in_float64(features, nodes)
    assert all(x.isfinite().all() for x in ours)
    assert_close(ours[:1], exact[:1], 1e-4)  # float32 rounds an exponent of 1e3 to 1e-4


def test_between_forward_and_backward_it_keeps_no_tensor_of_locations_times_nodes():
    features, nodes = drawn(locations=300, nodes=40, width=16)
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.setdefault(x.data_ptr(), x), lambda x: x):
        pooled = semantic_pooling(features, nodes)
    assert sum(x.untyped_storage().nbytes() // 4 for x in saved.values()) <= 3 * (features.numel() + pooled.numel())


def test_its_weights_are_those_of_the_pooling():
    features, nodes = drawn()
    weights = semantic_weights(features, nodes)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 8))
    torch.testing.assert_close((weights * features[:, :, None]).sum(1), semantic_pooling(features, nodes))
