"""ASS: a few wholly labelled images of the target, and features aligned class by class.

Wang et al., "Alleviating Semantic-level Shift", CVPR Workshops 2020 (arXiv 2004.00794). Source
labels, labels of a few random target images, AdaptSegNet's adversary of the outputs, and a
semantic-level one: the mean feature of every class in a labelled image, source against target.

Only the abstract could be read. Ours are therefore: the features (those that the main classifier
sees), labels brought to their stride by nearest neighbour, the discriminators (one for each class,
WDA's), their weight (WDA's), and that target features move and source features stay. The first
stages have a part of the images, as LabOR's have a part of the points; the paper has all at once.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import Config
from labor_lib.methods.aada import labelled_loss
from labor_lib.methods.classwise import Vectors, classwise_step
from labor_lib.train import Batch


def class_means(features: Tensor, labels: Tensor, classes: int) -> Vectors:
    """The mean feature of each class by label. features: B x F x h x w, labels: B x H x W."""
    small = F.interpolate(labels[:, None].float(), size=features.shape[-2:])[:, 0]  # B x h x w
    own = torch.stack([small == index for index in range(classes)], dim=1).flatten(2).float()
    pixels = own.sum(dim=2)  # B x C
    sums = own @ features.float().flatten(2).transpose(1, 2)  # B x C x F
    return sums / pixels.clamp(min=1)[..., None], pixels > 0


def ass_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """AADA's step and the semantic-level adversary on its labelled images."""

    def of_source(features: Tensor, logits: Tensor) -> Vectors:
        return class_means(features, batch.source_labels, logits.shape[1])

    def of_target(calls) -> tuple[Tensor, Vectors]:
        loss = labelled_loss(nets, batch, config)
        features, logits = calls[-1]
        return loss, class_means(features, batch.labelled_labels, logits.shape[1])

    return classwise_step(fabric, nets, opts, batch, config, of_source, of_target)
