"""One selection of a whole split: predict, let a rule choose, image by image."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labor_lib.config import Config, SelectorConfig
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.methods.iast import select_pseudo_labels
from labor_lib.methods.labor import PixelSelector, inconsistency_mask, selector_step
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import derive_seed, seed_everything
from labor_lib.selection.record import Masks, Selection
from labor_lib.selection.rules import RULES
from labor_lib.train import Stream, image_batches, predict


def write_pseudo_labels(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config, alpha: float, path: Path
) -> "StoredLabels":
    """IAST's pseudo labels of every image, in a file that is read as needed.

    Warns where there is not a single one: nothing would be learnt from them.
    """
    size = config.data.target_size
    settings = config.self_training
    net.eval()
    images = image_batches(folder, config, fabric.device, settings.batch_size)
    probs = (predict(fabric, net, batch, size) for _, batch in images)
    selected = select_pseudo_labels(
        probs,
        len(folder.class_set),
        alpha=alpha,
        beta=settings.beta,
        gamma=settings.gamma,
        start=settings.start,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(folder), *size)
    labels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    first = 0
    for part in selected:
        labels[first : first + len(part)] = part.cpu().numpy()
        first += len(part)
    if (labels == IGNORE).all():
        warnings.warn("no pixel is confident enough for a pseudo label", stacklevel=2)
    labels.flush()
    return StoredLabels(path)


class StoredLabels:
    """Label maps in a NumPy file, N x H x W uint8: call with an image number to get its map.

    Processes that read images receive the path, not the labels.
    """

    def __init__(self, path: Path):
        self.path = path
        self._labels: np.ndarray | None = None

    def __call__(self, index: int) -> np.ndarray:
        if self._labels is None:
            self._labels = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return np.array(self._labels[index])

    def __getstate__(self) -> dict:
        return {"path": self.path, "_labels": None}


def train_selector(
    fabric,
    segmenter: nn.Module,
    folder: SegmentationFolder,
    pseudo: Callable[[int], np.ndarray],
    config: Config,
    settings: SelectorConfig,
    seed: int,
    on_step: Callable[[dict[str, float]], None] = lambda losses: None,
) -> tuple[PixelSelector, list[dict[str, float]]]:
    """Train a fresh pixel selector on pseudo labels; returns it and the losses of every step.

    BatchNorm keeps the segmenter's statistics, which belong to the target by now.
    """
    seed_everything(seed, "selector")
    selector = PixelSelector(segmenter, settings).to(fabric.device)
    parameters = [p for p in selector.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, settings.learning_rate)
    wrapped, optimizer = fabric.setup(selector, optimizer)
    wrapped.eval()
    stream = Stream(
        folder,
        pseudo,
        config,
        start=0,
        steps=settings.steps,
        seed=derive_seed(seed, "images"),
        batch_size=settings.batch_size,
    )
    trace = []
    for step in range(settings.steps):
        seed_everything(seed, step)
        images, labels = stream.next(fabric.device)
        losses = selector_step(fabric, wrapped, optimizer, images, labels, settings)
        trace.append(losses)
        on_step(losses)
    return selector, trace


@torch.no_grad()
def paired_probabilities(
    fabric, net: nn.Module, folder: SegmentationFolder, config: Config
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For the images in order: the first number, and both classifiers' B x C x H x W.

    Of a segmenter, which has one classifier, the same probabilities twice.
    """
    size = config.data.target_size
    net.eval()
    for first, images in image_batches(folder, config, fabric.device):
        if isinstance(net, PixelSelector):
            with fabric.autocast():
                both = net(images)
            one, two = (upsample(logits, size).softmax(dim=1) for logits in both)
        else:
            one = two = predict(fabric, net, images, size)
        yield first, one, two


def select(
    fabric,
    net: nn.Module,
    folder: SegmentationFolder,
    config: Config,
    *,
    rule: str,
    budget: int,
    taken: Selection,
    seed: int,
) -> tuple[Selection, Masks]:
    """Apply a rule to every image of a split. net: a pixel selector or a segmenter.

    Also returns the inconsistency masks, which are empty for a segmenter.
    """
    choose = RULES[rule]
    parts, masks = [], []
    for first, one, two in paired_probabilities(fabric, net, folder, config):
        masks.append(inconsistency_mask(one, two))
        for i in range(len(one)):  # one by one: the choice is the same at any batch size
            before = torch.from_numpy(taken.mask(first + i)[None]).to(one.device)
            generator = torch.Generator().manual_seed(derive_seed(seed, first + i))
            parts.append(choose(one[i : i + 1], two[i : i + 1], budget, before, generator))
    return Selection.join(parts), Masks.from_masks(masks)
