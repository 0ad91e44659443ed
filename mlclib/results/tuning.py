"""What tuning chose for each model, what it gained, and how many trials it took (07_tuning)."""

from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata

from mlclib.config import Experiment, Range
from mlclib.models import title
from mlclib.results import captions
from mlclib.results.comparison import scored_table
from mlclib.results.style import COLOURS
from mlclib.results.table import Table
from mlclib.runs import tuning
from mlclib.runs.tuning import Trials

FILE, BEST, GAIN = "validation mAP, file's settings", "validation mAP, best trial", "gain"


def trials_table(experiment: Experiment, trials: Trials) -> Table:
    """Models x number of trials, validation mAP of the file's settings and of the best trial, its settings and which of
    them lie at an edge of what was tried, and the model's rank by the best that is expected of so many trials.
    """
    rows, curves = [], _expected_best(trials)
    for model, values in tuning.scores(trials).items():
        best, ranges = int(values.argmax()), experiment.ranges(model)
        settings = tuning.settings(experiment, model, best).items()
        edges = [name.partition(".")[2] for name, value in settings if at_the_edge(ranges[name], value)]
        row = (model, len(values), values[0], values[best], values[best] - values[0], best)
        text = ", ".join(f"{name.partition('.')[2]} {_text(value)}" for name, value in settings)
        rows.append((*row, text, ", ".join(edges) or "none"))
    columns = ["model", "trials", FILE, BEST, GAIN, "best trial", "its settings", "at the edge"]
    frame, count = pd.DataFrame(rows, columns=columns), experiment.tuning.trials
    for k in (*(k for k in (5, 10) if k < count), count):
        frame[f"rank by {k}"] = rankdata([-curve[k - 1] for curve in curves.values()], method="min")
    models = {model: [run for runs in each for run in runs] for model, each in trials.items()}
    reference = captions.checked(models, "last")
    return scored_table(
        "tuning", "What tuning chose by its validation images,", models, frame,
        formats={"trials": "d", "best trial": "d", GAIN: "+.1f"} | {name: "d" for name in frame if "rank" in name},
        best=(BEST,),
        shown={text: title(text).replace("_", " ") for row in rows for text in (row[0], *row[6:])},
        caption=f"mAP in percent on the {len(reference.names):,} validation images; nothing here was computed on the "
        "test images. The best of several trials scores too high on the images that chose it. At the edge: settings at "
        "the lowest or highest of what was tried. Rank by k: by the expected best of k trials.",
        protocol=[
            f"Seed{'s' * (len(experiment.seeds) > 1)} {', '.join(map(str, experiment.seeds))}.",
            captions.ap(reference),
            "At the edge: the lowest or highest of several numbers, or in the outer tenth of a range.",
            "Trial 0 is the configuration as it stands in the file; the others' settings are points of a scrambled "
            f"Sobol sequence (seed {experiment.tuning.seed}) over the model's ranges. Runs with fresh seeds on the "
            "test images say what the best trial is worth.",
        ],
    )  # fmt: skip


def at_the_edge(values: list[Any] | Range, value: Any) -> bool:
    """Whether a setting is the lowest or highest of several numbers, or lies in the outer tenth of a range."""
    if isinstance(values, list):
        numbers = len(values) > 1 and all(isinstance(one, int | float) for one in values)
        return numbers and value in (min(values), max(values))
    low, high, at = np.log([values.low, values.high, value]) if values.log else (values.low, values.high, value)
    return not 0.1 < (at - low) / (high - low) < 0.9


def gain_sentence(table: Table) -> str:
    """What the best trial gains over the file's settings, on average, at most and at least."""
    gain = table.frame.set_index("model")[GAIN]
    most, least = gain.idxmax(), gain.idxmin()
    return (
        f"On the validation images the best trial is on average {gain.mean():.1f} points above the file's settings, "
        f"by model {gain[least]:.1f} ({title(least)}) to {gain[most]:.1f} points ({title(most)})."
    )


def effort_figure(trials: Trials) -> Figure:
    """For each model the validation mAP (%) that is expected of the best of k of its trials, against k.

    The circle on the left is the configuration as it stands in the file. A line that is still rising on the right would
    have gained from more trials.
    """
    scores, curves = tuning.scores(trials), _expected_best(trials)
    figure, axes = plt.subplots(figsize=(9, 6))
    styles = cycle(zip(COLOURS * 4, np.repeat(["-", "--", ":", "-."], len(COLOURS)), strict=True))
    for model, (colour, line) in zip(sorted(curves, key=lambda model: -curves[model][-1]), styles, strict=False):
        axes.plot(range(1, len(curves[model]) + 1), curves[model], line, color=colour, marker=".", label=title(model))
        axes.plot(0, scores[model][0], "o", color=colour, mfc="none")
    count = max(map(len, curves.values()))
    axes.set_xticks(range(count + 1), ["file", *map(str, range(1, count + 1))])
    axes.set(xlabel="trials", ylabel="expected best validation mAP (%)")
    axes.set_title(effort_sentence(trials).removesuffix("."), loc="right", fontsize=11)
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5), title="by the best of all")
    figure.tight_layout()
    return figure


def effort_sentence(trials: Trials) -> str:
    """What the second half of the trials still gained."""
    curves = _expected_best(trials)
    count = max(map(len, curves.values()))
    half = max(1, count // 2)
    late = {model: curve[-1] - curve[half - 1] for model, curve in curves.items()}
    most = max(late, key=late.get)
    return (
        f"From {half} to {count} trials the best gains {np.mean(list(late.values())):.1f} points on average, "
        f"{late[most]:.1f} at most ({title(most)})."
    )


def _expected_best(trials: Trials) -> dict[str, np.ndarray]:
    return {model: tuning.expected_best(values) for model, values in tuning.scores(trials).items()}


def _text(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
