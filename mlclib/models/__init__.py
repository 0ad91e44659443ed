"""The models, by name: gmp, msrn and dsdl on any backbone, and their authors' weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlclib.errors import UserError, unknown
from mlclib.models import dsdl, gmp, msrn
from mlclib.models.backbones import Backbone, listed
from mlclib.models.base import Classifier, Output, read_options

__all__ = ["NAMES", "Classifier", "Output", "build", "check_options", "load_authors", "options_of"]

OPTIONS = {"gmp": gmp.Options, "msrn": msrn.Options, "dsdl": dsdl.Options}
NAMES = tuple(OPTIONS)


def options_of(name: str) -> dict[str, Any]:
    """The options of the model `name` and their defaults; UserError for an unknown model."""
    return dataclasses.asdict(check_options(name, {}))


def check_options(name: str, options: Mapping[str, Any]) -> Any:
    """The options dataclass of the model `name`; UserError for an unknown model, key or value."""
    if name not in OPTIONS:
        raise unknown("model", name, NAMES)
    return read_options(OPTIONS[name], options, f"model {name}")


def build(
    name: str,
    *,
    labels: int | Sequence[str],
    label_vectors: Any = None,
    cooccurrence: tuple[Any, Any] | None = None,
    backbone: str = "resnet101",
    weights: str | Path | None = None,
    frozen: bool = False,
    **options: Any,
) -> Classifier:
    """The model `name` for C labels, its head drawn from torch's global generator: Xavier uniform for graph attention
    (gain 2^0.5) and DSDL's dictionary, +-1/fan_in^0.5 for the elementwise head, torch's own for linear layers and
    convolutions.

    labels: the C label names, or C. label_vectors: float [C, V] (msrn, dsdl). cooccurrence: counts [C, C] with a zero
    diagonal and totals [C] (msrn). Arrays or tensors. backbone, weights: see backbones.Backbone; frozen: the backbone
    does not learn. options: those of the model (`options_of`).

    Raises UserError for what is unknown, missing, or of another shape.
    """
    read = check_options(name, options)
    count = labels if isinstance(labels, int) else len(labels)
    if name != "gmp":
        vectors = _matrix("label_vectors", label_vectors, (count, None), name).float()
    if name == "msrn":
        counts, totals = cooccurrence if cooccurrence is not None else (None, None)
        counts = _matrix("co-occurrence counts", counts, (count, count), name)
        totals = _matrix("co-occurrence totals", totals, (count,), name)
    net = Backbone(backbone, weights, read.layers if name == "msrn" else (4,))
    if frozen:
        net.freeze()
    if name == "gmp":
        return gmp.GMP(net, count, read)
    if name == "dsdl":
        return dsdl.DSDL(net, vectors, read)
    return msrn.MSRN(net, vectors, counts, totals, read)


def load_authors(model: Classifier, state_dict: Mapping[str, Any]) -> None:
    """Load a state dict under the authors' parameter names into an msrn or dsdl on a ResNet.

    Raises UserError naming every key that is missing, left over, or of another shape. What the published MSRN holds
    and never uses (`authors_unused`) must be there, in its shape, and is left aside.
    """
    own, names, unused = model.state_dict(), model.authors_names(), model.authors_unused()
    shapes = {theirs: tuple(own[ours].shape) for theirs, ours in names.items()} | unused
    given = {key: torch.as_tensor(value) for key, value in state_dict.items()}
    wrong = [f"{key} is missing" for key in shapes if key not in given]
    wrong += [f"{key} is left over" for key in given if key not in shapes]
    wrong += [
        f"{key} is {list(given[key].shape)} where the model has {list(shape)}"
        for key, shape in shapes.items()
        if key in given and tuple(given[key].shape) != shape
    ]
    if wrong:
        raise UserError(f"the state dict is not that of this {type(model).__name__}: {listed(wrong)}")
    own.update({ours: given[theirs] for theirs, ours in names.items()})
    model.load_state_dict(own)


def _matrix(what: str, value: Any, shape: tuple[int | None, ...], name: str) -> Tensor:
    """`value` as a float64 tensor; UserError unless it has the shape and is finite."""
    if value is None:
        raise UserError(f"model {name} needs {what}; give them")
    tensor = torch.as_tensor(value, dtype=torch.float64).detach()
    wanted = "[" + ", ".join("V" if size is None else str(size) for size in shape) + "]"
    if len(tensor.shape) != len(shape) or any(b not in (None, a) for a, b in zip(tensor.shape, shape, strict=True)):
        raise UserError(f"{what} have shape {list(tensor.shape)} where model {name} needs {wanted}")
    if not tensor.isfinite().all():
        raise UserError(f"{what} of model {name} hold a value that is not finite; mend them")
    return tensor
