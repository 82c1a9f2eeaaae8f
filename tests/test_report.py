"""The table's numbers by hand, the page's safety, README's markers, runs with parts missing."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from labor_lib.config import PRESETS, SMOKE, SYNTHIA
from labor_lib.errors import InputError
from labor_lib.lab import report, runs, viz
from labor_lib.lab.report import (
    print_table,
    summarise,
    write_readme_table,
    write_report,
)
from labor_lib.lab.runs import config_from_dict
from labor_lib.labels import STREETS14, colourise
from labor_lib.runtime import save_weights, seed_everything, write_json
from labor_lib.selection.record import Masks, Selection
from labor_lib.train import build_nets

SCORES = {  # last stage, of seeds 0, 1, 2
    "source_only": [20.0, 23.0, 26.0],  # mean 23, sd 3
    "ppl": [60.0, 62.0, 67.0],  # mean 63, sd sqrt(13) = 3.606
    "spl": [64.0, 66.0, 65.0],
    "supervised": [70.0, 71.0, 72.0],  # mean 71, sd 1
}
REAL_PNG = viz.to_png
PIXELS = {"ppl": 16.0, "spl": 128.0, "supervised": 2048.0, "supervised_x4": 2048.0}


def rows(scores=SCORES, stages=3):
    made = []
    for method, values in scores.items():
        for seed, score in enumerate(values):
            for stage in range(1, stages + 1):
                pixels = PIXELS.get(method, 0.0)
                paid = pixels if "supervised" in method else pixels * stage / stages
                made.append(
                    {
                        "method": method,
                        "seed": seed,
                        "stage": stage,
                        "budget": "none" if not pixels else "40 points",
                        "miou": score - 5 * (stages - stage),
                        "pixels_per_image": paid,
                        "clicks_per_image": paid / 4,
                        "train_seconds": 50.0 * stage,
                        "select_seconds": 10.0 * stage,
                        "iou_road": score,
                        "iou_sky": float("nan"),
                    }
                )
    return pd.DataFrame(made)


def folder_with(path, table, config=SMOKE, **record):
    path.mkdir(parents=True, exist_ok=True)
    table.to_csv(path / "results.csv", index=False)
    write_json(
        path / "config.json",
        {
            "settings": config.as_dict(),
            "source_root": None,
            "target_root": None,
            "data_root": str(path / "no-data"),
            "device": "cpu",
            "precision": "32-true",
            "versions": {"torch": "2.0"},
        }
        | record,
    )
    return path


@pytest.fixture
def out(tmp_path):
    return folder_with(tmp_path / "run", rows())


@pytest.fixture(autouse=True)
def no_png(monkeypatch):
    """Figures are made but not painted, which takes most of the time."""
    monkeypatch.setattr(viz, "to_png", lambda figure: b"")


class Page(HTMLParser):
    """Tags with attributes, and the text of every table row."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.rows, self.text = [], [], ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        self.text += data
        if self.rows and data.strip():
            self.rows[-1].append(data.strip())

    def row(self, title):
        return next(row for row in self.rows if row[0] == title)


# -------------------------------------------------------------------------------- the numbers


def test_summary_by_hand():
    lines = {line.method: line for line in summarise(rows())}
    assert list(lines) == list(SCORES)
    ppl = lines["ppl"]
    assert ppl.scores["miou"] == pytest.approx((63, 13**0.5))
    # differences by seed: -10, -9, -5: mean -8, sd sqrt(7)
    assert ppl.difference == pytest.approx((-8, 7**0.5))
    assert lines["supervised"].difference is None
    assert (ppl.seeds, ppl.pixels, ppl.clicks, ppl.seconds) == (3, 16, 4, 180)
    assert ppl.share == pytest.approx(16 / 2048)
    assert ppl.title == "LabOR PPL"


def test_difference_takes_only_the_seeds_of_both():
    table = rows()
    table = table[(table["method"] != "supervised") | (table["seed"] > 0)]
    ppl = summarise(table)[1]
    assert ppl.difference == pytest.approx((-7, 8**0.5))  # -9 and -5
    assert ppl.seeds == 3


def test_without_supervision_there_is_no_difference_and_the_share_is_of_the_given_size():
    table = rows({"ppl": SCORES["ppl"]})
    (line,) = summarise(table)
    assert line.difference is None
    assert line.share is None
    assert summarise(table, native_pixels=1600)[0].share == 0.01
    assert summarise(rows(), native_pixels=1600)[1].share == 16 / 2048  # what was paid for all


def test_an_unfinished_method_is_left_out_of_the_table(tmp_path):
    table = rows()
    table = table[(table["method"] != "spl") | (table["stage"] < 3)]
    assert "spl" not in [line.method for line in summarise(table)]
    page = Page(write_report(folder_with(tmp_path / "run", table)))
    assert "Not finished yet: spl." in page.text


def test_print_table(capsys):
    print_table(rows())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["method", "mIoU", "seeds", "pixels", "clicks", "time"]
    assert lines[2].split() == [
        *("LabOR", "PPL", "63.0", "±", "3.6", "3", "16.0", "(0.78", "%)", "4.0", "3.0", "min"),
    ]
    assert lines[4].startswith("supervised, source + target  71.0 ± 1.0      3  2,048 (100 %)")
    assert len({len(line) for line in lines[:5]}) == 1  # aligned


def test_print_table_of_one_seed_and_of_nothing(capsys):
    print_table(rows({"ppl": [60.0]}))
    assert "60.0      1" in capsys.readouterr().out
    print_table(pd.DataFrame())
    assert capsys.readouterr().out == "no finished stage\n"


# -------------------------------------------------------------------------------- report.html


def test_report_shows_the_table(out):
    path = write_report(out)
    assert path == out / "report.html"
    page = Page(path)
    assert page.row("LabOR PPL")[1:] == [
        *("63.0 ± 3.6", "3", "−8.0 ± 2.6", "40 points", "16.0 (0.78 %)", "4.0", "3.0 min"),
    ]
    assert page.row("supervised, source + target")[1:4] == ["71.0 ± 1.0", "3", "40 points"]
    assert "seeds 0-2" in page.text
    assert "Results: smoke" in page.text
    assert "torch 2.0" in page.text


def test_tiles_show_the_best_of_each_family_and_the_reference(tmp_path):
    scores = SCORES | {"random_points": [50.0, 50.0, 50.0], "supervised_x4": [80.0, 80.0, 80.0]}
    tiles = report._tiles(summarise(rows(scores)))
    assert [tile["line"].method for tile in tiles] == ["source_only", "ppl", "spl", "supervised"]
    assert tiles[1]["asked"] == "16.0 pixels (0.78 %), 4.0 clicks an image"
    assert ", ≥ " in tiles[2]["asked"]  # borders are not counted
    assert tiles[3]["asked"].endswith("pixels (100 %) an image")
    assert tiles[0]["asked"] == ""


def test_report_stands_alone(out, monkeypatch):
    monkeypatch.setattr(viz, "to_png", REAL_PNG)
    page = Page(write_report(out))
    assert ("html", {"lang": "en"}) in page.tags
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(image["alt"] and image["src"].startswith("data:image/png;") for image in images)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "://" not in page.html
    assert "url(" not in page.html
    assert len(page.html) < 5e6


def test_report_escapes_what_comes_from_outside(tmp_path):
    table = rows()
    bad = "<script>alert(1)</script>"
    table["method"] = table["method"].replace("ppl", bad)
    run = folder_with(
        tmp_path / "run",
        table,
        replace(SMOKE, preset=bad),
        device=bad,
        data_root=f"{tmp_path}/{bad}",
        versions={bad: bad},
    )
    page = Page(write_report(run))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.row(bad)[1] == "63.0 ± 3.6"
    assert page.text.count(bad) >= 5  # the words are there: title, statement, table, missing images


def test_report_of_one_seed_shows_no_spread(tmp_path):
    table = rows({method: scores[:1] for method, scores in SCORES.items()})
    page = Page(write_report(folder_with(tmp_path / "run", table)))
    assert page.row("LabOR PPL")[1:4] == ["60.0", "1", "−10.0"]
    assert "One seed" in page.text
    assert "nan" not in page.text


def test_report_shows_both_scores_of_synthia(tmp_path):
    table = rows()
    table["miou_16"], table["miou_13"] = table["miou"], table["miou"] + 7
    page = Page(write_report(folder_with(tmp_path / "run", table, SYNTHIA)))
    assert page.row("LabOR PPL")[1:4] == ["63.0 ± 3.6", "63.0 ± 3.6", "70.0 ± 3.6"]
    assert "mIoU, 13 classes in %" in page.text


def test_report_of_methods_that_ask_nothing(tmp_path):
    table = rows({"source_only": [20.0], "iast": [40.0]})
    page = Page(write_report(folder_with(tmp_path / "run", table)))
    assert "mIoU against clicks" not in page.text
    assert "LabOR PPL" not in page.text


def test_report_without_images_says_so_and_draws_none(out):
    page = Page(write_report(out))
    assert "because the images cannot be read" in page.text
    assert not (out / "no-data").exists()


@pytest.mark.parametrize(
    ("name", "text", "mend"),
    [
        ("results.csv", None, "give the folder of a run"),
        ("results.csv", "", "run again"),
        ("results.csv", "a,b\n1,2\n", "run again"),
        ("config.json", None, "give the folder of a run"),
        ("config.json", "{", "run again"),
        ("config.json", "[]", "run again"),
    ],
)
def test_report_of_a_bad_folder(out, name, text, mend):
    (out / name).unlink()
    if text is not None:
        (out / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}.*{mend}"):
        write_report(out)
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("name", PRESETS)
def test_config_comes_back_from_json(name):
    assert config_from_dict(PRESETS[name].as_dict()) == PRESETS[name]


def test_settings_of_another_version():
    settings = SMOKE.as_dict()
    settings["train"]["colour"] = 3
    with pytest.raises(InputError, match="another version"):
        config_from_dict(settings)


# ------------------------------------------------------------------------------- the pictures

HEIGHT, WIDTH = SMOKE.data.target_size


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_domains(root, generator):
    """Four images in every split, labels of one class each."""

    def photo():
        return generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    for i in range(4):
        label = np.full((HEIGHT, WIDTH), (7, 11, 23, 26)[i], np.uint8)
        write_png(root / f"gta5/images/{i:05}.png", photo())
        write_png(root / f"gta5/labels/{i:05}.png", label)
        for split in ("train", "val", "test"):
            stem = f"{split}/city/city_{i:06}_000019"
            write_png(root / f"cityscapes/leftImg8bit/{stem}_leftImg8bit.png", photo())
            write_png(root / f"cityscapes/gtFine/{stem}_gtFine_labelIds.png", label)


@pytest.fixture
def run(tmp_path):
    """A run folder with checkpoints, selections and images; two stages of one seed."""
    generator = np.random.default_rng(0)
    data = tmp_path / "data"
    write_domains(data / f"streets-{HEIGHT}x{WIDTH}-12/scenes0", generator)
    scores = {method: values[:1] for method, values in SCORES.items()}
    out = folder_with(tmp_path / "run", rows(scores, stages=2), data_root=str(data))
    for number, method in enumerate(SCORES):
        for stage in (1, 2):
            folder = out / "seed0" / method / f"stage{stage}"
            folder.mkdir(parents=True)
            seed_everything(number, stage)
            nets = build_nets(SMOKE, len(STREETS14))
            save_weights(nets.segmenter, folder / "segmenter.safetensors")
            write_json(folder / "phase.json", {})
            if method in ("ppl", "spl"):
                drawn = generator.random((4, HEIGHT, WIDTH)) < 0.3
                Masks.from_masks([torch.from_numpy(drawn)]).save(folder / "masks.npz")
                positions = [generator.permutation(HEIGHT * WIDTH)[:5] for _ in range(4)]
                answers = [generator.integers(0, 14, 5).astype(np.uint8) for _ in range(4)]
                selection = Selection((HEIGHT, WIDTH), positions, answers)
                selection.save(folder / "selection.npz")
                trace = {"step": [0, 1], "mask_share": [0.1, 0.2], "loss5": 1.0, "loss6": -1.0}
                pd.DataFrame(trace).to_csv(folder / "selector_trace.csv", index=False)
    return out


def stored_image(run, split, i):
    """An image file of the target, normalised: 1 x 3 x H x W."""
    root = run.parent / f"data/streets-{HEIGHT}x{WIDTH}-12/scenes0/cityscapes/leftImg8bit"
    photo = np.array(Image.open(root / f"{split}/city/city_{i:06}_000019_leftImg8bit.png"))
    return (torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 - 0.45) / 0.25


def recorded(monkeypatch, name):
    """The arguments that a function of `viz` is called with."""
    calls, function = [], getattr(viz, name)
    monkeypatch.setattr(viz, name, lambda *args: calls.append(args) or function(*args))
    return calls


def test_report_with_pictures(run, monkeypatch):
    monkeypatch.setattr(viz, "to_png", REAL_PNG)
    page = Page(write_report(run))
    assert "Not shown" not in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 4 + 5
    for title in ("Predictions beside", "asked: LabOR SPL", "asked: LabOR PPL", "The selector's"):
        assert title in page.text


def test_predictions_are_those_of_the_last_stage(run, monkeypatch):
    calls = recorded(monkeypatch, "image_grid")
    write_report(run)
    (shown,) = calls[0]
    assert list(shown) == [
        *("image", "truth", "source only", "LabOR PPL", "LabOR SPL, whole mask"),
        "supervised, source + target",
    ]
    # images 0, 1 and 3 of the evaluation split
    truth = [STREETS14.names.index(name) for name in ("road", "building", "car")]
    assert [tuple(p[0, 0]) for p in shown["truth"]] == [tuple(STREETS14.palette[c]) for c in truth]
    image = stored_image(run, "test", 3)
    photo = ((image[0] * 0.25 + 0.45) * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(shown["image"][2], photo)
    seed_everything(list(SCORES).index("ppl"), 2)
    net = build_nets(SMOKE, len(STREETS14)).segmenter.eval()
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(
            net(image)[0], (HEIGHT, WIDTH), mode="bilinear", align_corners=False
        )
    expected = colourise(logits[0].argmax(0).numpy(), STREETS14)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 1
    agree = (shown["LabOR PPL"][2] == expected).all(axis=2).mean()
    assert agree > 0.99  # rounding may turn a tie


def test_asked_positions_are_those_of_the_file(run, monkeypatch):
    calls = recorded(monkeypatch, "selection_grid")
    write_report(run)
    (spl, ppl) = (call[0] for call in calls)
    stored = Selection.load(run / "seed0/ppl/stage2/selection.npz")
    shown = ppl[2][1]  # the third image shown, number 3, at stage 2
    np.testing.assert_array_equal(shown.positions, stored.positions[3])
    np.testing.assert_array_equal(shown.answers, stored.answers[3])
    assert shown.points
    assert not spl[0][0].points
    mask = Masks.load(run / "seed0/ppl/stage2/masks.npz")[3]
    assert 0.2 < mask.mean() < 0.4
    np.testing.assert_array_equal(shown.mask, mask)


def test_a_missing_checkpoint_costs_one_picture(run):
    (run / "seed0/ppl/stage1/masks.npz").unlink()
    page = Page(write_report(run))
    assert "masks.npz: no such file" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 4 + 4


def test_selections_of_other_images_are_not_drawn(run):
    one = Selection((HEIGHT, WIDTH), [np.array([3])], [np.array([1], np.uint8)])
    one.save(run / "seed0/spl/stage1/selection.npz")
    assert "of 1 images, but the split has 4" in Page(write_report(run)).text


def test_a_stage_that_asked_nothing_is_drawn(run):
    Selection.nothing(4, (HEIGHT, WIDTH)).save(run / "seed0/ppl/stage2/selection.npz")
    assert "Not shown" not in Page(write_report(run)).text


# ---------------------------------------------------------------------------------- README.md

README = "# Title\n<!-- results:smoke -->\nold\n<!-- /results:smoke -->\nend <!-- results:x -->\n"


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README, encoding="utf-8")
    return path


def test_readme_table_is_replaced_and_stays(out, readme):
    write_readme_table(out, readme)
    first = readme.read_text(encoding="utf-8")
    assert first.startswith("# Title\n<!-- results:smoke -->\n| method | pixels an image |")
    assert first.endswith("\n<!-- /results:smoke -->\nend <!-- results:x -->\n")
    assert "old" not in first
    assert "| LabOR PPL | 16.0 (0.78 %) | 4.0 | 63.0 ± 3.6 | 3 |\n" in first
    assert (
        "`python -m labor_lib run --preset smoke --methods source_only,ppl,spl,supervised "
        "--seeds 0-2`" in first
    )
    write_readme_table(out, readme)
    assert readme.read_text(encoding="utf-8") == first


def test_readme_command_names_what_differs_from_the_preset(out):
    record = runs.read_record(out)
    record["settings"]["budget"]["points"] = 12
    record["settings"]["evaluate_on"] = "val"
    record["target_root"] = "/somewhere/private"
    table = rows({"ppl": [1.0, 2.0, 3.0]})
    table["seed"] = table["seed"].replace(1, 7)
    command = report._command(table, record)
    assert command == (
        "python -m labor_lib run --preset smoke --methods ppl --seeds 0,2,7 --points 12 "
        "--evaluate-on val --target-root FOLDER"
    )


@pytest.mark.parametrize(
    "text",
    ["", "<!-- results:smoke -->", "<!-- /results:smoke --><!-- results:smoke -->", README * 2],
)
def test_readme_without_its_markers(out, readme, text):
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"README.md: write the lines '<!-- results:smoke -->'"):
        write_readme_table(out, readme)
    assert readme.read_text(encoding="utf-8") == text


def test_readme_or_results_missing(out, readme):
    with pytest.raises(InputError, match="no such file; pass --readme"):
        write_readme_table(out, readme.with_name("other.md"))
    (out / "results.csv").unlink()
    with pytest.raises(InputError, match=r"results.csv: no such file"):
        write_readme_table(out, readme)
    assert readme.read_text(encoding="utf-8") == README


def test_readme_table_escapes_titles():
    table = rows({"a|<b>": [1.0]})
    assert "a\\|&lt;b&gt;" in report.markdown_table(summarise(table))
