"""What an answer costs a person: pixels, clicks, connected pieces, and seconds."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from labor_lib.errors import InputError

ACTS = Path(__file__).with_name("costs.csv")
COUNTS = ("pixels", "clicks", "pieces")
TOUCHING = np.ones((3, 3), int)  # pixels touch at edges and corners


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
    pieces = ndimage.label(asked, TOUCHING)[1]
    clicks = int(click_numbers(asked, truth).max())
    return Cost(float(asked.sum()) * native_pixels / asked.size, clicks, pieces)


def click_numbers(asked: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The asked regions of one class numbered from 1, 0 where nothing is asked: H x W."""
    numbers = np.zeros(asked.shape, int)
    for index in np.unique(truth[asked]):
        regions, _ = ndimage.label(asked & (truth == index), TOUCHING)
        numbers += np.where(regions, regions + numbers.max(), 0)
    return numbers


@cache
def acts() -> pd.DataFrame:
    """How many seconds people need for what they do, a row an act (the index).

    seconds; meaning, in words; used: whether `person_seconds` computes with it (the others are
    there to compare with); source; checked: False where the figure was not read in its source.
    """
    return pd.read_csv(ACTS, index_col="act", true_values=["yes"], false_values=["no"])


def person_seconds(pixels, clicks, pieces, kind: str) -> tuple:
    """Seconds that a person needs at least and at most, from counts of an image (`Cost`).

    pixels, clicks, pieces: numbers, or arrays of one shape; also means over images.
    kind: what is asked, as `Method.kind` says it.

    "points": a key for every point (touching ones of one class count once); both are the same.
    "pixels": at least a key for every region of one class, as if borders cost nothing. At most the
        cheaper of two ways: a key for every pixel alone, or a key for every region and an outline
        for each that has to be separated from another one of its piece. Pixels are the file's: of
        images that are read at half their size an asked pixel counts four times, so that this bound
        is generous.
    "all", "few": the outline of every region of the image; both are the same.
    "tags", "class points": WDA's time for an image, whatever is in it; both are the same.
    "none": nothing.

    Raises InputError for another kind.
    """
    second = acts()["seconds"]
    if kind == "points":
        least = most = clicks * second["point"]
    elif kind == "pixels":
        least = clicks * second["region"]
        outlined = least + (clicks - pieces) * second["outline"]
        most = np.minimum(pixels * second["point"], outlined)
        most = np.maximum(least, most)  # a file smaller than the network's size has few pixels
    elif kind in ("all", "few"):
        least = most = clicks * second["outline"]
    elif kind in ("tags", "class points"):
        least = most = (clicks > 0) * second[kind]
    elif kind == "none":
        least = most = 0.0 * clicks
    else:
        raise InputError(
            f"kind '{kind}': choose from none, points, pixels, few, tags, class points, all"
        )
    return least, most
