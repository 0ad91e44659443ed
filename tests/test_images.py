"""Images of every odd kind open as RGB the way the papers' loader, PIL's convert("RGB"), opens them."""

import numpy as np
import pytest
from PIL import Image

from mlclib.common.errors import UserError
from mlclib.datasets.images import open_rgb


def pixels(path) -> np.ndarray:
    image = open_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_greyscale_is_repeated_three_times(tmp_path):
    Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[0] * 3, [7] * 3, [255] * 3]]


def test_one_bit_images_are_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]


def test_a_palette_is_looked_up_and_its_transparency_dropped(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    assert pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 0]]]


def test_alpha_is_dropped_and_shows_the_colour_beneath(tmp_path):
    Image.fromarray(np.array([[[9, 8, 7, 0], [1, 2, 3, 255]]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[9, 8, 7], [1, 2, 3]]]


def test_cmyk_goes_by_the_plain_formula(tmp_path):
    cmyk = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.tif")
    expected = (255 - cmyk[..., :3].astype(int)) * (255 - cmyk[..., 3:].astype(int)) / 255
    assert np.abs(pixels(tmp_path / "a.tif") - expected).max() <= 1


def test_a_cmyk_jpeg_opens(tmp_path):
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - (0, 255, 255)).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_clipped(tmp_path, name):
    Image.fromarray(np.array([[0, 200, 256, 65535]], dtype=np.uint16)).save(tmp_path / name)
    assert pixels(tmp_path / name)[0, :, 0].tolist() == [0, 200, 255, 255]


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_exif_rotation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert pixels(tmp_path / "a.jpg").shape == (10, 20, 3)


def test_unreadable_images_are_named_with_a_reason(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    for name, reason in (
        ("truncated.jpg", "truncated"),
        ("text.jpg", "cannot identify"),
        ("empty.jpg", "cannot identify"),
        ("none.jpg", "no such file"),
    ):
        with pytest.raises(UserError, match=f"cannot read the image .*{name} .*{reason}"):
            open_rgb(tmp_path / name)
