"""The mask of a pixel selector as it trains."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.analysis import precision_recall
from labor_lib.lab.scene import Scene, Stripes, Tint, dimmed, paint
from labor_lib.lab.ui.controls import Panel, Picture, check_box, player, row
from labor_lib.lab.ui.explorer import percent
from labor_lib.labels import IGNORE

_LOOKS = {  # colour, line, marker
    "precision": ("#0072b2", "-", "o"),
    "recall": ("#d55e00", "--", "s"),
    "mask, share of the image": ("#555555", ":", "^"),
}


def scores_of(scene: Scene, steps: Sequence[int], masks: Sequence[np.ndarray]) -> pd.DataFrame:
    """How well each mask finds errors, a row a step, in %; NaN where there is none to count."""
    known = scene.truth != IGNORE
    rows = [(*precision_recall(m, scene.errors, known), m.mean()) for m in masks]
    return 100 * pd.DataFrame(rows, columns=list(_LOOKS), index=list(steps))


@viz.styled
def score_curve(scores: pd.DataFrame, step: int) -> Figure:
    """Precision, recall and share over the steps, with one step marked."""
    figure = Figure(figsize=(4.9, 3.0), dpi=viz.DPI)
    axes = figure.add_axes((0.12, 0.17, 0.85, 0.68))
    marked = [list(scores.index).index(step)]
    for name, (colour, line, marker) in _LOOKS.items():
        look = {"color": colour, "ls": line, "marker": marker, "ms": 8, "markevery": marked}
        axes.plot(scores.index, scores[name], lw=1.8, label=name, **look)
    axes.axvline(step, color="#999999", lw=1.2, zorder=1)
    axes.set(ylim=(0, 100), xlabel="training step of the selector", ylabel="%")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", **viz.GRID)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3, fontsize=9, handlelength=2)
    return figure


class DisagreementSlider(Panel):
    """The mask over the selector's training steps, with its precision and recall against errors.

    scene: image, truth and probs are used. steps: n numbers. masks: n of H x W booleans, where the
    two classifiers disagree after that step.

    Controls: step (a slider; its `index` counts the masks), play; errors (checkbox).
    picture: the mask on the photo; curve: share, precision, recall, marked at the step.
    """

    def __init__(self, scene: Scene, steps: Sequence[int], masks: Sequence, title: str = ""):
        super().__init__()
        self.scene, self.steps, self.masks, self.title = scene, list(steps), list(masks), title
        self.play, self.step = player(
            "training step", self.steps or ["none"], "training step of the selector", 600
        )
        self.errors = check_box("errors of the model", False, "where the model is wrong")
        self.picture, self.curve = Picture(), Picture()
        controls = row(self.play, self.step, self.errors)
        self._build(controls, parts=[[self.picture, self.curve]])
        self._on(self.step, self.errors)

    def _start(self) -> None:
        if not self.steps or len(self.steps) != len(self.masks):
            raise InputError(
                f"{len(self.steps)} steps and {len(self.masks)} masks: give one mask a step"
            )
        shape = self.scene.image.shape[:2]
        if any(np.shape(part) != shape for part in (self.scene.truth, *self.masks)):
            raise InputError("image, truth and masks differ in size")
        self.scores = scores_of(self.scene, self.steps, self.masks)
        self._update()

    def _update(self) -> None:
        index, scene = self.step.value, self.scene
        step = self.steps[index]
        precision, recall, share = (
            "none" if np.isnan(value) else percent(value, 100) for value in self.scores.iloc[index]
        )
        layers = [Tint(self.masks[index])] + [Stripes(scene.errors)] * self.errors.value
        self.picture.show(
            paint(dimmed(scene.image), layers),
            f"the mask{' and true errors' * self.errors.value} after step {step}",
            f"Step {step}: the mask (blue) holds {share} of the pixels; {precision} of it are "
            f"errors (precision), {recall} of all errors are in it (recall).",
        )
        alt = f"curves of share, precision and recall over the steps, at step {step}"
        self.curve.show(score_curve(self.scores, step), alt)
