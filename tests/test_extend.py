"""docs/EXTEND.md: every example on the page runs as it stands there."""

import re
from pathlib import Path

import pytest

from labor_lib.data.segmentation import LAYOUTS
from labor_lib.methods.registry import CLASSIFICATION, METHODS
from labor_lib.selection.rules import RULES

PAGE = (Path(__file__).parents[1] / "docs" / "EXTEND.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"(?ms)^```python\n(.*?)^```$", text)
    for title, text in re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", PAGE)
}


@pytest.fixture
def registries():
    """What an example registers is taken out again."""
    kept = [(registry, dict(registry)) for registry in (RULES, METHODS, CLASSIFICATION, LAYOUTS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("title", SECTIONS)
def test_examples_run(title, registries, tmp_path, monkeypatch):
    """The blocks of a section, one after the other in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    assert SECTIONS[title], "a section without an example"
    namespace = {"__name__": "example"}
    for number, block in enumerate(SECTIONS[title], start=1):
        exec(compile(block, f"EXTEND.md, {title}, block {number}", "exec"), namespace)
