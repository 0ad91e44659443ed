"""The data sets by name: `load(name, root, **options)` gives images, targets, label names and boxes.

Every reader is a module with `LABELS` (but for `folder`, whose labels are the user's own) and
`load(root, *, ...) -> Dataset`; the keyword arguments of that function are the data set's options, beside those that
every data set has (`COMMON`).  It also tells how the data is got (`ARCHIVES`, or `BY_HAND` in words) and how many
images published figures rest on (`PUBLISHED`).  Readers are imported when asked for.
"""

import importlib
import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from mlclib.common.errors import UserError, unknown
from mlclib.common.validation import choices, validation_message
from mlclib.datasets import stratify
from mlclib.datasets.base import Archive, Dataset, Seed, Split

__all__ = ["NAMES", "Dataset", "Split", "archives", "by_hand", "check_options", "labels_of", "load"]

_READERS: dict[str, tuple[str, dict[str, object]]] = {
    "scenes": ("scenes", {}),
    "voc2007": ("voc", {"year": 2007}),
    "voc2012": ("voc", {"year": 2012}),
    "voc2007+2012": ("voc_years", {}),
    "coco2014": ("coco", {}),
    "nuswide": ("nuswide", {}),
    "apparel": ("apparel", {}),
    "coco18": ("coco18", {}),
    "corel5k": ("corel5k", {}),
    "folder": ("folder", {}),
}
NAMES = tuple(_READERS)
# Options of every data set: the share of the training images that becomes the split "val", and the seed it is drawn by.
COMMON = {"val_share": Annotated[float, Field(gt=0, lt=1)], "val_seed": Seed}


def _reader(name: str) -> tuple[object, dict[str, object]]:
    if name not in _READERS:
        raise unknown("data set", name, NAMES)
    module, fixed = _READERS[name]
    return importlib.import_module(f"{__name__}.{module}"), fixed


def load(name: str, root: str | Path, **options: object) -> Dataset:
    """Read the data set `name` from the folder `root`; its images are opened later, one by one.

    `options` are the keyword arguments of the reader's own `load`, and `COMMON`. Raises UserError for an unknown
    data set or option, and for a folder that lacks a file (which it names).
    """
    check_options(name, options)
    module, fixed = _reader(name)
    own = {key: value for key, value in options.items() if key not in COMMON}
    dataset = module.load(Path(root), **fixed, **own)
    if "val_share" not in options:
        return dataset
    return stratify.set_apart(dataset, options["val_share"], options.get("val_seed", 0))


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise UserError for an unknown data set or option, and for a value of another type or range than the reader's
    `load` declares; no data is read.
    """
    module, fixed = _reader(name)
    parameters = inspect.signature(module.load).parameters.values()
    known = [*(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed), *COMMON]
    kinds = {**typing.get_type_hints(module.load, include_extras=True), **COMMON}
    for key, value in options.items():
        if key not in known:
            raise unknown("option", key, known, f"data set {name!r}")
        try:
            TypeAdapter(kinds[key], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            found = error.errors()[0]
            if found["type"] == "literal_error":
                raise unknown(key, value, choices(found), f"data set {name!r}") from None
            raise UserError(f"option {key} of data set {name!r} {validation_message(found)}") from None


def published_images(name: str) -> dict[str, int] | None:
    """How many images published figures on the data set `name` were trained and scored on, {"train", "test"}.

    None where that is not known; a part of a set does not compare with them.
    """
    return getattr(_reader(name)[0], "PUBLISHED", {}).get(name)


def archives(name: str) -> tuple[Archive, ...]:
    """The published files that data set `name` is downloaded as; none where it has to be brought by hand."""
    return getattr(_reader(name)[0], "ARCHIVES", {}).get(name, ())


def by_hand(name: str) -> str:
    """How to bring a data set that has no `archives`; "{root}" stands for its folder."""
    return _reader(name)[0].BY_HAND


def labels_of(name: str) -> tuple[str, ...]:
    """The label names of data set `name` in the order of its target columns, without reading any data."""
    module, _ = _reader(name)
    if not hasattr(module, "LABELS"):
        raise UserError(f"the labels of data set {name!r} stand in its own files; load it to learn them")
    return module.LABELS
