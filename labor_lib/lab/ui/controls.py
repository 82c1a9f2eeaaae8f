"""What widgets are made of: a picture that can be clicked, text, the panel under every view.

A handler that fails writes one line into the panel's status and leaves the controls usable.
"""

import gc
import html
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from ipywidgets import HTML, Button, Checkbox, HBox, Layout, ToggleButtons, VBox
from matplotlib.figure import Figure
from PIL import Image

from labor_lib.errors import InputError
from labor_lib.lab import viz

_STYLE = """
.labor-picture { margin: 0; max-width: 100%; }
.labor-picture-frame { display: inline-block; max-width: 100%; line-height: 0; overflow: hidden; }
.labor-picture img { max-width: 100%; height: auto; transform-origin: 0 0; }
.labor-wide .labor-picture-frame, .labor-wide .labor-picture img { width: 100%; }
.labor-picture-zoomable { cursor: zoom-in; }
.labor-picture-zoomed { cursor: grab; image-rendering: pixelated; }
.labor-picture-frame:focus-visible { outline: 3px solid #0072b2; outline-offset: -3px; }
.labor-picture figcaption { font-weight: 600; line-height: 1.4; max-width: 900px; }
"""


class Picture(anywidget.AnyWidget):
    """A PNG.

    alt: says what it shows. caption: a line above, read out when it changes. zoomable: by clicks,
    drags, the wheel and keys. view: left and top of the part that is shown, as fractions of width
    and height, and the zoom: 1 shows everything.
    """

    _esm = Path(__file__).with_name("picture.js").read_text(encoding="utf-8")
    _css = _STYLE
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    zoomable = traitlets.Bool(False).tag(sync=True)
    view = traitlets.List([0.0, 0.0, 1.0]).tag(sync=True)
    _picture: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray | None:
        """The part that is shown, h x w x 3 uint8."""
        if self._picture is None:
            return None
        (left, top, zoom), (height, width) = self.view, self._picture.shape[:2]
        down, right = (
            slice(round(a * n), round((a + 1 / zoom) * n))
            for a, n in ((top, height), (left, width))
        )
        return self._picture[down, right]

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"

    def show(self, picture: np.ndarray | Figure, alt: str, caption: str = "") -> None:
        """Draw H x W x 3 uint8, or a figure at its own resolution."""
        if isinstance(picture, Figure):
            with no_pauses():
                picture = viz.figure_picture(picture)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)  # written quickly
        self._picture = picture
        with self.hold_sync():
            self.png, self.alt, self.caption = buffer.getvalue(), alt, caption

    def clear(self) -> None:
        self._picture = None
        with self.hold_sync():
            self.png, self.alt, self.caption = b"", "", ""


class Text(HTML):
    """Names and values, or sentences. text: the same without HTML, for figures."""

    text = caption = ""

    def show(self, lines: Sequence[tuple[str, str]], markup: str = "") -> None:
        """Names and values; markup: HTML to show instead of them."""
        parts = [f"{html.escape(name)}: <b>{html.escape(value)}</b>" for name, value in lines]
        self.value = markup or f'<div style="line-height:1.5">{" · ".join(parts)}</div>'
        joined = [f"{name}: {value}" if name else value for name, value in lines]
        self.text = ("\n" if markup else " · ").join(joined)

    @property
    def shown(self) -> np.ndarray | None:
        """The text as a picture, h x w x 3 uint8."""
        return viz.figure_picture(viz.note_figure(self.text)) if self.text else None

    def clear(self) -> None:
        self.value = self.text = ""


class Panel(VBox):
    """A view with a status line.

    A subclass makes its controls and `parts` (each a `Picture` or `Text`, or a list of those that
    stand side by side) and calls `_build`. `_update` shows the controls' state in the parts.
    """

    def __init__(self, css: str = ""):
        super().__init__()
        self.add_class("labor-view")
        if css:
            self.add_class(css)
        self.status = HTML()
        self.error = ""  # what the status says
        self.parts: list = []  # what is emptied when there is an error
        self._busy = False

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}: run this cell for the live version; the figure below shows the same"

    def _build(self, *controls, parts: list) -> None:
        """Controls above, parts below; then `_start`, and `_update` after any change."""
        self.parts = parts
        lines = [part if isinstance(part, list) else [part] for part in parts]
        for line in lines:
            for part in line if len(line) > 1 else ():
                part.layout = Layout(flex="1 1 400px", min_width="0")
        self.children = [*controls, self.status, *(row(*line, align="flex-end") for line in lines)]
        self._guarded(self._start)

    def _start(self) -> None:
        """What happens once, before the first change."""
        self._update()

    def _update(self) -> None:
        raise NotImplementedError

    def figure(self) -> Figure:
        """The static figure that says the same as the view does now."""
        return viz.note_figure(self.error) if self.error else self._picture()

    def _picture(self, title: str = "") -> Figure:
        """The figure of the present state: the parts, one below the other."""
        lines = [part if isinstance(part, list) else [part] for part in self.parts]
        shown = [[(p.shown, p.caption) for p in line if p.shown is not None] for line in lines]
        return viz.stacked([line for line in shown if line], title)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; an error becomes the status. Changes that the action makes start nothing."""
        if self._busy:
            return
        self._busy = True
        try:
            action()
            self._say("")
        except Exception as error:  # whatever it is, the reader gets a line, not a traceback
            named = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self._say(" ".join(f"{named}{error}".split()))
            self._blank()
        finally:
            self._busy = False

    def _blank(self) -> None:
        """Show nothing rather than what the controls no longer say."""
        for line in self.parts:
            for part in line if isinstance(line, list) else [line]:
                part.clear() if hasattr(part, "clear") else setattr(part, "value", "")

    def _say(self, text: str) -> None:
        self.error = text
        words = f'<p role="alert" style="{_ALERT}">Not shown: {html.escape(text)}</p>'
        self.status.value = words if text else ""

    def _on(self, *controls, action: Callable[[], None] | None = None) -> None:
        """Call the action (`_update` if none is given) after a change of any of the controls."""
        for control in controls:
            if isinstance(control, Button):
                control.on_click(lambda _: self._guarded(action or self._update))
            else:
                control.observe(lambda _: self._guarded(action or self._update), names="value")


_ALERT = "line-height:1.4; border-left:4px solid #d55e00; padding:2px 8px; margin:2px 0"


@contextmanager
def no_pauses() -> Iterator[None]:
    """For drawing figures: collect their garbage right after, while it is cheap.

    Otherwise it reaches the oldest generation, and Python then searches all objects of torch and
    pandas: 0.2 s.
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


def button(text: str, tooltip: str) -> Button:
    return Button(description=text, tooltip=tooltip, layout=Layout(width="auto"))


def check_box(text: str, value: bool, tooltip: str = "") -> Checkbox:
    return Checkbox(
        value, description=text, indent=False, tooltip=tooltip or text,
        layout=Layout(width="auto"),
    )  # fmt: skip


def buttons(text: str, options: Iterable, tooltips: Sequence[str], width: str) -> ToggleButtons:
    """One of a few, beside its description."""
    layout = Layout(width="auto", display="flex", flex_flow="row", align_items="center")
    control = ToggleButtons(
        options=list(options), tooltips=list(tooltips), layout=layout, description=text
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
