"""The papers' image transforms, from a PIL RGB image to a normalised float32 tensor [3, size, size].

Random draws come from the torch.Generator that a transform is called with, and from nowhere else. Seeded with
(seed, epoch, image), it gives the same crop in whichever worker draws it, and when a run is resumed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image

from mlclib.common.errors import UserError, unknown

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Recipe:
    """How training images are varied, in this order.

    side: first resized to this side, or, with `margin`, to the input size and so many pixels more.
    scales: multi-scale crop of temporal segment networks (arXiv 1608.00859, 3.2), resized to the input size.
    squares: a square of one of these shares of the side, anywhere, resized to the input size.
    area: a crop of a share of the picture's area between these, of aspect ratio 3:4 to 4:3, resized to the input size.
    Without any of the three the picture is resized as for evaluation.
    cutout: a rectangle of this share of either side, anywhere, painted in one random colour.
    randaugment: two random operations of torchvision's RandAugment (Cubuk et al., CVPR-W 2020), magnitude 9.
    flip: mirrored half of the time.
    centre: for evaluation too the picture is resized to the input size and `margin`, and its centre taken.
    """

    side: int | None = None
    margin: int | None = None
    scales: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    area: tuple[float, float] | None = None
    cutout: float = 0.0
    randaugment: bool = False
    flip: bool = True
    centre: bool = False


# By the model whose authors train so.
_HALVED = (1.0, 0.875, 0.75, 0.66, 0.5)
RECIPES: dict[str, Recipe] = {
    "msrn": Recipe(scales=(1.0, 0.9, 0.8, 0.7, 0.6)),
    "dsdl": Recipe(side=512, scales=_HALVED),
    "ml-gcn": Recipe(scales=_HALVED),
    "add-gcn": Recipe(margin=64, scales=_HALVED),
    "csra": Recipe(area=(0.7, 1.0)),
    "query2label": Recipe(randaugment=True, flip=False),
    "ml-decoder": Recipe(cutout=0.5, randaugment=True, flip=False),
    "ssgrl": Recipe(margin=64, squares=(1.0, 0.9, 0.8, 0.6, 0.5), flip=False, centre=True),
}
_MAX_DISTORT = 2  # how many steps of the scale list a crop's height and width may lie apart

# Where a crop may stand, (down, right) in quarters of the free space: corners, centre, middles of edges and quarters.
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


@dataclass(frozen=True)
class Transform:
    """Called with a PIL RGB image and, where `trains`, a generator: float32 [3, size, size].

    A picture is resized whatever its aspect ratio, scaled to 0..1, less `mean`, divided by `std`. recipe: the key of
    RECIPES that the model is trained with (None: a plain resize). trains: whether the picture is varied as it says.
    Raises UserError for an unknown recipe or interpolation and for impossible numbers.

    >>> white = Image.new("RGB", (3, 2), "white")
    >>> Transform(2, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))(white)[0]
    tensor([[2., 2.],
            [2., 2.]])
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    recipe: str | None = None
    trains: bool = False

    def __post_init__(self) -> None:
        if self.recipe is not None and self.recipe not in RECIPES:
            raise unknown("training transform", self.recipe, RECIPES)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"a transform needs a size of at least 1, three means and three deviations > 0: {self}")

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> torch.Tensor:
        from torchvision.transforms.v2 import functional as vision  # takes a second, and planning does without it

        recipe = RECIPES[self.recipe] if self.recipe else Recipe()
        if self.trains:
            image = self._varied(image, recipe, generator)
        elif recipe.centre:
            before = round(recipe.margin / 2)
            image = self._resized(image, self.size + recipe.margin)
            image = image.crop((before, before, before + self.size, before + self.size))
        else:
            image = self._resized(image, self.size)
        pixels = vision.to_dtype(vision.pil_to_tensor(image), torch.float32, scale=True)
        return vision.normalize(pixels, list(self.mean), list(self.std), inplace=True)

    def _varied(self, image: Image.Image, recipe: Recipe, generator: torch.Generator | None) -> Image.Image:
        from torchvision.transforms import v2

        side = recipe.side if recipe.margin is None else self.size + recipe.margin
        if side is not None:
            image = self._resized(image, side)
        box = 0, 0, image.height, image.width
        if recipe.scales:
            box = crop_box(image.height, image.width, recipe.scales, self.size, generator)
        elif recipe.squares:
            box = square_box(image.height, image.width, recipe.squares, generator)
        elif recipe.area:
            with _seeded_by(generator):
                box = v2.RandomResizedCrop.get_params(image, list(recipe.area), [3 / 4, 4 / 3])
        mode = v2.InterpolationMode(self.interpolation)
        image = v2.functional.resized_crop(image, *box, [self.size, self.size], mode)
        if recipe.cutout:
            image = _cut_out(image, recipe.cutout, generator)
        if recipe.randaugment:
            with _seeded_by(generator):
                image = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)(image)
        if recipe.flip and _below(2, generator):
            image = v2.functional.horizontal_flip(image)
        return image

    def _resized(self, image: Image.Image, side: int) -> Image.Image:
        return image.resize((side, side), Image.Resampling[self.interpolation.upper()])


def crop_box(
    height: int, width: int, scales: Sequence[float], size: int, generator: torch.Generator | None
) -> tuple[int, int, int, int]:
    """Draw a multi-scale crop of an image: (top, left, height, width) in pixels.

    The crop's height and width are two of the scales, at most two steps apart, times the shorter side of
    the image; it stands at one of 13 fixed places. A side within two pixels of `size` becomes `size`, as in
    the authors' code; where that is longer than the image, the crop reaches up to two pixels beyond it (black).

    >>> crop_box(100, 100, [1.0], 64, None)
    (0, 0, 100, 100)
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    steps = range(len(sides))
    shapes = [(sides[i], sides[j]) for i in steps for j in steps if abs(i - j) <= _MAX_DISTORT]
    crop_height, crop_width = shapes[_below(len(shapes), generator)]
    down, right = _PLACES[_below(len(_PLACES), generator)]
    return down * ((height - crop_height) // 4), right * ((width - crop_width) // 4), crop_height, crop_width


def square_box(
    height: int, width: int, shares: Sequence[float], generator: torch.Generator | None
) -> tuple[int, int, int, int]:
    """Draw a square crop anywhere: (top, left, side, side) in pixels, the side one of `shares` of the shorter side.

    >>> square_box(80, 80, [1.0], None)
    (0, 0, 80, 80)
    """
    side = int(min(height, width) * shares[_below(len(shares), generator)])
    return _below(height - side + 1, generator), _below(width - side + 1, generator), side, side


def _cut_out(image: Image.Image, share: float, generator: torch.Generator | None) -> Image.Image:
    """Paint a rectangle of `share` of either side about a random centre in one random colour; it may reach beyond."""
    width, height = (int(share * side + 0.5) for side in image.size)
    left, top = _below(image.width, generator) - width // 2, _below(image.height, generator) - height // 2
    colour = tuple(_below(256, generator) for _ in range(3))
    image = image.copy()
    image.paste(colour, (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height)))
    return image


@contextmanager
def _seeded_by(generator: torch.Generator | None) -> Iterator[None]:
    """Seed torch's global generator, from which torchvision's own transforms draw, by a draw from `generator`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield


def _below(bound: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(bound, (), generator=generator))
