"""The family's widgets show what they are given, whatever their controls say."""

import html
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import Points, SmallShift
from labor_lib.lab.ui import guide
from labor_lib.lab.ui.family import AlignmentPlayground, MethodChooser

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


# ------------------------------------------------------------------------------- which method


@pytest.fixture
def chooser() -> MethodChooser:
    return MethodChooser()


def shown(chooser) -> list[str]:
    return [n for n, c in chooser.questions.items() if c.layout.display != "none"]


each_leaf = pytest.mark.parametrize(
    "line", guide.leaves(), ids=lambda line: f"{line.advice.name}-{line.depth}"
)


@each_leaf
def test_chooser_shows_the_advice_of_its_answers(line):
    chooser, advice = MethodChooser(**guide.answers_to(line)), line.advice
    assert chooser.error == ""
    assert shown(chooser) == [name for name, _ in line.way], "questions not asked are hidden"
    assert html.escape(advice.title) in chooser.card.value
    assert html.escape(advice.why) in chooser.card.value
    assert html.escape(advice.reading) in chooser.card.value
    for name in advice.notebooks:
        assert f'href="{name}.ipynb"' in chooser.card.value
    assert chooser.data.options == advice.data
    assert chooser.tree.value.count('aria-current="true"') == 1
    taken = chooser.tree.value.split('aria-current="true"')[1].split(">")[1]
    assert taken.startswith(html.escape(advice.title))
    for data in advice.data:
        chooser.data.value = data
        assert chooser.code == guide.code(advice, data)
        assert html.escape(chooser.code) in chooser.code_view.value


def test_chooser_follows_its_controls(chooser):
    assert chooser.advice.name == "dann"
    assert not chooser.used
    chooser.data.value = "fonts"
    assert chooser.used
    chooser.questions["images"].value = "few"
    assert chooser.advice.name == "ccsa"
    assert chooser.data.value == "fonts", "kept where the new advice has them, too"
    chooser.questions["images"].value = "many"
    chooser.questions["labels"].value = "ask"
    chooser.questions["output"].value = "pixel"
    assert chooser.advice.name == "ppl"
    assert chooser.data.value == "streets"
    assert "LabOR PPL" in chooser.card.value
    chooser.questions["classes"].value = "new"
    assert shown(chooser) == ["classes"]


@each_leaf
def test_choosers_figure_is_the_tree_with_the_way_taken(line):
    figure = MethodChooser(**guide.answers_to(line)).figure()
    texts = figure.axes[0].texts
    said = [text.get_text() for text in texts]
    assert said[0] == f"These answers lead to: {line.advice.title}"
    assert said[1].replace("\n", " ") == line.advice.why
    for other in guide.leaves():
        assert other.advice.title in said
        assert other.answer in said
    white = [text.get_text() for text in texts if text.get_color() == "white"]
    assert white[0] == line.advice.title
    answers = {guide.Line((step,)).answer for step in line.way}
    assert answers <= {text.get_text() for text in texts if text.get_fontweight() == "bold"}


def test_nothing_of_the_guides_figure_is_cut_off_or_overlaps():
    figure = viz.guide_figure()
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 for b in boxes)
    assert all(figure.bbox.y0 <= b.y0 and b.y1 <= figure.bbox.y1 for b in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert not (
            min(one.x1, other.x1) > max(one.x0, other.x0)
            and min(one.y1, other.y1) > max(one.y0, other.y0) + 1
        )


def test_a_wrong_answer_is_told_and_the_chooser_goes_on():
    chooser = MethodChooser(labels="some")
    assert "labels 'some': choose from none, ask, few, all" in chooser.error
    assert chooser.card.value == ""
    assert chooser.figure().axes == []
    chooser.questions["labels"].value = "all"
    assert chooser.error == ""
    assert chooser.advice.name == "target"


def test_run_it_here(chooser, monkeypatch, capsys):
    monkeypatch.setitem(guide.TEMPLATES, "compare", "print('ran', '{data}')")
    chooser.run.click()
    assert capsys.readouterr().out == "ran textured\n"
    assert chooser.outcome.value == "done"
    for raised, told in (
        ("labor_lib.errors.InputError('no\\n<b>run</b>')", "no &lt;b&gt;run&lt;/b&gt;"),
        ("KeyError('k')", "KeyError: &#x27;k&#x27;"),
    ):
        monkeypatch.setitem(
            guide.TEMPLATES, "compare", f"import labor_lib.errors\nraise {raised}  # {{data}}"
        )
        chooser.run.click()
        assert chooser.outcome.value == f"Not run to its end: {told}"
        assert not chooser.run.disabled
        assert "DANN" in chooser.card.value, "the advice stays"
    chooser.questions["source"].value = "no"
    assert chooser.outcome.value == ""


def test_chooser_opens_a_cell(chooser, monkeypatch):
    written = []
    monkeypatch.setattr(
        guide, "_shell",
        lambda: SimpleNamespace(set_next_input=lambda text, replace: written.append(text)),
    )  # fmt: skip
    chooser.open_cell()
    assert written == []
    chooser.data.value = "fonts"
    chooser.open_cell()
    assert written == [guide.code("dann", "fonts")]


def test_choosers_controls_have_names_and_tooltips(chooser):
    for control in (*chooser.questions.values(), chooser.data, chooser.run):
        assert control.description
        tips = getattr(control, "tooltips", None) or [control.tooltip]
        assert all(tips)
    assert repr(chooser).startswith("MethodChooser: run this cell for the live version")
