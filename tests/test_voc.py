"""The VOC reader on a devkit in its true layout, and on the sample of VOC 2007 where it is at hand."""

import csv
import zipfile

import numpy as np
import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import voc


def xml(things: list[tuple[str, bool]], *box: float) -> str:
    """An annotation of things (label, whether it is difficult) in the same box."""
    bounds = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>".format(*box)
    form = f"<object><name>{{}}</name><difficult>{{:d}}</difficult><bndbox>{bounds}</bndbox></object>"
    return f"<annotation>{''.join(form.format(*thing) for thing in things)}</annotation>"


def devkit(root, year=2007, lists=None, marks=None):
    """A devkit of a few ids; `marks` gives (id, label) -> mark, all others are -1."""
    marks = {("000001", "dog"): 1, ("000001", "person"): 0, ("000003", "car"): 1} if marks is None else marks
    folder = root / "VOCdevkit" / f"VOC{year}"
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for name, ids in (lists or {"trainval": ["000001", "000002"], "test": ["000003"]}).items():
        (main / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
        for label in voc.LABELS:
            (main / f"{label}_{name}.txt").write_text("".join(f"{i} {marks.get((i, label), -1):2d}\n" for i in ids))
        for i in ids:
            things = [(label, mark == 0) for (image, label), mark in marks.items() if image == i]
            (folder / "Annotations" / f"{i}.xml").write_text(xml(things, 1, 2, 30, 40.5))
    return folder


def test_marks_become_targets_and_difficult_is_zero(tmp_path):
    devkit(tmp_path)
    data = datasets.load("voc2007", tmp_path)
    train = data.splits["train"]
    assert data.labels == voc.LABELS and train.names == ["000001", "000002"]
    assert train.targets.dtype == np.int8 and train.targets.shape == (2, 20)
    expected = np.full((2, 20), -1)
    expected[0, voc.LABELS.index("dog")] = 1
    expected[0, voc.LABELS.index("person")] = 0
    assert np.array_equal(train.targets, expected)
    assert train.paths[0] == tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000001.jpg"
    # Boxes count from zero, their ends are exclusive, and difficult things have none.
    assert train.boxes[0].tolist() == [[voc.LABELS.index("dog"), 0, 1, 30, 40.5]] and train.boxes[1].shape == (0, 5)
    assert data.notes == ("2 of the 5,011 images of VOC 2007 trainval", "1 of the 4,952 images of VOC 2007 test")


def test_the_root_may_be_any_of_three_folders(tmp_path):
    folder = devkit(tmp_path)
    sums = {datasets.load("voc2007", root).checksum() for root in (tmp_path, folder.parent, folder)}
    assert len(sums) == 1
    with pytest.raises(UserError, match="no VOC 2012 in"):
        datasets.load("voc2012", folder)


@pytest.mark.parametrize("text", ["image,split\n000003,test\n000001,trainval\n", "000003\n000001\n"])
def test_ids_choose_images_in_the_official_order(tmp_path, text):
    devkit(tmp_path, lists={"trainval": ["000001", "000002", "000004"], "test": ["000003", "000005"]})
    (tmp_path / "ids.csv").write_text(text)
    data = datasets.load("voc2007", tmp_path, ids=tmp_path / "ids.csv")
    assert [s.names for s in data.splits.values()] == [["000001"], ["000003"]]
    assert "chosen by ids.csv" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split\n000001,test\n", "names the image '000001', which is not in VOC 2007 test"),
        ("000009\n", "'000009', which is not in VOC 2007 trainval or test"),
        ("000001,trainval,x\n", "expected an image id per line"),
    ],
)
def test_ids_that_are_nowhere_are_refused(tmp_path, text, message):
    devkit(tmp_path)
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load("voc2007", tmp_path, ids=tmp_path / "ids.csv")


def test_a_division_of_one_s_own_parts_the_images_of_trainval(tmp_path):
    lists = {"trainval": ["2008_000001", "2008_000002", "2008_000003", "2008_000004"]}
    devkit(tmp_path, 2012, lists, {("2008_000003", "cow"): 1})
    table = tmp_path / "mine.csv"
    table.write_text("image,part\n2008_000004,test\n2008_000003,train\n2008_000001,train\n")
    data = datasets.load("voc2012", tmp_path, parts=table)
    assert {part: split.names for part, split in data.splits.items()} == {
        "train": ["2008_000001", "2008_000003"], "test": ["2008_000004"]
    }  # fmt: skip
    assert data.splits["train"].targets[1, voc.LABELS.index("cow")] == 1
    assert data.notes == ("3 images of VOC 2012 trainval, divided into training and test images by mine.csv",)
    with pytest.raises(UserError, match="take ids, train and test out of the options"):
        datasets.load("voc2012", tmp_path, parts=table, train="train")
    for row, message in (
        ("2008_000009,test", "'2008_000009' of the part 'test': expected an image of VOC 2012 trainval"),
        ("2008_000001,train", "has no image of the part 'test'"),
    ):
        table.write_text(f"image,part\n{row}\n")
        with pytest.raises(UserError, match=message):
            datasets.load("voc2012", tmp_path, parts=table)


def test_two_years_together_hold_the_images_of_both_in_each_part(tmp_path):
    devkit(tmp_path)
    lists = {"trainval": ["2008_000001", "2008_000002"], "train": ["2008_000001"], "val": ["2008_000002"]}
    devkit(tmp_path, 2012, lists, {("2008_000002", "cow"): 1})
    data = datasets.load("voc2007+2012", tmp_path)
    assert data.splits["train"].names == ["000001", "000002", "2008_000001"]
    assert data.splits["test"].names == ["000003", "2008_000002"]
    assert data.splits["test"].targets[1, voc.LABELS.index("cow")] == 1 and len(data.splits["test"].boxes) == 2
    assert "trained on VOC 2012 train, tested on val" in data.notes
    (tmp_path / "parts.csv").write_text("image,part\n2008_000002,train\n2008_000001,test\n")
    other = datasets.load("voc2007+2012", tmp_path, parts2012=str(tmp_path / "parts.csv"))
    assert other.splits["test"].names == ["000003", "2008_000001"]
    assert other.checksum() != data.checksum()


def test_voc2012_test_has_no_labels_and_says_so(tmp_path):
    folder = devkit(tmp_path, 2012, {"trainval": ["2008_000001"], "test": ["2008_000002"]}, {})
    for label in voc.LABELS:
        (folder / "ImageSets" / "Main" / f"{label}_test.txt").unlink()
    data = datasets.load("voc2012", tmp_path)
    assert not data.splits["test"].targets.any() and data.splits["test"].boxes is None
    assert any("evaluation server" in note for note in data.notes)
    assert (data.splits["train"].targets == -1).all()


@pytest.mark.parametrize(
    ("file", "text", "options", "message"),
    [
        ("ImageSets", None, {}, r"no VOC 2007 in .*expected the folder .*VOCdevkit.VOC2007.ImageSets.Main"),
        ("", None, {"test": "tests"}, "unknown test 'tests'.*did you mean 'test'"),
        ("", None, {"test": "val"}, r"cannot read .*val.txt, expected there: the image ids of VOC 2007 val"),
        ("Annotations/000001.xml", "<object><name>unicorn</name>", {}, r"cannot read the boxes in .*000001.xml"),
        ("Annotations/000001.xml", None, {}, r"missing file .*000001.xml"),
        ("ImageSets/Main/cow_trainval.txt", "000001 -1\n", {}, "gives no mark 1, 0 or -1 for image '000002'"),
        ("ImageSets/Main/cow_trainval.txt", None, {}, r"cannot read .*cow_trainval.txt"),
    ],
)
def test_every_missing_or_broken_file_is_named(tmp_path, file, text, options, message):
    folder = devkit(tmp_path)
    if file:
        (folder / file).rename(tmp_path / "away")
    if text:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load("voc2007", tmp_path, **options)


def own(root, folder: str, pictures: str, **objects: list[tuple[str, int]]) -> None:
    for name, things in objects.items():
        for path in (root / folder / f"{name}.xml", root / pictures / f"{name}.jpg"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(xml(things, 1, 1, 9, 9))


def test_labels_of_one_s_own_in_folders_of_parts(tmp_path):
    own(tmp_path, "train", "train", a=[("nut", 0), ("bolt", 1)], b=[("bolt", 0), ("bolt", 1)])
    own(tmp_path, "Test", "Test", c=[])
    data = datasets.load("voc", tmp_path)
    assert data.labels == ("bolt", "nut") and data.splits["train"].targets.tolist() == [[0, 1], [1, -1]]
    assert data.splits["test"].paths == [tmp_path / "Test" / "c.jpg"] and data.splits["test"].targets.max() == -1
    assert data.splits["train"].boxes[0].tolist() == [[1, 0, 0, 9, 9]]


def test_labels_of_one_s_own_in_lists_and_in_no_parts_at_all(tmp_path):
    own(tmp_path, "Annotations", "JPEGImages", **{name: [("nut", 0)] for name in "abcd"})
    data = datasets.load("voc", tmp_path, test_share=0.5)
    assert len(data.splits["test"]) == 2 and data.splits["train"].paths[0].exists()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for part, names in (("train", "ab"), ("val", "c"), ("trainval", "abc")):
        (tmp_path / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names))
    (tmp_path / "splits.csv").unlink()
    data = datasets.load("voc", tmp_path, test_share=0.5)
    assert {part: len(split) for part, split in data.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert "1 images in no list of ImageSets/Main left out, such as JPEGImages/d.jpg" in data.notes
    with pytest.raises(UserError, match="no XML files in"):
        datasets.load("voc", tmp_path / "JPEGImages")


def test_server_files_hold_an_id_and_a_score_a_line(tmp_path):
    logits = np.arange(40, dtype=np.float32).reshape(2, 20) - 20.25
    voc.write_server_files(tmp_path / "server.zip", ["2008_000002", "2008_000007"], logits)
    with zipfile.ZipFile(tmp_path / "server.zip") as archive:
        assert len(archive.namelist()) == 20
        lines = archive.read("results/VOC2012/Main/comp1_cls_test_bicycle.txt").decode().splitlines()
    assert lines == ["2008_000002 -19.250000", "2008_000007 0.750000"]
    with pytest.raises(UserError, match="finite logits of shape"):
        voc.write_server_files(tmp_path / "server.zip", ["2008_000002"], logits)


def test_the_sample_of_voc_2007_passes_through_unchanged_code(shared):
    data = datasets.load("voc2007", shared / "voc2007_sample")
    assert [len(s) for s in data.splits.values()] == [935, 954]
    with open(shared / "voc2007_labels.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    for split in data.splits.values():
        present = np.array([[int(rows[n][label]) for label in data.labels] for n in split.names])
        assert np.array_equal(split.targets == 1, present == 1)
        assert all(path.exists() for path in split.paths)
        for targets, boxes in zip(split.targets, split.boxes, strict=True):
            assert set(boxes[:, 0].astype(int)) == set(np.flatnonzero(targets == 1))
            assert (boxes[:, 1:3] >= 0).all() and (boxes[:, 3:] > boxes[:, 1:3]).all()
