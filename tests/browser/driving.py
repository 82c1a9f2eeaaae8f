"""What the browser tests do with a view: find its controls, change them, tell pictures apart."""

import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, TimeoutError, expect

_FINGERPRINTS = """async view => {
  const found = [];
  for (const image of view.querySelectorAll(".labor-picture img")) {
    if (!image.src || image.closest("figure").hidden) { found.push(""); continue; }
    const bytes = await fetch(image.src).then(got => got.arrayBuffer(), () => null);
    if (!bytes) { found.push("just replaced"); continue; }
    const digest = await crypto.subtle.digest("SHA-256", bytes);
    found.push(Array.from(new Uint8Array(digest)).join(","));
  }
  return found;
}"""
_ERROR = '[data-mime-type*="vnd.jupyter.stderr"], [data-mime-type*="vnd.jupyter.error"]'
_PROGRESS = f"""() => {{
  const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
    .map(prompt => prompt.textContent);
  if (document.querySelector('{_ERROR}')) return "error";
  if (prompts.every(text => /\\[\\d+\\]/.test(text))) return "done";
  return prompts.some(text => text.includes("*")) ? "running" : "waiting";
}}"""
_TEXTS = "view => [...view.querySelectorAll('.widget-html')].map(part => part.innerHTML)"


def open_notebook(page: Page, lab: str, name: str, seconds: float = 420) -> None:
    """Open a notebook in JupyterLab and run all of its cells; a busy kernel answers no control."""
    page.goto(f"{lab}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    end = time.monotonic() + seconds
    asked = None
    while (progress := page.evaluate(_PROGRESS)) in ("running", "waiting"):
        now = time.monotonic()
        if progress == "running":
            asked = now
        elif asked is None or now - asked > 5:  # a command before the kernel is there is lost
            _close_dialogs(page)
            page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
            asked = now
        assert now < end, f"{name} does not run to its end: {_state(page)}"
        page.wait_for_timeout(250)
    _close_dialogs(page)
    faults = page.locator(_ERROR)
    assert faults.count() == 0, faults.first.inner_text()[-1500:]


def _close_dialogs(page: Page) -> None:
    """Accept what a dialog proposes: "Select Kernel" comes up where a command was too early."""
    for button in page.locator(".jp-Dialog button.jp-mod-accept").all():
        button.click()


def _state(page: Page) -> str:
    """Prompts, and what a dialog says, for the message of a test that waited in vain."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    return " ".join([*prompts, *page.locator(".jp-Dialog").all_inner_texts()])


def wait_for_view(page: Page, css: str, seconds: float = 120) -> Locator:
    """A widget of ours by its class, once it shows a picture."""
    view = page.locator(f".{css}").first
    try:
        view.wait_for(state="visible", timeout=seconds * 1000)
    except TimeoutError:
        raise AssertionError(f"no {css} on the page: {_state(page)}") from None
    view.scroll_into_view_if_needed()
    view.locator(".labor-picture img, table").first.wait_for(state="visible")
    return view


def pictures(view: Locator) -> list[str]:
    """A fingerprint of every picture of a view; "" for one that is hidden."""
    return view.evaluate(_FINGERPRINTS)


def texts(view: Locator) -> list[str]:
    """What a view's tables and sentences hold."""
    return view.evaluate(_TEXTS)


def changed(view: Locator, action: Callable[[], None], what=pictures, seconds: float = 30) -> bool:
    """Whether a view's pictures (or `texts`) change after the action; no error may show.

    Waits until they have come to rest, so that the next action sees its own change alone.
    """
    before = what(view)
    action()
    end = time.monotonic() + seconds
    while (now := what(view)) == before:
        if time.monotonic() > end:
            return False
        view.page.wait_for_timeout(50)
    while now != (later := (view.page.wait_for_timeout(250), what(view))[1]):
        now = later
    # an earlier error goes when all is drawn, on a busy machine later than the first pictures come
    expect(view.locator('[role="alert"]')).to_have_count(0, timeout=1000 * seconds)
    return True


def dropdown(view: Locator, label: str) -> Locator:
    return view.get_by_label(label, exact=True).and_(view.locator("select"))


def choose_another(select: Locator) -> None:
    """Another option of a dropdown than the one it shows."""
    options = select.locator("option").all_inner_texts()
    now = select.evaluate("control => control.selectedIndex")
    select.select_option(index=(now + 1) % len(options))


def press(view: Locator, label: str) -> None:
    """A button, or the one of a few that carries this text."""
    view.get_by_role("button", name=label, exact=True).first.click()


def press_another(view: Locator, which: int = 0) -> None:
    """Another one of a few buttons than the one that is pressed. which: of the view's groups."""
    group = view.locator(".widget-toggle-buttons").nth(which)
    group.locator("button:not(.mod-active)").first.click()


def tick(view: Locator, label: str) -> None:
    view.get_by_label(label, exact=True).click()


def step_slider(view: Locator, key: str = "ArrowRight", which: int = 0) -> None:
    """A key on a slider. which: of the view's sliders."""
    handle = view.locator(".noUi-handle").nth(which)
    handle.focus()
    handle.press(key)
