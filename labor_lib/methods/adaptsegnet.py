"""AdaptSegNet: align the *outputs* of the two domains with a discriminator.

Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation", CVPR 2018.
Streets differ in colour and texture, but their layouts are alike: so the discriminator sees the
softmax output, not the features. Domain labels: source 0, target 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import Config
from labor_lib.methods.source_only import segmentation_loss
from labor_lib.nets.deeplab import upsample
from labor_lib.train import Batch

SOURCE, TARGET = 0.0, 1.0


def domain_loss(domain_logits: Tensor, domain: float) -> Tensor:
    """Binary cross-entropy of the discriminator's map against one domain label (paper, eq. 2)."""
    return F.binary_cross_entropy_with_logits(domain_logits, torch.full_like(domain_logits, domain))


def adversarial_loss(target_domain_logits: Tensor) -> Tensor:
    """What the segmenter minimises: its target output taken for a source output (eq. 4)."""
    return domain_loss(target_domain_logits, SOURCE)


def discriminator_loss(source_domain_logits: Tensor, target_domain_logits: Tensor) -> Tensor:
    """What the discriminator minimises: each domain recognised, halved as published."""
    both = domain_loss(source_domain_logits, SOURCE) + domain_loss(target_domain_logits, TARGET)
    return both / 2


def probabilities(level: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Softmax output as the discriminator sees it; `size` upsamples first, as published."""
    level = level if size is None else upsample(level, size)
    return level.float().softmax(dim=1)


def adaptsegnet_step(
    fabric, nets, opts, batch: Batch, config: Config, target_loss: Callable | None = None
) -> dict[str, float]:
    """One update of the segmenter, then one of the discriminators (one a level).

    `target_loss` adds a loss, of the levels of target logits: labelled pixels in LabOR, pseudo
    labels in IAST. We leave the outputs of the small network at its own stride before the
    discriminator; the two-level network's are upsampled to the image, as published.
    """
    weights = config.adversarial.level_weights
    whole = len(weights) > 1
    size_source = batch.source_images.shape[-2:] if whole else None
    size_target = batch.target_images.shape[-2:] if whole else None
    segmenter, names = nets["segmenter"], [f"discriminator{i}" for i in range(len(weights))]
    parts: dict[str, Tensor] = {}

    # 1. the segmenter, with the discriminators held still
    for name in names:
        nets[name].requires_grad_(False)
    opts["segmenter"].zero_grad()
    source_levels = segmenter(batch.source_images)
    parts["source"] = segmentation_loss(
        source_levels, batch.source_labels, config.adversarial.auxiliary_weight
    )
    fabric.backward(parts["source"])
    target_levels = segmenter(batch.target_images)
    parts["adversarial"] = sum(
        weight * adversarial_loss(nets[name](probabilities(level, size_target)))
        for weight, name, level in zip(weights, names, target_levels, strict=True)
    )
    on_target = parts["adversarial"]
    if target_loss is not None:
        parts["target"] = target_loss(target_levels)
        on_target = on_target + parts["target"]
    fabric.backward(on_target)
    opts["segmenter"].step()

    # 2. the discriminators, on outputs cut off from the segmenter
    for name, source_level, target_level in zip(names, source_levels, target_levels, strict=True):
        discriminator = nets[name]
        discriminator.requires_grad_(True)
        loss = discriminator_loss(
            discriminator(probabilities(source_level.detach(), size_source)),
            discriminator(probabilities(target_level.detach(), size_target)),
        )
        opts[name].zero_grad()
        fabric.backward(loss)
        opts[name].step()
        parts["discriminator"] = parts.get("discriminator", 0) + loss
    return {name: value.item() for name, value in parts.items()}
