"""A notebook takes its parameters from the parameters cell and papermill alone, however often it is run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from mlclib.common.errors import UserError
from mlclib.results import notebook
from mlclib.runs import notebooks

ROOT = Path(__file__).parents[1]


@pytest.fixture
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    yield
    assert Path.cwd() == ROOT


def declares(name: str) -> str:
    return "\n".join(
        f"{key} = {value!r}" for key, value in notebooks.parameters_of(ROOT / f"notebooks/{name}.ipynb").items()
    )


def test_an_injected_parameter_that_is_not_declared_is_refused(at_the_root):
    cells = ["", declares("02_train"), '# Parameters\nexpriment = "demo"\n', "notebook.begin(...)"]
    with pytest.raises(UserError, match="unknown parameter 'expriment' in notebook 02_train.*experiment"):
        notebook.begin("02_train", {"In": cells})
    with pytest.raises(UserError, match="unknown parameter 'modle'"):
        notebook.begin("02_train", {"In": [cells[1].replace("model =", "modle ="), "begin"]})


def test_what_the_notebook_itself_made_earlier_is_no_parameter(at_the_root):
    cells = [declares("02_train"), "begin", "runs = [1]", "left = 3", declares("02_train"), "model = 'gmp'", "begin"]
    notebook.begin("02_train", {"In": cells, "runs": [1], "left": 3})
    notebook.begin("02_train", {"In": [*cells, "tables.scores(runs)", "begin"], "runs": [1]})  # this cell alone


def test_every_notebook_runs_twice_in_one_kernel_and_refuses_a_misspelt_parameter_then_too(tiny_yaml, tiny_study):
    """Run All, again and again, in a live kernel: 02 and 06 on the tiny study, then a parameter that none knows."""
    given = f"experiment = {str(tiny_yaml)!r}\nresults = {str(tiny_study.results)!r}\n"
    whole = nbformat.v4.new_notebook()
    for name in ("02_train", "06_protocols"):
        cells = [
            c for c in nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4).cells if c.cell_type == "code"
        ]
        cells.insert(1, nbformat.v4.new_code_cell(given))
        whole.cells += 2 * cells
    whole.cells += [*cells[:2], nbformat.v4.new_code_cell("expriment = 1"), cells[2]]
    for number, cell in enumerate(whole.cells):
        whole.cells[number] = {**cell, "id": str(number)}
    whole = nbformat.from_dict(whole)
    client = NotebookClient(whole, kernel_name="python3", resources={"metadata": {"path": ROOT / "notebooks"}})
    with pytest.raises(CellExecutionError, match="unknown parameter 'expriment' in notebook 06_protocols"):
        client.execute()
    counts = [cell.execution_count for cell in whole.cells]
    assert counts == list(range(1, len(counts) + 1))  # the last one alone failed


def test_a_kernel_that_is_killed_is_one_sentence(tmp_path):
    path = tmp_path / "dies.ipynb"
    code = nbformat.v4.new_code_cell
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    cells = [code("", metadata={"tags": ["parameters"]}), code(dies)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    with pytest.raises(UserError, match="notebook dies broke off, its kernel was killed.*copy.ipynb"):
        notebooks.execute(path, tmp_path / "copy.ipynb", {})
