"""Widgets show the numbers and places of what they are given, whatever their controls say.

`FakeRun` is a run of 8 x 16 pixels whose counts can be made by hand:

    truth        row 0 void; below, columns 0-7 road, columns 8-15 building
    prediction   road in columns 0-9 (of image i: 0 to 9 + i), building right of it
    mask         columns 7 and 8
"""

import inspect
import io
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.runs import View
from labor_lib.lab.ui import markup, problems, views, widgets
from labor_lib.lab.ui.widgets import (
    CompareDashboard,
    Disagreement,
    DisagreementSlider,
    Picture,
    PrototypeViewer,
    SelectionExplorer,
    SettingChooser,
)
from labor_lib.labels import IGNORE, STREETS14, ClassSet, colourise
from labor_lib.methods.registry import METHODS
from labor_lib.selection.record import Selection
from labor_lib.selection.rules import ppl

H, W = 8, 16
SCALE = viz.PICTURE_WIDTH // W
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
    class_set = STREETS14

    def __init__(self):
        rows = []
        for method, seed, stage in itertools.product(FINISHED, (0, 1), (1, 2)):
            score = MIOU[method] + 2 * seed + stage
            row = {"method": method, "seed": seed, "stage": stage, "miou": score}
            row |= {"pixels_per_image": 2.0 * CLICKS.get(method, 0) * stage}
            row |= {"clicks_per_image": 1.0 * CLICKS.get(method, 0) * stage}
            row |= {f"iou_{name}": score + k - 6.5 for k, name in enumerate(STREETS14.names)}
            rows.append(row | {"iou_bus": np.nan} if method == "spl" else row)
        self.table = pd.DataFrame(rows)
        self.failure: Exception | None = None

    @property
    def asked_methods(self):
        return [name for name in self.methods if METHODS[name].labels == "asked"]

    def title(self, text):
        return f"{text} (small preset)" if self.small else text

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
        pair = (torch.from_numpy(one)[None] for one in self.pair(method, seed, stage, image))
        taken = torch.from_numpy(self.asked_before(method, seed, stage).mask(image))[None]
        return ppl(*pair, 3, taken, torch.Generator()).positions[0]

    def view(self, method, seed, stage, image):
        if self.failure is not None:
            raise self.failure
        probs = np.full((14, H, W), 0.02, np.float32)
        probs[ROAD, :, : 10 + image] = 0.74
        probs[BUILDING, :, 10 + image :] = 0.74
        positions = self._positions(method, seed, stage, image)
        return View(
            name=f"photo{image}",
            image=np.full((H, W, 3), 100 + 10 * image + 25 * seed, np.uint8),
            truth=TRUTH,
            probs=probs,
            mask=MASK if METHODS[method].selector else None,
            positions=positions,
            answers=TRUTH.reshape(-1)[positions],
            points=METHODS[method].budget == "points",
        )

    def predictions(self, method, seed, numbers, stage=None):
        return [np.full((H, W), (FINISHED.index(method) + n) % 14, np.uint8) for n in numbers]


@pytest.fixture
def run():
    return FakeRun()


@pytest.fixture
def explorer(run):
    return SelectionExplorer(run, method="spl")


def pixels(picture: Picture) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(picture.png)).convert("RGB"))


def square(picture: Picture, row: int, column: int) -> np.ndarray:
    """The pixels that show one pixel of an image that is shown whole."""
    return pixels(picture)[row * SCALE : (row + 1) * SCALE, column * SCALE : (column + 1) * SCALE]


def only_layers(explorer, base: str, *overlays: str) -> None:
    explorer.base.value = base
    for name, box in explorer.overlays.items():
        box.value = name in overlays


def press(picture: Picture, kind: str, x: float = 0.5, y: float = 0.5) -> None:
    picture.event = {"kind": kind, "x": x, "y": y, "count": picture.event.get("count", 0) + 1}


# -------------------------------------------------------------------------- what all of them do


def disagreement() -> Disagreement:
    prediction = np.where(np.arange(W) < 10, ROAD, BUILDING)[None].repeat(H, axis=0)
    some = np.zeros((H, W), bool)
    some[1:5, 8] = True  # 4 errors, nothing else
    photo = np.full((H, W, 3), 200, np.uint8)
    masks = [np.zeros((H, W), bool), some, MASK]
    return Disagreement(photo, TRUTH, prediction.astype(np.uint8), [0, 10, 20], masks)


MAKERS = {
    "Picture": lambda run: Picture(),
    "SelectionExplorer": SelectionExplorer,
    "PrototypeViewer": PrototypeViewer,
    "DisagreementSlider": lambda run: DisagreementSlider(disagreement()),
    "CompareDashboard": CompareDashboard,
    "SettingChooser": lambda run: SettingChooser(),
}


def public_classes():
    return [
        name
        for name, member in inspect.getmembers(widgets, inspect.isclass)
        if member.__module__ == widgets.__name__ and not name.startswith("_")
    ]


@pytest.mark.parametrize("name", public_classes())
def test_every_widget_has_a_figure_and_a_line_for_readers_without_a_kernel(name, run):
    widget = MAKERS[name](run)
    assert isinstance(widget, getattr(widgets, name))
    figure = widget.figure()
    assert isinstance(figure, Figure)
    assert viz.to_png(figure).startswith(b"\x89PNG")
    if name != "Picture":
        line = f"{name}: run this cell for the live version; the figure below shows the same"
        assert widget._repr_mimebundle_()["text/plain"] == repr(widget) == line
        assert widget.error == "" == widget.status.value


@pytest.mark.parametrize("name", public_classes())
def test_every_control_has_a_name_and_a_tooltip(name, run):
    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    for control in walk(MAKERS[name](run)):
        if hasattr(control, "description") and not type(control).__name__.startswith("HTML"):
            named = control.description or type(control).__name__ == "Play"
            assert named, control
            assert getattr(control, "tooltip", "") or getattr(control, "tooltips", ""), control
        if isinstance(control, Picture) and control.png:
            assert control.alt
            assert bool(control.label) == control.clickable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x.npz: <b>damaged</b>\nrun again"), "x.npz: <b>damaged</b> run again"),
        (RuntimeError("no room"), "RuntimeError: no room"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_an_error_becomes_a_line_and_the_controls_go_on(explorer, error, line):
    shown = explorer.picture.png
    explorer.run.failure = error
    explorer.image.value = 1
    assert explorer.error == line
    assert "<b>" not in explorer.status.value
    assert 'role="alert"' in explorer.status.value
    assert explorer.picture.png == b""  # not the picture of another image
    assert explorer.counts.value == ""
    assert isinstance(explorer.figure(), Figure)
    explorer.run.failure = None
    explorer.image.value = 0
    assert explorer.error == ""
    assert explorer.status.value == ""
    assert explorer.picture.png == shown


def test_damaged_events_do_no_harm(explorer):
    explorer.picture.event = {"kind": "click", "x": "left", "y": None, "count": 1}
    assert "Error" in explorer.error
    press(explorer.picture, "click", 7.0, -3.0)  # outside: at the corner
    assert explorer.window == viz.Window(0.5, 0.0, 2)
    press(explorer.picture, "nonsense")
    assert explorer.window == viz.Window()


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"method": "source_only"}, "source_only"),
        ({"method": "spl", "seed": 7}, "seed 7"),
        ({"method": "spl", "stage": 3}, "stage 3"),
        ({"method": "spl", "stage": 0}, "stage 0"),
    ],
)
def test_wishes_that_cannot_be_are_told(run, wish, named):
    explorer = SelectionExplorer(run, **wish)
    assert named in explorer.error
    assert "choose from" in explorer.error
    assert explorer.picture.png == b""
    explorer.image.value = 1
    assert explorer.error == ""
    assert explorer.picture.png


def test_a_run_that_asked_nothing_is_told(run):
    run.methods = ["source_only"]
    for view in (SelectionExplorer(run), PrototypeViewer(run)):
        assert "no finished method" in view.error
        assert view.image.disabled
        assert isinstance(view.figure(), Figure)


# ------------------------------------------------------------------------------------- explorer


def test_counts_of_regions(explorer):
    # the mask holds 7 road pixels, right, 7 building pixels, wrong, and 2 void
    assert explorer.picture.caption == (
        "The model is wrong on 7 of the 14 pixels asked here (50 %), and on 12 % of all pixels."
    )
    lines = dict(views.counts_lines(views.count_view(explorer.run.view("spl", 0, 1, 0)), False))
    assert lines == {
        "pixels asked": "16",
        "clicks": "≥ 3",  # road, building, void
        "asked, but void": "2",
        "errors among asked": "50 %",
        "errors among all": "12 %",  # 14 of 112
        "mask": "16 pixels",
        "mask's share of all": "12 %",
        "errors in the mask": "50 %",
    }
    for name, value in lines.items():
        assert markup.html.escape(name) in explorer.counts.value
        assert f">{value}<" in explorer.counts.value


def test_image_stage_seed_and_method_change_the_counts_and_the_picture(explorer):
    seen = [explorer.picture.png]

    def changed():
        seen.append(explorer.picture.png)
        return seen[-1] != seen[-2]

    explorer.image.value = 1
    assert changed()
    assert "19 % of all pixels" in explorer.picture.caption  # 21 of 112
    explorer.seed.value = 1
    assert changed()
    explorer.method.value = "random_points"
    assert changed()
    # (1, 0) is right, (3, 9) wrong, (0, 3) void
    assert "1 of the 2 points asked here (50 %)" in explorer.picture.caption
    assert "none: no selector" in explorer.counts.value
    explorer.stage.value = 2
    assert changed()
    assert "stage 2" in explorer.picture.alt
    assert "photo1" in explorer.picture.alt


def test_the_image_number_stays_inside(explorer):
    explorer.image.value = 99
    assert explorer.image.value == 3
    assert "image 3" in explorer.picture.alt


def test_base_layers(explorer):
    only_layers(explorer, "image")
    np.testing.assert_array_equal(square(explorer.picture, 3, 3), np.full((SCALE, SCALE, 3), 100))
    for base, row, column, colour in (
        ("truth", 3, 3, STREETS14.palette[ROAD]),
        ("truth", 3, 9, STREETS14.palette[BUILDING]),
        ("truth", 0, 3, (0, 0, 0)),
        ("prediction", 3, 9, STREETS14.palette[ROAD]),
        ("prediction", 0, 10, STREETS14.palette[BUILDING]),
    ):
        only_layers(explorer, base)
        assert (square(explorer.picture, row, column) == colour).all()


def test_each_overlay_is_where_its_pixels_are(explorer):
    only_layers(explorer, "prediction")
    plain = pixels(explorer.picture).astype(int)

    def touched():
        """The image's pixels that an overlay changed, more than by an outline: H x W."""
        difference = (pixels(explorer.picture).astype(int) != plain).any(axis=2)
        return difference.reshape(H, SCALE, W, SCALE).mean(axis=(1, 3)) > 0.1

    errors = np.zeros((H, W), bool)
    errors[1:, 8:10] = True
    for name, expected in {"error": errors, "mask": MASK, "asked": MASK}.items():
        only_layers(explorer, "prediction", name)
        np.testing.assert_array_equal(touched(), expected)
    assert (square(explorer.picture, 3, 7) == viz.ASKED_COLOUR).all()
    only_layers(explorer, "prediction", "error")
    striped = (square(explorer.picture, 3, 8) == viz.ERROR_COLOUR).all(axis=2).mean()
    assert striped == pytest.approx(0.5, abs=0.05)
    only_layers(explorer, "prediction", "entropy")
    assert touched().all()


def test_entropy_has_the_colour_of_its_value(explorer):
    only_layers(explorer, "image", "entropy")
    p = np.array([0.74, *[0.02] * 13])
    share = -(p * np.log(p)).sum() / np.log(14)
    expected = 0.15 * 100 + 0.85 * 255 * np.array(matplotlib.colormaps["cividis"](share)[:3])
    np.testing.assert_allclose(square(explorer.picture, 4, 4)[5, 5], expected, atol=2)


def test_points_are_dots_in_the_colour_of_the_answer(run):
    explorer = SelectionExplorer(run, method="random_points")
    only_layers(explorer, "image", "asked")
    middle = SCALE // 2
    assert tuple(square(explorer.picture, 1, 0)[middle, middle]) == tuple(STREETS14.palette[ROAD])
    assert tuple(square(explorer.picture, 3, 9)[middle, middle]) == tuple(
        STREETS14.palette[BUILDING]
    )
    assert (square(explorer.picture, 5, 5) == 100).all()


def test_the_mask_of_a_method_without_selector_is_disabled(explorer):
    mask = explorer.overlays["mask"]
    assert not mask.disabled
    explorer.method.value = "random_points"
    assert mask.disabled
    assert "no selector" in mask.description
    assert "mask" not in explorer.layers().overlays
    explorer.method.value = "spl"
    assert not mask.disabled
    assert "mask" in explorer.layers().overlays


def test_filter_by_predicted_class(explorer):
    explorer.only.value = ROAD  # predicted in columns 0-9: the whole mask, all errors, 70 known
    assert "20 % of all pixels predicted road" in explorer.picture.caption
    before = pixels(explorer.picture)
    explorer.only.value = BUILDING  # columns 10-15: no mask, nothing asked, no error
    assert explorer.picture.caption == (
        "Nothing was asked here; the model is wrong on 0 % of all pixels predicted building."
    )
    assert (pixels(explorer.picture) != before).any()
    assert not (pixels(explorer.picture) == viz.ASKED_COLOUR).all(axis=2).any()
    explorer.overlays["entropy"].value = explorer.overlays["error"].value = True
    assert (square(explorer.picture, 3, 8) == 45).all()  # faded: a quarter of 100 and 20
    explorer.only.value = CAR
    assert explorer.picture.caption == "The model predicts no pixel of this image as car."
    explorer.only.value = "all"
    assert "of all pixels." in explorer.picture.caption


@pytest.mark.parametrize(
    ("row", "column"), [(0, 0), (7, 15), (0, 15), (3, 8), (5, 2), (7, 0), (4, 13)]
)
def test_a_click_zooms_to_that_pixel(explorer, row, column):
    only_layers(explorer, "image")
    marked = np.full((H, W, 3), 100, np.uint8)
    marked[row, column] = (255, 0, 0)
    view = explorer.run.view("spl", 0, 1, 0)
    changed = View(**{**vars(view), "image": marked})
    explorer.run.view = lambda *args: changed
    explorer.image.value, explorer.image.value = 1, 0
    for zoom in (2, 4, 8):
        red = (pixels(explorer.picture) == (255, 0, 0)).all(axis=2)
        y, x = (place.mean() + 0.5 for place in np.nonzero(red))
        press(explorer.picture, "click", x / red.shape[1], y / red.shape[0])
        left, top, right, bottom = explorer.window.box(H, W)
        assert left <= column < right
        assert top <= row < bottom
        assert explorer.window.zoom == zoom
        assert right - left == W / zoom
        after = (pixels(explorer.picture) == (255, 0, 0)).all(axis=2)
        assert after.sum() == pytest.approx(red.sum() * 4, rel=0.02)
        assert f"zoom {zoom}" in explorer.picture.alt
    press(explorer.picture, "reset")
    assert explorer.window == viz.Window()


def test_keys_zoom_and_pan_and_the_button_resets(explorer):
    whole = explorer.picture.png
    press(explorer.picture, "in")
    assert explorer.window == viz.Window(0.25, 0.25, 2)
    for key, left, top in (("left", 0.125, 0.25), ("up", 0.125, 0.125), ("right", 0.25, 0.125)):
        press(explorer.picture, key)
        assert (explorer.window.left, explorer.window.top) == (left, top)
    press(explorer.picture, "down")
    for _ in range(5):
        press(explorer.picture, "right")
    assert explorer.window.left == 0.5  # not beyond the picture
    for _ in range(9):
        press(explorer.picture, "in")
    assert explorer.window.zoom == viz.Window.CLOSEST
    press(explorer.picture, "out")
    assert explorer.window.zoom == viz.Window.CLOSEST // 2
    explorer.reset.click()
    assert explorer.picture.png == whole


def test_a_second_click_at_the_same_place_counts(explorer):
    press(explorer.picture, "click", 0.5, 0.5)
    press(explorer.picture, "click", 0.5, 0.5)
    assert explorer.window.zoom == 4


def test_the_legend_names_what_is_shown(explorer):
    only_layers(explorer, "truth", "error", "mask", "asked", "entropy")
    for name in ("road", "building", "void", "error", "mask", "asked pixel", "entropy"):
        assert name in explorer.legend.value
    assert "sidewalk" not in explorer.legend.value
    only_layers(explorer, "image")
    assert "road" not in explorer.legend.value


def test_the_explorers_figure_says_the_same(explorer):
    explorer.run.small = True
    only_layers(explorer, "prediction", "error")
    press(explorer.picture, "click", 0.9, 0.9)
    axes = explorer.figure().axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), pixels(explorer.picture))
    title = axes.get_title(loc="left")
    assert explorer.picture.caption in title
    assert "(small preset)" in title
    assert "clicks: ≥ 3" in axes.get_xlabel()
    assert isinstance(SelectionExplorer(explorer.run).figure(), Figure)


def test_names_are_escaped(run):
    nasty = tuple(f"<b>{name}&" for name in STREETS14.names)
    run.class_set = ClassSet("nasty", nasty, STREETS14.palette, STREETS14.from_train_ids)
    run.table.columns = [
        f"iou_<b>{name.removeprefix('iou_')}&" if name.startswith("iou_") else name
        for name in run.table.columns
    ]
    explorer, viewer, board = SelectionExplorer(run), PrototypeViewer(run), CompareDashboard(run)
    explorer.base.value = "truth"
    for view in (explorer, viewer, board):
        assert view.error == ""
    for text in (explorer.legend.value, explorer.counts.value, viewer.bars.value, board.heat.value):
        assert "<b>" not in text
    assert "&lt;b&gt;road&amp;" in explorer.legend.value
    assert "&lt;b&gt;road&amp;" in viewer.bars.value
    assert "&lt;b&gt;road&amp;" in board.heat.value
    assert "&lt;i&gt;" in markup.legend([("<i>", (0, 0, 0), "class")])


# ----------------------------------------------------------------------------------- prototypes


@pytest.mark.parametrize(("seed", "stage", "image"), [(0, 1, 0), (0, 2, 0), (1, 2, 3)])
def test_prototypes_choose_what_the_run_stored(run, seed, stage, image):
    taken = run.asked_before("ppl", seed, stage).mask(image)
    assert taken.any() == (stage == 2)
    found = widgets.prototypes_of(*run.pair("ppl", seed, stage, image), taken)
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
    viewer = PrototypeViewer(run)
    taken = np.zeros((H, W), bool)
    found = widgets.prototypes_of(*run.pair("ppl", 0, 1, 0), taken)
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
        assert f"{one.mean[k]:.2f}<" in viewer.bars.value
        assert f"{one.similarity.max():.2f};" in viewer.similarity.caption
        asked = one.point in run.view("ppl", 0, 1, 0).positions
        assert ("One point asked" in viewer.picture.caption) == asked
        y, x = np.nonzero((pixels(viewer.picture) == 255).all(axis=2))
        row, column = divmod(one.point, W)
        distance = np.hypot(y - (row + 0.5) * SCALE, x - (column + 0.5) * SCALE)
        assert len(distance)
        assert np.ptp(distance) < 6  # a circle round the point
        pictures |= {viewer.picture.png, viewer.similarity.png}
        axes = viewer.figure().axes
        widths = [bar.get_width() for bar in axes[2].patches]
        np.testing.assert_allclose(widths, one.mean, rtol=1e-5)
    assert len(pictures) == 2 * len(found)


def test_prototype_viewer_follows_seed_stage_image_and_zoom(run):
    viewer = PrototypeViewer(run)
    for control, value in ((viewer.stage, 2), (viewer.seed, 1), (viewer.image, 3)):
        before = viewer.similarity.png
        control.value = value
        assert viewer.error == ""
        assert viewer.similarity.png != before
    assert "seed 1, stage 2, image 3" in viewer.picture.alt
    before = run.asked_before("ppl", 1, 2).mask(3)  # what stage 1 asked is left out
    left = widgets.prototypes_of(*run.pair("ppl", 1, 2, 3), before)
    total = sum(len(one.members) for one in left.values())
    assert total == MASK.sum() - before.sum()
    names = [f"{STREETS14.names[k]} ({len(one.members)})" for k, one in left.items()]
    assert [name for name, _ in viewer.chosen.options] == names
    whole = viewer.picture.png, viewer.similarity.png
    press(viewer.similarity, "click", 0.5, 0.5)
    assert viewer.window.zoom == 2
    assert viewer.picture.png != whole[0]
    viewer.reset.click()
    assert (viewer.picture.png, viewer.similarity.png) == whole


def test_an_image_without_uncertain_pixels_is_told(run):
    pair = run.pair
    run.pair = lambda *key: pair(*key) if key[3] == 0 else (pair(*key)[0],) * 2
    viewer = PrototypeViewer(run)
    viewer.image.value = 1
    assert "agree on this whole image" in viewer.error
    assert viewer.picture.png == b""
    viewer.image.value = 0
    assert viewer.error == ""
    assert viewer.picture.png


# --------------------------------------------------------------------------------- disagreement


def test_mask_scores_by_hand():
    one = disagreement()
    table = one.scores
    np.testing.assert_allclose(table["share"], [0, 4 / 128, 16 / 128])
    np.testing.assert_allclose(table["precision"], [np.nan, 1, 7 / 14])  # two of 16 are void
    np.testing.assert_allclose(table["recall"], [0, 4 / 14, 7 / 14])
    assert table["step"].tolist() == [0, 10, 20]


def test_the_slider_shows_each_step():
    slider = DisagreementSlider(disagreement())
    assert slider.step.label == "20"
    assert "50 % of it are errors (precision), 50 % of all errors" in slider.picture.caption
    curve = slider.curve.png
    slider.step.value = 1
    assert "Step 10: the mask holds 3.1 % of the pixels; 100 % of it" in slider.picture.caption
    assert slider.curve.png != curve
    blue = 0.35 * (0.55 * 200 + 25) + 0.65 * np.array(viz.MASK_COLOUR)
    for row in range(H):
        inside = 1 <= row < 5
        there = np.allclose(square(slider.picture, row, 8)[0, 0], blue, atol=1)
        assert there == inside
    slider.play.value = 0
    assert slider.step.value == 0
    assert "none of it are errors" in slider.picture.caption
    plain = slider.picture.png
    slider.errors.value = True
    assert slider.picture.png != plain
    assert (square(slider.picture, 3, 9) == viz.ERROR_COLOUR).all(axis=2).any()
    slider.play.value = 2
    assert slider.step.label == "20"


def test_the_marker_is_on_the_curve():
    one = disagreement()
    curve = views.ScoreCurve(one)
    for index in (1, 2):
        picture = curve.at(index)
        axes = curve.figure.axes[0]
        for name in ("precision", "recall", "share"):
            x, y = axes.transData.transform((one.steps[index], 100 * one.scores[name][index]))
            colour = views._SCORE_LOOKS[name][0]
            expected = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
            if name == "precision" and index == 2:
                continue  # recall has the same value and lies on top
            assert tuple(picture[len(picture) - round(y), round(x)]) == expected
    figure = views.disagreement_figure(one, 2)
    line = figure.axes[1].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), [np.nan, 100, 50])


@pytest.mark.parametrize(
    "change",
    [
        {"masks": [MASK]},
        {"steps": [], "masks": []},
        {"truth": TRUTH[:4]},
        {"masks": [MASK[1:]] * 3},
    ],
)
def test_bad_frames_are_told(change):
    slider = DisagreementSlider(Disagreement(**{**vars(disagreement()), **change}))
    assert slider.error
    assert slider.picture.png == b""
    assert isinstance(slider.figure(), Figure)


# ----------------------------------------------------------------------------------- comparison


def cells(text: str) -> list[list[str]]:
    """The texts of a table's rows below the head."""
    rows = text.split("<tr>")[2:]
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in rows]


@pytest.fixture
def board(run):
    return CompareDashboard(run, images=7)


def check_only(boxes, *names):
    for name, box in boxes.items():
        box.value = name in names


def test_heat_table_holds_means_and_spreads(board):
    rows = {row[0]: row[1:] for row in cells(board.heat.value)}
    assert list(rows) == [
        viz.short_title(m) for m in ("source_only", "ppl", "spl", "supervised")
    ]  # the main methods
    sd = np.std([62, 64], ddof=1)  # of PPL's last stage
    # the mean over classes of score + k - 6.5, k = 0..13, is the score
    assert rows["LabOR PPL"][0] == f"63.0 ± {sd:.1f}"
    assert rows["LabOR PPL"][1] == f"{63 - 6.5:.0f}"  # road
    assert rows["LabOR SPL, whole mask"][13] == "–"  # bus occurs nowhere


def test_methods_change_curve_table_and_grid(board):
    def rows_of_grid():
        return [name for name, row in board._rows.items() if row in board._grid.children]

    before = board.curve.png
    board.methods["random_points"].value = True
    assert board.curve.png != before
    assert "random points" in board.heat.value
    assert rows_of_grid() == ["image", "truth", *FINISHED]
    check_only(board.methods, "ppl", "source_only")
    assert rows_of_grid() == ["image", "truth", "source_only", "ppl"]
    assert "supervised" not in board.heat.value
    assert board.curve.caption == "Highest mIoU: LabOR PPL (63.0 ± 1.4)."
    board.all_methods.click()
    assert all(box.value for box in board.methods.values())
    assert "of those that ask: LabOR SPL" in board.curve.caption
    assert "200 clicks an image" in board.curve.caption  # at stage 2
    board.main_methods.click()
    assert not board.methods["random_points"].value
    assert "random points" not in board.heat.value


def test_classes_change_the_mean(board):
    check_only(board.classes, "road", "car")
    rows = {row[0]: row[1:] for row in cells(board.heat.value)}
    assert rows["LabOR PPL"][0].startswith(f"{63 + (0 + 11) / 2 - 6.5:.1f} ±")
    assert len(rows["LabOR PPL"]) == 3
    assert "mIoU over road, car" in board.curve.alt
    board.metric.value = "car"
    assert "Highest IoU of car: supervised" in board.curve.caption
    assert f"({73 + 11 - 6.5:.1f} ± 1.4)" in board.curve.caption
    board.classes["car"].value = False  # the metric goes with its class
    assert board.metric.value == ""
    assert "mIoU over road" in board.curve.alt
    board.all_classes.click()
    assert board.curve.alt.startswith("mIoU of")


def test_the_axis_changes_the_curve_alone(board):
    before = board.curve.png, board.heat.value, board.strips["ppl"].png
    board.axis.value = "pixels"
    assert board.curve.png != before[0]
    assert (board.heat.value, board.strips["ppl"].png) == before[1:]
    assert "pixels" in board.curve.alt


def test_nothing_chosen_is_told(board):
    for boxes, word in ((board.methods, "method"), (board.classes, "class")):
        check_only(boxes)
        assert board.error == f"choose at least one {word}"
        assert board.curve.png == b""
        assert isinstance(board.figure(), Figure)
        board.all_methods.click()
        board.all_classes.click()
        assert board.error == ""
        assert board.curve.png
        assert board.strips["ppl"].png


def test_pages_show_other_images(board):
    assert len(board.page.options) == 3
    step = W + 4
    for page, numbers in enumerate(([0, 1, 2], [3, 4, 5], [6])):
        board.page.value = page
        for name in ("image", "truth", "ppl"):
            shown = pixels(board.strips[name])
            assert shown.shape == (H, step * len(numbers) - 4, 3)
            for place, number in enumerate(numbers):
                part = shown[:, place * step : place * step + W]
                if name == "image":
                    expected = np.full((H, W, 3), 100 + number)
                elif name == "truth":
                    expected = colourise(Folder(count=7).label(number).numpy(), STREETS14)
                else:
                    k = (FINISHED.index("ppl") + number) % 14
                    expected = np.broadcast_to(STREETS14.palette[k], (H, W, 3))
                np.testing.assert_array_equal(part, expected)


def test_a_seed_that_nobody_finished_is_told(run):
    board = CompareDashboard(run, seed=5)
    assert "seed 5" in board.error
    assert isinstance(board.figure(), Figure)


def test_the_boards_figure_stacks_the_same(board):
    check_only(board.methods, "ppl")
    figure = board.figure()
    assert len(figure.axes) == 4  # curve, table, pictures, legend
    assert figure.texts[0].get_text() == board.curve.caption


# -------------------------------------------------------------------------------------- problems

COMBINATIONS = list(itertools.product(*(answers for _, answers in problems.QUESTIONS.values())))


@pytest.mark.parametrize("answers", COMBINATIONS)
def test_every_combination_has_one_name(answers):
    fitting = [problem for problem in problems.PROBLEMS if problem.fits(*answers)]
    assert len(fitting) == 1
    problem = problems.problem_of(*answers)
    assert problem.meaning.endswith(".")
    assert problem.example.endswith(".")
    row, column = problems.cell_of(*answers)
    assert problems.table()[row][column] == problem
    chooser = SettingChooser(*answers)
    assert chooser.error == ""
    assert problem.name[1:] in chooser.card.value
    assert chooser.images.disabled == (answers[2] == "all")
    assert bool(chooser.hint.value) == chooser.images.disabled
    assert chooser.table.value.count('aria-current="true"') == 1
    chosen = chooser.table.value.split('aria-current="true"')[1].split(">")[1]
    assert chosen.startswith(problem.name)


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        (("same", "same", "all", "no"), "supervised learning"),
        (("same", "same", "few", "yes"), "semi-supervised learning"),
        (("other", "same", "none", "yes"), "unsupervised domain adaptation"),
        (("other", "same", "few", "yes"), "semi-supervised or active domain adaptation"),
        (("other", "same", "none", "no"), "domain generalisation"),
        (("other", "other", "all", "yes"), "transfer learning by fine-tuning"),
    ],
)
def test_names_that_everybody_knows(answers, name):
    assert problems.problem_of(*answers).name == name


def test_the_chooser_follows_its_controls():
    chooser = SettingChooser()
    assert "LabOR" in chooser.card.value
    assert 'href="07_ppl.ipynb"' in chooser.card.value
    chooser.labels.value = "none"
    assert "Unsupervised domain adaptation" in chooser.card.value
    assert 'href="03_adversarial_warmup.ipynb"' in chooser.card.value
    chooser.images.value = "no"
    assert "Domain generalisation" in chooser.card.value
    texts = [text.get_text().replace("\n", " ") for text in chooser.figure().axes[0].texts]
    bold = [t for t in chooser.figure().axes[0].texts if t.get_fontweight() == "bold"]
    assert len(texts) == 20
    assert [t.get_text().replace("\n", " ") for t in bold] == ["domain generalisation"]
    chooser.task.value = "other"
    chooser.domain.value = "same"
    assert "Zero-shot transfer" in chooser.card.value


def test_an_unknown_answer_is_told():
    chooser = SettingChooser(labels="some")
    assert "labels 'some': choose from all, few, none" in chooser.error
    chooser.labels.value = "none"
    assert chooser.error == ""


def test_problems_name_notebooks_of_the_collection():
    notebooks = Path(__file__).parents[1] / "notebooks"
    for problem in problems.PROBLEMS:
        for name in problem.notebooks:
            assert (notebooks / f"{name}.ipynb").exists(), name


@pytest.mark.parametrize(
    ("answers", "notebook"),
    [
        (("other", "same", "few", "no"), "13_ccsa"),
        (("other", "same", "none", "yes"), "12_dann"),
        (("other", "same", "none", "no"), "14_sagnet"),
    ],
)
def test_the_wider_familys_problems_name_its_notebooks(answers, notebook):
    assert f'href="{notebook}.ipynb"' in SettingChooser(*answers).card.value
