"""The models by name, on any backbone, and their authors' weights.

Adding a model is one file with a subclass of `base.Classifier` and one line of MODELS; an experiment may also name a
class of one's own, as "package.module:Class".
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from mlclib.common.errors import UserError, unknown
from mlclib.common.validation import validated
from mlclib.models import losses, state_dicts
from mlclib.models.add_gcn import ADDGCN
from mlclib.models.backbones import Backbone
from mlclib.models.base import Classifier, LabelInfo, Output
from mlclib.models.csra import CSRA
from mlclib.models.dsdl import DSDL
from mlclib.models.gap import GAP
from mlclib.models.gmp import GMP
from mlclib.models.linear import Linear
from mlclib.models.ml_decoder import MLDecoder
from mlclib.models.ml_gcn import MLGCN
from mlclib.models.msrn import MSRN
from mlclib.models.query2label import Query2Label
from mlclib.models.ssgrl import SSGRL

__all__ = ["MODELS", "NAMES", "Classifier", "LabelInfo", "Output"]
__all__ += ["build", "check_options", "find", "load_authors", "options_of", "title"]

MODELS: dict[str, type[Classifier]] = {
    "gmp": GMP,
    "msrn": MSRN,
    "dsdl": DSDL,
    "gap": GAP,
    "linear": Linear,
    "ml_gcn": MLGCN,
    "add_gcn": ADDGCN,
    "csra": CSRA,
    "query2label": Query2Label,
    "ml_decoder": MLDecoder,
    "ssgrl": SSGRL,
}
NAMES = tuple(MODELS)
_TITLES = {name: kind.__name__ for name, kind in MODELS.items()}
# The names that are no names of classes.
_TITLES |= {"linear": "linear baseline", "ml_gcn": "ML-GCN", "add_gcn": "ADD-GCN", "ml_decoder": "ML-Decoder"}


def title(name: str) -> str:
    """The name by which readers know a model, with what stands behind its first blank; any other name as it is.

    Example:
        >>> title("ml_gcn"), title("msrn (authors' checkpoint)"), title("mine")
        ('ML-GCN', "MSRN (authors' checkpoint)", 'mine')
    """
    key, blank, rest = name.partition(" ")
    return _TITLES.get(key, key) + blank + rest


def find(name: str) -> type[Classifier]:
    """The class of the model `name`, of MODELS or "package.module:Class". Raises UserError where there is none.

    Example:
        >>> find("mlclib.models.gap:GAP") is find("gap")
        True
    """
    if name in MODELS:
        return MODELS[name]
    module, colon, kind = name.partition(":")
    if not colon:
        raise unknown("model", name, MODELS)
    try:
        model = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the model {name!r} cannot be imported ({error}); write package.module:Class") from None
    if not (isinstance(model, type) and issubclass(model, Classifier)):
        raise UserError(f"{name!r} is no subclass of mlclib.models.base.Classifier, as a model must be")
    return model


def options_of(name: str) -> dict[str, Any]:
    """The options of the model `name` and their defaults; UserError for an unknown model.

    Example:
        >>> options_of("csra")
        {'difficult': 'absent', 'layer': 4, 'heads': 1, 'lam': 0.1}
    """
    return dataclasses.asdict(check_options(name, {}))


def check_options(name: str, options: Mapping[str, Any]) -> Any:
    """The options dataclass of the model `name`; UserError for an unknown model, key or value.

    Example:
        >>> check_options("msrn", {"layers": [3, 4]}).layers
        (3, 4)
        >>> check_options("msrn", {"head": "linear"})
        Traceback (most recent call last):
        mlclib.common.errors.UserError: unknown head 'linear' in model msrn; known: elementwise, mlp
    """
    return validated(find(name).Options, options, f"model {name}")


def build(
    name: str,
    *,
    labels: int | Sequence[str] | LabelInfo,
    label_vectors: Any = None,
    cooccurrence: tuple[Any, Any] | None = None,
    backbone: str = "resnet101",
    weights: str | Path | None = None,
    frozen: bool = False,
    loss: "str | Mapping[str, Any] | losses.Loss" = "own",
    **options: Any,
) -> Classifier:
    """The model `name` for C labels, its head drawn from torch's global generator as its authors draw it.

    labels: the C label names, or C, or a LabelInfo, which stands for the next two as well. label_vectors: float [C, V].
    cooccurrence: counts [C, C] with a zero diagonal and totals [C]. Arrays or tensors; a model that needs none ignores
    them. backbone, weights: see backbones.Backbone; frozen: the backbone does not learn. loss: see losses.read.
    options: those of the model (`options_of`).

    Raises UserError for what is unknown, missing, or of another shape.

    Example:
        >>> model = build("csra", labels=["cat", "dog"], backbone="resnet18", heads=2)
        >>> model(torch.zeros(1, 3, 64, 64)).logits.shape
        torch.Size([1, 2])
    """
    kind, checked = find(name), check_options(name, options)
    if not isinstance(labels, LabelInfo):
        count = int(labels) if isinstance(labels, Integral) else len(labels)
        labels = LabelInfo(count, label_vectors, *(cooccurrence or (None, None)))
    criterion = losses.read(loss, kind.published_loss)
    net = Backbone(backbone, weights, kind.layers(checked))
    if frozen:
        net.freeze()
    return kind(net, labels, checked, criterion)


def load_authors(model: Classifier, state_dict: Mapping[str, Any]) -> None:
    """Load a state dict under the authors' parameter names into a model on a ResNet.

    A state dict without a single name of the backbone is that of a head, and leaves the backbone as it is. Raises
    UserError naming every key that is missing, left over, or of another shape. What a published model holds and never
    uses (`authors_unused`) must be there, in its shape, and is left aside; what it computes (`authors_constants`) may.
    """
    names, constants = model.authors_names(), model.authors_constants()
    given = {key: torch.as_tensor(value) for key, value in state_dict.items()}
    head = {theirs: ours for theirs, ours in names.items() if not ours.startswith("backbone.")}
    names = names if given.keys() & (names.keys() - head.keys()) else head
    own = model.state_dict()
    wanted = state_dicts.shapes({theirs: own[ours] for theirs, ours in names.items()})
    wanted |= model.authors_unused() | constants
    state_dicts.check(given, wanted, f"the state dict is not that of this {type(model).__name__}", optional=constants)
    model.load_state_dict(own | {ours: given[theirs] for theirs, ours in names.items()})
