"""Every mapping against a table written out by hand: raw id, dataset's name, class-set name."""

import numpy as np
import pytest

from labor_lib.errors import InputError
from labor_lib.labels import (
    CAMVID11,
    CITYSCAPES19,
    CLASS_SETS,
    IGNORE,
    ILLEGAL,
    NAMES,
    PALETTE,
    STREETS14,
    SYNTHIA13_NAMES,
    SYNTHIA16,
    colourise,
    raw_lookup,
)

# The class in each set of every raw id; "-" is ignored. Columns: id, name in the dataset, then
# cityscapes19, streets14, synthia16, camvid11.
CITYSCAPES = """
0  unlabelled      -  -  -  -
1  ego             -  -  -  -
2  border          -  -  -  -
3  outside         -  -  -  -
4  static          -  -  -  -
5  dynamic         -  -  -  -
6  ground          -  -  -  -
7  road            0  0  0  3
8  sidewalk        1  1  1  4
9  parking         -  -  -  -
10 rail-track      -  -  -  -
11 building        2  2  2  1
12 wall            3  -  3  -
13 fence           4  3  4  7
14 guard-rail      -  -  -  -
15 bridge          -  -  -  -
16 tunnel          -  -  -  -
17 pole            5  4  5  2
18 polegroup       -  -  -  -
19 traffic-light   6  5  6  6
20 traffic-sign    7  6  7  6
21 vegetation      8  7  8  5
22 terrain         9  8  -  5
23 sky             10 9  9  0
24 person          11 10 10 9
25 rider           12 -  11 10
26 car             13 11 12 8
27 truck           14 -  -  8
28 bus             15 12 13 8
29 caravan         -  -  -  -
30 trailer         -  -  -  -
31 train           16 -  -  -
32 motorcycle      17 -  14 10
33 bicycle         18 13 15 10
"""
SYNTHIA = """
0  void            -  -  -  -
1  sky             10 9  9  0
2  building        2  2  2  1
3  road            0  0  0  3
4  sidewalk        1  1  1  4
5  fence           4  3  4  7
6  vegetation      8  7  8  5
7  pole            5  4  5  2
8  car             13 11 12 8
9  traffic-sign    7  6  7  6
10 pedestrian      11 10 10 9
11 bicycle         18 13 15 10
12 motorcycle      17 -  14 10
13 parking-slot    -  -  -  -
14 road-work       -  -  -  -
15 traffic-light   6  5  6  6
16 terrain         9  8  -  5
17 rider           12 -  11 10
18 truck           14 -  -  8
19 bus             15 12 13 8
20 train           16 -  -  -
21 wall            3  -  3  -
22 lane-marking    -  -  -  -
"""
LICENCE_PLATE = "{} licence-plate - - - -\n"
TABLES = {
    "cityscapes": CITYSCAPES + LICENCE_PLATE.format(255),
    "gta5": CITYSCAPES + LICENCE_PLATE.format(34),
    "synthia": SYNTHIA,
}
COLUMNS = {"cityscapes19": 2, "streets14": 3, "synthia16": 4, "camvid11": 5}


@pytest.mark.parametrize("class_set", COLUMNS)
@pytest.mark.parametrize("dataset", TABLES)
def test_raw_ids_against_hand_written_table(dataset, class_set):
    expected = np.full(65536, ILLEGAL)
    for line in TABLES[dataset].strip().splitlines():
        cells = line.split()
        value = cells[COLUMNS[class_set]]
        expected[int(cells[0])] = IGNORE if value == "-" else int(value)
    lookup = raw_lookup(dataset, CLASS_SETS[class_set])
    assert lookup.dtype == np.uint8
    np.testing.assert_array_equal(lookup, expected)


def test_camvid_ids_are_its_own():
    lookup = raw_lookup("camvid", CAMVID11)
    assert lookup[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]
    assert (lookup[12:] == ILLEGAL).all()


@pytest.mark.parametrize("class_set", [CITYSCAPES19, STREETS14, SYNTHIA16])
def test_camvid_in_other_classes_is_refused(class_set):
    with pytest.raises(InputError, match="11 merged classes; use class set camvid11"):
        raw_lookup("camvid", class_set)


def test_unknown_dataset_is_refused():
    with pytest.raises(InputError, match=r"'kitti': unknown; choose from gta5, synthia"):
        raw_lookup("kitti", CITYSCAPES19)


def test_markers_are_no_class_of_any_set():
    assert IGNORE != ILLEGAL
    assert all(len(s) < ILLEGAL for s in CLASS_SETS.values())


def test_names_in_order():
    assert CITYSCAPES19.names == NAMES
    assert ", ".join(NAMES) == (
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, "
        "terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle"
    )
    assert ", ".join(STREETS14.names) == (
        "road, sidewalk, building, fence, pole, traffic light, traffic sign, vegetation, terrain, "
        "sky, person, car, bus, bicycle"
    )
    assert ", ".join(SYNTHIA16.names) == (
        "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, "
        "sky, person, rider, car, bus, motorcycle, bicycle"
    )
    assert ", ".join(SYNTHIA13_NAMES) == (
        "road, sidewalk, building, traffic light, traffic sign, vegetation, sky, person, rider, "
        "car, bus, motorcycle, bicycle"
    )
    assert ", ".join(CAMVID11.names) == (
        "sky, building, pole, road, pavement, tree, sign/symbol, fence, car, pedestrian, bicyclist"
    )
    assert {name: len(s) for name, s in CLASS_SETS.items()} == {
        "cityscapes19": 19,
        "streets14": 14,
        "synthia16": 16,
        "camvid11": 11,
    }


COLOURS = {  # as published by Cityscapes
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
CAMVID_AS_CITYSCAPES = {
    "pavement": "sidewalk",
    "tree": "vegetation",
    "sign/symbol": "traffic sign",
    "pedestrian": "person",
    "bicyclist": "bicycle",
}


@pytest.mark.parametrize("class_set", CLASS_SETS.values(), ids=CLASS_SETS)
def test_colours_are_those_of_cityscapes(class_set):
    assert class_set.palette.dtype == np.uint8
    for name, colour in zip(class_set.names, class_set.palette, strict=True):
        assert tuple(colour) == COLOURS[CAMVID_AS_CITYSCAPES.get(name, name)]
    assert len({tuple(c) for c in class_set.palette}) == len(class_set)  # no two alike


def test_train_ids_cover_every_class_and_nothing_else():
    assert PALETTE.shape == (19, 3)
    for class_set in CLASS_SETS.values():
        table = class_set.from_train_ids
        assert table.dtype == np.uint8
        assert table.shape == (256,)
        assert (table[19:] == IGNORE).all()
        assert set(table[:19].tolist()) - {IGNORE} == set(range(len(class_set)))


def test_colourise():
    label = np.array([[0, 6], [10, 255]], dtype=np.uint8)
    picture = colourise(label, CAMVID11)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [
        [list(COLOURS["sky"]), list(COLOURS["traffic sign"])],
        [list(COLOURS["bicycle"]), [0, 0, 0]],
    ]


def test_shared_tables_cannot_be_written_to():
    for array in (PALETTE, CAMVID11.palette, CAMVID11.from_train_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
