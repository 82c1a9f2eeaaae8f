"""A pinhole camera and what paints through it: colour, label and distance of every pixel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from labor_lib.drawn.streets.look import FAR, IDS, OVERSAMPLING, Colour, Span, look_at


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter (factor above 1) or darker."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


class Canvas:
    """Colour, label and distance of a scene, painted together; and its camera and dice.

    World coordinates are metres: x to the right of the road's middle, y up from the ground,
    z ahead of the camera. Pixel coordinates are those of the drawn (oversampled) image.
    """

    def __init__(self, rng: np.random.Generator, gap: float, size: tuple[int, int]):
        self.rng = rng
        self.style, self.palette = look_at(gap)
        self.height, self.width = (side * OVERSAMPLING for side in size)
        self.unit = self.height / 224  # drawn pixels for what is one at the default size

        self.camera_height = self.between(self.style.camera_height)
        self.focal = self.width * self.between(self.style.focal)  # pixels
        self.horizon = self.height * self.between(self.style.horizon)
        self.roll = self.style.roll * rng.uniform(-1, 1)
        self.middle = self.width * rng.uniform(0.40, 0.60)  # column of the vanishing point
        self.camera_x = rng.uniform(-1.5, 1.5)

        self.image = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), IDS["sky"])
        self.depth = Image.new("F", (self.width, self.height), FAR)  # metres
        layers = (self.image, self.labels, self.depth)
        self._image, self._labels, self._depth = map(ImageDraw.Draw, layers)

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

    def points(self, z: float, *corners: tuple[float, float]) -> list[tuple[float, float]]:
        """The pixels that show points (x, y) at distance z."""
        return [self.project(x, y, z) for x, y in corners]

    # Painting. With a label, all three layers are painted; without one, only the colour (a
    # detail on something painted before); without a colour, the colour behind shows through.

    def _paint(self, tool: str, place, colour, label: str | None, z, **settings) -> None:
        if colour is not None:
            getattr(self._image, tool)(place, fill=colour, **settings)
        if label is not None:
            getattr(self._labels, tool)(place, fill=IDS[label], **settings)
            getattr(self._depth, tool)(place, fill=z, **settings)

    def polygon(self, points, colour, label=None, z=None):
        self._paint("polygon", points, colour, label, z)

    def ellipse(self, centre, radii, colour, label=None, z=None):
        (x, y), (a, b) = centre, radii
        self._paint("ellipse", (x - a, y - b, x + a, y + b), colour, label, z)

    def ring(self, centre, radius, thickness, colour):
        (x, y), r = centre, radius
        self._image.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=thickness)

    def line(self, points, thickness, colour, label=None, z=None):
        self._paint("line", points, colour, label, z, width=max(1, round(thickness)))

    def shape(self, outline, z, colour, label=None):
        """A flat shape that faces the camera; `outline` lists its corners (x, y)."""
        self.polygon(self.points(z, *outline), colour, label, z)

    def board(self, x0, x1, y0, y1, z, colour, label=None):
        """A rectangle that faces the camera."""
        self.shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), z, colour, label)

    def surface(self, corners, z, colour, label=None):
        """A flat shape of corners (x, y, z), painted as if all of it were at distance z."""
        self.polygon([self.project(*corner) for corner in corners], colour, label, z)

    def wall(self, x, y0, y1, z0, z1, colour, label=None):
        """A rectangle along the street."""
        corners = ((x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0))
        self.surface(corners, (z0 + z1) / 2, colour, label)

    def strip(self, x0, x1, z0, z1, colour, label=None):
        """A rectangle that lies on the ground."""
        self.surface(((x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)), z0, colour, label)

    def contact_shadow(self, x0, x1, z, strength=0.45):
        """The dark patch under an object that stands on the ground."""
        (left, row), (right, _) = self.project(x0, 0, z), self.project(x1, 0, z)
        middle = (left + right) / 2
        column = int(min(self.width - 1, max(0, middle)))
        below = self.image.getpixel((column, int(min(self.height - 1, max(0, row + 1)))))
        flat = max(self.unit, (right - left) * 0.08)
        centre = (middle, row + flat * 0.2)
        self.ellipse(centre, ((right - left) / 2, flat), shade(below, strength))
