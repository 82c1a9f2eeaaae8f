"""Images of one label each, in several domains: what the wider family of methods trains on.

`Domain` holds the images of one domain in memory, `FolderDomain` decodes them when asked. Training
code uses what both have: `name`, `classes`, `labels`, `len`, `take` and `batch`.

    embedded   SHIFTS (source -> target), styles (four domains); drawn, offline
    folders    read_domains (DOMAIN/CLASS/*: PACS, Office-Home, DomainNet), read_lists (DomainNet)
    digits     read_digits (MNIST, USPS, SVHN), mnist_m, read_ccsa (split files of CCSA's authors)

Whatever is wrong with a folder raises `InputError`; what needs no decoding, when it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from labor_lib.drawn import digits
from labor_lib.drawn.styles import CLASSES as SHAPES
from labor_lib.drawn.styles import STYLES, draw_styles
from labor_lib.errors import InputError
from labor_lib.runtime import derive_seed


@dataclass(frozen=True, eq=False)
class Domain:
    """Images of one domain in memory."""

    name: str
    classes: tuple[str, ...]
    images: Tensor  # N x C x H x W uint8; of the CCSA split files float32 in [0, 1]; C = 1 or 3
    labels: Tensor  # N int64, places in `classes`

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices) -> Domain:
        """Those images, in that order. `indices`: integers or a mask, as tensor, array or list."""
        indices = _index(indices)
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def batch(self, indices) -> Tensor:
        """Those images: B x C x H x W."""
        return self.images[_index(indices)]


@dataclass(frozen=True, eq=False)
class FolderDomain:
    """Images of one domain in files, decoded on demand and resized to squares."""

    name: str
    classes: tuple[str, ...]
    paths: np.ndarray  # N file names
    labels: Tensor  # N int64, places in `classes`
    size: int = 224  # pixels of a side; paper: 224, without regard to proportions (DomainBed)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices) -> FolderDomain:
        """Those images, in that order. `indices`: integers or a mask, as tensor, array or list."""
        indices = _index(indices)
        return replace(self, paths=self.paths[indices.numpy()], labels=self.labels[indices])

    def batch(self, indices) -> Tensor:
        """Those images: B x 3 x size x size uint8. InputError names one that does not decode."""
        chosen = self.paths[_index(indices).numpy()]
        return torch.from_numpy(
            np.stack([_pixels(Path(path), self.size) for path in chosen]).transpose(0, 3, 1, 2)
        ).contiguous()

    def load(self) -> Domain:
        """All images in memory: 3 size^2 bytes each. Raises InputError as `batch` does."""
        return Domain(self.name, self.classes, self.batch(range(len(self))), self.labels)


def _pixels(path: Path, size: int | None = None) -> np.ndarray:
    """h x w x 3 uint8, or size x size x 3.

    Pillow decodes, because torchvision's decoder does not load everywhere (`labor_lib.compat`).
    """
    try:
        with Image.open(path) as file:
            if file.mode in ("I", "F") or file.mode.startswith("I;"):
                # Pillow would cut such values off at 255
                raise InputError(f"{path}: {file.mode} pixels; save it with 8 bits a channel")
            picture = file.convert("RGB")
    except (
        OSError, SyntaxError, ValueError, NotImplementedError, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise InputError(f"{path}: cannot be decoded ({error}); fetch the file again") from None
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR) if size else picture)


def _index(indices) -> Tensor:
    """Integers or a mask as a tensor that can index."""
    indices = torch.as_tensor(indices)
    return indices if indices.dtype == torch.bool else indices.long()


AnyDomain = Domain | FolderDomain


@dataclass(frozen=True)
class Shift:
    """From a labelled source to a target. The target's labels train nothing but what says so:
    `few` of them, or the ceiling."""

    source: Domain
    source_val: Domain
    target_train: Domain
    target_test: Domain


def split(domain: AnyDomain, parts: Sequence[float], seed: int) -> tuple[AnyDomain, ...]:
    """The domain in disjoint parts, each class divided as the whole is; parts add up to 1."""
    if abs(sum(parts) - 1) > 1e-6 or min(parts) <= 0:
        raise InputError(f"parts {parts} must be positive and add up to 1")
    generator = torch.Generator().manual_seed(derive_seed("split", seed))
    lots: list[list[Tensor]] = [[] for _ in parts]
    bounds = np.cumsum((0, *parts))
    for label in range(len(domain.classes)):
        members = (domain.labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        ends = [round(float(bound) * len(members)) for bound in bounds]
        for lot, start, end in zip(lots, ends, ends[1:], strict=False):
            lot.append(members[start:end])
    for lot, share in zip(lots, parts, strict=True):
        if not sum(map(len, lot)):
            raise InputError(
                f"{domain.name}: {len(domain)} images in {len(domain.classes)} classes are too few "
                f"for a part of {100 * share:.0f} %; add images"
            )
    return tuple(domain.take(torch.cat(lot).sort().values) for lot in lots)


def few(domain: AnyDomain, n: int, seed: int) -> AnyDomain:
    """n images of each class, drawn by `seed`; with a larger n the same and more.

    Raises InputError where a class has fewer, and for an n below 1.
    """
    if n < 1:
        raise InputError(f"{n} images a class: ask for at least 1")
    generator = torch.Generator().manual_seed(derive_seed("few", seed))
    chosen = []
    for label, name in enumerate(domain.classes):
        members = (domain.labels == label).nonzero()[:, 0]
        if len(members) < n:
            raise InputError(
                f"{n} images a class: class '{name}' of {domain.name} has {len(members)}; "
                "ask for fewer"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:n]])
    return domain.take(torch.cat(chosen))


# -------------------------------------------------------------------------- embedded shifts

PRINTED = 250  # digits of each class, of which a fifth is for validation
COPIES = 4  # of each digit of a training domain of "textured"


def _domain(name: str, classes, images: np.ndarray, labels: np.ndarray) -> Domain:
    if images.ndim == 3:
        images = images[:, None]  # N x H x W -> N x 1 x H x W
    return Domain(name, tuple(classes), torch.from_numpy(images), torch.from_numpy(labels))


def _fonts(seed: int) -> Shift:
    """Printed digits -> handwritten ones, 1 x 16 x 16."""
    rng = np.random.default_rng(derive_seed("fonts", seed))
    labels = np.repeat(np.arange(10), PRINTED)
    source = _domain("printed", digits.DIGITS, digits.printed(labels, 16, rng), labels)
    images, labels = digits.handwritten()
    target = _domain("handwritten", digits.DIGITS, digits.enlarged(images, 16), labels)
    return Shift(*split(source, (0.8, 0.2), seed), *split(target, (0.6, 0.4), seed))


def _textured(seed: int) -> Shift:
    """Handwritten digits, white on black -> other ones on textured colour, 3 x 32 x 32.

    The 1,797 digits are divided first, then drawn: `COPIES` times for training, at other places
    and on other backgrounds, and once for validation and test. So `few` of the target may draw two
    pictures of one digit.
    """
    rng = np.random.default_rng(derive_seed("textured", seed))
    images, labels = digits.handwritten()
    numbers = _domain("digits", digits.DIGITS, np.arange(len(labels))[:, None, None], labels)
    drawn = []
    for part, name, copies in zip(
        split(numbers, (0.40, 0.10, 0.30, 0.20), seed),
        ("plain", "plain", "textured", "textured"),
        (COPIES, 1, COPIES, 1),
        strict=True,
    ):
        chosen = part.images.flatten().repeat(copies).numpy()
        plain = digits.placed(images[chosen], 32, rng)  # N x 32 x 32
        if name == "plain":
            pictures = np.repeat(plain[:, None], 3, axis=1)
        else:
            pictures = digits.blended(plain, digits.textures(len(chosen), 32, rng))
        drawn.append(_domain(name, digits.DIGITS, pictures, labels[chosen]))
    return Shift(*drawn)


SHIFTS: dict[str, Callable[[int], Shift]] = {"fonts": _fonts, "textured": _textured}


def styles(seed: int) -> dict[str, Domain]:
    """Seven shapes in four styles, 3 x 48 x 48: {"photo", "cartoon", "sketch", "painting"}."""
    return {
        style: _domain(style, SHAPES, *draw_styles(style, per_class=60, seed=seed))
        for style in STYLES
    }


# ------------------------------------------------------------------------ folders of images

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def _folders(root: Path) -> list[Path]:
    found = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{root}: {path.name!a} is not UTF-8; rename it") from None
    return [path for path in found if path.name != "__MACOSX"]  # left by macOS's archives


def read_domains(
    root: str | Path, domains: Sequence[str] | None = None, size: int = 224
) -> dict[str, FolderDomain]:
    """The domains below root by name, from `DOMAIN/CLASS/*` (PACS, Office-Home, DomainNet).

    domains  which ones; None: every folder of root
    size     pixels of a side that images are resized to

    Raises InputError for a missing root or domain, an empty class folder, and a domain with other
    classes than the first. Files that are not images by their ending are left out.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds DOMAIN/CLASS/images")
    found = {folder.name: folder for folder in _folders(root)}
    if not found:
        raise InputError(f"{root}: holds no folders; expected DOMAIN/CLASS/images")
    for name in domains or ():
        if name not in found:
            raise InputError(f"{root}: no domain '{name}'; it has {', '.join(found)}")
    read: dict[str, FolderDomain] = {}
    for name in domains or found:
        folders = _folders(found[name])
        classes = tuple(folder.name for folder in folders)
        if not classes:
            raise InputError(f"{found[name]}: holds no class folders; expected DOMAIN/CLASS/images")
        first = next(iter(read.values()), None)
        if first is not None and classes != first.classes:
            other = sorted(set(classes) ^ set(first.classes))[0]
            here, there = (name, first.name) if other in classes else (first.name, name)
            raise InputError(
                f"{found[name]}: '{other}' is a class of {here} but not of {there}; all domains "
                "must have the same class folders"
            )
        paths, labels = [], []
        for label, folder in enumerate(folders):
            images = sorted(
                str(path)
                for path in folder.iterdir()
                if path.suffix.lower() in ENDINGS and path.name[0] != "."
            )
            if not images and _folders(folder):
                raise InputError(
                    f"{folder}: folders in place of images; give the folder that holds "
                    f"DOMAIN/CLASS/images, such as {found[name]}"
                )
            if not images:
                raise InputError(
                    f"{folder}: no images in it; fill it, or remove the class everywhere"
                )
            paths += images
            labels += [label] * len(images)
        read[name] = FolderDomain(name, classes, np.array(paths), torch.tensor(labels), size)
    return read


def _read_list(file: Path) -> list[tuple[int, str, int]]:
    """(line number, path, class id) of the lines `path class_id` of a list file."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; save it as that") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        path, _, label = line.strip().rpartition(" ")
        if line.strip() and not (path and label.isdecimal()):
            raise InputError(f"{file}: line {number} is '{line}' instead of 'path class_id'")
        if line.strip():
            rows.append((number, path, int(label)))
    return rows


def read_lists(
    root: str | Path, domains: Sequence[str], part: str, size: int = 224
) -> dict[str, FolderDomain]:
    """The domains by name, from DomainNet's list files `root/DOMAIN_PART.txt`.

    A line is `path class_id`: the path below root, in a folder called like the class; ids from 0.
    All lists of root together name the classes, because one alone may lack some (the published
    painting_train.txt has no t-shirt), so a domain may have classes without images.

    part  which lists: "train" or "test"

    Raises InputError for a missing or empty list, a line that is not so, a missing image, and an id
    that has two classes or none.
    """
    root = Path(root)
    lists = {
        path.name: path
        for path in sorted(root.glob("*_*.txt"))
        if path.stem.endswith(("_train", "_test"))
    }
    for domain in domains:
        if f"{domain}_{part}.txt" not in lists:
            raise InputError(
                f"{root / f'{domain}_{part}.txt'}: no such list; "
                f"{root} has {', '.join(lists) or 'none'}"
            )
    rows = {name: _read_list(path) for name, path in lists.items()}
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for file, lines in rows.items():
        for number, path, label in lines:
            name = PurePosixPath(path).parent.name
            if names.setdefault(label, name) != name or ids.setdefault(name, label) != label:
                raise InputError(
                    f"{root / file}: line {number} gives class id {label} to '{name}'; elsewhere "
                    "that id or that class is another; take all lists from one release"
                )
    read = {}
    for domain in domains:
        file = f"{domain}_{part}.txt"
        if not rows[file]:
            raise InputError(f"{root / file}: names no image; fetch it again")
        for number, path, _ in rows[file]:
            if not os.path.isfile(root / path):
                raise InputError(
                    f"{root / file}: line {number} names {root / path}, which is missing; "
                    "fetch the domain again or remove the line"
                )
        unnamed = next((label for label in range(len(names)) if label not in names), None)
        if unnamed is not None:
            raise InputError(f"{root}: no list has an image of class id {unnamed}; add its list")
        classes = tuple(names[label] for label in range(len(names)))
        paths = np.array([str(root / path) for _, path, _ in rows[file]])
        labels = torch.tensor([label for _, _, label in rows[file]])
        read[domain] = FolderDomain(domain, classes, paths, labels, size)
    return read


# ----------------------------------------------------------------------------------- digits


def read_ccsa(
    folder: str | Path, n: int, repetition: int, pair: tuple[str, str] = ("MNIST", "USPS")
) -> tuple[Domain, Domain, Domain]:
    """(source, n target images a class, target test images) of the split files of CCSA's authors.

    Images are N x 1 x 16 x 16 float32 in [0, 1]. The published test sets may hold some of the n
    target images again: count them with `shared_images`.

    Source: Motiian et al., "Unified Deep Supervised Domain Adaptation and Generalization", ICCV
    2017; github.com/samotiian/CCSA.

    Raises InputError for a missing file and one that holds something else.
    """
    source, target = pair
    read = []
    for name, part in ((source, "train_source"), (target, "train_target"), (target, "test_target")):
        arrays = {}
        for letter in "Xy":
            ending = f"{letter}_{part}_repetition_{repetition}_sample_per_class_{n}.npy"
            file = Path(folder) / f"{source}_to_{target}_{ending}"
            try:
                arrays[letter] = np.load(file, allow_pickle=False)
            except FileNotFoundError:
                raise InputError(
                    f"{file}: no such file; fetch it from github.com/samotiian/CCSA or choose "
                    "another n or repetition"
                ) from None
            except (ValueError, EOFError, OSError) as error:
                raise InputError(f"{file}: not a NumPy file ({error}); fetch it again") from None
        images, labels = arrays["X"], arrays["y"]
        if not all(isinstance(a, np.ndarray) and a.dtype.kind in "fiu" for a in (images, labels)):
            raise InputError(f"{file}: not numbers, or an archive of arrays; fetch both again")
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(
                f"{file}: {labels.shape} labels beside {images.shape} images, where there should "
                "be N and N x height x width; fetch both again"
            )
        if images.shape[1:] != (16, 16) or not len(images):
            raise InputError(f"{file}: {images.shape} images, not N x 16 x 16; fetch it again")
        if not (images.min() >= 0 and images.max() <= 1):
            raise InputError(f"{file}: pixels outside 0 to 1, or no numbers; fetch it again")
        if not np.isin(labels, range(10)).all():
            raise InputError(f"{file}: labels other than the digits 0 to 9; fetch it again")
        read.append(
            _domain(name, digits.DIGITS, images.astype(np.float32), labels.astype(np.int64))
        )
    counts = read[1].labels.bincount(minlength=10).tolist()
    if counts != [n] * 10:
        raise InputError(f"{folder}: {counts} target images a class where {n} of each should be")
    return tuple(read)


def read_digits(name: str, root: str | Path, train: bool) -> Domain:
    """MNIST (1 x 28 x 28), USPS (1 x 16 x 16) or SVHN (3 x 32 x 32), where torchvision keeps them:
    below root MNIST/raw/*-ubyte, usps.bz2 and usps.t.bz2, train_32x32.mat and test_32x32.mat.

    Raises InputError for another name, and where the files are missing or damaged.
    """
    try:
        if name == "MNIST":
            data = datasets.MNIST(root, train)
            images, labels = data.data.numpy(), data.targets.numpy()
        elif name == "USPS":
            data = datasets.USPS(root, train)
            images, labels = data.data, np.array(data.targets)
        elif name == "SVHN":
            data = datasets.SVHN(root, "train" if train else "test")
            images, labels = data.data, data.labels.astype(np.int64)
        else:
            raise InputError(f"unknown digits '{name}': choose MNIST, USPS or SVHN")
    except InputError:
        raise
    except (RuntimeError, OSError, EOFError, ValueError, IndexError, AssertionError):
        raise InputError(
            f"{root}: {name} is not there or damaged; fetch it with "
            f"python -m labor_lib download {name.lower()} --root {root}"
        ) from None
    return _domain(name, digits.DIGITS, images, labels)


def resized(domain: Domain, size: int, channels: int) -> Domain:
    """The images with `size` pixels along each side (bilinear, antialiased) and 1 or 3 channels."""
    images = v2.functional.resize(domain.images, [size, size], antialias=True)
    if images.shape[1] > channels:
        images = v2.functional.rgb_to_grayscale(images)
    return replace(domain, images=images.expand(-1, channels, -1, -1).contiguous())


def mnist_m(plain: Domain, photographs: str | Path, seed: int) -> Domain:
    """MNIST-M of MNIST: each digit on a random patch of a random photograph, N x 3 x 28 x 28 uint8.

    photographs  a folder of images, however deep; in the paper BSDS500's

    Source: see `labor_lib.drawn.digits.blended`. The authors' own file, made by the same recipe,
    has other patches.

    Raises InputError for a folder without images, one that does not decode and one that is smaller
    than a digit.
    """
    paths = sorted(p for p in Path(photographs).rglob("*") if p.suffix.lower() in ENDINGS)
    if not paths:
        raise InputError(f"{photographs}: no images below it; give the folder of BSDS500's images")
    pictures = [_pixels(path) for path in paths]
    height, width = plain.images.shape[2:]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape[0] < height or picture.shape[1] < width:
            raise InputError(f"{path}: smaller than a digit's {width} x {height}; remove it")
    rng = np.random.default_rng(derive_seed("mnist-m", seed))
    patches = np.empty((len(plain), height, width, 3), np.uint8)
    for patch in patches:
        picture = pictures[rng.integers(len(pictures))]
        top = rng.integers(picture.shape[0] - height + 1)
        left = rng.integers(picture.shape[1] - width + 1)
        patch[:] = picture[top : top + height, left : left + width]
    images = digits.blended(plain.images[:, 0].numpy(), patches.transpose(0, 3, 1, 2))
    return replace(plain, name=f"{plain.name}-M", images=torch.from_numpy(images))


def shared_images(first: Domain, second: Domain) -> int:
    """How many images of `first` lie, pixel by pixel, in `second` too."""
    there = {image.numpy().tobytes() for image in second.images}
    return sum(image.numpy().tobytes() in there for image in first.images)
