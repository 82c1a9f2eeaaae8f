"""The benchmarks run: a table with every row. How fast they are is no test's business."""

import re

from benchmarks import family


def test_the_familys_table_has_every_method(capsys):
    family.main(["--steps", "1", "--device", "cpu", "--precision", "32-true"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip() for line in lines[1:]]
    assert names == list(family.problems())
    for line in lines[1:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert all(re.fullmatch(r"\d+\.\d", cell) for cell in cells[1:] if cell)
