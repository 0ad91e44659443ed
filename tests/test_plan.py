"""What is out of date, and why: each thing that a result rests on reruns what shows it, and nothing else."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlclib import __main__ as line
from mlclib import config
from mlclib.common import sources
from mlclib.results import captions
from mlclib.results import report as reports
from mlclib.runs import plan, store
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]


def noted(study: Study) -> None:
    """Leave the records of a whole workbook without its notebooks: each stage as if it had written one table."""
    for stage in plan.every_stage(study):
        outputs = {}
        for table in (study.folder / "tables" / f"{stage.name}.{kind}" for kind in ("csv", "md")):
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text(f"table of {stage.name}\n")
            outputs[f"tables/{table.name}"] = plan.sha256(table)
        plan._write(study, stage.name, plan.inputs(study, stage), outputs)
    plan.page_written(study, reports.write(study, plan.shown(study)))


def again(study: Study, **changes) -> Study:
    """The same study as a new process would see it, with some of its experiment changed."""
    return Study(dataclasses.replace(study.experiment, **changes), study.root, study.results)


def todo(study: Study) -> dict[str, tuple[str, ...]]:
    return {job.name: job.reasons for job in plan.jobs(study, ("tiny",), 2) if job.reasons}


@pytest.fixture(scope="module")
def study(tiny_study, tmp_path_factory):
    """The tiny study, finished and noted, in a folder of its own; its source is a copy that tests may edit."""
    folder = tmp_path_factory.mktemp("plan")
    shutil.copytree(tiny_study.root, folder / "scenes")
    study = Study(tiny_study.experiment, folder / "scenes", folder / "results")
    for run, seed in study.every_run().values():
        study.train(run, (seed,))
    noted(study)
    return study


@pytest.fixture(autouse=True)
def source(tmp_path, monkeypatch):
    """A copy of the package whose text the tests change."""
    shutil.copytree(ROOT / "mlclib", tmp_path / "mlclib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "LOCK", tmp_path / "requirements.lock")
    forget()
    yield tmp_path / "mlclib"
    forget()


def forget():
    for cached in (sources._read, sources._file, sources._locked):
        cached.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    forget()


def test_with_nothing_changed_nothing_is_to_do(study):
    assert todo(again(study)) == {}


def test_an_edited_model_reruns_its_runs_and_what_shows_them_and_no_other(study, source):
    edit(source / "models" / "msrn.py", "nn.LeakyReLU()", "nn.ReLU()")
    found = todo(again(study))
    assert {name for name in found if name.startswith("train")} == {"train msrn seed 0", "train msrn layers 4 seed 0"}
    assert "mlclib/models/msrn.py changed" in found["train msrn seed 0"]
    shows = {"02_train-msrn", "03_ablation-msrn-layers", "04_attention-msrn", "05_tables", "06_protocols", "page"}
    assert set(found) - {"train msrn seed 0", "train msrn layers 4 seed 0"} == shows | {"01_data"}  # its label graph


@pytest.mark.parametrize(
    ("module", "shown"),
    [
        ("scores/metrics.py", {"02_train-gmp", "05_tables", "06_protocols", "page"}),
        ("tables/captions.py", {"02_train-gmp", "05_tables", "06_protocols", "page"}),
        ("tables/performance.py", {"02_train-gmp", "05_tables", "page"}),
    ],
)
def test_edited_scores_and_tables_are_made_anew_without_training(study, source, module, shown):
    edit(source / module, "import numpy as np\n", "import numpy as np\n\nADDED = 1\n")
    found = todo(again(study))
    assert not any(name.startswith(("train", "maps")) for name in found)
    assert shown <= set(found)


def test_an_edited_training_loop_reruns_every_run(study, source):
    edit(source / "training/trainer.py", "Interrupted(Exception)", "Interrupted(BaseException)")
    assert sum(name.startswith("train ") for name in todo(again(study))) == len(study.every_run())


def test_a_comment_a_docstring_and_another_layout_rerun_nothing(study, source):
    edit(source / "models" / "msrn.py", '"""MSRN, ', '"""The network MSRN, ')
    edit(source / "training/trainer.py", "import math\n", "import math  # of the schedule\n")
    edit(source / "scores/metrics.py", "APS = (", "APS = (\n    ")
    assert todo(again(study)) == {}


def test_layer_maps_rest_on_what_computes_them_alone(study, source):
    run = study.experiment.run("gmp")
    cached = study.maps_folder(run, "train")
    edit(source / "common" / "files.py", "STALE = 60.0", "STALE = 61.0")
    assert set(todo(again(study))) <= {"page"} and again(study).maps_folder(run, "train") == cached
    edit(source / "training" / "features.py", "np.float16", "np.float32")
    assert again(study).maps_folder(run, "train") != cached


def test_another_version_of_a_package_in_the_lock_reruns_what_imports_it(study, source):
    edit(source.parent / "requirements.lock", "torch==", "torch==1")
    assert any("torch: " in reason for reason in todo(again(study))["train gmp seed 0"])


def test_a_deleted_and_a_hand_edited_table_are_made_anew(study):
    table = study.folder / "tables" / "06_protocols.csv"
    text = table.read_text()
    try:
        table.write_text("better")
        assert todo(again(study))["06_protocols"] == ("tables/06_protocols.csv was changed by hand",)
        table.unlink()
        found = todo(again(study))
        assert found["06_protocols"] == ("tables/06_protocols.csv is missing",)
        assert set(found) - {"page"} == {"06_protocols"}
    finally:
        table.write_text(text)


def test_a_deleted_and_a_hand_edited_page_are_made_anew(study):
    page = study.folder / "README.md"
    text = page.read_text()
    try:
        page.write_text("better")
        assert todo(again(study)) == {"page": ("README.md was changed by hand",)}
        page.unlink()
        assert todo(again(study)) == {"page": ("README.md is missing",)}
    finally:
        page.write_text(text)


def test_a_run_of_which_a_file_was_deleted_or_edited_is_trained_anew(study):
    path = study.run_folder(study.experiment.run("gmp"), 0) / "predictions.npz"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + b"0")
        edited = todo(again(study))
        path.unlink()
        assert todo(again(study)) == edited
    finally:
        path.write_bytes(whole)
    assert edited["train gmp seed 0"] == ("it is not trained",)
    shows = {"02_train-gmp", "04_attention-gmp", "05_tables", "06_protocols", "page"}
    assert set(edited) == {"train gmp seed 0"} | shows


def test_predictions_from_outside_reach_the_tables(study):
    path = study.folder / "external" / "theirs.npz"
    path.parent.mkdir()
    try:
        np.savez(path, names=np.array(["a"]))
        found = todo(again(study))
        assert set(found) == {"05_tables", "06_protocols", "page"}
        assert found["05_tables"] == ("external/theirs.npz is new",)
        noted(again(study))
        assert todo(again(study)) == {}
        np.savez(path, names=np.array(["b"]))
        assert todo(again(study))["06_protocols"] == ("external/theirs.npz changed",)
        path.unlink()
        assert todo(again(study))["06_protocols"] == ("external/theirs.npz is gone",)
    finally:
        shutil.rmtree(path.parent)
        noted(again(study))


def test_a_changed_published_figure_reaches_the_tables_beside_it(study, source):
    table = source / "scores" / "published" / "voc2007.csv"
    edit(table, "9", "8")
    found = todo(again(study))
    assert set(found) == {"05_tables", "page"}
    assert found["05_tables"] == ("mlclib/published/voc2007.csv changed",)


def test_models_and_variants_in_another_order_reach_the_tables_without_training(study):
    models, layers = dict(reversed(study.experiment.models.items())), [[2, 3, 4], [4]]
    found = todo(again(study, models=models, ablation={"msrn": {"layers": layers}}))
    assert found["06_protocols"] == ("models: gmp, msrn, dsdl -> dsdl, msrn, gmp",)
    assert found["03_ablation-msrn-layers"] == ("ablation.msrn layers: 4, 2, 3, 4 -> 2, 3, 4, 4",)
    assert set(found) == {"01_data", "03_ablation-msrn-layers", "05_tables", "06_protocols", "page"}


def test_changed_notes_reach_every_caption_without_training(study):
    found = todo(again(study, notes=("Drawn at night.",)))
    assert not any(name.startswith("train") for name in found)
    assert {"02_train-gmp", "05_tables", "page"} <= set(found)
    (run,) = again(study, notes=("Drawn at night.",)).finished("gmp")
    assert "Drawn at night." in captions.run_details({"gmp": [run]})


def test_an_excluded_and_a_replaced_picture_are_other_data(study):
    name = study.dataset.splits["train"].names[0]
    excluded = todo(again(study, exclude=(name,)))
    assert {f"train {run}" for run in study.every_run()} | {"05_tables", "page"} <= set(excluded)
    path = study.dataset.splits["train"].paths[1]
    before = path.read_bytes()
    try:
        Image.new("RGB", (256, 256), "red").save(path)
        found = todo(again(study))
        assert {f"train {run}" for run in study.every_run()} | {"05_tables", "page"} <= set(found)
        assert any(reason.startswith("data changed") for reason in found["01_data"])
    finally:
        path.write_bytes(before)


def test_a_changed_labels_csv_of_one_s_own_images_is_other_data_and_reaches_the_tables(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = ["path,labels,split"]
    for row in range(12):
        Image.new("RGB", (40, 40), (20 * row, 90, 10)).save(folder / f"{row}.jpg")
        rows.append(f"{row}.jpg,{'cat|dog' if row % 3 else 'cat'},{'test' if row % 4 == 0 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "mine.yaml").write_text(
        f"title: Mine\ndataset: {{name: folder, root: {folder}, table: labels.csv}}\nmodels: {{gmp: {{}}}}\n"
        "input_size: 64\nbackbone: {name: test_resnet, weights: null}\n"
        "training: {epochs: 1, batch_size: 4, threads: 1}\n"
    )
    mine = Study(config.load(tmp_path / "mine.yaml"), results=tmp_path / "results")
    mine.train(mine.experiment.run("gmp"))
    noted(mine)
    assert todo(mine) == {}
    (folder / "labels.csv").write_text("\n".join(rows).replace("1.jpg,cat|dog", "1.jpg,dog"))
    after = todo(Study(mine.experiment, results=tmp_path / "results"))
    assert after["train gmp seed 0"] == ("it is not trained",)
    assert {"05_tables", "page"} <= set(after) and "data changed" in after["05_tables"]


def test_a_file_that_the_configuration_names_counts_by_its_content_and_not_its_path(study, tmp_path):
    words = {word for label in study.dataset.labels for word in label.split()}
    text = "\n".join(f"{word} {len(word)} 1.5 {-len(word)}" for word in sorted(words))
    folders = []
    for name, more in (("a.txt", ""), ("b.txt", ""), ("c.txt", "\n")):
        (tmp_path / name).write_text(text.replace("1.5", "2.5") if more else text)
        other = again(study, label_vectors=str(tmp_path / name))
        folders.append(other.run_folder(other.experiment.run("msrn"), 0))
    assert folders[0] == folders[1] != folders[2]


def test_status_lists_each_job_with_its_reason(study, source, capsys, monkeypatch):
    edit(source / "models" / "dsdl.py", "@ self.w1, 0.2)", "@ self.w1, 0.3)")
    monkeypatch.setattr(line, "_study", lambda arguments: again(study))
    line.main(["status", "tiny"])
    said = capsys.readouterr().out.splitlines()
    assert "train dsdl seed 0: mlclib/models/dsdl.py changed" in said
    assert any(one.startswith("02_train-dsdl: it rests on train dsdl seed 0") for one in said)
    assert not any("gmp" in one for one in said)


def test_force_takes_nothing_as_current(study):
    jobs = [job for job in plan.jobs(again(study), ("tiny",), 2, force=True) if job.kind != "maps"]
    assert all("--force" in job.reasons for job in jobs)
    assert all("--force" in job.command for job in jobs if job.kind == "train")
    run = study.experiment.run("gmp")
    before = (study.run_folder(run, 0) / "manifest.json").stat().st_ino
    study.train(run)
    assert (study.run_folder(run, 0) / "manifest.json").stat().st_ino == before
    study.train(run, force=True)
    assert (study.run_folder(run, 0) / "manifest.json").stat().st_ino != before
    noted(again(study))


def test_runs_accepted_although_the_code_changed_are_current_and_say_so(study, source, capsys, monkeypatch):
    edit(source / "models" / "gmp.py", "amax", "amin")
    changed = again(study)
    run = changed.experiment.run("gmp")
    assert changed.outdated(run, 0) == ["mlclib/models/gmp.py changed"]
    (stale,) = changed.finished("gmp")
    sentence = "Made by other code than stands here now: mlclib/models/gmp.py changed."
    assert sentence in captions.run_details({"gmp": [stale]})
    monkeypatch.setattr(line, "_study", lambda arguments: again(study))
    line.main(["accept", "tiny"])
    assert capsys.readouterr().out == "accepted: gmp seed 0 (mlclib/models/gmp.py changed)\n"
    assert changed.outdated(run, 0) == [] and store.finished(changed.run_folder(run, 0))
    assert [one["reasons"] for one in store.about(changed.run_folder(run, 0))["accepted"]] == [
        ["mlclib/models/gmp.py changed"]
    ]
    found = todo(again(study))
    assert not any(name.startswith("train") for name in found)
    assert "run gmp seed 0, accepted.json is new" in found["05_tables"]
    (kept,) = changed.finished("gmp")
    assert "although the code had changed: mlclib/models/gmp.py changed." in captions.run_details({"gmp": [kept]})
    edit(source / "models" / "gmp.py", "amin", "aminmax")
    assert changed.outdated(run, 0) == ["mlclib/models/gmp.py changed"]
    (changed.run_folder(run, 0) / store.ACCEPTED).unlink()


def test_an_outdated_run_stays_until_the_new_one_is_whole(study, source, monkeypatch):
    run, folder = study.experiment.run("gmp"), study.run_folder(study.experiment.run("gmp"), 0)
    before = store.read(folder).about["started"], store.read(folder).about["code"]
    edit(source / "training/inputs.py", "import numpy as np\n", "import numpy as np\n\nADDED = 1\n")
    other = again(study)

    def broken(*arguments):
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Study, "_finish", broken)
        with pytest.raises(OSError, match="power cut"):
            other.train(run)
    assert store.read(folder).about["code"] == before[1]
    (made,) = again(study).train(run)
    assert made.folder == folder and store.read(folder).about["code"] != before[1]
    assert not [path for path in folder.parent.glob(".*") if "lock" not in path.name]


def test_what_stages_wrote_that_are_no_more_leaves_with_them(study):
    fewer = again(study, models={m: study.experiment.models[m] for m in ("gmp", "msrn")}, ablation={})
    copy = fewer.results.parent / "fewer"
    shutil.copytree(study.folder, copy / "tiny")
    fewer = Study(fewer.experiment, study.root, copy)
    gone = ("table of 02_train-dsdl", "table of 03_ablation-msrn-layers")
    assert all(table in (fewer.folder / "README.md").read_text() for table in gone)
    assert "tables/02_train-dsdl.md is gone" in todo(fewer)["page"]
    page = reports.write(fewer, plan.shown(fewer)).read_text()
    assert "table of 02_train-msrn" in page and not any(table in page for table in gone)
    plan.clear(fewer)
    left = {path.stem for path in (copy / "tiny" / "tables").iterdir()}
    assert left == {stage.name for stage in plan.every_stage(fewer)}
    assert {path.stem for path in (copy / "tiny" / "stages").iterdir()} == left | {"page"}
