"""Which pixels to ask: pure rules from one image's probabilities to flat positions.

A rule is a function `Candidates -> positions`; a new one is a function here and a line in `RULES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from labor_lib.methods.labor import inconsistency_mask


@dataclass
class Candidates:
    """What a rule is given of one image.

    first, second: C x H x W probabilities of the selector's two classifiers, or twice those of the
    segmenter. budget: pixels to ask in this stage. taken: H x W booleans, asked before. generator:
    of random numbers, on the CPU. compute_features: the network's F x h x w features, computed when
    a rule reads `features`.
    """

    first: Tensor
    second: Tensor
    budget: int
    taken: Tensor | None = None
    generator: Generator = field(default_factory=Generator)
    compute_features: Callable[[], Tensor] | None = None

    def __post_init__(self):
        if self.taken is None:
            self.taken = torch.zeros_like(self.first[0], dtype=torch.bool)

    @cached_property
    def features(self) -> Tensor:
        return self.compute_features()

    @cached_property
    def probs(self) -> Tensor:
        """Mean of both classifiers: C x H x W."""
        return (self.first + self.second) / 2

    @cached_property
    def mask(self) -> Tensor:
        """Where the classifiers disagree and nothing was asked before: H x W booleans."""
        return inconsistency_mask(self.first[None], self.second[None])[0] & ~self.taken

    def highest(self, scores: Tensor) -> Tensor:
        """The positions, at most `budget`, of the highest finite scores; scores: H x W."""
        best = scores.flatten().topk(min(self.budget, scores.numel()))
        return best.indices[best.values.isfinite()].sort().values

    def sample(self, allowed: Tensor) -> Tensor:
        """At most `budget` of the allowed positions, uniformly; allowed: H x W booleans."""
        scores = torch.rand(allowed.shape, generator=self.generator).to(allowed.device)
        return self.highest(scores.masked_fill(~allowed, -torch.inf))


Rule = Callable[[Candidates], Tensor]  # -> int64 positions, row * W + column, rising


def spl(image: Candidates) -> Tensor:
    """SPL: the pixels where the classifiers disagree (LabOR, section 3.3).

    A mask of more pixels than the budget is sampled uniformly. For the paper's whole mask the
    budget is only a cap; sampling a larger mask spreads the questions, where a small one follows a
    few borders (not in the paper).
    """
    return image.sample(image.mask)


def ppl(image: Candidates) -> Tensor:
    """PPL: one point per predicted class, the uncertain pixel nearest to the class's mean.

    D(k) = pixels of the mask predicted k; mu(k) = mean of their probability vectors; the pixel of
    D(k) with the highest cosine to mu(k) is asked (LabOR, section 3.4). The paper does not say
    whose probabilities: we take the mean of both classifiers. Pixels asked before are left out of
    D(k) and of its mean. Where there are more classes than `budget`, the largest D(k) are served.
    """
    where = image.mask.flatten().nonzero()[:, 0]
    points = representative_points(image.probs.flatten(1).T[where])
    return where[points[: image.budget]].sort().values


def representative_points(vectors: Tensor) -> Tensor:
    """For each predicted class the index of its most representative vector, largest class first.

    vectors: n x C probabilities of the uncertain pixels of one image -> at most C indices.
    """
    predicted = vectors.argmax(dim=1)
    points = []
    sizes = torch.bincount(predicted, minlength=vectors.shape[1])
    for k in sizes.argsort(descending=True, stable=True).tolist():
        members = (predicted == k).nonzero()[:, 0]
        if len(members):
            prototype = vectors[members].mean(dim=0, keepdim=True)
            similarity = F.cosine_similarity(vectors[members], prototype)
            points.append(members[similarity.argmax()])
    return torch.stack(points) if points else torch.empty(0, dtype=torch.long)


def random(image: Candidates) -> Tensor:
    """Uniform over the image: the control for every choice of pixels or points."""
    return image.sample(~image.taken)


def margin(image: Candidates) -> Tensor:
    """The smallest difference between the two most probable classes (Scheffer et al., 2001)."""
    two = image.probs.topk(2, dim=0).values  # 2 x H x W
    return image.highest((two[1] - two[0]).masked_fill(image.taken, -torch.inf))


RULES: dict[str, Rule] = {"spl": spl, "ppl": ppl, "random": random, "margin": margin}
