"""DANN, CCSA, SagNet and their baselines: losses against plain loops, and who moves what."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from test_methods import descend
from torch import nn
from torch.nn import functional as F

from labor_lib.config import STYLES, CcsaConfig, DannConfig, SagNetConfig
from labor_lib.errors import InputError
from labor_lib.methods import sagnet
from labor_lib.methods.ccsa import ccsa_step, contrastive_loss, distances, make_pairs
from labor_lib.methods.dann import Discriminator, dann_step, reversal_scale, reverse_gradient
from labor_lib.methods.erm import erm_step, joint_step, target_step
from labor_lib.nets.digits import CcsaNet, DannNet, resnet18_net, small_net
from labor_lib.train import Batch

CLASSES = 4


def tiny_net(seed=0):
    torch.manual_seed(seed)
    return small_net(CLASSES, widths=(6, 8, 10))


def tiny_batch(seed=0, count=8, size=12):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        source_images=torch.randn(count, 3, size, size, generator=generator),
        source_labels=torch.randint(0, CLASSES, (count,), generator=generator),
        target_images=torch.randn(count, 3, size, size, generator=generator) + 1,
        target_labels=torch.randint(0, CLASSES, (count,), generator=generator),
        progress=0.5,
    )


def sgd(parameters, rate=0.1):
    if isinstance(parameters, nn.Module):
        parameters = list(parameters.parameters())
    return torch.optim.SGD(parameters, rate)


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
    assert net(images).shape == (2, 5)
    torch.testing.assert_close(net(images), net.classifier(features))
    if build in (small_net, resnet18_net):
        early = net.run(images, last=2)
        torch.testing.assert_close(net.run(early, first=2).mean((2, 3)), features)
        if build is resnet18_net:  # stem, layers 1 and 2, as the authors cut
            assert early.shape == (2, 128, 8, 8)
            assert len(sagnet.early_affines(net, 2)) == 2 * (1 + 4 + 5)
            # the style network: the rest, with weights of its own
            style = sagnet.sagnet_networks(net, build(5), cut_after(2))["style"]
            assert style(early).shape == (2, 5)
            assert not {*style.parameters()} & {*net.parameters()}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: make_pairs(torch.tensor([0]), torch.tensor([2]), 3, 0), "labelled images in both"),
        (lambda: sagnet.draw_others(1, torch.device("cpu")), "use a batch of at least 2"),
        (lambda: sagnet_parts(stages=0), "stage 0, .* 2 times"),
        (lambda: sagnet_parts(stages=3), "stage 3, .* 2 times"),
    ],
)
def test_what_cannot_be_done_is_said(ask, message):
    with pytest.raises(InputError, match=message):
        ask()


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
    descend(sum(losses) / len(losses), reference.parameters(), 0.1)
    found = step(fabric, {"net": net}, {"net": sgd(net)}, batch)
    assert list(found.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-5)
    for a, b in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------------------- DANN
def test_reversed_gradient_is_minus_lambda_times_the_plain_one():
    torch.manual_seed(0)
    values = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    plain = 2 * values.detach().sin() * values.detach().cos()
    for scale in (0.0, 0.3, 1.0):
        assert torch.equal(reverse_gradient(values, scale), values)
        loss = (reverse_gradient(values, scale).sin() ** 2).sum()
        torch.testing.assert_close(torch.autograd.grad(loss, values)[0], -scale * plain)
    for progress in (0, 0.1, 1):
        assert reversal_scale(progress) == pytest.approx(math.tanh(5 * progress))  # another form


def dann_parts():
    net = tiny_net()
    nets = {"net": net, "discriminator": Discriminator(net.width, (12,))}
    return nets, {name: sgd(module, 0.02) for name, module in nets.items()}


def test_dann_step_descends_and_ascends_at_once(fabric):
    """The update against three plain gradients, put together by hand."""
    nets, opts = dann_parts()
    batch, cfg = tiny_batch(), DannConfig(weight=0.7)
    batch.target_labels = None  # never read
    net, discriminator = copy.deepcopy(nets["net"]), copy.deepcopy(nets["discriminator"])
    features = torch.cat([net.features(batch.source_images), net.features(batch.target_images)])
    class_loss = F.cross_entropy(net.classifier(features[:8]), batch.source_labels)
    domains = torch.cat([torch.zeros(8, 1), torch.ones(8, 1)])
    domain_loss = F.binary_cross_entropy_with_logits(discriminator(features), domains)
    body = list(net.stages.parameters())
    of_class = torch.autograd.grad(class_loss, body, retain_graph=True)
    of_head = torch.autograd.grad(class_loss, list(net.classifier.parameters()), retain_graph=True)
    of_domain = torch.autograd.grad(domain_loss, body, retain_graph=True)
    of_discriminator = torch.autograd.grad(domain_loss, list(discriminator.parameters()))
    scale = 0.7 * (2 / (1 + math.exp(-5)) - 1)

    losses = dann_step(fabric, nets, opts, batch, cfg)

    assert losses["classification"] == pytest.approx(class_loss.item(), rel=1e-5)
    assert losses["domain"] == pytest.approx(domain_loss.item(), rel=1e-5)
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


# ----------------------------------------------------------------------------------------- CCSA
def test_equal_embeddings_have_a_finite_gradient():
    rows = torch.ones(2, 3, requires_grad=True)
    loss = contrastive_loss(distances(rows, torch.ones(2, 3)), torch.tensor([True, False]))
    loss.backward()
    assert rows.grad.isfinite().all()
    assert loss.item() == pytest.approx((1e-8 + (1 - 1e-4) ** 2) / 2, rel=1e-5)


def test_pairs_are_all_positives_and_three_times_as_many_negatives():
    source, target = torch.arange(40) % 4, torch.arange(12) % 4
    pairs = make_pairs(source, target, negatives=2, seed=0)
    found = list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))
    positive = {(i, j) for i in range(40) for j in range(12) if i % 4 == j % 4}
    assert len(found) == len(set(found)) == 3 * len(positive)
    assert positive <= set(found)
    assert torch.equal(make_pairs(source, target, negatives=2, seed=0).target, pairs.target)
    other = make_pairs(source, target, negatives=2, seed=1)
    assert not torch.equal(pairs.target, other.target)
    assert len(make_pairs(source, target, negatives=30, seed=0)) == 40 * 12  # there are no more
    chosen = torch.tensor([7, 0, 39])
    place, partner = pairs.of(chosen)
    found_of = sorted(zip(chosen[place].tolist(), partner.tolist(), strict=True))
    assert found_of == sorted(pair for pair in found if pair[0] in (0, 7, 39))


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
        descend(loss, plain.parameters(), 0.05)
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
def cut_after(stages):
    return replace(STYLES, sagnet=SagNetConfig(stages=stages))


def sagnet_parts(seed=0, stages=2, rate=0.1, clip=0.1):
    net = tiny_net(seed)
    nets = {"net": net} | sagnet.sagnet_networks(net, tiny_net(seed + 1), cut_after(stages))
    opts = {name: sgd(module, rate) for name, module in nets.items()}
    opts["adversary"] = sgd(sagnet.early_affines(net, stages), rate)
    return nets, opts, SagNetConfig(stages=stages, clip=clip)


@pytest.mark.parametrize("stages", [1, 2])
def test_sagnet_step_against_autograd_written_out(fabric, stages):
    nets, opts, cfg = sagnet_parts(stages=stages, clip=0.05)
    batch = tiny_batch()
    net, style = copy.deepcopy(nets["net"]), copy.deepcopy(nets["style"])
    torch.manual_seed(11)
    losses = sagnet.sagnet_step(fabric, nets, opts, batch, cfg)

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
    affines = sagnet.early_affines(net, stages)

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


def test_pooled_step_is_domainbeds(fabric):
    """Three updates of a vector version, derived again with plain autograd."""
    net = tiny_net()
    style = nn.Linear(net.width, CLASSES)
    nets, batch = {"net": net, "style": style}, tiny_batch()
    opts = {name: sgd(module, 0.1) for name, module in nets.items()}
    plain, plain_style = copy.deepcopy(net), copy.deepcopy(style)
    torch.manual_seed(5)
    losses = sagnet.pooled_step(fabric, nets, opts, batch, SagNetConfig())

    def vectors():
        z = plain.features(batch.source_images)
        m, v = z.mean(1, keepdim=True), z.var(1, keepdim=True)
        return m, v, (z - m) / (v + 1e-5).sqrt()

    torch.manual_seed(5)
    weight = torch.rand(8, 1)
    m, v, c = vectors()
    other = torch.randperm(8)
    m, v = weight * m + (1 - weight) * m[other], weight * v + (1 - weight) * v[other]
    content = F.cross_entropy(plain.classifier(c * (v + 1e-5).sqrt() + m), batch.source_labels)
    descend(content, plain.parameters(), 0.1)
    m, v, c = vectors()
    lied = (c[torch.randperm(8)] * (v + 1e-5).sqrt() + m).detach()
    of_style = F.cross_entropy(plain_style(lied), batch.source_labels)
    descend(of_style, plain_style.parameters(), 0.1)
    m, v, c = vectors()
    lied = c[torch.randperm(8)].detach() * (v + 1e-5).sqrt() + m
    adversarial = -0.1 * plain_style(lied).log_softmax(1).mean()
    descend(adversarial, plain.stages.parameters(), 0.1)

    assert losses["content"] == pytest.approx(content.item(), rel=1e-5)
    assert losses["style"] == pytest.approx(of_style.item(), rel=1e-5)
    assert losses["adversarial"] == pytest.approx(adversarial.item(), rel=1e-5)
    for a, b in ((net, plain), (style, plain_style)):
        for found, wanted in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
