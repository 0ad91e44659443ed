"""What every classifier is: a backbone, a head, a loss, and what tables and figures may ask of it.

A model is one file with a dataclass of options and a subclass of `Classifier`; the registry in
`mlclib/models/__init__.py` names it. No module outside models/ imports a model's file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mlclib.common.errors import UserError
from mlclib.common.validation import Strict
from mlclib.models.backbones import Backbone
from mlclib.models.losses import Difficult, Loss
from mlclib.models.state_dicts import fits

Layer = Literal[2, 3, 4]  # of the backbone, of strides 8, 16, 32
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Maps = Mapping[int, Tensor]  # layer -> [B, channels of the layer, h, w]
AttentionMaps = dict[tuple[str, str], tuple[Tensor, float]]  # (method, layer) -> map [B, h, w], pixels of a cell's side


@dataclass
class Output:
    """What a classifier returns: logits float32 [B, C]; a model adds what its loss and its pictures need."""

    logits: Tensor


@dataclass(frozen=True)
class Shared(Strict):
    """The option of every model. difficult: a difficult label trains as "present" (as MSRN and DSDL do), "absent"
    (CSRA, SSGRL) or is left out ("ignore").
    """

    difficult: Difficult = "present"


@dataclass(frozen=True)
class Options(Shared):
    """The options of every model on one map. layer: which of the backbone's it is, of 2, 3, 4 (strides 8, 16, 32); all
    authors take 4.
    """

    layer: Layer = 4


@dataclass(frozen=True)
class LabelInfo:
    """What is given of the labels before training: their number C and, where there are some, vectors and co-occurrence.

    vectors: label vectors, float32 [C, V]. counts: in how many images labels i and j stand together, float64 [C, C].
    totals: in how many images a label stands, float64 [C]. Arrays or tensors may be passed; None stands for not given.
    no_vectors: why there are no vectors, where they could not be read. note: what a caption must say of the vectors.
    Raises UserError for another shape and for a value that is not finite.
    """

    count: int
    vectors: Tensor | None = None
    counts: Tensor | None = None
    totals: Tensor | None = None
    no_vectors: str = ""
    note: str = ""

    def __post_init__(self):
        shapes = {"vectors": (self.count, None), "counts": (self.count, self.count), "totals": (self.count,)}
        for field, shape in shapes.items():
            value = getattr(self, field)
            if value is None:
                continue
            # By way of float64 in any case, so that equal numbers are equal bits whatever dtype they came in.
            tensor = torch.as_tensor(value, dtype=torch.float64).detach()
            if not fits(tuple(tensor.shape), shape):
                wanted = ", ".join("V" if size is None else str(size) for size in shape)
                raise UserError(f"{LABEL_INFO[field]} have shape {list(tensor.shape)} and must have shape [{wanted}]")
            if not tensor.isfinite().all():
                raise UserError(f"{LABEL_INFO[field]} hold a value that is not finite; correct it")
            object.__setattr__(self, field, tensor.float() if field == "vectors" else tensor)

    def need(self, field: str) -> Tensor:
        """The field "vectors", "counts" or "totals". Raises UserError where it was not given."""
        value = getattr(self, field)
        if value is None and field == "vectors" and self.no_vectors:
            raise UserError(self.no_vectors)
        if value is None:
            raise UserError(f"this model needs {LABEL_INFO[field]}: pass them to models.build")
        return value


LABEL_INFO = {"vectors": "label_vectors", "counts": "co-occurrence counts", "totals": "co-occurrence totals"}


class Classifier(nn.Module):
    """A backbone and a head on its maps. A subclass gives `Options`, `classify` and `embeddings`, and of the rest below
    what it does otherwise. It is made as `Model(backbone, label_info, options, loss)`.

    A frozen backbone's maps may be cached and fed to `classify` without it. What a model knows of its labels it keeps
    among its buffers or parameters, its label vectors under the name `label_vectors`, so that a run's weights hold it.

    published_loss: the loss that its authors train with, which configurations call "own".
    sums_over_batch: True where the loss of a batch is not the sum of its parts' losses weighted by `share`, so that
    several processes change it.
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
    def label_graph(cls, label_info: LabelInfo, options: Any) -> Tensor | None:
        """The graph of the labels that the model works on, float32 [C, C], 0 where there is no edge; None without one.

        Row i holds what label i learns from.
        """
        return None

    def forward(self, inputs: Tensor | Maps) -> Output:
        """Images float32 [B, 3, H, W], normalised as `backbones.preprocessing` says, or cached maps -> Output."""
        return self.classify(inputs if isinstance(inputs, Mapping) else self.backbone(inputs))

    def classify(self, maps: Maps) -> Output:
        """maps: {layer: [B, C_layer, h, w]}, as the backbone gives them -> Output."""
        raise NotImplementedError

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Training loss (a scalar) of an output against int8 targets [B, C]: 1 present, 0 difficult, -1 absent."""
        return self.label_term(output.logits, targets)

    def label_term(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits [B, C] against int8 targets [B, C] that every model's loss starts from."""
        return self.label_loss(logits, targets, self.options.difficult)

    def share(self, part: Tensor, batch: Tensor) -> float:
        """The weight of a part's loss in the loss of the whole batch; int8 targets [P, C] and [B, C].

        The weights of a batch's parts sum to 1, but for a loss that is a sum: there each part counts whole.
        """
        if self.label_loss.reduction == "sum":
            return 1.0
        if self.options.difficult == "ignore":  # a mean over the labels that are known, of which parts hold unlike many
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

    def own_maps(self, maps: Maps, output: Output, labels: Tensor, group: int | None = None) -> AttentionMaps:
        """The model's own attention, where it has some: (method, layer) -> map [B, h, w] and the side of its cells.

        maps, output: what was classified, and the result with its graph; labels: int64 [B], one label per image; group:
        a group to look for instead (its number). Maps are not negative; the side of a cell is in pixels of the input;
        layer is "2", "3", "4", or "" for a model whose map belongs to no single layer.
        """
        return {}

    def on_its_layer(self, method: str, map: Tensor) -> AttentionMaps:
        """`own_maps` of a model on one map: `map` [B, h, w] has the cells of its layer."""
        return {(method, str(self.options.layer)): (map, self.backbone.strides[self.options.layer])}

    def exported(self) -> nn.Module:
        """The module, images [B, 3, S, S] -> logits [B, C], that an ONNX file is made of."""
        return _LogitsAlone(self)

    def size_warnings(self, input_size: int) -> list[str]:
        """What of an input of this side, in pixels, the model does not use, one sentence each."""
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

    def resnet_names(self, prefix: str, sequential: bool = False) -> dict[str, str]:
        """`authors_names` of a ResNet backbone that the authors keep under `prefix`.

        sequential: they hold its parts in an nn.Sequential, which numbers them.
        """
        names = {}
        for name in self.backbone.net.state_dict():
            first, rest = name.split(".", 1)
            names[f"{prefix}{_SEQUENTIAL[first] if sequential else first}.{rest}"] = f"backbone.net.{name}"
        return names

    def names_within(self, modules: Mapping[str, str]) -> dict[str, str]:
        """`authors_names` of all weights and buffers inside modules: {the authors' name of a module: ours}."""
        return {
            f"{theirs}.{name}": f"{ours}.{name}"
            for theirs, ours in modules.items()
            for name in self.get_submodule(ours).state_dict()
        }


# Where torchvision's ResNet has them as the children of an nn.Sequential (2 and 3 are ReLU and max pool).
_SEQUENTIAL = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


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
        with torch.no_grad():  # an affine function is known by its values at zero and at the unit vectors
            zero = model.classify({self.layer: torch.zeros(1, channels, 1, 1)}).logits
            unit = model.classify({self.layer: torch.eye(channels)[:, :, None, None]}).logits
        self.register_buffer("matrix", unit - zero)
        self.register_buffer("bias", zero[0])

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.backbone(images)[self.layer], self.pool)((2, 3)) @ self.matrix + self.bias


def halved(map: Tensor) -> tuple[int, int]:
    """The window of a 2 x 2 pooling of a map [B, F, h, w]; a side of one cell, as below 64 px, is left as it is."""
    return min(2, map.shape[2]), min(2, map.shape[3])


def edges_lost(model: str, backbone: Backbone, layers: Iterable[int], input_size: int) -> list[str]:
    """What a model that pools these layers' maps 2 x 2 does not see of an input of this side, by layer."""
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
