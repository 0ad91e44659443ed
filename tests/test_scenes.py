"""The embedded scenes: the same bytes from the same seed, true boxes, labels that follow the place, no half sets."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mlclib.common.errors import UserError
from mlclib.datasets import scenes
from mlclib.datasets.scenes import picture, places, things
from mlclib.datasets.scenes.pen import Pen


def files(root) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


SIZES = {"train": 150, "val": 20, "test": 50}  # enough to be drawn in several processes, and for frequencies


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes") / "set"


@pytest.fixture(scope="module")
def dataset(root):
    return scenes.load(root, **SIZES)


def test_a_set_drawn_in_processes_is_the_set_drawn_in_one_and_no_image_is_another(root, dataset, tmp_path):
    scenes.load(tmp_path / "few", train=6, val=1, test=3)  # too few for processes
    few = files(tmp_path / "few")
    assert len(set(few.values())) == 11 and scenes.draw_scene(0, 0, 0)[0] != scenes.draw_scene(1, 0, 0)[0]
    for name in (*(f"train_{i:05d}" for i in range(6)), *(f"test_{i:05d}" for i in range(3)), "val_00000"):
        assert few[f"images/{name}.jpg"] == (root / "images" / f"{name}.jpg").read_bytes()


def test_splits_have_their_sizes_and_boxes_lie_on_the_labels_that_are_present(dataset):
    assert {k: len(s) for k, s in dataset.splits.items()} == SIZES
    for split in dataset.splits.values():
        for target, boxes in zip(split.targets, split.boxes, strict=True):
            assert set(boxes[:, 0].astype(int)) == set(np.flatnonzero(target == 1))
            assert (boxes[:, 1:3] >= 0).all() and (boxes[:, 3:] <= 256).all()
            assert (boxes[:, 3:] > boxes[:, 1:3]).all()
        with Image.open(split.paths[-1]) as picture:
            assert picture.size == (256, 256) and picture.mode == "RGB"


def test_sizes_run_from_4_to_60_percent_of_the_side(dataset):
    boxes = np.concatenate([b for split in dataset.splits.values() for b in split.boxes])
    size = (boxes[:, 3:] - boxes[:, 1:3]).max(1) / 256
    assert size.min() >= 0.04 and size.max() <= 0.60
    assert np.quantile(size, 0.1) < 0.08 and np.quantile(size, 0.95) > 0.3


@pytest.mark.parametrize("name", things.THINGS)
def test_a_thing_fills_the_size_it_is_given(name):
    pen = Pen(np.random.default_rng(0), things.THINGS[name].where)
    things.THINGS[name].draw(pen)
    art = picture.tile(np.random.default_rng(1), pen.shapes, 0.5, 0.1, 0.0, np.zeros(3))
    x0, y0, x1, y1 = art.getchannel("A").getbbox()
    assert 0.49 < max(x1 - x0, y1 - y0) / (places.SIDE * places.FINE) <= 0.5


def test_what_is_hidden_is_not_labelled_and_half_hidden_is_difficult(dataset, monkeypatch):
    rare = np.mean([(split.targets == 0).sum() / (split.targets != -1).sum() for split in dataset.splits.values()])
    assert 0 < rare < 0.03
    monkeypatch.setattr(picture, "HALF_HIDDEN", 1.01)  # then nothing is visible enough
    assert all(b["difficult"] for b in scenes.draw_scene(0, 0, 5)[1]["boxes"])
    monkeypatch.setattr(picture, "HIDDEN", 1.01)
    assert scenes.draw_scene(0, 0, 5)[1]["boxes"] == []


def test_labels_are_neither_rare_nor_everywhere_and_go_together_as_the_places_say(dataset):
    present = np.concatenate([split.targets == 1 for split in dataset.splits.values()]).astype(float)
    assert present.mean(0).min() > 0.04 and present.mean(0).max() < 0.55
    lift = present.T @ present / len(present) / np.outer(present.mean(0), present.mean(0))
    at = {label: i for i, label in enumerate(scenes.LABELS)}
    for a, b in (("car", "bus"), ("cup", "bottle"), ("chair", "table"), ("cow", "house"), ("boat", "cloud")):
        assert lift[at[a], at[b]] > 1.2, (a, b)
    for a, b in (("car", "cup"), ("boat", "chair"), ("cow", "clock"), ("bus", "boat")):
        assert lift[at[a], at[b]] < 0.5, (a, b)


def test_a_drawn_set_is_not_drawn_again(root, dataset, monkeypatch):
    monkeypatch.setattr(scenes, "draw_scene", lambda *_: pytest.fail("it drew"))
    assert scenes.load(root, **SIZES).checksum() == dataset.checksum()


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 4}, {"val": 0}, {"test": 3}, "version"])
def test_another_seed_size_or_version_draws_the_set_anew(tmp_path, monkeypatch, change):
    scenes.load(tmp_path / "s", train=3, val=1, test=2)
    before = files(tmp_path / "s")
    if change == "version":
        monkeypatch.setattr(scenes, "VERSION", scenes.VERSION + 1)
    asked = {"train": 3, "val": 1, "test": 2, "seed": 0} | (change if isinstance(change, dict) else {})
    scenes.load(tmp_path / "s", **asked)
    after = files(tmp_path / "s")
    assert len(after) == asked["train"] + asked["val"] + asked["test"] + 1  # images of the former set do not linger
    assert after["scenes.json"] != before["scenes.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".s.lock", "s"]


def test_interrupted_drawing_leaves_what_was_there_before(tmp_path, monkeypatch):
    root, real = tmp_path / "s", scenes._draw_to
    scenes.load(root, train=4, val=1, test=1)
    kept = files(root)

    def interrupted(folder, seed, split, index):
        if index == 2:
            raise KeyboardInterrupt
        return real(folder, seed, split, index)

    monkeypatch.setattr(scenes, "_draw_to", interrupted)
    for folder in (root, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            scenes.load(folder, train=5, val=1, test=1)
    assert files(root) == kept and not (tmp_path / "new").exists()


def test_killed_drawing_is_begun_again(tmp_path):
    code = (
        "import os, sys; from mlclib.datasets import scenes; real = scenes._draw_to\n"
        "def kill(folder, seed, split, index):\n"
        "    return os._exit(9) if index == 2 else real(folder, seed, split, index)\n"
        "scenes._draw_to = kill; scenes.load(sys.argv[1], train=4, val=1, test=1)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")]).returncode == 9
    assert not (tmp_path / "s").exists()
    assert len(scenes.load(tmp_path / "s", train=4, val=1, test=1).splits["train"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [".s.lock", "s"]


def test_a_missing_file_is_named(tmp_path):
    scenes.load(tmp_path / "s", train=3, val=1, test=1)
    (tmp_path / "s" / "images" / "train_00001.jpg").unlink()
    with pytest.raises(UserError, match=r"train_00001\.jpg is missing.*delete the folder"):
        scenes.load(tmp_path / "s", train=3, val=1, test=1)


@pytest.mark.parametrize("name, text", [("letter.txt", "mine"), ("scenes.json", json.dumps({"images": []}))])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="holds files but no scenes"):
        scenes.load(tmp_path, train=3, val=1, test=1)
    assert (tmp_path / name).read_text() == text
