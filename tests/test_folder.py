"""The reader of anyone's own images, and the splits that it makes."""

import re

import numpy as np
import pandas as pd
import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import stratify


def rows(count: int) -> str:
    g = np.random.default_rng(1)
    marks = g.random((count, 3)) < (0.5, 0.2, 0.05)
    return "path,cat,dog,owl\n" + "".join(f"{i}.jpg,{a:d},{b:d},{c:d}\n" for i, (a, b, c) in enumerate(marks))


def load(root, text: str, **options) -> datasets.Dataset:
    (root / "mine.csv").write_text(text)
    return datasets.load("folder", root, table="mine.csv", **options)


def test_one_column_a_label_with_splits(tmp_path):
    data = load(tmp_path, "path,split,cat,dog\na.jpg,train,1,0\nsub/b.jpg,test,1,1\nc.jpg,val,0,0\n")
    assert data.labels == ("cat", "dog")
    assert {k: s.names for k, s in data.splits.items()} == {"train": ["a.jpg"], "val": ["c.jpg"], "test": ["sub/b.jpg"]}
    assert data.splits["train"].targets.tolist() == [[1, -1]]
    assert data.splits["test"].paths == [tmp_path / "sub" / "b.jpg"]
    assert data.splits["val"].targets.dtype == np.int8


def test_zero_means_unknown_where_minus_one_is_used(tmp_path):
    data = load(tmp_path, "path,split,cat,dog\na.jpg,train,1,0\nb.jpg,test,-1,1\n")
    assert data.splits["train"].targets.tolist() == [[1, 0]]


def test_a_column_with_lists(tmp_path):
    text = "path,labels,split\na.jpg,dog; cat,train\nb.jpg,,train\nc.jpg,owl,test\n"
    data = load(tmp_path, text, separator=";")
    assert data.labels == ("cat", "dog", "owl")
    assert data.splits["train"].targets.tolist() == [[1, 1, -1], [-1, -1, -1]]


@pytest.mark.parametrize("other", [";", ",", "/", "\t", ", "])
def test_another_separator_in_a_column_of_labels_is_named_with_its_cell(tmp_path, other):
    cells = [f"bicycle{other}cat", "dog", "cat"]
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "labels": cells, "split": ["train", "train", "test"]})
    table.to_csv(tmp_path / "mine.csv", index=False)
    where = r"mine.csv, row 1, column 'labels': expected '\|' between labels, got "
    with pytest.raises(UserError, match=where + re.escape(repr(cells[0]))):
        datasets.load("folder", tmp_path, table="mine.csv")
    assert datasets.load("folder", tmp_path, table="mine.csv", separator=other.strip(" ")).labels[0] == "bicycle"


def test_another_separator_in_one_cell_of_many_is_named_where_it_parts_labels(tmp_path):
    text = "path,labels,split\na.jpg,dog|cat,train\nb.jpg,cup/mug|cat,train\nc.jpg,dog/cat,test\n"
    with pytest.raises(UserError, match=r"row 3, column 'labels'.*got 'dog/cat'.*separator: \"/\""):
        load(tmp_path, text)
    assert load(tmp_path, text.replace("dog/cat", "dog")).labels == ("cat", "cup/mug", "dog")


def test_parquet_gives_what_csv_gives(tmp_path):
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "cat": [1, 0], "dog": [0.0, 1.0], "split": ["train", "test"]})
    frame.to_parquet(tmp_path / "mine.parquet")
    frame.to_csv(tmp_path / "mine.csv", index=False)
    tables = [datasets.load("folder", tmp_path, table=name) for name in ("mine.parquet", "mine.csv")]
    assert tables[0].checksum() == tables[1].checksum()


@pytest.mark.parametrize("top", ["", "train/"])
def test_class_folders(tmp_path, top):
    for name in (f"{top}cat/1.jpg", f"{top}cat/2.PNG", f"{top}dog/1.jpg", f"{top.replace('train', 'test')}dog/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".cache").mkdir()
    data = datasets.load("folder", tmp_path)
    assert data.labels == ("cat", "dog")
    assert len(data.splits["train"]) + len(data.splits["test"]) == 4
    assert all((s.targets.sum(axis=1) == 0).all() for s in data.splits.values())  # one label of two an image
    if top:
        assert data.splits["test"].names == ["test/dog/3.jpg"]


def test_a_made_split_is_written_down_and_never_changes(tmp_path):
    text = rows(200)
    data = load(tmp_path, text, seed=3)
    assert len(data.splits["test"]) == 60 and "iterative stratification" in data.notes[0]
    written = (tmp_path / "mine.splits.csv").read_text()
    lines = text.splitlines()
    again = load(tmp_path, "\n".join([lines[0], *reversed(lines[1:])]), seed=3)
    assert set(again.splits["test"].names) == set(data.splits["test"].names)
    assert (tmp_path / "mine.splits.csv").read_text() == written


def test_a_written_split_that_does_not_fit_is_refused(tmp_path):
    load(tmp_path, rows(20))
    with pytest.raises(UserError, match=r"mine.splits.csv says .*seed 0.*seed 1"):
        load(tmp_path, rows(20), seed=1)
    with pytest.raises(UserError, match=r"does not fit the images: 1 stand.*20.jpg"):
        load(tmp_path, rows(21))


def test_the_seed_changes_the_split_and_nothing_else_does():
    present = np.random.default_rng(0).random((300, 8)) < 0.2
    first, same, other = (stratify.split(present, (0.7, 0.3), seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_iterative_stratification_keeps_rare_labels_where_a_random_split_does_not():
    present = np.random.default_rng(0).random((2000, 30)) < np.geomspace(0.003, 0.5, 30)
    parts = stratify.split(present, (0.8, 0.2), 0)
    assert np.bincount(parts).tolist() == [1600, 400]
    shares = present[parts == 1].sum(axis=0) / present.sum(axis=0)
    lot = present[np.random.default_rng(0).permutation(2000)[:400]].sum(axis=0) / present.sum(axis=0)
    off, off_by_lot = np.abs(shares - 0.2), np.abs(lot - 0.2)
    # Each label is within one and a half images of its due, which is as near as whole images allow.
    assert (off * present.sum(axis=0) <= 1.5).mean() > 0.9
    assert off.mean() < off_by_lot.mean() / 4


def test_images_without_labels_are_shared_out_too():
    parts = stratify.split(np.zeros((10, 3), dtype=bool), (0.5, 0.3, 0.2), 0)
    assert np.bincount(parts).tolist() == [5, 3, 2]


def test_a_share_of_the_training_images_of_any_data_set_is_set_apart_for_validation(tmp_path):
    whole = load(
        tmp_path,
        rows(400).replace("path,", "split,path,", 1).replace("\n", "\ntrain,")[: -len("train,")] + "test,t.jpg,1,0,0\n",
    )
    apart = load(tmp_path, (tmp_path / "mine.csv").read_text(), val_share=0.25)
    train, val = apart.splits["train"], apart.splits["val"]
    assert sorted(train.names + val.names) == sorted(whole.splits["train"].names) and len(val) == 100
    assert apart.splits["test"].names == whole.splits["test"].names
    share = (val.targets == 1).sum(0) / (whole.splits["train"].targets == 1).sum(0)
    assert share == pytest.approx([0.25] * 3, abs=0.02)
    of = dict(zip(whole.splits["train"].names, whole.splits["train"].targets.tolist(), strict=True))
    assert [of[name] for name in val.names] == val.targets.tolist()
    assert "100 of 400 training images set apart for validation by iterative stratification, seed 0" in apart.notes
    other = load(tmp_path, (tmp_path / "mine.csv").read_text(), val_share=0.25, val_seed=1)
    assert other.splits["val"].names != val.names and other.checksum() != apart.checksum()
    with pytest.raises(UserError, match="val_share 0.001 .* into 400 and 0"):
        load(tmp_path, (tmp_path / "mine.csv").read_text(), val_share=0.001)
    with pytest.raises(UserError, match="has a validation part of its own"):
        datasets.load("scenes", tmp_path / "scenes", train=3, val=1, test=1, val_share=0.5)
    with pytest.raises(UserError, match="val_share of data set 'folder' must be less than 1"):
        datasets.load("folder", tmp_path, val_share=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,cat\na.jpg,1\n", r"unknown column 'path'.*known: cat, file"),
        ("path,cat\na.jpg,yes\n", r"row 1, label 'cat': expected 1, 0 or -1, got 'yes'"),
        ("path,cat\na.jpg,\n", r"expected 1, 0 or -1, got ''"),
        ("path,cat\na.jpg,1\na.jpg,0\n", r"names the image 'a.jpg' twice"),
        ("path,cat,split\na.jpg,1,tset\n", r"unknown split 'tset'.*did you mean 'test'"),
        ("path,cat,split\na.jpg,1,train\n", r"no image of mine.csv is in the split 'test'"),
        ("path,split\na.jpg,train\n", r"names no label or no image"),
        ("path,cat\n", r"names no label or no image"),
        ("", r"cannot read .*mine.csv"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


def test_missing_tables_folders_and_options(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.csv"):
        datasets.load("folder", tmp_path, table="none.csv")
    with pytest.raises(UserError, match="no folder"):
        datasets.load("folder", tmp_path / "none")
    with pytest.raises(UserError, match="no images in"):
        datasets.load("folder", tmp_path)
    with pytest.raises(UserError, match=r"unknown key 'tabel'.*did you mean 'table'"):
        datasets.load("folder", tmp_path, tabel="mine.csv")
    with pytest.raises(UserError, match="stand in its own files"):
        datasets.labels_of("folder")
    with pytest.raises(UserError, match="test_share"):
        load(tmp_path, rows(9), test_share=1.5)
