"""Networks: published outputs, strides, heads, and which optimiser group holds what."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labor_lib.config import GTA5, changed
from labor_lib.errors import InputError
from labor_lib.nets import deeplab
from labor_lib.nets.discriminator import OutputDiscriminator
from labor_lib.train import build_nets, build_optimizers


@pytest.fixture(scope="module")
def resnet():
    return deeplab.ResNetDeepLab(19, used=2).eval()


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


@pytest.mark.parametrize("module", ["metrics", "methods.registry"])
def test_imports_first(module):
    """Each module can be the first to be imported, also beside a CPU build of torch."""
    command = [sys.executable, "-c", f"import labor_lib.{module}"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_published_outputs(resnet, golden):
    shapes = golden("adaptsegnet_deeplab_multi_keys.json")["state_dict_shapes"]
    expected = golden("adaptsegnet_deeplab_multi.npz")
    heads = {"layer5": "auxiliary", "layer6": "classifier"}
    state = {}
    for key, value in published_fill(shapes).items():
        layer, _, rest = key.partition(".")
        state[f"{heads.get(layer, f'backbone.{layer}')}.{rest}"] = value
    result = resnet.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
    x = np.sin(0.011 * np.arange(3 * 65 * 129)).astype(np.float32).reshape(1, 3, 65, 129)
    with torch.no_grad():
        main, auxiliary = resnet(torch.from_numpy(x))
    for found, name in ((main, "layer6_65x129"), (auxiliary, "layer5_65x129")):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found.numpy(), expected[name], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("used", [None, 1, 2, 3])
def test_aspp_sums_the_dilations_in_use(used):
    torch.manual_seed(0)
    rates = (1, 3, 6)
    head = deeplab.ASPP(4, 5, rates, used)
    for convolution in head.conv2d_list:
        nn.init.normal_(convolution.bias)
    x = torch.randn(2, 4, 9, 11)
    expected = sum(
        F.conv2d(x.double(), c.weight.double(), c.bias.double(), padding=r, dilation=r)
        for c, r in list(zip(head.conv2d_list, rates, strict=True))[: used or 3]
    )
    torch.testing.assert_close(head(x).double(), expected, rtol=0, atol=1e-6)


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


def test_build_nets_by_name_with_one_discriminator_a_level(tiny):
    for weights in ((0.1,), (0.1, 0.2)):
        nets = build_nets(changed(tiny, adversarial={"level_weights": weights}), 14)
        names = [f"discriminator{level}" for level in range(len(weights))]
        assert list(nets) == ["segmenter", *names]
    (logits,) = nets["segmenter"](torch.randn(2, 3, 33, 66))
    assert logits.shape == (2, 14, 9, 17)  # stride 4, rounded up
    with pytest.raises(InputError, match="'big': choose one of small, lite, resnet101"):
        deeplab.build("big", 14)
    config = changed(tiny, train={"optimizer": "magic"})
    with pytest.raises(InputError, match="'magic': choose one of adamw, sgd"):
        build_optimizers(nets, config, 0.1)
    enlarged = deeplab.upsample(torch.tensor([[[[0.0, 4.0]]]]).bfloat16(), (2, 4))
    expected = torch.tensor([0.0, 1.0, 3.0, 4.0]).expand(1, 1, 2, 4)  # centres at 1/4 and 3/4
    torch.testing.assert_close(enlarged, expected)  # float32


@pytest.mark.parametrize("published", [False, True])
def test_parameters_in_one_group_each(resnet, tiny, published):
    net = resnet if published else deeplab.SmallDeepLab(14)
    config = GTA5 if published else changed(tiny, train={"head_factor": 10})
    optimizer = build_optimizers({"segmenter": net}, config, 2.5e-4)["segmenter"]
    frozen = set()
    if published:
        assert isinstance(optimizer, torch.optim.SGD)
        assert all(g["momentum"] == 0.9 for g in optimizer.param_groups)
        assert all(g["weight_decay"] == 5e-4 for g in optimizer.param_groups)
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        frozen = {parameter for module in norms for parameter in module.parameters()}
        assert len(frozen) == 2 * 104
    found = [(p, group["lr"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(dict(found))  # each once
    assert set(dict(found)) == set(net.parameters()) - frozen
    heads = [net.classifier, *([net.auxiliary] if published else [])]
    heads = {p for head in heads for p in head.parameters()}
    for parameter, rate in found:
        assert rate == pytest.approx(2.5e-3 if parameter in heads else 2.5e-4)
