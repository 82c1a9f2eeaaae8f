"""The small CCSA of the playground: its loss is the library's, its pairs are the paper's."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from labor_lib.data.classification import Domain
from labor_lib.errors import InputError
from labor_lib.lab import alignment
from labor_lib.lab.alignment import Points, SmallShift, align, learn_source, small_loss
from labor_lib.methods.ccsa import ccsa_loss, distances, make_pairs


def points(count: int, seed: int, move: float = 0.0) -> Points:
    """Four clouds in 6 dimensions, `count` points each."""
    noise = torch.randn(4 * count, 6, generator=torch.Generator().manual_seed(seed))
    features = (2 * torch.eye(4, 6)).repeat_interleave(count, 0) + 0.6 * noise + move
    return Points(features, torch.arange(4).repeat_interleave(count))


@pytest.fixture
def shift() -> SmallShift:
    return SmallShift(tuple("abcd"), points(8, 0), points(7, 1, 0.7), points(20, 2, 0.7))


@pytest.mark.parametrize(("alpha", "margin"), [(0.0, 1.0), (0.25, 1.0), (0.5, 5.0), (1.0, 0.0)])
def test_the_loss_is_the_mean_of_both_passes(shift, alpha, margin):
    few, weights = shift.labelled(3), learn_source(shift)
    loss = small_loss(weights, shift.source, few, alpha, margin)

    pairs = make_pairs(shift.source.labels, few.labels, 3, 0)
    assert len(pairs) == len(shift.source) * len(few)  # with four classes: all there are
    ends, labels = [], []
    for group, places in ((shift.source, pairs.source), (few, pairs.target)):
        ends.append(alignment.embed(weights, group.features)[places])
        labels.append(group.labels[places])
    distance, same = distances(*ends), labels[0] == labels[1]
    passes = [
        ccsa_loss(alignment.classify(weights, z), names, distance, same, alpha, margin)
        for z, names in zip(ends, labels, strict=True)
    ]
    assert_close(loss, sum(passes) / 2)


def test_the_source_alone_is_plain_cross_entropy(shift):
    weights = learn_source(shift)
    logits = alignment.classify(weights, alignment.embed(weights, shift.source.features))
    expected = F.cross_entropy(logits, shift.source.labels)
    assert_close(small_loss(weights, shift.source, None, 0.5, 1.0), expected)
    assert (logits.argmax(1) == shift.source.labels).float().mean() > 0.95


def test_alignment_pulls_one_class_and_leaves_the_margin(shift):
    learnt = learn_source(shift)
    one = align(shift, learnt, 3, 0.5, 1.0)
    assert (len(one.frames) - 1) * alignment.EVERY == alignment.STEPS
    before, after = one.distances(0), one.distances(-1)
    assert after[one.same].mean() < 0.5 * before[one.same].mean()
    assert (after[~one.same] > 1.0).mean() > 0.95
    assert one.right(-1, one.few) == 100
    again = align(shift, learn_source(shift), 3, 0.5, 1.0)
    assert again.distances(-1) == pytest.approx(after), "the start is not changed by training"


def test_more_labels_are_the_same_and_more(shift):
    few, more = shift.labelled(1), shift.labelled(3)
    assert few.labels.tolist() == [0, 1, 2, 3]
    assert_close(more.features[::3], few.features)
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
    assert small.source.features.shape[1] == alignment.COMPONENTS
    between = torch.cdist(small.few.features, small.others.features)
    assert between.min() > 0.1
    assert abs(small.source.features).max() < 10  # scaled: a step of Adam fits any images
    with pytest.raises(InputError, match="no labelled target images"):
        alignment.small_shift(SimpleNamespace(sources=(source,), few=None, target_train=target))
