"""The committed notebooks keep the rules of the collection; the map and the tool that runs them."""

import ast
import json
import re
from contextlib import nullcontext

import nbformat
import pytest

from labor_lib.errors import InputError
from labor_lib.lab.exercises import check, require
from labor_lib.lab.notebooks import (
    COLUMNS,
    measurements,
    notebook_map,
    reader_minutes,
)
from tools import notebooks as tool
from tools import solutions
from tools.notebooks import FOLDER, LARGEST, PROJECT, STATIC, WIDGET, clean, faults, opening_card
from tools.solutions import FORMS

NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("[0-9]*.ipynb"))
EVERY = sorted(FOLDER.rglob("*.ipynb"))  # with deeper/ and the pages that Voila serves
BOOKS = {path: nbformat.read(path, as_version=4) for path in NOTEBOOKS + SOLUTIONS}
ANSWERS = {  # the functions that are left open
    node.name
    for path in NOTEBOOKS
    for cell in BOOKS[path].cells
    if "raise NotImplementedError" in cell.source
    for node in ast.parse(cell.source).body
    if isinstance(node, ast.FunctionDef) and "NotImplementedError" in ast.dump(node.body[-1])
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_file = pytest.mark.parametrize(
    "path", BOOKS, ids=lambda path: f"{path.parent.name}-{path.stem[:2]}"
)


def code_cells(path):
    return [cell for cell in BOOKS[path].cells if cell.cell_type == "code"]


def markdown(path):
    return [cell.source for cell in BOOKS[path].cells if cell.cell_type == "markdown"]


def printed(path):
    return "".join(str(o.get("text", "")) for cell in code_cells(path) for o in cell.outputs)


def assert_opening_card(path):
    card = BOOKS[path].cells[0].source
    rows = re.findall(r"(?m)^\| \*\*(.+?)\*\* \| .+ \|$", card)
    assert rows == ["Goal", "Read before", "Minutes", "Megabytes", "Leaves behind"]
    assert card == opening_card(card, measurements(FOLDER), path.stem)  # what was measured


@each_notebook
def test_opening_and_closing_cards(path):
    assert_opening_card(path)
    headings = re.findall(r"(?m)^## .*$", "\n".join(markdown(path)))
    assert headings[-3:] == ["## What we saw", "## Exercises", "## Next"]


def test_the_dashboards_page_links_to_no_file():
    """Voila serves the notebook alone: other files of the project are 403 there. Its page has no
    text of its own; test_report looks at what code writes."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    (served,) = re.findall(r"-m voila (\S+) .*--port=8866", makefile)
    (cell,) = nbformat.read(PROJECT / served, as_version=4).cells
    assert (cell.cell_type, cell.outputs) == ("code", [])


@pytest.mark.parametrize("path", EVERY, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_cells_were_run_in_order(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each_file
def test_cells_fit_a_screen_and_outputs_are_right(path, library):
    cells = code_cells(path)
    assert faults(BOOKS[path]) == []
    for cell in cells:
        lines = cell.source.splitlines()
        assert 0 < len(lines) <= 30, cell.source[:80]
        assert max(map(len, lines)) <= 100, cell.source[:80]
        assert not windows_of(cell.source) & library, "a copy of the library's code"
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert "Warning" not in str(output.get("text", ""))
        if "image/png" in output.get("data", {}):  # a sentence for those who cannot see it
            assert len(output.metadata.get("image/png", {}).get("alt", "")) > 20


def test_links_resolve():
    pages = [*PROJECT.glob("*.md"), *PROJECT.glob("*/*.md")]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    for page, text in (texts | {path: "\n".join(markdown(path)) for path in BOOKS}).items():
        for target in re.findall(r"\]\(([^)\s#]+)", re.sub(r"(?s)```.*?```", "", text)):
            if not target.startswith(("https://", "http://", "attachment:")):
                assert (page.parent / target).exists(), f"{page}: {target}"


GREEK = r"\\(alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|rho|sigma|tau|phi)(?![a-z])"


def test_a_symbol_has_one_meaning():
    """The glossary names each symbol once, and the notebooks of each Greek letter of a formula."""
    table = (FOLDER / "GLOSSARY.md").read_text(encoding="utf-8").split("## Symbols")[1]
    rows = re.findall(r"(?m)^\| (.*\$.*) \| (.+) \| (\d.*) \|$", table)
    symbols = [symbol for names, *_ in rows for symbol in re.findall(r"\$([^$]+)\$", names)]
    assert len(symbols) > 40
    assert [symbol for symbol in symbols if symbols.count(symbol) > 1] == []
    known = {
        (letter, number)
        for names, meaning, where in rows
        for letter in re.findall(GREEK, names + meaning)
        for number in where.split(", ")
    }
    books = BOOKS | {path: nbformat.read(path, 4) for path in FOLDER.glob("deeper/[0-9]*.ipynb")}
    for path, book in books.items():
        text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
        found = {(letter, path.stem[:2]) for letter in re.findall(GREEK, text)}
        assert found <= known, f"{path.name}: not in the glossary's table of symbols"


def windows_of(source, size=6):
    lines = [line.strip() for line in source.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "import ", "from "))]
    return {tuple(lines[i : i + size]) for i in range(len(lines) - size + 1)}


@pytest.fixture(scope="module")
def library():
    """Every six lines that follow one another in the library; guide.py holds code to be shown."""
    files = [path for path in (PROJECT / "labor_lib").rglob("*.py") if path.name != "guide.py"]
    return set().union(*(windows_of(path.read_text(encoding="utf-8")) for path in files))


def checks(path):
    """By the exercise's number: the answer's name, the check's, and all code below the answer."""
    found = {}
    for cell in code_cells(path):
        body = ast.parse(cell.source).body
        names = [getattr(node, "name", None) for node in body]
        answers = [i for i, name in enumerate(names) if name in ANSWERS]
        for end, node in enumerate(body):
            call = getattr(node, "value", None)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
                below = [ast.dump(node) for node in body[answers[-1] + 1 : end + 1]]
                found[call.args[0].value] = names[answers[0]], call.args[1].id, below
    return found


@each_notebook
def test_exercises_are_open_and_solutions_run_the_same_checks(path):
    solution = path.parent / "solutions" / path.name
    assert len(checks(path)) >= 2
    assert checks(solution) == checks(path)
    assert "import require as check" in str(BOOKS[solution]), "a wrong solution has to raise"
    assert all(f"Exercise {number} is open" in printed(path) for number in checks(path))
    assert all(f"Exercise {number}: right." in printed(solution) for number in checks(path))


WITH_FORMS = [path for path in NOTEBOOKS if (FORMS / f"{path.stem}.toml").exists()]


@pytest.mark.parametrize("path", WITH_FORMS, ids=lambda path: path.stem)
def test_exercises_have_other_right_and_wrong_forms(path):
    """tools.solutions runs them."""
    forms, exercises = solutions.exercises(path.stem), checks(path)
    assert list(forms) == sorted(exercises)
    for number, (answer, check_name, _) in exercises.items():
        assert forms[number]["check"] == check_name
        assert len(set(forms[number]["right"])) >= 2
        assert len(set(forms[number]["wrong"])) >= 3
        for form in forms[number]["right"] + forms[number]["wrong"]:
            assert answer in {getattr(node, "name", None) for node in ast.parse(form).body}
    marks = re.findall(
        r"(?m)^\*\*Exercise (\d)\*\* \(★{1,3}, \d+ minutes\)\.", "\n".join(markdown(path))
    )
    assert list(map(int, marks)) == list(forms), "stars and minutes"


def test_forms_that_a_check_judges_wrongly_are_named():
    def right_double():
        assert namespace["double"](2) == 4
        assert namespace["double"](3) == 6

    namespace = {"right_double": right_double, "double": "the solution's own"}
    good, square = "def double(x):\n    return x + x", "def double(x):\n    return x**2"
    exercise = {"check": "right_double", "right": [good], "wrong": [square]}
    assert solutions.misjudged(namespace, exercise) == []
    assert namespace["double"] == "the solution's own"
    for name, form in (
        ("right", square),
        ("wrong", good),
        ("wrong", "def double(x):\n    raise NotImplementedError"),
        ("wrong", "def double(x):\n    return 2 * y"),  # a typo, not a mistake
    ):
        (fault,) = solutions.misjudged(namespace, exercise | {name: [form]})
        assert form in fault


CARD = "# 03 · Three\nA question?\n\n| | |\n|---|---|\n| **Goal** | To see three |\n"


def write(folder, name, source):
    cells = [{"cell_type": "markdown", "source": source.splitlines(keepends=True)}]
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")


def test_the_map_is_in_reading_order_with_measured_minutes(tmp_path, monkeypatch):
    write(tmp_path, "03_three", CARD)
    write(tmp_path, "01_one", CARD.replace("03 · Three", "01 · One").replace("three", "one"))
    write(tmp_path, "draft", "no card")  # without a number: no part of the collection
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    (tmp_path / "measured.csv").write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for run, seconds in (("small", 9), ("full", 90), ("small", 30)):  # replaces the earlier one
        tool.record("03_three", run, seconds, 800)
    table = notebook_map(tmp_path)
    assert table["notebook"].tolist() == ["01_one", "03_three"]
    assert table["title"].tolist() == ["01 · One", "03 · Three"]
    assert table["goal"].tolist() == ["To see one", "To see three"]
    assert table["minutes"].tolist() == [
        "CPU not measured; GPU not measured",
        "CPU 1.5 with a finished run, 0.5 without; GPU not measured",
    ]
    assert table["reader"].tolist() == ["5 + 0", "5 + 0"]
    write(tmp_path, "04_four", "# 04 · Four\nNo table.")
    with pytest.raises(InputError, match="04_four"):
        notebook_map(tmp_path)


def test_a_readers_minutes():
    text = {"cell_type": "markdown", "source": ["word " * 500, "word " * 2100]}  # 13 minutes
    code = {"cell_type": "code", "source": "line\n\n" * 150}  # 10
    exercise = {"cell_type": "code", "source": "many\n" * 900 + "check(1, right)"}
    assert reader_minutes([text, code]) == "25 + 0"
    assert reader_minutes([exercise, text, exercise]) == "15 + 30"


def test_the_readme_has_the_map(tmp_path):
    readme = PROJECT / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(re.sub(r"(?m)^\| \[0.*\n", "", readme.read_text(encoding="utf-8")), "utf-8")
    tool.write_map(copy)
    assert copy.read_bytes() == readme.read_bytes()


def test_the_course_has_the_readers_minutes(tmp_path):
    course = (FOLDER / "README.md").read_text(encoding="utf-8")
    times = re.compile(r"(?m)^(\| \[\d\d\]\(\w+\.ipynb\) \|.*\| )\d+ \+ \d+ \|$")
    assert len(times.findall(course)) == len(NOTEBOOKS)
    copy = tmp_path / "README.md"
    copy.write_text(times.sub(r"\g<1>0 + 0 |", course), "utf-8")
    tool.write_course(copy)
    assert copy.read_text(encoding="utf-8") == course


def small_book(*outputs):
    cell = nbformat.v4.new_code_cell("1", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("stderr", "careful", "stderr: careful"),
        ("stdout", f"{PROJECT}/runs", "path of this machine"),
        ("stdout", "x" * (LARGEST + 1), "1.0 MB"),
    ],
)
def test_faults_are_named(name, text, fault):
    stream = nbformat.v4.new_output("stream", name=name, text=text)
    assert fault in faults(small_book(stream))[0]
    assert faults(small_book()) == []


def test_clean_keeps_what_a_reader_without_a_kernel_can_see():
    ours = {WIDGET: {"model_id": "1"}, "text/plain": f"Explorer: {STATIC}"}
    bar = {WIDGET: {"model_id": "2"}, "text/plain": "  0%| | 0/3"}
    book = small_book(*(nbformat.v4.new_output("display_data", data=data) for data in (ours, bar)))
    clean(book)
    (left,) = book.cells[0].outputs
    assert dict(left.data) == {"text/plain": f"Explorer: {STATIC}"}


def open_one():
    raise NotImplementedError


def wrong():
    assert 1 == 2, "one is\nnot two"


@pytest.mark.parametrize(
    ("solution", "error", "line"),
    [
        (open_one, NotImplementedError, "Exercise 1 is open"),
        (wrong, AssertionError, "Exercise 1, not yet (AssertionError): one is not two"),
        (lambda: {}["missing"], KeyError, "Exercise 1, not yet (KeyError): 'missing'"),
        (lambda: None, None, "Exercise 1: right."),
    ],
)
def test_check_tells_and_require_raises(capsys, solution, error, line):
    check(1, solution)
    assert capsys.readouterr().out.startswith(line)
    with pytest.raises(error) if error else nullcontext():
        require(1, solution)
    assert capsys.readouterr().out == ("" if error else line + "\n")
