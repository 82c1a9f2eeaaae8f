"""The notes in notebooks/deeper keep the rules of the notebooks, but have no exercises."""

import re

import nbformat
import pytest
import test_notebooks as rules
from test_notebooks import FOLDER, library, markdown

from tools.notebooks import notebooks

__all__ = ["library"]  # the fixture
NOTES = sorted((FOLDER / "deeper").glob("[0-9]*.ipynb"))
BOOKS = {path: nbformat.read(path, as_version=4) for path in NOTES}

each_note = pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    monkeypatch.setattr(rules, "BOOKS", BOOKS)


@each_note
def test_a_card_before_and_a_way_back_behind(path):
    rules.assert_opening_card(path)
    texts = markdown(path)
    assert re.findall(r"(?m)^## .*$", "\n".join(texts))[-2:] == ["## What we saw", "## Next"]
    (main,) = FOLDER.glob(f"{path.stem[:2]}_*.ipynb")
    assert f"](../{main.name})" in texts[-1]
    assert f"](deeper/{path.name})" in main.read_text(encoding="utf-8")


@each_note
def test_cells_and_outputs(path, library):
    rules.test_cells_fit_a_screen_and_outputs_are_right(path, library)


def test_links():
    rules.test_links_resolve()


def test_they_are_run_and_measured_with_the_notebooks():
    assert set(NOTES) < set(notebooks())
    assert not [path for path in notebooks() if "solutions" in path.parts]
