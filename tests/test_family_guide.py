"""The guide: every way ends in an advice, and its code runs on all of its data."""

import ast
import importlib
import itertools
import re
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import nbformat
import pytest

from labor_lib.config import SHIFTS, SMOKE, Where, configure
from labor_lib.errors import InputError
from labor_lib.lab import classification as lab
from labor_lib.lab import runs
from labor_lib.lab.ui import guide
from labor_lib.methods.registry import CLASSIFICATION, METHODS, resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CASES = [(name, data) for name, advice in guide.ADVICE.items() for data in advice.data]
each_case = pytest.mark.parametrize(("name", "data"), CASES)


# -------------------------------------------------------------------------------------- the tree


def test_every_question_is_asked_and_every_advice_given():
    ways = [step for line in guide.leaves() for step in line.way]
    assert {name for name, _ in ways} == set(guide.QUESTIONS)
    assert {line.advice.name for line in guide.leaves()} == set(guide.ADVICE)
    both = [line.answer for line in guide.leaves() if line.advice.name == "both"]
    assert both == ["none, but a person can be asked / a few"], "one place, one line"
    for advice in guide.ADVICE.values():
        assert set(advice.data) <= set(guide.DATA)
        assert all((NOTEBOOKS / f"{name}.ipynb").exists() for name in advice.notebooks)


def test_all_answers_together_lead_somewhere():
    """One advice each, whatever is answered to the questions that are not asked."""
    choices = [question["answers"] for question in guide.QUESTIONS.values()]
    for answers in itertools.product(*choices):
        answers = dict(zip(guide.QUESTIONS, answers, strict=True))
        way = guide.path(**answers)
        assert all(answers[name] == answer for name, answer in way)
        lines = [line for line in guide.leaves() if line.lies_on(way)]
        assert [line.advice for line in lines] == [guide.advise(**answers)]
        assert guide.advise(**dict(way)) == guide.advise(**answers)


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        ({}, "dann"),
        ({"source": "no"}, "adabn"),
        ({"labels": "ask"}, "both"),
        ({"images": "few"}, "ccsa"),
        ({"images": "few", "budget": "more"}, "joint"),
        ({"images": "no"}, "source_only"),
        ({"images": "no", "sources": "several", "labels": "all"}, "sagnet"),
        ({"output": "pixel"}, "iast"),
        ({"output": "pixel", "labels": "ask", "answer": "pixels"}, "spl"),
        ({"classes": "new", "output": "pixel"}, "open_set"),
    ],
)
def test_answers_lead_where_they_should(answers, name):
    assert guide.advise(**answers).name == name


def test_wrong_answers():
    with pytest.raises(InputError, match="labels 'some': choose from none, ask, few, all"):
        guide.advise(labels="some")
    with pytest.raises(InputError, match="no question 'colour': choose from classes"):
        guide.advise(colour="red")
    with pytest.raises(InputError, match="data 'fonts': choose from textured"):
        guide.code("adabn", "fonts")


# ------------------------------------------------------------------------------------------- code


@each_case
def test_names_methods_and_commands_of_the_code_exist(name, data):
    """What it imports is there, its methods are run on its data, and so is the command below it."""
    code, advice = guide.code(name, data), guide.ADVICE[name]
    tree = ast.parse(code)
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)):
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)
    found = re.search(r"(?m)^methods = (.*)$", code)
    methods = ast.literal_eval(found[1]) if found else ["source_only"]
    assert set(methods) <= set(METHODS if data == "streets" else SHIFTS[data].methods)
    if data == "streets" or not advice.reading:
        own = name.removeprefix("streets_")
        assert own in methods or name == "given_pixels"
    for line in code.replace("\\\n#", "").splitlines():  # the lines of a command as one
        if " family --shift folder" in line:
            pair = Where(source="A", target="B") if "--source" in line else Where()
            listed = line.split("--methods ")[1].split(",")
            assert listed == [m.name for m in resolve(listed, configure("folder", pair))]
    lines = code.splitlines()
    assert lines[0] == f"# {advice.title}"
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 99


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """No finished run, and trainings of a few steps."""
    monkeypatch.setenv("LABOR_RUN", "small")
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    monkeypatch.setattr(runs, "preset", lambda name: replace(SMOKE, preset=name))
    draw_styles, draw = lab.styles, dict(lab.DRAWN_SHIFTS)
    monkeypatch.setattr(
        lab, "styles", lambda seed: {k: fewer(v) for k, v in draw_styles(seed).items()}
    )
    for name in ("textured", "fonts", "styles"):
        config = SHIFTS[name]
        short = replace(
            config.training, steps=6, finetune_steps=3, batch_size=8,
            select_every=3 if config.training.select_every else 0,
        )  # fmt: skip
        monkeypatch.setitem(SHIFTS, name, replace(config, training=short))
        if name in draw:
            monkeypatch.setitem(lab.DRAWN_SHIFTS, name, lru_cache(small_shift(draw[name])))


def fewer(domain):
    return domain.take(list(range(0, len(domain), 5)))


def small_shift(draw):
    def drawn(seed):
        shift = draw(seed)
        return replace(shift, **{f.name: fewer(getattr(shift, f.name)) for f in fields(shift)})

    return drawn


@pytest.mark.parametrize(
    ("name", "data"),  # one of each template and figure
    [
        ("adabn", "textured"), ("finetune", "fonts"), ("sagnet", "styles"),
        ("streets_source_only", "streets"), ("open_set", "fonts"), ("partial", "styles"),
        ("other_output", "fonts"),
    ],
)  # fmt: skip
def test_the_code_runs(name, data, tiny, capsys):
    found = {"__name__": "__main__"}
    exec(compile(guide.code(name, data), "<guide>", "exec"), found)
    said, template = capsys.readouterr().out, guide.ADVICE[name].code
    assert found["run"].small
    if template == "compare":
        assert all(CLASSIFICATION[method].title in said for method in found["methods"])
        assert found["figure"].axes
    elif template == "streets":
        assert all(re.search(rf"(?m)^{method} +\d", said) for method in found["methods"])
        assert len(found["figure"].axes) == 3 * (1 + len(found["methods"]))
    elif template == "overlap":
        assert len(re.findall(r"\d+\.\d %", said)) == 2
        assert ("letter a" in said) == (name == "open_set")
    else:
        assert len(re.findall(r"distance [\d.]+", said)) == 2


def test_the_notebooks_opened_cells_are_the_guides():
    """Cells that begin with an advice's title are its code, word for word."""
    book = nbformat.read(NOTEBOOKS / "15_choose_a_method.ipynb", as_version=4)
    codes = {guide.code(name, data).strip() for name, data in CASES}
    titles = {f"# {advice.title}" for advice in guide.ADVICE.values()}
    opened = [cell.source for cell in book.cells if cell.source.split("\n")[0] in titles]
    assert opened
    assert set(opened) <= codes
