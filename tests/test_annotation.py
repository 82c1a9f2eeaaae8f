"""The oracle keeps labels out of reach, and what an answer costs on maps drawn by hand."""

import shutil

import numpy as np
import pytest

from labor_lib.annotation.cost import Cost, count_cost
from labor_lib.annotation.oracle import Oracle
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.errors import InputError
from labor_lib.labels import STREETS14
from labor_lib.selection.record import Selection

# (asked, truth, clicks, pieces); in `asked` # is asked, in `truth` v is void
MAPS = {
    "isolated points": ("#..#...#", "aaabbbbb", 3, 3),
    "points of one class": ("#.#.#...", "aaaaaaaa", 3, 3),
    "one region": ("###/###/...", "aaa/aaa/aaa", 1, 1),
    "an L over two classes": ("#../#../###", "aaa/aab/abb", 2, 1),
    "a class twice in one region": ("#####", "aabaa", 3, 1),
    "diagonal, one class": ("#../.#./..#", "aaa/aaa/aaa", 1, 1),
    "diagonal, two classes": ("#./.#", "aa/bb", 2, 1),
    "diagonals of two classes crossing": ("##/##", "ab/ba", 2, 1),
    "not touching": ("#.#/.../#.#", "aaa/aaa/aaa", 4, 4),
    "void asked": ("#.##", "vvva", 3, 2),
    "unasked classes cost nothing": ("#...", "abcd", 1, 1),
    "nothing asked": ("....", "abcv", 0, 0),
}


def draw(text: str) -> np.ndarray:
    return np.array([list(row) for row in text.split("/")])


@pytest.mark.parametrize("case", MAPS)
def test_cost_of_hand_drawn_maps(case):
    asked_text, truth_text, clicks, pieces = MAPS[case]
    asked, letters = draw(asked_text) == "#", draw(truth_text)
    truth = np.select([letters == name for name in "abcdv"], [0, 3, 7, 13, 255]).astype(np.uint8)
    cost = count_cost(asked, truth, native_pixels=4 * asked.size)
    assert cost == Cost(4.0 * asked_text.count("#"), clicks, pieces)


@pytest.fixture
def split(make_folder):
    """A target training split of 3 images, 32 x 64 in the files and 16 x 32 for the network."""
    return make_folder(count=3, native=(32, 64), size=(16, 32))


def oracle_of(folder: SegmentationFolder) -> Oracle:
    return Oracle(
        lambda: SegmentationFolder(folder.root, "cityscapes", "train", STREETS14, (16, 32))
    )


def question(seed: int = 0) -> Selection:
    generator = np.random.default_rng(seed)
    positions = [np.sort(generator.choice(512, n, replace=False)) for n in (40, 0, 7)]
    return Selection((16, 32), positions)


def test_labels_are_unreachable_until_asked(split, tmp_path):
    labels, away = split.root / "gtFine" / "train", tmp_path / "away"
    shutil.move(labels, away)
    opened = SegmentationFolder(
        split.root, "cityscapes", "train", STREETS14, (16, 32), labels=False
    )
    assert len(opened) == 3
    opened.check()
    for read in (opened.label, opened.native_label):
        with pytest.raises(RuntimeError, match="oracle"):
            read(0)
    oracle = oracle_of(split)
    _, costs = oracle.ask(Selection.nothing(3, (16, 32)))  # nothing to read
    assert costs == [Cost(0.0, 0, 0)] * 3
    for ask in (lambda: oracle.ask(question()), oracle.ask_everything):
        with pytest.raises(InputError, match="gtFine"):
            ask()
    shutil.move(away, labels)
    answered, _ = oracle.ask(question())
    assert [len(part) for part in answered.answers] == [40, 0, 7]


def test_answers_the_asked_pixels_alone(split):
    asked = question()
    answered, costs = oracle_of(split).ask(asked)
    for i, positions in enumerate(asked.positions):
        truth = split.label(i).numpy()
        expected = np.full((16, 32), 255, np.uint8)
        for position in positions.tolist():
            row, column = divmod(position, 32)
            expected[row, column] = truth[row, column]
        np.testing.assert_array_equal(answered.labels(i), expected)
        assert answered.answers[i].dtype == np.uint8
        assert len(answered.answers[i]) == len(positions)
        assert costs[i].pixels == 4 * len(positions)  # a network pixel is 2 x 2 of the file's
    assert costs[1] == Cost(0.0, 0, 0)
    assert costs[0].clicks >= costs[0].pieces > 0
    assert asked.answers == []  # the question is left as it was


def test_ask_everything(split):
    label, costs = oracle_of(split).ask_everything()
    for i in range(3):
        np.testing.assert_array_equal(label(i), split.label(i).numpy())
        assert costs[i].pixels == 32 * 64
        assert costs[i].pieces == 1
        assert costs[i].clicks >= 7
