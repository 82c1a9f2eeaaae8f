"""The map of the collection is read from the opening cards and from what was measured."""

import json

import pytest

from labor_lib.errors import InputError
from labor_lib.lab.notebooks import COLUMNS, notebook_map

CARD = """# 03 · Three
A question?

| | |
|---|---|
| **Goal** | To see three |
| **Read before** | nothing |
"""


def write(folder, name, source):
    cells = [{"cell_type": "markdown", "source": source.splitlines(keepends=True)}]
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")


def test_rows_stand_in_reading_order(tmp_path):
    write(tmp_path, "03_three", CARD)
    write(tmp_path, "01_one", CARD.replace("03 · Three", "01 · One").replace("three", "one"))
    write(tmp_path, "draft", "no card")  # without a number: no part of the collection
    table = notebook_map(tmp_path)
    assert table["notebook"].tolist() == ["01_one", "03_three"]
    assert table["title"].tolist() == ["01 · One", "03 · Three"]
    assert table["goal"].tolist() == ["To see one", "To see three"]
    assert all("not measured" in text for text in table["minutes"])


def test_measured_minutes_appear(tmp_path):
    write(tmp_path, "03_three", CARD)
    rows = [("03_three", "full", 90, 800, "cpu"), ("03_three", "small", 30, 700, "cpu")]
    lines = [",".join(COLUMNS), *(",".join(map(str, [*row, "2026-01-01", "m"])) for row in rows)]
    (tmp_path / "measured.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    minutes = notebook_map(tmp_path)["minutes"][0]
    assert "1.5 with a finished run" in minutes
    assert "0.5 without" in minutes


def test_a_notebook_without_a_card_is_named(tmp_path):
    write(tmp_path, "04_four", "# 04 · Four\nNo table.")
    with pytest.raises(InputError, match="04_four"):
        notebook_map(tmp_path)
