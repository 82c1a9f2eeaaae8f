"""Run the notebooks, keep their outputs, and measure what they take.

    python -m tools.notebooks            all of them and their solutions, with the finished run
    python -m tools.notebooks 03 07      only these
    python -m tools.notebooks --small    measure each without a finished run; outputs are not kept
    python -m tools.notebooks --map      run none, write the maps after a change of texts

Outputs go into the notebooks; seconds and memory into notebooks/measured.csv, and from there into
the opening cards and the READMEs' maps. Names what a committed notebook must not contain.
"""

import argparse
import os
import platform
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from labor_lib.errors import InputError
from labor_lib.lab.notebooks import COLUMNS, measurements, minutes, notebook_map
from labor_lib.runtime import best_device, home, write_text

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "notebooks"
SLOWEST = {"full": 120, "small": 360}  # seconds a notebook may take on two cores
LARGEST = 1_000_000  # bytes of a committed notebook
WIDGET = "application/vnd.jupyter.widget-view+json"
STATIC = "run this cell for the live version"  # what a widget of ours says without a kernel
PHOTOGRAPHS = "photographs"  # tag of cells whose pictures show other people's photographs
NOT_KEPT = "This picture shows photographs, which are not kept here: run the cell to see it.\n"
MEMORY = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def notebooks() -> list[Path]:
    """All notebooks and, in deeper/, the notes on some of them; without the solutions."""
    return sorted([*FOLDER.glob("[0-9]*.ipynb"), *FOLDER.glob("deeper/[0-9]*.ipynb")])


def opening_card(source: str, measured: pd.DataFrame, name: str) -> str:
    """An opening card with the measured minutes and megabytes filled in."""
    memory = measured.loc[measured["notebook"] == name, "megabytes"].max()
    used = "memory not measured" if pd.isna(memory) else f"{round(memory, -2):.0f} of memory"
    texts = {"Minutes": minutes(measured, name), "Megabytes": f"{used}; nothing is downloaded"}
    for label, text in texts.items():
        source = re.sub(rf"(?m)^\| \*\*{label}\*\* \|.*$", f"| **{label}** | {text} |", source)
    return source


def execute(path: Path) -> tuple[nbformat.NotebookNode, float, int]:
    """Run a notebook from the first cell to the last; returns it, seconds, peak megabytes."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book,
        timeout=SLOWEST["small"],
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    started = time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(book.cells):
            client.execute_cell(cell, index)
        seconds = time.perf_counter() - started
        memory = nbformat.v4.new_code_cell(MEMORY)
        book.cells.append(memory)
        client.execute_cell(memory, len(book.cells) - 1)
    book.cells.pop()
    return book, seconds, int(memory.outputs[0].text) // 1024  # Linux counts in kB


def clean(book: nbformat.NotebookNode) -> None:
    """Leave what a reader without a kernel can see: no live widget, no trace of the machine, and
    nobody else's photographs."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _progress_bar(output)]
            if PHOTOGRAPHS in cell.metadata.get("tags", []):
                cell.outputs = [_without_picture(output) for output in cell.outputs]
            for output in cell.outputs:
                output.get("metadata", {}).pop(WIDGET, None)
                output.get("data", {}).pop(WIDGET, None)
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def _without_picture(output):
    if "image/png" not in output.get("data", {}):
        return output
    return nbformat.v4.new_output("stream", name="stdout", text=NOT_KEPT)


def _progress_bar(output) -> bool:
    """Whether an output is a widget other than ours, which say what they are."""
    data = output.get("data", {})
    return WIDGET in data and STATIC not in data.get("text/plain", "")


def faults(book: nbformat.NotebookNode) -> list[str]:
    """What must not be committed, one line each."""
    found = []
    size = len(nbformat.writes(book))
    if size > LARGEST:
        found.append(f"{size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f}")
    for number, cell in enumerate(book.cells):
        for output in cell.get("outputs", []):
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            if output.get("name") == "stderr":
                found.append(f"cell {number} writes to stderr: {text.strip()[:120]}")
            if str(PROJECT) in text or str(Path.home()) + os.sep in text:
                found.append(f"cell {number} shows a path of this machine: {text.strip()[:120]}")
    return found


def record(name: str, run: str, seconds: float, megabytes: int) -> None:
    """Put a measurement into measured.csv, replacing an earlier one on the same kind of device."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    date = datetime.now(UTC).date().isoformat()
    row = (name, run, round(seconds), megabytes, best_device(), date, machine)
    keys = ["notebook", "run", "device"]
    table = pd.concat([measurements(FOLDER), pd.DataFrame([row], columns=list(COLUMNS))])
    table = table.drop_duplicates(keys, keep="last").sort_values(keys)
    write_text(FOLDER / "measured.csv", table.to_csv(index=False, lineterminator="\n"))


def write_cards() -> None:
    """The measured minutes and megabytes into the opening cards."""
    for path in notebooks():
        book = nbformat.read(path, as_version=4)
        card = opening_card(book.cells[0].source, measurements(FOLDER), path.stem)
        if card != book.cells[0].source:
            book.cells[0].source = card
            _write(book, path)


def map_lines() -> list[str]:
    """The README's map of the notebooks, as Markdown."""
    rows = [
        f"| [{row.title}](notebooks/{row.notebook}.ipynb) | {row.goal} | {row.reader} "
        f"| {row.minutes} |"
        for row in notebook_map(FOLDER).itertuples()
    ]
    columns = ("notebook", "what it answers", "reader's minutes", "machine's minutes")
    return [f"| {' | '.join(columns)} |", "|---|---|---:|---|", *rows]


def write_map(readme: Path = PROJECT / "README.md") -> None:
    """The map of notebooks between the README's markers."""
    new = re.sub(
        r"(?s)(<!-- notebooks -->\n).*?(<!-- /notebooks -->)",
        lambda match: match[1] + "\n".join(map_lines()) + "\n" + match[2],
        readme.read_text(encoding="utf-8"),
    )
    write_text(readme, new)


def write_course(readme: Path = FOLDER / "README.md") -> None:
    """A reader's minutes at the end of each notebook's row in the instructors' table of goals."""
    text = readme.read_text(encoding="utf-8")
    for row in notebook_map(FOLDER).itertuples():
        begin = re.escape(f"| [{row.notebook[:2]}]({row.notebook}.ipynb) |")
        text = re.sub(rf"(?m)^({begin}.*\| )\d+ \+ \d+ \|$", rf"\g<1>{row.reader} |", text)
    write_text(readme, text)


def _write(book: nbformat.NotebookNode, path: Path) -> None:
    write_text(path, nbformat.writes(book) + "\n")


def run_full(path: Path) -> bool:
    """Execute a notebook with the finished run and keep its outputs; whether it has no faults."""
    book, seconds, megabytes = execute(path)
    clean(book)
    wrong = faults(book)
    if "solutions" not in path.parts:
        if seconds > SLOWEST["full"]:
            wrong.append(f"{seconds:.0f} s, at most {SLOWEST['full']}")
        record(path.stem, "full", seconds, megabytes)
    for fault in wrong:
        print(f"{path.name}: {fault}", file=sys.stderr)
    _write(book, path)
    print(f"{path.relative_to(PROJECT)}: {seconds:.0f} s, {megabytes} MB", flush=True)
    return not wrong


def measure_small(path: Path) -> bool:
    """Execute a notebook where no run exists, not even a small one; whether it is fast enough."""
    for run in ("small", "small-lite", "small-arena-points", "family-small"):
        shutil.rmtree(PROJECT / "runs" / run, ignore_errors=True)
    os.environ["LABOR_RUN"] = "small"
    _, seconds, megabytes = execute(path)
    record(path.stem, "small", seconds, megabytes)
    print(f"{path.name} without a run: {seconds:.0f} s, {megabytes} MB", flush=True)
    if seconds > SLOWEST["small"]:
        print(f"{path.name}: {seconds:.0f} s, at most {SLOWEST['small']}", file=sys.stderr)
    return seconds <= SLOWEST["small"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks")
    parser.add_argument("numbers", nargs="*", help="such as 03; all notebooks by default")
    parser.add_argument(
        "--small", action="store_true", help="measure without a run; removes small runs each time"
    )
    parser.add_argument("--map", action="store_true", help="run none, write the maps")
    options = parser.parse_args(arguments)
    paths = notebooks()
    if not options.small:
        paths += sorted((FOLDER / "solutions").glob("[0-9]*.ipynb"))
    paths = [p for p in paths if not options.numbers or p.stem[:2] in options.numbers]
    paths = [] if options.map else paths
    well = True
    try:
        finished = (home() / "runs" / "streets" / "results.csv").exists()
        if paths and not (options.small or finished):
            raise InputError("runs/streets: no finished run; `make run` or `make table` first")
        for path in paths:
            well &= measure_small(path) if options.small else run_full(path)
            write_cards()
        write_map()
        write_course()
    except (InputError, CellExecutionError) as error:
        print(f"tools.notebooks: {error}", file=sys.stderr)
        return 2
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
