"""What stands in the scenes: a drawing a thing, named ones (the labels) and unnamed ones (clutter).

A reader may leave this file closed: each function draws one thing with a `Pen`, in the thing's own unit.
"""

from collections.abc import Callable
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from mlclib.datasets.scenes.pen import LEAF, WOOD, Pen, around, shade


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
