"""Scenes: the embedded data set, drawn by this file with Pillow, so that everything runs with no download.

Outdoor and indoor scenes of 22 named things. Which things appear together follows the place
(PLACES), so labels correlate in groups; unnamed things (bushes, crates, balloons, ...) are
clutter. Every image is a function of (seed, split, index) alone: it can be drawn by itself,
in any order and in any process, with the same bytes.
"""

import fcntl
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from math import cos, hypot, pi, sin
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from mlclib.datasets.base import Dataset, Split
from mlclib.errors import UserError
from mlclib.files import write_text

VERSION = 2  # of the drawing code: raise it with every change that changes a picture
SPLITS = ("train", "test")
LABELS = (
    *("sun", "cloud", "mountain", "tree", "flower", "house", "car", "bus", "bicycle", "boat", "person"),
    *("dog", "cat", "bird", "cow", "chair", "table", "lamp", "clock", "bottle", "cup", "ball"),
)
SIDE = 256  # pixels of a stored image
FINE = 2  # a scene is drawn FINE times larger and then reduced, for smooth edges
HIDDEN, HALF_HIDDEN = 0.25, 0.40  # visible share below which a thing is not labelled, or is difficult
SMALLEST = 0.04  # of the side; a thing whose visible box is smaller is difficult

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


class Thing(NamedTuple):
    """How a thing is drawn, where it stands unless its place says otherwise, and its size.

    where: sky, far (on the horizon), ground, front (at the lower edge), wall, or top (of a counter).
    small, large: its longer side as a share of the image's side.
    """

    draw: Callable[[Pen], None]
    where: str
    small: float
    large: float


THINGS: dict[str, Thing] = {}


def thing(where: str, small: float, large: float) -> Callable[[Callable[[Pen], None]], Callable[[Pen], None]]:
    def enter(draw: Callable[[Pen], None]) -> Callable[[Pen], None]:
        THINGS[draw.__name__] = Thing(draw, where, small, large)
        return draw

    return enter


# The drawings: coordinates by the row, which a formatter would pull apart.
# fmt: off

@thing("sky", .05, .18)
def sun(p: Pen) -> None:
    colour, kind = p.paint("ffdc50 ffb43c fff0aa fa8a3c"), p.kind(3)
    if kind == 0:
        for a in around(8 + p.kind(6)):
            c, s = cos(a), sin(a)
            p.poly(colour, 1.65 * c, 1.65 * s, c - .13 * s, s + .13 * c, c + .13 * s, s - .13 * c)
    elif kind == 1:
        p.oval(shade(colour, .93), 0, 0, 1.3)
    p.oval(colour, 0, 0, 1)

@thing("sky", .08, .40)
def cloud(p: Pen) -> None:
    colour = p.paint("fafafc e1e4eb bec3cd f5e1d7")
    xs = np.linspace(-1, 1, 5 + p.kind(3))
    blobs = [(x, p.between(.1, .3), p.between(.38, .5) * (1.2 - .6 * abs(x))) for x in xs]
    for drop, tone in ((.1, .87), (0, 1)):
        for x, y, r in blobs:
            p.oval(shade(colour, tone), x, y - drop, r)

@thing("far", .20, .60)
def mountain(p: Pen) -> None:
    colour, x, h = p.paint("78737d 64786e 8c7864 6e7d96"), p.between(-.2, .2), p.between(.6, .95)
    a, b = p.between(.4, .6), p.between(.4, .6)
    p.poly(colour, -1, 0, x - a, h * .45, x, h, x + b, h * .5, 1, 0)
    p.poly(shade(colour, .75), x, h, x + b, h * .5, 1, 0, x + .15, 0, x + .05, h / 2)
    if p.chance(.65):
        s = p.between(.3, .5)
        p.poly((240, 243, 248), x, h, x + b * s, h - s * h * .5, x + .07, h - s * h * .4, x, h - s * h * .7,
               x - .07, h - s * h * .4, x - a * s, h - s * h * .55)

@thing("far", .10, .60)
def tree(p: Pen) -> None:
    trunk, green, kind = p.paint("64462d 503c32 826e5f"), p.paint(LEAF), p.kind(4)
    if kind == 0:  # a conifer
        p.rect(trunk, -.07, 0, .07, .4)
        for i, y in enumerate((.3, .65, 1.0)):
            p.poly(shade(green, 1 + .07 * i), -.55 + .12 * i, y, .55 - .12 * i, y, 0, y + .75)
    elif kind == 1:  # a palm
        x = p.between(-.3, .3)
        p.line(trunk, .11, 0, 0, x * .3, .6, x, 1.3)
        for a in np.linspace(-.5, pi + .5, 8) + p.g.normal(0, .1, 8):
            u, v = x + .35 * cos(a), 1.3 + .3 * sin(a)
            p.poly(shade(green, p.between(.8, 1.1)), x, 1.3, u, v + .1, 2 * u - x, 1.15 + .4 * sin(a), u, v - .06)
    else:
        p.line(trunk, .16, 0, 0, 0, .9).line(trunk, .07, 0, .5, p.between(-.3, .3), .9)
        tall = p.between(.3, .55)
        for a in (*around(9, p.between(0, 1)), 0, 2, 4):
            p.oval(shade(green, p.between(.8, 1.15)), .34 * cos(a), 1.1 + tall * sin(a), .3, .28)
        p.oval(green, 0, 1.1, .32, tall)

@thing("ground", .05, .30)
def flower(p: Pen) -> None:
    green, colour, x = p.paint(LEAF), p.paint("dc323c f0c83c f0f0f5 aa50b4 f082aa"), p.between(-.2, .2)
    p.line(green, .06, 0, 0, x / 2, .5, x, 1).oval(green, .18, .35, .2, .07, .6)
    p.oval(green, -.18, .25, .2, .07, 2.5)
    if p.chance(.3):  # a tulip
        p.poly(colour, x - .25, 1.45, x - .2, 1, x, .9, x + .2, 1, x + .25, 1.45, x + .12, 1.2, x, 1.5, x - .12, 1.2)
    else:
        for a in around(5 + p.kind(5), p.between(0, 1)):
            p.oval(shade(colour, p.between(.88, 1.05)), x + .26 * cos(a), 1.1 + .26 * sin(a), .2, .11, a)
        p.oval(p.paint("fac83c 6e4628"), x, 1.1, .13)

@thing("far", .12, .50)
def house(p: Pen) -> None:
    wall, roof = p.paint("dccdb4 be6e5a ebebe6 aab4be e1be78"), p.paint("964637 50505a 6e4b37 465a50")
    glass, floors, w = p.paint("78a0be 3c4b5f fae18c"), 1 + p.kind(2), p.between(.5, .9)
    h, flat, door = .6 * floors, .65 * w * p.kind(2), (p.kind(3) - 1) * w / 2
    if p.chance(.6):
        p.rect(shade(roof, .8), w * .35, h, w * .55, h + .62)
    p.rect(wall, -w, 0, w, h).poly(roof, -w - .12, h, -flat, h + .55, flat, h + .55, w + .12, h)
    p.rect(shade(roof, .7), door - .1, 0, door + .1, .4)
    for y in (.18, .78)[:floors]:
        for x in (-.6 * w, 0, .6 * w):
            if y > .5 or abs(x - door) > .25:
                p.rect((240, 240, 240), x - .13, y - .03, x + .13, y + .28).rect(glass, x - .1, y, x - .01, y + .25)
                p.rect(glass, x + .01, y, x + .1, y + .25)

def wheel(p: Pen, x: float, y: float, r: float) -> None:
    for colour, part in (((35, 35, 38), 1), ((165, 165, 170), .55), ((90, 90, 95), .2)):
        p.oval(colour, x, y, r * part)

@thing("ground", .08, .45)
def car(p: Pen) -> None:
    colour, glass = p.paint(), p.paint("96b9cd 3c4b5a")
    front, back, roof = ((.3, -.45, .62), (.35, -.85, .66), (.45, -.95, .8))[p.kind(3)]  # saloon, estate, van
    p.poly(colour, -1, .15, 1, .15, 1, .36, .9, .42, front + .22, .46, front - .08, roof,
           back + .15, roof, back - .08, .46, -.98, .42)
    p.rect(shade(colour, .75), -1, .12, 1, .2)
    p.poly(glass, front + .13, .44, front - .11, roof - .05, -.08, roof - .05, -.08, .44)
    p.poly(glass, -.14, .44, -.14, roof - .05, back + .2, roof - .05, back + .06, .44)
    p.oval((255, 240, 180), .95, .33, .05).oval((190, 30, 30), -.96, .34, .04)
    for x in (-.58, .6):
        wheel(p, x, .15, .17)

@thing("ground", .13, .58)
def bus(p: Pen) -> None:
    colour, glass = p.paint("c82828 f0be32 3264b4 469650 ebebeb"), p.paint("96b9cd 3c4b5a")
    decks, n = 1 + p.chance(.3), 4 + p.kind(3)
    h = .33 + .43 * decks
    p.rect(colour, -1.1, .12, 1.1, h).rect(shade(colour, .7), -1.1, .12, 1.1, .22)
    p.rect(shade(colour, 1.2), -1.06, h - .04, 1.06, h + .03)
    for y in (.4, .83)[:decks]:
        for x in np.linspace(-1.0, .75, n, endpoint=False):
            p.rect(glass, x, y, x + 1.75 / n - .06, y + .26)
        p.rect(shade(glass, 1.1), .8, y - (.2 if y < .5 else 0), 1.06, y + .27)
    for x in (-.65, .6):
        wheel(p, x, .14, .15)

@thing("ground", .09, .38)
def bicycle(p: Pen) -> None:
    colour, tyre, w = p.paint(), p.paint("28282d 5a504b"), p.between(.06, .09)
    for x in (-.62, .62):
        p.ring(tyre, x, .38, .36, w)
        for a in around(8):
            p.line((150, 150, 155), .015, x, .38, x + .36 * cos(a), .38 + .36 * sin(a))
    p.line(colour, w, -.62, .38, -.05, .36, .42, .82, -.22, .8, -.62, .38).line(colour, w, -.05, .36, -.26, .95)
    p.line(colour, w, .62, .38, .4, .98, .58, 1.05).oval((40, 35, 35), -.26, .98, .16, .05)

@thing("ground", .06, .48)
def boat(p: Pen) -> None:
    hull, kind, x = p.paint("aa3c32 ebebeb 3c5082 785032 3c786e"), p.kind(3), p.between(-.15, .15)
    if kind == 0:  # it sails
        sail = p.paint("f5f5f0 f0c85a d25046 78a0c8")
        p.line((90, 70, 60), .05, x, .3, x, 1.75).poly(sail, x + .05, 1.7, x + .05, .45, x + .75, .45)
        p.poly(shade(sail, .88), x - .05, 1.5, x - .05, .45, x - .6, .45)
    elif kind == 1:  # it has a cabin and a funnel
        p.rect(p.paint("c83c32 465a78"), -.2, .6, 0, .95).rect((235, 235, 230), -.45, .3, .35, .68)
        for u in (-.38, -.12, .14):
            p.rect((90, 130, 160), u, .44, u + .16, .58)
    p.poly(hull, -.95, .32, -.7, 0, .65, 0, 1, .36)
    p.poly(shade(hull, .7 if kind == 2 else 1.3), -.95, .32, -.92, .26, .96, .29, 1, .36)
    if kind == 2:  # it is rowed
        p.line((190, 160, 110), .05, -.3, .55, .35, -.1).oval((190, 160, 110), .37, -.1, .14, .06, -.8)

@thing("ground", .08, .50)
def person(p: Pen) -> None:
    skin, hair = p.paint("f0c8aa c8966e 8c5f41 5f4132"), p.paint("32231e 785028 d2af64 969696")
    shirt, trousers, stride = p.paint(), p.paint("323c64 46413c 96825a 28282d"), p.between(.02, .2)
    for s in (-1, 1):
        foot = s * (stride + .06)
        p.line(trousers, .13, s * .06, .75, s * (.07 + stride / 2), .4, foot, .03)
        p.oval((50, 40, 40), foot + .05, .02, .1, .045)
    if p.chance(.35):  # a skirt or a long coat
        p.poly(shirt, -.13, .8, .13, .8, .27, .4, -.27, .4)
    for s in (-1, 1):
        a = p.between(-1.3, 1.1) if p.chance(.3) else p.between(-1.4, -.9)
        x, y = s * (.17 + .36 * cos(a)), 1.18 + .44 * sin(a)
        p.line(shade(shirt, .85), .1, s * .16, 1.18, x, y).oval(skin, x, y, .06)
    p.poly(shirt, -.2, 1.22, .2, 1.22, .15, .7, -.15, .7).oval(shirt, 0, 1.21, .2, .07)
    p.rect(skin, -.05, 1.2, .05, 1.35).oval(hair, 0, 1.49, .165, .175).oval(skin, .03, 1.45, .135, .15)
    if p.chance(.25):
        hat = p.paint()
        p.oval(hat, 0, 1.57, .26, .05).oval(hat, 0, 1.62, .15, .1)

@thing("ground", .08, .42)
def dog(p: Pen) -> None:
    coat = p.paint("96643c 463732 d7be96 ebe6dc 787370")
    dark = shade(coat, .72)
    p.line(coat, .09, -.55, .6, -.75, .75, -.85, p.between(.75, 1.1))
    for x, colour in ((-.48, coat), (-.3, dark), (.3, dark), (.44, coat)):
        p.line(colour, .13, x, .5, x + p.between(-.1, .1), .05)
    p.oval(coat, 0, .55, .6, .21).line(coat, .26, .42, .6, .62, .85).oval(coat, .68, .92, .2, .17)
    p.line(coat, .15, .75, .87, .98, .83).oval((30, 25, 25), 1.04, .86, .05).oval((25, 20, 20), .76, .97, .03)
    p.oval(dark, .55, .86, .08, .19, -.2)
    if p.chance(.5):
        p.oval(dark, p.between(-.3, .1), .62, .18, .1)
    if p.chance(.4):
        p.line(p.paint("c82828 2850b4"), .06, .43, .82, .66, .7)

@thing("ground", .08, .40)
def cat(p: Pen) -> None:
    coat, eye = p.paint("dc8c46 6e6e73 323034 ebe4d7 a08264"), p.paint("bed250 5aa0b4")
    dark = shade(coat, .7)
    if p.chance(.5):  # it sits and looks at us
        p.line(dark, .12, .25, .1, .6, .12, .75, .35, .65, .55).oval(coat, 0, .4, .36, .42)
        p.oval(shade(coat, 1.12), 0, .4, .18, .3)
        for s in (-1, 1):
            p.oval(coat, s * .15, .05, .13, .08)
        x, y = 0, .98
    else:  # it walks
        p.line(coat, .1, -.5, .55, -.85, .6, -1, .9, -.9, 1.1)
        for x, colour in ((-.45, coat), (-.28, dark), (.25, dark), (.42, coat)):
            p.line(colour, .12, x, .4, x + p.between(-.1, .1), .05)
        p.oval(coat, 0, .5, .58, .2)
        for x in (-.3, -.1, .1):
            p.line(dark, .05, x, .68, x + .03, .5)
        x, y = .6, .78
    p.oval(coat, x, y, .29, .24).oval((220, 130, 130), x, y - .06, .04, .03)
    for s in (-1, 1):
        p.poly(coat, x + s * .28, y, x + s * .25, y + .42, x + s * .03, y + .2)
        p.poly((225, 150, 150), x + s * .22, y + .14, x + s * .22, y + .32, x + s * .1, y + .22)
        p.oval(eye, x + s * .12, y + .04, .06).oval((20, 20, 20), x + s * .12, y + .04, .025, .05)
        p.line((240, 240, 240), .012, x + s * .08, y - .08, x + s * .4, y - .1)

@thing("sky", .045, .20)
def bird(p: Pen) -> None:
    coat, beak = p.paint("465064 b43c32 ebebeb 3c6ea0 3c3737 d2aa3c"), p.paint("f0aa32 46413c")
    dark = shade(coat, .7)
    if p.where == "sky":  # it flies
        up = p.between(-.2, .6)
        p.poly(dark, .2, .1, -.15, .1, -.35, .35 + up, -.1, .8 + up / 2, 0, .4 + up / 2)
        p.poly(dark, -.4, .05, -.95, .14, -.9, -.08).oval(coat, 0, 0, .5, .17, .1)
        p.poly(shade(coat, .85), .25, .05, -.2, .05, -.55, .2 + up, -.75, .75 + up * .6, -.2, .5 + up / 2)
        x, y = .5, .12
    else:  # it stands
        for x in (-.05, .1):
            p.line(beak, .04, x, .35, x + .03, 0, x + .13, 0)
        p.poly(dark, -.3, .55, -.95, .38, -.85, .25, -.3, .35).oval(coat, 0, .5, .46, .26, .3)
        p.oval(shade(coat, 1.3), .22, .5, .15, .17).oval(dark, -.12, .5, .33, .15, .15)
        x, y = .38, .82
    p.poly(beak, x + .14, y + .07, x + .42, y - .02, x + .14, y - .07).oval(coat, x, y, .18)
    p.oval((15, 15, 15), x + .06, y + .04, .035)

@thing("ground", .08, .42)
def cow(p: Pen) -> None:
    pairs = ("f0eee8", "2d2828"), ("965a37", "ebe1d2"), ("3c3230", "3c3230"), ("f0ebe1", "965532")
    coat, patch = map(p.paint, pairs[p.kind(4)])
    p.line(shade(coat, .8), .05, -.78, .95, -.9, .7, -.88, .45)
    for x, tone in ((-.65, 1), (-.45, .75), (.4, .75), (.6, 1)):
        p.line(shade(coat, tone), .14, x, .5, x, .06).rect((50, 40, 40), x - .07, 0, x + .07, .07)
    p.oval((235, 180, 175), -.3, .42, .16, .1).rect(coat, -.68, .45, .6, .98)
    for x, y, rx, ry in ((-.66, .73, .14, .26), (.6, .74, .18, .25), (0, .48, .55, .1)):
        p.oval(coat, x, y, rx, ry)
    for _ in range(4):
        p.oval(patch, p.between(-.55, .45), p.between(.6, .86), p.between(.1, .2), p.between(.07, .12), p.between(0, 3))
    y = p.between(.4, 1.05)  # it grazes, or looks up
    p.line(coat, .3, .62, .82, .85, y).line((215, 205, 180), .045, .85, y + .15, .95, y + .3)
    p.oval(coat, .93, y, .22, .15, -.6).oval(patch, .78, y + .12, .13, .06, .4)
    p.oval((225, 170, 160), 1.08, y - .12, .11, .1).oval((15, 15, 15), .94, y + .06, .025)

@thing("ground", .10, .48)
def chair(p: Pen) -> None:
    colour, seat, kind = p.paint(WOOD), p.paint(), p.kind(3)
    if kind == 0:  # an armchair
        p.rect(seat, -.5, .1, .5, 1.05).oval(seat, 0, 1.05, .5, .12).rect(shade(seat, 1.12), -.4, .35, .4, .55)
        p.rect(shade(seat, .85), -.4, .12, .4, .36)
        for s in (-1, 1):
            p.rect(shade(seat, .75), s * .51 - .11, .08, s * .51 + .11, .62)
            p.oval(shade(seat, .75), s * .51, .62, .11).rect((60, 45, 40), s * .5 - .05, 0, s * .5 + .05, .1)
    elif kind == 1:  # from the side
        p.line(colour, .08, -.38, 0, -.35, .6, -.45, 1.3).line(colour, .08, .38, 0, .33, .6)
        p.line(shade(colour, .8), .05, -.36, .25, .36, .25).rect(seat, -.4, .56, .42, .68)
    else:  # from the front, a little from above
        for s in (-1, 1):
            p.line(shade(colour, .75), .07, s * .27, .15, s * .27, .7).line(colour, .07, s * .3, .7, s * .3, 1.4)
            p.line(colour, .08, s * .38, 0, s * .38, .55)
        for y in (.92, 1.1, 1.28):
            p.rect(colour, -.3, y, .3, y + .1)
        p.poly(seat, -.44, .52, .44, .52, .33, .76, -.33, .76).rect(shade(seat, .75), -.44, .46, .44, .53)

@thing("ground", .18, .55)
def table(p: Pen) -> None:
    colour, h, kind = p.paint(WOOD), p.between(.55, .9), p.kind(3)
    dark = shade(colour, .75)
    if kind == 0:  # round, on one foot
        p.line(dark, .12, 0, .05, 0, h)
        for tone, y, rx, ry in ((dark, .05, .35, .07), (dark, h - .06, .85, .16), (colour, h, .85, .16)):
            p.oval(tone, 0, y, rx, ry)
        return
    for s in (-1, 1):
        p.line(shade(colour, .6), .07, s * .68, .18, s * .68, h).line(dark, .09, s * .92, 0, s * .92, h - .1)
    p.poly(colour, -1, h - .06, 1, h - .06, .75, h + .16, -.75, h + .16).rect(dark, -1, h - .14, 1, h - .05)
    if kind == 1:  # with a cloth
        cloth = p.paint()
        p.poly(cloth, -.55, h - .06, .55, h - .06, .42, h + .16, -.42, h + .16)
        p.rect(shade(cloth, .8), -.55, h - .32, .55, h - .06)

@thing("ground", .14, .50)
def lamp(p: Pen) -> None:
    metal, cloth, y = p.paint("3c3c41 b49650 96969b"), p.paint("fae6aa e67850 f0f0eb 78aaa0"), 0
    if p.where == "ground":  # in a street
        p.rect(metal, -.1, 0, .1, .15).line(metal, .08, 0, 0, 0, 1.9, .15, 2.05, .45, 2.05)
        p.poly(metal, .25, 1.98, .85, 1.98, .7, 2.14, .35, 2.14).oval((255, 245, 190), .55, 1.98, .24, .08)
        return
    if p.where == "wall":  # it hangs
        p.line(metal, .035, 0, .4, 0, 1.1).oval((255, 250, 210), 0, .02, .13)
    else:
        y = .6 if p.where == "top" or p.chance(.4) else 1.5
        p.oval(metal, 0, .04, .31, .06).line(metal, .08, 0, 0, 0, y + .1)
        if y < 1:
            p.oval(p.paint(), 0, .28, .17, .24)
    p.poly(cloth, -.4, y, .4, y, .22, y + .48, -.22, y + .48).oval(shade(cloth, 1.15), 0, y, .4, .06)

@thing("wall", .06, .22)
def clock(p: Pen) -> None:
    rim, face, kind = p.paint(), p.paint("f5f2e6 fafafa e6d7b4 32323c"), p.kind(3)
    ink = (30, 30, 35) if sum(face) > 380 else (240, 240, 240)
    if kind == 0:
        p.rect(rim, -1.1, -1.1, 1.1, 1.1)
    elif kind == 1:  # an alarm clock
        for s in (-1, 1):
            p.oval(shade(rim, .8), s * .6, .95, .4, .3, -s * .6)
            p.line(shade(rim, .7), .18, s * .5, -.7, s * .8, -1.2)
    p.oval(rim, 0, 0, 1.08).oval(face, 0, 0, .88)
    for a in around(12):
        p.line(ink, .09, .68 * cos(a), .68 * sin(a), .78 * cos(a), .78 * sin(a))
    for length, width in ((.45, .16), (.66, .11)):
        a = p.between(0, 2 * pi)
        p.line(ink, width, 0, 0, length * cos(a), length * sin(a))

@thing("top", .07, .28)
def bottle(p: Pen) -> None:
    colour, w, y = p.paint("326e46 784b28 aacdd7 d23c3c e6e6eb 3c5a96"), p.between(.2, .3), p.between(.75, 1)
    p.poly(colour, -w, .03, .03 - w, 0, w - .03, 0, w, .03, w, y, .09, y + .28, .08, 1.5,
           -.08, 1.5, -.09, y + .28, -w, y)
    p.rect(p.paint("c82828 dcbe50 f0f0f0 3c3c3c"), -.1, 1.4, .1, 1.55)
    p.rect(p.paint("f5f0e1 f0c850 dc5046"), -w, .22, w, p.between(.47, .67))
    p.rect(shade(colour, 1.4), -w * .7, .7, -w * .45, y)

@thing("top", .05, .20)
def cup(p: Pen) -> None:
    colour, w, y = p.paint(), p.between(.32, .45), .75
    p.ring(shade(colour, .85), w + .08, .4, .2, .09)
    if p.chance(.4):  # a tea cup on its saucer
        w, y = w + .12, .62
        p.oval(shade(colour, .9), 0, 0, .8, .1).poly(colour, -w, y, w, y, w - .2, .04, .2 - w, .04)
    else:
        p.rect(colour, -w, 0, w, y).oval(colour, 0, 0, w, .08)
        if p.chance(.5):
            p.rect(p.paint(), -w, .25, w, .42)
    p.oval(shade(colour, 1.15), 0, y, w, .1).oval(p.paint("5a3723 a05a28 ebe1d2"), 0, y - .01, w - .06, .07)

@thing("ground", .06, .24)
def ball(p: Pen) -> None:
    colour, kind, turn = p.paint(), p.kind(3), p.between(0, 2 * pi)
    c, s = cos(turn), sin(turn)
    p.oval(colour if kind else (242, 242, 242), 0, 0, 1)
    if kind == 0:  # a football
        for x, y, r in [(0, 0, .32), *((.82 * cos(a), .82 * sin(a), .22) for a in around(5, turn))]:
            p.line((40, 40, 45), .05, 0, 0, x, y)
            p.poly((40, 40, 45), *(v for a in around(5, turn) for v in (x + r * cos(a), y + r * sin(a))))
    elif kind == 1:  # a beach ball
        other = p.paint("f5f5f5 f0d246 325ab4")
        for a in around(3, turn):
            p.poly(other, 0, 0, *(v for b in np.linspace(a, a + pi / 3, 8) for v in (cos(b), sin(b))))
        p.oval((245, 245, 245), 0, 0, .14)
    else:  # seams, as a basketball has
        p.line((50, 40, 35), .08, -c, -s, c, s).line((50, 40, 35), .08, s, -c, -s, c)
        for side in (-1, 1):
            arc = [(side * (.95 - .5 * cos(t)), .8 * sin(t)) for t in np.linspace(-1, 1, 9)]
            p.line((50, 40, 35), .07, *(v for x, y in arc for v in (x * c - y * s, x * s + y * c)))

# Clutter: drawn as the named things are, and never labelled.

@thing("ground", .07, .30)
def bush(p: Pen) -> None:
    green = p.paint(LEAF)
    for _ in range(9):
        p.oval(shade(green, p.between(.75, 1.1)), p.between(-.7, .7), p.between(.15, .45), .35, .28)

@thing("ground", .05, .22)
def stone(p: Pen) -> None:
    colour, r = p.paint("828282 6e645f a0968c"), p.g.uniform(.8, 1.1, 7)
    p.poly(colour, *(v for q, a in zip(r, np.linspace(0, pi, 7), strict=True) for v in (q * cos(a), .6 * q * sin(a))))
    p.oval(shade(colour, 1.15), -.2, .32, .4, .14)

@thing("ground", .08, .35)
def post(p: Pen) -> None:
    p.line(p.paint(WOOD), .09, 0, 0, 0, 1.8)
    (lambda: p.oval(p.paint(), 0, 1.8, .28), lambda: p.rect(p.paint(), -.4, 1.5, .4, 1.95), lambda: None)[p.kind(3)]()

@thing("ground", .06, .20)
def crate(p: Pen) -> None:
    colour = p.paint(WOOD)
    p.rect(colour, -.6, 0, .6, .9)
    for y in (0, .28, .58, .85):
        p.rect(shade(colour, .7), -.6, y, .6, y + .05)
    p.line(shade(colour, .8), .07, -.55, .05, .55, .85)

@thing("ground", .08, .30)
def puddle(p: Pen) -> None:
    colour = p.paint("788ca0 5a5a5a 8c785a")
    for tone, x, y, rx, ry in ((1, 0, .1, 1, .13), (1, .4, .16, .6, .12), (1.2, -.2, .12, .4, .04)):
        p.oval(shade(colour, tone), x, y, rx, ry)

@thing("ground", .15, .50)
def fence(p: Pen) -> None:
    colour = p.paint(WOOD)
    for y in (.2, .45):
        p.rect(colour, -1.2, y, 1.2, y + .07)
    for x in np.linspace(-1.15, 1.02, 8):
        p.poly(shade(colour, 1.1), x, 0, x + .13, 0, x + .13, .6, x + .065, .7, x, .6)

@thing("sky", .05, .18)
def balloon(p: Pen) -> None:
    colour = p.paint()
    p.line((120, 120, 120), .04, 0, 0, p.between(-.3, .3), -.7, 0, -1.4).oval(colour, 0, .7, .6, .75)
    p.oval(shade(colour, 1.25), -.2, .95, .12, .2)

@thing("wall", .07, .28)
def frame(p: Pen) -> None:
    w, h = p.between(.4, .9), p.between(.4, .9)
    p.rect(p.paint(WOOD), -w, -h, w, h).rect(p.paint(), -w * .85, -h * .85, w * .85, h * .85)
    for _ in range(3):
        p.oval(p.paint(), p.between(-.5, .5) * w, p.between(-.5, .5) * h, .3 * w, .3 * h)

@thing("top", .06, .18)
def books(p: Pen) -> None:
    for x in np.arange(6) * .16:
        p.rect(p.paint(), x, 0, x + p.between(.1, .15), p.between(.6, .9))

@thing("top", .06, .20)
def vase(p: Pen) -> None:
    colour = p.paint()
    p.rect(colour, -.2, 0, .2, .3).oval(colour, 0, .42, .36, .42).poly(colour, -.14, .75, .14, .75, .28, 1, -.28, 1)
    p.rect(shade(colour, .7), -.35, .38, .35, .46)

@thing("top", .06, .20)
def pot(p: Pen) -> None:
    colour = p.paint("787880 3c3c41 b43c32 be6e46")
    p.line(shade(colour, .7), .1, -.85, .5, .85, .5).rect(colour, -.6, 0, .6, .6)
    p.oval(shade(colour, 1.1), 0, .62, .62, .1).oval(shade(colour, .6), 0, .74, .1, .07)

@thing("wall", .20, .42)
def window(p: Pen) -> None:
    glass = p.paint("bed7eb 3c4664 ebe1be")
    p.rect((235, 235, 230), -.6, -.7, .6, .7)
    for x, y in ((-.52, -.62), (-.52, .06), (.06, -.62), (.06, .06)):
        p.rect(glass, x, y, x + .46, y + .56)

# fmt: on


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


def _draw_to(folder: Path, seed: int, split: int, index: int) -> dict:
    picture, annotation = draw_scene(seed, split, index)
    name = f"{SPLITS[split]}_{index:05d}"
    picture.save(folder / "images" / f"{name}.jpg", quality=90)
    return {"name": name, **annotation}


def _draw_all(folder: Path, parameters: dict) -> None:
    (folder / "images").mkdir(parents=True)
    jobs = [(folder, parameters["seed"], i, k) for i, split in enumerate(SPLITS) for k in range(parameters[split])]
    if len(jobs) < 100:  # to start processes would take longer
        done = [_draw_to(*job) for job in jobs]
    else:  # spawned: a fork of a notebook's kernel, which has threads, can hang
        workers = min(os.cpu_count() or 1, len(jobs) // 50)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            done = list(pool.map(_draw_to, *zip(*jobs, strict=True), chunksize=20))
    images = {"train": done[: parameters["train"]], "test": done[parameters["train"] :]}
    write_text(folder / "scenes.json", json.dumps({"scenes": parameters, "images": images}))


def _parameters_of(root: Path) -> dict | None:
    """What the scenes in `root` were drawn with; None where there are none."""
    try:
        return json.loads((root / "scenes.json").read_text(encoding="utf-8")).get("scenes")
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _draw(root: Path, parameters: dict) -> None:
    """Draw beside `root` and rename when whole; one process at a time: another waits, and finds the scenes drawn."""
    root.parent.mkdir(parents=True, exist_ok=True)
    part, old = (root.with_name(f".{root.name}.{end}") for end in ("part", "old"))
    with open(root.with_name(f".{root.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _parameters_of(root) == parameters:
            return
        for left in (part, old):  # by a killed process
            shutil.rmtree(left, ignore_errors=True)
        _draw_all(part, parameters)
        if root.exists():
            root.rename(old)
        part.rename(root)
        shutil.rmtree(old, ignore_errors=True)


def _split(root: Path, records: list[dict]) -> Split:
    targets = np.full((len(records), len(LABELS)), -1, np.int8)
    boxes = []
    for row, record in zip(targets, records, strict=True):
        marks = [(LABELS.index(b["label"]), b["box"], b["difficult"]) for b in record["boxes"]]
        for column, _, difficult in marks:
            row[column] = max(row[column], 0 if difficult else 1)
        boxes.append(np.array([[c, *box] for c, box, difficult in marks if not difficult], np.float32).reshape(-1, 5))
    names = [r["name"] for r in records]
    return Split(names, [root / "images" / f"{n}.jpg" for n in names], targets, boxes)


def load(root: Path, *, train: int = 600, test: int = 400, seed: int = 0) -> Dataset:
    """The scenes in the folder `root`, drawn there first where they are not there with these sizes and this seed.

    A target is 0 (difficult) where all that is there of a label is less than HALF_HIDDEN visible or smaller
    than SMALLEST; a thing less than HIDDEN visible does not count. The boxes are the visible extents
    of the things that are present and not difficult.
    Raises UserError where `root` holds something else, or where a file of the set is missing.
    """
    root = Path(root)
    parameters = {"version": VERSION, "seed": seed, "train": train, "test": test, "labels": list(LABELS)}
    found = _parameters_of(root)
    if found is None and root.exists() and any(root.iterdir()):
        raise UserError(f"{root} holds files but no scenes (no scenes.json): name a new folder for the scenes")
    if found != parameters:
        _draw(root, parameters)
    images = json.loads((root / "scenes.json").read_text(encoding="utf-8"))["images"]
    splits = {key: _split(root, images[key]) for key in SPLITS}
    there = {p.name for p in (root / "images").glob("*.jpg")}
    for path in (p for split in splits.values() for p in split.paths):
        if path.name not in there:
            raise UserError(f"{path} is missing from the scenes: delete the folder {root}, and they are drawn again")
    return Dataset("scenes", LABELS, splits, version=str(VERSION))
