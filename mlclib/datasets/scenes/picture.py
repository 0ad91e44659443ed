"""One scene: things put into a place, far to near, with their visible boxes."""

from math import cos, sin
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mlclib.datasets.scenes.pen import WOOD, Pen
from mlclib.datasets.scenes.places import FINE, PLACES, SIDE, WALL, Place, backdrop, noise
from mlclib.datasets.scenes.things import THINGS

LABELS = (
    *("sun", "cloud", "mountain", "tree", "flower", "house", "car", "bus", "bicycle", "boat", "person"),
    *("dog", "cat", "bird", "cow", "chair", "table", "lamp", "clock", "bottle", "cup", "ball"),
)
HIDDEN, HALF_HIDDEN = 0.25, 0.40  # visible share below which a thing is not labelled, or is difficult
SMALLEST = 0.04  # of the side; a thing whose visible box is smaller is difficult


def tile(g: np.random.Generator, shapes: list, size: float, tilt: float, haze: float, sky: np.ndarray) -> Image.Image:
    """The shapes as an RGBA picture whose longer side is `size` (of the image's side), lit from one side."""
    turn = np.array([[cos(tilt), sin(tilt)], [-sin(tilt), cos(tilt)]]) * [[g.choice([-1, 1])], [-1]]
    turned = [points @ turn for points, _ in shapes]
    low, high = np.min([p.min(0) for p in turned], 0), np.max([p.max(0) for p in turned], 0)
    scale = (size * SIDE * FINE - 2) / (high - low).max()
    w, h = (int(v) for v in np.ceil((high - low) * scale) + 1)
    picture = Image.new("RGBA", (w, h))
    draw = ImageDraw.Draw(picture)
    for points, (_, colour) in zip(turned, shapes, strict=True):
        draw.polygon(((points - low) * scale).ravel().tolist(), (*colour, 255))
    light = np.linspace(*g.uniform(0.75, 1.15, 2), w) * np.linspace(*g.uniform(0.85, 1.1, 2), h)[:, None]
    pixels = np.array(picture)
    pixels[..., :3] = np.clip(pixels[..., :3] * light[..., None] * (1 - haze) + sky * haze, 0, 255)
    return Image.fromarray(pixels)


class Placed(NamedTuple):
    """Where a thing goes: `y` is its base, or its middle in the sky and on a wall; `near` is 0 far away, 1 close by."""

    y: float
    x: float
    name: str
    where: str
    size: float
    near: float


def arrange(pen: Pen, place: Place, horizon: float, shelf: float) -> list[Placed]:
    """Which things there are and where, the farthest first."""
    placed = []
    for entry in place.things.split(","):
        name, chance, most = entry.split()
        name, _, where = name.partition("@")
        where = where or THINGS[name].where
        for _ in range(1 + pen.kind(int(most)) if pen.chance(float(chance)) else 0):
            near = pen.between(0, 1) ** 1.3  # small things are the more frequent
            depth = np.clip(0.1 + 0.75 * near + pen.g.normal(0, 0.12), 0.04, 1)
            y = {
                "sky": pen.between(0.05, horizon - 0.1),
                "wall": pen.between(0.08, horizon - 0.12),
                "far": horizon + pen.between(0, 0.06),
                "top": shelf,
                "ground": horizon + (1.04 - horizon) * depth,
                "front": pen.between(0.93, 1.02),
            }[where]
            size = THINGS[name].small * (THINGS[name].large / THINGS[name].small) ** near
            placed.append(Placed(y, pen.between(0.03, 0.97), name, where, size, near))
    return sorted(placed, key=lambda p: (p.where not in ("sky", "wall"), p.name != "puddle", p.y))


def draw_scene(seed: int, split: int, index: int) -> tuple[Image.Image, dict]:
    """Image `index` of split 0 (train) or 1 (test): the picture, and its place and boxes."""
    pen = Pen(np.random.default_rng([seed, split, index]))
    g, n = pen.g, SIDE * FINE
    name = list(PLACES)[pen.kind(len(PLACES))]
    place = PLACES[name]
    horizon = pen.between(*place.horizon)
    shelf = horizon - pen.between(-0.02, 0.1)
    picture, owner = backdrop(pen, place, horizon), Image.new("L", (n, n))
    air = np.asarray(picture.resize((1, 1)))[0, 0]
    indoors = place.above == WALL
    if indoors:  # a counter
        picture.paste(pen.paint(WOOD), (0, int(shelf * n), n, int((shelf + pen.between(0.02, 0.2)) * n)))
    drawn = []
    for k, (y, x, name_k, where, size, near) in enumerate(arrange(pen, place, horizon, shelf), 1):
        one = Pen(g, "floor" if indoors and where == "ground" else where)
        THINGS[name_k].draw(one)
        upright = THINGS[name_k].large > 0.4 or name_k == "puddle"
        art = tile(g, one.shapes, size, g.normal(0, 0.03 if upright else 0.1), pen.between(0, 0.35) * (1 - near), air)
        left, base = int(x * n - art.width / 2), int(y * n)
        if where in ("ground", "far", "front") and name_k != "puddle":  # its shadow
            dark = Image.new("L", (art.width, max(2, art.height // 8)))
            ImageDraw.Draw(dark).ellipse((0, 0, dark.width - 1, dark.height - 1), 90)
            picture.paste((20, 25, 30), (left, base - dark.height // 2), dark)
        at = (left, base - (art.height // 2 if where in ("sky", "wall") else art.height))
        alpha = art.getchannel("A")
        picture.paste(art, at, alpha)
        owner.paste(k, at, alpha)
        drawn.append((k, name_k, np.count_nonzero(np.asarray(alpha))))
    owners, boxes = np.asarray(owner), []
    for k, label, area in drawn:
        seen = owners == k
        share = np.count_nonzero(seen) / area
        if label in LABELS and share >= HIDDEN:
            xs, ys = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
            box = [float(v) / FINE for v in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)]
            small = max(box[2] - box[0], box[3] - box[1]) < SMALLEST * SIDE
            boxes.append({"label": label, "box": box, "difficult": bool(small or share < HALF_HIDDEN)})
    return finish(g, picture), {"place": name, "boxes": boxes}


def finish(g: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The picture at its stored size, with the light of the hour, blur and a camera's noise."""
    small = picture.reduce(FINE).filter(ImageFilter.GaussianBlur(g.uniform(0, 0.45)))
    light = (1 + 0.08 * noise(g, 3, 3))[..., None] * g.uniform(0.9, 1.1, 3).astype(np.float32)
    pixels = np.asarray(small, np.float32) * light
    mean, grain = pixels.mean(), g.standard_normal((SIDE, SIDE, 1), np.float32) * g.uniform(1, 6)
    pixels = (pixels - mean) * g.uniform(0.65, 1.05) + mean * g.uniform(0.85, 1.15) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
