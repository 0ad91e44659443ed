"""Labels with probabilities for images of one's own, from a run folder alone: no data set is needed."""

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file
from tqdm.auto import tqdm

from mlclib import models
from mlclib.attention import maps as attention
from mlclib.attention import pictures
from mlclib.attention.maps import ModelOnSplit
from mlclib.common import progress
from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.datasets.images import open_rgb
from mlclib.models.base import Classifier
from mlclib.results.style import safe_file_name
from mlclib.runs import store
from mlclib.runs.study import Study
from mlclib.training.checkpoints import load_trained_state
from mlclib.training.inputs import transform_of

PRESENT = 0.5  # probability from which a label counts as present: logit 0, the default threshold of the scores
HEIC = (".heic", ".heif")
with suppress(ImportError):  # with this package Pillow opens them
    import pillow_heif

    pillow_heif.register_heif_opener()


@dataclass
class Predictions:
    """probabilities: one row per image that could be read, one column per label. unreadable: image -> why not.

    passed_over: how many files of the folders are no pictures, by kind.
    """

    probabilities: pd.DataFrame
    unreadable: dict[str, str]
    passed_over: Counter[str]


def load_model(folder: str | Path) -> Classifier:
    """The model of a finished run, in evaluation mode, from its folder alone.

    A frozen backbone is loaded from where the run had it from. Raises UserError for a folder without a finished run.
    """
    run = store.read(folder)
    configuration, count = run.about["configuration"], len(run.labels)
    if not (path := run.folder / "weights.safetensors").exists():
        raise UserError(f"{run.folder} kept no weights: train it again with training.keep_weights: true")
    weights = load_file(path)
    backbone = configuration["backbone"]
    # What is known of the labels stands among the weights, so the model is built with blanks of the right shape.
    model = models.build(
        configuration["model"],
        labels=count,
        label_vectors=torch.zeros_like(weights["label_vectors"]) if "label_vectors" in weights else None,
        cooccurrence=(np.zeros((count, count)), np.zeros(count)),
        backbone=backbone["name"],
        weights=backbone["weights"] if backbone["frozen"] else None,
        frozen=backbone["frozen"],
        loss=configuration["training"]["loss"],
        **configuration["options"],
    )
    load_trained_state(model, weights)
    return model.eval()


def models_on_split(study: Study, model: str) -> dict[int, ModelOnSplit]:
    """A model of the experiment on the test split, as each seed trained it, by seed."""
    return {seed: model_on_split(study, model, seed) for seed in study.experiment.seeds}


def model_on_split(study: Study, model: str, seed: int | None = None) -> ModelOnSplit:
    """A model on the test split, as trained with one seed (default: the first). Raises UserError where untrained."""
    run = study.experiment.run_config(model)
    seed = study.experiment.seeds[0] if seed is None else seed
    transform = transform_of(run.identity())
    model, test = load_model(study.run_group_folder(run) / f"seed-{seed}"), study.dataset.splits["test"]
    return ModelOnSplit(model, transform, study.inputs(run, "test"), test, study.dataset.labels)


def predict(run: str | Path, paths: Iterable[str | Path], maps: str | Path | None = None) -> Predictions:
    """Label images, and those of folders (and their folders); what cannot be read is named and the rest goes on.

    run: a run folder. maps: a folder that takes a picture of the attention for each image and label present (or,
    where none is, for the likeliest), <image>-<label>.png. Raises UserError for a folder without a finished run.
    """
    about, model = store.read(run).about, load_model(run)
    labels, transform = about["labels"], transform_of(about["configuration"])
    files, unreadable, passed_over = _files(paths)
    rows, written = {}, set()
    for path in tqdm(files, desc="images", unit="image", disable=len(files) < 2 or not progress.live()):
        try:
            image = open_rgb(path)
        except UserError as error:
            unreadable[str(path)] = str(error)
            continue
        seen = attention.layer_maps(model, transform(image)[None])
        row = rows[str(path)] = attention.probabilities(model, seen)[0]
        if maps is None:
            continue
        present = [int(label) for label in np.flatnonzero(row >= PRESENT)] or [int(row.argmax())]
        of_labels = attention.explain(model, seen, [present], transform.size)
        for at, label in enumerate(present):
            by_key = {key: map[0, at] for key, map in of_labels.items()}
            figure = pictures.grid([image], [f"{labels[label]}: {row[label]:.2f}"], [by_key])
            with written_whole(Path(maps) / _file_name(path.name, labels[label], written)) as part:
                figure.savefig(part, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=labels)
    return Predictions(frame.rename_axis("image"), unreadable, passed_over)


def show(run: str | Path, paths: Iterable[str | Path], form: str = "table", maps: str | Path | None = None) -> int:
    """Predict and print as a "table", "json" or "csv"; unreadable images go to stderr. 1 if there were any, else 0."""
    predictions = predict(run, paths, maps)
    try:
        print(_text(predictions.probabilities, form), end="", flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if predictions.passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in predictions.passed_over.items())
        print(f"passed over in folders: {kinds}", file=sys.stderr)
    for reason in predictions.unreadable.values():
        print(f"error: {reason}", file=sys.stderr)
    return 1 if predictions.unreadable else 0


def _text(probabilities: pd.DataFrame, form: str) -> str:
    """What `show` prints."""
    if form == "csv":
        return probabilities.to_csv(float_format="%.6f")
    rows = probabilities.astype(float).round(6).iterrows()
    ranked = [(image, row.sort_values(ascending=False, kind="stable")) for image, row in rows]
    if form == "json":
        return json.dumps([{"image": image, "labels": row.to_dict()} for image, row in ranked], indent=1) + "\n"
    lines = ""
    for image, row in ranked:
        present = row[row >= PRESENT] if row.iloc[0] >= PRESENT else row[:1]
        lines += f"{image}  {', '.join(f'{label} {value:.2f}' for label, value in present.items())}\n"
    return lines


def _files(paths: Iterable[str | Path]) -> tuple[list[Path], dict[str, str], Counter[str]]:
    """The image files that the paths name, folders opened; what cannot be read; what of folders is passed over."""
    Image.init()
    readable = {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind != "MPEG"}
    files, unreadable, passed_over = [], {}, Counter()
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        before = len(files)
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            if any(part.startswith((".", "__MACOSX")) for part in file.relative_to(path).parts):
                passed_over["hidden"] += 1
            elif (suffix := file.suffix.lower()) in readable:
                files.append(file)
            elif suffix in HEIC:
                unreadable[str(path)] = f"the HEIC pictures in {path} need a package: pip install pillow-heif"
            else:
                passed_over[suffix or "without a suffix"] += 1
        if len(files) == before:
            nothing = f"the folder {path} holds no images; name one that does, or the images themselves"
            unreadable.setdefault(str(path), nothing)
    return list(dict.fromkeys(files)), unreadable, passed_over


def _file_name(image: str, label: str, written: set[str]) -> str:
    """<image>-<label>.png, with a number where that was `written` before; the name joins what is written."""
    for number in itertools.count(1):
        name = f"{image}{f'-{number}' * (number > 1)}-{safe_file_name(label)}.png"
        if name.casefold() not in written:  # some file systems take small and capital letters for one
            written.add(name.casefold())
            return name
