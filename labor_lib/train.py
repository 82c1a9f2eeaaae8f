"""The explicit training loop, and what it moves: batches, networks, optimisers."""

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder, joint_transform
from labor_lib.errors import InputError
from labor_lib.methods.erm import adapt_batchnorm, sample_in_batches
from labor_lib.nets import deeplab
from labor_lib.nets.discriminator import OutputDiscriminator
from labor_lib.runtime import derive_seed, load_weights, save_weights, seed_everything, writing


@dataclass
class Batch:
    """One step's images and labels, on the device.

    images: B x 3 x H x W, float32, normalised. labels: B x H x W, int64, 255 = none.
    Target labels are what the method may know: asked pixels, pseudo labels or nothing.
    """

    source_images: Tensor | None = None
    source_labels: Tensor | None = None
    target_images: Tensor | None = None
    target_labels: Tensor | None = None


@dataclass
class Nets:
    """The segmenter and one discriminator per output level."""

    segmenter: nn.Module
    discriminators: list[nn.Module] = field(default_factory=list)

    def named(self) -> dict[str, nn.Module]:
        names = [f"discriminator{level}" for level in range(len(self.discriminators))]
        return {"segmenter": self.segmenter, **dict(zip(names, self.discriminators, strict=True))}

    def save(self, folder: Path) -> None:
        """One safetensors file per network."""
        for name, net in self.named().items():
            save_weights(net, folder / f"{name}.safetensors")

    def load(self, folder: Path) -> None:
        """Raises InputError where a file is missing, damaged or of another architecture."""
        for name, net in self.named().items():
            load_weights(net, folder / f"{name}.safetensors")


@dataclass
class Optimizers:
    """One optimiser per network of `Nets`."""

    segmenter: torch.optim.Optimizer
    discriminators: list[torch.optim.Optimizer] = field(default_factory=list)

    def all(self) -> list[torch.optim.Optimizer]:
        return [self.segmenter, *self.discriminators]


Step = Callable[..., dict[str, float]]


def build_nets(config: Config, classes: int) -> Nets:
    """Fresh networks for a configuration; seed before calling."""
    settings = config.train
    segmenter = deeplab.build(settings.network, classes, imagenet=settings.imagenet)
    levels = len(config.adversarial.level_weights)
    discriminators = [
        OutputDiscriminator(classes, config.adversarial.widths) for _ in range(levels)
    ]
    return Nets(segmenter.to(memory_format=torch.channels_last), discriminators)


def build_optimizers(nets: Nets, config: Config, learning_rate: float) -> Optimizers:
    """Fresh optimisers. Every parameter is in exactly one group (the original steps some twice)."""
    settings, adversarial = config.train, config.adversarial
    heads = [p for name, p in nets.segmenter.named_parameters() if not name.startswith("backbone.")]
    body = [p for p in nets.segmenter.backbone.parameters() if p.requires_grad]
    groups = [
        {"params": body, "lr": learning_rate},
        {"params": heads, "lr": learning_rate * settings.head_factor},
    ]
    if settings.optimizer == "adamw":
        segmenter = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    elif settings.optimizer == "sgd":
        segmenter = torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay)
    else:
        raise InputError(f"unknown optimizer '{settings.optimizer}': choose adamw or sgd")
    discriminators = [
        torch.optim.Adam(net.parameters(), adversarial.learning_rate, adversarial.betas)
        for net in nets.discriminators
    ]
    opts = Optimizers(segmenter, discriminators)
    for optimizer in opts.all():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # what the schedule multiplies
    return opts


def rate_factor(step: int, steps: int, config: Config) -> float:
    """Polynomial decay (DeepLab) after a linear ramp, both within one phase: in (0, 1]."""
    ramp = config.train.ramp_steps
    rising = min(1.0, (step + 1) / ramp) if ramp else 1.0
    return rising * (1 - step / steps) ** config.train.poly_power


def update(fabric, net: nn.Module, optimizer: torch.optim.Optimizer, config: Config) -> None:
    """Clip the gradient if the configuration says so, then step."""
    if config.train.clip_norm:
        fabric.clip_gradients(net, optimizer, max_norm=config.train.clip_norm)
    optimizer.step()


# ------------------------------------------------------------------------------------- batches


class Schedule(torch.utils.data.Sampler[list[int]]):
    """The image numbers of every step from `start` on: shuffled epochs, a function of the seed."""

    def __init__(self, images: int, batch_size: int, start: int, steps: int, seed: int):
        self.images, self.batch_size = images, batch_size
        self.start, self.steps, self.seed = start, steps, seed

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        epochs: dict[int, list[int]] = {}
        for step in range(self.start, self.steps):
            indices = []
            for place in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, position = divmod(place, self.images)
                if epoch not in epochs:
                    generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
                    epochs[epoch] = torch.randperm(self.images, generator=generator).tolist()
                indices.append(epochs[epoch][position])
            epochs = {e: order for e, order in epochs.items() if e >= epoch}
            yield indices


class _Numbered(torch.utils.data.Dataset):
    """Items with the labels that training may see."""

    def __init__(self, folder: SegmentationFolder, labels: Callable[[int], np.ndarray] | None):
        self.folder, self.labels = folder, labels

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int):
        label = None
        if self.labels is not None:
            label = torch.as_tensor(self.labels(index))
        return self.folder.image(index), label


class Stream:
    """Batches of one domain: uint8 from the folder, augmented and normalised in this process.

    labels: image number -> H x W, uint8. Shapes as in `Batch`.
    """

    def __init__(
        self,
        folder: SegmentationFolder,
        labels: Callable[[int], np.ndarray] | None,
        config: Config,
        *,
        start: int,
        steps: int,
        seed: int,
        batch_size: int | None = None,
    ):
        batch_size = batch_size or config.train.batch_size
        schedule = Schedule(len(folder), batch_size, start, steps, seed)
        loader = DataLoader(
            _Numbered(folder, labels),
            batch_sampler=schedule,
            collate_fn=list,
            num_workers=config.data.workers,
        )
        self.items = iter(loader)
        self.transform = joint_transform(config.train.flip, config.data.mean, config.data.std)

    def next(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        images, labels = zip(*(self.transform(*item) for item in next(self.items)), strict=True)
        stacked = torch.stack(images).to(device, memory_format=torch.channels_last)
        if labels[0] is None:
            return stacked, None
        return stacked, torch.stack(labels).to(device)


@dataclass
class Material:
    """What a phase trains on; a domain that is None does not appear in its batches."""

    source: SegmentationFolder | None = None
    target: SegmentationFolder | None = None
    target_labels: Callable[[int], np.ndarray] | None = None


# ---------------------------------------------------------------------------------- the loop


def train(
    fabric,
    nets: Nets,
    step_function: Step,
    material: Material,
    config: Config,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    checkpoint: Path,
    on_step: Callable[[dict[str, float]], None] = lambda losses: None,
) -> list[dict[str, float]]:
    """Train `nets` in place for `steps` steps; returns the losses of every step.

    Every step seeds itself from `seed` and its number, and the state is saved to `checkpoint`
    every `checkpoint_steps`: a killed run goes on from there and ends with the same numbers.
    """
    opts = build_optimizers(nets, config, learning_rate)
    for net in nets.named().values():
        net.train().to(fabric.device)
    start, trace = resume_state(checkpoint, nets, opts)
    nets, opts = _set_up(fabric, nets, opts)
    streams = _streams(material, config, start=start, steps=steps, seed=seed)
    for step in range(start, steps):
        seed_everything(seed, step)
        _set_rates(opts, rate_factor(step, steps, config))
        batch = Batch()
        for domain, stream in streams.items():
            images, labels = stream.next(fabric.device)
            setattr(batch, f"{domain}_images", images)
            setattr(batch, f"{domain}_labels", labels)
        losses = step_function(fabric, nets, opts, batch, config)
        trace.append(losses)
        on_step(losses)
        if (step + 1) % config.train.checkpoint_steps == 0 and step + 1 < steps:
            save_state(checkpoint, nets, opts, trace)
    return trace


def _set_up(fabric, nets: Nets, opts: Optimizers) -> tuple[Nets, Optimizers]:
    """Wrap networks and optimisers for the device, the precision and several processes."""
    pairs = zip(nets.named().values(), opts.all(), strict=True)
    modules, optimizers = zip(*(fabric.setup(net, opt) for net, opt in pairs), strict=True)
    return (
        Nets(modules[0], list(modules[1:])),
        Optimizers(optimizers[0], list(optimizers[1:])),
    )


def _streams(material: Material, config: Config, *, seed: int, **position) -> dict[str, Stream]:
    streams = {}
    if material.source is not None:
        streams["source"] = Stream(
            material.source,
            material.source.label,
            config,
            seed=derive_seed(seed, "source"),
            **position,
        )
    if material.target is not None:
        streams["target"] = Stream(
            material.target,
            material.target_labels,
            config,
            seed=derive_seed(seed, "target"),
            **position,
        )
    return streams


def _set_rates(opts: Optimizers, factor: float) -> None:
    for optimizer in opts.all():
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def save_state(path: Path, nets: Nets, opts: Optimizers, trace: list[dict[str, float]]) -> None:
    """Weights, optimisers and losses in the middle of a phase, for `resume_state`."""
    state = {
        "nets": [net.state_dict() for net in nets.named().values()],
        "optimizers": [optimizer.state_dict() for optimizer in opts.all()],
        "trace": trace,
    }
    memory = io.BytesIO()
    torch.save(state, memory)
    with writing(path) as temporary:
        temporary.write_bytes(memory.getbuffer())  # by Python, which can tell of a full disk


def resume_state(path: Path, nets: Nets, opts: Optimizers) -> tuple[int, list[dict[str, float]]]:
    """The step to go on from, and the losses before it; (0, []) where nothing was saved."""
    if not path.exists():
        return 0, []
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        return _restore(state, nets, opts)
    except (
        RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError,
        pickle.UnpicklingError,
    ):  # fmt: skip
        # torch's own texts run over many lines
        raise InputError(f"{path}: damaged checkpoint; remove it and run again") from None


def _restore(state: dict, nets: Nets, opts: Optimizers) -> tuple[int, list[dict[str, float]]]:
    for net, saved in zip(nets.named().values(), state["nets"], strict=True):
        net.load_state_dict(saved)
    for optimizer, saved in zip(opts.all(), state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return len(state["trace"]), state["trace"]


# --------------------------------------------------------------------------------- inference

STATISTICS_IMAGES = 200  # that BatchNorm statistics are estimated from, at the most


@torch.no_grad()
def predict(fabric, net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Main-output probabilities: B x 3 x H x W images -> B x C x size, float32."""
    with fabric.autocast():
        logits = net(images)[0]
    return deeplab.upsample(logits, size).softmax(dim=1)


def image_batches(
    folder: SegmentationFolder, config: Config, device, batch_size: int | None = None
):
    """All images of a folder in order, normalised and unflipped: (first number, B x 3 x H x W)."""
    batch_size = batch_size or config.data.inference_batch
    transform = joint_transform(False, config.data.mean, config.data.std)
    for first in range(0, len(folder), batch_size):
        numbers = range(first, min(first + batch_size, len(folder)))
        images = torch.stack([transform(folder.image(i), None)[0] for i in numbers])
        yield first, images.to(device, memory_format=torch.channels_last)


def estimate_statistics(fabric, net: nn.Module, folder: SegmentationFolder, config: Config) -> None:
    """Replace the BatchNorm statistics by those of a sample of `folder`'s images (AdaBN)."""
    transform = joint_transform(False, config.data.mean, config.data.std)

    def images(numbers: Tensor) -> Tensor:
        stacked = torch.stack([transform(folder.image(i), None)[0] for i in numbers.tolist()])
        return stacked.to(fabric.device, memory_format=torch.channels_last)

    sample = sample_in_batches(len(folder), config.data.inference_batch, STATISTICS_IMAGES)
    adapt_batchnorm(fabric, net.to(fabric.device), map(images, sample))
