"""The papers' image transforms, from a PIL RGB image to a normalised float32 tensor [3, size, size].

Random draws come from the torch.Generator that a transform is called with, and from nowhere else: made
from (seed, epoch, image), it gives the same crop whichever worker draws it, and when a run is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mlclib.errors import UserError, unknown

INTERPOLATIONS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}

# Training transforms by name: the side that images are first resized to (None: left as they are), and the crop scales.
# MSRN (arXiv 2106.11596) and DSDL (arXiv 2012.12509) crop as temporal segment networks do (arXiv 1608.00859, 3.2).
RECIPES: dict[str, tuple[int | None, tuple[float, ...]]] = {
    "msrn": (None, (1.0, 0.9, 0.8, 0.7, 0.6)),
    "dsdl": (512, (1.0, 0.875, 0.75, 0.66, 0.5)),
}
_MAX_DISTORT = 2  # how many steps of the scale list a crop's height and width may lie apart

# Where a crop may stand, (down, right) in quarters of the free space: corners, centre, middles of edges and quarters.
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3))


@dataclass(frozen=True)
class Transform:
    """A transform, called with a PIL RGB image and, for training, a generator; see `evaluation` and `training`."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    recipe: str | None

    def __post_init__(self) -> None:
        if self.recipe is not None and self.recipe not in RECIPES:
            raise unknown("training transform", self.recipe, RECIPES)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"a transform needs a size of at least 1, three means and three deviations > 0: {self}")

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> torch.Tensor:
        mode, square = INTERPOLATIONS[self.interpolation], [self.size, self.size]
        if self.recipe is None:
            image = F.resize(image, square, mode)
        else:
            side, scales = RECIPES[self.recipe]
            if side is not None:
                image = F.resize(image, [side, side], mode)
            box = crop_box(image.height, image.width, scales, self.size, generator)
            image = F.resized_crop(image, *box, square, mode)
            if _below(2, generator):
                image = F.horizontal_flip(image)
        pixels = F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)
        return F.normalize(pixels, list(self.mean), list(self.std), inplace=True)


def evaluation(size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bilinear") -> Transform:
    """Resize to size x size whatever the aspect ratio, scale to 0..1, subtract `mean`, divide by `std`.

    Raises UserError for an unknown interpolation and for impossible numbers.
    """
    return Transform(size, tuple(mean), tuple(std), interpolation, None)


def training(
    recipe: str, size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bilinear"
) -> Transform:
    """Multi-scale crop resized to size x size, mirrored half of the time, normalised as in `evaluation`.

    `recipe` is a key of RECIPES; DSDL's first resizes the image to 512 x 512. Raises UserError as `evaluation` does.
    """
    return Transform(size, tuple(mean), tuple(std), interpolation, recipe)


def crop_box(
    height: int, width: int, scales: Sequence[float], size: int, generator: torch.Generator | None
) -> tuple[int, int, int, int]:
    """Draw a multi-scale crop of an image: (top, left, height, width) in pixels.

    The crop's height and width are two of the scales, at most two steps apart, times the shorter side of
    the image; it stands at one of 13 fixed places. A side within two pixels of `size` becomes `size`, as in
    the authors' code; where that is longer than the image, the crop reaches up to two pixels beyond it (black).
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    steps = range(len(sides))
    shapes = [(sides[i], sides[j]) for i in steps for j in steps if abs(i - j) <= _MAX_DISTORT]
    crop_height, crop_width = shapes[_below(len(shapes), generator)]
    down, right = _PLACES[_below(len(_PLACES), generator)]
    return down * ((height - crop_height) // 4), right * ((width - crop_width) // 4), crop_height, crop_width


def _below(bound: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(bound, (), generator=generator))
