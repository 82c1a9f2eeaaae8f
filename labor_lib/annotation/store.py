"""The store: one SQLite file with what is asked of people and everything they answered.

A question is one point or one segment (a connected piece of the asked pixels, 8 neighbours). An
answer is one class for it, or several for parts of it. Every answer is a transaction of its own,
on the disk before `answer` returns: a kill, a full disk or a second kernel loses none and doubles
none. Any SQLite browser shows the tables.

Pixels are stored as runs: "1204+5 1428+7" is five pixels from the flat position 1204 (row * width
+ column, at the network's size) and seven from 1428.
"""

import hashlib
import json
import math
import sqlite3
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from labor_lib.annotation.cost import TOUCHING, Cost, count_cost
from labor_lib.data.pictures import image_size
from labor_lib.errors import InputError, Waiting
from labor_lib.labels import IGNORE
from labor_lib.selection.record import Selection

VERSION = 1  # of the tables
RESERVED = 300  # seconds that a question shown to one annotator is kept from the others
BUSY = 30  # seconds to wait for another program that writes
MEASURED = 20  # answers that a median of seconds needs
_APPLICATION = 0x4C61624F  # "LabO": tells a store from other SQLite files

_TABLES = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE class (
    label INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    red INTEGER NOT NULL, green INTEGER NOT NULL, blue INTEGER NOT NULL
);
CREATE TABLE image (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    height INTEGER NOT NULL, width INTEGER NOT NULL
);
CREATE TABLE selection (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stage INTEGER NOT NULL,
    kind TEXT NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,
    images INTEGER NOT NULL, digest TEXT NOT NULL
);
CREATE TABLE question (
    id INTEGER PRIMARY KEY,
    selection INTEGER NOT NULL REFERENCES selection,
    image INTEGER NOT NULL REFERENCES image,
    place INTEGER NOT NULL,    -- of the image in the selection, from 0
    pixels TEXT NOT NULL,      -- runs
    guess INTEGER NOT NULL,    -- the model's class, 255: none
    held_out INTEGER NOT NULL, -- 1: never trained on
    open INTEGER NOT NULL      -- answers still wanted
);
CREATE INDEX open_question ON question (selection, id) WHERE open > 0;
CREATE INDEX any_open_question ON question (id) WHERE open > 0;
CREATE INDEX question_of_selection ON question (selection);
CREATE TABLE reservation (
    question INTEGER PRIMARY KEY REFERENCES question, annotator TEXT NOT NULL, until REAL NOT NULL
);
CREATE TABLE answer (
    id INTEGER PRIMARY KEY,
    question INTEGER NOT NULL REFERENCES question,
    annotator TEXT NOT NULL,
    part INTEGER NOT NULL,     -- 0, 1, ... of a split segment
    label INTEGER NOT NULL,    -- class, 255: cannot tell
    pixels TEXT NOT NULL,      -- runs
    seconds REAL,              -- of the whole answer, at part 0, NULL: not measured
    time TEXT NOT NULL,        -- UTC
    UNIQUE (question, annotator, part)
);
CREATE INDEX answer_of_annotator ON answer (annotator, id);
"""


_WRITABLE = "allow writing to it and its folder; all earlier answers are kept"
_FIXES = {  # by SQLite's code of what is wrong
    sqlite3.SQLITE_FULL: "make room on its disk; all earlier answers are kept",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_BUSY: "stop the other program that writes to it, then try again",
    sqlite3.SQLITE_NOTADB: "give a file that a run of this program made",
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What SQLite says is wrong with the file or its disk, in one line with the file's name."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without details
        if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise  # a mistake of this program, not of the file
        fix = _FIXES.get(code, "check its disk, or put a copy of the file in its place")
        raise InputError(f"{path}: {error}; {fix}") from None


@dataclass(frozen=True)
class Question:
    """What is shown to a person.

    kind: "point" or "segment". positions: int64, flat (row * width + column), at `size`; one for a
    point. size: (height, width) that positions count in, the network's. guess: the model's class
    there (of a segment the most frequent), 255: none.
    """

    id: int
    image: str
    kind: str
    positions: np.ndarray
    size: tuple[int, int]
    guess: int

    def cells(self, native: tuple[int, int]) -> np.ndarray:
        """Left, top, right, bottom of each position in pixels of the file: n x 4 floats.

        native: (height, width) of the file.
        """
        rows, columns = np.divmod(self.positions, self.size[1])
        corners = np.stack([columns, rows, columns + 1, rows + 1], axis=1)
        down, right = np.divide(native, self.size)
        return corners * (right, down, right, down)


class Store:
    """An open store. Several may be open on one file, in one process or in many.

    path: the file. classes: their names; the place is the label. colours: N x 3 uint8, RGB.
    wanted: answers, each of another annotator, that a question needs; at 1 annotators share the
    work.

    Every method raises InputError, one line each, for what is wrong with the file, its disk or
    what it is given. Raises InputError at construction for a file that is missing, read-only,
    damaged, not a store, or of another version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file; give a store, or make one with a run")
        self._db = self._connect(self.path)
        try:
            with _explained(self.path):
                self._check()
                self._db.execute("PRAGMA journal_mode = WAL")
                with self.together():  # fails where it may not be written
                    pass
                rows = self._db.execute("SELECT name, red, green, blue FROM class ORDER BY label")
                names, *colours = zip(*rows, strict=True)
                row = self._db.execute("SELECT value FROM setting WHERE name = 'wanted'").fetchone()
        except BaseException:
            self._db.close()
            raise
        self.classes: tuple[str, ...] = names
        self.colours = np.array(colours, np.uint8).T
        self.wanted: int = row[0]
        self._hashes: dict[tuple, str] = {}
        self.close = weakref.finalize(self, self._db.close)  # or when nobody holds it any more

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        with _explained(path):
            db = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
        return db

    def _check(self) -> None:
        """Raises InputError for a file that is not a whole store of this version."""
        found = {name: self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in _MARKS}
        if found != _MARKS:
            raise InputError(
                f"{self.path}: not a store of answers of version {VERSION}; give a file that a run "
                "of this program made"
            )
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise InputError(f"{self.path}: damaged; put a copy of it in its place")

    @classmethod
    def create(
        cls, path: str | Path, classes: Sequence[str], colours: np.ndarray, wanted: int = 1
    ) -> "Store":
        """A new store. colours: N x 3, RGB, 0..255. Raises InputError where there is a file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        db = cls._connect(path)
        try:
            with _explained(path):
                db.execute("BEGIN IMMEDIATE")  # a killed creation leaves an empty file, no half
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise InputError(f"{path}: there is a file already; open it, or choose another")
                for command in _TABLES.split(";"):
                    db.execute(command)
                labels, parts = range(len(classes)), np.transpose(colours).tolist()
                rows = zip(labels, classes, *parts, strict=True)
                db.executemany("INSERT INTO class VALUES (?, ?, ?, ?, ?)", rows)
                db.execute("INSERT INTO setting VALUES ('wanted', ?)", (wanted,))
                for name, value in _MARKS.items():
                    db.execute(f"PRAGMA {name} = {value}")
                db.execute("COMMIT")
        finally:
            db.close()  # takes an unfinished transaction back
        return cls(path)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is saved as one: all of it, or after an error nothing.

        Makes thousands of answers fast, at an import for instance. May be nested.
        """
        if self._db.in_transaction:
            yield
            return
        with _explained(self.path):
            try:  # a kernel may be interrupted at any point of this
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself ends it where a disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values) -> list[tuple]:
        with _explained(self.path):
            return self._db.execute(query, values).fetchall()

    def _table(self, query: str, *values) -> pd.DataFrame:
        """With the columns as the query names them."""
        with _explained(self.path):
            found = self._db.execute(query, values)
            return pd.DataFrame(found.fetchall(), columns=[name for name, *_ in found.description])

    def _one(self, query: str, *values) -> tuple | None:
        found = self._all(query, *values)
        return found[0] if found else None

    # -------------------------------------------------------------------------------- images

    def add_images(self, names: Sequence[str], paths: Sequence[Path]) -> None:
        """Remember images: their files, SHA-256 and native size. Known ones may have moved.

        Raises InputError for a file that is gone or no picture, for a name that is no UTF-8, and
        where a name is known with another content.
        """
        with self.together():
            known = dict(self._all("SELECT name, sha256 FROM image"))
            for name, path in zip(names, paths, strict=True):
                path = Path(path).resolve()
                try:
                    f"{name}{path}".encode()
                except UnicodeEncodeError:
                    raise InputError(f"{str(path)!a}: rename it; its name is no UTF-8") from None
                digest = self._hash(name, path, known.get(name))
                self._db.execute(
                    "INSERT INTO image (name, path, sha256, height, width) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET path = excluded.path",
                    (name, str(path), digest, *image_size(path)),
                )

    def images(self) -> pd.DataFrame:
        """name, path, and the native height and width in pixels of every image."""
        return self._table("SELECT name, path, height, width FROM image ORDER BY id")

    def image_path(self, name: str) -> Path:
        """The file of an image. Raises InputError where it is unknown, gone or was replaced."""
        row = self._one("SELECT path, sha256 FROM image WHERE name = ?", name)
        if row is None:
            raise self._unknown(name)
        self._hash(name, Path(row[0]), row[1])
        return Path(row[0])

    def _unknown(self, image: str) -> InputError:
        return InputError(f"{self.path}: knows no image '{image}'; add it with `add_images`")

    def _hash(self, name: str, path: Path, known: str | None) -> str:
        """SHA-256 of an image; its file is read once for as long as it does not change.

        Raises InputError where the file is gone, and where it is not the `known` one.
        """
        try:
            state = path.stat()
            key = path, state.st_mtime_ns, state.st_size
            if key not in self._hashes:
                with path.open("rb") as file:
                    self._hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"{path}: image '{name}' cannot be read ({error.strerror}); put it back"
            ) from None
        if known not in (None, self._hashes[key]):
            raise InputError(
                f"{path}: image '{name}' was replaced since {self.path} was begun (its SHA-256 "
                "differs); put the earlier file back, or begin another store"
            )
        return self._hashes[key]

    # ----------------------------------------------------------------------------- questions

    def ask(
        self,
        selection: Selection,
        name: str,
        *,
        stage: int = 1,
        kind: str = "point",
        images: Sequence[str],
        guesses: Sequence[np.ndarray] | None = None,
        held_out: float = 0.0,
    ) -> None:
        """Add the questions of a selection, in the order of its images.

        name: such as "ppl/seed0/stage1". images: names, one for each image of the selection.
        guesses: the model's classes, aligned with the selection's positions. held_out: share of
        the questions that is kept aside, drawn at random from `name`. The same questions again
        change nothing. Raises InputError for others under the same name and for images that were
        not added.
        """
        digest = _digest(selection, kind, images)
        with self.together():
            before = self._one("SELECT digest FROM selection WHERE name = ?", name)
            if before == (digest,):
                return
            if before is not None:
                raise InputError(
                    f"{self.path}: holds other questions called {name}; begin another store, or "
                    "use the run folder that asked them"
                )
            numbers = dict(self._all("SELECT name, id FROM image"))
            rows = []
            for place, (image, positions) in enumerate(
                zip(images, selection.positions, strict=True)
            ):
                if image not in numbers:
                    raise self._unknown(image)
                classes = guesses[place] if guesses is not None else IGNORE
                for piece, guess in _pieces(positions, selection.size, kind, classes):
                    rows.append((numbers[image], place, _runs(piece), guess))
            generator = np.random.default_rng(list(name.encode()))
            count = round(held_out * len(rows))
            aside = set(generator.choice(len(rows), count, replace=False).tolist())
            number = self._db.execute(
                "INSERT INTO selection (name, stage, kind, height, width, images, digest) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, stage, kind, *selection.size, len(selection), digest),
            ).lastrowid
            self._db.executemany(
                "INSERT INTO question (selection, image, place, pixels, guess, held_out, open) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(number, *row, i in aside, self.wanted) for i, row in enumerate(rows)],
            )

    def asked(self, name: str) -> bool:
        """Whether there are questions of this name."""
        return self._one("SELECT id FROM selection WHERE name = ?", name) is not None

    def question(self, number: int) -> Question:
        """By its id; raises InputError where there is none."""
        row = self._one(f"{_QUESTION} WHERE q.id = ?", number)
        if row is None:
            raise InputError(f"{self.path}: has no question {number}; take one of `questions`")
        return _question(row)

    def questions(self, name: str | None = None, still_open: bool = False) -> list[Question]:
        """All questions, or those of a selection, in the order in which they are asked.

        still_open: only those that lack answers.
        """
        where = "(?1 IS NULL OR s.name = ?1) AND q.open >= ?2"
        rows = self._all(f"{_QUESTION} WHERE {where} ORDER BY q.id", name, int(still_open))
        return [_question(row) for row in rows]

    def next(self, annotator: str, after: int = 0) -> Question | None:
        """The open question to show to an annotator, who did not answer it before; None: none.

        It is kept from other annotators for some minutes (at `wanted` 1), or until `release`.
        after: only questions with a larger id, to skip some, or to get some in advance.
        """
        with self.together():
            row = self._one(
                "SELECT q.id FROM question q WHERE q.open > 0 AND q.id > ?2 "
                "AND NOT EXISTS (SELECT 1 FROM answer a WHERE a.question = q.id "
                "AND a.annotator = ?1) "
                "AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.question = q.id "
                "AND r.annotator <> ?1 AND r.until > ?3) ORDER BY q.id LIMIT 1",
                annotator, after, time.time(),
            )  # fmt: skip
            if row is None:
                return None
            self._reserve(annotator, row[0])
            return self.question(row[0])

    def _reserve(self, annotator: str, question: int) -> None:
        if self.wanted == 1:
            self._db.execute(
                "INSERT OR REPLACE INTO reservation VALUES (?, ?, ?)",
                (question, annotator, time.time() + RESERVED),
            )

    def release(self, annotator: str) -> None:
        """What is kept for an annotator is free again."""
        with self.together():
            self._db.execute("DELETE FROM reservation WHERE annotator = ?", (annotator,))

    # ------------------------------------------------------------------------------- answers

    def answer(
        self,
        question: int,
        annotator: str,
        label: int,
        seconds: float | None = None,
        parts: Sequence[tuple[np.ndarray, int]] | None = None,
    ) -> None:
        """Save an answer; when this returns it is on the disk.

        label: class, 255: cannot tell. seconds: that it took, None: not measured. parts: of a
        split segment, (positions, class) each; `label` holds for the pixels in none of them.
        An annotator's second answer to a question replaces the first. Raises InputError for an
        unknown question or class, pixels that nobody asked or that are in two parts, no name, and
        an image that is gone or was replaced.
        """
        if not annotator.strip():
            raise InputError("annotator '': give a name")
        with self.together():
            asked = self.question(question)
            self.image_path(asked.image)
            self._delete(asked.id, annotator)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._db.executemany(
                "INSERT INTO answer (question, annotator, part, label, pixels, seconds, time) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (asked.id, annotator, part, one, _runs(at), None if part else seconds, now)
                    for part, (at, one) in enumerate(self._parts(asked, label, parts or ()))
                ],
            )
            self._recount(asked.id)

    def _parts(self, asked: Question, label: int, parts: Sequence) -> list[tuple[np.ndarray, int]]:
        """The pieces of an answer, which cover the question's pixels once; or InputError."""
        pieces = [(np.asarray(at, np.int64).reshape(-1), int(one)) for at, one in parts]
        for one in (label, *(one for _, one in pieces)):
            if one != IGNORE and one not in range(len(self.classes)):
                raise InputError(
                    f"{self.path}: has no class {one}; give 0 to {len(self.classes) - 1} "
                    f"({', '.join(self.classes)}), or {IGNORE} for cannot tell"
                )
        pieces = [(at, one) for at, one in pieces if len(at)]
        covered = np.concatenate([np.empty(0, np.int64), *(at for at, _ in pieces)])
        rest = np.setdiff1d(asked.positions, covered)
        if len(rest) + len(covered) > len(asked.positions):
            raise InputError(
                f"{self.path}: question {asked.id}: a part has a pixel that nobody asked, or that "
                "is in another part too; give each asked pixel to one"
            )
        return [(rest, int(label)), *pieces] if len(rest) else pieces

    def undo(self, annotator: str) -> Question | None:
        """Take an annotator's last answer back; its question is open again and returned."""
        with self.together():
            row = self._one(
                "SELECT question FROM answer WHERE annotator = ? ORDER BY id DESC LIMIT 1",
                annotator,
            )
            if row is None:
                return None
            self._delete(row[0], annotator)
            self._recount(row[0])
            self._reserve(annotator, row[0])
            return self.question(row[0])

    def _delete(self, question: int, annotator: str) -> None:
        self._db.execute(
            "DELETE FROM answer WHERE question = ? AND annotator = ?", (question, annotator)
        )

    def _recount(self, question: int) -> None:
        self._db.execute(
            "UPDATE question SET open = max(0, ? - (SELECT count(DISTINCT annotator) FROM answer "
            "WHERE question = ?2)) WHERE id = ?2",
            (self.wanted, question),
        )

    def answers(self, name: str | None = None) -> pd.DataFrame:
        """Every answer, or those of a selection; a split segment has a row for each part.

        Columns: question, selection, stage, image, kind, row and column (of the part's first
        pixel, at the network's size), guess, held_out, annotator, label (class, 255: cannot tell),
        seconds (at part 0; nan: not measured), time (UTC), part, positions (of the part, flat).
        """
        table = self._table(
            "SELECT q.id AS question, s.name AS selection, s.stage, i.name AS image, s.kind, "
            "CAST(a.pixels AS INTEGER) / s.width AS row, "  # the number that begins the runs
            "CAST(a.pixels AS INTEGER) % s.width AS column, q.guess, q.held_out, a.annotator, "
            "a.label, a.seconds, a.time, a.part, a.pixels AS positions FROM answer a "
            "JOIN question q ON q.id = a.question JOIN selection s ON s.id = q.selection "
            "JOIN image i ON i.id = q.image "
            "WHERE ?1 IS NULL OR s.name = ?1 ORDER BY q.id, a.annotator, a.part",
            name,
        ).astype({"held_out": bool, "seconds": float})
        return table.assign(positions=table["positions"].map(_positions))

    def collect(self, name: str, selection: Selection) -> tuple[Selection, int]:
        """The answers on a selection's positions, and how many questions lack answers.

        Of several annotators the majority counts. 255 where there is none, where they cannot tell,
        and where the question is held out.
        """
        row = self._one("SELECT images, height, width, id FROM selection WHERE name = ?", name)
        if row is None:
            raise InputError(f"{self.path}: has no questions called {name}; ask them with `ask`")
        *asked, number = row
        if asked != [len(selection), *selection.size]:
            raise InputError(
                f"{self.path}: {name} was asked of other images, or at another size; begin another "
                "store, or use the run folder that asked them"
            )
        rows = self._all(
            "SELECT q.place, a.label, a.pixels FROM answer a JOIN question q ON q.id = a.question "
            "WHERE q.selection = ? AND NOT q.held_out ORDER BY q.place",
            number,
        )
        answers = [np.full(len(positions), IGNORE, np.uint8) for positions in selection.positions]
        for place, given in groupby(rows, key=itemgetter(0)):
            votes = defaultdict(lambda: np.zeros(math.prod(selection.size), np.int16))
            for _, label, pixels in given:
                votes[label][_positions(pixels)] += 1
            answers[place] = _majority(votes, selection.positions[place])
        lacking = self._one(
            "SELECT count(*) FROM question WHERE selection = ? AND open > 0", number
        )[0]
        return replace(selection, answers=answers), lacking

    # ------------------------------------------------------------------------------ overviews

    def progress(self) -> pd.DataFrame:
        """A row for each selection: stage, kind, questions asked, answered, open and held_out."""
        return self._table(
            "SELECT s.name AS selection, s.stage, s.kind, count(q.id) AS asked, "
            "count(q.id) - count(nullif(q.open, 0)) AS answered, "
            "count(nullif(q.open, 0)) AS open, count(nullif(q.held_out, 0)) AS held_out "
            "FROM selection s "
            "LEFT JOIN question q ON q.selection = s.id GROUP BY s.id ORDER BY s.id"
        )

    def seconds(self) -> float | None:
        """The median seconds of an answer, where at least 20 were measured."""
        measured = self._all("SELECT seconds FROM answer WHERE seconds IS NOT NULL")
        return float(np.median(measured)) if len(measured) >= MEASURED else None


_MARKS = {"application_id": _APPLICATION, "user_version": VERSION}
_QUESTION = (
    "SELECT q.id, i.name, s.kind, q.pixels, s.height, s.width, q.guess FROM question q "
    "JOIN selection s ON s.id = q.selection JOIN image i ON i.id = q.image"
)


def _question(row: tuple) -> Question:
    *first, pixels, height, width, guess = row
    return Question(*first, _positions(pixels), (height, width), guess)


def _runs(positions: np.ndarray) -> str:
    """Ascending flat positions as "start+length start+length"."""
    positions = np.sort(positions)
    ends = np.flatnonzero(np.diff(positions) != 1) + 1
    return " ".join(f"{run[0]}+{len(run)}" for run in np.split(positions, ends))


def _positions(runs: str) -> np.ndarray:
    """The reverse of `_runs`."""
    pairs = (map(int, run.split("+")) for run in runs.split())
    return np.concatenate([np.arange(start, start + length) for start, length in pairs])


def _pieces(
    positions: np.ndarray, size: tuple[int, int], kind: str, guesses: np.ndarray | int
) -> Iterator[tuple[np.ndarray, int]]:
    """The questions of one image: ascending positions, and the most frequent guess there."""
    classes, numbers = np.full(size, IGNORE, np.uint8), np.zeros(size, np.int32)
    classes.reshape(-1)[positions] = guesses
    numbers.reshape(-1)[positions] = np.arange(1, len(positions) + 1)  # in their order
    if kind == "segment":
        numbers, _ = ndimage.label(numbers, TOUCHING)
    groups = ndimage.value_indices(numbers.reshape(-1), ignore_value=0)
    for number in sorted(groups):
        (group,) = groups[number]
        yield group, int(np.bincount(classes.reshape(-1)[group]).argmax())


def _majority(votes: Mapping[int, np.ndarray], positions: np.ndarray) -> np.ndarray:
    """votes: for each class how many said so, on a flat map. Returns uint8, 255 for a tie."""
    labels = np.array([*votes])
    counts = np.stack([votes[label][positions] for label in votes])  # classes x positions
    most = counts.max(axis=0)
    clear = (most > 0) & ((counts == most).sum(axis=0) == 1)
    return np.where(clear, labels[counts.argmax(axis=0)], IGNORE).astype(np.uint8)


def _digest(selection: Selection, kind: str, images: Sequence[str]) -> str:
    """What makes two selections the same questions."""
    head = json.dumps([kind, list(map(int, selection.size)), list(images)])
    total = hashlib.sha256(head.encode())
    for positions in selection.positions:
        total.update(len(positions).to_bytes(8, "little") + positions.astype("<i8").tobytes())
    return total.hexdigest()


# ------------------------------------------------------------------------------ the annotator


@dataclass(frozen=True)
class TimedCost(Cost):
    """What an image cost, with the seconds that the people measured took."""

    seconds: float = 0.0


class StoreAnnotator:
    """People who answer in a store, in the place of the oracle.

    images: a reader of the asked split (`names`, `paths`, `native_size`), whose labels need not
    exist. held_out: share of the questions that is kept aside.
    """

    def __init__(self, store: Store, images, held_out: float = 0.0):
        self.store, self.images, self.held_out = store, images, held_out

    def check(self) -> None:
        """Raises InputError where an image is gone or was replaced since it was asked about."""
        self.store.add_images(self.images.names, self.images.paths)

    def ask(
        self,
        selection: Selection,
        name: str = "",
        *,
        stage: int = 1,
        kind: str = "point",
        guesses: Callable[[], Sequence[np.ndarray]] | None = None,
    ) -> tuple[Selection, list[Cost]]:
        """The same selection with its answers, and what each image cost.

        name: such as "ppl/seed0/stage1". kind: of the questions, "point" or "segment". guesses:
        returns the model's classes at the positions; called where the questions are new. Raises
        Waiting until all are answered.
        """
        new = not self.store.asked(name)
        if new:
            self.check()
        self.store.ask(
            selection, name, stage=stage, kind=kind, images=self.images.names,
            guesses=guesses() if new and guesses is not None else None,
            held_out=self.held_out,
        )  # fmt: skip
        answered, lacking = self.store.collect(name, selection)
        if lacking:
            raise Waiting(
                f"waiting for people: {lacking} questions of {name} in {self.store.path} are open; "
                "answer them, then run the same command again"
            )
        return answered, self._costs(name, answered)

    def _costs(self, name: str, answered: Selection) -> list[Cost]:
        """With seconds where every answer was measured."""
        costs = []
        for index in range(len(answered)):
            height, width = self.images.native_size(index)
            mask, labels = answered.mask(index), answered.labels(index)
            costs.append(count_cost(mask, labels, height * width))
        table = self.store.answers(name)
        if table.loc[table["part"] == 0, "seconds"].isna().any():
            return costs
        seconds = table.groupby("image")["seconds"].sum()
        return [
            TimedCost(**vars(cost), seconds=seconds.get(image, 0.0))
            for image, cost in zip(self.images.names, costs, strict=True)
        ]
