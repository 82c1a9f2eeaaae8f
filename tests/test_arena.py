"""The arena: entries, the command, its statistics; and regions that grow from points."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Pictures, accepted, refused
from scipy import stats

from labor_lib.config import SMOKE, STREETS, RegionConfig
from labor_lib.errors import InputError
from labor_lib.lab import arena, report, segmentation
from labor_lib.lab.runs import SegmentationRun
from labor_lib.lab.segmentation import Domains, Roots, paid_by_person
from labor_lib.labels import IGNORE
from labor_lib.methods import regions as grown
from labor_lib.methods.labor import labor_step
from labor_lib.methods.registry import METHODS, arena_method, entered, strategies
from labor_lib.methods.source_only import segmentation_loss
from labor_lib.metrics import mious
from labor_lib.runtime import read_json
from labor_lib.selection import scores
from labor_lib.selection.record import Selection
from labor_lib.selection.rules import COMPARE, RULES
from labor_lib.train import Batch, build_nets, build_optimizers


# ------------------------------------------------------------------------------------ entries
def test_entries_differ_in_the_choice_and_the_budget_alone():
    assert set(RULES) <= set(strategies())
    for unit, plain in (("points", "random_points"), ("percent", "random_pixels")):
        for strategy in RULES:
            one = arena_method(strategy, 20, unit)
            own = {"name": one.name, "title": one.title, "style": one.style, "arena": True}
            own |= {"selector": "selector" if strategy in COMPARE else "", "rule": strategy}
            own |= {"points": 20} if unit == "points" else {"pixels": 0.2}
            assert one == replace(METHODS[plain], **own)
            assert METHODS[one.name] == one
    assert entered("margin_spaced@2.2percent") == ("margin_spaced", 2.2, "percent")
    with pytest.raises(InputError, match="'ppl' is no entry"):
        entered("ppl")


def test_seconds_buy_points():
    assert arena_method("margin", 35, "seconds").points == int(35 / 0.9)  # 0.9 s a point


@pytest.mark.parametrize(
    ("strategy", "budget", "unit", "message"),
    [
        ("margni", 20, "points", "'margni' is unknown; did you mean 'margin'"),
        ("margin", 20, "clicks", "unit 'clicks' is unknown: choose from points, percent, seconds"),
        *(("margin", n, "points", "give a number above 0") for n in (0, -3, np.nan, np.inf)),
        ("margin", 101, "percent", "a budget of 101 percent"),
    ],
)
def test_bad_entries(strategy, budget, unit, message):
    with pytest.raises(InputError, match=message):
        arena_method(strategy, budget, unit)


def test_budgets_have_to_fit_the_image():
    few = (2, "points"), (0.5, "points"), (0.5, "seconds"), (0.01, "percent")
    for budget, unit in (*few, (32 * 64 + 1, "points")):
        with pytest.raises(InputError, match="at least one for each of the 3 stages"):
            arena.entries(["margin"], [budget], unit, SMOKE)
    assert [m.points for m in arena.entries(["margin", "random"], [40, 3], "points", SMOKE)] == [
        3, 3, 40, 40,
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ command
def test_an_arena_is_extended_and_kept(tmp_path, capsys, monkeypatch):
    out = tmp_path / "arena"
    given = ("arena", "--preset", "smoke", "--data", tmp_path / "data", "--out", out)
    accepted(*given, "--strategies", "random,margin_sampled", "--budgets", "7")
    first = pd.read_csv(out / "results.csv")
    assert tuple(first.columns[: len(arena.FIRST)]) == arena.FIRST
    last = first[first["stage"] == 3].set_index("strategy")
    assert last["flavour"].fillna("").to_dict() == {"random": "", "margin_sampled": "sampled"}
    assert (last["pixels_per_image"] == 7).all()  # the whole budget, though 3 does not divide it
    asked = [
        Selection.load(out / f"seed0/random@7points/stage{n}/selection.npz") for n in (1, 2, 3)
    ]
    answers = np.concatenate([part for one in asked for part in one.answers])
    assert last.loc["random", "void_share"] == pytest.approx((answers == IGNORE).mean(), rel=1e-5)

    accepted(*given, "--strategies", "ppl", "--budgets", "7,9", "--seeds", "0-1")
    both = pd.read_csv(out / "results.csv")
    kept = both.merge(first, on=["method", "seed", "stage"])
    assert len(kept) == len(first)
    assert (kept["miou_x"] == kept["miou_y"]).all()
    assert set(both["method"]) == {*first["method"], "ppl@7points", "ppl@9points"}
    table = arena.open_arena(out)
    assert set(table["stage"]) == {3}
    assert {"pixels.png", "clicks.png", "seconds.png", "matrix-9points.png"} <= {
        path.name for path in (out / "figures").iterdir()
    }
    text = arena.arena_table(table)
    assert text["seeds"].to_dict() == {"ppl": "2", "random": "1", "margin_sampled": "1"}
    assert text.loc["random", "9 points"] == ""

    # answers with regions and pseudo labels
    labelled = []

    def filled(folder, known, tolerance, radius, pseudo, index):
        labelled.append((pseudo(index) != IGNORE).mean())
        return grown.filled_label(folder, known, tolerance, radius, pseudo, index)

    monkeypatch.setattr(segmentation, "filled_label", filled)
    accepted(*given, "--strategies", "margin_filled", "--budgets", "7")
    assert np.mean(labelled) > 0.1
    phase = read_json(out / "seed0/margin_filled@7points/stage3/phase.json")
    assert phase["tolerance"] in (0, *SMOKE.regions.tolerances)
    assert not (out / "seed0/margin_filled@7points/stage3/pseudo_labels.npy").exists()
    both = pd.read_csv(out / "results.csv")

    # a notebook sees what a strategy chose from: the network alone, or the selector
    run = SegmentationRun(out)
    for index, stored in enumerate(run.selection("margin_filled@7points", 0, 1).positions):
        image = arena.candidates(run, index, 2)  # 7 points in three stages: 2, 2, 3
        score = scores.margin(image).flatten()  # up to rounding: the run predicts in batches
        torch.testing.assert_close(score[stored], score[RULES["margin"](image)], atol=1e-3, rtol=0)
        image = arena.candidates(run, index, 2, "ppl")
        assert (image.first != image.second).any(), "the selector's two classifiers"

    # the page of results
    page = tmp_path / "RESULTS.md"
    page.write_text("<!-- results:arena-smoke-points -->\n<!-- /results:arena-smoke-points -->\n")
    accepted("results", out, "--page", page)
    written = page.read_text(encoding="utf-8")
    assert "| strategy | mean over budgets | 7 points | 9 points |" in written
    assert "made with `python -m labor_lib arena --preset smoke" in written

    # of another configuration: one line, and what is finished stays
    for more, message in (
        (("--unit", "percent", "--budgets", "2"), "unit was points, is percent"),
        (("--budgets", "7", "--scene-seed", "5"), "scene_seed was 0, is 5"),
        (("--budgets", "7,x"), "--budgets 'x': give numbers such as 10,20,40"),
        (("--strategies", "margim", "--budgets", "7"), "did you mean 'margin'"),
    ):
        assert message in refused(capsys, *given, *more)
    pd.testing.assert_frame_equal(pd.read_csv(out / "results.csv"), both)

    # each image's confusion matrix: the truth of that image, and all together the score
    counts = arena.confusions(out, "random@7points", 0, 3)
    assert counts.shape == (4, 14, 14)
    for index, one in enumerate(counts):
        label = Domains(SMOKE, Roots(tmp_path / "data"), 0).evaluation.native_label(index).numpy()
        pixels = np.bincount(label[label != IGNORE], minlength=14)
        np.testing.assert_array_equal(one.sum(axis=1), pixels)
    (whole,) = mious(counts.sum(axis=0, keepdims=True))
    assert whole == pytest.approx(last.loc["random", "miou"], abs=1e-3)


def test_other_folders_are_no_arena(tmp_path):
    (tmp_path / "results.csv").write_text("method,seed,stage,miou\nppl,0,3,50\n")
    (tmp_path / "config.json").write_text('{"settings": {}}')
    with pytest.raises(InputError, match="no arena; `python -m labor_lib arena` makes one"):
        arena.open_arena(tmp_path)


# --------------------------------------------------------------------------------- statistics
def test_paired_differences_by_hand():
    scores = pd.DataFrame(
        {"random": [50.0, 52, 51], "margin": [53.0, 54, 54], "ppl": [51.0, 53, 52]}
    )
    found = arena.paired_differences(scores).set_index(["first", "second"])
    row = found.loc[("random", "margin")]  # -3, -2, -3: mean -8/3, sd 0.57735, error 1/3
    assert row["mean"] == pytest.approx(-8 / 3)
    half = stats.t.ppf(1 - 0.05 / 6, 2) / 3  # three pairs share 5 %
    assert (row["low"], row["high"]) == pytest.approx((-8 / 3 - half, -8 / 3 + half))
    p = {pair: stats.ttest_rel(scores[pair[0]], scores[pair[1]]).pvalue for pair in found.index}
    ranked = sorted(p, key=p.get)
    expected, highest = {}, 0.0
    for place, pair in enumerate(ranked):
        highest = max(highest, min(1, (3 - place) * p[pair]))
        expected[pair] = highest
    assert found["p"].to_dict() == pytest.approx(expected)
    texts = arena.against(scores, "margin").set_index("minus")
    assert texts.loc["random", ["mean", "ahead in seeds"]].tolist() == ["+2.7", "3 of 3"]
    assert texts.loc["PPL", "mean"] == "+1.7"
    alone = stats.t.ppf(0.975, 2) / 3
    expected_ends = f"{8 / 3 - alone:+.1f} to {8 / 3 + alone:+.1f}"
    assert texts.loc["random", "95 % interval of the pair"] == expected_ends
    assert texts.loc["random", "corrected p"] == f"{expected['random', 'margin']:.2f}"
    one = arena.paired_differences(scores[:1])
    assert arena.against(scores[:1], "margin").empty
    assert one[["p", "low", "high"]].isna().all(axis=None)


def test_bold_is_what_the_interval_says():
    scores = pd.DataFrame(
        {"random": [50.0, 51, 52], "margin": [60.0, 61.1, 62], "ppl": [49, 62, 53]}
    )
    bold = {
        (text.get_text(), text.get_fontweight())
        for text in arena.arena_matrix(scores).axes[0].texts
        if text.get_text()
    }
    assert {text for text, weight in bold if weight == "bold"} == {"+10", "-10"}


def test_void_is_a_share_of_all_that_was_asked():
    paid = [{"asked": 2.0, "void": 1.0}, {"asked": 6.0, "void": 1.0}]
    assert paid_by_person(paid, "points")["void_share"] == 0.25
    assert np.isnan(paid_by_person([{}], "points")["void_share"])


def test_holm_by_hand():
    np.testing.assert_allclose(arena.holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(arena.holm(np.array([0.9, 0.6, np.nan])), [1, 1, np.nan])


def test_area_under_the_curve():
    rows = [("margin", 0, b, m) for b, m in ((10, 40), (20, 50), (40, 70))]
    table = pd.DataFrame(rows, columns=["strategy", "seed", "budget", "miou"])
    # in log2: 1 to 2 at 45, 2 to 3 at 60
    assert arena.area_under_curve(table).loc["margin", 0] == pytest.approx(52.5)
    assert arena.area_under_curve(table[:1]).loc["margin", 0] == 40


def test_one_budget_is_a_ranking_and_more_are_lines():
    rows = [
        (name, arena_method(name, budget).name, seed, budget, "points", score + seed, paid)
        for name, score, paid in (("random", 50, 30), ("margin", 60, 35))
        for budget in (10, 40)
        for seed in (0, 1)
    ]
    columns = ["strategy", "method", "seed", "budget", "unit", "miou", "seconds_per_image"]
    table = pd.DataFrame(rows, columns=columns)
    figure = arena.arena_curves(table[table["budget"] == 40], "seconds")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["margin   35", "random   30"]
    assert [line.get_xdata()[0] for line in axes.lines[1::2]] == [60.5, 50.5]
    assert figure.get_suptitle().startswith("1 of 2 strategies")
    assert arena.arena_curves(table, "seconds").axes[0].get_xscale() == "log"


def test_the_page_compares_the_recommended_strategy(monkeypatch):
    """Not the best one: what is recommended has to be judged against those that lead, too."""
    rows = [
        (name, seed, 40, "points", score + seed, 39.0, 35.0, 0.0)
        for name, score in (("random", 50), ("margin_spaced", 60), ("margin", 62))
        for seed in (0, 1)
    ]
    columns = ["strategy", "seed", "budget", "unit", "miou"]
    columns += ["clicks_per_image", "seconds_per_image", "void_share"]
    record = {"settings": {"preset": "streets"}, "unit": "points", "command": "x", "device": "cpu"}
    table = pd.DataFrame(rows, columns=columns)
    monkeypatch.setattr(arena, "open_arena", lambda out: table)
    monkeypatch.setattr(report, "read_record", lambda out: record | {"precision": "32-true"})
    name, body = report._arena_body(None)
    assert name == "arena-streets-points"
    assert "margin, spaced minus the others at 40 points" in body
    assert "| margin | −2.0 | 0 of 2 |" in body


def test_image_bootstrap_against_a_loop():
    numbers = np.random.default_rng(3)
    first, second = numbers.integers(0, 9, (2, 12, 3, 3))
    first[:, range(3), range(3)] += 9

    def miou(counts):
        hits = counts.diagonal()
        return 100 * (hits / (counts.sum(0) + counts.sum(1) - hits)).mean()

    gap, low, high = arena.image_bootstrap(first, second, draws=400)
    assert gap == pytest.approx(miou(first.sum(0)) - miou(second.sum(0)))
    drawn = [numbers.integers(0, 12, 12) for _ in range(400)]
    gaps = [miou(first[i].sum(0)) - miou(second[i].sum(0)) for i in drawn]
    np.testing.assert_allclose((low, high), np.percentile(gaps, [2.5, 97.5]), atol=2.5)
    assert low < gap < high


# ------------------------------------------------------------------------------------ regions
def flooded(image, start, tolerance, radius):
    """Every pixel that a walk over neighbours alike to `start` reaches."""
    height, width = image.shape[:2]
    found, stack = {start}, [start]
    while stack:
        row, column = stack.pop()
        for r, c in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            near = (r - start[0]) ** 2 + (c - start[1]) ** 2 <= radius**2
            if (r, c) in found or not (0 <= r < height and 0 <= c < width and near):
                continue
            if np.abs(image[r, c].astype(int) - image[start]).max() <= tolerance:
                found.add((r, c))
                stack.append((r, c))
    return found


def case(seed: int, points: int = 9):
    numbers = np.random.default_rng(seed)
    image = np.kron(numbers.integers(0, 4, (6, 8, 3)) * 20, np.ones((4, 4, 1), int))
    image = (image + numbers.integers(-3, 4, image.shape)).astype(np.int16)
    positions = np.sort(numbers.choice(image.shape[0] * image.shape[1], points, replace=False))
    answers = numbers.choice([0, 1, 2, IGNORE], points, p=[0.3, 0.3, 0.3, 0.1]).astype(np.uint8)
    return image, positions, answers


@pytest.mark.parametrize("tolerance", [1, 4, 30])
def test_regions_by_walking(tolerance):
    for seed in range(5):
        image, positions, answers = case(seed)
        width, radius = image.shape[1], 7
        claims = [
            (flooded(image, divmod(p, width), tolerance, radius), a)
            for p, a in zip(positions.tolist(), answers.tolist(), strict=True)
            if a != IGNORE
        ]
        expected = np.full(image.shape[:2], IGNORE)
        for pixel in np.ndindex(expected.shape):
            said = {answer for reached, answer in claims if pixel in reached}
            if len(said) == 1:
                expected[pixel] = said.pop() + grown.GROWN
        expected.flat[positions] = answers
        label = grown.spread(image, positions, answers, tolerance, radius)
        np.testing.assert_array_equal(label, expected)
        pseudo = np.random.default_rng(seed).choice([3, 4, IGNORE], label.shape).astype(np.uint8)
        free = (expected == IGNORE) & (pseudo != IGNORE)
        free.flat[positions] = False  # void there
        expected[free] = pseudo[free] + grown.GROWN
        both = grown.spread(image, positions, answers, tolerance, radius, pseudo)
        np.testing.assert_array_equal(both, expected)

        place = {divmod(p, width): a for p, a in zip(positions.tolist(), answers, strict=True)}
        pairs = [
            (place[other], answer) for reached, answer in claims for other in reached & place.keys()
        ]
        covered = len(pairs) - len(claims)  # each covers itself
        agreed = sum(a == b for a, b in pairs) - len(claims)
        assert grown.held_back(image, positions, answers, tolerance, radius) == (covered, agreed)


def test_the_answers_choose_the_tolerance():
    """Stripes 10 apart in colour, of one class each: 4 and 8 are safe, 12 crosses a border."""

    folder = Pictures((torch.arange(40) // 8 * 10).expand(1, 3, 20, 40).byte())
    columns = np.arange(0, 800, 3)
    known = Selection((20, 40), [columns], [((columns % 40) // 8).astype(np.uint8)])
    settings = RegionConfig(tolerances=(4, 8, 12, 16), radius=6)
    assert grown.choose_tolerance(folder, known, settings) == (8, 1.0)
    wrong = Selection((20, 40), [columns], [(columns % 2).astype(np.uint8)])
    assert grown.choose_tolerance(folder, wrong, settings)[0] == 0
    labels = grown.filled_label(folder, known, 8, 6, None, 0)
    truth = np.arange(40) // 8
    assert (labels != IGNORE).all()
    np.testing.assert_array_equal(labels % grown.GROWN, np.tile(truth, (20, 1)))


def test_grown_labels_have_a_loss_of_their_own(fabric, tiny):
    """One step equals LabOR's with the grown labels' cross-entropy added by hand."""
    torch.manual_seed(0)
    label = torch.full((2, 32, 32), IGNORE)
    label[:, 3, ::4], label[:, 10:20, 5:15] = 2, 5 + grown.GROWN
    asked, inferred = label.clone(), torch.full_like(label, IGNORE)
    asked[label == 5 + grown.GROWN], inferred[label == 5 + grown.GROWN] = IGNORE, 5
    images, source = torch.randn(2, 3, 32, 32), torch.randint(0, 14, (2, 32, 32))
    config = replace(tiny, regions=RegionConfig(weight=0.7))

    def after(step, labels, **options):
        torch.manual_seed(1)
        nets = build_nets(config, 14)
        opts = build_optimizers(nets, config, 1e-2)
        batch = Batch(images, source, images.flip(0), labels)
        losses = step(fabric, nets, opts, batch, config, **options)
        return losses, nets["segmenter"].state_dict()

    def by_hand(levels):
        return 0.7 * segmentation_loss(levels, inferred, config.adversarial.auxiliary_weight)

    losses, weights = after(grown.filled_step, label)
    expected, others = after(labor_step, asked, further_loss=by_hand)
    plain, _ = after(labor_step, asked)
    assert losses == expected
    assert losses["target"] > plain["target"]
    torch.testing.assert_close(weights, others)
    assert STREETS.regions.purity == 0.9
