"""The data sets by name: `load(name, root, **options)` gives images, targets, label names and boxes.

Every reader is a module with `LABELS` (but for `folder`, whose labels are the user's own) and
`load(root, *, ...) -> Dataset`. The keyword arguments of that function are the data set's options, beside those that
every data set has (`Common`). A reader may say how many images published figures rest on (`PUBLISHED`), and how its
data is brought by hand (`BY_HAND`). Readers are imported when asked for.
"""

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Mapping
from pathlib import Path

from mlclib.common.errors import check_name
from mlclib.common.validation import Strict, validated
from mlclib.datasets import stratify
from mlclib.datasets.base import Archive, Dataset, Seed, Share, read_rows

# The reader's module, the function that reads, and arguments that the name fixes.
_READERS: dict[str, tuple[str, str, dict[str, object]]] = {
    **{name: (name, "load", {}) for name in ("scenes", "nuswide", "apparel", "coco18", "corel5k", "folder")},
    "voc2007": ("voc", "load", {"year": 2007}),
    "voc2012": ("voc", "load", {"year": 2012}),
    "voc2007+2012": ("voc", "load_both", {}),
    "coco2014": ("coco", "load", {}),
    "coco": ("coco", "load_own", {}),
    "voc": ("voc", "load_own", {}),
}
NAMES = tuple(_READERS)
OWN = ("folder", "coco", "voc")  # their labels are the user's own


@dataclasses.dataclass(frozen=True)
class Common(Strict):
    """Options of every data set.

    val_share: the share of the training images that becomes the split "val"; val_seed: the seed it is drawn by.
    """

    val_share: Share | None = None
    val_seed: Seed = 0


def load(name: str, root: str | Path, **options: object) -> Dataset:
    """Read the data set `name` from the folder `root`; its images are opened later, one by one.

    options: the keyword arguments of the reader's own function, and those of `Common`. Raises UserError for an unknown
    data set or option, and for a folder that lacks a file (which it names).
    """
    own = vars(check_options(name, options)).copy()
    val_share, val_seed = own.pop("val_share"), own.pop("val_seed")
    _, function, fixed = _READERS[name]
    dataset = getattr(_module(name), function)(Path(root).expanduser(), **fixed, **own)
    return dataset if val_share is None else stratify.with_validation_split(dataset, val_share, val_seed)


def check_options(name: str, options: Mapping[str, object]) -> Common:
    """The options of data set `name`, those that are not given at their defaults; no data is read.

    Raises UserError for an unknown data set or option, and for a value of another type or range than declared.
    """
    _module(name)
    return validated(_options_class(name), options, f"data set {name!r}")


def archives(name: str) -> list[Archive]:
    """The published files that data set `name` is downloaded as; none where it has to be brought by hand.

    Sizes and SHA-256 in archives.csv are those of the checksum files of TensorFlow Datasets (url_checksums).
    """
    _module(name)
    parts = name.replace("+", "+voc").split("+")  # voc2007+2012 is both years
    rows = [row for row in read_rows(Path(__file__).with_name("archives.csv")) if row["dataset"] in parts]
    return [Archive(r["url"], int(r["size"]), r["sha256"], r["holds"], r["login"] == "yes") for r in rows]


def by_hand(name: str) -> str:
    """How to bring a data set that has no archives to download; "{root}" stands for its folder."""
    return getattr(_module(name), "BY_HAND", "")


def published_images(name: str) -> dict[str, int] | None:
    """How many images published figures on the data set `name` were trained and scored on, {"train", "test"}.

    None where that is not known; a part of a set does not compare with them.
    """
    return getattr(_module(name), "PUBLISHED", {}).get(name)


def _module(name: str) -> object:
    check_name("data set", name, NAMES)
    return importlib.import_module(f"{__name__}.{_READERS[name][0]}")


@functools.cache
def _options_class(name: str) -> type[Common]:
    """A dataclass of the options that the reader's function takes, beside the common ones."""
    _, function, fixed = _READERS[name]
    read = getattr(_module(name), function)
    types = typing.get_type_hints(read, include_extras=True)
    parameters = [p for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    fields = [(p.name, types[p.name], p.default) for p in parameters if p.name not in fixed]
    return dataclasses.make_dataclass(f"{name} options", fields, bases=(Common,), frozen=True)
