"""The widgets of classification show what they are given, whatever their controls say."""

import html
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from test_family_alignment import points

from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import SmallShift
from labor_lib.lab.ui import family, guide
from labor_lib.lab.ui.family import AlignmentPlayground, MethodChooser

# -------------------------------------------------------------------------- pairs pulled, pushed


@pytest.fixture
def playground() -> AlignmentPlayground:
    shift = SmallShift(tuple("1479"), points(8, 0), points(5, 1, 0.9), points(30, 2, 0.9))
    return AlignmentPlayground(shift)


def test_every_control_of_the_playground_changes_the_picture(playground):
    one = playground.one
    assert [value for _, value in playground.labels.options] == [1, 3, 5]  # five a class are there
    assert (one.n, one.alpha, one.margin) == (3, 0.25, 1.0)
    for said in (f"pairs of one class: {4 * 8 * 3}", f"of two classes: {3 * 4 * 8 * 3}"):
        assert said in playground.numbers.text
    right = f"{one.right(-1, one.shift.others):.0f} %"
    assert right in playground.picture.caption
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
    assert "after 45 steps" in playground.picture.caption
    one = playground.one
    figure = viz.alignment_figure(one, 4, pushed=False)
    for axes, frame in zip(figure.axes, (0, 4), strict=True):
        pulled, pushed = axes.collections[:2]
        assert (pulled.get_visible(), pushed.get_visible()) == (True, False)
        distances = one.distances(frame)
        for lines, there in ((pulled, one.same), (pushed, ~one.same & (distances < 3.0))):
            lengths = [np.linalg.norm(np.diff(line, axis=0)) for line in lines.get_segments()]
            np.testing.assert_allclose(sorted(lengths), sorted(distances[there]), rtol=1e-5)
    other = AlignmentPlayground(playground.shift, n=7)
    assert "7 labels a class: choose from" in other.error
    assert isinstance(other.figure(), Figure)
    other.labels.value = 3
    assert other.error == ""


# ------------------------------------------------------------------------------- which method


@pytest.mark.parametrize("line", guide.leaves()[::5], ids=lambda line: line.advice.name)
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


def shown(chooser) -> list[str]:
    return [n for n, c in chooser.questions.items() if c.layout.display != "none"]


@pytest.fixture
def chooser() -> MethodChooser:
    return MethodChooser()


def test_chooser_follows_its_controls(chooser):
    assert chooser.advice.name == "dann"
    chooser.data.value = "fonts"
    for changes, name, data in (
        ({"images": "few"}, "ccsa", "fonts"),  # kept where the new advice has them, too
        ({"images": "many", "labels": "ask", "output": "pixel"}, "ppl", "streets"),
        ({"classes": "new"}, "open_set", None),
    ):
        for question, answer in changes.items():
            chooser.questions[question].value = answer
        assert chooser.advice.name == name
        assert data in (None, chooser.data.value)
    assert shown(chooser) == ["classes"]
    wrong = MethodChooser(labels="some")
    assert "labels 'some': choose from none, ask, few, all" in wrong.error
    wrong.questions["labels"].value = "all"
    assert (wrong.error, wrong.advice.name) == ("", "target")


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
