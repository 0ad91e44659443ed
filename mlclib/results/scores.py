"""How well each model does (02_train, 05_tables): scores, AP per class, and further scores.

Every figure is computed here from runs' predictions, so that a table needs no training. Models are given as
name -> runs, one per seed. The tables are in percent.
"""

import numpy as np

from mlclib.metrics import resampling
from mlclib.metrics import scores as metrics
from mlclib.models import title
from mlclib.results import captions, comparison
from mlclib.results.captions import Models
from mlclib.results.comparison import COMPARED, NOISE, RATES, highest, over_seeds, paired_differences, scored_table
from mlclib.results.table import Table


def scores_table(models: Models, *, selection: str = "last") -> Table:
    """Models x mAP with its bootstrap interval, precision, recall and F1, over all labels and the top three."""
    reference = captions.checked(models, selection)
    least_p = resampling.least_p(captions.draws(reference))
    frame, spread = comparison.headline_frames(models, selection, list(RATES))
    mean, headline = frame.set_index("model"), captions.headline(reference)
    chosen = comparison.at_chosen_thresholds(models, selection)
    differences = {
        column: paired_differences(
            chosen if chosen and column in comparison.F1S else models, highest(mean[column]), selection, column
        )
        for column in (headline, *COMPARED)
    }
    p = {model: difference.p for model, difference in differences[headline].items()}
    frame.insert(4, "p", [p.get(model, np.nan) for model in models])
    marks = {
        (row, column): NOISE
        for column, others in differences.items()
        for row, model in enumerate(models)
        if model in others and others[model].within_noise
    }
    outside = {row: runs[0].about["external"] for row, runs in enumerate(models.values()) if not captions.own(runs)}
    marks.update({(row, "model"): "†" for row in outside})
    files = ", ".join(f"external/{name}" for name in outside.values())
    return scored_table(
        "scores", "Scores", models, frame, selection=selection,
        spread=spread,
        best=tuple(spread),
        marks=marks,
        noise="the highest of its column",
        footnotes={"†": f"Predictions from outside, only scored here: {files}."} if outside else {},
        caption=f"{captions.average(models)} CP, CR: mean precision and recall of labels; CF1: their F1; OP, OR, OF1: "
        "over all decisions; -3: only among its image's three highest. p: test of no difference in mAP to the highest, "
        f"uncorrected. {captions.rare(reference)}".strip(),
        protocol=[
            captions.ap(reference),
            captions.interval(reference),
            f"p is by paired bootstrap, at least {least_p:.1g} with so many draws.",
            captions.threshold(chosen is not None),
        ],
    )  # fmt: skip


def per_class_table(models: Models, *, selection: str = "last") -> Table:
    """Labels x models: AP per class, and mAP in the last row."""
    reference = captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, comparison.class_scores)
    positives = (reference.targets == 1).sum(axis=0)
    frame = mean.T.rename_axis("label").reset_index()
    frame.insert(1, "positives", [*positives, positives.sum()])
    return scored_table(
        "per_class", "AP per class", models, frame, selection=selection,
        spread=spread.T.reset_index(drop=True),
        formats={"positives": ",.0f"},
        best=tuple(models),
        across=True,
        marks=comparison.noise_per_class(models, mean.apply(highest), selection),
        noise="the highest of its row",
        caption=f"{captions.average(models)} Positives: test images with the label.",
        protocol=[captions.ap(reference)],
    )  # fmt: skip


def per_class_sentence(table: Table) -> str:
    """Of how many labels each model has the highest AP."""
    scored = table.frame.iloc[:-1].drop(columns=["label", "positives"]).dropna(how="all")
    if scored.empty:
        return f"{captions.HIDDEN}."
    counts = scored.idxmax(axis=1).value_counts()
    text = ", ".join(f"{title(model)} {count}" for model, count in counts.items())
    return f"Number of labels, of {len(scored)}, on which a model has the highest AP (mean over seeds): {text}."


def further_table(models: Models, *, selection: str = "last") -> Table:
    """Models x what metrics.FURTHER names: how images and labels are ordered, and how whole images are answered."""
    reference = captions.checked(models, selection)
    mean, spread = over_seeds(models, selection, comparison.further_scores)
    lower = [name for name, score in metrics.FURTHER.items() if score.lower]
    return scored_table(
        "further", "Further scores", models, mean.rename_axis("model").reset_index(), selection=selection,
        spread=spread.reset_index(drop=True),
        best=tuple(name for name in metrics.FURTHER if name not in lower),
        caption=f"{captions.average(models, 'In percent, coverage error in labels')} Lower is better for "
        f"{', '.join(lower)}.",
        protocol=[
            f"{len(reference.names):,} images.",
            "Coverage error: the rank of an image's lowest-ranked label. Ranking loss: pairs of a present "
            "and an absent label in the wrong order. Exact match: images with every label right, predicted where the "
            "logit is at least 0.",
        ],
    )  # fmt: skip
