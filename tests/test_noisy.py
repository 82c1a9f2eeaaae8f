"""The annotator that errs: closed forms on drawn maps, directions, parameters found again."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import accepted, refused

from labor_lib.annotation import annotator_name, open_annotator
from labor_lib.annotation.noisy import FITTED, NoiseConfig, NoisyAnnotator, fit, surroundings
from labor_lib.annotation.oracle import Oracle
from labor_lib.errors import InputError
from labor_lib.labels import STREETS14
from labor_lib.selection.record import Selection

NONE = NoiseConfig(base=0, border=0, small=0, click_sd=0)
HALVES = np.repeat([[0] * 20 + [1] * 20], 40, axis=0).astype(np.uint8)  # 40 x 40
CLASSES, SIDE = 14, 160


def annotator(noise: NoiseConfig, oracle=None, classes: int = CLASSES) -> NoisyAnnotator:
    return NoisyAnnotator(oracle, classes, noise)


def answers(noise, truth, positions, seed=0, points=True, classes=CLASSES) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return annotator(noise, classes=classes).errs(truth, positions, generator, points)


def at(column: int, count: int = 20_000) -> np.ndarray:
    """One pixel of HALVES, so often."""
    return np.full(count, 20 * 40 + column)


def test_surroundings_are_those_of_a_search_over_all_pixels():
    generator = np.random.default_rng(0)
    truth = np.kron(generator.choice([0, 1, 2, 255], (6, 7)), np.ones((3, 3))).astype(np.uint8)
    truth[4, 5] = 9
    rows, columns = np.indices(truth.shape).reshape(2, -1)
    distance, beyond, _ = surroundings(truth, np.arange(truth.size))
    for place in np.flatnonzero(truth.reshape(-1) != 255):
        others = (truth.reshape(-1) != truth.reshape(-1)[place]) & (truth.reshape(-1) != 255)
        far = np.hypot(rows - rows[place], columns - columns[place])
        assert distance[place] == pytest.approx(far[others].min() - 1)
        nearest = others & np.isclose(far, far[others].min())
        assert beyond[place] in truth.reshape(-1)[nearest]
    area = surroundings(HALVES, np.array([[0, 39]]))[2]
    assert area.tolist() == [[800, 800]]
    assert surroundings(truth, np.array([4 * truth.shape[1] + 5]))[2] == 1
    assert np.isinf(surroundings(np.zeros((3, 3), np.uint8), np.arange(9))[0]).all()


def test_the_border_errs_as_the_formula_says_and_names_what_is_beyond():
    noise = replace(NONE, border=0.4, reach=3.0)
    rates = []
    for column in (19, 18, 16, 10):  # distances 0, 1, 3, 9
        found = answers(noise, HALVES, at(column))
        assert set(found) <= {0, 1}
        rates.append((found != 0).mean())
    np.testing.assert_allclose(rates, 0.4 * np.exp(-np.array([0, 1, 3, 9]) / 3), atol=0.012)
    assert rates == sorted(rates, reverse=True)


def test_small_regions_err_more_and_by_the_table():
    truth = np.zeros((40, 40), np.uint8)
    truth[10:12, 10:15] = 2  # 10 pixels
    truth[20:35, 10:30] = 2  # 300 pixels
    noise = replace(NONE, base=0.1, small=0.5, size=20.0)
    small = answers(noise, truth, np.full(20_000, 11 * 40 + 12))
    large = answers(noise, truth, np.full(20_000, 27 * 40 + 20))
    assert (small != 2).mean() == pytest.approx(0.1 + 0.5 * np.exp(-10 / 20), abs=0.012)
    assert (large != 2).mean() == pytest.approx(0.1, abs=0.012)
    shares = np.bincount(large[large != 2], minlength=CLASSES)[np.arange(CLASSES) != 2]
    np.testing.assert_allclose(shares / shares.sum(), 1 / 13, atol=0.03)  # any other class alike
    table = ((0, 1, 1, 0), (1, 0, 0, 0), (1, 0, 5, 3), (0, 0, 1, 0))  # no class is its own mistake
    wrong = answers(replace(noise, confusion=table), truth, np.full(20_000, 467), classes=4)
    shares = np.bincount(wrong[wrong != truth.flat[467]], minlength=4)
    right = truth.flat[467]
    expected = np.array([[0, 0.5, 0.5, 0], [0] * 4, [0.25, 0, 0, 0.75]][right])
    np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.03)


def test_a_click_that_is_off_reads_the_pixel_beside():
    noise = replace(NONE, click_sd=1.0)
    found = answers(noise, HALVES, at(19))
    assert (found == 1).mean() == pytest.approx(0.3085, abs=0.012)  # P(normal > 0.5)
    assert (answers(noise, HALVES, at(17)) == 1).mean() == pytest.approx(0.0062, abs=0.003)
    corner = np.zeros(1000, int)
    assert not answers(replace(NONE, click_sd=2.0), HALVES, corner).any()  # stays inside
    void = np.full((4, 4), 255, np.uint8)
    assert (answers(NoiseConfig(base=1, border=0, small=0), void, np.arange(16)) == 255).all()


def test_a_segment_is_wrong_as_a_whole():
    asked = np.flatnonzero(np.isin(np.indices((40, 40))[1], range(15, 25)))  # over the border
    noise = replace(NONE, base=0.5)
    kinds = [
        tuple(sorted(set(found[HALVES.flat[asked] == half])))
        for seed in range(40)
        for found in [answers(noise, HALVES, asked, seed, points=False)]
        for half in (0, 1)
    ]
    assert all(len(classes) == 1 for classes in kinds)
    wrong = np.mean([classes[0] != half for classes, half in zip(kinds, [0, 1] * 40, strict=True)])
    assert 0.3 < wrong < 0.7
    # of its two regions, each is shifted as one
    found = answers(replace(NONE, click_sd=2.0), HALVES, asked, 3, points=False).reshape(40, 10)
    assert (found == found[0]).all()


@pytest.fixture
def oracle(make_folder):
    folder = make_folder()
    return Oracle(lambda: folder)


@pytest.mark.parametrize("kind", ["point", "segment"])
def test_without_noise_it_is_the_oracle_and_with_it_a_seed_decides(oracle, kind):
    asked = Selection((16, 32), [np.arange(0, 512, 3), np.empty(0, int), np.arange(200, 230)])
    expected, costs = oracle.ask(asked)
    for noise, same in ((NONE, True), (NoiseConfig(), False)):
        found, paid = annotator(noise, oracle).ask(asked, "ppl/seed0/stage1", kind=kind)
        assert paid == costs
        assert [one.dtype for one in found.answers] == [np.uint8] * 3
        pairs = list(zip(found.answers, expected.answers, strict=True))
        assert all(np.array_equal(*pair) for pair in pairs) == same
        again, _ = annotator(noise, oracle).ask(asked, "ppl/seed0/stage1", kind=kind)
        assert all(map(np.array_equal, found.answers, again.answers))
    other, _ = annotator(NoiseConfig(), oracle).ask(asked, "ppl/seed0/stage2", kind=kind)
    assert not all(map(np.array_equal, found.answers, other.answers))


def simulated(noise: NoiseConfig, seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """2,000 answers: inside large regions, beside borders, and in small regions."""
    generator, truths, tables = np.random.default_rng(seed), {}, []
    for name in "abcd":
        truth = np.kron(generator.integers(0, CLASSES, (4, 4)), np.ones((40, 40))).astype(np.uint8)
        for top, left in np.ndindex(8, 8):
            height, width = generator.choice([4, 6, 9], 2)
            top, left = 20 * top + 4, 20 * left + 4
            truth[top : top + height, left : left + width] = generator.integers(CLASSES)
        distance, _, area = surroundings(truth, np.arange(truth.size))
        large = area > 400
        pools = (large & (distance > 8), large & (distance < 14), area <= 200)
        pairs = zip(pools, (120, 200, 180), strict=True)
        asked = np.concatenate([generator.choice(np.flatnonzero(p), count) for p, count in pairs])
        label = annotator(noise).errs(truth, asked, generator, points=True)
        row, column = np.divmod(asked, SIDE)
        tables.append(pd.DataFrame({"image": name, "row": row, "column": column, "label": label}))
        truths[name] = truth
    return pd.concat(tables), truths


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parameters_are_found_again(seed):
    noise = NoiseConfig(base=0.2, border=0.5, reach=6, small=0.29, size=200, click_sd=1.4)
    found = fit(*simulated(noise, seed), CLASSES, NoiseConfig(size=200))
    for name in FITTED:
        assert getattr(found, name) == pytest.approx(getattr(noise, name), rel=0.2), name


def test_bad_answers_and_bad_noise_say_what_is_wrong(tmp_path):
    table = pd.DataFrame({"image": "a", "row": 1, "column": 1, "label": 0}, index=range(100))
    for changed, message in (
        (table.assign(label=255), "0 to points; at least 100"),
        (table.assign(kind="segment"), "0 to points"),
        (table.assign(column=40), "a place outside of image a, 40 x 40"),
    ):
        with pytest.raises(InputError, match=message):
            fit(changed, {"a": HALVES}, 2)
    for bad, message in (
        ({"base": 1.5}, "noise base 1.5: give 0 to 1"),
        ({"base": 0.5, "border": 0.4}, "more than 1"),
        ({"reach": 0}, "noise reach 0: give 0.001 to 100000"),
        ({"click_sd": 3}, "noise click_sd 3"),
        ({"confusion": ((1, 2), (3, 4))}, "give 14 rows of 14"),
        ({"confusion": ((0.0,) * 14,) * 14}, "one above 0 in every row"),
    ):
        with pytest.raises(InputError, match=message):
            annotator(NoiseConfig(**bad))
    path = tmp_path / "noise.json"
    for text, message in (('{"bas": 1}', "bas"), ("[1]", "not an"), ('{"base": 2}', "0 to 1")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            NoiseConfig.load(path)
    with pytest.raises(InputError, match="No such file"):
        open_annotator(f"noisy:{tmp_path / 'none.json'}", None, None, STREETS14)


def test_a_run_records_the_noise_and_keeps_to_it(tmp_path, capsys):
    noise = NoiseConfig(base=0.3, confusion=tuple(map(tuple, (1.0 - np.eye(14)).tolist())))
    noise.save(tmp_path / "noise.json")
    assert NoiseConfig.load(tmp_path / "noise.json") == noise
    assert annotator_name(f"noisy:{tmp_path / 'noise.json'}", tmp_path) == "noisy"
    run = ["run", "--preset", "smoke", "--methods", "random_points", "--device", "cpu"]
    run += ["--data", tmp_path / "data", "--out", tmp_path / "run", "--stages", "1"]
    run += ["--annotator", f"noisy:{tmp_path / 'noise.json'}"]
    accepted(*run)
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["annotator"] == "noisy"
    assert record["noise"] == noise.as_dict()
    accepted(*run)  # the same again
    replace(noise, base=0.1).save(tmp_path / "noise.json")
    assert "noise.base was 0.3, is 0.1" in refused(capsys, *run)
