"""Tables by hand, report.html of a real run, pages with markers; both kinds of runs."""

import html
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import accepted
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from test_metrics import miou_of

from labor_lib.config import SMOKE
from labor_lib.errors import InputError
from labor_lib.lab import report, viz
from labor_lib.lab.published import published
from labor_lib.lab.runs import SegmentationRun
from labor_lib.methods.registry import CLASSIFICATION, METHODS
from labor_lib.runtime import write_json
from labor_lib.selection.record import Masks, Selection

SCORES = {  # last stage, of seeds 0, 1, 2
    "source_only": [20.0, 23.0, 26.0],
    "ppl": [60.0, 62.0, 67.0],  # mean 63, standard deviation sqrt(13) = 3.606
    "spl": [64.0, 66.0, 65.0],
    "supervised": [70.0, 71.0, 72.0],
}
PIXELS = {"ppl": 16.0, "spl": 128.0, "supervised": 2048.0, "supervised_x4": 2048.0}


def rows(scores=SCORES, stages=3) -> pd.DataFrame:
    keys = [(m, seed, stage) for m, values in scores.items() for seed in range(len(values))
            for stage in range(1, stages + 1)]  # fmt: skip
    table = pd.DataFrame(keys, columns=["method", "seed", "stage"])
    last = np.array([scores[method][seed] for method, seed, _ in keys])
    paid = np.array([PIXELS.get(method, 0.0) for method in table["method"]])
    asked = paid * np.where(table["method"].str.contains("supervised"), 1, table["stage"] / stages)
    return table.assign(
        budget="40 points", miou=last - 5 * (stages - table["stage"]),
        pixels_per_image=asked, clicks_per_image=asked / 4, pieces_per_image=asked / 8,
        train_seconds=50.0 * table["stage"], seconds_per_image=asked / 4,
        most_seconds_per_image=asked * np.where(table["method"] == "spl", 1, 0.25),
        select_seconds=10.0 * table["stage"], iou_road=last + 10, iou_sky=np.nan,
    )  # fmt: skip


def folder_with(path, table, **record):
    path.mkdir(parents=True)
    table.to_csv(path / "results.csv", index=False)
    settings = {"settings": SMOKE.as_dict(), "target_root": "nowhere", "source_root": None}
    write_json(path / "config.json", settings | {"device": "cpu", "precision": "32"} | record)
    return path


@pytest.fixture
def out(tmp_path):
    table = rows(SCORES | {"supervised_x4": [80.0] * 3})
    return folder_with(tmp_path / "run", table, versions={"torch": "2.0"})


def accuracies(values) -> pd.DataFrame:
    """(method, few, seed, accuracy[, target]) -> a table like results.csv."""
    values = [(*row, "t") if len(row) == 4 else row for row in values]
    table = pd.DataFrame(values, columns=["method", "few", "seed", "accuracy", "target"])
    return table.assign(
        title=[CLASSIFICATION[name].title for name in table["method"]], train_seconds=1.0
    )


@pytest.fixture
def no_png(monkeypatch):
    """Figures are made but not painted, which takes most of the time."""
    monkeypatch.setattr(viz, "to_png", lambda figure: b"")


def text_of(path) -> str:
    """What a reader of a page sees, words with one space between."""
    page = re.sub(r"(?s)<style>.*?</style>|<[^>]*>", "\n", path.read_text(encoding="utf-8"))
    return " ".join(html.unescape(page).split())


def test_summary_by_hand():
    table = rows()
    summary = report.summarise(table)
    assert list(summary.index) == list(SCORES)
    ppl = summary.loc["ppl"]
    assert (ppl["miou"], ppl["miou_sd"]) == pytest.approx((63, 13**0.5))
    # differences by seed: -10, -9, -5: mean -8, standard deviation sqrt(7)
    assert (ppl["difference"], ppl["difference_sd"]) == pytest.approx((-8, 7**0.5))
    assert np.isnan(summary.loc["supervised", "difference"])
    assert tuple(ppl[["seeds", "pixels", "clicks", "seconds"]]) == (3, 16, 4, 180)
    assert ppl["share"] == pytest.approx(16 / 2048)
    assert (ppl["title"], ppl["family"]) == ("LabOR PPL", "points")
    # where full supervision is missing: for a seed, at all
    ppl = report.summarise(table[(table["method"] != "supervised") | (table["seed"] > 0)]).loc[
        "ppl"
    ]
    assert (ppl["difference"], ppl["difference_sd"]) == pytest.approx((-7, 8**0.5))  # -9 and -5
    alone = rows({"ppl": SCORES["ppl"]})
    assert report.summarise(alone).loc["ppl", ["difference", "share"]].isna().all()
    assert report.summarise(alone, native_pixels=1600).loc["ppl", "share"] == 0.01


def test_tables_as_text(capsys):
    table = rows()
    report.print_table(table[(table["method"] != "source_only") | (table["stage"] < 3)])
    lines = capsys.readouterr().out.splitlines()
    assert "source only" not in str(lines)  # has not reached the last stage
    assert " ".join(lines[1].split()) == "LabOR PPL 16.0 (0.78 %) 4.0 4 s 63.0 ± 3.6 3 3.0 min"
    assert "≥ 32.0 32 s to 2.1 min" in " ".join(lines[2].split())  # borders are not counted
    report.print_table(pd.DataFrame())
    assert capsys.readouterr().out == "no finished stage\n"
    table = rows({"a|<b>": [61.0]}).assign(miou_16=60.0, miou_13=70.0)
    head, _, row = report.markdown_table(report.summarise(table)).splitlines()
    assert "mIoU, 13 classes in %" in head
    assert row == "| a\\|&lt;b&gt; | 0 | ≥ 0 | 0 | 61.0 | 60.0 | 70.0 | 1 |"


def test_paired_differences_are_those_of_a_paired_t_test():
    a, b = np.array([60.0, 62.0, 67.0]), np.array([59.0, 62.5, 63.0])
    scores = pd.DataFrame({"ppl": a, "random_points": b, "spl": a, "random_pixels": a})
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    ppl, spl = report.paired_table(scores, METHODS).to_numpy()
    expected = ["+1.5", f"{low:+.1f} to {high:+.1f}", "3"]
    assert list(ppl) == ["LabOR PPL minus random points", *[t.replace("-", "−") for t in expected]]
    assert list(spl[1:]) == ["+0.0", "+0.0 to +0.0", "3"]
    scores.loc[1:, "random_points"] = np.nan
    scores["random_pixels"] = np.nan
    (one,) = report.paired_table(scores, METHODS).to_numpy()
    assert list(one[1:]) == ["+1.0", "one seed", "1"]


def test_an_accuracy_table_has_a_column_for_every_number_of_labels():
    table = accuracies(
        [("source_only", 0, 0, 40.0), ("source_only", 0, 1, 50.0), ("ccsa", 3, 0, 72.0),
         ("ccsa", 1, 0, 60.0), ("ccsa", 1, 1, 64.0), ("target", 0, 0, 98.0)]
    )  # fmt: skip
    shown = report.accuracy_table(table)
    heads = ["method", "no target labels", "1 a class", "3 a class", "all", "seeds"]
    assert list(shown.columns) == heads
    assert shown.to_numpy().tolist() == [
        ["source only (ERM)", "45.0 ± 7.1", "", "", "", "2"],
        ["CCSA", "", "62.0 ± 2.8", "72.0", "", "2"],
        ["all target labels", "", "", "", "98.0", "1"],
    ]
    table = accuracies([("sagnet", 0, 0, 30.0, "a"), ("sagnet", 0, 0, 50.0, "b")])
    shown = report.accuracy_table(table)  # a column for every domain left out and for their mean
    assert list(shown.columns) == ["method", "a", "b", "mean", "seeds"]
    assert shown.to_numpy().tolist() == [["SagNet", "30.0", "50.0", "40.0", "1"]]


def test_report_shows_the_table(out, tmp_path, no_png):
    assert report.write_report(out) == out / "report.html"
    text = text_of(out / "report.html")
    assert "16.0 (0.78 %) 4.0 4 s 63.0 ± 3.6 3 −8.0 ± 2.6 40 points 3.0 min" in text
    reached = "With 4 clicks an image LabOR PPL reaches 63.0 of the 71.0 % mIoU of full supervision"
    assert text.startswith(f"Results: smoke {reached}; without target labels the best is 23.0. A")
    tiles = re.findall(r"(\S+ ± \S+) % mIoU, ", text)  # a number for each kind of labels
    assert tiles == ["23.0 ± 3.0", "63.0 ± 3.6", "65.0 ± 1.0", "71.0 ± 1.0"]
    missing = re.findall(r"Not shown: \S*nowhere", text)
    assert len(missing) == 2 + 2  # predictions, first and all; what SPL and PPL ask
    assert text.endswith("(cpu, 32). torch 2.0")
    for scores, headline in (
        (
            {"source_only": [20.0], "iast": [40.0]},
            "IAST's pseudo labels (UDA) reaches 40.0 % mIoU. A",
        ),
        (
            {"spl": [65.0]},
            "With at least 32 clicks an image LabOR SPL, whole mask reaches 65.0 % mIoU. A",
        ),
        (
            {"ppl": [60.0], "iast": [40.0]},
            "PPL reaches 60.0 % mIoU; without target labels the best is 40.0.",
        ),
    ):
        text = text_of(report.write_report(folder_with(tmp_path / headline[:8], rows(scores))))
        assert headline in text
        assert "nan" not in text


def test_report_escapes_what_comes_from_outside(tmp_path, no_png):
    bad = "<script>alert(1)</script>"
    table = rows().replace({"method": {"ppl": bad}})
    unfinished = rows({bad + "2": [1.0]}, stages=1)
    record = {"device": bad, "target_root": bad, "scored_on": bad, "versions": {bad: bad}}
    run = folder_with(tmp_path / "run", pd.concat([table, unfinished]), **record)
    text = text_of(report.write_report(run))
    assert "<script" not in (run / "report.html").read_text(encoding="utf-8")
    assert f"Not finished yet: {bad}2." in text
    assert text.count(bad) >= 6  # the words are there


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("results.csv", None, "give the folder of a run"),
        ("results.csv", "a,b\n1,2\n", "run again"),
        ("config.json", None, "give the folder of a run"),
        ("config.json", "[]", "restore"),
        ("config.json", '{"shift": "fonts"}', "labor_lib results"),
    ],
)
def test_report_of_a_bad_folder(out, name, text, fix):
    (out / name).unlink()
    if text is not None:
        (out / name).write_text(text)
    with pytest.raises(InputError, match=fix):
        report.write_report(out)
    assert not (out / "report.html").exists()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished run of the smoke preset."""
    root = tmp_path_factory.mktemp("smoke")
    command = ["run", "--preset", "smoke", "--methods", "source_only,ppl,spl,supervised"]
    folders = ["--data", root / "data", "--out", root / "run"]
    accepted(*command, *folders, "--device", "cpu", "--precision", "32-true")
    return root / "run"


@pytest.fixture
def run(smoke, tmp_path):
    return shutil.copytree(smoke, tmp_path / "run")


@pytest.mark.parametrize(("method", "points"), [("ppl", True), ("spl", False)])
def test_asked_positions_are_those_of_the_file(smoke, monkeypatch, method, points):
    calls = []
    monkeypatch.setattr(viz, "selection_grid", lambda *args: calls.append(args) or Figure())
    report.asked_figure(SegmentationRun(smoke), method, seed=0)
    stored = Selection.load(smoke / f"seed0/{method}/stage2/selection.npz")
    shown = calls[0][0][2][1]  # the third image shown, the last one, at stage 2
    assert len(shown.positions)
    np.testing.assert_array_equal(shown.positions, stored.positions[-1])
    np.testing.assert_array_equal(shown.answers, stored.answers[-1])
    mask = Masks.load(smoke / f"seed0/{method}/stage2/masks.npz")[len(stored) - 1]
    np.testing.assert_array_equal(shown.mask, mask)
    assert shown.points == points


def test_report_stands_alone_and_a_missing_or_foreign_file_costs_one_picture(run, no_png):
    page = (run / "report.html").read_text(encoding="utf-8")  # written by the run
    assert "Not shown" not in page
    pictures = re.findall(r'<img src="data:image/png;base64,[^"]{1000,}" alt="[^"]{20,}">', page)
    assert len(pictures) == page.count("<img") == 8
    assert not re.search(r"<(script|link|iframe)|://|url\(", page)
    links = re.findall(r'<a href="#(\w+)"', page)
    assert len(links) == 2 + 7  # figures but the first, the table and the reading
    for part in ("lead", "table", "reading"):  # of the dashboard, where a link leads nowhere
        assert "href" not in report.render(SegmentationRun(run), part)
    assert all(f'id="{link}"' in page for link in links)
    one = Selection((32, 64), [np.array([3])], [np.array([1], np.uint8)])
    one.save(run / "seed0/spl/stage1/selection.npz")
    (run / "seed0/ppl/stage1/masks.npz").unlink()
    text = text_of(report.write_report(run))
    assert "asked 1 images, but there are 8 now" in text
    assert "masks.npz: no such file" in text
    assert (run / "report.html").read_text(encoding="utf-8").count("<img") == 8 - 2


def test_the_worst_the_median_and_the_best_image(run):
    """By intersection over union of the classes in each image, counted from its prediction."""
    opened = SegmentationRun(run)
    folder = opened.domains(0).evaluation
    predicted = opened.predictions("ppl", 0, list(range(len(folder))))
    scores = [miou_of([(folder.label(i).numpy(), guess)]) for i, guess in enumerate(predicted)]
    order = np.argsort(scores)
    expected = [
        (f"{word}: {scores[k]:.0f} % mIoU", k)
        for word, k in zip(("worst", "median", "best"), order[[0, 2, 3]], strict=True)
    ]
    assert report._by_score(opened, "ppl", 0) == expected
    (run / f"seed0/ppl/stage{opened.stages}/confusions.npz").unlink()
    assert report._by_score(opened, "ppl", 0) == [("first", 0), ("middle", 1), ("last", 3)]


PAGE = "# Title\n<!-- results:smoke -->\nold\n<!-- /results:smoke -->\nend <!-- results:x -->\n"
SHORT = "<!-- results:short -->\n<!-- /results:short -->\n"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_bytes(PAGE.encode())
    return path


def test_a_table_is_replaced_and_stays(tmp_path, page):
    command = (
        "python -m labor_lib run --preset smoke --target-root '/elsewhere/my data' --seeds 0-2"
    )
    command += " --out=/elsewhere"
    out = folder_with(tmp_path / "run", rows(), command=command)
    link = tmp_path / "link.md"
    link.symlink_to(page)
    page.write_bytes(PAGE.replace("\n", "\r\n").encode())  # line ends and links stay
    report.write_table(out, link)
    assert link.is_symlink()
    first = page.read_bytes().decode()
    assert first.count("\n") == first.count("\r\n") > 10
    assert first.startswith("# Title\r\n<!-- results:smoke -->\r\n| method | pixels an image |")
    assert first.endswith("\r\n<!-- /results:smoke -->\r\nend <!-- results:x -->\r\n")
    assert "old" not in first
    assert "| LabOR PPL | 16.0 (0.78 %) | 4.0 | 4 s | 63.0 ± 3.6 | 3 |\r\n" in first
    assert "| LabOR SPL, whole mask minus supervised, source + target | −6.0 | " in first
    assert "`python -m labor_lib run --preset smoke --target-root FOLDER --seeds" in first
    report.write_table(out, page)
    assert page.read_bytes().decode() == first


@pytest.mark.parametrize("annotator", ["store:/elsewhere/a.sqlite", "noisy:/elsewhere/a.json"])
def test_another_annotators_table_has_a_place_of_its_own(annotator, page, tmp_path):
    """And no folder of a person is in it."""
    command = (
        f"python -m labor_lib run --annotator {annotator} --target /elsewhere '--out=/my data'"
    )
    out = folder_with(tmp_path / "run", rows(), command=command, annotator=annotator)
    kind = annotator.partition(":")[0]
    name = {"store": "smoke-people", "noisy": "smoke-noisy"}[kind]
    with pytest.raises(InputError, match=f"<!-- results:{name} -->"):
        report.write_table(out, page)
    page.write_text(page.read_text().replace("results:smoke ", f"results:{name} "))
    report.write_table(out, page)
    made = f"run --annotator {kind}:FOLDER --target FOLDER --out=FOLDER`"
    assert made in page.read_text()


def test_the_short_table_and_the_pictures(run, page, tmp_path):
    readme, pictures = tmp_path / "README.md", tmp_path / "pictures"
    readme.write_text(SHORT)
    report.write_table(run, page, readme, pictures)
    lines = readme.read_text(encoding="utf-8").splitlines()
    heads = ["method", "person's time an image", "clicks an image", "pixels an image", "mIoU in %"]
    assert lines[1] == f"| {' | '.join(heads)} |"
    names = ["source only", "LabOR PPL", "LabOR SPL, whole mask", "supervised, source + target"]
    assert [line.split(" | ")[0] for line in lines[3:-1]] == [f"| {name}" for name in names]
    for name in ("predictions.png", "asked.png"):
        assert Image.open(pictures / name).width > 900
    before = page.read_text()
    (run / "seed0/ppl/stage1/masks.npz").unlink()  # where a picture fails, nothing is written
    with pytest.raises(InputError, match="no such file"):
        report.write_table(run, page, pictures=tmp_path)
    assert page.read_text() == before


@pytest.mark.parametrize(
    "text", [None, "", SHORT, "<!-- /results:smoke --><!-- results:smoke -->", PAGE * 2]
)
def test_nothing_is_written_without_the_markers(out, page, tmp_path, text):
    page.unlink()
    if text is not None:
        page.write_text(text)
    readme = tmp_path / "README.md"
    readme.write_text(SHORT)
    with pytest.raises(InputError, match=r"RESULTS.md: (no such|write the lines)"):
        report.write_table(out, page, short=readme)
    assert readme.read_text() == SHORT


@pytest.mark.parametrize("generalises", [False, True])
def test_the_table_of_a_classification_run(tmp_path, generalises):
    values = [("source_only", 0, s, 40.0 + s * s, t) for s in (0, 1, 2) for t in ("a", "b<")]
    values += [("sagnet", 0, s, 45.0 + s, t) for s in (0, 1, 2) for t in ("a", "b<")]
    if not generalises:
        values = [(m, n, s, 60.0 + n * k, "t") for n in (1, 3) for s in (0, 1)
                  for k, m in enumerate(("joint", "ccsa"))]  # fmt: skip
    folder = folder_with(tmp_path / "fonts", accuracies(values), shift="fonts")
    page = tmp_path / "page.md"
    page.write_text("<!-- results:fonts -->\n<!-- /results:fonts -->\n")
    report.write_table(folder, page)
    text = page.read_text(encoding="utf-8")
    if generalises:
        assert "| method | a | b&lt; | mean | seeds |" in text
        low, high = stats.t.interval(0.95, 2, 13 / 3, np.std([5, 5, 3], ddof=1) / 3**0.5)
        assert f"| SagNet minus source only (ERM) | +4.3 | {low:+.1f} to {high:+.1f} | 3 |" in text
        assert "Accuracy in percent, weights chosen on source validation (cpu, 32)." in text
    else:
        assert "| method | 1 a class | 3 a class | seeds |" in text
        assert "| CCSA minus joint training, 3 a class | +3.0 | +3.0 to +3.0 | 2 |" in text
        assert "Accuracy in percent, last step (cpu, 32)." in text


# paper begins with, setting, method, budget -> score; typed anew from the sources
SPOTS = {
    ("LabOR", "GTA5 -> Cityscapes", "SPL", "2.2 % of pixels"): 66.6,
    ("AdaptSegNet", "GTA5 -> Cityscapes", "AdaptSegNet", "none"): 42.4,
    ("IAST", "GTA5 -> Cityscapes", "IAST", "none"): 51.88,
    ("RIPU", "GTA5 -> Cityscapes", "RIPU, points", "105 pixels (its 40 points)"): 65.5,
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
