"""The baselines of image classification: cross-entropy on whatever labels there are.

    L = mean over images of -log softmax(h(g(x)))_y

On the labels of one or several source domains this is empirical risk minimisation (ERM, "source
only"); on the few target labels after that, fine-tuning; on both at once, joint training; on all
target labels, the ceiling. AdaBN (Li et al. 2017) trains nothing: it replaces the BatchNorm
statistics of a finished network by those of target images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labor_lib.runtime import derive_seed


@dataclass
class Batch:
    """What one step is given, on the device; a method uses only what it may know.

    images: B x C x H x W, float32, normalised. labels: B, int64. Source images of several domains
    stand one domain after the other. pairs: P x 2, places in the source and in the target images
    (CCSA). progress: the share of the training that is done, in [0, 1).
    """

    source_images: Tensor | None = None
    source_labels: Tensor | None = None
    target_images: Tensor | None = None
    target_labels: Tensor | None = None
    pairs: Tensor | None = None
    progress: float = 0.0


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


def sample_in_batches(count: int, batch_size: int, most: int | None = None) -> list[Tensor]:
    """A random sample of `most` of `count` image numbers (all by default), in equal batches.

    Images that lie side by side in a folder are alike (one city, one sequence, one class), and the
    mean of their batches' variances would lack what differs between the batches. The sample is the
    same for every seed and method; within a batch the numbers rise.
    """
    generator = torch.Generator().manual_seed(derive_seed("statistics", count))
    sample = torch.randperm(count, generator=generator)[:most]
    return [part.sort().values for part in sample.tensor_split(-(-len(sample) // batch_size))]


@torch.no_grad()
def adapt_batchnorm(fabric, net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the BatchNorm statistics by the mean over `batches` of B x C x H x W images (AdaBN).

    Returns how many BatchNorm layers there are: with none the network stays as it was. Dropout is
    off, so the statistics are those that evaluation meets.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    net.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    for images in batches if layers else ():
        with fabric.autocast():
            net(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    net.eval()
    return len(layers)
