"""Files written whole, checkpoints that explain themselves, seeds, devices and precisions."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import full_disk
from torch import nn

from labor_lib import runtime
from labor_lib.errors import InputError


def test_writing_replaces_the_file(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    runtime.write_text(path, "old")
    with runtime.writing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename must not cross file systems
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("where", ["body", "write", "sync", "rename"])
@pytest.mark.parametrize("before", ["old", None])
def test_writing_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch, before, where):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    if where == "body":
        with pytest.raises(KeyboardInterrupt), runtime.writing(path) as temporary:  # noqa: PT012
            temporary.write_text("half")
            raise KeyboardInterrupt
    else:
        owner, name = {
            "write": (Path, "write_text"),
            "sync": (runtime.os, "fsync"),
            "rename": (Path, "replace"),
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full_disk)
            with pytest.raises(OSError, match="No space left"):
                runtime.write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "some.json"
    runtime.write_json(path, {"a": [1, 2.5, None], "b": "ü", "versions": runtime.versions()})
    found = runtime.read_json(path)
    assert (found["a"], found["b"]) == ([1, 2.5, None], "ü")
    assert found["versions"]["numpy"] == np.__version__
    for damaged in (b'{"a": [1', b"\xff\xfe\x00"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"some\.json: not JSON[^\n]*\Z"):
            runtime.read_json(path)


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        (nn.Linear(3, 5), r"weight|bias"),  # another shape
        (nn.Linear(3, 4, bias=False), r"'bias' is \(4,\) there and absent here"),
        (nn.Sequential(nn.Linear(3, 4)), r"'(0\.)?(weight|bias)'"),  # other names
    ],
)
def test_weights_of_another_architecture(tmp_path, other, wrong):
    path = tmp_path / "net.safetensors"
    runtime.save_weights(nn.Linear(3, 4), path)
    before = [p.detach().clone() for p in other.parameters()]
    message = rf"net\.safetensors: .*another architecture.*{wrong}[^\n]*\Z"
    with pytest.raises(InputError, match=message):
        runtime.load_weights(other, path)
    assert all(map(torch.equal, before, other.parameters()))


def test_weights_come_back_or_are_said_to_be_damaged(tmp_path):
    path = tmp_path / "net.safetensors"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    net(torch.randn(2, 3, 5, 5))  # moves the BatchNorm buffers
    with pytest.raises(InputError, match=r"net\.safetensors: missing .*; remove .*"):
        runtime.load_weights(net, path)
    runtime.save_weights(net, path)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    runtime.load_weights(other, path)
    torch.testing.assert_close(other.state_dict(), net.state_dict(), rtol=0, atol=0)
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:20], b"", b"not a checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"net\.safetensors: .* damaged[^\n]*\Z"):
            runtime.load_weights(net, path)


def test_seeds_are_the_same_everywhere_and_set_all_generators():
    assert runtime.derive_seed(0, "stage", 1) == 3458482323458228181
    digest = hashlib.sha256(b"0/stage/1").hexdigest()
    assert runtime.derive_seed(0, "stage", 1) == int(digest[:16], 16) // 2
    assert len({runtime.derive_seed(a, b) for a in range(20) for b in range(20)}) == 400

    def draw(*parts):
        runtime.seed_everything(*parts)
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    first, again, other = draw(1, "a"), draw(1, "a"), draw(2, "a")
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tpu", "auto"), r"unknown device 'tpu'.*auto, cpu, cuda, mps"),
        (("cpu", "fp8"), r"unknown precision 'fp8'.*auto, 32-true, bf16-mixed, 16-mixed"),
        (("cuda", "auto"), r"device 'cuda'.*--device cpu"),
        (("mps", "auto"), r"device 'mps'.*--device cpu"),
    ],
)
def test_make_fabric_refuses(monkeypatch, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        runtime.make_fabric(*arguments)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", "bfloat16"), ("auto", "float32")])
def test_make_fabric_on_the_cpu(monkeypatch, precision, dtype):
    monkeypatch.setattr(runtime, "best_precision", lambda device: "32-true")
    fabric = runtime.make_fabric("cpu", precision)
    assert fabric.device.type == "cpu"
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    ("cuda", "mps", "bf16", "device", "precision"),
    [
        (True, True, True, "cuda", "bf16-mixed"),
        (True, False, False, "cuda", "16-mixed"),
        (False, True, True, "mps", "32-true"),
        (False, False, True, "cpu", "bf16-mixed"),
        (False, False, False, "cpu", "32-true"),
        (False, False, None, "cpu", "32-true"),  # a version of torch without the probes
    ],
)
def test_best_device_and_precision(monkeypatch, cuda, mps, bf16, device, precision):
    def supported(including_emulation: bool) -> bool:
        assert not including_emulation, "emulated bf16 is slower than 16-mixed"
        return bf16

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        if bf16 is None:
            monkeypatch.delattr(torch.cpu, probe, raising=False)
        else:
            on = bf16 and "avx512" in probe  # one of them is enough
            monkeypatch.setattr(torch.cpu, probe, lambda on=on: on, raising=False)
    assert runtime.best_device() == device
    assert runtime.best_precision(device) == precision
