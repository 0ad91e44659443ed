"""Every kind of broken image and contradiction is found and named."""

import os

import made_data
import numpy as np
import pytest
from PIL import Image

from mlclib import __main__ as line
from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import integrity
from mlclib.datasets.base import Dataset, Split


def split(folder, names: list[str], targets, boxes=None) -> Split:
    """Images of noise where they are not there, another for each name."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.png" for name in names]
    for path in paths:
        pixels = np.random.default_rng(sum(map(ord, str(path)))).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return Split(names, paths, np.array(targets, dtype=np.int8).reshape(len(names), 2), boxes)


def whole(root, boxes=None) -> Dataset:
    splits = {
        "train": split(root, ["a", "b", "c"], [[1, -1], [-1, 1], [1, 0]], boxes),
        "test": split(root, ["d", "e"], [[1, 1], [1, -1]]),
    }
    return Dataset("made", ("cat", "dog"), splits, ("a note",))


def boxes(*rows) -> list[np.ndarray]:
    return [np.array(r, dtype=np.float32).reshape(-1, 5) for r in rows]


def test_a_whole_data_set_has_nothing_to_report_and_long_reports_are_cut(tmp_path):
    report = integrity.verify(whole(tmp_path, boxes([[0, 0, 0, 40, 30.5]], [], [[1, 0, 0, 5, 5]])))
    assert report.ok and not report.warnings and report.remedy("mine") == ""
    assert str(report) == "made: 5 images, all is well"
    text = str(integrity.Report("made", 30, {"missing": {f"{i:03d}": "gone" for i in range(25)}}, {}))
    assert "problem, missing: 25" in text and "009: gone" in text and "010" not in text and "and 15 more" in text


def test_missing_truncated_and_unreadable_images_are_named(tmp_path):
    data = whole(tmp_path)
    (tmp_path / "a.png").unlink()
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "d.png").write_text("not an image")
    report = integrity.verify(data)
    assert set(report.problems) == {"missing", "unreadable"}
    assert set(report.problems["missing"]) == {"a"}
    assert "truncated" in report.problems["unreadable"]["b"] and "identify" in report.problems["unreadable"]["d"]
    assert not report.ok and 'get these images anew, or write `exclude: ["a", "b", "d"]`' in report.remedy("mine")
    assert "problem, unreadable: 2" in str(report)


def test_boxes_that_contradict_their_image_or_its_labels_are_named(tmp_path):
    report = integrity.verify(whole(tmp_path, boxes([[0, 10, 10, 80, 20]], [], [])))
    assert report.problems == {"wrong size": {"a": "40 x 30, its boxes reach 80 x 20"}}
    assert 'exclude: ["a"]' in report.remedy("mine")
    report = integrity.verify(whole(tmp_path, boxes([[1, 0, 0, 5, 5]], [], [])))
    assert report.problems == {"box without label": {"a": "dog"}}
    assert report.remedy("mine") == ""  # the image itself is whole


def test_the_same_picture_or_name_in_two_splits_is_a_problem_and_in_one_a_warning(tmp_path):
    data = whole(tmp_path)
    (tmp_path / "e.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes())
    report = integrity.verify(data)
    assert report.problems == {"in two splits": {"a": "train a = test e"}}
    assert report.warnings == {"duplicate": {"b": "train b = train c"}}
    splits = {part: split(tmp_path / part, ["a"], [[1, 1]]) for part in ("train", "test")}
    problems = integrity.verify(Dataset("made", ("cat", "dog"), splits)).problems
    assert problems == {"in two splits": {"a": "a in train and test"}}


def test_of_a_picture_in_two_splits_the_copies_that_are_tested_on_stay(tmp_path):
    data = whole(tmp_path)
    for part in data.splits.values():
        part.targets[:] = data.splits["train"].targets[0]
    for copy in "ce":
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / "a.png").read_bytes())
    report = integrity.verify(data)
    assert 'exclude: ["a", "c", "x"]' in report.remedy("mine", ["x"])
    rest = integrity.verify(integrity.exclude(data, ["a", "c"]))
    assert "in two splits" not in rest.problems and rest.images == 3


def test_no_copy_is_advised_to_be_left_out_that_alone_has_a_label(tmp_path):
    data = whole(tmp_path)
    data.splits["train"].targets[0], data.splits["test"].targets[-1] = [1, -1], [-1, 1]
    (tmp_path / "e.png").write_bytes((tmp_path / "a.png").read_bytes())
    remedy = integrity.verify(data).remedy("mine")
    assert "train a (cat) = test e (dog)" in remedy and "exclude" not in remedy


def test_empty_label_lists_empty_splits_and_labels_without_images(tmp_path):
    splits = {"train": split(tmp_path, ["a", "b"], [[1, -1], [-1, -1]]), "test": split(tmp_path, [], [])}
    report = integrity.verify(Dataset("made", ("cat", "dog"), splits))
    assert report.problems == {"label without images": {"dog": "no training image shows it"}}
    assert report.warnings["no label"] == {"b": "shows none of the labels (train)"}
    assert report.warnings["empty split"] == {"test": "no images"}


def test_pictures_that_are_changed_when_they_are_opened_are_warned_of(tmp_path):
    def turned(path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.effect_noise((40, 30), 9).save(path, exif=exif)

    data = whole(tmp_path)
    Image.fromarray(np.full((30, 40), 40000, dtype=np.uint16)).save(tmp_path / "c.png")
    Image.new("RGBA", (40, 30)).save(tmp_path / "d.png")
    turned(tmp_path / "e.png")
    assert integrity.verify(data).warnings == {
        "more than 8 bits scaled to 8": {"c": "I;16"},
        "transparency shown white": {"d": "RGBA"},
        "turned by its EXIF tag": {"e": "L"},
    }

    data = whole(tmp_path, boxes([[0, 0, 0, 30, 40]], [], []))
    turned(tmp_path / "a.png")  # boxes are held to the turned picture
    assert integrity.verify(data).ok


def test_excluded_images_leave_and_a_note_stays(tmp_path):
    data = whole(tmp_path, boxes([[0, 0, 0, 1, 1]], [], [[0, 2, 2, 3, 3]]))
    rest = integrity.exclude(data, ["b", "d"])
    assert rest.splits["train"].names == ["a", "c"] and rest.splits["test"].names == ["e"]
    assert rest.splits["train"].targets.tolist() == [[1, -1], [1, 0]]
    assert rest.splits["train"].boxes[1].tolist() == [[0, 2, 2, 3, 3]]
    assert rest.notes == ("a note", "2 images excluded: b, d")
    assert rest.checksum() != data.checksum() and integrity.exclude(data, []) is data
    with pytest.raises(UserError, match="cannot exclude 'x' from data set 'made'"):
        integrity.exclude(data, ["a", "x"])


def test_the_sample_of_voc_2007_is_whole(shared):
    data = datasets.load("voc2007", shared / "voc2007_sample")
    keep = {name for split in data.splits.values() for name in split.names[:60]}
    part = integrity.exclude(data, [n for s in data.splits.values() for n in s.names if n not in keep])
    report = integrity.verify(part)
    assert report.images == 120 and set(report.problems) <= {"label without images"}


def test_a_picture_replaced_by_one_of_as_many_bytes_is_other_data(tmp_path):
    data, index = whole(tmp_path / "images"), tmp_path / "index.json"
    before, path = integrity.checksum(data, index), data.splits["train"].paths[0]
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(changed, changed + 10**9))
    assert integrity.checksum(data, index) != before


def test_the_command_that_verifies_a_data_set_names_an_unreadable_picture_and_ends_with_1(tmp_path, capsys):
    made_data.voc_devkit(tmp_path, 2007)
    command = ["data", "voc2007", "--root", str(tmp_path), "--verify"]
    assert line.main(command) == 0
    (tmp_path / "VOCdevkit/VOC2007/JPEGImages/000003.jpg").write_bytes(b"no picture")
    assert line.main(command) == 1
    assert "problem, unreadable: 1\n  000003: " in capsys.readouterr().out
