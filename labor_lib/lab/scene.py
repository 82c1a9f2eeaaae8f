"""One image with all that a method saw of it and asked there, and the layers drawn over it.

    paint(base, [Tint(mask), Stripes(errors)]) -> an enlarged picture

Widgets, figures and notebooks all draw with these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from labor_lib.labels import IGNORE

MASK_COLOUR = (86, 180, 233)  # sky blue
ASKED_COLOUR = (240, 228, 66)  # yellow
ERROR_COLOUR = (204, 121, 167)  # magenta, striped: visible in grey, too
WHITE = (255, 255, 255)  # over the colours of classes, where any hue could be a class
PICTURE_WIDTH = 960  # pixels, about, of a painted picture
CIVIDIS = matplotlib.colormaps["cividis"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What one stage of one method saw of one training image of the target, and asked there.

    image: H x W x 3, uint8. truth: H x W, uint8, 255 = void. probs: C x H x W, of the segmenter
    that the stage began or ended with. mask: H x W booleans, where the selector's two classifiers
    disagree; None where the method has no pixel selector. positions: flat (row * W + column), asked
    in this stage; answers: as many class ids, 255 = void. points: whether it asks for points,
    rather than pixels.
    """

    name: str = ""
    image: np.ndarray
    truth: np.ndarray | None = None
    probs: np.ndarray | None = None
    mask: np.ndarray | None = None
    positions: np.ndarray = ()
    answers: np.ndarray = ()
    points: bool = False

    @cached_property
    def prediction(self) -> np.ndarray:
        """H x W, uint8."""
        return self.probs.argmax(axis=0).astype(np.uint8)

    @cached_property
    def errors(self) -> np.ndarray:
        """H x W booleans; a void pixel is no error."""
        return (self.prediction != self.truth) & (self.truth != IGNORE)

    @cached_property
    def entropy(self) -> np.ndarray:
        """H x W in [0, 1]: of the class probabilities, divided by log C."""
        return normalised_entropy(self.probs)

    @cached_property
    def asked(self) -> np.ndarray:
        """H x W booleans: the pixels at `positions`."""
        return self.where(self.positions)

    def where(self, positions: np.ndarray) -> np.ndarray:
        """Flat positions as H x W booleans."""
        found = np.zeros(self.image.shape[:2], bool)
        found.flat[np.asarray(positions, np.int64)] = True
        return found


def normalised_entropy(probs: np.ndarray) -> np.ndarray:
    """-sum_c p_c log p_c / log C: C x H x W -> H x W in [0, 1]."""
    logs = np.log(np.clip(probs, 1e-12, None))
    return -(probs * logs).sum(axis=0) / np.log(len(probs))


# -------------------------------------------------------------------------------------- layers


@dataclass(frozen=True, eq=False)
class Layer:
    """Something over a part of a picture. label: its name in a legend.

    where: H x W booleans, or what the subclass says.
    """

    where: np.ndarray
    label: str = ""
    colour: ClassVar[tuple] = WHITE

    def draw(self, picture: np.ndarray, scale: int) -> None:
        """Change a picture of (scale H) x (scale W) x 3 uint8 in place."""
        raise NotImplementedError

    def handle(self) -> Artist:
        """The entry in a legend."""
        return swatch(self.colour, self.label)


@dataclass(frozen=True, eq=False)
class Tint(Layer):
    """A transparent colour, by default the mask's blue."""

    colour: tuple = MASK_COLOUR

    def draw(self, picture: np.ndarray, scale: int) -> None:
        there = enlarged(self.where, scale)
        picture[there] = (0.35 * picture[there] + 0.65 * np.array(self.colour)).round()


@dataclass(frozen=True, eq=False)
class Heat(Layer):
    """where: H x W values in [0, 1], in the colours of cividis over grey; NaN: nothing."""

    strength: float = 0.5
    colour = (0, 34, 78)

    def draw(self, picture: np.ndarray, scale: int) -> None:
        values = enlarged(self.where, scale)
        there = np.isfinite(values)
        grey = picture[there].mean(axis=1, keepdims=True)
        colours = CIVIDIS(values[there], bytes=True)[:, :3]
        picture[there] = ((1 - self.strength) * grey + self.strength * colours).round()


@dataclass(frozen=True, eq=False)
class Stripes(Layer):
    """The stripes of errors; white ones have black edges."""

    colour: tuple = ERROR_COLOUR

    def draw(self, picture: np.ndarray, scale: int) -> None:
        phase = np.add.outer(*map(np.arange, picture.shape[:2])) % 8
        there = enlarged(self.where, scale)
        if self.colour == WHITE:
            picture[there & ((phase == 7) | (phase == 4))] = 0
        picture[there & (phase < 4)] = self.colour

    def handle(self) -> Artist:
        look = {"facecolor": "black" if self.colour == WHITE else "white", "hatch": "//////"}
        return Patch(edgecolor=[c / 255 for c in self.colour], label=self.label, **look)


class Pixels(Layer):
    """The opaque yellow of asked pixels, with a dark outline where pixels are enlarged."""

    colour = ASKED_COLOUR

    def draw(self, picture: np.ndarray, scale: int) -> None:
        there = enlarged(self.where, scale)
        if scale > 1:
            picture[binary_dilation(there)] = 0  # visible on yellow entropy, too
        picture[there] = self.colour


@dataclass(frozen=True, eq=False)
class Dots(Layer):
    """Ringed dots. where: n flat positions; colours: n x 3, of 255; radius in pixels."""

    colours: np.ndarray = ()
    radius: float = 9

    def draw(self, picture: np.ndarray, scale: int) -> None:
        for share, fill in ((1, (255, 255, 255)), (0.78, (0, 0, 0)), (0.61, None)):
            looks = [{"fill": fill or tuple(map(int, colour))} for colour in self.colours]
            _draw_circles(picture, self.where, scale, share * self.radius, looks)

    def handle(self) -> Artist:
        look = {"color": "white", "marker": "o", "ls": "", "mec": "black", "mew": 1.5}
        return Line2D([], [], label=self.label, **look)


class Rings(Layer):
    """Rings, dark and white, that leave the pixels at n flat positions free."""

    def draw(self, picture: np.ndarray, scale: int) -> None:
        radius = max(12, 0.9 * scale)
        for more, colour, width in ((2, (0, 0, 0), 7), (0, (255, 255, 255), 3)):
            looks = [{"outline": colour, "width": width}] * len(self.where)
            _draw_circles(picture, self.where, scale, radius + more, looks)


def _draw_circles(picture: np.ndarray, positions, scale: int, radius: float, looks) -> None:
    """In place, round flat positions of the picture before it was enlarged."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    rows, columns = np.divmod(np.asarray(positions, np.int64), picture.shape[1] // scale)
    for x, y, look in zip((columns + 0.5) * scale, (rows + 0.5) * scale, looks, strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), **look)
    picture[:] = np.asarray(image)


def swatch(colour: Sequence[int], label: str) -> Patch:
    """A legend's entry; colour: RGB of 255."""
    return Patch(facecolor=[c / 255 for c in colour], edgecolor="#555555", lw=0.6, label=label)


# ------------------------------------------------------------------------------------- pictures


def paint(
    base: np.ndarray, layers: Sequence[Layer] = (), width: int = PICTURE_WIDTH, opacity: float = 1
) -> np.ndarray:
    """An enlarged picture under layers, the first lowest: H x W x 3 uint8 -> h x w x 3 uint8.

    width: about as many pixels; each pixel of the image becomes a square of whole size.
    opacity: of all layers together.
    """
    scale = max(1, round(width / base.shape[1]))
    below = enlarged(base, scale)
    picture = below.copy()
    for layer in layers:
        layer.draw(picture, scale)
    if opacity < 1:
        picture = (opacity * picture + (1 - opacity) * below).round().astype(np.uint8)
    return picture


def enlarged(array: np.ndarray, scale: int) -> np.ndarray:
    """H x W x ... -> (scale H) x (scale W) x ..., every pixel a square."""
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def dimmed(image: np.ndarray) -> np.ndarray:
    """Grey and darker, so that layers stand out: H x W x 3 uint8 -> the same."""
    grey = image.mean(axis=2, keepdims=True)
    return np.repeat((0.55 * grey + 25).round().astype(np.uint8), 3, axis=2)


def faded(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The picture dark and grey where it is not `inside`, H x W booleans."""
    dark = 0.25 * image.mean(axis=2, keepdims=True) + 20
    return np.where(inside[..., None], image, dark.round()).astype(np.uint8)
