"""Opening pictures as a viewer shows them, for training, prediction, attention and figures alike.

An ordinary RGB or grey JPEG, as in the data sets of the papers, is what `PIL.Image.open(path).convert("RGB")` gives.
Beyond that (tests/test_images.py holds each): the picture is turned as its EXIF tag says; what is transparent shows
white; grey of more than 8 bits is scaled to 8 by the depth that its brightest pixel needs (8, 12, 16 bits or more);
CMYK goes by the plain formula without a colour profile; of an animation the first frame counts.
`integrity.verify` says of which pictures this holds.

Boxes are taken in pixels of the turned picture, as tools for annotation show it.
"""

import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from mlclib.common.errors import UserError

LIMIT = "MLCLIB_MAX_PIXELS"  # environment variable, so that it reaches every process
_ORIENTATION = 0x0112  # EXIF tag
_MOST_PIXELS = int(os.environ.get(LIMIT, 178956970))  # Pillow's own limit, against files that fill the memory
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # Pillow warns from here on and refuses twice as many
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def open_rgb(path: str | Path | BinaryIO) -> Image.Image:
    """The picture at `path` (or in an open file), decoded in full, as RGB. Raises UserError where it cannot be."""
    return open_and_list_changes(path)[0]


def open_and_list_changes(path: str | Path | BinaryIO) -> tuple[Image.Image, dict[str, str]]:
    """The picture of `open_rgb`, and its changes other than the mode: what was changed -> the mode before."""
    changes = {}
    try:
        with Image.open(path) as stored:
            image = stored
            if stored.getexif().get(_ORIENTATION, 1) != 1:
                changes["turned by its EXIF tag"] = stored.mode
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                changes["more than 8 bits scaled to 8"] = stored.mode
                image = _scaled(image)
            elif image.has_transparency_data:
                changes["transparency shown white"] = stored.mode
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("RGB"), changes
    except Image.DecompressionBombError:
        raise UserError(
            f"the image {path} has more than {_MOST_PIXELS:,} pixels; make it smaller, or, if you trust the file, set "
            f"the environment variable {LIMIT} to a larger number"
        ) from None
    # Broken files make Pillow's decoders raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        raise UserError(f"cannot read the image {path} ({reason}); verify the data set or exclude it") from error


def size_of(path: str | Path) -> tuple[int, int]:
    """Width and height of the picture as `open_rgb` gives it; only its header is read."""
    with Image.open(path) as image:
        turned = image.getexif().get(_ORIENTATION, 1) >= 5  # by a quarter
        return image.size[::-1] if turned else image.size


def _scaled(image: Image.Image) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit or real numbers."""
    pixels = np.asarray(image, dtype=np.float64)
    top = float(pixels.max(initial=0))
    white = next((depth for depth in (1, 2**8 - 1, 2**12 - 1, 2**16 - 1) if top <= depth), top)
    if white == 1 and image.mode != "F":  # a mask of 0 and 1 is as dark as a viewer shows it
        white = 2**8 - 1
    return Image.fromarray(np.clip(pixels * (255 / white), 0, 255).round().astype(np.uint8))
