"""A difference of mAP taken apart (05_tables): what each part of how two figures were made is worth here."""

import numpy as np
import pandas as pd

from mlclib.models import title
from mlclib.results import ablation, captions, comparison, protocols
from mlclib.results.captions import Models
from mlclib.results.comparison import BASELINE, DELTA, HIGH, LOW, NOISE
from mlclib.results.table import Table
from mlclib.runs.study import Study

# The part of a figure's making that an ablation axis varies, by the axis.
PARTS = {
    "training.loss": "loss",
    "training.schedule": "schedule",
    "training.epochs": "schedule",
    "input_size": "input size",
    "backbone.name": "pretraining",
}


def decomposition_tables(study: Study, models: Models, *, selection: str = "last") -> list[Table]:
    """One table: what protocol, loss, schedule, input size, pretraining and head add to mAP, one row per change; none
    where the experiment has no finished ablation axis of PARTS.

    Rows of the protocol score the same predictions otherwise. The others are differences between runs with their paired
    interval, those of the head against the model BASELINE, which is trained alike.
    """
    reference = captions.checked(models, selection)
    rows, runs = [], {}  # a row's change is that of `model`, told by the words `how`
    for model in study.experiment.ablation:
        full = study.finished(model)
        for axis, variants in ablation.finished_axes(study, model).items():
            if axis in PARTS and full:
                table = ablation.axis_table(model, axis, variants, full, selection=selection)
                for row in table.frame.drop(index=table.reference).to_dict("records"):
                    rows.append({**row, "part": PARTS[axis], "model": model, "how": f": {axis} {row[axis]}"})
                    runs[f"{model}: {axis} {row[axis]}"] = variants[row[axis]]
    if not rows:
        return []
    ablated = {model: models[model] for model in study.experiment.ablation if model in models}
    audit = protocols.changes(protocols.audit(ablated))["mean"].xs("mAP", level="score").dropna()
    counted = [
        {"part": "protocol", "model": model, "how": f": {kind}, {choice}", DELTA: change}
        for (kind, choice, model), change in audit.items()
    ]
    differences = comparison.paired_differences(models, BASELINE if BASELINE in models else None, selection)
    heads = [
        {"part": "head", "model": model, "how": f" in place of {BASELINE}", **comparison.in_points(difference)}
        for model, difference in differences.items()
    ]
    frame = pd.DataFrame([*counted, *rows, *heads]).astype({LOW: float, HIGH: float})
    frame["change"] = frame["model"] + frame["how"]
    how = frame["how"].replace(f" in place of {BASELINE}", f" in place of the {title(BASELINE)}")
    within = np.flatnonzero((frame[LOW] <= 0) & (frame[HIGH] >= 0))
    return [
        comparison.scored_table(
            "gap", "What a difference of mAP is made of,", models,
            frame[["part", "change", DELTA, LOW, HIGH]], selection=selection,
            marks={(int(row), DELTA): NOISE for row in within},
            noise="0",
            runs=models | runs,
            shown=dict(zip(frame["change"], frame["model"].map(title) + how, strict=True)),
            caption=f"{DELTA}: by how many points of mAP a change, made alone, moves the score; means over seeds. "
            "Where two published figures differ in a part, a difference between them that is smaller than what the "
            "part moves says nothing of their heads.",
            protocol=[
                f"95 % intervals by {captions.draws(reference):,} paired bootstrap draws of test images and seeds. "
                "Protocol: the same predictions counted otherwise, so without an interval. Pretraining: another frozen "
                f"backbone's ImageNet features. Head: a model against the {title(BASELINE)} on the same features."
            ],
        )
    ]  # fmt: skip
