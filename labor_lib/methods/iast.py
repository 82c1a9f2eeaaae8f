"""IAST: instance-adaptive self-training.

Mei et al., "Instance Adaptive Self-Training for Unsupervised Domain Adaptation", ECCV 2020.
A threshold per class follows the confidences as images pass by; pixels above it teach, pixels
below it are made confident by entropy, and the taught ones are kept from over-confidence.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.source_only import pixel_cross_entropy
from labor_lib.nets.deeplab import upsample
from labor_lib.train import Batch, image_batches, predict


def update_thresholds(
    thresholds: np.ndarray, probs: Tensor, alpha: float, beta: float, gamma: float
) -> np.ndarray:
    """The class thresholds after one mini-batch (paper, eqs. 5-7, as in the authors' code).

    thresholds: C, float64. probs: B x C x H x W. The confidences of the pixels predicted as a
    class, and its threshold itself, in float16; their percentile at 100 (1 - alpha theta^gamma);
    then an exponential moving average, values from 1 on capped to 0.999.
    """
    confidence, predicted = (part.cpu().numpy() for part in probs.max(dim=1))
    confidence = confidence.astype(np.float16)
    updated = thresholds.copy()
    for index, theta in enumerate(thresholds):
        seen = np.append(confidence[predicted == index], np.float16(theta))
        rank = 100 * (1 - alpha * theta**gamma)
        updated[index] = beta * theta + (1 - beta) * np.percentile(seen, rank)
    updated[updated >= 1] = 0.999
    return updated


def pseudo_labels(probs: Tensor, thresholds: np.ndarray) -> Tensor:
    """The predicted class where its confidence reaches the class threshold, else 255.

    probs: B x C x H x W -> B x H x W, uint8, on the CPU: Apple's GPUs have no float64.
    """
    confidence, predicted = (part.cpu() for part in probs.max(dim=1))
    limit = torch.as_tensor(thresholds)[predicted]
    labels = predicted.to(torch.uint8)
    labels[confidence < limit] = IGNORE
    return labels


def select_pseudo_labels(
    batches: Iterable[Tensor], classes: int, alpha: float, beta: float, gamma: float, start: float
) -> Iterator[Tensor]:
    """Pseudo labels batch by batch, the thresholds moving along."""
    thresholds = np.full(classes, start)
    for probs in batches:
        thresholds = update_thresholds(thresholds, probs, alpha, beta, gamma)
        yield pseudo_labels(probs, thresholds)


def stored_labels(path: Path, index: int) -> np.ndarray:
    """Map `index`, H x W, of label maps in a NumPy file, N x H x W uint8."""
    return np.array(np.load(path, mmap_mode="r")[index])


def write_pseudo_labels(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config, alpha: float, path: Path
) -> Callable[[int], np.ndarray]:
    """Pseudo labels of every image, in a file: call the result with an image number to get its map.

    Processes that read images receive the path, not the labels. Warns where there is not a single
    label: nothing would be learnt.
    """
    size, settings = config.data.target_size, config.self_training
    net.eval()
    numbers = torch.arange(len(folder)).split(settings.batch_size)
    images = image_batches(folder, config, fabric.device, numbers)
    probs = (predict(fabric, net, batch, size) for batch in images)
    rates = (alpha, settings.beta, settings.gamma, settings.start)
    parts = select_pseudo_labels(probs, len(folder.class_set), *rates)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(folder), *size)}
    found = False
    with path.open("wb") as file:  # written, not mapped: a full disk is an error, not a crash
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            found |= bool((part != IGNORE).any())
            file.write(part.cpu().numpy().tobytes())
    if not found:
        warnings.warn("no pixel is confident enough for a pseudo label", stacklevel=2)
    return partial(stored_labels, path)


def entropy_loss(logits: Tensor, ignored: Tensor) -> Tensor:
    """-p log p, mean over the ignored pixels *and* the C classes, as in the authors' code.

    logits: B x C x H x W, at the size of `ignored`, B x H x W booleans.
    """
    log_probs = logits.log_softmax(dim=1)
    entropy = -(log_probs.exp() * log_probs).mean(dim=1)  # B x H x W, nats / C
    return (entropy * ignored).sum() / ignored.sum().clamp(min=1)


def confidence_kld_loss(logits: Tensor, labelled: Tensor) -> Tensor:
    """-(1/C) log p: distance from the uniform, mean over the labelled pixels and the C classes."""
    kld = -logits.log_softmax(dim=1).mean(dim=1) / logits.shape[1]  # B x H x W
    return (kld * labelled).sum() / labelled.sum().clamp(min=1)


def self_training_loss(logits: Tensor, labels: Tensor, config: Config) -> Tensor:
    """Cross-entropy with the pseudo labels and both regularisers (paper, eq. 11)."""
    settings = config.self_training
    full = upsample(logits, labels.shape[-2:])
    ignored = labels == IGNORE
    return (
        settings.label_weight * pixel_cross_entropy(full, labels)
        + settings.entropy_weight * entropy_loss(full, ignored)
        + settings.kld_weight * confidence_kld_loss(full, ~ignored)
    )


def iast_step(fabric, nets, opts, batch: Batch, config: Config) -> dict[str, float]:
    """AdaptSegNet's step plus self-training on the target batch.

    The authors train without the adversary in this phase; here it goes on, so that the row
    differs from `adaptsegnet` by self-training alone.
    """

    def target_loss(levels) -> Tensor:
        return self_training_loss(levels[0], batch.target_labels, config)

    return adaptsegnet_step(fabric, nets, opts, batch, config, target_loss=target_loss)
