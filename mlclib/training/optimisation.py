"""The optimizer of a recipe, and the moving average of weights."""

from collections.abc import Callable
from typing import Any

import torch

from mlclib.config import Training


def optimizer_of(groups: list[dict[str, Any]], config: Training) -> torch.optim.Optimizer:
    """The recipe's optimizer of a model's parameter groups; without `decay_biases`, vectors have no weight decay."""
    if not config.decay_biases:
        groups = [
            {**group, "params": [p for p in group["params"] if (p.ndim > 1) == wide], **decay}
            for group in groups
            for wide, decay in ((True, {}), (False, {"weight_decay": 0.0}))
        ]
    for group in groups:
        group["initial_lr"] = group["lr"]
    shared = {"weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, **shared)
    return (torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW)(groups, **shared)


def warmed_up(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]:
    """An average of weights that forgets its start: after n updates it decays by min(decay, (1 + n) / (10 + n)), as in
    TensorFlow's ExponentialMovingAverage with num_updates. Counters (integers) are taken as they are.
    """

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        kept = min(decay, (1 + int(updates)) / (10 + int(updates)))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - kept)
            else:
                mean.copy_(value)

    return average
