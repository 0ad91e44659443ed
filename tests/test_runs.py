"""A run folder proves itself whole, says how it was made, and is never trained twice."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import made_runs
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks import contest_gpu
from mlclib import __main__ as line
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.datasets import integrity, labels
from mlclib.datasets.images import open_rgb
from mlclib.inference import predict
from mlclib.metrics import scores as metrics
from mlclib.results import data as data_results
from mlclib.runs import run as runs_of
from mlclib.runs import store
from mlclib.runs.study import Study
from mlclib.training import checkpoints
from mlclib.training.checkpoints import load_trained_state
from mlclib.training.inputs import transform_of


@pytest.mark.parametrize("name", store.FILES)
def test_a_run_is_finished_only_while_each_of_its_files_is_whole(tiny_study, tmp_path, name):
    folder = Path(shutil.copytree(tiny_study.runs["gmp seed 0"].folder, tmp_path / "seed-0"))
    assert store.finished(folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert store.damaged(folder) == [name] and not store.finished(folder)
    (folder / name).unlink()
    assert name in store.damaged(folder)
    with pytest.raises(UserError, match="holds no finished run"):
        store.read(folder)


@pytest.mark.parametrize("files", [contest_gpu.OF_RUN, contest_gpu.OF_TRIAL])
def test_a_packed_run_folder_proves_itself_whole(tmp_path, files):
    folder, logits = tmp_path / "run", np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    folder.mkdir()
    targets = np.ones((5, 3), dtype=np.int8)
    for name in ("predictions", "validation"):
        store.write_predictions(folder / f"{name}.npz", list("abcde"), targets, last=logits[0], best_val=logits[1])
    (folder / "history.csv").write_text("epoch\n1\n")
    (folder / "weights.safetensors").write_bytes(bytes(100))
    store.write_run(folder, {"seed": 0}, {"mAP": 0.5})
    unpacked = tmp_path / "there"
    unpacked.mkdir()
    for name, content in contest_gpu.packed(folder, files, ["last"]):
        (unpacked / name).write_bytes(content)
    assert store.finished(unpacked) and not (unpacked / "weights.safetensors").exists()
    run = store.read(unpacked, "validation")
    assert list(run.logits) == ["last"] and np.array_equal(run.logits["last"], logits[0])
    assert (unpacked / "predictions.npz").exists() == (files == contest_gpu.OF_RUN)


def test_a_run_is_found_by_its_configuration_and_current_where_its_folder_is_copied_from_another_machine(
    tiny_study, tmp_path
):
    run = tiny_study.runs["msrn layers 4 seed 0"]
    assert (run.model, run.seed, run.configuration.options["layers"]) == ("msrn", 0, [4])
    assert tiny_study.runs_of(run.configuration) == [run]
    fresh = Study(tiny_study.experiment, tiny_study.root, tmp_path).runs["gmp seed 0"]
    assert fresh.reasons == ["it is not trained"]
    shutil.copytree(tiny_study.runs["gmp seed 0"].folder, fresh.folder)
    assert fresh.finished and fresh.reasons == []


def test_a_run_folder_holds_what_the_design_names_and_how_it_was_made(tiny_study):
    (run,) = tiny_study.finished("msrn")
    assert sorted(path.name for path in run.folder.iterdir()) == sorted({*store.FILES, "manifest.json"})
    assert run.folder.name == "seed-0" and run.folder.parent.name.startswith("msrn-")
    assert len(run.history) == tiny_study.experiment.training.epochs
    assert run.names == tiny_study.dataset.splits["test"].names
    assert np.array_equal(run.targets, tiny_study.dataset.splits["test"].targets)
    about = yaml.safe_load((run.folder / "run.yaml").read_text(encoding="utf-8"))
    assert about["seed"] == 0 and about["data"]["checksum"] == tiny_study.checksum
    assert about["configuration"]["options"]["graph_threshold"] == 0.4  # defaults are written out
    assert torch.__version__.startswith(about["versions"]["torch"])
    assert about["started"] <= about["ended"] and len(about["commit"]) >= 7
    scores = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["last"]
    fresh = metrics.evaluate(run.logits["last"], run.targets)
    assert all(scores[name] == pytest.approx(fresh[name]) for name in ("OF1", "mAP"))
    weights = load_file(run.folder / "weights.safetensors")
    assert weights and not any(key.startswith("backbone.") for key in weights)  # which was frozen


def test_weights_of_another_model_are_refused_by_their_keys(tiny_study):
    model = tiny_study.build(tiny_study.experiment.run_config("gmp"))
    with pytest.raises(UserError, match=r"missing \['head.weight', 'head.bias'\], left over \['else'\]"):
        load_trained_state(model, {"else": torch.zeros(1)})


def test_another_configuration_or_other_data_makes_another_folder(tiny_study, tiny_yaml, tmp_path):
    run = tiny_study.runs["msrn seed 0"]
    wider = replace(run.configuration, options={**run.configuration.options, "width": 17})
    assert tiny_study.run_group_folder(wider) != run.folder.parent
    seeds = Study(replace(tiny_study.experiment, seeds=(0, 1)), tiny_study.root, tiny_study.results)
    assert seeds.runs["msrn seed 1"].folder.parent == run.folder.parent
    fewer = Study(config.load(tiny_yaml, {"dataset.test": 11}), tmp_path / "scenes", tmp_path)
    assert fewer.runs["msrn seed 0"].folder.parent.name != run.folder.parent.name


def test_cached_maps_are_those_of_the_backbone_and_a_damaged_cache_is_made_again(tiny_study, tmp_path):
    study = Study(tiny_study.experiment, tiny_study.root, tmp_path)
    run = study.experiment.run_config("gmp")
    maps, targets = study.inputs(run, "test").__getitems__([(0, 3), (0, 1)])
    images = study.inputs(replace(run, backbone=replace(run.backbone, frozen=False)), "test")
    pixels, same_targets = images.__getitems__([(0, 3), (0, 1)])
    assert torch.equal(targets, same_targets)
    with torch.inference_mode():
        direct = study.build(run).backbone(pixels)
    for layer in direct:  # the cache is computed in float32 and stored in float16
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
    targets = test.targets.copy()
    targets[[0, -1]] = train.targets[[3, 5]]
    data = replace(whole, splits={"train": train, "test": replace(test, paths=paths, targets=targets)})
    study.dataset = integrity.exclude(data, excluded)
    return study, [train.names[3], train.names[5]], [test.names[0], test.names[-1]]


def test_a_picture_in_train_and_test_is_refused_with_the_line_that_excludes_it(tiny_study, tmp_path):
    study, train, test = leaking(tiny_study, tmp_path)
    with pytest.raises(UserError) as refused:
        study.train("gmp")
    sentence = str(refused.value)
    assert all(f"train {a} = test {b}" in sentence for a, b in zip(train, test, strict=True))
    line = yaml.safe_load(sentence.split("`")[1])
    assert line == {"exclude": sorted(train)} and "experiment tiny" in sentence
    mended, _, _ = leaking(tiny_study, tmp_path, line["exclude"])
    mended.check_images()
    assert mended.runs["gmp seed 0"].folder.parent != study.runs["gmp seed 0"].folder.parent
    assert mended.dataset.notes[-1] == f"2 images excluded: {', '.join(sorted(train))}"


def test_init_names_one_run_and_else_lists_those_that_it_could_be(tmp_path):
    first, second = (made_runs.make(tmp_path, "msrn", seed) for seed in (0, 1))
    pattern = f"{tmp_path}/runs/scenes/msrn-*/seed-*"
    with pytest.raises(UserError, match="matches 2 finished runs") as refused:
        runs_of.start_of(pattern)
    assert all(f"{run.folder} of experiment demo" in str(refused.value) for run in (first, second))
    assert runs_of.start_of(pattern.replace("seed-*", "seed-1")) == second.folder
    with pytest.raises(UserError, match="matches no finished run: train one first"):
        runs_of.start_of("results/nowhere/coco2014/msrn-*/seed-0")


def test_the_label_graphs_are_those_that_the_models_are_built_with(tiny_study):
    own = {"graph_threshold": 0.2}, {"graph": "random"}, {"graph": "none"}, {}
    kinds = [config.Model("msrn", {"width": 16, **options}) for options in own]
    named = {f"msrn-{i}": kind for i, kind in enumerate(kinds)}
    others = {"gmp": config.Model(), "msrn-4": kinds[3], "ml_gcn": config.Model()}
    study = Study(replace(tiny_study.experiment, models={**named, **others}), tiny_study.root, tiny_study.results)
    graphs = data_results.label_graphs(study)
    assert [title.partition(" (")[0] for title in graphs] == ["msrn-0", "msrn-1", "msrn-3, msrn-4, ML-GCN"]
    for title, graph in graphs.items():
        model = study.build(study.experiment.run_config(title[:6]))
        assert np.array_equal(graph, model.adjacency.numpy())
    plain = Study(replace(study.experiment, models={"gmp": config.Model()}), tiny_study.root, tiny_study.results)
    assert data_results.label_graphs(plain) == {}


def test_a_run_on_few_images_knows_and_sees_the_first_of_the_training_images_alone(tiny_study):
    run, split = tiny_study.experiment.run_config("msrn"), tiny_study.dataset.splits["train"]
    run = replace(run, training=replace(run.training, images=10))
    learning, rows = replace(run, backbone=replace(run.backbone, frozen=False)), tiny_study.training_rows(run)
    info, (counts, totals) = tiny_study.label_info(run), labels.cooccurrence(split.targets[rows])
    assert len(rows) == 10 and np.array_equal(info.counts, counts) and np.array_equal(info.totals, totals)
    every, plain = tiny_study.maps("train").maps[4], transform_of(run.identity())
    for place in (0, 7, 13):
        (maps, marks), row = tiny_study.inputs(run, "train").__getitems__([(0, place)]), rows[place % 10]
        assert np.array_equal(maps[4][0], every[row]) and np.array_equal(marks[0], split.targets[row])
        pictures, marks = tiny_study.inputs(learning, "train").__getitems__([(0, place)])
        assert torch.equal(pictures[0], plain(open_rgb(split.paths[row]))) and np.array_equal(
            marks[0], split.targets[row]
        )


def test_training_images_alone_are_varied_anew_by_seed_epoch_and_image(tiny_study):
    run = tiny_study.experiment.run_config("gmp")
    recipe = replace(run.training, augmentation="msrn", normalise=False)
    run = replace(run, backbone=replace(run.backbone, frozen=False), training=recipe)
    test, plain = tiny_study.inputs(run, "test"), transform_of(run.identity())
    assert torch.equal(test.image(3, 0), plain(open_rgb(test.split.paths[0])))
    assert 0 <= test.image(3, 0).min() < 0.5 < test.image(3, 0).max() <= 1
    train, other = (tiny_study.inputs(run, "train", seed) for seed in (0, 1))
    first = train.image(0, 2)
    torch.manual_seed(5)
    assert torch.equal(train.image(0, 2), first)
    again = (train.image(1, 2), other.image(0, 2), plain(open_rgb(train.split.paths[2])))
    assert not any(torch.equal(varied, first) for varied in again)


def test_layer_maps_are_of_the_run_s_own_input_size(tiny_study, tmp_path):
    study = Study(tiny_study.experiment, tiny_study.root, tmp_path)
    for side in (64, 96):
        run = replace(study.experiment.run_config("gmp"), input_size=side)
        maps, _ = study.inputs(run, "val").__getitems__([(0, 0)])
        assert maps[4].shape[2:] == (side // 32, side // 32)


def test_a_file_of_weights_counts_by_its_content_for_runs_and_layer_maps(tiny_study, tmp_path):
    run, places = tiny_study.experiment.run_config("gmp"), []
    for name, content in (("a.pth", "1"), ("b.pth", "1"), ("c.pth", "2")):
        (tmp_path / name).write_text(content)
        own = replace(run, backbone=config.Backbone("test_resnet", str(tmp_path / name), True))
        places.append((tiny_study.run_group_folder(own), tiny_study.maps_folder("train", own)))
    assert places[0] == places[1] and all(a != b for a, b in zip(places[0], places[2], strict=True))


def test_checkpoints_that_other_code_wrote_are_deleted(tmp_path):
    for code, left in (("one", 0), ("one", 1), ("two", 0)):
        store.begin(tmp_path, {"trainer.py": code})
        assert len(checkpoints.listed(tmp_path)) == left
        checkpoints.write(tmp_path, checkpoints.State(), {})


def test_each_seed_draws_weights_of_its_own_and_one_is_trained_alone_where_it_is_named(tiny_yaml, tmp_path):
    sets = ("seeds=[0, 1]", "training.learning_rate=1e-9", "training.keep_weights=false")  # the weights stay as drawn
    named = ["train", str(tiny_yaml), "--model", "gmp", "--results", str(tmp_path)]
    named += [word for one in sets for word in ("--set", one)]
    assert line.main([*named, "--seed", "1"]) == 0
    assert [path.parent.name for path in tmp_path.rglob("manifest.json")] == ["seed-1"]
    assert line.main(named) == 0
    folders = [path.parent for path in tmp_path.rglob("manifest.json")]
    one, other = (store.read(folder).logits["last"] for folder in folders)
    assert np.abs(one - other).max() > 0.05 and not list(tmp_path.rglob("weights.safetensors"))
    with pytest.raises(UserError, match="seed-. kept no weights: train it again with training.keep_weights: true"):
        predict.load_model(folders[0])


def test_the_stages_and_norms_that_a_recipe_freezes_learn_nothing(tiny_study):
    run = tiny_study.experiment.run_config("gmp")
    recipe = replace(run.training, frozen_layers=3, frozen_norms=True)
    model = tiny_study.build(replace(run, backbone=config.Backbone("test_resnet", None), training=recipe)).train()
    learns = {key.split(".")[2] for key, p in model.named_parameters() if p.requires_grad and "backbone" in key}
    assert learns == {"layer4"}
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_the_authors_graph_and_vectors_are_those_of_the_model(tiny_study, tmp_path):
    counts, totals = labels.cooccurrence(tiny_study.dataset.splits["train"].targets)
    vectors = 2 * labels.vectors(tiny_study.dataset.labels)
    for name, content in (("adj.pkl", {"adj": 2.0 * counts, "nums": 3.0 * totals}), ("vectors.pkl", vectors)):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    run = tiny_study.experiment.run_config("msrn")
    run = replace(run, cooccurrence=str(tmp_path / "adj.pkl"), label_vectors=str(tmp_path / "vectors.pkl"))
    info = tiny_study.label_info(run)
    assert np.array_equal(info.counts, 2 * counts) and np.array_equal(info.totals, 3 * totals)
    assert torch.equal(tiny_study.build(run).label_vectors, torch.from_numpy(vectors))
