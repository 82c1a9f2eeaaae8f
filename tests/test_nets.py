"""Networks: published outputs, strides, heads, and which optimiser group holds what."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labor_lib.config import GTA5
from labor_lib.errors import InputError
from labor_lib.nets.deeplab import (
    ASPP,
    ResNetDeepLab,
    SmallDeepLab,
    build,
    from_adaptsegnet,
    upsample,
)
from labor_lib.nets.discriminator import OutputDiscriminator
from labor_lib.train import build_nets, build_optimizers


@pytest.fixture(scope="module")
def resnet():
    return ResNetDeepLab(19, used=2).eval()


def published_fill(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The deterministic state dict that the golden outputs belong to."""
    state = {}
    for i, key in enumerate(sorted(shapes)):
        if key.endswith("num_batches_tracked"):
            continue
        shape = shapes[key]
        x = np.sin(0.37 * np.arange(int(np.prod(shape))) + i)
        norm = "bn" in key or ".downsample.1." in key
        if key.endswith("running_var"):
            x = 1 + 0.5 * x
        elif norm and key.endswith("weight"):
            x = 1 + 0.1 * x
        elif len(shape) == 4:
            x = x * np.sqrt(2 / np.prod(shape[1:]))
        else:
            x = 0.1 * x
        state[key] = torch.from_numpy(x.reshape(shape).astype(np.float32))
    return state


@pytest.mark.parametrize("module", ["nets.deeplab", "metrics", "methods.registry"])
def test_imports_first(module):
    """Each module can be the first to be imported, also beside a CPU build of torch."""
    command = [sys.executable, "-c", f"import labor_lib.{module}"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_published_outputs(resnet, golden):
    shapes = golden("adaptsegnet_deeplab_multi_keys.json")["state_dict_shapes"]
    expected = golden("adaptsegnet_deeplab_multi.npz")
    result = resnet.load_state_dict(from_adaptsegnet(published_fill(shapes)), strict=False)
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
    x = np.sin(0.011 * np.arange(3 * 65 * 129)).astype(np.float32).reshape(1, 3, 65, 129)
    with torch.no_grad():
        main, auxiliary = resnet(torch.from_numpy(x))
    for found, name in ((main, "layer6_65x129"), (auxiliary, "layer5_65x129")):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found.numpy(), expected[name], rtol=0, atol=1e-4 * scale)


def test_published_output_size(resnet):
    """The max-pool rounds up: 512 x 1024 gives 65 x 129, and so on down."""
    with torch.no_grad():
        main, auxiliary = resnet(torch.zeros(1, 3, 32, 64))
    assert main.shape == auxiliary.shape == (1, 19, 5, 9)


@pytest.mark.parametrize("used", [None, 1, 2, 3])
def test_aspp_sums_the_dilations_in_use(used):
    torch.manual_seed(0)
    rates = (1, 3, 6)
    head = ASPP(4, 5, rates, used)
    for convolution in head.conv2d_list:
        nn.init.normal_(convolution.bias)
    x = torch.randn(2, 4, 9, 11)
    expected = sum(
        F.conv2d(x.double(), c.weight.double(), c.bias.double(), padding=r, dilation=r)
        for c, r in list(zip(head.conv2d_list, rates, strict=True))[: used or 3]
    )
    torch.testing.assert_close(head(x).double(), expected, rtol=0, atol=1e-6)


def test_aspp_reset_draws_anew():
    head = ASPP(64, 19, (1, 6))
    before = [c.weight.detach().clone() for c in head.conv2d_list]
    for convolution in head.conv2d_list:
        nn.init.ones_(convolution.bias)
    head.reset_parameters()
    for old, convolution in zip(before, head.conv2d_list, strict=True):
        assert (old != convolution.weight).all()
        assert convolution.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(convolution.weight.mean().item()) < 5e-4
        assert (convolution.bias == 0).all()


@pytest.mark.parametrize(("size", "expected"), [((32, 64), (8, 16)), ((33, 66), (9, 17))])
def test_small_net_has_stride_four(size, expected):
    (logits,) = SmallDeepLab(7)(torch.randn(2, 3, *size))
    assert logits.shape == (2, 7, *expected)


def test_channels_last_changes_nothing():
    torch.manual_seed(0)
    net = SmallDeepLab(5).eval()
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        plain = net(x)[0].clone()
        net.to(memory_format=torch.channels_last)
        packed = net(x.to(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(packed, plain, rtol=0, atol=1e-6)


def test_discriminator_is_the_published_chain():
    torch.manual_seed(0)
    net = OutputDiscriminator(19)
    found = [tuple(p.shape) for p in net.parameters() if p.dim() == 4]
    widths = [19, 64, 128, 256, 512, 1]
    assert found == [(b, a, 4, 4) for a, b in pairwise(widths)]
    x = torch.rand(1, 19, 64, 96)
    y = x.double()
    weights = [p.detach().double() for p in net.parameters()]
    for i in range(5):
        y = F.conv2d(y, weights[2 * i], weights[2 * i + 1], stride=2, padding=1)
        if i < 4:
            y = torch.where(y > 0, y, 0.2 * y)
    assert net(x).shape == (1, 1, 2, 3)
    torch.testing.assert_close(net(x).double(), y, rtol=0, atol=1e-6)


def test_build_by_name():
    assert isinstance(build("small", 14), SmallDeepLab)
    with pytest.raises(InputError, match=r"'big'.*small or resnet101") as caught:
        build("big", 14)
    assert "\n" not in str(caught.value)


def test_build_nets_has_one_discriminator_a_level(tiny):
    for weights in ((0.1,), (0.1, 0.2)):
        adversarial = replace(tiny.adversarial, level_weights=weights)
        nets = build_nets(replace(tiny, adversarial=adversarial), 14)
        names = [f"discriminator{level}" for level in range(len(weights))]
        assert list(nets) == ["segmenter", *names]


def test_upsample_is_bilinear_in_float32():
    x = torch.tensor([[[[0.0, 4.0]]]])
    expected = torch.tensor([0.0, 1.0, 3.0, 4.0]).expand(1, 1, 2, 4)  # centres at 1/4 and 3/4
    torch.testing.assert_close(upsample(x, (2, 4)), expected)
    assert upsample(x.bfloat16(), (2, 4)).dtype == torch.float32


def groups_of(net, config, rate):
    """{parameter: [learning rates of its groups]}, of the segmenter's optimiser."""
    optimizer = build_optimizers({"segmenter": net}, config, rate)["segmenter"]
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found.setdefault(parameter, []).append(group["lr"])
    return optimizer, found


def test_small_net_parameters_in_one_group_each(tiny):
    config = replace(tiny, train=replace(tiny.train, head_factor=3.0))
    net = SmallDeepLab(14)
    _, found = groups_of(net, config, 0.5)
    assert set(found) == set(net.parameters())
    head = set(net.classifier.parameters())
    for parameter, rates in found.items():
        assert rates == [1.5 if parameter in head else 0.5]


def test_resnet_parameters_in_one_group_each(resnet):
    optimizer, found = groups_of(resnet, GTA5, 2.5e-4)
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(g["momentum"] == 0.9 and g["weight_decay"] == 5e-4 for g in optimizer.param_groups)
    frozen = {
        parameter
        for module in resnet.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    }
    assert len(frozen) == 2 * 104
    assert set(found) == set(resnet.parameters()) - frozen
    heads = {p for head in (resnet.classifier, resnet.auxiliary) for p in head.parameters()}
    assert len(heads) == 16
    for parameter, rates in found.items():
        assert rates == [pytest.approx(2.5e-3 if parameter in heads else 2.5e-4)]


def test_unknown_optimizer(tiny):
    config = replace(tiny, train=replace(tiny.train, optimizer="magic"))
    with pytest.raises(InputError, match=r"'magic'.*adamw or sgd"):
        build_optimizers(build_nets(config, 14), config, 0.1)
