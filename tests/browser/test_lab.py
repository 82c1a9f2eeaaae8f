"""JupyterLab in a browser: run a notebook, change each control of its view, see the view change.

At the small preset there is one seed, so the seeds' controls have nothing to change to.
"""

from browser.driving import (
    changed,
    choose_another,
    dropdown,
    open_notebook,
    press,
    press_another,
    step_slider,
    texts,
    tick,
    wait_for_view,
)


def test_setting_chooser(page, lab):
    open_notebook(page, lab, "01_domain_shift.ipynb")
    view = wait_for_view(page, "labor-settings")
    first = view.inner_text()
    for question in (0, 1, 3, 2):  # all images labelled leaves nothing to ask of the last
        assert changed(view, lambda which=question: press_another(view, which), texts), question
    assert view.inner_text() != first


def test_disagreement_slider(page, lab):
    open_notebook(page, lab, "05_pixel_selector.ipynb")
    view = wait_for_view(page, "labor-disagreement")
    assert changed(view, lambda: step_slider(view, "Home"))
    assert changed(view, lambda: step_slider(view, "ArrowRight"))
    assert changed(view, lambda: tick(view, "errors of the model"))
    assert changed(view, lambda: view.locator(".jupyter-widgets.widget-play button").first.click())


def test_selection_explorer(page, lab):
    open_notebook(page, lab, "06_spl.ipynb")
    view = wait_for_view(page, "labor-explorer")
    assert changed(view, lambda: choose_another(dropdown(view, "method")))
    assert changed(view, lambda: press_another(view), texts)  # stage
    assert changed(view, lambda: view.locator("input[type=number]").first.press("ArrowUp"))
    for base in ("truth", "prediction", "image"):
        assert changed(view, lambda base=base: press(view, base)), base
    for layer in ("errors", "entropy", "asked"):
        assert changed(view, lambda layer=layer: tick(view, layer)), layer
    only = view.locator("select").last
    assert changed(view, lambda: only.select_option(label="road"), texts)
    assert "road" in view.locator("figcaption").first.inner_text()
    picture = view.locator(".labor-picture-frame").first
    assert changed(view, lambda: picture.click(position={"x": 200, "y": 100}))
    assert changed(view, lambda: press(view, "Reset zoom"))
    picture.focus()
    for key in ("+", "ArrowRight", "-", "Enter", "Escape"):
        assert changed(view, lambda key=key: page.keyboard.press(key)), key


def test_mask_layer(page, lab):
    """Methods without a selector have no mask: its control says so."""
    open_notebook(page, lab, "06_spl.ipynb")
    view = wait_for_view(page, "labor-explorer")
    dropdown(view, "method").select_option(label="LabOR PPL")
    assert changed(view, lambda: tick(view, "mask"))
    assert changed(view, lambda: dropdown(view, "method").select_option(label="random pixels"))
    assert view.get_by_label("mask (this method has no selector)").is_disabled()


def test_prototype_viewer(page, lab):
    open_notebook(page, lab, "07_ppl.ipynb")
    view = wait_for_view(page, "labor-prototypes")
    assert changed(view, lambda: choose_another(dropdown(view, "predicted class k")))
    assert changed(view, lambda: press_another(view))  # stage
    assert changed(view, lambda: view.locator("input[type=number]").first.press("ArrowUp"))
    picture = view.locator(".labor-picture-frame").first
    assert changed(view, lambda: picture.click(position={"x": 200, "y": 100}))
    assert changed(view, lambda: press(view, "Reset zoom"))
