"""Picture files, read with Pillow. Whatever is wrong with one raises an `InputError` naming it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from labor_lib.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture with its header read; pixels are decoded when they are asked for."""
    try:
        with Image.open(path) as picture:
            yield picture
    except InputError:
        raise
    except (
        OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise InputError(f"{path}: cannot be decoded ({error}); fetch the file again") from None


def kind(picture: Image.Image) -> str:
    """Format and pixels as stored: "PNG L" is 8-bit grey, "PNG P" palette, "PNG RGB;16B" 16-bit."""
    stored = picture.tile[0].args if picture.tile else picture.mode
    return f"{picture.format} {stored if isinstance(stored, str) else stored[0]}"


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the header; raises InputError for more than 8 bits a channel."""
    with opened(path) as picture:
        _check_depth(path, picture)
        return picture.height, picture.width


def read_rgb(path: Path, size: int | None = None) -> np.ndarray:
    """h x w x 3 uint8, or with `size` resized to size x size x 3 (bilinear).

    Raises InputError for a damaged file and for more than 8 bits a channel. Pillow decodes, because
    torchvision's own decoder does not load everywhere (see `labor_lib.compat`).
    """
    with opened(path) as picture:
        _check_depth(path, picture)
        picture = picture.convert("RGB")
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR) if size else picture)


def _check_depth(path: Path, picture: Image.Image) -> None:
    if picture.mode[0] in "IF" or "16" in kind(picture):  # Pillow would cut such values off
        raise InputError(
            f"{path}: {kind(picture)} pixels; save images with 8 bits a channel (or are image and "
            "label folders swapped?)"
        )
