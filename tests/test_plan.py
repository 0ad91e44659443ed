"""What is out of date, and why: each thing that a result rests on reruns what shows it, and nothing else."""

import dataclasses
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pytest
import rehearsal
from made_workbook import notebook
from PIL import Image

from mlclib import __main__ as line
from mlclib import config
from mlclib.common import sources
from mlclib.common.errors import UserError
from mlclib.common.files import sha256
from mlclib.results import captions
from mlclib.results import report as reports
from mlclib.runs import batch, notebooks, plan, run, store, train, unchanged
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]
SHOWS_GMP = {"02_train-gmp", "04_attention-gmp", "05_tables", "06_protocols", "page"}


def noted(study: Study) -> None:
    """Leave the records of a whole workbook without its notebooks: each stage as if it had written one table."""
    for stage in plan.stages(study):
        outputs = {}
        for table in (study.folder / "tables" / f"{stage.name}.{kind}" for kind in ("csv", "md")):
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text(f"table of {stage.name}\n")
            outputs[f"tables/{table.name}"] = sha256(table)
        plan._write(study, stage.name, plan.inputs(study, stage), outputs)
    plan.page_written(study, reports.write(study, plan.shown(study)))


def again(study: Study, **changes) -> Study:
    """The same study as a new process would see it, with some of its experiment changed."""
    return Study(dataclasses.replace(study.experiment, **changes), study.root, study.results)


def todo(study: Study) -> dict[str, tuple[str, ...]]:
    return {job.name: job.reasons for job in plan.jobs(study, ("tiny",), 2) if job.reasons}


def trained(names) -> set[str]:
    return {name for name in names if name.startswith("train ")}


@pytest.fixture(scope="module")
def study(tiny_study, tmp_path_factory):
    """The tiny study, finished and noted, in a folder of its own."""
    folder = tmp_path_factory.mktemp("plan")
    shutil.copytree(tiny_study.root, folder / "scenes")
    study = Study(tiny_study.experiment, folder / "scenes", folder / "results")
    study.train_all(study.runs.values())
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
    for cached in (sources._read, sources._file, sources._locked, run.run_code):
        cached.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    forget()


@contextmanager
def spoilt(path: Path):
    """Within, the file may be changed or removed."""
    content = path.read_bytes()
    yield
    path.write_bytes(content)


# What the code, the configuration and the files change.


MSRN = {"msrn seed 0", "msrn layers 4 seed 0"}
EVERY = {"gmp seed 0", "dsdl seed 0"} | MSRN
SHOWS_MSRN = {"02_train-msrn", "03_ablation-msrn-layers", "04_attention-msrn", "05_tables", "06_protocols", "page"}
SCORES = {"02_train-gmp", "05_tables", "06_protocols", "page"}
ADDED = "import numpy as np\n", "import numpy as np\n\nADDED = 1\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "retrained", "shown"),
    [
        # 01_data shows the label graph of MSRN
        ("mlclib/models/msrn.py", "nn.LeakyReLU()", "nn.ReLU()", MSRN, {"01_data"} | SHOWS_MSRN),
        ("mlclib/training/trainer.py", "Interrupted(UserError)", "Interrupted(BaseException)", EVERY, SCORES),
        ("requirements.lock", "torch==", "torch==1", EVERY, SCORES),
        ("mlclib/metrics/scores.py", *ADDED, set(), SCORES),
        ("mlclib/results/captions.py", *ADDED, set(), SCORES),
        ("mlclib/results/scores.py", *ADDED, set(), SCORES - {"06_protocols"}),
        ("mlclib/published/voc2007.csv", "9", "8", set(), {"05_tables", "page"}),
    ],
)
def test_edited_code_reruns_what_rests_on_it_and_retrains_no_other(study, source, file, old, new, retrained, shown):
    edit(source.parent / file, old, new)
    reasons = todo(again(study))
    assert trained(reasons) == {f"train {name}" for name in retrained}
    assert not any(name.startswith("maps") for name in reasons) or file == "requirements.lock"
    assert shown <= set(reasons) and (file[7:13] != "models" or set(reasons) - trained(reasons) == shown)
    named = [reason for each in reasons.values() for reason in each]
    assert any(reason == f"{file} changed" or reason.startswith("torch: ") for reason in named)


def test_with_nothing_changed_but_comments_docstrings_and_layout_nothing_is_to_do(study, source):
    assert todo(again(study)) == {}
    edit(source / "models" / "msrn.py", '"""MSRN, ', '"""The network MSRN, ')
    edit(source / "training/trainer.py", "import math\n", "import math  # of the schedule\n")
    edit(source / "metrics/scores.py", "APS = (", "APS = (\n    ")
    assert todo(again(study)) == {}


def test_layer_maps_rest_on_what_computes_them_alone(study, source):
    cached = study.maps_folder("train")
    edit(source / "common" / "files.py", "STALE = 60.0", "STALE = 61.0")
    assert set(todo(again(study))) <= {"page"} and again(study).maps_folder("train") == cached
    edit(source / "training" / "features.py", "np.float16", "np.float32")
    assert again(study).maps_folder("train") != cached


@pytest.mark.parametrize(
    ("job", "name"), [("06_protocols", "tables/06_protocols.csv"), ("page", "README.md")], ids=["table", "page"]
)
def test_what_was_deleted_or_edited_by_hand_is_made_anew(study, job, name):
    with spoilt(study.folder / name):
        (study.folder / name).write_text("better")
        assert todo(again(study))[job] == (f"{name} was changed by hand",)
        (study.folder / name).unlink()
        reasons = todo(again(study))
        assert reasons[job] == (f"{name} is missing",) and set(reasons) == {job, "page"}


def test_a_run_of_which_a_file_was_deleted_or_edited_is_trained_anew(study):
    path = study.runs["gmp seed 0"].folder / "predictions.npz"
    with spoilt(path):
        path.write_bytes(path.read_bytes()[:-1] + b"0")
        edited = todo(again(study))
        path.unlink()
        assert todo(again(study)) == edited
    assert edited["train gmp seed 0"] == ("it is not trained",)
    assert set(edited) == {"train gmp seed 0"} | SHOWS_GMP


def test_predictions_from_outside_reach_the_tables(study):
    path = study.folder / "external" / "theirs.npz"
    path.parent.mkdir()
    np.savez(path, names=np.array(["a"]))
    reasons = todo(again(study))
    assert set(reasons) == {"05_tables", "06_protocols", "page"}
    assert reasons["05_tables"] == ("external/theirs.npz is new",)
    noted(again(study))
    assert todo(again(study)) == {}
    np.savez(path, names=np.array(["b"]))
    assert todo(again(study))["06_protocols"] == ("external/theirs.npz changed",)
    path.unlink()
    assert todo(again(study))["06_protocols"] == ("external/theirs.npz is gone",)
    noted(again(study))


def test_a_changed_option_reruns_its_model_and_what_shows_it_and_nothing_else(study):
    models = study.experiment.models | {"dsdl": config.Model(options={"alpha": 5.0})}
    shows = {"02_train-dsdl", "04_attention-dsdl", "05_tables", "06_protocols", "page"}
    assert set(todo(again(study, models=models))) == {"train dsdl seed 0"} | shows


def test_another_order_and_other_notes_reach_the_tables_without_training(study):
    models, layers = dict(reversed(study.experiment.models.items())), [[2, 3, 4], [4]]
    reasons = todo(again(study, models=models, ablation={"msrn": {"layers": layers}}))
    assert reasons["06_protocols"] == ("models: gmp, msrn, dsdl -> dsdl, msrn, gmp",)
    assert reasons["03_ablation-msrn-layers"] == ("ablation.msrn layers: 4, 2, 3, 4 -> 2, 3, 4, 4",)
    assert set(reasons) == {"01_data", "03_ablation-msrn-layers", "05_tables", "06_protocols", "page"}
    reasons = todo(again(study, attention=config.Attention(images=(2,))))
    assert set(reasons) == {f"04_attention-{model}" for model in study.experiment.models} | {"page"}
    changed = again(study, notes=("Drawn at night.",))
    reasons = todo(changed)
    assert not trained(reasons) and {"02_train-gmp", "05_tables", "page"} <= set(reasons)
    assert "Drawn at night." in captions.run_details({"gmp": changed.finished("gmp")})


def test_an_excluded_and_a_replaced_picture_are_other_data(study):
    every = {f"train {name}" for name in study.runs} | {"05_tables", "page"}
    assert every <= set(todo(again(study, exclude=(study.dataset.splits["train"].names[0],))))
    with spoilt(study.dataset.splits["train"].paths[1]):
        Image.new("RGB", (256, 256), "red").save(study.dataset.splits["train"].paths[1])
        reasons = todo(again(study))
    assert every <= set(reasons) and any(reason.startswith("data changed") for reason in reasons["01_data"])


def test_a_file_that_the_configuration_names_counts_by_its_content_and_not_its_path(study, tmp_path):
    words = {word for label in study.dataset.labels for word in label.split()}
    text = "\n".join(f"{word} {len(word)} 1.5 {-len(word)}" for word in sorted(words))
    folders = []
    for name, content in (("a.txt", text), ("b.txt", text), ("c.txt", text.replace("1.5", "2.5"))):
        (tmp_path / name).write_text(content)
        folders.append(again(study, label_vectors=str(tmp_path / name)).runs["msrn seed 0"].folder)
    assert folders[0] == folders[1] != folders[2]


# What the command line says and does.


def test_status_lists_each_job_with_its_reason(study, source, capsys, monkeypatch):
    edit(source / "models" / "dsdl.py", "@ self.w1, 0.2)", "@ self.w1, 0.3)")
    monkeypatch.setattr(line, "_study", lambda arguments: again(study))
    line.main(["status", "tiny", "--results", str(study.results)])
    printed = capsys.readouterr().out.splitlines()
    assert "train dsdl seed 0: mlclib/models/dsdl.py changed" in printed
    assert any(one.startswith("05_tables: it rests on train dsdl seed 0") for one in printed)
    assert not any("gmp" in one for one in printed)
    assert line.main(["run", "tiny", "--name", "msrm seed 0"]) == 1
    assert "did you mean 'msrn seed 0'" in capsys.readouterr().err


def test_force_takes_nothing_as_current(study):
    jobs = [job for job in plan.jobs(again(study), ("tiny",), 2, force=True) if job.kind != "maps"]
    assert all("--force" in job.reasons for job in jobs)
    assert all("--force" in job.command for job in jobs if job.kind == "train")
    run = study.runs["gmp seed 0"]
    before = (run.folder / "manifest.json").stat().st_ino
    study.train("gmp")
    assert (run.folder / "manifest.json").stat().st_ino == before
    study.train_all([run], force=True)
    assert (run.folder / "manifest.json").stat().st_ino != before
    noted(again(study))


def test_runs_accepted_although_the_code_changed_are_current_and_say_so(study, source, capsys, monkeypatch):
    run, changes = again(study).runs["gmp seed 0"], ["mlclib/models/gmp.py changed"]
    edit(source / "models" / "gmp.py", "amax", "amin")
    assert run.finished and run.reasons == changes
    stale = captions.run_details({"gmp": study.finished("gmp")})
    assert "Made by other code than stands here now: mlclib/models/gmp.py changed." in stale
    monkeypatch.setattr(line, "_study", lambda arguments: again(study))
    line.main(["accept", "tiny"])
    assert capsys.readouterr().out == "accepted: gmp seed 0 (mlclib/models/gmp.py changed)\n"
    assert run.reasons == []
    assert [one["reasons"] for one in store.about(run.folder)["accepted"]] == [changes]
    reasons = todo(again(study))
    assert not trained(reasons) and "run gmp seed 0, accepted.json is new" in reasons["05_tables"]
    accepted = captions.run_details({"gmp": study.finished("gmp")})
    assert "although the code had changed: mlclib/models/gmp.py changed." in accepted
    edit(source / "models" / "gmp.py", "amin", "aminmax")
    assert run.reasons == changes
    (run.folder / store.ACCEPTED).unlink()


def test_an_outdated_run_stays_until_the_new_one_is_whole(study, source, tmp_path, monkeypatch):
    folder = study.runs["gmp seed 0"].folder
    whole = shutil.copytree(folder, tmp_path / "whole")
    before = store.about(folder)["code"]
    edit(source / "training/inputs.py", "import numpy as np\n", "import numpy as np\n\nADDED = 1\n")

    def broken(*arguments):
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(train, "_finish", broken)
        with pytest.raises(OSError, match="power cut"):
            again(study).train("gmp")
    assert store.read(folder).about["code"] == before
    (renewed,) = again(study).train("gmp")
    assert renewed.folder == folder and store.read(folder).about["code"] != before
    assert not [path for path in folder.parent.glob(".*") if "lock" not in path.name]
    shutil.rmtree(folder)
    whole.rename(folder)


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
    assert left == {stage.name for stage in plan.stages(fewer)}
    assert {path.stem for path in (copy / "tiny" / "stages").iterdir()} == left | {"page"}


# The jobs themselves.


def test_one_job_trains_all_seeds_of_a_configuration_where_runs_are_short(study, monkeypatch):
    seeds = again(study, seeds=(0, 1, 2))
    apart, grouped = (plan.jobs(seeds, ("tiny",), 2, together=together) for together in (False, True))
    assert trained(job.name for job in apart) == {f"train {name}" for name in seeds.runs}
    jobs = {job.name: job for job in grouped}
    job = jobs["train gmp seeds 1, 2"]  # seed 0 is trained
    assert job.command == ("run", "tiny", "--name", "gmp seed 1", "--name", "gmp seed 2")
    assert job.name in jobs["02_train-gmp"].needs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan.write_jobs(study, apart)
    assert [job.name for job in plan.read_jobs(study.folder)[1]] == [job.name for job in apart]
    assert batch.together(study, "") and not batch.together(study, "profiles/slurm")
    learning = again(study, backbone=config.Backbone("test_resnet", None))
    assert not batch.together(learning, "")


# A notebook declares what it runs over and what it reads.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of notebooks/ to which tests add."""
    shutil.copytree(notebooks.FOLDER, tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    return tmp_path / "notebooks"


GIVEN = "experiment = data = results = ''\nmodel = ''"
COUNT = """from mlclib.common.files import write_text
from mlclib.results import notebook
study = notebook.study(experiment, data, results)
count = len(study.finished(model))
write_text(study.folder / "tables" / f"count_{model}.csv", f"runs\\n{count}\\n")
write_text(study.folder / "tables" / f"count_{model}.md", f"Table of the runs of {model}: {count}\\n")"""


def test_a_new_notebook_is_a_job_of_each_thing_it_runs_over_and_its_table_is_on_the_page(
    study, folder, tiny_yaml, monkeypatch
):
    declared = {"over": "model", "reads": ["runs"]}
    nbformat.write(notebook(GIVEN, COUNT, mlclib=declared), folder / "08_count.ipynb")
    nbformat.write(notebook(GIVEN, "1 / 0"), folder / "09_scratch.ipynb")  # declares nothing, so it is no job
    jobs = {job.name: job for job in plan.jobs(again(study), ("tiny",), 2)}
    new = {name: job for name, job in jobs.items() if name.startswith(("08", "09"))}
    assert set(new) == {f"08_count-{model}" for model in study.experiment.models}
    assert "train gmp seed 0" in new["08_count-gmp"].needs and "train dsdl seed 0" not in new["08_count-gmp"].needs
    assert all(job.reasons == ("it has not run",) for job in new.values())
    assert set(new) <= set(jobs["page"].needs)
    rehearsal.in_process(monkeypatch)
    places = [str(tiny_yaml), "--data", str(study.root), "--results", str(study.results)]
    for job in new.values():
        assert line.main(["stage", *places, "--name", job.name]) == 0
    assert line.main(["report", *places]) == 0
    assert "Table of the runs of gmp: 1" in (study.folder / "README.md").read_text(encoding="utf-8")
    assert todo(again(study)) == {}
    for name in [path.name for path in folder.glob("08*")]:
        (folder / name).unlink()
    plan.clear(study)
    noted(again(study))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"over": "modle"}, "unknown over 'modle'.*did you mean 'model'"),
        ({"over": "model", "raeds": []}, "unknown key 'raeds'.*did you mean 'reads'"),
        ({"over": "model", "reads": ["run"]}, "value of reads 'run'.*did you mean 'runs'"),
    ],
)
def test_a_bad_declaration_is_one_sentence_that_names_the_notebook(study, folder, declared, words):
    nbformat.write(notebook(GIVEN, mlclib=declared), folder / "08_count.ipynb")
    with pytest.raises(UserError, match=f"(?=.*08_count.ipynb){words}"):
        plan.stages(study)


def test_status_answers_from_file_times_while_nothing_changed_and_no_longer(study, capsys, monkeypatch):
    monkeypatch.setattr(line, "_study", lambda arguments: again(study))

    def status():
        line.main(["status", "tiny", "--results", str(study.results)])
        return capsys.readouterr().out.splitlines()

    (first,) = status()
    assert first.startswith("0 of ") and status() == [first] and (study.folder / "unchanged.json").exists()
    table = study.folder / "tables" / "06_protocols.csv"
    with spoilt(table):
        table.write_text("better")
        assert status()[0] == "06_protocols: tables/06_protocols.csv was changed by hand"


def test_a_changed_file_that_one_s_own_experiment_includes_is_a_change(tmp_path):
    own, base = tmp_path / "own.yaml", tmp_path / "base.yaml"
    for path in (own, base):
        path.write_text("title: a")
    unchanged.note(tmp_path / "results", str(own), "", 7, [], time.time_ns() + 10**9)
    assert unchanged.since(tmp_path / "results", str(own), "") == 7
    base.write_text("title: other")
    assert unchanged.since(tmp_path / "results", str(own), "") is None
