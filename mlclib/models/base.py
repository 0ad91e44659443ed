"""What every classifier shares: its output, its loss's target convention, its options and its parameter groups."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlclib.errors import UserError, unknown
from mlclib.models.backbones import Backbone

DIFFICULT = ("present", "ignore")


@dataclass
class Output:
    """What a classifier returns: logits float32 [B, C]; a model adds what its loss and its pictures need."""

    logits: Tensor


def read_options(kind: type, options: Mapping[str, Any], where: str) -> Any:
    """An instance of the options dataclass `kind`, of the types of its defaults.

    Raises UserError for a key it does not know (naming those it knows) and for a value of another type.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    read = {}
    for key, value in options.items():
        if key not in defaults:
            raise unknown("option", key, defaults, where)
        wanted = type(defaults[key])
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is tuple and isinstance(value, list):
            value = tuple(value)
        if type(value) is not wanted:
            raise UserError(f"option {key!r} of {where} is {value!r}; give a {wanted.__name__}, like {defaults[key]!r}")
        read[key] = value
    return kind(**read)


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise UserError unless the option `key` has one of the known values."""
    if value not in known:
        raise unknown(f"value of {key}", value, known)


def soft_margin(logits: Tensor, targets: Tensor, difficult: str) -> Tensor:
    """Multi-label soft margin loss of logits [B, C] against int8 targets [B, C]: the mean binary cross-entropy.

    A difficult label (0) counts as present, which is how the authors of MSRN and DSDL train, or ("ignore")
    is left out of the mean.
    """
    present = targets >= 0 if difficult == "present" else targets > 0
    terms = F.binary_cross_entropy_with_logits(logits.float(), present.float(), reduction="none")
    if difficult == "present":
        return terms.mean()
    known = targets != 0
    return (terms * known).sum() / known.sum().clamp(min=1)


def asymmetric(logits: Tensor, targets: Tensor, difficult: str) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, eq. 7) of logits [B, C] against int8 targets [B, C], as a mean.

    Focusing 0 for present and 4 for absent labels, whose probability is first shifted down by 0.05: easy negatives
    do not count. The authors sum where this takes the mean, so that learning rates are those of `soft_margin`.
    """
    present = targets >= 0 if difficult == "present" else targets > 0
    logits = logits.float()
    shifted = (logits.sigmoid() - 0.05).clamp(min=0)
    terms = torch.where(present, -F.logsigmoid(logits), -(shifted**4) * torch.log1p(-shifted))
    known = torch.ones_like(present) if difficult == "present" else targets != 0
    return (terms * known).sum() / known.sum().clamp(min=1)


LOSSES = {"soft-margin": soft_margin, "asymmetric": asymmetric}


class Classifier(nn.Module):
    """A backbone and a head on its maps. Subclasses give `classify`, and `loss` where it has more than the soft margin.

    A frozen backbone's maps may be cached and fed to `classify` without it.
    sums_over_batch: whether the loss holds more than a mean over images, so that parts of a batch do not add up to it.
    """

    sums_over_batch = False

    def __init__(self, backbone: Backbone, options: Any):
        super().__init__()
        self.backbone = backbone
        self.options = options
        self.label_loss = "soft-margin"  # or another of LOSSES

    def forward(self, inputs: Tensor | Mapping[int, Tensor]) -> Output:
        """Images float32 [B, 3, H, W], normalised as `backbones.preprocessing` says, or cached maps -> Output."""
        return self.classify(inputs if isinstance(inputs, Mapping) else self.backbone(inputs))

    def classify(self, maps: Mapping[int, Tensor]) -> Output:
        """maps: {layer: [B, C_layer, h, w]}, as the backbone gives them -> Output."""
        raise NotImplementedError

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Training loss (a scalar) of an output against int8 targets [B, C]: 1 present, 0 difficult, -1 absent."""
        return self.label_term(output.logits, targets)

    def label_term(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits [B, C] against int8 targets [B, C] that every model's loss starts from."""
        return LOSSES[self.label_loss](logits, targets, self.options.difficult)

    def parameter_groups(self, lr: float, backbone_factor: float) -> list[dict]:
        """Optimizer groups: the head at `lr`, and the backbone, unless it is frozen, at `lr * backbone_factor`."""
        backbone = {id(p) for p in self.backbone.parameters()}
        head = [p for p in self.parameters() if id(p) not in backbone]
        learnt = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": head, "lr": lr}]
        if learnt:
            groups.append({"params": learnt, "lr": lr * backbone_factor})
        return groups

    def authors_names(self) -> dict[str, str]:
        """{name in the authors' state dict: name in ours}."""
        raise UserError(f"{type(self).__name__} has no checkpoint of its authors; those of msrn and dsdl can be loaded")

    def authors_unused(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of what the authors' state dict holds and their published forward pass never uses."""
        return {}


def stored(module: nn.Module, name: str, value: Tensor, learnt: bool) -> None:
    """Give `module` the tensor `name`: a parameter when it is learnt, a buffer when it is fixed."""
    if learnt:
        module.register_parameter(name, nn.Parameter(value.clone()))
    else:
        module.register_buffer(name, value)


def float32(tensor: Tensor):
    """A context in which autocast is off, for sums and solves that half precision would spoil."""
    return torch.autocast(tensor.device.type, enabled=False)
