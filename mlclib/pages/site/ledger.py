"""The papers' ledger: what MSRN and DSDL report, as far as its figures are known, and what rebuilds each here.

What is known of the papers' results stands in mlclib/scores/published/*.csv, with its source; besides, only the
ablations are listed that experiments/voc2007.yaml asks for. Ours stand in
results/<experiment>/tables, where the experiment has run.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlclib import config, datasets
from mlclib.common.sources import ROOT
from mlclib.scores import published

FOLDER = ROOT / "experiments"
PAPERS = {"MSRN": "arXiv 2106.11596", "DSDL": "arXiv 2012.12509"}


@dataclass(frozen=True)
class Entry:
    """One result of a paper. theirs, ours: mAP in percent, NaN where it is not known; lacking: what ours needs."""

    paper: str
    what: str
    source: str
    experiment: str
    notebook: str
    theirs: float
    ours: float
    lacking: str
    command: str


def entries(results: Path) -> list[Entry]:
    """Every published row of MSRN and DSDL, then their ablations, each with what rebuilds it."""
    found = []
    for paper in PAPERS:
        rows = [(name, row) for name in published.TABLES for row in published.load(name).to_dict("records")]
        for name, row in rows:
            if row["method"] == paper:
                data = row["dataset"] if name == "summary" else name
                what = f"mAP on {data}" if name == "summary" else f"{_columns(name)} on {data}"
                start = row.get("pretraining")
                experiment = "voc2007-coco" if (data, start) == ("voc2007", "MS-COCO") else data
                what += "" if pd.isna(start) else f", from {start}"
                found.append(_entry(results, paper, what, row["source"], experiment, "05_tables", row["mAP"]))
        for axis in config.load(FOLDER / "voc2007.yaml").ablation.get(paper.lower(), {}):
            what, notebook = f"ablation of {axis} on voc2007", f"03_ablation, {axis}"
            source = "in experiments/voc2007.yaml; no published figure is at hand"
            found.append(_entry(results, paper, what, source, "voc2007", notebook, float("nan")))
    return found


def _columns(name: str) -> str:
    return "mAP, precision, recall and F1" if name == "coco2014" else "AP of each label"


def _entry(results: Path, paper: str, what: str, source: str, experiment: str, notebook: str, theirs: float) -> Entry:
    data = config.load(FOLDER / f"{experiment}.yaml").dataset["name"]
    path = results / experiment / "tables" / "scores.csv"
    ours, lacking = float("nan"), ""
    if path.is_file():
        ours = pd.read_csv(path).set_index("model")["mAP"].get(paper.lower(), ours)
    else:
        brought = "a download of" if datasets.archives(data) else "by hand:"
        lacking = (
            f"{brought} {data} (`python -m mlclib data {data} --root data/{data}`) and a GPU; "
            f"`python -m mlclib check {experiment} --data data/{data}` says for how many hours"
        )
    command = f"make reproduce EXPERIMENT={experiment} DATA=data/{data}"
    return Entry(paper, what, source, experiment, notebook, theirs, ours, lacking, command)
