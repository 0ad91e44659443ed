"""The Apparel reader and its halves."""

import random

import pytest

from mlclib import datasets
from mlclib.common.errors import UserError

NAMES = [
    f"{folder}/{n:03d}.jpg"
    for n, folder in enumerate(sorted(["black_dress", "green_shoes", "white_shorts"] * 7))
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    for name in (*NAMES, ".thumbs/x.jpg", "black_dress/list.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_folders_give_a_colour_and_a_garment(root):
    data = datasets.load("apparel", root)
    for split in data.splits.values():
        for name, path, targets in zip(split.names, split.paths, split.targets, strict=True):
            assert path == root / name
            assert "_".join(data.labels[c] for c in (targets == 1).nonzero()[0]) == name.split("/")[0]
            assert ((targets == 1) | (targets == -1)).all()


@pytest.mark.parametrize("twice", [False, True])
def test_the_halves_are_those_of_the_authors_shuffle(root, twice):
    """A picture in two folders stands once, with the labels of the last: their label file is a dictionary by name."""
    if twice:
        (root / "white_shorts" / "000.jpg").touch()
    data = datasets.load("apparel", root)
    names = ["white_shorts/000.jpg" if twice else NAMES[0], *NAMES[1:]]
    random.seed(10)
    random.shuffle(names)
    assert data.splits["train"].names == names[:10] and data.splits["test"].names == names[10:]
    assert "21 of the 11,384 images of Apparel" in data.notes


def test_missing_and_odd_folders_are_named(root, tmp_path):
    with pytest.raises(UserError, match="no images in .*none"):
        datasets.load("apparel", root / "none")
    with pytest.raises(UserError, match="no images in"):
        datasets.load("apparel", root / ".thumbs")
    (root / "purple_dress").mkdir()
    with pytest.raises(UserError, match="unknown Apparel folder 'purple_dress'"):
        datasets.load("apparel", root)
