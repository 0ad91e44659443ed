"""What tuning chose for each model, and what it gained (07_tuning)."""

import pandas as pd

from mlclib.config import Experiment
from mlclib.results import captions
from mlclib.results.table import Table
from mlclib.runs import tuning
from mlclib.runs.tuning import Trials

FILE, BEST, GAIN = "validation mAP, file's settings", "validation mAP, best trial", "gain"


def efforts(experiment: Experiment, trials: Trials) -> Table:
    """Models x number of trials, validation mAP of the file's settings and of the best trial, and its settings."""
    rows, chosen = [], {}
    for model, values in tuning.scores(trials).items():
        best = int(values.argmax())
        chosen[model] = trials[model][best]
        named = tuning.settings(experiment, model, best)
        told = ", ".join(f"{name.partition('.')[2]} {_text(value)}" for name, value in named.items())
        gained = {FILE: values[0], BEST: values[best], GAIN: values[best] - values[0]}
        rows.append({"model": model, "trials": len(values), **gained, "best trial": best, "its settings": told})
    seeds = ", ".join(map(str, experiment.seeds))
    every = {model: [run for runs in each for run in runs] for model, each in trials.items()}
    reference = captions.checked(every, "last")
    sentences = [
        f"mAP in percent on the {len(reference.names):,} validation images, of the last epoch, seed {seeds}; nothing "
        "here was computed on the test images.",
        captions.ap(reference),
        "Trial 0 is the configuration as it stands in the file; the others' settings are points of a scrambled Sobol "
        f"sequence (seed {experiment.tuning.seed}) over the model's ranges.",
        "The best of several trials is chosen by these images and scores too high on them; what it is worth, runs with "
        "fresh seeds on the test images say.",
        f"Of the best trials: {captions.made(chosen)}",
    ]
    return Table(
        name="tuning",
        title=f"What tuning chose, by validation images of {captions.data_name(every)}",
        frame=pd.DataFrame(rows),
        formats={"trials": "d", "best trial": "d", FILE: ".1f", BEST: ".1f", GAIN: "+.1f"},
        best=(BEST,),
        runs=every,
        caption=" ".join(sentences),
    )


def finding(table: Table) -> str:
    """In a sentence: what the best trial gains over the file's settings, on average, at most and at least."""
    gain = table.frame.set_index("model")[GAIN]
    most, least = gain.idxmax(), gain.idxmin()
    return (
        f"On the images that chose it the best trial is {gain.mean():.1f} points above the file's settings on average, "
        f"{gain[most]:.1f} at most ({most}), {gain[least]:.1f} at least ({least})."
    )


def _text(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
