"""What the tables of models share: scores over seeds, their intervals, and paired differences."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlclib.metrics import resampling as significance
from mlclib.metrics import scores as metrics
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.runs.store import FinishedRun

# Columns of scores: a rate, over all labels or among the top three of an image.
RATES = {f"{rate}{end}": (rate, top) for end, top in (("", None), ("-3", 3)) for rate in metrics.RATES}
COMPARED = ("mAP", "CF1", "OF1", "CF1-3", "OF1-3")
NOISE = "≈"
BASELINE = "linear"  # strong and simple, one linear layer: what a new head has to beat


def all_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """mAP and RATES of one run in percent; NaN where the selection or public labels are not there."""
    logits = run.logits.get(selection)
    if logits is None or not (run.targets == 1).any():
        return dict.fromkeys(("mAP", *RATES), np.nan)
    found = {top: metrics.evaluate(logits, run.targets, top=top) for top in (None, 3)}
    rates = {column: 100 * found[top][rate] for column, (rate, top) in RATES.items()}
    return {"mAP": 100 * found[None]["mAP"], **rates}


def further_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """metrics.FURTHER of one run, shares in percent; NaN as in `all_scores`."""
    logits = run.logits.get(selection)
    if logits is None or not (run.targets == 1).any():
        return dict.fromkeys(metrics.FURTHER, np.nan)
    known = {**metrics.ranking(logits, run.targets), **metrics.examples(logits, run.targets)}
    return {name: score.factor * known[score.key] for name, score in metrics.FURTHER.items()}


def class_scores(run: FinishedRun, selection: str) -> dict[str, float]:
    """AP of each label, and mAP, of one run in percent; NaN as in `all_scores`."""
    logits = run.logits.get(selection)
    if logits is None:
        return dict.fromkeys((*run.labels, "mAP"), np.nan)
    found = metrics.evaluate(logits, run.targets)
    return {**dict(zip(run.labels, 100 * found["AP"], strict=True)), "mAP": 100 * found["mAP"]}


def over_seeds(
    models: Models, selection: str, score: Callable[[FinishedRun, str], dict[str, float]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean and standard deviation over the seeds (NaN of one seed): two frames, a row a model, a column a score.

    score: of one run and a selection of its logits, as `all_scores`.
    """
    means, spreads = {}, {}
    for model, runs in models.items():
        table = pd.DataFrame([score(run, selection) for run in runs])
        mean, spread = significance.mean_sd(table.to_numpy())
        means[model], spreads[model] = (pd.Series(values, table.columns) for values in (mean, spread))
    return pd.DataFrame(means).T, pd.DataFrame(spreads).T


def stacked(runs: list[FinishedRun], selection: str) -> np.ndarray | None:
    """Logits [seeds, N, C], or None where a run lacks the selection."""
    return np.stack([run.logits[selection] for run in runs]) if all(selection in r.logits for r in runs) else None


def bootstrap(runs: list[FinishedRun], selection: str) -> tuple[float, float]:
    """The 95 % interval of the runs' mean mAP over test images and seeds, as shares; NaN where there is none."""
    logits = stacked(runs, selection)
    if logits is None:
        return np.nan, np.nan
    return significance.bootstrap(logits, runs[0].targets, draws=captions.draws(runs[0]))


def paired_differences(
    models: Models, base: str | None, selection: str, column: str = "mAP", row: int = -1
) -> dict[str, significance.Difference]:
    """Every other model's score minus that of `base`, where both have one.

    column: "mAP" or one of RATES; or "AP" of the label number `row`, of all of them (mAP) where there is none of that
    number, as in the last row of a table per class.
    """
    scored = {model: logits for model, runs in models.items() if (logits := stacked(runs, selection)) is not None}
    if base not in scored:
        return {}
    reference = models[base][0]
    score, top = RATES.get(column, (column, None))
    label = row if score == "AP" and row < len(reference.labels) else None
    return {
        model: significance.paired(
            logits,
            scored[base],
            reference.targets,
            "mAP" if score == "AP" and label is None else score,
            draws=captions.draws(reference),
            label=label,
            top=top,
        )
        for model, logits in scored.items()
        if model != base
    }


def highest(values: pd.Series) -> str | None:
    """The model with the highest value; None where no value is known."""
    return None if values.isna().all() else str(values.idxmax())
