"""The widgets of classification show what they are given, whatever their controls say."""

import html
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import Points, SmallShift
from labor_lib.lab.ui import family, guide
from labor_lib.lab.ui.family import AlignmentPlayground, MethodChooser

# -------------------------------------------------------------------------- pairs pulled, pushed


def cloud(count: int, seed: int, move: float) -> Points:
    """Four classes in 6 dimensions, `count` points each."""
    noise = torch.randn(4 * count, 6, generator=torch.Generator().manual_seed(seed))
    features = 2 * torch.eye(4, 6).repeat_interleave(count, 0) + move + 0.5 * noise
    return Points(features, torch.arange(4).repeat_interleave(count))


@pytest.fixture
def playground() -> AlignmentPlayground:
    shift = SmallShift(tuple("1479"), cloud(8, 0, 0.0), cloud(5, 1, 0.9), cloud(30, 2, 0.9))
    return AlignmentPlayground(shift)


def test_playground_says_what_was_trained(playground):
    one = playground.one
    assert playground.error == ""
    assert [value for _, value in playground.labels.options] == [1, 3, 5]  # five a class are there
    assert (one.n, one.alpha, one.margin) == (3, 0.25, 1.0)
    before, now = (f"{one.right(at, one.shift.others):.0f} %" for at in (0, -1))
    assert playground.picture.caption.startswith("α 0.25, margin 1, 3 a class: " + now)
    assert playground.picture.caption.endswith(f"after 120 steps ({before} before).")
    means = [one.distances(at)[one.same].mean() for at in (0, -1)]
    distance = "mean distance in one class: {:.2f} → {:.2f}".format(*means)
    for said in (f"pairs of one class: {4 * 8 * 3}", f"of two classes: {3 * 4 * 8 * 3}", distance):
        assert said in playground.numbers.text


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


def test_alignment_figure_draws_the_pairs(playground):
    playground.margin.value = 4.0
    one = playground.one
    figure = viz.alignment_figure(one, 4, pushed=False)
    for axes, frame in zip(figure.axes, (0, 4), strict=True):
        pulled, pushed = axes.collections[:2]
        assert (pulled.get_visible(), pushed.get_visible()) == (True, False)
        distances = one.distances(frame)
        for lines, there in ((pulled, one.same), (pushed, ~one.same & (distances < 4.0))):
            lengths = [np.linalg.norm(np.diff(line, axis=0)) for line in lines.get_segments()]
            np.testing.assert_allclose(sorted(lengths), sorted(distances[there]), rtol=1e-5)
    assert figure.axes[1].get_title(loc="left") == "after 20 steps of CCSA"
    assert "100 of 120 drawn" in figure.texts[0].get_text().replace("\n", " ")


def test_playground_without_so_many_labels(playground):
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


@pytest.mark.parametrize("line", guide.leaves()[::4], ids=lambda line: line.advice.name)
def test_chooser_shows_the_advice_of_its_answers(line):
    answers = {question: answers[0] for question, answers in line.way}
    chooser, advice = MethodChooser(**answers), line.advice
    assert chooser.error == ""
    assert shown(chooser) == list(answers), "questions not asked are hidden"
    for text in (advice.title, advice.why, advice.reading):
        assert html.escape(text) in chooser.card.value
    assert all(f'href="{name}.ipynb"' in chooser.card.value for name in advice.notebooks)
    assert chooser.tree.alt.endswith(f"leads to {advice.title}")
    for data in chooser.data.options:
        chooser.data.value = data
        assert html.escape(guide.code(advice, data)) in chooser.code_view.value

    texts = viz.guide_figure(**answers).axes[0].texts
    (white,) = (text.get_text() for text in texts if text.get_color() == "white")
    assert white.startswith(advice.title)
    bold = {text.get_text() for text in texts if text.get_fontweight() == "bold"}
    assert {guide.Line((step,)).answer for step in line.way} <= bold


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
    chooser.questions["classes"].value = "new"
    assert shown(chooser) == ["classes"]
    assert isinstance(chooser.figure(), Figure)


def test_nothing_of_the_tree_is_cut_off_or_overlaps():
    figure = viz.guide_figure()
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().strip()]
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 for b in boxes)
    assert all(figure.bbox.y0 <= b.y0 and b.y1 <= figure.bbox.y1 for b in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert not (
            min(one.x1, other.x1) > max(one.x0, other.x0)
            and min(one.y1, other.y1) > max(one.y0, other.y0) + 1
        )


def test_a_wrong_answer_becomes_a_line_and_the_chooser_goes_on():
    chooser = MethodChooser(labels="some")
    assert "labels 'some': choose from none, ask, few, all" in chooser.error
    chooser.questions["labels"].value = "all"
    assert (chooser.error, chooser.advice.name) == ("", "target")


def test_run_it_here(chooser, monkeypatch, capsys):
    said = []
    chooser.outcome.observe(lambda change: said.append(change["new"]), names="value")
    for code, last in (
        ("print('ran', '$data')", "Done."),
        ("raise InputError('no\\n<b>run</b>')", "Did not finish: no &lt;b&gt;run&lt;/b&gt;"),
        ("raise KeyError('k')", "Did not finish: KeyError: &#x27;k&#x27;"),
        ("raise KeyboardInterrupt", "Stopped; running it again continues what was being trained."),
    ):
        code = f"from labor_lib.errors import InputError\n{code}\n"
        monkeypatch.setitem(guide.TEMPLATES, "compare", code)
        said.clear()
        chooser.run.click()
        assert "about 2 min on a CPU" in said[0], "before it runs"
        assert said[1:] == [last]
        assert not chooser.run.disabled
    assert capsys.readouterr().out == "ran textured\n"
    assert "DANN" in chooser.card.value, "the advice stays"
    chooser.questions["source"].value = "no"
    assert chooser.outcome.value == ""


def test_chooser_opens_a_cell_once_it_was_used(chooser, monkeypatch, capsys):
    written = []
    shell = SimpleNamespace(set_next_input=lambda text, replace: written.append((text, replace)))
    monkeypatch.setattr(family, "get_ipython", lambda: shell)
    chooser.open_cell()
    assert written == [], "running all cells opens none"
    chooser.data.value = "fonts"
    chooser.open_cell()
    assert written == [(guide.code("dann", "fonts"), False)]
    assert "DANN, on 'fonts'" in capsys.readouterr().out
    monkeypatch.setattr(family, "get_ipython", lambda: None)  # in a terminal
    chooser.open_cell()
    assert capsys.readouterr().out.strip() == guide.code("dann", "fonts").strip()
