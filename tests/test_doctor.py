"""The doctor finds what is known to be wrong with labels and pictures, and leaves an experiment that runs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_data import picture
from PIL import Image

from mlclib import __main__ as line
from mlclib import config, datasets
from mlclib.datasets.base import Dataset, Split
from mlclib.doctor import diagnosis, page, pictures
from mlclib.doctor.pictures import Pictures
from mlclib.runs.study import Study


def drawn(images: int = 200, noise: float = 0.3, seed: int = 0) -> Pictures:
    """Pictures whose features show their three labels, more or less clearly; none is a copy of another."""
    rng = np.random.default_rng(seed)
    targets = np.where(rng.random((images, 3)) < 0.4, 1, -1).astype(np.int8)
    features = targets @ rng.standard_normal((3, 12)) + noise * rng.standard_normal((images, 12))
    names = [f"{row}.jpg" for row in range(images)]
    frame = pd.DataFrame({"name": names, "part": "train", "path": names, "size": 1e4, "aspect": 1.0})
    frame = frame.assign(brightness=100 + rng.standard_normal(images), spread=50.0)
    hashes = rng.random((images, pictures.HASH**2)) < 0.5
    return Pictures(("a", "b", "c"), frame, targets, features.astype(np.float32), hashes, ())


def test_flipped_labels_are_suspect_and_come_first():
    seen = drawn()
    flipped = np.random.default_rng(1).random(seen.targets.shape) < 0.05
    spoilt = dataclasses.replace(seen, targets=np.where(flipped, -seen.targets, seen.targets))
    suspects = diagnosis.diagnose(spoilt).suspects
    hits = flipped[suspects["row"], [seen.labels.index(label) for label in suspects["label"]]]
    assert hits.mean() > 0.9 and hits.sum() > 0.8 * flipped.sum() and hits[: flipped.sum() // 2].all()
    assert (suspects["given"] != suspects["suggested"]).all() and suspects["quality"].is_monotonic_increasing


def test_unknown_labels_are_never_suspect_and_are_estimated():
    seen = drawn()
    targets = seen.targets.copy()
    targets[:20, 0] = 0
    diagnosed = diagnosis.diagnose(dataclasses.replace(seen, targets=targets))
    unknown = diagnosed.suspects[diagnosed.suspects["given"] == "unknown"]
    assert sorted(unknown["row"]) == list(range(20)) and set(unknown["label"]) == {"a"}
    right = (unknown["suggested"] == "present") == (seen.targets[unknown["row"], 0] == 1)
    assert right.mean() > 0.9 and diagnosed.labels["images"][0] == (targets[:, 0] == 1).sum()


def test_an_image_and_its_copies_are_predicted_by_models_that_saw_none_of_them(monkeypatch):
    seen = drawn(60)
    seen.hashes[1::2] = seen.hashes[::2]
    real, checked = diagnosis.out_of_fold, []

    def noting(features, targets, folds, share, seed):
        checked.append((folds[1::2] == folds[::2]).all())
        return real(features, targets, folds, share, seed)

    monkeypatch.setattr(diagnosis, "out_of_fold", noting)
    diagnosis.diagnose(seen)
    assert all(checked) and len(checked) == len(diagnosis.SHARES)


def test_noise_is_predicted_no_better_than_by_chance_out_of_fold():
    labels = diagnosis.diagnose(drawn(noise=1e6)).labels
    assert (labels["AP"] < 0.6).all() and np.isinf(labels["more"]).all()


def test_precisions_lie_in_their_intervals_and_one_label_or_labels_never_present_are_diagnosed():
    labels = diagnosis.diagnose(drawn(noise=4)).labels
    assert ((labels["precision low"] < labels["precision"]) & (labels["precision"] < labels["precision high"])).all()
    seen = drawn()
    lost = dataclasses.replace(seen, targets=np.full((200, 3), -1, np.int8))
    assert diagnosis.diagnose(lost).labels["recall"].isna().all()
    alone = diagnosis.diagnose(dataclasses.replace(seen, labels=("a",), targets=seen.targets[:, :1]))
    assert alone.labels["AP"][0] > 0.9 and set(alone.suspects["label"]) <= {"a"}


def test_the_learning_curve_gives_the_images_that_a_power_law_needs(monkeypatch):
    """1 - AP = 0.2 at all of 100 images and falls with the root of their number: 0.1 takes four times as many."""
    errors = 0.2 * np.array(diagnosis.SHARES) ** -0.5
    aps = iter([np.full((1 + diagnosis.DRAWS, 2), [1 - error, 0.95]) for error in errors])
    monkeypatch.setattr(diagnosis.resampling, "average_precisions", lambda *_: next(aps))
    frame = diagnosis.images_needed(np.ones((100, 2), np.int8), list(errors))
    assert frame["more"].tolist() == pytest.approx([300, 0], abs=1) and frame["more low"][0] == frame["more high"][0]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """40 pictures with copies, one broken, one huge, one black; a table with the columns of single labels."""
    root = tmp_path_factory.mktemp("doctor") / "my images"
    rows = ["image,desert,sunset,split"]
    for row in range(40):
        picture(root / f"{row}.jpg", row)
        rows.append(f"{row}.jpg,{row % 2},{int(row % 3 == 0)},{'test' if row % 4 == 3 else 'train'}")
    Image.open(root / "0.jpg").resize((80, 60)).save(root / "leak.jpg", quality=60)
    Image.open(root / "1.jpg").save(root / "other.jpg", quality=60)
    Image.new("RGB", (96, 72), "black").save(root / "black.jpg")
    Image.open(root / "2.jpg").resize((960, 720)).save(root / "huge.jpg")
    (root / "broken.jpg").write_text("no picture")
    rows += ["leak.jpg,0,1,test", "other.jpg,0,0,test", "black.jpg,0,0,train", "huge.jpg,0,0,train"]
    (root / "labels.csv").write_text("\n".join([*rows, "broken.jpg,1,0,train"]) + "\n")
    return root


def test_copies_leaks_and_odd_pictures_are_named(own):
    seen = pictures.read_pictures(datasets.load("folder", own, table="labels.csv"), side=32)
    frame = pictures.near_duplicates(seen).set_index("name")
    assert seen.broken == ("broken.jpg",)
    assert set(frame.index[frame["leak"]]) == {"0.jpg", "leak.jpg", "1.jpg", "other.jpg"}
    assert set(frame.index[frame["out"]]) == {"0.jpg"}  # the other copy alone has its labels
    assert frame["group"]["huge.jpg"] == frame["group"]["2.jpg"] and not frame["leak"]["huge.jpg"]
    odd = set(pictures.outliers(seen)[["name", "what"]].itertuples(index=False, name=None))
    assert {("huge.jpg", "size"), ("black.jpg", "spread"), ("black.jpg", "brightness")} <= odd


def test_pictures_of_one_colour_are_no_copies_of_each_other(tmp_path):
    paths = [tmp_path / f"{colour}.png" for colour in ("black", "white", "grey")]
    for path in paths:
        Image.new("RGB", (40, 30), path.stem).save(path)
    split = Split([path.name for path in paths], paths, np.ones((3, 1), np.int8))
    seen = pictures.read_pictures(Dataset("made", ("a",), {"train": split}), side=32)
    assert pictures.near_duplicates(seen)["group"].tolist() == [0, 1, 2]


def test_one_command_leaves_a_page_tables_and_an_experiment_that_can_be_trained(own, tmp_path, capsys):
    assert line.main(["doctor", str(own), "--results", str(tmp_path)]) == 0
    folder = tmp_path / "doctor" / "my images"
    assert str(folder / "README.md") in capsys.readouterr().out
    text = (folder / "README.md").read_text(encoding="utf-8")
    for words in ("cannot be opened: 1", "4 pictures stand in several parts", "| desert |", "make reproduce"):
        assert words in text
    for name in ("suspects", "copies", "odd", "labels"):
        assert (folder / f"{name}.csv").exists()
    setting = config.load(folder / f"own-{folder.name}.yaml")
    assert setting.attended == () and set(setting.exclude) == {"broken.jpg", "0.jpg"}
    study = Study(setting, results=tmp_path)
    assert [run.finished for run in study.runs.values()] == [False] * 2
    for model in setting.models:
        study.build(setting.run_config(model))


def test_of_several_tables_one_must_be_named(own, tmp_path, capsys):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("image,labels\n")
    assert line.main(["doctor", str(tmp_path)]) == 1
    assert "TABLE=a.csv" in capsys.readouterr().err
    with pytest.raises(Exception, match="several columns|names no label"):
        page.examine(tmp_path, "a.csv", tmp_path)
