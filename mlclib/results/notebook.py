"""What the notebooks share: where they stand, which study they look at, and how they keep a figure."""

import ast
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Markdown
from matplotlib.figure import Figure

from mlclib import config
from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.results.table import escape_markdown
from mlclib.runs.notebooks import FOLDER, check_parameters, parameters_of
from mlclib.runs.study import Study

ALIKE = {"svg.hashsalt": "mlclib"}  # else the ids in an SVG differ each time


def begin(name: str, variables: dict[str, Any]) -> None:
    """First call of every notebook: move to the repository root and check the parameters it was given.

    variables: the notebook's globals(), where IPython keeps the source of the cells that were run.
    Raises UserError for a parameter that the notebook does not declare, naming those it does.
    """
    path = FOLDER / f"{name}.ipynb"
    root = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / path).is_file()), None)
    if root is None:
        raise UserError(f"there is no {path} above {Path.cwd()}: start inside a clone of the project")
    os.chdir(root)
    check_parameters(path, _given(variables.get("In", ())[:-1], parameters_of(path)))


def _given(cells: Sequence[str], known: Collection[str]) -> set[str]:
    """The names that the parameters cell and cells injected below it give: the last of the cells that were run.

    Their mark is that they do nothing but set names to plain values. What the notebook's other cells set in an earlier
    Run All of the same kernel is no parameter, so nothing before the parameters cell, which sets all that are `known`,
    is looked at.
    """
    given: set[str] = set()
    for source in reversed(cells):
        try:
            values = {
                statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(source).body
            }
        except (SyntaxError, ValueError, AttributeError):
            break  # another kind of cell
        given |= values.keys()
        if values.keys() >= set(known):
            break
    return given


def study(experiment: str, data: str = "", results: str = "results") -> Study:
    """The experiment of that name (or YAML file) with its data set and results folder."""
    return Study(config.load(experiment), data, results)


def save_figure(figure: Figure, study: Study, name: str, photographs: bool = False) -> Figure:
    """Save a figure, and hand it back as a cell's last value, closed so that Jupyter shows it once.

    It goes to results/<experiment>/figures as PNG, and as SVG too if it holds no image, scatter plot or band; the bytes
    are reproducible. A figure with `photographs`, images of the data set that the project did not draw itself, goes to
    results/<experiment>/ photographs, which git ignores. Images make a file large, so a figure of them has fewer
    pixels.
    """
    drawn = any(axes.images or axes.collections for axes in figure.axes)
    folder = study.folder / ("photographs" if photographs and not study.dataset.version else "figures")
    dots = 96 if photographs else 144  # an inch
    for kind, metadata in {"png": {"Software": None}, **({} if drawn else {"svg": {"Date": None}})}.items():
        with plt.rc_context(ALIKE), written_whole(folder / f"{name}.{kind}") as part:
            figure.savefig(part, format=kind, dpi=dots, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
    return figure


def finding(sentence: str) -> Markdown:
    """What a cell's table or figure says, computed, as its last value: a line below it, in JupyterLab, in an executed
    copy and on the site alike.
    """
    return Markdown(f"**Finding.** {escape_markdown(sentence)}")
