"""Which whole images to ask: a score of each, and the highest are asked at every pixel.

A rule of `selection.rules` chooses pixels of one image, and all images have the same budget. Here
the budget of the whole split goes to a few images. A new score is a function `Candidates -> number`
and a line in `IMAGE_SCORES`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labor_lib.selection.candidates import Candidates
from labor_lib.selection.record import Selection
from labor_lib.selection.scores import entropy


def aada(image: Candidates) -> Tensor:
    """AADA: s(x) = (1 - D(x)) / D(x) H(x), unlike the source and uncertain (Su et al., WACV 2020).

    D(x): the probability of being source, H(x): the prediction's entropy. Our discriminator says 1
    for the target and gives a logit z for every patch, so that D is the mean of sigmoid(-z); of one
    patch the weight would be exp(z). H is the mean over the pixels. The formula was read in
    CLUE's code (virajprabhu/CLUE, sample.py), which draws from the best 2 % and says that AADA's
    authors recommend it; with few images to choose from, we take the highest scores.
    """
    source = torch.sigmoid(-image.domain_logits.float()).mean().clamp(min=1e-6)
    return (1 - source) / source * entropy(image).mean()


def random_images(image: Candidates) -> Tensor:
    """The control for every choice of images."""
    return torch.rand((), generator=image.generator)


IMAGE_SCORES = {"aada": aada, "random_images": random_images}


def whole_images(scores: Sequence[float], budget: int, taken: Selection) -> list[np.ndarray]:
    """Positions to ask of each image: all or none of them.

    budget: pixels an image, as a rule has it. They pay for budget x images / (pixels of an image)
    whole images, rounded, but for one at least. An image that was asked is not asked again; of
    equal scores the first one counts.
    """
    pixels = taken.size[0] * taken.size[1]
    number = max(1, round(budget * len(scores) / pixels))
    order = np.argsort(-np.asarray(scores), kind="stable")
    chosen = [i for i in order.tolist() if len(taken.positions[i]) == 0][:number]
    return [np.arange(pixels if i in chosen else 0) for i in range(len(scores))]
