"""DeepLab-V2: a dilated backbone and a head of parallel dilated convolutions (ASPP).

Chen et al., "DeepLab", TPAMI 2018. All networks share one interface:

    logits = net(images)        # a list: the main output, then (two-level nets) the auxiliary one
                                # each B x C x h x w at the stride of the backbone

`SmallDeepLab` (0.2 M parameters, stride 4) learns the embedded streets in a minute on a CPU.
`lite` has the same head on ImageNet features (see `nets.lite`), for photographs.
`ResNetDeepLab` is the two-level ResNet-101 of AdaptSegNet (stride 8), key by key: its published
`layer5` is our `auxiliary`, `layer6` our `classifier`, and all else our `backbone`.
"""

import labor_lib.compat  # noqa: F401  (has to come before torchvision)

# isort: split
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet101_Weights, resnet101

from labor_lib.errors import one_of
from labor_lib.nets.lite import LiteBackbone
from labor_lib.runtime import imagenet_weights


class ASPP(nn.Module):
    """Sum of dilated 3x3 convolutions: B x in_channels x h x w -> B x classes x h x w.

    The published AdaptSegNet code returns inside its loop, so its trained head only ever sums the
    first two dilations (6 and 12): pass `used=2` to reproduce its predictions.
    """

    def __init__(
        self, in_channels: int, classes: int, rates: tuple[int, ...], used: int | None = None
    ):
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(in_channels, classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        self.used = len(rates) if used is None else used
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, N(0, 0.01) as published; biases zero."""
        for convolution in self.conv2d_list:
            nn.init.normal_(convolution.weight, 0, 0.01)
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        return sum(convolution(features) for convolution in self.conv2d_list[: self.used])


def _convolution(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.first = _convolution(in_channels, out_channels, stride, dilation)
        self.second = _convolution(out_channels, out_channels, 1, dilation)
        self.shortcut = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class SmallBackbone(nn.Sequential):
    """B x 3 x H x W -> B x widths[-1] x H/4 x W/4."""

    def __init__(self, widths: tuple[int, int, int, int]):
        a, b, c, d = widths
        super().__init__(
            _convolution(3, a, stride=2),
            nn.ReLU(),
            Residual(a, b, stride=2),
            Residual(b, c),
            Residual(c, c, dilation=2),
            Residual(c, d, dilation=4),
        )
        self.out_channels = d


class SmallDeepLab(nn.Module):
    """One output at stride 4; with its own small backbone the network of the embedded streets."""

    def __init__(self, classes: int, widths=(16, 32, 48, 64), rates=(1, 6, 12, 18), backbone=None):
        super().__init__()
        self.backbone = backbone or SmallBackbone(widths)
        self.classifier = ASPP(self.backbone.out_channels, classes, rates)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.classifier(self.backbone(images))]


class ResNetBackbone(nn.Module):
    """ResNet-101 with strides 1, 2, 1, 1 and dilations 1, 1, 2, 4: output stride 8.

    Differs from torchvision's in three published details: the stride sits on the first 1x1
    convolution of a block, every block of a dilated layer has the layer's dilation, and the
    max-pool rounds its size up.
    """

    def __init__(self, imagenet: bool = False):
        super().__init__()
        net = resnet101()
        if imagenet:
            net.load_state_dict(imagenet_weights(ResNet101_Weights.IMAGENET1K_V1.url))
        net.maxpool.ceil_mode = True
        net.layer2[0].conv1.stride, net.layer2[0].conv2.stride = (2, 2), (1, 1)
        for layer, dilation in ((net.layer3, 2), (net.layer4, 4)):
            for block in layer:
                block.conv2.dilation = block.conv2.padding = (dilation, dilation)
                block.conv2.stride = (1, 1)
            layer[0].downsample[0].stride = (1, 1)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(net, name))
        for module in self.modules():  # as published: the affine parameters stay ImageNet's
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.out_channels = 2048

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of layer 3 (B x 1024 x h x w) and of layer 4 (B x 2048 x h x w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)

    def forward(self, images: Tensor) -> Tensor:
        return self.levels(images)[1]


class ResNetDeepLab(nn.Module):
    """Two-level DeepLab-V2 of AdaptSegNet; the heads are named main and auxiliary."""

    def __init__(
        self, classes: int, rates=(6, 12, 18, 24), used: int | None = None, imagenet=False
    ):
        super().__init__()
        self.backbone = ResNetBackbone(imagenet)
        self.classifier = ASPP(2048, classes, rates, used)
        self.auxiliary = ASPP(1024, classes, rates, used)

    def forward(self, images: Tensor) -> list[Tensor]:
        third, fourth = self.backbone.levels(images)
        return [self.classifier(fourth), self.auxiliary(third)]


def build(network: str, classes: int, *, imagenet: bool = False) -> nn.Module:
    """A segmentation network by its name in the configuration."""
    make = {
        "small": lambda: SmallDeepLab(classes),
        "lite": lambda: SmallDeepLab(classes, backbone=LiteBackbone(imagenet)),
        "resnet101": lambda: ResNetDeepLab(classes, imagenet=imagenet),
    }
    return make[one_of("network", network, make)]()


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to `size` (H, W), in float32: B x C x h x w -> B x C x H x W.

    Losses on sparse labels need this: nearest neighbour costs about 3 mIoU.
    """
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
