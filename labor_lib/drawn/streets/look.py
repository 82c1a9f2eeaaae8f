"""What the two domains look like: palettes, shapes and frequencies, and how they are mixed.

Every entry has two values, the game's and the camera's: a domain with a gap between 0 and 1 mixes
the two.
"""

from types import SimpleNamespace

import numpy as np

# Label ids of the drawn classes, as in the files of GTA5 and Cityscapes.
IDS = {
    **{"road": 7, "sidewalk": 8, "building": 11, "fence": 13, "pole": 17, "light": 19},
    **{"sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "car": 26},
    **{"bus": 28, "bicycle": 33},
}

Colour = tuple[int, int, int]
Span = tuple[float, float]  # lowest and highest value


def colours(text: str) -> list[Colour]:
    """RGB colours from hexadecimal numbers such as "3e404a 464650"."""
    return [tuple(bytes.fromhex(code)) for code in text.split()]


# The colours of label ids 0 to 33 in Cityscapes, and in the palette PNGs of GTA5.
LABEL_COLOURS = colours(
    "000000 000000 000000 000000 000000 6f4a00 510051 804080 f423e8 faaaa0 e6968c 464646 "
    "66669c be9999 b4a5b4 966464 96785a 999999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 "
    "dc143c ff0000 00008e 000046 003c64 00005a 00006e 005064 0000e6 770b20"
)

PALETTE = {
    "road": ("3e404a 464650 3a3e48", "86837f 7a7774 8f8d8a"),
    "line": ("eeeee4", "bab8b0"),
    "sidewalk": ("cdb2a5 c4aaa0 d4bcaa", "6a686a 76706c 5e6064"),
    "kerb": ("e6ded4", "96938e"),
    "building": (
        "e2c492 d07a64 98acce e8dab8 be98be d6a06e",
        "766256 7e5648 626368 968a7c 6c5248 84766a",
    ),
    "roof": ("b04638 965446 784c60", "4a4444 5a4a44 404046"),
    "window": ("609cd6", "3e424a"),
    "frame": ("f4f4ee", "8e8a84"),
    "door": ("78462d 325a8c 962c28", "3e3430 32363c 4c3c34"),
    "fence": ("ececec 9e683e", "4e5a52 42464e"),
    "pole": ("3a5448 424c5a", "969694 787672"),
    "light": ("1e1e20", "70663e"),
    "sign": ("1e46c8 d21e28 1e8c46 1e50be", "c0ac4c cececa 5c687a a0543e"),
    "sign_face": ("f0f0ec", "b8b6b0"),
    "vegetation": ("329628 48ac34 288432", "4a4c32 685a36 363e2e"),
    "trunk": ("704c2e", "4c443c"),
    "terrain": ("7ac048 8eca52", "8c7e58 78704e"),
    "sky_top": ("468ceb 5ca0f0 3c7ee2", "84a8d2 98b0cc 749ed4"),
    "sky_low": ("badcfa d7e6fa c4def6", "ced8e0 d2d4d6 c6d4e2"),
    "shirt": ("dc2828 2850dc f0c828 f0f0f0 28b45a", "36363e 4a5060 78483e 8c8880 3e483e"),
    "trousers": ("323c82 3c3c40 967850", "2a2e3a 383634 544c42"),
    "car": ("d71e23 2350cd f0c328 ebebf0 28a050", "282a2f 4a5262 86888c c0c0c2 602c2a"),
    "glass": ("364c62", "2e3237"),
    "bus": ("f0be1e dc3c28 ec8c28", "c6c5c0 54708c 969876"),
    "bicycle": ("c82828 283cb4", "303236 48403c"),
}
SKIN = colours("e2b698 966a50 cca082")
HAIR = colours("32241c 1e1c1c 966e3c")
TYRE = (24, 24, 26)

# Everything else in which the domains differ. Lengths are in metres.
STYLE = {
    # The camera and the street
    "camera_height": ((1.45, 1.8), (2.0, 2.6)),
    "focal": ((0.54, 0.62), (0.46, 0.54)),  # focal length, as a share of the image's width
    "horizon": ((0.42, 0.48), (0.36, 0.44)),  # row of the horizon, as a share of the image's height
    "roll": (0.0, 0.035),  # largest tilt of the horizon: rows per column
    "road_half_width": ((3.6, 6.5), (3.2, 5.6)),
    "grass_chance": (0.6, 0.5),  # that a strip of terrain lies behind a pavement
    # Objects: mean counts, chances and shapes
    "building_height": ((5.0, 12.0), (6.0, 17.0)),
    "building_chance": (0.72, 0.8),
    "gable_chance": (0.5, 0.1),
    "window_width": (0.56, 0.4),  # share of a window's column
    "fence_chance": (0.5, 0.55),
    "fence_solid": (1.0, 0.4),  # chance of boards; else railings, which one sees through
    "fence_height": ((1.0, 1.7), (1.1, 1.8)),
    "tree_chance": (0.6, 0.5),
    "crown_blobs": (13.0, 34.0),  # blobs of leaves in a tree's crown
    "crown_blob_size": (0.46, 0.25),  # their size, as a share of the crown's
    "bare_blobs": (0.0, 8.0),  # blobs left out where branches show
    "pole_gap": ((5.0, 13.0), (4.0, 10.0)),  # between poles, signs and lights
    "pedestrians": (1.4, 3.0),  # on each pavement
    "jaywalkers": (0.15, 0.7),  # on the road
    "bicycles": (0.5, 1.2),  # on each side
    "rider_chance": (0.7, 0.4),
    "parked_chance": (0.35, 0.65),
    "moving_cars": (2.0, 1.5),
    "crossing_chance": (0.25, 0.25),  # of a car seen from its side
    "bus_chance": (0.45, 0.4),
    "cloud_chance": (0.7, 0.5),
    "dash_chance": (1.0, 0.8),  # that a dash of the centre line is there
    "patches": (0.0, 3.0),  # repaired places in the road, which differ in brightness only
    # Light and lens
    # strength at each of TEXTURE_SCALES
    "texture": ((0.0, 0.03, 0.0, 0.0), (0.03, 0.05, 0.05, 0.05)),
    "shadow": (0.0, 0.45),  # how much light a cast shadow on the ground takes
    "haze": ((0.0, 0.0), (0.004, 0.01)),  # per metre of distance
    "slope": (0.0, 0.14),  # largest left-right and up-down change of light
    "vignette": (0.0, 0.1),  # light lost towards the corners
    "exposure": (0.04, 0.08),  # largest change of exposure
    "tint": (0.0, 0.03),  # largest change of the red and blue gain
    "blur": ((0.0, 0.0), (0.3, 0.6)),  # radius in pixels of a 112-row image
    "noise": ((1.0, 1.0), (2.0, 5.0)),  # standard deviation, grey levels
}

TEXTURE_SCALES = (1, 2, 6, 24)  # size of the speckles in drawn pixels of a 112-row image
# How strongly the texture shows on each class: leaves are rough, paint is smooth, sky is even.
ROUGHNESS = {
    **{"road": 0.6, "sidewalk": 0.7, "building": 0.6, "fence": 0.6, "pole": 0.3, "light": 0.3},
    **{"sign": 0.3, "vegetation": 1.6, "terrain": 1.3, "sky": 0.05, "person": 0.5, "car": 0.25},
    **{"bus": 0.25, "bicycle": 0.4},
}

OVERSAMPLING = 2  # scenes are drawn at twice the size and reduced
FAR = 300.0  # metres; where the ground ends and the sky begins

DEFAULT_SIZE = (112, 224)  # height, width
# At a gap of 0.7 a small DeepLab (500 steps on 400 source images; two sets of scenes) reaches 24
# and 28 mIoU on camera images, 37 and 41 with BatchNorm statistics of the target, 33 and 39 when
# trained on source images given the target's histograms, 73 and 72 with all target labels.
DEFAULT_GAP = 0.7


def look_at(gap: float) -> tuple[SimpleNamespace, dict[str, np.ndarray]]:
    """The style and the palette (n x 3 colours a name) at a gap: 0 is the game, 1 the camera."""

    def mixed(game, camera) -> np.ndarray:
        return (1 - gap) * np.asarray(game) + gap * np.asarray(camera)

    style = {name: mixed(*values).tolist() for name, values in STYLE.items()}
    palette = {name: mixed(*map(colours, texts)) for name, texts in PALETTE.items()}
    return SimpleNamespace(**style), palette
