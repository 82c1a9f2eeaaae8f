"""The house's rules for notebooks, held against the committed files. Nothing is run here."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from labor_lib.lab.notebooks import measurements, notebook_map, opening_card
from labor_lib.lab.ui import family as family_widgets
from labor_lib.lab.ui import guide, widgets
from tools.notebooks import LARGEST, STATIC, clean, faults

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("[0-9]*.ipynb"))
WIDGETS = ("SettingChooser", "DisagreementSlider", "SelectionExplorer", "PrototypeViewer",
           "CompareDashboard", "AlignmentPlayground", "MethodChooser")  # fmt: skip
CARD = ("Goal", "Read before", "Minutes", "Megabytes", "Leaves behind")


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def markdown(book):
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_file = pytest.mark.parametrize(
    "path", NOTEBOOKS + SOLUTIONS, ids=lambda path: f"{path.parent.name}-{path.stem[:2]}"
)


def test_the_collection_is_whole():
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert numbers == [f"{n:02d}" for n in (*range(10), *range(12, 16))]
    assert [path.name for path in SOLUTIONS] == [path.name for path in NOTEBOOKS]


@each_notebook
def test_opening_card(path):
    card = markdown(read(path))[0]
    assert read(path).cells[0].cell_type == "markdown"
    assert card.startswith(f"# {path.stem[:2]} · ")
    assert re.findall(r"(?m)^\| \*\*(.+?)\*\* \| .+ \|$", card) == list(CARD)


@each_notebook
def test_the_card_tells_what_was_measured(path):
    card = read(path).cells[0].source
    measured = measurements(FOLDER)
    assert set(measured[measured["notebook"] == path.stem]["run"]) == {"full", "small"}
    assert card == opening_card(card, measured, path.stem)


@each_notebook
def test_measured_times_are_short(path):
    rows = measurements(FOLDER).set_index(["notebook", "run"])["seconds"]
    assert rows[path.stem, "full"] <= 120
    assert rows[path.stem, "small"] <= 360


@each_notebook
def test_closing_card(path):
    headings = [
        line for text in markdown(read(path)) for line in text.splitlines() if line[:3] == "## "
    ]
    assert headings[-3:] == ["## What we saw", "## Exercises", "## Next"]


@each_file
def test_cells_fit_a_screen_and_hold_no_magics(path):
    for cell in code_cells(read(path)):
        lines = cell.source.splitlines()
        assert 0 < len(lines) <= 30, cell.source[:80]
        assert max(map(len, lines)) <= 100, cell.source[:80]
        assert not re.search(r"(?m)^\s*[!%]", cell.source)
        ast.parse(cell.source)


@each_file
def test_outputs_are_those_of_one_run_without_faults(path):
    book = read(path)
    assert [cell.execution_count for cell in code_cells(book)] == list(
        range(1, len(code_cells(book)) + 1)
    )
    assert path.stat().st_size <= LARGEST
    assert faults(book) == []
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"[^A-Za-z0-9._]/(home|root|Users|work|tmp)/[A-Za-z0-9]", text)
    for cell in code_cells(book):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert "Warning" not in str(output.get("text", ""))


@each_file
def test_pictures_have_a_sentence_for_those_who_cannot_see_them(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata.get("image/png", {}).get("alt", "")) > 20, cell.source


@each_file
def test_links_resolve(path):
    for text in markdown(read(path)):
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith(("https://", "http://", "#", "attachment:")):
                assert (path.parent / target.split("#")[0]).exists(), target


def library_lines():
    """Every six lines that follow one another in the library, stripped, without blank ones."""
    windows = set()
    for source in sorted((PROJECT / "labor_lib").rglob("*.py")):
        windows |= windows_of(source.read_text(encoding="utf-8"))
    return windows


def windows_of(source, size=6):
    lines = [line.strip() for line in source.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "import ", "from "))]
    return {tuple(lines[i : i + size]) for i in range(len(lines) - size + 1)}


def function_bodies(source):
    """The bodies of functions of more than one statement, without docstrings, by their tree."""
    bodies = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if len(body) > 1:
                bodies["".join(map(ast.dump, body))] = node.name
    return bodies


@each_file
def test_no_code_is_copied_from_the_library(path):
    windows, bodies = library_lines(), {}
    for source in (PROJECT / "labor_lib").rglob("*.py"):
        bodies |= function_bodies(source.read_text(encoding="utf-8"))
    opened = {guide.code(a, data).strip() for a in guide.ADVICE.values() for data in a.data}
    for cell in code_cells(read(path)):
        if cell.source in opened:  # by the guide; its tests compare it word for word
            continue
        assert not windows_of(cell.source) & windows, cell.source
        assert not function_bodies(cell.source).keys() & bodies.keys(), cell.source


def test_every_widget_is_in_a_notebook_with_its_figure():
    sources = {path: "\n".join(c.source for c in code_cells(read(path))) for path in NOTEBOOKS}
    for name in WIDGETS:
        assert hasattr(widgets, name) or hasattr(family_widgets, name)
        shown = [source for source in sources.values() if f"{name}(" in source]
        assert shown, name
        for source in shown:
            variable = re.search(rf"(\w+) = {name}\(", source)[1]
            assert f"show({variable}.figure()" in re.sub(r"\(\s+", "(", source), name


@each_notebook
def test_widgets_say_that_they_need_a_kernel(path):
    shown = str([cell.outputs for cell in code_cells(read(path))])
    used = any(f"{name}(" in str(read(path)) for name in WIDGETS)
    assert (STATIC in shown) == used
    assert "widget-view+json" not in shown


def checks(book):
    """The source of every `check(...)` call by the exercise's number."""
    found = {}
    for cell in code_cells(book):
        for node in ast.parse(cell.source).body:
            call = getattr(node, "value", None)
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
                found[call.args[0].value] = ast.dump(call)
    return found


@each_notebook
def test_solutions_run_the_same_checks(path):
    book, solution = read(path), read(path.parent / "solutions" / path.name)
    assert len(checks(book)) >= 2
    assert checks(solution) == checks(book)
    assert "import require as check" in str(solution), "a wrong solution has to raise"


@each_notebook
def test_exercises_are_open_and_solutions_right(path):
    book, solution = read(path), read(path.parent / "solutions" / path.name)
    said = "".join(str(o.get("text", "")) for c in code_cells(book) for o in c.outputs)
    assert all(f"Exercise {number} is open" in said for number in checks(book))
    said = "".join(str(o.get("text", "")) for c in code_cells(solution) for o in c.outputs)
    assert all(f"Exercise {number}: right." in said for number in checks(book))


def test_readme_map():
    table = notebook_map(FOLDER)
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"(?s)<!-- notebooks -->\n(.*?)<!-- /notebooks -->", text)[1]
    rows = block.strip().splitlines()[2:]
    assert len(rows) == len(table) == len(NOTEBOOKS)
    for row, line in zip(table.itertuples(), rows, strict=True):
        assert line == f"| [{row.title}](notebooks/{row.notebook}.ipynb) | {row.goal} | " + (
            f"{row.minutes} |"
        )


# ----------------------------------------------------------------- the tool that keeps them


def small_book(*outputs):
    cell = nbformat.v4.new_code_cell("1", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[cell])


def test_faults_are_named():
    stream = nbformat.v4.new_output("stream", name="stderr", text="careful")
    assert "stderr: careful" in faults(small_book(stream))[0]
    stream = nbformat.v4.new_output("stream", name="stdout", text=f"{PROJECT}/runs")
    assert "path of this machine" in faults(small_book(stream))[0]
    stream = nbformat.v4.new_output("stream", name="stdout", text="x" * (LARGEST + 1))
    assert "1.0 MB" in faults(small_book(stream))[0]
    assert faults(small_book()) == []


def test_clean_keeps_what_a_reader_without_a_kernel_can_see():
    view = "application/vnd.jupyter.widget-view+json"
    ours = nbformat.v4.new_output(
        "display_data", data={view: {"model_id": "1"}, "text/plain": f"Explorer: {STATIC}"}
    )
    bar = nbformat.v4.new_output(
        "display_data", data={view: {"model_id": "2"}, "text/plain": "  0%| | 0/3"}
    )
    book = small_book(ours, bar)
    clean(book)
    (left,) = book.cells[0].outputs
    assert dict(left.data) == {"text/plain": f"Explorer: {STATIC}"}
