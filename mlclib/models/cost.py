"""What a model costs, counted: the parameters that its head learns, and multiply-adds an image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mlclib.models.base import Classifier


class Cost(NamedTuple):
    """parameters: those that the head learns; head, backbone: multiply-adds an image."""

    parameters: int
    head: int
    backbone: int


def cost(model: Classifier, input_size: int) -> Cost:
    """The cost of a model for images of this side, in pixels; the model's mode and weights stay as they are.

    An image's multiply-adds are those that one more image in a batch takes, so that what is made once a batch (the
    classifiers of ML-GCN, the label graph of MSRN) counts nothing. Counted are products: matrices, convolutions,
    attention; not what is done element by element, nor DSDL's solve.
    """
    backbone = {id(p) for p in model.backbone.parameters()}
    learnt = sum(p.numel() for p in model.parameters() if id(p) not in backbone and p.requires_grad)
    training = model.training
    model.eval()
    with torch.no_grad():
        images = torch.zeros(2, 3, input_size, input_size, device=next(model.backbone.parameters()).device)
        maps = {}
        whole = multiply_adds(lambda: maps.update(model.backbone(images)))
        two = multiply_adds(lambda: model.classify(maps))
        one = multiply_adds(lambda: model.classify({layer: map[:1] for layer, map in maps.items()}))
    model.train(training)
    return Cost(learnt, two - one, whole // 2)


def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of the products in `run`, by the shapes of its tensors."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not counted on a CPU
        run()
    return counter.get_total_flops() // 2
