"""The mean teacher and ClassMix against plain code; what the teacher sees."""

import copy

import numpy as np
import pytest
import torch

from labor_lib.methods.dacs import (
    MeanTeacher,
    class_mask,
    class_mix,
    dacs_step,
    labor_teacher_step,
    strong_augmentation,
    teacher_networks,
    weighted_cross_entropy,
)
from labor_lib.train import Batch, build_nets, build_optimizers

CLASSES = 14
SIZE = (32, 64)


def batch_of(seed: int, asked: float = 0.1) -> Batch:
    """Two images of each domain; of the target a share of the labels is known."""
    torch.manual_seed(seed)
    labels = torch.randint(0, CLASSES, (2, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    answers = torch.randint(0, CLASSES, (2, *SIZE))
    answers[torch.rand(2, *SIZE) >= asked] = 255
    return Batch(torch.randn(2, 3, *SIZE), labels, torch.randn(2, 3, *SIZE), answers)


@pytest.fixture
def trained(fabric, tiny):
    torch.manual_seed(0)
    nets = build_nets(tiny, CLASSES) | teacher_networks(tiny, CLASSES)
    return nets, build_optimizers(nets, tiny, 1e-2)


def test_the_teacher_averages_over_time():
    """Updates 1, 2, ... with a = 0, 1/2, 2/3, ..., then the decay: written out by hand."""
    teacher, values = MeanTeacher(torch.nn.Linear(1, 1)), [3.0, 5.0, 10.0, 2.0, 4.0]
    expected = None
    for number, value in enumerate(values):
        net = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(net.weight, value)
        teacher.follow(net, decay=0.7)
        keep = (0, 1 / 2, 2 / 3, 0.7, 0.7)[number]
        expected = value if number == 0 else keep * expected + (1 - keep) * value
        assert teacher.net.weight.item() == pytest.approx(expected)
    assert teacher.updates == 5


def test_half_of_the_classes_are_pasted():
    labels = torch.tensor([[0, 0, 3], [7, 255, 7]])
    counts = []
    for seed in range(40):
        torch.manual_seed(seed)
        mask = class_mask(labels)
        assert not mask[1, 1]  # nobody pastes what has no class
        pasted = {label for label in (0, 3, 7) if mask[labels == label].any()}
        assert all(mask[labels == label].all() for label in pasted)
        counts.append(tuple(sorted(pasted)))
    assert {len(pasted) for pasted in counts} == {2}  # of three, rounded up
    assert len(set(counts)) == 3  # each pair comes
    assert not class_mask(torch.full((2, 2), 255)).any()


def test_class_mix_pixel_by_pixel():
    batch = batch_of(1)
    probs = torch.randn(2, CLASSES, *SIZE).mul(4).softmax(dim=1)
    threshold = 0.6
    torch.manual_seed(5)
    images, labels, weights = class_mix(batch, probs, threshold, batch.target_labels)
    sure = np.mean([p.max() >= threshold for p in probs.permute(0, 2, 3, 1).reshape(-1, CLASSES)])
    assert 0.05 < sure < 0.95
    pasted = (images == batch.source_images).all(dim=1)
    for i, y, x in np.ndindex(2, *SIZE):
        if pasted[i, y, x]:
            expected = (batch.source_labels[i, y, x], 1.0)
            pixel = batch.source_images[i, :, y, x]
        else:
            pixel = batch.target_images[i, :, y, x]
            answer = batch.target_labels[i, y, x]
            expected = (answer, 1.0) if answer != 255 else (probs[i, :, y, x].argmax(), sure)
        assert torch.equal(images[i, :, y, x], pixel)
        assert labels[i, y, x] == expected[0]
        assert weights[i, y, x] == pytest.approx(expected[1])
    shares = [pasted[i][batch.source_labels[i] == k].float().mean() for i in range(2)
              for k in batch.source_labels[i].unique()]  # fmt: skip
    assert set(map(float, shares)) == {0.0, 1.0}  # whole classes


def test_domains_of_different_size_share_a_window():
    batch = batch_of(2)
    batch.source_images, batch.source_labels = (
        torch.randn(2, 3, 40, 50),
        torch.randint(0, CLASSES, (2, 40, 50)),
    )
    probs = torch.rand(2, CLASSES, *SIZE).softmax(dim=1)
    images, labels, weights = class_mix(batch, probs, 0.9)
    assert images.shape == (2, 3, 32, 50)
    assert labels.shape == weights.shape == (2, 32, 50)


def test_weighted_cross_entropy_by_hand():
    torch.manual_seed(3)
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 2], [255, 1]]])
    weights = torch.tensor([[[1.0, 0.3], [1.0, 0.5]]])
    terms = [
        -weights[0, y, x] * logits[0, :, y, x].log_softmax(0)[labels[0, y, x]]
        for y, x in ((0, 0), (0, 1), (1, 1))
    ]
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), sum(terms) / 4)


def test_augmentation_changes_colours_and_keeps_places(tiny):
    torch.manual_seed(0)
    images = torch.zeros(8, 3, *SIZE)
    images[..., 32:] = 1.0
    changed = strong_augmentation(images, tiny)
    assert changed.shape == images.shape
    assert (changed != images).flatten(1).any(dim=1).sum() >= 4
    assert (changed[..., 40:].mean((1, 2, 3)) > changed[..., :24].mean((1, 2, 3))).all()


def test_no_target_label_reaches_dacs(fabric, tiny, trained):
    """The same losses and weights whatever the target's labels are."""
    outcomes = []
    for seed in (1, 2):
        nets = copy.deepcopy(trained[0])
        opts = build_optimizers(nets, tiny, 1e-2)
        batch = batch_of(0)
        batch.target_labels = torch.randint(0, CLASSES, (2, *SIZE)) if seed == 1 else None
        torch.manual_seed(9)
        losses = dacs_step(fabric, nets, opts, batch, tiny)
        outcomes.append((losses, nets["segmenter"].state_dict()))
    assert outcomes[0][0] == outcomes[1][0]
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=0, atol=0)


def test_the_teacher_gets_images_and_no_gradient(fabric, tiny, trained):
    nets, opts = trained
    batch, seen = batch_of(0), []
    nets["teacher"].register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    assert "teacher" not in opts
    for _ in range(2):
        labor_teacher_step(fabric, nets, opts, batch, tiny)
    assert all(one is batch.target_images for one in seen)
    assert len(seen) == 2
    assert all(p.grad is None for p in nets["teacher"].parameters())
    assert nets["teacher"].updates == 2


def test_answers_replace_the_teachers_labels(fabric, tiny, trained):
    """The gradient of the mixed loss feels an answer; without answers it is that of DACS."""
    gradients = []
    for asked in (0.0, 0.0, 0.5):
        nets = copy.deepcopy(trained[0])
        opts = build_optimizers(nets, tiny, 0.0)
        torch.manual_seed(4)
        labor_teacher_step(fabric, nets, opts, batch_of(0, asked), tiny)
        gradients.append(torch.cat([p.grad.flatten() for p in nets["segmenter"].parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert (gradients[0] - gradients[2]).abs().max() > 1e-3
