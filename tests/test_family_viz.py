"""The family's figures: what they say is read off the axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labor_lib.lab import viz
from labor_lib.lab.family_viz import (
    STYLES,
    Embedded,
    domain_dots,
    embedding_figure,
    few_curve,
    score_dots,
)
from labor_lib.methods.registry import CLASSIFICATION


def results(rows) -> pd.DataFrame:
    """(method, few, seed, accuracy[, target]) -> a table like results.csv."""
    rows = [(*row, "t") if len(row) == 4 else row for row in rows]
    table = pd.DataFrame(rows, columns=["method", "few", "seed", "accuracy", "target"])
    return table.assign(
        title=[CLASSIFICATION[name].title for name in table["method"]], train_seconds=1.0
    )


TABLE = results(
    [
        ("source_only", 0, 0, 40.0), ("source_only", 0, 1, 50.0),
        ("ccsa", 1, 0, 60.0), ("ccsa", 1, 1, 64.0), ("ccsa", 3, 0, 70.0), ("ccsa", 3, 1, 74.0),
    ]
)  # fmt: skip


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_method_has_a_style_of_its_own():
    assert set(STYLES) == set(CLASSIFICATION)
    assert len({(s.colour, s.marker) for s in STYLES.values()}) == len(STYLES)


def test_score_dots_say_mean_and_spread():
    figure = score_dots(TABLE, "Title")
    assert texts(figure) == ["45.0 ± 7.1", "62.0 ± 2.8", "72.0 ± 2.8"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["source only (ERM)", "CCSA, 1 a class", "CCSA, 3 a class"]
    assert figure.axes[0].get_title(loc="left") == "Title"


def test_one_seed_has_no_spread():
    assert texts(score_dots(TABLE[TABLE["seed"] == 0])) == ["40.0", "60.0", "70.0"]


def test_few_curve_draws_methods_without_labels_as_level_lines():
    axes = few_curve(TABLE).axes[0]
    level, curve = axes.lines[0], axes.lines[1]
    assert list(level.get_ydata()) == [45, 45]
    assert list(curve.get_xdata()) == [1, 3]
    assert list(curve.get_ydata()) == [62, 72]
    assert [t.get_text() for t in axes.texts] == ["source only (ERM)", "CCSA"]


def test_labels_of_curves_do_not_overlap():
    rows = [("source_only", 0, 0, 70.0), ("ccsa", 1, 0, 70.0), ("joint", 1, 0, 70.1),
            ("ccsa", 3, 0, 70.1), ("joint", 3, 0, 70.2)]  # fmt: skip
    axes = few_curve(results(rows)).axes[0]
    places = sorted(text.xy[1] for text in axes.texts)
    low, high = axes.get_ylim()
    assert min(np.diff(places)) > 0.05 * (high - low)


def test_domain_dots_end_with_the_mean_of_the_domains():
    rows = [("sagnet", 0, 0, 30.0, "a"), ("sagnet", 0, 0, 50.0, "b"),
            ("sagnet", 0, 1, 40.0, "a"), ("sagnet", 0, 1, 60.0, "b")]  # fmt: skip
    figure = domain_dots(results(rows))
    assert texts(figure) == ["35.0 ± 7.1", "55.0 ± 7.1", "45.0 ± 7.1"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b", "mean"]


def test_an_embedding_puts_every_class_at_its_source_points():
    points = np.array([[0, 0], [0, 2], [5, 5], [9, 9]], float)
    embedded = Embedded(points, np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    figure = embedding_figure({"before": embedded, "after": embedded}, "Title", ["cat", "dog"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["before", "after"]
    assert {t.get_text(): t.get_position() for t in figure.axes[0].texts} == {
        "cat": (0, 1), "dog": (5, 5),
    }  # fmt: skip


@pytest.mark.parametrize("make", [score_dots, few_curve, domain_dots])
def test_figures_render(make):
    assert viz.to_png(make(TABLE, "Title")).startswith(b"\x89PNG")
