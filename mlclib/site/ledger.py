"""The papers' ledger: what MSRN and DSDL report, as far as its figures are known, and what rebuilds each here.

What is known of the papers' results stands in mlclib/published/*.csv, with its source; besides are listed the
data sets and ablations of the papers' experiments, for which no source at hand states a figure. Ours stand in
results/<experiment>/tables, where the experiment has run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlclib import config, datasets, published
from mlclib.common.sources import ROOT

FOLDER = ROOT / "experiments"
PAPERS = {"MSRN": "arXiv 2106.11596", "DSDL": "arXiv 2012.12509"}
# The data sets that each paper reports on, as far as its text and repository are known here; an experiment each.
OWN = {"MSRN": ("voc2007", "coco2014", "nuswide", "apparel"), "DSDL": ("voc2007", "voc2012", "coco2014")}
UNKNOWN = "no source at hand states the figure"


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
    """Every published row of MSRN and DSDL, then what else their experiments rebuild: data sets and ablations."""
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
        stated = {entry.experiment for entry in found if entry.paper == paper}
        for name in OWN[paper]:
            experiment = config.load(FOLDER / f"{name}.yaml")
            axes = experiment.ablation.get(paper.lower(), {})
            parts = [] if name in stated else [("all scores", "05_tables")]
            parts += [(f"ablation of {axis}", f"03_ablation, {axis}") for axis in axes]
            for what, notebook in parts:
                found.append(_entry(results, paper, f"{what} on {name}", UNKNOWN, name, notebook, float("nan")))
    return found


def _hours(experiment: str) -> str:
    """The GPU-hours of a whole experiment, from the first table of docs/scaling.md."""
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    return re.search(rf"^\| {experiment} \| \S+ \| (\S+) \|", text, re.M)[1]


def _columns(name: str) -> str:
    return "mAP, precision, recall and F1" if name == "coco2014" else "AP of each label"


def _entry(results: Path, paper: str, what: str, source: str, experiment: str, notebook: str, theirs: float) -> Entry:
    settings = config.load(FOLDER / f"{experiment}.yaml")
    data = settings.dataset["name"]
    path = results / experiment / "tables" / "scores.csv"
    ours, lacking = float("nan"), ""
    if path.is_file():
        ours = pd.read_csv(path).set_index("model")["mAP"].get(paper.lower(), ours)
    else:
        brought = "a download of" if datasets.archives(data) else "by hand:"
        lacking = (
            f"{brought} {data} (`python -m mlclib data {data} --root data/{data}`) and a GPU for about "
            f"{_hours(experiment)} hours (an A100 80 GB, as docs/scaling.md reckons; "
            f"`python -m mlclib check {experiment} --data data/{data}` reckons for your machine)"
        )
        if start := re.search(r"runs/([^/]+)/", str(settings.training.init)):
            lacking = f"a finished run of the experiment {start[1]}; {lacking}"
    command = f"make reproduce EXPERIMENT={experiment} DATA=data/{data}"
    return Entry(paper, what, source, experiment, notebook, theirs, ours, lacking, command)
