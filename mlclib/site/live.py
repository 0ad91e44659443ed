"""predictions.js of an experiment: what its scores are made of, for scores.js to score again in the browser."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlclib.common.errors import UserError
from mlclib.datasets.scenes.picture import draw_scene
from mlclib.models import title
from mlclib.results import captions, entries
from mlclib.results.captions import Models
from mlclib.results.report import named
from mlclib.runs import store
from mlclib.runs.store import FinishedRun

MOST = 64 * 2**20  # bytes of logits that a browser is given at once
DRAWS = 1000  # of test images and seeds, for the intervals that the browser computes


def predictions(page: SimpleNamespace) -> Models:
    """The runs that the experiment's table of scores is made of. Raises UserError that says why there are none."""
    tables, results = page.folder / "tables", page.folder.parent
    again = f"`make reproduce EXPERIMENT={named(page.name)}` makes them"
    if (tables / "tuning.json").is_file():
        raise UserError("Its runs are trials of a tuning, whose predictions on the test images nothing looks at")
    if not (tables / "scores.json").is_file():
        raise UserError(f"The scores do not say which runs they are made of: {again}")
    runs_of = json.loads((tables / "scores.json").read_text(encoding="utf-8"))["made of"]
    own = {model: names for model, names in runs_of.items() if not names[0].startswith("external/")}
    try:
        models = {model: [store.read(results / "runs" / name) for name in names] for model, names in own.items()}
    except UserError:
        raise UserError(f"The runs that the scores are made of are not on this disk: {again}") from None
    outside = entries.external(page.folder / "external", reference := captions.checked(models, "last"))
    models |= {name: runs for name, runs in outside.items() if name in runs_of}
    if sum(array.nbytes for runs in models.values() for run in runs for array in run.logits.values()) > MOST:
        raise UserError("The predictions are too many for a browser: use the notebooks 05_tables and 06_protocols")
    if not (reference.targets == 1).any():
        raise UserError(captions.HIDDEN)
    return models


def script(page: SimpleNamespace, models: Models, pictures: str) -> str:
    """predictions.js. pictures: the folder in the site that holds the test images, "" where there is none."""
    reference = next(iter(models.values()))[0]
    data = {
        "experiment": page.name,
        "named": named(page.name),
        "labels": reference.labels,
        "names": reference.names,
        "targets": _packed(reference.targets, np.int8),
        "pictures": pictures,
        "draws": DRAWS,
        "titles": {model: title(model) for model in models},
        "models": {model: [_run(run) for run in runs] for model, runs in models.items()},
        "cells": {table["name"]: table["cell"] for table in page.tables},
    }
    return f"const DATA = {json.dumps(data, ensure_ascii=False)};\n"


def pictures(models: Models, out: Any) -> str:
    """Write each test image, small, into the site `out`, where the project draws them itself. Returns their folder."""
    reference = next(iter(models.values()))[0]
    if reference.about["data"]["name"] != "scenes":
        return ""
    seed, source = reference.about["configuration"]["dataset"].get("seed", 0), Path(draw_scene.__code__.co_filename)

    def draw(name: str) -> bytes:
        content = io.BytesIO()
        draw_scene(seed, 1, int(name.rpartition("_")[2]))[0].save(content, "webp", quality=70)
        return content.getvalue()

    for name in reference.names:
        out.put(f"pictures/scenes-{seed}/{name}.webp", lambda name=name: draw(name), source)
    return f"pictures/scenes-{seed}"


def _run(run: FinishedRun) -> dict[str, Any]:
    """One run: how it was made, and its logits by selection."""
    origin, about = store.provenance(run), run.about
    logits = {key: _packed(array, np.float32) for key, array in run.logits.items()}
    if "external" in origin:
        return {"folder": f"external/{origin['external']}", "seed": "", "command": "", "logits": logits}
    model, commit = about["configuration"]["model"], origin["commit"][:10]
    return {
        "folder": "/".join(run.folder.parts[-3:]),
        "seed": run.seed,
        "command": f"python -m mlclib train {about['experiment']} --model {model} --seed {run.seed}",
        "commit": f"{commit} with uncommitted changes" if origin["changed"] else commit,
        "device": origin["device"],
        "ended": about["ended"][:10],
        "logits": logits,
    }


def _packed(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
