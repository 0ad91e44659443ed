"""A difference of mAP taken apart (05_tables): what each part of how two figures were made is worth here."""

import numpy as np
import pandas as pd

from mlclib.results import ablation, captions, protocols
from mlclib.results.ablation import DELTA
from mlclib.results.captions import Models
from mlclib.results.comparison import BASELINE, NOISE, paired_differences
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


def parts(study: Study, models: Models, *, selection: str = "last") -> list[Table]:
    """One table: what protocol, loss, schedule, input size, pretraining and head add to mAP, a row a change; none where
    the experiment has no finished ablation axis of PARTS.

    Rows of the protocol score the same predictions otherwise. The others are differences between runs with their paired
    interval, those of the head against the model BASELINE, which is trained alike.
    """
    reference = captions.checked(models, selection)
    rows, runs = [], {}
    for model in study.experiment.ablation:
        full = study.finished(model)
        for axis, variants in ablation.finished_axes(study, model).items():
            if axis not in PARTS or not full:
                continue
            table = ablation.compare(model, axis, variants, full, selection=selection)
            for row, line in enumerate(table.frame.to_dict("records")):
                if row != table.reference:
                    change = f"{model}: {axis} {line[axis]}"
                    rows.append((PARTS[axis], change, *(line[column] for column in (DELTA, "Δ low", "Δ high"))))
                    runs[change] = variants[line[axis]]
    if not rows:
        return []
    ablated = {model: models[model] for model in study.experiment.ablation if model in models}
    audit = protocols.changes(protocols.audit(ablated))["mean"]
    protocol = [
        ("protocol", f"{model}: {kind}, {choice}", change, np.nan, np.nan)
        for (kind, choice, model, score), change in audit.items()
        if score == "mAP" and not np.isnan(change)
    ]
    head = [
        ("head", f"{model} in place of {BASELINE}", *(100 * value for value in (found.delta, found.low, found.high)))
        for model, found in paired_differences(models, BASELINE if BASELINE in models else None, selection).items()
    ]
    frame = pd.DataFrame([*protocol, *rows, *head], columns=["part", "change", DELTA, "Δ low", "Δ high"])
    noise = {(row, DELTA): NOISE for row, line in frame.iterrows() if line["Δ low"] <= 0 <= line["Δ high"]}
    sentences = [
        f"{DELTA}: by how many points of mAP a change, made alone, moves the score; means over seeds, with the 95 % "
        f"interval by {captions.draws(reference):,} paired bootstrap draws of test images and seeds. Protocol: the "
        "same predictions counted otherwise, so without an interval. Pretraining: another frozen backbone's ImageNet "
        f"features. Head: a model against {BASELINE} on the same features.",
        "Where two published figures differ in a part, a difference between them that is smaller than what the part "
        "moves says nothing of their heads.",
        captions.made(models, selection),
    ]
    table = Table(
        name=captions.file_stem("gap", selection),
        title=f"What a difference of mAP is made of, on {captions.data_name(models)}",
        frame=frame,
        formats=dict.fromkeys((DELTA, "Δ low", "Δ high"), "+.1f"),
        intervals={"Δ 95 %": ("Δ low", "Δ high")},
        marks=noise,
        footnotes={NOISE: "The 95 % interval of the difference holds 0."} if noise else {},
        runs=models | runs,
        caption=" ".join(sentences),
    )
    return [table]
