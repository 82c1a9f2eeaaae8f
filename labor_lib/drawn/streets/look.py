"""What the two domains look like: palettes, shapes and frequencies, and how they are mixed.

Every entry of GAME has its partner in CAMERA, at the same place: a domain with a gap between 0 and
1 mixes each entry with its partner.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

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


Domain = Literal["game", "camera"]
DEFAULT_SIZE = (112, 224)  # height, width
# At a gap of 0.7 a small DeepLab (500 steps on 400 source images; two sets of scenes) reaches 24
# and 28 mIoU on camera images, 37 and 41 with BatchNorm statistics of the target, 33 and 39 when
# trained on source images given the target's histograms, 73 and 72 with all target labels.
DEFAULT_GAP = 0.7
