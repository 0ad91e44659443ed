"""How far probabilities are from what is there, before and after a temperature (02_train)."""

import numpy as np
import pandas as pd

from mlclib.common.errors import UserError
from mlclib.metrics import calibration as scores
from mlclib.metrics import resampling as significance
from mlclib.metrics.scores import mean_defined
from mlclib.results import captions
from mlclib.results.captions import Models
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

STATES = ("as trained", "after temperature")
COLUMNS = ("temperature", "ECE", "ECE by label", "log loss")


def calibration(models: Models) -> Table:
    """Two rows a model, as trained and after its temperature: calibration errors and log loss, over the seeds.

    The second row has no numbers where there is no validation part to fit the temperature on.
    """
    reference = captions.checked(models, "last")
    rows, spreads = [], []
    for model, runs in models.items():
        for state in STATES:
            mean, spread = significance.mean_sd([_scores(run, state) for run in runs])
            rows.append({"model": model, "probabilities": state, **dict(zip(COLUMNS, mean, strict=True))})
            spreads.append(dict(zip(COLUMNS, spread, strict=True)))
    fitted = any(run.validation is not None for runs in models.values() for run in runs)
    sentences = [
        captions.average(models).replace("In percent", "Errors in percent", 1),
        "ECE: expected calibration error (Guo et al., ICML 2017) of the probability that a label is present, in "
        f"{scores.BINS} bins of equal width, over all image-label pairs; by label: the mean over the labels of the ECE "
        "of each. Log loss: mean negative log-likelihood of a pair, in nats. Difficult pairs are left out.",
        "Temperature: the number that all logits are divided by, fitted by log loss on the validation part."
        if fitted
        else "There is no validation part, so no temperature is fitted.",
        captions.made(models, "last"),
    ]
    return Table(
        name="calibration",
        title=f"How far probabilities can be believed on {captions.data_name(models)}",
        frame=pd.DataFrame(rows),
        spread=pd.DataFrame(spreads),
        formats={"temperature": ".2f", "ECE": ".2f", "ECE by label": ".2f", "log loss": ".4f"},
        runs=models,
        caption=" ".join(sentences) if (reference.targets == 1).any() else f"{captions.HIDDEN}.",
    )


def finding(table: Table) -> str:
    """In a sentence, of a table of one model: how far its probabilities are off, and what a temperature makes of it."""
    before, after = (row for _, row in table.frame.iterrows())
    if np.isnan(before["ECE"]):
        return f"{captions.HIDDEN}."
    text = f"The probabilities of {before['model']} are {before['ECE']:.2f} points off on average (ECE)"
    if np.isnan(after["ECE"]):
        return f"{text}; no temperature can be fitted: there is no validation part, or nothing in it is wrong."
    sure = "too sure of itself" if after["temperature"] > 1 else "less sure than it may be"
    return (
        f"{text}, {after['ECE']:.2f} after a temperature of {after['temperature']:.2f}: as trained it is {sure}. Label "
        f"by label they are {before['ECE by label']:.2f} points off, {after['ECE by label']:.2f} after it: one "
        "temperature cannot mend what differs between labels."
    )


def temperature(run: FinishedRun) -> float | None:
    """The run's temperature, fitted on its validation part; None where it has none, or where none can be fitted."""
    seen = run.validation
    if seen is None:
        return None
    try:
        return scores.fitted_temperature(*seen)
    except UserError:
        return None


def _scores(run: FinishedRun, state: str) -> list[float]:
    """COLUMNS of one run; NaN for hidden test labels, and after a temperature where there is none."""
    heat = 1.0 if state == STATES[0] else temperature(run)
    if heat is None or not (run.targets == 1).any():
        return [np.nan] * len(COLUMNS)
    given = run.logits["last"], run.targets, heat
    by_label = float(mean_defined(scores.expected_error_by_label(*given)))
    return [heat, 100 * scores.expected_error(*given), 100 * by_label, scores.log_loss(*given)]
