"""Each command that README.md and docs/ name is one that the project takes, and each link leads to a file."""

import re
import shlex
from pathlib import Path

import pytest

from mlclib import __main__ as line
from mlclib.runs import notebooks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
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
