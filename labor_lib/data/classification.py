"""Images of one label each, in several domains: what the wider family of methods trains on.

`Domain` holds the images of one domain in memory, `FolderDomain` decodes them when asked. Training
code uses what both have: `name`, `classes`, `labels`, `len`, `take` and `batch`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from labor_lib.data import digits
from labor_lib.data.styles import CLASSES as SHAPES
from labor_lib.data.styles import STYLES, draw_styles
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

    def take(self, indices) -> "Domain":
        """Those images, in that order. `indices`: integers or a mask, as tensor, array or list."""
        indices = torch.as_tensor(indices)
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def batch(self, indices) -> Tensor:
        """Those images: B x C x H x W."""
        return self.images[torch.as_tensor(indices)]


@dataclass(frozen=True)
class Shift:
    """From a labelled source to a target. The target's labels train nothing but what says so:
    `few` of them, or the ceiling."""

    source: Domain
    source_val: Domain
    target_train: Domain
    target_test: Domain


def split(domain, parts: tuple[float, ...], seed: int) -> tuple:
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
    return tuple(domain.take(torch.cat(lot).sort().values) for lot in lots)


def few(domain, n: int, seed: int):
    """n images of each class, drawn by `seed`; raises InputError where a class has fewer."""
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


def _domain(name: str, classes, images: np.ndarray, labels: np.ndarray) -> Domain:
    if images.ndim == 3:
        images = images[:, None]  # N x H x W -> N x 1 x H x W
    return Domain(name, tuple(classes), torch.from_numpy(images), torch.from_numpy(labels))


def _fonts(seed: int) -> Shift:
    """Printed digits -> handwritten ones, 1 x 16 x 16."""
    source = _domain("printed", digits.DIGITS, *digits.printed(250, seed, 16))
    images, labels = digits.handwritten()
    target = _domain("handwritten", digits.DIGITS, digits.enlarged(images, 16), labels)
    source, source_val = split(source, (0.8, 0.2), seed)
    target_train, target_test = split(target, (0.6, 0.4), seed)
    return Shift(source, source_val, target_train, target_test)


def _textured(seed: int) -> Shift:
    """Handwritten digits, white on black -> other ones on textured colour, 3 x 32 x 32."""
    images, labels = digits.handwritten()
    rng = np.random.default_rng(seed)
    frames = digits.placed(images, 32, rng)
    everything = _domain("all", digits.DIGITS, np.arange(len(labels))[:, None, None], labels)
    parts = split(everything, (0.42, 0.08, 0.3, 0.2), seed)  # no image in two of them
    made = []
    for part, textured in zip(parts, (False, False, True, True), strict=True):
        chosen = part.images.flatten().numpy()
        plain = np.repeat(frames[chosen, None], 3, axis=1)
        if textured:
            backgrounds = digits.textures(len(chosen), 32, rng)
            plain = digits.mnist_m(frames[chosen], backgrounds)
        name = "textured" if textured else "plain"
        made.append(_domain(name, digits.DIGITS, plain, labels[chosen]))
    return Shift(*made)


SHIFTS: dict[str, Callable[[int], Shift]] = {"fonts": _fonts, "textured": _textured}


def styles(seed: int) -> dict[str, Domain]:
    """Seven shapes in four styles, 3 x 48 x 48: {"photo", "cartoon", "sketch", "painting"}."""
    return {
        style: _domain(style, SHAPES, *draw_styles(style, per_class=60, seed=seed))
        for style in STYLES
    }
