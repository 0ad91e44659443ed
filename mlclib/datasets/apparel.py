"""Apparel: 11,385 photographs of garments in folders `<colour>_<garment>`, 11 labels, two per image.

    black_dress/*.jpg, black_pants/*.jpg, ..., white_shorts/*.jpg        (24 folders)

MSRN (arXiv 2106.11596) trains on one half and tests on the other, drawn by shuffling its file list with seed
10. The list's order was that of the authors' disk and is not published: without it, the same draw is made
from the sorted names, which gives halves of the same size but not the same halves, and the notes say so.
"""

import random
from pathlib import Path

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import SUFFIXES, Dataset, Split, read_lines, targets_of

COLOURS = ("black", "blue", "brown", "green", "red", "white")
GARMENTS = ("dress", "pants", "shirt", "shoes", "shorts")
LABELS = COLOURS + GARMENTS
SIZE = 11385
SEED = 10
PUBLISHED = {"apparel": {"train": SIZE // 2, "test": SIZE - SIZE // 2}}
BY_HAND = (
    "Apparel lies behind an account: download trolukovich/apparel-images-dataset from kaggle.com and "
    "unpack it so that {root} holds its 24 folders black_dress, black_pants, ..."
)


def load(root: Path, *, order: str | None = None) -> Dataset:
    """Read Apparel from `root`, the folder that holds the 24 folders.

    order: a text file with all image file names in the authors' order, one per line, with or without their
    folder; it gives the authors' halves. Raises UserError for a folder whose name is no colour and garment,
    and for an order that does not name each image once.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}, expected there: the Apparel folders black_dress, black_pants, ...")
    files = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        colour, _, garment = folder.name.partition("_")
        if colour not in COLOURS or garment not in GARMENTS:
            names = [f"{c}_{g}" for c in COLOURS for g in GARMENTS]
            raise unknown("Apparel folder", folder.name, names, str(root))
        files += sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"no images in {root}, expected there: the Apparel folders black_dress, black_pants, ...")
    note = f"halves drawn with seed {SEED} from the sorted file names, not the authors' halves"
    if order is not None:
        files, note = _ordered(files, Path(order)), f"the halves that seed {SEED} draws from {Path(order).name}"
    notes = (note,) if len(files) == SIZE else (note, f"{len(files):,} of the {SIZE:,} images of Apparel")
    random.Random(SEED).shuffle(files)
    names = [f"{file.parent.name}/{file.name}" for file in files]
    whole = Split(names, files, targets_of([file.parent.name.split("_") for file in files], LABELS))
    middle = len(files) // 2
    splits = {"train": whole.take(range(middle)), "test": whole.take(range(middle, len(files)))}
    return Dataset("apparel", LABELS, splits, notes)


def _ordered(files: list[Path], order: Path) -> list[Path]:
    """The files in the order of the list `order`."""
    names = read_lines(order, "the Apparel file names, one per line")
    with_folder = any("/" in name for name in names)
    by_name = {f"{f.parent.name}/{f.name}" if with_folder else f.name: f for f in files}
    if len(by_name) != len(files) or sorted(by_name) != sorted(names):
        odd = set(by_name).symmetric_difference(names)
        raise UserError(
            f"{order} must name each of the {len(files)} images in {files[0].parents[1]} once; it has {len(names)} "
            f"lines, and {len(odd)} names stand on one side alone" + (f", such as {min(odd)!r}" if odd else "")
        )
    return [by_name[name] for name in names]
