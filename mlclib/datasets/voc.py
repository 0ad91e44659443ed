"""PASCAL VOC 2007 and 2012 in the layout of the development kit.

    VOCdevkit/VOC2007/ImageSets/Main/{trainval,test}.txt          one image id per line
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
from mlclib.datasets import pictures
from mlclib.datasets.base import PARTS, Dataset, Seed, Share, Split, label_names, read_lines, targets_of
from mlclib.datasets.stratify import split_by_part, with_test_split

LABELS = label_names("voc")

# Images of each official list; a copy with fewer says so in its notes.
SIZES = {
    2007: {"train": 2501, "val": 2510, "trainval": 5011, "test": 4952},
    2012: {"train": 5717, "val": 5823, "trainval": 11540, "test": 10991},
}

List = Literal["train", "val", "trainval", "test"]  # the official ones
BY_HAND = "a voc data set is your own: put its annotations and images into {root}"
PUBLISHED = {f"voc{year}": {"train": sizes["trainval"], "test": sizes["test"]} for year, sizes in SIZES.items()}


def load(
    root: Path,
    *,
    year: int,
    ids: str | None = None,
    train: List = "trainval",
    test: List = "test",
    parts: str | None = None,
) -> Dataset:
    """Read VOC `year` from `root`, the folder that holds VOCdevkit (or VOC2007, or ImageSets).

    ids: a text file of image ids, one per line, or a CSV with the columns image and split, that names the images to
    use (all others are left out). train, test: the official lists that are trained on and tested.
    parts: a CSV with the columns image and part (train, val or test), which divides the images of trainval by itself.
    Raises UserError for a missing or malformed file, and for an id that is in no list.
    """
    folder = _devkit(root, year)
    if parts is not None:
        if (ids, train, test) != (None, "trainval", "test"):
            raise UserError(f"parts divides VOC {year} by itself: take ids, train and test out of the options")
        return _divided(folder, year, Path(parts))
    wanted = _read_ids(Path(ids), "split") if ids is not None else {}
    splits, notes, lost = {}, [], set(wanted)
    for key, name in (("train", train), ("test", test)):
        names = _image_ids(folder, year, name)
        if ids is not None:
            names = [image for image in names if wanted.get(image) in (name, "")]
            lost -= set(names)
        if len(names) != SIZES[year][name]:
            chosen = f", chosen by {Path(ids).name}" if ids is not None else ""
            notes.append(f"{len(names):,} of the {SIZES[year][name]:,} images of VOC {year} {name}{chosen}")
        splits[key] = _split(folder, year, name, names)
        if names and not splits[key].targets.any():
            notes.append(f"VOC {year} {name} has no public labels: scores come from the evaluation server")
    if (train, test) != ("trainval", "test"):
        notes.append(f"trained on VOC {year} {train}, tested on {test}")
    for image in sorted(lost):
        place = wanted[image] or f"{train} or {test}"
        raise UserError(f"{ids} names the image {image!r}, which is not in VOC {year} {place} in {folder}")
    return Dataset(f"voc{year}", LABELS, splits, tuple(notes))


def load_both(root: Path, *, ids2007: str | None = None, parts2012: str | None = None) -> Dataset:
    """Read VOC 2007 and VOC 2012 as one data set from `root`, the folder that holds VOCdevkit.

    ids2007: the images of VOC 2007 that are used, as `ids` of `load`. parts2012: the division of VOC 2012, as
    `parts` there; without it train is trained on and val tested, as the labels of its test images are not public.
    There are boxes where both years have them. Raises UserError as `load` does.
    """
    lists = {"parts": parts2012} if parts2012 else {"train": "train", "test": "val"}
    years = load(root, year=2007, ids=ids2007), load(root, year=2012, **lists)
    halves = {key: [year.splits[key] for year in years if key in year.splits] for key in ("train", "val", "test")}
    splits = {key: _joined(both) for key, both in halves.items() if both}
    return Dataset("voc2007+2012", LABELS, splits, (*years[0].notes, *years[1].notes))


def load_own(root: Path, *, test_share: Share = 0.3, seed: Seed = 0) -> Dataset:
    """Read images with labels of one's own from files in VOC's format below `root`, one XML file for each image.

    The labels are the objects' names, sorted; a label of which all objects are difficult is so. The parts are those of
    the lists in ImageSets/Main, else of folders train, val (valid) and test; without a test part it is drawn as
    folder.load draws it. Raises UserError where there are no such files, or one cannot be read.
    """
    files = sorted(path for path in root.rglob("*.xml") if not path.name.startswith("."))
    if not files:
        raise UserError(f"no XML files in {root}, expected there: one file in VOC's format for each image")
    beside = [path.relative_to(root).with_suffix("").as_posix() for path in files]
    names, _ = pictures.located(root, beside)
    if names == beside:
        names, _ = pictures.located(root, [path.stem for path in files])
    objects = [_objects(path) for path in files]
    labels = tuple(sorted({name for one in objects for name, _, _ in one}))
    targets = targets_of([[name for name, _, _ in one] for one in objects], labels)
    easy = targets_of([[name for name, difficult, _ in one if not difficult] for one in objects], labels)
    targets[(targets == 1) & (easy == -1)] = 0
    whole = Split(names, [root / name for name in names], targets, [_boxes(one, labels) for one in objects])
    listed: dict[str, str] = {}
    for path in sorted(root.rglob("ImageSets/Main/*.txt"), key=lambda path: path.stem != "trainval"):
        if path.stem in SIZES[2007]:  # train and val go before trainval
            lines = read_lines(path, "image names, one per line")
            listed |= {line.split()[0]: PARTS.get(path.stem, "train") for line in lines}
    if listed:
        parts = [listed.get(path.stem, "") for path in files]
    else:
        parts = [PARTS.get(name.split("/")[0].lower(), "train") for name in beside]
    left = [name for name, part in zip(names, parts, strict=True) if not part]
    notes = [f"{len(left):,} images in no list of ImageSets/Main left out, such as {left[0]}"] if left else []
    dataset = split_by_part("voc", labels, whole, parts, notes)
    return dataset if "test" in dataset.splits else with_test_split(dataset, root / "splits.csv", test_share, seed)


def _joined(halves: list[Split]) -> Split:
    names, paths = ([value for half in halves for value in getattr(half, key)] for key in ("names", "paths"))
    boxes = None if any(half.boxes is None for half in halves) else [box for half in halves for box in half.boxes]
    return Split(names, paths, np.concatenate([half.targets for half in halves]), boxes)


def _divided(folder: Path, year: int, file: Path) -> Dataset:
    """The images of trainval that the table `file` names, each in its part."""
    part_of = _read_ids(file, "part")
    names = [name for name in _image_ids(folder, year, "trainval") if name in part_of]
    trainval = set(names)
    for image, part in sorted(part_of.items()):
        if part not in ("train", "val", "test") or image not in trainval:
            raise UserError(
                f"{file} names the image {image!r} of the part {part!r}: expected an image of VOC {year} trainval in "
                f"{folder}, and train, val or test"
            )
    whole = _split(folder, year, "trainval", names)
    note = f"{len(names):,} images of VOC {year} trainval, divided into training and test images by {file.name}"
    return split_by_part(f"voc{year}", LABELS, whole, [part_of[name] for name in names], [note], file)


def write_server_files(path: str | Path, names: Sequence[str], logits: np.ndarray) -> None:
    """Write the zip archive that the VOC evaluation server takes for the classification task.

    names: N image ids; logits: [N, 20] in the order of LABELS. The archive holds
    results/VOC2012/Main/comp1_cls_test_<label>.txt, one line "id confidence" per image.
    """
    if logits.shape != (len(names), len(LABELS)) or not np.isfinite(logits).all():
        raise UserError(f"the server files need finite logits of shape {(len(names), len(LABELS))}, not {logits.shape}")
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


def _image_ids(folder: Path, year: int, name: str) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{name}.txt"
    return read_lines(path, f"the image ids of VOC {year} {name}, one per line")


def _read_ids(path: Path, column: str) -> dict[str, str]:
    """The second `column` of a table of image ids by its first; "" where a line is an id alone."""
    lines = read_lines(path, f"image ids, one per line, or columns image,{column}")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    for row in rows:
        if len(row) > 2:
            raise UserError(f"{path}: expected an image id per line, or image,{column}; got {','.join(row)!r}")
    return {row[0]: "".join(row[1:]) for row in rows if row != ["image", column]}


def _split(folder: Path, year: int, name: str, names: list[str]) -> Split:
    """The images `names` of the official list `name`; without public labels all targets are 0 and boxes None."""
    targets = np.zeros((len(names), len(LABELS)), dtype=np.int8)
    for column, label in enumerate(LABELS):
        path = folder / "ImageSets" / "Main" / f"{label}_{name}.txt"
        if (year, name) == (2012, "test") and not path.exists():  # as it is published
            continue
        lines = read_lines(path, f"for each image a line 'id 1', 'id -1' or 'id 0' for the label {label}")
        marks = dict(line.split(maxsplit=1) for line in lines if " " in line)
        for row, image in enumerate(names):
            if marks.get(image) not in ("1", "0", "-1"):
                raise UserError(f"{path} gives no mark 1, 0 or -1 for image {image!r}; got {marks.get(image)!r}")
            targets[row, column] = int(marks[image])
    paths = [folder / "JPEGImages" / f"{image}.jpg" for image in names]
    annotations = folder / "Annotations"
    if not annotations.is_dir() or (names and not targets.any()):
        return Split(names, paths, targets)
    return Split(names, paths, targets, [_boxes(_objects(annotations / f"{n}.xml", LABELS), LABELS) for n in names])


def _boxes(objects: list[tuple[str, bool, list[float]]], labels: Sequence[str]) -> np.ndarray:
    """Boxes of one image, float32 [K, 5], without those of difficult objects."""
    rows = [(labels.index(name), *box) for name, difficult, box in objects if box and not difficult]
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


def _objects(path: Path, labels: Sequence[str] | None = None) -> list[tuple[str, bool, list[float]]]:
    """Name, difficult, and box (none: []) of each object, from VOC's 1-based inclusive pixels to base.Split's."""
    rows = []
    try:
        for thing in ElementTree.parse(path).iterfind("object"):
            box = [thing.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
            box = [] if None in box else [float(side) - one for side, one in zip(box, (1, 1, 0, 0), strict=True)]
            rows.append(((thing.findtext("name") or "").strip(), thing.findtext("difficult") == "1", box))
    except FileNotFoundError:
        raise UserError(f"missing file {path}, expected there: the boxes of one image") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"cannot read the boxes in {path}: {error}") from error
    if odd := [name for name, _, _ in rows if labels and name not in labels]:
        raise UserError(f"cannot read the boxes in {path}: {odd[0]!r} is no label of VOC (own labels: data set voc)")
    return rows
