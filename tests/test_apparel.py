"""The Apparel reader and its halves."""

import random

import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import apparel

NAMES = [f"{folder}/{i:03d}.jpg" for folder in ("black_dress", "green_shoes", "white_shorts") for i in range(7)]


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


def test_halves_are_drawn_from_the_sorted_names_and_the_notes_say_so(root):
    data = datasets.load("apparel", root)
    names = sorted(NAMES)
    random.seed(10)
    random.shuffle(names)
    assert data.splits["train"].names == names[:10] and data.splits["test"].names == names[10:]
    assert "not the authors' halves" in data.notes[0]
    assert "21 of the 11,385 images of Apparel" in data.notes


@pytest.mark.parametrize("with_folder", [True, False])
def test_the_authors_order_gives_the_authors_halves(root, tmp_path, with_folder):
    for i, name in enumerate(NAMES):  # file names of their own in each folder, as in the data set
        (root / name).rename(root / name.split("/")[0] / f"{i}.jpg")
    order = [f"{NAMES[i].split('/')[0]}/{i}.jpg" for i in reversed(range(21))]
    (root / "order.txt").write_text("\n".join(order if with_folder else [name.split("/")[1] for name in order]))
    data = datasets.load("apparel", root, order=root / "order.txt")
    random.seed(10)
    random.shuffle(order)
    assert data.splits["train"].names == order[:10] and data.splits["test"].names == order[10:]
    assert data.notes[0] == "the halves that seed 10 draws from order.txt"


def test_a_wrong_order_is_refused(root):
    (root / "order.txt").write_text("\n".join([*NAMES[1:], "black_dress/other.jpg"]))
    with pytest.raises(UserError, match=r"must name each of the 21 images .* such as 'black_dress/000.jpg'"):
        datasets.load("apparel", root, order=root / "order.txt")
    (root / "order.txt").write_text("\n".join([*NAMES, NAMES[0]]))
    with pytest.raises(UserError, match=r"it has 22 lines"):
        datasets.load("apparel", root, order=root / "order.txt")
    with pytest.raises(UserError, match=r"cannot read .*none.txt"):
        datasets.load("apparel", root, order=root / "none.txt")


def test_missing_and_odd_folders_are_named(root, tmp_path):
    with pytest.raises(UserError, match="no folder .*none"):
        datasets.load("apparel", root / "none")
    with pytest.raises(UserError, match="no images in"):
        datasets.load("apparel", root / ".thumbs")
    (root / "purple_dress").mkdir()
    with pytest.raises(UserError, match="unknown Apparel folder 'purple_dress'"):
        datasets.load("apparel", root)


def test_labels_are_six_colours_and_five_garments():
    assert len(apparel.LABELS) == 11 and apparel.LABELS[5:7] == ("white", "dress")
