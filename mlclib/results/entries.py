"""Who stands in the tables: the experiment's own models, authors' checkpoints, and other people's predictions.

Predictions of other people's models join the tables from results/<experiment>/external/<name>.npz, which holds
names [N] (the test images' names, in any order), logits_last float32 [N, C] (columns in the order of the data set's
labels; logits_best_test and logits_ema too, where there are) and, if wanted as a check, targets int8 [N, C].
Scores of hidden test labels (VOC 2012's server) are entered in external/<name>.csv: columns label,AP, in percent.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from mlclib.common.errors import UserError, check_name
from mlclib.results.captions import Models
from mlclib.runs import train
from mlclib.runs.store import FinishedRun
from mlclib.runs.study import Study


def models(study: Study) -> Models:
    """The experiment's models that have finished runs, then other people's predictions.

    Raises UserError where no run is finished yet, and where predictions from outside have the name of a model.
    """
    own = {model: runs for model in study.experiment.models if (runs := study.finished(model))}
    if not own:
        raise UserError(
            f"no run of experiment {study.experiment.name!r} is finished in {study.results}: train its models first, "
            f"with notebooks/02_train.ipynb or `make reproduce EXPERIMENT={study.experiment.name}`"
        )
    own |= train.scored_checkpoints(study)
    outside = external(study.folder / "external", next(iter(own.values()))[0])
    if taken := sorted(own.keys() & outside.keys()):
        raise UserError(f"{study.folder / 'external' / taken[0]}.npz has the name of a model of ours: rename the file")
    return {**own, **outside}


def external(folder: Path, reference: FinishedRun) -> Models:
    """Predictions of other people's models in `folder`, rows put into the order of `reference` by image name.

    Raises UserError where a file's images, labels or targets are not those of `reference`.
    """
    return {path.stem: [_external_run(path, reference)] for path in sorted(folder.glob("*.npz"))}


def entered(folder: Path, labels: Iterable[str]) -> dict[str, pd.Series]:
    """AP per label and their mAP, in percent, by model, from the CSV files in `folder` (columns label, AP).

    Raises UserError for a file without these columns, a label that is missing or unknown, and an AP not in 0..100.
    """
    labels, scores = list(labels), {}
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path)
        if not {"label", "AP"} <= set(table):
            raise UserError(f"{path} has the columns {', '.join(table)}; it must have label and AP (in percent)")
        for label in table["label"]:
            check_name("label", label, labels, where=str(path))
        aps = pd.to_numeric(table.set_index("label")["AP"], errors="coerce").reindex(labels)
        if len(wrong := aps.index[~aps.between(0, 100)]):
            raise UserError(f"{path} gives no AP between 0 and 100 for the label {wrong[0]!r}")
        scores[path.stem] = pd.concat([aps, pd.Series({"mAP": aps.mean()})])
    return scores


def _external_run(path: Path, reference: FinishedRun) -> FinishedRun:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as predictions: {error}") from None
    for key in ("names", "logits_last"):
        if key not in arrays:
            raise UserError(f"{path} lacks the array {key!r}; it must hold names [N] and logits_last [N, C]")
    row = {name: i for i, name in enumerate(arrays.pop("names").tolist())}
    missing = [name for name in reference.names if name not in row]
    if missing or len(row) != len(reference.names):
        first = f" (first: {missing[0]})" if missing else ""
        raise UserError(
            f"{path} holds {len(row):,} images and lacks {len(missing):,} of the {len(reference.names):,} test images"
            f"{first}: it must hold exactly those"
        )
    order, shape = [row[name] for name in reference.names], reference.targets.shape
    for key, array in arrays.items():
        if array.shape != shape:
            raise UserError(f"{key} of {path} has shape {array.shape}, not {shape} as images x labels demand")
    targets = arrays.pop("targets", None)
    if targets is not None and (targets[order] != reference.targets).any():
        raise UserError(f"the targets in {path} are not those of this experiment's test images")
    logits = {key.removeprefix("logits_"): array[order] for key, array in arrays.items()}
    about = {"external": path.name, "seed": 0, "labels": reference.labels}
    return FinishedRun(path, about, reference.names, logits, reference.targets)
