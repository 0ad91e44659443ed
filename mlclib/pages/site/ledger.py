"""The papers' ledger: what MSRN and DSDL report, as far as its figures are known, and what rebuilds each here.

What is known of the papers' results stands in mlclib/scores/published/*.csv, with its source; nothing else is listed
but the analyses that README names as theirs. Ours stand in results/<experiment>/tables, where the experiment has run.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlclib import config, datasets
from mlclib.datasets import NAMES
from mlclib.scores import published

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
        for data in ("voc2007",):
            setting = config.load(data)
            for axis in setting.ablation.get(paper.lower(), {}):
                what = f"ablation of {axis} on {data}"
                source = "no published figure at hand"
                found.append(_entry(results, paper, what, source, data, f"03_ablation, {axis}", float("nan")))
    return found


def _columns(name: str) -> str:
    return "mAP, precision, recall and F1" if name == "coco2014" else "AP of each label"


def _entry(results: Path, paper: str, what: str, source: str, experiment: str, notebook: str, theirs: float) -> Entry:
    data, path = config.load(experiment).dataset["name"], results / experiment / "tables" / "scores.csv"
    scores = pd.read_csv(path).set_index("model")["mAP"] if path.is_file() else pd.Series(dtype=float)
    get = f"python -m mlclib data {data} --root data/{data}"
    lacking = "" if path.is_file() else (
        f"{'an account or a copy of' if not datasets.archives(data) else 'a download of'} {data} (`{get}`) and a GPU; "
        f"`python -m mlclib check {experiment} --data data/{data}` says how many hours"
    )
    command = f"make reproduce EXPERIMENT={experiment} DATA=data/{data}"
    return Entry(paper, what, source, experiment, notebook, theirs, scores.get(paper.lower(), float("nan")), lacking, command)
