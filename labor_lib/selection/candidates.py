"""What a selection rule is given of one image, and the tools that rules share.

All of them are exact, and fast on large images: window sums take a few additions whatever the
window, and pixels are chosen one after the other without a search of the whole image for each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

LOWEST = np.finfo(np.float32).min  # a score above -inf


@dataclass
class Candidates:
    """What a rule is given of one image.

    first, second: C x H x W probabilities of the selector's two classifiers, or twice those of the
    segmenter. budget: pixels to ask in this stage. taken: H x W booleans, asked before. generator:
    of random numbers, on the CPU. compute_features: the network's F x h x w features, computed when
    a rule reads `features`. void: H x W booleans, asked before and answered void.
    compute_class_means: the mean probability of each class over the split, C; computed when a rule
    reads `class_means`. compute_domain_logits: the discriminator's map, h' x w', positive where it
    takes a patch for the target; computed when `domain_logits` is read.
    """

    first: Tensor
    second: Tensor
    budget: int
    taken: Tensor | None = None
    generator: Generator = field(default_factory=Generator)
    compute_features: Callable[[], Tensor] | None = None
    void: Tensor | None = None
    compute_class_means: Callable[[], Tensor] | None = None
    compute_domain_logits: Callable[[], Tensor] | None = None

    def __post_init__(self):
        nothing = torch.zeros_like(self.first[0], dtype=torch.bool)
        self.taken = nothing if self.taken is None else self.taken
        self.void = nothing if self.void is None else self.void

    @cached_property
    def features(self) -> Tensor:
        return self.compute_features()

    @cached_property
    def class_means(self) -> Tensor:
        return self.compute_class_means()

    @cached_property
    def domain_logits(self) -> Tensor:
        return self.compute_domain_logits()

    @cached_property
    def probs(self) -> Tensor:
        """Mean of both classifiers: C x H x W."""
        return self.first if self.second is self.first else (self.first + self.second) / 2

    @cached_property
    def predicted(self) -> Tensor:
        """The class of the highest mean probability, the first of equal ones: H x W, int64."""
        return self.probs.max(dim=0).indices  # on a CPU in half the time of argmax

    @cached_property
    def disagreement(self) -> Tensor:
        """Where the two classifiers name different classes (LabOR, eq. 4): H x W booleans."""
        if self.second is self.first:
            return torch.zeros_like(self.taken)
        return self.first.max(dim=0).indices != self.second.max(dim=0).indices

    @cached_property
    def mask(self) -> Tensor:
        """Where the classifiers disagree and nothing was asked before: H x W booleans."""
        return self.disagreement & ~self.taken

    def highest(self, scores: Tensor) -> Tensor:
        """The positions, at most `budget`, of the highest scores above -inf; scores: H x W."""
        return highest(scores, self.budget)

    def sample(self, allowed: Tensor, number: int | None = None) -> Tensor:
        """At most `number` (`budget`) of the allowed positions, uniformly; allowed: H x W."""
        scores = torch.rand(allowed.shape, generator=self.generator).to(allowed.device)
        scores = scores.masked_fill(~allowed, -torch.inf)
        return highest(scores, self.budget if number is None else number)


def box_sum(values: Tensor, radius: int) -> Tensor:
    """Sums over the (2 radius + 1)^2 window of every pixel, cut at the border: H x W.

    By doubling: sums of 1, 2, 4, ... neighbours, of which a window takes those that make up its
    width, in rows and then in columns.
    """
    width = 2 * radius + 1
    for dim in (0, 1):
        length = values.shape[dim]
        sums = F.pad(values, (0, 0, radius, radius) if dim == 0 else (radius, radius, 0, 0))
        total, done, size = 0, 0, 1
        while True:  # `sums` are of `size` neighbours, `total` of the first `done` of a window
            if width & size:
                total, done = total + sums.narrow(dim, done, length), done + size
            if 2 * size > width:
                break
            rest = sums.shape[dim] - size
            sums, size = sums.narrow(dim, 0, rest) + sums.narrow(dim, size, rest), 2 * size
        values = total
    return values


def near(points: Tensor, radius: int) -> Tensor:
    """Within `radius` rows and columns of one of the points: H x W booleans, twice."""
    counts = torch.uint8 if (2 * radius + 1) ** 2 < 256 else torch.int32
    return box_sum(points.to(counts), radius) > 0


def highest(scores: Tensor, number: int) -> Tensor:
    """Flat positions, rising, of the `number` highest scores above -inf; of equal ones the first.

    scores: H x W -> at most `number`.
    """
    flat = scores.flatten()
    number = min(number, len(flat))
    if number == 0:
        return torch.empty(0, dtype=torch.long, device=flat.device)
    limit = flat.kthvalue(len(flat) - number + 1).values
    above = (flat > limit).nonzero()[:, 0]
    equal = ((flat == limit) & (flat > -torch.inf)).nonzero()[: number - len(above), 0]
    return torch.cat([above, equal]).sort().values


def square(radius: int) -> np.ndarray:
    """All pixels within `radius` rows and columns: (2 radius + 1)^2 booleans."""
    return np.ones((2 * radius + 1, 2 * radius + 1), bool)


def disc(radius: int) -> np.ndarray:
    """All pixels within a distance of `radius`: (2 radius + 1)^2 booleans."""
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


class Blanks:
    """Where nothing may be chosen any more: a `shape` round everything that was chosen.

    free: H x W booleans, what may be chosen at the start.
    """

    def __init__(self, free: np.ndarray, shape: np.ndarray):
        self.shape = shape
        self.free = free.copy()
        self._flat = self.free.reshape(-1)

    def blank(self, position: int) -> None:
        """Leave out what is round a flat position."""
        radius = len(self.shape) // 2
        row, column = divmod(position, self.free.shape[1])
        top, left = max(row - radius, 0), max(column - radius, 0)
        part = self.free[top : row + radius + 1, left : column + radius + 1]
        rows, columns = top - row + radius, left - column + radius
        part &= ~self.shape[rows : rows + part.shape[0], columns : columns + part.shape[1]]

    def choose(self, position: int) -> bool:
        """Choose a flat position unless it is left out; whether it was chosen."""
        chosen = bool(self._flat[position])
        if chosen:
            self.blank(position)
        return chosen


def greedy(
    scores: Tensor, number: int, shape: np.ndarray, before: Tensor | None = None
) -> Iterator[int]:
    """Flat positions by score, highest first, a `shape` round each one left out of the next choice.

    Yields what `number` searches for the image's highest score would (of equal ones the first),
    each setting the scores round what it found to -inf; ends where only -inf is left. As a choice
    leaves out no more pixels than `shape` has, the `number` x that many highest scores suffice.
    before: H x W booleans, what counts as chosen already.
    """
    grid = scores.cpu().numpy()
    blanks = Blanks(grid > -np.inf, shape)
    if before is not None:
        for position in before.flatten().nonzero()[:, 0].tolist():
            blanks.blank(position)
    flat = (grid if before is None else np.where(blanks.free, grid, -np.inf)).reshape(-1)
    enough = flat.size - min(max(1, number) * int(shape.sum()), flat.size)
    candidates = np.flatnonzero(flat >= max(np.partition(flat, enough)[enough], LOWEST))
    order = candidates[np.argsort(-flat[candidates], kind="stable")].tolist()
    yield from islice(filter(blanks.choose, order), number)
