"""The whole workbook on a tiny experiment: Snakemake, papermill, every notebook, every table and figure."""

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import rehearsal
import yaml
from made_workbook import notebook

from mlclib import __main__ as line
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.runs import notebooks
from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]


def test_one_command_rebuilds_every_table_and_figure(tiny_yaml, tiny_study, tmp_path):
    """The tiny experiment with its ablated model alone, whose runs `tiny_study` trained."""
    path, tree = tmp_path / tiny_yaml.name, yaml.safe_load(tiny_yaml.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(tree | {"models": {"msrn": tree["models"]["msrn"]}}), encoding="utf-8")
    command = [sys.executable, "-m", "mlclib", "reproduce", str(path), "--results", str(tiny_study.results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    reproduced = Study(config.load(path), results=tiny_study.results)
    rehearsal.check_pages(reproduced)
    for name in ("scores", "per_class", "ablation_msrn_layers", "protocols"):
        for kind in ("csv", "md"):
            assert (reproduced.folder / "tables" / f"{name}.{kind}").stat().st_size > 100, name
    figures = ("label_frequencies", "cooccurrence", "samples", "label_graph-1", "curves_msrn")
    for name in (*figures, "ablation_msrn_layers", "attention-msrn", "localisation-msrn", "groups-msrn"):
        assert (reproduced.folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    for path in (reproduced.folder / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not any(output.output_type == "error" for output in cell.get("outputs", [])), path


def test_a_failing_notebook_is_named_with_its_cell_and_copy(tmp_path):
    nbformat.write(notebook("x = 1", "raise ValueError('no such thing')"), tmp_path / "made.ipynb")
    with pytest.raises(UserError, match=r"notebook made failed in cell \[2\] with ValueError: no such thing -- .*copy"):
        notebooks.execute(tmp_path / "made.ipynb", tmp_path / "copy.ipynb", {})
    assert (tmp_path / "copy.ipynb").exists()


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
    errors = capfd.readouterr().err
    assert errors.startswith("error: ") and words in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_parameter_whose_default_is_a_text_stays_a_text(tmp_path):
    path = tmp_path / "made.ipynb"
    nbformat.write(notebook("data = ''\nempty = 'x'\ncount = 1"), path)
    given = notebooks.parse_parameters(path, ["data=2007", "empty=", "count=3"])
    assert given == {"data": "2007", "empty": "", "count": 3}


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
