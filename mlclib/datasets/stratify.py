"""Parts of a data set, and iterative stratification, which keeps each label's share in every part.

Source: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError
from mlclib.common.files import write_text
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

    def place(row: int, need: np.ndarray) -> None:
        best = np.flatnonzero(need == need.max())
        best = best[wanted[best] == wanted[best].max()]
        part = parts[row] = best[0] if len(best) == 1 else rng.choice(best)
        wanted[part] -= 1
        wanted_of[part] -= present[row]

    while (left := present[parts < 0].sum(axis=0)).any():
        label = rng.choice(np.flatnonzero(left == left[left > 0].min()))
        for row in rng.permutation(np.flatnonzero(present[:, label] & (parts < 0))):
            place(row, wanted_of[:, label])
    for row in rng.permutation(np.flatnonzero(parts < 0)):  # images without any label
        place(row, wanted)
    return parts


def stratified_subset(present: np.ndarray, count: int, parts: int = 24) -> np.ndarray:
    """The first `count` images of an order in which every start keeps each label's share: their rows, int64 [count].

    The images are divided into `parts` stratified parts, which follow one another; what is taken at one count is among
    what is taken at a larger one. Raises UserError where there are fewer images.
    """
    if count > len(present):
        raise UserError(f"training.images is {count:,} and there are {len(present):,} training images: take fewer")
    return np.argsort(split(present, np.full(parts, 1 / parts), seed=0), kind="stable")[:count]


def with_validation_split(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with `share` of its training images as the split "val".

    Raises UserError where it has a validation part of its own, and where nothing would be left on one side.
    """
    if "val" in dataset.splits:
        raise UserError(f"data set {dataset.name} has a validation part of its own: take val_share out of its options")
    whole = dataset.splits["train"]
    parts = split(whole.targets == 1, (1 - share, share), seed)
    train, val = (whole.take(np.flatnonzero(parts == part)) for part in (0, 1))
    if not len(train) or not len(val):
        raise UserError(
            f"val_share {share} of data set {dataset.name} divides its {len(whole)} training images into {len(train)} "
            f"and {len(val)}: choose another share"
        )
    count = f"{len(val):,} of {len(whole):,} training images"
    note = f"{count} set apart for validation by iterative stratification, seed {seed}"
    return dataset.with_splits({"train": train, "val": val}, note)


def split_by_part(
    name: str, labels: tuple[str, ...], whole: Split, parts: list[str], notes: Iterable[str], source: Path | None = None
) -> Dataset:
    """The data set of the images `whole`, each in its part of train, val, test.

    source: what names the parts, if it must name those that training and scores need; raises UserError where it lacks
    one.
    """
    rows = {part: [row for row, own in enumerate(parts) if own == part] for part in ("train", "val", "test")}
    splits = {part: whole.take(own) for part, own in rows.items() if own}
    for need in ("train", "test") if source else ():
        if need not in splits:
            rename = "; if val is what scores are for, call it test" if "val" in splits else ""
            raise UserError(f"{source} has no image of the part {need!r} (there are: {', '.join(splits)}){rename}")
    return Dataset(name, labels, splits, tuple(notes))


def with_test_split(dataset: Dataset, file: Path, test_share: float, seed: int) -> Dataset:
    """`dataset`, which has no test part, with a share of its training images as that, as the table `file` divides them.

    `file` is written where it is not there, by iterative stratification. Raises UserError where it does not fit.
    """
    whole = dataset.splits["train"]
    title = f"# iterative stratification, seed {seed}, test share {test_share}"
    if not file.exists():
        drawn = np.array(["train", "test"])[split(whole.targets == 1, (1 - test_share, test_share), seed)]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([("path", "split"), *zip(whole.names, drawn, strict=True)])
        try:
            write_text(file, f"{title}\n{text.getvalue()}")
        except OSError as error:
            raise UserError(f"cannot write the split to {file} ({error}); give the table a column split") from error
    with open(file, newline="", encoding="utf-8") as lines:
        first = lines.readline().rstrip("\n")
        parts = {row[0]: row[1] for row in csv.reader(lines) if row[1:] in (["train"], ["test"])}
    if first != title:
        raise UserError(f"{file} says {first!r}, but the options say {title!r}; remove the file to make a new split")
    if odd := parts.keys() ^ set(whole.names):
        raise UserError(
            f"{file} does not fit the images: {len(odd)} stand on one side alone, such as {min(odd)!r}; "
            f"remove the file to make a new split"
        )
    drawn = split_by_part("", dataset.labels, whole, [parts[name] for name in whole.names], ())
    return dataset.with_splits(drawn.splits, f"train and test split made by iterative stratification, see {file.name}")
