"""Questions out to other tools and answers in: round trips, files as the tools write them, errors."""

import json
import xml.etree.ElementTree as xml
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from labor_lib.__main__ import main
from labor_lib.annotation.exchange import CANNOT_TELL, FORMATS, export_questions, import_answers
from labor_lib.annotation.store import Store
from labor_lib.errors import InputError
from labor_lib.selection.record import Selection

CLASSES = ("road", "it's 5 % \"grey\" <b>&amp;", "car")
NAMES = ('a "quoted" <b>&amp; name', "b")
SIZE = (10, 20)  # the network's
needs_sdk = pytest.mark.skipif(
    not find_spec("label_studio_sdk"), reason="needs label-studio-sdk (the extra 'exchange')"
)


def make(folder, native=(20, 40), points=((), ()), segments=None, size=SIZE) -> Store:
    """A store that asks points, (row, column) each, of two images, and segments of the first."""
    paths = [folder / "it's 50 % & more/a 1#.png", folder / "b.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", native[::-1]).save(path)
    store = Store.create(folder / "store.sqlite", CLASSES, np.eye(3, dtype=int) * 255)
    store.add_images(NAMES, paths)
    flat = [np.array([r * size[1] + c for r, c in one], np.int64) for one in points]
    guesses = [np.arange(len(one)) % 3 for one in flat]
    store.ask(Selection(size, flat), "ppl/seed0/stage1", images=NAMES, guesses=guesses)
    if segments is not None:
        asked = Selection(size, [np.flatnonzero(segments), np.empty(0, np.int64)])
        store.ask(asked, "spl/seed0/stage1", kind="segment", images=NAMES)
    return store


def given(store) -> dict:
    """{question: {position: class}} of all answers."""
    found: dict = {}
    for row in store.answers().itertuples():
        found.setdefault(row.question, {}).update(dict.fromkeys(row.positions.tolist(), row.label))
    return found


def answer(format: str, path, labels: dict[int, str], keep_numbers=True) -> None:
    """What a person does in a tool to a file of questions. labels: of each question."""
    if format == "cvat":
        tree = xml.parse(path)
        for shape in [*tree.iter("points"), *tree.iter("mask")]:
            number = shape.find("attribute[@name='question']")
            shape.set("label", labels[int(number.text)])
            if not keep_numbers:
                number.text = None
        tree.write(path)
        return
    told = json.loads(path.read_text(encoding="utf-8"))
    if format == "coco":
        numbers = {one["name"]: one["id"] for one in told["categories"]}
        for one in told["annotations"]:
            one["category_id"] = numbers[labels[one["id"]]]
            one["id"] += 0 if keep_numbers else 1000
    else:
        for task in told:
            (suggested,) = task.pop("predictions")
            for region in suggested["result"]:
                number = int(region["id"].removeprefix("question-"))
                region["value"][region["type"]] = [labels[number]]
                region["image_rotation"] = 90  # looked at from the side
                if not keep_numbers:
                    region["id"] = "Dx_aB91ISN"
            person = {"id": 7, "email": "ann@example.org"}
            one = {"completed_by": person, "lead_time": 6.0, "result": suggested["result"]}
            skipped = {"completed_by": person, "was_cancelled": True, "result": [{}]}
            task["annotations"] = [one, skipped]
    path.write_text(json.dumps(told), encoding="utf-8")


PIECES = np.zeros(SIZE, bool)
PIECES[1:4, 2:6] = PIECES[6, 19] = PIECES[8:, :3] = True
PIECES[9, 2] = False
POINTS = (((0, 0), (2, 3), (2, 4), (9, 19)), ((5, 5),))
ROUNDS = [
    pytest.param(format, kind, marks=needs_sdk if (format, kind) == (FORMATS[0], "segment") else ())
    for format in FORMATS
    for kind in ("point", "segment")
]


@pytest.mark.parametrize("keep_numbers", [True, False])
@pytest.mark.parametrize("native", [(20, 40), (10, 20), (33, 47), (8, 15)])
@pytest.mark.parametrize(("format", "kind"), ROUNDS)
def test_a_round_trip_loses_nothing(format, kind, native, keep_numbers, tmp_path):
    segments = PIECES if kind == "segment" else None
    store = make(tmp_path, native, POINTS if kind == "point" else ((), ()), segments)
    asked = {one.id: one for one in store.questions()}
    assert len(asked) == {"point": 5, "segment": 3}[kind]
    out = tmp_path / "questions"
    count, files = export_questions(store, format, out)
    assert (count, files[0]) == (len(asked), out)
    if format != "label-studio":  # whose suggestions are no answers
        assert import_answers(store, format, out) == (0, 0)
    labels = {number: (*CLASSES, CANNOT_TELL)[number % 4] for number in asked}
    answer(format, out, labels, keep_numbers)
    assert import_answers(store, format, out) == (len(asked), 0)
    assert import_answers(store, format, out) == (len(asked), 0)  # replaces, never doubles
    assert given(store) == {
        number: dict.fromkeys(one.positions.tolist(), (0, 1, 2, 255)[number % 4])
        for number, one in asked.items()
    }
    table = store.answers()
    assert not table["question"].duplicated().any()
    if format == "label-studio":
        assert set(table["annotator"]) == {"ann@example.org"}
        assert table.groupby("image")["seconds"].sum().eq(6).all()
    else:
        assert set(table["annotator"]) == {format}
        assert table["seconds"].isna().all()
    with pytest.raises(InputError, match="no question is open"):
        export_questions(store, format, out)
