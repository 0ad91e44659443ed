"""The whole workbook on a tiny experiment: Snakemake, papermill, every notebook, every table and figure."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_data
import nbformat
import pytest
import rehearsal
import yaml

from mlclib import __main__ as line
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.runs import execution
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]


def mlclib(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mlclib", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def times(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (folder / "stages").iterdir()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


@pytest.fixture(scope="module")
def two_looked_at(tiny_yaml, tmp_path_factory) -> Path:
    """The tiny experiment's file, with the attention of two of its models."""
    path = tmp_path_factory.mktemp("workbook") / tiny_yaml.name
    text = tiny_yaml.read_text(encoding="utf-8")
    path.write_text(text.replace("attention: {", "attention: {models: [msrn, dsdl], "), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reproduced(two_looked_at, tiny_study):
    """The tiny experiment rebuilt by one command; its runs are those that `tiny_study` trained."""
    done = mlclib("reproduce", two_looked_at, "--results", tiny_study.results)
    assert done.returncode == 0, done.stdout + done.stderr
    return tiny_study.folder


def test_one_command_rebuilds_every_table_and_figure(reproduced):
    for name in ("scores", "per_class", "ablation_msrn_layers", "protocols"):
        for kind in ("csv", "md", "html"):
            assert (reproduced / "tables" / f"{name}.{kind}").stat().st_size > 100, name
    figures = ("label_frequencies", "cooccurrence", "samples", "label_graph-1", "curves_msrn")
    for name in (*figures, "ablation_msrn_layers", "attention-msrn", "localisation-dsdl", "groups-msrn"):
        assert (reproduced / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    page = (reproduced / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([^)#]+)\)", page):
        if "://" not in path:
            assert (reproduced / path).exists(), path
    for path in (reproduced / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not any(output.output_type == "error" for output in cell.get("outputs", [])), path


def test_with_nothing_changed_it_does_nothing_and_says_so(reproduced, two_looked_at):
    before = times(reproduced)
    done = mlclib("reproduce", two_looked_at, "--results", reproduced.parent)
    assert done.returncode == 0 and done.stdout.startswith("Nothing to do: tiny is up to date"), done.stderr
    assert times(reproduced) == before


def test_a_changed_parameter_reruns_what_depends_on_it_and_nothing_else(reproduced, two_looked_at):
    before, text = times(reproduced), two_looked_at.read_text(encoding="utf-8")
    try:
        two_looked_at.write_text(text.replace("dsdl: {}", "dsdl: {options: {alpha: 5.0}}"), encoding="utf-8")
        done = mlclib("reproduce", two_looked_at, "--results", reproduced.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        assert changed(before, times(reproduced)) == {
            "02_train-dsdl", "04_attention-dsdl", "05_tables", "06_protocols", "page",
        }  # fmt: skip
    finally:
        two_looked_at.write_text(text, encoding="utf-8")


def test_a_failing_run_is_a_sentence_and_the_others_go_on(tiny_study, tmp_path):
    path = tmp_path / "broken.yaml"
    text = f"""
title: One model of two cannot be trained
dataset: {{name: scenes, train: 24, val: 8, test: 12, root: {tiny_study.root}}}
input_size: 64
backbone: {{name: tf_efficientnet_lite0, weights: offline, frozen: true}}
training: {{epochs: 1, batch_size: 8, threads: 1}}
models: {{gmp: {{}}, dsdl: {{training: {{accumulate: 9}}}}}}
attention: {{models: []}}
"""
    path.write_text(text, encoding="utf-8")
    results = tmp_path / "results"
    done = mlclib("reproduce", path, "--results", results)
    assert done.returncode == 1
    (said,) = (told for told in done.stdout.splitlines() if told.startswith("failed: train dsdl seed 0: "))
    assert "training.batch_size is 8" in said and "training.accumulate 9" in said
    assert "waiting for these: 02_train-dsdl, 05_tables, 06_protocols, page" in done.stdout
    assert "jobs ended well" in done.stderr.splitlines()[-1]
    page = (tmp_path / "site" / "broken.html").read_text(encoding="utf-8")
    assert "5 of 11 jobs are still to run" in page and "train dsdl seed 0" in page
    assert set(times(results / "broken")) == {"01_data", "02_train-gmp"}
    assert len(list((results / "runs").rglob("manifest.json"))) == 1


def test_a_failing_notebook_is_named_with_its_cell_and_copy(tmp_path):
    code = nbformat.v4.new_code_cell
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    made.cells = [code("x = 1", metadata={"tags": ["parameters"]}), code("raise ValueError('no such thing')")]
    nbformat.write(made, tmp_path / "made.ipynb")
    with pytest.raises(UserError, match=r"notebook made failed in cell \[2\] with ValueError: no such thing -- .*copy"):
        execution.execute(tmp_path / "made.ipynb", tmp_path / "copy.ipynb", {})
    assert (tmp_path / "copy.ipynb").exists()


def test_a_learning_experiment_that_is_killed_goes_on_from_there(tmp_path):
    """The whole way through check, Snakemake, kernels and pages, in folders with spaces; SIGKILL of all processes."""
    folder = tmp_path / "my folder"
    folder.mkdir()
    made_data.voc_devkit(folder / "my photos", 2007)
    path = folder / "voc2007.yaml"
    raw = {
        "title": "A backbone that learns",
        "dataset": {"name": "voc2007", "root": str(folder / "my photos")},
        "input_size": 64,
        "backbone": {"name": "test_resnet", "weights": None},
        "training": {"epochs": 1, "batch_size": 8, "threads": 1, "augmentation": "msrn"},
        "models": {"gmp": {}},
        "attention": {"images": [0], "n_localisation": 3, "n_faithfulness": 1},
    }
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [sys.executable, "-m", "mlclib", "reproduce", str(path), "--results", str(folder / "my results")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    first = subprocess.Popen(command, cwd=ROOT, **quiet)
    page = folder / "my results" / "voc2007"
    while first.poll() is None and not (page / "notebooks").exists():
        time.sleep(0.1)
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert second.returncode == 1 and f"is at work already (process {first.pid} on " in second.stderr
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done: the tables of voc2007" in done.stdout
    rehearsal.check_pages(Study(config.load(path), results=folder / "my results"))
    assert mlclib("reproduce", path, "--results", folder / "my results").stdout.startswith("Nothing to do")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reproduce", "nothing"], "unknown experiment 'nothing'"),
        (["train", "demo", "--model", "resnet"], "unknown model 'resnet'"),
        (["train", "demo", "--model", "gmp", "--set", "training.epoch=3"], "unknown key 'epoch'"),
        (["reproduce", "voc2007", "--data", "no/folder"], "voc2007 is not ready to train"),
        (["status", "voc2007", "--data", "no/folder"], "no/folder"),
        (["execute", "notebooks/02_train.ipynb", "out.ipynb", "--set", "modle=msrn"], "unknown parameter 'modle'"),
        (["execute", "notebooks/02_trian.ipynb", "out.ipynb", "--set", "model=msrn"], "unknown notebook"),
        (["train", "demo", "--model", "gmp", "--set", "models.msrn.options.widht=8"], "unknown key 'widht'"),
        (["train", "demo", "--model", "gmp", "--set", "seeds=[a]"], "seeds.0 of experiments/demo.yaml"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments, words, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    assert line.main(arguments) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ") and words in said
    assert len(said.strip().splitlines()) == 1


def test_a_parameter_whose_default_is_a_text_stays_a_text(tmp_path):
    cells = [("data = ''\nempty = 'x'\ncount = 1", ["parameters"]), ("print([data, empty, count])", [])]
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    path = tmp_path / "made.ipynb"
    nbformat.write(made, path)
    given = ["--set", "data=2007", "--set", "empty=", "--set", "count=3"]
    done = mlclib("execute", path, tmp_path / "copy.ipynb", *given)
    assert done.returncode == 0, done.stderr
    assert nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells[-1].outputs[0].text == "['2007', '', 3]\n"


def test_set_up_ends_with_one_sentence_where_python_is_missing_or_too_old(tmp_path):
    for path in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / path).write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    for python, words in ((old, "Python 3.9.1 is too old"), ("no-such-python", "No no-such-python was found")):
        done = subprocess.run(["make", "test", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0 and words in done.stdout
        assert not (tmp_path / ".venv").exists()


def test_set_up_repeats_nothing_when_nothing_changed():
    if not (ROOT / ".venv" / ".ready").exists() or (ROOT / ".venv").is_symlink():  # a link: another checkout's own
        pytest.skip("the tests do not run in the environment that make sets up")
    before = os.stat(ROOT / ".venv" / ".ready").st_mtime_ns
    started = time.time()
    assert subprocess.run(["make", "setup"], cwd=ROOT, capture_output=True).returncode == 0
    assert os.stat(ROOT / ".venv" / ".ready").st_mtime_ns == before < started * 1e9
