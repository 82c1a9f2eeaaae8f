"""From a point to its region: an answer also counts for the pixels round it that look alike.

Not in LabOR. Where superpixels are asked (MulActSeg, Hwang et al., NeurIPS 2023) an answer has a
region before it is given; here it grows from the asked pixel, by colour. How far is decided by the
answers themselves: each point is held back in turn, and the tolerance is the largest at which the
regions of the other points say what the person said. Pixels outside all regions can take IAST's
pseudo labels.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from torch import Tensor

from labor_lib.config import Config, RegionConfig
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.methods.labor import labor_step
from labor_lib.methods.source_only import segmentation_loss
from labor_lib.selection.record import Selection
from labor_lib.train import Batch, Labels

GROWN = 128  # is added to a label that nobody gave for this very pixel; at most 127 classes


def region(
    image: np.ndarray, row: int, column: int, tolerance: float, radius: int
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The pixels round one that look like it: a window of the image, and booleans of its size.

    image: H x W x 3. Each channel differs by at most `tolerance` from the pixel's; within `radius`
    pixels of it, and connected to it at edges.
    """
    height, width = image.shape[:2]
    window = (
        slice(max(row - radius, 0), min(row + radius + 1, height)),
        slice(max(column - radius, 0), min(column + radius + 1, width)),
    )
    rows, columns = np.ogrid[window]
    alike = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    alike &= np.abs(image[window] - image[row, column]).max(axis=2) <= tolerance
    pieces = ndimage.label(alike)[0]
    return window, pieces == pieces[row - window[0].start, column - window[1].start]


def regions(
    image: np.ndarray, positions: np.ndarray, answers: np.ndarray, tolerance: float, radius: int
) -> Iterator[tuple[tuple[slice, slice], np.ndarray, int]]:
    """For every answer that is not void its window, its region in it, and the answer."""
    if not tolerance:
        return
    for position, answer in zip(positions.tolist(), answers.tolist(), strict=True):
        if answer != IGNORE:
            place = divmod(position, image.shape[1])
            yield *region(image, *place, tolerance, radius), answer


def spread(
    image: np.ndarray,
    positions: np.ndarray,
    answers: np.ndarray,
    tolerance: float,
    radius: int,
    elsewhere: np.ndarray | None = None,
) -> np.ndarray:
    """The answers of one image with their regions: H x W uint8, 255 where nothing is known.

    An asked pixel has its answer, a grown one the answer + `GROWN`. Where regions of different
    answers overlap there is no label. tolerance: 0 grows nothing. elsewhere: pseudo labels, H x W
    uint8, for the pixels that have no label then; they count as grown.
    """
    label = np.full(image.shape[:2], IGNORE, np.uint8)
    disputed = np.zeros(image.shape[:2], bool)
    for window, inside, answer in regions(image, positions, answers, tolerance, radius):
        part = label[window]
        disputed[window] |= inside & (part != IGNORE) & (part != answer + GROWN)
        part[inside] = answer + GROWN
    label[disputed] = IGNORE
    if elsewhere is not None:
        free = (label == IGNORE) & (elsewhere != IGNORE)
        label[free] = elsewhere[free] + GROWN
    label.flat[positions] = answers
    return label


def held_back(
    image: np.ndarray, positions: np.ndarray, answers: np.ndarray, tolerance: float, radius: int
) -> tuple[int, int]:
    """How often a point lies in the region of another one, and how often both answers agree.

    Void counts as an answer that never agrees.
    """
    asked = np.zeros(image.shape[:2], bool)
    asked.flat[positions] = True
    truth = np.full(image.shape[:2], IGNORE, np.uint8)
    truth.flat[positions] = answers
    covered = agreed = 0
    for window, inside, answer in regions(image, positions, answers, tolerance, radius):
        others = inside & asked[window]
        covered += int(others.sum()) - 1  # without the point itself
        agreed += int((truth[window][others] == answer).sum()) - 1
    return covered, agreed


def _pixels(folder: SegmentationFolder, index: int) -> np.ndarray:
    return folder.image(index).permute(1, 2, 0).numpy().astype(np.int16)


def choose_tolerance(
    folder: SegmentationFolder, known: Selection, settings: RegionConfig
) -> tuple[float, float]:
    """The last tolerance whose held-back agreement reaches `purity`, and that agreement.

    They are tried in their order until one fails, or covers no held-back point. (0, NaN) where the
    first does: then answers are not spread.
    """
    best = (0.0, float("nan"))
    for tolerance in settings.tolerances:
        counts = [
            held_back(_pixels(folder, i), *asked, tolerance, settings.radius)
            for i, asked in enumerate(zip(known.positions, known.answers, strict=True))
        ]
        covered, agreed = map(sum, zip(*counts, strict=True))
        if covered == 0 or agreed / covered < settings.purity:
            break
        best = (tolerance, agreed / covered)
    return best


def filled_label(
    folder: SegmentationFolder,
    known: Selection,
    tolerance: float,
    radius: int,
    pseudo: Labels | None,
    index: int,
) -> np.ndarray:
    """The answers of one image of a split and what is filled in, H x W uint8 (`spread`)."""
    positions, answers = known.positions[index], known.answers[index]
    elsewhere = None if pseudo is None else np.asarray(pseudo(index))
    return spread(_pixels(folder, index), positions, answers, tolerance, radius, elsewhere)


def filled_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """LabOR's step, and cross-entropy on the filled-in labels, a mean of their own.

    The asked pixels are few and hard; in one mean they would drown among the others.
    """
    weight = config.adversarial.auxiliary_weight
    labels = batch.target_labels
    inferred = (labels >= GROWN) & (labels != IGNORE)
    batch.target_labels = labels.masked_fill(inferred, IGNORE)
    others = (labels - GROWN).masked_fill(~inferred, IGNORE)

    def further(levels) -> Tensor:
        return config.regions.weight * segmentation_loss(levels, others, weight)

    return labor_step(fabric, nets, opts, batch, config, further_loss=further)
