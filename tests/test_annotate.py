"""The sheet of questions, without a browser: what it sends, and what messages do to the store.

The store is that of asking.py.
"""

import io

import numpy as np
import pytest
from asking import NATIVE, PIECE, SIZE, make_store, pixel
from PIL import Image

from labor_lib.annotation.store import Store
from labor_lib.errors import InputError
from labor_lib.lab.ui import annotate
from labor_lib.lab.ui.annotate import AHEAD, CLASS_KEYS, AnnotationWidget, inside, window
from labor_lib.selection.record import Selection


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


class Browser:
    """What a browser would hear and say. questions: by number, as they came."""

    def __init__(self, widget):
        self.widget, self.told, self.questions = widget, [], {}
        widget.sheet.send = self.hear
        self.say("begin")

    def hear(self, message, buffers=()):
        self.told.append(message["is"])
        self.last = message
        if message["is"] == "question":
            self.questions[message["id"]] = (message, list(buffers))

    def say(self, do, **more):
        self.told = []
        self.widget._receive(self.widget.sheet, {"do": do, **more}, [])

    def answer(self, number, label, seconds=2.0, parts=()):
        self.say("answer", id=number, label=label, seconds=seconds, parts=list(parts))


def words(figure):
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def table(store):
    return store.answers()[["question", "annotator", "label", "seconds"]].to_numpy().tolist()


def test_an_answer_lands_in_the_store_once(store):
    browser = Browser(AnnotationWidget(store, "ann"))
    assert list(browser.questions) == [1, 2, 3, 4]  # in advance
    browser.answer(1, 2)
    assert browser.told[:1] == ["done"]
    assert list(browser.questions) == [1, 2, 3, 4, 5]
    browser.answer(1, 0, 3.0)  # once more, from another tab
    browser.answer(2, 255)
    assert table(store) == [[1, "ann", 0, 3.0], [2, "ann", 255, 2.0]]
    assert browser.widget.sheet.progress == {"answered": 2, "open": 5, "left": None}
    for number in (3, 4, 5):
        browser.answer(number, 1, 10.0)
    assert browser.widget.sheet.progress["left"] == 2 * 6.5  # median of 2, 3, 2, 10, 10, 10
    browser.answer(6, 0)
    browser.answer(7, 0)
    assert browser.told == ["done", "end"]


def test_a_question_shows_its_square_of_the_photograph(store):
    messages = Browser(AnnotationWidget(store, "ann")).questions
    assert [len(buffers) for _, buffers in messages.values()] == [2, 1, 1, 2]  # a photograph once
    message, (positions, photo) = messages[4]
    assert np.frombuffer(positions, "<u4").tolist() == [17]
    assert (message["image"], message["guess"], message["native"]) == ("two.png", 255, [48, 96])
    shown = np.asarray(Image.open(io.BytesIO(photo)))
    assert shown.shape == (*NATIVE, 3)
    (red,) = np.unique(shown[pixel(17)][1:-1, 1:-1, 0] > 200)
    assert red
    left, top, width, height = message["look"]
    assert (left + width / 2, top + height / 2) == (9.0, 9.0)  # the middle of the square


@pytest.mark.parametrize("position", [0, 17, 127])
def test_the_square_of_a_position_in_a_photograph_of_another_shape(store, position):
    question = store.question(1)
    object.__setattr__(question, "positions", np.array([position]))
    (box,) = question.cells((20, 96))  # 2.5 x 6 pixels
    row, column = divmod(position, 16)
    assert box.tolist() == [6 * column, 2.5 * row, 6 * column + 6, 2.5 * row + 2.5]
    left, top, width, height = inside(window(question, (20, 96)), (20, 96))
    assert 0 <= left <= box[0] < box[2] <= left + width <= 96
    assert 0 <= top <= box[1] < box[3] <= top + height <= 20


def test_of_a_large_photograph_the_place_is_sent_sharp(store, monkeypatch):
    monkeypatch.setattr(annotate, "LONGEST", 60)
    place = np.array([10 * 96 + 60])
    store.ask(Selection(NATIVE, [place, place[:0]]), "fine", images=list(store.images()["name"]))
    browser = Browser(AnnotationWidget(store, "ann"))
    browser.widget.questions = {}
    browser.widget._put(store.question(8))
    message, (_, photo, part) = browser.questions[8]
    assert Image.open(io.BytesIO(photo)).size == (60, 30)
    left, top, width, height = message["part"]
    assert left <= 60 < left + width < 96
    assert 0 == top <= 10 < height < 48
    assert Image.open(io.BytesIO(part)).size == (width, height)


def test_undo_brings_the_last_question_back_first(store):
    widget = AnnotationWidget(store, "ann")
    browser = Browser(widget)
    browser.say("undo")
    assert browser.told == ["nothing to undo"]
    browser.answer(1, 2)
    browser.answer(2, 2)
    browser.say("undo")
    assert (browser.last["id"], browser.last["first"]) == (2, True)
    assert next(iter(widget.questions)) == 2
    assert [row[0] for row in table(store)] == [1]
    assert len(widget._seconds) == 1


def test_skipped_questions_come_at_the_end(store):
    browser = Browser(AnnotationWidget(store, "ann"))
    browser.say("skip", id=1)
    for number in range(2, 8):
        browser.questions.pop(1, None)
        browser.answer(number, 0)
    assert list(browser.widget.questions) == [1]
    assert len(table(store)) == 6


def test_a_piece_is_split(store):
    browser = Browser(AnnotationWidget(store, "ann"))
    for number in range(1, 7):
        browser.answer(number, 0)
    browser.answer(7, 1, parts=[([20, 36, 38], 1), ([21, 37], 2)])
    asked = Selection(SIZE, [np.array(PIECE), np.empty(0, np.int64)])
    labels = store.collect("spl", asked)[0].labels(0).reshape(-1)[PIECE]
    assert labels.tolist() == [1, 2, 1, 2, 1]


def test_keys_are_of_one_class_and_of_nothing_else(tmp_path):
    names = [f"class {number}" for number in range(60)]
    store = Store.create(tmp_path / "many.sqlite", names, np.zeros((60, 3)))
    classes = AnnotationWidget(store).sheet.classes
    keys = [one["key"] for one in classes if one["key"]]
    assert keys == list(CLASS_KEYS)
    assert len(set(keys)) == len(keys) == 55
    assert not set("0?usb+-=,. ") & set(keys)
    assert [one["name"] for one in classes] == names


def test_annotators_get_different_questions(store):
    first = Browser(AnnotationWidget(store, "ann"))
    second = Browser(AnnotationWidget(store, "bob"))
    assert list(second.questions) == [5, 6, 7]
    first.widget.annotator.value = "cleo"  # what ann was to answer is free again
    first.answer(1, 0)
    assert table(store) == [[1, "cleo", 0, 2.0]]
    assert len(first.widget.questions) == AHEAD - 1
    first.widget.annotator.value = " "
    assert "your name" in first.widget.error
    first.answer(2, 0)
    assert "Not saved" in first.widget.status.value
    assert len(table(store)) == 1


def test_a_failed_answer_is_told_and_its_question_stays(store, monkeypatch):
    widget = AnnotationWidget(store, "ann")
    browser = Browser(widget)

    def fail(*_):
        raise InputError("<b>disk</b> full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "answer", fail)
        browser.answer(1, 2)
    assert (browser.last["is"], browser.last["id"]) == ("failed", 1)
    assert "Not saved: &lt;b&gt;disk&lt;/b&gt; full" in widget.status.value
    assert next(iter(widget.questions)) == 1
    browser.answer(1, 2)
    assert (widget.status.value, table(store)) == ("", [[1, "ann", 2, 2.0]])


def test_a_damaged_photograph_stops_only_its_questions(store):
    store.image_path("<i>one</i>.png").write_bytes(b"no picture")
    browser = Browser(AnnotationWidget(store, "ann"))
    assert "was replaced" in browser.questions[1][0]["problem"]
    assert "problem" not in browser.questions[4][0]
    browser.answer(4, 0)
    assert len(table(store)) == 1
    assert "was replaced" in words(browser.widget.figure())


def test_a_folder_without_a_store_is_a_line(tmp_path):
    widget = AnnotationWidget(tmp_path / "<b>none")
    browser = Browser(widget)
    assert "no such file" in widget.error
    assert "<b>" not in widget.status.value
    assert browser.last["is"] == "failed"


def test_the_figure_shows_the_first_question(store):
    widget = AnnotationWidget(store.path.parent, "ann")
    assert "point 1 in <i>one</i>.png; the model's guess: car" in words(widget.figure())
    photo = widget._photo("<i>one</i>.png")
    shown = annotate.marked(photo, widget.questions[1])
    assert (shown[pixel(3)] == photo[pixel(3)]).all()  # the square itself stays free
    assert (shown != photo).any()
