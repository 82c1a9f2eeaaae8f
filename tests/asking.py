"""A store for the tests of the sheet that people answer on.

It asks about photographs of 48 x 96 pixels at 8 x 16, so that a cell is a square of 6 pixels.
"""

import numpy as np
from PIL import Image

from labor_lib.annotation.store import Store
from labor_lib.selection.record import Selection

SIZE, NATIVE = (8, 16), (48, 96)
CLASSES = ("road", "<b>sky</b>", "car")
COLOURS = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)])
POINTS = [[3, 40, 90], [17, 100, 127]]  # flat positions
PIECE = [20, 21, 36, 37, 38]


def pixel(position):
    """The rows and columns of a position's square in the photograph."""
    row, column = divmod(position, SIZE[1])
    return slice(6 * row, 6 * row + 6), slice(6 * column, 6 * column + 6)


def make_store(folder):
    """Two photographs, blue but for the asked points, which are red; three points on each, and a
    piece of the first."""
    store = Store.create(folder / "store.sqlite", CLASSES, COLOURS)
    names = ["<i>one</i>.png", "two.png"]
    paths = [folder / f"{number}.png" for number in range(2)]
    for path, points in zip(paths, POINTS, strict=True):
        photo = np.full((*NATIVE, 3), (0, 0, 200), np.uint8)
        for position in points:
            photo[pixel(position)] = (250, 0, 0)
        Image.fromarray(photo).save(path)
    store.add_images(names, paths)
    points = [np.array(one) for one in POINTS]
    guesses = [np.full(3, 2, np.uint8), np.full(3, 255, np.uint8)]
    store.ask(Selection(SIZE, points), "ppl", kind="point", images=names, guesses=guesses)
    piece = [np.array(PIECE), np.empty(0, np.int64)]
    store.ask(Selection(SIZE, piece), "spl", kind="segment", images=names)
    return store
