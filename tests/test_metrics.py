"""Intersection over union against a confusion matrix filled pixel by pixel."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from labor_lib.labels import NAMES, SYNTHIA13_NAMES, SYNTHIA16
from labor_lib.metrics import Scores, evaluate, mious, scores_from, summary


def confusion(pairs, classes: int) -> np.ndarray:
    """Counts [truth, prediction] over (truth, prediction) label maps; 255 is not counted."""
    counts = np.zeros((classes, classes), int)
    for truth, predicted in pairs:
        for t, p in zip(np.ravel(truth).tolist(), np.ravel(predicted).tolist(), strict=True):
            if t != 255:
                counts[t, p] += 1
    return counts


def iou_of(counts: np.ndarray) -> list[float]:
    """In percent, NaN for classes without a pixel of truth."""
    rows = []
    for k in range(len(counts)):
        union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
        rows.append(100 * counts[k, k] / union if counts[k].sum() else math.nan)
    return rows


def miou_of(pairs, classes: int = 14) -> float:
    """Mean over the classes that are there."""
    return np.nanmean(iou_of(confusion(pairs, classes)))


def read(pairs, names) -> Scores:
    metric = MulticlassJaccardIndex(len(names), average="none", ignore_index=255)
    for truth, predicted in pairs:
        metric.update(torch.as_tensor(predicted)[None], torch.as_tensor(truth)[None])
    return scores_from(metric, names)


def test_accumulates_over_images_and_ignores_void():
    generator = np.random.default_rng(0)
    pairs = []
    for _ in range(4):
        truth = generator.choice([0, 1, 2, 4, 255], (9, 7))  # class 3 never occurs
        predicted = generator.integers(0, 5, (9, 7))
        predicted = np.where((generator.random((9, 7)) < 0.6) & (truth < 5), truth, predicted)
        pairs.append((truth, predicted))
    of_images = np.stack([confusion([pair], 5) for pair in pairs])
    np.testing.assert_allclose(mious(of_images), [miou_of([pair], 5) for pair in pairs])
    assert np.isnan(mious(np.zeros((1, 5, 5), int)))
    scores = read(pairs, tuple("abcde"))
    expected = iou_of(confusion(pairs, 5))
    np.testing.assert_allclose(list(scores.iou.values()), expected, rtol=1e-5)
    assert list(scores.iou) == list("abcde")
    assert math.isnan(scores.iou["d"])
    assert scores.mean() == pytest.approx(miou_of(pairs, 5), rel=1e-5)


def test_summary_of_synthia():
    values = {name: float(10 + 3 * i) for i, name in enumerate(SYNTHIA16.names)}
    row = summary(Scores(values))
    thirteen = [v for name, v in values.items() if name not in ("wall", "fence", "pole")]
    assert len(thirteen) == len(SYNTHIA13_NAMES) == 13
    assert row["miou"] == row["miou_16"] == pytest.approx(sum(values.values()) / 16)
    assert row["miou_13"] == pytest.approx(sum(thirteen) / 13)
    others = [f"class {i}" for i in range(16)]
    for names in (NAMES, others):
        assert set(summary(Scores(dict.fromkeys(names, 50.0)))) == {"miou"}


class Lookalike(nn.Module):
    """Logits at a quarter of the image's size, a fixed function of its colours."""

    def __init__(self, classes: int):
        super().__init__()
        torch.manual_seed(3)
        self.weights = nn.Conv2d(3, classes, 4, stride=4)

    def forward(self, images):
        return [self.weights(images)]


@pytest.mark.parametrize("cache", [True, False])
def test_evaluate_compares_at_native_size(fabric, tiny, make_folder, cache):
    folder = make_folder(split="val", count=3, native=(32, 64), size=(16, 32), cache=cache)
    config = replace(tiny, data=replace(tiny.data, cache=cache, inference_batch=2))
    net = Lookalike(14).train()
    found = evaluate(fabric, net, folder, config)
    assert not net.training

    pairs = []
    for i in range(3):
        image = (folder.image(i).double() / 255 - 0.45) / 0.25
        logits = net.double()(image[None])[0]
        full = nn.functional.interpolate(
            logits, (32, 64), mode="bilinear", align_corners=False
        ).argmax(1)[0]
        truth = folder.native_label(i)
        assert truth.shape == (32, 64)
        pairs.append((truth.numpy(), full.numpy()))
    net.float()
    expected = iou_of(confusion(pairs, 14))
    assert tuple(found.iou) == folder.class_set.names
    np.testing.assert_allclose(list(found.iou.values()), expected, rtol=1e-4)
    assert sum(math.isnan(value) for value in expected) == 14 - 6
