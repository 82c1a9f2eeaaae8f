"""A person's seconds: by hand, and from measured times."""

import numpy as np
import pandas as pd
import pytest

from labor_lib.annotation.cost import COUNTS, acts, person_seconds
from labor_lib.config import SMOKE
from labor_lib.errors import InputError
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.runtime import write_json

# kind, pixels, clicks, pieces -> least, most; with 0.9 s a key and 79.2 s an outline
BY_HAND = {
    "40 points": ("points", 40, 40, 40, 36.0, 36.0),
    "points of a file twice as large": ("points", 160, 40, 40, 36.0, 36.0),
    "one piece of one class": ("pixels", 50, 1, 1, 0.9, 0.9),
    "small piece over a border: every pixel is cheaper": ("pixels", 10, 2, 1, 1.8, 9.0),
    "large piece over a border: its outline is cheaper": ("pixels", 900, 2, 1, 1.8, 81.0),
    "two large pieces of two classes": ("pixels", 900, 4, 2, 3.6, 162.0),
    "file smaller than the network's picture": ("pixels", 1, 4, 4, 3.6, 3.6),
    "all regions outlined": ("all", 25088, 70, 1, 5544.0, 5544.0),
    "some images with all regions outlined": ("few", 2508.8, 7.0, 0.1, 554.4, 554.4),
    "tags of an image": ("tags", 0, 11, 11, 30.0, 30.0),
    "tags, nothing further asked": ("tags", 0, 0, 0, 0.0, 0.0),
    "a point of each class": ("class points", 11, 11, 11, 45.0, 45.0),
    "nothing asked": ("none", 0, 0, 0, 0.0, 0.0),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_seconds_by_hand(case):
    kind, *counts, least, most = BY_HAND[case]
    assert person_seconds(*counts, kind) == pytest.approx((least, most))


def test_seconds_of_arrays_are_those_of_their_rows():
    rows = np.array([values[1:4] for values in BY_HAND.values() if values[0] == "pixels"], float)
    together = np.transpose(person_seconds(*rows.T, "pixels"))
    np.testing.assert_allclose(together, [person_seconds(*row, "pixels") for row in rows])
    with pytest.raises(InputError, match="kind 'many': choose from none, points, pixels, few"):
        person_seconds(1, 1, 1, "many")


def test_figures_have_sources_and_those_not_read_there_are_marked():
    table = acts()
    assert (table["seconds"] > 0).all()
    assert (table["source"].str.len() > 20).all()
    unsure = table["source"].str.contains("second-hand|quote|assumed|remembered")
    assert not table.loc[unsure, "checked"].any()
    used = set(table.index[table["used"]])
    assert used == {"point", "region", "outline", "tags", "class points"}
    assert table.loc[["point", "outline"], "checked"].all()


def finished_stages(out, method: str, stages: list[dict]) -> pd.DataFrame:
    """The results of a run whose stages wrote these counts."""
    scores = {"train_seconds": 1.0, "scores": {"miou": 50.0}, "iou": {"road": 50.0}}
    for number, counts in enumerate(stages, start=1):
        write_json(out / f"seed0/{method}/stage{number}/phase.json", scores | counts)
    fabric = type("Fabric", (), {"_precision": type("P", (), {"precision": "32-true"})})
    return SegmentationPhases(SMOKE, out, Roots(out), fabric).results()


def paid(*counts: float, **further) -> dict:
    return dict(zip(COUNTS, counts, strict=True)) | further


def columns(table: pd.DataFrame) -> list[list[float]]:
    return table[["seconds_per_image", "most_seconds_per_image"]].round(6).to_numpy().tolist()


def test_results_add_stages_up_and_measured_seconds_replace_computed_ones(tmp_path):
    points = [paid(4.0, 4, 4), paid(4.0, 3, 3), paid(4.0, 2, 2)]
    table = finished_stages(tmp_path / "a", "ppl", points)
    assert columns(table) == [[3.6, 3.6], [6.3, 6.3], [8.1, 8.1]]
    points[1]["seconds"] = 20.0
    table = finished_stages(tmp_path / "b", "ppl", points)
    assert columns(table) == [[3.6, 3.6], [23.6, 23.6], [25.4, 25.4]]
    table = finished_stages(tmp_path / "c", "spl", [paid(10.0, 2, 1)] * 3)
    assert columns(table) == [[1.8, 9.0], [3.6, 18.0], [5.4, 27.0]]
    table = finished_stages(tmp_path / "d", "supervised", [paid(512.0, 10, 1)] * 3)
    assert columns(table) == [[792.0, 792.0]] * 3  # pays once
    table = finished_stages(tmp_path / "e", "source_only", [{}] * 3)
    assert columns(table) == [[0.0, 0.0]] * 3
