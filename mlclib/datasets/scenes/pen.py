"""The pen that every drawing of the scenes is made with: filled polygons, and all choices from one generator."""

from math import cos, hypot, pi, sin

import numpy as np
from PIL import ImageColor

Colour = tuple[int, ...]


def shade(colour: Colour, factor: float) -> Colour:
    return tuple(int(min(255, c * factor)) for c in colour)


PAINT = "c82828 2850b4 ebc83c 3c8c50 ebebeb 3c3c46 9650a0 e68232 6eb4d2 8c8c91"
WOOD = "96643c 6e462d be9664 5a3c32 e1dcd2"
LEAF = "3c7832 285f37 648c32 967f32 508c50"


class Pen:
    """Collects filled polygons in a thing's own unit, x to the right and y up; `g` makes every choice.

    Each way of drawing gives the pen back, so that calls chain.
    """

    def __init__(self, g: np.random.Generator, where: str = "ground"):
        self.g, self.where, self.shapes = g, where, []

    def between(self, low: float, high: float) -> float:
        return float(self.g.uniform(low, high))

    def chance(self, p: float) -> bool:
        return bool(self.g.random() < p)

    def kind(self, n: int) -> int:
        return int(self.g.integers(n))

    def paint(self, colours: str = PAINT) -> Colour:
        """One of the colours (hexadecimal, a space between), a little off."""
        choices = colours.split()
        rgb = np.array(ImageColor.getrgb("#" + choices[self.kind(len(choices))]))
        return tuple(int(c) for c in np.clip(rgb * self.g.normal(1, 0.1) + self.g.normal(0, 7, 3), 0, 255))

    def poly(self, colour: Colour, *xy: float) -> "Pen":
        self.shapes.append((np.array(xy, float).reshape(-1, 2), colour))
        return self

    def rect(self, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> "Pen":
        return self.poly(colour, x0, y0, x1, y0, x1, y1, x0, y1)

    def oval(self, colour: Colour, x: float, y: float, rx: float, ry: float = 0, turn: float = 0) -> "Pen":
        """An ellipse about (x, y), a circle without `ry`, turned by `turn` radians."""
        u, v = rx * CIRCLE[:, 0], (ry or rx) * CIRCLE[:, 1]
        x, y = x + u * cos(turn) - v * sin(turn), y + u * sin(turn) + v * cos(turn)
        return self.poly(colour, *np.stack([x, y], 1).ravel())

    def line(self, colour: Colour, width: float, *xy: float) -> "Pen":
        """A line of a width through the points, with round joints."""
        points = list(zip(xy[::2], xy[1::2], strict=True))
        for x, y in points:
            self.oval(colour, x, y, width / 2)
        for (x, y), (u, v) in zip(points, points[1:], strict=False):
            half = width / 2 / max(hypot(u - x, v - y), 1e-6)
            dx, dy = (y - v) * half, (u - x) * half
            self.poly(colour, x + dx, y + dy, u + dx, v + dy, u - dx, v - dy, x - dx, y - dy)
        return self

    def ring(self, colour: Colour, x: float, y: float, r: float, width: float) -> "Pen":
        return self.line(colour, width, *([x, y] + r * np.vstack([CIRCLE, CIRCLE[:1]])).ravel())


def around(n: int, start: float = 0.0) -> np.ndarray:
    """n angles around a circle."""
    return start + np.arange(n) * 2 * pi / n


CIRCLE = np.stack([np.cos(around(36)), np.sin(around(36))], 1)
