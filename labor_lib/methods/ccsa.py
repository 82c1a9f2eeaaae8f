"""CCSA: pull the same class of two domains together, push different classes apart.

Motiian et al., "Unified Deep Supervised Domain Adaptation and Generalization", ICCV 2017 (eq. 2-6).
For pairs of a source image i and one of the few labelled target images j, with an embedding g, a
classifier h, and same = 1 where the two classes agree, else 0:

    L = (1 - alpha) CE(h(g(x)), y) + alpha [ same d^2 + (1 - same) max(0, margin - d)^2 ]
    d = |g(x_i) - g(x_j)|

The pairs are all of one class and three times as many of two. Every step has two updates: in the
first x is the pair's source image, in the second its target image, so that the classifier sees both
domains' labels.

An image stands in many pairs: at n target images a class, a source image in 4 n of them. So a step
takes *images*, with all their pairs, embeds each once and forms the pairs on the embeddings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import CcsaConfig
from labor_lib.errors import InputError

# ------------------------------------------------------------------------------------- losses


def distances(first: Tensor, second: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Euclidean distance of the rows of two P x F embeddings: P. At least sqrt(epsilon).

    The floor is the authors'; below it the gradient is 0 instead of infinite.
    """
    return (first - second).square().sum(dim=1).clamp(min=epsilon).sqrt()


def contrastive_loss(distance: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """Semantic alignment and separation (eq. 3 and 4), mean over the P pairs.

    distance: P. same: P, bool: pairs of one class are pulled together (d^2), the others pushed
    apart until `margin`.
    """
    pulled = distance.square()
    pushed = (margin - distance).clamp(min=0).square()
    return torch.where(same, pulled, pushed).mean()


def ccsa_loss(
    logits: Tensor, labels: Tensor, distance: Tensor, same: Tensor, alpha=0.25, margin=1.0
) -> Tensor:
    """(1 - alpha) classification + alpha (alignment + separation), means over the P pairs.

    logits: P x classes, of one image of every pair. labels: P, its class. distance, same: as in
    `contrastive_loss`.
    """
    classification = F.cross_entropy(logits, labels)
    return (1 - alpha) * classification + alpha * contrastive_loss(distance, same, margin)


# -------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class Pairs:
    """Pairs of image numbers, ordered by their source image.

    source, target: P, int64. first: for each source image the place of its first pair, and P last.
    """

    source: Tensor
    target: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def of(self, sources: Tensor) -> tuple[Tensor, Tensor]:
        """All pairs of these source images: (place in `sources`, target image number) of each."""
        counts = self.first[sources + 1] - self.first[sources]
        place = torch.repeat_interleave(torch.arange(len(sources)), counts)
        start = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        within = torch.arange(len(place)) - start
        return place, self.target[self.first[sources][place] + within]


def make_pairs(source_labels: Tensor, target_labels: Tensor, negatives: int, seed: int) -> Pairs:
    """All cross-domain pairs of one class, and `negatives` times as many of two, drawn once.

    Labels: class numbers of all source and of all labelled target images, int64.
    Raises InputError where no class is in both domains.
    """
    same = source_labels[:, None] == target_labels[None, :]  # N_s x N_t
    positive, negative = same.nonzero(), (~same).nonzero()  # P x 2
    if not len(positive):
        raise InputError("no class has labelled images in both domains: CCSA has nothing to pair")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(negative), generator=generator)[: negatives * len(positive)]
    pairs = torch.cat([positive, negative[drawn]])
    pairs = pairs[pairs[:, 0].argsort(stable=True)]
    counts = torch.bincount(pairs[:, 0], minlength=len(source_labels))
    first = F.pad(counts.cumsum(0), (1, 0))
    return Pairs(pairs[:, 0].contiguous(), pairs[:, 1].contiguous(), first)


# --------------------------------------------------------------------------------------- step


def ccsa_step(fabric, nets, opts, batch, cfg: CcsaConfig) -> dict[str, float]:
    """Two updates on the pairs of a batch of source images; each embeds every image once.

    batch: source images S x C x H x W and labels, target images T x C x H x W and labels, and
    `pairs` P x 2, places in these. Departures from the authors: pairs of one image lie in one step
    and share its dropout mask below the embedding (the mask before the classifier is every pair's
    own), and a step holds the pairs of so many images, not so many pairs (see `CCSA_DIGITS`).
    """
    net, optimizer = nets["net"], opts["net"]
    i, j = batch.pairs.unbind(dim=1)
    labels = {"source": batch.source_labels[i], "target": batch.target_labels[j]}  # P each
    same = labels["source"] == labels["target"]
    images = torch.cat([batch.source_images, batch.target_images])  # (S + T) x C x H x W
    losses = {}

    for stream in ("source", "target"):
        # 1. every image once, then pairs by index
        with fabric.autocast():
            embedded = net.features(images).float()  # (S + T) x F
        j_there = len(batch.source_images) + j
        pair = {"source": embedded.index_select(0, i), "target": embedded.index_select(0, j_there)}

        # 2. this stream's class, and the distance across the domains
        logits = net.classifier(pair[stream])
        distance = distances(pair["source"], pair["target"])
        loss = ccsa_loss(logits, labels[stream], distance, same, cfg.alpha, cfg.margin)

        # 3. update
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses[stream] = loss.item()
    return losses
