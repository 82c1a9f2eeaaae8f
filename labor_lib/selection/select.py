"""One selection of a whole split: predict, let a rule choose, image by image."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.methods.labor import PixelSelector, inconsistency_mask
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import derive_seed
from labor_lib.selection.record import Masks, Selection
from labor_lib.selection.rules import RULES, Candidates
from labor_lib.train import image_batches, predict


@torch.no_grad()
def paired_probabilities(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config
) -> Iterator[tuple[Tensor, Tensor, Callable[[int], Tensor]]]:
    """For the images in batches: both classifiers' B x C x H x W, and features by place in it.

    net: a pixel selector, or a segmenter, whose probabilities then come twice.
    """
    size = config.data.target_size
    net.eval()
    for images in image_batches(folder, config, fabric.device):

        def features(place: int, images=images) -> Tensor:
            with torch.no_grad(), fabric.autocast():
                return net.backbone(images[place : place + 1])[0].float()

        if isinstance(net, PixelSelector):
            with fabric.autocast():
                both = net(images)
            one, two = (upsample(logits, size).softmax(dim=1) for logits in both)
        else:
            one = two = predict(fabric, net, images, size)
        yield one, two, features


def select(
    fabric,
    net: nn.Module,
    folder: SegmentationFolder,
    config: Config,
    *,
    rule: str,
    budget: int,
    taken: Selection,
    seed: int,
) -> tuple[Selection, Masks]:
    """Apply a rule to every image of a split. net: a pixel selector or a segmenter.

    Also returns the inconsistency masks, which are empty for a segmenter.
    """
    positions, packed = [], []
    for one, two, features in paired_probabilities(fabric, net, folder, config):
        packed.append(np.packbits(inconsistency_mask(one, two).flatten(1).cpu().numpy(), axis=1))
        for i in range(len(one)):  # one by one: the choice is the same at any batch size
            number = len(positions)
            before = torch.from_numpy(taken.mask(number)).to(one.device)
            generator = torch.Generator().manual_seed(derive_seed(seed, number))
            image = Candidates(
                one[i], two[i], budget, before, generator, lambda i=i, get=features: get(i)
            )
            positions.append(RULES[rule](image).cpu().numpy())
    size = tuple(config.data.target_size)
    return Selection(size, positions), Masks(size, np.concatenate(packed))
