"""Every mapping against a table written out by hand: raw id, dataset's name, class-set name."""

import numpy as np
import pytest

from labor_lib import labels
from labor_lib.data.segmentation import ILLEGAL, raw_lookup
from labor_lib.errors import InputError

# The class in each set of every raw id; "-" is ignored. Columns: id, name in the dataset, then
# cityscapes19, streets14, synthia16, camvid11.
CITYSCAPES = """
7  road            0  0  0  3
8  sidewalk        1  1  1  4
11 building        2  2  2  1
12 wall            3  -  3  -
13 fence           4  3  4  7
17 pole            5  4  5  2
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
31 train           16 -  -  -
32 motorcycle      17 -  14 10
33 bicycle         18 13 15 10
"""
SYNTHIA = """
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
15 traffic-light   6  5  6  6
16 terrain         9  8  -  5
17 rider           12 -  11 10
18 truck           14 -  -  8
19 bus             15 12 13 8
20 train           16 -  -  -
21 wall            3  -  3  -
"""
TABLES = {  # dataset: (classes, ids that are ignored)
    "cityscapes": (CITYSCAPES, (*range(7), 9, 10, *range(14, 17), 18, 29, 30, 255)),
    "gta5": (CITYSCAPES, (*range(7), 9, 10, *range(14, 17), 18, 29, 30, 34)),
    "synthia": (SYNTHIA, (0, 13, 14, 22)),
}
COLUMNS = {"cityscapes19": 2, "streets14": 3, "synthia16": 4, "camvid11": 5}


@pytest.mark.parametrize("class_set", COLUMNS)
@pytest.mark.parametrize("dataset", TABLES)
def test_raw_ids_against_hand_written_table(dataset, class_set):
    expected = np.full(65536, ILLEGAL)
    table, ignored = TABLES[dataset]
    expected[list(ignored)] = labels.IGNORE
    for line in table.strip().splitlines():
        cells = line.split()
        value = cells[COLUMNS[class_set]]
        expected[int(cells[0])] = labels.IGNORE if value == "-" else int(value)
        if dataset == "cityscapes" and value != "-" and class_set != "camvid11":
            assert labels.CLASS_SETS[class_set].names[int(value)] == cells[1].replace("-", " ")
    lookup = raw_lookup(dataset, labels.CLASS_SETS[class_set])
    assert lookup.dtype == np.uint8
    np.testing.assert_array_equal(lookup, expected)


def test_camvid_ids_are_its_own():
    lookup = raw_lookup("camvid", labels.CAMVID11)
    assert lookup[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]
    assert (lookup[12:] == ILLEGAL).all()
    names = "sky building pole road pavement tree sign/symbol fence car pedestrian bicyclist"
    assert labels.CAMVID11.names == tuple(names.split())
    for class_set in (labels.CITYSCAPES19, labels.STREETS14, labels.SYNTHIA16):
        with pytest.raises(InputError, match="use class set camvid11"):
            raw_lookup("camvid", class_set)
    with pytest.raises(InputError, match=r"'kitti': unknown; choose from gta5, synthia"):
        raw_lookup("kitti", labels.CITYSCAPES19)


def test_colours_are_those_of_cityscapes():
    for class_set in labels.CLASS_SETS.values():
        ids = [class_set.names.index(name) for name in ("road", "sky", "car")]
        picture = labels.colourise(np.array([[*ids, 255]], np.uint8), class_set)
        assert picture.dtype == np.uint8
        assert picture.tolist() == [[[128, 64, 128], [70, 130, 180], [0, 0, 142], [0, 0, 0]]]
        assert len(set(map(tuple, class_set.palette.tolist()))) == len(class_set)
    tree = labels.CAMVID11.palette[labels.CAMVID11.names.index("tree")]
    assert tuple(tree) == (107, 142, 35)  # CamVid's groups have the colour of their first
