"""What widgets are made of: a picture that can be clicked, text, the panel under every view.

A handler that fails writes one line into the panel's status and leaves the controls usable.
"""

import gc
import html
import io
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from threading import RLock

import anywidget
import numpy as np
import traitlets
from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    HBox,
    Layout,
    Play,
    SelectionSlider,
    ToggleButtons,
    VBox,
)
from matplotlib.figure import Figure
from PIL import Image
from traitlets import link

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.runs import finished_runs
from labor_lib.lab.scene import Scene
from labor_lib.lab.ui.guide import check_answers

# what is loaded stays: else Python searches all of torch's and pandas' objects now and then while
# it draws, which takes 0.2 s
gc.freeze()
_STYLE = """
.labor-picture { margin: 0; max-width: 100%; }
.labor-picture-frame { display: inline-block; max-width: 100%; line-height: 0; overflow: hidden; }
.labor-picture img { max-width: 100%; height: auto; transform-origin: 0 0; }
.labor-picture-zoomable { cursor: zoom-in; }
.labor-picture-zoomed { cursor: grab; }
.labor-picture-sharp { image-rendering: pixelated; }
.labor-picture-frame:focus-visible { outline: 3px solid #0072b2; outline-offset: -3px; }
.labor-picture figcaption { font-weight: 600; line-height: 1.4; max-width: 900px; }
.labor-picture small:not([hidden]) { display: block; min-height: 1.4em; line-height: 1.4; }
.labor-view pre { background: var(--jp-layout-color2, #f5f5f5); color: inherit; }
.labor-view pre { overflow-x: auto; padding: 8px; user-select: all; }
.labor-view a, .labor-picture a { color: var(--jp-content-link-color, #0062a0); }
"""


class Picture(anywidget.AnyWidget):
    """A PNG.

    alt: says what it shows. caption: a line above, read out when it changes. zoomable: by clicks,
    drags, the wheel and keys. view: left and top of the part that is shown, as fractions of width
    and height, and the zoom: 1 shows everything. pixels: what the pointer reads, see `reading`.
    """

    _esm = Path(__file__).with_name("picture.js").read_text(encoding="utf-8")
    _css = _STYLE
    png = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    zoomable = traitlets.Bool(False).tag(sync=True)
    view = traitlets.List([0.0, 0.0, 1.0]).tag(sync=True)
    pixels = traitlets.Dict().tag(sync=True)
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
            picture = viz.figure_picture(picture)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)  # written quickly
        self._picture = picture
        with self.hold_sync():
            self.png, self.alt, self.caption = buffer.getvalue(), alt, caption

    def reading(self, scene: Scene, names: Sequence[str]) -> None:
        """From now on the pointer reads the true and predicted class, and its probability."""
        sure = (100 * scene.probs.max(axis=0)).round()
        values = np.stack([scene.truth, scene.prediction, sure], axis=-1).astype(np.uint8)
        size = dict(zip(("height", "width"), scene.truth.shape, strict=True))
        self.pixels = {**size, "names": list(names), "values": values.tobytes()}

    def clear(self) -> None:
        self._picture = None
        with self.hold_sync():
            self.png, self.alt, self.caption = b"", "", ""


class Text(HTML):
    """Names and values, or a card. text: the same without HTML, for figures; caption: its title."""

    text = caption = ""

    def show(self, lines: Sequence[tuple[str, str]], title: str = "", links: Sequence[str] = ()):
        """Names and values side by side, or under a title, each in its own line.

        links: names of notebooks, which lead there where they stand in a value.
        """
        escape = html.escape
        if title:
            head = f'<b style="font-size:1.25em" aria-current="true">{escape(title)}</b>'
            named = (
                f"<b>{escape(name)}</b> {escape(value)}".removeprefix("<b></b> ")
                for name, value in lines
            )
            body = "<br>".join([head, *named])
        else:
            body = " · ".join(f"{escape(name)}: <b>{escape(value)}</b>" for name, value in lines)
        for name in links:
            body = body.replace(name, f'<a href="{name}.ipynb" target="_blank">{name}</a>')
        self.value = f'<div style="line-height:1.5; max-width:900px">{body}</div>'
        texts = [f"{name}: {value}" if name else value for name, value in lines]
        self.text, self.caption = ("\n" if title else " · ").join(texts), title

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
    title: of the figure.
    """

    title = ""

    def __init__(self):
        super().__init__()
        self.add_class("labor-view").add_class(f"labor-{type(self).__name__}")
        self.status = HTML()
        self.error = ""  # what the status says
        self.lines: list[list] = []  # the parts, those side by side together
        self._busy, self._turn = False, RLock()

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}: run this cell for the live version; the figure below shows the same"

    def _build(self, *controls, parts: list) -> None:
        """Controls above, parts below; then `_start`, and `_update` after any change."""
        self.lines = [part if isinstance(part, list) else [part] for part in parts]
        for line in self.lines:
            for part in line if len(line) > 1 else ():
                part.layout = Layout(flex="1 1 400px", min_width="0")
        rows = [row(*line, align="flex-end") for line in self.lines]
        self.children = [*controls, self.status, *rows]
        self._guarded(self._start)

    def _start(self) -> None:
        """What happens once, before the first change."""
        self._update()

    def _update(self) -> None:
        raise NotImplementedError

    def figure(self) -> Figure:
        """The static figure that says the same as the view does now."""
        return viz.note_figure(self.error) if self.error else self._picture()

    def _picture(self) -> Figure:
        """The figure of the present state: the parts, one below the other."""
        shown = [[(p.shown, p.caption) for p in line if p.shown is not None] for line in self.lines]
        return viz.stacked([line for line in shown if line], self.title)

    def _guarded(self, action: Callable[[], None], failed: str = "Not shown") -> None:
        """Do it; an error becomes the status. Changes that the action makes start nothing.

        failed: what the status says of an error before its reason.
        """
        with self._turn:  # JupyterLab hands a change to a second thread while the first one draws
            if self._busy:
                return
            self._busy, self.error = True, ""
            try:
                action()
            except Exception as error:  # whatever it is, the reader gets a line, not a traceback
                self.error = in_a_line(error)
                for part in chain(*self.lines):  # nothing rather than what is no longer chosen
                    part.clear()
            finally:
                self._busy = False
            words = f'<p role="alert" style="{_ALERT}">{failed}: {html.escape(self.error)}</p>'
            self.status.value = words if self.error else ""

    def _on(self, *controls, action: Callable[[], None] | None = None) -> None:
        """Call the action (`_update` if none is given) after a change of any of the controls."""
        for control in controls:
            if isinstance(control, Button):
                control.on_click(lambda _: self._guarded(action or self._update))
            else:
                control.observe(lambda _: self._guarded(action or self._update), names="value")


_ALERT = "line-height:1.4; border-left:4px solid #d55e00; padding:2px 8px; margin:2px 0"


def in_a_line(error: BaseException) -> str:
    """What a reader is told; the kind of error where it is not about the input."""
    named = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return " ".join(f"{named}{error}".split())


class RunPanel(Panel):
    """A view of `run`, a run of segmentation. A subclass sets `run` before it calls `_build`.

    Where other runs of its kind (small ones or not) are finished, the dropdown `runs` opens the
    same view of another one in this one's place. `figure` stays that of `run`.
    """

    runs: Dropdown | None = None

    def _build(self, *controls, parts: list) -> None:
        super()._build(*controls, parts=parts)
        here = self.run.folder.resolve()
        others = [run for run in finished_runs() if run.folder.resolve() != here]
        others = [run for run in others if run.small == self.run.small]
        if others:
            named = [(run.folder.name, run) for run in (self.run, *others)]
            self.runs = dropdown("run", named, "which finished run is shown", "290px")
            self.children = [self.runs, *self.children]
            self._views = {}  # run -> what its view shows below the dropdown
            self.runs.observe(self._switch, names="value")

    def _switch(self, change) -> None:
        self._views[change.old] = self.children[1:]
        if change.new not in self._views:
            view = type(self)(change.new)
            self._views[change.new] = [part for part in view.children if part is not view.runs]
        self.children = [self.runs, *self._views[change.new]]


class Questions(Panel):
    """A panel that begins with questions of a few answers each.

    questions: name -> text, answers (answer -> its words). answers: those to begin with.
    Control: questions, the buttons by name.
    """

    def __init__(self, questions: dict[str, dict], answers: dict[str, str], width: str):
        super().__init__()
        self._asked, self._wish, self.questions = questions, answers, {}
        for name, question in questions.items():
            options = [(words, answer) for answer, words in question["answers"].items()]
            tips = [f"{question['text']} {words}" for words, _ in options]
            self.questions[name] = buttons(question["text"], options, tips, width)
            self.questions[name].style.description_width = "270px"

    def answers(self) -> dict[str, str]:
        """The answer to every question, asked or not."""
        return {name: control.value for name, control in self.questions.items()}

    def _start(self) -> None:
        check_answers(self._asked, self._wish)
        for name, answer in self._wish.items():
            self.questions[name].value = answer
        self._update()


# ---------------------------------------------------------------------------- kinds of controls


def row(*children, align: str = "center") -> HBox:
    """Side by side, going on in the next line where the page is narrow."""
    layout = Layout(flex_flow="row wrap", align_items=align, grid_gap="4px 18px")
    return HBox(children, layout=layout)


def wide(text: str) -> dict:
    """Keyword arguments of a control whose description is not cut off."""
    return {"description": text, "style": {"description_width": "initial"}}


def button(text: str, tooltip: str) -> Button:
    return Button(description=text, tooltip=tooltip, layout=Layout(width="auto"))


def check_box(text: str, value: bool, tooltip: str = "") -> Checkbox:
    look = {"indent": False, "tooltip": tooltip or text, "layout": Layout(width="auto")}
    return Checkbox(value, description=text, **look)


def dropdown(text: str, options: Iterable, tooltip: str, width: str) -> Dropdown:
    layout = Layout(width=width, max_width="100%")
    return Dropdown(options=list(options), tooltip=tooltip, layout=layout, **wide(text))


def buttons(text: str, options: Iterable, tooltips: Sequence[str], width: str) -> ToggleButtons:
    """One of a few, beside its description."""
    layout = Layout(width="auto", display="flex", flex_flow="row wrap", align_items="center")
    control = ToggleButtons(
        options=list(options), tooltips=list(tooltips), layout=layout, description=text
    )
    control.style.description_width = f"{0.55 * len(text) + 0.9:.1f}em"
    control.style.button_width = width
    return control


def player(text: str, labels: Iterable, tooltip: str, interval: int) -> tuple:
    """A slider over numbered frames, and the buttons that play them; interval: milliseconds."""
    options = [(str(label), k) for k, label in enumerate(labels)]
    last = len(options) - 1
    slider = SelectionSlider(
        options=options, value=last, tooltip=tooltip, layout=Layout(width="400px"), **wide(text)
    )
    play = Play(value=last, min=0, max=last, interval=interval, tooltip=f"play: {tooltip}")
    link((play, "value"), (slider, "value"))
    return play, slider


def values_of(control) -> list:
    """What the control can be set to."""
    return [option[1] if isinstance(option, tuple) else option for option in control.options]


def pick(control, value) -> None:
    """Set it; raises InputError for what is none of its options."""
    values = values_of(control)
    if value not in values:
        known = ", ".join(map(str, values))
        raise InputError(f"{control.description} '{value}': choose from {known}")
    control.value = value


def choose(control, options: Iterable, value) -> None:
    """Other options for a control; keeps its value, or takes `value` where that is gone."""
    options, kept = list(options), control.value
    if list(control.options) != options:
        control.options = options
    control.value = kept if kept in values_of(control) else value
