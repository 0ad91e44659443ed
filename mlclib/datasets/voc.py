"""PASCAL VOC 2007 and 2012 in the layout of the development kit.

    VOCdevkit/VOC2007/ImageSets/Main/{trainval,test}.txt          one image id a line
    VOCdevkit/VOC2007/ImageSets/Main/<label>_{trainval,test}.txt  "id 1", "id -1", or "id 0": difficult
    VOCdevkit/VOC2007/Annotations/<id>.xml                        boxes
    VOCdevkit/VOC2007/JPEGImages/<id>.jpg

Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2007 (VOC2007) Development Kit, 2007.
"""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.datasets.base import Archive, Dataset, Split

LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

# Images of each official list; a copy with fewer says so in its notes.
SIZES = {
    2007: {"train": 2501, "val": 2510, "trainval": 5011, "test": 4952},
    2012: {"train": 5717, "val": 5823, "trainval": 11540, "test": 10991},
}

List = Literal["train", "val", "trainval", "test"]  # the official ones
PUBLISHED = {f"voc{year}": {"train": sizes["trainval"], "test": sizes["test"]} for year, sizes in SIZES.items()}

_HOST = "https://thor.robots.ox.ac.uk/pascal/VOC"
# Sizes and SHA-256 as in the checksum file of TensorFlow Datasets (url_checksums/voc.txt).
ARCHIVES = {
    "voc2007": (
        Archive(
            f"{_HOST}/voc2007/VOCtrainval_06-Nov-2007.tar",
            460032000,
            "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
            460032000,
        ),
        Archive(
            f"{_HOST}/voc2007/VOCtest_06-Nov-2007.tar",
            451020800,
            "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
            451020800,
        ),
    ),
    "voc2012": (
        Archive(
            f"{_HOST}/voc2012/VOCtrainval_11-May-2012.tar",
            1999639040,
            "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
            1999639040,
        ),
        Archive(
            "http://host.robots.ox.ac.uk:8080/eval/downloads/VOC2012test.tar",
            1850626560,
            "f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3",
            "VOCdevkit/VOC2012/ImageSets/Main/test.txt",
            1850626560,
            login=True,
        ),
    ),
}


def load(
    root: str | Path,
    *,
    year: int,
    ids: str | Path | None = None,
    train: List = "trainval",
    test: List = "test",
    parts: str | Path | None = None,
) -> Dataset:
    """Read VOC `year` from `root`: the folder that holds VOCdevkit, VOCdevkit itself, or its VOC<year>.

    train, test: the official lists that become the splits "train" and "test"; VOC 2012 can be scored
    without the evaluation server as train="train", test="val".
    ids: a CSV with the columns image and split (the name of a list), or a text file with an id a line;
    only these images are used, in the order of the official lists.
    parts: in place of these three, a CSV with the columns image and part (train, val, test): a division of one's own
    of images of the official list trainval.
    Targets are the lists' marks: 1, 0 difficult, -1. The test labels of VOC 2012 are not public, so its
    targets are all 0. Boxes are those of objects not marked difficult.
    Raises UserError for a missing or malformed file, and an id that is in no list.
    """
    folder = _devkit(Path(root), year)
    if parts is not None:
        if (ids, train, test) != (None, "trainval", "test"):
            raise UserError(f"parts divides VOC {year} by itself: take ids, train and test out of the options")
        return _divided(folder, year, Path(parts))
    wanted = _read_ids(Path(ids)) if ids is not None else set()
    splits, notes, used = {}, [], set()
    for key, name in (("train", train), ("test", test)):
        names = _words(folder / "ImageSets" / "Main" / f"{name}.txt", f"the image ids of VOC {year} {name}, one a line")
        if ids is not None:
            names = [n for n in names if {(n, name), (n, "")} & wanted]
            used.update((n, place) for n in names for place in (name, ""))
        if len(names) != SIZES[year][name]:
            chosen = f", chosen by {Path(ids).name}" if ids is not None else ""
            notes.append(f"{len(names):,} of the {SIZES[year][name]:,} images of VOC {year} {name}{chosen}")
        splits[key], unlabelled = _split(folder, year, name, names)
        if unlabelled:
            notes.append(f"VOC {year} {name} has no public labels: scores come from the evaluation server")
    if (train, test) != ("trainval", "test"):
        notes.append(f"trained on VOC {year} {train}, tested on {test}")
    for image, place in sorted(wanted - used):
        raise UserError(
            f"{ids} names the image {image!r}, which is not in VOC {year} {place or f'{train} or {test}'} in {folder}"
        )
    return Dataset(f"voc{year}", LABELS, splits, tuple(notes))


def _divided(folder: Path, year: int, parts: Path) -> Dataset:
    """The images of trainval that the table `parts` names, each in its part."""
    named = _read_ids(parts, "part")
    known = _words(folder / "ImageSets" / "Main" / "trainval.txt", f"the image ids of VOC {year} trainval, one a line")
    there = set(known)
    for image, part in sorted(named):
        if image not in there or part not in ("train", "val", "test"):
            raise UserError(
                f"{parts} names the image {image!r} of the part {part!r}: expected an image of VOC {year} trainval in "
                f"{folder}, and train, val or test"
            )
    splits = {}
    for key in ("train", "val", "test"):
        names = [name for name in known if (name, key) in named]
        if names:
            splits[key], _ = _split(folder, year, "trainval", names)
        elif key != "val":
            raise UserError(f"{parts} names no image of the part {key!r}")
    note = f"{len(named):,} images of VOC {year} trainval, divided into training and test images by {parts.name}"
    return Dataset(f"voc{year}", LABELS, splits, (note,))


def write_server_files(path: str | Path, names: Sequence[str], logits: np.ndarray) -> None:
    """Write the zip archive that the VOC evaluation server takes for the classification task.

    names: N image ids; logits: [N, 20] in the order of LABELS. The archive holds
    results/VOC2012/Main/comp1_cls_test_<label>.txt, a line "id confidence" an image.
    """
    logits = np.asarray(logits)
    if logits.shape != (len(names), len(LABELS)) or not np.isfinite(logits).all():
        raise UserError(
            f"the server files need finite logits of shape ({len(names)}, {len(LABELS)}), not {logits.shape}"
        )
    with written_whole(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for column, label in enumerate(LABELS):
            lines = [f"{name} {logit:.6f}\n" for name, logit in zip(names, logits[:, column], strict=True)]
            archive.writestr(f"results/VOC2012/Main/comp1_cls_test_{label}.txt", "".join(lines))


def _devkit(root: Path, year: int) -> Path:
    others = {f"VOC{other}" for other in SIZES if other != year}
    for folder in (root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}", root):
        if folder.name not in others and (folder / "ImageSets" / "Main").is_dir():
            return folder
    raise UserError(
        f"no VOC {year} in {root}: expected the folder {root / 'VOCdevkit' / f'VOC{year}' / 'ImageSets' / 'Main'}; "
        f"fetch it with `python -m mlclib data voc{year} --root {root}`"
    )


def _words(path: Path, what: str) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}, expected there: {what}") from error


def _read_ids(path: Path, column: str = "split") -> set[tuple[str, str]]:
    """The wanted (id, list) pairs; the list, of the second `column`, is "" where the file does not name one."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}, expected there: image ids, one a line, or columns image,{column}"
        ) from error
    if rows and rows[0] == ["image", column]:
        rows = rows[1:]
    for row in rows:
        if len(row) > 2:
            raise UserError(f"{path}: expected an image id a line, or image,{column}; got {','.join(row)!r}")
    return {(row[0], row[1] if len(row) == 2 else "") for row in rows}


def _split(folder: Path, year: int, name: str, names: list[str]) -> tuple[Split, bool]:
    main = folder / "ImageSets" / "Main"
    # No mark means the labels are not public (VOC 2012 test comes without label files).
    secret = year == 2012 and name == "test"
    targets = np.zeros((len(names), len(LABELS)), dtype=np.int8)
    for column, label in enumerate(LABELS):
        path = main / f"{label}_{name}.txt"
        if secret and not path.exists():
            continue
        words = _words(path, f"a line 'id 1', 'id -1' or 'id 0' an image for the label {label}")
        marks = dict(zip(words[::2], words[1::2], strict=False))
        for row, image in enumerate(names):
            if marks.get(image) not in ("1", "0", "-1"):
                raise UserError(f"{path} gives no mark 1, 0 or -1 for image {image!r}; got {marks.get(image)!r}")
            targets[row, column] = int(marks[image])
    unlabelled = secret and not targets.any()
    boxes = None
    if not unlabelled and (folder / "Annotations").is_dir():
        boxes = [_boxes(folder / "Annotations" / f"{n}.xml") for n in names]
    return Split(names, [folder / "JPEGImages" / f"{n}.jpg" for n in names], targets, boxes), unlabelled


def _boxes(path: Path) -> np.ndarray:
    """Boxes of one annotation file, float32 [K, 5], from VOC's 1-based inclusive pixels to base.Split's."""
    rows = []
    try:
        for thing in ElementTree.parse(path).iterfind("object"):
            if thing.findtext("difficult") == "1":
                continue
            x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
            rows.append((LABELS.index(thing.findtext("name", "")), x0 - 1, y0 - 1, x1, y1))
    except FileNotFoundError:
        raise UserError(f"missing file {path}, expected there: the boxes of one image") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"cannot read the boxes in {path}: {error}") from error
    return np.array(rows, dtype=np.float32).reshape(-1, 5)
