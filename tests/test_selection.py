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
from labor_lib.nets.deeplab import SmallDeepLab
from labor_lib.selection.record import Masks, Selection
from labor_lib.selection.rules import RULES, Candidates
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


def ask(rule, first, second, budget, taken, seed=0) -> Selection:
    """The rule on every image, with one generator for all."""
    numbers = generator(seed)
    cases = zip(first, second, taken, strict=True)
    images = (Candidates(one, two, budget, gone, numbers) for one, two, gone in cases)
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


@pytest.mark.parametrize("budget", [1, 7, 10_000])
@pytest.mark.parametrize("rule", RULES)
def test_budget_and_taken_are_respected(rule, budget):
    first, second, taken = random_case(1, images=4)
    taken[1] = True  # nothing left to ask; its neighbours are not disturbed
    first[2] = second[2]  # the classifiers agree
    asked = ask(rule, first, second, budget, taken)
    assert (len(asked), asked.size) == (4, SIZE)
    for i, positions in enumerate(asked.positions):
        assert positions.dtype == np.int64
        free = (~taken[i]).sum().item()
        if rule in ("ppl", "spl"):
            free = len(disagreement(first, second, taken)[i])
        assert (0 < len(positions) <= min(budget, free)) if free else not len(positions)
        assert rule == "ppl" or len(positions) == min(budget, free)
        assert len(set(positions.tolist())) == len(positions)
        assert not taken[i].flatten()[positions].any()


@pytest.mark.parametrize("rule", RULES)
def test_same_generator_same_question(rule):
    first, second, taken = random_case(2)
    one, again = (ask(rule, first, second, 5, taken, seed=3) for _ in range(2))
    other = ask(rule, first, second, 5, taken, seed=4)
    assert all(map(np.array_equal, one.positions, again.positions))
    same = all(map(np.array_equal, one.positions, other.positions))
    if rule in ("spl", "random", "ppl", "margin"):
        assert same == (rule in ("ppl", "margin"))  # these two draw nothing


def test_spl_asks_the_whole_mask():
    first, second, taken = random_case(7)
    asked = ask("spl", first, second, 10_000, taken)
    expected = disagreement(first, second, taken)
    assert all(expected)
    assert [positions.tolist() for positions in asked.positions] == expected


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


def test_margin_asks_the_smallest():
    first, second, taken = random_case(15)
    asked = ask("margin", first, second, 8, taken)
    probs = np.sort(((first + second) / 2).flatten(2).numpy(), axis=1)
    margins = probs[:, -1] - probs[:, -2]
    margins[taken.flatten(1).numpy()] = np.inf
    for i, positions in enumerate(asked.positions):
        assert set(positions.tolist()) == set(np.argsort(margins[i])[:8].tolist())


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
def segmenter():
    torch.manual_seed(0)
    net = SmallDeepLab(14, widths=(6, 8, 8, 10), rates=(1, 2))
    with torch.no_grad():
        for convolution in net.classifier.conv2d_list:
            convolution.weight.mul_(500)
    return net.eval()


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


def test_select_draws_from_its_seed(fabric, tiny, segmenter, target):
    taken = Selection.nothing(12, (16, 32))

    def draw(seed):
        asked, masks = select(
            fabric, segmenter, target, tiny, rule="random", budget=5, taken=taken, seed=seed
        )
        assert not any(masks[i].any() for i in range(12))  # one classifier never disagrees
        return [tuple(positions.tolist()) for positions in asked.positions]

    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1))) == 12  # no two images are asked the same places


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
    """Sizes that do not fill their last byte, and a damaged file."""
    random = np.random.default_rng(0)
    drawn = random.random((5, 3, 7)) < 0.5
    masks = Masks((3, 7), np.packbits(drawn.reshape(5, 21), axis=1))
    masks.save(tmp_path / "masks.npz")
    loaded = Masks.load(tmp_path / "masks.npz")
    np.testing.assert_array_equal(np.stack([loaded[i] for i in range(5)]), drawn)
    (tmp_path / "masks.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"masks\.npz: damaged"):
        Masks.load(tmp_path / "masks.npz")


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
