"""Iterative stratification: a split of multi-label data that keeps each label's share in every part.

Source: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mlclib.common.errors import UserError
from mlclib.datasets.base import Dataset, Split


def split(present: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """The part of each image, int64 [N] below K; `present` is bool [N, C], `shares` are K parts of one.

    The label with the fewest images left goes first; each of its images goes to the part that still wants
    most images of that label, ties broken by the part that wants most images at all, then by lot.
    """
    rng = np.random.default_rng(seed)
    shares = np.asarray(shares, dtype=np.float64)
    parts = np.full(len(present), -1, dtype=np.int64)
    wanted = shares * len(present)  # images that each part still wants
    wanted_of = shares[:, None] * present.sum(axis=0)  # [K, C], of each label
    left = present.sum(axis=0)
    while left.any():
        fewest = left[left > 0].min()
        label = rng.choice(np.flatnonzero(left == fewest))
        for row in rng.permutation(np.flatnonzero(present[:, label] & (parts < 0))):
            part = _neediest(wanted_of[:, label], wanted, rng)
            parts[row] = part
            wanted[part] -= 1
            wanted_of[part] -= present[row]
            left -= present[row]
    for row in rng.permutation(np.flatnonzero(parts < 0)):  # images without any label
        part = _neediest(wanted, wanted, rng)
        parts[row] = part
        wanted[part] -= 1
    return parts


def first(present: np.ndarray, count: int, parts: int = 24) -> np.ndarray:
    """The first `count` images of an order in which every start keeps each label's share: their rows, int64 [count].

    The images are divided into `parts` stratified parts, which follow one another; what is taken at one count is among
    what is taken at a larger one. Raises UserError where there are fewer images.
    """
    if count > len(present):
        raise UserError(f"training.images is {count:,} and there are {len(present):,} training images: take fewer")
    return np.argsort(split(present, np.full(parts, 1 / parts), seed=0), kind="stable")[:count]


def _neediest(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> int:
    best = np.flatnonzero(first == first.max())
    best = best[second[best] == second[best].max()]
    return int(best[0] if len(best) == 1 else rng.choice(best))


def set_apart(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with `share` of its training images as the split "val".

    Raises UserError where it has a validation part of its own, and where nothing would be left on one side.
    """
    if "val" in dataset.splits:
        raise UserError(f"data set {dataset.name} has a validation part of its own: take val_share out of its options")
    train = dataset.splits["train"]
    parts = split(train.targets == 1, (1 - share, share), seed)
    kept, val = (np.flatnonzero(parts == part) for part in (0, 1))
    if not len(kept) or not len(val):
        raise UserError(
            f"val_share {share} of data set {dataset.name} divides its {len(train)} training images into {len(kept)} "
            f"and {len(val)}: choose another share"
        )
    note = (
        f"{len(val):,} of {len(train):,} training images set apart for validation by iterative stratification, "
        f"seed {seed}"
    )
    splits = {**dataset.splits, "train": _rows(train, kept), "val": _rows(train, val)}
    return dataclasses.replace(dataset, splits=splits, notes=(*dataset.notes, note))


def _rows(whole: Split, rows: np.ndarray) -> Split:
    boxes = whole.boxes and [whole.boxes[row] for row in rows]
    names, paths = ([values[row] for row in rows] for values in (whole.names, whole.paths))
    return Split(names, paths, whole.targets[rows], boxes)
