"""Classifiers of small images: an embedding `features` and a `classifier` on top of it.

Every network here is a `Classifier`, so methods need to know no architecture. Those that SagNet can
cut in two are `StagedClassifier`s: a list of stages, each free to be applied on its own.
"""

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from labor_lib.config import TrainingConfig
from labor_lib.runtime import imagenet_weights


class Classifier(nn.Module):
    """B x C x H x W images -> B x classes logits, through B x F features.

    width: F, what `features` returns. classifier: F -> classes logits.
    """

    width: int
    classifier: nn.Module

    def features(self, images: Tensor) -> Tensor:
        """B x C x H x W -> B x F."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class CcsaNet(Classifier):
    """The digits network of CCSA's authors: B x 1 x 16 x 16 -> B x 84 -> B x classes.

    Motiian et al., ICCV 2017; layers and their start (Glorot uniform, biases 0, Keras's default) as
    in the authors' `Initialization.py`.
    """

    def __init__(self, classes: int = 10, channels: int = 1):
        super().__init__()
        self.width = 84
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3), nn.ReLU(),  # B x 32 x 14 x 14
            nn.Conv2d(32, 32, 3), nn.ReLU(),  # B x 32 x 12 x 12
            nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),  # B x 1152
            nn.Linear(1152, 120), nn.ReLU(),
            nn.Linear(120, 84), nn.ReLU(),  # B x 84: the embedding
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(84, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def features(self, images: Tensor) -> Tensor:
        return self.body(images)


class StagedClassifier(Classifier):
    """Stages one after the other, the mean over the pixels, a classifier.

    stages: each maps B x C x h x w to B x C' x h' x w'; SagNet cuts between two of them.
    """

    def __init__(self, stages: Sequence[nn.Module], width: int, classifier: nn.Module):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.width = width
        self.classifier = classifier

    def run(self, values: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Stages `first` to `last` (not included; all by default) on B x C x h x w."""
        for stage in self.stages[first:last]:
            values = stage(values)
        return values

    def summary(self, values: Tensor) -> Tensor:
        """What the classifier is given of the last stage's maps: B x C x h x w -> B x F."""
        return values.mean(dim=(2, 3))

    def features(self, images: Tensor) -> Tensor:
        return self.summary(self.run(images))


class DannNet(StagedClassifier):
    """The digits network of DANN: B x 3 x 32 x 32 -> B x 1200 -> B x classes.

    Ganin et al., JMLR 2016, figure 4a: the features, which the discriminator sees too, are maps;
    two hidden layers between them and the classes belong to the classifier. `hidden` counts these
    two among the features instead, B x 100, for methods that measure distances. We add BatchNorm
    after the convolutions, so that AdaBN has something to adapt.
    """

    def __init__(self, classes: int = 10, channels: int = 3, *, hidden: bool = False):
        stages = [
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 5), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
            )
            for inputs, outputs in ((channels, 32), (32, 48))
        ]  # B x 32 x 14 x 14, B x 48 x 5 x 5
        width = 48 * 5 * 5
        layers = [
            nn.Linear(width, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(),
            nn.Linear(100, classes),
        ]  # fmt: skip
        cut = 4 if hidden else 0
        super().__init__(stages, 100 if hidden else width, nn.Sequential(*layers[cut:]))
        self.hidden = nn.Sequential(*layers[:cut])

    def summary(self, values: Tensor) -> Tensor:
        return self.hidden(values.flatten(1))


def small_net(
    classes: int, channels: int = 3, widths: Sequence[int] = (32, 64, 128), stride: int = 1,
    dropout: float = 0.0,
) -> StagedClassifier:  # fmt: skip
    """A stage a width: two 3x3 convolutions with BatchNorm. The first stage divides the image's
    sides by `stride`, every other by 2: with stride 1, 32 x 32 images end as 8 x 8.
    """
    stages = []
    for inputs, outputs in pairwise((channels, *widths)):
        stages.append(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )
        )  # fmt: skip
        stride = 2
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], classes))
    return StagedClassifier(stages, widths[-1], head)


def resnet18_net(classes: int, *, imagenet: bool = False, dropout: float = 0.5) -> StagedClassifier:
    """ResNet-18 as four stages; the first holds the stem too. Dropout 0.5 as SagNet's authors have.

    `imagenet` downloads torchvision's weights on the first use; raises InputError where it cannot.
    """
    body = resnet18()
    if imagenet:
        body.load_state_dict(imagenet_weights(ResNet18_Weights.IMAGENET1K_V1.url))
    stem = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
    stages = [nn.Sequential(stem, body.layer1), body.layer2, body.layer3, body.layer4]
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, classes))
    return StagedClassifier(stages, 512, head)


def build(
    training: TrainingConfig, classes: int, channels: int, distances: bool = False
) -> Classifier:
    """A fresh network; seed before calling.

    distances: whether the method measures distances of features. The same layers and weights; in
    DANN's network the features then end after the hidden layers, as in CCSA's, for on its 1,200
    early values CCSA's squared distances are so large that the training diverges.
    """
    dropout = training.dropout
    make = {
        "ccsa": lambda: CcsaNet(classes, channels),
        "dann": lambda: DannNet(classes, channels, hidden=distances),
        "small": lambda: small_net(classes, channels, training.widths, training.stride, dropout),
        "resnet18": lambda: resnet18_net(classes, imagenet=training.imagenet, dropout=dropout),
    }
    return make[training.network]()


def optimizer(parameters: list[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of a shift."""
    make = {
        "sgd": partial(torch.optim.SGD, momentum=0.9),
        "adadelta": partial(torch.optim.Adadelta, rho=0.95, eps=1e-8),
    }
    return make[training.optimizer](
        parameters, training.learning_rate, weight_decay=training.weight_decay
    )
