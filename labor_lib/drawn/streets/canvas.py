"""A pinhole camera and what paints through it: colour, label and distance of every pixel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from labor_lib.drawn.streets.look import (
    FAR,
    OVERSAMPLING,
    SKY,
    Colour,
    Span,
    Style,
)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter (factor above 1) or darker."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


class Canvas:
    """Colour, label and distance of a scene, painted together; and its camera and dice.

    World coordinates are metres: x to the right of the road's middle, y up from the ground,
    z ahead of the camera. Pixel coordinates are those of the drawn (oversampled) image.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        style: Style,
        palette: dict[str, np.ndarray],
        size: tuple[int, int],
    ):
        self.rng, self.style, self.palette = rng, style, palette
        self.height, self.width = (side * OVERSAMPLING for side in size)
        self.unit = self.height / 224  # drawn pixels for what is one at the default size

        self.camera_height = self.between(style.camera_height)
        self.focal = self.width * self.between(style.focal)  # pixels
        self.horizon = self.height * self.between(style.horizon)
        self.roll = style.roll * rng.uniform(-1, 1)
        self.middle = self.width * rng.uniform(0.40, 0.60)  # column of the vanishing point
        self.camera_x = rng.uniform(-1.5, 1.5)

        self.image = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), SKY)
        self.depth = Image.new("F", (self.width, self.height), FAR)  # metres
        self._image = ImageDraw.Draw(self.image)
        self._labels = ImageDraw.Draw(self.labels)
        self._depth = ImageDraw.Draw(self.depth)

    # Dice

    def between(self, span: Span) -> float:
        return float(self.rng.uniform(*span))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def colour(self, name: str, jitter: float = 8.0) -> Colour:
        """One of the palette's colours of that name, a little off."""
        colours = self.palette[name]
        # Mostly brightness varies, hue a little.
        change = 0.9 * self.rng.normal(0, jitter) + 0.4 * self.rng.normal(0, jitter, 3)
        chosen = colours[self.rng.integers(len(colours))] + change
        return tuple(int(channel) for channel in chosen.clip(0, 255))

    def one_of(self, colours: Sequence[Colour]) -> Colour:
        return colours[self.rng.integers(len(colours))]

    # Geometry

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel that shows a point given in metres."""
        column = self.middle + self.focal * (x - self.camera_x) / z
        row = self.horizon + self.focal * (self.camera_height - y) / z
        return column, row + self.roll * (column - self.middle)

    def scale(self, z: float) -> float:
        """Pixels per metre at distance z."""
        return self.focal / z

    # Painting. With a label, all three layers are painted; without one, only the colour (a
    # detail on something painted before); without a colour, the colour behind shows through.

    def polygon(self, points, colour, label=None, z=None):
        if colour is not None:
            self._image.polygon(points, fill=colour)
        if label is not None:
            self._labels.polygon(points, fill=label)
            self._depth.polygon(points, fill=z)

    def ellipse(self, centre, radii, colour, label=None, z=None):
        (x, y), (a, b) = centre, radii
        box = (x - a, y - b, x + a, y + b)
        if colour is not None:
            self._image.ellipse(box, fill=colour)
        if label is not None:
            self._labels.ellipse(box, fill=label)
            self._depth.ellipse(box, fill=z)

    def ring(self, centre, radius, thickness, colour):
        x, y = centre
        box = (x - radius, y - radius, x + radius, y + radius)
        self._image.ellipse(box, outline=colour, width=thickness)

    def line(self, points, thickness, colour, label=None, z=None):
        thickness = max(1, round(thickness))
        self._image.line(points, fill=colour, width=thickness)
        if label is not None:
            self._labels.line(points, fill=label, width=thickness)
            self._depth.line(points, fill=z, width=thickness)

    def shape(self, outline, z, colour, label=None):
        """A flat shape that faces the camera; `outline` lists its corners (x, y)."""
        self.polygon([self.project(x, y, z) for x, y in outline], colour, label, z)

    def board(self, x0, x1, y0, y1, z, colour, label=None):
        """A rectangle that faces the camera."""
        self.shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), z, colour, label)

    def wall(self, x, y0, y1, z0, z1, colour, label=None):
        """A rectangle along the street."""
        corners = ((y0, z0), (y0, z1), (y1, z1), (y1, z0))
        points = [self.project(x, y, z) for y, z in corners]
        self.polygon(points, colour, label, (z0 + z1) / 2)

    def strip(self, x0, x1, z0, z1, colour, label=None):
        """A rectangle that lies on the ground."""
        corners = ((x0, z0), (x1, z0), (x1, z1), (x0, z1))
        self.polygon([self.project(x, 0, z) for x, z in corners], colour, label, z0)

    def contact_shadow(self, x0, x1, z, strength=0.45):
        """The dark patch under an object that stands on the ground."""
        (left, row), (right, _) = self.project(x0, 0, z), self.project(x1, 0, z)
        middle = (left + right) / 2
        column = int(min(self.width - 1, max(0, middle)))
        below = self.image.getpixel((column, int(min(self.height - 1, max(0, row + 1)))))
        flat = max(self.unit, (right - left) * 0.08)
        centre = (middle, row + flat * 0.2)
        self.ellipse(centre, ((right - left) / 2, flat), shade(below, strength))
