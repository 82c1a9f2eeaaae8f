"""Class names, colours and class sets: the 19 Cityscapes classes and the sets made of them.

A label goes two steps, each a table: the id in a dataset's file ("raw id") to one of the 19
Cityscapes train ids, and the train id to the id in the class set that a run trains and is scored
on. The first belongs to the dataset's layout (`labor_lib.data.segmentation.LAYOUTS`), the second
to the class set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

IGNORE = 255  # pixels that are neither trained on nor scored

# The 19 Cityscapes classes, in order of train id, and their published colours (RGB).
_COLOURS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
NAMES = tuple(_COLOURS)
PALETTE = np.array(list(_COLOURS.values()), dtype=np.uint8)  # 19 x 3
PALETTE.setflags(write=False)


@dataclass(frozen=True)
class ClassSet:
    """The classes of one run: what is predicted, scored and drawn.

    name            key in `CLASS_SETS`
    names           n class names; the position is the class id
    palette         n x 3 uint8, RGB
    from_train_ids  256 uint8: Cityscapes train id -> class id, 255 = ignored
    ids             {id in the source's label files: class id}, of classes of one's own; others are
                    ignored. None: `from_train_ids` says it
    """

    name: str
    names: tuple[str, ...]
    palette: np.ndarray = field(repr=False, compare=False)
    from_train_ids: np.ndarray = field(repr=False, compare=False)
    ids: Mapping[int, int] | None = field(default=None, repr=False, compare=False)

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


def _without(name: str, *left_out: str) -> ClassSet:
    """A class set of some of the 19 classes: all but those left out."""
    return _class_set(name, {one: (one,) for one in NAMES if one not in left_out})


CITYSCAPES19 = _without("cityscapes19")

# SYNTHIA -> Cityscapes is trained on 16 classes and scored twice: over all 16 and over 13.
SYNTHIA16 = _without("synthia16", "terrain", "truck", "train")
SYNTHIA13_NAMES = tuple(one for one in SYNTHIA16.names if one not in ("wall", "fence", "pole"))

# The classes that the embedded benchmark draws.
STREETS14 = _without("streets14", "wall", "rider", "truck", "train", "motorcycle")

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


def own_classes(rows: Sequence[tuple[str, str, Sequence[int]]]) -> ClassSet:
    """Classes of one's own: name, colour as "#rrggbb" and ids in the source's label files each."""
    palette = np.array([list(bytes.fromhex(colour[1:])) for _, colour, _ in rows], dtype=np.uint8)
    ids = {raw: number for number, (_, _, raws) in enumerate(rows) for raw in raws}
    nothing = np.full(256, IGNORE, dtype=np.uint8)
    return ClassSet("own", tuple(name for name, _, _ in rows), palette, nothing, ids)


def classes_of(data) -> ClassSet:
    """The classes of a run's `DataConfig`: its own where it has some, or the set that it names."""
    return own_classes(data.classes) if data.classes else CLASS_SETS[data.class_set]


def colourise(label: np.ndarray, class_set: ClassSet) -> np.ndarray:
    """Colour picture of a label: H x W uint8 class ids -> H x W x 3 uint8 RGB, ignored black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(class_set)] = class_set.palette
    return colours[np.asarray(label)]
