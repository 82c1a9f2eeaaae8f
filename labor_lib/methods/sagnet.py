"""SagNet: make a network blind to style by training it on styles that lie.

Nam et al., "Reducing Domain Gap by Reducing Style Bias", CVPR 2021. The *style* of an image is the
mean and the variance over the pixels of each channel of an early feature map f; what is left after
normalising by them is its *content*:

    SR(f, f') = sigma_mix (f - mu) / sigma + mu_mix    mu_mix, sigma_mix^2: mixed with those of f'
    CR(f, f') = sigma (f' - mu') / sigma' + mu         own style, another's content (no gradient
                                                       into it)

The content network is the rest of the network, trained on SR(f). The style network is a second such
rest, trained to tell the class from CR(f), that is, from style. The early stages are trained so
that it cannot: the adversary -mean over classes of log p moves only their BatchNorm scales and
shifts.

`sagnet_step` is the paper's. `pooled_step` is DomainBed's simplification, which many tables call
SagNet: it randomises the pooled vector (one mean and variance an image, not one a channel), both
rests are single layers, and the adversary moves all of the featurizer.
"""

import torch
from torch import Tensor, nn

from labor_lib.config import ClassificationConfig, SagNetConfig
from labor_lib.errors import InputError
from labor_lib.methods.erm import classification_loss
from labor_lib.nets.digits import StagedClassifier
from labor_lib.train import Batch, Nets

# ------------------------------------------------------------------------------ randomisation


def style(values: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance (N - 1) and content of the last dimension: ... x P -> ... x 1 twice, ... x P.

    P is at least 2: a single value has no variance.
    """
    mean, variance = values.mean(-1, keepdim=True), values.var(-1, keepdim=True)
    return mean, variance, (values - mean) / (variance + eps).sqrt()


def randomise_style(values: Tensor, other: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """SR: each image's content with a mix of its own and another image's style.

    values: N x C x P features (P pixels), or N x F. other: N, whose style is mixed in. weight: N
    in [0, 1], the share of the own style. Means and *variances* are mixed, as published.
    """
    mean, variance, content = style(values, eps)
    weight = weight.view(-1, *[1] * (values.dim() - 1))
    mean = weight * mean + (1 - weight) * mean[other]
    variance = weight * variance + (1 - weight) * variance[other]
    return content * (variance + eps).sqrt() + mean


def randomise_content(values: Tensor, other: Tensor, eps: float = 1e-5) -> Tensor:
    """CR: each image's style with another image's content, which gets no gradient."""
    mean, variance, content = style(values, eps)
    return content[other].detach() * (variance + eps).sqrt() + mean


def draw_others(count: int, device: torch.device) -> Tensor:
    """For every image another one's number: a random permutation, as published (some keep theirs).

    Raises InputError for a batch of one.
    """
    if count < 2:
        raise InputError(
            "SagNet mixes two images' styles, and this step has one: use a batch of at least 2"
        )
    return torch.randperm(count).to(device)


# -------------------------------------------------------------------------------------- losses


def adversarial_loss(style_logits: Tensor) -> Tensor:
    """-mean over images and classes of log p: least where the style network knows nothing.

    The authors take log(p + 1e-5), which bounds the loss; the log-softmax needs no bound.
    """
    return -style_logits.float().log_softmax(dim=1).mean()


def sagnet_networks(net: nn.Module, twin: nn.Module, config: ClassificationConfig) -> Nets:
    """The style network: `twin`, which is changed in place, without its stages before the cut.

    net, twin: two networks of one architecture. Raises InputError where the cut does not leave
    stages on both of its sides.
    """
    stages, cuts = config.sagnet.stages, len(getattr(net, "stages", ())) - 1
    if not 0 < stages <= cuts:
        raise InputError(
            f"SagNet cuts a network after stage {stages}, and '{config.training.network}' can be "
            f"cut {max(cuts, 0)} times: use small or resnet18, and a stage from 1 on"
        )
    twin.stages = twin.stages[stages:]
    return {"style": twin}


def pooled_networks(net: nn.Module, twin: nn.Module, config: ClassificationConfig) -> Nets:
    """DomainBed's style network: one linear layer on the pooled vector."""
    return {"style": twin.classifier}


def early_affines(net: StagedClassifier, stages: int) -> list[nn.Parameter]:
    """The BatchNorm scales and shifts before the cut: all that the adversary moves."""
    layers = [m for stage in net.stages[:stages] for m in stage.modules()]
    return [p for m in layers if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]


def sagnet_parameters(nets: Nets, config: ClassificationConfig) -> dict[str, list[nn.Parameter]]:
    """What the adversary's own optimiser moves."""
    return {"adversary": early_affines(nets["net"], config.sagnet.stages)}


# --------------------------------------------------------------------------------------- steps


def sagnet_step(fabric, nets, opts, batch: Batch, cfg: SagNetConfig) -> dict[str, float]:
    """One update of the network, of the style network and of the early BatchNorm affines.

    All three gradients come from one pass and are taken before any weight moves; the authors move
    the style network first and then send the adversary's gradient through its moved weights (newer
    versions of torch refuse that).
    """
    net, style_net = nets["net"], nets["style"]
    affines = early_affines(net, cfg.stages)

    # 1. one pass through the early stages, and both randomisations
    with fabric.autocast():
        early = net.run(batch.source_images, last=cfg.stages)  # N x C x h x w
    flat = early.float().flatten(2)  # N x C x P
    others, weight = draw_others(len(flat), flat.device), torch.rand(len(flat)).to(flat.device)
    content_map = randomise_style(flat, others, weight).view_as(early)
    others = draw_others(len(flat), flat.device)
    style_map = randomise_content(flat, others).view_as(early)

    # 2. what the two rests make of them
    with fabric.autocast():
        content_logits = net.classifier(net.summary(net.run(content_map, first=cfg.stages)))
        style_logits = style_net(style_map)
    content = classification_loss(content_logits, batch.source_labels)
    of_style = classification_loss(style_logits, batch.source_labels)
    adversarial = cfg.adversarial_weight * adversarial_loss(style_logits)

    # 3. three gradients, each into its own parameters
    opts["style"].zero_grad()
    fabric.backward(of_style, inputs=list(style_net.parameters()), retain_graph=True)
    opts["adversary"].zero_grad()
    fabric.backward(adversarial, inputs=affines, retain_graph=True)
    held = [affine.grad for affine in affines]  # the content's gradient comes into the same place
    opts["net"].zero_grad()
    fabric.backward(content)

    # 4. three updates
    opts["style"].step()
    opts["net"].step()
    for affine, gradient in zip(affines, held, strict=True):
        affine.grad = gradient
    if cfg.clip:
        # half precision skips a step whose gradients overflow; no error then
        adversary = opts["adversary"]
        fabric.clip_gradients(net, adversary, max_norm=cfg.clip, error_if_nonfinite=False)
    opts["adversary"].step()
    return {"content": content.item(), "style": of_style.item(), "adversarial": adversarial.item()}


def pooled_step(fabric, nets, opts, batch: Batch, cfg: SagNetConfig) -> dict[str, float]:
    """DomainBed's SagNet: three updates one after the other, on the pooled vector.

    nets["style"] is one linear layer; the adversary moves the whole featurizer, not clipped.
    """
    net, style_net = nets["net"], nets["style"]
    images, labels = batch.source_images, batch.source_labels

    def pooled() -> Tensor:
        with fabric.autocast():
            return net.features(images).float()  # N x F

    # 1. the content: features and classifier, on randomised style
    weight = torch.rand(len(images)).to(images.device)
    randomised = randomise_style(pooled(), draw_others(len(images), images.device), weight)
    content = classification_loss(net.classifier(randomised), labels)
    opts["net"].zero_grad()
    fabric.backward(content)
    opts["net"].step()

    # 2. the style layer, on randomised content
    randomised = randomise_content(pooled(), draw_others(len(images), images.device))
    of_style = classification_loss(style_net(randomised.detach()), labels)
    opts["style"].zero_grad()
    fabric.backward(of_style)
    opts["style"].step()

    # 3. the features, against the style layer
    randomised = randomise_content(pooled(), draw_others(len(images), images.device))
    adversarial = cfg.adversarial_weight * adversarial_loss(style_net(randomised))
    opts["net"].zero_grad()
    fabric.backward(adversarial)
    opts["net"].step()
    return {"content": content.item(), "style": of_style.item(), "adversarial": adversarial.item()}
