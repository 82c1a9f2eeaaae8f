"""CCSA small enough to train while somebody moves a slider: a few digits, a 2-d embedding.

An image becomes its first principal components (of the source), a hidden layer makes two numbers of
them, and a linear layer names the class. First the source alone is learnt, then CCSA's loss with
all images and all pairs at once (of four classes, three times as many are of two classes as of one,
which is what the paper takes):

    L = (1 - alpha) (CE of source + CE of labelled target) / 2 + alpha (alignment + separation)

`labor_lib.methods.ccsa` has the loss; here it stands in NumPy with its gradient by hand, because a
step then takes 0.1 ms instead of 1.5. The tests hold both against each other.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from labor_lib.errors import InputError
from labor_lib.runtime import derive_seed

CLASSES = ("1", "4", "7", "9")
HIDDEN, COMPONENTS, RATE = 32, 20, 0.02
SOURCE_STEPS, STEPS, EVERY = 150, 120, 5
FLOOR = 1e-8  # of a squared distance, as in `ccsa.distances`

Weights = tuple[np.ndarray, ...]  # K x H, H, H x 2, 2, 2 x classes, classes


@dataclass(frozen=True)
class Points:
    """Images as they enter the network. features: N x K. labels: N, places in the classes."""

    features: np.ndarray
    labels: np.ndarray

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
        """The first n labelled target images of each class."""
        if not 1 <= n <= self.most:
            raise InputError(f"{n} labels a class: choose from 1 to {self.most}")
        places = np.arange(len(self.few)).reshape(-1, self.most)[:, :n].ravel()
        return Points(self.few.features[places], self.few.labels[places])


def small_shift(problem, classes: tuple[str, ...] = CLASSES, images: int = 30) -> SmallShift:
    """Some classes of a `Problem` with `few`; `images` source images of each."""
    source, few, target = problem.sources[0], problem.few, problem.target_train
    if few is None or target is None:
        raise InputError("the problem has no labelled target images: ask for n of them")
    wanted = [source.classes.index(name) for name in classes]
    flat = {
        name: domain.batch(range(len(domain))).flatten(1).double().numpy()
        for name, domain in (("source", source), ("few", few), ("target", target))
    }
    middle = flat["source"].mean(axis=0)
    axes = np.linalg.svd(flat["source"] - middle, full_matrices=False)[2][:COMPONENTS].T
    scale = ((flat["source"] - middle) @ axes).std()
    known = {image.tobytes() for image in flat["few"]}
    other = [number for number, image in enumerate(flat["target"]) if image.tobytes() not in known]

    def points(name: str, domain, numbers=None, most=None) -> Points:
        labels = domain.labels.numpy()
        numbers = np.arange(len(labels)) if numbers is None else np.asarray(numbers)
        chosen = [numbers[labels[numbers] == label][:most] for label in wanted]
        new = np.repeat(np.arange(len(wanted)), [len(part) for part in chosen])
        return Points((flat[name][np.concatenate(chosen)] - middle) @ axes / scale, new)

    return SmallShift(
        classes,
        points("source", source, most=images),
        points("few", few),
        points("target", target, other),
    )


# ---------------------------------------------------------------------------------- the network


def start(classes: int, components: int, seed: int) -> Weights:
    """Random weights."""
    rng = np.random.default_rng(derive_seed("alignment", seed))
    sizes = (components, HIDDEN, 2, classes)
    weights = []
    for inputs, outputs in pairwise(sizes):
        weights += [rng.normal(0, inputs**-0.5, (inputs, outputs)), np.zeros(outputs)]
    return tuple(weights)


def embed(weights: Weights, features: np.ndarray) -> np.ndarray:
    """N x K -> N x 2."""
    return np.tanh(features @ weights[0] + weights[1]) @ weights[2] + weights[3]


def classify(weights: Weights, embedded: np.ndarray) -> np.ndarray:
    """N x 2 -> class numbers, N."""
    return (embedded @ weights[4] + weights[5]).argmax(axis=1)


def loss_and_gradient(
    weights: Weights, source: Points, few: Points | None, alpha: float, margin: float
) -> tuple[float, list[np.ndarray]]:
    """The loss on all images and pairs, and its gradient for every weight. few: None for
    cross-entropy on the source alone."""
    count = len(source)
    features, labels = source.features, source.labels
    share = np.full(count, 1 / count)  # of every image in the cross-entropy
    if few is not None:
        features = np.concatenate([features, few.features])
        labels = np.concatenate([labels, few.labels])
        share = np.repeat([0.5 / count, 0.5 / len(few)], [count, len(few)])
        share *= 1 - alpha
    hidden = np.tanh(features @ weights[0] + weights[1])  # N x H
    z = hidden @ weights[2] + weights[3]  # N x 2

    # cross-entropy
    logits = z @ weights[4] + weights[5]  # N x classes
    logits -= logits.max(axis=1, keepdims=True)
    probs = np.exp(logits)
    probs /= probs.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -(share * np.log(np.maximum(probs[rows, labels], 1e-300))).sum()
    of_logits = probs * share[:, None]
    of_logits[rows, labels] -= share
    of_z = of_logits @ weights[4].T

    # alignment and separation, over all pairs
    if few is not None:
        apart = z[:count, None] - z[None, count:]  # S x T x 2
        squared = (apart**2).sum(axis=2)
        distance = np.sqrt(np.maximum(squared, FLOOR))
        same = source.labels[:, None] == few.labels[None]
        missing = np.maximum(margin - distance, 0)
        loss += alpha * np.where(same, distance**2, missing**2).mean()
        pull = np.where(same, 2.0, -2 * missing / distance) * (squared > FLOOR)
        push = (alpha / distance.size * pull)[:, :, None] * apart
        of_z[:count] += push.sum(axis=1)
        of_z[count:] -= push.sum(axis=0)

    of_hidden = (of_z @ weights[2].T) * (1 - hidden**2)
    return float(loss), [
        *(features.T @ of_hidden, of_hidden.sum(axis=0)),
        *(hidden.T @ of_z, of_z.sum(axis=0)),
        *(z.T @ of_logits, of_logits.sum(axis=0)),
    ]


def train(
    weights: Weights, source: Points, few: Points | None, alpha: float, margin: float, steps: int
) -> list[Weights]:
    """Adam on all images at once; the weights before the first step and after every one."""
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    frames = [weights]
    for step in range(1, steps + 1):
        _, gradient = loss_and_gradient(frames[-1], source, few, alpha, margin)
        new = []
        for weight, g, m, v in zip(frames[-1], gradient, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            change = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            new.append(weight - RATE * change)
        frames.append(tuple(new))
    return frames


# ------------------------------------------------------------------------------------- alignment


@dataclass(frozen=True, eq=False)
class Alignment:
    """CCSA's training of a small shift: the weights before it, and after every few steps."""

    shift: SmallShift
    n: int
    alpha: float
    margin: float
    frames: tuple[Weights, ...]

    @property
    def steps(self) -> list[int]:
        """The step of every frame."""
        return [EVERY * number for number in range(len(self.frames))]

    @cached_property
    def few(self) -> Points:
        return self.shift.labelled(self.n)

    @cached_property
    def same(self) -> np.ndarray:
        """S x T booleans: which pairs are of one class."""
        return self.shift.source.labels[:, None] == self.few.labels[None]

    def embedded(self, frame: int, points: Points) -> np.ndarray:
        """N x 2."""
        return embed(self.frames[frame], points.features)

    def distances(self, frame: int) -> np.ndarray:
        """S x T: of every source image to every labelled target image."""
        one, two = (self.embedded(frame, points) for points in (self.shift.source, self.few))
        return np.linalg.norm(one[:, None] - two[None], axis=2)

    def right(self, frame: int, points: Points) -> np.ndarray:
        """N booleans: whose class is named rightly."""
        return classify(self.frames[frame], self.embedded(frame, points)) == points.labels


def learn_source(shift: SmallShift, seed: int = 0) -> Weights:
    """Weights after `SOURCE_STEPS` of cross-entropy on the source alone."""
    weights = start(len(shift.classes), shift.source.features.shape[1], seed)
    return train(weights, shift.source, None, 0.0, 0.0, SOURCE_STEPS)[-1]


def align(
    shift: SmallShift, learnt: Weights, n: int, alpha: float = 0.25, margin: float = 1.0
) -> Alignment:
    """`STEPS` of CCSA from the weights that `learn_source` gave, n labels a class."""
    frames = train(learnt, shift.source, shift.labelled(n), alpha, margin, STEPS)
    return Alignment(shift, n, alpha, margin, tuple(frames[::EVERY]))
