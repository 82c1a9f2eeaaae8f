"""PPL's choice of one point a predicted class, step by step."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F
from traitlets import link

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.scene import PICTURE_WIDTH, Heat, Rings, Scene, Tint, dimmed, paint
from labor_lib.lab.ui.controls import Picture, choose, dropdown, row
from labor_lib.lab.ui.explorer import StagePanel
from labor_lib.labels import IGNORE, ClassSet
from labor_lib.methods.labor import inconsistency_mask
from labor_lib.methods.registry import METHODS
from labor_lib.selection.rules import representative_points


@dataclass(frozen=True)
class Prototype:
    """PPL's choice for one predicted class k of one image.

    members: M_k, flat positions of its n uncertain pixels. mean: mu(k), C probabilities.
    similarity: n cosines of the members to it. point: the flat position of the highest.
    """

    members: np.ndarray
    mean: np.ndarray
    similarity: np.ndarray
    point: int


def prototypes_of(first: np.ndarray, second: np.ndarray, taken: np.ndarray) -> dict[int, Prototype]:
    """PPL's steps on one image, class id -> prototype, in the order in which PPL asks.

    first, second: the classifiers' C x H x W. taken: H x W booleans, asked before.
    """
    one, two = torch.from_numpy(first), torch.from_numpy(second)
    uncertain = inconsistency_mask(one[None], two[None])[0] & ~torch.from_numpy(taken)
    where = uncertain.flatten().nonzero()[:, 0]
    vectors = ((one + two) / 2).flatten(1).T[where]  # n x C
    predicted = vectors.argmax(dim=1)
    found = {}
    for point in representative_points(vectors).tolist():
        inside = predicted == predicted[point]
        mean = vectors[inside].mean(dim=0)
        found[int(predicted[point])] = Prototype(
            members=where[inside].numpy(),
            mean=mean.numpy(),
            similarity=F.cosine_similarity(vectors[inside], mean[None]).numpy(),
            point=int(where[point]),
        )
    return found


def _similarity_range(one: Prototype) -> tuple[float, float]:
    """Most members are near the prototype: a tenth of them shares the lowest colour."""
    return float(np.quantile(one.similarity, 0.1)), float(one.similarity.max())


def paint_similarity(scene: Scene, one: Prototype) -> np.ndarray:
    """Every pixel of M_k by its cosine to mu(k): blue the lowest tenth, yellow the highest."""
    low, high = _similarity_range(one)
    field = np.full(scene.truth.shape, np.nan)
    share = ((one.similarity - low) / max(high - low, 1e-9)).clip(0, 1)
    field.flat[one.members] = 0.2 + 0.8 * share  # the darkest blue would not show
    dark = dimmed((0.15 * scene.image).astype(np.uint8))
    return paint(dark, [Heat(field, strength=0.85), Rings([one.point])])


def sentence(one: Prototype, name: str, true: str, asked: bool) -> str:
    """What was asked for a class (`name`), and what the answer (`true`) says about it."""
    many = f"{len(one.members):,} uncertain pixel" + "s" * (len(one.members) != 1)
    if not asked:
        return (
            f"For {many} predicted {name} nothing is asked: the stage's points went to larger "
            f"classes. The ringed one is {true}."
        )
    endings = {name: "as predicted", "void": "which teaches nothing"}
    ending = endings.get(true, "which corrects the prediction")
    return f"One point asked for {many} predicted {name}: it is {true}, {ending}."


@viz.styled
def mean_bars(one: Prototype, name: str, true: str, class_set: ClassSet) -> Figure:
    """mu(k) as bars; the predicted and the true class are marked."""
    notes = {true: " (true)", name: " (k, true)" if true == name else " (k)"}
    figure = Figure(figsize=(4.7, 3.0), dpi=viz.DPI)
    axes = figure.add_axes((0.34, 0.03, 0.6, 0.94))
    names = [viz.plain(other + notes.get(other, "")) for other in class_set.names]
    bars = axes.barh(names, one.mean, color=class_set.palette / 255, edgecolor="#555555", lw=0.5)
    axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=3)
    axes.set(xlim=(0, 1.05), xticks=[])
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.invert_yaxis()
    return figure


class PrototypeViewer(StagePanel):
    """How PPL comes to one point a predicted class.

    Controls: seed, stage, image; chosen (a class id of those with uncertain pixels); reset.
    picture: M_k on the photo; similarity: the cosines to mu(k); crop: the photo round the chosen
    point; bars: mu(k). Pixels that earlier stages asked are left out.
    """

    def __init__(self, run, method: str = "ppl", seed: int = 0, stage: int = 1, image: int = 0):
        methods = [name for name in run.asked_methods if METHODS[name].rule == "ppl"]
        super().__init__(run, methods, method, seed, stage, image)
        self.chosen = dropdown("predicted class k", [], "the predicted class k", "330px")
        self.similarity, self.crop = Picture(zoomable=True), Picture(zoomable=True)
        self.bars = Picture()
        link((self.picture, "view"), (self.similarity, "view"))  # the same part of both
        self._build(
            row(self.seed, self.stage, self.image, self.many, self.chosen, self.reset),
            parts=[[self.picture, self.similarity], [self.bars, self.crop]],
        )
        self._listen(self.chosen)

    def _open(self, method: str, seed: int, stage: int, image: int) -> Scene:
        taken = self.run.asked_before(method, seed, stage).mask(image)
        self._found = prototypes_of(*self.run.pair(method, seed, stage, image), taken)
        return super()._open(method, seed, stage, image)

    def _update(self) -> None:
        scene, classes = self._look(), self.run.class_set
        found = [(f"{classes.names[k]} ({len(p.members):,})", k) for k, p in self._found.items()]
        if not found:
            self.chosen.options = []
            raise InputError("the two classifiers agree on this whole image; choose another image")
        choose(self.chosen, found, found[0][1])
        one, where = self._found[self.chosen.value], self.title
        name, answer = classes.names[self.chosen.value], int(scene.truth.flat[one.point])
        true = "void" if answer == IGNORE else classes.names[answer]
        members = [Tint(scene.where(one.members)), Rings([one.point])]
        self.picture.show(
            paint(dimmed(scene.image), members),
            f"M_k, uncertain pixels predicted {name}; {where}",
            sentence(one, name, true, one.point in scene.positions),
        )
        low, high = _similarity_range(one)
        self.similarity.show(
            paint_similarity(scene, one),
            f"cosine similarity of these pixels to their mean; {where}",
            f"Cosine to μ(k): blue {low:.2f} or less, yellow {high:.2f}; ring: the highest.",
        )
        self.crop.show(
            paint(scene.image, [Rings([one.point])], 2 * PICTURE_WIDTH),
            f"the photo round the chosen point for {name}; {where}",
            f"The chosen point: predicted {name}, truly {true}.",
        )
        height, width = scene.truth.shape
        y, x = divmod(one.point, width)
        centre = (x + 0.5) / width, (y + 0.5) / height
        self.crop.view = [*(min(max(part - 1 / 8, 0), 3 / 4) for part in centre), 4]
        values = ", ".join(f"{c} {v:.2f}" for c, v in zip(classes.names, one.mean, strict=True))
        bars = mean_bars(one, name, true, classes)
        self.bars.show(bars, f"bars: {values}", "μ(k): the mean of their probabilities")
