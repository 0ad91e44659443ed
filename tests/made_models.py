"""Small models on the backbone test_resnet, and maps and targets for them."""

import numpy as np
import torch

from mlclib import models
from mlclib.models.backbones import STRIDES

CHANNELS = {2: 48, 3: 192, 4: 96}  # of test_resnet
SMALL = {
    "msrn": {"width": 16},
    "ml_gcn": {"hidden": 16},
    "add_gcn": {"width": 16},
    "query2label": {"width": 16, "feedforward": 32},
    "ml_decoder": {"width": 16, "feedforward": 32},
    "ssgrl": {"width": 16},
}


def label_info(labels, size=50):
    """Keyword arguments of models.build: label vectors [C, size] and the co-occurrence of 60 drawn images."""
    rng = np.random.default_rng(0)
    shown = rng.uniform(size=(60, labels)) < rng.uniform(0.1, 0.6, labels)
    counts = shown.astype(int).T @ shown
    totals = counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    return {"label_vectors": 0.4 * rng.standard_normal((labels, size)), "cooccurrence": (counts, totals)}


def build(name, labels=10, seed=0, **options):
    torch.manual_seed(seed)
    count = labels if isinstance(labels, int | np.integer) else len(labels)
    if name == "msrn" and count < 5:
        options["group_ratio"] = 0.0  # which its own error asks for
    options = {"backbone": "test_resnet", **label_info(count), **SMALL.get(name, {}), **options}
    return models.build(name, labels=labels, **options)


def some_maps(batch=4, height=128, width=None):
    """Maps of images of this size as the backbone gives them, non-negative and sparse."""
    torch.manual_seed(0)
    sides = {k: (height // stride, (width or height) // stride) for k, stride in STRIDES.items()}
    return {k: torch.randn(batch, channels, *sides[k]).relu() for k, channels in CHANNELS.items()}


def some_targets(batch=4, labels=10):
    drawn = np.random.default_rng(1).choice([-1, 0, 1], (batch, labels), p=[0.6, 0.1, 0.3])
    return torch.as_tensor(drawn.astype(np.int8))
