"""Widgets show the numbers and places of what they are given, whatever their controls say.

`FakeRun` is a run of 8 x 16 pixels whose counts can be made by hand:

    truth        row 0 void; below, columns 0-7 road, columns 8-15 building
    prediction   road in columns 0-9 (of image i: 0 to 9 + i), building right of it
    mask         columns 7 and 8
"""

import io
import itertools
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from test_extend import SECTIONS

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.scene import (
    ASKED_COLOUR,
    ERROR_COLOUR,
    MASK_COLOUR,
    PICTURE_WIDTH,
    WHITE,
    Scene,
)
from labor_lib.lab.ui import controls, dashboard, widgets
from labor_lib.lab.ui import explorer as counting
from labor_lib.lab.ui.prototypes import prototypes_of
from labor_lib.labels import IGNORE, STREETS14, ClassSet, colourise
from labor_lib.methods.registry import METHODS
from labor_lib.selection.record import Selection
from labor_lib.selection.rules import Candidates, ppl

H, W = 8, 16
SCALE = PICTURE_WIDTH // W
ROAD, BUILDING, CAR = 0, 2, 11
TRUTH = np.where(np.arange(W) < 8, ROAD, BUILDING)[None].repeat(H, axis=0).astype(np.uint8)
TRUTH[0] = IGNORE
MASK = np.zeros((H, W), bool)
MASK[:, 7:9] = True
FINISHED = ("source_only", "random_points", "ppl", "spl", "supervised")
MIOU = {"source_only": 20, "random_points": 50, "ppl": 60, "spl": 65, "supervised": 70}
CLICKS = {"random_points": 10, "ppl": 10, "spl": 100}


def at(row: int, column: int) -> int:
    return row * W + column


class Folder(SimpleNamespace):
    """A split in memory: grey images, the truth turned round for odd numbers."""

    def __len__(self):
        return self.count

    def image(self, i):
        return torch.full((3, H, W), 100 + i, dtype=torch.uint8)

    def label(self, i):
        return torch.from_numpy(TRUTH[:, ::-1].copy() if i % 2 else TRUTH)


class FakeRun:
    small, stages, seeds, methods = False, 2, [0, 1], list(FINISHED)
    class_set, folder = STREETS14, Path("runs/streets")

    def __init__(self):
        rows = []
        for method, seed, stage in itertools.product(FINISHED, (0, 1), (1, 2)):
            score = MIOU[method] + 2 * seed + stage
            row = {"method": method, "seed": seed, "stage": stage, "miou": score}
            row |= {"pixels_per_image": 2.0 * CLICKS.get(method, 0) * stage}
            for name in ("clicks", "seconds", "most_seconds"):
                row |= {f"{name}_per_image": 1.0 * CLICKS.get(method, 0) * stage}
            row |= {f"iou_{name}": score + k - 6.5 for k, name in enumerate(STREETS14.names)}
            rows.append(row | {"iou_bus": np.nan} if method == "spl" else row)
        self.table = pd.DataFrame(rows)
        self.failure: Exception | None = None

    def methods_of(self, seed):
        done = self.table[(self.table["seed"] == seed) & (self.table["stage"] == self.stages)]
        return [name for name in self.methods if name in set(done["method"])]

    @property
    def asked_methods(self):
        return [name for name in self.methods if METHODS[name].asks]

    def title(self, text):
        return f"{text} (small run)" if self.small else text

    def domains(self, seed):
        return SimpleNamespace(target=Folder(count=4), evaluation=Folder(count=7))

    def pair(self, method, seed, stage, image):
        """Both say what the truth says, but in the mask the second says another class."""
        generator = np.random.default_rng([seed, stage, image])
        first = generator.random((14, H, W), dtype=np.float32)
        first[np.where(TRUTH == IGNORE, CAR, TRUTH), *np.indices((H, W))] += 2
        second = first.copy()
        rows, columns = np.nonzero(MASK)
        second[generator.integers(3, 6, MASK.sum()), rows, columns] += 4
        return first / first.sum(axis=0), second / second.sum(axis=0)

    def asked_before(self, method, seed, stage):
        known = Selection.nothing(4, (H, W))
        for earlier in range(1, stage):
            views = [self.view(method, seed, earlier, i) for i in range(4)]
            parts = [v.positions for v in views], [v.answers for v in views]
            known = known.merge(Selection((H, W), *parts))
        return known

    def _positions(self, method, seed, stage, image):
        if method == "spl":
            return np.flatnonzero(MASK)
        if method == "random_points":
            return np.array([at(stage, 0), at(2 + stage, 9), at(0, 3)])
        pair = map(torch.from_numpy, self.pair(method, seed, stage, image))
        taken = torch.from_numpy(self.asked_before(method, seed, stage).mask(image))
        return ppl(Candidates(*pair, 3, taken)).numpy()

    def image_scores(self, method, seed, stage):
        later = [0.0, -50.0, 0.0, 0.0] if stage > 1 else 0
        return np.array([70.0, 90.0, 40.0, 60.0]) + later

    def view(self, method, seed, stage, image, after=False):
        if self.failure is not None:
            raise self.failure
        probs = np.full((14, H, W), 0.02, np.float32)
        probs[ROAD, :, : 10 + image - after] = 0.74
        probs[BUILDING, :, 10 + image - after :] = 0.74
        positions = self._positions(method, seed, stage, image)
        return Scene(
            name=f"photo{image}",
            image=np.full((H, W, 3), 100 + 10 * image + 25 * seed, np.uint8),
            truth=TRUTH,
            probs=probs,
            mask=MASK if METHODS[method].selector else None,
            positions=positions,
            answers=TRUTH.reshape(-1)[positions],
            points=METHODS[method].sees == "points",
        )

    def predictions(self, method, seed, numbers):
        return [np.full((H, W), (FINISHED.index(method) + n) % 14, np.uint8) for n in numbers]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))  # without the finished runs of this machine
    return FakeRun()


@pytest.fixture
def explorer(run):
    return widgets.SelectionExplorer(run, method="spl")


def pixels(picture: widgets.Picture) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(picture.png)).convert("RGB"))


def square(picture: widgets.Picture, row: int, column: int) -> np.ndarray:
    """The pixels that show one pixel of an image that is shown whole."""
    return pixels(picture)[row * SCALE : (row + 1) * SCALE, column * SCALE : (column + 1) * SCALE]


def check_only(boxes, *names):
    for name, box in boxes.items():
        box.value = name in names


def slider_of(**change) -> widgets.DisagreementSlider:
    some = np.zeros((H, W), bool)
    some[1:5, 8] = True  # 4 errors, nothing else
    given = {"steps": [0, 10, 20], "masks": [np.zeros((H, W), bool), some, MASK]} | change
    truth = given.pop("truth", TRUTH)
    view = FakeRun().view("spl", 0, 1, 0)
    scene = Scene(image=np.full((H, W, 3), 200, np.uint8), truth=truth, probs=view.probs)
    return widgets.DisagreementSlider(scene, **given)


def asked_nothing(run):
    run.methods = ["source_only"]
    return run


def agreeing(run):
    pair = run.pair
    run.pair = lambda *key: (pair(*key)[0],) * 2
    return run


def failing(run, error):
    run.failure = error
    return run


# -------------------------------------------------------------------------- what all of them do
MAKERS = {
    widgets.SelectionExplorer: widgets.SelectionExplorer,
    widgets.PrototypeViewer: widgets.PrototypeViewer,
    widgets.DisagreementSlider: lambda run: slider_of(),
    widgets.CompareDashboard: widgets.CompareDashboard,
    widgets.SettingChooser: lambda run: widgets.SettingChooser(),
}


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_widget_has_a_figure_and_named_controls(kind, run):
    widget = MAKERS[kind](run)
    assert widget.error == "" == widget.status.value
    assert viz.to_png(widget.figure()).startswith(b"\x89PNG")
    assert "run this cell" in widget._repr_mimebundle_()["text/plain"]
    assert kind.__name__ in widgets.__all__
    for control in walk(widget):
        if hasattr(control, "description") and not hasattr(control, "placeholder"):
            assert control.description or type(control).__name__ == "Play", control
            assert getattr(control, "tooltip", "") or getattr(control, "tooltips", ""), control
        if isinstance(control, widgets.Picture) and control.png:
            assert control.alt


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda run: widgets.SelectionExplorer(run, method="source_only"),
            "'source_only': choose from",
        ),
        (
            lambda run: widgets.SelectionExplorer(run, method="spl", seed=7),
            "seed '7': choose from 0, 1",
        ),
        (lambda run: widgets.PrototypeViewer(run, stage=3), "stage '3': choose from 1, 2"),
        (lambda run: widgets.CompareDashboard(run, seed=5), "seed 5"),
        (
            lambda run: widgets.SettingChooser(labels="some"),
            "labels 'some': choose from all, few, none",
        ),
        (lambda run: widgets.SelectionExplorer(asked_nothing(run)), "no finished method"),
        (lambda run: widgets.PrototypeViewer(agreeing(run)), "agree on this whole image"),
        (
            lambda run: widgets.SelectionExplorer(failing(run, InputError("<b>\nrun again"))),
            "<b> run again",
        ),
        (lambda run: widgets.SelectionExplorer(failing(run, KeyError("k"))), "KeyError: 'k'"),
        (lambda run: slider_of(masks=[MASK]), "1 masks"),
        (lambda run: slider_of(steps=[], masks=[]), ""),
        (lambda run: slider_of(truth=TRUTH[:4]), ""),
        (lambda run: slider_of(masks=[MASK[1:]] * 3), ""),
    ],
)
def test_what_cannot_be_shown_becomes_a_line(run, make, message):
    widget = make(run)
    assert message in widget.error != ""
    assert "<b>" not in widget.status.value
    assert 'role="alert"' in widget.status.value
    assert isinstance(widget.figure(), Figure)
    if hasattr(widget, "picture"):
        assert widget.picture.png == b""


@pytest.mark.parametrize(
    ("kind", "control", "said"),
    [
        (widgets.SelectionExplorer, "image", " of camvid: LabOR PPL"),
        (widgets.PrototypeViewer, "image", "camvid: LabOR PPL"),
        (widgets.CompareDashboard, "page", "mIoU of 1 methods"),
    ],
)
def test_another_finished_run_can_be_chosen(kind, control, said, run, monkeypatch):
    other, small, again = FakeRun(), FakeRun(), FakeRun()
    other.folder, small.folder, small.small = Path("runs/camvid"), Path("runs/small"), True
    other.methods, other.title = ["ppl"], "camvid: {}".format
    monkeypatch.setattr(controls, "finished_runs", lambda: [small, again])
    assert kind(run).runs is None, "no other one of its size"
    monkeypatch.setattr(controls, "finished_runs", lambda: [other, small, again])
    view = kind(run)
    assert [name for name, _ in view.runs.options] == ["streets", "camvid"]
    getattr(view, control).value = 1
    kept, figure = view.children, viz.to_png(view.figure())
    view.runs.value = other
    assert view.children[0] is view.runs
    assert not set(view.children[1:]) & set(kept), "all other controls are of the other run"
    assert sum(getattr(part, "description", "") == "run" for part in walk(view)) == 1
    assert any(said in part.alt for part in walk(view) if isinstance(part, widgets.Picture))
    assert viz.to_png(view.figure()) == figure, "the static figure stays that of the run given"
    view.runs.value = run
    assert view.children == kept, "as it was left"


def test_the_controls_go_on_after_an_error(explorer):
    shown = explorer.picture.png
    explorer.run.failure = InputError("gone")
    explorer.image.value = 1
    assert explorer.picture.png == b"", "not the picture of another image"
    assert explorer.counts.value == ""
    explorer.run.failure = None
    explorer.image.value = 0
    assert explorer.error == explorer.status.value == ""
    assert explorer.picture.png == shown


def test_a_change_waits_while_another_thread_draws(explorer, monkeypatch):
    """JupyterLab hands changes to two threads; none may be lost."""
    update, begun, go = explorer._update, Event(), Event()

    def slow():
        begun.set()
        go.wait(10)
        update()

    monkeypatch.setattr(explorer, "_update", slow)
    first = Thread(target=lambda: explorer._guarded(explorer._update))
    second = Thread(target=lambda: explorer._guarded(lambda: setattr(explorer, "title", "late")))
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(0.2)
    go.set()
    first.join()
    second.join()
    assert (explorer.title, explorer.error) == ("late", "")


def test_names_are_escaped(run):
    nasty = tuple(f"<b>{name}&" for name in STREETS14.names)
    run.class_set = ClassSet("nasty", nasty, STREETS14.palette, STREETS14.from_train_ids)
    run.table.columns = [
        f"iou_<b>{name.removeprefix('iou_')}&" if name.startswith("iou_") else name
        for name in run.table.columns
    ]
    for view in (
        widgets.SelectionExplorer(run),
        widgets.PrototypeViewer(run),
        widgets.CompareDashboard(run),
    ):
        assert view.error == ""
        assert not any("<b>road" in str(getattr(part, "value", "")) for part in walk(view))
    text = widgets.Text()
    text.show([("<i>", "<u>")])
    assert "&lt;i&gt;: <b>&lt;u&gt;</b>" in text.value


# ------------------------------------------------------------------------------------- explorer
def layers(explorer, base: str, *overlays: str) -> np.ndarray:
    """The picture with these alone, one colour for each of its own pixels: H x W x 3."""
    explorer.base.value = base
    check_only(explorer.overlays, *overlays)
    return pixels(explorer.picture)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].astype(int)


def test_a_second_method_beside(run, explorer):
    assert explorer.second.shown is None
    explorer.beside.value = "random_points"
    assert explorer.error == ""
    alone = widgets.SelectionExplorer(run, method="random_points")
    np.testing.assert_array_equal(pixels(explorer.second), pixels(alone.picture))
    assert explorer.second.caption == f"random points: {alone.picture.caption}"
    assert "of the 2 points asked here" in explorer.second.caption  # one is void
    given = widgets.SelectionExplorer(run, method="spl", beside="random_points")
    np.testing.assert_array_equal(pixels(given.second), pixels(explorer.second))
    explorer.beside.value = "none"
    assert explorer.second.shown is None


def test_the_models_before_and_after_a_stage_and_where_they_differ(explorer):
    before = pixels(explorer.picture)
    explorer.beside.value = "other"
    assert explorer.error == ""
    assert "on 12 % of all pixels" in explorer.picture.caption  # columns 8 and 9: 14 of 112
    assert explorer.second.caption.startswith("after this stage: The model is wrong on")
    assert "6.2 % of all pixels" in explorer.second.caption  # column 8
    shown = layers(explorer, "image", "difference")
    plain = np.full(3, round(0.55 * 100 + 25))
    for column, colour in ((7, plain), (8, WHITE), (9, (230, 159, 0))):
        expected = plain if colour is plain else 0.35 * plain + 0.65 * np.array(colour)
        np.testing.assert_allclose(shown[3, column], expected, atol=0.6)
        assert (shown[0, column] == plain).all(), "void is no error"
    parts = "only left correct: 0 %, only right correct: 6.2 %, neither correct: 6.2 %"
    assert explorer.legend.alt == f"colours: {parts}"
    explorer.opacity.value = 50
    mixed = layers(explorer, "image", "difference")[3, 9]
    np.testing.assert_allclose(mixed, (plain + shown[3, 9]) / 2, atol=0.6)
    explorer.opacity.value = 100
    explorer.model.value = True
    assert explorer.picture.caption.startswith("after this stage: The model is wrong on")
    assert explorer.second.caption.startswith("before this stage: The model is wrong on")
    explorer.beside.value = "none"
    assert explorer.overlays["difference"].disabled
    explorer.model.value = False
    check_only(explorer.overlays, "mask", "asked")
    np.testing.assert_array_equal(pixels(explorer.picture), before)


def test_the_pointer_reads_classes_and_probability(explorer):
    explorer.image.value = 3
    found = explorer.picture.pixels
    assert (found["height"], found["width"], found["names"][BUILDING]) == (H, W, "building")
    values = np.frombuffer(found["values"], np.uint8).reshape(H, W, 3)
    assert values[3, 7].tolist() == [ROAD, ROAD, 74]
    assert values[3, 12].tolist() == [BUILDING, ROAD, 74]  # road is predicted in columns 0 to 12
    assert values[0, 15].tolist() == [IGNORE, BUILDING, 74]


def test_previous_and_next_go_by_number_or_from_the_worst_image(explorer):
    def press(button):
        button.click()
        assert explorer.error == explorer.status.value == ""
        return explorer.image.value

    assert [press(explorer.next), press(explorer.next), press(explorer.previous)] == [1, 2, 1]
    explorer.worst.value = True
    assert explorer.image.value == 2
    assert "; mIoU 40.0 %, 0 images are worse" in explorer.many.value
    assert [press(explorer.next) for _ in range(4)] == [3, 0, 1, 2]
    assert press(explorer.previous) == 1
    explorer.model.value = True
    assert "; mIoU 40.0 %, 0 images are worse" in explorer.many.value
    explorer.worst.value = False
    assert explorer.image.value == 1
    assert "mIoU" not in explorer.many.value


def test_counts_of_regions(explorer):
    # the mask holds 7 road pixels, right, 7 building pixels, wrong, and 2 void
    caption = explorer.picture.caption
    assert "7 of the 14 pixels asked here (50 %)" in caption
    assert "12 % of all pixels" in caption
    numbers = dict(counting.counts(explorer.run.view("spl", 0, 1, 0), np.ones((H, W), bool)))
    assert list(numbers.values()) == ["16", "≥ 3", "2", "50 %", "12 %", "16 pixels", "12 %", "50 %"]
    assert all(f"{name}: {value}" in explorer.counts.text for name, value in numbers.items())
    explorer.only.value = ROAD  # predicted in columns 0-9: the whole mask, all errors, 70 known
    assert "20 % of all pixels predicted road" in explorer.picture.caption
    explorer.only.value = BUILDING  # columns 10-15: no mask, nothing asked, no error
    assert "Nothing was asked here; the model is wrong on 0 %" in explorer.picture.caption
    assert not (pixels(explorer.picture) == ASKED_COLOUR).all(axis=2).any()
    faded = np.round(0.25 * (0.55 * 100 + 25) + 20)
    assert (layers(explorer, "image", "entropy", "error")[3, 8] == faded).all()
    explorer.only.value = CAR
    assert "no pixel of this image as car" in explorer.picture.caption


def test_controls_change_the_counts_and_the_picture(explorer):
    steps = (("image", 1, "19 % of all pixels"),  # 21 of 112
             ("seed", 1, ""),
             ("method", "random_points", "1 of the 2 points asked here (50 %)"),  # one void
             ("stage", 2, ""))  # fmt: skip
    for control, value, said in steps:
        before = explorer.picture.png
        getattr(explorer, control).value = value
        assert explorer.picture.png != before
        assert said in explorer.picture.caption
    assert explorer.overlays["mask"].disabled
    explorer.image.value = 99
    assert explorer.image.value == 3
    explorer.method.value = "spl"
    assert not explorer.overlays["mask"].disabled


def test_bases_and_overlays_are_where_their_pixels_are(explorer):
    assert (layers(explorer, "image")[3, 3] == 100).all()
    assert explorer.legend.png == b""
    truth = layers(explorer, "truth")
    np.testing.assert_array_equal(truth, colourise(TRUTH, STREETS14))
    plain = layers(explorer, "prediction")
    expected = np.repeat([ROAD, BUILDING], [10, 6])[None].repeat(H, 0).astype(np.uint8)
    np.testing.assert_array_equal(plain, colourise(expected, STREETS14))
    whole = pixels(explorer.picture).astype(int)
    errors = np.zeros((H, W), bool)
    errors[1:, 8:10] = True
    for name, expected in {
        "error": errors, "mask": MASK, "asked": MASK, "entropy": np.ones((H, W), bool),
    }.items():  # fmt: skip
        layers(explorer, "prediction", name)
        difference = (pixels(explorer.picture).astype(int) != whole).any(axis=2)
        share = difference.reshape(H, SCALE, W, SCALE).mean(axis=(1, 3))
        np.testing.assert_array_equal(share > 0.1, expected)  # more than by an outline
    layers(explorer, "prediction", "mask")
    drawn = square(explorer.picture, 3, 7)[1, 1]
    expected = 0.35 * STREETS14.palette[ROAD] + 0.65 * np.array(WHITE)  # no class has this colour
    np.testing.assert_allclose(drawn, expected, atol=0.6)
    layers(explorer, "prediction", "error")
    drawn = square(explorer.picture, 3, 9).reshape(-1, 3)
    shares = [(drawn == one).all(axis=1).mean() for one in (WHITE, (0, 0, 0))]
    np.testing.assert_allclose(shares, [1 / 2, 1 / 4], atol=0.02)
    layers(explorer, "truth", *explorer.overlays)
    for name in ("road", "building", "void", "error", "all of it asked", "entropy", "asked pixel"):
        assert name in explorer.legend.alt
    assert "sidewalk" not in explorer.legend.alt


# ----------------------------------------------------------------------------------- prototypes
@pytest.mark.parametrize(("seed", "stage", "image"), [(0, 1, 0), (1, 2, 3)])
def test_prototypes_choose_what_the_run_stored(run, seed, stage, image):
    taken = run.asked_before("ppl", seed, stage).mask(image)
    assert taken.any() == (stage == 2)
    found = prototypes_of(*run.pair("ppl", seed, stage, image), taken)
    stored = run.view("ppl", seed, stage, image).positions
    assert sorted(one.point for one in list(found.values())[:3]) == stored.tolist()  # 3: the budget
    first, second = run.pair("ppl", seed, stage, image)
    probs = ((first + second) / 2).reshape(14, -1)
    uncertain = (first.argmax(0) != second.argmax(0)).ravel() & ~taken.ravel()
    members = np.concatenate([one.members for one in found.values()])
    assert sorted(members.tolist()) == np.flatnonzero(uncertain).tolist()
    for k, one in found.items():
        vectors = probs[:, one.members].T
        assert (vectors.argmax(axis=1) == k).all()
        np.testing.assert_allclose(one.mean, vectors.mean(axis=0), rtol=1e-5)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(one.mean)
        np.testing.assert_allclose(one.similarity, vectors @ one.mean / norms, rtol=1e-5)
        assert one.point == one.members[one.similarity.argmax()]


def test_prototype_viewer_shows_the_chosen_class(run):
    viewer = widgets.PrototypeViewer(run)
    found = prototypes_of(*run.pair("ppl", 0, 1, 0), np.zeros((H, W), bool))
    assert [k for _, k in viewer.chosen.options] == list(found)
    pictures = set()
    for k, one in found.items():
        viewer.chosen.value = k
        name = STREETS14.names[k]
        assert f"{len(one.members)} uncertain pixel" in viewer.picture.caption
        assert f"predicted {name}" in viewer.picture.caption
        answer = TRUTH.flat[one.point]
        true = "void" if answer == IGNORE else STREETS14.names[answer]
        assert viewer.crop.caption == f"The chosen point: predicted {name}, truly {true}."
        assert f"{name} {one.mean[k]:.2f}" in viewer.bars.alt
        assert f"{one.similarity.max():.2f};" in viewer.similarity.caption
        asked = one.point in run.view("ppl", 0, 1, 0).positions
        assert ("One point asked" in viewer.picture.caption) == asked
        row, column = divmod(one.point, W)
        y, x = np.nonzero((pixels(viewer.picture) == 255).all(axis=2))
        distance = np.hypot(y - (row + 0.5) * SCALE, x - (column + 0.5) * SCALE)
        assert np.ptp(distance) < 6  # a circle round the point
        left, top, zoom = viewer.crop.view
        assert left <= (column + 0.5) / W <= left + 1 / zoom
        assert top <= (row + 0.5) / H <= top + 1 / zoom
        assert (pixels(viewer.crop) == 255).all(axis=2).any()
        pictures |= {viewer.picture.png, viewer.similarity.png, viewer.bars.png}
    assert len(pictures) == 3 * len(found)
    for control, value in ((viewer.stage, 2), (viewer.seed, 1), (viewer.image, 3)):
        before = viewer.similarity.png
        control.value = value
        assert viewer.similarity.png != before
    left = prototypes_of(*run.pair("ppl", 1, 2, 3), run.asked_before("ppl", 1, 2).mask(3))
    names = [f"{STREETS14.names[k]} ({len(one.members)})" for k, one in left.items()]
    assert [name for name, _ in viewer.chosen.options] == names
    viewer.similarity.view = [0.25, 0.25, 2]
    assert viewer.picture.view == [0.25, 0.25, 2]  # both show the same part


# --------------------------------------------------------------------------------- disagreement
def test_the_slider_shows_each_step():
    slider = slider_of()
    table = slider.scores / 100
    np.testing.assert_allclose(table["precision"], [np.nan, 1, 7 / 14])  # two of 16 are void
    np.testing.assert_allclose(table["recall"], [0, 4 / 14, 7 / 14])
    np.testing.assert_allclose(table.iloc[:, 2], [0, 4 / 128, 16 / 128])
    assert slider.step.label == "20"
    assert "50 % of it are errors (precision), 50 % of all errors" in slider.picture.caption
    curve = slider.curve.png
    slider.step.value = 1
    assert "Step 10: the mask (blue) holds 3.1 % of the pixels; 100 %" in slider.picture.caption
    assert slider.curve.png != curve
    blue = 0.35 * (0.55 * 200 + 25) + 0.65 * np.array(MASK_COLOUR)
    for row in range(H):
        there = np.allclose(square(slider.picture, row, 8)[0, 0], blue, atol=1)
        assert there == (1 <= row < 5)
    slider.play.value = 0
    assert slider.step.value == 0
    assert "none of it are errors" in slider.picture.caption
    slider.errors.value = True
    assert (square(slider.picture, 3, 9) == ERROR_COLOUR).all(axis=2).any()
    slider.play.value = 2
    assert slider.step.label == "20"


# ------------------------------------------------------------------------------ the first page
def test_the_dashboard_makes_a_tab_when_it_is_first_opened(run, monkeypatch):
    monkeypatch.setattr(dashboard, "render", lambda run, part: f"<h1>the {part}")
    made = []
    for name in ("CompareDashboard", "SelectionExplorer"):
        kind = getattr(widgets, name)
        monkeypatch.setattr(
            dashboard, name, lambda *args, kind=kind: made.append(kind) or kind(*args)
        )
    page = dashboard.Dashboard(run)
    lead, curve, tabs = page.children
    assert lead.value == "<h1>the lead"
    assert "clicks and against pixels" in curve.alt
    assert [len(one.children) for one in tabs.children] == [1, 0, 0, 0]
    for place in (1, 2, 3):
        assert len(made) == min(place - 1, 2)
        tabs.selected_index = place
    assert made == [widgets.CompareDashboard, widgets.SelectionExplorer]
    kept = [one.children for one in tabs.children]
    tabs.selected_index = 1
    assert [one.children for one in tabs.children] == kept, "as it was left"


@pytest.mark.parametrize(
    ("chosen", "there", "shown"),
    [
        ("", ["camvid", "small", "streets"], "streets"),
        ("", ["small", "camvid"], "camvid"),
        ("", ["small-lite", "small"], "small"),
        ("small", ["camvid", "small", "streets"], "small"),
        ("", [], "made"),
        ("small", ["streets"], "made"),
        ("runs/mine", ["streets"], "made"),
    ],
)
def test_the_run_of_the_dashboard(chosen, there, shown, monkeypatch):
    """Nothing is trained where a run lies; open_run opens LABOR_RUN's folder."""
    runs = [SimpleNamespace(folder=Path(one), small=one.startswith("small")) for one in there]
    monkeypatch.setenv("LABOR_RUN", chosen)
    monkeypatch.setattr(dashboard, "finished_runs", lambda: runs)
    monkeypatch.setattr(dashboard, "open_run", lambda *_: SimpleNamespace(folder=Path("made")))
    assert dashboard.run_to_show().folder.name == shown


# ----------------------------------------------------------------------------------- comparison
@pytest.fixture
def board(run):
    return widgets.CompareDashboard(run, images=7)


def test_methods_change_curve_table_and_grid(board):
    def titles(*methods):
        return f"rows: {', '.join(['image', 'truth', *map(viz.short_title, methods)])}"

    before = board.curve.png
    board.methods["random_points"].value = True
    assert board.curve.png != before
    assert board.predictions.alt == titles(*FINISHED)
    check_only(board.methods, "ppl", "source_only")
    assert board.predictions.alt == titles("source_only", "ppl")
    assert "supervised" not in board.heat.alt
    assert board.curve.caption == "Highest mIoU: LabOR PPL (63.0 ± 1.4)."
    board.all_methods.click()
    assert all(box.value for box in board.methods.values())
    assert "200 clicks an image" in board.curve.caption  # at stage 2


def test_classes_and_axis_change_the_curve(board):
    check_only(board.classes, "road", "car")
    assert f"LabOR PPL {63 + (0 + 11) / 2 - 6.5:.1f}" in board.heat.alt
    assert "mIoU over road, car" in board.curve.alt
    board.metric.value = "car"
    assert "Highest IoU of car: supervised" in board.curve.caption
    assert f"({73 + 11 - 6.5:.1f} ± 1.4)" in board.curve.caption
    board.classes["car"].value = False  # the metric goes with its class
    assert board.metric.value == ""
    assert "IoU of road" in board.curve.alt
    board.all_classes.click()
    assert board.curve.alt.startswith("mIoU of")
    for axis in ("pixels", "seconds"):
        before = board.curve.png
        board.axis.value = axis
        assert board.curve.png != before
        assert axis in board.curve.alt


def test_pages_show_other_images(board):
    check_only(board.methods, "ppl")
    assert len(board.page.options) == 3
    for page, numbers in enumerate(([0, 1, 2], [3, 4, 5], [6])):
        board.page.value = page
        assert board.predictions.caption.endswith(f"images {', '.join(map(str, numbers))}")
        shown = pixels(board.predictions)
        height, scale = len(shown) // 3, 450 // W
        width = scale * W + 8  # with the gap
        for place, number in enumerate(numbers):
            k = (FINISHED.index("ppl") + number) % 14
            expected = (
                np.full((H, W, 3), 100 + number),
                colourise(Folder(count=7).label(number).numpy(), STREETS14),
                np.broadcast_to(STREETS14.palette[k], (H, W, 3)),
            )
            left = shown.shape[1] - width * (len(numbers) - place) + 8
            for row, wanted in enumerate(expected):  # the image, its truth, the prediction
                part = shown[row * height :, left:][: scale * H : scale, : scale * W : scale]
                np.testing.assert_array_equal(part, wanted)


# --------------------------------------------------------------------------------- the example
def test_the_worked_example_of_the_documentation_runs(run):
    names = {}
    exec(compile(SECTIONS["A widget"][0], "EXTEND.md", "exec"), names)
    widget = names["ErrorMap"](run, "spl")
    before = widget.picture.png
    widget.image.value = 1
    assert widget.error == ""
    assert widget.picture.png != before
    assert "19 %" in widget.picture.caption
    assert isinstance(widget.figure(), Figure)
