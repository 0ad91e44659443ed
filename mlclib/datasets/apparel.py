"""Apparel: 11,384 photographs of garments in folders `<colour>_<garment>`, 11 labels, two per image.

    black_dress/*.jpg, black_pants/*.jpg, ..., white_shorts/*.jpg        (24 folders)

MSRN (arXiv 2106.11596) trains on one half and tests on the other, drawn by shuffling a list of the names with seed 10.
Its authors' label file shows that list: folders and names sorted, and 11,384 names for 11,385 files, as one picture
lies in two folders. It stands where the first file stands and has the labels of the last.
"""

import random
from pathlib import Path

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import SUFFIXES, Dataset, Split, targets_of

COLOURS = ("black", "blue", "brown", "green", "red", "white")
GARMENTS = ("dress", "pants", "shirt", "shoes", "shorts")
LABELS = COLOURS + GARMENTS
SIZE = 11384
SEED = 10
PUBLISHED = {"apparel": {"train": SIZE // 2, "test": SIZE // 2}}
BY_HAND = (
    "Apparel lies behind an account: download trolukovich/apparel-images-dataset from kaggle.com and "
    "unpack it so that {root} holds its 24 folders black_dress, black_pants, ..."
)


def load(root: Path) -> Dataset:
    """Read Apparel from `root`, the folder that holds the 24 folders, in the authors' halves.

    Raises UserError for a folder whose name is no colour and garment, and where there are no images.
    """
    by_name: dict[str, Path] = {}
    for folder in sorted(p for p in root.glob("[!.]*") if p.is_dir()):
        colour, _, garment = folder.name.partition("_")
        if colour not in COLOURS or garment not in GARMENTS:
            names = [f"{c}_{g}" for c in COLOURS for g in GARMENTS]
            raise unknown("Apparel folder", folder.name, names, str(root))
        by_name |= {p.name: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    if not by_name:
        raise UserError(f"no images in {root}, expected there: the Apparel folders black_dress, black_pants, ...")
    files = list(by_name.values())
    random.Random(SEED).shuffle(files)
    names = [f"{file.parent.name}/{file.name}" for file in files]
    whole = Split(names, files, targets_of([file.parent.name.split("_") for file in files], LABELS))
    middle = len(files) // 2
    splits = {"train": whole.take(range(middle)), "test": whole.take(range(middle, len(files)))}
    part = [f"{len(files):,} of the {SIZE:,} images of Apparel"] if len(files) != SIZE else []
    return Dataset("apparel", LABELS, splits, (f"the authors' halves, drawn with seed {SEED}", *part))
