"""The family's loop on one screen: batches of every step, training, accuracy."""

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from labor_lib.errors import InputError
from labor_lib.family_config import FamilyConfig, TrainingConfig
from labor_lib.lab.family_data import Problem
from labor_lib.methods.ccsa import Pairs, make_pairs
from labor_lib.methods.erm import Batch
from labor_lib.methods.family_registry import FamilyMethod, Nets, Optimizers
from labor_lib.runtime import derive_seed, save_weights, seed_everything
from labor_lib.train import Schedule, resume_state, save_state


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


def rate_factor(progress: float, schedule: str) -> float:
    """What multiplies the learning rate: "dann" (1 + 10 p)^-0.75, "cosine" to 0, or "constant"."""
    if schedule == "dann":
        return (1 + 10 * progress) ** -0.75
    if schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    if schedule == "constant":
        return 1.0
    raise InputError(f"unknown schedule '{schedule}': choose dann, cosine or constant")


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
    return float(np.mean([percent(correct(fabric, net, d, training)) for d in domains]))


def percent(right: Tensor) -> float:
    return 100 * right.double().mean().item()
