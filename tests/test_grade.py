"""Notebooks that students hand in, small ones made here, beside a lesson of two exercises."""

import nbformat
import pandas as pd
import pytest

from labor_lib.lab import grade as tool
from tools.notebooks import FOLDER

SETUP = "from labor_lib.lab.exercises import check\nfrom math import isclose"
TWICE = "def twice(x):\n    raise NotImplementedError  # your answer here\n"
CHECK = """

def right_twice():
    assert isclose(twice(2), 4), "twice 2 is 4"


check(1, right_twice)"""
HALF = """def half(x):
    raise NotImplementedError


check(2, lambda: isclose(half(4), 2) or 1 / 0)"""
ANSWERED = HALF.replace("raise NotImplementedError", "return x / 2")


def write(path, *cells):
    path.parent.mkdir(exist_ok=True)
    cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(autouse=True)
def lesson(tmp_path, monkeypatch):
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    write(tmp_path / "notebooks" / "03_small.ipynb", SETUP, TWICE + CHECK, HALF, "1 / 0")


def answer(body, name="twice"):
    return f"def {name}(x):\n    {body}\n"


FORGED = answer("print('Exercise 1: right.')\n    return 5") + CHECK
STOPPED = answer("print('Exercise 1: right.')\n    raise SystemExit") + CHECK
EASIER = answer("return 5") + CHECK.replace("twice 2 is 4", "").replace("4)", "5)")
REBOUND = answer("return 5") + "isclose = lambda a, b: True\ncheck = print\n" + CHECK
SYNTAX = "def twice(x) return 2 * x\n" + CHECK
ENDLESS = answer("while True: pass") + CHECK


@pytest.mark.parametrize(
    ("first", "second", "verdicts"),
    [
        (answer("return 2 * x") + CHECK + "  \nprint(twice(4))", ANSWERED, ["right", "right"]),
        (TWICE + CHECK, ANSWERED, ["open", "right"]),
        (FORGED, HALF, ["not yet", "open"]),
        (STOPPED, ANSWERED, ["not yet", "right"]),
        (EASIER, ANSWERED, ["changed", "right"]),
        (REBOUND, ANSWERED, ["not yet", "right"]),
        (SYNTAX, "# taken out", ["not yet", "changed"]),
        (ENDLESS, ANSWERED, ["not yet", "right"]),
    ],
    ids=["right", "open", "forged", "stopped", "easier", "rebound", "syntax", "endless"],
)
def test_the_lessons_own_check_decides(tmp_path, first, second, verdicts):
    path = write(tmp_path / "in" / "03_small-anna.ipynb", SETUP, first, "1 / 0", second, "1 / 0")
    assert list(tool.grade(path, timeout=5).values()) == verdicts


def test_a_table_and_one_line_for_each_that_cannot_be_graded(tmp_path, capsys):
    inbox = tmp_path / "in"
    small = "import os; assert os.environ['LABOR_RUN'] == 'small'"
    good = write(inbox / "03_small.ipynb", SETUP, small, answer("return 2 * x") + CHECK, HALF)
    bad = {
        write(inbox / "03_small-ben.ipynb", "1 / 0", SETUP, TWICE + CHECK): "cell 1",
        write(inbox / "03_small-eva.ipynb", SETUP + "\nimport os; os._exit(1)", HALF): "cell 1",
        write(inbox / "homework.ipynb", SETUP): "no known lesson",
        inbox / "03_small-pdf.ipynb": "not a notebook",
        inbox / "03_small-lost.ipynb": "not a notebook",
    }
    (inbox / "03_small-pdf.ipynb").write_bytes(b"%PDF-1.7 \xff")
    table = tmp_path / "grades.csv"
    names = [str(path) for path in (*bad, good)]
    assert tool.main([*names, "--csv", str(table)]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == len(bad)
    for line, (path, why) in zip(lines, bad.items(), strict=True):
        assert line.startswith(f"{path}: ")
        assert why in line
    assert "1 of 2" in printed.out
    grades = pd.read_csv(table, dtype=str, index_col="notebook")
    assert list(grades.columns) == ["1", "2", "total"]
    assert grades.loc[str(good)].tolist() == ["right", "open", "1 of 2"]
    assert set(grades["total"][:-1]) == {"not graded"}
    assert tool.main([str(good)]) == 0


def test_every_lesson_has_its_checks():
    lessons = sorted(FOLDER.glob("[0-9]*.ipynb"))
    assert len(lessons) == 17
    for path in lessons:
        imports, checks = tool.checks_of(tool.read_notebook(path))
        assert "import check" in imports
        assert sorted(checks) == list(range(1, len(checks) + 1))
        assert all(tool.CALL.search(code) for code in checks.values())
