"""DANN, CCSA, SagNet and their baselines: losses against plain loops, and who moves what."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labor_lib.config import STYLES, CcsaConfig, DannConfig, SagNetConfig
from labor_lib.errors import InputError
from labor_lib.methods.adabn import adapt_batchnorm
from labor_lib.methods.ccsa import (
    ccsa_loss,
    ccsa_step,
    contrastive_loss,
    distances,
    make_pairs,
)
from labor_lib.methods.dann import (
    Discriminator,
    dann_step,
    domain_loss,
    reversal_scale,
    reverse_gradient,
)
from labor_lib.methods.erm import erm_step, joint_step, target_step
from labor_lib.methods.sagnet import (
    adversarial_loss,
    draw_others,
    early_affines,
    pooled_step,
    randomise_content,
    randomise_style,
    sagnet_networks,
    sagnet_step,
)
from labor_lib.nets.digits import CcsaNet, DannNet, StagedClassifier, resnet18_net, small_net
from labor_lib.train import Batch

CLASSES = 4


def tiny_net(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return small_net(CLASSES, widths=(6, 8, 10), dropout=dropout)


def tiny_batch(seed=0, count=8, size=12):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        source_images=torch.randn(count, 3, size, size, generator=generator),
        source_labels=torch.randint(0, CLASSES, (count,), generator=generator),
        target_images=torch.randn(count, 3, size, size, generator=generator) + 1,
        target_labels=torch.randint(0, CLASSES, (count,), generator=generator),
        progress=0.5,
    )


def sgd(module_or_parameters, rate=0.1):
    parameters = module_or_parameters
    if isinstance(parameters, nn.Module):
        parameters = list(parameters.parameters())
    return torch.optim.SGD(parameters, rate)


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the parameters that differ."""
    old = dict(before.named_parameters())
    return {name for name, p in after.named_parameters() if not torch.equal(old[name], p)}


# ------------------------------------------------------------------------------------ networks


def test_ccsa_net_has_the_authors_layers():
    net = CcsaNet()
    sizes = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sizes == [(32, 1, 3, 3), (32, 32, 3, 3), (120, 1152), (84, 120), (10, 84)]
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.5]
    assert net.features(torch.rand(2, 1, 16, 16)).shape == (2, 84)
    bound = math.sqrt(6 / (1152 + 120))  # Glorot uniform
    weight = net.body[7].weight
    assert 0.99 * bound < weight.abs().max() <= bound
    assert all((m.bias == 0).all() for m in net.modules() if isinstance(m, nn.Linear))


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (CcsaNet, (1, 16, 16)),
        (DannNet, (3, 32, 32)),
        (small_net, (3, 24, 24)),
        (resnet18_net, (3, 64, 64)),
    ],
)
def test_every_network_is_features_then_classifier(build, shape):
    net = build(5).eval()
    images = torch.rand(2, *shape)
    features = net.features(images)
    assert features.shape == (2, net.width)
    torch.testing.assert_close(net(images), net.classifier(features))
    assert net(images).shape == (2, 5)


def test_stages_run_in_parts_as_in_one():
    net = tiny_net().eval()
    images = torch.randn(2, 3, 12, 12)
    early = net.run(images, last=2)
    assert early.shape == (2, 8, 6, 6)
    torch.testing.assert_close(net.run(early, first=2).mean((2, 3)), net.features(images))


def test_resnet18_cuts_as_the_authors():
    """Two stages hold the stem and layers 1 and 2: 128 channels at an eighth of the size."""
    net = resnet18_net(7).eval()
    assert net.run(torch.rand(1, 3, 64, 64), last=2).shape == (1, 128, 8, 8)


# ------------------------------------------------------------------------------------ baselines


@pytest.mark.parametrize(
    ("step", "wanted"),
    [(erm_step, ("source",)), (target_step, ("target",)), (joint_step, ("source", "target"))],
)
def test_baselines_descend_the_cross_entropy_of_their_labels(fabric, step, wanted):
    net, batch = tiny_net().eval(), tiny_batch()  # eval: no batch statistics in the reference
    reference = copy.deepcopy(net)
    losses = []
    for domain in wanted:
        images, labels = getattr(batch, f"{domain}_images"), getattr(batch, f"{domain}_labels")
        logs = reference(images).log_softmax(1)
        losses.append(-torch.stack([row[k] for row, k in zip(logs, labels, strict=True)]).mean())
    mean = sum(losses) / len(losses)
    gradients = torch.autograd.grad(mean, list(reference.parameters()))
    found = step(fabric, {"net": net}, {"net": sgd(net)}, batch)
    assert list(found.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-5)
    for old, new, gradient in zip(reference.parameters(), net.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_adabn_takes_the_statistics_of_the_images(fabric):
    net = tiny_net()
    before = copy.deepcopy(net)
    images = 3 * torch.randn(40, 3, 12, 12) + 2
    assert adapt_batchnorm(fabric, net, images.split(20)) == 6
    first = net.stages[0][1]
    maps = net.stages[0][0](images)  # what the first BatchNorm sees
    torch.testing.assert_close(first.running_mean, maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    variances = torch.stack([part.var((0, 2, 3)) for part in maps.split(20)]).mean(0)
    torch.testing.assert_close(first.running_var, variances, rtol=1e-4, atol=1e-4)
    assert first.momentum == 0.1
    assert not net.training
    assert not changed(before, net)


def test_adabn_says_where_there_is_nothing_to_adapt(fabric):
    assert adapt_batchnorm(fabric, CcsaNet(), iter([torch.rand(2, 1, 16, 16)])) == 0


# ----------------------------------------------------------------------------------------- DANN


def test_reversed_gradient_is_minus_lambda_times_the_plain_one():
    torch.manual_seed(0)
    values = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 2, dtype=torch.double)

    def loss(rows):
        return ((rows @ weight).sin() ** 2).sum()

    (plain,) = torch.autograd.grad(loss(values), values)
    for scale in (0.0, 0.3, 1.0):
        assert torch.equal(reverse_gradient(values, scale), values)
        (reversed_,) = torch.autograd.grad(loss(reverse_gradient(values, scale)), values)
        torch.testing.assert_close(reversed_, -scale * plain)
        assert plain.abs().max() > 0.1


def test_reversal_scale_is_the_published_schedule():
    assert reversal_scale(0) == 0
    assert reversal_scale(0.1) == pytest.approx(math.tanh(0.5))  # another form of the same
    assert reversal_scale(1) == pytest.approx(0.99990920)


def test_domain_loss_by_loops():
    torch.manual_seed(0)
    source, target = torch.randn(3, 1, dtype=torch.double), torch.randn(5, 1, dtype=torch.double)
    of_source = np.mean([math.log(1 + math.exp(z)) for z in source.flatten().tolist()])
    of_target = np.mean([math.log(1 + math.exp(-z)) for z in target.flatten().tolist()])
    expected = (of_source + of_target) / 2
    assert domain_loss(source, target).item() == pytest.approx(expected, rel=1e-12)


def dann_parts(seed=0):
    net = tiny_net(seed)
    discriminator = Discriminator(net.width, (12,))
    nets = {"net": net, "discriminator": discriminator}
    return nets, {name: sgd(module, 0.02) for name, module in nets.items()}


def test_dann_step_descends_and_ascends_at_once(fabric):
    """The update against three plain gradients, put together by hand."""
    nets, opts = dann_parts()
    batch, cfg = tiny_batch(), DannConfig(weight=0.7)
    net, discriminator = copy.deepcopy(nets["net"]), copy.deepcopy(nets["discriminator"])
    features = torch.cat([net.features(batch.source_images), net.features(batch.target_images)])
    class_loss = F.cross_entropy(net.classifier(features[:8]), batch.source_labels)
    domains = torch.cat([torch.zeros(8, 1), torch.ones(8, 1)])
    told = F.binary_cross_entropy_with_logits(discriminator(features), domains)
    body = list(net.stages.parameters())
    of_class = torch.autograd.grad(class_loss, body, retain_graph=True)
    of_head = torch.autograd.grad(class_loss, list(net.classifier.parameters()), retain_graph=True)
    of_domain = torch.autograd.grad(told, body, retain_graph=True)
    of_discriminator = torch.autograd.grad(told, list(discriminator.parameters()))
    scale = 0.7 * (2 / (1 + math.exp(-5)) - 1)

    losses = dann_step(fabric, nets, opts, batch, cfg)

    assert losses["classification"] == pytest.approx(class_loss.item(), rel=1e-5)
    assert losses["domain"] == pytest.approx(told.item(), rel=1e-5)
    assert losses["lambda"] == pytest.approx(scale)
    wanted = [
        *(p - 0.02 * (c - scale * d) for p, c, d in zip(body, of_class, of_domain, strict=True)),
        *(p - 0.02 * g for p, g in zip(net.classifier.parameters(), of_head, strict=True)),
        *(p - 0.02 * g for p, g in zip(discriminator.parameters(), of_discriminator, strict=True)),
    ]
    found = [*nets["net"].parameters(), *nets["discriminator"].parameters()]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert max(g.abs().max() for g in of_domain) > 1e-4  # the adversary is alive


def test_dann_never_reads_target_labels(fabric):
    nets, opts = dann_parts()
    batch = tiny_batch()
    batch.target_labels = None
    dann_step(fabric, nets, opts, batch, DannConfig())


def test_features_confuse_a_trained_discriminator(fabric):
    """With the discriminator held still, the features' steps raise its loss."""
    nets, opts = dann_parts()
    batch = tiny_batch(count=16)
    batch.target_images = F.avg_pool2d(batch.target_images, 3, 1, 1)  # BatchNorm undoes a shift

    def told():
        with torch.no_grad():
            source, target = (
                nets["discriminator"](nets["net"].features(images))
                for images in (batch.source_images, batch.target_images)
            )
        return domain_loss(source, target).item()

    opts["net"] = sgd(nets["net"], 0.0)
    opts["discriminator"] = torch.optim.Adam(nets["discriminator"].parameters(), 3e-2)
    for _ in range(100):
        dann_step(fabric, nets, opts, batch, DannConfig())
    learnt = told()
    assert learnt < 0.4
    opts["net"] = sgd(nets["net"].stages, 0.05)
    opts["discriminator"] = sgd(nets["discriminator"], 0.0)
    for _ in range(20):
        dann_step(fabric, nets, opts, batch, DannConfig(weight=5.0))
    assert told() > learnt + 0.1


# ----------------------------------------------------------------------------------------- CCSA


def test_contrastive_loss_by_a_double_loop():
    """All cross-domain pairs of a few embeddings, in float64 and with the standard library."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(5, 3, generator=generator, dtype=torch.double) * 0.5
    second = torch.randn(4, 3, generator=generator, dtype=torch.double) * 0.5
    a, b = [0, 1, 2, 1, 0], [1, 0, 2, 2]
    for margin in (1.0, 0.4):
        terms = []
        for i in range(5):
            for j in range(4):
                d = math.dist(first[i].tolist(), second[j].tolist())
                terms.append(d**2 if a[i] == b[j] else max(0.0, margin - d) ** 2)
        assert 0 in terms  # some are beyond the margin
        i, j = torch.cartesian_prod(torch.arange(5), torch.arange(4)).unbind(1)
        same = torch.tensor(a)[i] == torch.tensor(b)[j]
        found = contrastive_loss(distances(first[i], second[j]), same, margin)
        assert found.item() == pytest.approx(sum(terms) / 20, rel=1e-12)


def test_ccsa_loss_weighs_its_parts():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3, dtype=torch.double), torch.tensor([0, 1, 2, 0, 1, 2])
    distance, same = torch.rand(6, dtype=torch.double) * 2, torch.tensor([1, 0, 1, 0, 0, 1]).bool()
    terms = []
    for row, k, d, s in zip(logits.tolist(), labels.tolist(), distance.tolist(), same, strict=True):
        classification = math.log(sum(math.exp(z) for z in row)) - row[k]
        terms.append(0.6 * classification + 0.4 * (d * d if s else max(0, 1.5 - d) ** 2))
    found = ccsa_loss(logits, labels, distance, same, alpha=0.4, margin=1.5)
    assert found.item() == pytest.approx(sum(terms) / 6, rel=1e-12)


def test_equal_embeddings_have_a_finite_gradient():
    rows = torch.ones(2, 3, requires_grad=True)
    loss = contrastive_loss(distances(rows, torch.ones(2, 3)), torch.tensor([True, False]))
    loss.backward()
    assert rows.grad.isfinite().all()
    assert loss.item() == pytest.approx((1e-8 + (1 - 1e-4) ** 2) / 2, rel=1e-5)


def test_alignment_pulls_and_separation_pushes():
    first = torch.tensor([[0.0, 0.0]], requires_grad=True)
    second = torch.tensor([[0.3, 0.4]])  # to the upper right, 0.5 away
    for same, sign in ((True, -1), (False, 1)):
        loss = contrastive_loss(distances(first, second), torch.tensor([same]))
        (gradient,) = torch.autograd.grad(loss, first)
        assert (gradient.sign() == sign).all()  # -gradient: towards it, or away from it


def test_pairs_are_all_positives_and_three_times_as_many_negatives():
    source, target = torch.arange(40) % 4, torch.arange(12) % 4
    pairs = make_pairs(source, target, negatives=3, seed=0)
    found = list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))
    positive = {(i, j) for i in range(40) for j in range(12) if i % 4 == j % 4}
    assert len(found) == len(set(found)) == 4 * len(positive)
    assert positive <= set(found)
    again = make_pairs(source, target, negatives=3, seed=0)
    assert torch.equal(again.target, pairs.target)
    fewer = make_pairs(source, target, negatives=1, seed=0)
    assert len(fewer) == 2 * len(positive)
    other = make_pairs(source, target, negatives=1, seed=1)
    assert not torch.equal(fewer.target, other.target)


def test_negatives_stop_where_there_are_no_more():
    pairs = make_pairs(torch.tensor([0, 1]), torch.tensor([0, 1]), negatives=3, seed=0)
    assert len(pairs) == 4


def test_pairs_of_some_images():
    source, target = torch.arange(40) % 4, torch.arange(12) % 4
    pairs = make_pairs(source, target, negatives=2, seed=3)
    chosen = torch.tensor([7, 0, 39])
    place, partner = pairs.of(chosen)
    found = sorted(zip(chosen[place].tolist(), partner.tolist(), strict=True))
    everything = zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)
    assert found == sorted(pair for pair in everything if pair[0] in (0, 7, 39))


def test_nothing_to_pair_is_one_clear_line():
    with pytest.raises(InputError, match="no class has labelled images in both domains") as caught:
        make_pairs(torch.tensor([0, 1]), torch.tensor([2]), 3, 0)
    assert "\n" not in str(caught.value)


def ccsa_batch(size=12):
    batch = tiny_batch(count=6, size=size)
    batch.target_images, batch.target_labels = batch.target_images[:3], torch.tensor([0, 1, 2])
    pairs = make_pairs(batch.source_labels, batch.target_labels, 3, 0)
    batch.pairs = torch.stack([pairs.source, pairs.target], dim=1)
    return batch


def test_ccsa_step_equals_embedding_every_pair_by_itself(fabric):
    """Both updates, against the plain way: every image embedded again for each of its pairs."""
    net = tiny_net().eval()  # no dropout, no batch statistics: the two ways are then the same
    batch, cfg = ccsa_batch(), CcsaConfig(alpha=0.25, margin=1.0)
    plain = copy.deepcopy(net)
    optimizer = sgd(plain, 0.05)
    expected = {}
    for stream in ("source", "target"):
        loss = 0
        for i, j in batch.pairs.tolist():
            pair = {
                "source": plain.features(batch.source_images[[i]]),
                "target": plain.features(batch.target_images[[j]]),
            }
            a, b = batch.source_labels[i], batch.target_labels[j]
            d = (pair["source"] - pair["target"]).square().sum().sqrt()
            label = a if stream == "source" else b
            loss = loss + 0.75 * F.cross_entropy(plain.classifier(pair[stream]), label[None])
            loss = loss + 0.25 * (d**2 if a == b else torch.relu(1 - d) ** 2)
        loss = loss / len(batch.pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected[stream] = loss.item()
    found = ccsa_step(fabric, {"net": net}, {"net": sgd(net, 0.05)}, batch, cfg)
    assert found == pytest.approx(expected, rel=1e-4)
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_ccsa_embeds_every_image_once_an_update(fabric):
    net, batch = tiny_net(), ccsa_batch()
    seen = []
    net.stages[0].register_forward_pre_hook(lambda module, values: seen.append(len(values[0])))
    ccsa_step(fabric, {"net": net}, {"net": sgd(net)}, batch, CcsaConfig())
    assert len(batch.pairs) > 9
    assert seen == [9, 9]


# --------------------------------------------------------------------------------------- SagNet


def style_of(values):
    """Mean and variance (N - 1) over the pixels of every channel, by NumPy in float64."""
    flat = values.detach().double().numpy()
    return flat.mean(-1), flat.var(-1, ddof=1)


def test_sr_keeps_content_and_takes_exactly_the_mixed_statistics():
    torch.manual_seed(0)
    values = torch.randn(4, 3, 50, dtype=torch.double) * torch.rand(4, 3, 1) * 3 + 2
    other, weight = torch.tensor([2, 0, 3, 1]), torch.tensor([0.0, 0.25, 0.6, 1.0]).double()
    mixed = randomise_style(values, other, weight, eps=0)
    mean, variance = style_of(values)
    w = weight.numpy()[:, None]
    found_mean, found_variance = style_of(mixed)
    np.testing.assert_allclose(found_mean, w * mean + (1 - w) * mean[other.numpy()])
    np.testing.assert_allclose(found_variance, w * variance + (1 - w) * variance[other.numpy()])

    def content(maps):
        m, v = style_of(maps)
        return (maps.numpy() - m[..., None]) / np.sqrt(v)[..., None]

    np.testing.assert_allclose(content(mixed), content(values), atol=1e-12)
    torch.testing.assert_close(mixed[3], values[3])  # weight 1: its own style


def test_cr_keeps_style_and_takes_detached_content():
    torch.manual_seed(0)
    values = (torch.randn(4, 3, 50, dtype=torch.double) * 2 + 1).requires_grad_()
    other = torch.tensor([2, 0, 3, 1])
    mixed = randomise_content(values, other, eps=0)
    for found, wanted in zip(style_of(mixed), style_of(values), strict=True):
        np.testing.assert_allclose(found, wanted)
    raw = values.detach()

    def content(maps):
        return (maps - maps.mean(-1, keepdim=True)) / maps.std(-1, keepdim=True)

    torch.testing.assert_close(content(mixed.detach()), content(raw)[other])
    # the gradient of image 0's output reaches image 0 (its style), never image 2 (the content)
    weights = torch.randn(3, 50, dtype=torch.double)
    (gradient,) = torch.autograd.grad((mixed[0] * weights).sum(), values)
    assert gradient[0].abs().max() > 1e-3
    assert (gradient[1:] == 0).all()


def test_sr_lets_the_gradient_through_content_and_both_styles():
    torch.manual_seed(0)
    values = torch.randn(3, 2, 20, requires_grad=True)
    other, weight = torch.tensor([1, 2, 0]), torch.full((3,), 0.5)
    mixed = randomise_style(values, other, weight)
    (gradient,) = torch.autograd.grad((mixed[0] ** 2).sum(), values)
    assert gradient[0].abs().max() > 1e-3
    assert gradient[1].abs().max() > 1e-3
    assert (gradient[2] == 0).all()


def test_adversarial_loss_by_loops_and_least_where_nothing_is_known():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.double) * 2
    terms = [math.log(sum(map(math.exp, row))) - z for row in logits.tolist() for z in row]
    assert adversarial_loss(logits).item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert adversarial_loss(torch.zeros(2, 4)).item() == pytest.approx(math.log(4))
    assert adversarial_loss(logits) > math.log(4)


def cut_after(stages):
    return replace(STYLES, sagnet=SagNetConfig(stages=stages))


def sagnet_parts(seed=0, stages=2, rate=0.1, clip=0.1):
    net = tiny_net(seed)
    nets = {"net": net} | sagnet_networks(net, tiny_net(seed + 1), cut_after(stages))
    opts = {name: sgd(module, rate) for name, module in nets.items()}
    opts["adversary"] = sgd(early_affines(net, stages), rate)
    return nets, opts, SagNetConfig(stages=stages, clip=clip)


def test_early_affines_are_the_batchnorms_before_the_cut():
    net = tiny_net()
    names = {id(p): name for name, p in net.named_parameters()}
    found = {names[id(p)] for p in early_affines(net, 1)}
    assert found == {f"stages.0.{place}.{what}" for place in (1, 4) for what in ("weight", "bias")}
    assert len(early_affines(net, 2)) == 8
    resnet = resnet18_net(5)  # stem and layers 1, 2: 1 + 4 + 5 BatchNorms
    assert len(early_affines(resnet, 2)) == 20


@pytest.mark.parametrize("stages", [1, 2])
def test_sagnet_step_against_autograd_written_out(fabric, stages):
    nets, opts, cfg = sagnet_parts(stages=stages, clip=0.05)
    batch = tiny_batch()
    net, style = copy.deepcopy(nets["net"]), copy.deepcopy(nets["style"])
    torch.manual_seed(11)
    losses = sagnet_step(fabric, nets, opts, batch, cfg)

    torch.manual_seed(11)
    early = net.run(batch.source_images, last=stages)
    other, weight = torch.randperm(8), torch.rand(8)
    mean, variance = early.mean((2, 3), keepdim=True), early.var((2, 3), keepdim=True)
    content = (early - mean) / (variance + 1e-5).sqrt()
    w = weight[:, None, None, None]
    mixed_mean = w * mean + (1 - w) * mean[other]
    mixed_variance = w * variance + (1 - w) * variance[other]
    randomised = content * (mixed_variance + 1e-5).sqrt() + mixed_mean
    logits = net.classifier(net.run(randomised, first=stages).mean((2, 3)))
    other = torch.randperm(8)
    lied = content[other].detach() * (variance + 1e-5).sqrt() + mean
    style_logits = style(lied)
    content_loss = F.cross_entropy(logits, batch.source_labels)
    style_loss = F.cross_entropy(style_logits, batch.source_labels)
    adversarial = -0.1 * style_logits.log_softmax(1).mean()
    affines = early_affines(net, stages)

    of_style = torch.autograd.grad(style_loss, list(style.parameters()), retain_graph=True)
    of_adversary = torch.autograd.grad(adversarial, affines, retain_graph=True)
    of_content = torch.autograd.grad(content_loss, list(net.parameters()))
    norm = torch.cat([g.flatten() for g in of_adversary]).norm()
    assert norm > 1e-5  # alive
    clipped = [g * min(1.0, 0.05 / norm.item()) for g in of_adversary]

    assert losses["content"] == pytest.approx(content_loss.item(), rel=1e-5)
    assert losses["style"] == pytest.approx(style_loss.item(), rel=1e-5)
    assert losses["adversarial"] == pytest.approx(adversarial.item(), rel=1e-5)
    for new, old, g in zip(nets["style"].parameters(), style.parameters(), of_style, strict=True):
        torch.testing.assert_close(new, old - 0.1 * g, rtol=1e-3, atol=1e-6)
    extra = {id(a): g for a, g in zip(affines, clipped, strict=True)}
    for new, old, g in zip(nets["net"].parameters(), net.parameters(), of_content, strict=True):
        g = g + extra.get(id(old), 0)
        torch.testing.assert_close(new, old - 0.1 * g, rtol=1e-3, atol=1e-6)


def test_the_adversary_moves_only_early_affines_and_confuses(fabric):
    """With content and style networks held still, its steps lower the adversarial loss."""
    nets, opts, cfg = sagnet_parts(clip=0.0)
    batch = tiny_batch(count=16)
    opts["net"] = sgd(nets["net"], 0.0)
    opts["style"] = sgd(nets["style"], 0.3)
    opts["adversary"] = sgd(early_affines(nets["net"], 2), 0.0)
    for step in range(60):  # a style network that knows something
        torch.manual_seed(step)
        sagnet_step(fabric, nets, opts, batch, cfg)
    opts["style"] = sgd(nets["style"], 0.0)
    opts["adversary"] = sgd(early_affines(nets["net"], 2), 0.2)
    before = copy.deepcopy(nets["net"])
    trace = []
    for _ in range(30):
        torch.manual_seed(0)
        trace.append(sagnet_step(fabric, nets, opts, batch, cfg)["adversarial"])
    assert trace[-1] < trace[0] - 1e-3
    moved = changed(before, nets["net"])
    assert moved == {
        f"stages.{s}.{p}.{w}" for s in (0, 1) for p in (1, 4) for w in ("weight", "bias")
    }


def test_style_network_is_a_rest_of_its_own():
    net, twin = resnet18_net(7, dropout=0.5), resnet18_net(7, dropout=0.5)
    rest = sagnet_networks(net, twin, cut_after(2))["style"]
    assert isinstance(rest, StagedClassifier)
    assert rest(torch.rand(2, 128, 8, 8)).shape == (2, 7)
    mine = {id(p) for p in net.parameters()}
    assert not any(id(p) in mine for p in rest.parameters())
    late = sum(p.numel() for stage in net.stages[2:] for p in stage.parameters())
    late += sum(p.numel() for p in net.classifier.parameters())
    assert sum(p.numel() for p in rest.parameters()) == late


def test_pooled_step_is_domainbeds(fabric):
    """Three updates of a vector version, derived again with plain autograd."""
    net = tiny_net()
    style = nn.Linear(net.width, CLASSES)
    nets, batch = {"net": net, "style": style}, tiny_batch()
    opts = {name: sgd(module, 0.1) for name, module in nets.items()}
    plain, plain_style = copy.deepcopy(net), copy.deepcopy(style)
    torch.manual_seed(5)
    losses = pooled_step(fabric, nets, opts, batch, SagNetConfig())

    def vectors():
        z = plain.features(batch.source_images)
        m, v = z.mean(1, keepdim=True), z.var(1, keepdim=True)
        return m, v, (z - m) / (v + 1e-5).sqrt()

    def descend(loss, parameters):
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= 0.1 * g

    torch.manual_seed(5)
    weight = torch.rand(8, 1)
    m, v, c = vectors()
    other = torch.randperm(8)
    m, v = weight * m + (1 - weight) * m[other], weight * v + (1 - weight) * v[other]
    content = F.cross_entropy(plain.classifier(c * (v + 1e-5).sqrt() + m), batch.source_labels)
    descend(content, list(plain.parameters()))
    m, v, c = vectors()
    lied = (c[torch.randperm(8)] * (v + 1e-5).sqrt() + m).detach()
    of_style = F.cross_entropy(plain_style(lied), batch.source_labels)
    descend(of_style, list(plain_style.parameters()))
    m, v, c = vectors()
    lied = c[torch.randperm(8)].detach() * (v + 1e-5).sqrt() + m
    adversarial = -0.1 * plain_style(lied).log_softmax(1).mean()
    descend(adversarial, list(plain.stages.parameters()))

    assert losses["content"] == pytest.approx(content.item(), rel=1e-5)
    assert losses["style"] == pytest.approx(of_style.item(), rel=1e-5)
    assert losses["adversarial"] == pytest.approx(adversarial.item(), rel=1e-5)
    for a, b in ((net, plain), (style, plain_style)):
        for found, wanted in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("step", [sagnet_step, pooled_step])
def test_a_batch_of_one_image_is_one_clear_line(fabric, step):
    nets, opts, cfg = sagnet_parts()
    if step is pooled_step:
        nets["style"] = nn.Linear(nets["net"].width, CLASSES)
        nets["net"].eval()
    with pytest.raises(InputError, match="use a batch of at least 2") as caught:
        step(fabric, nets, opts, tiny_batch(count=1), cfg)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stages", [0, 3])
def test_a_cut_that_leaves_nothing_is_one_clear_line(stages):
    with pytest.raises(InputError, match=f"after stage {stages}, .* can be cut 2 times"):
        sagnet_networks(tiny_net(), tiny_net(1), cut_after(stages))


def test_others_are_a_permutation():
    torch.manual_seed(0)
    assert sorted(draw_others(6, torch.device("cpu")).tolist()) == list(range(6))
