"""What an answer costs a person: pixels, clicks, connected pieces."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_TOUCHING = np.ones((3, 3), int)  # pixels touch at edges and corners


@dataclass(frozen=True)
class Cost:
    """Of one image. pixels: at the native size of the image, so that a point asked of an image read
    at half its size counts as four. pieces: connected regions asked.
    clicks: regions of one class among them, each needing at least one click or stroke."""

    pixels: float
    clicks: int
    pieces: int


def count_cost(asked: np.ndarray, truth: np.ndarray, native_pixels: int) -> Cost:
    """asked: H x W booleans. truth: H x W classes, read only where asked.

    An isolated point is one click. A region that runs over a border between two classes takes one
    click a class at the least; drawing the border itself comes on top and is not counted.
    """
    pieces = ndimage.label(asked, _TOUCHING)[1]
    clicks = sum(
        ndimage.label(asked & (truth == index), _TOUCHING)[1] for index in np.unique(truth[asked])
    )
    return Cost(float(asked.sum()) * native_pixels / asked.size, clicks, pieces)
