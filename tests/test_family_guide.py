"""The guide: every way ends in an advice, and the code of every advice runs on all of its data."""

import builtins
import itertools
import re
import sys
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

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
    for name, question in guide.QUESTIONS.items():
        given = {answer for asked, answers in ways if asked == name for answer in answers}
        assert given == set(question.answers), name
    assert {line.advice.name for line in guide.leaves()} == set(guide.ADVICE)


def test_questions_are_asked_in_the_order_in_which_they_stand():
    order = list(guide.QUESTIONS)
    for line in guide.leaves():
        places = [order.index(name) for name, _ in line.way]
        assert places == sorted(set(places))


def test_all_answers_together_lead_somewhere():
    """One advice each, whatever is answered to the questions that are not asked."""
    names = list(guide.QUESTIONS)
    for answers in itertools.product(*(guide.QUESTIONS[name].answers for name in names)):
        answers = dict(zip(names, answers, strict=True))
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
        ({"labels": "few"}, "both"),
        ({"labels": "ask"}, "both"),
        ({"images": "few"}, "ccsa"),
        ({"images": "few", "budget": "more"}, "joint"),
        ({"images": "few", "source": "no"}, "finetune"),
        ({"labels": "all"}, "target"),
        ({"images": "no"}, "source_only"),
        ({"images": "no", "sources": "several", "labels": "all"}, "sagnet"),
        ({"output": "pixel"}, "iast"),
        ({"output": "pixel", "images": "few"}, "given_pixels"),
        ({"output": "pixel", "labels": "ask"}, "ppl"),
        ({"output": "pixel", "labels": "ask", "answer": "pixels"}, "spl"),
        ({"output": "pixel", "labels": "all"}, "supervised"),
        ({"output": "other"}, "other_output"),
        ({"classes": "new", "output": "pixel"}, "open_set"),
        ({"classes": "fewer"}, "partial"),
    ],
)
def test_answers_lead_where_they_should(answers, name):
    assert guide.advise(**answers).name == name


def test_leaves_lead_back_to_themselves():
    for line in guide.leaves():
        assert guide.advise(**guide.answers_to(line)) == line.advice


def test_lines_are_the_tree_from_above_to_below():
    lines = list(guide.lines())
    assert lines[0].way == ()
    for before, line in itertools.pairwise(lines):
        assert line.depth <= before.depth + 1
        assert bool(line.question) != bool(line.advice)
        assert line.answer
    assert next(line for line in lines if line.advice and line.advice.name == "ccsa").answer == (
        "1 to 5 a class"
    )


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"labels": "some"}, "labels 'some': choose from none, ask, few, all"),
        ({"colour": "red"}, "no question 'colour': choose from classes"),
    ],
)
def test_wrong_answers_are_told(answers, message):
    with pytest.raises(InputError, match=message):
        guide.advise(**answers)


# ------------------------------------------------------------------------------------- the advice


@pytest.mark.parametrize("advice", guide.ADVICE.values(), ids=guide.ADVICE)
def test_an_advice_is_complete(advice):
    sentences = re.findall(r"[.:;?](?= |$)", advice.why)
    assert 2 <= len(sentences) <= 8, "two or three sentences"
    assert advice.why.endswith(".")
    assert not re.search(r"\d+\.\d|\d %", advice.why.replace("2 % of", "")), "a result in words"
    for name in advice.notebooks:
        assert (NOTEBOOKS / f"{name}.ipynb").exists(), name
    assert set(advice.data) <= set(guide.DATA)
    assert advice.title.startswith("none here") <= bool(advice.reading)


@each_case
def test_the_advised_method_is_run(name, data):
    advice = guide.ADVICE[name]
    methods = guide.methods_of(advice, data)
    own = {"streets_source_only": "source_only", "streets_adabn": "adabn"}.get(name, name)
    if data == "streets":
        assert set(methods) <= set(METHODS)
        assert own in methods or name == "given_pixels"
    else:
        assert set(methods) <= set(SHIFTS[data].methods)
        assert own in methods or advice.reading
    assert methods[0] == "source_only"


@each_case
def test_the_command_for_ones_own_folders_is_one_that_runs(name, data):
    """Its methods are methods, and they apply to the folders that it names."""
    code = guide.code(name, data).replace("\\\n#", "")  # the lines of a command as one
    for line in (line for line in code.splitlines() if " family --shift folder" in line):
        pair = Where(source="A", target="B") if "--source" in line else Where()
        methods = line.split("--methods ")[1].split(",")
        config = configure("folder", pair)
        assert [method.name for method in resolve(methods, config)] == methods


@each_case
def test_code_fits_a_screen(name, data):
    lines = guide.code(name, data).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 99
    assert lines[0] == f"# {guide.ADVICE[name].title}"


def test_data_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="data 'fonts': choose from textured"):
        guide.code("adabn", "fonts")


# -------------------------------------------------------------------------- the code of the advice


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def tiny(project, monkeypatch):
    """No finished run, and trainings of a few steps, kept from one case to the next."""
    monkeypatch.setenv("LABOR_RUN", "small")
    monkeypatch.setenv("LABOR_HOME", str(project))
    monkeypatch.setattr(runs, "preset", lambda name: replace(SMOKE, preset=name))
    monkeypatch.setattr(lab, "styles", _styles)
    for name in ("textured", "fonts", "styles"):
        config = SHIFTS[name]
        short = replace(
            config.training, steps=6, finetune_steps=3, batch_size=8,
            select_every=3 if config.training.select_every else 0,
        )  # fmt: skip
        monkeypatch.setitem(SHIFTS, name, replace(config, training=short))
        if name in lab.DRAWN_SHIFTS:
            monkeypatch.setitem(lab.DRAWN_SHIFTS, name, _shift(name))


_draw_styles, _draw = lab.styles, dict(lab.DRAWN_SHIFTS)


def _fewer(domain, every=5):
    return domain.take(list(range(0, len(domain), every)))


@lru_cache(maxsize=1)
def _styles(seed):
    return {name: _fewer(domain) for name, domain in _draw_styles(seed).items()}


@lru_cache(maxsize=2)
def _shift(name):
    @lru_cache(maxsize=1)
    def draw(seed):
        shift = _draw[name](seed)
        return replace(shift, **{f.name: _fewer(getattr(shift, f.name)) for f in fields(shift)})

    return draw


def execute(text: str) -> dict:
    """The names that a cell leaves behind."""
    names = {"__name__": "__main__"}
    exec(compile(text, "<guide>", "exec"), names)
    return names


@each_case
def test_the_code_of_every_advice_runs_on_all_its_data(name, data, tiny, capsys):
    found = execute(guide.code(name, data))
    said = capsys.readouterr().out
    methods = guide.methods_of(guide.ADVICE[name], data)
    assert found["run"].small
    assert set(methods) <= set(found["run"].methods), "each has been run"
    if guide.ADVICE[name].code in ("compare", "few"):
        for method in methods:
            assert CLASSIFICATION[method].title in said
        assert found["figure"].axes
    elif guide.ADVICE[name].code == "streets":
        for method in methods:
            assert re.search(rf"(?m)^{method} +\d", said)
        assert len(found["figure"].axes) == 3 * (1 + len(methods))
    elif guide.ADVICE[name].code == "overlap":
        assert len(re.findall(r"\d+\.\d %", said)) == 2
        assert ("letter a" in said) == (name == "open_set")
    else:
        assert len(re.findall(r"distance [\d.]+", said)) == 2


def test_a_broken_cell_does_not_pass(tiny, monkeypatch):
    broken = {key: text + "\nno_such_name\n" for key, text in guide.TEMPLATES.items()}
    monkeypatch.setattr(guide, "TEMPLATES", broken)
    with pytest.raises(NameError, match="no_such_name"):
        execute(guide.code("other_output", "fonts"))


# ------------------------------------------------------------------------------------ opening cells


def chooser(used=True):
    advice = guide.ADVICE["dann"]
    return SimpleNamespace(
        used=used, code="print(1)\n", advice=advice, data=SimpleNamespace(value="textured")
    )


def test_a_cell_is_opened_below(monkeypatch, capsys):
    written = []
    shell = SimpleNamespace(set_next_input=lambda text, replace: written.append((text, replace)))
    monkeypatch.setattr(guide, "_shell", lambda: shell)
    guide.open_cell(chooser(used=False))
    assert written == [], "running all cells opens none"
    assert "Answer the questions" in capsys.readouterr().out
    guide.open_cell(chooser())
    assert written == [("print(1)\n", False)]
    assert "DANN, on 'textured'" in capsys.readouterr().out


def test_without_a_notebook_the_code_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(guide, "_shell", lambda: None)
    guide.open_cell(chooser())
    assert capsys.readouterr().out.strip() == "print(1)"


def test_the_shell_may_be_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "IPython":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert guide._shell() is None


# ------------------------------------------------------------------------------------- notebook 15


def test_the_notebooks_opened_cells_are_the_guides():
    """Cells that begin with an advice's title are its code, word for word."""
    book = nbformat.read(NOTEBOOKS / "15_choose_a_method.ipynb", as_version=4)
    codes = {guide.code(name, data).strip() for name, data in CASES}
    titles = {f"# {advice.title}" for advice in guide.ADVICE.values()}
    opened = [cell.source for cell in book.cells if cell.source.split("\n")[0] in titles]
    assert opened
    assert set(opened) <= codes


def test_opening_a_cell_does_no_harm_where_there_is_no_page():
    """nbclient, and Voila upon it, have no page to write a cell to."""
    lines = (
        "from labor_lib.lab.ui.family import MethodChooser",
        "chooser = MethodChooser()",
        "chooser.data.value = 'fonts'",
        "chooser.open_cell()",
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    assert len(book.cells) == 1
    (output,) = book.cells[0].outputs
    assert output.text.startswith("Opened a cell below: DANN, on 'fonts'")
