"""Selection rules against plain loops, the record of what was asked, and a whole split."""

import math
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import full_disk
from torch.nn import functional as F

from labor_lib.config import SelectorConfig
from labor_lib.errors import InputError
from labor_lib.methods.iast import write_pseudo_labels
from labor_lib.methods.labor import PixelSelector, train_selector
from labor_lib.selection import ripu, scores
from labor_lib.selection.candidates import box_sum, disc, greedy, near, square
from labor_lib.selection.record import Masks, Selection
from labor_lib.selection.rules import COMPARE, RULES, SCORED, Candidates
from labor_lib.selection.select import select

SIZE = (9, 11)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_case(seed, images=3, classes=6, size=SIZE, taken_share=0.3, absent=()):
    """Two random probability maps that often disagree, and taken pixels."""
    torch.manual_seed(seed)
    shared = torch.randn(images, classes, *size) * 1.5
    shared[:, list(absent)] -= 20
    first, second = (
        (shared + torch.randn(images, classes, *size)).softmax(dim=1) for _ in range(2)
    )
    return first, second, torch.rand(images, *size) < taken_share


def candidates(one, two, budget, gone, numbers, void=None) -> Candidates:
    """With features at half the size, and some mean probabilities."""
    return Candidates(
        one, two, budget, gone, numbers, lambda: F.avg_pool2d(one[None], 2)[0], void,
        lambda: torch.linspace(0.1, 0.3, len(one)),
    )  # fmt: skip


def ask(rule, first, second, budget, taken, seed=0) -> Selection:
    """The rule on every image, with one generator for all."""
    numbers = generator(seed)
    cases = zip(first, second, taken, strict=True)
    images = (candidates(one, two, budget, gone, numbers) for one, two, gone in cases)
    return Selection(tuple(taken.shape[1:]), [RULES[rule](one).numpy() for one in images])


def disagreement(first, second, taken):
    """By loops: per image, the flat positions of untaken pixels with two different winners."""
    found = []
    height, width = taken.shape[1:]
    for b in range(len(first)):
        positions = []
        for i in range(height):
            for j in range(width):
                one, two = first[b, :, i, j].tolist(), second[b, :, i, j].tolist()
                if one.index(max(one)) != two.index(max(two)) and not taken[b, i, j]:
                    positions.append(i * width + j)
        found.append(positions)
    return found


EXACT = {"spl", "random", "core_set", *(name for name in SCORED if "spaced" not in name)}
DRAWS = {
    "ppl_random",
    "spl",
    "spl_spaced",
    "random",
    "weak_points",
    *(n for n in SCORED if "sampled" in n),
}


def blank(values, position, shape, value):
    """Set what is round a flat position, by loops."""
    row, column = divmod(position, values.shape[1])
    for i, j in zip(*np.nonzero(shape), strict=True):
        place = (row + i - len(shape) // 2, column + j - len(shape) // 2)
        if 0 <= place[0] < values.shape[0] and 0 <= place[1] < values.shape[1]:
            values[place] = value


def allowed(rule, image) -> np.ndarray:
    """Flat positions that a rule may ask, by what its text says."""
    free = ~image.taken.numpy()
    if rule in ("spl", "ppl", "ppl_random", "spl_spaced", "ppl_filled"):
        free &= (image.first.argmax(0) != image.second.argmax(0)).numpy()
    reach = {"spl_spaced": square(4), "ppl_filled": square(4), "ripu_points": square(1)}
    shape = disc(4) if rule in SCORED and "spaced" in rule else reach.get(rule, square(0))
    for position in np.flatnonzero(image.taken):
        blank(free, position, shape, False)
    return np.flatnonzero(free)


@pytest.mark.parametrize("budget", [1, 7, 10_000])
@pytest.mark.parametrize("rule", RULES)
def test_budget_and_taken_are_respected(rule, budget):
    first, second, taken = random_case(1, images=4)
    taken[0] = False
    taken[0, 2, 3] = True  # of the spaced ones something is left here
    taken[1] = True  # nothing left to ask; its neighbours are not disturbed
    first[2] = second[2]  # the classifiers agree
    asked = ask(rule, first, second, budget, taken)
    assert (len(asked), asked.size) == (4, SIZE)
    for i, positions in enumerate(asked.positions):
        image = Candidates(first[i], second[i], budget, taken[i])
        may = allowed(rule, image)
        assert positions.dtype == np.int64
        assert np.isin(positions, may).all()
        assert (np.diff(positions) > 0).all()
        assert (0 < len(positions) <= min(budget, len(may))) if len(may) else not len(positions)
        if rule in EXACT or rule == "spl_spaced":
            assert len(positions) == min(budget, len(may))
        elif budget > len(may) and ("spaced" in rule or rule in ("ppl_filled", "ripu_points")):
            # nothing more could be asked: all is asked or lies round what is
            after = replace(image, taken=image.taken.clone())
            after.taken.view(-1)[positions] = True
            assert not len(allowed(rule, after))


@pytest.mark.parametrize("rule", RULES)
def test_same_generator_same_question(rule):
    first, second, taken = random_case(2, taken_share=0.02, size=(18, 22))
    one, again = (ask(rule, first, second, 5, taken, seed=3) for _ in range(2))
    other = ask(rule, first, second, 5, taken, seed=4)
    assert all(map(np.array_equal, one.positions, again.positions))
    same = all(map(np.array_equal, one.positions, other.positions))
    assert same == (rule not in DRAWS)
    for i, positions in enumerate(one.positions):  # alone, and in another order of memory
        if rule not in DRAWS:
            parts = (x[i].permute(1, 2, 0).contiguous().permute(2, 0, 1) for x in (first, second))
            alone = RULES[rule](candidates(*parts, 5, taken[i].clone(), generator()))
            np.testing.assert_array_equal(alone.numpy(), positions)


# ------------------------------------------------------------------------------ tools and scores
def greedily(values, number, shape, before=()):
    """The straightforward loop: search the whole image, set what is round the choice to -inf."""
    values, chosen = values.astype(float).copy(), []
    for position in before:
        blank(values, position, shape, -np.inf)
    while len(chosen) < number and values.max() > -np.inf:
        chosen.append(int(values.argmax()))
        blank(values, chosen[-1], shape, -np.inf)
    return chosen


@pytest.mark.parametrize("shape", [square(0), square(1), square(4), disc(2), disc(5)])
@pytest.mark.parametrize("levels", [1, 4, 10**6])  # few levels: many ties
def test_greedy_choice_is_that_of_the_loop(shape, levels):
    numbers = np.random.default_rng(levels)
    for number in (0, 1, 5, 40, 2000):
        values = np.floor(numbers.random((23, 31)) * levels).astype(np.float32) - levels / 2
        values[numbers.random((23, 31)) < 0.2] = -np.inf
        before = torch.from_numpy(numbers.random((23, 31)) < 0.01)
        expected = greedily(values, number, shape, np.flatnonzero(before))
        assert list(greedy(torch.from_numpy(values), number, shape, before)) == expected
    assert not list(greedy(torch.full((3, 4), -torch.inf), 2, shape))


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 9])
def test_window_sums(radius):
    values = torch.randint(-5, 9, (7, 12), generator=generator(radius))
    expected = torch.empty_like(values)
    for i in range(7):
        for j in range(12):
            rows = slice(max(0, i - radius), i + radius + 1)
            expected[i, j] = values[rows, max(0, j - radius) : j + radius + 1].sum()
    assert torch.equal(box_sum(values, radius), expected)
    points = values == 8
    reach = [(abs(i - r) <= radius) & (abs(j - c) <= radius)
             for i, j in [np.ogrid[:7, :12]] for r, c in points.nonzero().tolist()]  # fmt: skip
    np.testing.assert_array_equal(near(points, radius).numpy(), np.any(reach, axis=0))
    assert [row.nonzero()[0].tolist() for row in disc(2)[:3]] == [[2], [1, 2, 3], [0, 1, 2, 3, 4]]


def test_scores_by_hand():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]]).T[:, None]  # C x 1 x 3
    q = torch.tensor([[0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]).T[:, None]
    one, two = Candidates(p, p, 1), Candidates(p, q, 1)
    one.compute_class_means = lambda: torch.tensor([0.5, 0.4, 0.1])
    entropies = [-sum(x * math.log(x) for x in column if x) for column in p[:, 0].T.tolist()]
    for found, expected in (
        (scores.entropy(one), entropies),
        (scores.least_confidence(one), [-0.5, -0.6, -1.0]),
        (scores.margin(one), [-0.2, -0.4, -1.0]),
        (scores.balanced_margin(one), [0.6 / 16, 1 / 3 / 1.6**2, 0.0]),
        (scores.rare_margin(one), [0.6 / 4, 1 / 3 / 1.6, 0.0]),
        (scores.discrepancy(two), [0.8 / 3, 0.0, 2 / 3]),
    ):
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("rule", [name for name in SCORED if "sampled" not in name])
def test_ties_go_to_the_first_pixel(rule):
    """Three kinds of pixels; or all alike, where nothing but the place is left."""
    kinds = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2], [0.3, 0.4, 0.3]])
    for several in (1, 3):
        drawn = torch.randint(several, (2, *SIZE), generator=generator(several))
        one, two = (kinds[part].permute(2, 0, 1) for part in drawn)
        two = two if rule in COMPARE else one
        image = candidates(one, two, 6, None, generator())
        score = getattr(scores, rule.removesuffix("_spaced"))(image).numpy()
        shape = disc(4) if "spaced" in rule else square(0)
        assert RULES[rule](image).tolist() == sorted(greedily(score, 6, shape))


def test_samples_of_the_best_twentieth():
    first, second, taken = random_case(20, images=1, size=(40, 30))
    hits = np.zeros(1200, int)
    for seed in range(200):
        hits[ask("margin_sampled", first, second, 6, taken, seed).positions[0]] += 1
    margins = -scores.margin(Candidates(first[0], second[0], 1)).masked_fill(taken[0], -9).flatten()
    best = margins.argsort()[:60].numpy()  # a twentieth of all pixels, not of those left
    assert hits[best].sum() == hits.sum() == 1200
    assert 0.5 < hits[best].var() / 18 < 1.6  # 200 draws of 6 in 60


# ------------------------------------------------------------------------------------------ RIPU
def test_ripu_by_its_own_code(golden):
    stored = golden("ripu.npz")
    probs = torch.from_numpy(stored["logits"])[0].softmax(dim=0)
    for radius in (1, 4):
        found = ripu.region_score(Candidates(probs, probs, 1), radius)
        for name, values in zip(("score", "impurity", "uncertainty"), found, strict=True):
            np.testing.assert_allclose(values, stored[f"{name}_k{radius}"], atol=1e-4)
    points = ripu.ripu_points(Candidates(probs, probs, 9), radius=4)
    np.testing.assert_array_equal(points, np.flatnonzero(stored["pa_selected"]))
    regions = RULES["ripu_regions"](Candidates(probs, probs, 90))
    np.testing.assert_array_equal(regions, np.flatnonzero(stored["ra_selected"]))


@pytest.mark.parametrize(("classes", "radius"), [(2, 1), (5, 1), (4, 2), (19, 8)])
def test_impurity_of_any_window(classes, radius):
    predicted = torch.randint(classes, (14, 20), generator=generator(5)).to(torch.uint8)
    found = ripu.impurity(predicted, classes, radius)
    for i, j in ((0, 0), (0, 9), (6, 10), (13, 19), (5, 1)):
        rows = slice(max(0, i - radius), i + radius + 1)
        window = predicted[rows, max(0, j - radius) : j + radius + 1].flatten()
        shares = window.bincount().double() / len(window)
        expected = torch.special.entr(shares).sum().item()
        assert found[i, j].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("rule", ["ripu_points", "ripu_regions"])
def test_ripu_by_loops_over_rounds(rule):
    """Round after round, the border included; the last region is asked in part."""
    first, _, _ = random_case(21, images=1, size=(24, 30))
    probs, taken = first[0], torch.zeros(24, 30, dtype=torch.bool)
    budget = 134 if rule == "ripu_regions" else 40  # 15 regions, had none of them a border
    for _ in range(3):
        image = Candidates(probs, probs, budget, taken)
        whole, impure, _ = (part.numpy() for part in ripu.region_score(image))
        if rule == "ripu_regions":
            score, expected = np.where(near(taken, 1), -np.inf, whole), []
            for row, column in (divmod(c, 30) for c in greedily(score, 99, square(2))):
                rows = range(max(row - 1, 0), min(row + 2, 24))
                columns = range(max(column - 1, 0), min(column + 2, 30))
                expected += [i * 30 + j for i in rows for j in columns]
        else:
            score = impure * scores.entropy(image).numpy()
            expected = greedily(score, 40, square(1), np.flatnonzero(taken))
        found = RULES[rule](image).tolist()
        assert found == sorted(expected[:budget])
        taken.view(-1)[found] = True


# ------------------------------------------------------------------------- other choices of points
def test_core_set_by_loops():
    first, second, taken = random_case(22, images=2, taken_share=0.05)
    taken[1] = False
    for i in range(2):
        image = candidates(first[i], second[i], 9, taken[i], generator())
        maps = F.interpolate(image.features[None], SIZE, mode="bilinear")[0].flatten(1).T.double()
        free, chosen = (~taken[i]).flatten().nonzero()[:, 0].tolist(), []
        centres = [maps[k] for k in taken[i].flatten().nonzero()[:, 0]] or [maps.mean(dim=0)]
        for _ in range(9):
            distances = [min((maps[k] - c).norm().item() for c in centres) for k in free]
            chosen.append(free.pop(int(np.argmax(distances))))
            centres.append(maps[chosen[-1]])
        assert RULES["core_set"](image).tolist() == sorted(chosen)


@pytest.mark.parametrize("rule", ["weak_points", "ppl_random"])
def test_one_random_pixel_of_each_class(rule):
    first, second, taken = random_case(25, images=1, absent=(2,))
    image = Candidates(first[0], second[0], 40, taken[0])
    classes, may = (first + second)[0].argmax(dim=0).flatten().numpy(), allowed(rule, image)
    seen = set()
    for seed in range(400):
        positions = RULES[rule](replace(image, generator=generator(seed)))
        assert sorted(classes[positions]) == np.unique(classes[may]).tolist()
        seen |= set(positions.tolist())
    assert seen == set(may.tolist())  # any of its pixels


def test_ppl_filled_by_loops():
    first, second, taken = random_case(24, images=1, size=(40, 50), taken_share=0.004)
    void = taken[0] & (torch.rand(40, 50, generator=generator(1)) < 0.3)
    assert 0 < void.sum() < taken.sum()
    (mask,) = disagreement(first, second, taken)
    probs = ((first[0] + second[0]) / 2).flatten(1).T.double().numpy()
    members: dict[int, list[int]] = {}
    for position in mask:
        members.setdefault(int(probs[position].argmax()), []).append(position)
    order = sorted(members, key=lambda k: (-len(members[k]), k))
    means = {k: probs[members[k]].mean(axis=0) for k in order}

    def cosine(position, k):
        v = probs[position]
        return v @ means[k] / np.linalg.norm(v) / np.linalg.norm(means[k])

    def far(position, others, reach):
        row, column = divmod(position, 50)
        return all(max(abs(row - o // 50), abs(column - o % 50)) > reach for o in others)

    asked_before, void_before = (np.flatnonzero(x).tolist() for x in (taken[0], void))
    expected: list[int] = []
    for _ in range(99):  # rounds
        for k in order:
            free = [p for p in members[k] if far(p, asked_before + expected, 4)]
            free = [p for p in free if far(p, void_before, 12)]
            expected += [max(free, key=lambda p: cosine(p, k))] if free else []
    assert len(expected) > 2 * len(order)
    for budget in (3, 10, 1000):
        image = candidates(first[0], second[0], budget, taken[0], generator(), void)
        assert RULES["ppl_filled"](image).tolist() == sorted(expected[:budget])
    may = {p for p in mask if far(p, asked_before, 4) and far(p, void_before, 12)}
    assert set(RULES["spl_spaced"](image).tolist()) == may


def representative(first, second, taken, cap):
    """PPL by loops in float64: per image the set of asked positions."""
    asked = []
    probs = ((first.double() + second.double()) / 2).flatten(2).numpy()
    for b, positions in enumerate(disagreement(first, second, taken)):
        members: dict[int, list[int]] = {}
        for position in positions:
            vector = probs[b, :, position].tolist()
            members.setdefault(vector.index(max(vector)), []).append(position)
        largest = sorted(members, key=lambda k: (-len(members[k]), k))[:cap]
        chosen = set()
        for k in largest:
            vectors = [probs[b, :, position] for position in members[k]]
            prototype = sum(vectors) / len(vectors)
            cosines = [
                float(v @ prototype) / math.sqrt(float(v @ v) * float(prototype @ prototype))
                for v in vectors
            ]
            chosen.add(members[k][cosines.index(max(cosines))])
        asked.append(chosen)
    return asked


@pytest.mark.parametrize("cap", [1, 2, 4, 40])
@pytest.mark.parametrize(("seed", "absent"), [(10, ()), (11, (0, 3)), (12, (1, 2, 4, 5))])
def test_ppl_by_loops(seed, absent, cap):
    first, second, taken = random_case(seed, images=4, absent=absent)
    asked = ask("ppl", first, second, cap, taken)
    found = [set(positions.tolist()) for positions in asked.positions]
    expected = representative(first, second, taken, cap)
    assert found == expected
    assert max(map(len, expected)) == min(cap, 6 - len(absent))


@pytest.mark.parametrize("rule", ["random", "spl"])
def test_samples_are_uniform(rule):
    """2000 equal images: every allowed pixel is asked equally often, the others never."""
    images, budget = 2000, 6
    torch.manual_seed(14)
    one, two = (torch.randn(1, 3, 5, 6).softmax(dim=1) for _ in range(2))
    taken = torch.rand(1, 5, 6) < 0.3
    allowed = np.zeros(30, bool)
    if rule == "random":
        allowed[:] = ~taken.flatten().numpy()
    else:
        allowed[disagreement(one, two, taken)[0]] = True
    count = allowed.sum()
    assert budget < count < 30
    first, second, taken = (x.expand(images, *x.shape[1:]) for x in (one, two, taken))
    asked = ask(rule, first, second, budget, taken)
    hits = np.bincount(np.concatenate(asked.positions), minlength=30)
    assert (hits[~allowed] == 0).all()
    share = budget / count
    deviations = (hits[allowed] - images * share) / math.sqrt(images * share * (1 - share))
    assert np.abs(deviations).max() < 4.5
    assert 0.3 < (deviations**2).mean() < 2.5  # neither biased nor a fixed cycle


def answered(counts, seed=0) -> Selection:
    numbers = np.random.default_rng(seed)
    positions = [np.sort(numbers.choice(99, n, replace=False)) for n in counts]
    return Selection(SIZE, positions, [numbers.integers(0, 19, n).astype(np.uint8) for n in counts])


def assert_equal(one: Selection, two: Selection):
    assert one.size == two.size
    assert len(one.positions) == len(two.positions)
    assert len(one.answers) == len(two.answers)
    for a, b in zip(one.positions + one.answers, two.positions + two.answers, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("counts", [(4,), (3, 0, 5), (0, 0, 0), ()])
def test_save_and_load(tmp_path, counts):
    path = tmp_path / "deep" / "selection.npz"
    selection = answered(counts)
    asked = Selection(SIZE, selection.positions)  # before the answers
    for stored in (asked, selection) if sum(counts) else (selection,):
        stored.save(path)
        loaded = Selection.load(path)
        assert_equal(loaded, stored)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)
    for i, positions in enumerate(selection.positions):
        labels = np.full(SIZE, 255)
        labels.flat[positions] = selection.answers[i]
        np.testing.assert_array_equal(loaded.labels(i), labels)
        np.testing.assert_array_equal(loaded.mask(i), labels != 255)
    # what the next stage does with it
    assert_equal(Selection.nothing(len(counts), SIZE).merge(loaded), selection)
    last = 1024 * 2048 * 64 - 1
    large = Selection((8192, 16384), [np.array([0, last])], [np.array([1, 2], np.uint8)])
    large.save(path)
    assert Selection.load(path).positions[0].tolist() == [0, last]


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "empty", "foreign", "flipped", "no counts", "array", "pickle"]
)
def test_damaged_file(tmp_path, damage):
    path = tmp_path / "selection.npz"
    answered((30, 20)).save(path)
    whole = path.read_bytes()
    if damage == "flipped":
        with zipfile.ZipFile(path) as file:
            place = file.getinfo("positions.npy").header_offset + 80
        path.write_bytes(whole[:place] + b"\xff\x00\xff\x00" + whole[place + 4 :])
    elif damage == "no counts":
        np.savez(path, size=SIZE)
    elif damage == "pickle":
        np.savez(path, size=SIZE, counts=[1], positions=np.array([{}], object), answers=[0])
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "missing":
        path.unlink()
    else:
        contents = {"cut": whole[: len(whole) // 2], "empty": b"", "foreign": b"hello there" * 9}
        path.write_bytes(contents[damage])
    with pytest.raises(InputError, match=r"selection\.npz: (damaged|no such file)"):
        Selection.load(path)


@pytest.fixture
def target(make_folder):
    return make_folder(count=12, labels=False)


def outputs(net, folder, config):
    """Probabilities of every image, one at a time, from the picture's own pixels."""
    size = config.data.target_size
    for i in range(len(folder)):
        image = (folder.image(i).float() / 255 - 0.45) / 0.25
        with torch.no_grad():
            levels = net(image[None])
        yield [F.interpolate(x, size, mode="bilinear").softmax(1) for x in levels]


def test_select_covers_the_split_and_skips_what_was_asked(fabric, tiny, segmenter, target):
    settings = {"rule": "margin", "budget": 20, "seed": 5}
    taken = Selection.nothing(12, (16, 32))
    rounds = []
    for _ in range(2):
        asked, _ = select(fabric, segmenter, target, tiny, taken=taken, **settings)
        asked.answers = [np.zeros(len(p), np.uint8) for p in asked.positions]
        taken = taken.merge(asked)
        rounds.append(asked)
    for i, (probs,) in enumerate(outputs(segmenter, target, tiny)):
        two = probs[0].flatten(1).sort(dim=0).values
        order = (two[-1] - two[-2]).argsort()[:40].tolist()
        found = [set(asked.positions[i].tolist()) for asked in rounds]
        assert not found[0] & found[1]
        assert len(found[0] & set(order[:20])) >= 19  # float32 may swap neighbours
        assert len((found[0] | found[1]) & set(order)) >= 39


@pytest.mark.parametrize("rule", ["random", "random_images"])
def test_select_draws_from_its_seed(fabric, tiny, segmenter, target, rule):
    taken = Selection.nothing(12, (16, 32))

    def draw(seed):
        asked, masks = select(
            fabric, segmenter, target, tiny, rule=rule, budget=128, taken=taken, seed=seed
        )
        assert not any(masks[i].any() for i in range(12))  # one classifier never disagrees
        return [tuple(positions.tolist()) for positions in asked.positions]

    assert draw(1) == draw(1) != draw(2)
    # no two images are asked the same places; or three are asked wholly, the others not
    assert len(set(draw(1))) == {"random": 12, "random_images": 2}[rule]


def test_a_rule_may_ask_for_features(fabric, tiny, segmenter, target, monkeypatch):
    """The backbone's features of each image; they are not computed for other rules."""
    nothing = Selection.nothing(12, (16, 32))
    settings = {"budget": 3, "taken": nothing, "seed": 0}
    calls = []
    segmenter.backbone.register_forward_hook(lambda *_: calls.append(1))
    select(fabric, segmenter, target, tiny, rule="margin", **settings)
    usual = len(calls)

    def loudest(image):
        energy = image.features.square().sum(dim=0)[None, None]
        size = image.taken.shape
        return image.highest(F.interpolate(energy, size, mode="nearest")[0, 0])

    monkeypatch.setitem(RULES, "loudest", loudest)
    asked, _ = select(fabric, segmenter, target, tiny, rule="loudest", **settings)
    assert len(calls) == 2 * usual + 12
    for i in range(12):
        image = (target.image(i).float() / 255 - 0.45) / 0.25
        with torch.no_grad():
            energy = segmenter.backbone(image[None])[0].square().sum(dim=0)  # 4 x 8
        best = divmod(int(energy.argmax()), 8)
        for position in asked.positions[i].tolist():
            row, column = divmod(position, 32)
            assert (row // 4, column // 4) == best


def test_a_rule_may_ask_for_class_means_and_voids(fabric, tiny, segmenter, target, monkeypatch):
    """The means are of the whole split and computed once; void is what has no class."""
    before = Selection((16, 32), [np.arange(3) + i for i in range(12)])
    before.answers = [np.array([255, 2, 255], np.uint8) for _ in range(12)]
    calls, seen = [], []
    segmenter.backbone.register_forward_hook(lambda *_: calls.append(1))

    def note(image):
        seen.append((image.class_means, image.void.flatten().nonzero()[:, 0].tolist()))
        return image.sample(~image.taken)

    monkeypatch.setitem(RULES, "note", note)
    select(fabric, segmenter, target, tiny, rule="note", budget=3, taken=before, seed=0)
    assert len(calls) == 2 * math.ceil(12 / 5)
    probs = torch.cat([one for (one,) in outputs(segmenter, target, tiny)])
    for i, (means, void) in enumerate(seen):
        torch.testing.assert_close(means, probs.mean(dim=(0, 2, 3)))
        assert void == [i, i + 2]


def test_masks_are_where_the_classifiers_disagree(fabric, tiny, segmenter, target, tmp_path):
    torch.manual_seed(0)
    selector = PixelSelector(segmenter, SelectorConfig(noise=0.5))
    nothing = Selection.nothing(12, (16, 32))
    asked, masks = select(
        fabric, selector, target, tiny, rule="spl", budget=512, taken=nothing, seed=0
    )
    masks.save(tmp_path / "masks.npz")
    masks = Masks.load(tmp_path / "masks.npz")
    assert len(masks) == 12
    assert 0.02 < np.mean([masks[i].mean() for i in range(12)]) < 0.98
    for i, (one, two) in enumerate(outputs(selector, target, tiny)):
        expected = (one.argmax(1) != two.argmax(1))[0].numpy()
        assert (masks[i] == expected).mean() > 0.99  # float32 may swap near ties
        np.testing.assert_array_equal(masks[i], asked.mask(i))  # SPL with no cap asks it all


def test_masks_of_any_size_come_back(tmp_path):
    """Sizes that do not fill their last byte."""
    random = np.random.default_rng(0)
    drawn = random.random((5, 3, 7)) < 0.5
    masks = Masks((3, 7), np.packbits(drawn.reshape(5, 21), axis=1))
    masks.save(tmp_path / "masks.npz")
    loaded = Masks.load(tmp_path / "masks.npz")
    np.testing.assert_array_equal(np.stack([loaded[i] for i in range(5)]), drawn)


def test_pseudo_labels_that_cannot_be(fabric, tiny, segmenter, target, tmp_path, monkeypatch):
    """A full disk is an error, not a crash as with a file that is mapped; none sure: a warning."""
    config = replace(tiny, self_training=replace(tiny.self_training, start=0.9))
    arguments = (fabric, segmenter, target, config, 0.5, tmp_path / "labels.npy")
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_pseudo_labels(*arguments)
    for parameter in segmenter.classifier.requires_grad_(False).parameters():
        parameter.zero_()  # every class is as probable as every other
    with pytest.warns(UserWarning, match="no pixel is confident enough"):
        write_pseudo_labels(*arguments)


def test_pseudo_labels_of_a_split(fabric, tiny, segmenter, target, tmp_path):
    """IAST's rule by loops, the thresholds moving on after every four images."""
    settings = replace(tiny.self_training, beta=0.5, gamma=1.0, start=0.3, batch_size=4)
    config = replace(tiny, self_training=settings)
    path = tmp_path / "deep" / "labels.npy"
    stored = write_pseudo_labels(fabric, segmenter, target, config, 0.7, path)
    labels = np.load(path, allow_pickle=False)
    assert labels.shape == (12, 16, 32)
    np.testing.assert_array_equal(stored(7), labels[7])
    sent = pickle.dumps(stored)  # what a process that reads images receives
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)(3), labels[3])

    probs = torch.cat([levels[0] for levels in outputs(segmenter, target, config)])
    confidence, predicted = (part.numpy() for part in probs.max(dim=1))
    limits = [0.3] * 14
    expected = np.full(labels.shape, 255)
    for first in range(0, 12, 4):
        part = slice(first, first + 4)
        for k, limit in enumerate(limits):
            here = predicted[part] == k
            values = sorted([*confidence[part][here].tolist(), limit])
            place = (len(values) - 1) * (1 - 0.7 * limit)
            low = math.floor(place)
            high = min(low + 1, len(values) - 1)
            between = values[low] + (place - low) * (values[high] - values[low])
            limits[k] = 0.5 * limit + 0.5 * between
            expected[part][here & (confidence[part] >= limits[k])] = k
    assert 0.2 < (expected == 255).mean() < 0.8
    assert (labels == expected).mean() > 0.995  # float16 in the rule moves a limit a little


@pytest.mark.parametrize("train_backbone", [False, True])
def test_train_selector_leaves_the_segmenter_alone(fabric, tiny, segmenter, target, train_backbone):
    settings = SelectorConfig(steps=3, batch_size=2, train_backbone=train_backbone)
    pseudo = np.random.default_rng(0).integers(0, 14, (12, 16, 32)).astype(np.uint8).__getitem__
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    seen = []

    def once(seed):
        return train_selector(
            fabric, segmenter, target, pseudo, tiny, settings, seed, on_step=seen.append
        )

    (one, history), (again, _), (other, _) = once(1), once(1), once(2)
    assert history == seen[:3]
    assert len(seen) == 9
    for key, value in segmenter.state_dict().items():
        assert torch.equal(value, before[key])
    after = one.state_dict()
    moved = {k for k, v in before.items() if "backbone." in k and not torch.equal(after[k], v)}
    assert bool(moved) == train_backbone
    assert not any("running" in key for key in moved)
    states = [selector.state_dict() for selector in (one, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(
        states[0]["first.conv2d_list.0.weight"], states[2]["first.conv2d_list.0.weight"]
    )
