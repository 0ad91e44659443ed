"""COCO annotations as multi-label data: COCO 2014 as the papers use it, and files in its format with own labels.

    annotations/instances_{train,val}2014.json
    train2014/COCO_train2014_<12 digits>.jpg, val2014/COCO_val2014_<12 digits>.jpg

COCO 2014 has 80 labels in alphabetical order, as the authors number them. Trained on train, tested on val. Images
without any annotation are left out, which gives the papers' 82,081 and 40,137; an object marked as a crowd counts as
present, as it does in the authors' label counts (45,174 training images with a person).

Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
"""

import json
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.datasets import pictures
from mlclib.datasets.base import Dataset, Seed, Share, Split, label_names
from mlclib.datasets.stratify import with_test_split

LABELS = label_names("coco")
SIZES = {"train2014": 82081, "val2014": 40137}
PUBLISHED = {"coco2014": {"train": SIZES["train2014"], "test": SIZES["val2014"]}}
BY_HAND = "a coco data set is your own: put its annotations and images into {root}"


def load(root: Path) -> Dataset:
    """Read COCO 2014 from `root`, the folder that holds annotations/, train2014/ and val2014/.

    Images stand in the order of their ids. Boxes are those of objects that are no crowds. Raises UserError
    for a missing or malformed annotation file, and for annotations that name no known image or category.
    """
    splits, notes = {}, []
    for part, name in (("train", "train2014"), ("test", "val2014")):
        path = root / "annotations" / f"instances_{name}.json"
        file = _parse(path, f"; fetch them with `python -m mlclib data coco2014 --root {root}`")
        if odd := set(file.categories) ^ set(LABELS):
            raise UserError(
                f"{path}: its categories are not the 80 of COCO 2014; they differ in {', '.join(sorted(odd))}; for "
                "labels of your own name the data set coco"
            )
        # Re-exports write the images' folder into their names.
        folder = root if file.names[0].startswith(f"{name}/") else root / name
        paths = [folder / image for image in file.names]
        whole = _split(file, LABELS, [path.stem for path in paths], paths)
        splits[part] = whole.take(np.unique(file.objects[:, 0].astype(int)))
        if len(splits[part]) != SIZES[name]:
            notes.append(f"{len(splits[part]):,} of the {SIZES[name]:,} annotated images of COCO {name}")
        notes.append(f"{len(whole) - len(splits[part]):,} images of COCO {name} without annotations left out")
    return Dataset("coco2014", LABELS, splits, (*notes, "crowds count as present"))


def load_own(
    root: Path,
    *,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    test_share: Share = 0.3,
    seed: Seed = 0,
) -> Dataset:
    """Read images with labels of one's own from files in COCO's format below `root`, one file for each part.

    The labels are the categories that annotations name, sorted. An image without annotations shows none of them.
    Without `test`, a share `test_share` of the training images becomes the test part, as folder.load draws it.
    Raises UserError for a missing or malformed file, and for annotations that name no known image or category.
    """
    if train is None:
        files = sorted(path.relative_to(root).as_posix() for path in root.glob("**/*.json"))
        raise UserError(
            f"name the annotation file in the data set's options, such as train: {files[0] if files else 'train.json'}"
            f" (and val, test); there are in {root}: {', '.join(files[:9]) or 'none'}"
        )
    names = {part: name for part, name in (("train", train), ("val", val), ("test", test)) if name}
    files = {part: _parse(root / name) for part, name in names.items()}
    used = {file.categories[int(number)] for file in files.values() for number in np.unique(file.objects[:, 1])}
    unused = {name for file in files.values() for name in file.categories} - used
    notes = [f"categories that no annotation names left out: {', '.join(sorted(unused))}"] if unused else []
    labels, splits = tuple(sorted(used)), {}
    for part, file in files.items():
        folder, images = (root / names[part]).parent, file.names
        if not (folder / images[0]).exists():
            folder, (images, _) = root, pictures.located(root, images)
        paths = [folder / image for image in images]
        splits[part] = _split(file, labels, [path.relative_to(root).as_posix() for path in paths], paths)
    whole = Dataset("coco", labels, splits, tuple(notes))
    return whole if test else with_test_split(whole, (root / train).with_suffix(".splits.csv"), test_share, seed)


class _File(NamedTuple):
    """One annotation file. names: N image files in the order of their ids. categories: K names.

    objects: float64 [A, 7], an annotation a row: index of its image, index of its category, x, y, width, height (NaN
    where it has no box), and whether it is a crowd.
    """

    names: list[str]
    categories: list[str]
    objects: np.ndarray


def _split(file: _File, labels: tuple[str, ...], names: list[str], paths: list[Path]) -> Split:
    """The images with their targets, and the boxes of single objects."""
    image, category = file.objects[:, :2].astype(int).T
    columns = np.array([labels.index(name) if name in labels else -1 for name in file.categories])[category]
    targets = np.full((len(names), len(labels)), -1, dtype=np.int8)
    targets[image, columns] = 1
    boxed = np.isfinite(file.objects[:, 2:6]).all(axis=1)
    single = np.flatnonzero(boxed & (file.objects[:, 6] == 0))
    single = single[np.argsort(image[single], kind="stable")]
    x, y, width, height = file.objects[single, 2:6].T
    table = np.stack([columns[single], x, y, x + width, y + height], axis=1).astype(np.float32)
    boxes = np.split(table, np.searchsorted(image[single], np.arange(1, len(names))))
    return Split(names, paths, targets, boxes if boxed.any() else None)


def _parse(path: Path, fetch: str = "") -> _File:
    """Read one file. It may hold hundreds of MB of outlines; each object is reduced as soon as it is parsed."""
    files: dict[str, str] = {}  # by id, which some tools write as text
    images: dict[str, int] = {}  # numbers in the order in which annotations name them
    kinds: dict[str, int] = {}
    rows = array("d")

    def reduce(pairs: list[tuple[str, object]]) -> dict | None:
        entry = dict(pairs)
        if "category_id" in entry:
            image = images.setdefault(str(entry["image_id"]), len(images))
            kind = kinds.setdefault(str(entry["category_id"]), len(kinds))
            rows.extend((image, kind, *(entry.get("bbox") or [np.nan] * 4), entry.get("iscrowd", 0)))
        elif "file_name" in entry:
            files[str(entry["id"])] = entry["file_name"]
        else:
            return entry
        return None

    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=reduce)
        names = {str(entry["id"]): entry["name"] for entry in content["categories"]}
        objects = np.array(rows).reshape(-1, 7)
        if not all(isinstance(name, str) for name in (*files.values(), *names.values())):
            raise ValueError("a name of an image or a category is no text")
    except FileNotFoundError:
        raise UserError(f"missing file {path}, expected there: annotations in COCO's format{fetch}") from None
    except KeyError as error:
        raise UserError(f"cannot read {path} as COCO annotations: the key {error} is missing") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path} as COCO annotations: {type(error).__name__} {error}") from error
    for key, count in (("images", len(files)), ("categories", len(names)), ("annotations", len(objects))):
        if not count:
            raise UserError(f"{path} holds no {key}")
    if lost := [one for one in images if one not in files]:
        raise UserError(f"{path}: annotations name image {lost[0]}, which is not among its images")
    if lost := [one for one in kinds if one not in names]:
        raise unknown("category id", lost[0], names, str(path))
    order = sorted(files, key=lambda one: (len(one), one))  # by value, where ids are numbers
    places = {one: place for place, one in enumerate(order)}
    objects[:, 0] = np.array([places[one] for one in images])[objects[:, 0].astype(int)]
    categories = [*kinds, *(one for one in names if one not in kinds)]
    return _File([files[one] for one in order], [names[one] for one in categories], objects)
