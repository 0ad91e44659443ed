"""Corel-5k is read from a clone as git lays it, and files that do not fit each other are refused."""

import numpy as np
import pytest
from made_data import TEST, TRAIN, corel5k_clone, shown
from scipy.io import savemat

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import corel5k


@pytest.fixture
def clone(tmp_path):
    corel5k_clone(tmp_path)
    return tmp_path


def test_images_words_and_the_official_split_are_those_of_the_files(clone):
    dataset = datasets.load("corel5k", clone)
    assert dataset.labels[:3] == ("city", "mountain", "sky") and len(dataset.labels) == 260
    for part, (name, images) in enumerate((("train", TRAIN), ("test", TEST))):
        split = dataset.splits[name]
        assert split.names == [f"1000/{part}{row}" for row in range(images)]
        assert split.paths[0] == clone / "DataSet" / "1000" / f"{part}0.jpeg"
        assert [np.flatnonzero(row == 1).tolist() for row in split.targets] == shown(images, 20, 70 + part)
        assert set(np.unique(split.targets)) == {-1, 1}
    assert any("24 of the 4,500" in note for note in dataset.notes)


@pytest.mark.parametrize("matrix", [np.zeros((2, 260)), np.zeros((24, 259)), np.full((24, 260), 2)])
def test_a_matrix_or_words_that_do_not_fit_are_refused(clone, matrix):
    savemat(clone / "DataSet" / "corel5k_train_annot.mat", {"annot1": matrix})
    with pytest.raises(UserError, match=r"corel5k_train_annot\.mat.*annot1 of 24 images x 260 words"):
        datasets.load("corel5k", clone)
    (clone / "DataSet" / "corel5k_words.txt").write_text("\n".join(corel5k.LABELS[::-1]))
    with pytest.raises(UserError, match="260 words of Corel-5k in their order"):
        datasets.load("corel5k", clone)


@pytest.mark.parametrize("file", ["corel5k_words.txt", "corel5k_test_list.txt", "corel5k_test_annot.mat"])
@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_file_that_cannot_be_read_says_what_to_clone(clone, file, damage):
    path = clone / "DataSet" / file
    path.unlink()
    if damage == "other":
        path.write_bytes(b"\xff\xfe nothing like it")
    with pytest.raises(UserError, match=f"git clone {corel5k.REPOSITORY}.*{corel5k.COMMIT}") as error:
        datasets.load("corel5k", clone)
    assert file in str(error.value)
