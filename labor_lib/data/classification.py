"""Images of one label each, in several domains: what classification methods train on.

folders    read_domains (DOMAIN/CLASS/*: PACS, Office-Home, DomainNet), read_lists (DomainNet)
digits     mnistm_shift (MNIST -> MNIST-M), read_ccsa (split files of CCSA's authors)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.datasets import MNIST

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


def _shuffled_classes(domain: Domain, generator: torch.Generator) -> Iterator[Tensor]:
    """For each class the numbers of its images, in random order."""
    for label in range(len(domain.classes)):
        members = (domain.labels == label).nonzero()[:, 0]
        yield members[torch.randperm(len(members), generator=generator)]


def split(domain: Domain, parts: Sequence[float], seed: int) -> tuple[Domain, ...]:
    """The domain in disjoint parts, each class divided as the whole is; parts add up to 1.

    Raises InputError where a part would have no image.
    """
    generator = torch.Generator().manual_seed(derive_seed("split", seed))
    bounds = np.cumsum((0, *parts))
    lots: list[list[Tensor]] = [[] for _ in parts]
    for members in _shuffled_classes(domain, generator):
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
    chosen = [members[:n] for members in _shuffled_classes(domain, generator)]
    for name, members in zip(domain.classes, chosen, strict=True):
        if len(members) < n:
            raise InputError(
                f"{n} images a class: class '{name}' of {domain.name} has {len(members)}; "
                "ask for fewer"
            )
    return domain.take(torch.cat(chosen))


# ------------------------------------------------------------------------ folders of images


def _folders(root: Path) -> dict[str, Path]:
    """The folders below root by name, without hidden ones and what macOS's archives leave."""
    paths = sorted(root.iterdir()) if root.is_dir() else []
    return {p.name: p for p in paths if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX"}


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
            label: [p for p in sorted(folder.iterdir()) if _is_image(p)]
            for label, folder in _folders(found[name]).items()
        }
        for label, images in files.items() or [("CLASS", [])]:
            if not images:
                raise InputError(
                    f"{found[name] / label}: no images in it; fill it, or give the folder that "
                    "holds DOMAIN/CLASS/images"
                )
        first = next(iter(read.values()), None)
        if first is not None and tuple(files) != first.classes:
            other = min(set(files) ^ set(first.classes))
            raise InputError(
                f"{found[name]}: '{other}' is a class of only one of {first.name} and {name}; all "
                "domains must have the same class folders"
            )
        labels = [label for label, images in enumerate(files.values()) for _ in images]
        paths = np.array([str(path) for images in files.values() for path in images])
        read[name] = Domain(name, tuple(files), paths, torch.tensor(labels), size)
    return read


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.name[0] != "."


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
    files = sorted([*root.glob("*_train.txt"), *root.glob("*_test.txt")])
    rows = {file.name: _read_list(file) for file in files}
    lines = [line for one in rows.values() for line in one]
    named = {(label, PurePosixPath(path).parent.name) for path, label in lines}
    classes: list[str] = []
    for label, name in sorted(named):
        if label != len(classes) or name in classes:
            raise InputError(
                f"{root}: its lists give class id {label} to '{name}', but every class has one id, "
                f"from 0 on, and {len(classes)} would be next; take all lists from one release"
            )
        classes.append(name)
    read = {}
    for domain in domains:
        file = f"{domain}_{part}.txt"
        if not rows.get(file):
            raise InputError(
                f"{root / file}: missing or empty; {root} has {', '.join(rows) or 'no lists'}"
            )
        paths, labels = zip(*rows[file], strict=True)
        paths = np.array([str(root / path) for path in paths])
        missing = next((path for path in paths if not os.path.isfile(path)), None)
        if missing:
            raise InputError(
                f"{root / file} names {missing}, which is missing; fetch the domain again or "
                "remove the line"
            )
        read[domain] = Domain(domain, tuple(classes), paths, torch.tensor(labels), size)
    return read


def _read_list(file: Path) -> list[tuple[str, int]]:
    """(path below the list's folder, class id) of lines `path class_id`."""
    rows = []
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        path, _, label = line.rpartition(" ")
        outside = Path(path).anchor or ".." in Path(path).parts
        if line and (outside or not path or not label.isdecimal()):
            raise InputError(
                f"{file}: line {number} is '{line}' instead of 'path class_id', the path below "
                f"{file.parent}"
            )
        if line:
            rows.append((path, int(label)))
    return rows


# ----------------------------------------------------------------------------------- digits


def read_ccsa(folder: str | Path, n: int, repetition: int) -> tuple[Domain, Domain, Domain]:
    """(MNIST, n USPS images a class, USPS test images): the split files of CCSA's authors.

    Images are N x 1 x 16 x 16 float32 in [0, 1]. The published test sets may hold some of the n
    target images again.

    Source: Motiian et al., "Unified Deep Supervised Domain Adaptation and Generalization", ICCV
    2017; github.com/samotiian/CCSA.

    Raises InputError for a missing file and one that holds something else.
    """
    read = []
    for name, part in (
        ("MNIST", "train_source"), ("USPS", "train_target"), ("USPS", "test_target")
    ):  # fmt: skip
        stem = f"{part}_repetition_{repetition}_sample_per_class_{n}.npy"
        file, label_file = (Path(folder) / f"MNIST_to_USPS_{kind}_{stem}" for kind in "Xy")
        try:
            images = np.load(file, allow_pickle=False).astype(np.float32)
            labels = np.load(label_file, allow_pickle=False).astype(np.int64)
            within = images.size and 0 <= images.min() <= images.max() <= 1
            if images.shape != (len(labels), 16, 16) or not within:
                raise ValueError(f"{images.shape}, not {len(labels)} x 16 x 16 in 0 to 1")
            counts = np.bincount(labels, minlength=10).tolist()
            if len(counts) > 10 or (part == "train_target" and counts != [n] * 10):
                raise ValueError(f"{counts} images of each digit")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{file}: it or its labels are not as published ({error}); fetch them from "
                "github.com/samotiian/CCSA, or choose another n or repetition"
            ) from None
        read.append(make_domain(name, DIGITS, images, labels))
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

    Raises InputError for missing or damaged files.
    """
    root = Path(root)
    plain = []  # of training and test: N x 3 x 32 x 32 (a view of one channel)
    for training in (True, False):
        try:
            digits = MNIST(root, training)
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, AssertionError):
            raise InputError(
                f"{root / 'MNIST' / 'raw'}: MNIST is not there or damaged; fetch it with "
                f"python -m labor_lib data mnist --root {root}"
            ) from None
        images = pad(digits.data, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1)
        plain.append(Domain("MNIST", DIGITS, images, digits.targets))
    # each h x w x 3
    photographs = [
        read_rgb(path) for path in sorted((root / "bsds500").rglob("*")) if _is_image(path)
    ]
    if not photographs:
        raise InputError(
            f"{root / 'bsds500'}: no photographs in it; fetch them with "
            f"python -m labor_lib data bsds500 --root {root}"
        )
    rng = np.random.default_rng(derive_seed("mnistm", seed))
    target = [_on_photographs(digits, photographs, rng) for digits in plain]
    return Shift(*split(plain[0], (5 / 6, 1 / 6), seed), *target)


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
