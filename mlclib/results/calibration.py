"""How far probabilities are from what is there, before and after a temperature (02_train)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mlclib.common.errors import UserError
from mlclib.metrics import calibration as metrics
from mlclib.metrics.resampling import mean_sd
from mlclib.metrics.scores import mean_defined
from mlclib.models import title
from mlclib.results import captions
from mlclib.results.comparison import scored_table
from mlclib.results.style import COLOURS, text_figure
from mlclib.results.table import Table
from mlclib.runs.store import FinishedRun

STATES = ("as trained", "after temperature")
COLUMNS = {
    "temperature": ".2f", "ECE": ".2f", "ECE by label": ".2f", "floor by label": ".2f", "floor, 95 %": ".2f",
    "log loss": ".4f", "Brier score": ".4f",
}  # fmt: skip


def calibration_table(model: str, runs: list[FinishedRun]) -> Table:
    """Two rows, as trained and after a temperature: calibration errors, their floor, log loss and Brier score, over
    the seeds.

    The second row has no numbers where there is no validation part to fit the temperature on.
    """
    models = {model: runs}
    captions.checked(models, "last")
    means, spread = zip(*(mean_sd([_scores(run, state) for run in runs]) for state in STATES), strict=True)
    frame = pd.DataFrame(means, columns=list(COLUMNS))
    frame.insert(0, "model", model)
    frame.insert(1, "probabilities", STATES)
    fitted = any(run.validation is not None for run in runs)
    return scored_table(
        "calibration", "How far probabilities can be believed", models, frame,
        spread=pd.DataFrame(spread, columns=list(COLUMNS)),
        formats=COLUMNS,
        caption=f"{captions.average(models, 'Errors in percent')} ECE: expected calibration error of the probability "
        "that a label is present. Floor: the error by label of a calibrated model, by chance. "
        "Temperature: the number that all logits are divided by, "
        + ("fitted on the validation part." if fitted else "not fitted: there is no validation part."),
        protocol=[
            f"ECE (Guo et al., ICML 2017): in {metrics.BINS} bins of equal width, over all image-label pairs; by "
            "label: the mean over the labels of the ECE of each. Log loss: mean negative log-likelihood of a pair, in "
            "nats, by which the temperature is fitted. Brier score: mean squared distance of the probability from 1 "
            "where the label is present, from 0 where it is absent. Difficult pairs are left out.",
            "Floor by label: the mean error by label where labels are drawn from the model's own probabilities; 95 %: "
            "the value that one of 20 such test sets exceeds.",
        ],
    )  # fmt: skip


def calibration_sentence(table: Table) -> str:
    """Of a table of one model: how far its probabilities are off, and what a temperature makes of it."""
    before, after = (row for _, row in table.frame.iterrows())
    if np.isnan(before["ECE"]):
        return f"{captions.HIDDEN}."
    text = f"The probabilities of {title(before['model'])} are {before['ECE']:.2f} points off on average (ECE)"
    if np.isnan(after["ECE"]):
        return f"{text}. No temperature can be fitted: there is no validation part, or nothing in it is wrong."
    sure = "overconfident" if after["temperature"] > 1 else "underconfident"
    above = after["ECE by label"] > after["floor, 95 %"]
    rest = (
        f", above the {after['floor, 95 %']:.2f} of chance"
        if above
        else f", no more than the {after['floor, 95 %']:.2f} that chance may make of a calibrated model"
    )
    return (
        f"{text}, and {after['ECE']:.2f} after a temperature of {after['temperature']:.2f}: as trained it is {sure}. "
        f"By label they are {before['ECE by label']:.2f} points off, and {after['ECE by label']:.2f} after it{rest}."
    )


def reliability_figure(model: str, runs: list[FinishedRun]) -> Figure:
    """The share of labels that are there by the probability given to them, one line per seed; and how many are given
    each. Beside the plain probabilities stand those after a temperature, where one can be fitted.
    """
    if not (runs[0].targets == 1).any():
        return text_figure(f"{captions.HIDDEN}.")
    size, heights = (6.5, 6.5), (3, 1)
    figure, (above, below) = plt.subplots(2, 1, figsize=size, sharex=True, height_ratios=heights, layout="constrained")
    above.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1, label="as said")
    for number, run in enumerate(runs):
        for colour, name, temperature in zip(COLOURS, STATES, (1.0, run_temperature(run)), strict=False):
            if temperature is None:
                continue
            bins = metrics.reliability(run.logits["last"], run.targets, temperature)
            look = {"color": colour, "label": name if number == 0 else None}
            above.plot(bins["probability"], bins["present"], "o-", ms=4, lw=1.2, **look)
            below.step((bins.index + 0.5) / len(bins), bins["count"], where="mid", **look)
    above.set(ylabel="share of them that are there", xlim=(0, 1), ylim=(0, 1))
    above.legend(frameon=False)
    below.set(xlabel="probability given", ylabel="image-label pairs", yscale="log")
    below.yaxis.set_minor_formatter("")
    error = 100 * np.mean([metrics.expected_error(run.logits["last"], run.targets) for run in runs])
    above.set_title(f"{title(model)}: probabilities are {error:.1f} points off on average (ECE)")
    return figure


def run_temperature(run: FinishedRun) -> float | None:
    """The run's temperature, fitted on its validation part; None where it has none, or where none can be fitted."""
    try:
        return metrics.fitted_temperature(*run.validation) if run.validation is not None else None
    except UserError:
        return None


def _scores(run: FinishedRun, state: str) -> list[float]:
    """COLUMNS of one run; NaN for hidden test labels, and after a temperature where there is none."""
    temperature = 1.0 if state == STATES[0] else run_temperature(run)
    if temperature is None or not (run.targets == 1).any():
        return [np.nan] * len(COLUMNS)
    given = run.logits["last"], run.targets, temperature
    by_label = float(mean_defined(metrics.expected_error_by_label(*given)))
    errors = [metrics.expected_error(*given), by_label, *metrics.error_floor(*given)]
    return [temperature, *(100 * error for error in errors), metrics.log_loss(*given), metrics.brier_score(*given)]
