"""DACS: self-training on images that are mixed from both domains.

Tranheden et al., "DACS: Domain Adaptation via Cross-domain Mixed Sampling", WACV 2021, with the
weights and the teacher of DAFormer (Hoyer et al., CVPR 2022). A mean teacher labels the target's
images; half of the classes of a source image are pasted over a target image (ClassMix), and the
segmenter learns the mixed labels. Where a person was asked, the answer replaces the teacher's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from labor_lib.config import Config
from labor_lib.labels import IGNORE
from labor_lib.methods.labor import labor_step
from labor_lib.methods.source_only import segmentation_loss
from labor_lib.nets import deeplab
from labor_lib.train import Batch, Nets


class MeanTeacher(nn.Module):
    """An average over time of the segmenter's weights; no gradient reaches it.

    updates: how many it took, kept with the weights, so that training can be resumed.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def follow(self, segmenter: nn.Module, decay: float) -> None:
        """weights <- a weights + (1 - a) segmenter's, a = min(1 - 1 / (updates + 1), decay).

        At the first update a is 0, which copies the segmenter. BatchNorm's statistics are not
        averaged: the teacher uses those of its batch, as in DAFormer's code.
        """
        keep = min(1 - 1 / (self.updates.item() + 1), decay)
        for own, its in zip(self.net.parameters(), segmenter.parameters(), strict=True):
            own.mul_(keep).add_(its, alpha=1 - keep)
        self.updates += 1

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """B x 3 x H x W -> B x C x H x W probabilities."""
        return deeplab.upsample(self.net(images)[0], images.shape[-2:]).softmax(dim=1)


def teacher_networks(config: Config, classes: int) -> Nets:
    """The teacher; its first update fills it."""
    net = deeplab.build(config.train.network, classes)
    return {"teacher": MeanTeacher(net.to(memory_format=torch.channels_last))}


def class_mask(labels: Tensor) -> Tensor:
    """The pixels of a random half (rounded up) of the classes in a label map, H x W booleans."""
    present = labels.unique()
    present = present[present != IGNORE]
    chosen = present[torch.randperm(len(present))[: (len(present) + 1) // 2].to(present.device)]
    return torch.isin(labels, chosen)


def class_mix(
    batch: Batch, probs: Tensor, threshold: float, asked: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed images (B x 3 x H x W), their labels (B x H x W) and the labels' weights (B x H x W).

    probs: the teacher's for the target images. asked: B x H x W answers, 255 where there is none.
    A pasted or an asked pixel weighs 1; the others weigh the share of the batch's pixels of which
    the teacher is sure (`threshold`). Of domains that differ in size a common part is mixed.
    """
    confidence, labels = probs.max(dim=1)
    weights = torch.full_like(confidence, (confidence >= threshold).float().mean().item())
    if asked is not None:
        known = asked != IGNORE
        labels, weights = torch.where(known, asked, labels), weights.masked_fill(known, 1.0)
    target = [batch.target_images, labels, weights]
    source = [batch.source_images, batch.source_labels]
    sizes = zip(batch.source_images.shape[-2:], batch.target_images.shape[-2:], strict=True)
    size = tuple(min(pair) for pair in sizes)
    source, target = _random_part(source, size), _random_part(target, size)
    pasted = torch.stack([class_mask(one) for one in source[1]])
    images = torch.where(pasted[:, None], source[0], target[0])
    return images, torch.where(pasted, source[1], target[1]), target[2].masked_fill(pasted, 1.0)


def _random_part(maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """The same random window of several maps, each ... x H x W."""
    height, width = size
    top, left = (
        int(torch.randint(have - need + 1, ()))
        for have, need in zip(maps[0].shape[-2:], size, strict=True)
    )
    return [one[..., top : top + height, left : left + width] for one in maps]


def strong_augmentation(images: Tensor, config: Config) -> Tensor:
    """Colour jitter for four images in five and blur for every second one, as in DAFormer."""
    data, strength = config.data, config.teacher.jitter
    mean, std = (
        torch.tensor(v, device=images.device)[:, None, None] for v in (data.mean, data.std)
    )
    change = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(strength, strength, strength, strength)], p=0.8),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.15, 1.15))], p=0.5),
        ]
    )
    changed = [(change((image * std + mean).clamp(0, 1)) - mean) / std for image in images]
    return torch.stack(changed).contiguous(memory_format=torch.channels_last)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over all pixels of weight x cross-entropy; pixels of label 255 count with a loss of 0.

    logits: B x C x h x w, brought to the labels' size bilinearly. labels, weights: B x H x W.
    """
    full = deeplab.upsample(logits, labels.shape[-2:])
    return (weights * F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="none")).mean()


def mixed_loss(nets: Nets, batch: Batch, config: Config, asked: Tensor | None = None) -> Tensor:
    """The loss on a mixed batch, after the teacher has followed the segmenter (DACS, eq. 3)."""
    settings, teacher = config.teacher, nets["teacher"]
    teacher.follow(nets["segmenter"], settings.decay)
    probs = teacher(batch.target_images)
    images, labels, weights = class_mix(batch, probs, settings.threshold, asked)
    levels = nets["segmenter"](strong_augmentation(images, config))
    main, *auxiliary = (weighted_cross_entropy(logits, labels, weights) for logits in levels)
    return main + config.adversarial.auxiliary_weight * sum(auxiliary)


def dacs_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """One update on a source batch and on a batch mixed from both domains."""
    opts["segmenter"].zero_grad()
    # 1. the mixed batch, labelled by the teacher
    mixed = mixed_loss(nets, batch, config)
    fabric.backward(mixed)
    # 2. source
    levels = nets["segmenter"](batch.source_images)
    source = segmentation_loss(levels, batch.source_labels, config.adversarial.auxiliary_weight)
    fabric.backward(source)
    # 3. one step for both
    opts["segmenter"].step()
    return {"source": source.item(), "mixed": mixed.item()}


def labor_teacher_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """LabOR's step (losses 1 to 4) and DACS's mixed batch with the answers in it.

    Not in the paper: it shows what self-training adds to the asked labels.
    """

    def mixed(_):
        return mixed_loss(nets, batch, config, asked=batch.target_labels)

    return labor_step(fabric, nets, opts, batch, config, further_loss=mixed)
