"""Readers for street scenes in the published folder layouts, and the transform of training pairs.

    layout       images                                       labels
    gta5         images/*.png                                 labels/*.png
    synthia      RGB/*.png                                    GT/LABELS/*.png (16 bit, 3 channels)
    cityscapes   leftImg8bit/SPLIT/CITY/*_leftImg8bit.png     gtFine/.../*_gtFine_labelIds.png
    camvid       SPLIT/*.png                                  SPLITannot/*.png

The embedded benchmark is written in the same layouts and goes through the same code.
Whatever is wrong with a folder raises `InputError`; what headers can show, at construction.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from labor_lib.errors import InputError
from labor_lib.labels import CITYSCAPES19, IGNORE, ILLEGAL, LEGAL_IDS, ClassSet, raw_lookup


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps its files; `{split}` stands for the split's name."""

    images: str  # folder
    labels: str  # folder
    splits: tuple[str, ...]
    image_end: str = ".png"  # a file's name is STEM + end; the stem ties a label to its image
    label_end: str = ".png"
    cities: bool = False  # one more folder level, a city each

    def files(self, folder: Path, end: str) -> dict[str, Path]:
        """The files in `folder` by stem, sorted; hidden ones (macOS leaves `._x.png`) left out."""
        found = {}
        for path in folder.glob(f"*/*{end}" if self.cities else f"*{end}"):
            if path.name.startswith("."):
                continue
            stem = path.name.removesuffix(end)
            if stem in found:
                raise InputError(f"{path}: {found[stem]} has the same name; remove one of them")
            found[stem] = path
        return dict(sorted(found.items()))


LAYOUTS = {
    "gta5": Layout("images", "labels", ("train",)),
    "synthia": Layout("RGB", "GT/LABELS", ("train",)),
    "cityscapes": Layout(
        "leftImg8bit/{split}",
        "gtFine/{split}",
        ("train", "val", "test"),
        "_leftImg8bit.png",
        "_gtFine_labelIds.png",
        cities=True,
    ),
    "camvid": Layout("{split}", "{split}annot", ("train", "val", "test")),
}


class SegmentationFolder(Dataset):
    """Images and labels of one split, read from a published folder layout.

    root, layout  the folder, and one of `LAYOUTS`
    split         "train", "val" or "test"; gta5 and synthia have "train" only
    class_set     labels are given in its ids
    size          (height, width) in pixels that images and labels are resized to; None: as stored
    labels        False: label files are neither looked for nor read, they need not exist
    cache         keep decoded, resized images and labels in memory. What is handed out is then the
                  kept tensor itself: read it, do not write to it.

    names         the files' stems, sorted

    Raises InputError at construction for a missing root or folder, an empty split, an image
    without its label or the reverse, a file that is no PNG, labels that are not pictures of ids,
    and a pair that differs in size; on reading, for a damaged file and an id of another dataset.
    """

    def __init__(
        self,
        root: str | Path,
        layout: str,
        split: str,
        class_set: ClassSet,
        size: tuple[int, int] | None = None,
        *,
        labels: bool = True,
        cache: bool = False,
    ):
        self.root, self.layout, self.split = Path(root), layout, split
        self.class_set, self.size = class_set, size
        self.labels, self.cache = labels, cache
        self._lookup = raw_lookup(layout, class_set)

        rules = _layout(layout)
        if split not in rules.splits:
            raise InputError(f"split {split!r}: {layout} has {', '.join(rules.splits)}")
        images = self._find(rules.images, rules.image_end)
        self.names = list(images)
        self._images = list(images.values())
        self._sizes = [_check_image(path) for path in self._images]
        self._labels: list[Path] = []
        if labels:
            found = self._find(rules.labels, rules.label_end)
            self._labels = self._pair(images, found)
        self._kept_images: list[Tensor | None] = [None] * len(self)
        self._kept_labels: list[Tensor | None] = [None] * len(self)

    def _find(self, folder: str, end: str) -> dict[str, Path]:
        """{stem: path} of one folder of the layout."""
        if not self.root.is_dir():
            raise InputError(
                f"{self.root}: no such folder; give the one that holds the data with "
                "--source-root or --target-root"
            )
        rules = LAYOUTS[self.layout]
        path = self.root / folder.format(split=self.split)
        if not path.is_dir():
            images, labels = (f.format(split=self.split) for f in (rules.images, rules.labels))
            raise InputError(
                f"{path}: no such folder; a {self.layout} folder holds {images}/ and {labels}/"
            )
        found = rules.files(path, end)
        if not found:
            pattern = f"CITY/*{end}" if rules.cities else f"*{end}"
            raise InputError(f"{path}: no {pattern} in it; is this a {self.layout} folder?")
        return found

    def _pair(self, images: dict[str, Path], labels: dict[str, Path]) -> list[Path]:
        """The label of every image, in the images' order, by header of the right kind and size."""
        for have, other, what, missing in (
            (images, labels, "image", "label"),
            (labels, images, "label", "image"),
        ):
            alone = [path for stem, path in have.items() if stem not in other]
            if alone:
                raise InputError(
                    f"{alone[0]}: {what} without {missing} ({len(alone)} such in all); "
                    f"add the {missing} or remove the {what}"
                )
        for stem, (height, width) in zip(self.names, self._sizes, strict=True):
            h, w = _check_label(labels[stem], self.layout)
            if (h, w) != (height, width):
                raise InputError(
                    f"{labels[stem]}: {w} x {h} pixels but its image has {width} x {height}; "
                    "fetch the pair again or remove both files"
                )
        return [labels[stem] for stem in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def native_size(self, i: int) -> tuple[int, int]:
        """(height, width) in pixels of the image file; known from its header."""
        return self._sizes[i]

    def image(self, i: int) -> Tensor:
        """Image i: 3 x h x w uint8 RGB at `size` (bilinear, antialiased).

        Raises InputError for a damaged file.
        """
        if self._kept_images[i] is not None:
            return self._kept_images[i]
        pixels = _decode(self._images[i], lambda picture: np.array(picture.convert("RGB")))
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # h x w x 3 -> 3 x h x w
        if self.size is not None:
            image = v2.functional.resize(image, list(self.size), antialias=True)
        if self.cache:
            self._kept_images[i] = image
        return image

    def native_label(self, i: int) -> Tensor:
        """Label i: h x w uint8 class-set ids, 255 = ignored, at the size of the file. Never cached.

        Raises InputError for a damaged file and for an id that the dataset does not have;
        RuntimeError where the reader was opened with `labels=False`.
        """
        if not self.labels:
            raise RuntimeError(
                f"the labels of the {self.split} split of {self.root} are only reachable through "
                "the annotation oracle (this reader was opened with labels=False)"
            )
        return torch.from_numpy(_read_label(self._labels[i], self.layout, self._lookup))

    def label(self, i: int) -> Tensor:
        """Label i: h x w uint8 class-set ids, 255 = ignored, at `size` (nearest).

        Raises as `native_label` does.
        """
        if self._kept_labels[i] is not None:
            return self._kept_labels[i]
        label = self.native_label(i)
        if self.size is not None:
            # "exact" takes the pixel at the centre, as the bilinear image does: no half-pixel shift
            label = v2.functional.resize(
                label[None], list(self.size), v2.InterpolationMode.NEAREST_EXACT
            )[0]
        if self.cache:
            self._kept_labels[i] = label
        return label

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor] | Tensor:
        """Image and label i, or with `labels=False` the image alone."""
        return (self.image(i), self.label(i)) if self.labels else self.image(i)

    def check(self) -> None:
        """Read every file once, so that a run never stops at a bad one; fills the cache.

        Raises InputError for the first damaged file or foreign id.
        """
        for i in range(len(self)):
            self[i]


def evaluation_split(root: str | Path, layout: str) -> str:
    """The split to score on: "test" where it has labels, else "val".

    Cityscapes hides its test labels: the published test files are absent or void all over. Both
    give "val"; the first file is decoded to see it.

    Raises InputError for an unknown layout and one without such splits (gta5, synthia).
    """
    rules = _layout(layout)
    if "test" not in rules.splits:
        raise InputError(f"layout {layout!r}: has no split to score on; use cityscapes or camvid")
    images, labels = (
        Path(root) / folder.format(split="test") for folder in (rules.images, rules.labels)
    )
    found = list(rules.files(labels, rules.label_end).values())
    if not found or not rules.files(images, rules.image_end):
        return "val"
    if layout == "cityscapes":
        _check_label(found[0], layout)
        label = _read_label(found[0], layout, raw_lookup(layout, CITYSCAPES19))
        if (label == IGNORE).all():
            return "val"
    return "test"


def joint_transform(
    flip: bool,
    mean: Sequence[float] = (0.45, 0.45, 0.45),
    std: Sequence[float] = (0.25, 0.25, 0.25),
) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """What training does to an image and its label together.

    flip       mirror left-right, one time in two; the coin is torch's global generator
    mean, std  3 values (R, G, B) of intensities in [0, 1]: normalised is (x - mean) / std

    Returns a function (image 3 x h x w uint8, label h x w uint8 or None) ->
    (image float32, label int64 or None). It pickles, so worker processes can have it.
    """
    types = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}
    steps = [v2.RandomHorizontalFlip(0.5)] if flip else []
    steps += [v2.ToDtype(types, scale=True), v2.Normalize(list(mean), list(std))]
    return partial(_apply, v2.Compose(steps))


def _apply(
    steps: v2.Compose, image: Tensor, label: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Wrap, transform, unwrap: the wrappers tell torchvision which of the two is the label."""
    if label is None:
        return steps(tv_tensors.Image(image)).as_subclass(Tensor), None
    image, label = steps(tv_tensors.Image(image), tv_tensors.Mask(label))
    return image.as_subclass(Tensor), label.as_subclass(Tensor)


# ------------------------------------------------------------------------------ files


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r}: unknown; choose from {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


GREY, RGB, PALETTE = 0, 2, 3  # PNG colour types
_KINDS = {GREY: "grey", RGB: "RGB", PALETTE: "palette", 4: "grey-alpha", 6: "RGBA"}


def _png_header(path: Path) -> tuple[int, int, int, int]:
    """(height, width, bits a channel, colour type) from the first 26 bytes of a PNG."""
    try:
        with open(path, "rb") as file:
            head = file.read(26)
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); check the file") from None
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise InputError(f"{path}: not a PNG picture (or an empty one); fetch the file again")
    width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
    return height, width, bits, colour


def _check_image(path: Path) -> tuple[int, int]:
    """(height, width) of an image file that is at most 8 bits a channel."""
    height, width, bits, colour = _png_header(path)
    if bits > 8:
        raise InputError(
            f"{path}: {bits}-bit {_KINDS.get(colour)} PNG where images have 8 bits a channel; "
            "are image and label folders swapped?"
        )
    return height, width


def _check_label(path: Path, layout: str) -> tuple[int, int]:
    """(height, width) of a label file of the kind that the layout has."""
    height, width, bits, colour = _png_header(path)
    if layout == "synthia":
        expected, good = "16-bit RGB", (bits, colour) == (16, RGB)
    else:
        # grey of fewer bits is refused: Pillow stretches it to 0..255
        expected, good = "palette or 8-bit grey", colour == PALETTE or (bits, colour) == (8, GREY)
    if not good:
        raise InputError(
            f"{path}: {bits}-bit {_KINDS.get(colour)} PNG where {layout} labels are {expected} "
            f"pictures of class ids; is this a {layout} folder?"
        )
    return height, width


def _decode(path: Path, read: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """`read` of the opened picture; a damaged file raises InputError."""
    try:
        with Image.open(path) as picture:
            return read(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({error}); fetch the file again") from None


def _read_label(path: Path, layout: str, lookup: np.ndarray) -> np.ndarray:
    """A label file through a table of `raw_lookup`: h x w uint8."""
    if layout == "synthia":
        # ids are 16 bit, of which Pillow keeps one byte: the high one as is, the low one when told
        # that the order is the other way round. (torchvision.io reads 16 bit, but its compiled part
        # does not load beside a CPU build of torch.)
        high, low = (_decode(path, partial(_first_channel, order)) for order in ("16B", "16L"))
        raw = high.astype(np.uint16) * 256 + low
    else:
        raw = _decode(path, np.array)  # of a palette picture: the indices
    label = lookup[raw]
    if (label == ILLEGAL).any():
        legal = LEGAL_IDS[layout]
        run = f"0..{len(legal) - 1}" if legal[-1] < 255 else f"0..{len(legal) - 2} or 255"
        raise InputError(
            f"{path}: class id {raw[label == ILLEGAL][0]} is not one of {layout}'s {run}; "
            f"is this a {layout} folder?"
        )
    return label


def _first_channel(order: str, picture: Image.Image) -> np.ndarray:
    """One byte of the first channel of a 16-bit RGB picture: h x w uint8."""
    picture.tile = [tile._replace(args=f"RGB;{order}") for tile in picture.tile]
    return np.array(picture)[:, :, 0]
