"""Scores: intersection over union of a split, accuracy of a domain; all in percent."""

from dataclasses import dataclass, replace

import labor_lib.compat  # noqa: F401  (has to come before torchmetrics, which imports torchvision)

# isort: split
import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from labor_lib.config import Config, TrainingConfig
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.errors import InputError
from labor_lib.labels import IGNORE, SYNTHIA13_NAMES, SYNTHIA16
from labor_lib.nets.deeplab import upsample
from labor_lib.train import image_batches, prepare


@dataclass(frozen=True)
class Scores:
    """In percent. iou: per class name, NaN where the class occurs nowhere in the split.

    confusions: N x C x C, the pixels of each image by true class (row) and predicted class.
    """

    iou: dict[str, float]
    confusions: np.ndarray | None = None

    def mean(self, names: tuple[str, ...] | None = None) -> float:
        """Mean over the classes that occur (of `names`, where given)."""
        values = [self.iou[name] for name in names or self.iou]
        return torch.tensor(values).nanmean().item()


def scores_from(metric: MulticlassJaccardIndex, names: tuple[str, ...]) -> Scores:
    """Read a metric that was made with `average="none"` and has seen the split."""
    occurs = metric.confmat.sum(dim=1) > 0
    values = metric.compute() * 100
    values[~occurs] = torch.nan
    return Scores(dict(zip(names, values.tolist(), strict=True)))


def evaluate(fabric, net: nn.Module, folder: SegmentationFolder, config: Config) -> Scores:
    """Predict every image and compare at the native size of its label."""
    names = folder.class_set.names
    metric = MulticlassJaccardIndex(len(names), average="none", ignore_index=IGNORE)
    metric.to(fabric.device)
    net.eval()
    totals = [metric.confmat.cpu().clone()]  # after so many images
    for images in image_batches(folder, config, fabric.device):
        with torch.no_grad(), fabric.autocast():
            logits = net(images)[0]
        for one in logits:
            truth = folder.native_label(len(totals) - 1).to(fabric.device)
            full = upsample(one[None], truth.shape)
            metric.update(full.argmax(dim=1), truth[None].long())
            totals.append(metric.confmat.cpu().clone())
    if metric.confmat.sum() == 0:
        raise InputError(
            f"{folder.root}: no labelled pixel in the {folder.split} split, so nothing can be "
            "scored; are these the label files?"
        )
    confusions = torch.stack(totals).diff(dim=0).int().numpy()
    return replace(scores_from(metric, names), confusions=confusions)


def mious(confusions: np.ndarray) -> np.ndarray:
    """mIoU in percent of each matrix over the classes in its truth: N x C x C -> N; NaN of void."""
    hits, truth = np.einsum("nkk->nk", confusions), confusions.sum(axis=2)
    iou = hits / np.maximum(truth + confusions.sum(axis=1) - hits, 1)  # 0 where it does not occur
    with np.errstate(invalid="ignore"):
        return 100 * iou.sum(axis=1) / (truth > 0).sum(axis=1)


def summary(scores: Scores) -> dict[str, float]:
    """miou, and for SYNTHIA's 16 classes also miou_16 and miou_13."""
    row = {"miou": scores.mean()}
    if tuple(scores.iou) == SYNTHIA16.names:
        row |= {"miou_16": scores.mean(), "miou_13": scores.mean(SYNTHIA13_NAMES)}
    return row


@torch.no_grad()
def correct(fabric, net: nn.Module, domain, training: TrainingConfig) -> Tensor:
    """N booleans: which images of a `Domain` get their class."""
    net.eval()
    parts = []
    for numbers in torch.arange(len(domain)).split(training.inference_batch):
        with fabric.autocast():
            logits = net(prepare(domain.batch(numbers), training, fabric.device))
        parts.append(logits.argmax(dim=1).cpu() == domain.labels[numbers])
    return torch.cat(parts)


def accuracy(fabric, net: nn.Module, domains: tuple, training: TrainingConfig) -> float:
    """Mean of the domains' accuracies, in percent."""
    shares = [correct(fabric, net, domain, training).double().mean() for domain in domains]
    return float(np.mean([100 * share.item() for share in shares]))
