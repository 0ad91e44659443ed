"""What the notebooks share: where they stand, which parameters they take, and how they run headless."""

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from matplotlib.figure import Figure

from mlclib import config
from mlclib.datasets.base import Dataset
from mlclib.errors import UserError, unknown
from mlclib.files import written_whole
from mlclib.runs import Study

FOLDER = Path("notebooks")


def begin(name: str, variables: dict[str, Any]) -> None:
    """First call of every notebook: move to the repository root and check the parameters it was given.

    variables: the notebook's globals(), in which an injected parameter stands like a declared one.
    Raises UserError for a parameter that the notebook does not declare, naming those it does.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / FOLDER / f"{name}.ipynb").is_file():
            os.chdir(folder)
            break
    else:
        raise UserError(f"there is no {FOLDER}/{name}.ipynb above {Path.cwd()}: start inside a clone of the project")
    known = declared(FOLDER / f"{name}.ipynb")
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    for key, value in variables.items():
        if not key.startswith("_") and key not in known and key not in ("In", "Out") and isinstance(value, plain):
            raise unknown("parameter", key, known, where=f"notebook {name}")


def declared(path: Path) -> dict[str, Any]:
    """The parameters that a notebook's cell tagged `parameters` declares, with their defaults."""
    for cell in nbformat.read(path, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            values: dict[str, Any] = {}
            exec(cell.source, {}, values)
            return values
    raise UserError(f"{path} has no cell tagged 'parameters'")


def study(experiment: str, data: str = "", results: str = "results") -> Study:
    """The experiment of that name (or YAML file) with its data set and results folder."""
    return Study(config.load(experiment), data, results)


def execute(path: Path, copy: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook with papermill; its executed copy stays at `copy`, also when a cell fails.

    Raises UserError naming an unknown parameter, or the failed cell, its error and the copy that shows it.
    """
    import papermill  # only headless runs need it

    known = declared(path)
    for key in parameters:
        if key not in known:
            raise unknown("parameter", key, known, where=f"notebook {path}")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(path, copy, parameters, progress_bar=False, log_output=True, autosave_cell_every=0)
    except papermill.exceptions.PapermillExecutionError as error:
        last = error.evalue.strip().splitlines()[-1] if error.evalue.strip() else ""
        raise UserError(
            f"notebook {path.stem} failed in cell [{error.exec_count}] with {error.ename}: {last} -- "
            f"its executed copy with the whole error is {copy}"
        ) from None


def overview(dataset: Dataset) -> pd.DataFrame:
    """A row a split: images, labels, labels an image, difficult ones, boxes."""
    rows = {}
    for part, split in dataset.splits.items():
        rows[part] = {
            "images": len(split),
            "labels": len(dataset.labels),
            "present an image": round(float((split.targets == 1).sum(1).mean()), 2),
            "difficult (%)": round(100 * float((split.targets == 0).mean()), 2),
            "boxes": sum(map(len, split.boxes)) if split.boxes else "none",
        }
    return pd.DataFrame(rows).T.rename_axis(f"{dataset.name} {dataset.checksum()[:8]}")


def save(figure: Figure, study: Study, name: str) -> None:
    """Save a figure as results/<experiment>/figures/<name>.png, whole or not at all, the same bytes each time."""
    with written_whole(study.folder / "figures" / f"{name}.png") as part:
        figure.savefig(part, format="png", dpi=144, bbox_inches="tight", metadata={"Software": None})


def shown(figure: Figure, study: Study, name: str) -> Figure:
    """Save a figure and hand it back as a cell's last value, closed so that Jupyter shows it once."""
    save(figure, study, name)
    plt.close(figure)
    return figure
