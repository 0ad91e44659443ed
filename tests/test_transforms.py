"""The papers' transforms, against Pillow and numpy by hand."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from mlclib import transforms
from mlclib.common.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def normalised(image: Image.Image) -> np.ndarray:
    return ((np.asarray(image) / 255 - MEAN) / STD).transpose(2, 0, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "mode"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_evaluation_is_pillows_resize_and_the_normal_formula(picture, name, mode):
    out = transforms.Transform(64, MEAN, STD, name)(picture)
    assert out.dtype == torch.float32 and out.shape == (3, 64, 64)
    np.testing.assert_allclose(out, normalised(picture.resize((64, 64), mode)), atol=1e-6)


@pytest.mark.parametrize("recipe", ["msrn", "dsdl", "ml-gcn", "add-gcn"])
def test_training_is_crop_resize_and_mirror(picture, recipe):
    transform = transforms.Transform(64, MEAN, STD, recipe=recipe, trains=True)
    side = {"dsdl": 512, "add-gcn": 64 + 64}.get(recipe)
    scales = (1.0, 0.9, 0.8, 0.7, 0.6) if recipe == "msrn" else (1.0, 0.875, 0.75, 0.66, 0.5)
    first = picture if side is None else picture.resize((side, side), Image.BILINEAR)
    mirrored = set()
    for seed in range(12):
        top, left, height, width = transforms.crop_box(first.height, first.width, scales, 64, generator(seed))
        cropped = first.crop((left, top, left + width, top + height)).resize((64, 64), Image.BILINEAR)
        plain = normalised(cropped)
        out = transform(picture, generator(seed)).numpy()
        flipped = not np.allclose(out, plain, atol=1e-6)
        np.testing.assert_allclose(out, plain[:, :, ::-1] if flipped else plain, atol=1e-6)
        mirrored.add(flipped)
    assert mirrored == {True, False}


def test_crops_are_every_pair_of_near_scales_at_thirteen_places_alike():
    scales, height, width = (1.0, 0.9, 0.8, 0.7, 0.6), 200, 300
    g = generator(0)
    drawn = Counter(transforms.crop_box(height, width, scales, 448, g) for _ in range(20_000))
    sides = [int(200 * s) for s in scales]
    places = [(i, j) for i in (0, 2, 4) for j in (0, 2, 4)] + [(1, 1), (1, 3), (3, 1), (3, 3)]
    shapes = [(sides[i], sides[j]) for i in range(5) for j in range(5) if abs(i - j) <= 2]
    crops = itertools.product(places, shapes)
    expected = Counter((y * ((height - h) // 4), x * ((width - w) // 4), h, w) for (y, x), (h, w) in crops)
    assert drawn.keys() == expected.keys()
    assert chisquare([drawn[b] for b in expected], [20_000 / 247 * n for n in expected.values()]).pvalue > 1e-4


def test_a_side_within_two_pixels_of_the_size_becomes_the_size():
    assert {transforms.crop_box(450, 600, (1.0,), 448, generator(seed))[2] for seed in range(5)} == {448}
    assert transforms.crop_box(451, 600, (1.0,), 448, generator(0))[2] == 451


@pytest.mark.parametrize("recipe", transforms.RECIPES)
def test_the_generator_alone_decides_how_an_image_is_varied(picture, recipe):
    transform = transforms.Transform(32, MEAN, STD, recipe=recipe, trains=True)
    torch.manual_seed(1)
    first = pickle.loads(pickle.dumps(transform))(picture, generator(5))  # as in a worker process
    torch.manual_seed(2)
    assert torch.equal(first, transform(picture, generator(5)))
    assert not torch.equal(first, transform(picture, generator(6)))


def test_csra_s_crops_have_seven_to_ten_tenths_of_the_area():
    grey = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8)[:, None, None], (1, 200, 3)))
    transform = transforms.Transform(64, (0, 0, 0), (1, 1, 1), recipe="csra", trains=True)
    reach = [float(np.ptp(transform(grey, generator(seed)).numpy()[0, :, 0])) for seed in range(80)]
    assert 0.70 < min(reach) < 0.8 and max(reach) > 0.95  # of the height: the root of 0.7 * 3 / 4 at least


def test_ssgrl_trains_on_squares_and_is_tested_on_the_centre(picture):
    whole = picture.resize((640, 640), Image.BILINEAR)
    centre = whole.crop((32, 32, 608, 608))
    out = transforms.Transform(576, MEAN, STD, recipe="ssgrl")(picture)
    np.testing.assert_allclose(out, normalised(centre), atol=1e-6)
    boxes = [transforms.square_box(640, 640, (1.0, 0.9, 0.8, 0.6, 0.5), generator(seed)) for seed in range(400)]
    assert {side for _, _, side, _ in boxes} == {640, 576, 512, 384, 320}
    assert all(0 <= top <= 640 - side and 0 <= left <= 640 - side for top, left, side, _ in boxes)
    assert {top for top, _, side, _ in boxes if side == 640} == {0}
    other = transforms.Transform(576, MEAN, STD, recipe="csra")(picture)
    assert torch.equal(other, transforms.Transform(576, MEAN, STD)(picture))


def test_ml_decoder_s_cutout_paints_a_rectangle_of_half_the_side_at_most():
    black, shares = Image.new("RGB", (100, 80)), []
    for seed in range(60):
        painted = (np.asarray(transforms._cut_out(black, 0.5, generator(seed))) > 0).any(2)
        rows, columns = painted.any(1).sum(), painted.any(0).sum()
        assert painted.sum() == rows * columns and rows <= 40 and columns <= 50
        shares.append(painted.mean())
    assert max(shares) == 0.25 and min(shares) < 0.15


def test_images_smaller_than_any_crop_still_work():
    tiny = Image.new("RGB", (2, 3), "red")
    out = transforms.Transform(32, (0, 0, 0), (1, 1, 1), recipe="msrn", trains=True)(tiny, generator(0))
    assert torch.equal(out[0], torch.ones(32, 32)) and not out[1:].any()


def test_unknown_names_and_impossible_numbers_are_one_sentence():
    with pytest.raises(UserError, match=r"unknown training transform 'msnr'.*did you mean 'msrn'"):
        transforms.Transform(64, MEAN, STD, recipe="msnr", trains=True)
    with pytest.raises(UserError, match=r"unknown interpolation 'cubic'.*known: bicubic, bilinear"):
        transforms.Transform(64, MEAN, STD, "cubic")
    for size, std in ((0, STD), (64, (1, 1, 0)), (64, (1,))):
        with pytest.raises(UserError, match="a transform needs"):
            transforms.Transform(size, MEAN, std)
