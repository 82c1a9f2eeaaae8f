"""LabOR: label only if required.

Shin et al., "LabOR: Labeling Only if Required for Domain Adaptive Semantic Segmentation",
ICCV 2021. Two networks. A, the segmenter, is warmed up with AdaptSegNet. B, the pixel selector,
is A's backbone with two classifiers: taught by A's pseudo labels (loss 5), pushed apart (loss 6).
Where they disagree, a person is asked. A then trains with source labels (loss 1), the asked
target labels (loss 2) and the adversary (loss 3); its discriminator has loss 4.
No code was published; what the paper leaves open is said where it is decided.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from labor_lib.config import Config, SelectorConfig
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.mcd import l1_discrepancy, parameter_similarity
from labor_lib.methods.source_only import pixel_cross_entropy, segmentation_loss
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import seed_everything
from labor_lib.train import Batch, Labels, segmentation_batches, train


class PixelSelector(nn.Module):
    """B: a copy of A's backbone and two classifiers.

    Copies of A's classifier would never disagree (the discrepancy's gradient is 0 where they are
    equal): so they are drawn anew, or copied and disturbed by relative `noise`.
    """

    def __init__(self, segmenter: nn.Module, settings: SelectorConfig):
        super().__init__()
        self.backbone = copy.deepcopy(segmenter.backbone)
        self.backbone.requires_grad_(settings.train_backbone)
        self.first = copy.deepcopy(segmenter.classifier)
        self.second = copy.deepcopy(segmenter.classifier)
        for head in (self.first, self.second):
            if settings.reinitialise:
                head.reset_parameters()
            with torch.no_grad():
                for weight in head.parameters():
                    spread = settings.noise * weight.std(correction=0)
                    weight.add_(spread * torch.randn(weight.shape).to(weight.device))

    def train(self, mode: bool = True) -> "PixelSelector":
        """BatchNorm keeps the segmenter's statistics, which belong to the target by now."""
        return super().train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B x 3 x H x W -> two logits, each B x C x h x w."""
        features = self.backbone(images)
        return self.first(features), self.second(features)


def inconsistency_mask(first: Tensor, second: Tensor) -> Tensor:
    """Where the two classifiers name different classes (paper, eq. 4): B x C x ... -> B x ..."""
    return first.argmax(dim=1) != second.argmax(dim=1)


def selector_loss(
    selector: PixelSelector, first: Tensor, second: Tensor, pseudo: Tensor, settings: SelectorConfig
) -> dict[str, Tensor]:
    """Loss 5, loss 6 and their sum.

    first, second: logits of `selector`. pseudo: B x H x W, 255 = ignored. Loss 6 is minus the
    discrepancy of the outputs (`l1`) or the similarity of the parameters (`cosine`).
    """
    taught = pixel_cross_entropy(first, pseudo) + pixel_cross_entropy(second, pseudo)
    if settings.discrepancy == "l1":
        # over classes MCD takes the mean; the sum keeps the weight free of their number
        pushed = -l1_discrepancy(first, second) * first.shape[1]
    else:
        pushed = parameter_similarity(selector.first, selector.second)
    return {"loss5": taught, "loss6": pushed, "total": taught + settings.weight * pushed}


def selector_step(fabric, nets, opts, batch: Batch, settings: SelectorConfig) -> dict[str, float]:
    """One update of both classifiers; also reports the share of the mask in this batch."""
    selector, pseudo = nets["selector"], batch.target_labels
    first, second = selector(batch.target_images)
    losses = selector_loss(selector, first, second, pseudo, settings)
    opts["selector"].zero_grad()
    fabric.backward(losses.pop("total"))
    opts["selector"].step()
    size = pseudo.shape[-2:]
    with torch.no_grad():
        mask = inconsistency_mask(upsample(first, size), upsample(second, size))
    losses["mask_share"] = mask.float().mean()
    return {name: value.item() for name, value in losses.items()}


def train_selector(
    fabric,
    segmenter: nn.Module,
    folder: SegmentationFolder,
    pseudo: Labels,
    config: Config,
    settings: SelectorConfig,
    seed: int,
    **options,
) -> tuple[PixelSelector, list[dict[str, float]]]:
    """A fresh pixel selector trained on pseudo labels, and the losses of every step.

    options: of `train`, such as `checkpoint` and `on_step`.
    """
    seed_everything(seed, "selector")
    selector = PixelSelector(segmenter, settings).to(fabric.device)
    parameters = [p for p in selector.parameters() if p.requires_grad]
    batches = segmentation_batches(
        fabric, config, None, folder, pseudo,
        steps=settings.steps, seed=seed, batch_size=settings.batch_size, order="images",
    )  # fmt: skip
    opts = {"selector": torch.optim.Adam(parameters, settings.learning_rate)}
    history = train(
        fabric, {"selector": selector}, opts, selector_step, batches, settings,
        steps=settings.steps, seed=seed, **options,
    )  # fmt: skip
    return selector, history


def labor_step(
    fabric, nets, opts, batch: Batch, config: Config, further_loss: Callable | None = None
) -> dict[str, float]:
    """Losses 1 (source), 2 (asked target pixels) and 3 (adversary), then 4 (discriminator).

    `further_loss` adds one, of the target's logits, that is computed in the same step.
    """

    def on_target(levels):
        asked = segmentation_loss(levels, batch.target_labels, config.adversarial.auxiliary_weight)
        asked = config.train.labelled_weight * asked
        return asked if further_loss is None else asked + further_loss(levels)

    return adaptsegnet_step(fabric, nets, opts, batch, config, target_loss=on_target)
