"""A small workbook in a folder of its own: the project's Snakefile, an experiment, notebooks that start without torch.

Its jobs are true ones: maps cached, runs trained, notebooks executed by papermill in kernels; only what the notebooks
show is little, so that they take a second. Each declares what the project's notebook of its name declares.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import made_data
import nbformat
import pytest
import rehearsal

from mlclib.runs.study import Study

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
title: A small experiment
dataset: {name: folder, root: my photos, table: labels.csv}
input_size: 64
backbone: {name: tf_efficientnet_lite0, weights: offline, frozen: true}
seeds: [0, 1]
training: {epochs: EPOCHS, batch_size: 8, threads: 1, checkpoint_minutes: 0}
models: {gmp: {}}
attention: {models: []}
"""
BEGIN = """import csv, hashlib, json, os
from pathlib import Path
import numpy as np
from mlclib.common.files import write_text
place = Path(results)

def show(name, rows):
    write_text(place / "small" / "tables" / f"{name}.csv", "\\n".join(rows))
"""
CELLS = {
    "01_data": 'show("data", (f"{path.name},{path.stat().st_size}" for path in sorted(Path(data).glob("*.jpg"))))',
    "02_train": """scores = sorted(place.glob(f"runs/*/{model}-*/seed-*/metrics.json"))
show("runs", (f"{path.parent.name},{json.loads(path.read_text())['last']['mAP']}" for path in scores))""",
    "05_tables": """logits = {path.parent.name: np.load(path)["logits_last"] for path in
    sorted(place.glob("runs/*/*/seed-*/predictions.npz"))}
show("predictions", (f"{seed},{hashlib.sha256(array.tobytes()).hexdigest()}" for seed, array in logits.items()))""",
    "06_protocols": """if (place / "dies").exists():
    (place / "dies").unlink()
    os.kill(os.getpid(), 9)
histories = sorted(place.glob("runs/*/*/seed-*/history.csv"))
last = [list(csv.DictReader(path.read_text().splitlines()))[-1] for path in histories]
show("protocols", (f"{row['epoch']},{row['loss']},{row['mAP']}" for row in last))  # without its times""",
}


def notebook(*sources: str, mlclib: dict | None = None) -> nbformat.NotebookNode:
    """A notebook of these code cells, of which the first holds the parameters. mlclib: what it declares of itself."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    declared = {"mlclib": mlclib} if mlclib else {}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, **declared})


def make(folder: Path, epochs: int = 3) -> None:
    """Write the workbook into `folder`; its data are drawn, its results will be in `folder`/results."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "small.yaml").write_text(EXPERIMENT.replace("EPOCHS", str(epochs)), encoding="utf-8")
    made_data.own_folder(folder / "my photos")
    for name, source in CELLS.items():
        declared = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).metadata["mlclib"]
        given = "experiment = data = results = ''" + ("\nmodel = ''" if name == "02_train" else "")
        made = notebook(given, f"{BEGIN}\n{source}", mlclib=declared)
        nbformat.write(made, folder / "notebooks" / f"{name}.ipynb")


def undisturbed(folder: Path) -> Study:
    """All jobs of the workbook in `folder` in this process, one after another."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        return rehearsal.rehearse(Path("small.yaml"), Path("results"), monkeypatch)


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "mlclib", "reproduce", "small.yaml", "--cores", "2", *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def reproduce(folder: Path, *more: str, **options) -> subprocess.CompletedProcess:
    given = {"env": environment(), **options}
    return subprocess.run(command(*more), cwd=folder, capture_output=True, text=True, timeout=600, **given)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "results" / "small" / "tables").glob("*"))}


def half_files(folder: Path) -> list[Path]:
    """What only a write that broke off leaves."""
    return [path for path in (folder / "results").rglob("*") if path.name.endswith((".part", ".new", ".old"))]


def manifests(folder: Path) -> dict[str, dict[str, str]]:
    """The checksums of what each run's numbers are, by its seed; run.yaml and history.csv hold times."""
    paths = (folder / "results" / "runs").rglob("seed-*/manifest.json")
    timed = ("run.yaml", "history.csv")
    return {p.parent.name: {k: v for k, v in json.loads(p.read_text()).items() if k not in timed} for p in paths}
