"""The family's runner: problems that source-only cannot solve, folders, resuming, bad input."""

import json
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import accepted, assert_same_run, refused
from torch import nn

from labor_lib.config import CCSA_DIGITS, SHIFTS, STYLES, TEXTURED, Where, changed
from labor_lib.data import classification
from labor_lib.data.classification import Domain, Shift
from labor_lib.errors import InputError
from labor_lib.lab import classification as lab
from labor_lib.methods.adabn import adapt_batchnorm
from labor_lib.methods.ccsa import make_pairs
from labor_lib.methods.registry import CLASSIFICATION, resolve
from labor_lib.metrics import accuracy, correct
from labor_lib.nets import digits
from labor_lib.nets.digits import Classifier
from labor_lib.runtime import Progress, load_weights
from labor_lib.train import classification_batches, learning_rate_factor, prepare


class Points(Classifier):
    """B x 2 x 1 x 1 "images": points of the plane, through one hidden layer."""

    def __init__(self, batchnorm: bool = False):
        super().__init__()
        self.width = 16
        normalised = nn.BatchNorm2d(2) if batchnorm else nn.Identity()
        self.body = nn.Sequential(
            normalised, nn.Flatten(), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()
        )
        self.classifier = nn.Linear(16, 2)

    def features(self, images):
        return self.body(images)


def points(name, x, y, labels):
    images = torch.tensor(np.stack([x, y], axis=1), dtype=torch.float32)[:, :, None, None]
    return Domain(name, ("0", "1"), images, torch.tensor(labels))


def plane_problem(kind: str) -> lab.Problem:
    """Two classes in the plane, told apart by x (a little) and, in the source alone, by y (a lot).

    nuisance: y of the target tells nothing, and lies elsewhere.
    moved: y tells nothing anywhere, and the target lies to the upper right.
    scaled: the target is the source stretched and moved.
    """
    rng = np.random.default_rng(0)
    domains = {}
    for name in ("source", "train", "test"):
        labels = np.arange(200) % 2
        sign = 2 * labels - 1
        x = 0.7 * sign + 0.15 * rng.standard_normal(200)
        y = 2.0 * sign + 0.3 * rng.standard_normal(200)
        if kind == "moved":
            x, y = x / 0.7, 0.2 * rng.standard_normal(200)
            x, y = (x, y) if name == "source" else (x + 1.4, y + 1.0)
        if name != "source" and kind == "nuisance":
            y = 4 + 0.3 * rng.standard_normal(200)
        if name != "source" and kind == "scaled":
            x, y = 3 * x + 6, 3 * y + 20
        domains[name] = points(name, x, y, labels)
    few = classification.few(domains["train"], 3, 0)
    return lab.Problem((domains["source"],), (), domains["test"], domains["train"], few)


def learn(fabric, monkeypatch, name, problem, make, config, steps=150):
    """Accuracy in percent of a method on a tiny problem."""
    monkeypatch.setattr(digits, "build", lambda *_, **__: make())
    method, state = CLASSIFICATION[name], None
    for step in filter(None, (method.begins_with or method.trains_as, name)):
        one = CLASSIFICATION[step]
        nets, opts = lab.build(one, config, problem, 0)
        if state:
            nets["net"].load_state_dict(state)
        if not one.trains_as:
            lab.train_classifier(fabric, nets, opts, one, problem, config, steps=steps, seed=0)
        state = nets["net"].state_dict()
    if name == "adabn":
        images = prepare(problem.target_train.batch(range(200)), config.training, fabric.device)
        assert adapt_batchnorm(fabric, nets["net"], images.split(100)) == 1
    return accuracy(fabric, nets["net"], (problem.target_test,), config.training)


PLANE = changed(
    TEXTURED, training={"mean": 0.0, "std": 1.0, "batch_size": 32, "schedule": "constant"}
)


@pytest.mark.parametrize("name", ["dann", "finetune", "joint", "ccsa", "target", "adabn"])
def test_adaptation_learns_what_source_only_cannot(fabric, monkeypatch, name):
    problem = plane_problem({"dann": "moved", "adabn": "scaled"}.get(name, "nuisance"))
    make = partial(Points, batchnorm=name == "adabn")
    alone = learn(fabric, monkeypatch, "source_only", problem, make, PLANE)
    steps = 400 if name == "dann" else 150
    assert alone < 65
    assert learn(fabric, monkeypatch, name, problem, make, PLANE, steps) > 90


def stripes(name: str, bond: int, seed: int, count: int = 160) -> Domain:
    """Upright or lying stripes (the class) in a bright or dark image (the style).

    bond +1: class 1 is the bright one; -1: class 0 is.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    wave = np.sign(np.sin(np.arange(12) * np.pi / 2 + 0.5))
    images = np.empty((count, 3, 12, 12))
    for image, label in zip(images, labels, strict=True):
        side = (2 * label - 1) * bond
        pattern = wave[None] if label else wave[:, None]
        image[:] = 128 + 40 * side + 25 * pattern + 20 * rng.standard_normal((3, 12, 12))
    images = torch.tensor(images.clip(0, 255), dtype=torch.uint8)
    return Domain(name, ("lying", "upright"), images, torch.tensor(labels))


def test_sagnet_learns_what_source_only_cannot(fabric, monkeypatch):
    sources = stripes("a", 1, 0), stripes("b", 1, 1)
    problem = lab.Problem(sources, sources, stripes("c", -1, 2))
    small = {"widths": (8, 8, 8), "stride": 1, "dropout": 0.0, "select_every": 0}
    config, make = changed(STYLES, training=small, sagnet={"stages": 1}), digits.build

    def net():
        return make(config.training, 2, 3)

    alone = learn(fabric, monkeypatch, "source_only", problem, net, config, 60)
    found = learn(fabric, monkeypatch, "sagnet", problem, net, config, 60)
    assert alone < 40
    assert found > 90


@pytest.mark.parametrize("shift", SHIFTS)
def test_settings_name_methods_that_exist(shift):
    config = SHIFTS[shift]
    assert config.shift == shift
    found = tuple(m.name for m in resolve(["all"], config))
    assert config.methods == found[: len(config.methods)]  # then those that no shift lists
    assert set(config.main) <= set(config.methods)
    assert config.main == tuple(m.name for m in resolve(["main"], config))
    assert json.loads(json.dumps(asdict(config)))["training"]["steps"] > 0


def test_schedules():
    assert learning_rate_factor(0.0, "dann") == 1
    assert learning_rate_factor(0.3, "dann") == pytest.approx(4**-0.75)
    assert learning_rate_factor(0.5, "cosine") == pytest.approx(0.5)
    assert learning_rate_factor(0.9, "constant") == 1
    with pytest.raises(InputError, match="unknown schedule 'x'"):
        learning_rate_factor(0, "x")


def test_ccsa_digits_has_the_papers_settings():
    """2,000 source images in steps of 64 (256 pairs at n = 1), 80 epochs, Adadelta."""
    training, loss = CCSA_DIGITS.training, CCSA_DIGITS.ccsa
    assert training.steps * training.batch_size == 80 * 2000
    assert (loss.alpha, loss.margin, loss.negatives) == (0.25, 1.0, 3)
    assert (training.optimizer, training.learning_rate) == ("adadelta", 1.0)
    source, target = torch.arange(2000) % 10, torch.arange(10)
    place, _ = make_pairs(source, target, 3, 0).of(torch.arange(2000)[:64])
    assert 200 < len(place) < 312


def counted(name: str, count: int, channels: int = 3, size: int = 16, classes: int = 4) -> Domain:
    """Images whose pixels are their number, labels in turn."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    labels = torch.arange(count) % classes
    images = images.expand(-1, channels, size, size).contiguous()
    return Domain(name, tuple("abcdefgh"[:classes]), images, labels)


RAW = replace(TEXTURED.training, mean=0.0, std=1 / 255, batch_size=6)  # pixels as they are


def drawn(method, problem, start=0, steps=9, seed=0, pairs=None):
    known, cpu = CLASSIFICATION[method], SimpleNamespace(device=torch.device("cpu"))
    of_target = {"few": problem.few, "nothing": None}.get(known.sees, problem.target_train)
    from_step = classification_batches(
        cpu, RAW, problem.sources if known.source else (), of_target,
        pairs=pairs, steps=steps, seed=seed,
    )  # fmt: skip
    return list(from_step(start))


def numbers_of(images):
    return images[:, 0, 0, 0].round().long()


def adaptation_problem():
    target = counted("t", 40)
    return lab.Problem((counted("s", 50),), (), counted("u", 20), target, target.take(range(4)))


def test_methods_of_a_seed_see_the_same_images():
    problem = adaptation_problem()
    alone, dann, joint = (drawn(name, problem) for name in ("source_only", "dann", "joint"))
    for a, b, c in zip(alone, dann, joint, strict=True):
        assert torch.equal(a.source_images, b.source_images)
        assert torch.equal(a.source_images, c.source_images)
        assert torch.equal(numbers_of(a.source_images) % 4, a.source_labels)
        assert a.target_images is None
        assert (len(b.target_images), len(c.target_images)) == (6, 4)  # 4: all there are
        assert torch.equal(numbers_of(c.target_images) % 4, c.target_labels)
    epoch = torch.cat([numbers_of(batch.source_images) for batch in alone])[:50]
    assert sorted(epoch.tolist()) == list(range(50))
    other = drawn("source_only", problem, seed=1)
    assert not torch.equal(alone[0].source_images, other[0].source_images)
    assert [batch.progress for batch in dann] == pytest.approx([k / 9 for k in range(9)])
    for a, b in zip(dann[5:], drawn("dann", problem, start=5), strict=True):
        assert torch.equal(a.source_images, b.source_images)
        assert torch.equal(a.target_images, b.target_images)
    several = lab.Problem((counted("a", 30), counted("b", 8)), (), counted("c", 5))
    for batch in drawn("sagnet", several):  # a share of the batch for each
        assert len(batch.source_images) == 12
        assert (numbers_of(batch.source_images)[6:] < 8).all()


@pytest.mark.parametrize("name", ["dann", "joint", "target"])
def test_who_may_see_images_alone_gets_no_target_labels(fabric, name):
    problem, config, seen = adaptation_problem(), changed(TEXTURED, training={"batch_size": 4}), []

    def step(fabric, nets, opts, batch, cfg):
        seen.append(batch.target_labels)
        return {}

    method = replace(CLASSIFICATION[name], step=step)
    lab.train_classifier(fabric, {}, {}, method, problem, config, steps=1, seed=0)
    assert (seen[0] is None) == (method.sees == "images")


def test_ccsa_batches_hold_all_pairs_of_their_source_images():
    problem = adaptation_problem()
    labels = problem.sources[0].labels, problem.few.labels
    pairs = make_pairs(*labels, 3, 0)
    met = []
    for batch in drawn("ccsa", problem, pairs=pairs):
        i, j = batch.pairs.unbind(1)
        source, target = numbers_of(batch.source_images)[i], numbers_of(batch.target_images)[j]
        assert torch.equal(batch.source_labels[i], source % 4)
        assert torch.equal(batch.target_labels[j], target % 4)
        assert len(batch.target_images.flatten(1).unique(dim=0)) == len(batch.target_images)
        met += zip(source.tolist(), target.tolist(), strict=True)
    everything = list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))
    assert set(met) == set(everything)
    assert sorted(met[: len(everything) // 2]) != sorted(everything)[: len(everything) // 2]


def test_images_are_normalised_and_augmented_in_training_alone():
    raw = replace(RAW, mean=0.5, std=0.25, augment=True)
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    for same in (images, images / 255):
        found = prepare(same, raw, "cpu").flatten().tolist()
        assert found == pytest.approx([-2, 2, -1.2])
    images = torch.randint(0, 255, (4, 3, 16, 16), dtype=torch.uint8)
    augmented = prepare(images, raw, "cpu", augment=True)
    assert augmented.shape == images.shape
    assert not torch.equal(augmented, prepare(images, raw, "cpu"))


def random_domain(name, count, seed, channels=3, size=16):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return Domain(name, tuple("abcd"), images, torch.arange(count) % 4)


def tiny_shift(seed):
    parts = zip(
        ("source", "source_val", "target_train", "target_test"), (40, 12, 24, 16), strict=True
    )
    return Shift(**{name: random_domain(name, n, seed + n) for name, n in parts})


def tiny_styles(seed):
    return {name: random_domain(name, 20, seed + ord(name)) for name in "xyz"}


TINY = {
    "network": "small", "widths": (4, 6, 8), "steps": 4, "finetune_steps": 2, "batch_size": 8,
    "checkpoint_steps": 2, "stride": 1,
}  # fmt: skip


@pytest.fixture
def tiny_family(monkeypatch):
    """The embedded shifts with a few tiny images and four steps."""
    drawn = {"textured": tiny_shift, "fonts": tiny_shift}
    monkeypatch.setattr(lab, "DRAWN_SHIFTS", drawn)
    monkeypatch.setattr(lab, "styles", tiny_styles)
    for shift in ("textured", "styles"):
        config = SHIFTS[shift]
        every = 2 if shift == "styles" else 0
        tiny = changed(config, training={"select_every": every, **TINY}, few=(1, 3))
        monkeypatch.setitem(SHIFTS, shift, tiny)


def experiment(fabric, out, shift="textured", **changes) -> lab.ClassificationPhases:
    config = changed(SHIFTS[shift], **changes)
    return lab.ClassificationPhases(config, Where(), out, fabric)


def run(fabric, out, shift="textured", methods=("all",), seeds=(0,)):
    made = experiment(fabric, out, shift)
    return made.run(resolve(list(methods), made.config), list(seeds))


def test_every_method_runs_from_the_command_line(tmp_path, tiny_family, capsys):
    options = ["--methods", "all", "--seeds", "0-1", "--device", "cpu", "--precision", "32-true"]
    accepted("family", "--shift", "textured", *options, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "DANN" in printed
    assert "±" in printed
    table = pd.read_csv(tmp_path / "results.csv")
    assert set(table["method"]) == set(SHIFTS["textured"].methods)
    counts = table.groupby("method").size()
    assert (counts[["source_only", "adabn", "dann", "target"]] == 2).all()
    assert (counts[["finetune", "joint", "ccsa"]] == 4).all()  # 1 and 3 labels a class
    assert table[["accuracy", "source_accuracy"]].stack().between(0, 100).all()
    assert (tmp_path / "seed1/ccsa-3/net.safetensors").exists()
    assert (tmp_path / "seed1/dann/discriminator.safetensors").exists()
    assert len(pd.read_csv(tmp_path / "seed0/dann/trace.csv")) == 4
    for path in tmp_path.rglob("trace.csv"):
        assert np.isfinite(pd.read_csv(path)).all(axis=None), path


def test_the_selected_weights_are_the_best_on_training_domains(fabric, tmp_path, tiny_family):
    """Selection sees held-out images of the training domains, and nothing of the one left out."""
    made = experiment(fabric, tmp_path, "styles")
    table = made.run(resolve(["all"], made.config), [0])
    assert len(table) == 3 * len(SHIFTS["styles"].methods)
    assert table["accuracy_last"].between(0, 100).all()
    assert (tmp_path / "seed0/x/sagnet/selected.safetensors").exists()
    problem = made.data.problem(0, "y", None)
    assert {d.name for d in (*problem.sources, *problem.validation)} == {"x", "z"}
    for part, held in zip(problem.sources, problem.validation, strict=True):
        assert len(part) == 16
        assert len(held) == 4
        both = {image.numpy().tobytes() for image in part.images}
        assert not both & {image.numpy().tobytes() for image in held.images}
    folder = tmp_path / "seed0/y/source_only"
    history = pd.read_csv(folder / "trace.csv")["validation"].dropna()
    record = json.loads((folder / "phase.json").read_text())["scores"]
    assert record["source_accuracy"] == pytest.approx(history.max())
    nets, _ = lab.build(CLASSIFICATION["source_only"], made.config, problem, 0)
    load_weights(nets["net"], folder / "selected.safetensors")
    training = made.config.training
    assert accuracy(fabric, nets["net"], problem.validation, training) == pytest.approx(
        history.max()
    )
    right = correct(fabric, nets["net"], problem.target_test, training).double().mean().item()
    assert record["accuracy"] == pytest.approx(100 * right)


@pytest.mark.parametrize("shift", ["textured", "styles"])
def test_a_killed_run_ends_with_the_same_numbers(fabric, tmp_path, tiny_family, shift):
    method = "dann" if shift == "textured" else "sagnet"
    run(fabric, tmp_path / "whole", shift, (method,))

    class Killed(Progress):
        def step(self, losses):
            self.count = getattr(self, "count", 0) + 1
            if self.count == 3:
                raise KeyboardInterrupt

    made = experiment(fabric, tmp_path / "killed", shift)
    made.progress = Killed()
    with pytest.raises(KeyboardInterrupt):
        made.run(resolve([method], made.config), [0])
    assert list((tmp_path / "killed").rglob("unfinished.pt"))
    run(fabric, tmp_path / "killed", shift, (method,))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_methods_start_from_the_same_weights(fabric, tiny_family):
    config = SHIFTS["styles"]
    problem = lab.Problem(tuple(tiny_styles(0).values()), (), random_domain("t", 8, 9))
    first = [
        lab.build(CLASSIFICATION[name], config, problem, 3)[0]["net"] for name in config.methods
    ]
    for net in first[1:]:
        for a, b in zip(first[0].parameters(), net.parameters(), strict=True):
            assert torch.equal(a, b)
    other = lab.build(CLASSIFICATION["source_only"], config, problem, 4)[0]["net"]
    assert not torch.equal(next(other.parameters()), next(first[0].parameters()))


def test_finetuning_begins_where_source_only_ended(fabric, tmp_path, tiny_family):
    made = experiment(fabric, tmp_path, training={"finetune_steps": 0}, few=(1,))
    table = made.run(resolve(["finetune"], made.config), [0])
    scores = table.set_index("method")["accuracy"]
    assert scores["finetune"] == scores["source_only"]
    weights = [tmp_path / f"seed0/{name}/net.safetensors" for name in ("source_only", "finetune-1")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("shift", "method", "change", "message"),
    [
        ("textured", "source_only", {"steps": 6}, r"training\.steps was 4, is 6"),
        ("textured", "adabn", {"network": "ccsa"}, "adabn: the network 'ccsa' has no BatchNorm"),
        ("styles", "sagnet", {"network": "ccsa"}, "after stage 2, and 'ccsa' can be cut 0 times"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    fabric, tmp_path, tiny_family, shift, method, change, message
):
    if "steps" in change:
        run(fabric, tmp_path, methods=(method,))
    made = experiment(fabric, tmp_path, shift, training=change)
    with pytest.raises(InputError, match=message):
        made.run(resolve([method], made.config), [0])
    if "steps" in change:
        more = experiment(fabric, tmp_path, few=(2,))  # more labels extend a run
        assert len(more.run(resolve(["joint"], more.config), [0])) == 2


def test_summary_has_means_deviations_and_the_mean_over_domains():
    values = {("x", 0): 50.0, ("y", 0): 70.0, ("x", 1): 60.0, ("y", 1): 90.0, ("x", 2): 0.0}
    rows = [
        dict(target=t, few=pd.NA, method="a", title="a", seed=s, accuracy=v, train_seconds=1.0)
        for (t, s), v in values.items()
    ]
    found = lab.summarise(pd.DataFrame(rows)).set_index("target")
    assert found.loc["y", "accuracy_mean"] == 80
    assert found.loc["y", "accuracy_std"] == pytest.approx(200**0.5)
    assert found.loc["mean", "accuracy_mean"] == pytest.approx((60 + 75) / 2)
    assert found.loc["mean", "accuracy_std"] == pytest.approx(15 / 2**0.5)
    assert found.loc["mean", "seeds"] == 2  # the third seed lacks a domain
    one = lab.summarise(pd.DataFrame(rows[:1]).assign(few=3))
    assert one["few"].tolist() == [3]
    assert one["accuracy_std"].isna().all()


def test_ccsa_digits_report_what_the_test_set_has_seen(fabric, tmp_path, shared):
    where = Where(shared / "data/ccsa_digits")
    if not where.root.is_dir():
        pytest.skip("the CCSA split files are not on this machine")
    config = changed(CCSA_DIGITS, training={"steps": 3, "finetune_steps": 2}, few=(1, 7))
    made = lab.ClassificationPhases(config, where, tmp_path, fabric)
    table = made.run(resolve(["all"], config), [0])
    assert len(table) == 2 * len(config.methods)
    seen = table.set_index(["few", "method"])["test_seen"]
    root = where.root
    for n in (1, 7):
        stem = "MNIST_to_USPS_X_{}_target_repetition_0_sample_per_class_" + f"{n}.npy"
        few, test = (
            np.load(root / stem.format(part)).reshape(-1, 256) for part in ("train", "test")
        )
        overlap = sum(any((image == mine).all() for mine in few) for image in test)
        assert overlap > 0
        assert (seen[n] == overlap).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shift", "spam"], "unknown shift 'spam': choose one of textured"),
        (["--methods", "spam"], "method 'spam' is unknown"),
        (["--few", "0"], "give numbers of images from 1 on"),
        (["--few", "x"], "--few 'x': give numbers"),
        (["--methods", "ccsa", "--few", "1,99"], "99 images a class: class 'a' of"),
        (["--shift", "ccsa"], "shift 'ccsa' needs --root"),
        (["--shift", "folder"], "shift 'folder' needs --root"),
        (["--network", "small"], "--network: only for --shift folder"),
        (["--source", "a", "--target", "b"], "--source and --target: only for --shift folder"),
        (["--shift", "folder", "--root", ".", "--target", "b"], "go together"),
    ],
)
def test_bad_options_are_one_clear_line(options, message, tmp_path, tiny_family, capsys):
    assert message in refused(capsys, "family", "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run/seed0").exists()
