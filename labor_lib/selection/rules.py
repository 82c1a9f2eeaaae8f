"""Which pixels to ask: pure rules from probabilities to a selection.

Every rule has the same form: probabilities B x C x H x W (of the two classifiers of the pixel
selector, or twice the segmenter's), `budget` (pixels an image in this stage), `taken`
(B x H x W, pixels asked before) and a generator on the CPU. No model, no file.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from labor_lib.methods.labor import inconsistency_mask
from labor_lib.selection.record import Selection


def _highest(scores: Tensor, budget: int) -> Tensor:
    """B x H x W booleans: the `budget` highest finite scores of each image."""
    flat = scores.flatten(1)
    best = flat.topk(min(budget, flat.shape[1]), dim=1)
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen.scatter_(1, best.indices, best.values.isfinite())
    return chosen.view(scores.shape)


def _uniform(allowed: Tensor, budget: int, generator: Generator) -> Tensor:
    """A uniform sample of at most `budget` of the allowed pixels of each image."""
    scores = torch.rand(allowed.shape, generator=generator).to(allowed.device)
    return _highest(scores.masked_fill(~allowed, -torch.inf), budget)


def spl(first: Tensor, second: Tensor, budget: int, taken: Tensor, generator: Generator):
    """SPL: every pixel where the classifiers disagree (LabOR, section 3.3).

    `budget` is only a cap: an image whose mask is larger is asked a uniform sample of it.
    """
    mask = inconsistency_mask(first, second) & ~taken
    return Selection.from_masks(_uniform(mask, budget, generator))


def spl_sampled(first: Tensor, second: Tensor, budget: int, taken: Tensor, generator: Generator):
    """A uniform sample of a mask that is larger than the budget.

    Not in the paper. A small mask hugs a few borders; a sample of a large one spreads. Where the
    mask is smaller than the budget, all of it is asked and the rest is not spent.
    """
    return spl(first, second, budget, taken, generator)


def ppl(first: Tensor, second: Tensor, budget: int, taken: Tensor, generator: Generator):
    """PPL: one point per predicted class, the uncertain pixel nearest to the class's mean.

    D(k) = pixels of the mask predicted k; mu(k) = mean of their probability vectors; the pixel of
    D(k) with the highest cosine to mu(k) is asked (LabOR, section 3.4). The paper does not say
    whose probabilities: we take the mean of both classifiers. Pixels asked before are left out of
    D(k) and of its mean. Where there are more classes than `budget`, the largest D(k) are served.
    """
    probs = (first + second) / 2
    allowed = inconsistency_mask(first, second) & ~taken
    chosen = torch.zeros_like(allowed)
    for vectors, inside, out in zip(
        probs.flatten(2), allowed.flatten(1), chosen.flatten(1), strict=True
    ):
        points = representative_points(vectors.T[inside])
        where = inside.nonzero()[:, 0]
        out[where[points[:budget]]] = True
    return Selection.from_masks(chosen)


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


def random(first: Tensor, second: Tensor, budget: int, taken: Tensor, generator: Generator):
    """Uniform over the image: the control for every choice of pixels or points."""
    return Selection.from_masks(_uniform(~taken, budget, generator))


def margin(first: Tensor, second: Tensor, budget: int, taken: Tensor, generator: Generator):
    """The smallest difference between the two most probable classes (Scheffer et al., 2001)."""
    two = ((first + second) / 2).topk(2, dim=1).values  # B x 2 x H x W
    margin = two[:, 0] - two[:, 1]
    return Selection.from_masks(_highest((-margin).masked_fill(taken, -torch.inf), budget))


RULES = {
    "spl": spl,
    "spl_sampled": spl_sampled,
    "ppl": ppl,
    "random": random,
    "margin": margin,
}
