"""JupyterLab in a browser: the views of the wider family."""

from browser.driving import changed, open_notebook, press, texts, tick, wait_for_view


def slide(view, which: int, key: str) -> None:
    """A key on the slider with this number."""
    handle = view.locator(".noUi-handle").nth(which)
    handle.focus()
    handle.press(key)


def test_alignment_playground(page, lab):
    open_notebook(page, lab, "13_ccsa.ipynb")
    view = wait_for_view(page, "labor-alignment")
    first = view.locator("figcaption").first.inner_text()
    for slider, key in ((0, "End"), (1, "End"), (0, "ArrowLeft"), (1, "ArrowLeft"), (2, "Home")):
        assert changed(view, lambda slider=slider, key=key: slide(view, slider, key)), slider
    assert "Before any target label" in view.locator("figcaption").first.inner_text()
    assert changed(view, lambda: tick(view, "pulled pairs"))
    assert changed(view, lambda: slide(view, 2, "End"))
    assert changed(view, lambda: press(view, "1"), texts)  # label a class
    assert view.locator("figcaption").first.inner_text() != first
    assert changed(view, lambda: tick(view, "pushed pairs"))
