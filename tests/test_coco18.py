"""coco18 is read from a clone as git lays it, and a table that does not add up is refused."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from made_data import coco18_clone

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import coco18

SCRIPT = runpy.run_path(Path(__file__).parents[1] / "data" / "make_coco18_ids.py")


def test_each_image_has_its_labels_its_file_and_its_part(tmp_path):
    captions = {3: '3.jpg,8 3 13,"two\nlines, and a comma"\n', 4: '4.jpg,1,"no ""end"", it says" not\n'}
    dataset = datasets.load("coco18", coco18_clone(tmp_path, captions))
    assert dataset.labels[:2] == ("person", "bicycle") and len(dataset.labels) == 18
    assert {part: len(split) for part, split in dataset.splits.items()} == SCRIPT["PARTS"]
    names = [name for split in dataset.splits.values() for name in split.names]
    assert sorted(map(int, names)) == list(range(20_000))
    for split in dataset.splits.values():
        for row in (0, len(split) - 1):
            number = int(split.names[row])
            assert split.paths[row] == tmp_path / "data" / "data" / f"{number}.jpg"
            assert number in captions or np.flatnonzero(split.targets[row] == 1).tolist() == [number % 18]
    split = next(split for split in dataset.splits.values() if "3" in split.names)
    columns = np.flatnonzero(split.targets[split.names.index("3")] == 1)
    assert [dataset.labels[column] for column in columns] == ["car", "truck", "stop sign"]


def test_images_from_20000_on_are_neither_named_nor_their_labels_read(tmp_path):
    plain = datasets.load("coco18", coco18_clone(tmp_path / "plain"))
    odd = datasets.load("coco18", coco18_clone(tmp_path / "odd", {25_000: "25000.jpg,99,unread\n"}))
    assert plain.checksum() == odd.checksum()


@pytest.mark.parametrize(
    ("changed", "count", "where"),
    [
        ({}, 29_999, "29,999 records"),
        ({}, 30_001, "30,001 records"),
        ({7: ""}, 30_000, "7.jpg"),
        ({7: "7.jpg,1\n"}, 30_000, "7.jpg"),
        ({7: '7.jpg,1,"a caption without its end\n'}, 30_000, "8.jpg"),
        ({7: "7.jpg,1 12,hat\n"}, 30_000, "'12'"),
    ],
)
def test_a_table_that_does_not_add_up_is_refused(tmp_path, changed, count, where):
    with pytest.raises(UserError, match=where) as error:
        datasets.load("coco18", coco18_clone(tmp_path, changed, count))
    assert "train.csv" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=f"git clone {coco18.REPOSITORY}.*{coco18.COMMIT}"):
        datasets.load("coco18", tmp_path / "none")


def test_the_division_has_exact_sizes_and_each_label_s_share():
    rng = np.random.default_rng(0)
    targets = np.where(rng.random((coco18.IMAGES, 18)) < 0.05, 1, -1)
    targets[:, 0] = np.where(rng.random(coco18.IMAGES) < 0.8, 1, -1)
    parts = SCRIPT["divide"](targets)
    for part, size in SCRIPT["PARTS"].items():
        assert (parts == part).sum() == size
        shown = (targets[parts == part] == 1).sum(0)
        expected = (targets == 1).sum(0) * size / coco18.IMAGES
        assert np.abs(shown[1:] - expected[1:]).max() <= 2 and abs(shown[0] / expected[0] - 1) < 0.05
