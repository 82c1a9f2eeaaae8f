"""The table of published figures: read by metric, sourced, and as typed a second time."""

import pytest

from labor_lib.errors import InputError
from labor_lib.lab.published import published
from labor_lib.methods.registry import CLASSIFICATION, METHODS

# paper begins with, setting, method, budget -> score; typed anew from the sources
SPOTS = {
    ("LabOR", "GTA5 -> Cityscapes", "SPL", "2.2 % of pixels"): 66.6,
    ("AdaptSegNet", "GTA5 -> Cityscapes", "AdaptSegNet", "none"): 42.4,
    ("IAST", "GTA5 -> Cityscapes", "IAST", "none"): 51.88,
    ("RIPU", "GTA5 -> Cityscapes", "RIPU, points", "40 points at 1280 x 640"): 65.5,
    ("DANN", "MNIST -> MNIST-M", "DANN", "none"): 76.66,
    ("CCSA", "MNIST -> USPS", "CCSA", "1 labelled image a class"): 85.0,
    ("SagNet", "PACS, mean of leave-one-out", "SagNet", "none"): 83.25,
    ("DomainBed", "DomainNet, mean of leave-one-out", "SagNet", "none"): 40.3,
}


@pytest.mark.parametrize(("metric", "registry"), [("mIoU", METHODS), ("accuracy", CLASSIFICATION)])
def test_figures_are_percentages_with_sources_of_our_methods(metric, registry):
    table = published(metric)
    assert table[metric.lower()].between(0, 100).all()
    assert table["checked"].dtype == bool
    assert (table["source"].str.len() > 15).all()
    assert set(table["ours"]) <= {"", *registry}
    assert not table.loc[table["source"].str.contains("as quoted in|second-hand"), "checked"].any()


@pytest.mark.parametrize("spot", SPOTS, ids=lambda spot: f"{spot[0]} {spot[2]}")
def test_spot_values(spot):
    paper, *keys = spot
    rows = [
        row
        for metric in ("mIoU", "accuracy")
        for row in published(metric).rename(columns={metric.lower(): "score"}).to_dict("records")
    ]
    found = [
        row["score"]
        for row in rows
        if row["paper"].startswith(paper)
        and [row[k] for k in ("setting", "method", "budget")] == keys
    ]
    assert SPOTS[spot] in found


def test_there_is_no_third_metric():
    with pytest.raises(InputError, match="metric 'F1': choose from mIoU, accuracy"):
        published("F1")
