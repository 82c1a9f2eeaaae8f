"""The training loop and what it consumes: networks, optimisers and batches; inference.

    nets = build_nets(config, classes)
    history = train_segmenter(
        fabric, nets, labor_step, config, source, target, labels,
        steps=150, learning_rate=2e-3, seed=0,
    )

Networks and optimisers are dictionaries by name. Everything a step needs comes from its number and
the seed, so that a run that was killed continues with the same numbers.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from labor_lib.config import Config, TrainingConfig
from labor_lib.data.segmentation import SegmentationFolder, joint_transform
from labor_lib.errors import InputError, one_of
from labor_lib.nets import deeplab
from labor_lib.nets.discriminator import OutputDiscriminator
from labor_lib.runtime import derive_seed, seed_everything, writing

Nets = dict[str, nn.Module]
Optimizers = dict[str, torch.optim.Optimizer]
Labels = Callable[[int], np.ndarray | Tensor]  # image number -> H x W uint8, 255 = none
Step = Callable[..., dict[str, float]]  # (fabric, nets, opts, batch, settings) -> losses by name


@dataclass
class Batch:
    """What one step is given, on the device; a method uses only what it may know.

    images: B x C x H x W, float32, normalised. labels: of segmentation B x H x W int64, 255 = none
    (of the target: asked pixels or pseudo labels); of classification B int64. Source images of
    several domains stand one domain after the other. pairs: P x 2, places in the source and in
    the target images (CCSA). progress: the share of the training that is done, in [0, 1).
    labelled: a further batch of the target's wholly labelled images, for methods that have some.
    """

    source_images: Tensor | None = None
    source_labels: Tensor | None = None
    target_images: Tensor | None = None
    target_labels: Tensor | None = None
    pairs: Tensor | None = None
    progress: float = 0.0
    labelled_images: Tensor | None = None
    labelled_labels: Tensor | None = None


# ------------------------------------------------------------------------------------ the loop


def train(
    fabric,
    nets: Nets,
    opts: Optimizers,
    step: Step,
    batches: Callable[[int], Iterator[Batch]],
    settings,
    *,
    steps: int,
    seed: int,
    rate: Callable[[int], float] = lambda number: 1.0,
    checkpoint: Path | None = None,
    checkpoint_steps: int = 1000,
    on_step: Callable[[dict[str, float]], None] = lambda losses: None,
    after_step: Callable[[int, list[dict[str, float]]], None] = lambda number, history: None,
) -> list[dict[str, float]]:
    """Train `nets` in place; returns the losses of every step.

    batches: from the number of a step, the batches from there on. settings: handed to every step.
    rate: the learning-rate factor of a step. after_step: called with the number of steps done and
    the losses so far. The state is saved to `checkpoint` every `checkpoint_steps`; training
    continues from there and ends with the same numbers (with 16-mixed with similar ones: the
    scale of its gradients is not saved).
    """
    for net in nets.values():
        net.to(fabric.device)
    rates = [group["lr"] for group in _groups(opts)]
    start, history = load_checkpoint(checkpoint, nets, opts)
    wrapped = {name: fabric.setup_module(net) for name, net in nets.items()}
    opts = {name: fabric.setup_optimizers(optimizer) for name, optimizer in opts.items()}
    coming = batches(start)
    for number in range(start, steps):
        seed_everything(seed, number)
        for group, learning_rate in zip(_groups(opts), rates, strict=True):
            group["lr"] = learning_rate * rate(number)
        for net in nets.values():
            net.train()
        history.append(step(fabric, wrapped, opts, next(coming), settings))
        after_step(number + 1, history)
        on_step(history[-1])
        if checkpoint and (number + 1) % checkpoint_steps == 0 and number + 1 < steps:
            save_checkpoint(checkpoint, nets, opts, history)
    return history


def train_segmenter(
    fabric,
    nets: Nets,
    step: Step,
    config: Config,
    source: SegmentationFolder | None,
    target: SegmentationFolder | None,
    target_labels: Labels | None = None,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    labelled: Sequence[int] = (),
    **options,
) -> list[dict[str, float]]:
    """`train` with the configuration's optimisers, batches and learning-rate schedule."""
    settings = config.train
    batches = segmentation_batches(
        fabric, config, source, target, target_labels, steps=steps, seed=seed, labelled=labelled
    )
    return train(
        fabric,
        nets,
        build_optimizers(nets, config, learning_rate),
        step,
        batches,
        config,
        steps=steps,
        seed=seed,
        rate=lambda n: ramp_and_decay(n, steps, settings.ramp_steps, settings.poly_power),
        checkpoint_steps=settings.checkpoint_steps,
        **options,
    )


def _groups(opts: Optimizers) -> list[dict]:
    return [group for optimizer in opts.values() for group in optimizer.param_groups]


def save_checkpoint(path: Path, nets: Nets, opts: Optimizers, history: list) -> None:
    """Weights, optimisers and losses in the middle of a training, for `load_checkpoint`."""
    state = {
        "nets": [net.state_dict() for net in nets.values()],
        "optimizers": [optimizer.state_dict() for optimizer in opts.values()],
        "trace": history,
    }
    memory = io.BytesIO()
    torch.save(state, memory)
    with writing(path) as temporary:
        temporary.write_bytes(memory.getbuffer())  # by Python, which reports a full disk


def load_checkpoint(path: Path | None, nets: Nets, opts: Optimizers) -> tuple[int, list]:
    """The step to continue from, and the losses before it; (0, []) where nothing was saved."""
    if path is None or not path.exists():
        return 0, []
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        for name, parts in (("nets", nets), ("optimizers", opts)):
            for part, saved in zip(parts.values(), state[name], strict=True):
                part.load_state_dict(saved)
        return len(state["trace"]), state["trace"]
    except Exception:  # torch raises many kinds, with texts of many lines
        raise InputError(f"{path}: damaged checkpoint; remove it and run again") from None


def ramp_and_decay(step: int, steps: int, ramp: int, power: float) -> float:
    """Polynomial decay (DeepLab) after a linear increase over `ramp` steps: in (0, 1]."""
    rising = min(1.0, (step + 1) / ramp) if ramp else 1.0
    return rising * (1 - step / steps) ** power


def learning_rate_factor(progress: float, schedule: str) -> float:
    """ "dann": (1 + 10 p)^-0.75, "cosine": from 1 to 0, "constant": 1."""
    factors = {
        "dann": (1 + 10 * progress) ** -0.75,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "constant": 1.0,
    }
    return factors[one_of("schedule", schedule, factors)]


# ---------------------------------------------------------------- networks of segmentation


def build_nets(config: Config, classes: int) -> Nets:
    """Fresh networks: "segmenter", and a discriminator for each of its outputs; seed before."""
    segmenter = deeplab.build(config.train.network, classes, imagenet=config.train.imagenet)
    nets = {"segmenter": segmenter.to(memory_format=torch.channels_last)}
    for level in range(len(config.adversarial.level_weights)):
        nets[f"discriminator{level}"] = OutputDiscriminator(classes, config.adversarial.widths)
    return nets


def build_optimizers(nets: Nets, config: Config, learning_rate: float) -> Optimizers:
    """The segmenter's optimiser, and Adam as the adversary has it for the others that learn.

    What is not from ImageNet (heads, pyramid) has `head_factor` times the learning rate. Every
    parameter is in exactly one group (AdaptSegNet's published code steps some twice).
    """
    settings, adversarial = config.train, config.adversarial
    segmenter = nets["segmenter"]
    heads, body = [], []
    for name, parameter in segmenter.named_parameters():
        new = not name.startswith("backbone.") or name.startswith("backbone.pyramid.")
        if new or parameter.requires_grad:
            (heads if new else body).append(parameter)
    groups = [
        {"params": body, "lr": learning_rate},
        {"params": heads, "lr": learning_rate * settings.head_factor},
    ]
    make = {"adamw": torch.optim.AdamW, "sgd": partial(torch.optim.SGD, momentum=0.9)}
    make = make[one_of("optimizer", settings.optimizer, make)]
    opts = {"segmenter": make(groups, weight_decay=settings.weight_decay)}
    for name, net in nets.items():
        parameters = [p for p in net.parameters() if p.requires_grad]
        if name != "segmenter" and parameters:  # a teacher has none
            opts[name] = torch.optim.Adam(parameters, adversarial.learning_rate, adversarial.betas)
    return opts


# ------------------------------------------------------------------------------------- batches


def shuffled_batches(
    images: int, batch_size: int, start: int, steps: int, seed: int
) -> Iterator[list[int]]:
    """The image numbers of every step from `start` on: shuffled epochs, a function of the seed."""

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
        return torch.randperm(images, generator=generator).tolist()

    for step in range(start, steps):
        places = range(step * batch_size, (step + 1) * batch_size)
        yield [order(place // images)[place % images] for place in places]


class _Labelled(Dataset):
    """Images of a folder with the labels that training may see."""

    def __init__(self, folder: SegmentationFolder, labels: Labels | None):
        self.folder, self.labels = folder, labels

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int):
        label = None if self.labels is None else torch.as_tensor(self.labels(index))
        return self.folder.image(index), label


def segmentation_batches(
    fabric,
    config: Config,
    source: SegmentationFolder | None,
    target: SegmentationFolder | None,
    target_labels: Labels | None = None,
    *,
    steps: int,
    seed: int,
    batch_size: int | None = None,
    order: str = "target",
    labelled: Sequence[int] = (),
) -> Callable[[int], Iterator[Batch]]:
    """For `train`: `batch_size` images of each domain a step, the same for every method.

    A domain that is None does not appear. Files are read by `workers` processes; flips are drawn in
    this one. order: with the seed it determines the order of the target's images. labelled: numbers
    of target images that have a batch of their own.
    """
    batch_size = batch_size or config.train.batch_size
    transform = joint_transform(config.train.flip, config.data.mean, config.data.std)
    domains = {}
    if source is not None:
        domains["source"] = (_Labelled(source, source.label), "source")
    if target is not None:
        domains["target"] = (_Labelled(target, target_labels), order)
    if labelled:
        domains["labelled"] = (Subset(domains["target"][0], labelled), "labelled")

    def from_step(start: int) -> Iterator[Batch]:
        loaders = {
            name: iter(
                DataLoader(
                    images,
                    batch_sampler=shuffled_batches(
                        len(images), batch_size, start, steps, derive_seed(seed, own)
                    ),
                    collate_fn=list,
                    num_workers=config.data.workers,
                )
            )
            for name, (images, own) in domains.items()
        }
        return (read(loaders) for _ in range(start, steps))

    def read(loaders) -> Batch:
        batch = Batch()
        for name, loader in loaders.items():
            images, labels = zip(*(transform(*item) for item in next(loader)), strict=True)
            images = torch.stack(images).to(fabric.device, memory_format=torch.channels_last)
            setattr(batch, f"{name}_images", images)
            if labels[0] is not None:
                setattr(batch, f"{name}_labels", torch.stack(labels).to(fabric.device))
        return batch

    return from_step


def prepare(images: Tensor, training: TrainingConfig, device, augment: bool = False) -> Tensor:
    """Normalise B x C x H x W uint8, or float32 in [0, 1]: float32 of the same shape, on `device`.

    augment: random crops, flips and colours, where the settings ask for them.
    """
    if augment and training.augment:
        change = v2.Compose(
            [
                v2.RandomResizedCrop(tuple(images.shape[-2:]), scale=(0.5, 1), antialias=True),
                v2.ColorJitter(0.4, 0.4, 0.4, 0.4),
                v2.RandomHorizontalFlip(),
            ]
        )
        images = torch.stack([change(image) for image in images])
    images = images.to(device, memory_format=torch.channels_last)
    if images.dtype == torch.uint8:
        images = images / 255
    return (images - training.mean) / training.std


def classification_batches(
    fabric,
    training: TrainingConfig,
    sources: tuple,
    target,
    *,
    pairs=None,
    target_labels: bool = True,
    steps: int,
    seed: int,
) -> Callable[[int], Iterator[Batch]]:
    """For `train`: `batch_size` images of every source domain, and as many of the target.

    sources, target: `Domain`s; no source, or None, where the method uses none. With `pairs` (see
    `methods.ccsa.Pairs`) the target images are those that the source images have pairs with.
    target_labels: whether the method may see them.
    """

    def numbers(domain, start: int, *name) -> Iterator[Tensor]:
        size = min(training.batch_size, len(domain))
        places = shuffled_batches(len(domain), size, start, steps, derive_seed(seed, *name))
        return map(torch.tensor, places)

    def from_step(start: int) -> Iterator[Batch]:
        drawn = [numbers(domain, start, "source", i) for i, domain in enumerate(sources)]
        own = target is not None and pairs is None
        of_target = numbers(target, start, "target") if own else None
        for step in range(start, steps):
            batch = Batch(progress=step / steps)
            chosen = [next(one) for one in drawn]
            if chosen:
                parts = list(zip(sources, chosen, strict=True))
                images = torch.cat([domain.batch(places) for domain, places in parts])
                batch.source_images = prepare(images, training, fabric.device, augment=True)
                labels = torch.cat([domain.labels[places] for domain, places in parts])
                batch.source_labels = labels.to(fabric.device)
            if pairs is not None:
                place, partner = pairs.of(chosen[0])
                wanted, partner = partner.unique(return_inverse=True)
                batch.pairs = torch.stack([place, partner], dim=1).to(fabric.device)
            elif of_target is not None:
                wanted = next(of_target)
            if target is not None:
                images = target.batch(wanted)
                batch.target_images = prepare(images, training, fabric.device, augment=True)
                if target_labels:
                    batch.target_labels = target.labels[wanted].to(fabric.device)
            yield batch

    return from_step


# ----------------------------------------------------------------------------------- inference


@torch.no_grad()
def predict(fabric, net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Main-output probabilities: B x 3 x H x W images -> B x C x size, float32."""
    with fabric.autocast():
        logits = net(images)[0]
    return deeplab.upsample(logits, size).softmax(dim=1)


def image_batches(
    folder: SegmentationFolder, config: Config, device, numbers: list[Tensor] | None = None
) -> Iterator[Tensor]:
    """Images normalised and unflipped, B x 3 x H x W: in order, or the numbers of each batch."""
    transform = joint_transform(False, config.data.mean, config.data.std)
    if numbers is None:
        numbers = torch.arange(len(folder)).split(config.data.inference_batch)
    for part in numbers:
        images = torch.stack([transform(folder.image(i), None)[0] for i in part.tolist()])
        yield images.to(device, memory_format=torch.channels_last)
