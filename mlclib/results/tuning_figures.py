"""How the best score grows with the number of trials (07_tuning)."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlclib.results.style import COLOURS
from mlclib.runs import tuning
from mlclib.runs.tuning import Trials


def efforts(trials: Trials) -> Figure:
    """For each model the validation mAP (%) that is expected of the best of k of its trials, against k.

    The circle on the left is the configuration as it stands in the file. A line that is still rising on the right would
    have gained from more trials.
    """
    scores = tuning.scores(trials)
    curves = {model: tuning.expected_best(values) for model, values in scores.items()}
    figure, axes = plt.subplots(figsize=(9, 6))
    styles = cycle(zip(COLOURS * 4, np.repeat(["-", "--", ":", "-."], len(COLOURS)), strict=True))
    for model, (colour, line) in zip(sorted(curves, key=lambda model: -curves[model][-1]), styles, strict=False):
        axes.plot(range(1, len(curves[model]) + 1), curves[model], line, color=colour, marker=".", label=model)
        axes.plot(0, scores[model][0], "o", color=colour, mfc="none")
    count = max(map(len, curves.values()))
    axes.set_xticks(range(count + 1), ["file", *map(str, range(1, count + 1))])
    axes.set(xlabel="trials", ylabel="expected best validation mAP (%)")
    axes.set_title(finding(trials).removesuffix("."), loc="right", fontsize=11)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5), title="by the best of all")
    figure.tight_layout()
    return figure


def finding(trials: Trials) -> str:
    """In a sentence: what the second half of the trials still gained."""
    curves = {model: tuning.expected_best(values) for model, values in tuning.scores(trials).items()}
    count = max(map(len, curves.values()))
    half = max(1, count // 2)
    late = {model: curve[-1] - curve[half - 1] for model, curve in curves.items()}
    most = max(late, key=late.get)
    return (
        f"From {half} to {count} trials the best gains {np.mean(list(late.values())):.1f} points on average, "
        f"{late[most]:.1f} at most ({most})."
    )
