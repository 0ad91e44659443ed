"""Every shipped experiment runs from its YAML to its tables and pages, on made data in the set's true layout."""

import io
import warnings
import zipfile
from types import SimpleNamespace

import made_data
import numpy as np
import pandas as pd
import pytest
import rehearsal
import torch
from rehearsal import ROOT

from mlclib import __main__ as line
from mlclib import config, models
from mlclib.results import scores as performance
from mlclib.runs.study import Study

SCENES = {"train": 24, "val": 8, "test": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a data set, made when first asked for."""
    folders = {}

    def folder(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("data") / name
            if name != "scenes":
                made_data.MAKE[name](folders[name])
        return folders[name]

    return folder


def changes(name, folder, made):
    """What else must be small, or lie elsewhere."""
    shipped = config.load(rehearsal.ROOT / "experiments" / f"{name}.yaml")
    found = {}
    if shipped.dataset["name"] == "scenes":
        found["dataset"] = {key: SCENES[key] for key in SCENES}
    for option in ("ids", "ids2007", "parts", "parts2012"):
        if shipped.dataset.get(option):
            found.setdefault("dataset", {})[option] = str(folder / f"{option}.csv")
            made_data.VOC_TABLES[option](folder / f"{option}.csv")
    if "input_size" in shipped.ablation.get("linear", {}):
        found["ablation"] = {"linear": {"input_size": [64, 128]}}
    return shipped.dataset["name"], found


@pytest.mark.parametrize("name", [name for name in rehearsal.SHIPPED if name != "voc2007-coco"])
def test_an_experiment_runs_to_its_pages(name, made, tmp_path, monkeypatch):
    data, more = changes(name, tmp_path, made)
    path = rehearsal.shrunk(name, tmp_path, made(data), **more)
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    for model in study.experiment.models:
        (run,) = study.finished(model)
        assert np.isfinite(run.logits["last"]).all() and len(run.names) == len(study.dataset.splits["test"])


@pytest.mark.parametrize("name", rehearsal.SHIPPED)
def test_no_shipped_experiment_has_an_input_size_whose_edge_a_model_does_not_see(name):
    shipped = config.load(rehearsal.ROOT / "experiments" / f"{name}.yaml")
    asked = [(model, shipped.run(model)) for model in shipped.models]
    asked += [
        (m, run) for m in shipped.ablation for axis in shipped.axes(m) for run in shipped.variants(m, axis).values()
    ]
    for model, run in asked:
        options = models.check_options(run.model, run.options)
        found = models.find(run.model).size_warnings(SimpleNamespace(options=options), run.input_size)
        assert not found, f"{model}: {found}"


def test_an_odd_grid_is_named_when_a_run_trains_and_in_its_caption(made, tmp_path):
    """At 96 px the map of layer 4 has 3 x 3 cells and MSRN sees 2 x 2 of them."""
    path = rehearsal.shrunk("demo", tmp_path, made("scenes"), input_size=96, dataset=SCENES, ablation=None)
    study = Study(config.load(path), results=tmp_path / "results")
    said = "layer 4 has 3 x 3 cells at 96 px and the 2 x 2 pooling of MSRN drops the last row and column"
    with pytest.warns(UserWarning, match=f"msrn: {said}"):
        runs = study.train(study.experiment.run("msrn"))
    assert said[1:] in performance.scores_table({"msrn": runs}).caption
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        study.train(study.experiment.run("gmp"))


def test_voc2012_ends_in_the_archive_for_its_server(made, tmp_path, monkeypatch):
    path = rehearsal.shrunk("voc2012", tmp_path, made("voc2012"), models={"gmp": {}, "msrn": None, "dsdl": None})
    study = Study(config.load(path), results=tmp_path / "results")
    (run,) = study.train(study.experiment.run("gmp"))
    assert line.main(["submit", str(run.folder), str(tmp_path / "server.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "server.zip") as archive:
        assert len(archive.namelist()) == 20
        lines = archive.read("results/VOC2012/Main/comp1_cls_test_cat.txt").decode().split("\n")
    assert [one.split()[0] for one in lines if one] == run.names
    said = performance.scores_table({"gmp": [run]}).caption
    assert "not public" in said


def test_voc2007_starts_from_a_finished_run_of_coco2014(made, tmp_path, monkeypatch):
    coco = rehearsal.shrunk("coco2014", tmp_path, made("coco2014"))
    first = Study(config.load(coco), results=tmp_path / "results")
    (start,) = first.train(first.experiment.run("msrn"))
    pattern = str(tmp_path / "results" / "runs" / "coco2014" / "msrn-*" / "seed-0")
    path = rehearsal.shrunk("voc2007-coco", tmp_path, made("voc2007"), training={"init": pattern})
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    scores = (study.folder / "tables" / "scores.md").read_text(encoding="utf-8")
    assert start.folder.parent.name in scores.replace("\\", "")


def test_one_s_own_images_with_a_validation_part_run_to_their_pages(made, tmp_path, monkeypatch):
    path = tmp_path / "own.yaml"
    path.write_text(
        f"title: Mine\ndataset: {{name: folder, root: {made('folder')}, table: labels.csv}}\ninput_size: 64\n"
        "backbone: {name: test_resnet, weights: null}\ntraining: {epochs: 1, batch_size: 8, threads: 1}\n"
        "models: {gmp: {}, dsdl: {options: {hidden: 16}}}\n"
        "attention: {images: [0], n_localisation: 3, n_faithfulness: 1}\n"
    )
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    (run,) = study.finished("gmp")
    assert (run.folder / "validation.npz").exists()
    audit = pd.read_csv(study.folder / "tables" / "protocols.csv")
    assert audit.set_index("choice").loc["swept on a validation split"].notna().any()


def test_a_checkpoint_of_the_authors_stands_in_the_tables_beside_our_own(made, tmp_path, monkeypatch):
    path = rehearsal.shrunk("voc2007", tmp_path, made("voc2007"), ablation=None, backbone={"name": "resnet18"})
    study = Study(config.load(path), results=tmp_path / "results")
    theirs = study.build(study.experiment.run("msrn"))
    own = theirs.state_dict()
    state = {name: own[ours] for name, ours in theirs.authors_names().items()}
    state |= {name: torch.zeros(shape) for name, shape in theirs.authors_unused().items()}
    torch.save({"state_dict": state}, tmp_path / "authors.pth")
    given = {"experiment": str(path), "results": str(tmp_path / "results"), "model": "msrn"}
    said = io.StringIO()
    copy = tmp_path / "copy.ipynb"
    rehearsal.run_notebook(
        ROOT / "notebooks" / "02_train.ipynb", copy, {**given, "checkpoint": str(tmp_path / "authors.pth")}, said
    )
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    scores = pd.read_csv(study.folder / "tables" / "scores.csv").set_index("model")
    assert list(scores.index) == ["gmp", "msrn", "dsdl", "msrn (authors' checkpoint)"]
    assert scores["mAP"].notna().all()
    caption = (study.folder / "tables" / "scores.md").read_text(encoding="utf-8")
    assert "checkpoint authors.pth, not trained here" in caption.replace("\\", "")
    published = (study.folder / "tables" / "published_voc2007.csv").read_text(encoding="utf-8")
    assert "msrn (authors' checkpoint)" in published
