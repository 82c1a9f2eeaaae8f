"""One selection of a whole split: predict, let a rule choose, image by image."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.methods.labor import PixelSelector
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

    @cache  # a pass over the split, in the first rule that reads it
    def class_means() -> Tensor:
        pairs = paired_probabilities(fabric, net, folder, config)
        total = sum(((one + two) / 2).mean(dim=(2, 3)).sum(dim=0) for one, two, _ in pairs)
        return total / len(folder)

    positions, packed = [], []
    for one, two, features in paired_probabilities(fabric, net, folder, config):
        for i in range(len(one)):  # one by one: the choice is the same at any batch size
            number = len(positions)
            before = torch.from_numpy(taken.mask(number)).to(one.device)
            answers = torch.from_numpy(taken.labels(number)).to(one.device)
            first = one[i]
            image = Candidates(
                first,
                first if two is one else two[i],
                budget,
                before,
                torch.Generator().manual_seed(derive_seed(seed, number)),
                lambda i=i, get=features: get(i),
                void=before & (answers == IGNORE),
                compute_class_means=class_means,
            )
            packed.append(np.packbits(image.disagreement.flatten().cpu().numpy()))
            positions.append(RULES[rule](image).cpu().numpy())
    size = tuple(config.data.target_size)
    return Selection(size, positions), Masks(size, np.stack(packed))
