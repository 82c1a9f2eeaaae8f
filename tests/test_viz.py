"""Figures show the numbers and the places they are given."""

import io
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_report import accuracies, rows

from labor_lib.lab import family_viz, scene, viz
from labor_lib.lab.scene import Scene
from labor_lib.labels import IGNORE, STREETS14, colourise
from labor_lib.methods.registry import CLASSIFICATION, METHODS

SCORES = {  # last stage, of seeds 0 and 1
    "source_only": [24.0, 26.0],
    "ppl": [60.0, 62.0],
    "spl": [66.0, 68.0],
    "supervised": [70.0, 72.0],
}


@pytest.fixture
def table():
    return rows(SCORES, stages=2)


def lines_by_colour(axes):
    """Without the caps of error bars, which have no line."""
    return {line.get_color(): line for line in axes.get_lines() if line.get_linestyle() != "None"}


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_row_of_seeds():
    figure = viz.seed_dots({"one": ([40.0, 50.0], "#000000"), "other": ([30.0], "#ff0000")}, "Who")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "other"]
    assert [text.get_text() for text in axes.texts] == ["45.0", "30.0"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[40, 50], [45], [30], [30]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first on top"


def test_every_method_has_its_own_style():
    plain = [name for name, method in METHODS.items() if not (method.control or method.arena)]
    bare = {name: replace(METHODS[name], style=None) for name in plain}
    for styles in (
        [viz.style_of(method) for method in plain],
        [viz.style_of(method, bare) for method in plain],  # what the kind of labels gives
        list(family_viz.STYLES.values()),
    ):
        assert len({(style.colour, style.marker) for style in styles}) == len(styles)
    # controls differ by line or filling; a strategy of the arena has one style at all budgets
    everything = [viz.style_of(name) for name, method in METHODS.items() if not method.arena]
    assert len(set(everything)) == len(everything)
    assert set(family_viz.STYLES) == set(CLASSIFICATION)


def test_every_kind_has_a_family():
    assert {viz.family_of(name) for name in METHODS} == set(viz.FAMILIES)


@pytest.mark.parametrize(("axis", "factor"), [("clicks", 0.25), ("pixels", 1.0), ("seconds", 0.25)])
def test_budget_curve_shows_means_and_spreads(table, axis, factor):
    figure = viz.budget_curve(table, axis)
    axes = figure.axes[0]
    lines = lines_by_colour(axes)
    ppl = lines[viz.style_of("ppl").colour]
    np.testing.assert_allclose(ppl.get_xdata(orig=False), [8 * factor, 16 * factor])
    np.testing.assert_allclose(ppl.get_ydata(orig=False), [56, 61])
    for method, level in (("source_only", 25), ("supervised", 71)):
        np.testing.assert_allclose(lines[viz.style_of(method).colour].get_ydata(), level)
    bars = axes.containers[0].lines[2][0].get_segments()
    sd = np.std([55, 57], ddof=1)
    np.testing.assert_allclose(bars[0][:, 1], [56 - sd, 56 + sd])
    if axis == "seconds":  # from the least to the most
        spans = [c for c in axes.collections if len(c.get_segments()[0]) == 2][-1]  # of SPL
        np.testing.assert_allclose([s[:, 0] for s in spans.get_segments()], [[16, 64], [32, 128]])
    assert axes.get_xscale() == "log"
    assert axis in axes.get_xlabel()
    asked = f"{128 * factor:,.0f} {axis} an image"  # of the last stage
    title = f"LabOR SPL, whole mask: 67.0 mIoU for {asked} (all labels: 71.0)"
    assert axes.get_title(loc="left").replace("\n", " ") == title
    assert legend_texts(figure) == [
        "supervised, source + target  71.0",
        "LabOR SPL, whole mask  67.0",
        "LabOR PPL  61.0",
        "source only  25.0",
    ]
    partly = table.assign(miou=table["miou"].where(table["method"] != "ppl"))  # never seen by PPL
    assert len(legend_texts(viz.budget_curve(partly, axis))) == 3
    assert not legend_texts(viz.budget_curve(table.assign(miou=np.nan), axis))
    table["method"] = table["method"].replace("ppl", "<b>$x")  # a lone dollar would stop it
    figure = viz.budget_curve(table[table["seed"] == 0])
    assert viz.to_png(figure).startswith(b"\x89PNG")
    assert not figure.axes[0].collections, "one seed has no bars"
    assert r"<b>\$x  60.0" in legend_texts(figure)


def test_two_budgets_side_by_side_without_the_empty_range(table):
    figure = viz.budget_curve(table, ("clicks", "pixels"))
    left, right = figure.axes
    assert ("clicks" in left.get_xlabel(), "pixels" in right.get_xlabel()) == (True, True)
    assert (left.get_ylabel(), right.get_ylabel()) == ("mIoU in %", "")
    assert left.get_ylim()[0] == right.get_ylim()[0] == 25 - 1  # below source only
    assert left.get_ylim()[1] > 71
    assert legend_texts(figure)[::3] == ["supervised, source + target  71.0", "source only  25.0"]
    low = table.assign(miou=table["miou"].where(table["method"] != "ppl", 10.0))
    assert viz.budget_curve(low, ("clicks", "pixels")).axes[0].get_ylim()[0] == 10 - 1
    high = table[table["method"] != "source_only"]
    assert viz.budget_curve(high, ("clicks", "pixels")).axes[0].get_ylim()[0] > 40


def test_class_heatmap_shows_the_last_stage(table):
    axes = viz.class_heatmap(table).axes[0]
    values = axes.collections[0].get_array()
    np.testing.assert_allclose(values[:, 0], [25, 61, 67, 71])
    np.testing.assert_allclose(values[:, 1], [35, 71, 77, 81])
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[1.5, 2.5] == "77"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["mIoU", "road", "sky"]
    sd = np.std([60, 62], ddof=1)
    assert axes.get_yticklabels()[1].get_text() == f"LabOR PPL  61.0 ± {sd:.1f}"
    one_seed = viz.class_heatmap(table[table["seed"] == 0]).axes[0]
    assert one_seed.get_yticklabels()[1].get_text() == "LabOR PPL  60.0"


def test_time_bars_are_differences_of_the_sums(table):
    figure = viz.time_bars(table)
    bars = figure.axes[0].patches
    row = [bar for bar in bars if np.isclose(bar.get_y() + bar.get_height() / 2, 1)]  # ppl
    np.testing.assert_allclose([60 * bar.get_width() for bar in row], [50, 10, 50, 10])
    np.testing.assert_allclose([60 * bar.get_x() for bar in row], [0, 50, 60, 110])
    assert legend_texts(figure) == ["training", "selection"]


def test_selector_curves_show_every_stage():
    history = pd.DataFrame({"method": "ppl", "stage": [1, 1, 2, 2], "step": [0, 1, 0, 1]})
    history = history.assign(
        mask_share=[0.1, 0.2, 0.3, 0.4], loss5=[4.0, 3, 2, 1], loss6=[-1.0, -2, -3, -4]
    )
    figure = viz.selector_curves(history)
    mask, loss5, loss6 = figure.axes
    np.testing.assert_allclose(mask.get_lines()[1].get_ydata(), [30, 40])
    np.testing.assert_allclose(loss5.get_lines()[0].get_ydata(), [4, 3])
    np.testing.assert_allclose(loss6.get_lines()[1].get_ydata(), [-3, -4])
    assert legend_texts(figure) == ["stage 1", "stage 2"]


PHOTO = np.full((8, 16, 3), 200, np.uint8)


def pixels_of(picture: np.ndarray, scale: int) -> np.ndarray:
    """The middle of every enlarged pixel: H x W x 3."""
    return picture[scale // 2 :: scale, scale // 2 :: scale]


def test_heat_and_labels_are_where_their_pixels_are():
    """test_widgets looks at the other layers."""
    there = np.zeros((8, 16), bool)
    there[2, 3] = True
    values = np.where(there, 0.3, np.nan)
    heat = pixels_of(scene.paint(PHOTO, [scene.Heat(values, strength=0.8)], 320), 20)
    expected = 0.2 * 200 + 0.8 * 255 * np.array(matplotlib.colormaps["cividis"](0.3)[:3])
    np.testing.assert_allclose(heat[2, 3], expected, atol=1.5)
    assert (heat[~there] == 200).all()
    label = np.where(there, 4, IGNORE).astype(np.uint8)
    shown = viz.label_overlay(PHOTO, label, STREETS14, strength=1.0)
    assert (shown[2, 3] == STREETS14.palette[4]).all()
    assert (shown[3, 2] == 200).all()


def test_dots_and_rings_lie_at_column_and_row():
    positions = np.array([1 * 16 + 5, 6 * 16 + 15])  # (row 1, column 5) and (row 6, column 15)
    colours = colourise(np.array([11, IGNORE], np.uint8), STREETS14)
    shown = pixels_of(scene.paint(PHOTO, [scene.Dots(positions, colours=colours)]), 60)
    assert (shown != 200).any(axis=2).nonzero()[1].tolist() == [5, 15]
    np.testing.assert_array_equal(shown[[1, 6], [5, 15]], colours)
    ring = scene.paint(PHOTO, [scene.Rings(positions[:1])])
    y, x = (ring == 255).all(axis=2).nonzero()
    assert np.ptp(np.hypot(y - 1.5 * 60, x - 5.5 * 60)) < 6
    assert (pixels_of(ring, 60) == 200).all()  # the pixel itself stays free


def test_selection_grid_has_images_down_and_stages_across():
    def asked(position, points=True):
        at, answers = np.array([position]), np.array([11], np.uint8)
        return Scene(image=PHOTO, positions=at, answers=answers, points=points)

    rows = [[asked(1), asked(2)], [asked(3), asked(4, points=False)]]
    axes = viz.selection_grid(rows, STREETS14, ["stage 1", "stage 2"]).axes
    shown = [pixels_of(np.array(a.images[0].get_array()), 60) for a in axes]
    colours = [*[STREETS14.palette[11]] * 3, scene.ASKED_COLOUR]
    for position, picture, colour in zip((1, 2, 3, 4), shown, colours, strict=True):
        assert (picture == colour).all(axis=2).nonzero()[1].tolist() == [position]
    assert [a.get_title() for a in axes] == ["stage 1", "stage 2", "", ""]
    many = viz.image_grid({str(i): [PHOTO] for i in range(20)}, title="Title")
    assert many.get_figheight() <= viz.TALL + 0.01, "no taller than a screen"


def test_a_palette_keeps_rare_colours_and_saves_bytes():
    rng = np.random.default_rng(0)
    photo = rng.normal((90, 100, 110), 12, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    photo[5:8, 5:8] = (250, 170, 30)  # a far traffic light
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    png = buffer.getvalue()
    small = viz.with_palette(png)
    shown = np.array(Image.open(io.BytesIO(small)).convert("RGB")).astype(int)
    assert len(small) < len(png) / 2
    assert shown.shape == photo.shape
    assert np.abs(shown - photo).max() <= 30
    assert np.abs(shown[6, 6] - (250, 170, 30)).max() <= 5


TABLE = accuracies(
    [
        ("source_only", 0, 0, 40.0), ("source_only", 0, 1, 50.0),
        ("ccsa", 3, 0, 70.0), ("ccsa", 3, 1, 74.0), ("ccsa", 1, 0, 60.0), ("ccsa", 1, 1, 64.0),
    ]
)  # fmt: skip


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def rows_of(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_score_dots_say_mean_and_spread():
    figure = family_viz.score_dots(TABLE, "Title")
    assert texts(figure) == ["45.0 ± 7.1", "62.0 ± 2.8", "72.0 ± 2.8"]
    assert [text.xy for text in figure.axes[0].texts] == [(45, 0), (62, 1), (72, 2)]
    assert rows_of(figure) == ["source only (ERM)", "CCSA, 1 a class", "CCSA, 3 a class"]
    assert figure.axes[0].get_title(loc="left") == "Title"
    assert texts(family_viz.score_dots(TABLE[TABLE["seed"] == 0])) == ["40.0", "60.0", "70.0"]


def test_few_curve_draws_methods_without_labels_as_level_lines():
    figure = family_viz.few_curve(TABLE)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    level, curve = lines["source only (ERM)"], lines["CCSA"]
    assert list(level.get_ydata()) == [45, 45]
    assert list(curve.get_xdata()) == [1, 3]
    assert list(curve.get_ydata()) == [62, 72]
    bars = next(c for c in figure.axes[0].collections if len(c.get_segments()) == 2)
    assert bars.get_segments()[1][:, 1] == pytest.approx([72 - 8**0.5, 72 + 8**0.5])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["CCSA", "source only (ERM)"], "in the order of their ends"


def test_domain_dots_end_with_the_mean_of_the_domains():
    values = [("sagnet", 0, 0, 30.0, "b"), ("sagnet", 0, 0, 50.0, "a"),
              ("sagnet", 0, 1, 40.0, "b"), ("sagnet", 0, 1, 60.0, "a")]  # fmt: skip
    values += [("source_only", *row[1:]) for row in values]
    figure = family_viz.domain_dots(accuracies(values), classes=4)
    assert [25, 25] in [list(line.get_xdata()) for line in figure.axes[0].lines], "chance"
    assert texts(figure).pop(6).strip() == "chance"
    assert texts(figure)[:6] == [f"{mean}.0 ± 7.1" for mean in (35, 35, 55, 55, 45, 45)]
    assert rows_of(figure) == ["b", "a", "mean"]


def test_an_embedding_puts_every_class_at_its_source_points():
    points = np.array([[0, 0], [0, 2], [5, 5], [9, 9]], float)
    embedded = family_viz.Embedded(points, np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    figure = family_viz.embedding_figure(
        {"before": embedded, "after": embedded}, "Title", ["cat", "dog"]
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["before", "after"]
    assert {t.get_text(): t.get_position() for t in figure.axes[0].texts} == {
        "cat": (0, 1), "dog": (5, 5),
    }  # fmt: skip


def test_swaps_have_contents_down_and_styles_across():
    images = torch.rand(9, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    figure = family_viz.swap_figure({"one": (images, ("a", "b", "c"))}, "Title")
    (axes,) = figure.axes
    page = axes.images[0].get_array()  # 15 x 15 x 3
    np.testing.assert_allclose(page[5:10, 10:] / 255, images[5].permute(1, 2, 0), atol=0.002)
    frames = [[round(v / 5) for v in patch.get_xy()] for patch in axes.patches]
    assert frames == [[0, 0], [1, 1], [2, 2]]  # the originals
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_sample_photographs_are_square_and_in_colour():
    images, names = family_viz.sample_photographs(32)
    assert images.shape == (len(names), 3, 32, 32)
    assert 0 <= images.min() < 0.1
    assert 0.9 < images.max() <= 1
    assert (images[:, 0] - images[:, 2]).abs().mean() > 0.05
