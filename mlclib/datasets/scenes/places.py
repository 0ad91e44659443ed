"""Where the scenes play: which things come together in a place, and what it looks like when empty."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mlclib.datasets.scenes.pen import Pen

SIDE = 256  # pixels of a stored image
FINE = 2  # a scene is drawn FINE times larger and then reduced, for smooth edges


class Place(NamedTuple):
    """Where scenes play: palettes above and below the horizon, the ground's pattern, and what there may be.

    things: "thing chance most": with that chance there is at least one, and then up to `most`;
    "thing@where" puts the thing elsewhere than Thing.where says.
    """

    above: str
    below: str
    pattern: str
    horizon: tuple[float, float]
    things: str


SKY, GRASS = "78afe1 aacdeb c8cdd4 ebbe96 5a6ea0", "6e9646 82965a 5a824b a0965a"
WALL, FLOOR = "e1d7c3 b4c3c8 c8aa96 96a58c ebe6e1 82788c", "966e4b 785a46 afa59b 6e6e78 be966e"
PLACES = {
    "street": Place(SKY, "828287 a09b96 6e6e76", "road", (0.45, 0.62), """
        house .65 3, tree .40 2, cloud .40 2, sun .20 1, lamp .50 2, car .80 3, bus .55 1, bicycle .45 2, person .65 3,
        dog .25 1, clock .20 1, bird@ground .10 2, post .40 2, crate .25 2, puddle .40 2"""),
    "sea": Place(SKY, "3c6e96 508ca0 466478 6ea0aa", "waves", (0.35, 0.55), """
        sun .50 1, cloud .55 3, mountain .25 2, bird .55 3, boat .70 2, person@front .30 2, ball@front .30 2,
        dog@front .12 1, stone .35 3, post .20 2, balloon .20 1"""),
    "park": Place(SKY, GRASS, "grass", (0.35, 0.55), """
        tree .85 3, cloud .35 2, sun .30 1, bird .30 2, bird@ground .20 2, flower .35 4, person .65 3, dog .60 2,
        ball .55 2, bicycle .50 2, lamp .25 1, bush .60 3, stone .30 2, balloon .30 2"""),
    "farm": Place(SKY, GRASS, "grass", (0.35, 0.55), """
        house .65 2, tree .55 2, cloud .40 3, sun .35 1, cow .85 3, dog .40 1, cat .25 1, bird .20 2, bird@ground .25 3,
        person .30 1, flower .20 3, car .15 1, fence .60 3, crate .30 2, bush .40 2, puddle .25 1"""),
    "hills": Place(SKY, GRASS, "grass", (0.45, 0.65), """
        mountain .90 3, cloud .60 3, sun .40 1, bird .45 3, tree@ground .50 3, house@ground .20 1, cow .30 3,
        person .25 2, bicycle .15 1, flower .25 4, stone .60 4, bush .50 3"""),
    "room": Place(WALL, FLOOR, "planks", (0.55, 0.7), """
        clock .45 1, lamp .50 1, lamp@wall .20 1, chair .80 2, table .55 1, cat .50 1, dog .30 1, person .40 1,
        ball .25 1, flower@top .15 2, cup .15 2, frame .60 3, window .40 1,
        books .50 2, vase .35 2, crate .25 2"""),
    "kitchen": Place(WALL, FLOOR, "tiles", (0.55, 0.7), """
        clock .50 1, lamp@wall .35 1, bottle .85 4, cup .85 4, table .55 1, chair .55 2, cat .35 1, person .35 1,
        flower@top .10 1, pot .60 2, vase .35 1, books .20 1, window .30 1, frame .25 2, crate .20 2"""),
    "garden": Place(SKY, GRASS, "grass", (0.35, 0.5), """
        flower .85 6, house .35 1, tree .45 2, table .40 1, chair .45 2, cat .45 1, bird@ground .40 2,
        bottle@ground .25 2, cup@ground .20 2, sun .25 1, ball .35 1, person .30 1, bush .50 3,
        fence@far .40 2, stone .30 2, vase@ground .25 1"""),
}  # fmt: skip


def noise(g: np.random.Generator, columns: int, rows: int) -> np.ndarray:
    """Smooth noise about 0, float32 [SIDE, SIDE]: normal values on a grid, blown up."""
    grid = Image.fromarray(g.standard_normal((rows, columns), np.float32))
    return np.asarray(grid.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def backdrop(pen: Pen, place: Place, horizon: float) -> Image.Image:
    """The empty place, at the fine size."""
    g, y, n, h = pen.g, np.linspace(0, 1, SIDE)[:, None], SIDE * FINE, int(horizon * SIDE * FINE)
    hilly = 0.012 * noise(g, 4, 2)[0] if place.pattern == "grass" else np.zeros(SIDE)
    below = y > horizon + hilly
    above_tone = 0.85 + 0.3 * y / horizon * g.uniform(-0.5, 1)
    tone = np.where(below, 0.8 + 0.35 * (y - horizon) / (1 - horizon), above_tone)[..., None]
    grain = 6 * noise(g, 3, 3) + (5 + 4 * below) * noise(g, *((6, 40) if place.pattern == "waves" else (24, 24)))
    grain = (grain + 5 * below * noise(g, 90, 90))[..., None]
    pixels = np.where(below[..., None], pen.paint(place.below), pen.paint(place.above)) * tone + grain
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((n, n), Image.Resampling.BICUBIC)
    draw, tint = ImageDraw.Draw(picture, "RGBA"), (0, 0, 0, 40) if pen.chance(0.5) else (255, 255, 255, 45)
    if place.pattern == "road":
        x = pen.between(0.2, 0.8) * n
        draw.polygon([x - 15, h, x + 15, h, x + n * 0.7, n, x - n * 0.7, n], (40, 40, 45, 90))
        for t in (0.1, 0.3, 0.6):
            a, b = h + (n - h) * t, h + (n - h) * t * 1.4
            draw.polygon([x - 9 * t, a, x + 9 * t, a, x + 13 * t, b, x - 13 * t, b], (235, 230, 200, 200))
    elif place.pattern == "planks":
        for x in np.linspace(-1, 2, 22):
            draw.line([n * (0.25 + x / 2), h, n * x, n], tint, FINE)
    elif place.pattern == "tiles":
        for k in range(0, n, int(g.integers(10, 24)) * FINE):
            draw.line([k, 0, k, h], tint, FINE)
            draw.line([0, k, n, k], tint, FINE)
    else:  # blades of grass, or crests of waves
        right, up = (1.6, 0) if place.pattern == "waves" else (0.2, 1)
        for x, t in g.uniform(0, 1, (90, 2)):
            x, y, length = x * n, h + (n - h) * t, (0.005 + 0.03 * t) * n
            draw.line([x, y, x + length * right, y - length * up], tint, int(1 + 2 * t))
    if place.pattern == "waves":  # and a strip of sand
        draw.polygon([0, n * pen.between(0.86, 0.95), n, n * pen.between(0.86, 0.95), n, n, 0, n], (215, 195, 150, 255))
    return picture
