"""The table of published figures: whole, sourced, and as typed a second time."""

import pytest

from labor_lib.errors import InputError
from labor_lib.lab.published import COLUMNS, FILE, published
from labor_lib.methods.family_registry import FAMILY
from labor_lib.methods.registry import METHODS

# paper begins with, setting, classes, method, budget -> mIoU; typed anew from the sources
SPOTS = {
    ("LabOR", "GTA5 -> Cityscapes", 19, "SPL", "2.2 % of pixels"): 66.6,
    ("LabOR", "GTA5 -> Cityscapes", 19, "PPL", "40 points"): 63.5,
    ("AdaptSegNet", "GTA5 -> Cityscapes", 19, "AdaptSegNet", "none"): 42.4,
    ("AdaptSegNet", "GTA5 -> Cityscapes", 19, "AdaptSegNet, run again", "none"): 39.5,
    ("AdaptSegNet", "GTA5 -> Cityscapes", 19, "source only", "none"): 36.6,
    ("ADVENT", "GTA5 -> Cityscapes", 19, "AdvEnt", "none"): 43.8,
    ("IAST", "GTA5 -> Cityscapes", 19, "IAST", "none"): 51.88,
    ("IAST", "SYNTHIA -> Cityscapes", 16, "IAST", "none"): 51.54,
    ("IAST", "SYNTHIA -> Cityscapes", 13, "IAST", "none"): 57.81,
    ("RIPU", "GTA5 -> Cityscapes", 19, "RIPU, points", "40 points at 1280 x 640"): 65.5,
    ("RIPU", "GTA5 -> Cityscapes", 19, "RIPU, regions", "2.2 % of pixels"): 69.6,
    ("RIPU", "GTA5 -> Cityscapes", 19, "RIPU, regions", "5 % of pixels"): 71.2,
}


def test_every_figure_has_a_source_and_is_a_percentage():
    table = published()
    assert list(table.columns) == [{"score": "miou"}.get(c, c) for c in COLUMNS if c != "metric"]
    assert table["source"].str.len().min() > 15
    assert table["miou"].between(0, 100).all()
    assert set(table["ours"]) - {""} <= set(METHODS)
    assert table["checked"].dtype == bool
    # a paper whose figure was read elsewhere says where
    assert table.loc[table["paper"].str.startswith("ADVENT"), "source"].str.contains("quoted").all()
    unchecked = table[~table["checked"]]
    assert unchecked["source"].str.contains("second-hand").all()


def test_no_figure_stands_there_twice():
    table = published()
    assert not table.duplicated(["paper", "setting", "classes", "method", "budget", "miou"]).any()


@pytest.mark.parametrize("spot", SPOTS, ids=lambda spot: f"{spot[0]} {spot[3]} {spot[2]}")
def test_spot_values(spot):
    paper, setting, classes, method, budget = spot
    table = published()
    row = table[
        table["paper"].str.startswith(paper)
        & (table["setting"] == setting)
        & (table["classes"] == classes)
        & (table["method"] == method)
        & (table["budget"] == budget)
    ]
    assert row["miou"].tolist() == [SPOTS[spot]]


# paper begins with, setting, method, budget -> accuracy; typed anew
ACCURACIES = {
    ("DANN", "MNIST -> MNIST-M", "DANN", "none"): 76.66,
    ("CCSA", "MNIST -> USPS", "CCSA", "1 labelled image a class"): 85.0,
    ("CCSA", "MNIST -> USPS", "CCSA", "7 labelled images a class"): 92.9,
    ("CCSA", "MNIST -> USPS", "CCSA, run again", "1 labelled image a class"): 43.3,
    ("SagNet", "PACS, mean of leave-one-out", "SagNet", "none"): 83.25,
    ("DomainBed", "PACS, mean of leave-one-out", "SagNet", "none"): 86.3,
    ("DomainBed", "DomainNet, mean of leave-one-out", "ERM", "none"): 40.9,
    ("DomainBed", "DomainNet, mean of leave-one-out", "SagNet", "none"): 40.3,
}


@pytest.mark.parametrize("spot", ACCURACIES, ids=lambda spot: f"{spot[0]} {spot[2]} {spot[3]}")
def test_spot_accuracies(spot):
    paper, setting, method, budget = spot
    table = published("accuracy")
    row = table[
        table["paper"].str.startswith(paper)
        & (table["setting"] == setting)
        & (table["method"] == method)
        & (table["budget"] == budget)
    ]
    assert row["accuracy"].tolist() == [ACCURACIES[spot]]
    assert set(table["ours"]) <= {"", *FAMILY}


def test_there_is_no_third_metric():
    with pytest.raises(InputError, match="metric 'F1': choose from mIoU, accuracy"):
        published("F1")


def test_labor_falls_short_of_its_full_supervision_by_a_tenth():
    table = published().set_index(["paper", "method"])["miou"]
    labor = table["LabOR (Shin et al., ICCV 2021)"]
    assert labor["full supervision"] - labor["SPL"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("63.5", "635", r"line 2: no valid 'score'"),
        ("66.6,yes", "?,yes", r"line 3: no valid 'score'"),
        ("63.5,no", "63.5,maybe", r"line 2: no valid 'checked'"),
        (",no,ppl,", ",no,pls,", r"line 2: no valid 'ours'"),
        ('"the paper (arXiv 2108.05570), Table 1"', '" "', r"line 3: no valid 'source'"),
        ("Cityscapes,19,PPL", "Cityscapes,18,PPL", r"line 2: no valid 'classes'"),
        ("mIoU,66.6", "IoU,66.6", r"line 3: no valid 'metric'"),
        ("paper,setting", "paper,place", "its columns have to be paper, setting"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, old, new, message):
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "published.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        published(path=path)
    assert str(path) in str(caught.value)
    assert "restore" in str(caught.value)


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        published(path=tmp_path / "published.csv")
    (tmp_path / "published.csv").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="not a table"):
        published(path=tmp_path / "published.csv")
