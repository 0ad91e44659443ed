"""Small data sets in each set's true layout on disk: drawn pictures, made labels, boxes, difficult marks."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from test_coco import annotation, write
from test_voc import devkit

from mlclib.datasets import apparel, coco, coco18, corel5k, nuswide, voc

TRAIN, TEST = 24, 12


def picture(path: Path, seed: int, side: tuple[int, int] = (96, 72)) -> None:
    """A JPEG of coloured noise, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(small).resize(side, Image.BICUBIC).save(path, quality=85)


def shown(images: int, labels: int, seed: int) -> list[list[int]]:
    """Two to four labels an image; each label is shown by some image where there are enough."""
    rng = np.random.default_rng(seed)
    marks = [sorted(rng.choice(labels, rng.integers(2, 5), replace=False).tolist()) for _ in range(images)]
    for label in range(labels):
        marks[label % images] = sorted({*marks[label % images], label})
    return marks


def voc_devkit(root: Path, year: int) -> None:
    """Lists trainval and test; VOC 2012's test list comes without labels and without boxes, as it is published."""
    first = "2012_" if year == 2012 else ""
    lists = {"trainval": [f"{first}0{i:05d}" for i in range(TRAIN)], "test": [f"{first}1{i:05d}" for i in range(TEST)]}
    marks = {}
    for part, ids in enumerate(lists.values()):
        for i, (image, labels) in enumerate(zip(ids, shown(len(ids), 20, 10 * year + part), strict=True)):
            marks |= {(image, voc.LABELS[c]): int(c != labels[-1] or i % 4 > 0) for c in labels}
    folder = devkit(root, year, lists, marks)
    for number, image in enumerate(image for ids in lists.values() for image in ids):
        picture(folder / "JPEGImages" / f"{image}.jpg", 1000 * year + number)
    secret = [*folder.glob("ImageSets/Main/*_test.txt"), *(folder / "Annotations" / f"{i}.xml" for i in lists["test"])]
    for path in secret if year == 2012 else ():
        path.unlink()


def voc_ids(path: Path) -> None:
    """The ids of the made VOC 2007 in the form of data/voc2007_sample_ids.csv."""
    rows = [(f"0{i:05d}", "trainval") for i in range(TRAIN)] + [(f"1{i:05d}", "test") for i in range(TEST)]
    write_csv(path, [("image", "split"), *rows])


def voc_parts(path: Path) -> None:
    """A division of the made VOC 2012's trainval in the form of data/voc2012_sample_ids.csv."""
    rows = [(f"2012_0{i:05d}", "test" if i % 3 == 2 else "train") for i in range(TRAIN)]
    write_csv(path, [("image", "part"), *rows])


def write_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def voc_both(root: Path) -> None:
    """Both years in one folder."""
    for year in (2007, 2012):
        voc_devkit(root, year)


def coco_2014(root: Path) -> None:
    """All 80 categories; one object is a crowd, and one image has no object."""
    root.mkdir(parents=True)
    for part, (name, images) in enumerate((("train", TRAIN), ("val", TEST))):
        objects = []
        for image, labels in enumerate(shown(images, 80, part), 1):
            picture(root / f"{name}2014" / f"COCO_{name}2014_{image:012d}.jpg", 699 + 100 * part + image)
            objects += [annotation(image, coco.LABELS[c], crowd=int(image == 1 and c == labels[0])) for c in labels]
        write(root, name, list(range(1, images + 2)), objects)


def nus_wide(root: Path) -> None:
    """The csv layout."""
    root.mkdir(parents=True)
    with open(root / nuswide.TABLE, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["filepath", "label", "split_name"])
        for part, (name, images) in enumerate((("train", TRAIN), ("val", TEST))):
            for i, labels in enumerate(shown(images, 81, 50 + part)):
                picture(root / "images" / f"{part}_{i}.jpg", 300 + 100 * part + i)
                rows.writerow([f"images/{part}_{i}.jpg", str([nuswide.LABELS[c] for c in labels]), name])


def apparel_folders(root: Path) -> None:
    """All folders of a colour and a garment, two images each."""
    for i, colour in enumerate(apparel.COLOURS):
        for j, garment in enumerate(apparel.GARMENTS):
            for k in range(2):
                number = 9000 + 20 * (5 * i + j) + k
                picture(root / f"{colour}_{garment}" / f"{number}.jpg", number)


def own_folder(root: Path) -> None:
    """A table of one's own images with a validation part."""
    rows = ["path,labels,split"]
    names = ["cat", "dog", "bus", "tree"]
    for part, (name, images) in enumerate((("train", TRAIN), ("val", 8), ("test", TEST))):
        for i, labels in enumerate(shown(images, 4, 90 + part)):
            picture(root / f"{name}_{i}.jpg", 5000 + 100 * part + i)
            rows.append(f"{name}_{i}.jpg,{'|'.join(names[c] for c in labels[:2])},{name}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


def coco18_clone(root, changed=None, count=coco18.RECORDS):
    """A clone's table, whose image n shows the category n counted round; `changed` rows stand in place of those."""
    categories = list(coco18.CATEGORIES)
    rows = [f'{n}.jpg,{categories[n % 18]},"A picture, number {n}"\n' for n in range(count)]
    for number, row in (changed or {}).items():
        rows[number] = row
    (root / "data" / "data").mkdir(parents=True, exist_ok=True)
    (root / "data" / "train.csv").write_text("ImageID,Labels,Caption\n" + "".join(rows), encoding="utf-8")
    return root


def corel5k_clone(root: Path) -> None:
    """A clone's words, lists and matrices, without pictures; they show 20 of the words."""
    folder = root / "DataSet"
    folder.mkdir(parents=True)
    (folder / "corel5k_words.txt").write_text("\n".join(corel5k.LABELS) + "\n", encoding="utf-8")
    for part, (name, images) in enumerate((("train", TRAIN), ("test", TEST))):
        matrix = np.zeros((images, len(corel5k.LABELS)), dtype=np.uint16)
        for row, labels in enumerate(shown(images, 20, 70 + part)):
            matrix[row, labels] = 1
        (folder / f"corel5k_{name}_list.txt").write_text("".join(f"1000/{part}{row}\n" for row in range(images)))
        savemat(folder / f"corel5k_{name}_annot.mat", {corel5k.MATRICES[name]: matrix})


MAKE = {
    "voc2007": lambda root: voc_devkit(root, 2007),
    "voc2012": lambda root: voc_devkit(root, 2012),
    "voc2007+2012": voc_both,
    "coco2014": coco_2014,
    "coco18": coco18_clone,
    "corel5k": corel5k_clone,
    "nuswide": nus_wide,
    "apparel": apparel_folders,
    "folder": own_folder,
}

# The tables of ids that options of VOC's readers name.
VOC_TABLES = {"ids": voc_ids, "ids2007": voc_ids, "parts": voc_parts, "parts2012": voc_parts}
