"""Time per step and memory of DANN, CCSA and SagNet, beside the straightforward way, in one run.

    python -m benchmarks.family [--device cuda] [--steps 10] [--threads 1]

The two ways of a method do the same work on the same images (random ones, of the shift's shapes);
prints a Markdown table. Memory is what is kept for the backward passes, at its peak: measured by
counting, so it is the same on every machine.

    CCSA    images embedded once an update      both images of every pair embedded for it
    DANN    each domain passes once             the source passes again for the domain's loss
    SagNet  one pass, three gradients           the early stages run for each of three updates
    DomainBed's SagNet, and the plain loop (ERM), stand alone.
"""

import argparse
import platform
import statistics
import time
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from labor_lib.config import SHIFTS
from labor_lib.data.classification import Domain
from labor_lib.lab.classification import Problem, build
from labor_lib.methods.ccsa import ccsa_loss, ccsa_step, distances, make_pairs
from labor_lib.methods.dann import dann_step, domain_loss, reversal_scale, reverse_gradient
from labor_lib.methods.erm import erm_step
from labor_lib.methods.registry import CLASSIFICATION
from labor_lib.methods.sagnet import (
    adversarial_loss,
    early_affines,
    pooled_step,
    randomise_content,
    randomise_style,
    sagnet_step,
)
from labor_lib.runtime import make_fabric, precision_of, seed_everything
from labor_lib.train import classification_batches

WARM = 2  # steps that are not counted


class Kept:
    """Bytes kept for backward passes: each storage once, parameters not."""

    def __init__(self):
        self.users: Counter[int] = Counter()
        self.live = self.peak = 0

    class _Box:
        def __init__(self, kept, values: Tensor):
            self.kept, self.values = kept, values
            self.key, self.bytes = _storage(values)
            kept.users[self.key] += 1
            if kept.users[self.key] == 1:
                kept.live += self.bytes
                kept.peak = max(kept.peak, kept.live)

        def __del__(self):
            self.kept.users[self.key] -= 1
            if not self.kept.users[self.key]:
                self.kept.live -= self.bytes

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)

    def _pack(self, values: Tensor):
        return values if values.is_leaf and values.requires_grad else self._Box(self, values)

    def _unpack(self, packed):
        return packed.values if isinstance(packed, self._Box) else packed


def _storage(values: Tensor) -> tuple[int, int]:
    storage = values.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


# -------------------------------------------------------------------------- straightforward ways


def ccsa_pair_by_pair(fabric, nets, opts, batch, cfg) -> dict[str, float]:
    """As the authors and the ports: a batch of pairs, each image embedded for each of its pairs."""
    net = nets["net"]
    i, j = batch.pairs.unbind(dim=1)
    images = {"source": batch.source_images[i], "target": batch.target_images[j]}
    labels = {"source": batch.source_labels[i], "target": batch.target_labels[j]}
    losses = {}
    for stream in ("source", "target"):
        with fabric.autocast():
            pair = {name: net.features(images[name]).float() for name in images}
        loss = ccsa_loss(
            net.classifier(pair[stream]),
            labels[stream],
            distances(pair["source"], pair["target"]),
            labels["source"] == labels["target"],
            cfg.alpha,
            cfg.margin,
        )
        opts["net"].zero_grad()
        fabric.backward(loss)
        opts["net"].step()
        losses[stream] = loss.item()
    return losses


def dann_in_passes(fabric, nets, opts, batch, cfg) -> dict[str, float]:
    """The classifier's pass over the source, then the discriminator's over each domain."""
    net, discriminator = nets["net"], nets["discriminator"]
    scale = cfg.weight * reversal_scale(batch.progress, cfg.gamma)
    opts["net"].zero_grad()
    opts["discriminator"].zero_grad()
    with fabric.autocast():
        logits = net(batch.source_images).float()
    classification = F.cross_entropy(logits, batch.source_labels)
    fabric.backward(classification)
    with fabric.autocast():
        of_source, of_target = (
            discriminator(reverse_gradient(net.features(images), scale)).float()
            for images in (batch.source_images, batch.target_images)
        )
    domain = domain_loss(of_source, of_target)
    fabric.backward(domain)
    opts["net"].step()
    opts["discriminator"].step()
    return {"classification": classification.item(), "domain": domain.item()}


def sagnet_in_passes(fabric, nets, opts, batch, cfg) -> dict[str, float]:
    """Three updates one after the other, each with its own pass from the images on."""
    net, style_net = nets["net"], nets["style"]
    labels = batch.source_labels

    def early() -> Tensor:
        with fabric.autocast():
            return net.run(batch.source_images, last=cfg.stages).float()

    def style_logits() -> Tensor:
        maps = early()
        lied = randomise_content(maps.flatten(2), torch.randperm(len(maps)).to(maps.device))
        with fabric.autocast():
            return style_net(lied.view_as(maps))

    maps = early()
    others, weight = torch.randperm(len(maps)).to(maps.device), torch.rand(len(maps))
    mixed = randomise_style(maps.flatten(2), others, weight.to(maps.device)).view_as(maps)
    with fabric.autocast():
        logits = net.classifier(net.summary(net.run(mixed, first=cfg.stages)))
    content = F.cross_entropy(logits.float(), labels)
    opts["net"].zero_grad()
    fabric.backward(content)
    opts["net"].step()

    of_style = F.cross_entropy(style_logits().float(), labels)
    opts["style"].zero_grad()
    fabric.backward(of_style)
    opts["style"].step()

    adversarial = cfg.adversarial_weight * adversarial_loss(style_logits())
    opts["net"].zero_grad()
    fabric.backward(adversarial)
    torch.nn.utils.clip_grad_norm_(early_affines(net, cfg.stages), cfg.clip)
    opts["adversary"].step()
    return {"content": content.item(), "style": of_style.item(), "adversarial": adversarial.item()}


# ----------------------------------------------------------------------------------- measuring


def random_domain(count: int, channels: int, size: int, classes: int) -> Domain:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator)
    return Domain(
        "random", tuple(map(str, range(classes))), images.byte(), torch.arange(count) % classes
    )


def made(fabric, method: str, shift: str, problem: Problem, steps: int):
    """Networks, optimisers and batches of a method, as the runner makes them."""
    config = SHIFTS[shift]
    training = replace(config.training, imagenet=False, augment=False)
    config = replace(config, training=training)
    nets, opts = build(CLASSIFICATION[method], config, problem, seed=0)
    for net in nets.values():
        net.to(fabric.device, memory_format=torch.channels_last).train()
    nets = {name: fabric.setup_module(net) for name, net in nets.items()}
    opts = {name: fabric.setup_optimizers(opt) for name, opt in opts.items()}
    pairs = None
    if method == "ccsa":
        pairs = make_pairs(problem.sources[0].labels, problem.few.labels, config.ccsa.negatives, 0)
    known = CLASSIFICATION[method]
    of_target = {"few": problem.few, "nothing": None}.get(known.sees, problem.target_train)
    stream = classification_batches(
        fabric, training, problem.sources if known.source else (), of_target,
        pairs=pairs, steps=steps, seed=0,
    )(0)  # fmt: skip
    own = known.settings
    return nets, opts, stream, getattr(config, own) if own else None


def measure(fabric, step, method: str, shift: str, problem: Problem, steps: int):
    """(median seconds of a step, peak bytes kept for backward)."""
    nets, opts, stream, own = made(fabric, method, shift, problem, steps + WARM + 1)
    seconds = []
    for _ in range(steps + WARM):
        batch = next(stream)
        started = time.perf_counter()
        step(fabric, nets, opts, batch, own)  # returns numbers: the device has finished
        seconds.append(time.perf_counter() - started)
    with Kept() as kept:
        step(fabric, nets, opts, next(stream), own)
    return statistics.median(seconds[WARM:]), kept.peak


def problems() -> dict[str, tuple[str, str, Problem]]:
    """Row name -> (method, shift, what it trains on)."""
    digits = random_domain(2000, 1, 16, 10)
    colour = random_domain(800, 3, 32, 10)
    photo = random_domain(336, 3, 48, 7)
    found = {"ERM": ("source_only", "textured", Problem((colour,), (), colour))}
    for n in (1, 7):
        few = digits.take(range(10 * n))
        found[f"CCSA, {n} a class"] = ("ccsa", "ccsa", Problem((digits,), (), digits, few=few))
    found["DANN"] = ("dann", "textured", Problem((colour,), (), colour, colour))
    sources = Problem((photo,) * 3, (), photo)
    found["ERM, three domains"] = ("source_only", "styles", sources)
    found["SagNet"] = ("sagnet", "styles", sources)
    found["SagNet as in DomainBed"] = ("sagnet_pooled", "styles", sources)
    return found


WAYS = {  # ours, the straightforward one
    "source_only": (erm_step, None),
    "ccsa": (ccsa_step, ccsa_pair_by_pair),
    "dann": (dann_step, dann_in_passes),
    "sagnet": (sagnet_step, sagnet_in_passes),
    "sagnet_pooled": (pooled_step, None),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, help="of the processor; torch's choice by default")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    fabric = make_fabric(options.device, options.precision)
    seed_everything("benchmark")
    print(f"torch {torch.__version__}, {platform.machine()}, {fabric.device}, ", end="")
    print(f"{precision_of(fabric)}, {torch.get_num_threads()} threads\n")
    print("| method | ms a step | MB kept | straightforward: ms | MB kept | times faster |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, (method, shift, problem) in problems().items():
        ours, plain = WAYS[method]
        seconds, kept = measure(fabric, ours, method, shift, problem, options.steps)
        row = f"| {name} | {1000 * seconds:.1f} | {kept / 1e6:.1f} |"
        if plain is None:
            print(f"{row} | | |")
            continue
        slow, much = measure(fabric, plain, method, shift, problem, options.steps)
        print(f"{row} {1000 * slow:.1f} | {much / 1e6:.1f} | {slow / seconds:.1f} |")


if __name__ == "__main__":
    main()
