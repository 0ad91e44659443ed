"""Look into a model by hand: image, label and map chosen with widgets, the picture drawn anew at each choice."""

import html
import io
from functools import cache

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mlclib.attention import maps, pictures
from mlclib.attention.maps import Key
from mlclib.common import progress
from mlclib.common.errors import UserError, check_name
from mlclib.datasets.images import open_rgb
from mlclib.inference import predict
from mlclib.runs import store
from mlclib.runs.study import Study


class Explorer:
    """Widgets for the test split (`image`) or an uploaded file (`upload`), and for `model`, `label` and `map`.

    `model` offers every model with a finished first seed. `picture` holds the current PNG. Raises UserError for a model
    that the experiment does not have, or that is not trained yet.
    """

    def __init__(self, study: Study, model: str):
        setting = study.experiment
        folders = {name: study.runs_of(setting.run_config(name))[0].folder for name in setting.models}
        finished = [name for name, folder in folders.items() if store.finished(folder)]
        check_name("model", model, finished, where=f"the finished runs of experiment {setting.name!r}")
        self.subject = cache(lambda name: predict.model_on_split(study, name))
        self.split, self.labels = study.dataset.splits["test"], list(study.dataset.labels)
        self.own: Image.Image | None = None  # the uploaded image, while it is looked at
        row, last = int(setting.attention.images[0]), len(self.split) - 1
        self.image = widgets.IntSlider(row, 0, last, description="image", continuous_update=False)
        self.upload = widgets.FileUpload(accept="image/*", description="your own image")
        self.image.layout.width, self.upload.layout.width = "32em", "14em"
        self.model = widgets.Dropdown(options=finished, value=model, description="model")
        present = self.labels[int(np.argmax(self.split.targets[row]))]  # the first where the image shows none
        self.label = widgets.Dropdown(options=self.labels, value=present, description="label")
        self.map = widgets.Dropdown(description="map")
        self.note, self.picture = widgets.HTML(), widgets.Image(format="png")
        choices = widgets.HBox([self.image, self.upload]), widgets.HBox([self.model, self.label, self.map])
        self.box = widgets.VBox([*choices, self.note, self.picture])
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
        marks = {1: "is present", 0: "is marked neither present nor absent", -1: "is absent"}
        mark, probability = marks[int(self.split.targets[row, label])], self.probabilities[label]
        rank = 1 + int((self.probabilities > probability).sum())
        text = (
            f"The label {self.label.value} {mark} in test image {row}. {self.model.value} gives it "
            f"{100 * probability:.0f} %, rank {rank} of {len(self.labels)} labels."
        )
        for boxed in maps.boxed_labels(self.split, row):
            if boxed.label == label:
                text += (
                    f" {100 * float((self.weights * boxed.mask).sum()):.0f} % of the map ({self.map.value}) lies in "
                    f"its boxes, which cover {100 * float(boxed.mask.float().mean()):.0f} % of the picture."
                )
        return text

    def figure(self) -> Figure:
        """The picture of what is chosen."""
        label, row = self.labels.index(self.label.value), self.image.value
        subject = self.subject(self.model.value)
        if self.own is None:
            image, seen = subject.picture(row), subject.layer_maps([row])
            about = self.split.targets[row], maps.boxes_of(self.split, row, label)
        else:
            image, seen, about = self.own, maps.layer_maps(subject.model, subject.transform(self.own)[None]), ()
        drawn = maps.explain(subject.model, seen, [[label]], subject.transform.size)
        key = self._offered(list(drawn))
        self.probabilities, self.weights = maps.probabilities(subject.model, seen)[0], drawn[key][0, 0]
        return pictures.view(image, key, self.weights, self.labels, label, self.probabilities, *about)

    def _offered(self, keys: list[Key]) -> Key:
        """The chosen map, after the list of maps has become that of the chosen model."""
        names = {str(key): key for key in keys}
        if list(self.map.options) != list(names):
            value = self.map.value if self.map.value in names else str(pictures.main_keys(dict.fromkeys(keys))[0])
            self.map.unobserve(self._draw, "value")  # while its options change
            self.map.options = list(names)
            self.map.value = value
            self.map.observe(self._draw, "value")
        return names[self.map.value]

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
        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=80)
        self.picture.value = png.getvalue()
