"""Grade notebooks that were handed in: a row for each, a column for each exercise.

    python -m labor_lib.lab.grade handed-in/*/05_pixel_selector.ipynb --csv grades.csv

A notebook belongs to the lesson whose file name its own begins with. It runs in a process of its
own up to its last exercise. The lesson's own check runs below an answer, with the lesson's imports;
where another one was handed in, the exercise is "changed". A notebook may do anything, also
rewrite the library: grade in an account without secrets, and read what is right.
"""

import argparse
import ast
import os
import re
import sys
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory

import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from labor_lib.errors import InputError
from labor_lib.runtime import home

CALL = re.compile(r"(?m)^check\((\d+),")


def read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        nbformat.validate(book := nbformat.read(path, as_version=4))
        return book
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise InputError(f"{path}: not a notebook that can be read ({why})") from None


def number_of(cell) -> int:
    """The number of the exercise that a cell checks; 0 for other cells."""
    return int(call[1]) if (call := CALL.search(cell.source)) and "outputs" in cell else 0


def tidy(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def checks_of(book) -> tuple[str, dict[int, str]]:
    """A lesson's imports, and of each exercise the code that follows the open functions."""
    imports, checks = [], {}
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        body = ast.parse(cell.source).body
        imports += [ast.unparse(n) for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
        if number := number_of(cell):
            ends = [n.end_lineno for n in body if "id='NotImplementedError'" in ast.dump(n)]
            checks[number] = tidy("\n".join(cell.source.splitlines()[max(ends) :]))
    return "\n".join(imports), checks


def error_of(cell) -> str:
    return next((o.ename for o in cell.get("outputs", ()) if o.output_type == "error"), "")


def verdict(number: int, cell) -> str:
    """What the check said: its line is the last one, and nothing stopped it."""
    printed = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
    last = "" if error_of(cell) else printed.strip().rpartition("\n")[2]
    if last == f"Exercise {number}: right.":
        return "right"
    return "open" if last.startswith(f"Exercise {number} is open") else "not yet"


def grade(path: Path, run: str = "small", timeout: int = 600) -> dict[int, str]:
    """Each exercise's number with right, open, not yet or changed; InputError without a result."""
    book = read_notebook(path)
    lessons = home().glob("notebooks/[0-9]*.ipynb")
    if not (lesson := [one for one in lessons if path.stem.startswith(one.stem)]):
        raise InputError(f"{path}: of no known lesson; name it as in 05_pixel_selector-ann.ipynb")
    imports, checks = checks_of(read_notebook(lesson[0]))
    found = dict.fromkeys(checks, "changed")
    places = [place for place, cell in enumerate(book.cells) if number_of(cell) in checks]
    client = NotebookClient(book, timeout=timeout, kernel_name="python3", allow_errors=True)
    client.interrupt_on_timeout, client.error_on_timeout = True, {"ename": "TimeoutError"}
    client.log.disabled = True
    own = os.environ | {"LABOR_RUN": run, "LABOR_HOME": str(home())}
    with TemporaryDirectory() as folder, client.setup_kernel(env=own, cwd=folder, stderr=DEVNULL):
        for place, cell in enumerate(book.cells[: max(places, default=-1) + 1]):
            number = number_of(cell) if place in places else 0
            check = checks.get(number, "")
            if check not in tidy(cell.source):
                continue  # changed
            try:
                cell.source = tidy(cell.source).replace(check, "", 1)
                client.execute_cell(cell, place)
                if number:
                    test = nbformat.v4.new_code_cell(f"{imports}\n{check}")
                    found[number] = verdict(number, client.execute_cell(test, place))
            except DeadKernelError:
                raise InputError(f"{path}: cell {place + 1} ends the process") from None
            if place < places[0] and (why := error_of(cell)):
                raise InputError(f"{path}: cell {place + 1} fails before the exercises: {why}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m labor_lib.lab.grade")
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--csv", type=Path, help="write the table into this file, too")
    parser.add_argument("--run", default="small", help="LABOR_RUN of the notebooks")
    parser.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    options, rows = parser.parse_args(arguments), {}
    for path in options.notebooks:
        try:
            found = grade(path, options.run, options.timeout)
            total = f"{list(found.values()).count('right')} of {len(found)}"
        except InputError as error:
            print(error, file=sys.stderr, flush=True)
            found, total = {}, "not graded"
        rows[str(path)] = {number: found[number] for number in sorted(found)} | {"total": total}
    table = pd.DataFrame(rows).T.fillna("").rename_axis("notebook")
    table = table[[*sorted(set(table) - {"total"}), "total"]]
    print(table.to_string())
    if options.csv:
        table.to_csv(options.csv)
    return 1 if "not graded" in set(table["total"]) else 0


if __name__ == "__main__":
    sys.exit(main())
