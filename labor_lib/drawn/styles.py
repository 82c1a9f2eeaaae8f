"""Seven shapes in four styles, drawn for domain generalisation, like PACS but small.

The *shape* is the class in every style, dark on a lighter ground. Colour is a trap: in each style
every class has its own colour of the object (in *sketch*, its own angle of hatching), which most of
its images wear, and no class has the same one in two styles. A network that leans on it is right in
the styles it was trained on and wrong in the one left out. The ground's colour means nothing.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from labor_lib.data.classification import Domain, make_domain
from labor_lib.runtime import derive_seed

CLASSES = ("arrow", "cross", "fish", "heart", "house", "moon", "star")
STYLES = ("photo", "cartoon", "sketch", "painting")
BOND = 0.7  # share of the images that wear the look of their class; the others wear any
_FINE = 2  # pixels of the drawing for one of the image, along each side


# --------------------------------------------------------------------------------- shapes


_CORNERS = {  # x, y
    "arrow": "0 -1  .75 -.15  .3 -.15  .3 1  -.3 1  -.3 -.15  -.75 -.15",
    "cross": "-.32 -.95  .32 -.95  .32 -.32  .95 -.32  .95 .32  .32 .32  .32 .95  -.32 .95  "
    "-.32 .32  -.95 .32  -.95 -.32  -.32 -.32",
    "house": "0 -.95  .4 -.6  .4 -.9  .62 -.9  .62 -.4  .95 -.1  .7 -.1  .7 .9  .2 .9  .2 .3  "
    "-.2 .3  -.2 .9  -.7 .9  -.7 -.1  -.95 -.1",
}


def _outline(shape: str) -> np.ndarray:
    """The shape's outline: points x 2 (x to the right, y down) within [-1, 1]."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    if shape == "fish":
        body = turn[(turn > 0.35) & (turn < 2 * np.pi - 0.35)]
        body = np.stack([0.7 * np.cos(body) - 0.3, 0.55 * np.sin(body)], 1)
        return np.concatenate([body, [(0.95, -0.55), (0.8, 0), (0.95, 0.55)]])
    if shape == "heart":
        x = np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([0.95 * x, -y / 16 - 0.1], 1)
    if shape == "moon":
        outer = np.linspace(-0.3 * np.pi, -1.7 * np.pi, 40)
        inner = np.linspace(-1.6 * np.pi, -0.4 * np.pi, 40)
        outer = np.stack([0.95 * np.cos(outer) + 0.1, 0.95 * np.sin(outer)], 1)
        inner = np.stack([0.75 * np.cos(inner) + 0.43, 0.81 * np.sin(inner)], 1)
        return np.concatenate([outer, inner])
    if shape == "star":
        points = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2, 0.42, 1.0)
        return np.stack([radius * np.cos(points), radius * np.sin(points)], 1)
    return np.array(_CORNERS[shape].split(), float).reshape(-1, 2)


def _placed(shape: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """The outline turned, stretched, bent a little and put somewhere: points x 2 in pixels."""
    points = _outline(shape)
    angle = np.deg2rad(rng.uniform(-15, 15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.exp(rng.uniform(-0.1, 0.1, 2))
    if rng.random() < 0.5:
        stretch[0] *= -1
    points = points * stretch @ turn.T
    points = points + 0.06 * np.sin(3 * points[:, ::-1] + rng.uniform(0, 2 * np.pi, 2))
    radius = size * rng.uniform(0.32, 0.42)
    room = size / 2 - radius
    centre = size / 2 + rng.uniform(-0.6, 0.6, 2) * room
    return centre + radius * points


def _mask(points: np.ndarray, size: int) -> np.ndarray:
    """1 inside the outline: size x size float in [0, 1]."""
    page = Image.new("L", (size * 2, size * 2))
    ImageDraw.Draw(page).polygon([tuple(2 * point) for point in points], fill=255)
    return np.asarray(page.reduce(2)) / 255


# --------------------------------------------------------------------------------- styles
# Each is drawn from points x 2 and gives size x size x 3 floats around [0, 1]. Hues are in [0, 1].


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """3 values in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _field(size: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of mean 0 and deviation 1; `scale` is its grain in pixels."""
    coarse = max(2, round(size / scale))
    small = Image.fromarray(rng.standard_normal((coarse, coarse)).astype(np.float32))
    field = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    return (field - field.mean()) / (field.std() + 1e-6)


def _photo(points, object_hue, ground_hue, rng, size):
    """Light from one side, grain, a shadow, a background out of focus, noise."""
    mask = _mask(points, size)[..., None]
    y, x = np.mgrid[:size, :size] / size - 0.5
    ground = _rgb(ground_hue, 0.35, 0.8) + 0.10 * _field(size, size / 4, rng)[..., None]
    light = rng.uniform(0, 2 * np.pi)
    shade = 0.75 + 0.6 * (x * np.cos(light) + y * np.sin(light))
    grain = 1 + 0.10 * _field(size, size / 16, rng)
    surface = _rgb(object_hue, 0.7, 0.5) * (shade * grain)[..., None]
    move = np.rint(-size / 14 * np.array([np.sin(light), np.cos(light)])).astype(int)
    shadow = ndimage.gaussian_filter(np.roll(mask[..., 0], move, (0, 1)), size / 24)
    ground = ground * (1 - 0.6 * shadow[..., None])
    image = ground * (1 - mask) + surface * mask
    return image + 0.03 * rng.standard_normal(image.shape)


def _cartoon(points, object_hue, ground_hue, rng, size):
    """Flat bright colours and a thick black outline."""
    ground = Image.new("RGB", (size, size), _byte(_rgb(ground_hue, 0.35, 1.0)))
    draw = ImageDraw.Draw(ground)
    corners = [tuple(point) for point in points]
    draw.polygon(corners, fill=_byte(_rgb(object_hue, 0.95, 0.75)))
    width = round(size * rng.uniform(0.03, 0.05))
    draw.line([*corners, corners[0], corners[1]], fill=(10, 10, 10), width=width, joint="curve")
    return np.asarray(ground) / 255


def _sketch(points, object_hue, ground_hue, rng, size):
    """Pencil on paper: an outline drawn twice with a shaking hand, and hatching inside."""
    page = Image.new("L", (size, size), 255)
    hatch = Image.new("L", (size, size), 150)  # shaded, then hatched
    draw = ImageDraw.Draw(hatch)
    angle, gap = np.pi * object_hue, size * rng.uniform(0.04, 0.07)
    along = np.array([np.cos(angle), np.sin(angle)])
    for offset in np.arange(-size, size, gap):
        start = size / 2 + offset * along[::-1] * (-1, 1) + rng.normal(0, size / 100, 2)
        ends = np.concatenate([start - size * along, start + size * along])
        draw.line(ends.tolist(), fill=70, width=max(1, size // 60))
    page.paste(hatch, mask=Image.fromarray((255 * _mask(points, size)).astype(np.uint8)))
    draw = ImageDraw.Draw(page)
    for _ in range(2):
        shaken = points + rng.normal(0, size / 120, points.shape)
        corners = [tuple(point) for point in (*shaken, shaken[0])]
        draw.line(corners, fill=40, width=max(2, size // 50), joint="curve")
    paper = np.asarray(page)[..., None] / 255 * _rgb(ground_hue, 0.12, 1.0)
    return paper + 0.02 * _field(size, 4, rng)[..., None]


def _painting(points, object_hue, ground_hue, rng, size):
    """Brush strokes that follow one direction in the background and another in the object."""
    layers = []
    strokes = ((ground_hue, 0.85, 0.10, 0.05), (object_hue, 0.40, 0.05, 0.04))
    for hue, light, reach, width in strokes:
        page = Image.new("RGB", (size, size), _byte(_rgb(hue, 0.6, light)))
        draw = ImageDraw.Draw(page)
        flow = rng.uniform(0, np.pi)
        for _ in range(120):
            angle = flow + rng.normal(0, 0.3)
            along = size * reach * np.array([np.cos(angle), np.sin(angle)])
            middle = rng.uniform(0, size, 2)
            colour = _rgb(
                hue + rng.normal(0, 0.03), rng.uniform(0.4, 0.8), light + rng.uniform(-0.15, 0.15)
            )
            ends = np.concatenate([middle - along, middle + along])
            draw.line(ends.tolist(), fill=_byte(colour), width=max(2, round(size * width)))
        layers.append(np.asarray(page) / 255)
    ground, surface = layers
    mask = _mask(points + rng.normal(0, size / 100, points.shape), size)[..., None]
    canvas = 0.03 * _field(size, 3, rng)[..., None]
    return ground * (1 - mask) + surface * mask + canvas


def _byte(colour: np.ndarray) -> tuple[int, ...]:
    """3 values in [0, 1] -> a colour as Pillow has it."""
    return tuple(round(255 * float(part)) for part in colour)


_DRAW = {"photo": _photo, "cartoon": _cartoon, "sketch": _sketch, "painting": _painting}


def draw_styles(
    style: str, per_class: int, seed: int, size: int = 48
) -> tuple[np.ndarray, np.ndarray]:
    """One style: N x 3 x size x size uint8 and N labels int64, N = 7 per_class.

    A look is the object's colour, in sketches the angle of its hatching. The looks of the classes
    depend on the seed, but a style differs from the others in those of every class.
    """
    rng = np.random.default_rng(derive_seed("styles", style, seed))
    order = np.random.default_rng(derive_seed("looks", seed)).permutation(len(CLASSES))
    looks = np.roll(order, STYLES.index(style))  # of each class: a number from 0 to 6
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    images = np.empty((len(labels), 3, size, size), np.uint8)
    fine = size * _FINE
    for image, label in zip(images, labels, strict=True):
        worn = label if rng.random() < BOND else rng.integers(len(CLASSES))
        object_hue = (looks[worn] + rng.uniform(-0.25, 0.25)) / len(CLASSES)
        ground_hue = rng.random()
        points = _placed(CLASSES[label], fine, rng)
        drawn = _DRAW[style](points, float(object_hue), float(ground_hue), rng, fine)
        picture = Image.fromarray((255 * np.clip(drawn, 0, 1)).astype(np.uint8)).reduce(_FINE)
        image[:] = np.asarray(picture).transpose(2, 0, 1)
    return images, labels


def styles(seed: int) -> dict[str, Domain]:
    """Seven shapes in four styles, 3 x 48 x 48: {"photo", "cartoon", "sketch", "painting"}."""
    return {
        style: make_domain(style, CLASSES, *draw_styles(style, per_class=60, seed=seed))
        for style in STYLES
    }
