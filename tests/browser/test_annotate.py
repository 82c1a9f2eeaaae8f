"""The sheet of questions in Chromium: mouse alone, keyboard alone, and once as `make annotate`."""

import os

import numpy as np
import pytest
from asking import PIECE, SIZE, make_store
from browser.conftest import served_by_make
from browser.sheet import open_sheet
from playwright.sync_api import expect

from labor_lib.annotation.store import Store
from labor_lib.lab.ui.annotate import AnnotationWidget
from labor_lib.selection.record import Selection

ANSWERED = ".labor-annotate-count"


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


@pytest.fixture
def sheet(page, store):
    """The sheet of a store with six points, then a piece."""
    open_sheet(page, AnnotationWidget(store, "ann"))
    return page


def labels(store):
    return dict(store.answers()[["question", "label"]].to_numpy().tolist())


def expect_answers(page, store, expected):
    expect(page.locator(ANSWERED)).to_contain_text(f"{len(expected)} answered")
    assert labels(store) == expected


def press(page, name):
    page.get_by_role("button", name=name).click()


def test_mouse_alone(sheet, store):
    press(sheet, "road")
    expect_answers(sheet, store, {1: 0})
    press(sheet, "Confirm: car")
    press(sheet, "Cannot tell")
    expect_answers(sheet, store, {1: 0, 2: 2, 3: 255})
    press(sheet, "Undo")
    expect_answers(sheet, store, {1: 0, 2: 2})
    expect(sheet.locator(".labor-annotate-asked")).to_contain_text("<i>one</i>.png")  # escaped
    assert sheet.locator(".labor-annotate i, .labor-annotate b").count() == 0
    press(sheet, "Skip")
    press(sheet, "<b>sky</b>")
    expect_answers(sheet, store, {1: 0, 2: 2, 4: 1})


def test_keyboard_alone(sheet, store):
    for key in ("2", "Enter", "0"):  # without waiting: none is lost
        sheet.keyboard.press(key)
    expect_answers(sheet, store, {1: 1, 2: 2, 3: 255})
    sheet.keyboard.press("Backspace")
    expect_answers(sheet, store, {1: 1, 2: 2})
    for key in ("?", "Enter"):  # the model has no guess in the second photograph
        sheet.keyboard.press(key)
    expect(sheet.locator(".labor-annotate-word")).to_contain_text("no guess")
    expect_answers(sheet, store, {1: 1, 2: 2, 3: 255})
    for key in ("s", "1", "1"):  # the skipped one comes last
        sheet.keyboard.press(key)
    expect_answers(sheet, store, {1: 1, 2: 2, 3: 255, 5: 0, 6: 0})
    for key in ("b", "3", "Shift+ArrowUp", "1", "Enter"):  # split the piece
        sheet.keyboard.press(key)
    expect(sheet.locator(ANSWERED)).to_contain_text("6 answered")
    parts = store.answers("spl")
    assert sorted(parts["label"]) == [0, 2]
    assert sorted(np.concatenate(parts["positions"].to_list())) == PIECE
    sheet.keyboard.press("2")
    expect(sheet.locator(".labor-annotate-asked")).to_have_text("Every question is answered.")


def test_a_piece_is_split_with_the_mouse(page, store):
    for number in range(1, 7):
        store.answer(number, "ann", 0)
    open_sheet(page, AnnotationWidget(store, "ann"))
    near = page.locator(".labor-annotate-near")
    box = near.bounding_box()
    width = box["width"] / 32  # of a cell: the window shows at least 32
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def at(row, column):  # rows 1 and 2, columns 4 to 6; the middle is at row 2, column 5.5
        return middle[0] + (column + 0.5 - 5.5) * width, middle[1] + (row + 0.5 - 2) * width

    press(page, "Split")
    press(page, "car")
    page.mouse.move(*at(2, 6))
    page.mouse.down()
    page.mouse.move(*at(2, 5))
    page.mouse.up()
    press(page, "road")
    press(page, "Finish: the rest is road")
    expect(page.locator(ANSWERED)).to_contain_text("7 answered")
    asked = Selection(SIZE, [np.array(PIECE), np.empty(0, np.int64)])
    found = store.collect("spl", asked)[0].labels(0).reshape(-1)[PIECE]
    assert dict(zip(PIECE, found.tolist(), strict=True)) == {20: 0, 21: 0, 36: 0, 37: 2, 38: 2}


def test_an_answer_that_is_not_saved_comes_back(sheet, store, monkeypatch):
    def fail(*_):
        raise OSError("disk <b>full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "answer", fail)
        sheet.keyboard.press("1")
        word = sheet.locator(".labor-annotate-word")
        expect(word).to_have_text("Not saved: OSError: disk <b>full")
    expect(sheet.get_by_role("button", name="Confirm: car")).to_be_enabled()
    sheet.keyboard.press("3")
    expect_answers(sheet, store, {1: 2})
    expect(word).to_be_hidden()


def test_make_annotate(page, store):
    """The Makefile's command on another port: a click and a key land in the store."""
    target = "annotate", f"FOLDER={store.path.parent}", "ANNOTATOR=ann"
    os.environ["LABOR_FOLDER"], os.environ["LABOR_ANNOTATOR"] = str(store.path.parent), "ann"
    try:
        with served_by_make(*target) as (url, said):
            assert 'LABOR_FOLDER="$folder" LABOR_ANNOTATOR="ann"' in said
            page.goto(url, timeout=240_000)
            page.locator(".labor-annotate-near").wait_for(timeout=240_000)
            press(page, "road")
            page.keyboard.press("Enter")
            expect(page.locator(ANSWERED)).to_contain_text("2 answered", timeout=30_000)
            page.get_by_label("your name").fill("bob")
            page.keyboard.press("Enter")
            page.locator(".labor-annotate-asked").click()
            page.keyboard.press("2")
            expect(page.locator(ANSWERED)).to_contain_text("3 answered", timeout=30_000)
    finally:
        del os.environ["LABOR_FOLDER"], os.environ["LABOR_ANNOTATOR"]
    saved = Store(store.path).answers()[["question", "annotator", "label"]]
    assert saved.to_numpy().tolist() == [[1, "ann", 0], [2, "ann", 2], [3, "bob", 1]]
