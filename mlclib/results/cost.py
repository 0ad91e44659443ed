"""What each model costs beside what it scores (05_tables), as each run counted it when it ended (models/cost.py)."""

import numpy as np
import pandas as pd

from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import all_scores, over_seeds
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

PARAMETERS, HEAD = "head, M parameters", "head, M multiply-adds"
BACKBONE, SHARE = "backbone, G multiply-adds", "head / backbone, %"


def cost(models: Models, *, selection: str = "last") -> Table:
    """Models x mAP and the cost of their heads; a dash where a run counted none, as predictions from outside."""
    captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, all_scores)
    frame = pd.DataFrame([{"model": model, **counted(runs[0])} for model, runs in models.items()])
    frame.insert(1, "mAP", mean["mAP"].to_numpy())
    sentences = [
        captions.average(models).replace("In percent", "mAP in percent", 1),
        "Head: all that is not the backbone. Parameters: those that it learns. Multiply-adds: of matrix "
        "products, convolutions and attention, for one image more in a batch of the input size; what is "
        "made once a batch (a label graph), work element by element and DSDL's solve count nothing.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem("cost", selection),
        title=f"What each model costs on {captions.data_name(models)}",
        frame=frame,
        spread=spread[["mAP"]].reset_index(drop=True),
        formats={PARAMETERS: ",.2f", HEAD: ",.2f", BACKBONE: ".2f", SHARE: ".2g"},
        best=("mAP",),
        runs=models,
        caption=" ".join(sentences),
    )


def finding(table: Table) -> str:
    """In a sentence: the models whose mAP no other reaches whose head learns as little, from the smallest head on."""
    known = table.frame.dropna(subset=["mAP", PARAMETERS]).sort_values([PARAMETERS, "mAP"], ascending=[True, False])
    if known.empty:
        return "No run here has both a mAP and a count of what its head learns."
    front = known[known["mAP"] > known["mAP"].cummax().shift(fill_value=-np.inf)]
    rows = front[["model", PARAMETERS, "mAP"]].itertuples(index=False)
    named = ", ".join(f"{model} ({size:,.2f} M, {score:.1f} %)" for model, size, score in rows)
    return (
        f"{len(front)} of {len(known)} models have a higher mAP than every model whose head learns no more parameters: "
        f"{named}."
    )


def counted(run: FinishedRun) -> dict[str, float]:
    """What a run counted, by the table's columns; NaN where it is older than the counting, or not ours."""
    kept = run.about.get("cost")
    if kept is None:
        return dict.fromkeys((PARAMETERS, HEAD, BACKBONE, SHARE), np.nan)
    head, backbone = kept["head"], kept["backbone"]
    return {
        PARAMETERS: kept["parameters"] / 1e6, HEAD: head / 1e6, BACKBONE: backbone / 1e9,
        SHARE: 100 * head / backbone,
    }  # fmt: skip
