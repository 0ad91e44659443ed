"""Whether the probabilities can be taken at their word (02_train)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlclib.metrics import calibration
from mlclib.results import captions
from mlclib.results.calibration import STATES, temperature
from mlclib.results.style import COLOURS, said
from mlclib.runs.store import FinishedRun


def reliability(model: str, runs: list[FinishedRun]) -> Figure:
    """The share of labels that are there by the probability given to them, a line a seed; and how many are given each.

    Beside the plain probabilities stand those after a temperature, where there is a validation part to fit it on.
    """
    if not (runs[0].targets == 1).any():
        return said(f"{captions.HIDDEN}.")
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6.5, 6.5), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    above.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1, label="as said")
    errors = []
    for number, run in enumerate(runs):
        logits = run.logits["last"]
        errors.append(calibration.expected_error(logits, run.targets))
        for colour, name, heat in zip(COLOURS, STATES, (1.0, temperature(run)), strict=False):
            if heat is None:
                continue
            bins = calibration.reliability(logits, run.targets, heat)
            look = {"color": colour, "label": name if number == 0 else None}
            above.plot(bins["probability"], bins["present"], "o-", ms=4, lw=1.2, **look)
            below.step((bins.index + 0.5) / len(bins), bins["count"], where="mid", **look)
    above.set(ylabel="share of them that are there", xlim=(0, 1), ylim=(0, 1))
    above.legend(frameon=False)
    below.set(xlabel="probability given", ylabel="image-label pairs", yscale="log")
    below.yaxis.set_minor_formatter("")
    above.set_title(f"{model}: probabilities are {100 * np.mean(errors):.1f} points off on average (ECE)")
    plt.close(figure)
    return figure
