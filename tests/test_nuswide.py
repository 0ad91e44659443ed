"""Both layouts of NUS-WIDE."""

import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import nuswide


def present(split) -> list[list[str]]:
    return [[nuswide.LABELS[c] for c in (row == 1).nonzero()[0]] for row in split.targets]


def csv_layout(root, rows: str) -> None:
    (root / "nus_wid_data.csv").write_text("filepath,label,split_name\n" + rows)


def official(root):
    lists = {
        "Train": (["actor\\0001_2124494179.jpg", "zebra\\0002_174174086.jpg"], {"sky": "10", "clouds": "10"}),
        "Test": (["zoos\\0003_1.jpg"], {"zebra": "1"}),
    }
    (root / "ImageList").mkdir()
    (root / "Groundtruth" / "TrainTestLabels").mkdir(parents=True)
    for part, (files, marks) in lists.items():
        (root / "ImageList" / f"{part}Imagelist.txt").write_text("".join(f"{f}\r\n" for f in files))
        for label in nuswide.LABELS:
            text = "".join(f"{m} \r\n" for m in marks.get(label, "0" * len(files)))
            (root / "Groundtruth" / "TrainTestLabels" / f"Labels_{label}_{part}.txt").write_text(text)


def test_the_csv_layout(tmp_path):
    rows = "images/1_a.jpg,\"['sky', 'clouds']\",train\nimages/2_b.jpg,['zebra'],val\nimages/3_c.jpg,['map'],train\n"
    official(tmp_path)  # the table goes before the lists
    csv_layout(tmp_path, rows)
    data = datasets.load("nuswide", tmp_path)
    assert data.splits["train"].names == ["images/1_a", "images/3_c"]
    assert present(data.splits["train"]) == [["clouds", "sky"], ["map"]]
    assert present(data.splits["test"]) == [["zebra"]]
    assert data.splits["test"].paths == [tmp_path / "images" / "2_b.jpg"]
    assert data.splits["test"].targets.min() == -1 and data.splits["test"].targets.shape == (1, 81)
    assert data.notes == ("the NUS-WIDE split of nus_wid_data.csv (ASL): 2 and 1 images",)


def test_the_official_layout(tmp_path):
    official(tmp_path)
    data = datasets.load("nuswide", tmp_path)
    assert data.splits["train"].names == ["actor/0001_2124494179", "zebra/0002_174174086"]
    assert data.splits["train"].paths[0] == tmp_path / "Flickr" / "actor" / "0001_2124494179.jpg"
    assert present(data.splits["train"]) == [["clouds", "sky"], []]
    assert present(data.splits["test"]) == [["zebra"]]
    assert "2 of the 161,789 images of NUS-WIDE Train" in data.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg,['sky'],train\nb.jpg,['skies'],val\n", r"unknown label 'skies' in .*nus_wid_data.csv"),
        ("a.jpg,['sky'],train\n", r"nus_wid_data.csv has no image of the part 'test'"),
        ("a.jpg,['sky']\n", r"line 2: 2 cells, but the header has 3"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path, rows, message):
    csv_layout(tmp_path, rows)
    with pytest.raises(UserError, match=message):
        datasets.load("nuswide", tmp_path)


def test_missing_and_contradicting_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*TrainImagelist.txt, expected there: image paths"):
        datasets.load("nuswide", tmp_path)
    official(tmp_path)
    path = tmp_path / "Groundtruth" / "TrainTestLabels" / "Labels_sky_Train.txt"
    path.write_text("1\n")
    with pytest.raises(UserError, match=r"Labels_sky_Train.txt: expected 2 lines of 0 or 1.*got 1"):
        datasets.load("nuswide", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*Labels_sky_Train.txt, expected there: 1 or 0 for"):
        datasets.load("nuswide", tmp_path)
