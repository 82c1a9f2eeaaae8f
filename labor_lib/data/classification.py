"""Images of one label each, in several domains: what classification methods train on.

    folders    read_domains (DOMAIN/CLASS/*: PACS, Office-Home, DomainNet), read_lists (DomainNet)
    digits     mnistm_shift (MNIST -> MNIST-M), read_ccsa (split files of CCSA's authors)

Whatever is wrong with a folder raises `InputError`; what needs no decoding, when it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.datasets.mnist import read_image_file, read_label_file

from labor_lib.data.pictures import ENDINGS, read_rgb
from labor_lib.errors import InputError
from labor_lib.runtime import derive_seed

DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Domain:
    """Images of one domain, in memory or in files that are decoded when asked for."""

    name: str
    classes: tuple[str, ...]
    # N x C x H x W uint8 (of the CCSA split files float32 in [0, 1]), C = 1 or 3; or N file names
    images: Tensor | np.ndarray
    labels: Tensor  # N int64, places in `classes`
    size: int = 224  # pixels that files are resized to, without regard to proportions (DomainBed)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices) -> Domain:
        """Those images, in that order. `indices`: integers or a mask, as tensor, array or list."""
        indices = torch.as_tensor(indices)
        indices = indices if indices.dtype == torch.bool else indices.long()
        places = indices if isinstance(self.images, Tensor) else indices.numpy()
        return replace(self, images=self.images[places], labels=self.labels[indices])

    def batch(self, indices) -> Tensor:
        """Those images: B x C x H x W. Raises InputError for a file that cannot be decoded."""
        images = self.take(indices).images
        if isinstance(images, Tensor):
            return images
        pixels = np.stack([read_rgb(Path(path), self.size) for path in images])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def load(self) -> Domain:
        """All images in memory, of files 3 size^2 bytes each. Raises InputError as `batch` does."""
        return replace(self, images=self.batch(range(len(self))))


def make_domain(name: str, classes, images: np.ndarray, labels: np.ndarray) -> Domain:
    """A domain of arrays: N x H x W or N x C x H x W images, N labels."""
    if images.ndim == 3:
        images = images[:, None]  # N x 1 x H x W
    return Domain(name, tuple(classes), torch.from_numpy(images), torch.from_numpy(labels))


@dataclass(frozen=True)
class Shift:
    """From a labelled source to a target. Of the target's labels, training uses `few` at the most;
    the ceiling, and it alone, uses all."""

    source: Domain
    source_val: Domain
    target_train: Domain
    target_test: Domain


def split(domain: Domain, parts: Sequence[float], seed: int) -> tuple[Domain, ...]:
    """The domain in disjoint parts, each class divided as the whole is; parts add up to 1.

    Raises InputError where a part would have no image.
    """
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


def few(domain: Domain, n: int, seed: int) -> Domain:
    """n images of each class, drawn by `seed`; with a larger n the same and more.

    Raises InputError where a class has fewer.
    """
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


# ------------------------------------------------------------------------ folders of images


def _folders(root: Path) -> dict[str, Path]:
    """The folders below root by name, without hidden ones and what macOS's archives leave."""
    found = {}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir() and path.name[0] != "." and path.name != "__MACOSX":
            try:
                path.name.encode()
            except UnicodeEncodeError:
                raise InputError(f"{root}: {path.name!a} is not UTF-8; rename it") from None
            found[path.name] = path
    return found


def read_domains(
    root: str | Path, domains: Sequence[str] | None = None, size: int = 224
) -> dict[str, Domain]:
    """The domains below root by name, from `DOMAIN/CLASS/*` (PACS, Office-Home, DomainNet).

    domains  which ones; None: every folder of root
    size     pixels of a side that images are resized to

    Raises InputError for a missing root or domain, an empty class folder, and a domain with other
    classes than the first. Files that are not images by their ending are left out.
    """
    found = _folders(Path(root))
    read: dict[str, Domain] = {}
    for name in domains or found or ["DOMAIN"]:
        if name not in found:
            raise InputError(
                f"{Path(root) / name}: no such folder; {root} has {', '.join(found) or 'none'} and "
                "should hold DOMAIN/CLASS/images"
            )
        files = {
            path.name: sorted(
                str(file)
                for file in path.iterdir()
                if file.suffix.lower() in ENDINGS and file.name[0] != "."
            )
            for path in _folders(found[name]).values()
        }
        empty = next((folder for folder, images in files.items() if not images), None)
        if not files or empty:
            raise InputError(
                f"{found[name] / (empty or 'CLASS')}: no images in it; fill it, or give the folder "
                "that holds DOMAIN/CLASS/images"
            )
        first = next(iter(read.values()), None)
        if first is not None and tuple(files) != first.classes:
            other = sorted(set(files) ^ set(first.classes))[0]
            here, there = (name, first.name) if other in files else (first.name, name)
            raise InputError(
                f"{found[name]}: '{other}' is a class of {here} but not of {there}; all domains "
                "must have the same class folders"
            )
        labels = [label for label, images in enumerate(files.values()) for _ in images]
        paths = np.array([path for images in files.values() for path in images])
        read[name] = Domain(name, tuple(files), paths, torch.tensor(labels), size)
    return read


def _read_list(file: Path) -> list[tuple[str, str, int]]:
    """(place for messages, path below the list's folder, class id) of lines `path class_id`."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8; save it as that") from None
    rows = []
    for number, line in enumerate(map(str.strip, lines), 1):
        path, _, label = line.rpartition(" ")
        outside = Path(path).anchor or ".." in Path(path).parts
        if line and (outside or not path or not label.isdecimal()):
            raise InputError(
                f"{file}: line {number} is '{line}' instead of 'path class_id', the path below "
                f"{file.parent}"
            )
        if line:
            rows.append((f"{file}: line {number}", path, int(label)))
    return rows


def read_lists(
    root: str | Path, domains: Sequence[str], part: str, size: int = 224
) -> dict[str, Domain]:
    """The domains by name, from DomainNet's list files `root/DOMAIN_PART.txt`.

    A line is `path class_id`: the path below root, in a folder called like the class; ids from 0.
    All lists of root together name the classes, because one alone may lack some (the published
    painting_train.txt has no t-shirt), so a domain may have classes without images.

    part  which lists: "train" or "test"

    Raises InputError for a missing or empty list, a line that is not so, a missing image, and an id
    that has two classes or none.
    """
    root = Path(root)
    rows = {
        path.name: _read_list(path)
        for path in sorted(root.glob("*_*.txt"))
        if path.stem.endswith(("_train", "_test"))
    }
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for place, path, label in (row for lines in rows.values() for row in lines):
        name = PurePosixPath(path).parent.name
        if names.setdefault(label, name) != name or ids.setdefault(name, label) != label:
            raise InputError(
                f"{place} gives class id {label} to '{name}'; elsewhere that id or that class is "
                "another; take all lists from one release"
            )
    unnamed = next((label for label in range(len(names)) if label not in names), None)
    if unnamed is not None:
        raise InputError(f"{root}: no list has an image of class id {unnamed}; add its list")
    classes = tuple(names[label] for label in range(len(names)))
    read = {}
    for domain in domains:
        file = f"{domain}_{part}.txt"
        if not rows.get(file):
            raise InputError(
                f"{root / file}: missing or empty; {root} has {', '.join(rows) or 'no lists'}"
            )
        for place, path, _ in rows[file]:
            if not os.path.isfile(root / path):
                raise InputError(
                    f"{place} names {root / path}, which is missing; fetch the domain again or "
                    "remove the line"
                )
        paths = np.array([str(root / path) for _, path, _ in rows[file]])
        labels = torch.tensor([label for _, _, label in rows[file]])
        read[domain] = Domain(domain, classes, paths, labels, size)
    return read


# ----------------------------------------------------------------------------------- digits


def read_ccsa(
    folder: str | Path, n: int, repetition: int, pair: tuple[str, str] = ("MNIST", "USPS")
) -> tuple[Domain, Domain, Domain]:
    """(source, n target images a class, target test images) of the split files of CCSA's authors.

    Images are N x 1 x 16 x 16 float32 in [0, 1]. The published test sets may hold some of the n
    target images again.

    Source: Motiian et al., "Unified Deep Supervised Domain Adaptation and Generalization", ICCV
    2017; github.com/samotiian/CCSA.

    Raises InputError for a missing file and one that holds something else.
    """
    source, target = pair
    read = []
    for name, part in ((source, "train_source"), (target, "train_target"), (target, "test_target")):
        arrays = []
        for letter in "Xy":
            ending = f"{letter}_{part}_repetition_{repetition}_sample_per_class_{n}.npy"
            file = Path(folder) / f"{source}_to_{target}_{ending}"
            try:
                arrays.append(np.asarray(np.load(file, allow_pickle=False)))
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"{file}: cannot be read ({error}); fetch it from github.com/samotiian/CCSA, "
                    "or choose another n or repetition"
                ) from None
        images, labels = arrays
        if not (
            {images.dtype.kind, labels.dtype.kind} <= set("fiu")
            and images.shape == (len(labels), 16, 16)
            and images.size
            and images.min() >= 0
            and images.max() <= 1
            and np.isin(labels, range(10)).all()
        ):
            raise InputError(
                f"{file}: {images.dtype} {images.shape} images and {labels.dtype} {labels.shape} "
                "labels, where there should be N x 16 x 16 in 0 to 1 and N digits; fetch both again"
            )
        read.append(make_domain(name, DIGITS, images.astype(np.float32), labels.astype(np.int64)))
    counts = read[1].labels.bincount(minlength=10).tolist()
    if counts != [n] * 10:
        raise InputError(f"{folder}: {counts} target images a class where {n} of each should be")
    return tuple(read)


def mnistm_shift(root: str | Path, seed: int) -> Shift:
    """MNIST -> MNIST-M, 3 x 32 x 32 uint8: the first experiment of DANN.

    source, source_val  the 60,000 training digits, 5 to 1 in each class: white on black, 28 x 28
                        with a margin of 2 pixels
    target_train        all training digits, each on a random patch of a random photograph
    target_test         the 10,000 test digits, likewise

    As in the paper, the target's training images show the source's digits again. The authors' own
    file, made by the same recipe, has other patches.

    root  holds MNIST/raw/*-ubyte and the photographs of BSDS500 below bsds500/, as
          `python -m labor_lib data` writes them

    Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, 5.2.4.

    Raises InputError for missing or damaged files, and a photograph that is too small.
    """
    root = Path(root)
    train, test = _mnist(root, "train"), _mnist(root, "t10k")
    photographs = []
    for path in sorted((root / "bsds500").rglob("*")):
        if path.suffix.lower() in ENDINGS:
            photographs.append(read_rgb(path))  # h x w x 3
            if min(photographs[-1].shape[:2]) < 32:
                raise InputError(f"{path}: smaller than a digit's 32 x 32 pixels; remove it")
    if not photographs:
        raise InputError(
            f"{root / 'bsds500'}: no photographs in it; fetch them with "
            f"python -m labor_lib data bsds500 --root {root}"
        )
    rng = np.random.default_rng(derive_seed("mnistm", seed))
    target = [_on_photographs(digits, photographs, rng) for digits in (train, test)]
    return Shift(*split(train, (5 / 6, 1 / 6), seed), *target)


def _mnist(root: Path, part: str) -> Domain:
    """Digits with a margin of 2 pixels, N x 3 x 32 x 32 (a view of one channel)."""
    stem = root / "MNIST" / "raw" / part
    try:
        images = read_image_file(f"{stem}-images-idx3-ubyte")
        labels = read_label_file(f"{stem}-labels-idx1-ubyte")
        if images.shape != (len(labels), 28, 28):
            raise ValueError("images and labels differ")
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AssertionError):
        raise InputError(
            f"{stem}-*: MNIST is not there or damaged; fetch it with "
            f"python -m labor_lib data mnist --root {root}"
        ) from None
    images = pad(images, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1)
    return Domain("MNIST", DIGITS, images, labels)


def _on_photographs(plain: Domain, photographs: list[np.ndarray], rng) -> Domain:
    """Each digit blended with a patch of its size of one of the photographs (h x w x 3)."""
    images = torch.empty(plain.images.shape, dtype=torch.uint8)
    height, width = images.shape[2:]
    for image, digit in zip(images.numpy(), plain.images.numpy(), strict=True):
        picture = photographs[rng.integers(len(photographs))]
        top = rng.integers(picture.shape[0] - height + 1)
        left = rng.integers(picture.shape[1] - width + 1)
        patch = picture[top : top + height, left : left + width].transpose(2, 0, 1)
        image[:] = blended(digit[:1], patch[None])[0]
    return replace(plain, name="MNIST-M", images=images)


def blended(digits: np.ndarray, backgrounds: np.ndarray) -> np.ndarray:
    """|background - digit| in each channel: N x h x w and N x 3 x h x w uint8 -> N x 3 x h x w.

    Source: MNIST-M of Ganin et al., JMLR 2016, section 5.2.4.
    """
    digits = digits[:, None].astype(np.int16)  # N x 1 x h x w
    return np.abs(backgrounds.astype(np.int16) - digits).astype(np.uint8)
