"""The small CCSA of the playground: its gradient is the library's, its pairs are the paper's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from labor_lib.data.classification import Domain
from labor_lib.errors import InputError
from labor_lib.lab import alignment
from labor_lib.lab.alignment import Points, SmallShift, align, learn_source, loss_and_gradient
from labor_lib.methods.ccsa import ccsa_loss, contrastive_loss, distances, make_pairs


def points(count: int, seed: int, move: float = 0.0, spread: float = 0.6) -> Points:
    """Four clouds in 6 dimensions, `count` points each."""
    rng = np.random.default_rng(seed)
    middles = 2 * np.eye(4, 6)
    features = middles.repeat(count, axis=0) + spread * rng.normal(size=(4 * count, 6)) + move
    return Points(features, np.arange(4).repeat(count))


@pytest.fixture
def shift() -> SmallShift:
    return SmallShift(tuple("abcd"), points(8, 0), points(7, 1, 0.7), points(20, 2, 0.7))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("margin", [0.0, 1.0, 5.0])
def test_loss_and_gradient_are_the_librarys(shift, alpha, margin):
    few = shift.labelled(3)
    weights = alignment.start(4, 6, 0)
    loss, gradient = loss_and_gradient(weights, shift.source, few, alpha, margin)

    own = [torch.from_numpy(weight).requires_grad_() for weight in weights]
    features = torch.from_numpy(np.concatenate([shift.source.features, few.features]))
    embedded = (features @ own[0] + own[1]).tanh() @ own[2] + own[3]
    labels = [torch.from_numpy(part.labels) for part in (shift.source, few)]
    pairs = make_pairs(*labels, 3, 0)
    assert len(pairs) == len(shift.source) * len(few)  # with four classes: all there are
    first, second = embedded[pairs.source], embedded[len(shift.source) + pairs.target]
    same = labels[0][pairs.source] == labels[1][pairs.target]
    passes = [
        ccsa_loss(part @ own[4] + own[5], names, distances(first, second), same, alpha, margin)
        for part, names in (
            (first, labels[0][pairs.source]),
            (second, labels[1][pairs.target]),
        )
    ]
    expected = sum(passes) / 2  # of both passes
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    for mine, theirs in zip(gradient, own, strict=True):
        grad = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        np.testing.assert_allclose(mine, grad.numpy(), rtol=1e-7, atol=1e-10)


def test_pairs_at_one_place_have_no_gradient(shift):
    same = Points(shift.source.features[:4], np.zeros(4, int))
    weights = alignment.start(4, 6, 0)
    loss, gradient = loss_and_gradient(weights, same, same, 1.0, 1.0)
    assert all(np.isfinite(part).all() for part in gradient)
    z = torch.from_numpy(alignment.embed(weights, same.features))
    i, j = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    expected = contrastive_loss(distances(z[i], z[j]), torch.ones(16, dtype=torch.bool))
    assert loss == pytest.approx(expected.item())


def test_source_alone_is_plain_cross_entropy(shift):
    weights = alignment.start(4, 6, 0)
    loss, _ = loss_and_gradient(weights, shift.source, None, 0.5, 1.0)
    logits = alignment.embed(weights, shift.source.features) @ weights[4] + weights[5]
    labels = torch.from_numpy(shift.source.labels)
    assert loss == pytest.approx(F.cross_entropy(torch.from_numpy(logits), labels).item())


def test_steps_are_adams(shift):
    weights = alignment.start(4, 6, 0)
    frames = alignment.train(weights, shift.source, shift.labelled(2), 0.25, 1.0, 5)
    own = [torch.from_numpy(weight.copy()).requires_grad_() for weight in weights]
    adam = torch.optim.Adam(own, lr=alignment.RATE)
    for frame in frames[1:]:
        now = tuple(part.detach().numpy() for part in own)
        gradient = loss_and_gradient(now, shift.source, shift.labelled(2), 0.25, 1.0)[1]
        for part, grad in zip(own, gradient, strict=True):
            part.grad = torch.from_numpy(grad)
        adam.step()
        for mine, theirs in zip(frame, own, strict=True):
            np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_alignment_pulls_one_class_and_leaves_the_margin(shift):
    learnt = learn_source(shift)
    one = align(shift, learnt, 3, 0.5, 1.0)
    assert one.steps[0] == 0
    assert one.steps[-1] == alignment.STEPS
    before, after = one.distances(0), one.distances(-1)
    assert after[one.same].mean() < 0.5 * before[one.same].mean()
    assert (after[~one.same] > 1.0).mean() > 0.95
    assert one.right(-1, shift.others).mean() >= one.right(0, shift.others).mean()
    assert align(shift, learnt, 3, 0.5, 1.0).distances(-1) == pytest.approx(after)


def test_more_labels_are_the_same_and_more(shift):
    few, more = shift.labelled(1), shift.labelled(3)
    assert few.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(more.features[::3], few.features)
    for n in (0, 8):
        with pytest.raises(InputError, match="choose from 1 to 7"):
            shift.labelled(n)


def domain(count: int, seed: int) -> Domain:
    labels = torch.arange(10).repeat(count)
    noise = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 1, 6, 6), generator=noise).to(torch.uint8)
    return Domain("digits", tuple("0123456789"), images, labels)


def test_a_small_shift_keeps_the_labelled_out_of_the_others():
    source, target = domain(9, 0), domain(5, 1)
    few = target.take(torch.cat([(target.labels == k).nonzero()[:2, 0] for k in range(10)]))
    problem = SimpleNamespace(sources=(source,), few=few, target_train=target)
    small = alignment.small_shift(problem, ("1", "7", "9", "4"), images=6)
    assert (len(small.source), len(small.few), len(small.others)) == (24, 8, 12)
    assert small.few.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert small.most == 2
    known = {row.tobytes() for row in small.few.features.round(9)}
    assert not known & {row.tobytes() for row in small.others.features.round(9)}
    flat = source.images.flatten(1).double().numpy()
    kept = alignment.small_shift(problem, ("1", "7", "9", "4"), images=9).source.features
    assert abs(kept).max() < 10  # scaled: a step of Adam fits any images
    assert flat.shape[1] > kept.shape[1] == alignment.COMPONENTS


def test_a_problem_without_labels_is_told():
    problem = SimpleNamespace(sources=(domain(2, 0),), few=None, target_train=domain(2, 1))
    with pytest.raises(InputError, match="no labelled target images"):
        alignment.small_shift(problem)
