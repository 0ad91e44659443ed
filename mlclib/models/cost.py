"""What a model costs, counted: the parameters that its head learns, and multiply-adds per image."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mlclib.models.base import Classifier


class Cost(NamedTuple):
    """parameters: those that the head learns; head, backbone: multiply-adds per image."""

    parameters: int
    head: int
    backbone: int


def cost(model: Classifier, input_size: int) -> Cost:
    """The cost of a model for images of this side, in pixels; the model's mode and weights stay as they are.

    Example:
        >>> from mlclib import models
        >>> cost(models.build("gmp", labels=20, backbone="resnet18"), 64)
        Cost(parameters=10260, head=10240, backbone=148045824)
    """
    backbone = {id(p) for p in model.backbone.parameters()}
    learnt = sum(p.numel() for p in model.parameters() if id(p) not in backbone and p.requires_grad)
    training, maps = model.training, {}
    images = torch.zeros(2, 3, input_size, input_size, device=next(model.backbone.parameters()).device)
    model.eval()
    with torch.no_grad():
        whole = multiply_adds(lambda: maps.update(model.backbone(images)))
        head = head_multiply_adds(model, maps)
    model.train(training)
    return Cost(learnt, head, whole // 2)


def head_multiply_adds(model: Classifier, maps: Mapping[int, Tensor]) -> int:
    """Multiply-adds of the head an image, on maps of two or more: those that the second takes more than the first.

    So what is made once per batch (the classifiers of ML-GCN, the label graph of MSRN) counts nothing.
    """
    one, two = ({layer: map[:count] for layer, map in maps.items()} for count in (1, 2))
    return multiply_adds(lambda: model.classify(two)) - multiply_adds(lambda: model.classify(one))


def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of the products in `run` (matrices, convolutions, attention), by the shapes of its tensors.

    Not what is done element by element, nor DSDL's solve.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not counted on a CPU
        run()
    return counter.get_total_flops() // 2
