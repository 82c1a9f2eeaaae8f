"""The widgets of classification show what they are given, whatever their controls say."""

import ast
import html
import importlib
import itertools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.nn import functional as F
from torch.testing import assert_close

from labor_lib.config import SHIFTS, SMOKE, Where, configure
from labor_lib.data.classification import Domain
from labor_lib.errors import InputError
from labor_lib.lab import alignment, runs
from labor_lib.lab import classification as lab
from labor_lib.lab import family_viz as viz
from labor_lib.lab.alignment import Points, SmallShift, align, learn_source, small_loss
from labor_lib.lab.ui import guide
from labor_lib.lab.ui.family import AlignmentPlayground, MethodChooser
from labor_lib.methods.ccsa import ccsa_loss, distances, make_pairs
from labor_lib.methods.registry import CLASSIFICATION, METHODS, resolve


@pytest.fixture
def playground(shift) -> AlignmentPlayground:
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


def points(count: int, seed: int, move: float = 0.0) -> Points:
    """Four clouds in 6 dimensions, `count` points each."""
    noise = torch.randn(4 * count, 6, generator=torch.Generator().manual_seed(seed))
    features = (2 * torch.eye(4, 6)).repeat_interleave(count, 0) + 0.6 * noise + move
    return Points(features, torch.arange(4).repeat_interleave(count))


@pytest.fixture
def shift() -> SmallShift:
    return SmallShift(tuple("1479"), points(8, 0), points(5, 1, 0.9), points(30, 2, 0.9))


@pytest.mark.parametrize(("alpha", "margin"), [(0.0, 1.0), (0.25, 1.0), (0.5, 5.0), (1.0, 0.0)])
def test_the_loss_is_the_mean_of_both_passes(shift, alpha, margin):
    few, weights = shift.labelled(3), learn_source(shift)
    loss = small_loss(weights, shift.source, few, alpha, margin)

    pairs = make_pairs(shift.source.labels, few.labels, 3, 0)
    assert len(pairs) == len(shift.source) * len(few)  # with four classes: all there are
    ends, labels = [], []
    for group, places in ((shift.source, pairs.source), (few, pairs.target)):
        ends.append(alignment.embed(weights, group.features)[places])
        labels.append(group.labels[places])
    distance, same = distances(*ends), labels[0] == labels[1]
    passes = [
        ccsa_loss(alignment.classify(weights, z), names, distance, same, alpha, margin)
        for z, names in zip(ends, labels, strict=True)
    ]
    assert_close(loss, sum(passes) / 2)


def test_the_source_alone_is_plain_cross_entropy(shift):
    weights = learn_source(shift)
    logits = alignment.classify(weights, alignment.embed(weights, shift.source.features))
    expected = F.cross_entropy(logits, shift.source.labels)
    assert_close(small_loss(weights, shift.source, None, 0.5, 1.0), expected)
    assert (logits.argmax(1) == shift.source.labels).float().mean() > 0.95


def test_alignment_pulls_one_class_and_leaves_the_margin(shift):
    learnt = learn_source(shift)
    one = align(shift, learnt, 3, 0.5, 1.0)
    assert (len(one.frames) - 1) * alignment.EVERY == alignment.STEPS
    before, after = one.distances(0), one.distances(-1)
    assert after[one.same].mean() < 0.5 * before[one.same].mean()
    assert (after[~one.same] > 1.0).mean() > 0.95
    assert one.right(-1, one.few) == 100
    again = align(shift, learn_source(shift), 3, 0.5, 1.0)
    assert again.distances(-1) == pytest.approx(after), "the start is not changed by training"


def domain(count: int, seed: int) -> Domain:
    labels = torch.arange(10).repeat(count)
    noise = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 1, 6, 6), generator=noise).to(torch.uint8)
    return Domain("digits", tuple("0123456789"), images, labels)


def test_a_small_shift_keeps_the_labelled_out_of_the_others():
    source, target = domain(9, 0), domain(5, 1)
    few = target.take(torch.cat([(target.labels == k).nonzero()[:2, 0] for k in range(10)]))
    problem = SimpleNamespace(sources=(source,), few=few, target_train=target)
    small = alignment.small_shift(problem, ("1", "7", "9", "4"), images=6)
    assert (len(small.source), len(small.few), len(small.others)) == (24, 8, 12)
    assert small.few.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert small.source.features.shape[1] == alignment.COMPONENTS
    between = torch.cdist(small.few.features, small.others.features)
    assert between.min() > 0.1
    assert abs(small.source.features).max() < 10  # scaled: a step of Adam fits any images
    with pytest.raises(InputError, match="no labelled target images"):
        alignment.small_shift(SimpleNamespace(sources=(source,), few=None, target_train=target))


NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_every_question_is_asked_and_every_advice_given():
    ways = [step for line in guide.leaves() for step in line.way]
    assert {name for name, _ in ways} == set(guide.QUESTIONS)
    assert {line.advice.name for line in guide.leaves()} == set(guide.ADVICE)
    for name, advice in guide.ADVICE.items():
        assert all((NOTEBOOKS / f"{name}.ipynb").exists() for name in advice.notebooks)
        for data in advice.data:  # the code imports what there is, its methods run on its data
            code = guide.code(advice, data)
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names)
            found = re.search(r"(?m)^methods = (.*)$", code)
            methods = ast.literal_eval(found[1]) if found else ["source_only"]
            assert set(methods) <= set(METHODS if data == "streets" else SHIFTS[data].methods)
            for line in code.replace("\\\n#", "").splitlines():  # the lines of a command as one
                if " family --shift folder" in line:
                    pair = Where(source="A", target="B") if "--source" in line else Where()
                    listed = line.split("--methods ")[1].split(",")
                    assert listed == [m.name for m in resolve(listed, configure("folder", pair))]


def test_all_answers_together_lead_somewhere():
    """One advice each, whatever is answered to the questions that are not asked."""
    choices = [question["answers"] for question in guide.QUESTIONS.values()]
    for answers in itertools.product(*choices):
        answers = dict(zip(guide.QUESTIONS, answers, strict=True))
        way = guide.path(**answers)
        assert all(answers[name] == answer for name, answer in way)
        lines = [line for line in guide.leaves() if line.lies_on(way)]
        assert [line.advice for line in lines] == [guide.advise(**answers)]
        assert guide.advise(**dict(way)) == guide.advise(**answers)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """No finished run, and trainings of a few steps."""
    monkeypatch.setenv("LABOR_RUN", "small")
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    monkeypatch.setattr(runs, "preset", lambda name: replace(SMOKE, preset=name))
    drawn = lab.styles(0)
    few = {name: domain.take(list(range(0, 420, 5))) for name, domain in drawn.items()}
    monkeypatch.setattr(lab, "styles", lambda seed: few)
    for name in ("textured", "fonts", "styles"):
        config = SHIFTS[name]
        short = {"steps": 6, "finetune_steps": 3, "batch_size": 8}
        short["select_every"] = 3 if config.training.select_every else 0
        config = replace(config, training=replace(config.training, **short))
        monkeypatch.setitem(SHIFTS, name, config)


@pytest.mark.parametrize(
    ("name", "data"),  # one of each template
    [
        ("finetune", "fonts"), ("sagnet", "styles"), ("streets_source_only", "streets"),
        ("open_set", "fonts"), ("other_output", "fonts"),
    ],
)  # fmt: skip
def test_the_code_runs(name, data, tiny, capsys):
    found = {"__name__": "__main__"}
    exec(compile(guide.code(guide.ADVICE[name], data), "<guide>", "exec"), found)
    said, template = capsys.readouterr().out, guide.ADVICE[name].code
    assert found["run"].small
    if template == "compare":
        assert all(CLASSIFICATION[method].title in said for method in found["methods"])
        assert found["figure"].axes
    elif template == "streets":
        assert all(re.search(rf"(?m)^{method} +\d", said) for method in found["methods"])
        assert len(found["figure"].axes) == 3 * (1 + len(found["methods"]))
    elif template == "overlap":
        assert len(re.findall(r"\d+\.\d %", said)) == 2
        assert ("letter a" in said) == (name == "open_set")
    else:
        assert len(re.findall(r"distance [\d.]+", said)) == 2
