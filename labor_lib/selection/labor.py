"""LabOR's choices, and what can be added to them. Where the paper ends is said at each."""

from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.selection.candidates import Blanks, Candidates, near, square

NEAR_ASKED, NEAR_VOID = 4, 12  # pixels: the windows round earlier questions are 9 and 25 wide


def spl(image: Candidates) -> Tensor:
    """SPL: the pixels where the classifiers disagree (LabOR, section 3.3).

    A mask of more pixels than the budget is sampled uniformly. For the paper's whole mask the
    budget is only a cap; sampling a larger mask spreads the questions, where a small one follows a
    few borders (not in the paper).
    """
    return image.sample(image.mask)


def ppl(image: Candidates) -> Tensor:
    """PPL: one point per predicted class, the uncertain pixel nearest to the class's mean.

    M_k = pixels of the mask predicted k (the paper writes D(k)); mu(k) = mean of their probability
    vectors; the pixel of M_k with the highest cosine to mu(k) is asked (LabOR, section 3.4). The
    paper does not say whose probabilities: we take the mean of both classifiers. Pixels asked
    before are left out of M_k and of its mean. Where there are more classes than `budget`, the
    largest M_k are served.
    """
    where, vectors = _uncertain(image)
    return where[representative_points(vectors)[: image.budget]].sort().values


def _uncertain(image: Candidates) -> tuple[Tensor, Tensor]:
    """Flat positions of the mask's n pixels and their mean probabilities, n x C."""
    where = image.mask.flatten().nonzero()[:, 0]
    places = where.int()  # index_select is faster by int32
    first, second = (p.flatten(1).index_select(1, places) for p in (image.first, image.second))
    return where, ((first + second) / 2).T.contiguous()


def by_similarity(vectors: Tensor) -> list[Tensor]:
    """For each predicted class the indices of its vectors, the most representative first.

    vectors: n x C probabilities of the uncertain pixels of one image -> at most C lists, that of
    the largest class first, each by falling cosine to the class's mean vector.
    """
    predicted = vectors.argmax(dim=1)
    sizes = torch.bincount(predicted, minlength=vectors.shape[1])
    by_class = predicted.argsort(stable=True).split(sizes.tolist())
    orders = []
    for k in sizes.argsort(descending=True, stable=True).tolist():
        if len(by_class[k]):
            members = vectors[by_class[k]]
            similarity = F.cosine_similarity(members, members.mean(dim=0, keepdim=True))
            orders.append(by_class[k][similarity.argsort(descending=True, stable=True)])
    return orders


def representative_points(vectors: Tensor) -> Tensor:
    """For each predicted class the index of its most representative vector, largest class first.

    vectors: n x C probabilities of the uncertain pixels of one image -> at most C indices.
    """
    orders = by_similarity(vectors)
    return torch.stack([order[0] for order in orders]) if orders else torch.empty(0).long()


def ppl_random(image: Candidates) -> Tensor:
    """PPL without its prototype: a random pixel of every M_k, that of the largest first.

    A control that the paper does not have: what are the mask and "one per class" worth alone?
    """
    where, vectors = _uncertain(image)
    chosen = [
        where[members[torch.randint(len(members), (), generator=image.generator)]]
        for members in by_similarity(vectors)[: image.budget]
    ]
    return torch.stack(chosen).sort().values if chosen else where[:0]


def _elsewhere(image: Candidates) -> Tensor:
    """Neither near a pixel asked before nor near one that was void: H x W booleans."""
    return ~(near(image.taken, NEAR_ASKED) | near(image.void, NEAR_VOID))


def ppl_filled(image: Candidates) -> Tensor:
    """PPL until its budget is spent, the points spaced. A departure from the paper.

    The paper asks one point a class and stops there, with fewer than its budget where few classes
    are uncertain. Here every class in turn, that of the largest M_k first, is asked its next most
    representative pixel, until the budget is spent or M_k is. None is asked in the 9 x 9 window of
    a point asked in this stage or an earlier one, nor in the 25 x 25 window of one that was void:
    near by, the answer is likely to be the same. M_k and mu(k) are the paper's.
    """
    where, vectors = _uncertain(image)
    blanks = Blanks(_elsewhere(image).cpu().numpy(), square(NEAR_ASKED))
    queues = [
        filter(blanks.choose, where[order].tolist()) for order in by_similarity(vectors)
    ]  # each yields its class's next pixel that is still free
    chosen: list[int] = []
    while len(chosen) < image.budget:
        found = [point for queue in queues for point in islice(queue, 1)]
        if not found:
            break
        chosen += found
    return torch.tensor(sorted(chosen[: image.budget]), dtype=torch.long)


def spl_spaced(image: Candidates) -> Tensor:
    """SPL, sampled, spaced over stages. A departure from the paper.

    Of the mask only what lies outside the 9 x 9 windows of the pixels asked in earlier stages and
    the 25 x 25 windows of the void ones among them. Within a stage nothing is spaced, so the first
    one is SPL's; later ones ask fewer pixels than the budget where little of the mask is left.
    """
    return image.sample(image.mask & _elsewhere(image))
