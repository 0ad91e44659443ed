"""One scene: things put into a place, far to near, with their visible boxes."""

from collections.abc import Sequence
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
    return sorted(placed, key=_near_last)


def _near_last(thing: Placed) -> tuple[bool, bool, float]:
    return thing.where not in ("sky", "wall"), thing.name != "puddle", thing.y


def draw_scene(seed: int, split: int, index: int) -> tuple[Image.Image, dict]:
    """Image `index` of split 0 (train), 1 (test) or 2 (val): the picture, and its place and boxes."""
    return draw_versions(seed, split, index)[0]


def draw_versions(
    seed: int, split: int, index: int, without: Sequence[str] = ("",), placed: Sequence[Placed] | None = None
) -> list[tuple[Image.Image, dict]]:
    """The image once for each name in `without`, that name's things and their shadows left out; "" leaves out none.

    Every version is made of the same random draws, so two of them are equal in each pixel that what they lack does not
    cover. placed: what stands in the scene instead of what its place would have.
    """
    pen = Pen(np.random.default_rng([seed, split, index]))
    g, n = pen.g, SIDE * FINE
    name, horizon, shelf, empty, air = _empty(pen)
    indoors = PLACES[name].above == WALL
    own = arrange(pen, PLACES[name], horizon, shelf)
    versions = [(empty.copy(), Image.new("L", (n, n)), []) for _ in without]  # picture, owner of each pixel, things
    for k, (y, x, name_k, where, size, near) in enumerate(own if placed is None else placed, 1):
        one = Pen(g, "floor" if indoors and where == "ground" else where)
        THINGS[name_k].draw(one)
        upright = THINGS[name_k].large > 0.4 or name_k == "puddle"
        art = tile(g, one.shapes, size, g.normal(0, 0.03 if upright else 0.1), pen.between(0, 0.35) * (1 - near), air)
        left, base = int(x * n - art.width / 2), int(y * n)
        at = (left, base - (art.height // 2 if where in ("sky", "wall") else art.height))
        alpha = art.getchannel("A")
        for missing, (picture, owner, drawn) in zip(without, versions, strict=True):
            if name_k == missing:
                continue
            if where in ("ground", "far", "front") and name_k != "puddle":  # its shadow
                dark = Image.new("L", (art.width, max(2, art.height // 8)))
                ImageDraw.Draw(dark).ellipse((0, 0, dark.width - 1, dark.height - 1), 90)
                picture.paste((20, 25, 30), (left, base - dark.height // 2), dark)
            picture.paste(art, at, alpha)
            owner.paste(k, at, alpha)
            drawn.append((k, name_k, np.count_nonzero(np.asarray(alpha))))
    pictures = finish(g, [picture for picture, _, _ in versions])
    notes = [{"place": name, "boxes": _boxes(np.asarray(owner), drawn)} for _, owner, drawn in versions]
    return list(zip(pictures, notes, strict=True))


def misplaced(seed: int, split: int, count: int, together: bool) -> list[tuple[Image.Image, dict]]:
    """`count` scenes whose things stand in the wrong place: each thing as often as in images 0 to count - 1, and each
    kind in as many images.

    together: all things of one scene stand in another place, so that company keeps; else kinds are dealt out anew, as
    many to each scene as it had, so that neither place nor company does.
    """
    places, own = zip(*(_arrangement(seed, split, index) for index in range(count)), strict=True)
    if together:
        order = np.argsort(places, kind="stable")  # by place: half of all scenes further stands another place
        dealt = dict(zip(order, (own[at] for at in np.roll(order, count // 2)), strict=True))
    else:
        dealt = _dealt_anew(own, np.random.default_rng([seed, split, count]))
    return [draw_versions(seed, split, index, placed=dealt[index])[0] for index in range(count)]


def _dealt_anew(own: Sequence[Sequence[Placed]], g: np.random.Generator) -> list[list[Placed]]:
    """The things of scenes, by kind dealt to other scenes at random; each scene keeps how many kinds it has, each kind
    in how many scenes it is (the curveball algorithm of Strona et al., Nature Communications 5, 2014).
    """
    scenes = [{thing.name: [one for one in things if one.name == thing.name] for thing in things} for things in own]
    for _ in range(10 * len(scenes)):
        one, other = (scenes[at] for at in g.choice(len(scenes), 2, replace=False))
        mine, yours = sorted(one.keys() - other.keys()), sorted(other.keys() - one.keys())
        pool = [(name, one.pop(name)) for name in mine] + [(name, other.pop(name)) for name in yours]
        for at, place in enumerate(g.permutation(len(pool))):
            (one if at < len(mine) else other).update([pool[place]])
    return [sorted((thing for things in scene.values() for thing in things), key=_near_last) for scene in scenes]


def _arrangement(seed: int, split: int, index: int) -> tuple[str, list[Placed]]:
    """The place of an image, and what stands in it."""
    pen = Pen(np.random.default_rng([seed, split, index]))
    name, horizon, shelf, _, _ = _empty(pen)
    return name, arrange(pen, PLACES[name], horizon, shelf)


def _empty(pen: Pen) -> tuple[str, float, float, Image.Image, np.ndarray]:
    """A place with nothing in it: its name, the heights of its horizon and its counter, its picture and its haze."""
    name = list(PLACES)[pen.kind(len(PLACES))]
    place, n = PLACES[name], SIDE * FINE
    horizon = pen.between(*place.horizon)
    shelf = horizon - pen.between(-0.02, 0.1)
    picture = backdrop(pen, place, horizon)
    air = np.asarray(picture.resize((1, 1)))[0, 0]
    if place.above == WALL:  # a counter
        picture.paste(pen.paint(WOOD), (0, int(shelf * n), n, int((shelf + pen.between(0.02, 0.2)) * n)))
    return name, horizon, shelf, picture, air


def _boxes(owners: np.ndarray, drawn: Sequence[tuple[int, str, int]]) -> list[dict]:
    """The visible boxes of labelled things. owners: the number of the thing each pixel shows, 0 for none. drawn: the
    number, the name and the pixels of each thing.
    """
    boxes = []
    for k, label, area in drawn:
        seen = owners == k
        share = np.count_nonzero(seen) / area
        if label in LABELS and share >= HIDDEN:
            xs, ys = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
            box = [float(v) / FINE for v in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)]
            small = max(box[2] - box[0], box[3] - box[1]) < SMALLEST * SIDE
            boxes.append({"label": label, "box": box, "difficult": bool(small or share < HALF_HIDDEN)})
    return boxes


def finish(g: np.random.Generator, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures of one scene at their stored size, with the light of the hour, blur and a camera's noise; all alike."""
    blur = ImageFilter.GaussianBlur(g.uniform(0, 0.45))
    light = (1 + 0.08 * noise(g, 3, 3))[..., None] * g.uniform(0.9, 1.1, 3).astype(np.float32)
    lit = [np.asarray(picture.reduce(FINE).filter(blur), np.float32) * light for picture in pictures]
    mean, grain = lit[0].mean(), g.standard_normal((SIDE, SIDE, 1), np.float32) * g.uniform(1, 6)
    contrast, brightness = g.uniform(0.65, 1.05), g.uniform(0.85, 1.15)
    lit = [(pixels - mean) * contrast + mean * brightness + grain for pixels in lit]
    return [Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)) for pixels in lit]
