"""One selection of a whole split: predict, and let a rule choose in each image, or images."""

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.methods.adaptsegnet import probabilities
from labor_lib.methods.labor import PixelSelector
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import derive_seed
from labor_lib.selection.images import IMAGE_SCORES, whole_images
from labor_lib.selection.record import Masks, Selection
from labor_lib.selection.rules import RULES, Candidates
from labor_lib.train import image_batches, predict


@torch.no_grad()
def paired_probabilities(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For the images in batches: both classifiers' B x C x H x W, and the images.

    net: a pixel selector, or a segmenter, whose probabilities then come twice.
    """
    size = config.data.target_size
    net.eval()
    for images in image_batches(folder, config, fabric.device):
        if isinstance(net, PixelSelector):
            with fabric.autocast():
                both = net(images)
            one, two = (upsample(logits, size).softmax(dim=1) for logits in both)
        else:
            one = two = predict(fabric, net, images, size)
        yield one, two, images


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
    discriminator: nn.Module | None = None,
) -> tuple[Selection, Masks]:
    """Apply a rule to every image of a split. net: a pixel selector or a segmenter.

    rule: of `RULES`, or of `IMAGE_SCORES`, whose budget is spent on whole images. discriminator: of
    the main output, for scores that read `domain_logits`. Also returns the inconsistency masks,
    which are empty for a segmenter.
    """

    @torch.no_grad()
    def features(image: Tensor) -> Tensor:  # 1 x 3 x H x W -> F x h x w
        with fabric.autocast():
            return net.backbone(image)[0].float()

    @torch.no_grad()
    def domain_logits(image: Tensor) -> Tensor:  # -> h' x w', from what it sees in training
        with fabric.autocast():
            level = net(image)[0]
        whole = len(config.adversarial.level_weights) > 1
        return discriminator(probabilities(level, image.shape[-2:] if whole else None))[0, 0]

    @cache  # a pass over the split, in the first rule that reads it
    def class_means() -> Tensor:
        pairs = paired_probabilities(fabric, net, folder, config)
        total = sum(((one + two) / 2).mean(dim=(2, 3)).sum(dim=0) for one, two, _ in pairs)
        return total / len(folder)

    choose = IMAGE_SCORES.get(rule) or RULES[rule]
    chosen, packed = [], []
    for one, two, images in paired_probabilities(fabric, net, folder, config):
        for i in range(len(one)):  # one by one: the choice is the same at any batch size
            number, own = len(chosen), images[i : i + 1]
            before = torch.from_numpy(taken.mask(number)).to(one.device)
            answers = torch.from_numpy(taken.labels(number)).to(one.device)
            first = one[i]
            image = Candidates(
                first,
                first if two is one else two[i],
                budget,
                before,
                torch.Generator().manual_seed(derive_seed(seed, number)),
                partial(features, own),
                void=before & (answers == IGNORE),
                compute_class_means=class_means,
                compute_domain_logits=partial(domain_logits, own),
            )
            packed.append(np.packbits(image.disagreement.flatten().cpu().numpy()))
            chosen.append(choose(image).cpu().numpy())
    positions = whole_images(chosen, budget, taken) if rule in IMAGE_SCORES else chosen
    size = tuple(config.data.target_size)
    return Selection(size, positions), Masks(size, np.stack(packed))
