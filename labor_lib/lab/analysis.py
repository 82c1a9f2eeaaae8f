"""Questions to maps of pixels and to features: pure functions, NumPy in and out.

A pixel whose truth is 255 (void) counts nowhere.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from torch import Tensor, nn

from labor_lib.annotation.cost import TOUCHING
from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.selection.record import Selection
from labor_lib.train import image_batches, predict

_CROSS = ndimage.generate_binary_structure(2, 1)  # a pixel, left, right, above and below it


def class_shares(labels: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """The part of the labelled pixels that each class holds: H x W maps -> C, sums to 1."""
    counts = np.zeros(classes)
    for label in labels:
        counts += np.bincount(label[label != IGNORE], minlength=classes)
    return counts / counts.sum()


def confusion_matrix(
    predictions: Iterable[np.ndarray], truths: Iterable[np.ndarray], classes: int
) -> np.ndarray:
    """Pixels of each true class (row) predicted as each class (column): H x W maps -> C x C."""
    counts = np.zeros(classes**2, int)
    for guess, truth in zip(predictions, truths, strict=True):
        known = truth != IGNORE
        pairs = truth[known].astype(int) * classes + guess[known]
        counts += np.bincount(pairs, minlength=classes**2)
    return counts.reshape(classes, classes)


def border_distance(truth: np.ndarray) -> np.ndarray:
    """Pixels to the nearest border between two classes: H x W uint8 -> H x W float.

    1 for a pixel with a neighbour (left, right, above, below) of another class, and so on by
    Euclid; infinite where the image has one class.
    """
    highest = ndimage.maximum_filter(truth, footprint=_CROSS)
    border = highest != ndimage.minimum_filter(truth, footprint=_CROSS)
    if not border.any():
        return np.full(truth.shape, np.inf)
    return 1 + ndimage.distance_transform_edt(~border)


def piece_sizes(asked: np.ndarray) -> np.ndarray:
    """Pixels of every connected piece (at edges and corners): H x W booleans -> n, ascending."""
    pieces = ndimage.label(asked, TOUCHING)[0]
    return np.sort(np.bincount(pieces.ravel())[1:])


def precision_recall(
    mask: np.ndarray, errors: np.ndarray, known: np.ndarray
) -> tuple[float, float]:
    """Of a mask as a detector of errors, over the known (not void) pixels; NaN for 0 / 0.

    precision: the share of the mask that is an error. recall: the share of errors in the mask.
    """
    hits = (mask & errors & known).sum()
    marked, wrong = (mask & known).sum(), (errors & known).sum()
    return (hits / marked if marked else np.nan, hits / wrong if wrong else np.nan)


def pseudo_label_quality(
    pseudo: Iterable[np.ndarray], truths: Iterable[np.ndarray], names: tuple[str, ...]
) -> pd.DataFrame:
    """How many pixels of each true class carry a pseudo label, and how many of those are wrong.

    pseudo, truths: H x W uint8, 255 = none. Index: class names. Columns: pixels (of the truth),
    coverage (share of them with a label), error (share of the labelled that are wrong; NaN where
    there is none).
    """
    label, truth = (np.concatenate([one.ravel() for one in maps]) for maps in (pseudo, truths))
    known = truth != IGNORE
    labelled = known & (label != IGNORE)
    pixels, given, wrong = (
        np.bincount(truth[part], minlength=len(names))
        for part in (known, labelled, labelled & (label != truth))
    )
    with np.errstate(invalid="ignore"):
        columns = {"pixels": pixels, "coverage": given / pixels, "error": wrong / given}
    return pd.DataFrame(columns, index=list(names))


def asked_pixels(selection: Selection, **maps: Sequence[np.ndarray]) -> pd.DataFrame:
    """A row per asked pixel: image, position, answer, and what every map says there.

    maps: by column name, each an H x W map per image of the selection.
    """
    positions = selection.positions
    rows = {
        "image": np.repeat(np.arange(len(positions)), [len(part) for part in positions]),
        "position": np.concatenate(positions),
        "answer": np.concatenate(selection.answers),
    }
    for name, stack in maps.items():
        parts = [values.flat[part] for values, part in zip(stack, positions, strict=True)]
        rows[name] = np.concatenate(parts)
    return pd.DataFrame(rows)


def predicted_labels(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config
) -> np.ndarray:
    """A segmenter's class ids for every image of a folder: N x H x W, uint8."""
    net.eval()
    batches = image_batches(folder, config, fabric.device)
    probs = (predict(fabric, net, images, folder.size) for images in batches)
    return np.concatenate([one.argmax(dim=1).byte().cpu().numpy() for one in probs])


@torch.no_grad()
def class_features(features: Tensor, label: np.ndarray) -> dict[int, np.ndarray]:
    """The mean feature vector of each class in one image: F x h x w, H x W -> {class: F}.

    The label is read at the centres of the feature cells.
    """
    height, width = features.shape[-2:]
    rows = ((np.arange(height) + 0.5) * label.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * label.shape[1] / width).astype(int)
    cells = label[np.ix_(rows, columns)]  # h x w
    flat = features.float().cpu().numpy()
    return {int(k): flat[:, cells == k].mean(axis=1) for k in np.unique(cells[cells != IGNORE])}


@torch.no_grad()
def pooled_features(net: nn.Module, images: Iterable[Tensor]) -> np.ndarray:
    """Mean and standard deviation over the image of the backbone's features: N x 2F.

    images: each 1 x 3 x H x W, normalised.
    """
    rows = []
    for image in images:
        features = net.backbone(image).float().flatten(2)[0]  # F x (h w)
        rows.append(torch.cat([features.mean(dim=1), features.std(dim=1)]).cpu().numpy())
    return np.stack(rows)


def proxy_a_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2 (1 - 2 error) of a linear classifier that tells two domains apart, in [0, 2].

    first, second: n x F and m x F features. The error is over five folds, each tested on what the
    classifier has not seen; one worse than chance counts as chance (Ben-David et al., 2007; 2010).
    """
    features = np.concatenate([first, second])
    domain = np.repeat([0, 1], [len(first), len(second)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with threadpool_limits(1, user_api="blas"):  # on a busy machine threads cost 90 times as much
        scores = cross_val_score(classifier, features, domain, cv=5, scoring="balanced_accuracy")
    return max(0.0, 2 * (2 * scores.mean() - 1))
