"""The papers' ledger: what papers and independent reproductions state, and what rebuilds each figure here.

The published figures stand in mlclib/published/*.csv with their sources; ours in results/<experiment>/tables.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from mlclib import config, published
from mlclib.results.captions import MAP, MAP_ALL

PAPERS = {"MSRN": ("voc2007", "coco2014", "nuswide", "apparel"), "DSDL": ("voc2007", "voc2012", "coco2014")}
RIVALS = ("ML-GCN", "ADD-GCN", "SSGRL", "CSRA", "Query2Label", "ML-Decoder")
SCORES = {"summary": "mAP", "coco2014": "mAP, precision, recall and F1"}  # by table; else the AP of each label


def entries(results: Path) -> list[dict[str, Any]]:
    """Of each method that is rebuilt here every published row, then the parts of its paper without a known figure.

    method, what, source; by: who measures it, "authors", "independent", or "here" where no source at hand states it;
    theirs, ours: mAP in percent, NaN where it is not known; experiment: what rebuilds it, "" where nothing does; needs:
    what that takes, "" where it has run.
    """
    rows = []
    for table in published.TABLES:
        for row in published.load(table).to_dict("records"):
            method, _, variant = re.sub("[,()]", "", row["method"]).partition(" ")
            if method not in (*PAPERS, *RIVALS):
                continue
            data = row.get("dataset", table)
            size = "" if pd.isna(row["input_size"]) else f"{row['input_size']:.0f} px"
            stated = [row[key] for key in ("backbone", "pretraining") if not pd.isna(row.get(key))]
            what = f"{SCORES.get(table, 'AP of each label')} on {data}"
            rows.append({
                "method": method,
                "what": ", ".join(filter(None, [what, *stated, size, variant])),
                "by": "independent" if "independent" in row["source"] else "authors",
                "source": row["source"],
                "theirs": row["mAP"],
                "experiment": _experiment(method, variant, data, row["pretraining"]),
            })  # fmt: skip
    for method, names in PAPERS.items():
        for name in names:
            axes = config.load(config.FOLDER / f"{name}.yaml").ablation.get(method.lower(), {})
            published_row = any((row["method"], row["experiment"]) == (method, name) for row in rows)
            for what in [f"all scores on {name}"] * (not published_row) + [
                f"ablation of {axis} on {name}" for axis in axes
            ]:
                unknown = {"by": "here", "source": "no source at hand", "theirs": float("nan")}
                rows.append({"method": method, "what": what, "experiment": name, **unknown})
    order = (*PAPERS, *RIVALS)
    return sorted((row | _ours(results, row) for row in rows), key=lambda row: order.index(row["method"]))


def _experiment(method: str, variant: str, data: str, pretraining: object) -> str:
    """The experiment that rebuilds a published row, "" where none does."""
    name = data if data in PAPERS.get(method, ()) else f"peers-own-{data}"
    if method in PAPERS and (data, pretraining) == ("voc2007", "MS-COCO"):
        name = "voc2007-coco"
    same = variant in ("", "reproduced")  # any other is another model
    return name if same and (config.FOLDER / f"{name}.yaml").exists() else ""


def _ours(results: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Our mAP beside a row, or what it takes to have one."""
    name, model = row["experiment"], row["method"].lower().replace("-", "_")
    path = results / name / "tables" / "scores.csv"
    if not name or path.is_file():
        scores = pd.read_csv(path).set_index("model").rename(columns={MAP_ALL: MAP})[MAP] if name else {}
        return {"ours": scores.get(model, float("nan")), "needs": ""}
    settings = config.load(config.FOLDER / f"{name}.yaml")
    data, start = settings.dataset["name"], re.search(r"runs/([^/]+)/", str(settings.training.init))
    needs = f"`python -m mlclib data {data} --root data/{data}` and a GPU"
    return {"ours": float("nan"), "needs": f"a finished run of {start[1]}, {needs}" if start else needs}
