"""What every classifier is: a backbone, a head, a loss, and what tables and figures may ask of it.

A model is one file with a dataclass of options and a subclass of `Classifier`; nothing outside that file knows it but
the registry in `mlclib/models/__init__.py`.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mlclib.common.errors import UserError, unknown
from mlclib.models.backbones import STRIDES, Backbone
from mlclib.models.losses import DIFFICULT, Loss


@dataclass
class Output:
    """What a classifier returns: logits float32 [B, C]; a model adds what its loss and its pictures need."""

    logits: Tensor


@dataclass(frozen=True)
class Shared:
    """The option of every model. difficult: a difficult label trains as "present" (as MSRN and DSDL do), "absent"
    (CSRA, SSGRL) or is left out ("ignore").
    """

    difficult: str = "present"

    def __post_init__(self):
        one_of("difficult", self.difficult, DIFFICULT)


@dataclass(frozen=True)
class Options(Shared):
    """The options of every model on one map. layer: which of the backbone's it is, of 2, 3, 4 (strides 8, 16, 32); all
    authors take 4.
    """

    layer: int = 4

    def __post_init__(self):
        super().__post_init__()
        if self.layer not in STRIDES:
            raise UserError(f"layer is {self.layer}; give one of {', '.join(map(str, STRIDES))}")


class Labels:
    """What is known of the labels before training: their number, and where given vectors and co-occurrence.

    Asking for what was not given, or has another shape, raises UserError.
    """

    def __init__(self, count: int, vectors: Any = None, cooccurrence: tuple[Any, Any] | None = None, model: str = ""):
        """vectors: [C, V]; cooccurrence: counts [C, C] with a zero diagonal and totals [C]; arrays or tensors."""
        self.count, self._vectors, self._model = count, vectors, model
        self._counts, self._totals = (None, None) if cooccurrence is None else cooccurrence

    @property
    def vectors(self) -> Tensor:
        """Label vectors, float32 [C, V]."""
        return self._matrix("label_vectors", self._vectors, (self.count, None)).float()

    @property
    def counts(self) -> Tensor:
        """In how many images labels i and j stand together, float64 [C, C]."""
        return self._matrix("co-occurrence counts", self._counts, (self.count, self.count))

    @property
    def totals(self) -> Tensor:
        """In how many images a label stands, float64 [C]."""
        return self._matrix("co-occurrence totals", self._totals, (self.count,))

    def _matrix(self, what: str, value: Any, shape: tuple[int | None, ...]) -> Tensor:
        if value is None:
            raise UserError(f"model {self._model} needs {what}; give them")
        tensor = torch.as_tensor(value, dtype=torch.float64).detach()
        wanted = "[" + ", ".join("V" if size is None else str(size) for size in shape) + "]"
        if not fits(tuple(tensor.shape), shape):
            raise UserError(f"{what} have shape {list(tensor.shape)} where model {self._model} needs {wanted}")
        if not tensor.isfinite().all():
            raise UserError(f"{what} of model {self._model} hold a value that is not finite; mend them")
        return tensor


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is the wanted one, where None stands for a side of any size."""
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))


def read_options(kind: type, options: Mapping[str, Any], where: str) -> Any:
    """An instance of the options dataclass `kind`, of the types of its defaults.

    Raises UserError for a key it does not know (naming those it knows) and for a value of another type.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    read = {}
    for key, value in options.items():
        if key not in defaults:
            raise unknown("option", key, defaults, where)
        wanted, value = type(defaults[key]), value.item() if isinstance(value, np.generic) else value
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is tuple and isinstance(value, list):
            value = tuple(value)
        if wanted is float and type(value) is float and not math.isfinite(value):
            raise UserError(f"option {key!r} of {where} is {value}; give a finite number")
        if type(value) is not wanted:
            raise UserError(f"option {key!r} of {where} is {value!r}; give a {wanted.__name__}, like {defaults[key]!r}")
        read[key] = value
    return kind(**read)


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise UserError unless the option `key` has one of the known values."""
    if value not in known:
        raise unknown(f"value of {key}", value, known)


class Classifier(nn.Module):
    """A backbone and a head on its maps. A subclass gives `Options`, `classify` and `embeddings`, and of the rest below
    what it does otherwise. It is made as `Model(backbone, labels, options, loss)`.

    A frozen backbone's maps may be cached and fed to `classify` without it. What a model knows of its labels it keeps
    among its buffers or parameters, its label vectors under the name `label_vectors`, so that a run's weights hold it.

    published_loss: the loss that its authors train with, which configurations call "own".
    sums_over_batch: whether the loss holds more than `share` can put together from the parts of a batch.
    """

    Options: ClassVar[type] = Options
    published_loss: ClassVar[Loss] = Loss()
    sums_over_batch: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, options: Any, loss: Loss):
        super().__init__()
        self.backbone, self.options, self.label_loss = backbone, options, loss

    @classmethod
    def layers(cls, options: Any) -> tuple[int, ...]:
        """Which of the backbone's maps the model takes, of 2, 3 and 4 (strides 8, 16, 32)."""
        return (options.layer,)

    @classmethod
    def label_graph(cls, labels: Labels, options: Any) -> Tensor | None:
        """The graph of the labels that the model works on, float32 [C, C], 0 where there is no edge; None without one.

        Row i holds what label i learns from.
        """
        return None

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
        return self.label_loss(logits, targets, self.options.difficult)

    def share(self, part: Tensor, batch: Tensor) -> float:
        """How much the loss of a part of a batch counts in the loss of the whole; int8 targets [P, C] and [B, C].

        The shares of a batch's parts sum to 1, but for a loss that is a sum: that of a whole is the sum of its parts'.
        """
        if self.label_loss.reduction == "sum":
            return 1.0
        if self.options.difficult == "ignore":
            return int((part != 0).sum()) / max(1, int((batch != 0).sum()))
        return len(part) / len(batch)

    def parameter_groups(self, lr: float, backbone_factor: float) -> list[dict]:
        """Optimizer groups: the head at `lr`, and the backbone, unless it is frozen, at `lr * backbone_factor`."""
        backbone = {id(p) for p in self.backbone.parameters()}
        head = [p for p in self.parameters() if id(p) not in backbone and p.requires_grad]
        learnt = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": head, "lr": lr}]
        if learnt:
            groups.append({"params": learnt, "lr": lr * backbone_factor})
        return groups

    # What figures, tables and exports ask.

    def embeddings(self) -> tuple[Tensor | None, Tensor]:
        """The labels' vectors before training [C, V] (None for a model that starts without) and as learnt [C, D]."""
        raise NotImplementedError

    def assignment(self) -> Tensor:
        """The soft assignment of labels to groups [C, G]; G is 0 for a model without groups."""
        return torch.zeros(len(self.embeddings()[1]), 0)

    def own_maps(
        self, maps: Mapping[int, Tensor], output: Output, labels: Tensor, group: int | None = None
    ) -> dict[tuple[str, str], tuple[Tensor, float]]:
        """The model's own attention, where it has some: (method, layer) -> map [B, h, w] and the side of its cells.

        maps, output: what was classified, and the result with its graph; labels: int64 [B], a label an image; group: a
        group to look for instead (its number). Maps are not negative; the side of a cell is in pixels of the input;
        layer is "2", "3", "4", or "" for a model whose map belongs to no single layer.
        """
        return {}

    def exported(self) -> nn.Module:
        """The module, images [B, 3, S, S] -> logits [B, C], that an ONNX file is made of."""
        return _LogitsAlone(self)

    def size_warnings(self, input_size: int) -> list[str]:
        """What of an input of this side, in pixels, the model does not use, a sentence each."""
        return []

    # The authors' own checkpoints.

    def authors_names(self) -> dict[str, str]:
        """{name in the authors' state dict: name in ours}."""
        raise UserError(f"{type(self).__name__} has no checkpoint of its authors to load")

    def authors_constants(self) -> dict[str, tuple[int | None, ...]]:
        """{name: shape} of what the authors' state dict holds and the model computes for itself, so that a state dict
        may lack it; None for a side of any size.
        """
        return {}

    def authors_unused(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of what the authors' state dict holds and their forward pass never uses."""
        return {}


class _LogitsAlone(nn.Module):
    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


class Affine(nn.Module):
    """A model whose logits are affine in its pooled map, as it is after training: one matrix and one bias."""

    def __init__(self, model: Classifier, pool: str):
        """pool: "amax" or "mean", over the cells."""
        super().__init__()
        self.backbone, self.pool, self.layer = model.backbone, pool, model.options.layer
        channels = model.backbone.channels[self.layer]
        with torch.no_grad():  # so unit features give the matrix
            zero = model.classify({self.layer: torch.zeros(1, channels, 1, 1)}).logits
            unit = model.classify({self.layer: torch.eye(channels)[:, :, None, None]}).logits
        self.register_buffer("matrix", unit - zero)
        self.register_buffer("bias", zero[0])

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.backbone(images)[self.layer], self.pool)((2, 3)) @ self.matrix + self.bias


def resnet_names(model: Classifier, prefix: str, stem: Mapping[str, str] | None = None) -> dict[str, str]:
    """{name in the authors' state dict: ours} of a ResNet backbone that they keep under `prefix`.

    stem: how they call its first-level modules (conv1, bn1, layer1 to layer4) where it is otherwise.
    """
    names = {}
    for name in model.backbone.net.state_dict():
        first, rest = name.split(".", 1)
        names[f"{prefix}{(stem or {}).get(first, first)}.{rest}"] = f"backbone.net.{name}"
    return names


def edges_lost(model: str, backbone: Backbone, layers: Iterable[int], input_size: int) -> list[str]:
    """What a model that pools these layers' maps 2 x 2 does not see of an input of this side, a sentence a layer."""
    cells = {layer: -(-input_size // backbone.strides[layer]) for layer in sorted(layers)}
    return [
        f"layer {layer} has {count} x {count} cells at {input_size} px and the 2 x 2 pooling of {model} drops the last "
        "row and column: the right and lower edge of every picture is not seen"
        for layer, count in cells.items()
        if count % 2 and count > 1
    ]


def stored(module: nn.Module, name: str, value: Tensor, learnt: bool) -> None:
    """Give `module` the tensor `name`: a parameter when it is learnt, a buffer when it is fixed."""
    if learnt:
        module.register_parameter(name, nn.Parameter(value.clone()))
    else:
        module.register_buffer(name, value)


def float32(tensor: Tensor):
    """A context in which autocast is off, for sums and solves that half precision would spoil."""
    return torch.autocast(tensor.device.type, enabled=False)
