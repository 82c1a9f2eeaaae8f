"""RIPU's choices: where many classes meet and the network is unsure.

Xie et al., "Towards Fewer Annotations: Active Learning via Region Impurity and Prediction
Uncertainty for Domain Adaptive Semantic Segmentation", CVPR 2022. Both variants multiply an entropy
of the network's with the entropy of the histogram of predicted classes in a window, and leave out
what is round a choice in this and all later rounds. Constants as in the authors' code.
"""

import math

import torch
from torch import Tensor

from labor_lib.selection.candidates import Candidates, box_sum, greedy, near, square
from labor_lib.selection.scores import entropy


def window_cuts(like: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """2 radius + 1 over the rows, and over the columns, that a window has inside the image.

    like: H x W -> H x 1 and 1 x W; both are 1 but near the border.
    """
    ones = torch.ones_like(like, dtype=torch.float)
    rows, columns = ((2 * radius + 1) / box_sum(x, radius) for x in (ones[:, :1], ones[:1]))
    return rows, columns


def impurity(predicted: Tensor, classes: int, radius: int) -> Tensor:
    """Entropy, in nats, of the histogram of predicted classes in each pixel's window: H x W.

    predicted: H x W class numbers. The window is cut at the border. The counts are whole numbers,
    so that -n/s log(n/s) comes from a table: s is the full window's size, and a window of N pixels
    has the entropy s/N (sum of these) - log s/N; s/N is a product of rows and columns. Small
    windows count two classes at once, as the two digits of one number.
    """
    device, full = predicted.device, (2 * radius + 1) ** 2
    shares = torch.arange(full + 1, device=device) / full
    table = -shares * (shares + 1e-6).log()
    step = 2 if (full + 1) ** 2 <= 256 else 1
    if step == 2:
        table = (table[:, None] + table).flatten()
    total = torch.zeros(predicted.numel(), device=device)
    numbers = predicted.flatten().int()
    for k in range(0, classes, step):
        worth = torch.zeros(classes + 1, dtype=torch.uint8, device=device)
        worth[k], worth[k + step - 1] = full + 1 if step == 2 else 1, 1
        here = worth.index_select(0, numbers).view(predicted.shape)
        counts = box_sum(here if full < 256 else here.int(), radius)
        total += table.index_select(0, counts.flatten().int())
    rows, columns = window_cuts(predicted, radius)
    total = total.view(predicted.shape).mul_(rows).mul_(columns)
    return total.sub_(rows.log()).sub_(columns.log())


def region_score(image: Candidates, radius: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Score, impurity and uncertainty of the region round each pixel: three times H x W, 0 to 1.

    Score = impurity x uncertainty, the window's mean entropy; both entropies divided by log C.
    """
    classes = len(image.probs)
    impure = impurity(image.predicted, classes, radius).div_(math.log(classes))
    rows, columns = window_cuts(image.predicted, radius)
    uncertain = box_sum(entropy(image), radius).mul_(rows).mul_(columns)
    uncertain /= (2 * radius + 1) ** 2 * math.log(classes)
    return impure * uncertain, impure, uncertain


def ripu_points(image: Candidates, radius: int | None = None) -> Tensor:
    """RIPU's pixel annotation (PA): entropy x impurity of a large window, in which one is asked.

    radius: by default theirs, 32 pixels in an image 2048 wide, in proportion.
    """
    if radius is None:
        radius = max(1, round(32 * image.taken.shape[1] / 2048))
    scores = entropy(image) * impurity(image.predicted, len(image.probs), radius)
    chosen = greedy(scores, image.budget, square(radius), before=image.taken)
    return torch.tensor(sorted(chosen), dtype=torch.long)


def ripu_regions(image: Candidates, radius: int = 1) -> Tensor:
    """RIPU's region annotation (RA): whole windows of 3 x 3 pixels that do not touch.

    The budget is spent to the pixel: the last region may be asked in part, where the authors' code
    rounds the number of regions up.
    """
    score = region_score(image, radius)[0].masked_fill(near(image.taken, radius), -torch.inf)
    smallest = (radius + 1) ** 2  # pixels of a region in a corner
    centres = greedy(score, math.ceil(image.budget / smallest), square(2 * radius))
    height, width = image.taken.shape
    asked: list[int] = []
    for row, column in (divmod(centre, width) for centre in centres):
        rows = range(max(0, row - radius), min(height, row + radius + 1))
        columns = range(max(0, column - radius), min(width, column + radius + 1))
        asked += [i * width + j for i in rows for j in columns]
        if len(asked) >= image.budget:
            break
    return torch.tensor(sorted(asked[: image.budget]), dtype=torch.long)
