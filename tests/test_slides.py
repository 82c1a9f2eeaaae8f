"""Slides of a small notebook: what they show and what stays out."""

import re

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools.slides import shortened, write_slides

FIGURE = new_output("display_data", {"image/png": "iVBORw0KGgo="})
WIDGET = new_output("display_data", {"text/plain": "Explorer: run this cell"})
PRINT = new_output("stream", text="printed line")
CELLS = [
    new_markdown_cell("# 03 · Small\nA question?\n\n| | |\n|---|---|\n| **Goal** | none |"),
    new_code_cell("import torch", outputs=[PRINT]),
    new_markdown_cell("A text about code."),
    new_code_cell("prepare()", outputs=[WIDGET]),
    new_markdown_cell("## 1 · First\nSee [04](04_other.ipynb).\n\n## 2 · Second\nHere."),
    new_code_cell("hidden_code = 1"),
    new_markdown_cell("The same without a kernel:"),
    new_code_cell("show(figure)", outputs=[PRINT, FIGURE]),
    new_markdown_cell("What we see."),
    new_markdown_cell("## Exercises\n**Exercise 1.**"),
    new_code_cell("raise NotImplementedError", outputs=[FIGURE]),
]


def test_headings_figures_and_the_texts_beside_them(tmp_path):
    path = tmp_path / "03_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=CELLS), path)
    written = write_slides(path, tmp_path / "slides")
    assert written == tmp_path / "slides" / "03_small.slides.html"
    page = re.sub(r"(?s)<(style|script)\b.*?</\1>", "", written.read_text(encoding="utf-8"))
    slides = re.split(r"<section><section>", page)[1:]
    assert len(slides) == 3  # the title and two headings
    for slide, shown in zip(slides, ("A question?", "See 04.", "Here."), strict=True):
        assert shown in slide
    assert [slide.count("<img") for slide in slides] == [0, 0, 1]
    assert "What we see." in slides[2]
    for left_out in ("Goal", "about code", "without a kernel", "hidden_code", "printed", "run this",
                     "Exercise", "NotImplemented", "04_other"):  # fmt: skip
        assert left_out not in page


def test_a_long_text_is_cut_behind_a_paragraph():
    first, second = "one " * 60, "two " * 20
    assert shortened(f"## Title\n\n{first}\n\n{second}") == f"## Title\n\n{first}"
    assert shortened("word " * 200).split() == ["word"] * 200  # never within one
    assert shortened("[a](https://example.org)") == "[a](https://example.org)"
