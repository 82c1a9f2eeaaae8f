"""An annotator that errs as people do, and how its parameters are estimated from answers.

A click is off by a pixel or two, so that the answer is read beside the place that was meant. What
is seen there is given a wrong class with a probability that grows near borders and in small
regions:

    P(wrong) = base + border exp(-d / reach) + small exp(-pixels / size)

d: distance to the nearest pixel of another class, 0 for a pixel that touches one. pixels: of the
connected region of one class. The border's share of the errors names the class beyond the border,
the rest a class drawn from a table of confusions, or any other class with equal probability.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage, optimize, special
from scipy.spatial import cKDTree

from labor_lib.annotation.cost import TOUCHING, Cost, click_numbers
from labor_lib.annotation.oracle import Oracle
from labor_lib.errors import InputError
from labor_lib.labels import IGNORE
from labor_lib.runtime import derive_seed, read_json, write_json
from labor_lib.selection.record import Selection

FITTED = ("base", "border", "reach", "small", "click_sd")
_REACHED = 6  # pixels to each side that a click may be off, in `fit`: three deviations of 2


_ALLOWED = dict.fromkeys(("base", "border", "small"), (0, 1)) | {"click_sd": (0, 2)}
_ALLOWED |= dict.fromkeys(("reach", "size"), (0.001, 100_000))


@dataclass(frozen=True)
class NoiseConfig:
    """How often and where an annotator errs. The defaults are assumptions, not measurements: `fit`
    estimates them from people's answers. Pixels are of the network's size.

    base       probability of a wrong class inside a large region
    border     probability that a pixel beside a border gets the class beyond it
    reach      pixels from the border over which this falls to 1/e
    small      further probability of a wrong class in a vanishing region
    size       pixels of a region at which this has fallen to 1/e; `fit` keeps it
    click_sd   standard deviation of a click's place in each direction, in pixels; at most 2
    confusion  a row of weights for each class: which class it is mistaken for; (): any alike
    """

    base: float = 0.02
    border: float = 0.15
    reach: float = 2.0
    small: float = 0.15
    size: float = 50.0
    click_sd: float = 0.7
    confusion: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self):
        for name, (low, high) in _ALLOWED.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"noise {name} {getattr(self, name)}: give {low:g} to {high:g}")
        if self.base + self.border + self.small > 1:
            raise InputError("noise base + border + small: more than 1; make them smaller")

    def mistaken_for(self, classes: int) -> np.ndarray:
        """Probabilities of a wrong class (columns) given the right one (rows): classes x classes.

        Raises InputError where `confusion` is not of so many classes.
        """
        table = np.array(self.confusion or np.ones((classes, classes)), float)
        if table.shape != (classes, classes):
            raise InputError(f"noise confusion: give {classes} rows of {classes} numbers")
        np.fill_diagonal(table, 0)
        total = table.sum(axis=1, keepdims=True)
        if (table < 0).any() or not (total > 0).all():
            raise InputError("noise confusion: no number below 0, and one above 0 in every row")
        return table / total

    def as_dict(self) -> dict:
        """As JSON holds it."""
        return asdict(self) | {"confusion": [list(row) for row in self.confusion]}

    def save(self, path: Path) -> None:
        """Write it as JSON, for `--annotator noisy:PATH`."""
        write_json(Path(path), self.as_dict())

    @classmethod
    def load(cls, path: Path) -> "NoiseConfig":
        """From a file that `save` wrote; raises InputError where it is missing or another."""
        try:
            values = dict(read_json(Path(path)))
            rows = [tuple(map(float, row)) for row in values.pop("confusion", ())]
            numbers = {name: float(value) for name, value in values.items()}
            return cls(**numbers, confusion=tuple(rows))
        except (OSError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not an annotator's noise ({error})") from None


def surroundings(truth: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """What lies around pixels of a map: distance, class beyond the border, size of the region.

    truth: H x W uint8, 255 = void, which is no class. positions: flat, of any shape; so are the
    three arrays returned. Where there is no other class, the distance is infinite.
    """
    seen = truth.reshape(-1)[positions]
    distance, beyond = np.full(positions.shape, np.inf), np.full(positions.shape, IGNORE, np.uint8)
    area = np.zeros(positions.shape)
    # the nearest pixel of another class touches one that is not of its own
    cross = ndimage.generate_binary_structure(2, 1)
    edge = ndimage.maximum_filter(truth, footprint=cross) != truth
    edge |= ndimage.minimum_filter(truth, footprint=cross) != truth
    rows, columns = np.nonzero(edge & (truth != IGNORE))
    for index in np.unique(seen[seen != IGNORE]):
        here = seen == index
        regions, _ = ndimage.label(truth == index, TOUCHING)
        area[here] = np.bincount(regions.reshape(-1))[regions.reshape(-1)[positions[here]]]
        others = np.stack([rows, columns], axis=1)[truth[rows, columns] != index]
        if len(others):
            places = np.stack(np.divmod(positions[here], truth.shape[1]), axis=1)
            far, number = cKDTree(others).query(places)
            distance[here], beyond[here] = far - 1, truth[tuple(others[number].T)]
    return distance, beyond, area


class NoisyAnnotator:
    """Answers from the oracle's labels, with the errors of a person.

    Each point is a click of its own; of segments, each region of one class is one click, so that
    all its pixels are off by as much, and are given a wrong class together. A click that lands on
    void is answered 255. The same seed, name and selection have the same answers. Full supervision
    asks the oracle itself.
    """

    def __init__(self, oracle: Oracle, classes: int, noise: NoiseConfig, seed: int = 0):
        """Raises InputError where the noise's table is of another number of classes."""
        self.oracle, self.noise, self.seed = oracle, noise, seed
        self._mistaken = noise.mistaken_for(classes)

    def check(self) -> None:
        """As `Oracle.check`."""
        self.oracle.check()

    def ask(
        self, selection: Selection, name: str = "", *, kind: str = "point", **_
    ) -> tuple[Selection, list[Cost]]:
        """As `Oracle.ask`: the same costs, and answers that may be wrong."""
        answered, costs = self.oracle.ask(selection)
        for index, positions in enumerate(answered.positions):
            if len(positions):
                generator = np.random.default_rng(derive_seed(self.seed, "noise", name, index))
                answered.answers[index] = self.errs(
                    self.oracle.truth(index), positions, generator, kind == "point"
                )
        return answered, costs

    def errs(
        self, truth: np.ndarray, positions: np.ndarray, generator: np.random.Generator, points: bool
    ) -> np.ndarray:
        """Answers for flat positions of one map, uint8. truth: H x W, uint8.

        points: whether each position is a click of its own.
        """
        clicks = looked_at = np.arange(len(positions))
        if not points:  # the pixel of a region that is farthest from its border
            asked = Selection(truth.shape, [positions]).mask(0)
            clicks = click_numbers(asked, truth).reshape(-1)[positions] - 1
            deepest = np.lexsort((-surroundings(truth, positions)[0], clicks))
            looked_at = deepest[np.searchsorted(clicks[deepest], np.arange(clicks.max() + 1))]
        off = np.rint(generator.normal(0, self.noise.click_sd, (len(looked_at), 2))).astype(int)
        moved = _moved(truth.shape, positions, *off[clicks].T)
        answers = truth.reshape(-1)[moved]
        at = moved[looked_at]
        distance, beyond, area = surroundings(truth, at)
        near, other = _chances(distance, area, self.noise)
        drawn, which = generator.random((2, len(at)))
        seen = truth.reshape(-1)[at]
        rows = self._mistaken.cumsum(axis=1)[np.where(seen == IGNORE, 0, seen)]
        mistaken = (which[:, None] >= rows).sum(axis=1).clip(max=len(self._mistaken) - 1)
        wrong = np.where(drawn < near, beyond, mistaken).astype(np.uint8)
        errs = (drawn < near + other) & (seen != IGNORE)
        return np.where(errs[clicks], wrong[clicks], answers)


def _moved(size: tuple[int, int], positions, down, right) -> np.ndarray:
    """Flat positions so many pixels further; they stay inside of the picture."""
    rows, columns = np.divmod(positions, size[1])
    rows, columns = (rows + down).clip(0, size[0] - 1), (columns + right).clip(0, size[1] - 1)
    return rows * size[1] + columns


def _chances(distance, area, noise: NoiseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of naming the class beyond the border, and of another wrong class."""
    near = noise.border * np.exp(-distance / noise.reach)
    return near, noise.base + noise.small * np.exp(-area / noise.size)


# ------------------------------------------------------------------------------ from answers


def fit(
    answers: pd.DataFrame,
    truths: Mapping[str, np.ndarray],
    classes: int,
    start: NoiseConfig | None = None,
) -> NoiseConfig:
    """The noise that makes answers to points most likely: maximum likelihood.

    answers: columns image, row, column (pixels of the truth's size) and label, such as
    `Store.answers` gives; of other kinds than points nothing is used, nor of answers "cannot tell".
    truths: the right classes of every image, H x W uint8. start: where the search begins; its
    table of confusions is kept. Two thousand answers, many of them beside borders and in small
    regions, give each parameter within about a fifth where people err often; where they err
    seldom, more are needed.

    Raises InputError for a place outside of its image and for fewer than 100 answers.
    """
    if "kind" in answers:
        answers = answers[answers["kind"] == "point"]
    answers = answers[answers["label"] != IGNORE]
    if len(answers) < 100:
        raise InputError(f"answers: {len(answers)} to points; at least 100 are needed")
    start = start or NoiseConfig()
    mistaken = start.mistaken_for(classes)
    around = [
        _around(name, rows, truths, mistaken) for name, rows in answers.groupby("image", sort=False)
    ]
    seen, right, beyond, other, distance, area = map(np.concatenate, zip(*around, strict=True))

    def fitted(values: np.ndarray) -> NoiseConfig:
        """The noise of the logarithms of its parameters."""
        found = dict(zip(FITTED, np.exp(values).tolist(), strict=True))
        over = max(1.0, (found["base"] + found["border"] + found["small"]) * (1 + 1e-12))
        return replace(start, **found | {n: found[n] / over for n in ("base", "border", "small")})

    def surprise(values: np.ndarray) -> float:
        """The mean of minus the logarithm of the likelihood."""
        noise = fitted(values)
        near, rest = _chances(distance, area, noise)
        likely = (1 - near - rest) * right + near * beyond + rest * other
        weights = seen * _weights(noise.click_sd)
        total = weights.sum(axis=1)  # given that a class was seen
        likely = (likely * weights).sum(axis=1) / np.maximum(total, 1e-9)
        return -np.log(np.maximum(likely[total > 1e-9], 1e-9)).mean()

    limits = dict.fromkeys(("base", "border", "small"), (1e-4, 0.98))
    limits |= {"reach": (0.2, 20), "click_sd": (0.05, 1.99)}
    limits = np.array([limits[name] for name in FITTED])
    first = np.clip([getattr(start, name) for name in FITTED], *limits.T)
    found = optimize.minimize(surprise, np.log(first), bounds=np.log(limits), method="L-BFGS-B")
    return fitted(found.x)


_OFF = np.arange(-_REACHED, _REACHED + 1)


def _weights(click_sd: float) -> np.ndarray:
    """Probabilities of all places of a click, one after the other: row by row."""
    edges = special.ndtr(np.append(_OFF - 0.5, _REACHED + 0.5) / click_sd)
    line = np.diff(edges) / (edges[-1] - edges[0])
    return np.outer(line, line).reshape(-1)


def _around(name, rows: pd.DataFrame, truths: Mapping[str, np.ndarray], mistaken: np.ndarray):
    """For each answer of an image and each place that the click may have been at (n x places):
    whether a class is there, whether it is the answer, whether the answer lies beyond the border,
    the probability to mistake it for the answer; the distance, and the region's size."""
    truth = np.asarray(truths[name])
    height, width = truth.shape
    if not (rows["row"].between(0, height - 1) & rows["column"].between(0, width - 1)).all():
        raise InputError(f"answers: a place outside of image {name}, {height} x {width}")
    label = rows["label"].to_numpy(int)[:, None]
    positions = (rows["row"] * width + rows["column"]).to_numpy(int)[:, None]
    down, right = (one.reshape(1, -1) for one in np.meshgrid(_OFF, _OFF, indexing="ij"))
    moved = _moved(truth.shape, positions, down, right)
    places, which = np.unique(moved, return_inverse=True)
    distance, beyond, area = (
        one[which.reshape(moved.shape)] for one in surroundings(truth, places)
    )
    found = truth.reshape(-1)[moved]
    seen = found != IGNORE
    other = mistaken[np.where(seen, found, 0), label]
    return seen, found == label, beyond == label, other, distance, area
