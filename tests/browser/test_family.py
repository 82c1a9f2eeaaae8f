"""JupyterLab in a browser: the views of the wider family."""

from browser.driving import changed, open_notebook, press, step_slider, texts, tick, wait_for_view


def test_alignment_playground(page, lab):
    open_notebook(page, lab, "13_ccsa.ipynb")
    view = wait_for_view(page, "labor-AlignmentPlayground")
    first = view.locator("figcaption").first.inner_text()
    for slider, key in ((0, "End"), (1, "End"), (0, "ArrowLeft"), (1, "ArrowLeft"), (2, "Home")):
        assert changed(view, lambda slider=slider, key=key: step_slider(view, key, slider)), slider
    assert "after 0 steps" in view.locator("figcaption").first.inner_text()
    assert changed(view, lambda: tick(view, "pulled pairs"))
    assert changed(view, lambda: step_slider(view, "End", 2))
    assert changed(view, lambda: press(view, "1"), texts)  # label a class
    assert view.locator("figcaption").first.inner_text() != first
    assert changed(view, lambda: tick(view, "pushed pairs"))


def answer(view, question: str, text: str) -> None:
    """Press an answer of the chooser's question."""
    group = view.locator(".widget-toggle-buttons").filter(has_text=question)
    group.get_by_role("button", name=text, exact=True).click()


def test_method_chooser(page, lab):
    open_notebook(page, lab, "15_choose_a_method.ipynb")
    view = wait_for_view(page, "labor-MethodChooser")
    assert "DANN" in view.locator('[aria-current="true"]').inner_text()
    images, labels, source = "target images at training", "labels on the target", "source images"
    for question, text, method in (
        (source, "no, only a network trained on them", "AdaBN"),
        (images, "only a few, with labels", "fine-tuning"),
        (source, "yes", "CCSA"),
        ("How many labels are there", "more", "CCSA beside joint training"),
        (images, "none", "SagNet beside source only"),
        ("How many source domains", "several", "SagNet"),
        (images, "many", "DANN"),
        ("What is predicted", "a class for each pixel", "AdaptSegNet, then IAST"),
        (labels, "none, but a person can be asked", "spaced margin beside PPL"),
        ("person name", "2 % of its pixels", "LabOR SPL"),
        ("Which classes", "some of the source's", "none here: partial adaptation"),
    ):
        assert changed(view, lambda q=question, t=text: answer(view, q, t), texts), text
        assert view.locator('[aria-current="true"]').inner_text() == method
        assert view.locator(".widget-toggle-buttons:visible").count() >= 2  # a question, the data
    assert view.get_by_text("What is predicted?", exact=True).first.is_hidden()
    assert changed(view, lambda: answer(view, "embedded data", "styles"), texts)
    assert changed(view, lambda: answer(view, "embedded data", "textured"), texts)

    press(view, "Run it here")
    view.locator(".jp-OutputArea").get_by_text("accuracy on shared classes").wait_for()
    view.get_by_text("Done.", exact=True).wait_for()

    cells = page.locator(".jp-Notebook .jp-CodeCell")
    before = cells.count()
    asking = cells.filter(has=page.locator(".cm-content", has_text="chooser.open_cell()")).first
    asking.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    asking.get_by_text("Opened a cell below: none here: partial adaptation").wait_for()
    opened = asking.locator("xpath=following-sibling::*[1]")
    opened.get_by_text("put the names of your target's classes here").wait_for()
    assert cells.count() == before + 1
    opened.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    opened.locator(".jp-OutputArea").get_by_text("accuracy on shared classes").wait_for()
    assert opened.locator('[data-mime-type*="error"], [data-mime-type*="stderr"]').count() == 0
