"""WDA: weak labels, which say which classes are in an image, or one point of each.

Paul et al., "Domain Adaptive Semantic Segmentation Using Weak Labels", ECCV 2020 (arXiv
2007.15176). A pooled prediction of the whole image learns the tags; features are pooled for each
class where the network sees it, and a discriminator for each class that is there aligns them.

Written from the paper's abstract and the authors' code (sujoyp/weak-da-seg: pooling, losses,
discriminators and weights were read there). Left out: dropout on the logits and the clipped
gradient, images translated from the source, and that a class counts as present from a tenth of its
mean number of pixels on; here one labelled pixel is enough.

What a person says of an image comes as one labelled pixel of each class. `wda_tags_step` reads
which classes these are and never where.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import Config
from labor_lib.methods.classwise import Vectors, classwise_step
from labor_lib.methods.source_only import pixel_cross_entropy
from labor_lib.train import Batch


def tags_of(labels: Tensor, classes: int) -> Tensor:
    """Which classes are labelled in each map: B x H x W -> B x C booleans."""
    pixels = labels.flatten(1)
    return torch.stack([(pixels == index).any(dim=1) for index in range(classes)], dim=1)


def smooth_max(logits: Tensor, k: float = 1.0) -> Tensor:
    """(1/k) log mean exp(k x) over the pixels: B x C x h x w -> B x C (section 3.3; k = 1)."""
    pixels = logits.float().flatten(2)
    return (torch.logsumexp(k * pixels, dim=2) - math.log(pixels.shape[2])) / k


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """L_c: binary cross-entropy of sigmoid(smooth maximum) with the tags, mean over B x C."""
    return F.binary_cross_entropy_with_logits(smooth_max(logits), tags.float())


def attended_features(features: Tensor, logits: Tensor) -> Tensor:
    """Mean features weighted, for each class, by the softmax of its logits over the *pixels*.

    features: B x F x h x w, logits: B x C x h x w -> B x C x F (section 3.4); no gradient reaches
    the weights, as in the authors' code.
    """
    attention = logits.detach().float().flatten(2).softmax(dim=2)  # B x C x pixels
    return attention @ features.float().flatten(2).transpose(1, 2)


def wda_tags_step(
    fabric, nets, opts, batch: Batch, config: Config, points: bool = False
) -> dict[str, float]:
    """AdaptSegNet's step, L_c and L_adv^C. points: also cross-entropy where the labels are."""

    def vectors(features: Tensor, logits: Tensor, labels: Tensor) -> Vectors:
        return attended_features(features, logits), tags_of(labels, logits.shape[1])

    def of_source(features: Tensor, logits: Tensor) -> Vectors:
        return vectors(features, logits, batch.source_labels)

    def of_target(calls) -> tuple[Tensor, Vectors]:
        features, logits = calls[1]
        found = vectors(features, logits, batch.target_labels)
        loss = config.rivals.tag_weight * tag_loss(logits, found[1])
        if points:
            loss = loss + pixel_cross_entropy(logits, batch.target_labels)
        return loss, found

    return classwise_step(fabric, nets, opts, batch, config, of_source, of_target)


def wda_points_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """The same with the points' places."""
    return wda_tags_step(fabric, nets, opts, batch, config, points=True)
