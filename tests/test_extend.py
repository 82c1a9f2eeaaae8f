"""docs/EXTEND.md: every example on the page runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labor_lib.data.segmentation import LAYOUTS, SegmentationFolder
from labor_lib.labels import CITYSCAPES19
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


def test_the_layout_reads_its_folders(registries, tmp_path):
    exec(SECTIONS["A dataset layout"][0], {})
    pixels = np.full((4, 6, 3), 90, np.uint8)
    label = np.array([[0, 18, 255] * 2] * 4, np.uint8)
    for place, ending, content in (
        ("images/10k", "jpg", pixels),
        ("labels/sem_seg/masks", "png", label),
    ):
        folder = tmp_path / place / "val"
        folder.mkdir(parents=True)
        Image.fromarray(content).save(folder / f"one.{ending}")
    data = SegmentationFolder(tmp_path, "bdd100k", "val", CITYSCAPES19)
    assert data.names == ["one"]
    np.testing.assert_array_equal(data.image(0).numpy(), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(data.label(0).numpy(), label)
