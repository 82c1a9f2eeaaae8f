"""The drawn digits: printed ones in many fonts, and handwritten ones before textured backgrounds.

Everything is drawn from a NumPy generator, so the same seed gives the same pixels. Textured digits
follow the recipe of MNIST-M (`blended`), whose backgrounds are patches of photographs.
`SHIFTS` has the two shifts, each a function of the seed.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_digits

from labor_lib.data.classification import DIGITS, Shift, blended, make_domain, split
from labor_lib.runtime import derive_seed

# Files of matplotlib that hold ordinary digits.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)
BOLD = tuple(name for name in FONTS if "Bol" in name or name == "cmb10")
COLOURS, CONTRAST, GRAIN = (0, 110), 80, 10
_HEIGHT = 48  # size of the fonts in pixels, before the digits are made small


@lru_cache(maxsize=1)
def handwritten() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits: N x 8 x 8 float32 in [0, 1], and N labels int64."""
    digits = load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """N x h x w in [0, 1] -> N x size x size uint8, bicubic."""
    frames = [Image.fromarray((255 * image).astype(np.uint8)) for image in images]
    return np.stack([np.asarray(f.resize((size, size), Image.Resampling.BICUBIC)) for f in frames])


# ------------------------------------------------------------------------- printed digits


@lru_cache(maxsize=len(FONTS))
def _font(name: str) -> ImageFont.FreeTypeFont:
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(file, _HEIGHT)


def printed(digit: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One digit in a random font, its strokes thickened, sheared, turned: size x size uint8."""
    middle = _HEIGHT
    page = Image.new("L", (2 * middle, 2 * middle))
    name = FONTS[rng.integers(len(FONTS))]
    grown = 0 if name in BOLD else int(rng.integers(0, 4))  # pixels on each side of a stroke
    ImageDraw.Draw(page).text(
        (middle, middle), str(digit), fill=255, font=_font(name), anchor="mm", stroke_width=grown
    )
    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]])  # from a place on the new page to the old
    offset = middle - matrix @ (middle, middle)
    affine = np.column_stack([matrix, offset]).flatten().tolist()
    page = page.transform(page.size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    page = page.crop(page.getbbox())

    height = round(size * rng.uniform(0.8, 1.0))
    width = round(height * page.width / page.height * rng.uniform(0.75, 1.05))
    small = page.resize((min(size, max(2, width)), height), Image.Resampling.BOX)
    frame = Image.new("L", (size, size))
    left, top = (size - small.width) // 2, (size - height) // 2
    frame.paste(small, (left + int(rng.integers(-1, 2)), top + int(rng.integers(-1, 2))))
    return np.asarray(frame)


# ------------------------------------------------------------------- textured backgrounds


def _noise(size: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field, size x size in [0, 1]; `scale` is its grain in pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale, mode="wrap")
    return (field - field.min()) / (field.max() - field.min())


def _pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """One grey pattern, size x size in [0, 1]: noise, stripes, checks, a gradient or blots."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, np.pi)
    along, across = (x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle))
    kind = rng.integers(5)
    waves = rng.uniform(2, 6)
    phase = rng.uniform(0, 2 * np.pi)
    if kind == 0:
        return _noise(size, rng.uniform(0.6, 4), rng)
    if kind == 1:
        return 0.5 + 0.5 * np.sin(2 * np.pi * waves * along + phase)
    if kind == 2:
        checks = np.sin(np.pi * waves * along + phase) * np.sin(np.pi * waves * across)
        return (checks > 0).astype(float)
    if kind == 3:
        return np.clip(along / (abs(np.cos(angle)) + np.sin(angle)) + 0.3, 0, 1)
    return (_noise(size, rng.uniform(2, 4), rng) > 0.5).astype(float)


def textures(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Colour backgrounds, count x 3 x size x size uint8: a colour, a pattern, grain."""
    drawn = np.empty((count, 3, size, size))
    for texture in drawn:
        pattern = _pattern(size, rng)
        colour = rng.uniform(*COLOURS, (3, 1, 1))
        change = rng.uniform(-CONTRAST, CONTRAST, (3, 1, 1))
        texture[:] = colour + change * (pattern - 0.5)
        texture += rng.uniform(0, GRAIN) * rng.standard_normal((3, size, size))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def placed(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Digits at 3/4 size near the middle: N x 8 x 8 in [0, 1] -> N x size x size uint8."""
    large = 3 * size // 4
    room = size - large
    frames = np.zeros((len(images), size, size), np.uint8)
    for frame, digit in zip(frames, enlarged(images, large), strict=True):
        top, left = rng.integers(0, room + 1, 2)
        frame[top : top + large, left : left + large] = digit
    return frames


# ------------------------------------------------------------------------------- the shifts

PRINTED = 250  # digits of each class, of which a fifth is for validation
COPIES = 4  # of each digit of a training domain of "textured"


def _fonts(seed: int) -> Shift:
    """Printed digits -> handwritten ones, 1 x 16 x 16."""
    rng = np.random.default_rng(derive_seed("fonts", seed))
    labels = np.repeat(np.arange(10), PRINTED)
    pictures = np.stack([printed(digit, 16, rng) for digit in labels])
    source = make_domain("printed", DIGITS, pictures, labels)
    images, labels = handwritten()
    target = make_domain("handwritten", DIGITS, enlarged(images, 16), labels)
    return Shift(*split(source, (0.8, 0.2), seed), *split(target, (0.6, 0.4), seed))


def _textured(seed: int) -> Shift:
    """Handwritten digits, white on black -> other ones on textured colour, 3 x 32 x 32.

    The 1,797 digits are divided first, then drawn: `COPIES` times for training, at other places
    and on other backgrounds, and once for validation and test. So `few` of the target may draw two
    pictures of one digit.
    """
    rng = np.random.default_rng(derive_seed("textured", seed))
    images, labels = handwritten()
    numbers = make_domain("digits", DIGITS, np.arange(len(labels))[:, None, None], labels)
    drawn = []
    for part, name, copies in zip(
        split(numbers, (0.40, 0.10, 0.30, 0.20), seed),
        ("plain", "plain", "textured", "textured"),
        (COPIES, 1, COPIES, 1),
        strict=True,
    ):
        chosen = part.images.flatten().repeat(copies).numpy()
        plain = placed(images[chosen], 32, rng)  # N x 32 x 32
        if name == "plain":
            pictures = np.repeat(plain[:, None], 3, axis=1)
        else:
            pictures = blended(plain, textures(len(chosen), 32, rng))
        drawn.append(make_domain(name, DIGITS, pictures, labels[chosen]))
    return Shift(*drawn)


SHIFTS: dict[str, Callable[[int], Shift]] = {"fonts": _fonts, "textured": _textured}
