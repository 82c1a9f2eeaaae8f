"""Discriminators: from which domain does this segmentation come, or this feature of a class?"""

from itertools import pairwise

from torch import Tensor, nn


class OutputDiscriminator(nn.Sequential):
    """Fully convolutional: B x classes x h x w probabilities -> B x 1 x h' x w' domain logits.

    4x4 convolutions of stride 2 with leaky ReLU 0.2, as AdaptSegNet (Tsai et al., CVPR 2018),
    which has `widths` 64, 128, 256, 512. A patch that it takes for the target has a positive logit.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = (64, 128, 256, 512)):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((classes, *widths)):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 2, 1))


class ClassDiscriminator(nn.Sequential):
    """One for each class: B x classes x features -> B x classes domain logits, target positive.

    Two hidden layers as wide as the features, as in WDA's published code; groups of a convolution
    keep the classes apart.
    """

    def __init__(self, classes: int, features: int):
        wide = classes * features
        super().__init__(
            nn.Conv1d(wide, wide, 1, groups=classes),
            nn.ReLU(),
            nn.Conv1d(wide, wide, 1, groups=classes),
            nn.ReLU(),
            nn.Conv1d(wide, classes, 1, groups=classes),
        )

    def forward(self, vectors: Tensor) -> Tensor:
        return super().forward(vectors.flatten(1)[..., None])[..., 0]
