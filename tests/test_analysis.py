"""Questions to maps and features, against counts by hand and closed forms."""

import numpy as np
import pytest
import torch

from labor_lib.lab import analysis
from labor_lib.nets.deeplab import SmallDeepLab
from labor_lib.selection.record import Selection


def test_class_shares_leave_void_out():
    labels = [np.array([[0, 1], [255, 1]], np.uint8), np.array([[1, 255]], np.uint8)]
    np.testing.assert_allclose(analysis.class_shares(labels, 3), [0.25, 0.75, 0])


def test_confusion_matrix_has_truth_down_and_leaves_void_out():
    truths = [np.array([[0, 0, 2]], np.uint8), np.array([[255, 1, 2]], np.uint8)]
    guesses = [np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 0]], np.uint8)]
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_array_equal(analysis.confusion_matrix(guesses, truths, 3), expected)
    with pytest.raises(ValueError, match="longer"):
        analysis.confusion_matrix(guesses[:1], truths, 3)


def test_border_distance_counts_from_one():
    truth = np.zeros((5, 6), np.uint8)
    truth[:, 3:] = 1
    np.testing.assert_allclose(analysis.border_distance(truth), np.tile([3, 2, 1, 1, 2, 3], (5, 1)))
    truth = np.zeros((5, 5), np.uint8)
    truth[4] = 2
    np.testing.assert_allclose(analysis.border_distance(truth)[:, 0], [4, 3, 2, 1, 1])
    assert np.isinf(analysis.border_distance(np.zeros((2, 2), np.uint8))).all()


def test_piece_sizes_touch_at_corners():
    asked = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(analysis.piece_sizes(asked), [1, 2, 2])
    assert analysis.piece_sizes(np.zeros((3, 3), bool)).size == 0


def test_precision_and_recall_by_hand():
    mask = np.array([1, 1, 1, 0, 0, 1], bool)
    errors = np.array([1, 0, 0, 1, 1, 1], bool)
    known = np.array([1, 1, 1, 1, 1, 0], bool)
    assert analysis.precision_recall(mask, errors, known) == pytest.approx((1 / 3, 1 / 3))
    nothing = np.zeros(6, bool)
    precision, recall = analysis.precision_recall(nothing, errors, known)
    assert np.isnan(precision)
    assert recall == 0
    assert np.isnan(analysis.precision_recall(mask, nothing, known)[1])


def test_pseudo_label_quality_by_hand():
    truth = np.array([[0, 0, 1, 1], [1, 1, 255, 0]], np.uint8)
    pseudo = np.array([[0, 1, 255, 1], [0, 255, 1, 0]], np.uint8)
    table = analysis.pseudo_label_quality([pseudo], [truth], ("road", "car", "bus"))
    assert list(table["pixels"]) == [3, 4, 0]
    np.testing.assert_allclose(table["coverage"], [1, 0.5, np.nan])
    np.testing.assert_allclose(table["error"], [1 / 3, 1 / 2, np.nan])


def test_class_features_average_the_cells_of_a_class():
    features = torch.arange(8.0).view(2, 2, 2)  # F x h x w
    label = np.zeros((8, 8), np.uint8)
    label[:4, :4] = 3  # the first cell
    label[4:, 4:] = 255  # the last one
    found = analysis.class_features(features, label)
    assert set(found) == {0, 3}
    np.testing.assert_allclose(found[3], [0, 4])
    np.testing.assert_allclose(found[0], [1.5, 5.5])


def test_pooled_features_are_mean_and_spread():
    net = SmallDeepLab(4).eval()
    images = [torch.randn(1, 3, 32, 48) for _ in range(3)]
    rows = analysis.pooled_features(net, images)
    with torch.no_grad():
        features = net.backbone(images[1])[0].flatten(1).numpy()
    expected = np.concatenate([features.mean(axis=1), features.std(axis=1, ddof=1)])
    assert rows.shape == (3, len(expected))
    np.testing.assert_allclose(rows[1], expected, rtol=1e-4, atol=1e-5)


def test_proxy_a_distance_ends():
    generator = np.random.default_rng(0)
    same = generator.normal(size=(400, 5))
    other = generator.normal(size=(400, 5))
    assert analysis.proxy_a_distance(same, other) < 0.25
    assert analysis.proxy_a_distance(same, other + 20) == pytest.approx(2)
    half = analysis.proxy_a_distance(same, other + np.eye(5)[0])
    # one Gaussian moved by 1: the best threshold errs with Phi(-1/2) = 0.3085
    assert half == pytest.approx(2 * (1 - 2 * 0.3085), abs=0.15)


def test_asked_pixels_reads_every_map_where_asked():
    selection = Selection(
        (2, 3),
        [np.array([5, 1]), np.array([], int), np.array([0])],
        [np.array(part, np.uint8) for part in ([7, 255], [], [2])],
    )
    truth = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
    table = analysis.asked_pixels(
        selection, truth=truth, distance=[np.full((2, 3), i / 2) for i in range(3)]
    )
    assert list(table["image"]) == [0, 0, 2]
    assert list(table["position"]) == [5, 1, 0]
    assert list(table["answer"]) == [7, 255, 2]
    assert list(table["truth"]) == [5, 1, 12]
    assert list(table["distance"]) == [0, 0, 1]
