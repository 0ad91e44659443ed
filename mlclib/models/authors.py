"""The files that the authors of MSRN and DSDL publish: checkpoints, label graphs and label vectors.

They are pickles, and a pickle may run any command. Nothing here is unpickled freely: graphs and vectors pass through
a reader that knows numpy arrays and plain containers alone, checkpoints through torch's weights_only.
The files name no labels, so a wrong order is found by what they hold: `_check_order`.
"""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlclib.common.errors import UserError
from mlclib.datasets import labels

# How numpy writes an array (up to protocol 4, and in 5), a scalar and a dtype, under its names before and since 2.0.
_ADMITTED = {
    f"{core}.{name}": value
    for core in ("numpy.core", "numpy._core")
    for name, value in (
        ("multiarray._reconstruct", np.empty(0).__reduce__()[0]),
        ("numeric._frombuffer", np.empty(0).__reduce_ex__(5)[0]),
        ("multiarray.scalar", np.float64(0).__reduce__()[0]),
    )
} | {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
LIKE = 0.5  # the least correlation with the data set's own relation of labels; another order has about 0
BETTER = 0.03  # the most that exchanging two labels may add to it


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_pickle(path: str | Path) -> Any:
    """What a pickle of numpy arrays and plain containers holds.

    Raises UserError for a file that is no pickle, and for one that names any other global, before it is used.
    """
    try:
        with open(path, "rb") as file:
            return _Reader(file).load()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); name a file of the authors") from error
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise UserError(
            f"{path} is refused: {error}, and only pickles of numpy arrays, lists and dicts are read"
        ) from error


def read_cooccurrence(
    path: str | Path, names: Sequence[str], counts: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The label graph of a `*_adj.pkl`: (counts [C, C], totals [C]), float64, as they stand in the file.

    names: the data set's labels. counts [C, C]: the data set's own co-occurrence, to tell the file's order by.
    Kept as published, since the checkpoints were trained with them: the diagonal of NUS-WIDE's counts is not zero
    and its totals are row sums plus one; Apparel's counts are not symmetric and its totals are all one.
    Raises UserError for another content, number or (with `counts`) order of labels.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or {"adj", "nums"} - content.keys():
        raise UserError(f"{path} holds no dict of adj and nums; give a *_adj.pkl of the authors")
    graph, totals = _numbers(content["adj"], path), _numbers(content["nums"], path)
    if graph.shape != (len(names), len(names)) or totals.shape != (len(names),):
        raise UserError(
            f"{path} has adj {list(graph.shape)} and nums {list(totals.shape)} where the data set has "
            f"{len(names)} labels; give the file of this data set"
        )
    if counts is not None:
        own = np.asarray(counts, dtype=np.float64)
        _check_order(np.log1p(graph + graph.T), np.log1p(own + own.T), names, path, "co-occurrence")
    return graph, totals


def read_label_vectors(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """The label vectors of a `*_glove_word2vec.pkl`, float32 [C, V].

    names: the data set's labels, whose order is told by the project's own vectors, where it has one for every label.
    Raises UserError for another content, number or order of labels.
    """
    vectors = _numbers(read_pickle(path), path)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise UserError(
            f"{path} holds an array {list(vectors.shape)} where the data set has {len(names)} labels; "
            "give the file of this data set"
        )
    try:
        own = labels.vectors(names)
    except UserError:  # a label that the project's table has no word for: nothing to compare with
        return vectors.astype(np.float32)
    _check_order(labels.similarity(vectors), labels.similarity(own), names, path, "word similarity")
    return vectors.astype(np.float32)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, bare or as {"state_dict": ..., "epoch": ..., "best_score": ...}.

    A `module.` prefix (of DataParallel) is taken off; names are otherwise those of the file, for `load_authors`.
    Raises UserError for a file that holds anything but tensors and plain values.
    """
    admitted = [(value, name) for name, value in _ADMITTED.items()] + [type(np.dtype(t)) for t in ("f4", "f8", "i8")]
    try:
        with torch.serialization.safe_globals(admitted):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); name a checkpoint of the authors") from error
    except Exception as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it names {named[1]}" if named else "it is damaged or no checkpoint"
        raise UserError(f"{path} is refused: {reason}, and only tensors and plain values are read") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict; give a checkpoint as the authors publish them")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _numbers(value: Any, path: str | Path) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        raise UserError(f"{path} holds something other than finite numbers; give a file of the authors")
    return array


def _check_order(theirs: np.ndarray, ours: np.ndarray, names: Sequence[str], path: str | Path, what: str) -> None:
    """Raise UserError where two symmetric relations [C, C] of the labels cannot be in the same order.

    They correlate over the pairs of labels: 0.79 to 0.92 for the authors' files and the project's vectors, above 0.55
    for the co-occurrence of 50 images and of 5,011, about 0 after a permutation. Exchanging two labels of files in
    the same order gains less than BETTER; it gains more where just those two stand in each other's place and differ.
    """
    count = len(names)
    if count < 4:  # too few pairs to tell anything
        return
    pairs = ~np.eye(count, dtype=bool)
    x, y = (np.where(pairs, m - m[pairs].mean(), 0.0) for m in (theirs, ours))
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    if scale == 0:
        return
    products = x @ y.T / scale
    own = np.diag(products)
    like = own.sum()  # the correlation; exchanging labels i and j would add gains[i, j] to it
    gains = 2 * (products + products.T - own[:, None] - own + 2 * x * y / scale) * pairs
    i, j = np.unravel_index(gains.argmax(), gains.shape)
    if like < LIKE or gains[i, j] > BETTER:
        raise UserError(
            f"{path} is not in the data set's order of labels: its {what} correlates {like:.2f} with the data set's "
            f"({like + gains[i, j]:.2f} if {names[i]!r} and {names[j]!r} were exchanged); give the data set's labels "
            "in the order that the authors used"
        )
