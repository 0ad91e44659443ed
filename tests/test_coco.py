"""The COCO 2014 reader on annotations in their true layout, small and at full size."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import coco

# By category id; as in COCO's files the ids have gaps and another order than the labels.
CATEGORIES = {1 + 2 * number: label for number, label in enumerate(reversed(coco.LABELS))}
IDS = {label: number for number, label in CATEGORIES.items()}


def annotation(image: int, label: str, crowd: int = 0) -> dict:
    box = [10.5, 20, 30, 40.25]
    return {"id": 1, "image_id": image, "category_id": IDS[label], "iscrowd": crowd, "bbox": box, "area": 12.5}


def write(root, part: str, images: list[int], annotations: list[dict], categories=CATEGORIES) -> None:
    content = {
        "info": {"description": "COCO 2014 Dataset"},
        "images": [{"id": i, "file_name": f"COCO_{part}2014_{i:012d}.jpg", "width": 640} for i in images],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "thing"} for i, name in categories.items()],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{part}2014.json").write_text(json.dumps(content))


def small(root):
    pairs = [(30, "person"), (9, "toothbrush"), (30, "person"), (30, "dog")]
    write(root, "train", [30, 9, 25], [annotation(*pair) for pair in pairs])
    write(root, "val", [42], [annotation(42, "person", crowd=1), annotation(42, "car")])
    return datasets.load("coco2014", root)


def test_category_ids_are_mapped_to_labels_by_name(tmp_path):
    for part in ("train", "val"):
        write(tmp_path, part, range(80), [annotation(*pair) for pair in enumerate(coco.LABELS)])
    split = datasets.load("coco2014", tmp_path).splits["train"]
    assert (np.where(np.eye(80), 1, -1) == split.targets).all()
    assert [boxes[:, 0].tolist() for boxes in split.boxes] == [[label] for label in range(80)]


def test_targets_images_and_boxes(tmp_path):
    train = small(tmp_path).splits["train"]
    assert train.names == ["COCO_train2014_000000000009", "COCO_train2014_000000000030"]
    assert train.paths[1] == tmp_path / "train2014" / "COCO_train2014_000000000030.jpg"
    assert train.targets.dtype == np.int8 and set(np.unique(train.targets)) == {-1, 1}
    present = [[coco.LABELS[c] for c in np.flatnonzero(row == 1)] for row in train.targets]
    assert present == [["toothbrush"], ["dog", "person"]]
    person, dog = coco.LABELS.index("person"), coco.LABELS.index("dog")
    assert train.boxes[1].tolist() == [[c, 10.5, 20, 40.5, 60.25] for c in (person, person, dog)]


def test_crowds_count_as_present_without_a_box_and_images_without_annotations_are_left_out(tmp_path):
    data = small(tmp_path)
    test = data.splits["test"]
    assert [coco.LABELS[c] for c in np.flatnonzero(test.targets[0] == 1)] == ["car", "person"]
    assert test.boxes[0][:, 0].tolist() == [coco.LABELS.index("car")]
    assert [len(s) for s in data.splits.values()] == [2, 1]
    assert "1 images of COCO train2014 without annotations left out" in data.notes
    assert "2 of the 82,081 annotated images of COCO train2014" in data.notes


@pytest.mark.parametrize(
    ("annotations", "categories", "message"),
    [
        ([annotation(2, "dog")], CATEGORIES, "annotations name image 2, which is not among its images"),
        ([annotation(1, "dog") | {"category_id": 12}], CATEGORIES, "unknown category id '12'"),
        ([annotation(1, "dog")], CATEGORIES | {IDS["toothbrush"]: "unicorn"}, "they differ in toothbrush, unicorn"),
        ([], CATEGORIES, "holds no annotations"),
    ],
)
def test_contradicting_annotations_are_one_sentence(tmp_path, annotations, categories, message):
    write(tmp_path, "train", [1], annotations, categories)
    with pytest.raises(UserError, match=message):
        datasets.load("coco2014", tmp_path)


@pytest.mark.parametrize("text", ["", '{"images": [{"id": 1, "file_', '{"annotations": [{"category_id": 1}]}', "[]"])
def test_a_file_that_is_missing_or_no_annotations_is_named(tmp_path, text):
    if text:
        write(tmp_path, "train", [1], [])
        (tmp_path / "annotations" / "instances_train2014.json").write_text(text)
    with pytest.raises(
        UserError, match="cannot read .*instances_train2014.json" if text else "missing file .*instances"
    ):
        datasets.load("coco2014", tmp_path)


@pytest.mark.parametrize("export", ["no iscrowd", "no supercategory", "ids as text", "no bbox"])
def test_what_other_tools_leave_out_or_write_otherwise_changes_no_label(tmp_path, export):
    expected = small(tmp_path)
    for path in (tmp_path / "annotations").iterdir():
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            if export == "ids as text":
                entry.update(image_id=str(entry["image_id"]), category_id=str(entry["category_id"]))
            entry.pop(export.removeprefix("no "), None)
        for entry in content["categories"]:
            entry.pop(export.removeprefix("no "), None)
        path.write_text(json.dumps(content))
    data = datasets.load("coco2014", tmp_path)
    assert data.checksum() == expected.checksum()
    assert (data.splits["train"].boxes is None) == (export == "no bbox")


@pytest.mark.parametrize(("section", "key"), [("images", "id"), ("annotations", "image_id"), ("categories", "name")])
def test_a_missing_key_is_named(tmp_path, section, key):
    small(tmp_path)
    path = tmp_path / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content[section][0].pop(key)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"instances_val2014.json as COCO annotations: the key '{key}' is missing"):
        datasets.load("coco2014", tmp_path)


def own(root, part: str, **changes) -> str:
    """A file in COCO's format of two images with labels of one's own, the images beside it."""
    (root / part).mkdir()
    for image in "ab":
        (root / part / f"{part}-{image}.jpg").touch()
    content = {
        "images": [{"id": i, "file_name": f"{part}-{image}.jpg"} for i, image in enumerate("ab")],
        "annotations": [{"id": 5, "image_id": 0, "category_id": 2, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "skin"}, {"id": 2, "name": "spots"}],
        **changes,
    }
    (root / part / "_annotations.json").write_text(json.dumps(content))
    return f"{part}/_annotations.json"


def test_labels_of_one_s_own_are_those_that_annotations_name(tmp_path):
    train, test = own(tmp_path, "train"), own(tmp_path, "test", annotations=[])
    with pytest.raises(UserError, match="such as train: test/_annotations.json"):
        datasets.load("coco", tmp_path)
    with pytest.raises(UserError, match="test/_annotations.json holds no annotations"):
        datasets.load("coco", tmp_path, train=train, test=test)
    valid = own(tmp_path, "valid")
    data = datasets.load("coco", tmp_path, train=train, test=valid)
    assert data.labels == ("spots",) and data.notes == ("categories that no annotation names left out: skin",)
    assert data.splits["train"].targets.tolist() == [[1], [-1]]  # an image without annotations shows nothing
    assert data.splits["test"].names == ["valid/valid-a.jpg", "valid/valid-b.jpg"]
    assert data.splits["train"].boxes[0].tolist() == [[0, 1, 2, 4, 6]]
    drawn = datasets.load("coco", tmp_path, train=train, val=valid, test_share=0.5)
    assert {part: len(split) for part, split in drawn.splits.items()} == {"train": 1, "val": 2, "test": 1}


def test_images_of_one_s_own_are_found_in_another_folder_than_the_annotations(tmp_path):
    name = own(tmp_path, "annotations")
    (tmp_path / "annotations").rename(tmp_path / "images")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "_annotations.json").rename(tmp_path / name)
    data = datasets.load("coco", tmp_path, train=name, test_share=0.5)
    assert all(path.exists() for split in data.splits.values() for path in split.paths)


def test_large_annotations_load_in_little_memory(tmp_path):
    """A quarter of the 82,783 and 40,504 images of COCO, with 7.3 objects each of 8 corners each."""
    g = np.random.default_rng(0)
    outline = g.uniform(0, 640, 16).round(2).tolist()
    counts = {}
    for part, size in (("train", 20_695), ("val", 10_126)):
        ids, objects = np.sort(g.choice(600_000, size, replace=False)), g.poisson(7.3, size)
        named = zip(np.repeat(ids, objects).tolist(), g.choice(coco.LABELS, objects.sum()).tolist(), strict=True)
        write(tmp_path, part, ids.tolist(), [annotation(*pair) | {"segmentation": [outline]} for pair in named])
        counts[part] = int((objects > 0).sum())
    code = (
        "import re, sys; from mlclib import datasets; data = datasets.load('coco2014', sys.argv[1]);"
        # Not getrusage, whose maximum a process inherits from the one that forked it.
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024;"
        "print(*(len(s) for s in data.splits.values()), peak)"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    train, val, peak_mib = map(int, out.split())
    assert (train, val) == (counts["train"], counts["val"])
    assert peak_mib < 600
