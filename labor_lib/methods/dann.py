"""DANN: features from which no discriminator can tell the domain.

Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016 (eq. 10-17). With
features g, classifier h and discriminator D:

    min over g, h; max over D:   CE(h(g(x_s)), y_s) - lambda BCE(D(g(x)), domain)

One backward pass does both. The gradient of the discriminator's loss is plain for D, and is
multiplied by -lambda on its way into g: the *reversal*, an identity going forward.
Domain labels: source 0, target 1.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labor_lib.config import ClassificationConfig, DannConfig
from labor_lib.methods.erm import classification_loss
from labor_lib.train import Batch


def reverse_gradient(values: Tensor, scale: float) -> Tensor:
    """`values` unchanged; their gradient times -scale (eq. 16 and 17)."""
    same = values.view_as(values)
    same.register_hook(lambda gradient: -scale * gradient)
    return same


def reversal_scale(progress: float, gamma: float = 10.0) -> float:
    """lambda = 2 / (1 + exp(-gamma progress)) - 1: 0 at the start, nearly 1 at the end."""
    return 2 / (1 + math.exp(-gamma * progress)) - 1


def domain_loss(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Binary cross-entropy of B x 1 domain logits: the mean of both domains' means."""
    source = F.binary_cross_entropy_with_logits(source_logits, torch.zeros_like(source_logits))
    target = F.binary_cross_entropy_with_logits(target_logits, torch.ones_like(target_logits))
    return (source + target) / 2


class Discriminator(nn.Sequential):
    """B x F features -> B x 1 domain logits; positive where it takes the image for the target's."""

    def __init__(self, features: int, widths: tuple[int, ...] = (100,)):
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(features, width), nn.ReLU()]
            features = width
        super().__init__(*layers, nn.Linear(features, 1))


def dann_networks(net: nn.Module, twin: nn.Module, config: ClassificationConfig):
    """The discriminator on the features of `net`."""
    return {"discriminator": Discriminator(net.width, config.dann.widths)}


def dann_step(fabric, nets, opts, batch: Batch, cfg: DannConfig) -> dict[str, float]:
    """One update of network and discriminator together.

    Each domain passes the network by itself, so that BatchNorm normalises it by its own statistics
    (the paper's networks have none). Afterwards the network needs the target's statistics: the
    runner estimates them as AdaBN does.
    """
    net, discriminator = nets["net"], nets["discriminator"]
    scale = cfg.weight * reversal_scale(batch.progress, cfg.gamma)

    # 1. each domain once: source labels for the classifier, both for the discriminator
    with fabric.autocast():
        of_source = net.features(batch.source_images)  # B x F
        of_target = net.features(batch.target_images)
        class_logits = net.classifier(of_source)
        both = reverse_gradient(torch.cat([of_source, of_target]), scale)
        domain_logits = discriminator(both).float()  # 2B x 1
    classification = classification_loss(class_logits, batch.source_labels)
    domain = domain_loss(*domain_logits.split([len(of_source), len(of_target)]))

    # 2. one backward pass: plain for the discriminator, reversed for the features
    opts["net"].zero_grad()
    opts["discriminator"].zero_grad()
    fabric.backward(classification + domain)
    opts["net"].step()
    opts["discriminator"].step()
    return {"classification": classification.item(), "domain": domain.item(), "lambda": scale}
