"""Interactive views of the wider family, each a last line of a cell; see `widgets`.

    MethodChooser()              which method fits this problem, and code that runs it
    AlignmentPlayground(shift)   CCSA's pairs, pulled and pushed in a 2-d embedding

Every view has `figure()`, the same state without a kernel.
"""

import html

from ipywidgets import Button, FloatSlider, Layout, Output, Play, SelectionSlider
from matplotlib.figure import Figure

from labor_lib.errors import InputError
from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import EVERY, STEPS, SmallShift, align, learn_source
from labor_lib.lab.ui import guide, markup
from labor_lib.lab.ui.controls import (
    HTML,
    Panel,
    Picture,
    buttons,
    check_box,
    choose,
    column,
    no_pauses,
    row,
    wide,
)

# ------------------------------------------------------------------------------- which method


class MethodChooser(Panel):
    """Questions that lead to a method, why it is that one, and code that runs it.

    Controls: questions (a dictionary by name; those that are not asked on the way are hidden);
    data; run (runs the code into `output`, errors as one line in `outcome`). card, code_view, tree:
    the advice, its code, and the whole tree with the way taken. used: whether a control was used.
    """

    def __init__(self, **answers: str):
        super().__init__("labor-guide")
        self._wish = answers
        self.questions = {}
        for name, question in guide.QUESTIONS.items():
            options = [(text, answer) for answer, text in question.answers.items()]
            tips = [f"{question.text} {text}" for text, _ in options]
            self.questions[name] = buttons(question.text, options, tips, "auto")
            self.questions[name].style.description_width = "270px"
        self.data = buttons("Run it on which embedded data?", [("", "")], [""], "auto")
        self.data.style.description_width = "270px"
        self.run = Button(
            description="Run it here", layout=Layout(width="auto"),
            tooltip="run the code below; a few seconds with a finished run, else minutes",
        )  # fmt: skip
        self.card, self.code_view, self.tree, self.outcome = HTML(), HTML(), HTML(), HTML()
        self.output = Output()
        self.used = False
        self.parts = [self.card, self.code_view, self.tree, self.outcome]
        self.children = [
            *self.questions.values(),
            self.status,
            row(column(self.card, flex="1 1 420px"), column(self.tree, flex="1 1 460px"),
                align="flex-start"),
            row(self.data, self.run),
            self.code_view,
            self.outcome,
            self.output,
        ]  # fmt: skip
        self._guarded(self._start)
        self._on(*self.questions.values(), self.data)
        for control in (*self.questions.values(), self.data):
            control.observe(lambda _: self._note_use(), names="value")
        self.run.on_click(lambda _: self._run())

    def answers(self) -> dict[str, str]:
        """The answer to every question, asked or not."""
        return {name: control.value for name, control in self.questions.items()}

    @property
    def advice(self) -> guide.Advice:
        return guide.advise(**self.answers())

    @property
    def code(self) -> str:
        """Python that runs the advice on the chosen data."""
        return guide.code(self.advice, self.data.value)

    def open_cell(self) -> None:
        """Put a cell with the code below the one that calls this."""
        guide.open_cell(self)

    def _start(self) -> None:
        guide.check_answers(self._wish)
        for name, answer in self._wish.items():
            self.questions[name].value = answer
        self._update()

    def _note_use(self) -> None:
        self.used = True

    def _update(self) -> None:
        way, advice = guide.path(**self.answers()), self.advice
        asked = {name for name, _ in way}
        for name, control in self.questions.items():
            control.layout.display = "flex" if name in asked else "none"
        choose(self.data, advice.data, advice.data[0])
        self.data.tooltips = [guide.DATA[name] for name in advice.data]
        self.card.value = markup.advice_card(advice)
        self.tree.value = markup.guide_tree(way)
        self.code_view.value = markup.code_block(self.code)
        self.outcome.value, self.output.outputs = "", ()

    def _run(self) -> None:
        """Run the code; whatever it raises becomes one line."""
        self.output.outputs, said = (), "done"
        self.run.disabled, self.outcome.value = True, "running \u2026"
        try:
            with self.output:
                try:
                    exec(compile(self.code, "<guide>", "exec"), {"__name__": "guide"})
                except Exception as error:  # as in `_guarded`: a line, not a traceback
                    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                    said = f"Not run to its end: {kind}{error}"
        finally:
            self.run.disabled = False
            self.outcome.value = html.escape(" ".join(said.split()))

    def _picture(self) -> Figure:
        return viz.guide_figure(**self.answers())


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
            value=alpha, min=0, max=1, step=0.05, layout=slim,
            tooltip="weight of the pairs; 1 - alpha is that of classification", **wide("α"),
        )  # fmt: skip
        self.margin = FloatSlider(
            value=margin, min=0, max=4, step=0.25, layout=slim,
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
        self.picture, self.numbers = Picture(), HTML()
        marks = html.escape(viz.alignment_marks(shift))
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
        sentence = viz.alignment_sentence(self.one, frame)
        alt = f"source and target images in the 2-d embedding at step {self.one.steps[frame]}"
        with no_pauses():
            shown = self.pulled.value, self.pushed.value
            self.picture.show(viz.paint_alignment(self.one, frame, *shown), alt, sentence)
        self.numbers.value = markup.value_table(viz.alignment_lines(self.one, frame))

    def _picture(self) -> Figure:
        shown = self.pulled.value, self.pushed.value
        return viz.alignment_figure(self.one, self.step.value, *shown)
