"""Which method to choose: questions, the advice they lead to, and code that runs it.

guide.toml holds the questions, the tree, the advice and the code; `MethodChooser` shows them.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from labor_lib.config import shift_settings
from labor_lib.errors import InputError
from labor_lib.methods.registry import CLASSIFICATION


@dataclass(frozen=True)
class Advice:
    """An end of the tree; guide.toml says what its fields are. yours: Python, for one template."""

    name: str
    title: str
    given: str
    why: str
    notebooks: list[str]
    data: list[str]
    run: list[str]
    code: str = "compare"
    reading: str = ""
    yours: str = ""


_FILE = tomllib.loads(Path(__file__).with_name("guide.toml").read_text(encoding="utf-8"))
QUESTIONS: dict[str, dict] = _FILE["questions"]  # text, answers: name -> what the reader sees
ADVICE = {name: Advice(name, **entry) for name, entry in _FILE["advice"].items()}
DATA: dict[str, dict] = _FILE["data"]  # text, minutes of training its small run
TEMPLATES: dict[str, str] = _FILE["templates"]
Tree = dict | str  # {question: {answer: Tree}}, or a name in ADVICE
TREE: Tree = _FILE["tree"]


def check_answers(questions: dict[str, dict], answers: dict[str, str]) -> None:
    """Raises InputError for a question or an answer that is not among `questions`."""
    for name, answer in answers.items():
        known = questions[name]["answers"] if name in questions else questions
        if answer not in known:
            what = f"{name} '{answer}'" if name in questions else f"no question '{name}'"
            raise InputError(f"{what}: choose from {', '.join(known)}")


def _branches(place: dict) -> tuple[str, dict[str, Tree]]:
    """The question, and where its answers lead, in the order in which they are offered."""
    ((question, to),) = place.items()
    return question, {answer: to[answer] for answer in QUESTIONS[question]["answers"]}


def path(**answers: str) -> list[tuple[str, str]]:
    """(question, answer) in the order in which they are asked; of a question left out, the first.

    Answers to questions that are not asked on the way change nothing. Raises InputError for an
    unknown question or answer.
    """
    check_answers(QUESTIONS, answers)
    place, way = TREE, []
    while isinstance(place, dict):
        question, to = _branches(place)
        way.append((question, answers.get(question, next(iter(to)))))
        place = to[way[-1][1]]
    return way


def advise(**answers: str) -> Advice:
    """The advice that the answers lead to; see `path`."""
    place = TREE
    for question, answer in path(**answers):
        place = place[question][answer]
    return ADVICE[place]


@dataclass(frozen=True)
class Line:
    """One line of the tree, as text shows it: an answer, and the question or advice after it.

    way: the (question, answers) up to this one; () for the first line, which is a question alone.
    """

    way: tuple[tuple[str, tuple[str, ...]], ...]
    question: str = ""
    advice: Advice | None = None

    @property
    def answer(self) -> str:
        """The last answer in words."""
        if not self.way:
            return ""
        name, answers = self.way[-1]
        return " / ".join(QUESTIONS[name]["answers"][answer] for answer in answers)

    def lies_on(self, chosen: list[tuple[str, str]]) -> bool:
        """Whether the answers `chosen`, as from `path`, pass through here."""
        return len(self.way) <= len(chosen) and all(
            answer in answers for (_, answers), (_, answer) in zip(self.way, chosen, strict=False)
        )


def lines(place: Tree = TREE, way: tuple = ()) -> Iterator[Line]:
    """The whole tree, what follows a line below it; answers that lead to one place in one line."""
    if isinstance(place, str):
        yield Line(way, advice=ADVICE[place])
        return
    question, to = _branches(place)
    yield Line(way, question=QUESTIONS[question]["text"])
    for answer, target in to.items():
        together = tuple(other for other in to if to[other] == target)
        if answer == together[0]:
            yield from lines(target, (*way, (question, together)))


def leaves() -> list[Line]:
    """The lines that end in an advice."""
    return [line for line in lines() if line.advice]


def code(advice: Advice, data: str) -> str:
    """Python that runs the advice on embedded data, one of `advice.data`."""
    known = advice.run if data == "streets" else shift_settings(data).methods
    names = [name for name in advice.run if name in known]
    labels = any(name in CLASSIFICATION and CLASSIFICATION[name].sees == "few" for name in names)
    figure = "few_curve" if labels else "domain_dots" if data == "styles" else "score_dots"
    return Template(TEMPLATES[advice.code].lstrip()).substitute(
        title=advice.title,
        data=data,
        methods="[" + ", ".join(f'"{name}"' for name in names) + "]",
        listed=",".join(names),
        figure=figure,
        note="  # few=(1, 3) asks for other numbers of labels a class" if labels else "",
        pair="" if data == "styles" else " --source A --target B",
        yours=advice.yours,
    )
