"""The baselines of image classification: cross-entropy on whatever labels there are.

    L = mean over images of -log softmax(h(g(x)))_y

On the labels of one or several source domains this is empirical risk minimisation (ERM, "source
only"); on the few target labels after that, fine-tuning; on both at once, joint training; on all
target labels, the ceiling.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.train import Batch


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of B x classes logits and B class numbers."""
    return F.cross_entropy(logits.float(), labels)


def _update(fabric, nets, opts, images: Tensor, labels: Tensor) -> dict[str, float]:
    # 1. loss
    with fabric.autocast():
        logits = nets["net"](images)
    loss = classification_loss(logits, labels)

    # 2. update
    opts["net"].zero_grad()
    fabric.backward(loss)
    opts["net"].step()
    return {"classification": loss.item()}


def erm_step(fabric, nets, opts, batch: Batch, cfg=None) -> dict[str, float]:
    """One update on source labels, all domains alike."""
    return _update(fabric, nets, opts, batch.source_images, batch.source_labels)


def target_step(fabric, nets, opts, batch: Batch, cfg=None) -> dict[str, float]:
    """One update on target labels: fine-tuning on the few, or the ceiling with all of them."""
    return _update(fabric, nets, opts, batch.target_images, batch.target_labels)


def joint_step(fabric, nets, opts, batch: Batch, cfg=None) -> dict[str, float]:
    """One update on both domains' labels, each domain's mean with the same weight."""
    # 1. one pass for both domains
    images = torch.cat([batch.source_images, batch.target_images])
    with fabric.autocast():
        logits = nets["net"](images)
    of_source, of_target = logits.tensor_split([len(batch.source_images)])
    source = classification_loss(of_source, batch.source_labels)
    target = classification_loss(of_target, batch.target_labels)

    # 2. update
    opts["net"].zero_grad()
    fabric.backward((source + target) / 2)
    opts["net"].step()
    return {"source": source.item(), "target": target.item()}
