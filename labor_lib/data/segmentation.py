"""Readers for street scenes in the published folder layouts, and the transform of training pairs.

    layout       images                                       labels
    gta5         images/*.png                                 labels/*.png
    synthia      RGB/*.png                                    GT/LABELS/*.png (16 bit, 3 channels)
    cityscapes   leftImg8bit/SPLIT/CITY/*_leftImg8bit.png     gtFine/.../*_gtFine_labelIds.png
    camvid       SPLIT/*.png                                  SPLITannot/*.png
    camvid-day, camvid-dusk                                   parts of camvid by light
    pairs        images/*, PNG or JPEG                        labels/*.png, ids of one's own classes
    images       *, PNG or JPEG                               none

The embedded benchmark is written in the same layouts and goes through the same code. A further
dataset is one more entry in `LAYOUTS`. Whatever is wrong with a folder raises `InputError`; what
headers can show, at construction.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from labor_lib.data.pictures import image_size, kind, opened, read_rgb
from labor_lib.errors import InputError
from labor_lib.labels import CAMVID11, CITYSCAPES19, IGNORE, NAMES, ClassSet


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps its files and what the ids in its labels mean.

    `{split}` in a folder stands for the split's name. An id that is in none of `train_ids`, `void`
    and `own` means another dataset's folder.
    """

    images: str  # folder
    labels: str  # folder; "": there are none
    train_ids: Mapping[int, int] = field(default_factory=dict)  # id in a file: Cityscapes train id
    void: Sequence[int] = ()  # ids in a file that are ignored
    own: ClassSet | None = None  # the files hold the ids of these classes, in place of train_ids
    splits: tuple[str, ...] = ("train", "val", "test")
    image_end: str | tuple[str, ...] = ".png"  # a file's name is STEM + end, or + one of these;
    label_end: str = ".png"  # the stem ties a label to its image
    cities: bool = False  # one more folder level, a city each
    deep: bool = False  # labels are 16-bit RGB, with the id in the red channel
    prefixes: tuple[str, ...] = ("",)  # only images whose names begin with one of these
    divided: bool = False  # train, val and test are parts of one sequence, see `_share`

    def files(self, root: Path, split: str, labels: bool = False) -> dict[str, Path]:
        """Images or labels of a split by stem, sorted; hidden files (macOS's `._x.png`) left out.

        Capital letters in the ending make no difference. Raises InputError for a stem twice.
        """
        folder = self.labels if labels else self.images
        split, first, last = self._share(root, split) if self.divided else (split, 0, 1)
        ends, found = self.ends(labels), {}
        for path in (root / folder.format(split=split)).glob("*/*" if self.cities else "*"):
            end = next((end for end in ends if path.name.lower().endswith(end.lower())), None)
            if end is None or path.name.startswith(".") or not path.name.startswith(self.prefixes):
                continue
            stem = path.name[: -len(end)]
            if stem in found:
                raise InputError(f"{path}: {found[stem]} has the same name; remove one of them")
            found[stem] = path
        part = slice(round(first * len(found)), round(last * len(found)))
        return dict(sorted(found.items())[part])

    def ends(self, labels: bool) -> tuple[str, ...]:
        """What the names of labels or images end in."""
        ends = self.label_end if labels else self.image_end
        return (ends,) if isinstance(ends, str) else ends

    def _share(self, root: Path, split: str) -> tuple[str, float, float]:
        """The folder that holds a split of a divided sequence, and from where to where.

        The last fifth of what may be trained on is kept for choosing settings ("val"). Without a
        folder test/ the last third of the sequence is never trained on and takes its place.
        """
        whole = (root / self.images.format(split="test")).is_dir()
        end = 1 if whole else 2 / 3
        parts = {"train": ("train", 0, 0.8 * end), "val": ("train", 0.8 * end, end)}
        return (parts | {"test": ("test", 0, 1) if whole else ("train", end, 1)})[split]


def _in_order(*ids: int) -> dict[int, int]:
    """{id in a file: train id} from the ids of the 19 Cityscapes classes, in order of `NAMES`."""
    return dict(zip(ids, range(len(NAMES)), strict=True))


_CITYSCAPES = _in_order(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# Ignored: 0..6 void, 9 parking, 10 rail track, 14 guard rail, 15 bridge, 16 tunnel, 18 pole group,
# 29 caravan, 30 trailer, and the licence plate: -1, which an 8-bit file holds as 255, GTA5 as 34.
_CITYSCAPES_VOID = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)

LAYOUTS = {
    "gta5": Layout("images", "labels", _CITYSCAPES, (*_CITYSCAPES_VOID, 34), splits=("train",)),
    # SYNTHIA-RAND-CITYSCAPES, as published with AdaptSegNet (Tsai et al., CVPR 2018).
    # Ignored: 0 void, 13 parking slot, 14 road work, 22 lane marking.
    "synthia": Layout(
        "RGB",
        "GT/LABELS",
        _in_order(3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11),
        (0, 13, 14, 22),
        splits=("train",),
        deep=True,
    ),
    "cityscapes": Layout(
        "leftImg8bit/{split}",
        "gtFine/{split}",
        _CITYSCAPES,
        (*_CITYSCAPES_VOID, 255),
        image_end="_leftImg8bit.png",
        label_end="_gtFine_labelIds.png",
        cities=True,
    ),
    "camvid": Layout("{split}", "{split}annot", void=(11,), own=CAMVID11),
}
LAYOUTS["camvid-day"] = replace(
    LAYOUTS["camvid"], prefixes=("0006R0_", "0016E5_"), splits=("train",)
)
LAYOUTS["camvid-dusk"] = replace(LAYOUTS["camvid"], prefixes=("0001TP_",), divided=True)
_PHOTOGRAPHS = (".png", ".jpg", ".jpeg")
LAYOUTS["pairs"] = Layout("images", "labels", splits=("train",), image_end=_PHOTOGRAPHS)
LAYOUTS["images"] = Layout(".", "", splits=("train",), image_end=_PHOTOGRAPHS)
ILLEGAL = 254  # in `raw_lookup` only: an id that the dataset does not have


def raw_lookup(layout: str, class_set: ClassSet) -> np.ndarray:
    """Table from the ids in a dataset's label files to the ids of a class set.

    Returns 65536 uint8, for 8-bit and 16-bit files alike: a class id, or 255 for an id that is
    legal but ignored, or 254 (`ILLEGAL`) for one that the dataset does not have.
    Classes with ids of their own (`ClassSet.ids`) say all there is to say: others are ignored.
    Raises InputError for an unknown layout and for labels in other classes than their own.
    """
    rules = _layout(layout)
    if class_set.ids is not None:
        lookup = np.full(65536, IGNORE, dtype=np.uint8)
        for raw_id, class_id in class_set.ids.items():
            lookup[raw_id] = class_id
        return lookup
    if rules.own is not None and class_set.name != rules.own.name:
        raise InputError(
            f"class set {class_set.name}: {layout} labels have {len(rules.own)} classes of their "
            f"own; use class set {rules.own.name}"
        )
    lookup = np.full(65536, ILLEGAL, dtype=np.uint8)
    lookup[list(rules.void)] = IGNORE
    for raw_id, train_id in rules.train_ids.items():
        lookup[raw_id] = class_set.from_train_ids[train_id]
    if rules.own is not None:
        lookup[: len(class_set)] = range(len(class_set))
    return lookup


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
    without its label or the reverse, a file that is no picture, labels that are not pictures of
    ids, and a pair that differs in size (some published GTA5 pairs do: a training split that is
    resized anyway warns instead); on reading, for a damaged file and an id of another dataset.
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
        rules = LAYOUTS[layout]
        if split not in rules.splits:
            raise InputError(f"split {split!r}: {layout} has {', '.join(rules.splits)}")
        if labels and not rules.labels:
            raise InputError(f"{root}: layout {layout} has no labels, so they cannot be read")
        images = self._files()
        self.names = list(images)
        self.paths = list(images.values())
        self._sizes = [image_size(path) for path in self.paths]
        self._labels = self._pair(images, self._files(labels=True)) if labels else []
        self._kept: dict[tuple[str, int], Tensor] = {}

    def _files(self, labels: bool = False) -> dict[str, Path]:
        rules = LAYOUTS[self.layout]
        found = rules.files(self.root, self.split, labels)
        if found:
            return found
        if self.root.is_file():
            raise InputError(f"{self.root}: a file; unpack it and give the folder")
        folders = [f.format(split=self.split) for f in (rules.images, rules.labels)]
        missing = f"{' or '.join(rules.ends(labels))} files"
        if any(rules.prefixes):
            missing += f" whose names begin with {' or '.join(rules.prefixes)}"
        wanted = "the folder in which they lie"
        if rules.labels:
            wanted = f"a {self.layout} folder with {' and '.join(folders)} as --source-root or "
            wanted += "--target-root"
        inside = [path for path in self.root.glob("*/") if rules.files(path, self.split, labels)]
        raise InputError(
            f"{self.root / folders[labels]}: holds no {missing}; give {wanted}"
            + (f", such as {inside[0]}" if inside else "")
        )

    def _pair(self, images: dict[str, Path], labels: dict[str, Path]) -> list[Path]:
        """The label of every image, in the images' order, by header of the right kind and size."""
        alone = sorted(set(images) ^ set(labels))
        if alone:
            path = (images | labels)[alone[0]]
            raise InputError(
                f"{path}: {'image without label' if alone[0] in images else 'label without image'} "
                f"({len(alone)} such files in all); add what is missing or remove it"
            )
        sizes = [_label_size(labels[stem], self.layout) for stem in self.names]
        differ = [i for i, size in enumerate(sizes) if size != self._sizes[i]]
        if differ:
            (height, width), (h, w) = self._sizes[differ[0]], sizes[differ[0]]
            text = (
                f"{labels[self.names[differ[0]]]}: {w} x {h} pixels but its image has "
                f"{width} x {height} ({len(differ)} such pairs in all)"
            )
            if self.split != "train" or self.size is None:
                raise InputError(f"{text}; fetch the pair again or remove both files")
            warnings.warn(f"{text}; image and label are both resized", stacklevel=3)
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
        if ("image", i) in self._kept:
            return self._kept["image", i]
        pixels = torch.from_numpy(read_rgb(self.paths[i]))
        image = pixels.permute(2, 0, 1).contiguous()  # h x w x 3 -> 3 x h x w
        if self.size is not None:
            image = v2.functional.resize(image, list(self.size), antialias=True)
        if self.cache:
            self._kept["image", i] = image
        return image

    def label(self, i: int) -> Tensor:
        """Label i: h x w uint8 class-set ids, 255 = ignored, at `size` (nearest).

        Raises as `native_label` does.
        """
        if ("label", i) in self._kept:
            return self._kept["label", i]
        label = self.native_label(i)
        if self.size is not None:
            # "exact" takes the pixel at the centre, as the bilinear image does: no half-pixel shift
            nearest = v2.InterpolationMode.NEAREST_EXACT
            label = v2.functional.resize(label[None], list(self.size), nearest)[0]
        if self.cache:
            self._kept["label", i] = label
        return label

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

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor] | Tensor:
        """Image and label i, or with `labels=False` the image alone."""
        return (self.image(i), self.label(i)) if self.labels else self.image(i)

    def check(self, sample: int | None = None) -> None:
        """Read files before a run needs them, so that it does not stop at a bad one later.

        sample  how many pairs, spread evenly over the split; None: all, which fills the cache

        Raises InputError for a damaged file, a foreign id, and a split without a labelled pixel.
        """
        labelled = not self.labels
        for i in range(0, len(self), max(1, len(self) // sample) if sample else 1):
            item = self[i]
            labelled = labelled or bool((item[1] != IGNORE).any())
        if not (labelled or any((self.label(i) != IGNORE).any() for i in range(len(self)))):
            raise InputError(
                f"{self.root}: no labelled pixel in the {self.split} split; are these the label "
                "files?"
            )


def evaluation_split(root: str | Path, layout: str) -> str:
    """The split to score on: "test" where it has labels, else "val".

    Cityscapes hides its test labels: the published files are void all over; the first one is
    decoded to see it. Where files are absent, a warning says that "val" takes their place.

    Raises InputError for an unknown layout and one without such splits (gta5, synthia).
    """
    rules = _layout(layout)
    if "test" not in rules.splits:
        raise InputError(f"layout {layout!r}: has no split to score on; use cityscapes or camvid")
    labels = rules.files(Path(root), "test", labels=True)
    if not labels or not rules.files(Path(root), "test"):
        warnings.warn(
            f"{root}: no test split with labels, so results are scored on val", stacklevel=2
        )
        return "val"
    first = next(iter(labels.values()))
    _label_size(first, layout)
    label = _read_label(first, layout, raw_lookup(layout, rules.own or CITYSCAPES19))
    return "val" if (label == IGNORE).all() else "test"


def joint_transform(
    flip: bool, mean: Sequence[float], std: Sequence[float]
) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """What training does to an image and its label together.

    flip       mirror left-right, one time in two; the coin is torch's global generator
    mean, std  3 values (R, G, B) of intensities in [0, 1]: normalised is (x - mean) / std

    Returns a function (image 3 x h x w uint8, label h x w uint8 or None) ->
    (image float32, label int64 or None).
    """

    def transform(image: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if flip and torch.rand(1) < 0.5:
            image = image.flip(-1)
            label = None if label is None else label.flip(-1)
        image = v2.functional.to_dtype(image, torch.float32, scale=True)
        image = v2.functional.normalize(image, list(mean), list(std))
        return image, None if label is None else label.long()

    return transform


# ------------------------------------------------------------------------------ files


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise InputError(f"layout {name!r}: unknown; choose from {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _label_size(path: Path, layout: str) -> tuple[int, int]:
    """(height, width) from the header of a label file, which must be of the layout's kind."""
    with opened(path) as picture:
        stored = kind(picture)
        if LAYOUTS[layout].deep:
            expected, good = "16-bit RGB", stored == "PNG RGB;16B"
        else:  # grey of fewer bits is refused: Pillow stretches it to 0..255
            expected = "palette or 8-bit grey"
            good = stored == "PNG L" or stored.startswith("PNG P")
        if not good:
            raise InputError(
                f"{path}: {stored} pixels where {layout} labels are {expected} PNG pictures of "
                f"class ids; is this a {layout} folder?"
            )
        return picture.height, picture.width


def _read_label(path: Path, layout: str, lookup: np.ndarray) -> np.ndarray:
    """A label file through a table of `raw_lookup`: h x w uint8."""
    if LAYOUTS[layout].deep:
        raw = _red16(path)
    else:
        with opened(path) as picture:
            raw = np.array(picture)  # of a palette picture: the indices
    label = lookup[raw]
    if (label == ILLEGAL).any():
        raise InputError(
            f"{path}: class id {raw[label == ILLEGAL][0]} is none of {layout}'s; is this a "
            f"{layout} folder?"
        )
    return label


def _red16(path: Path) -> np.ndarray:
    """The red channel of a 16-bit picture: h x w uint16. (Pillow keeps 8 bits.)"""
    import cv2

    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # BGR
    except (OSError, cv2.error):
        pixels = None
    if pixels is None:
        raise InputError(f"{path}: cannot be decoded; fetch the file again")
    return pixels[:, :, 2]
