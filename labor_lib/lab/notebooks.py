"""The collection of notebooks: their order, titles and goals, and the minutes they take.

Titles and goals stand in the opening cards, minutes and megabytes in measured.csv beside the
notebooks; every map of the collection is made of these.
"""

import json
import re
from pathlib import Path

import pandas as pd

from labor_lib.errors import InputError

COLUMNS = ("notebook", "run", "seconds", "megabytes", "device", "date", "machine")


def measurements(folder: Path) -> pd.DataFrame:
    """measured.csv: a row per notebook, run ("full": with a finished one, or "small") and device.

    seconds: from the first cell to the last. megabytes: of memory, at the most. Empty where
    nothing was measured; raises InputError where the file is damaged.
    """
    path = Path(folder) / "measured.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.read_csv(path)
    if list(table.columns) != list(COLUMNS):
        raise InputError(f"{path}: not a table of measurements; remove it, then `make notebooks`")
    return table


def minutes(measured: pd.DataFrame, name: str) -> str:
    """Such as: CPU 0.5 with a finished run, 2.1 without; GPU not measured."""
    rows = measured[measured["notebook"] == name]
    told = []
    for device, where in (("cpu", "CPU"), ("cuda", "GPU")):
        here = rows[rows["device"] == device].set_index("run")["seconds"]
        parts = [
            f"{max(here[run] / 60, 0.1):.1f} {text}"
            for run, text in (("full", "with a finished run"), ("small", "without"))
            if run in here
        ]
        told.append(f"{where} {', '.join(parts) or 'not measured'}")
    return "; ".join(told)


def megabytes(measured: pd.DataFrame, name: str) -> str:
    """Such as: 900 of memory; nothing is downloaded."""
    rows = measured[measured["notebook"] == name]
    memory = "not measured" if rows.empty else f"{round(rows['megabytes'].max(), -2):.0f}"
    return f"{memory} of memory; nothing is downloaded"


def opening_card(source: str, measured: pd.DataFrame, name: str) -> str:
    """An opening card with what was measured in the place of what stood there."""
    for label, text in (
        ("Minutes", minutes(measured, name)),
        ("Megabytes", megabytes(measured, name)),
    ):
        source = re.sub(rf"(?m)^\| \*\*{label}\*\* \|.*$", f"| **{label}** | {text} |", source)
    return source


def notebook_map(folder: Path) -> pd.DataFrame:
    """Every notebook in reading order: notebook (file name without its end), title, goal, minutes.

    Raises InputError for a notebook whose first cell is no opening card.
    """
    measured = measurements(folder)
    rows = []
    for path in sorted(Path(folder).glob("[0-9]*.ipynb")):
        card = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title = re.search(r"(?m)^# (.+)$", card)
        goal = re.search(r"(?m)^\| \*\*Goal\*\* \| (.+?) \|$", card)
        if not title or not goal:
            raise InputError(f"{path}: no opening card with a title and a goal in its first cell")
        rows.append((path.stem, title[1], goal[1], minutes(measured, path.stem)))
    return pd.DataFrame(rows, columns=["notebook", "title", "goal", "minutes"])
