"""The COCO 2014 reader on annotations in their true layout, small and at full size."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mlclib import datasets
from mlclib.common.errors import UserError
from mlclib.datasets import coco

# The category ids of instances_{train,val}2014.json and their names; ids have gaps and another order than the labels.
CATEGORIES = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip


def annotation(image: int, category: int, box=(10.5, 20, 30, 40.25), crowd: int = 0, number: int = 1) -> dict:
    outline = {"counts": [3, 4, 5], "size": [480, 640]} if crowd else [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    return {
        "segmentation": outline, "area": 12.5, "iscrowd": crowd, "image_id": image, "bbox": list(box),
        "category_id": category, "id": number,
    }  # fmt: skip


def write(root, part: str, images: list[int], annotations: list[dict], categories=CATEGORIES) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{part}2014.json").write_text(
        json.dumps(
            {
                "info": {"description": "COCO 2014 Dataset", "contributor": "COCO Consortium"},
                "images": [
                    {
                        "license": 5,
                        "file_name": f"COCO_{part}2014_{i:012d}.jpg",
                        "coco_url": f"http://images.cocodataset.org/{part}2014/COCO_{part}2014_{i:012d}.jpg",
                        "height": 480,
                        "width": 640,
                        "id": i,
                    }
                    for i in images
                ],
                "licenses": [{"url": "http://example.org", "id": 1, "name": "a licence"}],
                "annotations": annotations,
                "categories": [{"supercategory": "thing", "id": i, "name": n} for i, n in categories.items()],
            }
        )
    )


def small(root):
    write(root, "train", [30, 9, 25], [annotation(30, 1), annotation(9, 90), annotation(30, 1), annotation(30, 18)])
    write(root, "val", [42], [annotation(42, 1, crowd=1), annotation(42, 3)])
    return datasets.load("coco2014", root)


def test_category_ids_are_mapped_to_labels_by_name(tmp_path):
    for number, name in CATEGORIES.items():
        write(tmp_path, "train", [1], [annotation(1, number)])
        write(tmp_path, "val", [2], [annotation(2, number)])
        split = datasets.load("coco2014", tmp_path).splits["train"]
        assert np.flatnonzero(split.targets[0] == 1).tolist() == [coco.LABELS.index(name)]
        assert split.boxes[0][0, 0] == coco.LABELS.index(name)


def test_targets_images_and_boxes(tmp_path):
    train = small(tmp_path).splits["train"]
    assert train.names == ["COCO_train2014_000000000009", "COCO_train2014_000000000030"]
    assert train.paths[1] == tmp_path / "train2014" / "COCO_train2014_000000000030.jpg"
    assert train.targets.dtype == np.int8 and set(np.unique(train.targets)) == {-1, 1}
    present = [[coco.LABELS[c] for c in np.flatnonzero(row == 1)] for row in train.targets]
    assert present == [["toothbrush"], ["dog", "person"]]
    person, dog = coco.LABELS.index("person"), coco.LABELS.index("dog")
    assert train.boxes[1].tolist() == [[c, 10.5, 20, 40.5, 60.25] for c in (person, person, dog)]


def test_crowds_count_as_present_and_have_no_box(tmp_path):
    test = small(tmp_path).splits["test"]
    assert [coco.LABELS[c] for c in np.flatnonzero(test.targets[0] == 1)] == ["car", "person"]
    assert test.boxes[0][:, 0].tolist() == [coco.LABELS.index("car")]


def test_images_without_annotations_are_left_out_and_the_notes_say_so(tmp_path):
    data = small(tmp_path)
    assert [len(s) for s in data.splits.values()] == [2, 1]
    assert "1 images of COCO train2014 without annotations left out" in data.notes
    assert "2 of the 82,081 annotated images of COCO train2014" in data.notes


def test_missing_and_contradicting_annotations_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"missing file .*instances_train2014.json, expected there"):
        datasets.load("coco2014", tmp_path)
    small(tmp_path)
    write(tmp_path, "train", [1], [annotation(2, 1)])
    with pytest.raises(UserError, match="annotations name image 2, which is not among its images"):
        datasets.load("coco2014", tmp_path)
    write(tmp_path, "train", [1], [annotation(1, 12)])
    with pytest.raises(UserError, match="unknown category id '12'"):
        datasets.load("coco2014", tmp_path)
    write(tmp_path, "train", [1], [annotation(1, 1)], {**CATEGORIES, 90: "unicorn"})
    with pytest.raises(UserError, match="they differ in toothbrush, unicorn"):
        datasets.load("coco2014", tmp_path)
    write(tmp_path, "train", [1], [])
    with pytest.raises(UserError, match="holds no annotations"):
        datasets.load("coco2014", tmp_path)
    path = tmp_path / "annotations" / "instances_train2014.json"
    for text in ('{"images": [{"id": 1, "file_', '{"annotations": [{"category_id": 1, "image_id": 1}]}', "[]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"instances_train2014.json"):
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


def test_a_missing_key_is_named(tmp_path):
    small(tmp_path)
    path = tmp_path / "annotations" / "instances_train2014.json"
    for section, key in (("images", "id"), ("annotations", "image_id"), ("categories", "name")):
        content = json.loads(path.read_text())
        content[section][0].pop(key)
        broken = tmp_path / "annotations" / "instances_val2014.json"
        broken.write_text(json.dumps(content))
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
    (tmp_path / "images").mkdir()
    name = own(tmp_path, "annotations")
    for image in "ab":
        (tmp_path / "annotations" / f"annotations-{image}.jpg").rename(tmp_path / "images" / f"annotations-{image}.jpg")
    data = datasets.load("coco", tmp_path, train=name, test_share=0.5)
    assert all(path.exists() for split in data.splits.values() for path in split.paths)


def test_large_annotations_load_in_little_memory(tmp_path):
    """A quarter of the 82,783 and 40,504 images of COCO, with 7.3 objects each of 8 corners each."""
    g = np.random.default_rng(0)
    outline = ",".join(f"{v:.2f}" for v in g.uniform(0, 640, 16))
    categories = np.array(list(CATEGORIES))
    counts = {}
    for part, size in (("train", 20_695), ("val", 10_126)):
        write(tmp_path, part, [], [annotation(0, 1)])  # the frame, which the rows below fill
        path = tmp_path / "annotations" / f"instances_{part}2014.json"
        ids = np.sort(g.choice(600_000, size, replace=False))
        objects = g.poisson(7.3, size)
        images = np.repeat(ids, objects)
        counts[part] = int((objects > 0).sum())
        head, tail = path.read_text().split('"annotations": ')
        with open(path, "w") as file:
            rows = (
                f'{{"license":5,"file_name":"COCO_{part}2014_{i:012d}.jpg","height":480,"width":640,"id":{i}}}'
                for i in ids
            )
            file.write(head.replace('"images": []', f'"images": [{",".join(rows)}]'))
            rows = (
                f'{{"segmentation":[[{outline}]],"area":702.1,"iscrowd":0,"image_id":{i},'
                f'"bbox":[473.07,395.93,38.65,28.67],"category_id":{c},"id":{n}}}'
                for n, (i, c) in enumerate(zip(images, g.choice(categories, len(images)), strict=True))
            )
            file.write(f'"annotations": [{",".join(rows)}], {tail[tail.index(chr(34) + "categories") :]}')
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
