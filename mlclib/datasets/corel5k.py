"""Corel-5k: 4,999 photographs of 192 x 128 pixels with 260 words, read from a clone of a public repository.

    DataSet/<folder>/<n>.jpeg                     photographs
    DataSet/corel5k_{train,test}_list.txt         <folder>/<n>, one per line: the official split, 4,500 and 499 images
    DataSet/corel5k_{train,test}_annot.mat        the matrices annot1 and annot2: images x words, 1 present, 0 absent
    DataSet/corel5k_words.txt                     the 260 words, one per line

Source: Duygulu, Barnard, de Freitas, Forsyth, Object Recognition as Machine Translation, ECCV 2002. Its literature
scores five words per image (`mlclib.metrics.scores.annotation`). For scientific use only.
"""

from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError
from mlclib.datasets.base import Dataset, Split, label_names, read_lines

SIZES = {"train": 4500, "test": 499}
PUBLISHED = {"corel5k": SIZES}
MATRICES = {"train": "annot1", "test": "annot2"}

REPOSITORY = "https://github.com/Lihit/SML"
COMMIT = "f0c453d2426d09527a7b6a227188dbe201e3d3e5"
BY_HAND = (
    "corel5k is a public repository of 77 MB, for scientific use only: "
    f"`git clone {REPOSITORY} {{root}} && git -C {{root}} checkout {COMMIT}` brings it, and "
    "`python -m mlclib data corel5k --root {root} --verify` checks it"
)

LABELS = label_names("corel5k")  # in the order of corel5k_words.txt, which is that of the columns of the matrices


def load(root: Path) -> Dataset:
    """Read Corel-5k in its official split from `root`, a clone of the repository as git lays it.

    Raises UserError for a missing file, another list of words, and matrices that do not fit the lists of images.
    """
    folder, get = root / "DataSet", BY_HAND.format(root=root)
    if read_lines(folder / "corel5k_words.txt", get) != list(LABELS):
        raise UserError(f"{folder / 'corel5k_words.txt'} does not hold the 260 words of Corel-5k in their order; {get}")
    splits, notes = {}, []
    for part, size in SIZES.items():
        names = read_lines(folder / f"corel5k_{part}_list.txt", get)
        path = folder / f"corel5k_{part}_annot.mat"
        present = _matrix(path, MATRICES[part], (len(names), len(LABELS)), get)
        paths = [folder / f"{name}.jpeg" for name in names]
        splits[part] = Split(names, paths, np.where(present == 1, 1, -1).astype(np.int8))
        if len(names) != size:
            notes.append(f"{len(names):,} of the {size:,} images of Corel-5k {part}")
    return Dataset("corel5k", LABELS, splits, tuple(notes))


def _matrix(path: Path, name: str, shape: tuple[int, int], get: str) -> np.ndarray:
    """The matrix `name` of a MATLAB file, of this shape and of ones and zeros."""
    from scipy.io import loadmat  # here, as it takes long and only this data set needs it

    try:
        matrix = loadmat(path)[name]
    except Exception as error:  # whatever scipy's reader raises: a truncated file, another version, another variable
        raise UserError(f"cannot read the matrix {name} in {path}: {get}") from error
    if matrix.shape != shape or not np.isin(matrix, (0, 1)).all():
        raise UserError(
            f"{path} must hold the matrix {name} of {shape[0]} images x {shape[1]} words, of 0 and 1 alone; {get}"
        )
    return matrix
