"""Which adaptation problem is this? Four questions name it; problems.toml holds the table."""

import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ipywidgets import HTML
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from labor_lib.lab import viz
from labor_lib.lab.ui.controls import Picture, Questions, Text, row

_DATA = tomllib.loads(Path(__file__).with_name("problems.toml").read_text(encoding="utf-8"))
QUESTIONS: dict[str, dict] = _DATA["questions"]  # name: text, answers
COLUMNS: dict[str, list[str]] = _DATA["columns"]  # title: answers on labels and images
ROWS: dict[str, list[str]] = _DATA["rows"]  # title: answers on domain and task


@dataclass(frozen=True)
class Problem:
    """One kind of adaptation.

    domain, task, labels, images: the answers that lead here. meaning: one sentence. notebooks:
    file names without ending, of those that treat it.
    """

    name: str
    domain: list[str]
    task: list[str]
    labels: list[str]
    images: list[str]
    meaning: str
    example: str
    notebooks: tuple[str, ...] = ()


PROBLEMS = [Problem(**entry) for entry in _DATA["problem"]]


def problem_of(**answers: str) -> Problem:
    """The problem with these answers to `QUESTIONS`."""
    return next(
        problem
        for problem in PROBLEMS
        if all(answer in getattr(problem, name) for name, answer in answers.items())
    )


def cell_of(domain: str, task: str, labels: str, images: str) -> tuple[int, int]:
    """Row and column of the answers in the table."""
    images = "yes" if labels == "all" else images  # nothing is left unlabelled
    return (
        list(ROWS.values()).index([domain, task]),
        list(COLUMNS.values()).index([labels, images]),
    )


@viz.styled
def problems_figure(**answers: str) -> Figure:
    """The table of the problems, the cell with these answers highlighted."""
    figure = Figure(figsize=(viz.WIDTH, 3.6), dpi=viz.DPI)
    axes = figure.add_axes((0.14, 0.01, 0.855, 0.84))
    for i, (domain, task) in enumerate(ROWS.values()):
        for j, (labels, images) in enumerate(COLUMNS.values()):
            problem = problem_of(domain=domain, task=task, labels=labels, images=images)
            here = (i, j) == cell_of(**answers)
            back, ink = ("#0072b2", "white") if here else ("#eef2f5", "black")
            axes.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, facecolor=back))
            axes.text(
                j, i, textwrap.fill(problem.name, 17), ha="center", va="center", fontsize=9.5,
                color=ink, fontweight="bold" if here else "normal",
            )  # fmt: skip
    axes.set(xlim=(-0.5, len(COLUMNS) - 0.5), ylim=(len(ROWS) - 0.5, -0.5))
    axes.set_xticks(range(len(COLUMNS)), [textwrap.fill(name, 17) for name in COLUMNS])
    axes.set_yticks(range(len(ROWS)), [textwrap.fill(name, 14) for name in ROWS])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


class SettingChooser(Questions):
    """Four questions that name an adaptation problem, and its place in their table.

    Controls: domain, task ("same" or "other"), labels ("all", "few", "none"), images ("yes",
    "no"). card: the problem in words; table: all of them, the chosen one highlighted.
    """

    def __init__(self, domain="other", task="same", labels="few", images="yes"):
        answers = {"domain": domain, "task": task, "labels": labels, "images": images}
        super().__init__(QUESTIONS, answers, "5em")
        self.domain, self.task, self.labels, self.images = self.questions.values()
        self.hint, self.card, self.table = HTML(), Text(), Picture()
        controls = (self.domain, self.task, self.labels, row(self.images, self.hint))
        self._build(*controls, parts=[self.card, self.table])
        self._on(*self.questions.values())

    def _update(self) -> None:
        self.images.disabled = complete = self.labels.value == "all"
        self.hint.value = "all images have labels: none is left without" if complete else ""
        problem = problem_of(**self.answers())
        lines = [("", problem.meaning), ("Example", problem.example)]
        lines.append(("Notebooks", ", ".join(problem.notebooks) or "none of this collection"))
        self.card.show(lines, problem.name[0].upper() + problem.name[1:], problem.notebooks)
        i, j = (number + 1 for number in cell_of(**self.answers()))
        alt = f"table of the problems; row {i}, column {j} is blue: {problem.name}"
        self.table.show(problems_figure(**self.answers()), alt)
