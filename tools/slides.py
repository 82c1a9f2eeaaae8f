"""Slides of the notebooks, for teaching: figures, tables and the first sentences about them.

    python -m tools.slides               all of them, into slides/
    python -m tools.slides 03 07         only these

A heading of level 2 begins a slide; the figures and tables that follow, and the texts beside them,
stand below it (arrow down). Code, prints, widgets and exercises stay out, and long texts are cut
behind a paragraph. Nothing is run: the slides show the outputs that the notebooks hold. A browser
fetches reveal.js and MathJax from the network; without it the slides are one long page.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

from labor_lib.runtime import write_text
from tools.notebooks import FOLDER, PROJECT

WORDS = 70  # of a text; its first paragraph is shown in any case
SHOWN = {"image/png", "text/html", "text/markdown"}
LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")
ABOUT_WIDGETS = re.compile(r"without a (running )?kernel")


def shortened(text: str) -> str:
    """The paragraphs of a text up to some seventy words, and links to other notebooks as words."""
    kept, words = [], 0
    for block in re.split(r"\n\s*\n", LOCAL_LINK.sub(r"\1", text).strip()):
        words += 0 if block.startswith("#") else len(block.split())
        if words > WORDS and any(not part.startswith("#") for part in kept):
            break
        kept.append(block)
    return "\n\n".join(kept)


def parts_of(book: nbformat.NotebookNode):
    """Headings, texts and outputs up to the exercises, each as a cell."""
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if SHOWN & set(out.get("data", {}))]
            if cell.outputs:
                yield cell
            continue
        for part in re.split(r"(?m)^(?=## )", cell.source):
            if part.startswith("## Exercises"):
                return
            text = shortened(part.partition("\n| | |\n")[0])  # without the opening card's table
            if text and not ABOUT_WIDGETS.search(text):
                yield nbformat.v4.new_markdown_cell(text)


def slides_of(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    parts, cells = list(parts_of(book)), []
    for place, cell in enumerate(parts):
        begins = cell.source.startswith(("# ", "## ")) and cell.cell_type == "markdown"
        beside = {part.cell_type for part in parts[max(place - 1, 0) : place + 2]}
        cell.metadata = {"slideshow": {"slide_type": "slide" if begins else "subslide"}}
        cells += [cell] if begins or "code" in beside else []
    return nbformat.v4.new_notebook(cells=cells)


def write_slides(path: Path, folder: Path) -> Path:
    exporter = SlidesExporter(exclude_input=True, exclude_output_prompt=True, reveal_scroll=True)
    book = slides_of(nbformat.read(path, as_version=4))
    page, _ = exporter.from_notebook_node(book, {"metadata": {"name": path.stem}})
    folder.mkdir(exist_ok=True)
    write_text(folder / f"{path.stem}.slides.html", page)
    return folder / f"{path.stem}.slides.html"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.slides")
    parser.add_argument("numbers", nargs="*", help="such as 03; all notebooks by default")
    numbers = parser.parse_args().numbers
    for notebook in sorted(FOLDER.glob("[0-9]*.ipynb")):
        if not numbers or notebook.stem[:2] in numbers:
            print(write_slides(notebook, PROJECT / "slides").relative_to(PROJECT))
