"""The embedded benchmark: street scenes drawn by program, in two domains.

*game* (the source) is clean, saturated and flat, like a video game. *camera* (the target) is hazy,
textured and noisy, like a photograph from a car. A scene is a list of objects placed in metres
in front of a pinhole camera and painted from far to near; colour, label and distance of every
pixel are painted together, so labels are exact and cost nothing.

The gap between the domains is tied to the classes: *each class has its own change of colour*
(from game to camera the dark road gets lighter and the light pavement darker), its own texture,
and other shapes, places and frequencies. No single colour transform of whole images undoes that.

`write_streets` writes the scenes in the published folder layouts of GTA5 and Cityscapes, so the
readers, and everything after them, cannot tell them from the real data sets.
"""

from __future__ import annotations

import glob
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm.auto import tqdm

from labor_lib.errors import InputError

# --------------------------------------------------------------------------------------------
# Classes: the 34 Cityscapes label ids, of which the streets hold 14
# --------------------------------------------------------------------------------------------

ROAD, SIDEWALK, BUILDING, FENCE, POLE, LIGHT, SIGN = 7, 8, 11, 13, 17, 19, 20
VEGETATION, TERRAIN, SKY, PERSON, CAR, BUS, BICYCLE = 21, 22, 23, 24, 26, 28, 33

STREET_IDS = (
    *(ROAD, SIDEWALK, BUILDING, FENCE, POLE, LIGHT, SIGN),
    *(VEGETATION, TERRAIN, SKY, PERSON, CAR, BUS, BICYCLE),
)

# The colours of label ids 0 to 33 in Cityscapes, and in the palette PNGs of GTA5.
LABEL_COLOURS = (
    *((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0), (81, 0, 81)),
    *((128, 64, 128), (244, 35, 232), (250, 170, 160), (230, 150, 140), (70, 70, 70)),
    *((102, 102, 156), (190, 153, 153), (180, 165, 180), (150, 100, 100), (150, 120, 90)),
    *((153, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35)),
    *((152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70)),
    *((0, 60, 100), (0, 0, 90), (0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
)

# --------------------------------------------------------------------------------------------
# What the two domains look like. Every entry of GAME has its partner in CAMERA, at the same
# place: a domain with a gap between 0 and 1 mixes each entry with its partner.
# --------------------------------------------------------------------------------------------

Colour = tuple[int, int, int]
Span = tuple[float, float]  # lowest and highest value

GAME_PALETTE: dict[str, tuple[Colour, ...]] = {
    "road": ((62, 64, 74), (70, 70, 80), (58, 62, 72)),
    "line": ((238, 238, 228),),
    "sidewalk": ((205, 178, 165), (196, 170, 160), (212, 188, 170)),
    "kerb": ((230, 222, 212),),
    "building": (
        *((226, 196, 146), (208, 122, 100), (152, 172, 206)),
        *((232, 218, 184), (190, 152, 190), (214, 160, 110)),
    ),
    "roof": ((176, 70, 56), (150, 84, 70), (120, 76, 96)),
    "window": ((96, 156, 214),),
    "frame": ((244, 244, 238),),
    "door": ((120, 70, 45), (50, 90, 140), (150, 44, 40)),
    "fence": ((236, 236, 236), (158, 104, 62)),
    "pole": ((58, 84, 72), (66, 76, 90)),
    "light": ((30, 30, 32),),
    "sign": ((30, 70, 200), (210, 30, 40), (30, 140, 70), (30, 80, 190)),
    "sign_face": ((240, 240, 236),),
    "vegetation": ((50, 150, 40), (72, 172, 52), (40, 132, 50)),
    "trunk": ((112, 76, 46),),
    "terrain": ((122, 192, 72), (142, 202, 82)),
    "sky_top": ((70, 140, 235), (92, 160, 240), (60, 126, 226)),
    "sky_low": ((186, 220, 250), (215, 230, 250), (196, 222, 246)),
    "shirt": ((220, 40, 40), (40, 80, 220), (240, 200, 40), (240, 240, 240), (40, 180, 90)),
    "trousers": ((50, 60, 130), (60, 60, 64), (150, 120, 80)),
    "car": ((215, 30, 35), (35, 80, 205), (240, 195, 40), (235, 235, 240), (40, 160, 80)),
    "glass": ((54, 76, 98),),
    "bus": ((240, 190, 30), (220, 60, 40), (236, 140, 40)),
    "bicycle": ((200, 40, 40), (40, 60, 180)),
}

CAMERA_PALETTE: dict[str, tuple[Colour, ...]] = {
    "road": ((134, 131, 127), (122, 119, 116), (143, 141, 138)),
    "line": ((186, 184, 176),),
    "sidewalk": ((106, 104, 106), (118, 112, 108), (94, 96, 100)),
    "kerb": ((150, 147, 142),),
    "building": (
        *((118, 98, 86), (126, 86, 72), (98, 99, 104)),
        *((150, 138, 124), (108, 82, 72), (132, 118, 106)),
    ),
    "roof": ((74, 68, 68), (90, 74, 68), (64, 64, 70)),
    "window": ((62, 66, 74),),
    "frame": ((142, 138, 132),),
    "door": ((62, 52, 48), (50, 54, 60), (76, 60, 52)),
    "fence": ((78, 90, 82), (66, 70, 78)),
    "pole": ((150, 150, 148), (120, 118, 114)),
    "light": ((112, 102, 62),),
    "sign": ((192, 172, 76), (206, 206, 202), (92, 104, 122), (160, 84, 62)),
    "sign_face": ((184, 182, 176),),
    "vegetation": ((74, 76, 50), (104, 90, 54), (54, 62, 46)),
    "trunk": ((76, 68, 60),),
    "terrain": ((140, 126, 88), (120, 112, 78)),
    "sky_top": ((132, 168, 210), (152, 176, 204), (116, 158, 212)),
    "sky_low": ((206, 216, 224), (210, 212, 214), (198, 212, 226)),
    "shirt": ((54, 54, 62), (74, 80, 96), (120, 72, 62), (140, 136, 128), (62, 72, 62)),
    "trousers": ((42, 46, 58), (56, 54, 52), (84, 76, 66)),
    "car": ((40, 42, 47), (74, 82, 98), (134, 136, 140), (192, 192, 194), (96, 44, 42)),
    "glass": ((46, 50, 55),),
    "bus": ((198, 197, 192), (84, 112, 140), (150, 152, 118)),
    "bicycle": ((48, 50, 54), (72, 64, 60)),
}

SKIN = ((226, 182, 152), (150, 106, 80), (204, 160, 130))
HAIR = ((50, 36, 28), (30, 28, 28), (150, 110, 60))
TYRE = (24, 24, 26)


@dataclass(frozen=True)
class Style:
    """Everything in which the domains differ, bar the palette. Lengths are in metres."""

    # The camera and the street
    camera_height: Span
    focal: Span  # focal length, as a share of the image's width
    horizon: Span  # row of the horizon, as a share of the image's height
    roll: float  # largest tilt of the horizon: rows per column
    road_half_width: Span
    grass_chance: float  # that a strip of terrain lies behind a pavement
    # Objects: mean counts, chances and shapes
    building_height: Span
    building_chance: float
    gable_chance: float
    window_width: float  # share of a window's column
    fence_chance: float
    fence_solid: float  # chance of boards; else railings, which one sees through
    fence_height: Span
    tree_chance: float
    crown_blobs: float  # blobs of leaves in a tree's crown
    crown_blob_size: float  # their size, as a share of the crown's
    bare_blobs: float  # blobs left out where branches show
    pole_gap: Span  # between poles, signs and lights
    pedestrians: float  # on each pavement
    jaywalkers: float  # on the road
    bicycles: float  # on each side
    rider_chance: float
    parked_chance: float
    moving_cars: float
    crossing_chance: float  # of a car seen from its side
    bus_chance: float
    cloud_chance: float
    dash_chance: float  # that a dash of the centre line is there
    patches: float  # repaired places in the road, which differ in brightness only
    # Light and lens
    texture: tuple[float, float, float, float]  # strength at each of TEXTURE_SCALES
    shadow: float  # how much light a cast shadow on the ground takes
    haze: Span  # per metre of distance
    slope: float  # largest left-right and up-down change of light
    vignette: float  # light lost towards the corners
    exposure: float  # largest change of exposure
    tint: float  # largest change of the red and blue gain
    blur: Span  # radius in pixels of a 112-row image
    noise: Span  # standard deviation, grey levels


GAME = Style(
    camera_height=(1.45, 1.8),
    focal=(0.54, 0.62),
    horizon=(0.42, 0.48),
    roll=0.0,
    road_half_width=(3.6, 6.5),
    grass_chance=0.6,
    building_height=(5.0, 12.0),
    building_chance=0.72,
    gable_chance=0.5,
    window_width=0.56,
    fence_chance=0.5,
    fence_solid=1.0,
    fence_height=(1.0, 1.7),
    tree_chance=0.6,
    crown_blobs=13.0,
    crown_blob_size=0.46,
    bare_blobs=0.0,
    pole_gap=(5.0, 13.0),
    pedestrians=1.4,
    jaywalkers=0.15,
    bicycles=0.5,
    rider_chance=0.7,
    parked_chance=0.35,
    moving_cars=2.0,
    crossing_chance=0.25,
    bus_chance=0.45,
    cloud_chance=0.7,
    dash_chance=1.0,
    patches=0.0,
    texture=(0.0, 0.03, 0.0, 0.0),
    shadow=0.0,
    haze=(0.0, 0.0),
    slope=0.0,
    vignette=0.0,
    exposure=0.04,
    tint=0.0,
    blur=(0.0, 0.0),
    noise=(1.0, 1.0),
)

CAMERA = Style(
    camera_height=(2.0, 2.6),
    focal=(0.46, 0.54),
    horizon=(0.36, 0.44),
    roll=0.035,
    road_half_width=(3.2, 5.6),
    grass_chance=0.5,
    building_height=(6.0, 17.0),
    building_chance=0.8,
    gable_chance=0.1,
    window_width=0.40,
    fence_chance=0.55,
    fence_solid=0.4,
    fence_height=(1.1, 1.8),
    tree_chance=0.5,
    crown_blobs=34.0,
    crown_blob_size=0.25,
    bare_blobs=8.0,
    pole_gap=(4.0, 10.0),
    pedestrians=3.0,
    jaywalkers=0.7,
    bicycles=1.2,
    rider_chance=0.4,
    parked_chance=0.65,
    moving_cars=1.5,
    crossing_chance=0.25,
    bus_chance=0.4,
    cloud_chance=0.5,
    dash_chance=0.8,
    patches=3.0,
    texture=(0.03, 0.05, 0.05, 0.05),
    shadow=0.45,
    haze=(0.004, 0.010),
    slope=0.14,
    vignette=0.10,
    exposure=0.08,
    tint=0.03,
    blur=(0.3, 0.6),
    noise=(2.0, 5.0),
)

TEXTURE_SCALES = (1, 2, 6, 24)  # size of the speckles in drawn pixels of a 112-row image
# How strongly the texture shows on each class: leaves are rough, paint is smooth, sky is even.
ROUGHNESS = {
    **{ROAD: 0.6, SIDEWALK: 0.7, BUILDING: 0.6, FENCE: 0.6, POLE: 0.3, LIGHT: 0.3, SIGN: 0.3},
    **{VEGETATION: 1.6, TERRAIN: 1.3, SKY: 0.05, PERSON: 0.5, CAR: 0.25, BUS: 0.25, BICYCLE: 0.4},
}

OVERSAMPLING = 2  # scenes are drawn at twice the size and reduced
FAR = 300.0  # metres; where the ground ends and the sky begins


def style_for(domain: str, gap: float) -> tuple[Style, dict[str, np.ndarray]]:
    """The style and the palette of a domain; `gap` mixes game (0) and camera (1)."""
    share = gap if domain == "camera" else 0.0
    mixed = {}
    for field in fields(Style):
        start, end = getattr(GAME, field.name), getattr(CAMERA, field.name)
        value = (1 - share) * np.asarray(start) + share * np.asarray(end)
        mixed[field.name] = tuple(value.tolist()) if value.ndim else float(value)
    palette = {
        name: (1 - share) * np.array(colours) + share * np.array(CAMERA_PALETTE[name])
        for name, colours in GAME_PALETTE.items()
    }
    return Style(**mixed), palette


# --------------------------------------------------------------------------------------------
# The canvas
# --------------------------------------------------------------------------------------------


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter (factor above 1) or darker."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


class Canvas:
    """Colour, label and distance of a scene, painted together; and its camera and dice.

    World coordinates are metres: x to the right of the road's middle, y up from the ground,
    z ahead of the camera. Pixel coordinates are those of the drawn (oversampled) image.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        style: Style,
        palette: dict[str, np.ndarray],
        size: tuple[int, int],
    ):
        self.rng, self.style, self.palette = rng, style, palette
        self.height, self.width = (side * OVERSAMPLING for side in size)
        self.unit = self.height / 224  # drawn pixels for what is one at the default size

        self.camera_height = self.between(style.camera_height)
        self.focal = self.width * self.between(style.focal)  # pixels
        self.horizon = self.height * self.between(style.horizon)
        self.roll = style.roll * rng.uniform(-1, 1)
        self.middle = self.width * rng.uniform(0.40, 0.60)  # column of the vanishing point
        self.camera_x = rng.uniform(-1.5, 1.5)

        self.image = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), SKY)
        self.depth = Image.new("F", (self.width, self.height), FAR)  # metres
        self._image = ImageDraw.Draw(self.image)
        self._labels = ImageDraw.Draw(self.labels)
        self._depth = ImageDraw.Draw(self.depth)

    # Dice

    def between(self, span: Span) -> float:
        return float(self.rng.uniform(*span))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def colour(self, name: str, jitter: float = 8.0) -> Colour:
        """One of the palette's colours of that name, a little off."""
        colours = self.palette[name]
        # Mostly brightness varies, hue a little.
        change = 0.9 * self.rng.normal(0, jitter) + 0.4 * self.rng.normal(0, jitter, 3)
        chosen = colours[self.rng.integers(len(colours))] + change
        return tuple(int(channel) for channel in chosen.clip(0, 255))

    def one_of(self, colours: Sequence[Colour]) -> Colour:
        return colours[self.rng.integers(len(colours))]

    # Geometry

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel that shows a point given in metres."""
        column = self.middle + self.focal * (x - self.camera_x) / z
        row = self.horizon + self.focal * (self.camera_height - y) / z
        return column, row + self.roll * (column - self.middle)

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal / z

    # Painting. With a label, all three layers are painted; without one, only the colour (a
    # detail on something painted before); without a colour, the colour behind shows through.

    def polygon(self, points, colour, label=None, z=None):
        if colour is not None:
            self._image.polygon(points, fill=colour)
        if label is not None:
            self._labels.polygon(points, fill=label)
            self._depth.polygon(points, fill=z)

    def ellipse(self, centre, radii, colour, label=None, z=None):
        (x, y), (a, b) = centre, radii
        box = (x - a, y - b, x + a, y + b)
        if colour is not None:
            self._image.ellipse(box, fill=colour)
        if label is not None:
            self._labels.ellipse(box, fill=label)
            self._depth.ellipse(box, fill=z)

    def ring(self, centre, radius, thickness, colour):
        x, y = centre
        box = (x - radius, y - radius, x + radius, y + radius)
        self._image.ellipse(box, outline=colour, width=thickness)

    def line(self, points, thickness, colour, label=None, z=None):
        thickness = max(1, round(thickness))
        self._image.line(points, fill=colour, width=thickness)
        if label is not None:
            self._labels.line(points, fill=label, width=thickness)
            self._depth.line(points, fill=z, width=thickness)

    def shape(self, outline, z, colour, label=None):
        """A flat shape that faces the camera; `outline` lists its corners (x, y)."""
        self.polygon([self.project(x, y, z) for x, y in outline], colour, label, z)

    def board(self, x0, x1, y0, y1, z, colour, label=None):
        """A rectangle that faces the camera."""
        self.shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), z, colour, label)

    def wall(self, x, y0, y1, z0, z1, colour, label=None):
        """A rectangle along the street."""
        corners = ((y0, z0), (y0, z1), (y1, z1), (y1, z0))
        points = [self.project(x, y, z) for y, z in corners]
        self.polygon(points, colour, label, (z0 + z1) / 2)

    def strip(self, x0, x1, z0, z1, colour, label=None):
        """A rectangle that lies on the ground."""
        corners = ((x0, z0), (x1, z0), (x1, z1), (x0, z1))
        self.polygon([self.project(x, 0, z) for x, z in corners], colour, label, z0)

    def contact_shadow(self, x0, x1, z, strength=0.45):
        """The dark patch under an object that stands on the ground."""
        (left, row), (right, _) = self.project(x0, 0, z), self.project(x1, 0, z)
        middle = (left + right) / 2
        column = int(min(self.width - 1, max(0, middle)))
        below = self.image.getpixel((column, int(min(self.height - 1, max(0, row + 1)))))
        flat = max(self.unit, (right - left) * 0.08)
        centre = (middle, row + flat * 0.2)
        self.ellipse(centre, ((right - left) / 2, flat), shade(below, strength))


# --------------------------------------------------------------------------------------------
# The backdrop: sky, ground, skyline
# --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Street:
    """Where the road, the pavements and the plots behind them lie; metres."""

    road: float  # half the road's width
    pavement: tuple[float, float]  # widths, left and right
    grass: tuple[float, float]  # widths of the terrain behind the pavements; 0 where there is none

    def plot(self, side: int) -> float:
        """Distance from the road's middle to the house fronts, side -1 (left) or 1 (right)."""
        index = (side + 1) // 2
        return self.road + self.pavement[index] + self.grass[index] + 0.3


def draw_sky(canvas: Canvas) -> np.ndarray:
    """Paint the sky; return the colour at its horizon, in which haze drowns far things."""
    chosen = canvas.rng.integers(len(canvas.palette["sky_top"]))
    top, low = canvas.palette["sky_top"][chosen], canvas.palette["sky_low"][chosen]
    rows = int(canvas.horizon) + round(30 * canvas.unit)
    share = np.linspace(0, 1, rows)[:, None]
    gradient = (top * (1 - share) + low * share).astype(np.uint8)
    canvas.image.paste(Image.fromarray(np.repeat(gradient[:, None], canvas.width, axis=1)), (0, 0))
    if canvas.chance(canvas.style.cloud_chance):
        for _ in range(canvas.rng.integers(2, 6)):
            draw_cloud(canvas, low)
    return low


def draw_cloud(canvas: Canvas, low: np.ndarray) -> None:
    # Clouds are white on blue, and just a little lighter than a grey sky.
    white = low + 0.85 * (255 - low)
    x, y = canvas.rng.uniform(0, canvas.width), canvas.rng.uniform(0, canvas.horizon * 0.7)
    for _ in range(6):
        radius = canvas.rng.uniform(8, 24) * canvas.unit
        dx, dy = canvas.rng.normal(0, (18 * canvas.unit, 3 * canvas.unit))
        tone = shade(tuple(white), canvas.rng.uniform(0.95, 1.0))
        canvas.ellipse((x + dx, y + dy), (radius, radius * 0.35), tone)


def draw_ground(canvas: Canvas) -> Street:
    """Paint terrain, pavements, road, kerbs and markings; return where they lie."""
    rng, style = canvas.rng, canvas.style
    road = canvas.between(style.road_half_width)
    pavement = (rng.uniform(1.8, 3.6), rng.uniform(1.8, 3.6))
    grass = tuple(rng.uniform(2, 7) if canvas.chance(style.grass_chance) else 0.0 for _ in range(2))
    street = Street(road, pavement, grass)

    near = 0.8
    canvas.strip(-300, 300, near, FAR, canvas.colour("terrain"), TERRAIN)
    for side, width, lawn in zip((-1, 1), pavement, grass, strict=True):
        colour = canvas.colour("sidewalk", 5)
        edge = road + width if lawn else 90  # no lawn: paved up to the houses
        canvas.strip(side * road, side * edge, near, FAR, colour, SIDEWALK)
        # Joints between the paving slabs.
        z = canvas.between((1.5, 3))
        while z < 22:
            canvas.strip(side * road, side * (road + width), z, z + 0.07, shade(colour, 0.88))
            z *= 1.22
        canvas.strip(side * road, side * (road + 0.2), near, FAR, canvas.colour("kerb", 5))

    surface = canvas.colour("road", 5)
    canvas.strip(-road, road, near, FAR, surface, ROAD)
    for _ in range(rng.poisson(style.patches)):
        x, z = rng.uniform(-road, road * 0.6), rng.uniform(2, 20)
        tone = shade(surface, rng.uniform(0.86, 1.12))  # brightness only: asphalt has no hue
        canvas.strip(x, min(road, x + rng.uniform(0.8, 3)), z, z + rng.uniform(1, 6), tone)
    for side in (-1, 1):  # gutters
        canvas.strip(side * road, side * (road - 0.22), near, FAR, shade(surface, 0.82))
    draw_markings(canvas, road)
    return street


def draw_markings(canvas: Canvas, road: float) -> None:
    """Centre line, edge lines and sometimes a zebra crossing. All are road."""
    paint = canvas.colour("line", 5)
    z = canvas.between((1, 4))
    while z < 60:
        if canvas.chance(canvas.style.dash_chance):
            canvas.strip(-0.08, 0.08, z, z + 2.5, paint)
        z += 5.5
    if canvas.chance(0.3):
        for side in (-1, 1):
            canvas.strip(side * (road - 0.55), side * (road - 0.42), 0.8, FAR, paint)
    if canvas.chance(0.3):
        z = canvas.between((5, 14))
        for x in np.arange(-road + 0.4, road - 0.6, 1.0):
            canvas.strip(x, x + 0.5, z, z + 2.6, paint)


def draw_skyline(canvas: Canvas) -> None:
    """Far houses and trees that close the street's end."""
    rng, unit = canvas.rng, canvas.unit
    column = -20.0 * unit
    while column < canvas.width + 20 * unit:
        width, height = rng.uniform(15, 60) * unit, rng.uniform(5, 28) * unit
        base = canvas.horizon + canvas.roll * (column - canvas.middle) + 4 * unit
        if canvas.chance(0.5):
            corners = [(column, base), (column + width, base)]
            corners += [(column + width, base - height), (column, base - height)]
            canvas.polygon(corners, canvas.colour("building"), BUILDING, 90.0)
        else:
            for _ in range(5):
                centre = (column + rng.uniform(0, width), base - height * 0.25)
                radii = (width * 0.25, height * rng.uniform(0.35, 0.5))
                canvas.ellipse(centre, radii, canvas.colour("vegetation"), VEGETATION, 90.0)
        column += width * 0.8


# --------------------------------------------------------------------------------------------
# Objects, one function each; x, y, z and sizes in metres
# --------------------------------------------------------------------------------------------


def draw_building(canvas: Canvas, side: int, x: float, z: float, length: float) -> None:
    """A house whose front stands along the street at x, from z to z + length."""
    style, rng = canvas.style, canvas.rng
    height = canvas.between(style.building_height)
    front, glass = canvas.colour("building"), canvas.colour("window", 6)
    frame, roof = canvas.colour("frame", 4), canvas.colour("roof", 6)
    end = shade(front, canvas.between((0.72, 0.88)))  # the gable wall lies in shade
    gable = canvas.chance(style.gable_chance)
    far = z + length

    if gable:  # the roof's slope towards the street, and the gable's triangle
        ridge_x, ridge_y = x + side * 3.5, height + 2.4
        slope = ((x, height, z), (x, height, far), (ridge_x, ridge_y, far), (ridge_x, ridge_y, z))
        points = [canvas.project(*corner) for corner in slope]
        canvas.polygon(points, roof, BUILDING, z + length / 2)
        canvas.shape(((x, height), (x + side * 7, height), (ridge_x, ridge_y)), z, end, BUILDING)
    canvas.board(x, x + side * (7 if gable else 25), 0, height, z, end, BUILDING)

    floors, columns = max(1, int(height / 3)), max(1, round(length / 2.7))
    edges = np.linspace(z, far, columns + 1)
    door = rng.integers(columns)
    shop = canvas.chance(0.35)
    margin = (1 - style.window_width) / 2
    for column in reversed(range(columns)):  # far to near, each with its own distance
        near_z, far_z = edges[column], edges[column + 1]
        canvas.wall(x, 0, height, near_z, far_z, front, BUILDING)
        if canvas.scale(near_z) * 0.8 < 1.5 * canvas.unit:
            continue  # too far to see windows
        step = far_z - near_z
        za, zb = near_z + margin * step, far_z - margin * step
        rim = 0.06 * step
        for floor in range(floors):
            bottom = 3 * floor + 1.0
            if floor == 0 and column == door:
                canvas.wall(x, 0, 2.3, za - rim, zb + rim, frame)
                canvas.wall(x, 0, 2.15, za, zb, canvas.colour("door", 5))
                continue
            if floor == 0 and shop:
                bottom, top = 0.5, 2.5
                za_, zb_ = near_z + 0.08 * step, far_z - 0.08 * step
            else:
                top, za_, zb_ = bottom + 1.6, za, zb
            if top > height - 0.2 or canvas.chance(0.05):
                continue
            canvas.wall(x, bottom - 0.12, top + 0.12, za_ - rim, zb_ + rim, frame)
            pane = shade(glass, rng.uniform(0.8, 1.2))
            canvas.wall(x, bottom, top, za_, zb_, pane)
            if near_z < 14:  # the bar in the middle
                middle = (za_ + zb_) / 2
                canvas.wall(x, bottom, top, middle - 0.04, middle + 0.04, frame)
    canvas.wall(x, 0, 0.35, z, far, shade(front, 0.7))  # plinth
    canvas.wall(x, height - 0.3, height, z, far, roof if gable else shade(front, 1.15))  # cornice
    if shop:
        canvas.wall(x, 2.6, 3.0, z, far, canvas.colour("door", 12))  # the shop's fascia


def draw_fence(canvas: Canvas, x: float, z: float, length: float) -> None:
    """A fence along the street: boards, or railings that one sees through."""
    colour = canvas.colour("fence", 6)
    height = canvas.between(canvas.style.fence_height)
    solid = canvas.chance(canvas.style.fence_solid)
    edges = np.linspace(z, z + length, 1 + max(2, round(length / 1.6)))
    for near_z, far_z in reversed(list(pairwise(edges))):
        panel = shade(colour, canvas.rng.uniform(0.88, 1.0)) if solid else None
        canvas.wall(x, 0, height, near_z, far_z, panel, FENCE)
        dark = shade(colour, 0.65 if solid else 0.9)
        bars = 4 if solid else 7
        for bar in range(bars):
            at = near_z + (far_z - near_z) * bar / bars
            thickness = max(1.0, 0.05 * canvas.scale(at))
            ends = [canvas.project(x, 0.05, at), canvas.project(x, height * 0.97, at)]
            canvas.line(ends, thickness, dark)
        for y in (0.2, 0.9):  # rails
            ends = [canvas.project(x, y * height, near_z), canvas.project(x, y * height, far_z)]
            canvas.line(ends, max(1.0, 0.08 * canvas.scale(near_z)), dark)


def draw_foliage(canvas: Canvas, x: float, y: float, z: float, radius: float) -> None:
    """Leaves: many blobs around (x, y), dark ones below and behind, light ones above."""
    style, rng = canvas.style, canvas.rng
    tone = canvas.colour("vegetation", 8)
    count = max(5, round(style.crown_blobs - style.bare_blobs * rng.random()))
    places = rng.normal(0, 0.42, (count, 2)).clip(-0.95, 0.95)
    for rank, (dx, dy) in enumerate(places):
        light = 0.78 + 0.22 * rank / count + 0.16 * dy + rng.normal(0, 0.05)
        size = radius * style.crown_blob_size * rng.uniform(0.75, 1.25) * canvas.scale(z)
        centre = canvas.project(x + radius * dx, y + radius * 0.9 * dy, z)
        canvas.ellipse(centre, (size, size * 0.88), shade(tone, light), VEGETATION, z)


def draw_bush(canvas: Canvas, x: float, z: float, radius: float) -> None:
    draw_foliage(canvas, x, radius * 0.5, z, radius)


def draw_tree(canvas: Canvas, x: float, z: float) -> None:
    """A trunk with two boughs, and a crown. The trunk is vegetation too, as in Cityscapes."""
    rng = canvas.rng
    height, radius = rng.uniform(4.2, 7.5), rng.uniform(1.3, 2.5)
    trunk = canvas.colour("trunk", 6)
    crown = height * 0.75
    canvas.contact_shadow(x - radius * 0.8, x + radius * 0.8, z, 0.72)
    outline = ((x - 0.18, 0), (x + 0.18, 0), (x + 0.09, crown), (x - 0.09, crown))
    canvas.shape(outline, z, trunk, VEGETATION)
    for lean in (-1, 1):
        ends = [canvas.project(x, crown * 0.7, z)]
        ends += [canvas.project(x + lean * radius * 0.55, crown + radius * 0.3, z)]
        canvas.line(ends, 0.12 * canvas.scale(z), trunk, VEGETATION, z)
    draw_foliage(canvas, x, crown, z, radius)


def draw_post(canvas: Canvas, x: float, z: float, height: float) -> Colour:
    """A post, never thinner than about one and a half pixels of the finished image."""
    half = max(0.07, 1.5 * canvas.unit / canvas.scale(z))
    colour = canvas.colour("pole", 5)
    canvas.board(x - half, x + half, 0, height, z, colour, POLE)
    canvas.board(x + half * 0.3, x + half, 0, height, z, shade(colour, 0.75))
    return colour


def draw_lamp(canvas: Canvas, x: float, z: float) -> None:
    """A street lamp: a post, and an arm over the road."""
    height = canvas.between((4.5, 6.5))
    colour = draw_post(canvas, x, z, height)
    if canvas.chance(0.6):
        inwards = -np.sign(x)
        ends = [canvas.project(x, height, z), canvas.project(x + inwards * 1.5, height + 0.25, z)]
        thickness = max(3 * canvas.unit, 0.12 * canvas.scale(z))
        canvas.line(ends, thickness, colour, POLE, z)
        radii = (max(3 * canvas.unit, 0.35 * canvas.scale(z)), thickness * 0.7)
        canvas.ellipse(ends[1], radii, shade(colour, 1.2), POLE, z)


def draw_sign(canvas: Canvas, x: float, z: float) -> None:
    """A traffic sign on a post: round, three-cornered or a board."""
    height = canvas.between((2.5, 3.3))
    draw_post(canvas, x, z, height)
    radius = max(canvas.between((0.42, 0.66)), 4 * canvas.unit / canvas.scale(z))
    colour, face = canvas.colour("sign", 6), canvas.colour("sign_face", 4)
    size = radius * canvas.scale(z)
    centre = canvas.project(x, height, z)
    kind = canvas.rng.integers(3)
    if kind == 0:
        canvas.ellipse(centre, (size, size), colour, SIGN, z)
        canvas.ellipse(centre, (size * 0.62, size * 0.62), face)
        if canvas.chance(0.5):
            bar = radius * 0.4  # no entry
            canvas.board(x - bar, x + bar, height - 0.09, height + 0.09, z, colour)
    elif kind == 1:
        for share, tone, label in ((1.0, colour, SIGN), (0.55, face, None)):
            wide, low = radius * 1.05 * share, height - radius * 0.75 * share
            outline = ((x - wide, low), (x + wide, low), (x, height + radius * share))
            canvas.shape(outline, z, tone, label)
    else:
        x0, x1 = x - radius, x + radius
        canvas.board(x0, x1, height - radius, height + radius, z, colour, SIGN)
        inset = radius * 0.3
        for y in (-0.35, 0.25):
            bottom = height + radius * y
            canvas.board(x0 + inset, x1 - inset, bottom, bottom + radius * 0.25, z, face)


def draw_traffic_light(canvas: Canvas, x: float, z: float) -> None:
    """Three lamps in a housing on a post; one lamp burns."""
    height = canvas.between((3.0, 4.0))
    draw_post(canvas, x, z, height)
    half = max(0.30, 2.6 * canvas.unit / canvas.scale(z))
    tall = half * 2.3
    housing = canvas.colour("light", 5)
    canvas.board(x - half, x + half, height - tall, height + tall, z, housing, LIGHT)
    burning = canvas.rng.integers(3)
    for place, lamp in enumerate(((250, 44, 34), (250, 190, 36), (44, 230, 96))):
        tone = lamp if place == burning else shade(lamp, 0.28)
        radius = half * 0.62 * canvas.scale(z)
        centre = canvas.project(x, height + (1 - place) * tall * 0.62, z)
        canvas.ellipse(centre, (radius, radius), tone)


def draw_person(canvas: Canvas, x: float, z: float) -> None:
    """Somebody who stands or walks: legs, arms, torso, head, hair."""
    rng = canvas.rng
    tall = rng.uniform(1.5, 1.95)
    stride, sway = rng.uniform(0, 0.22), rng.choice((-1, 1))
    shirt, trousers = canvas.colour("shirt"), canvas.colour("trousers")
    skin, hair = canvas.one_of(SKIN), canvas.one_of(HAIR)
    canvas.contact_shadow(x - 0.4, x + 0.4, z, 0.6)
    hip, shoulder = tall * 0.50, tall * 0.83
    for leg, tone in ((-1, 0.85), (1, 1.0)):
        foot = x + leg * (0.10 + stride)
        outline = ((foot - 0.10, 0), (foot + 0.11, 0), (x + leg * 0.09 + 0.12, hip))
        canvas.shape((*outline, (x + leg * 0.09 - 0.12, hip)), z, shade(trousers, tone), PERSON)
        canvas.board(foot - 0.11, foot + 0.14, 0, 0.07, z, (36, 32, 32), PERSON)
    thick, sleeve = max(2 * canvas.unit, 0.13 * canvas.scale(z)), shade(shirt, 0.85)
    for arm in (-1, 1):
        hand = x + arm * 0.33 + sway * arm * stride * 0.5
        points = [canvas.project(x + arm * 0.22, shoulder - 0.05, z)]
        points += [canvas.project(x + arm * 0.33, tall * 0.64, z)]
        points += [canvas.project(hand, tall * 0.48, z)]
        canvas.line(points, thick, sleeve, PERSON, z)
    half_torso = ((0.20, hip - 0.06), (0.27, shoulder - 0.04), (0.12, shoulder + 0.04))
    torso = [(x + dx, y) for dx, y in half_torso]
    torso += [(x - dx, y) for dx, y in reversed(half_torso)]
    canvas.shape(torso, z, shirt, PERSON)
    draw_head(canvas, x, tall * 0.91, z, skin, hair)


def draw_head(canvas, x, y, z, skin, hair) -> None:
    size = 0.135 * canvas.scale(z)
    canvas.ellipse(canvas.project(x, y + 0.05, z), (size * 1.08, size * 1.2), hair, PERSON, z)
    canvas.ellipse(canvas.project(x, y - 0.02, z), (size * 0.9, size * 1.05), skin, PERSON, z)


def draw_bicycle(canvas: Canvas, x: float, z: float, ridden: bool) -> None:
    """A bicycle seen from its side; whoever rides it is a person.

    The wheels are labelled as full discs, as in Cityscapes, though one sees through them.
    """
    scale, unit = canvas.scale(z), canvas.unit
    colour = canvas.colour("bicycle")
    way = canvas.rng.choice((-1, 1))
    canvas.contact_shadow(x - 0.85, x + 0.85, z, 0.6)
    radius = 0.36 * scale
    hubs = [canvas.project(x + way * dx, 0.36, z) for dx in (-0.55, 0.55)]
    for hub in hubs:
        canvas.ellipse(hub, (radius, radius), None, BICYCLE, z)
        canvas.ring(hub, radius, max(2, round(0.07 * scale)), TYRE)
    rear, front = hubs
    saddle, pedals = canvas.project(x - way * 0.2, 0.88, z), canvas.project(x - way * 0.05, 0.34, z)
    head = canvas.project(x + way * 0.38, 0.9, z)
    frame = [rear, saddle, pedals, rear, pedals, head, front]
    canvas.line(frame, max(2 * unit, 0.08 * scale), colour, BICYCLE, z)
    canvas.line([saddle, head], max(2 * unit, 0.08 * scale), colour, BICYCLE, z)
    grip = ((0.38, 0.9), (0.36, 1.05), (0.22, 1.08))
    bars = [canvas.project(x + way * dx, y, z) for dx, y in grip]
    canvas.line(bars, max(2 * unit, 0.06 * scale), TYRE, BICYCLE, z)
    seat = canvas.project(x - way * 0.22, 0.95, z)
    canvas.ellipse(seat, (0.14 * scale, 0.06 * scale), TYRE, BICYCLE, z)
    if ridden:
        draw_rider(canvas, x, z, way)


def draw_rider(canvas: Canvas, x: float, z: float, way: int) -> None:
    """Somebody on a bicycle that heads to `way` (-1 left, 1 right)."""
    shirt, trousers = canvas.colour("shirt"), canvas.colour("trousers")

    def at(dx: float, y: float) -> tuple[float, float]:
        return x + way * dx, y

    thick = max(2 * canvas.unit, 0.15 * canvas.scale(z))
    for foot, knee, tone in (((0.0, 0.25), (0.2, 0.65), 0.8), ((-0.1, 0.45), (0.24, 0.78), 1.0)):
        leg = [canvas.project(*at(*point), z) for point in ((-0.2, 0.98), knee, foot)]
        canvas.line(leg, thick, shade(trousers, tone), PERSON, z)
    back = (at(-0.36, 0.95), at(-0.02, 0.92), at(0.24, 1.38), at(0.14, 1.54), at(-0.06, 1.46))
    canvas.shape(back, z, shirt, PERSON)
    arm = [canvas.project(*at(*point), z) for point in ((0.14, 1.42), (0.28, 1.18), (0.36, 1.08))]
    canvas.line(arm, thick * 0.8, shade(shirt, 0.85), PERSON, z)
    draw_head(canvas, at(0.2, 0)[0], 1.66, z, canvas.one_of(SKIN), canvas.one_of(HAIR))


def draw_car(canvas: Canvas, x: float, z: float, oncoming: bool) -> None:
    """A car that drives along the street: its back (or front) and the flank one sees."""
    length, half, tall = 4.2, 0.9, 1.48
    paint, glass = canvas.colour("car"), canvas.colour("glass", 6)
    flank = shade(paint, 0.72)
    canvas.contact_shadow(x - half - 0.25, x + half + 0.25, z)
    far = z + length
    inwards = 1 if x < canvas.camera_x else -1  # which flank shows
    edge = x + inwards * half
    roof = x + inwards * half * 0.74
    canvas.wall(edge, 0.22, 0.92, z, far, flank, CAR)
    cabin = ((edge, 0.9, z + 0.2), (edge, 0.9, far - 1.0), (roof, tall, far - 1.7))
    points = [canvas.project(*corner) for corner in (*cabin, (roof, tall, z + 0.6))]
    canvas.polygon(points, flank, CAR, z + 2)
    cabin = ((edge, 0.95, z + 0.55), (edge, 0.95, far - 1.25), (roof, tall - 0.1, far - 1.8))
    points = [canvas.project(*corner) for corner in (*cabin, (roof, tall - 0.1, z + 0.85))]
    canvas.polygon(points, glass)
    for axle in (z + 0.8, far - 0.8):
        rim = [
            canvas.project(edge, 0.32 + 0.32 * np.sin(turn), axle + 0.32 * np.cos(turn))
            for turn in np.linspace(0, 2 * np.pi, 9)[:-1]
        ]
        canvas.polygon(rim, TYRE, CAR, axle)
    # The face towards us: wheels, body, rear window, lamps, plate, bumper.
    for side in (-1, 1):
        canvas.board(x + side * 0.70 - 0.14, x + side * 0.70 + 0.14, 0, 0.3, z, TYRE, CAR)
    body = ((x - half, 0.24), (x + half, 0.24), (x + half, 0.85), (x + half * 0.92, 0.97))
    canvas.shape((*body, (x - half * 0.92, 0.97), (x - half, 0.85)), z, paint, CAR)
    top = half * 0.72
    outline = ((x - half * 0.92, 0.95), (x + half * 0.92, 0.95), (x + top, tall), (x - top, tall))
    canvas.shape(outline, z, paint, CAR)
    outline = ((x - half * 0.8, 1.0), (x + half * 0.8, 1.0), (x + top * 0.9, tall - 0.09))
    canvas.shape((*outline, (x - top * 0.9, tall - 0.09)), z, glass)
    canvas.board(x - half, x + half, 0.24, 0.40, z, shade(paint, 0.55))
    lamp = (246, 240, 205) if oncoming else (196, 34, 30)
    for side in (-1, 1):
        canvas.board(x + side * 0.68 - 0.15, x + side * 0.68 + 0.15, 0.66, 0.82, z, lamp)
    canvas.board(x - 0.26, x + 0.26, 0.46, 0.58, z, (222, 220, 206))


def draw_crossing_car(canvas: Canvas, x: float, z: float) -> None:
    """A car that crosses the street, seen from its side."""
    way = canvas.rng.choice((-1, 1))
    paint, glass = canvas.colour("car"), canvas.colour("glass", 6)
    canvas.contact_shadow(x - 2.2, x + 2.2, z)

    def outline(*corners):
        return [(x + way * dx, y) for dx, y in corners]

    body = outline((-2.1, 0.25), (2.1, 0.25), (2.1, 0.72), (1.85, 0.86), (1.05, 0.95), (0.45, 1.46))
    body += outline((-1.1, 1.46), (-1.75, 0.98), (-2.1, 0.9))
    canvas.shape(body, z, paint, CAR)
    canvas.board(x - 2.1, x + 2.1, 0.25, 0.42, z, shade(paint, 0.6))
    canvas.shape(outline((0.85, 0.95), (0.38, 1.36), (-0.25, 1.36), (-0.25, 0.95)), z, glass)
    canvas.shape(outline((-0.35, 0.95), (-0.35, 1.36), (-1.05, 1.36), (-1.5, 0.98)), z, glass)
    for axle in (-1.3, 1.3):
        size = 0.34 * canvas.scale(z)
        canvas.ellipse(canvas.project(x + axle, 0.34, z), (size, size), TYRE, CAR, z)
        canvas.ellipse(canvas.project(x + axle, 0.34, z), (size * 0.5,) * 2, (128, 128, 130))


def draw_bus(canvas: Canvas, x: float, z: float) -> None:
    """A bus that drives along the street."""
    length, half, tall = 10.0, 1.25, canvas.between((2.9, 3.5))
    paint, glass = canvas.colour("bus"), canvas.colour("glass", 6)
    flank = shade(paint, 0.78)
    canvas.contact_shadow(x - half - 0.3, x + half + 0.3, z)
    edge = x + (half if x < canvas.camera_x else -half)
    far = z + length
    canvas.wall(edge, 0.3, tall, z, far, flank, BUS)
    for pane in reversed(range(6)):
        at = z + 0.5 + 1.55 * pane
        canvas.wall(edge, 1.4, tall - 0.5, at, at + 1.3, glass)
    for axle in (z + 2, far - 2):
        canvas.wall(edge, 0.05, 0.85, axle - 0.45, axle + 0.45, TYRE, BUS)
    for side in (-1, 1):
        canvas.board(x + side * 0.9 - 0.18, x + side * 0.9 + 0.18, 0, 0.35, z, TYRE, BUS)
    canvas.board(x - half, x + half, 0.3, tall, z, paint, BUS)
    canvas.board(x - half * 0.88, x + half * 0.88, 1.35, tall - 0.6, z, glass)
    canvas.board(x - half * 0.6, x + half * 0.6, tall - 0.48, tall - 0.14, z, (40, 40, 42))
    canvas.board(x - half * 0.45, x + half * 0.45, tall - 0.38, tall - 0.24, z, (236, 190, 70))
    canvas.board(x - half, x + half, 0.3, 0.55, z, shade(paint, 0.6))
    for side in (-1, 1):
        lamp_x = x + side * half * 0.78
        canvas.board(lamp_x - 0.16, lamp_x + 0.16, 0.68, 0.95, z, (204, 44, 34))


# --------------------------------------------------------------------------------------------
# Placing the objects
# --------------------------------------------------------------------------------------------

Task = tuple[float, Callable[[], None]]  # distance in metres, and what to draw there


def place_houses(canvas: Canvas, street: Street, side: int) -> Iterator[Task]:
    """Houses and gardens behind one pavement, and a fence before them."""
    rng, style = canvas.rng, canvas.style
    x, z = street.plot(side) * side, canvas.between((1.2, 3.0))
    while z < 75:
        length = rng.uniform(5, 15)
        # Long things count as far as their far end: what stands beside them hides them.
        if canvas.chance(style.building_chance):
            yield z + length, lambda z=z, n=length: draw_building(canvas, side, x, z, n)
        elif canvas.chance(0.7):
            at, radius = z + length / 2, rng.uniform(1.3, 2.8)
            yield at, lambda at=at, r=radius: draw_bush(canvas, x + side * 1.5, at, r)
        z += length * rng.uniform(1.0, 1.2)
    if canvas.chance(style.fence_chance):
        index = (side + 1) // 2
        at = side * (street.road + street.pavement[index] + 0.3)
        near, length = rng.uniform(2, 10), rng.uniform(8, 25)
        yield near + length, lambda: draw_fence(canvas, at, near, length)


def place_kerbside(canvas: Canvas, street: Street, side: int) -> Iterator[Task]:
    """What stands on one pavement: poles, trees, people, bicycles; and parked cars."""
    rng, style = canvas.rng, canvas.style
    index = (side + 1) // 2
    kerb, walk = street.road, street.pavement[index]

    z = rng.uniform(4, 9)
    while z < 34:  # posts farther away would be thinner than a pixel
        draw = (draw_lamp, draw_sign, draw_traffic_light)[rng.choice(3, p=(0.34, 0.36, 0.30))]
        if canvas.chance(0.8):
            yield z, lambda draw=draw, z=z: draw(canvas, side * (kerb + 0.5), z)
        z += canvas.between(style.pole_gap)
    z = rng.uniform(5, 10)
    while z < 50:
        if canvas.chance(style.tree_chance):
            x = kerb + walk + min(street.grass[index], 2) * rng.random() - 0.4
            yield z, lambda x=x, z=z: draw_tree(canvas, side * x, z)
        z += rng.uniform(4, 11)
    for _ in range(rng.poisson(style.pedestrians)):
        x, z = kerb + rng.uniform(0.4, walk), rng.uniform(4.5, 20)
        yield z, lambda x=x, z=z: draw_person(canvas, side * x, z)
    for _ in range(rng.poisson(style.bicycles)):
        x, z = kerb + rng.uniform(-0.9, 0.9), rng.uniform(4.5, 15)
        ridden = canvas.chance(style.rider_chance)
        yield z, lambda x=x, z=z, ridden=ridden: draw_bicycle(canvas, side * x, z, ridden)
    if canvas.chance(style.parked_chance):
        z = rng.uniform(4.5, 9)
        while z < 40:
            if canvas.chance(0.7):
                yield z, lambda z=z: draw_car(canvas, side * (kerb - 1.1), z, side < 0)
            z += rng.uniform(5.5, 9)


def place_traffic(canvas: Canvas, street: Street) -> Iterator[Task]:
    """What moves on the road. Traffic keeps to the right, so cars on the left come towards us."""
    rng, style = canvas.rng, canvas.style
    for _ in range(rng.poisson(style.moving_cars)):
        side, z = rng.choice((-1, 1)), rng.uniform(6, 30)
        x = side * street.road * 0.42
        yield z, lambda x=x, z=z, side=side: draw_car(canvas, x, z, side < 0)
    if canvas.chance(style.crossing_chance):
        x, z = rng.uniform(-street.road, street.road), rng.uniform(8, 22)
        yield z, lambda x=x, z=z: draw_crossing_car(canvas, x, z)
    if canvas.chance(style.bus_chance):
        x, z = rng.choice((-1, 1)) * street.road * 0.45, rng.uniform(7, 22)
        yield z, lambda x=x, z=z: draw_bus(canvas, x, z)
    for _ in range(rng.poisson(style.jaywalkers)):
        x, z = rng.uniform(-street.road, street.road), rng.uniform(6, 16)
        yield z, lambda x=x, z=z: draw_person(canvas, x, z)


# --------------------------------------------------------------------------------------------
# Light and lens
# --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _noise_bank(height: int, width: int) -> tuple[np.ndarray, ...]:
    """Speckles at each of TEXTURE_SCALES, larger than the image: crops of them look different."""
    rng = np.random.default_rng(0)
    rows, columns = int(height * 1.6), int(width * 1.4)
    bank = []
    for scale in TEXTURE_SCALES:
        step = max(1, round(scale * height / 224))
        coarse = rng.standard_normal((rows // step + 4, columns // step + 4), dtype=np.float32)
        # Only whole columns and rows of the coarse noise are enlarged.
        enlarged = Image.fromarray(coarse).resize(
            (coarse.shape[1] * step, coarse.shape[0] * step), Image.Resampling.BICUBIC
        )
        speckles = np.asarray(enlarged)[:rows, :columns]
        bank.append((speckles - speckles.mean()) / speckles.std())
    return tuple(bank)


def _texture(canvas: Canvas) -> np.ndarray:
    """A mix of random crops of the noise bank, weighted by the style; height x width."""
    height, width = canvas.height, canvas.width
    total = np.zeros((height, width), np.float32)
    for weight, speckles in zip(canvas.style.texture, _noise_bank(height, width), strict=True):
        row = canvas.rng.integers(speckles.shape[0] - height)
        column = canvas.rng.integers(speckles.shape[1] - width)
        if weight:
            total += np.float32(weight) * speckles[row : row + height, column : column + width]
    return total


def _cast_shadow(canvas: Canvas, street: Street) -> np.ndarray:
    """Where a house out of sight keeps the sun from the street: 0 (light) to 1 (shade)."""
    rng = canvas.rng
    start, lean = rng.uniform(-street.road - 2, street.road), rng.choice((-1, 1))
    far = rng.uniform(10, 60)
    corners = ((start, 1.0), (start + 30 * lean, 1.0), (start + 12 * lean, far), (start, 45.0))
    mask = Image.new("L", (canvas.width, canvas.height), 0)
    ImageDraw.Draw(mask).polygon([canvas.project(x, 0, z) for x, z in corners], fill=255)
    mask = mask.filter(ImageFilter.BoxBlur(2.5 * canvas.unit))
    return np.asarray(mask, np.float32) / 255


def camera_effects(canvas: Canvas, street: Street, haze_colour: np.ndarray) -> np.ndarray:
    """The finished image, height x width x 3 uint8: texture, shade, haze, light, lens, sensor."""
    rng, style = canvas.rng, canvas.style
    labels = np.asarray(canvas.labels)
    light = np.asarray(canvas.image, np.float32)
    height, width = labels.shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]

    # The gain of every pixel: texture by class, shade on the ground, uneven light, vignette.
    roughness = np.ones(256, np.float32)
    for label, value in ROUGHNESS.items():
        roughness[label] = value
    gain = 1 + roughness[labels] * _texture(canvas)
    ground = (labels == ROAD) | (labels == SIDEWALK) | (labels == TERRAIN)
    shadowed, strength = canvas.chance(0.6), style.shadow * rng.uniform(0.5, 1.0)
    if shadowed and strength:
        gain *= 1 - strength * _cast_shadow(canvas, street) * ground
    across, down = columns / width * 2 - 1, rows / height * 2 - 1
    slope_x, slope_y = style.slope * rng.uniform(-1, 1, 2).astype(np.float32)
    gain *= 1 + slope_x * across + slope_y * down - style.vignette * (across**2 + down**2) / 2
    tint = 1 + style.tint * rng.uniform(-1, 1, 3) * (1, 0, 1)
    colour_gain = ((1 + style.exposure * rng.uniform(-1, 1)) * tint).astype(np.float32)

    density = canvas.between(style.haze)
    if density:
        # Distance: as painted for objects, from the camera's geometry for the ground.
        below = rows - canvas.horizon - canvas.roll * (columns - canvas.middle)
        flat = canvas.focal * canvas.camera_height / np.maximum(below, 1.0)
        distance = np.where(ground, np.minimum(flat, FAR), np.asarray(canvas.depth))
        clear = np.exp(-density * distance)
        clear[labels == SKY] = 1.0
        light *= (gain * clear)[..., None]
        light += (1 - clear)[..., None] * haze_colour.astype(np.float32)
    else:
        light *= gain[..., None]
    light *= colour_gain

    picture = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    blur = canvas.between(style.blur) * OVERSAMPLING * canvas.unit
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    reduced = np.asarray(picture.reduce(OVERSAMPLING), np.float32)
    reduced += canvas.between(style.noise) * rng.standard_normal(reduced.shape, np.float32)
    return np.clip(reduced, 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------------------
# A scene, and a whole data set on disk
# --------------------------------------------------------------------------------------------

Domain = Literal["game", "camera"]
DEFAULT_SIZE = (112, 224)  # height, width
# At a gap of 0.7 a small DeepLab (500 steps on 400 source images; two sets of scenes) reaches 24
# and 28 mIoU on camera images, 37 and 41 with BatchNorm statistics of the target, 33 and 39 when
# trained on source images given the target's histograms, 73 and 72 with all target labels.
DEFAULT_GAP = 0.7

# The scene numbers of each split. They never overlap, so no scene is drawn in two splits.
SPLITS = {
    "source": range(0, 1_000_000),
    "train": range(1_000_000, 2_000_000),
    "val": range(2_000_000, 3_000_000),
    "test": range(3_000_000, 4_000_000),
}


def draw_scene(
    domain: Domain,
    seed: int | Sequence[int],
    size: tuple[int, int] = DEFAULT_SIZE,
    gap: float = DEFAULT_GAP,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene: the image (height x width x 3) and its Cityscapes label ids, both uint8.

    `seed` is an int or ints, say (scene seed, scene number); the same one gives the same pixels.
    `gap` is how far the camera domain is from the game's, from 0 (the same) to 1; the game
    domain does not depend on it.
    """
    if domain not in ("game", "camera"):
        raise InputError(f"domain {domain!r} is unknown: use 'game' or 'camera'")
    _check(size, gap)
    style, palette = style_for(domain, gap)
    canvas = Canvas(np.random.default_rng(seed), style, palette, size)
    haze_colour = draw_sky(canvas)
    street = draw_ground(canvas)
    draw_skyline(canvas)
    tasks = [
        *(task for side in (-1, 1) for task in place_houses(canvas, street, side)),
        *(task for side in (-1, 1) for task in place_kerbside(canvas, street, side)),
        *place_traffic(canvas, street),
    ]
    for _, draw in sorted(tasks, key=lambda task: -task[0]):  # far to near
        draw()
    image = camera_effects(canvas, street, haze_colour)
    labels = np.asarray(canvas.labels)[::OVERSAMPLING, ::OVERSAMPLING].copy()
    return image, labels


def _check(size: Sequence[int], gap: float) -> None:
    if len(size) != 2 or min(size) < 16:
        raise InputError(f"size {tuple(size)} must be (height, width), each at least 16 pixels")
    if not 0 <= gap <= 1:
        raise InputError(f"gap {gap} must lie between 0 and 1")


@dataclass(frozen=True)
class StreetsConfig:
    """All that decides the pixels of a set; kept in its streets.json."""

    scene_seed: int = 0
    size: tuple[int, int] = DEFAULT_SIZE  # height, width
    gap: float = DEFAULT_GAP
    source: int = 400  # images of each split
    train: int = 300
    val: int = 60
    test: int = 100
    version: int = 1  # of the drawing; raised whenever the same seed gives other pixels

    def check(self) -> None:
        _check(self.size, self.gap)
        if not 0 <= self.scene_seed < 2**32:
            raise InputError(f"scene_seed {self.scene_seed} must lie between 0 and 2**32 - 1")
        for split, numbers in SPLITS.items():
            count = getattr(self, split)
            if not 0 <= count <= len(numbers):
                raise InputError(f"{split} {count} must lie between 0 and {len(numbers)} images")


def _image_paths(split: str, number: int) -> tuple[Path, Path]:
    """Where image `number` (from 0) of a split and its labels lie below the root."""
    if split == "source":
        name = f"{number + 1:05d}.png"
        return Path("gta5/images", name), Path("gta5/labels", name)
    stem = f"camera_{number + 1:06d}_000019"
    return (
        Path("cityscapes/leftImg8bit", split, "camera", f"{stem}_leftImg8bit.png"),
        Path("cityscapes/gtFine", split, "camera", f"{stem}_gtFine_labelIds.png"),
    )


def _write_scene(root: Path, config: StreetsConfig, split: str, number: int) -> None:
    """Draw one scene and write its two files. Runs in the workers."""
    domain: Domain = "game" if split == "source" else "camera"
    seed = (config.scene_seed, SPLITS[split][number])
    image, labels = draw_scene(domain, seed, config.size, config.gap)
    image_path, label_path = (root / path for path in _image_paths(split, number))
    Image.fromarray(image).save(image_path, compress_level=1)
    label_image = Image.fromarray(labels)
    if split == "source":  # GTA5's label files are palette PNGs
        label_image = Image.frombytes("P", label_image.size, labels.tobytes())
        label_image.putpalette([channel for colour in LABEL_COLOURS for channel in colour])
    label_image.save(label_path, compress_level=1)


def _write_some(root: Path, config: StreetsConfig, jobs: Sequence[tuple[str, int]]) -> int:
    for split, number in jobs:
        _write_scene(root, config, split, number)
    return len(jobs)


def _written(
    root: Path, config: StreetsConfig, jobs: Sequence[tuple[str, int]], workers: int
) -> Iterator[int]:
    """Write all scenes; yield how many more are done, again and again."""
    lots = [jobs[start : start + 8] for start in range(0, len(jobs), 8)]
    if workers <= 1:
        for lot in lots:
            yield _write_some(root, config, lot)
        return
    # "spawn" starts clean workers on every system, and never copies a parent's GPU or threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(_write_some, root, config, lot) for lot in lots]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "workers could not draw the streets: pass workers=1, or call write_streets "
                "below `if __name__ == '__main__':`"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def _finished(root: Path, config: StreetsConfig) -> bool:
    """Whether root holds this very set; raises if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / "streets.json"
    if not record.is_file():
        raise InputError(f"{root} holds something else: choose another folder or empty it")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        differs = [
            f"{name} is {found.get(name)} there, {wanted} here"
            for name, wanted in json.loads(json.dumps(asdict(config))).items()
            if found.get(name) != wanted
        ]
    except (ValueError, AttributeError):
        raise InputError(f"{record} cannot be read: delete {root} to draw it again") from None
    if differs:
        raise InputError(
            f"{root} holds streets drawn otherwise ({'; '.join(differs)}): "
            "choose another folder or delete it"
        )
    return True


_DRAWING = ".drawing-"  # between a set's name and a random end: a folder being drawn
_ABANDONED = 60.0  # seconds without a sign of life after which such a folder is deleted


def _clear_leftovers(root: Path) -> None:
    """Delete what interrupted drawings of this root left, but none that is being drawn now."""
    for folder in root.parent.glob(f"{glob.escape(root.name)}{_DRAWING}*"):
        with suppress(FileNotFoundError):  # another process has just finished this one
            if time.time() - folder.stat().st_mtime > _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def write_streets(
    root: Path,
    *,
    scene_seed: int = 0,
    size: tuple[int, int] = DEFAULT_SIZE,
    gap: float = DEFAULT_GAP,
    source: int = 400,
    train: int = 300,
    val: int = 60,
    test: int = 100,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[Path, Path]:
    """Draw a set of streets below root, unless it is there; return (source root, target root).

    The source lies in `gta5/` in the layout of GTA5, the target in `cityscapes/` in that of
    Cityscapes. The set appears under its name only when it is complete. `workers` is the number
    of processes (by default one per core); it changes the time, never a pixel.
    """
    root = Path(root)
    config = StreetsConfig(scene_seed, tuple(size), gap, source, train, val, test)
    config.check()
    roots = root / "gta5", root / "cityscapes"
    _clear_leftovers(root)
    if _finished(root, config):
        return roots

    jobs = [(split, number) for split in SPLITS for number in range(getattr(config, split))]
    if workers is None:  # a worker takes a while to start, so few images are drawn right here
        workers = min(os.cpu_count() or 1, 1 + len(jobs) // 100)
    root.parent.mkdir(parents=True, exist_ok=True)
    drawing = Path(tempfile.mkdtemp(prefix=f"{root.name}{_DRAWING}", dir=root.parent))
    try:
        for split in SPLITS:
            for path in _image_paths(split, 0):
                (drawing / path).parent.mkdir(parents=True, exist_ok=True)
        bar = tqdm(
            total=len(jobs),
            desc="drawing streets",
            unit="image",
            disable=not progress,
            leave="ipykernel" not in sys.modules,  # in a notebook it vanishes when done
        )
        with bar:
            for done in _written(drawing, config, jobs, workers):
                bar.update(done)
                os.utime(drawing)  # the sign of life that _clear_leftovers looks for
        record = json.dumps(asdict(config), indent=2) + "\n"
        (drawing / "streets.json").write_text(record, encoding="utf-8")
        drawing.chmod(0o755)  # mkdtemp makes it private
        try:
            if root.exists():
                root.rmdir()  # an empty folder: some systems would not rename onto it
            drawing.rename(root)
        except OSError:
            if not _finished(root, config):  # another process may have drawn it meanwhile
                raise
    finally:
        shutil.rmtree(drawing, ignore_errors=True)
    return roots
