"""A small workbook in a folder of its own: the project's Snakefile, an experiment, notebooks that start without torch.

Its jobs are true ones: maps cached, runs trained, notebooks executed by papermill in kernels; only what the notebooks
show is little, so that they take a second.
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
training: {epochs: 30, batch_size: 8, threads: 1}
models: {gmp: {}}
attention: {models: []}
"""
BEGIN = "import json, os\nfrom pathlib import Path\nfrom mlclib.common.files import write_text\nplace = Path(results)"
CELLS = {
    "01_data": """text = "\\n".join(f"{path.name},{path.stat().st_size}" for path in sorted(Path(data).glob("*.jpg")))
write_text(place / "small" / "tables" / "data.csv", text)""",
    "02_train": """found = sorted(place.glob(f"runs/*/{model}-*/seed-*/metrics.json"))
text = "\\n".join(f"{path.parent.name},{json.loads(path.read_text())['last']['mAP']}" for path in found)
write_text(place / "small" / "tables" / "runs.csv", text)""",
    "05_tables": """import hashlib, numpy as np
found = sorted(place.glob("runs/*/*/seed-*/predictions.npz"))
rows = [f"{path.parent.name},{hashlib.sha256(np.load(path)['logits_last'].tobytes()).hexdigest()}" for path in found]
write_text(place / "small" / "tables" / "predictions.csv", "\\n".join(rows))""",
    "06_protocols": """if (place / "dies").exists():
    (place / "dies").unlink()
    os.kill(os.getpid(), 9)
import csv
found = sorted(place.glob("runs/*/*/seed-*/history.csv"))
last = [list(csv.DictReader(path.read_text().splitlines()))[-1] for path in found]
text = "\\n".join(f"{row['epoch']},{row['loss']},{row['mAP']}" for row in last)  # without its times
write_text(place / "small" / "tables" / "protocols.csv", text)""",
}


def make(folder: Path) -> None:
    """Write the workbook into `folder`; its data are drawn, its results will be in `folder`/results."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "small.yaml").write_text(EXPERIMENT, encoding="utf-8")
    made_data.own_folder(folder / "my photos")
    for name, source in CELLS.items():
        given = "experiment = data = results = ''" + ("\nmodel = ''" if name == "02_train" else "")
        cells = [nbformat.v4.new_code_cell(given, metadata={"tags": ["parameters"]}, id="given")]
        cells += [nbformat.v4.new_code_cell(f"{BEGIN}\n{source}", id="shown")]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}),
            folder / "notebooks" / f"{name}.ipynb",
        )


def undisturbed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """All jobs of the workbook in `folder` in this process, one after another."""
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
    return {path.name: path.read_bytes() for path in sorted((folder / "results" / "small" / "tables").iterdir())}


def half_files(folder: Path) -> list[Path]:
    """What only a write that broke off leaves."""
    return [path for path in (folder / "results").rglob("*") if path.name.endswith((".part", ".new", ".old"))]


def manifests(folder: Path) -> dict[str, dict[str, str]]:
    """The checksums of what each run's numbers are, by its seed; run.yaml and history.csv hold times."""
    found = (folder / "results" / "runs").rglob("seed-*/manifest.json")
    timed = ("run.yaml", "history.csv")
    return {p.parent.name: {k: v for k, v in json.loads(p.read_text()).items() if k not in timed} for p in found}
