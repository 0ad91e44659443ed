"""How well each model does (02_train, 05_tables): scores, AP per class, and further scores.

Every figure is computed here from runs' predictions, so that a table needs no training. Models are given as
name -> runs, one a seed. The tables are in percent; each caption says how its numbers were made.
"""

import numpy as np
import pandas as pd

from mlclib.metrics import resampling as significance
from mlclib.metrics import scores as metrics
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.comparison import (
    COMPARED,
    NOISE,
    RATES,
    all_scores,
    bootstrap,
    class_scores,
    further_scores,
    highest,
    over_seeds,
    paired_differences,
)
from mlclib.results.table import Table


def scores(models: Models, *, selection: str = "last") -> Table:
    """Models x mAP with its bootstrap interval, precision, recall and F1, over all labels and the top three."""
    reference = captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, all_scores)
    differences = {column: paired_differences(models, highest(mean[column]), selection, column) for column in COMPARED}
    intervals = [bootstrap(runs, selection) for runs in models.values()]
    frame = pd.DataFrame({"model": list(models), "mAP": mean["mAP"].to_numpy()})
    frame["mAP low"], frame["mAP high"] = (100 * np.array(side) for side in zip(*intervals, strict=True))
    frame["p"] = [differences["mAP"][model].p if model in differences["mAP"] else np.nan for model in models]
    marks = {
        (row, column): NOISE
        for column, others in differences.items()
        for row, model in enumerate(models)
        if model in others and others[model].within_noise
    }
    footnotes = {NOISE: captions.noise("the highest of its column", reference)} if marks else {}
    outside = {row: runs[0].about["external"] for row, runs in enumerate(models.values()) if not captions.own(runs)}
    if outside:
        files = ", ".join(f"external/{name}" for name in outside.values())
        footnotes["†"] = f"Predictions from outside, only scored here: {files}."
        marks.update({(row, "model"): "†" for row in outside})
    sentences = [
        captions.average(models),
        captions.ap(reference),
        f"mAP 95 %: bias-corrected percentile interval over {captions.draws(reference):,} bootstrap draws of test "
        "images and seeds; p: of no difference in mAP to the highest, by paired bootstrap (at least "
        f"{significance.least_p(captions.draws(reference)):.1g} with so many draws).",
        "CP, CR, CF1: precision, recall and F1 averaged over labels, OP, OR, OF1: over all decisions; a label is "
        "predicted where its logit is at least 0 (probability 0.5), for -3 only among its image's three highest.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem("scores", selection),
        title=f"Scores on {captions.data_name(models)}",
        frame=pd.concat([frame, mean[list(RATES)].reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        formats={"p": "p"},
        intervals={"mAP 95 %": ("mAP low", "mAP high")},
        best=("mAP", *RATES),
        marks=marks,
        footnotes=footnotes,
        runs=models,
        caption=" ".join(sentences),
    )


def per_class(models: Models, *, selection: str = "last") -> Table:
    """Labels x models: AP per class, and mAP in the last row."""
    reference = captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, class_scores)
    positives = (reference.targets == 1).sum(axis=0)
    frame = pd.DataFrame({"label": mean.columns, "positives": [*positives, positives.sum()]})
    marks = {
        (row, model): NOISE
        for row, column in enumerate(mean.columns)
        for model, difference in paired_differences(models, highest(mean[column]), selection, "AP", row).items()
        if difference.within_noise
    }
    sentences = [
        captions.average(models),
        captions.ap(reference),
        "Positives: test images with the label.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem("per_class", selection),
        title=f"AP per class on {captions.data_name(models)}",
        frame=pd.concat([frame, mean.T.reset_index(drop=True)], axis=1),
        spread=spread.T.reset_index(drop=True),
        formats={"positives": ",.0f"},
        best=tuple(models),
        across=True,
        marks=marks,
        footnotes={NOISE: captions.noise("the highest of its row", reference)} if marks else {},
        runs=models,
        caption=" ".join(sentences),
    )


def per_class_finding(table: Table) -> str:
    """In a sentence: of how many labels each model has the highest AP."""
    scored = table.frame.iloc[:-1].drop(columns=["label", "positives"]).dropna(how="all")
    if scored.empty:
        return f"{captions.HIDDEN}."
    first = scored.idxmax(axis=1).value_counts()
    named = ", ".join(f"{model} of {count}" for model, count in first.items())
    return f"Of {len(scored)} labels the highest AP has, by mean over seeds: {named}."


def further(models: Models, *, selection: str = "last") -> Table:
    """Models x what metrics.FURTHER names: how images and labels are ordered, and how whole images are answered."""
    reference = captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, further_scores)
    lower = ", ".join(name for name, score in metrics.FURTHER.items() if score.lower)
    sentences = [
        captions.average(models).replace("In percent", "In percent, coverage error in labels", 1),
        f"Lower is better for {lower}. Coverage error: how far down an image's ranking its last label stands. Ranking "
        "loss: pairs of a present and an absent label in the wrong order. Exact match: images with every label right, "
        "predicted where the logit is at least 0.",
        captions.made(models, selection),
    ]
    return Table(
        name=captions.file_stem("further", selection),
        title=f"Further scores on {captions.data_name(models)}, {len(reference.names):,} images",
        frame=pd.concat([pd.DataFrame({"model": list(models)}), mean.reset_index(drop=True)], axis=1),
        spread=spread.reset_index(drop=True),
        best=tuple(name for name, score in metrics.FURTHER.items() if not score.lower),
        runs=models,
        caption=" ".join(sentences),
    )
