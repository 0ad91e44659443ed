"""Apparel: 11,385 photographs of garments in folders `<colour>_<garment>`, 11 labels, two an image.

    black_dress/*.jpg, black_pants/*.jpg, ..., white_shorts/*.jpg        (24 folders)

MSRN (arXiv 2106.11596) trains on one half and tests on the other, drawn by shuffling its file list with seed
10. The list's order was that of the authors' disk and is not published: without it, the same draw is made
from the sorted names, which gives halves of the same size but not the same halves, and the notes say so.
"""

import random
from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.datasets.base import Dataset, Split

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
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


def load(root: str | Path, *, order: str | Path | None = None) -> Dataset:
    """Read Apparel from `root`, the folder that holds the 24 folders.

    order: a text file with all image file names in the authors' order, one a line, with or without their
    folder; it gives the authors' halves. Raises UserError for a folder whose name is no colour and garment,
    and for an order that does not name each image once.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no folder {root}, expected there: the Apparel folders black_dress, black_pants, ...")
    files = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        colour, _, garment = folder.name.partition("_")
        if colour not in COLOURS or garment not in GARMENTS:
            known = [f"{c}_{g}" for c in COLOURS for g in GARMENTS]
            raise unknown("Apparel folder", folder.name, known, str(root))
        files += sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"no images in {root}, expected there: the Apparel folders black_dress, black_pants, ...")
    if order is not None:
        files, note = _ordered(files, Path(order)), f"the halves that seed {SEED} draws from {Path(order).name}"
    else:
        note = f"halves drawn with seed {SEED} from the sorted file names, not the authors' halves"
    random.Random(SEED).shuffle(files)
    middle = len(files) // 2
    splits = {"train": _split(files[:middle]), "test": _split(files[middle:])}
    notes = (note,) if len(files) == SIZE else (note, f"{len(files):,} of the {SIZE:,} images of Apparel")
    return Dataset("apparel", LABELS, splits, notes)


def _split(files: list[Path]) -> Split:
    targets = np.full((len(files), len(LABELS)), -1, dtype=np.int8)
    for row, file in enumerate(files):
        for label in file.parent.name.split("_"):
            targets[row, LABELS.index(label)] = 1
    return Split([f"{f.parent.name}/{f.name}" for f in files], files, targets)


def _ordered(files: list[Path], order: Path) -> list[Path]:
    try:
        lines = order.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {order}, expected there: the Apparel file names, one a line") from error
    wanted = [line.strip() for line in lines if line.strip()]
    with_folder = any("/" in name for name in wanted)
    by_name = {f"{f.parent.name}/{f.name}" if with_folder else f.name: f for f in files}
    if len(by_name) != len(files) or sorted(by_name) != sorted(wanted):
        odd = set(by_name).symmetric_difference(wanted)
        raise UserError(
            f"{order} must name each of the {len(files)} images in {files[0].parents[1]} once; it has {len(wanted)} "
            f"lines, and {len(odd)} names stand on one side alone" + (f", such as {min(odd)!r}" if odd else "")
        )
    return [by_name[name] for name in wanted]
