"""A sheet on which a person answers a store's questions, one at a time, by mouse or by keyboard.

The browser (annotate.js) has the next questions' pictures in advance and shows the next one at
once; an answer counts as saved when Python has said so. An answer that cannot be saved is a line
in the status, and its question comes back.
"""

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from statistics import median

import anywidget
import numpy as np
import traitlets
from ipywidgets import Layout
from ipywidgets import Text as Entry
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from labor_lib.annotation.store import Question, Store
from labor_lib.data.pictures import read_rgb
from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.ui.controls import Panel, in_a_line, row, wide
from labor_lib.labels import IGNORE

# u, s and b undo, skip and take the brush; 0 and ? say "cannot tell"
CLASS_KEYS = "123456789acdefghijklmnopqrtvwxyzACDEFGHIJKLMNOPQRTVWXYZ"
AHEAD = 4  # questions that the browser has
LONGEST = 1600  # pixels of the longer side of a picture that is sent
TYPICAL = 5  # answers that a median needs


class AnswerSheet(anywidget.AnyWidget):
    """What the browser shows and takes. annotate.js says which messages go both ways.

    classes: name, colour ("#rrggbb") and key of each. progress: answered, open, and left, the
    seconds that the open ones should take (None: unknown).
    """

    _esm = Path(__file__).with_name("annotate.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("annotate.css").read_text(encoding="utf-8")
    classes = traitlets.List().tag(sync=True)
    progress = traitlets.Dict().tag(sync=True)


class AnnotationWidget(Panel):
    """Asks a store's open questions and saves the answers.

    store: open, or its file, or the folder with its `store.sqlite`. Control: annotator, a name.
    questions: those that the browser has, by number, the one to answer first.
    """

    def __init__(self, store: Store | Path | str, annotator: str = "you"):
        super().__init__()
        self._place, self.store = store, None
        self.questions: dict[int, Question] = {}
        # the photograph of a name as stored, h x w x 3 uint8
        self._photo = lru_cache(maxsize=2)(lambda name: read_rgb(self.store.image_path(name)))
        self._name, self._seconds = "", []  # this annotator's
        self.annotator = Entry(
            annotator, continuous_update=False, layout=Layout(width="300px"),
            tooltip="answers are kept under this name", **wide("your name"),
        )  # fmt: skip
        self.sheet = AnswerSheet(layout=Layout(width="100%"))
        self.sheet.on_msg(self._receive)
        self._build(row(self.annotator), parts=[])
        self.children = [*self.children, self.sheet]  # no part: an error takes no question away
        self._on(self.annotator)

    # ------------------------------------------------------------------------------- questions

    def _start(self) -> None:
        if isinstance(self._place, Store):
            self.store = self._place
        else:
            path = Path(self._place)
            self.store = Store(path / "store.sqlite" if path.is_dir() else path)
        colours = ("#{:02x}{:02x}{:02x}".format(*map(int, one)) for one in self.store.colours)
        keys = CLASS_KEYS.ljust(len(self.store.classes))
        self.sheet.classes = [
            {"name": name, "colour": colour, "key": key.strip()}
            for name, colour, key in zip(self.store.classes, colours, keys, strict=False)
        ]
        self._update()

    def _update(self) -> None:
        """Begin, with this name."""
        if self.questions:
            self.store.release(self._name)  # for another, or for this name again
        self.questions, self._seconds = {}, []
        self.sheet.send({"is": "begin"})
        self._name = self.annotator.value.strip()
        if not self._name:
            raise InputError("your name: write one, answers are kept under it")
        answers = self.store.answers()
        self._seconds = answers["seconds"][answers["annotator"] == self._name].dropna().tolist()
        self._go_on()

    def _go_on(self) -> None:
        """Count, and send the next open questions until the browser has `AHEAD`."""
        table = self.store.progress()
        answered, still = int(table["answered"].sum()), int(table["open"].sum())
        known = len(self._seconds) >= TYPICAL
        left = still * median(self._seconds) if known else None
        self.sheet.progress = {"answered": answered, "open": still, "left": left}
        for after in (max(self.questions, default=0), 0):  # from the start: those skipped
            while len(self.questions) < AHEAD:
                question = self.store.next(self._name, after)
                if question is None:
                    break
                after = question.id
                if question.id not in self.questions:
                    self._put(question)
        if not self.questions:
            self.sheet.send({"is": "end"})

    def _put(self, question: Question, first: bool = False) -> None:
        """Send a question; its photograph only where no other question there has the same."""
        there = any(other.image == question.image for other in self.questions.values())
        order = [(question.id, question), *self.questions.items()]
        self.questions = dict(order if first else [*order[1:], order[0]])
        message = {
            "is": "question", "first": first, "id": question.id, "kind": question.kind,
            "image": question.image, "guess": int(question.guess), "size": list(question.size),
        }  # fmt: skip
        buffers = [np.asarray(question.positions, "<u4").tobytes()]
        try:
            photo = self._photo(question.image)
        except (InputError, OSError) as error:
            message["problem"] = in_a_line(error)
        else:
            native = photo.shape[:2]
            look = window(question, native)
            message |= {"native": list(native), "look": list(look), "photo": not there}
            if not there:
                buffers.append(_jpeg(photo))
            if max(native) > LONGEST:  # the photograph is sent reduced: this part, sharp
                message["part"] = inside(look, native)
                left, top, width, height = message["part"]
                buffers.append(_jpeg(photo[top : top + height, left : left + width]))
        self.sheet.send(message, buffers)

    # ------------------------------------------------------------------- what the browser says

    def _receive(self, _sheet, message: dict, _buffers) -> None:
        """Do what a message says; the browser hears of a failure, too."""
        action: Callable[[dict], None] = {
            "begin": self._begin, "answer": self._answer, "skip": self._skip, "undo": self._undo,
        }[message["do"]]  # fmt: skip
        failed = {"answer": "Not saved", "undo": "Not taken back"}.get(message["do"], "Not shown")
        self._guarded(lambda: action(message), failed)
        if self.error:
            told = {"is": "failed", "id": message.get("id"), "why": f"{failed}: {self.error}"}
            self.sheet.send(told)
        elif message["do"] != "begin":
            self._guarded(self._go_on)

    def _begin(self, _message: dict) -> None:
        """A browser opens the sheet (again), or looks whether there is more."""
        if self.store is None:  # it could not be opened
            self._start()
        again, self.questions = list(self.questions.values()), {}
        self.sheet.send({"is": "begin"})
        for question in again:
            self._put(question)
        self._go_on()

    def _answer(self, message: dict) -> None:
        parts = [(np.array(at, np.int64), int(label)) for at, label in message["parts"]] or None
        number, seconds = message["id"], float(message["seconds"])
        self.store.answer(number, self._name, int(message["label"]), seconds, parts)
        self.questions.pop(number, None)
        self._seconds.append(seconds)
        self.sheet.send({"is": "done", "id": number})

    def _skip(self, message: dict) -> None:
        self.questions.pop(message["id"], None)
        self.sheet.send({"is": "done", "id": message["id"]})

    def _undo(self, _message: dict) -> None:
        question = self.store.undo(self._name)
        if question is None:
            self.sheet.send({"is": "nothing to undo"})
            return
        self._seconds = self._seconds[:-1]
        self.questions.pop(question.id, None)
        self._put(question, first=True)

    # ---------------------------------------------------------------------------------- figure

    def _picture(self) -> Figure:
        if not self.questions:
            return viz.note_figure("No question is open.")
        question = next(iter(self.questions.values()))
        try:
            whole = self._photo(question.image)
        except InputError as error:
            return viz.note_figure(in_a_line(error))
        guess = "none" if question.guess == IGNORE else self.store.classes[question.guess]
        photo = marked(whole, question)
        left, top, width, height = inside(window(question, photo.shape[:2]), photo.shape[:2])
        words = f"{question.kind} {question.id} in {question.image}; the model's guess: {guess}"
        near = photo[top : top + height, left : left + width]
        return viz.stacked([[(near, words), (photo, "where it is")]])


def window(question: Question, native: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, width, height of the part to look at, in the photograph's pixels.

    The place is in its middle, so it may reach beyond the photograph.
    """
    boxes = question.cells(native)
    left, top, right, bottom = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
    width = max(native[1] / 3, 32 * native[1] / question.size[1], 1.6 * (right - left))
    width = max(width, 4 / 3 * 1.6 * (bottom - top))
    height = 0.75 * width
    x, y = (left + right) / 2, (top + bottom) / 2
    return float(x - width / 2), float(y - height / 2), float(width), float(height)


def inside(look: tuple, native: tuple[int, int]) -> list[int]:
    """The part of a window that is in the photograph, in whole pixels."""
    left, top, width, height = look
    x, y = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(left + width) + 1, native[1]), min(int(top + height) + 1, native[0])
    return [x, y, right - x, bottom - y]


def marked(photo: np.ndarray, question: Question) -> np.ndarray:
    """The photograph with an outline round the asked pixels, and lines that lead to a point."""
    native = photo.shape[:2]
    boxes = question.cells(native)
    there = np.zeros(native, bool)
    for left, top, right, bottom in np.round(boxes).astype(int):
        there[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    width = max(1, round(max(native) / 400))
    white = binary_dilation(there, iterations=width) & ~there
    black = binary_dilation(there, iterations=2 * width) & ~there & ~white
    picture = photo.copy()
    picture[white], picture[black] = 255, 0
    if question.kind == "point":
        x, y = (boxes[0, :2] + boxes[0, 2:]) / 2
        image = Image.fromarray(picture)
        draw, (near, far) = ImageDraw.Draw(image), (6 * width, 20 * width)
        for colour, thick in (("black", 3 * width), ("white", width)):
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                ends = [x + near * dx, y + near * dy, x + far * dx, y + far * dy]
                draw.line(ends, fill=colour, width=thick)
        picture = np.asarray(image)
    return picture


def _jpeg(picture: np.ndarray) -> bytes:
    """h x w x 3 uint8 as a JPEG of high quality, reduced where it is larger than `LONGEST`."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((LONGEST, LONGEST))
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
