"""Interactive views of the wider family, each a last line of a cell; see `widgets`.

    AlignmentPlayground(shift)   CCSA's pairs, pulled and pushed in a 2-d embedding

Every view has `figure()`, the same state without a kernel.
"""

import html

from ipywidgets import FloatSlider, Layout, Play, SelectionSlider
from matplotlib.figure import Figure

from labor_lib import markup, viz_family
from labor_lib.alignment import EVERY, STEPS, SmallShift, align, learn_source
from labor_lib.controls import (
    HTML,
    Panel,
    Picture,
    buttons,
    check_box,
    column,
    no_pauses,
    row,
    wide,
)
from labor_lib.errors import InputError

# -------------------------------------------------------------------------- pairs pulled, pushed


class AlignmentPlayground(Panel):
    """CCSA's pairs, pulled and pushed in a 2-d embedding that is trained anew at every change.

    Controls: alpha, margin, labels (each trains); step (a slider; its value counts frames), play;
    pulled, pushed (checkboxes). picture: the embedding; numbers: its pairs; one: the `Alignment`.
    """

    def __init__(self, shift: SmallShift, n: int = 3, alpha: float = 0.25, margin: float = 1.0):
        super().__init__("labor-alignment")
        self.shift, self.one = shift, None
        slim = Layout(width="330px")
        self.alpha = FloatSlider(
            value=alpha, min=0, max=1, step=0.05, continuous_update=False, layout=slim,
            tooltip="weight of the pairs; 1 - alpha is that of classification", **wide("α"),
        )  # fmt: skip
        self.margin = FloatSlider(
            value=margin, min=0, max=4, step=0.25, continuous_update=False, layout=slim,
            tooltip="up to which distance pairs of two classes are pushed", **wide("margin"),
        )  # fmt: skip
        numbers = [k for k in (1, 3, 5, 7) if k <= shift.most]
        tips = [f"{k} labelled target images of each class" for k in numbers]
        self.labels = buttons("labels a class", [(str(k), k) for k in numbers], tips, "3em")
        count = STEPS // EVERY
        self.step = SelectionSlider(
            options=[(str(EVERY * k), k) for k in range(count + 1)], value=count, layout=slim,
            tooltip="training step; 0 is source only", **wide("step"),
        )  # fmt: skip
        self.play = Play(min=0, max=count, interval=300, tooltip="play the training")
        self.pulled = check_box("pulled pairs", True, "lines: pairs of one class")
        self.pushed = check_box("pushed pairs", True, "dots: two classes, closer than the margin")
        self.picture, self.numbers = Picture(smooth=True), HTML()
        marks = html.escape(viz_family.alignment_marks(shift))
        self.marks = HTML(f'<p style="line-height:1.5">{marks}</p>')
        self.picture.layout = Layout(flex="3 1 520px", min_width="0")
        self.parts = [self.picture, self.numbers]
        side = column(self.numbers, self.marks, flex="1 1 260px")
        self.children = [
            row(self.alpha, self.margin, self.labels),
            row(self.play, self.step, self.pulled, self.pushed),
            self.status,
            row(self.picture, side, align="flex-start"),
        ]
        self._wish = n
        self._guarded(self._start)
        self._on(self.alpha, self.margin, self.labels, action=self._train)
        self._on(self.step, self.pulled, self.pushed)
        self._on(self.play, action=self._played)

    def _start(self) -> None:
        self._learnt = learn_source(self.shift)
        known = [value for _, value in self.labels.options]
        if self._wish not in known:
            raise InputError(f"{self._wish} labels a class: choose from {known}")
        self.labels.value = self._wish
        self._train()

    def _train(self) -> None:
        settings = (self.labels.value, self.alpha.value, self.margin.value)
        self.one = align(self.shift, self._learnt, *settings)
        self._update()

    def _played(self) -> None:
        self.step.value = self.play.value
        self._update()

    def _update(self) -> None:
        frame = self.step.value
        self.play.value = frame  # it goes on from here
        sentence = viz_family.alignment_sentence(self.one, frame)
        alt = f"source and target images in the 2-d embedding at step {self.one.steps[frame]}"
        with no_pauses():
            shown = self.pulled.value, self.pushed.value
            self.picture.show(viz_family.paint_alignment(self.one, frame, *shown), alt, sentence)
        self.numbers.value = markup.value_table(viz_family.alignment_lines(self.one, frame))

    def _picture(self) -> Figure:
        shown = self.pulled.value, self.pushed.value
        return viz_family.alignment_figure(self.one, self.step.value, *shown)
