"""Pictures of every odd kind open as a viewer shows them; ordinary ones to the bit as the papers' loaders open them."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mlclib.common.errors import UserError
from mlclib.datasets import images
from mlclib.datasets.images import open_rgb


def pixels(path) -> np.ndarray:
    image = open_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def changes(path) -> list[str]:
    return list(images.open_and_list_changes(path)[1])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_picture_is_what_pillow_converts(tmp_path, mode):
    Image.effect_noise((64, 48), 50).convert(mode).save(tmp_path / "a.jpg", quality=85)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(pixels(tmp_path / "a.jpg"), np.asarray(image.convert("RGB")))
    assert changes(tmp_path / "a.jpg") == []
    upload = io.BytesIO((tmp_path / "a.jpg").read_bytes())
    assert np.array_equal(pixels(upload), pixels(tmp_path / "a.jpg"))


def test_what_is_transparent_shows_white(tmp_path):
    Image.fromarray(np.array([[[9, 8, 7, 0], [1, 2, 3, 255], [0, 0, 0, 51]]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[255] * 3, [1, 2, 3], [204] * 3]]
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "b.png", transparency=1)
    assert pixels(tmp_path / "b.png").tolist() == [[[10, 20, 30], [255] * 3]]
    assert changes(tmp_path / "a.png") == changes(tmp_path / "b.png") == ["transparency shown white"]


def test_cmyk_goes_by_the_plain_formula(tmp_path):
    cmyk = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.tif")
    expected = (255 - cmyk[..., :3].astype(int)) * (255 - cmyk[..., 3:].astype(int)) / 255
    assert np.abs(pixels(tmp_path / "a.tif") - expected).max() <= 1
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - (0, 255, 255)).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize(
    ("deep", "grey"),
    [
        ([0, 257, 32896, 65535], [0, 1, 128, 255]),
        ([0, 16, 2048, 4095], [0, 1, 128, 255]),  # 12 bits, as of an X-ray
        ([0, 7, 200, 255], [0, 7, 200, 255]),
        ([0, 0, 1, 1], [0, 0, 1, 1]),
    ],
)
def test_grey_of_more_than_eight_bits_is_scaled_by_the_depth_that_it_needs(tmp_path, name, deep, grey):
    Image.fromarray(np.array([deep], dtype=np.uint16)).save(tmp_path / name)
    assert pixels(tmp_path / name)[0, :, 0].tolist() == grey
    assert changes(tmp_path / name) == ["more than 8 bits scaled to 8"]


def test_real_numbers_span_black_to_white_and_an_animation_gives_its_first_frame(tmp_path):
    Image.fromarray(np.array([[-1, 0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 0, 128, 255]
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / "a.gif") == (255, 0, 0)).all()


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_a_picture_is_turned_as_its_exif_tag_says(tmp_path, orientation, degrees):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # the corner at the top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright).rotate(degrees, expand=True).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), upright)
    assert images.size_of(tmp_path / "a.png") == (32, 16)
    assert changes(tmp_path / "a.png") == ["turned by its EXIF tag"] * (orientation > 1)


def test_a_picture_above_the_limit_names_the_variable_that_lifts_it(tmp_path):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    code = "import sys; from mlclib.datasets.images import open_rgb; print(open_rgb(sys.argv[1]).size)"
    for limit, words in ((5000, f"than 5,000 pixels.*environment variable {images.LIMIT}"), (10_000, "(100, 100)")):
        environment = {**os.environ, images.LIMIT: str(limit)}
        command = [sys.executable, "-c", code, tmp_path / "a.png"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert re.search(words, done.stdout + done.stderr)


def test_unreadable_images_are_named_with_a_reason(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    for name, reason in (("cut", "truncated"), ("text", "cannot identify"), ("none", "no such file")):
        with pytest.raises(UserError, match=f"cannot read the image .*{name}.jpg .*{reason}"):
            open_rgb(tmp_path / f"{name}.jpg")
