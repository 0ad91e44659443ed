"""The optimizer of a recipe, its learning rate, and the moving average of weights."""

import math
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


def rate_factor(config: Training, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at optimizer step `step`, counted over all epochs of `steps` steps.

    It is a function of the step alone, so resuming needs no scheduler's state.
    """
    warming = steps * config.warmup_epochs
    if step < warming:
        return (step + 1) / (warming + 1)
    done = step / (steps * config.epochs)
    if config.schedule == "step":
        return config.step_factor ** sum(step // steps >= epoch for epoch in config.step_epochs)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "one-cycle":  # linear to the top over the first fifth, then a cosine down
        return 0.04 + 0.96 * done / 0.2 if done < 0.2 else 0.5 * (1 + math.cos(math.pi * (done - 0.2) / 0.8))
    return 1.0


def warmed_up(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]:
    """An average of weights that forgets its start: after n updates it decays by min(decay, (1 + n) / (10 + n)), as in
    TensorFlow's ExponentialMovingAverage with num_updates. Counters (integers) are taken as they are.
    """

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        retained = min(decay, (1 + int(updates)) / (10 + int(updates)))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - retained)
            else:
                mean.copy_(value)

    return average
