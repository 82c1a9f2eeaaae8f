"""AADA's setting: a few whole images of the target are labelled, chosen by the model.

Su et al., "Active Adversarial Domain Adaptation", WACV 2020 (arXiv 1904.07848). Which images is
decided in `selection.images`; the paper classifies and detects, so its losses are not copied. Here
the network learns them as LabOR learns its pixels: source labels, target labels, adversary.
"""

from torch import Tensor

from labor_lib.config import Config
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.source_only import segmentation_loss
from labor_lib.train import Batch, Nets


def labelled_loss(nets: Nets, batch: Batch, config: Config) -> Tensor:
    """Cross-entropy on the wholly labelled target images, weighted as LabOR's loss 2.

    Their batch comes on top of the others: 6 of 300 images would hardly ever be in one.
    """
    levels = nets["segmenter"](batch.labelled_images)
    loss = segmentation_loss(levels, batch.labelled_labels, config.adversarial.auxiliary_weight)
    return config.train.labelled_weight * loss


def aada_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """AdaptSegNet's step and the labelled images."""

    def target_loss(_) -> Tensor:
        return labelled_loss(nets, batch, config)

    return adaptsegnet_step(fabric, nets, opts, batch, config, target_loss=target_loss)
