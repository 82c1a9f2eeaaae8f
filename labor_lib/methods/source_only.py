"""Source only, and full supervision: cross-entropy on every labelled pixel there is.

The floor and the ceiling of everything else. Both use the same loss; they differ in the labels.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import Config
from labor_lib.labels import IGNORE
from labor_lib.nets.deeplab import upsample
from labor_lib.train import Batch


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels; 0 where there are none.

    logits: B x C x h x w, brought to the labels' size bilinearly. labels: B x H x W, 255 = none.
    """
    full = upsample(logits, labels.shape[-2:])  # B x C x H x W
    total = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def segmentation_loss(levels: Sequence[Tensor], labels: Tensor, auxiliary_weight: float) -> Tensor:
    """Cross-entropy of the main output plus `auxiliary_weight` times that of the others."""
    main, *auxiliary = (pixel_cross_entropy(logits, labels) for logits in levels)
    return main + auxiliary_weight * sum(auxiliary)


def supervised_step(
    fabric, nets, opts, batch: Batch, config: Config, domains=("source", "target")
) -> dict[str, float]:
    """One update on source labels and target labels, the domains normalised separately.

    No adversary: with every target label there is nothing left for it to guess.
    """
    losses = {}
    opts["segmenter"].zero_grad()
    for domain in domains:
        levels = nets["segmenter"](getattr(batch, f"{domain}_images"))
        labels = getattr(batch, f"{domain}_labels")
        loss = segmentation_loss(levels, labels, config.adversarial.auxiliary_weight)
        fabric.backward(loss)
        losses[domain] = loss.item()
    opts["segmenter"].step()
    return losses


def source_only_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """One update on source labels alone."""
    return supervised_step(fabric, nets, opts, batch, config, domains=("source",))


def supervised_target_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """One update on target labels alone."""
    return supervised_step(fabric, nets, opts, batch, config, domains=("target",))
