"""A domain adversary for every class, on one feature vector per class and image: ASS's and WDA's.

Both add it to AdaptSegNet's adversary of the outputs. They differ in where the vectors come from.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labor_lib.config import Config
from labor_lib.methods.adaptsegnet import SOURCE, TARGET, adaptsegnet_step
from labor_lib.nets import deeplab
from labor_lib.nets.discriminator import ClassDiscriminator
from labor_lib.train import Batch, Nets

Vectors = tuple[Tensor, Tensor]  # B x C x F, and which of them are there: B x C booleans


def class_networks(config: Config, classes: int) -> Nets:
    """The discriminators of the classes, as wide as the features."""
    width = deeplab.build(config.train.network, classes).backbone.out_channels
    return {"class_discriminator": ClassDiscriminator(classes, width)}


@contextmanager
def classifier_calls(segmenter: nn.Module) -> Iterator[list[Vectors]]:
    """Features (B x F x h x w) and main logits (B x C x h x w) of every pass of a segmenter."""
    calls = []
    hook = segmenter.classifier.register_forward_hook(
        lambda _, inputs, output: calls.append((inputs[0], output))
    )
    try:
        yield calls
    finally:
        hook.remove()


def class_domain_loss(domain_logits: Tensor, present: Tensor, domain: float) -> Tensor:
    """Binary cross-entropy against a domain: mean over the classes of an image, then over images.

    domain_logits, present: B x C; only classes that are present count, 0 where there is none.
    """
    label = torch.full_like(domain_logits, domain)
    losses = F.binary_cross_entropy_with_logits(domain_logits, label, reduction="none") * present
    means = losses.sum(dim=1) / present.sum(dim=1).clamp(min=1)  # B
    return means.sum() / present.any(dim=1).sum().clamp(min=1)


def classwise_step(
    fabric, nets, opts, batch: Batch, config: Config, of_source: Callable, of_target: Callable
) -> dict[str, float]:
    """AdaptSegNet's step with a further loss and the classes' adversary on the target.

    of_source: features and logits of the source -> its vectors. of_target: the calls so far (source
    and target) -> a loss and the target's vectors; may call the segmenter.
    """
    discriminator, found = nets["class_discriminator"], {}

    # 1. the segmenter, with the discriminators held still
    discriminator.requires_grad_(False)
    with classifier_calls(nets["segmenter"]) as calls:

        def target_loss(_) -> Tensor:
            loss, found["target"] = of_target(calls)
            vectors, present = found["target"]
            found["loss"] = class_domain_loss(discriminator(vectors), present, SOURCE)
            return loss + config.rivals.class_weight * found["loss"]

        losses = adaptsegnet_step(fabric, nets, opts, batch, config, target_loss=target_loss)

    # 2. the classes' discriminators, on vectors cut off from the segmenter
    discriminator.requires_grad_(True)
    domains = ((of_source(*calls[0]), SOURCE), (found["target"], TARGET))
    loss = sum(
        class_domain_loss(discriminator(vectors.detach()), present, domain)
        for (vectors, present), domain in domains
    )
    opts["class_discriminator"].zero_grad()
    fabric.backward(loss / 2)  # halved as AdaptSegNet's
    opts["class_discriminator"].step()
    return losses | {
        "class_adversarial": found["loss"].item(),
        "class_discriminator": loss.item() / 2,
    }
