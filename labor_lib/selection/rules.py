"""Which pixels to ask: pure rules from one image's probabilities to flat positions.

A rule is a function `Candidates -> positions`; a new one is a function and a line in `RULES`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.selection import scores
from labor_lib.selection.candidates import Candidates
from labor_lib.selection.labor import (
    ppl,
    ppl_filled,
    ppl_random,
    representative_points,
    spl,
    spl_spaced,
)
from labor_lib.selection.ripu import ripu_points, ripu_regions
from labor_lib.selection.scores import Rule, best, sampled, spaced

__all__ = ["COMPARE", "RULES", "SCORED", "Candidates", "representative_points"]


def random(image: Candidates) -> Tensor:
    """Uniform over the image: the control for every choice of pixels or points."""
    return image.sample(~image.taken)


def weak_points(image: Candidates) -> Tensor:
    """A random pixel of each predicted class, the largest class first: at most `budget`.

    After the points of weak domain adaptation (Paul et al., ECCV 2020), where a person clicks one
    random pixel of each class that is there: here the network says which are.
    """
    sizes = image.predicted[~image.taken].bincount(minlength=len(image.probs))
    found = []
    for k in sizes.argsort(descending=True, stable=True)[: image.budget].tolist():
        members = ((image.predicted == k) & ~image.taken).flatten().nonzero()[:, 0]
        if len(members):
            found.append(int(members[torch.randint(len(members), (), generator=image.generator)]))
    return torch.tensor(sorted(found), dtype=torch.long)


def core_set(image: Candidates, pool: int = 2048) -> Tensor:
    """Core-set: the pixel farthest in feature space from all that are asked, again and again.

    k-centre greedy (Sener and Savarese, ICLR 2018), within the image: centres are the pixels asked
    before, at first the mean. Chooses from a uniform sample of at least `pool` pixels and four
    times the budget. Meant for points: its time grows with the square of the budget.
    """
    height, width = image.taken.shape

    def features(positions):  # flat positions -> n x F, bilinear
        rows, columns = positions // width, positions % width
        places = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
        options = {"padding_mode": "border", "align_corners": False}
        return F.grid_sample(image.features[None], places[None, None], **options)[0, :, 0].T

    where = image.sample(~image.taken, max(pool, 4 * image.budget))
    if len(where) == 0:
        return where
    vectors = features(where)
    before = image.taken.flatten().nonzero()[:, 0]
    centres = features(before) if len(before) else vectors.mean(dim=0, keepdim=True)
    distances = torch.cdist(vectors, centres).amin(dim=1)
    chosen = []
    for _ in range(min(image.budget, len(where))):
        chosen.append(distances.argmax())
        distances = distances.minimum((vectors - vectors[chosen[-1]]).norm(dim=1))
        distances[chosen[-1]] = -1.0  # not even where all others are equal to it
    return where[torch.stack(chosen)].sort().values


SCORES = {
    "entropy": scores.entropy,
    "least_confidence": scores.least_confidence,
    "margin": scores.margin,
    "balanced_margin": scores.balanced_margin,
    "rare_margin": scores.rare_margin,
    "discrepancy": scores.discrepancy,
}
FLAVOURS = {"": best, "_sampled": sampled, "_spaced": spaced}
SCORED = {
    name + end: make(score) for name, score in SCORES.items() for end, make in FLAVOURS.items()
}
margin = SCORED["margin"]

RULES: dict[str, Rule] = {
    "spl": spl,
    "spl_spaced": spl_spaced,
    "ppl": ppl,
    "ppl_filled": ppl_filled,
    "ppl_random": ppl_random,
    "random": random,
    "weak_points": weak_points,
    "core_set": core_set,
    "ripu_points": ripu_points,
    "ripu_regions": ripu_regions,
    **SCORED,
}
# rules that compare two classifiers: a method with one has a pixel selector
COMPARE = {
    "spl",
    "spl_spaced",
    "ppl",
    "ppl_filled",
    "ppl_random",
    *(f"discrepancy{end}" for end in FLAVOURS),
}
