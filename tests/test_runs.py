"""A run folder proves itself whole, says how it was made, and is never trained twice."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import made_runs
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mlclib import config
from mlclib.common.errors import UserError
from mlclib.datasets import integrity
from mlclib.inference import predict
from mlclib.metrics import scores as metrics
from mlclib.runs import store
from mlclib.runs import study as study_module
from mlclib.runs.study import Study
from mlclib.training.checkpoints import load_trained_state


def copied(run, tmp_path):
    folder = tmp_path / "seed-0"
    shutil.copytree(run.folder, folder)
    return folder


@pytest.mark.parametrize("name", store.FILES)
def test_a_run_is_finished_only_while_each_of_its_files_is_whole(tiny_study, tmp_path, name):
    folder = copied(tiny_study.finished("gmp")[0], tmp_path)
    assert store.finished(folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert not store.finished(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match="holds no finished run"):
        store.read(folder)


def test_a_finished_run_is_read_and_not_trained_again(tiny_study):
    before = {run.folder: os.stat(run.folder / "manifest.json").st_mtime_ns for run in tiny_study.finished("msrn")}
    again = tiny_study.train(tiny_study.experiment.run("msrn"))
    assert {run.folder: os.stat(run.folder / "manifest.json").st_mtime_ns for run in again} == before


def test_a_run_folder_holds_what_the_design_names_and_no_checkpoint(tiny_study):
    (run,) = tiny_study.finished("dsdl")
    assert sorted(path.name for path in run.folder.iterdir()) == sorted({*store.FILES, "manifest.json"})
    assert run.folder.name == "seed-0" and run.folder.parent.name.startswith("dsdl-")
    assert len(run.history) == tiny_study.experiment.training.epochs
    assert run.names == tiny_study.dataset.splits["test"].names
    assert np.array_equal(run.targets, tiny_study.dataset.splits["test"].targets)


def test_provenance_says_how_a_run_was_made(tiny_study):
    (run,) = tiny_study.finished("msrn")
    about = yaml.safe_load((run.folder / "run.yaml").read_text(encoding="utf-8"))
    assert about["seed"] == 0 and about["data"]["checksum"] == tiny_study.checksum
    assert about["configuration"]["options"]["graph_threshold"] == 0.4  # defaults are written out
    assert torch.__version__.startswith(about["versions"]["torch"])
    assert about["started"] <= about["ended"] and len(about["commit"]) >= 7


def test_metrics_are_those_of_the_predictions(tiny_study):
    for model in tiny_study.experiment.models:
        (run,) = tiny_study.finished(model)
        kept = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
        fresh = metrics.evaluate(run.logits["last"], run.targets)
        assert kept["last"]["OF1"] == pytest.approx(fresh["OF1"]) and kept["last"]["mAP"] == pytest.approx(fresh["mAP"])


def test_a_frozen_backbone_is_not_stored_and_the_weights_give_the_predictions(tiny_study):
    run_config = tiny_study.experiment.run("msrn")
    (run,) = tiny_study.finished("msrn")
    assert not any(key.startswith("backbone.") for key in load_file(run.folder / "weights.safetensors"))
    model = predict.load_model(run.folder)
    maps, _ = tiny_study.inputs(run_config, "test").__getitems__([(0, row) for row in range(len(run.names))])
    with torch.inference_mode():
        assert np.allclose(model(maps).logits.numpy(), run.logits["last"], atol=1e-5)


def test_weights_of_another_model_are_refused_by_their_keys(tiny_study):
    model = tiny_study.build(tiny_study.experiment.run("gmp"))
    with pytest.raises(UserError, match=r"missing \['head.weight', 'head.bias'\], left over \['else'\]"):
        load_trained_state(model, {"else": torch.zeros(1)})


def test_another_configuration_or_other_data_makes_another_folder(tiny_study, tiny_yaml, tmp_path):
    run = tiny_study.experiment.run("msrn")
    folder = tiny_study.run_folder(run, 0)
    wider = replace(run, options={**run.options, "width": 17})
    assert tiny_study.run_folder(wider, 0).parent != folder.parent
    assert tiny_study.run_folder(run, 1).parent == folder.parent
    fewer = Study(config.load(tiny_yaml, {"dataset.test": 11}), tmp_path / "scenes", tmp_path)
    assert fewer.run_folder(fewer.experiment.run("msrn"), 0).parent.name != folder.parent.name


def test_cached_maps_are_those_of_the_backbone_and_a_damaged_cache_is_made_again(tiny_study, tmp_path):
    study = Study(tiny_study.experiment, tiny_study.root, tmp_path)
    run = study.experiment.run("gmp")
    maps, targets = study.inputs(run, "test").__getitems__([(0, 3), (0, 1)])
    images = study.inputs(replace(run, backbone=replace(run.backbone, frozen=False)), "test")
    pixels, same_targets = images.__getitems__([(0, 3), (0, 1)])
    assert torch.equal(targets, same_targets)
    with torch.inference_mode():
        direct = study.build(run).backbone(pixels)
    for layer in direct:  # the cache is computed in float32 and kept in float16
        torch.testing.assert_close(maps[layer], direct[layer], rtol=1e-3, atol=1e-4)
    (file,) = tmp_path.rglob("test/layer4.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    study.inputs(run, "test")
    assert file.read_bytes() == whole


def leaking(tiny_study, tmp_path, excluded=()):
    """The tiny study on a data set of which two training pictures stand, byte for byte, in the test split too."""
    study = Study(replace(tiny_study.experiment, exclude=tuple(excluded)), tiny_study.root, tmp_path / "results")
    whole = Study(tiny_study.experiment, tiny_study.root).dataset
    train, test = whole.splits["train"], whole.splits["test"]
    paths = [train.paths[3], *test.paths[1:-1], train.paths[5]]
    data = replace(whole, splits={"train": train, "test": replace(test, paths=paths)})
    study.dataset = integrity.exclude(data, excluded)
    return study, [train.names[3], train.names[5]], [test.names[0], test.names[-1]]


def test_a_picture_in_train_and_test_is_refused_with_the_line_that_excludes_it(tiny_study, tmp_path):
    study, train, test = leaking(tiny_study, tmp_path)
    with pytest.raises(UserError) as refused:
        study.train(study.experiment.run("gmp"))
    said = str(refused.value)
    assert all(f"train {a} = test {b}" in said for a, b in zip(train, test, strict=True)) and "experiment tiny" in said
    line = yaml.safe_load(said.split("`")[1])
    assert line == {"exclude": sorted(train)}
    mended, _, _ = leaking(tiny_study, tmp_path, line["exclude"])
    mended.check_images()
    run = study.experiment.run("gmp")
    assert mended.run_folder(run, 0).parent != study.run_folder(run, 0).parent
    assert mended.dataset.notes[-1] == f"2 images excluded: {', '.join(sorted(train))}"


def test_init_needs_one_run_and_lists_those_it_matches(tmp_path):
    first = made_runs.make(tmp_path, "msrn", 0)
    second = made_runs.make(tmp_path, "msrn", 1)
    pattern = f"{tmp_path}/runs/scenes/msrn-*/seed-*"
    with pytest.raises(UserError, match="matches 2 finished runs") as refused:
        study_module._start(pattern)
    assert all(f"{run.folder} of experiment demo" in str(refused.value) for run in (first, second))
    assert study_module._start(pattern.replace("seed-*", "seed-1")) == second.folder


def test_init_without_a_run_says_which_experiments_make_one(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    with pytest.raises(
        UserError, match="matches no finished run.*experiments with such runs: coco2014, coco2014-modern"
    ):
        study_module._start("results/nowhere/coco2014/msrn-*/seed-0")


def test_the_label_graphs_are_those_that_the_models_are_built_with(tiny_study):
    own = {"graph_threshold": 0.2}, {"graph": "random"}, {"graph": "none"}, {}
    kinds = [config.Model("msrn", {"width": 16, **options}) for options in own]
    named = {f"msrn-{i}": kind for i, kind in enumerate(kinds)}
    others = {"gmp": config.Model(), "msrn-4": kinds[3], "ml_gcn": config.Model()}
    study = Study(replace(tiny_study.experiment, models={**named, **others}), tiny_study.root, tiny_study.results)
    graphs = study.label_graphs()
    assert list(graphs) == [
        "msrn-0 (graph cooccurrence, graph_threshold 0.2, counts of the training split)",
        "msrn-1 (graph random, graph_threshold 0.4, counts of the training split)",
        "msrn-3, msrn-4, ml_gcn (graph cooccurrence, graph_threshold 0.4, counts of the training split)",
    ]
    for title, graph in graphs.items():
        model = study.build(study.experiment.run(title[:6]))
        assert np.array_equal(graph, model.adjacency.numpy())
    plain = Study(replace(study.experiment, models={"gmp": config.Model()}), tiny_study.root, tiny_study.results)
    assert plain.label_graphs() == {}


def test_a_missing_data_folder_is_named(tiny_yaml):
    study = Study(config.load("voc2007"), "no/such/folder")
    with pytest.raises(UserError, match="no/such/folder"):
        study.dataset  # noqa: B018
