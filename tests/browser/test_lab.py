"""JupyterLab in a browser: run a notebook, change each control of its view, see the view change.

At the small preset there is one seed, so the seeds' controls have nothing to change to.
"""

import pytest
from browser import driving
from browser.conftest import PROJECT
from playwright.sync_api import expect

from labor_lib.annotation.store import Store
from labor_lib.lab.ui.controls import Picture
from labor_lib.runtime import home


def test_setting_chooser(page, lab):
    driving.open_notebook(page, lab, "01_domain_shift.ipynb")
    view = driving.wait_for_view(page, "labor-SettingChooser")
    first = view.inner_text()
    for question in (0, 1, 3, 2):  # all images labelled leaves nothing to ask of the last
        assert driving.changed(view, lambda which=question: driving.press_another(view, which)), (
            question
        )  # the card may say the same of two answers, the table never does
    assert view.inner_text() != first


def test_disagreement_slider(page, lab):
    driving.open_notebook(page, lab, "05_pixel_selector.ipynb")
    view = driving.wait_for_view(page, "labor-DisagreementSlider")
    assert driving.changed(view, lambda: driving.step_slider(view, "Home"))
    assert driving.changed(view, lambda: driving.step_slider(view, "ArrowRight"))
    assert driving.changed(view, lambda: driving.tick(view, "errors of the model"))
    assert driving.changed(
        view, lambda: view.locator(".jupyter-widgets.widget-play button").first.click()
    )


def test_selection_explorer(page, lab):
    driving.open_notebook(page, lab, "06_spl.ipynb")
    view = driving.wait_for_view(page, "labor-SelectionExplorer")
    assert driving.changed(view, lambda: driving.choose_another(driving.dropdown(view, "method")))
    assert driving.changed(view, lambda: driving.press_another(view), driving.texts)  # stage
    assert driving.changed(view, lambda: view.locator("input[type=number]").first.press("ArrowUp"))
    for base in ("truth", "prediction", "image"):
        assert driving.changed(view, lambda base=base: driving.press(view, base)), base
    for layer in ("errors", "entropy", "asked"):
        assert driving.changed(view, lambda layer=layer: driving.tick(view, layer)), layer
    driving.dropdown(view, "method").select_option(label="LabOR PPL")
    assert driving.changed(view, lambda: driving.tick(view, "mask"))
    assert driving.changed(
        view, lambda: driving.dropdown(view, "method").select_option(label="random pixels")
    )
    assert view.get_by_label("mask (this method has no selector)").is_disabled()
    assert driving.changed(view, lambda: driving.press(view, "road"), driving.texts)
    assert "road" in view.locator("figcaption").first.inner_text()
    driving.press(view, "all classes")
    assert driving.changed(view, lambda: driving.press(view, "after it"))
    assert driving.changed(view, lambda: driving.press(view, "next ▶"))
    assert driving.changed(view, lambda: driving.tick(view, "worst mIoU first"))
    view.locator(".labor-picture img").first.hover(position={"x": 200, "y": 100})
    expect(view.locator(".labor-picture small").first).to_contain_text(", predicted ")
    driving.dropdown(view, "beside").select_option(index=1)  # the model before the stage
    assert driving.changed(view, lambda: driving.tick(view, "difference"))
    expect(view.locator("figcaption").nth(1)).to_contain_text("before this stage")
    driving.dropdown(view, "beside").select_option(index=0)
    image = view.locator(".labor-picture img").first
    image.click(position={"x": 200, "y": 100})
    expect(view.get_by_text("zoom 2×")).to_have_count(2)  # the second picture is not shown
    driving.press(view, "Reset zoom")
    view.get_by_text("click to zoom in").first.wait_for()
    with page.expect_download() as saved:
        view.get_by_text("save as PNG").first.click()
    assert saved.value.suggested_filename.endswith(".png")


def test_explorer_of_photographs(page, lab):
    """On the run of notebook 10: without photographs its drawn stand-in."""
    driving.open_notebook(page, lab, "10_photographs.ipynb")
    view = driving.wait_for_view(page, "labor-SelectionExplorer")
    assert driving.changed(view, lambda: driving.choose_another(driving.dropdown(view, "method")))
    assert driving.changed(view, lambda: driving.press(view, "truth"))
    image = view.locator("input[type=number]").first
    assert driving.changed(view, lambda: image.press("ArrowDown"))
    if (PROJECT / "runs/small/results.csv").exists():  # left by the tests above: the streets
        runs = driving.dropdown(view, "run")
        for _ in range(2):
            assert driving.changed(view, lambda: driving.choose_another(runs))


def test_two_strategies_side_by_side(page, lab):
    """On the arena of notebook 16, which its tests have trained."""
    driving.open_notebook(page, lab, "16_arena.ipynb")
    view = driving.wait_for_view(page, "labor-SelectionExplorer")
    pictures = view.locator(".labor-picture img:visible")
    expect(pictures).to_have_count(3)  # two images and the legend
    boxes = [pictures.nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["width"] == boxes[1]["width"] > 350
    beside = driving.dropdown(view, "beside")
    assert driving.changed(view, lambda: driving.choose_another(beside))
    beside.select_option(label="none")
    expect(pictures).to_have_count(2)
    assert pictures.first.bounding_box()["width"] > 1.5 * boxes[0]["width"]


def test_answers_in_a_notebook(page, lab):
    """A click and a key land in the store of notebook 11, and are taken back."""
    driving.open_notebook(page, lab, "11_is_it_cheap.ipynb")
    sheet = page.locator(".labor-annotate").first
    sheet.locator(".labor-annotate-near").wait_for()
    store = Store(home() / "runs" / "twenty-points-small.sqlite")
    before = store.answers()["question"].tolist()
    count = sheet.locator(".labor-annotate-count")
    sheet.get_by_role("button", name="road").click()
    expect(count).to_contain_text(f"{len(before) + 1} answered")
    page.keyboard.press("2")
    expect(count).to_contain_text(f"{len(before) + 2} answered")
    assert store.answers()["label"].tolist()[-2:] == [0, 1]
    for left in (1, 0):
        page.keyboard.press("u")
        expect(count).to_contain_text(f"{len(before) + left} answered")
    assert store.answers()["question"].tolist() == before


def test_prototype_viewer(page, lab):
    driving.open_notebook(page, lab, "07_ppl.ipynb")
    view = driving.wait_for_view(page, "labor-PrototypeViewer")
    assert driving.changed(
        view, lambda: driving.choose_another(driving.dropdown(view, "predicted class k"))
    )
    assert driving.changed(view, lambda: driving.press_another(view))  # stage
    assert driving.changed(view, lambda: view.locator("input[type=number]").first.press("ArrowUp"))
    view.locator(".labor-picture img").first.click(position={"x": 200, "y": 100})
    expect(view.get_by_text("zoom 2×")).to_have_count(2)  # the linked similarity map, too
    driving.press(view, "Reset zoom")
    expect(view.get_by_text("zoom 2×")).to_have_count(0)


_PAGE = """<style>STYLE</style><body><script type="module">
const values = {png: new Uint8Array([0]), alt: "a", caption: "", zoomable: true, view: [0, 0, 1],
  pixels: {height: 1, width: 2, names: ["road"],
    values: new DataView(new Uint8Array([0, 0, 77, 255, 0, 50]).buffer)}};
const handlers = {};
window.model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; handlers["change:" + name]?.(); },
  on: (names, call) => names.split(" ").forEach((name) => { handlers[name] = call; }),
  save_changes: () => {},
};
MODULE
render({model: window.model, el: document.body});
const image = document.querySelector("img");
image.style.cssText += "width: 400px; height: 200px";
</script></body>"""


def test_zoom(page):
    """Clicks, drags, keys and the wheel choose the part that a picture shows."""
    module = (PROJECT / "labor_lib/lab/ui/picture.js").read_text(encoding="utf-8")
    module = module.replace("export default { render };", "")
    page.set_content(_PAGE.replace("STYLE", Picture._css).replace("MODULE", module))

    def view():
        return page.evaluate("window.model.get('view')")

    place = page.locator(".labor-picture-frame").bounding_box()
    left, top = place["x"], place["y"]
    page.mouse.move(left + 100, top + 100)
    read = page.locator("small").first
    assert read.inner_text() == "truly road, predicted road with 77 %"
    page.mouse.move(left + 300, top + 100)
    assert read.inner_text() == "truly void, predicted road with 50 %"
    page.mouse.move(left + 100, top + 100)
    page.mouse.wheel(0, -100)  # before a click, the wheel scrolls the page
    assert view() == [0, 0, 1]
    page.mouse.click(left + 100, top + 100)
    assert view() == [0, 0.25, 2]
    assert "zoom 2" in page.locator("small").last.inner_text()
    page.mouse.down()
    page.mouse.move(left + 20, top + 100)
    page.mouse.up()
    assert view() == pytest.approx([0.1, 0.25, 2])
    page.mouse.wheel(0, -100)
    assert view()[2] == 4
    for key, expected in (("-", 2), ("+", 4), ("Enter", 8), ("Escape", 1)):
        page.keyboard.press(key)
        assert view()[2] == expected
    page.keyboard.press("+")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert view() == [0.5, 0.25, 2]  # not beyond the picture
