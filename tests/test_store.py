"""The store loses no answer and doubles none; answers from it train like the oracle's."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import accepted, assert_same_run, refused
from PIL import Image

from labor_lib.__main__ import main
from labor_lib.annotation.store import Store, StoreAnnotator
from labor_lib.config import preset
from labor_lib.errors import InputError, Waiting
from labor_lib.lab.segmentation import Domains, Roots
from labor_lib.selection.record import Selection

NAMES = ["plain", 'it\'s "quoted"; DROP TABLE answer; --', "<b>a b</b> ü"]
FILES = ["a b.png", "it's.png", "ü.png"]
CLASSES, SIZE, NAME = ("road", "sky", "car"), (16, 32), "ppl/seed0/stage1"


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / name for name in FILES]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((32, 64, 3), i, np.uint8)).save(path)
    return paths


@pytest.fixture
def make(tmp_path, paths):
    """Makes a store that asks so many points of each image."""

    def make(points=4, wanted=1, **settings) -> Store:
        colours = [(128, 64, 128), (70, 130, 180), (0, 0, 142)]
        store = Store.create(tmp_path / "store.sqlite", CLASSES, colours, wanted)
        store.add_images(NAMES, paths)
        store.ask(selection(points), NAME, images=NAMES, **settings)
        return store

    return make


def selection(points: int) -> Selection:
    generator = np.random.default_rng(0)
    return Selection(SIZE, [generator.permutation(512)[:points] for _ in NAMES])


def truth(i: int) -> np.ndarray:
    labels = np.random.default_rng(i).integers(0, 4, 512).astype(np.uint8)
    return np.where(labels == 3, 255, labels).astype(np.uint8)


def fill(store, name: str, truth) -> None:
    """Answer a selection's questions by truth(number of an image), H x W or flat."""
    images = list(store.images()["name"])
    with store.together():
        for question in store.questions(name):
            labels = truth(images.index(question.image)).reshape(-1)[question.positions]
            parts = [(question.positions[labels == one], one) for one in np.unique(labels)]
            store.answer(question.id, "oracle", 255, None, parts)


def test_points_are_asked_in_order_and_their_answers_collected(make):
    asked, guesses = selection(4), [np.array([0, 1, 2, 255], np.uint8)] * 3
    store = make(guesses=guesses)
    store.ask(selection(4), NAME, images=NAMES)  # again: nothing happens
    expected = [
        (n, p, g)
        for n, many in zip(NAMES, asked.positions, strict=True)
        for p, g in zip(many, guesses[0], strict=True)
    ]
    for image, position, guess in expected:
        question = store.next("ann")
        assert (question.image, question.kind, question.size) == (image, "point", SIZE)
        assert (question.positions.tolist(), question.guess) == ([position], guess)
        assert store.collect(NAME, asked)[1] == len(store.questions()) - question.id + 1
        store.answer(question.id, "ann", position % 3, 2.0)
    assert store.next("ann") is None
    collected, lacking = store.collect(NAME, asked)
    assert lacking == 0
    for positions, answers in zip(asked.positions, collected.answers, strict=True):
        np.testing.assert_array_equal(answers, positions % 3)
        assert answers.dtype == np.uint8
    table = store.answers(NAME)
    assert (32 * table["row"] + table["column"]).tolist() == [p for _, p, _ in expected]
    assert table["image"].tolist() == [image for image, _, _ in expected]


def test_segments_are_connected_pieces_and_may_be_split(make):
    store = make()
    rows = "##..#...", ".#.#....", "....#.##"
    mask = np.array([[sign == "#" for sign in row] for row in rows])
    flat = np.flatnonzero(mask)
    asked = Selection((3, 8), [np.empty(0, np.int64), flat[::-1].copy(), np.empty(0, np.int64)])
    guesses = [[], (flat[::-1] > 8).astype(np.uint8), []]
    store.ask(asked, "spl", kind="segment", images=NAMES, guesses=guesses, stage=2)
    found = store.questions("spl")
    assert [q.positions.tolist() for q in found] == [[0, 1, 9], [4, 11, 20], [22, 23]]
    assert [q.guess for q in found] == [0, 1, 1]
    store.answer(found[0].id, "ann", 2, parts=[([9], 0)])
    store.answer(found[1].id, "ann", 255, parts=[([4, 11, 20], 1)])
    store.answer(found[2].id, "ann", 255)
    labels = store.collect("spl", asked)[0].labels(1).reshape(-1)
    assert {p: labels[p] for p in flat.tolist()} == {
        0: 2, 1: 2, 9: 0, 4: 1, 11: 1, 20: 1, 22: 255, 23: 255
    }  # fmt: skip
    assert store.answers("spl")["part"].tolist() == [0, 1, 0, 0]


def test_annotators_share_the_work(make, monkeypatch):
    store = make()
    first, second = store.next("ann"), store.next("bob")
    assert (first.id, second.id) == (1, 2)
    assert store.next("ann").id == 1
    assert store.next("ann", after=1).id == 3  # in advance; both are kept for her
    assert store.next("cleo", after=2) is None or store.next("cleo", after=2).id > 3
    store.release("ann")
    assert store.next("cleo").id == 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)  # bob went to lunch
    store.answer(1, "cleo", 0)
    assert store.next("ann").id == 2


def test_answers_are_replaced_and_taken_back(make):
    store = make()
    store.answer(2, "ann", 0, 1.0)
    store.answer(2, "ann", 1, 5.0)
    assert store.answers()[["question", "label", "seconds"]].to_numpy().tolist() == [[2, 1, 5]]
    assert store.progress().iloc[0]["answered"] == 1
    assert store.undo("bob") is None
    assert store.undo("ann").id == 2
    assert len(store.answers()) == 0
    assert store.progress().iloc[0]["open"] == 12


def test_the_majority_of_several_annotators(make):
    store = make(points=1, wanted=3)
    asked = selection(1)
    given = {"ann": (0, 1, 255), "bob": (0, 2, 255), "cleo": (1, 0, 2)}
    for name, labels in given.items():
        assert store.next(name).id == 1  # each sees every question, whoever has it
        for number, label in enumerate(labels, 1):
            store.answer(number, name, label)
        seen = Store(store.path)  # a second kernel
        assert set(seen.answers()["annotator"]) == set(list(given)[: list(given).index(name) + 1])
    collected, lacking = store.collect(NAME, asked)
    assert [part.tolist() for part in collected.answers] == [[0], [255], [255]]
    assert lacking == 0


def test_held_out_answers_are_marked_and_not_trained_on(make):
    store = make(points=100, held_out=0.2)
    fill(store, NAME, truth)
    table = store.answers()
    assert table["held_out"].sum() == 60 == store.progress()["held_out"].sum()
    collected, lacking = store.collect(NAME, selection(100))
    assert lacking == 0
    for i in range(3):
        aside = table[(table["image"] == NAMES[i]) & table["held_out"]]
        aside = (32 * aside["row"] + aside["column"]).tolist()
        expected = np.where(np.isin(np.arange(512), aside), 255, truth(i))
        positions = collected.positions[i]
        np.testing.assert_array_equal(collected.answers[i], expected[positions])


def test_seconds_are_a_median(make):
    store = make(points=10, wanted=2)
    for number in range(1, 11):
        store.answer(number, "ann", 0, number)
        store.answer(number, "bob", 1, number)
    store.answer(30, "ann", 0, 1000)
    assert store.seconds() == 6.0  # of 1, 1, ... 10, 10, 1000


# ------------------------------------------------------------------------ kills and company


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_lose_no_reported_answer_and_double_none(make):
    store = make(points=512)
    for more in "abc":  # enough for a fast disk
        store.ask(selection(512), more, images=NAMES)
    store.close()
    reported, pause = [], random.Random(0)
    for _ in range(100):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                own = Store(store.path)
                while question := own.next("ann"):
                    own.answer(question.id, "ann", question.id % 3, 1.0)
                    os.write(write, f"{question.id}\n".encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            first = pipe.readline()
            time.sleep(pause.random() / 100)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported += map(int, [first, *pipe.readlines()])
    table = Store(store.path).answers()
    assert len(reported) >= 100
    assert table["question"].is_unique
    assert set(reported) <= set(table["question"])
    assert len(table) <= len(reported) + 100
    assert (table["label"] == table["question"] % 3).all()


ANSWER_HALF = """
import sys
from labor_lib.annotation.store import Store
store = Store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
for _ in range(75):
    question = store.next(sys.argv[2])
    store.answer(question.id, sys.argv[2], 0)
    print(question.id)
"""


def test_two_processes_on_one_store(make):
    store = make(points=50)
    calls = [
        subprocess.Popen(
            [sys.executable, "-c", ANSWER_HALF, store.path, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("ann", "bob")
    ]  # fmt: skip
    for call in calls:
        assert call.stdout.readline() == "open\n"
    for call in calls:
        call.stdin.write("\n")
        call.stdin.flush()
    said = [sorted(map(int, call.communicate(timeout=120)[0].split())) for call in calls]
    assert all(call.returncode == 0 for call in calls)
    assert sorted(said[0] + said[1]) == list(range(1, 151))


def test_a_store_needs_no_torch():
    code = "import sys, labor_lib.annotation.store; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# -------------------------------------------------------------------------------- bad input

AWAY = np.array([512])
BAD = {  # message: what is done to a store with open points
    "has no class 3; give 0 to 2": lambda s, _: s.answer(1, "ann", 3),
    "class 7": lambda s, _: s.answer(1, "ann", 0, parts=[(s.question(1).positions, 7)]),
    "pixel that nobody asked": lambda s, _: s.answer(1, "ann", 0, parts=[(AWAY, 0)]),
    r"b\\udce9.png': rename it": lambda s, path: s.add_images(["b"], [path / "b\udce9.png"]),
    "in another part": lambda s, _: s.answer(1, "ann", 0, parts=[(s.question(1).positions, 0)] * 2),
    "no question 99": lambda s, _: s.answer(99, "ann", 0),
    "give a name": lambda s, _: s.answer(1, " ", 0),
    "cannot be read": lambda s, path: (path.unlink(), s.answer(1, "ann", 0)),
    "was replaced": lambda s, path: (path.write_bytes(b"other"), s.answer(1, "ann", 0)),
    "'plain' was replaced": lambda s, path: s.add_images(["plain"], [path.with_name("it's.png")]),
    "other questions": lambda s, _: s.ask(selection(5), NAME, images=NAMES),
    "no image 'x'": lambda s, _: s.ask(Selection(SIZE, [AWAY - 1]), "new", images=["x"]),
    "no questions called new": lambda s, _: s.collect("new", selection(4)),
    "asked of other images": lambda s, _: s.collect(NAME, Selection((8, 8), [AWAY] * 3)),
    "there is a file already": lambda s, _: Store.create(s.path, CLASSES, s.colours),
    # SQLite's own errors
    "disk is full; make room": lambda s, _: (
        s._db.execute("PRAGMA max_page_count = 1"),
        s.ask(selection(500), "new", images=NAMES),
    ),
    "readonly database; allow": lambda s, _: (
        s._db.execute("PRAGMA query_only = 1"),
        s.answer(1, "ann", 0),
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_clear_line_and_changes_nothing(make, paths, message):
    store = make()
    store.answer(5, "ann", 2)
    before = store.answers(), store.progress()
    with pytest.raises(InputError, match=message) as error:
        BAD[message](store, paths[0])
    assert "\n" not in str(error.value)
    again = Store(store.path)
    assert again.answers().equals(before[0])
    assert again.progress().equals(before[1])


def test_files_that_are_no_store(make, tmp_path):
    store = make()
    path = store.path
    other, text, damaged, newer = (tmp_path / f"{number}.sqlite" for number in range(4))
    sqlite3.connect(other).execute("CREATE TABLE answer (id)").connection.close()
    text.write_text("no database, but text that is longer than a header of SQLite " * 9)
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, newer)
    sqlite3.connect(newer).execute("PRAGMA user_version = 9").connection.close()
    content = path.read_bytes()
    damaged.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    for file, message in (
        (other, "not a store"), (text, "not a database; give a file"), (damaged, "damaged"),
        (newer, "not a store of answers of version 1"), (tmp_path / "no", "no such file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            Store(file)


# ----------------------------------------------------------------------------------- a run


def test_the_annotator_waits_and_measures(make, paths):
    store = make()
    folder = SimpleNamespace(names=NAMES, paths=paths, native_size=lambda _: (32, 64))
    person = StoreAnnotator(store, folder)
    with pytest.raises(Waiting, match=f"12 questions of {NAME}"):
        person.ask(selection(4), NAME)
    for question in store.questions():
        store.answer(question.id, "ann", 1, 0.5)
    answered, costs = person.ask(selection(4), NAME)
    assert [part.tolist() for part in answered.answers] == [[1] * 4] * 3
    assert [(cost.pixels, cost.seconds) for cost in costs] == [(16.0, 2.0)] * 3


def test_a_run_that_asks_people_equals_one_that_asks_the_oracle(tmp_path, capsys):
    def run(out, *more) -> list[str]:
        command = ["run", "--preset", "smoke", "--methods", "ppl,spl", "--stages", "2"]
        return [*command, "--data", str(tmp_path / "data"), "--out", str(out), *more]

    oracle, person = tmp_path / "oracle", tmp_path / "person"
    path = person / "store.sqlite"
    people = "--annotator", f"store:{path}"
    accepted(*run(oracle))
    oracle_of_run = Domains(preset("smoke"), Roots(tmp_path / "data"), 0).oracle
    chosen, waits = {}, 0
    while (code := main(run(person, *people))) == 3:
        assert (
            f"questions of {'ps'[waits // 2]}pl/seed0/stage{waits % 2 + 1}"
            in (capsys.readouterr().err.splitlines()[-1])
        )
        waits += 1
        if waits == 1:  # started again too early: nothing is chosen anew
            files = [*person.rglob("selector*"), *person.rglob("masks.npz")]
            chosen = {file: file.stat().st_mtime_ns for file in files}
            assert main(run(person, *people)) == 3
        store = Store(path)
        (name,) = store.progress().query("open > 0")["selection"]
        assert {q.kind for q in store.questions(name)} == {"segment" if "spl" in name else "point"}
        assert all(q.guess != 255 for q in store.questions(name))
        fill(store, name, oracle_of_run.truth)
    assert (code, waits) == (0, 4)
    assert len(chosen) == 3
    assert all(file.stat().st_mtime_ns == then for file, then in chosen.items())
    assert_same_run(oracle / "seed0", person / "seed0")
    assert json.loads((person / "config.json").read_text())["annotator"] == "store:store.sqlite"
    assert "annotator was store:store.sqlite, is oracle" in refused(capsys, *run(person))
    record = json.loads((oracle / "config.json").read_text())
    del record["annotator"]  # a run made before there were people
    (oracle / "config.json").write_text(json.dumps(record))
    assert "annotator was oracle" in refused(capsys, *run(oracle, *people))
    accepted(*run(oracle))
    line = refused(capsys, *run(oracle, "--annotator", "nobody"))
    assert "annotator 'nobody': choose oracle, noisy, noisy:PATH" in line
