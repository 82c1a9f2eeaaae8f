"""Widgets of classification, each a last line of a cell; see `widgets`.

    MethodChooser()              which method fits this problem, and code that runs it
    AlignmentPlayground(shift)   CCSA's pairs, pulled and pushed in a 2-d embedding

Both have `figure()`, the same state without a kernel.
"""

import html

from IPython import get_ipython
from ipywidgets import HTML, FloatSlider, Layout, Output

from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import EVERY, STEPS, SmallShift, align, learn_source
from labor_lib.lab.ui import controls, guide
from labor_lib.lab.ui.controls import Picture, Text, buttons, player, row, wide


class MethodChooser(controls.Questions):
    """Questions that lead to a method, the reasons for it, and code that runs it.

    Controls: questions (a dictionary by name; those that are not asked on the way are hidden);
    data; run (runs the code into `output`; `outcome` beside it says how that went). card,
    code_view, tree: the advice, its code, and the whole tree. used: whether a control was used.
    """

    def __init__(self, **answers: str):
        super().__init__(guide.QUESTIONS, answers, "auto")
        self.used = False
        self.data = buttons("Run it on which embedded data?", [("", "")], [""], "auto")
        self.data.style.description_width = "270px"
        self.run = controls.button("Run it here", "run the code below")
        self.card, self.tree = Text(), Picture()
        self.code_view, self.outcome, self.output = HTML(), HTML(), Output()
        self._build(*self.questions.values(), parts=[self.card, self.tree])
        *above, tree = self.children
        line = row(self.data, self.run, self.outcome)
        self.children = [*above, line, self.code_view, self.output, tree]
        for control in (*self.questions.values(), self.data):
            control.observe(lambda _: setattr(self, "used", True), names="value")
        self._on(*self.questions.values())
        self._on(self.data, action=self._show_code)
        self.run.on_click(lambda _: self._run())

    @property
    def advice(self) -> guide.Advice:
        return guide.advise(**self.answers())

    @property
    def code(self) -> str:
        """Python that runs the advice on the chosen data."""
        return guide.code(self.advice, self.data.value)

    def open_cell(self) -> None:
        """Put a cell with the code below the one that calls this, once a control has been used.

        Without a notebook (in a terminal) it prints the code.
        """
        shell = get_ipython()
        if not self.used:
            print("Answer the questions above or choose data, then run this cell again.")
        elif shell is None:
            print(self.code)
        else:
            shell.set_next_input(self.code, replace=False)
            print(f"Opened a cell below: {self.advice.title}, on '{self.data.value}'.")

    def _update(self) -> None:
        way, advice = guide.path(**self.answers()), self.advice
        for name, control in self.questions.items():
            control.layout.display = "flex" if name in dict(way) else "none"
        controls.choose(self.data, advice.data, advice.data[0])
        self.data.tooltips = [guide.DATA[name]["text"] for name in advice.data]
        lines = [("", advice.why), ("given of the target", advice.given)]
        lines.append(("explained in", ", ".join(advice.notebooks)))
        lines += [("to read", advice.reading)] if advice.reading else []
        self.card.show(lines, advice.title, advice.notebooks)
        self.card.caption = f"These answers lead to: {advice.title}"
        taken = "; ".join(guide.QUESTIONS[name]["answers"][answer] for name, answer in way)
        alt = f"tree of all questions; the way taken is blue: {taken}; it leads to {advice.title}"
        self.tree.show(viz.guide_figure(**self.answers()), alt)
        self._show_code()

    def _show_code(self) -> None:
        self.code_view.value = f'<pre tabindex="0">{html.escape(self.code)}</pre>'
        self.outcome.value, self.output.outputs = "", ()

    def _run(self) -> None:
        """Run the code; whatever it raises becomes one line."""
        minutes = guide.DATA[self.data.value]["minutes"]
        self.output.outputs, self.run.disabled = (), True
        self.outcome.value = (
            "Running: seconds with a finished run, else it trains a small one, about "
            f"{minutes} min on a CPU. To stop, interrupt the kernel (■)."
        )
        said = "Done."
        with self.output:
            try:
                exec(compile(self.code, "<guide>", "exec"), {"__name__": "guide"})
            except KeyboardInterrupt:
                said = "Stopped; running it again continues what was being trained."
            except Exception as error:
                said = f"Did not finish: {controls.in_a_line(error)}"
        self.run.disabled = False
        self.outcome.value = html.escape(said)


class AlignmentPlayground(controls.Panel):
    """CCSA's pairs, pulled and pushed in a 2-d embedding that is trained again at every change.

    Controls: alpha, margin, labels (each trains); step (a slider; its value counts frames), play;
    pulled, pushed (checkboxes). picture: the embedding; numbers: its pairs; one: the `Alignment`.
    """

    def __init__(self, shift: SmallShift, n: int = 3, alpha: float = 0.25, margin: float = 1.0):
        super().__init__()
        self.shift, self.one, self._wish = shift, None, n
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
        steps = range(0, STEPS + 1, EVERY)
        self.play, self.step = player("step", steps, "training step; 0 is source only", 300)
        self.pulled = controls.check_box("pulled pairs", True, "lines: pairs of one class")
        self.pushed = controls.check_box(
            "pushed pairs", True, "dots: two classes, closer than the margin"
        )
        self.picture, self.numbers = Picture(), Text()
        self._build(
            row(self.alpha, self.margin, self.labels),
            row(self.play, self.step, self.pulled, self.pushed),
            parts=[self.picture, self.numbers],
        )
        self._on(self.alpha, self.margin, self.labels, action=self._train)
        self._on(self.step, self.pulled, self.pushed)

    def _start(self) -> None:
        self._learnt = learn_source(self.shift)
        self.shift.labelled(self._wish)  # raises for a number that is not there
        self.labels.value = self._wish
        self._train()

    def _train(self) -> None:
        settings = self.labels.value, self.alpha.value, self.margin.value
        self.one = align(self.shift, self._learnt, *settings)
        self._update()

    def _update(self) -> None:
        frame, one = self.step.value, self.one
        before, now = (f"{one.right(at, self.shift.others):.0f} %" for at in (0, frame))
        self.picture.show(
            viz.alignment_figure(one, frame, self.pulled.value, self.pushed.value),
            f"images of both domains in the embedding, before CCSA and after {EVERY * frame} steps",
            f"α {one.alpha:g}, margin {one.margin:g}, {one.n} a class: {now} of the other "
            f"target images get their class after {EVERY * frame} steps ({before} before).",
        )
        self.numbers.show(viz.alignment_lines(one, frame))
