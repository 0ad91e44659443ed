"""The explorer draws what its widgets ask for, and is one picture where nobody watches."""

import datetime
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mlclib.common import progress
from mlclib.common.errors import UserError
from mlclib.inference import explorer
from mlclib.runs.study import Study


@pytest.fixture
def live(tiny_study):
    return explorer.Explorer(tiny_study, "msrn")


def test_where_nobody_watches_it_is_a_figure(tiny_study, monkeypatch):
    monkeypatch.setattr(progress, "live", lambda: False)
    assert isinstance(explorer.Explorer(tiny_study, "msrn").shown(), Figure)
    monkeypatch.setattr(progress, "live", lambda: True)
    assert explorer.Explorer(tiny_study, "msrn").shown().children[-1].value[1:4] == b"PNG"


def test_its_sentence_is_of_the_chosen_label(live):
    live.image.value, live.label.value = 3, "boat"
    presence = "is present" if live.split.targets[3, live.labels.index("boat")] == 1 else "is absent"
    share = f"{100 * live.probabilities[live.labels.index('boat')]:.0f} %, rank "
    assert live.finding().startswith(f"The label boat {presence} in test image 3. msrn gives it {share}")
    shown = live.labels[int(np.argmax(live.split.targets[3]))]
    live.label.value = shown
    assert f"{shown} is present" in live.finding()
    assert f"of the map ({live.map.value}) lies in its boxes" in live.finding()


@pytest.mark.parametrize(("widget", "value"), [("image", 5), ("label", "boat"), ("map", "grad-cam, layer 2")])
def test_every_choice_changes_the_picture_and_another_model_offers_its_own_maps(live, widget, value):
    before = live.picture.value
    getattr(live, widget).value = value
    assert live.picture.value != before and "weighted, layer 3" in live.map.options
    live.model.value = "gmp"
    assert live.map.options == ("grad-cam, layer 4",) and live.map.value == "grad-cam, layer 4"


def uploaded(name: str, content: bytes) -> tuple:
    """What FileUpload holds after the user chose a file."""
    file = {"name": name, "content": memoryview(content), "size": len(content), "type": ""}
    return ({**file, "last_modified": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)},)


def test_an_uploaded_image_is_shown_until_the_slider_moves_and_another_file_is_named(live):
    before, file = live.picture.value, io.BytesIO()
    live.upload.value = uploaded("<b>.txt", b"text")
    assert live.picture.value == before and "&lt;b&gt;.txt cannot be read" in live.note.value
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(file, "png")
    live.upload.value = uploaded("own.png", file.getvalue())
    assert live.picture.value != before and "own.png" in live.note.value
    live.image.value = 3
    assert live.own is None and live.note.value == ""


def test_a_model_that_is_not_trained_is_named(tiny_study, tmp_path):
    empty = Study(tiny_study.experiment, results=tmp_path)
    with pytest.raises(UserError, match="unknown model 'msrn' in the finished runs.*known: none"):
        explorer.Explorer(empty, "msrn")
