"""The family's widgets show what they are given, whatever their controls say."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from labor_lib.alignment import Points, SmallShift
from labor_lib.family_widgets import AlignmentPlayground

# -------------------------------------------------------------------------- pairs pulled, pushed


def cloud(count: int, seed: int, move: float) -> Points:
    """Four classes in 6 dimensions, `count` points each."""
    features = 2 * np.eye(4, 6).repeat(count, axis=0) + move
    features += 0.5 * np.random.default_rng(seed).normal(size=features.shape)
    return Points(features, np.arange(4).repeat(count))


@pytest.fixture
def playground() -> AlignmentPlayground:
    shift = SmallShift(tuple("1479"), cloud(8, 0, 0.0), cloud(5, 1, 0.9), cloud(30, 2, 0.9))
    return AlignmentPlayground(shift)


def values(table: str) -> dict[str, str]:
    """The names and values of a table."""
    return dict(re.findall(r"<th[^>]*>([^<]*)</th><td[^>]*>([^<]*)<", table))


def test_playground_says_what_was_trained(playground):
    one = playground.one
    assert playground.error == ""
    assert [value for _, value in playground.labels.options] == [1, 3, 5]  # five a class are there
    assert (one.n, one.alpha, one.margin) == (3, 0.25, 1.0)
    share = 100 * one.right(-1, one.shift.others).mean()
    before = 100 * one.right(0, one.shift.others).mean()
    assert playground.picture.caption == (
        f"{share:.0f} % of the 120 other target images get their class after 120 steps "
        f"({before:.0f} % before)."
    )
    told = values(playground.numbers.value)
    assert told["pairs of one class"] == str(4 * 8 * 3)
    assert told["pairs of two classes"] == str(3 * 4 * 8 * 3)
    means = [one.distances(at)[one.same].mean() for at in (0, -1)]
    distance = next(value for name, value in told.items() if "mean distance" in name)
    assert distance == "{:.2f} → {:.2f}".format(*means) or "two" in playground.numbers.value
    assert "100 of 120 drawn" in playground.marks.value


def test_every_control_of_the_playground_changes_the_picture(playground):
    for control, value in (
        (playground.alpha, 0.9), (playground.margin, 3.0), (playground.labels, 1),
        (playground.step, 4), (playground.pulled, False), (playground.play, 9),
    ):  # fmt: skip
        before, one = playground.picture.png, playground.one
        control.value = value
        assert playground.error == ""
        assert playground.picture.png != before, control
        trains = control in (playground.alpha, playground.margin, playground.labels)
        assert (playground.one is not one) == trains
    assert (playground.one.n, playground.one.alpha, playground.one.margin) == (1, 0.9, 3.0)
    assert playground.step.value == 9
    assert "after 45 steps" in playground.picture.caption
    playground.step.value = 0
    assert "Before any target label" in playground.picture.caption


def test_pushed_pairs_can_be_hidden(playground):
    playground.margin.value, playground.alpha.value = 4.0, 1.0
    one = playground.one
    close = ~one.same & (one.distances(playground.step.value) < 4.0)
    assert values(playground.numbers.value)["… closer than the margin"].endswith(str(close.sum()))
    assert close.any()
    before = playground.picture.png
    playground.pushed.value = False
    assert playground.picture.png != before


def test_alignment_figure_shows_before_and_now(playground):
    playground.alpha.value = 1.0
    figure = playground.figure()
    one = playground.one
    assert figure._suptitle.get_text() == "α 1, margin 1, 3 labels a class"
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    for title, frame in zip(titles, (0, -1), strict=True):
        assert f"{100 * one.right(frame, one.shift.others).mean():.0f} % of the others" in title
    for axes, frame in zip(figure.axes, (0, -1), strict=True):
        lines = axes.collections[0].get_segments()
        assert len(lines) == one.same.sum()
        lengths = [np.linalg.norm(np.diff(line, axis=0)) for line in lines]
        np.testing.assert_allclose(sorted(lengths), sorted(one.distances(frame)[one.same]))
        close = axes.collections[1].get_segments()
        assert len(close) == (~one.same & (one.distances(frame) < one.margin)).sum()


def test_playground_tells_a_number_of_labels_that_is_not_there(playground):
    other = AlignmentPlayground(playground.shift, n=7)
    assert "7 labels a class: choose from" in other.error
    assert isinstance(other.figure(), Figure)
    other.labels.value = 3
    assert other.error == ""
    assert other.picture.png
