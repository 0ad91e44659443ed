"""coco18: 20,000 photographs of COCO with 18 of its labels, read from a clone of a public repository.

    data/data/<n>.jpg    photographs, the longer side about 320 pixels
    data/train.csv       ImageID, Labels, Caption: one record for each of the images 0 to 29,999

Labels are COCO's category ids with blanks between them. Captions hold line breaks and stray quotes, so the table is
read record by record. Of the 30,000 labelled images this project reads 0 to 19,999: the table
data/coco18_ids.csv divides them into 12,000 for training, 2,000 for validation and 6,000 for test. The labels and
pictures of 20,000 to 29,999 stay unread: whoever checks this project has them.
"""

import csv
from pathlib import Path

import numpy as np

from mlclib.common.errors import UserError, check_name
from mlclib.datasets import stratify
from mlclib.datasets.base import Dataset, Split, read_rows, targets_of

CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse",
}  # fmt: skip
LABELS = tuple(CATEGORIES.values())

RECORDS = 30_000  # of the table
IMAGES = 20_000  # that this project reads
IDS = Path(__file__).parents[2] / "data" / "coco18_ids.csv"  # made by data/make_coco18_ids.py

REPOSITORY = "https://github.com/syf0122/COMP5329_Assignment02"
COMMIT = "7c1fe6ff6a8b1498e1cb85e2fa4c3870ffdfefbb"
BY_HAND = (
    f"coco18 is a public repository of 436 MB: `git clone {REPOSITORY} {{root}} && git -C {{root}} checkout {COMMIT}` "
    "brings it, and `python -m mlclib data coco18 --root {root} --verify` checks it"
)
NOTES = (
    "20,000 photographs of COCO with 18 of its 80 labels, each image with one of them at least",
    "training, validation and test images are divided by this project: these mAPs do not compare with published ones",
)


def load(root: Path) -> Dataset:
    """Read coco18 from `root`, a clone of the repository as git lays it.

    Raises UserError for a missing table, a table that does not add up to 30,000 records in the order of their ids, and
    a label that is none of the 18.
    """
    names = [str(number) for number in range(IMAGES)]
    paths = [root / "data" / "data" / f"{name}.jpg" for name in names]
    whole = Split(names, paths, read_targets(root / "data" / "train.csv"))
    return stratify.split_by_part("coco18", LABELS, whole, [row["part"] for row in read_rows(IDS)], NOTES)


def read_targets(table: Path) -> np.ndarray:
    """The targets of the images 0 to 19,999, int8 [20000, 18]; of the later records only the ids are looked at."""
    numbers, get = [str(number) for number in CATEGORIES], BY_HAND.format(root=table.parents[1])
    try:
        with open(table, newline="", encoding="utf-8") as file:
            records = list(csv.reader(file))[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {table}: {get}") from error
    for place, record in enumerate(records):
        if len(record) < 3 or record[0] != f"{place}.jpg":
            raise UserError(
                f"{table}: expected the record of image {place}.jpg with its labels and caption, got "
                f"{','.join(record)[:60]!r}; {get}"
            )
    if len(records) != RECORDS:
        raise UserError(f"{table} holds {len(records):,} records, not {RECORDS:,}; {get}")
    lists = [record[1].split() for record in records[:IMAGES]]
    for place, number in ((place, number) for place, own in enumerate(lists) for number in own):
        check_name("category id", number, numbers, f"{table}, image {place}.jpg")
    return targets_of(lists, numbers)
