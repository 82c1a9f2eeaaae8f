"""What views are made of: a picture that can be clicked, the panel under every view, controls.

A handler that fails writes one line into the panel's status and leaves the controls usable.
"""

import gc
import html
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from ipywidgets import HTML, Button, Checkbox, HBox, Layout, ToggleButtons, VBox
from matplotlib.figure import Figure

from labor_lib.errors import InputError
from labor_lib.lab import viz

_STYLE = """
.labor-picture { margin: 0; max-width: 100%; }
.labor-picture-frame { display: inline-block; max-width: 100%; line-height: 0; }
.labor-picture img { max-width: 100%; height: auto; image-rendering: pixelated; }
.labor-picture img.labor-picture-smooth { image-rendering: auto; }
.labor-wide .labor-picture-frame, .labor-wide .labor-picture img { width: 100%; }
.labor-picture-clickable { cursor: zoom-in; }
.labor-picture-frame:focus-visible { outline: 3px solid #0072b2; outline-offset: -3px; }
.labor-picture figcaption { line-height: 1.4; padding: 2px 0 6px; max-width: 900px; }
.labor-picture figcaption { font-weight: 600; }
"""


class Picture(anywidget.AnyWidget):
    """A PNG that can be clicked.

    png, alt (says what it shows), caption (a line above, read out when it changes). clickable:
    whether clicks and keys (arrows, +, -, Enter, Escape) become events; label then names the
    frame and its keys. smooth: for curves, whose pixels are not squares.
    event: {kind, x, y, count}, kind "click" or a key's: "left", "right", "up", "down", "in", "out",
    "reset"; x, y: fractions of width and height; count makes equal clicks differ.
    """

    _esm = Path(__file__).with_name("picture.js").read_text(encoding="utf-8")
    _css = _STYLE
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    clickable = traitlets.Bool(False).tag(sync=True)
    smooth = traitlets.Bool(False).tag(sync=True)
    event = traitlets.Dict().tag(sync=True)

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"

    def show(self, picture: np.ndarray, alt: str, caption: str = "") -> None:
        """Draw H x W x 3 uint8."""
        with self.hold_sync():
            self.png, self.alt, self.caption = viz.picture_png(picture), alt, caption

    def clear(self) -> None:
        with self.hold_sync():
            self.png, self.alt, self.caption = b"", "", ""

    def figure(self) -> Figure:
        """The picture as a figure."""
        return viz.png_figure(self.png, self.caption or self.alt)


class Panel(VBox):
    """A view with a status line. Subclasses have `_update`, which draws the controls' state."""

    def __init__(self, css: str):
        super().__init__()
        self.add_class("labor-view")
        self.add_class(css)
        self.status = HTML()
        self.error = ""  # what the status says
        self.parts: list[Picture | HTML] = []  # what is emptied when there is an error
        self._busy = False

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}: run this cell for the live version; the figure below shows the same"

    def _update(self) -> None:
        raise NotImplementedError

    def _picture(self) -> Figure:
        """The figure of the present state."""
        raise NotImplementedError

    def figure(self) -> Figure:
        """The static figure that says the same as the view does now."""
        return viz.note_figure(self.error) if self.error else self._picture()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; an error becomes the status. Changes that the action makes start nothing."""
        if self._busy:
            return
        self._busy = True
        try:
            action()
            self._say("")
        except Exception as error:  # whatever it is, the reader gets a line, not a traceback
            named = (
                str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            )
            self._say(" ".join(named.split()))
            self._blank()
        finally:
            self._busy = False

    def _blank(self) -> None:
        """Show nothing rather than what the controls no longer say."""
        for part in self.parts:
            part.clear() if isinstance(part, Picture) else setattr(part, "value", "")

    def _say(self, text: str) -> None:
        self.error = text
        words = f"Not shown: {html.escape(text)}" if text else ""
        self.status.value = f'<p role="alert" style="{_ALERT}">{words}</p>' if text else ""

    def _on(self, *controls, action: Callable[[], None] | None = None) -> None:
        """Call the action (`_update` if none is given) after a change of any of the controls."""
        for control in controls:
            if isinstance(control, Button):
                control.on_click(lambda _: self._guarded(action or self._update))
            else:
                control.observe(lambda _: self._guarded(action or self._update), names="value")

    def _on_event(self, picture: Picture, action: Callable[[dict], None]) -> None:
        """Call the action with every event of a picture."""
        picture.observe(lambda change: self._guarded(partial(action, change["new"])), names="event")


_ALERT = "line-height:1.4; border-left:4px solid #d55e00; padding:2px 8px; margin:2px 0"


@contextmanager
def no_pauses() -> Iterator[None]:
    """For drawing figures: collect their rubbish right after, while it is young.

    Left alone it grows old, and Python then looks through all that torch and pandas hold: 0.2 s.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(1)
        if enabled:
            gc.enable()


def row(*children, align: str = "center") -> HBox:
    """Side by side, going on in the next line where the page is narrow."""
    layout = Layout(flex_flow="row wrap", align_items=align, grid_gap="4px 18px")
    return HBox(children, layout=layout)


def column(*children, flex: str) -> VBox:
    """One below the other, in a row with others."""
    return VBox(children, layout=Layout(flex=flex, grid_gap="8px", min_width="0"))


def wide(text: str) -> dict:
    """Keyword arguments of a control whose description is not cut off."""
    return {"description": text, "style": {"description_width": "initial"}}


def check_box(text: str, value: bool, tooltip: str = "") -> Checkbox:
    return Checkbox(
        value, description=text, indent=False, tooltip=tooltip or text,
        layout=Layout(width="auto"),
    )  # fmt: skip


def buttons(text: str, options: Iterable, tooltips: list[str], width: str) -> ToggleButtons:
    """One of a few, beside its description."""
    layout = Layout(width="auto", display="flex", flex_flow="row", align_items="center")
    control = ToggleButtons(
        options=list(options), tooltips=tooltips, layout=layout, description=text
    )
    control.style.description_width = f"{0.55 * len(text) + 0.9:.1f}em"
    control.style.button_width = width
    return control


def choose(control, options: Iterable, value) -> None:
    """Other options for a control; keeps its value, or takes `value` where that is gone."""
    options = list(options)
    values = [o[1] if isinstance(o, tuple) else o for o in options]
    kept = control.value if control.value in values else value
    if list(control.options) != options:
        control.options = options
    control.value = kept
