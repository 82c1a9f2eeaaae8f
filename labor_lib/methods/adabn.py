"""AdaBN: the target's BatchNorm statistics in the place of the source's; nothing is trained.

Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2017. Every
method of segmentation but source only ends with this step, and so does DANN: AdaBN is their
control.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.runtime import derive_seed
from labor_lib.train import image_batches

STATISTICS_IMAGES = 200  # of a segmentation data set, at the most


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
    """Replace the BatchNorm statistics by the mean over `batches` of B x C x H x W images.

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


def estimate_statistics(fabric, net: nn.Module, folder: SegmentationFolder, config: Config) -> None:
    """AdaBN with a sample of a folder's images."""
    sample = sample_in_batches(len(folder), config.data.inference_batch, STATISTICS_IMAGES)
    net.to(fabric.device)
    adapt_batchnorm(fabric, net, image_batches(folder, config, fabric.device, sample))
