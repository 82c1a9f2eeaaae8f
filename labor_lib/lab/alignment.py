"""CCSA small enough to train while somebody moves a slider: a few digits, a 2-d embedding.

An image becomes its first principal components (of the source), a hidden layer makes two numbers of
them, and a linear layer names the class. First the source alone is learnt, then CCSA's loss with
all images and all pairs at once (of four classes, three times as many are of two classes as of one,
which is what the paper takes):

    L = (1 - alpha) (CE of source + CE of labelled target) / 2 + alpha (alignment + separation)
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from labor_lib.errors import InputError
from labor_lib.methods.ccsa import contrastive_loss, distances
from labor_lib.runtime import derive_seed

CLASSES = ("1", "4", "7", "9")
HIDDEN, COMPONENTS, RATE = 32, 20, 0.02
SOURCE_STEPS, STEPS, EVERY = 150, 120, 5

Weights = list[Tensor]  # K x HIDDEN, HIDDEN, HIDDEN x 2, 2, 2 x classes, classes


@dataclass(frozen=True)
class Points:
    """Images as they enter the network. features: N x K float32. labels: N, class numbers."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class SmallShift:
    """A few classes of a shift: source images, labelled target images (class after class, as many
    of each), and the other target training images, whose labels only score."""

    classes: tuple[str, ...]
    source: Points
    few: Points
    others: Points

    @property
    def most(self) -> int:
        """Labelled target images of each class."""
        return len(self.few) // len(self.classes)

    def labelled(self, n: int) -> Points:
        """The first n labelled target images of each class; raises InputError if there are less."""
        if not 1 <= n <= self.most:
            raise InputError(f"{n} labels a class: choose from 1 to {self.most}")
        places = torch.arange(len(self.few)).view(-1, self.most)[:, :n].flatten()
        return Points(self.few.features[places], self.few.labels[places])


def small_shift(problem, classes: tuple[str, ...] = CLASSES, images: int = 30) -> SmallShift:
    """Some classes of a `Problem` with `few`; `images` source images of each."""
    source, few, target = problem.sources[0], problem.few, problem.target_train
    if few is None or target is None:
        raise InputError("the problem has no labelled target images: ask for n of them")
    flat = [
        domain.batch(range(len(domain))).flatten(1).double() for domain in (source, few, target)
    ]
    middle = flat[0].mean(dim=0)
    axes = torch.linalg.svd(flat[0] - middle, full_matrices=False)[2][:COMPONENTS].T
    scale = ((flat[0] - middle) @ axes).std()
    known = {image.numpy().tobytes() for image in flat[1]}
    other = torch.tensor([image.numpy().tobytes() not in known for image in flat[2]])

    def points(pixels: Tensor, labels: Tensor, most: int | None = None) -> Points:
        chosen = [(labels == source.classes.index(k)).nonzero()[:most, 0] for k in classes]
        new = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(c) for c in chosen]))
        return Points(((pixels[torch.cat(chosen)] - middle) @ axes / scale).float(), new)

    return SmallShift(
        classes,
        points(flat[0], source.labels, images),
        points(flat[1], few.labels),
        points(flat[2][other], target.labels[other]),
    )


def embed(weights: Weights, features: Tensor) -> Tensor:
    """N x K -> N x 2."""
    return (features @ weights[0] + weights[1]).tanh() @ weights[2] + weights[3]


def classify(weights: Weights, embedded: Tensor) -> Tensor:
    """... x 2 -> logits, ... x classes."""
    return embedded @ weights[4] + weights[5]


def small_loss(
    weights: Weights, source: Points, few: Points | None, alpha: float, margin: float
) -> Tensor:
    """The loss on all images and pairs. few: None for cross-entropy on the source alone."""
    z = embed(weights, source.features)  # S x 2
    own = F.cross_entropy(classify(weights, z), source.labels)
    if few is None:
        return own
    t = embed(weights, few.features)  # T x 2
    labelled = F.cross_entropy(classify(weights, t), few.labels)
    distance = distances(z.repeat_interleave(len(t), 0), t.repeat(len(z), 1))  # of S T pairs
    same = (source.labels[:, None] == few.labels).flatten()
    pairs = contrastive_loss(distance, same, margin)
    return (1 - alpha) * (own + labelled) / 2 + alpha * pairs


def train(
    weights: Weights, source: Points, few: Points | None, alpha: float, margin: float, steps: int
) -> list[Weights]:
    """Adam on all images at once; the weights before the first step and after every `EVERY`."""
    frames, own = [weights], [part.clone().requires_grad_() for part in weights]
    optimizer = torch.optim.Adam(own, RATE)
    with threadpool_limits(1):  # several threads wait for each other longer than they work
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            small_loss(own, source, few, alpha, margin).backward()
            optimizer.step()
            if step % EVERY == 0:
                frames.append([part.detach().clone() for part in own])
    return frames


@dataclass(frozen=True, eq=False)
class Alignment:
    """CCSA's training of a small shift: the weights before it, and after every few steps."""

    shift: SmallShift
    n: int
    alpha: float
    margin: float
    frames: list[Weights]

    @cached_property
    def few(self) -> Points:
        return self.shift.labelled(self.n)

    @cached_property
    def same(self) -> np.ndarray:
        """S x T booleans: which pairs are of one class."""
        return (self.shift.source.labels[:, None] == self.few.labels).numpy()

    def embedded(self, frame: int, points: Points) -> np.ndarray:
        """N x 2."""
        return embed(self.frames[frame], points.features).numpy()

    def named(self, frame: int, embedded: np.ndarray) -> np.ndarray:
        """... x 2 -> class numbers."""
        points = torch.as_tensor(embedded, dtype=torch.float32)
        return classify(self.frames[frame], points).argmax(-1).numpy()

    def distances(self, frame: int) -> np.ndarray:
        """S x T: of every source image to every labelled target image."""
        one, two = (self.embedded(frame, points) for points in (self.shift.source, self.few))
        return np.linalg.norm(one[:, None] - two, axis=2)

    def right(self, frame: int, points: Points) -> float:
        """Percent of the points that get their class."""
        named = self.named(frame, self.embedded(frame, points))
        return 100 * float((named == points.labels.numpy()).mean())


def learn_source(shift: SmallShift, seed: int = 0) -> Weights:
    """Weights after `SOURCE_STEPS` of cross-entropy on the source alone."""
    rng = np.random.default_rng(derive_seed("alignment", seed))
    sizes = (shift.source.features.shape[1], HIDDEN, 2, len(shift.classes))
    weights = []
    for inputs, outputs in pairwise(sizes):
        drawn = rng.normal(0, inputs**-0.5, (inputs, outputs))
        weights += [torch.from_numpy(drawn).float(), torch.zeros(outputs)]
    return train(weights, shift.source, None, 0.0, 0.0, SOURCE_STEPS)[-1]


def align(
    shift: SmallShift, learnt: Weights, n: int, alpha: float = 0.25, margin: float = 1.0
) -> Alignment:
    """`STEPS` of CCSA from the weights that `learn_source` gave, n labels a class."""
    frames = train(learnt, shift.source, shift.labelled(n), alpha, margin, STEPS)
    return Alignment(shift, n, alpha, margin, frames)
