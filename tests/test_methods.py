"""Losses against plain loops, updates against autograd written out, and every method once."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labor_lib.config import SHIFTS as FAMILY
from labor_lib.config import SelectorConfig, changed
from labor_lib.errors import InputError
from labor_lib.methods import iast, source_only
from labor_lib.methods.adaptsegnet import adaptsegnet_step, adversarial_loss, probabilities
from labor_lib.methods.labor import PixelSelector, labor_step, selector_loss
from labor_lib.methods.registry import MAIN, METHODS, resolve
from labor_lib.nets.discriminator import OutputDiscriminator
from labor_lib.train import Batch, build_nets, build_optimizers

CLASSES = 5


def random_labels(shape, seed=0, void=0.3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < void] = 255
    return labels


def moved(before, after) -> bool:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def descend(loss, parameters, rate):
    """Plain gradient descent, in place."""
    parameters = list(parameters)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient


# --------------------------------------------------------------------------------------- IAST
@pytest.mark.parametrize("setting", ["paper_gta", "default", "loose"])
def test_published_thresholds_and_labels(golden, setting):
    values = golden("iast.npz")
    alpha, beta, gamma = values[f"{setting}_params"].tolist()
    batches = torch.from_numpy(values["probabilities"])
    thresholds = np.full(19, 0.9)
    for probs, expected in zip(batches, values[f"{setting}_thresholds"], strict=True):
        thresholds = iast.update_thresholds(thresholds, probs, alpha, beta, gamma)
        np.testing.assert_allclose(thresholds, expected, rtol=0, atol=1e-7)
    settings = {"alpha": alpha, "beta": beta, "gamma": gamma, "start": 0.9}
    labels = torch.stack(list(iast.select_pseudo_labels(batches, 19, **settings))).numpy()
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values[f"{setting}_labels"])


def test_thresholds_at_their_limits():
    probs = torch.zeros(1, 2, 2, 2)
    probs[:, 0] = 1.0  # class 0 everywhere, certain; class 1 never
    found = iast.update_thresholds(np.array([0.9999, 0.6]), probs, 0.2, 0.0, 1.0)
    assert found[0] == 0.999
    assert found[1] == pytest.approx(float(np.float16(0.6)))  # only the threshold itself
    probs = torch.tensor([[0.5, 0.5, 0.25], [0.25, 0.25, 0.5], [0.25, 0.25, 0.25]])[None, :, None]
    assert iast.pseudo_labels(probs, np.array([0.5, 0.51, 0.0])).tolist() == [[[0, 0, 255]]]


# -------------------------------------------------------------------------------- AdaptSegNet
class Levels(nn.Module):
    """A segmenter of one or two outputs, small enough for hand-written steps."""

    def __init__(self, levels: int):
        super().__init__()
        self.backbone = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
                nn.Sequential(nn.Conv2d(6, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU()),
            ]
        )
        self.classifier = nn.Conv2d(8, CLASSES, 1)
        if levels == 2:
            self.auxiliary = nn.Conv2d(6, CLASSES, 1)

    def forward(self, images):
        early = self.backbone[0](images)
        main = self.classifier(self.backbone[1](early))
        return [main, self.auxiliary(early)] if hasattr(self, "auxiliary") else [main]


SHIFTS = {1: (0.4,), 2: (0.4, 0.15)}  # large weights, so that a wrong one shows
RATE, DISCRIMINATOR_RATE, AUXILIARY = 0.3, 0.2, 0.25


def discriminators(nets):
    return [net for name, net in nets.items() if name != "segmenter"]


def material(tiny, levels, seed=0):
    """Config, networks, SGD optimisers and a batch (source and target differ in size)."""
    torch.manual_seed(seed)
    adversarial = {"level_weights": SHIFTS[levels], "auxiliary_weight": AUXILIARY}
    config = changed(tiny, adversarial=adversarial, train={"labelled_weight": 0.6})
    nets = {f"discriminator{i}": OutputDiscriminator(CLASSES, (4, 6)) for i in range(levels)}
    nets = {"segmenter": Levels(levels).train()} | nets
    for net in nets.values():
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)  # left over; nobody may step along it
    rates = {name: DISCRIMINATOR_RATE for name in nets} | {"segmenter": RATE}
    opts = {name: torch.optim.SGD(net.parameters(), rates[name]) for name, net in nets.items()}
    batch = Batch(
        torch.randn(2, 3, 24, 32),
        random_labels((2, 24, 32), 1),
        torch.randn(2, 3, 16, 32),
        random_labels((2, 16, 32), 2, void=0.8),
    )
    return config, nets, opts, batch


def cross_entropy(logits, labels):
    full = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    keep = labels != 255
    chosen = full.log_softmax(1).gather(1, labels.masked_fill(~keep, 0)[:, None])[:, 0]
    return -chosen[keep].mean()


def levelled(outputs, labels):
    return sum(w * cross_entropy(o, labels) for w, o in zip((1, AUXILIARY), outputs, strict=False))


def adversarial_by_hand(nets, batch, weights, on_target=None):
    """AdaptSegNet's update in plain autograd; returns its three losses."""
    source, target = nets["segmenter"](batch.source_images), nets["segmenter"](batch.target_images)
    shown = []
    for outputs, images in ((source, batch.source_images), (target, batch.target_images)):
        if len(weights) == 2:  # as published; a single output stays at its own stride
            size = images.shape[-2:]
            outputs = [
                F.interpolate(o, size=size, mode="bilinear", align_corners=False) for o in outputs
            ]
        shown.append([o.softmax(1) for o in outputs])
    supervised = levelled(source, batch.source_labels)
    adversarial = sum(
        w * F.softplus(d(o)).mean()
        for w, d, o in zip(weights, discriminators(nets), shown[1], strict=True)
    )
    total = supervised + adversarial
    if on_target is not None:
        total = total + on_target(target)
    of_discriminators = [
        (F.softplus(d(s.detach())).mean() + F.softplus(-d(t.detach())).mean()) / 2
        for d, s, t in zip(discriminators(nets), *shown, strict=True)
    ]
    descend(total, nets["segmenter"].parameters(), RATE)
    for discriminator, loss in zip(discriminators(nets), of_discriminators, strict=True):
        descend(loss, discriminator.parameters(), DISCRIMINATOR_RATE)
    return supervised.item(), adversarial.item(), sum(of_discriminators).item()


def assert_same(nets, expected):
    for name, net in nets.items():
        torch.testing.assert_close(
            net.state_dict(), expected[name].state_dict(), rtol=1e-5, atol=1e-6
        )


def labelled_target(target, batch):
    return 0.6 * levelled(target, batch.target_labels)


def self_training(target, batch):
    labels = batch.target_labels
    full = F.interpolate(target[0], size=labels.shape[-2:], mode="bilinear")
    logs, ignored = full.log_softmax(1), labels == 255
    entropy = -(logs.exp() * logs).mean(1)[ignored].mean()
    spread = -logs.mean(1)[~ignored].mean() / CLASSES
    return cross_entropy(target[0], labels) + 3.0 * entropy + 0.1 * spread


@pytest.mark.parametrize(
    ("step", "levels", "on_target"),
    [
        (adaptsegnet_step, 1, None),
        (adaptsegnet_step, 2, None),
        (labor_step, 1, labelled_target),
        (labor_step, 2, labelled_target),
        (labor_step, 1, None),  # without answers it is AdaptSegNet's
        (iast.iast_step, 1, self_training),
    ],
)
def test_adversarial_steps_by_hand(fabric, tiny, step, levels, on_target):
    published = changed(tiny, self_training={"entropy_weight": 3.0, "kld_weight": 0.1})
    config, nets, opts, batch = material(published, levels)
    if on_target is None:
        batch.target_labels.fill_(255)
    expected = copy.deepcopy(nets)
    losses = step(fabric, nets, opts, batch, config)
    more = (lambda target: on_target(target, batch)) if on_target else None
    wanted = adversarial_by_hand(expected, batch, SHIFTS[levels], more)
    found = [losses[k] for k in ("source", "adversarial", "discriminator")]
    assert found == pytest.approx(list(wanted), rel=1e-5)
    assert_same(nets, expected)


@pytest.mark.parametrize(
    ("step", "domains"),
    [
        (source_only.source_only_step, ("source",)),
        (source_only.supervised_target_step, ("target",)),
        (source_only.supervised_step, ("source", "target")),
    ],
)
def test_supervised_steps_by_hand(fabric, tiny, step, domains):
    config, nets, opts, batch = material(tiny, 2)
    expected = copy.deepcopy(nets)
    losses = step(fabric, nets, opts, batch, config)
    images = [expected["segmenter"](getattr(batch, f"{domain}_images")) for domain in domains]
    labels = [getattr(batch, f"{domain}_labels") for domain in domains]
    parts = list(map(levelled, images, labels))
    descend(sum(parts), expected["segmenter"].parameters(), RATE)
    assert [losses[domain] for domain in domains] == pytest.approx(
        [part.item() for part in parts], rel=1e-5
    )
    assert_same(nets, expected)


def follow(loss, parameters):
    """A step of length 0.05 down the loss, whose gradient must be alive."""
    gradients = torch.autograd.grad(loss, parameters)
    length = torch.cat([g.flatten() for g in gradients]).norm()
    assert length > 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 0.05 * gradient / length


@pytest.mark.parametrize(("levels", "level"), [(1, 0), (2, 0), (2, 1)])
def test_confusion_reaches_the_backbone_with_the_right_sign(tiny, levels, level):
    _, nets, _, batch = material(tiny, levels, seed=4)
    discriminator, segmenter = discriminators(nets)[level], nets["segmenter"].eval()
    parameters = list(segmenter.backbone[0].parameters())

    def domain_logits():
        return discriminator(probabilities(segmenter(batch.target_images)[level], None))

    def belief_in_source():
        with torch.no_grad():
            return (1 - torch.sigmoid(domain_logits().double())).mean().item()

    before = belief_in_source()
    follow(adversarial_loss(domain_logits()), parameters)
    assert belief_in_source() > before


# ------------------------------------------------------------------------------ pixel selector
def selector_of(segmenter, **settings):
    torch.manual_seed(1)
    return PixelSelector(segmenter, SelectorConfig(**settings)).eval()


@pytest.mark.parametrize("discrepancy", ["l1", "cosine"])
def test_loss_6_alone_parts_the_classifiers(segmenter, discrepancy):
    settings = SelectorConfig(discrepancy=discrepancy, weight=1.0)
    selector = selector_of(segmenter)
    images, void = torch.randn(2, 3, 32, 32), torch.full((2, 32, 32), 255)

    def apart():
        with torch.no_grad():
            if discrepancy == "l1":
                first, second = (logits.softmax(1) for logits in selector(images))
                return (first - second).abs().mean().item()
            a, b = (
                torch.cat([p.flatten() for p in head.parameters()]).double()
                for head in (selector.first, selector.second)
            )
            return -(a @ b / (a.norm() * b.norm())).item()

    before = apart()
    losses = selector_loss(selector, *selector(images), void, settings)
    assert losses["loss5"].item() == 0
    assert losses["total"].item() == pytest.approx(losses["loss6"].item())
    scale = 14 if discrepancy == "l1" else 1  # the sum over classes, not their mean
    assert losses["loss6"].item() == pytest.approx(-scale * before, rel=1e-4)
    descend(losses["loss6"], nn.ModuleList([selector.first, selector.second]).parameters(), 1e-2)
    assert apart() > before


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_loss_5_ignores_255_and_the_sum_is_weighted(segmenter, weight):
    settings = SelectorConfig(weight=weight)
    selector = selector_of(segmenter)
    images, labels = torch.randn(2, 3, 16, 16), random_labels((2, 16, 16), void=0.7)
    first, second = selector(images)
    expected = (cross_entropy(first, labels) + cross_entropy(second, labels)).item()
    losses = selector_loss(selector, first, second, labels, settings)
    assert losses["loss5"].item() == pytest.approx(expected, rel=1e-5)
    total = expected + weight * losses["loss6"].item()
    assert losses["total"].item() == pytest.approx(total, rel=1e-5)


def test_heads_are_drawn_anew_or_copied_with_noise(segmenter):
    anew = selector_of(segmenter, reinitialise=True, noise=0.0)
    weights = [
        head.conv2d_list[0].weight for head in (segmenter.classifier, anew.first, anew.second)
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (weights[i] != weights[j]).all()

    copies = selector_of(segmenter, reinitialise=False, noise=0.0)
    for head in (copies.first, copies.second):
        assert not moved(segmenter.classifier, head)
        assert head is not segmenter.classifier

    noisy = selector_of(segmenter, reinitialise=False, noise=0.1)
    for head in (noisy.first, noisy.second):
        for old, new in zip(segmenter.classifier.parameters(), head.parameters(), strict=True):
            if old.dim() == 4:
                ratio = (new - old).std() / old.std()
                assert ratio.item() == pytest.approx(0.1, rel=0.2)
    assert moved(noisy.first, noisy.second)


# ------------------------------------------------------------------------------------ registry
@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if not m.arena])
def test_every_method_takes_a_step(fabric, tiny, name):
    method = METHODS[name]
    assert method.name == name
    torch.manual_seed(0)
    nets = build_nets(tiny, CLASSES)
    nets |= method.networks(tiny, CLASSES) if method.networks else {}
    for net in nets.values():
        net.train()
    opts = build_optimizers(nets, tiny, 1e-2)
    before = copy.deepcopy(nets)
    batch = Batch()
    if method.source:
        batch.source_images = torch.randn(2, 3, 32, 32)
        batch.source_labels = random_labels((2, 32, 32))
    if method.sees != "nothing":
        batch.target_images = torch.randn(2, 3, 32, 32)
        if method.sees != "images":
            batch.target_labels = random_labels((2, 32, 32), 3)
    if method.sees == "few":
        batch.labelled_images = torch.randn(2, 3, 32, 32)
        batch.labelled_labels = random_labels((2, 32, 32), 4)
    losses = method.step(fabric, nets, opts, batch, tiny)
    assert losses
    assert all(isinstance(value, float) and math.isfinite(value) for value in losses.values())
    assert moved(before["segmenter"], nets["segmenter"])
    assert all(p.isfinite().all() for p in nets["segmenter"].parameters())
    for net, loss in (("discriminator0", "discriminator"), ("class_discriminator",) * 2):
        if net in nets:
            assert moved(before[net], nets[net]) == (loss in losses)


def test_resolve_names_and_groups():
    assert [m.name for m in resolve(["ppl", "main", "ppl"])][:2] == ["ppl", MAIN[0]]
    groups = ["all", "spl", "controls", "rivals"]
    assert [m.name for m in resolve(groups)] == [
        name for name, method in METHODS.items() if not method.arena
    ]
    assert not any(m.control or m.arena or m.rival for m in resolve(["all"]))
    assert {m.name for m in resolve(["rivals"])} == {
        *("random_images", "aada", "ass", "wda_tags", "wda_points")
    }
    for names, config in ((["spl", "spam"], None), (["sagnet"], FAMILY["fonts"])):
        with pytest.raises(InputError, match=f"method '{names[-1]}' .*choose from source_only"):
            resolve(names, config)
