"""The wider family: adaptation and generalisation of image classifiers, compared over seeds.

    runs/family/textured/config.json                  the settings and library versions
    runs/family/textured/results.csv                  one row per finished phase
    runs/family/textured/seed0/dann/                  one method; with labels: ccsa-3 (3 a class)
    runs/family/styles/seed0/sketch/sagnet/           generalisation: the domain left out, then
        net.safetensors, discriminator.safetensors    networks of the last step
        selected.safetensors                          generalisation: of the best source validation
        trace.csv                                     the losses of every step
        phase.json                                    seconds, scores; written last

A folder with a `phase.json` is finished and never touched again. Within a seed all methods start
from the same weights and are given the same images in the same order.

*Adaptation* has a source and a target and is scored at the last step. *Generalisation* leaves out
one domain at a time, as DomainBed does (Gulrajani & Lopez-Paz, ICLR 2021): trains on the others,
keeps the weights with the best mean accuracy on held-out images of the *training* domains, and is
scored on all images of the domain left out, which nothing before that has seen.
"""

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from labor_lib.data import classification
from labor_lib.errors import InputError
from labor_lib.experiment import differences, finished, lock, read_phase, write_trace
from labor_lib.methods.ccsa import CcsaConfig, Pairs, ccsa_step, make_pairs
from labor_lib.methods.dann import DannConfig, Discriminator, dann_step
from labor_lib.methods.erm import Batch, adapt_batchnorm, erm_step, joint_step, target_step
from labor_lib.methods.sagnet import (
    SagNetConfig,
    early_affines,
    pooled_step,
    sagnet_step,
    style_network,
)
from labor_lib.nets.digits import (
    CcsaNet,
    Classifier,
    DannNet,
    StagedClassifier,
    resnet18_net,
    small_net,
)
from labor_lib.runtime import (
    derive_seed,
    load_weights,
    precision_of,
    read_json,
    save_weights,
    seed_everything,
    versions,
    write_json,
    writing,
)
from labor_lib.train import Schedule, resume_state, save_state

# ------------------------------------------------------------------------------------ settings


@dataclass(frozen=True)
class TrainingConfig:
    """Network, batches and optimiser of a shift: the same for all of its methods."""

    network: str = "small"  # "small", "ccsa", "dann" or "resnet18"
    widths: tuple[int, ...] = (32, 64, 128)  # of the small network's stages
    stride: int = 1  # of its first convolution
    dropout: float = 0.0  # before the classifier; the ccsa network has its own
    imagenet: bool = False  # start from ImageNet weights (resnet18 only)
    steps: int = 1000
    batch_size: int = 64  # images of each domain in a step
    optimizer: str = "sgd"  # "sgd" (momentum 0.9) or "adadelta" (rho 0.95, epsilon 1e-8)
    learning_rate: float = 0.01
    schedule: str = "dann"  # see `rate_factor`
    weight_decay: float = 0.0
    finetune_steps: int = 300  # after source only, on the few labels alone
    select_every: int = 0  # generalisation: steps from one source validation to the next
    checkpoint_steps: int = 500
    augment: bool = False  # random crops, flips and colours, as SagNet's authors have them
    size: int = 64  # pixels along each side, of a folder's images
    mean: float = 0.5  # images in [0, 1] are normalised by these
    std: float = 0.25
    inference_batch: int = 200  # images at once where nothing is learnt


@dataclass(frozen=True)
class FamilyConfig:
    """A whole run. methods: those that apply to the shift; main: those that run without asking."""

    shift: str
    methods: tuple[str, ...]
    main: tuple[str, ...]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    dann: DannConfig = field(default_factory=DannConfig)
    ccsa: CcsaConfig = field(default_factory=CcsaConfig)
    sagnet: SagNetConfig = field(default_factory=SagNetConfig)
    few: tuple[int, ...] = (1, 3, 5, 7)  # labelled target images of each class
    validation: float = 0.2  # generalisation: share of a training domain held out


MEMORY = 4e9  # bytes of decoded images that are kept; larger folders are decoded at every step

UNSUPERVISED = ("source_only", "adabn", "dann", "target")
FEW_LABELS = ("source_only", "finetune", "joint", "ccsa")
ADAPTATION = (
    "source_only", "sagnet", "adabn", "dann", "finetune", "joint", "ccsa", "target",
)  # fmt: skip
GENERALISATION = ("source_only", "sagnet", "sagnet_pooled")

# CCSA's authors on their split files: 80 epochs of 2,000 source images, 256 pairs a step. Here a
# step takes 64 source images with all their pairs, which are 256 at n = 1 and 256 n at n: so an
# epoch has 2 x 32 updates at every n, where theirs has 2 x 31 n.
CCSA_DIGITS = FamilyConfig(
    shift="ccsa",
    methods=FEW_LABELS,
    main=FEW_LABELS,
    training=TrainingConfig(
        network="ccsa",
        steps=2500,
        batch_size=64,
        optimizer="adadelta",
        learning_rate=1.0,  # Keras's Adadelta of 2017
        schedule="constant",
        mean=0.0,
        std=1.0,
    ),
)

FONTS = replace(
    CCSA_DIGITS,
    shift="fonts",
    methods=("source_only", "dann", "finetune", "joint", "ccsa", "target"),
    main=(*FEW_LABELS, "target"),
    training=replace(CCSA_DIGITS.training, steps=1000),
)

TEXTURED = FamilyConfig(
    shift="textured",
    methods=ADAPTATION,
    main=UNSUPERVISED,
    training=TrainingConfig(
        network="dann",
        steps=1000,
        batch_size=64,  # paper: 64 + 64 (DANN, 5.2.4)
        learning_rate=0.01,  # paper: 0.01 / (1 + 10 p)^0.75, momentum 0.9
        schedule="dann",
    ),
    sagnet=SagNetConfig(stages=1),  # of two
)

STYLES = FamilyConfig(
    shift="styles",
    methods=GENERALISATION,
    main=GENERALISATION,
    training=TrainingConfig(
        widths=(32, 64, 128),
        stride=2,
        steps=300,  # paper: 2,000
        batch_size=16,  # of each domain; paper: 32
        learning_rate=0.05,  # paper: 0.004, from ImageNet weights
        schedule="cosine",
        weight_decay=1e-4,
        dropout=0.5,
        select_every=30,
    ),
)

FOLDER = FamilyConfig(
    shift="folder",
    methods=GENERALISATION,
    main=GENERALISATION,
    training=TrainingConfig(
        network="resnet18",
        dropout=0.5,
        imagenet=True,
        steps=2000,
        batch_size=32,
        learning_rate=0.004,
        schedule="cosine",
        weight_decay=1e-4,
        select_every=100,
        augment=True,
        mean=0.45,
        std=0.225,
    ),
)

# A folder's images at 64 pixels, from random weights, on a CPU. Chosen on source validation (PACS
# without its photos, source only, seed 0): 63 % there, 28 % with SagNet's augmentation, for which
# 600 steps are too few.
FOLDER_SMALL = replace(STYLES.training, steps=600)

SETTINGS = {config.shift: config for config in (TEXTURED, FONTS, STYLES, CCSA_DIGITS, FOLDER)}


def settings(shift: str) -> FamilyConfig:
    """The settings of a shift; raises InputError with the choices where there is none."""
    if shift not in SETTINGS:
        raise InputError(f"unknown shift '{shift}': choose one of {', '.join(SETTINGS)}")
    return SETTINGS[shift]


def small(config: FamilyConfig) -> FamilyConfig:
    """A third of the steps, and 1 and 3 labels a class: shows shapes, not results."""
    t = config.training
    shorter = {name: getattr(t, name) // 3 for name in ("steps", "finetune_steps", "select_every")}
    return replace(config, training=replace(t, **shorter), few=(1, 3))


def configure(
    shift: str, where: "Where", network: str | None = None, few=(), imagenet: bool = True
) -> FamilyConfig:
    """The settings of a shift with a user's choices; raises InputError for those that clash."""
    config = settings(shift)
    if network and shift != "folder":
        raise InputError(f"--network is for --shift folder: '{shift}' has its own network")
    if network == "small":
        config = replace(config, training=FOLDER_SMALL)
    if not imagenet:
        config = replace(config, training=replace(config.training, imagenet=False))
    if where.target:
        if shift != "folder":
            raise InputError(f"--source and --target are for --shift folder, not '{shift}'")
        config = replace(config, methods=ADAPTATION, main=UNSUPERVISED)
    if few:
        if min(few) < 1:
            raise InputError("--few: give numbers of images from 1 on, such as 1,3,5,7")
        config = replace(config, few=tuple(few))
    return config


# ------------------------------------------------------------------------------------ registry


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


# ---------------------------------------------------------------------------- networks, batches


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


def build(method: FamilyMethod, config: FamilyConfig, problem: "Problem", seed: int):
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


def rate_factor(progress: float, schedule: str) -> float:
    """What multiplies the learning rate: "dann" (1 + 10 p)^-0.75, "cosine" to 0, or "constant"."""
    if schedule == "dann":
        return (1 + 10 * progress) ** -0.75
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule == "constant":
        return 1.0
    raise InputError(f"unknown schedule '{schedule}': choose dann, cosine or constant")


@dataclass(frozen=True)
class Problem:
    """What one phase trains on and is scored on.

    sources, validation: one domain or several, in the same order. few: the labelled target images.
    target_train: the target's training images; its labels are for the ceiling.
    """

    sources: tuple
    validation: tuple
    target_test: object
    target_train: object | None = None
    few: object | None = None

    @property
    def channels(self) -> int:
        return self.target_test.batch([0]).shape[1]

    @property
    def seen(self) -> Tensor:
        """N bool: test images that are among the few, pixel by pixel (CCSA's split files)."""
        test = self.target_test.batch(range(len(self.target_test))).flatten(1)
        mine = self.few.batch(range(len(self.few))).flatten(1)
        return torch.stack([(test == image).all(dim=1) for image in mine]).any(dim=0)


class Prepare:
    """Images as a domain gives them -> normalised float32 on the device."""

    def __init__(self, training: TrainingConfig, device: torch.device):
        self.training, self.device = training, device

    def __call__(self, images: Tensor, augment: bool = False) -> Tensor:
        """B x C x H x W, uint8 or float32 in [0, 1] -> the same shape."""
        if augment and self.training.augment:
            change = _augmentation(tuple(images.shape[-2:]))
            images = torch.stack([change(image) for image in images])
        images = images.to(self.device, memory_format=torch.channels_last)
        if images.dtype == torch.uint8:
            images = images / 255
        return (images - self.training.mean) / self.training.std


@lru_cache
def _augmentation(size: tuple[int, int]) -> v2.Transform:
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.5, 1), antialias=True),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.4),
            v2.RandomHorizontalFlip(),
        ]
    )


def batches(
    method: FamilyMethod,
    problem: Problem,
    training: TrainingConfig,
    prepare: Prepare,
    *,
    pairs: Pairs | None = None,
    start: int,
    steps: int,
    seed: int,
) -> Iterator[Batch]:
    """The batches of every step from `start` on: shuffled epochs, a function of the seed.

    `batch_size` images of every source domain, and as many of the target, or all labelled ones
    where there are fewer. With `pairs`, the labelled target images that these have pairs with.
    """

    def schedule(domain, *name) -> Iterator[Tensor]:
        size = min(training.batch_size, len(domain))
        return map(
            torch.tensor, Schedule(len(domain), size, start, steps, derive_seed(seed, *name))
        )

    sources = [
        (domain, schedule(domain, "source", place))
        for place, domain in enumerate(problem.sources if method.source else ())
    ]
    target = {"few": problem.few, "": None}.get(method.target, problem.target_train)
    stream_of_target = None if target is None or method.pairs else schedule(target, "target")
    for step in range(start, steps):
        batch = Batch(progress=step / steps)
        drawn = [(domain, next(stream)) for domain, stream in sources]
        if drawn:
            images = torch.cat([domain.batch(numbers) for domain, numbers in drawn])
            batch.source_images = prepare(images, augment=True)
            labels = torch.cat([domain.labels[numbers] for domain, numbers in drawn])
            batch.source_labels = labels.to(prepare.device)
        if pairs is not None:
            place, partner = pairs.of(drawn[0][1])
            wanted, partner = partner.unique(return_inverse=True)
            batch.pairs = torch.stack([place, partner], dim=1).to(prepare.device)
        elif stream_of_target is not None:
            wanted = next(stream_of_target)
        if target is not None:
            batch.target_images = prepare(target.batch(wanted), augment=True)
            batch.target_labels = target.labels[wanted].to(prepare.device)
        yield batch


# ------------------------------------------------------------------------------------ the loop


def train(
    fabric,
    nets: Nets,
    opts: Optimizers,
    method: FamilyMethod,
    problem: Problem,
    config: FamilyConfig,
    *,
    steps: int,
    seed: int,
    folder: Path,
    on_step: Callable[[dict[str, float]], None] = lambda losses: None,
) -> list[dict[str, float]]:
    """Train `nets` in place for `steps` steps; returns the losses of every step.

    With `select_every`, the network with the best mean accuracy on the training domains' held-out
    images is kept as selected.safetensors (the earliest of equals). Every step seeds itself, and
    the state is saved every `checkpoint_steps`: a killed run ends with the same numbers. It uses
    one device.
    """
    training = config.training
    checkpoint = folder / "unfinished.pt"
    for net in nets.values():
        net.to(fabric.device, memory_format=torch.channels_last)
    start, trace = resume_state(checkpoint, nets, opts)
    pairs = None
    if method.pairs:
        labels = problem.sources[0].labels, problem.few.labels
        pairs = make_pairs(*labels, config.ccsa.negatives, derive_seed(seed, "pairs"))
    prepare = Prepare(training, fabric.device)
    stream = batches(
        method, problem, training, prepare, pairs=pairs, start=start, steps=steps, seed=seed
    )
    own = getattr(config, method.config) if method.config else None
    nets = Nets({name: fabric.setup_module(net) for name, net in nets.items()})
    opts = Optimizers({name: fabric.setup_optimizers(opt) for name, opt in opts.items()})
    for step in range(start, steps):
        seed_everything(seed, step)
        for optimizer in opts.all():
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * rate_factor(step / steps, training.schedule)
        for net in nets.values():
            net.train()
        losses = method.step(fabric, nets, opts, next(stream), own)
        trace.append(losses)
        on_step(losses)
        done = step + 1
        if training.select_every and (done % training.select_every == 0 or done == steps):
            best = max((row.get("validation", -1.0) for row in trace), default=-1.0)
            losses["validation"] = validate(fabric, nets["net"], problem.validation, training)
            if losses["validation"] > best:
                save_weights(nets["net"].module, folder / "selected.safetensors")
        if done % training.checkpoint_steps == 0 and done < steps:
            save_state(checkpoint, nets, opts, trace)
    return trace


@torch.no_grad()
def correct(fabric, net: nn.Module, domain, training: TrainingConfig) -> Tensor:
    """N bool: which images of a domain the network names rightly."""
    prepare = Prepare(training, fabric.device)
    net.eval()
    right = []
    for numbers in torch.arange(len(domain)).split(training.inference_batch):
        with fabric.autocast():
            logits = net(prepare(domain.batch(numbers)))
        right.append(logits.argmax(dim=1).cpu() == domain.labels[numbers])
    return torch.cat(right)


def validate(fabric, net: nn.Module, domains: tuple, training: TrainingConfig) -> float:
    """Mean of the domains' accuracies, in percent."""
    return float(np.mean([_percent(correct(fabric, net, d, training)) for d in domains]))


def _percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()


# ------------------------------------------------------------------------------------- the run


@dataclass(frozen=True)
class Where:
    """Where real images are. source, target: domains of a folder; without them, one is left out
    at a time. repetition: of CCSA's split files."""

    root: Path | None = None
    source: str = ""
    target: str = ""
    repetition: int = 0


class Data:
    """Makes the problems of a run. `targets`: the domains to leave out, or ("",) in adaptation."""

    def __init__(self, config: FamilyConfig, where: Where):
        self.config, self.where = config, where
        if config.shift in ("ccsa", "folder") and where.root is None:
            raise InputError(f"shift '{config.shift}' needs --root: the folder of its images")
        if bool(where.source) != bool(where.target):
            raise InputError("--source and --target go together: give both domains, or neither")
        self.generalises = config.shift == "styles" or (
            config.shift == "folder" and not where.target
        )
        self._folder = self._read() if config.shift == "folder" else None
        self.domains = lru_cache(maxsize=1)(self._domains)  # one seed's images at a time
        self.targets = tuple(self.domains(0)) if self.generalises else ("",)
        if self.generalises and len(self.targets) < 2:
            raise InputError(f"{where.root}: one domain; leaving one out needs at least two")

    def _read(self) -> dict:
        """A folder's domains, in memory where they fit."""
        size = self.config.training.size
        read = classification.read_domains(self.where.root, size=size)
        if sum(map(len, read.values())) * 3 * size**2 < MEMORY:
            return {name: domain.load() for name, domain in read.items()}
        return read

    def _domains(self, seed: int):
        """Domains by name, or a `Shift`."""
        if self.config.shift == "folder":
            return self._folder
        if self.config.shift == "styles":
            return classification.styles(seed)
        return classification.SHIFTS[self.config.shift](seed)

    def problem(self, seed: int, target: str, n: int | None) -> Problem:
        """Of one seed, one domain left out, n labelled target images a class (None: none)."""
        config, where = self.config, self.where
        if config.shift == "ccsa":
            source, few, test = classification.read_ccsa(where.root, n, where.repetition)
            return Problem((source,), (), test, few=few)
        domains = self.domains(seed)
        if self.generalises:
            share = config.validation
            parts = [
                classification.split(domain, (1 - share, share), seed)
                for name, domain in domains.items()
                if name != target
            ]
            training, validation = zip(*parts, strict=True)
            return Problem(training, validation, domains[target])
        shift = domains
        if config.shift == "folder":
            shift = _shift_of(domains, where, config.validation, seed)
        few = None if n is None else classification.few(shift.target_train, n, seed)
        return Problem(
            (shift.source,), (shift.source_val,), shift.target_test, shift.target_train, few
        )


def _shift_of(domains: dict, where: Where, share: float, seed: int) -> classification.Shift:
    """A source and a target among a folder's domains; 60 % of the target is for training."""
    for name in (where.source, where.target):
        if name not in domains:
            raise InputError(f"{where.root}: no domain '{name}'; choose from {', '.join(domains)}")
    source = classification.split(domains[where.source], (1 - share, share), seed)
    target = classification.split(domains[where.target], (0.6, 0.4), seed)
    return classification.Shift(
        source=source[0], source_val=source[1], target_train=target[0], target_test=target[1]
    )


def label_numbers(method: FamilyMethod, config: FamilyConfig) -> tuple:
    """Labels a class with which a method is run. CCSA's split files differ for each number."""
    labelled = method.target == "few" or config.shift == "ccsa"
    return config.few if labelled else (None,)


def phase_folder(out: Path, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
    """Where a method's weights and scores lie."""
    name = method.name if n is None else f"{method.name}-{n}"
    return out / f"seed{seed}" / target / name


class FamilyExperiment:
    """One run folder: its settings, its finished phases and how to make the missing ones."""

    def __init__(self, config: FamilyConfig, where: Where, out: Path, fabric, progress):
        self.config, self.where, self.out = config, where, Path(out)
        self.fabric, self.progress = fabric, progress
        self.data = Data(config, where)
        if "sagnet" in config.methods and self.data.generalises:
            images = config.training.batch_size * (len(self.data.targets) - 1)
            if images < 2:
                raise InputError("SagNet needs at least 2 images a step: use a larger batch")

    def run(self, methods: list[FamilyMethod], seeds: list[int]) -> pd.DataFrame:
        """Make what is missing of these methods and seeds; returns and writes all results."""
        plan = self._plan(methods, seeds)
        first = seeds[0], self.data.targets[0]
        for n in dict.fromkeys(n for *_, n in plan):
            self.data.problem(*first, n)  # bad images or numbers stop a run before it starts
        with lock(self.out):
            self._record_settings()
            for leftover in self.out.rglob(".*.part"):  # of a killed run
                leftover.unlink()
            missing = [entry for entry in plan if not finished(self.folder(*entry))]
            self.progress.expect(sum(self._steps(method) for method, *_ in missing))
            for entry in plan:
                self.phase(*entry)
            return self.write_results()

    def _plan(self, methods: list[FamilyMethod], seeds: list[int]) -> list[tuple]:
        """(method, seed, target, n) of every phase; what one needs stands before it."""
        plan = {}
        for seed in seeds:
            for target in self.data.targets:
                for method in methods:
                    for n in label_numbers(method, self.config):
                        needed = method.begins_with or method.trains_as
                        if needed:
                            before = FAMILY[needed]
                            own = n if n in label_numbers(before, self.config) else None
                            plan[before, seed, target, own] = None
                        plan[method, seed, target, n] = None
        return list(plan)

    def _steps(self, method: FamilyMethod) -> int:
        if method.trains_as:
            return 0
        return getattr(self.config.training, method.steps)

    def folder(self, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
        return phase_folder(self.out, method, seed, target, n)

    def phase(self, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
        """The folder of one method, made if it is missing."""
        folder = self.folder(method, seed, target, n)
        if finished(folder):
            return folder
        problem = self.data.problem(seed, target, n)
        nets, opts = build(method, self.config, problem, seed)
        needed = method.begins_with or method.trains_as
        if needed:
            before = FAMILY[needed]
            own = n if n in label_numbers(before, self.config) else None
            load_weights(nets["net"], self.folder(before, seed, target, own) / "net.safetensors")
        words = [method.title, target, "" if n is None else f"{n} a class", f"seed {seed}"]
        self.progress.phase(", ".join(filter(None, words)))
        started = time.perf_counter()
        if not method.trains_as:
            trace = train(
                self.fabric, nets, opts, method, problem, self.config,
                steps=self._steps(method), seed=derive_seed(seed, target or "run"),
                folder=folder, on_step=self.progress.step,
            )  # fmt: skip
            write_trace(folder / "trace.csv", trace)
        if method.adapts and not self._adapt(nets["net"], problem) and method.trains_as:
            raise InputError(
                f"{method.name}: the network '{self.config.training.network}' has no BatchNorm"
            )
        seconds = time.perf_counter() - started
        for name, net in nets.items():
            save_weights(net, folder / f"{name}.safetensors")
        record = {
            "method": method.name,
            "seed": seed,
            "target": target or problem.target_test.name,
            "few": n,
            "steps": self._steps(method),
            "train_seconds": seconds,
            "scores": self._scores(nets["net"], problem, folder),
        }
        write_json(folder / "phase.json", record)
        (folder / "unfinished.pt").unlink(missing_ok=True)
        return folder

    def _adapt(self, net: nn.Module, problem: Problem) -> int:
        """Give the network the target's BatchNorm statistics; returns the number of its layers."""
        training, target = self.config.training, problem.target_train
        prepare = Prepare(training, self.fabric.device)
        numbers = torch.arange(len(target)).split(training.inference_batch)
        net.to(self.fabric.device)
        return adapt_batchnorm(self.fabric, net, (prepare(target.batch(i)) for i in numbers))

    def _scores(self, net: nn.Module, problem: Problem, folder: Path) -> dict[str, float]:
        """Accuracies in percent.

        accuracy: on the target's test images; in generalisation of the selected weights, with
        `accuracy_last` of the last step. source_accuracy: mean over the sources' held-out images.
        accuracy_unseen, test_seen: CCSA's test sets hold some of the few labelled images; the
        accuracy without them, and how many they are.
        """
        training = self.config.training
        right = correct(self.fabric, net, problem.target_test, training)
        scores = {"accuracy": _percent(right)}
        if problem.validation:
            scores["source_accuracy"] = validate(self.fabric, net, problem.validation, training)
        if self.config.shift == "ccsa":
            seen = problem.seen
            scores |= {"accuracy_unseen": _percent(right[~seen]), "test_seen": int(seen.sum())}
        if (folder / "selected.safetensors").exists():
            last = scores["accuracy"]
            load_weights(net, folder / "selected.safetensors")
            scores["accuracy"] = _percent(correct(self.fabric, net, problem.target_test, training))
            scores["source_accuracy"] = validate(self.fabric, net, problem.validation, training)
            scores["accuracy_last"] = last
        return scores

    def _record_settings(self) -> None:
        """Write config.json, or compare with the one there; raises InputError if they differ."""
        path = self.out / "config.json"
        fixed = asdict(self.config)
        for name in ("few", "methods", "main"):  # more of these extend a run
            del fixed[name]
        now = json.loads(json.dumps(fixed)) | {
            "root": None if self.where.root is None else str(self.where.root),
            "source": self.where.source,
            "target": self.where.target,
            "repetition": self.where.repetition,
            "device": self.fabric.device.type,
            "precision": precision_of(self.fabric),
        }
        if path.exists():
            then = read_json(path)
            if not isinstance(then, dict):
                raise InputError(f"{path}: damaged; remove {self.out} and run again")
            changed = differences({key: then.get(key) for key in now}, now)
            if changed:
                raise InputError(
                    f"{self.out} holds results made with other settings: {changed}; "
                    "restore them, or pass another --out"
                )
            return
        write_json(path, now | {"versions": versions()})

    def write_results(self) -> pd.DataFrame:
        """results.csv from every finished phase in the folder."""
        rows = []
        for path in self.out.glob("seed*/**/phase.json"):
            phase = read_phase(path.parent, "method", "seed", "target", "few", "scores")
            scores = phase.pop("scores")
            rows.append(phase | scores | {"precision": precision_of(self.fabric)})
        table = pd.DataFrame(rows)
        if len(table):
            table["title"] = [FAMILY[name].title for name in table["method"]]
            place = {name: number for number, name in enumerate(FAMILY)}
            table["few"] = table["few"].astype("Int64")
            table = table.sort_values(
                ["target", "few", "method", "seed"],
                key=lambda column: column.map(place) if column.name == "method" else column,
                na_position="first",
            )
            with writing(self.out / "results.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
        return table.reset_index(drop=True)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (N - 1) over seeds of every accuracy column, and the seeds.

    One row per method, target and number of labels; in generalisation also per method the mean over
    the targets ("mean"), whose spread is that of the seeds' means.
    """
    table = table.assign(few=table["few"].fillna(0).astype(int))
    scores = [name for name in table.columns if "accuracy" in name]
    keys = ["target", "few", "method", "title"]
    parts = [table]
    if table["target"].nunique() > 1:
        wanted = table["target"].nunique()
        by_seed = table.groupby(["few", "method", "title", "seed"])
        whole = by_seed[[*scores, "train_seconds"]].mean()[by_seed.size() == wanted].reset_index()
        parts.append(whole.assign(target="mean"))
    grouped = pd.concat(parts).groupby(keys, sort=False)
    summary = grouped[scores].agg(["mean", "std"])
    summary.columns = [f"{name}_{what}" for name, what in summary.columns]
    summary["seeds"] = grouped.size()
    summary["seconds"] = grouped["train_seconds"].mean()
    return summary.reset_index()


def print_summary(table: pd.DataFrame) -> None:
    """`summarise` as an aligned table, to the terminal."""
    shown = []
    for row in summarise(table).itertuples():
        spread = "" if math.isnan(row.accuracy_std) else f" ± {row.accuracy_std:.1f}"
        shown.append(
            {
                "target": row.target,
                "labels a class": row.few or "",
                "method": row.title,
                "accuracy in %": f"{row.accuracy_mean:.1f}{spread}",
                "seeds": row.seeds,
                "seconds": f"{row.seconds:.0f}",
            }
        )
    print(pd.DataFrame(shown).to_string(index=False))
