"""Picture files, read with Pillow. Whatever is wrong with one raises an `InputError` naming it."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from labor_lib.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture with its header read; pixels are decoded when they are asked for."""
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of a damaged EXIF note
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
        with picture:
            yield picture
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels"
        raise InputError(f"{path}: more than {limit}; save it smaller, or remove it") from None
    except (OSError, SyntaxError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: cannot be decoded ({error}); fetch the file again, or remove it"
        ) from None


def kind(picture: Image.Image) -> str:
    """Format and pixels as stored: "PNG L" is 8-bit grey, "PNG P" palette, "PNG RGB;16B" 16-bit."""
    stored = picture.tile[0].args if picture.tile else picture.mode
    return f"{picture.format} {stored if isinstance(stored, str) else stored[0]}"


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the header; raises InputError for more than
    8 bits a channel."""
    with opened(path) as picture:
        _check_depth(path, picture)
        on_its_side = _orientation(picture) >= 5
        return picture.size if on_its_side else picture.size[::-1]


def read_rgb(path: Path, size: int | None = None) -> np.ndarray:
    """h x w x 3 uint8, or with `size` resized to size x size x 3 (bilinear).

    Cameras store a picture as the sensor lay and note how to turn it (EXIF): it is turned upright.
    What is transparent is white. Raises InputError for a damaged file and for more than 8 bits a
    channel. Pillow decodes, because torchvision's own decoder does not load everywhere (see
    `labor_lib.compat`).
    """
    with opened(path) as picture:
        _check_depth(path, picture)
        if _orientation(picture) > 1:
            picture = ImageOps.exif_transpose(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        picture = picture.convert("RGB")
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR) if size else picture)


def _orientation(picture: Image.Image) -> int:
    """1 to 8 as EXIF numbers them, from the header alone; 1, upright, where nothing is said.

    `Image.getexif` would decode a PNG without the tag. Pillow turns a TIFF by itself.
    """
    exif = Image.Exif()
    try:
        with warnings.catch_warnings(action="ignore"):
            exif.load(picture.info.get("exif"))
        value = exif.get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):  # damaged: as it is stored
        return 1
    return value if value in range(1, 9) else 1


def _check_depth(path: Path, picture: Image.Image) -> None:
    if picture.mode[0] in "IF" or "16" in kind(picture):  # Pillow would cut such values off
        raise InputError(
            f"{path}: {kind(picture)} pixels; save images with 8 bits a channel (or are image and "
            "label folders swapped?)"
        )
