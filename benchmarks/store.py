"""Milliseconds for the next question and for an answer, in stores of 100 and of 10,000 questions.

    python -m benchmarks.store

Both stores are on one disk and take turns; an answer includes the wait until it is on the disk.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from labor_lib.annotation.store import Store
from labor_lib.selection.record import Selection

IMAGES, ROUNDS = 10, 50


def make(folder: Path, questions: int) -> Store:
    """A store that asks so many points, all but the last hundred of them answered."""
    names = [f"image{i}" for i in range(IMAGES)]
    paths = [folder / f"{name}.png" for name in names]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((112, 224, 3), i, np.uint8)).save(path)
    store = Store.create(folder / f"{questions}.sqlite", ["road", "sky"], np.zeros((2, 3)))
    store.add_images(names, paths)
    points = np.arange(questions // IMAGES)
    store.ask(Selection((112, 224), [points] * IMAGES), "ppl", images=names)
    with store.together():
        for number in range(1, questions - 99):
            store.answer(number, "ann", 0, 1.0)
    return store


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = {questions: make(Path(folder), questions) for questions in (100, 10_000)}
        times: dict[tuple, list[float]] = {}
        for _ in range(ROUNDS):
            for questions, store in stores.items():
                started = time.perf_counter()
                question = store.next("ann")
                shown = time.perf_counter()
                store.answer(question.id, "ann", 1, 1.0)
                ended = time.perf_counter()
                times.setdefault((questions, "next question"), []).append(shown - started)
                times.setdefault((questions, "answer"), []).append(ended - shown)
        for store in stores.values():
            store.close()  # Windows keeps a folder with an open file
    print("| questions | act | median, ms | worst, ms |\n|---|---|---|---|")
    for (questions, act), seconds in times.items():
        print(f"| {questions:,} | {act} | {_ms(np.median(seconds))} | {_ms(max(seconds))} |")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


if __name__ == "__main__":
    main()
