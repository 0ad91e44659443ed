"""Look into a model by hand: image, label and map chosen with widgets, the picture drawn anew at each choice."""

import html
import io
from functools import cache

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from mlclib.attention import figures as pictures
from mlclib.attention import saliency
from mlclib.attention.saliency import Key
from mlclib.common import progress
from mlclib.common.errors import UserError, unknown
from mlclib.datasets.images import open_rgb
from mlclib.inference import predict
from mlclib.runs import store
from mlclib.runs.study import Study


class Explorer:
    """Widgets for the test split (`image`) or an uploaded file (`upload`), and for `model`, `label` and `map`.

    `model` is the first of the experiment's finished ones. `picture` holds the PNG that they ask for. Raises UserError
    for a model that the experiment does not have, or that is not trained yet.
    """

    def __init__(self, study: Study, model: str):
        self.study = study
        folders = {
            name: study.run_folder(study.experiment.run(name), study.experiment.seeds[0])
            for name in study.experiment.models
        }
        finished = [name for name, folder in folders.items() if store.finished(folder)]
        if model not in finished:
            raise unknown("model", model, finished, where=f"the finished runs of experiment {study.experiment.name!r}")
        self.subject = cache(lambda name: predict.subject(study, name))
        self.split, self.labels = study.dataset.splits["test"], list(study.dataset.labels)
        first = int(study.experiment.attention.images[0])
        wide = widgets.Layout(width="32em")
        self.image = widgets.IntSlider(
            first, 0, len(self.split) - 1, description="image", continuous_update=False, layout=wide
        )
        self.upload = widgets.FileUpload(
            accept="image/*", description="your own image", layout=widgets.Layout(width="14em")
        )
        self.model = widgets.Dropdown(options=finished, value=model, description="model")
        self.label = widgets.Dropdown(
            options=self.labels, value=self.labels[self._first_label(first)], description="label"
        )
        self.map = widgets.Dropdown(description="map")
        self.note = widgets.HTML()
        self.picture = widgets.Image(format="png")
        self.box = widgets.VBox(
            [
                widgets.HBox([self.image, self.upload]),
                widgets.HBox([self.model, self.label, self.map]),
                self.note,
                self.picture,
            ]
        )
        self.own: Image.Image | None = None  # the uploaded image, while it is looked at
        self.busy = False
        self.image.observe(self._to_row, "value")
        self.upload.observe(self._to_upload, "value")
        for widget in (self.model, self.label, self.map):
            widget.observe(self._draw, "value")
        self._draw()

    def shown(self) -> widgets.VBox | Figure:
        """The widgets; where nobody watches, their picture alone."""
        return self.box if progress.live() else self.figure()

    def finding(self) -> str:
        """In a sentence: what the model says of the test image's chosen label, and how much of the map lies on it."""
        label, row = self.labels.index(self.label.value), self.image.value
        there = {1: "is there", 0: "is marked neither present nor absent", -1: "is not there"}
        rank = 1 + int((self.probabilities > self.probabilities[label]).sum())
        said = (
            f"In test image {row} {self.label.value} {there[int(self.split.targets[row, label])]}; {self.model.value} "
            f"gives it {100 * self.probabilities[label]:.0f} %, rank {rank} of {len(self.labels)} labels"
        )
        for mask in (mask for _, other, _, mask in saliency.boxed(self.split, row) if other == label):
            said += (
                f"; {100 * float((self.weights * mask).sum()):.0f} % of the map ({self.map.value}) lies in its boxes, "
                f"which take {100 * float(mask.float().mean()):.0f} % of the picture"
            )
        return f"{said}."

    def figure(self) -> Figure:
        """The picture of what is chosen."""
        label, row = self.labels.index(self.label.value), self.image.value
        subject = self.subject(self.model.value)
        if self.own is None:
            seen = subject.maps([row])
        else:
            seen = saliency.layer_maps(subject.model, subject.transform(self.own)[None])
        with torch.no_grad():
            probabilities = subject.model.classify(seen).logits[0].sigmoid().numpy()
        maps = saliency.explain(subject.model, seen, [label], subject.transform.size)
        key = self._offered(list(maps))
        self.probabilities, self.weights = probabilities, maps[key][0]
        if self.own is not None:
            return pictures.view(self.own, key, maps[key][0], self.labels, label, probabilities)
        boxes = self.split.boxes[row] if self.split.boxes is not None else np.empty((0, 5))
        return pictures.view(
            open_rgb(self.split.paths[row]), key, maps[key][0], self.labels, label, probabilities,
            self.split.targets[row], boxes[boxes[:, 0] == label, 1:],
        )  # fmt: skip

    def _offered(self, keys: list[Key]) -> Key:
        """The chosen map, after the list of maps has become that of the chosen model."""
        names = {str(key): key for key in keys}
        if list(self.map.options) != list(names):
            kept = self.map.value if self.map.value in names else str(pictures.main_keys(dict.fromkeys(keys))[0])
            self.busy = True
            self.map.options = list(names)
            self.map.value = kept
            self.busy = False
        return names[self.map.value]

    def _first_label(self, row: int) -> int:
        """A label that the image shows, the first where it shows none."""
        return int(np.argmax(self.split.targets[row]))

    def _to_row(self, change: dict) -> None:
        self.own, self.note.value = None, ""
        self._draw()

    def _to_upload(self, change: dict) -> None:
        file = self.upload.value[0]
        try:
            self.own = open_rgb(io.BytesIO(file["content"]))
        except UserError as error:
            self.note.value = html.escape(f"{file['name']} cannot be read as an image ({error}); choose another")
            return
        self.note.value = f"{html.escape(file['name'])}; move the slider to go back to the test images"
        self._draw()

    def _draw(self, change: dict | None = None) -> None:
        if self.busy:
            return
        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=80)
        self.picture.value = png.getvalue()
