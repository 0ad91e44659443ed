"""Labels with probabilities for images of one's own, from a run folder alone: no data set is needed."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
from mlclib.common.errors import UserError, unknown
from mlclib.common.files import written_whole
from mlclib.datasets.images import open_rgb
from mlclib.models.base import Classifier
from mlclib.runs import store
from mlclib.runs.study import Study
from mlclib.training.checkpoints import load_trained_state
from mlclib.training.inputs import transform_of

FORMS = ("table", "json", "csv")
PRESENT = 0.5  # probability from which a label counts as present: logit 0, the default threshold of the scores


@dataclass
class Predictions:
    """probabilities: a row an image that could be read, a column a label; unreadable: image -> why not."""

    probabilities: pd.DataFrame
    unreadable: dict[str, str] = field(default_factory=dict)


class Predictor:
    """A finished run's model, ready for images of any size."""

    def __init__(self, folder: str | Path):
        """folder: a run folder, results/runs/<data set>/<model>-<8 hex>/seed-<k>. Raises UserError where it is none."""
        about = store.read(folder).about
        self.labels: list[str] = about["labels"]
        self.transform = transform_of(about["configuration"])
        self.model = load_model(folder)

    def layer_maps(self, image: Image.Image) -> dict[int, torch.Tensor]:
        """The layer maps {layer: [1, C, h, w]} of an RGB image."""
        return attention.layer_maps(self.model, self.transform(image)[None])

    def probabilities(self, maps: dict[int, torch.Tensor]) -> np.ndarray:
        """The probability of each label, float32 [C], of one image's layer maps."""
        with torch.no_grad():
            return self.model.classify(maps).logits[0].sigmoid().numpy()


def load_model(folder: str | Path) -> Classifier:
    """The model of a finished run, in evaluation mode, from its folder alone.

    A frozen backbone is loaded from where the run had it from. Raises UserError for a folder without a finished run.
    """
    run = store.read(folder)
    configuration, count = run.about["configuration"], len(run.labels)
    weights = load_file(run.folder / "weights.safetensors")
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
    """The same of one seed, the experiment's first where none is named. Raises UserError where it is not trained."""
    run = study.experiment.run(model)
    seed = study.experiment.seeds[0] if seed is None else seed
    folder = next(one.folder for one in study.resolve(run) if one.seed == seed)
    transform = transform_of(run.identity())
    test = study.dataset.splits["test"]
    return ModelOnSplit(load_model(folder), transform, study.inputs(run, "test"), test, study.dataset.labels)


def predict(run: str | Path, paths: Iterable[str | Path], maps: str | Path | None = None) -> Predictions:
    """Label images, and those of folders (and their folders); what cannot be read is named and the rest goes on.

    run: a run folder. maps: a folder that takes a picture of the attention for each image and label present (or,
    where none is, for the likeliest), <image>-<label>.png. Raises UserError for a folder without a finished run.
    """
    predictor = Predictor(run)
    files, unreadable = _files(paths)
    rows: dict[str, np.ndarray] = {}
    names: dict[str, int] = {}
    for path in tqdm(files, desc="images", unit="image", disable=len(files) < 2 or not progress.live()):
        try:
            image = open_rgb(path)
        except UserError as error:
            unreadable[str(path)] = str(error)
            continue
        seen = predictor.layer_maps(image)
        rows[str(path)] = predictor.probabilities(seen)
        if maps is not None:
            again = names[path.name] = names.get(path.name, 0) + 1
            stem = path.name if again == 1 else f"{path.name}-{again}"
            _write_maps(predictor, image, seen, rows[str(path)], Path(maps), stem)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=predictor.labels)
    return Predictions(frame.rename_axis("image"), unreadable)


def show(run: str | Path, paths: Iterable[str | Path], form: str = "table", maps: str | Path | None = None) -> int:
    """Predict and print as a "table", "json" or "csv"; unreadable images go to stderr. 1 if there were any, else 0."""
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    found = predict(run, paths, maps)
    if form == "csv":
        print(found.probabilities.to_csv(float_format="%.6f"), end="")
    elif form == "json":
        print(
            json.dumps(
                [{"image": image, "labels": _ranked(row)} for image, row in found.probabilities.iterrows()], indent=1
            )
        )
    else:
        for image, row in found.probabilities.iterrows():
            ranked = _ranked(row)
            present = [label for label in ranked if ranked[label] >= PRESENT] or list(ranked)[:1]
            print(f"{image}  " + ", ".join(f"{label} {ranked[label]:.2f}" for label in present))
    for reason in found.unreadable.values():
        print(f"error: {reason}", file=sys.stderr)
    return 1 if found.unreadable else 0


def _ranked(row: pd.Series) -> dict[str, float]:
    return {label: round(float(value), 6) for label, value in row.sort_values(ascending=False, kind="stable").items()}


def _files(paths: Iterable[str | Path]) -> tuple[list[Path], dict[str, str]]:
    """The image files that the paths name, folders opened, and what is wrong with the folders that hold none."""
    Image.init()
    files, empty = [], {}
    for path in map(Path, paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in Image.EXTENSION) if path.is_dir() else [path]
        if not inside:
            empty[str(path)] = f"the folder {path} holds no images; name one that does, or the images themselves"
        files += inside
    return list(dict.fromkeys(files)), empty


def _write_maps(
    predictor: Predictor, image: Image.Image, seen: dict[int, torch.Tensor], row: np.ndarray, folder: Path, stem: str
) -> None:
    present: Sequence[int] = np.flatnonzero(row >= PRESENT) if (row >= PRESENT).any() else [int(row.argmax())]
    for label in present:
        maps = attention.explain(predictor.model, seen, [int(label)], predictor.transform.size)
        figure = pictures.grid(
            [image], [f"{predictor.labels[label]}: {row[label]:.2f}"], [{k: m[0] for k, m in maps.items()}]
        )
        with written_whole(folder / f"{stem}-{predictor.labels[label]}.png") as part:
            figure.savefig(part, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
