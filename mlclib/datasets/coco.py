"""COCO 2014 as multi-label data: 80 labels in alphabetical order, as the authors number them.

    annotations/instances_{train,val}2014.json
    train2014/COCO_train2014_<12 digits>.jpg, val2014/COCO_val2014_<12 digits>.jpg

Trained on train, tested on val. Images without any annotation are left out, which gives the papers'
82,081 and 40,137; an object marked as a crowd counts as present, as it does in the authors' label
counts (45,174 training images with a person). Category ids (1 to 90, with gaps) are mapped by name.

Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
"""

import json
from array import array
from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import Dataset, Split

LABELS = (
    "airplane", "apple", "backpack", "banana", "baseball bat", "baseball glove", "bear", "bed", "bench", "bicycle",
    "bird", "boat", "book", "bottle", "bowl", "broccoli", "bus", "cake", "car", "carrot", "cat", "cell phone",
    "chair", "clock", "couch", "cow", "cup", "dining table", "dog", "donut", "elephant", "fire hydrant", "fork",
    "frisbee", "giraffe", "hair drier", "handbag", "horse", "hot dog", "keyboard", "kite", "knife", "laptop",
    "microwave", "motorcycle", "mouse", "orange", "oven", "parking meter", "person", "pizza", "potted plant",
    "refrigerator", "remote", "sandwich", "scissors", "sheep", "sink", "skateboard", "skis", "snowboard", "spoon",
    "sports ball", "stop sign", "suitcase", "surfboard", "teddy bear", "tennis racket", "tie", "toaster", "toilet",
    "toothbrush", "traffic light", "train", "truck", "tv", "umbrella", "vase", "wine glass", "zebra",
)  # fmt: skip
SIZES = {"train2014": 82081, "val2014": 40137}
PUBLISHED = {"coco2014": {"train": SIZES["train2014"], "test": SIZES["val2014"]}}


def load(root: str | Path) -> Dataset:
    """Read COCO 2014 from `root`, the folder that holds annotations/, train2014/ and val2014/.

    Images stand in the order of their ids. Boxes are those of objects that are no crowds. Raises UserError
    for a missing or malformed annotation file, and for annotations that name no known image or category.
    """
    splits, notes = {}, []
    for key, name in (("train", "train2014"), ("test", "val2014")):
        splits[key], bare = _split(Path(root), name)
        if len(splits[key]) != SIZES[name]:
            notes.append(f"{len(splits[key]):,} of the {SIZES[name]:,} annotated images of COCO {name}")
        notes.append(f"{bare:,} images of COCO {name} without annotations left out")
    return Dataset("coco2014", LABELS, splits, (*notes, "crowds count as present"))


def _split(root: Path, name: str) -> tuple[Split, int]:
    path = root / "annotations" / f"instances_{name}.json"
    files, categories, found = _parse(path)
    if sorted(categories.values()) != sorted(LABELS):
        odd = set(categories.values()) ^ set(LABELS)
        raise UserError(f"{path}: its categories are not the 80 of COCO 2014; they differ in {', '.join(sorted(odd))}")
    columns = np.full(max(categories) + 1, -1)
    for number, category in categories.items():
        columns[number] = LABELS.index(category)
    image, category = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    if len(odd := np.setdiff1d(category, list(categories))):
        raise unknown("category id", int(odd[0]), sorted(categories), str(path))
    ids, rows = np.unique(image, return_inverse=True)
    if len(lost := np.setdiff1d(ids, list(files))):
        raise UserError(f"{path}: annotations name image {int(lost[0])}, which is not among its images")
    targets = np.full((len(ids), len(LABELS)), -1, dtype=np.int8)
    targets[rows, columns[category]] = 1

    single = np.flatnonzero(found[:, 6] == 0)
    single = single[np.argsort(rows[single], kind="stable")]
    x, y, width, height = found[single, 2:6].T
    table = np.stack([columns[category[single]], x, y, x + width, y + height], axis=1).astype(np.float32)
    boxes = np.split(table, np.searchsorted(rows[single], np.arange(1, len(ids))))
    paths = [root / name / files[int(i)] for i in ids]
    return Split([p.stem for p in paths], paths, targets, boxes), len(files) - len(ids)


def _parse(path: Path) -> tuple[dict[int, str], dict[int, str], np.ndarray]:
    """File names by image id, names by category id, and annotations [A, 7]: image, category, x, y, w, h, crowd.

    The file holds hundreds of MB of outlines; each object is reduced as soon as it is parsed.
    """
    files: dict[int, str] = {}
    categories: dict[int, str] = {}
    found = array("d")

    def reduce(pairs: list[tuple[str, object]]) -> dict | None:
        entry = dict(pairs)
        if "category_id" in entry:
            found.extend((entry["image_id"], entry["category_id"], *entry["bbox"], entry["iscrowd"]))
        elif "file_name" in entry:
            files[entry["id"]] = entry["file_name"]
        elif "supercategory" in entry:
            categories[entry["id"]] = entry["name"]
        else:
            return entry
        return None

    try:
        with open(path, encoding="utf-8") as file:
            json.load(file, object_pairs_hook=reduce)
        table = np.frombuffer(found).reshape(-1, 7)
    except FileNotFoundError:
        raise UserError(
            f"missing file {path}, expected there: the instance annotations of COCO 2014; "
            f"fetch them with `python -m mlclib data coco2014 --root {path.parents[1]}`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path} as COCO annotations: {type(error).__name__} {error}") from error
    if not files or not categories or not len(table):
        raise UserError(f"{path} holds no images, no categories or no annotations")
    return files, categories, table
