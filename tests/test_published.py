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


def test_figures_are_percentages_with_sources_and_as_typed_a_second_time():
    found = {}
    for metric, registry in (("mIoU", METHODS), ("accuracy", CLASSIFICATION)):
        table = published(metric)
        assert table[metric.lower()].between(0, 100).all()
        assert (table["source"].str.len() > 15).all()
        assert set(table["ours"]) <= {"", *registry}
        second_hand = table["source"].str.contains("as quoted in|second-hand")
        assert not table.loc[second_hand, "checked"].any()
        for row in table.rename(columns={metric.lower(): "score"}).to_dict("records"):
            key = (
                row["paper"].split()[0].strip(",:"),
                row["setting"],
                row["method"],
                row["budget"],
            )
            found.setdefault(key, []).append(row["score"])
    for spot, score in SPOTS.items():
        assert score in found[spot], spot
    with pytest.raises(InputError, match="metric 'F1': choose from mIoU, accuracy"):
        published("F1")
