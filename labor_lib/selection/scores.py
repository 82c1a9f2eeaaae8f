"""How uncertain each pixel is, and the ways to choose by it.

A score is a function `Candidates -> H x W`, higher where a label is expected to teach more. A
flavour turns it into a rule; each works with every score.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labor_lib.selection.candidates import Candidates, disc, greedy, highest

Score = Callable[[Candidates], Tensor]
Rule = Callable[[Candidates], Tensor]  # -> int64 positions, row * W + column, rising


def entropy(image: Candidates) -> Tensor:
    """-sum p log(p + 1e-6), in nats; the constant is RIPU's."""
    return -(image.probs + 1e-6).log_().mul_(image.probs).sum(dim=0)


def least_confidence(image: Candidates) -> Tensor:
    """Minus the highest probability (Lewis and Gale, 1994)."""
    return -image.probs.amax(dim=0)


def _two_best(probs: Tensor) -> tuple[Tensor, Tensor]:
    """The highest and the second highest probability: C x H x W -> twice H x W."""
    best, second = probs[0].clone(), torch.full_like(probs[0], -torch.inf)
    for values in probs[1:]:
        torch.maximum(second, torch.minimum(best, values), out=second)
        torch.maximum(best, values, out=best)
    return best, second


def margin(image: Candidates) -> Tensor:
    """Minus the difference between the two most probable classes (Scheffer et al., 2001)."""
    best, second = _two_best(image.probs)
    return second - best


def balanced_margin(image: Candidates, nu: float = 6.0, power: float = 2.0) -> Tensor:
    """MulActSeg's class-balanced margin (Hwang et al., NeurIPS 2023): rare classes come first.

    p2 / p1 of the two most probable classes, times (nu m + 1)^-power of the most probable one, m
    its mean probability over the split. nu: 6 is theirs on Cityscapes, 12 on PASCAL VOC. power: 2
    is theirs.
    """
    best, second = _two_best(image.probs)
    weights = (nu * image.class_means + 1) ** -power
    return second / best * weights[image.predicted]


def rare_margin(image: Candidates) -> Tensor:
    """`balanced_margin` with the square root of its weights, a departure from MulActSeg.

    Theirs takes so many points from the frequent classes that these get worse (scenes 100, val,
    one seed: the IoU of sidewalk falls by 5, and that of traffic sign rises by 5).
    """
    return balanced_margin(image, power=1.0)


def discrepancy(image: Candidates) -> Tensor:
    """MCD's discrepancy of the two classifiers in each pixel: mean over classes of |p1 - p2|.

    Its region is where LabOR's mask is, but a soft one (Saito et al., CVPR 2018, eq. 1).
    """
    return (image.first - image.second).abs_().mean(dim=0)


# ------------------------------------------------------------------------------------ flavours


def best(score: Score) -> Rule:
    """The pixels of the highest scores."""

    def rule(image: Candidates) -> Tensor:
        return image.highest(score(image).masked_fill(image.taken, -torch.inf))

    return rule


def sampled(score: Score, share: float = 0.05) -> Rule:
    """A uniform sample of the image's `share` of the highest scores (PixelPick, Shin et al., 2021).

    Similar pixels have similar scores; a sample is spread over more of them. A budget beyond
    `share` takes the highest scores alone.
    """

    def rule(image: Candidates) -> Tensor:
        scores = score(image).masked_fill(image.taken, -torch.inf)
        part = highest(scores, max(image.budget, math.ceil(share * scores.numel())))
        chosen = torch.randperm(len(part), generator=image.generator)[: image.budget]
        return part[chosen.to(part.device)].sort().values

    return rule


def spaced(score: Score, radius: int = 4) -> Rule:
    """The highest scores, none within `radius` pixels of another or of a pixel asked before.

    The disc round each choice is left out of the next one. Fewer than the budget are asked where
    no pixel outside the discs is left.
    """

    def rule(image: Candidates) -> Tensor:
        chosen = greedy(score(image), image.budget, disc(radius), before=image.taken)
        return torch.tensor(sorted(chosen), dtype=torch.long)

    return rule
