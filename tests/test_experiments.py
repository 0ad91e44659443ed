"""Every shipped experiment runs: one of each data set to its pages, and of all others each model one step."""

import dataclasses
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
from rehearsal import ROOT, SHIPPED
from safetensors.torch import load_file

from mlclib import __main__ as line
from mlclib import config, models
from mlclib.config import Backbone, RunConfig
from mlclib.results.scores import scores_table
from mlclib.runs import plan, train
from mlclib.runs.study import Study

SCENES = {"train": 24, "val": 8, "test": 12}
UNSEEN = "layer 4 has 3 x 3 cells at 96 px and the 2 x 2 pooling of MSRN drops the last row and column"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The file of a shipped experiment in small, on a data set that is made when first asked for."""
    roots = {}

    def path(name, folder, **changes):
        shipped = config.load(ROOT / "experiments" / f"{name}.yaml").dataset
        data = shipped["name"]
        if data not in roots:
            roots[data] = tmp_path_factory.mktemp("data") / data
            if data != "scenes":
                made_data.MAKE[data](roots[data])
        options = dict(SCENES) if data == "scenes" else {}
        for option in made_data.VOC_TABLES.keys() & {key for key, value in shipped.items() if value}:
            options[option] = str(folder / f"{option}.csv")
            made_data.VOC_TABLES[option](folder / f"{option}.csv")
        return rehearsal.shrunk(name, folder, roots[data], **{"dataset": options, **changes})

    return path


@pytest.fixture(scope="module")
def stepped():
    """The configurations that stepped already, of whichever experiment."""
    return set()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_experiment_knows_its_runs_and_each_of_its_models_learns(name, small, stepped, tmp_path):
    sizes = {"ablation": {"linear": {"input_size": [64, 128]}}} if name == "peers-scenes" else {}
    study = Study(config.load(small(name, tmp_path, training={"init": None}, **sizes)), results=tmp_path / "results")
    experiment, runs = study.experiment, study.runs
    jobs = plan.jobs(study, (name,), 1)
    assert sum(job.kind == "train" for job in jobs) == len(runs) == len({run.folder for run in runs.values()})
    if experiment.tuning:
        assert len(runs) == experiment.tuning.trials * len(experiment.models)
    assert {run.model for run in runs.values()} == set(experiment.models)
    for run in runs.values():
        step(study, run.configuration, stepped)


def step(study: Study, configuration: RunConfig, stepped: set[str]) -> None:
    """One step of the model on a backbone of little work, unless the same one stepped before."""
    backbone = Backbone("test_resnet", None, frozen=False)
    small = dataclasses.replace(configuration, backbone=backbone)
    key = repr((small.model, small.options, small.label_vectors, small.training.loss, len(study.dataset.labels)))
    if key not in stepped:
        stepped.add(key)
        model = study.build(small).train()
        logits = model(torch.zeros(2, 3, small.input_size, small.input_size))
        loss = model.loss(logits, torch.from_numpy(study.dataset.splits["train"].targets[:2]))
        loss.backward()
        assert torch.isfinite(loss)


# Of each data set one experiment, frozen and learning; scenes and a folder of images in test_workbook and test_tuning.
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("apparel", ["gmp"]),
        ("nuswide", ["gmp"]),
        ("peers-photographs", ["gmp", "csra", "query2label"]),
        ("scenes-graphs", ["ml_gcn", "ML-GCN-without-edges"]),
    ],
)
def test_an_experiment_runs_to_its_pages(name, asked, small, tmp_path, monkeypatch):
    path = small(name, tmp_path, models=asked, attention={"models": []})
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    for model in asked:
        (run,) = study.finished(model)
        assert np.isfinite(run.logits["last"]).all() and len(run.names) == len(study.dataset.splits["test"])
    if "val" in study.dataset.splits:
        assert (run.folder / "validation.npz").exists()
        audit = pd.read_csv(study.folder / "tables" / "protocols.csv")
        assert audit.set_index("choice").loc["swept on a validation split"].notna().any()


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_experiment_has_an_input_size_whose_edge_a_model_does_not_see(name):
    shipped = config.load(ROOT / "experiments" / f"{name}.yaml")
    for *_, run in shipped.configurations():
        options = models.check_options(run.model, run.options)
        model = SimpleNamespace(options=options, backbone=SimpleNamespace(strides={2: 8, 3: 16, 4: 32}))
        assert not models.find(run.model).size_warnings(model, run.input_size), run.model


def test_an_odd_grid_is_named_when_a_run_trains_and_in_its_caption(small, tmp_path):
    """At 96 px the map of layer 4 has 3 x 3 cells and MSRN sees 2 x 2 of them."""
    study = Study(config.load(small("demo", tmp_path, input_size=96, ablation=None)), results=tmp_path / "results")
    with pytest.warns(UserWarning, match=f"msrn seed 0: {UNSEEN}"):
        runs = study.train("msrn")
    assert UNSEEN[1:] in scores_table({"msrn": runs}).protocol
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        study.train("gmp")


def test_voc2012_runs_to_its_pages_and_to_the_archive_for_its_server(small, tmp_path, monkeypatch):
    path = small("voc2012", tmp_path, models=["gmp"], attention={"models": []})
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    (run,) = study.finished("gmp")
    assert line.main(["submit", str(run.folder), str(tmp_path / "server.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "server.zip") as archive:
        assert len(archive.namelist()) == 20
        lines = archive.read("results/VOC2012/Main/comp1_cls_test_cat.txt").decode().split("\n")
    assert [one.split()[0] for one in lines if one] == run.names
    assert "not public" in (study.folder / "tables" / "scores.md").read_text(encoding="utf-8")


def test_voc2007_starts_from_a_finished_run_of_coco2014(small, tmp_path, monkeypatch):
    coco = small("coco2014", tmp_path, models=["msrn"], attention={"models": []})
    first = rehearsal.rehearse(coco, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(first)
    (start,) = first.finished("msrn")
    pattern = str(tmp_path / "results" / "runs" / "coco2014" / "msrn-*" / "seed-0")
    path = small("voc2007-coco", tmp_path, models=["msrn"], training={"init": pattern, "backbone_factor": 0.0})
    runs = Study(config.load(path), results=tmp_path / "results").train("msrn")
    assert start.folder.parent.name in scores_table({"msrn": runs}).protocol
    ours, theirs = (load_file(run.folder / "weights.safetensors") for run in (runs[0], start))
    kernels = [key for key in theirs if key.startswith("backbone.") and theirs[key].ndim == 4]
    assert kernels and all(torch.equal(ours[key], theirs[key]) for key in kernels)  # which a factor of 0 leaves alone


def test_a_checkpoint_of_the_authors_stands_in_the_tables_beside_our_own(small, tmp_path, monkeypatch):
    only = {"ablation": {"dsdl": None}, "attention": {"models": ["msrn"]}, "backbone": {"name": "resnet18"}}
    path = small("voc2007", tmp_path, models=["gmp", "msrn"], **only)
    study = Study(config.load(path), results=tmp_path / "results")
    theirs = study.build(study.experiment.run_config("msrn"))
    own = theirs.state_dict()
    state = {name: own[ours] for name, ours in theirs.authors_names().items()}
    state |= {name: torch.zeros(shape) for name, shape in theirs.authors_unused().items()}
    torch.save({"state_dict": state}, tmp_path / "authors.pth")
    given = {"experiment": str(path), "results": str(tmp_path / "results"), "model": "msrn"}
    given["checkpoint"] = str(tmp_path / "authors.pth")
    rehearsal.in_process(monkeypatch)
    rehearsal.run_notebook(ROOT / "notebooks" / "02_train.ipynb", tmp_path / "copy.ipynb", given, io.StringIO())
    study = rehearsal.rehearse(path, tmp_path / "results", monkeypatch)
    rehearsal.check_pages(study)
    (scored,) = train.scored_checkpoints(study)["msrn (authors' checkpoint)"]
    images, _ = study.inputs(study.experiment.run_config("msrn"), "test").__getitems__([(0, row) for row in range(12)])
    with torch.no_grad():
        np.testing.assert_allclose(scored.logits["last"], theirs.eval()(images).logits, rtol=1e-4, atol=1e-4)
    scores = pd.read_csv(study.folder / "tables" / "scores.csv").set_index("model")
    assert list(scores.index) == ["gmp", "msrn", "msrn (authors' checkpoint)"] and scores["mAP"].notna().all()
    text = (study.folder / "tables" / "scores.md").read_text(encoding="utf-8").replace("\\", "")
    assert "checkpoint authors.pth, not trained here" in text
    published = (study.folder / "tables" / "published_voc2007.csv").read_text(encoding="utf-8")
    assert "msrn (authors' checkpoint)" in published
