"""What the methods are, and their fresh networks and optimisers: one entry per row of the table."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from labor_lib.errors import InputError
from labor_lib.family_config import FamilyConfig, TrainingConfig
from labor_lib.lab.family_data import Problem
from labor_lib.methods.ccsa import ccsa_step
from labor_lib.methods.dann import Discriminator, dann_step
from labor_lib.methods.erm import erm_step, joint_step, target_step
from labor_lib.methods.sagnet import early_affines, pooled_step, sagnet_step, style_network
from labor_lib.nets.digits import (
    CcsaNet,
    Classifier,
    DannNet,
    StagedClassifier,
    resnet18_net,
    small_net,
)
from labor_lib.runtime import seed_everything


class Nets(dict):
    """Networks by name; "net" is the classifier that is scored."""

    def named(self) -> dict[str, nn.Module]:
        return self


class Optimizers(dict):
    """Optimisers by name."""

    def all(self) -> list[torch.optim.Optimizer]:
        return list(self.values())


@dataclass(frozen=True)
class FamilyMethod:
    """What one row of the table does.

    target      what it is given of the target: "" nothing, "images", "few" labelled, "all" labelled
    source      whether its steps take source images
    config      the field of `FamilyConfig` with its settings
    extra       builds its other networks: (net, a second network of the same kind, config) -> Nets
    adapts      whether it ends with the BatchNorm statistics of the target's training images
    begins_with the method whose last weights it starts from
    steps       the field of `TrainingConfig` with the number of its steps
    trains_as   the method whose networks it shares, where only the evaluation differs
    """

    name: str
    title: str
    step: Callable[..., dict[str, float]]
    target: str = ""
    source: bool = True
    pairs: bool = False
    config: str = ""
    extra: Callable[[Classifier, Classifier, FamilyConfig], dict[str, nn.Module]] | None = None
    adapts: bool = False
    begins_with: str = ""
    steps: str = "steps"
    trains_as: str = ""


def _discriminator(net: Classifier, twin: Classifier, config: FamilyConfig):
    return {"discriminator": Discriminator(net.width, config.dann.widths)}


def _style(net: Classifier, twin: Classifier, config: FamilyConfig):
    if not isinstance(net, StagedClassifier):
        raise InputError(
            f"SagNet cuts a network between its stages, and '{config.training.network}' has none: "
            "use small or resnet18"
        )
    return {"style": style_network(net, twin, config.sagnet.stages)}


def _style_layer(net: Classifier, twin: Classifier, config: FamilyConfig):
    return {"style": twin.classifier}


_FAMILY = (
    FamilyMethod("source_only", "source only (ERM)", erm_step),
    FamilyMethod(
        "adabn", "AdaBN", erm_step, target="images", adapts=True, trains_as="source_only"
    ),
    FamilyMethod(
        "dann", "DANN", dann_step, target="images", adapts=True, config="dann",
        extra=_discriminator,
    ),
    FamilyMethod(
        "finetune", "fine-tuning", target_step, target="few", source=False,
        begins_with="source_only", steps="finetune_steps",
    ),
    FamilyMethod("joint", "joint training", joint_step, target="few"),
    FamilyMethod("ccsa", "CCSA", ccsa_step, target="few", pairs=True, config="ccsa"),
    FamilyMethod("sagnet", "SagNet", sagnet_step, config="sagnet", extra=_style),
    FamilyMethod(
        "sagnet_pooled", "SagNet as in DomainBed", pooled_step, config="sagnet", extra=_style_layer
    ),
    FamilyMethod("target", "all target labels", target_step, target="all", source=False),
)  # fmt: skip

FAMILY = {method.name: method for method in _FAMILY}


def resolve(names: list[str], config: FamilyConfig) -> list[FamilyMethod]:
    """Methods by name; "main" and "all" stand for groups. Raises InputError for others."""
    groups = {"main": config.main, "all": config.methods}
    flat = [member for name in names for member in groups.get(name, [name])]
    for name in flat:
        if name not in config.methods:
            known = f"does not apply to '{config.shift}'" if name in FAMILY else "is unknown"
            raise InputError(
                f"method '{name}' {known}: choose from {', '.join(config.methods)}, or main, or all"
            )
    return [FAMILY[name] for name in dict.fromkeys(flat)]


def build_net(
    training: TrainingConfig, classes: int, channels: int, distances: bool = False
) -> Classifier:
    """A fresh network; seed before calling. Raises InputError for an unknown one.

    distances: whether the method measures distances of features. The same layers and weights; in
    DANN's network the features then end after the hidden layers, as in CCSA's, for on its 1,200
    early values CCSA's squared distances are so large that the training diverges.
    """
    if training.network == "ccsa":
        return CcsaNet(classes, channels)
    if training.network == "dann":
        return DannNet(classes, channels, hidden=distances)
    if training.network == "small":
        return small_net(
            classes, channels=channels, widths=training.widths, stride=training.stride,
            dropout=training.dropout,
        )  # fmt: skip
    if training.network == "resnet18":
        return resnet18_net(classes, imagenet=training.imagenet, dropout=training.dropout)
    raise InputError(f"unknown network '{training.network}': choose small, ccsa, dann or resnet18")


def build(method: FamilyMethod, config: FamilyConfig, problem: Problem, seed: int):
    """Fresh networks and optimisers of a method; `net` starts alike for all methods of a seed."""
    classes, channels = len(problem.target_test.classes), problem.channels
    seed_everything(seed, "networks")
    nets = Nets(net=build_net(config.training, classes, channels, method.pairs))
    if method.extra:
        seed_everything(seed, "networks", method.name)
        twin = build_net(config.training, classes, channels)
        nets.update(method.extra(nets["net"], twin, config))
    parameters = {name: list(net.parameters()) for name, net in nets.items()}
    if method.name == "sagnet":
        parameters["adversary"] = early_affines(nets["net"], config.sagnet.stages)
    opts = Optimizers({name: _optimizer(p, config.training) for name, p in parameters.items()})
    return nets, opts


def _optimizer(parameters: list[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    if training.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, rate, rho=0.95, eps=1e-8, weight_decay=decay)
    raise InputError(f"unknown optimizer '{training.optimizer}': choose sgd or adadelta")
