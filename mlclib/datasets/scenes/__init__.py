"""Scenes: the embedded data set, drawn by this package with Pillow, so that everything runs with no download.

Outdoor and indoor scenes of 22 named things. Which things appear together follows the place (places.py), so labels
correlate in groups; unnamed things (bushes, crates, balloons, ...) are clutter. Every image is a function of (seed,
split, index) alone: it can be drawn by itself, in any order and in any process, with the same bytes.
"""

import fcntl
import itertools
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mlclib.common.errors import UserError
from mlclib.common.files import write_text
from mlclib.datasets.base import Count, Dataset, Seed, Split
from mlclib.datasets.scenes.picture import LABELS, draw_scene, draw_versions, misplaced

__all__ = ["LABELS", "draw_scene", "draw_versions", "load", "misplaced", "targets"]

VERSION = 2  # of the drawing code: raise it with every change that changes a picture
SPLITS = ("train", "test", "val")  # the number of each is a part of what its pictures are drawn from
BY_HAND = "scenes is drawn by the project itself and needs no download"


def _draw_to(folder: Path, seed: int, split: int, index: int) -> dict:
    picture, annotation = draw_scene(seed, split, index)
    name = f"{SPLITS[split]}_{index:05d}"
    picture.save(folder / "images" / f"{name}.jpg", quality=90)
    return {"name": name, **annotation}


def _draw_all(folder: Path, parameters: dict) -> None:
    (folder / "images").mkdir(parents=True)
    sizes = {split: parameters[split] for split in SPLITS}
    jobs = [(folder, parameters["seed"], i, k) for i, size in enumerate(sizes.values()) for k in range(size)]
    if len(jobs) < 100:  # to start processes would take longer
        done = [_draw_to(*job) for job in jobs]
    else:  # spawned: a fork of a notebook's kernel, which has threads, can hang
        workers = min(os.cpu_count() or 1, len(jobs) // 50)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            done = list(pool.map(_draw_to, *zip(*jobs, strict=True), chunksize=20))
    records = iter(done)
    images = {split: list(itertools.islice(records, size)) for split, size in sizes.items()}
    write_text(folder / "scenes.json", json.dumps({"scenes": parameters, "images": images}))


def _parameters_of(root: Path) -> dict | None:
    """What the scenes in `root` were drawn with; None where there are none."""
    try:
        return json.loads((root / "scenes.json").read_text(encoding="utf-8")).get("scenes")
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _draw(root: Path, parameters: dict) -> None:
    """Draw beside `root` and rename when whole; one process at a time: another waits, and finds the scenes drawn."""
    root.parent.mkdir(parents=True, exist_ok=True)
    part, old = (root.with_name(f".{root.name}.{end}") for end in ("part", "old"))
    with open(root.with_name(f".{root.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _parameters_of(root) == parameters:
            return
        for left in (part, old):  # by a killed process
            shutil.rmtree(left, ignore_errors=True)
        _draw_all(part, parameters)
        if root.exists():
            root.rename(old)
        part.rename(root)
        shutil.rmtree(old, ignore_errors=True)


def _split(root: Path, records: list[dict]) -> Split:
    boxes = [
        [[LABELS.index(b["label"]), *b["box"]] for b in record["boxes"] if not b["difficult"]] for record in records
    ]
    names = [r["name"] for r in records]
    return Split(
        names,
        [root / "images" / f"{n}.jpg" for n in names],
        np.array([targets(record["boxes"]) for record in records]).reshape(-1, len(LABELS)),
        [np.array(of_image, np.float32).reshape(-1, 5) for of_image in boxes],
    )


def targets(boxes: list[dict]) -> np.ndarray:
    """The targets, int8 [C], of an image with these boxes."""
    row = np.full(len(LABELS), -1, np.int8)
    for box in boxes:
        column = LABELS.index(box["label"])
        row[column] = max(row[column], 0 if box["difficult"] else 1)
    return row


def load(
    root: Path, *, train: Count = 600, val: Annotated[int, Field(ge=0)] = 200, test: Count = 400, seed: Seed = 0
) -> Dataset:
    """The scenes in the folder `root`, drawn there first where they are not there with these sizes and this seed.

    val: images of the validation part; with 0 there is none.
    A target is 0 (difficult) where all that is there of a label is less than HALF_HIDDEN visible or smaller
    than SMALLEST; a thing less than HIDDEN visible does not count. The boxes are the visible extents
    of the things that are present and not difficult.
    Raises UserError where `root` holds something else, or where a file of the set is missing.
    """
    root = Path(root)
    sizes = {"train": train, "test": test, "val": val}
    parameters = {"version": VERSION, "seed": seed, **sizes, "labels": list(LABELS)}
    drawn = _parameters_of(root)
    if drawn is None and root.exists() and any(root.iterdir()):
        raise UserError(f"{root} holds files but no scenes (no scenes.json): name a new folder for the scenes")
    if drawn != parameters:
        _draw(root, parameters)
    images = json.loads((root / "scenes.json").read_text(encoding="utf-8"))["images"]
    splits = {key: _split(root, images[key]) for key in ("train", "val", "test") if images[key]}
    images_on_disk = {p.name for p in (root / "images").glob("*.jpg")}
    for path in (p for split in splits.values() for p in split.paths):
        if path.name not in images_on_disk:
            raise UserError(f"{path} is missing from the scenes: delete the folder {root}, and they are drawn again")
    return Dataset("scenes", LABELS, splits, version=str(VERSION))
