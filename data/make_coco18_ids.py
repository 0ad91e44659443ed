"""Make data/coco18_ids.csv: which of coco18's images are for training, validation and test.

python data/make_coco18_ids.py CLONE
"""

import sys
from pathlib import Path

import numpy as np

from mlclib.common.files import write_text
from mlclib.datasets import coco18, stratify

PARTS = {"train": 12_000, "val": 2_000, "test": 6_000}


def divide(targets: np.ndarray) -> np.ndarray:
    """The part of each image by iterative stratification of its targets, int8 [N, C].

    Stratification meets the sizes of the parts nearly. Images of persons alone, the commonest kind, then change from
    the parts that are too large to those that are too small.
    """
    sizes = np.array(list(PARTS.values()))
    parts = stratify.split(targets == 1, sizes / sizes.sum(), seed=0)
    persons_alone = (targets[:, 0] == 1) & ((targets == 1).sum(axis=1) == 1)
    surplus = np.bincount(parts, minlength=len(PARTS)) - sizes
    changing = [
        row
        for part in np.flatnonzero(surplus > 0)
        for row in np.flatnonzero((parts == part) & persons_alone)[-surplus[part] :]
    ]
    parts[changing] = np.repeat(np.arange(len(PARTS)), np.maximum(-surplus, 0))
    return np.array(list(PARTS))[parts]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rows = divide(coco18.read_targets(Path(sys.argv[1]) / "data" / "train.csv"))
    write_text(coco18.IDS, "image,part\n" + "".join(f"{number},{part}\n" for number, part in enumerate(rows)))
