"""The dashboard of `make dashboard` in a browser: a page without code whose controls work."""

import pytest
from browser.conftest import PROJECT, served_by_make
from browser.driving import changed, choose_another, dropdown, press, tick, wait_for_view

MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def dashboard():
    """The Makefile's dashboard: its address."""
    assert "--ServerApp.ip=127.0.0.1" in MAKEFILE
    with served_by_make("dashboard") as (url, _):
        yield url


def test_dashboard(page, dashboard):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(dashboard, timeout=240_000)
    lead = page.locator(".labor-report").first
    lead.locator("h1").filter(has_text="mIoU").wait_for(timeout=240_000)
    for part in (lead.locator("img"), lead.locator(".tile").last):  # on the first screen
        box = part.bounding_box()
        assert box["y"] + box["height"] < 800
    assert lead.locator(".tile").count() >= 3
    assert "run_to_show" not in page.inner_text("body"), "a page without code"
    links = page.locator("a[href]:not([download])")  # a picture is saved by a link
    assert links.count() == 0, "Voila serves no other file"
    page.get_by_role("tab", name="What is asked").click()
    explorer = wait_for_view(page, "labor-SelectionExplorer")
    assert changed(explorer, lambda: press(explorer, "truth"))
    page.get_by_role("tab", name="Predictions").click()
    view = wait_for_view(page, "labor-CompareDashboard")
    assert changed(view, lambda: press(view, "pixels"))
    assert changed(view, lambda: choose_another(dropdown(view, "metric")))
    assert changed(view, lambda: tick(view, "random pixels"))
    assert changed(view, lambda: tick(view, "road"))
    assert changed(view, lambda: press(view, "2"))  # page of images
    press(view, "No class")
    view.get_by_text("choose at least one class").wait_for()  # a line, and no traceback
    assert changed(view, lambda: press(view, "All classes"))
    for button in ("All methods", "Main methods"):
        assert changed(view, lambda: tick(view, "AdaBN"))
        assert changed(view, lambda button=button: press(view, button)), button
