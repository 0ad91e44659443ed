"""Opening images the way the papers' loaders do: `PIL.Image.open(path).convert("RGB")`, and nothing more.

What that means, with the Pillow of requirements.lock (tests/test_images.py holds each):
EXIF rotation is ignored (pixels as stored, as the boxes are); a palette is looked up and its
transparency dropped; alpha is dropped, showing the colours beneath; grey is repeated three times;
CMYK goes by the plain formula without a colour profile; of an animation the first frame counts; and
16-bit grey is clipped at 255, which leaves it all but white (the data sets of the papers hold none;
`integrity.verify` warns of such images).
"""

from pathlib import Path

from PIL import Image

from mlclib.common.errors import UserError


def open_rgb(path: str | Path) -> Image.Image:
    """The image at `path`, decoded in full, as RGB. Raises UserError where it cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # Broken files make Pillow's decoders raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        raise UserError(f"cannot read the image {path} ({reason}); verify the data set or exclude it") from error
