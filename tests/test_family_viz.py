"""The figures of classification: what they say is read off the axes."""

import numpy as np
import pandas as pd
import pytest

from labor_lib.lab.family_viz import (
    Embedded,
    domain_dots,
    embedding_figure,
    few_curve,
    score_dots,
)


def results(rows) -> pd.DataFrame:
    """(method, few, seed, accuracy[, target]) -> a table like results.csv."""
    rows = [(*row, "t") if len(row) == 4 else row for row in rows]
    return pd.DataFrame(rows, columns=["method", "few", "seed", "accuracy", "target"])


TABLE = results(
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
    figure = score_dots(TABLE, "Title")
    assert texts(figure) == ["45.0 ± 7.1", "62.0 ± 2.8", "72.0 ± 2.8"]
    assert [text.xy for text in figure.axes[0].texts] == [(45, 0), (62, 1), (72, 2)]
    assert rows_of(figure) == ["source only (ERM)", "CCSA, 1 a class", "CCSA, 3 a class"]
    assert figure.axes[0].get_title(loc="left") == "Title"
    assert texts(score_dots(TABLE[TABLE["seed"] == 0])) == ["40.0", "60.0", "70.0"]


def test_few_curve_draws_methods_without_labels_as_level_lines():
    figure = few_curve(TABLE)
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
    rows = [("sagnet", 0, 0, 30.0, "b"), ("sagnet", 0, 0, 50.0, "a"),
            ("sagnet", 0, 1, 40.0, "b"), ("sagnet", 0, 1, 60.0, "a")]  # fmt: skip
    rows += [("source_only", *row[1:]) for row in rows]
    figure = domain_dots(results(rows))
    assert texts(figure) == [f"{mean}.0 ± 7.1" for mean in (35, 35, 55, 55, 45, 45)]
    assert rows_of(figure) == ["b", "a", "mean"]


def test_an_embedding_puts_every_class_at_its_source_points():
    points = np.array([[0, 0], [0, 2], [5, 5], [9, 9]], float)
    embedded = Embedded(points, np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    figure = embedding_figure({"before": embedded, "after": embedded}, "Title", ["cat", "dog"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["before", "after"]
    assert {t.get_text(): t.get_position() for t in figure.axes[0].texts} == {
        "cat": (0, 1), "dog": (5, 5),
    }  # fmt: skip
