"""What is asked of a person: pixels of one image or of many, and their file.

A selection is sparse: per image the flat positions (row * width + column) of the asked pixels,
at the size the network works at. After the oracle has answered, each position has a class
(255: the person saw a void pixel; it was paid for and taught nothing).
"""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from labor_lib.errors import InputError
from labor_lib.labels import IGNORE


@dataclass
class Selection:
    """Asked pixels, image by image.

    positions: one int64 array per image. size: (height, width) they count in.
    answers: one uint8 array per image, empty until an oracle has filled it.
    """

    size: tuple[int, int]
    positions: list[np.ndarray] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.positions)

    def mask(self, index: int) -> np.ndarray:
        """The asked pixels of one image: H x W booleans."""
        flat = np.zeros(self.size[0] * self.size[1], bool)
        flat[self.positions[index]] = True
        return flat.reshape(self.size)

    def labels(self, index: int) -> np.ndarray:
        """The answers of one image on a map: H x W, uint8, 255 where nothing is known."""
        flat = np.full(self.size[0] * self.size[1], IGNORE, np.uint8)
        flat[self.positions[index]] = self.answers[index]
        return flat.reshape(self.size)

    def merge(self, later: "Selection") -> "Selection":
        """This selection and a later one of the same images."""
        return Selection(
            self.size,
            [np.concatenate(pair) for pair in zip(self.positions, later.positions, strict=True)],
            [np.concatenate(pair) for pair in zip(self.answers, later.answers, strict=True)],
        )

    def save(self, path: Path) -> None:
        """Compressed NumPy file without pickles."""
        nothing = np.empty(0, np.int64)  # concatenate needs at least one array
        write_arrays(
            path,
            size=np.array(self.size),
            counts=np.array([len(positions) for positions in self.positions]),
            positions=np.concatenate([*self.positions, nothing]).astype(np.uint32),
            answers=np.concatenate([*self.answers, nothing]).astype(np.uint8),
        )

    @classmethod
    def load(cls, path: Path, like: "Selection | None" = None) -> "Selection":
        """Raises InputError where the file is missing, damaged or not of the images of `like`."""
        size, counts, positions, answers = read_arrays(
            path, "size", "counts", "positions", "answers"
        )
        whole = (
            size.shape == (2,)
            and counts.sum() == len(positions)
            and len(answers) in (0, len(positions))
            and positions.max(initial=0) < size.prod()
        )
        if whole and like is not None:
            whole = (len(counts), *size.tolist()) == (len(like), *like.size)
        if not whole:
            raise InputError(
                f"{path}: damaged, or of other images; remove {path.parent} and run again"
            )
        ends = np.cumsum(counts)
        answered = len(answers) == len(positions)  # also where nothing was asked
        return cls(
            tuple(size.tolist()),
            np.split(positions.astype(np.int64), ends)[:-1],
            np.split(answers, ends)[:-1] if answered else [],
        )

    @classmethod
    def nothing(cls, images: int, size: tuple[int, int]) -> "Selection":
        """Nothing asked of so many images."""
        return cls(
            size,
            [np.empty(0, np.int64) for _ in range(images)],
            [np.empty(0, np.uint8) for _ in range(images)],
        )


@dataclass
class Masks:
    """The inconsistency masks of a split, eight pixels a byte.

    size: (height, width). packed: N x ceil(height * width / 8), uint8.
    """

    size: tuple[int, int]
    packed: np.ndarray

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> np.ndarray:
        """The mask of one image: H x W booleans."""
        height, width = self.size
        flat = np.unpackbits(self.packed[index], count=height * width)
        return flat.reshape(height, width).astype(bool)

    def save(self, path: Path) -> None:
        """Compressed NumPy file without pickles."""
        write_arrays(path, size=np.array(self.size), packed=self.packed)

    @classmethod
    def load(cls, path: Path) -> "Masks":
        """Raises InputError where the file is missing or damaged."""
        size, packed = read_arrays(path, "size", "packed")
        return cls((int(size[0]), int(size[1])), packed)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """The arrays as a compressed .npz file, which is there whole or not at all."""
    from labor_lib.runtime import writing  # which imports torch: a store of answers does without

    with writing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Arrays of a NumPy file by name; raises InputError where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; remove {path.parent} and run again") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged ({error}); remove {path.parent} and run again") from None
