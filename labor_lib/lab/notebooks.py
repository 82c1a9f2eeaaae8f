"""The collection of notebooks: their order, titles and goals, and the minutes they take.

Titles and goals are in the opening cards, a machine's minutes and megabytes in measured.csv beside
the notebooks; a reader's minutes are estimated from words, lines of code and exercises. Every map
of the collection is made from these.
"""

import json
import re
from pathlib import Path

import pandas as pd

from labor_lib.errors import InputError

COLUMNS = ("notebook", "run", "seconds", "megabytes", "device", "date", "machine")
WORDS, LINES = 200, 15  # that a reader takes in in a minute
EXERCISE = 15  # minutes


def measurements(folder: Path) -> pd.DataFrame:
    """measured.csv: a row per notebook, run ("full": with a finished one, or "small") and device.

    seconds: from the first cell to the last. megabytes: peak memory. Empty where nothing was
    measured.
    """
    path = Path(folder) / "measured.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))


def minutes(measured: pd.DataFrame, name: str) -> str:
    """Such as: CPU 0.5 with a finished run, 2.1 without; GPU not measured."""
    seconds = measured[measured["notebook"] == name].set_index(["device", "run"])["seconds"]
    parts = []
    for device, where in (("cpu", "CPU"), ("cuda", "GPU")):
        found = [
            f"{max(seconds[device, run] / 60, 0.1):.1f} {text}"
            for run, text in (("full", "with a finished run"), ("small", "without"))
            if (device, run) in seconds
        ]
        parts.append(f"{where} {', '.join(found) or 'not measured'}")
    return "; ".join(parts)


def reader_minutes(cells: list[dict]) -> str:
    """Minutes for texts and code, to five of them, and for the exercises, such as "45 + 30"."""
    minutes, exercises = 0.0, 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            minutes += len(source.split()) / WORDS
        elif re.search(r"(?m)^check\(", source):
            exercises += 1
        else:
            minutes += len([line for line in source.splitlines() if line.strip()]) / LINES
    return f"{5 * max(round(minutes / 5), 1)} + {EXERCISE * exercises}"


def notebook_map(folder: Path) -> pd.DataFrame:
    """Every notebook in reading order: notebook (file name without its end), title, goal, a
    machine's minutes, a reader's.

    Raises InputError for a notebook whose first cell is no opening card.
    """
    measured = measurements(folder)
    rows = []
    for path in sorted(Path(folder).glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        card = "".join(cells[0]["source"])
        title = re.search(r"(?m)^# (.+)$", card)
        goal = re.search(r"(?m)^\| \*\*Goal\*\* \| (.+?) \|$", card)
        if not title or not goal:
            raise InputError(f"{path}: no opening card with a title and a goal in its first cell")
        machine, reader = minutes(measured, path.stem), reader_minutes(cells)
        rows.append((path.stem, title[1], goal[1], machine, reader))
    return pd.DataFrame(rows, columns=["notebook", "title", "goal", "minutes", "reader"])
