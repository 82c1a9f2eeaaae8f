"""Class names, colours and ids: the 19 Cityscapes classes and every mapping into them.

A label goes two steps, each a table: the id in a dataset's file ("raw id") to one of the 19
Cityscapes train ids, and the train id to the id in the class set that a run trains and is scored
on. `raw_lookup` is both at once.

    lookup = raw_lookup("gta5", STREETS14)     # 65536 uint8
    label = lookup[raw]                        # H x W raw ids -> H x W class-set ids, 255 = ignored
"""

from dataclasses import dataclass, field

import numpy as np

from labor_lib.errors import InputError

IGNORE = 255  # pixels that are neither trained on nor scored
ILLEGAL = 254  # in `raw_lookup` only: an id that the dataset does not have

# The 19 Cityscapes classes, in order of train id, and their published colours.
NAMES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
PALETTE = np.array(
    [
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ],
    dtype=np.uint8,
)  # 19 x 3, RGB
PALETTE.setflags(write=False)

# Cityscapes label id -> train id. The other legal ids (0..6 void, 9 parking, 10 rail track,
# 14 guard rail, 15 bridge, 16 tunnel, 18 pole group, 29 caravan, 30 trailer) are ignored, and so
# is the licence plate: -1, which an 8-bit file holds as 255, and GTA5 as 34.
CITYSCAPES_TO_TRAIN = {
    7: 0,  # road
    8: 1,  # sidewalk
    11: 2,  # building
    12: 3,  # wall
    13: 4,  # fence
    17: 5,  # pole
    19: 6,  # traffic light
    20: 7,  # traffic sign
    21: 8,  # vegetation
    22: 9,  # terrain
    23: 10,  # sky
    24: 11,  # person
    25: 12,  # rider
    26: 13,  # car
    27: 14,  # truck
    28: 15,  # bus
    31: 16,  # train
    32: 17,  # motorcycle
    33: 18,  # bicycle
}

# SYNTHIA-RAND-CITYSCAPES id -> train id, as published with AdaptSegNet (Tsai et al., CVPR 2018).
# Ignored: 0 void, 13 parking slot, 14 road work, 22 lane marking. Terrain (16), truck (18) and
# train (20) are kept here and left out by SYNTHIA16.
SYNTHIA_TO_TRAIN = {
    3: 0,  # road
    4: 1,  # sidewalk
    2: 2,  # building
    21: 3,  # wall
    5: 4,  # fence
    7: 5,  # pole
    15: 6,  # traffic light
    9: 7,  # traffic sign
    6: 8,  # vegetation
    16: 9,  # terrain
    1: 10,  # sky
    10: 11,  # person: "pedestrian"
    17: 12,  # rider
    8: 13,  # car
    18: 14,  # truck
    19: 15,  # bus
    20: 16,  # train
    12: 17,  # motorcycle
    11: 18,  # bicycle
}


@dataclass(frozen=True)
class ClassSet:
    """The classes of one run: what is predicted, scored and drawn.

    name            key in `CLASS_SETS`
    names           n class names; the position is the class id
    palette         n x 3 uint8, RGB
    from_train_ids  256 uint8: Cityscapes train id -> class id, 255 = ignored
    """

    name: str
    names: tuple[str, ...]
    palette: np.ndarray = field(repr=False, compare=False)
    from_train_ids: np.ndarray = field(repr=False, compare=False)

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)


def _class_set(name: str, groups: dict[str, tuple[str, ...]]) -> ClassSet:
    """A class set from {its class: the Cityscapes classes it holds, the first giving the colour}"""
    from_train_ids = np.full(256, IGNORE, dtype=np.uint8)
    palette = np.zeros((len(groups), 3), dtype=np.uint8)
    for class_id, members in enumerate(groups.values()):
        train_ids = [NAMES.index(member) for member in members]
        from_train_ids[train_ids] = class_id
        palette[class_id] = PALETTE[train_ids[0]]
    for array in (from_train_ids, palette):
        array.setflags(write=False)  # shared by everyone
    return ClassSet(name, tuple(groups), palette, from_train_ids)


def _subset(name: str, names: tuple[str, ...]) -> ClassSet:
    """A class set of some of the 19 classes, in the order given."""
    return _class_set(name, {one: (one,) for one in names})


# SYNTHIA -> Cityscapes is trained on 16 classes and scored twice: over all 16 and over 13.
SYNTHIA16_NAMES = tuple(n for n in NAMES if n not in ("terrain", "truck", "train"))
SYNTHIA13_NAMES = tuple(n for n in SYNTHIA16_NAMES if n not in ("wall", "fence", "pole"))

CITYSCAPES19 = _subset("cityscapes19", NAMES)
SYNTHIA16 = _subset("synthia16", SYNTHIA16_NAMES)

# The classes that the embedded benchmark draws.
STREETS14 = _subset(
    "streets14",
    (
        "road",
        "sidewalk",
        "building",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "car",
        "bus",
        "bicycle",
    ),
)

# CamVid's own 11 classes: training and scoring on CamVid both happen in them, and its label files
# hold these ids. `wall` and `train` are ignored: the 11 have no class for either, and counting
# them as building and car would be a guess.
CAMVID11 = _class_set(
    "camvid11",
    {
        "sky": ("sky",),
        "building": ("building",),
        "pole": ("pole",),
        "road": ("road",),
        "pavement": ("sidewalk",),
        "tree": ("vegetation", "terrain"),
        "sign/symbol": ("traffic sign", "traffic light"),
        "fence": ("fence",),
        "car": ("car", "bus", "truck"),
        "pedestrian": ("person",),
        "bicyclist": ("bicycle", "rider", "motorcycle"),
    },
)

CLASS_SETS = {s.name: s for s in (CITYSCAPES19, STREETS14, SYNTHIA16, CAMVID11)}

# The ids that a dataset's label files may hold; any other id means another dataset's folder.
LEGAL_IDS = {
    "gta5": (*range(35),),
    "synthia": (*range(23),),
    "cityscapes": (*range(34), 255),
    "camvid": (*range(12),),  # 11 is void
}


def raw_lookup(dataset: str, class_set: ClassSet) -> np.ndarray:
    """Table from the ids in a dataset's label files to the ids of a class set.

    dataset  "gta5", "synthia", "cityscapes" or "camvid"

    Returns 65536 uint8, for 8-bit and 16-bit files alike: a class id, or 255 for an id that is
    legal but ignored, or 254 (`ILLEGAL`) for one that the dataset does not have.
    Raises InputError for an unknown dataset and for CamVid labels in other than their 11 classes.
    """
    if dataset not in LEGAL_IDS:
        raise InputError(f"dataset {dataset!r}: unknown; choose from {', '.join(LEGAL_IDS)}")
    lookup = np.full(65536, ILLEGAL, dtype=np.uint8)
    lookup[list(LEGAL_IDS[dataset])] = IGNORE
    if dataset == "camvid":
        if class_set.name != CAMVID11.name:
            raise InputError(
                f"class set {class_set.name}: camvid labels have 11 merged classes; "
                f"use class set {CAMVID11.name}"
            )
        lookup[: len(CAMVID11)] = range(len(CAMVID11))
        return lookup
    to_train = SYNTHIA_TO_TRAIN if dataset == "synthia" else CITYSCAPES_TO_TRAIN
    for raw_id, train_id in to_train.items():
        lookup[raw_id] = class_set.from_train_ids[train_id]
    return lookup


def colourise(label: np.ndarray, class_set: ClassSet) -> np.ndarray:
    """Colour picture of a label: H x W uint8 class ids -> H x W x 3 uint8 RGB, ignored black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(class_set)] = class_set.palette
    return colours[np.asarray(label)]
