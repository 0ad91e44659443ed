"""What README.md, docs/ and docstrings say is true: commands, links, the hours of docs/scaling.md, examples."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import scaling
from mlclib import __main__ as line
from mlclib import config
from mlclib.runs import notebooks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WITH_EXAMPLES = [path for path in sorted((ROOT / "mlclib").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
COMMAND = r"(?:make|papermill|python -m|accelerate launch) [^`\n]+"


def check(words: list[str]) -> None:
    if words[0] == "make":
        for word in words[1:]:
            name, variable, _ = word.partition("=")
            assert f"$({name})" in MAKEFILE if variable else re.search(rf"^{name}:", MAKEFILE, re.M), word
    elif words[0] == "papermill":
        parameters = [words[at + 1] for at, word in enumerate(words) if word == "-p"]
        notebooks.check_parameters(ROOT / words[1], parameters)
    elif "mlclib" in words:
        line.parser().parse_args(words[words.index("mlclib") + 1 :])
    else:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").exists(), words[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_links_are_right(page):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(rf"(?:^ {{4}}|`)({COMMAND})", text, re.M):
        words = shlex.split(command.partition("&&")[0], comments=True)
        if words[-1] != "mlclib":  # the program's name alone
            check(words)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / link).exists(), link


def test_the_hours_of_scaling_md_are_what_the_script_writes_from_the_measured_speeds(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert (ROOT / scaling.PAGE).read_text(encoding="utf-8") == scaling.page()


def test_hours_are_epochs_times_images_over_speed(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(scaling, "speeds", lambda: {"msrn, training step": 5011 / 60, "msrn, evaluation": 4952 / 30})
    run = config.load("voc2007").run_config("msrn")
    assert scaling.hours(run) == pytest.approx(run.training.epochs * 90 / 3600)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_in_docstrings_are_true(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed
