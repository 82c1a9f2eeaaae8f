"""Files written whole, checkpoints that explain themselves, seeds, devices and precisions."""

import errno
import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from labor_lib import runtime
from labor_lib.errors import InputError
from labor_lib.runtime import (
    Progress,
    best_device,
    best_precision,
    derive_seed,
    load_weights,
    make_fabric,
    read_json,
    read_weights,
    save_weights,
    seed_everything,
    versions,
    write_json,
    write_text,
    writing,
)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


# ------------------------------------------------------------------------------ files


def test_writing_replaces_the_file(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with writing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename must not cross file systems
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("before", ["old", None])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_writing_keeps_the_old_file_when_the_body_raises(tmp_path, before, error):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    with pytest.raises(error), writing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("where", ["write", "sync", "rename"])
def test_writing_keeps_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch, where):
    path = tmp_path / "file.txt"
    path.write_text("old")
    owner, name = {
        "write": (Path, "write_text"),
        "sync": (runtime.os, "fsync"),
        "rename": (Path, "replace"),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full_disk)
        with pytest.raises(OSError, match="No space left"):
            runtime.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
    assert path.read_text() == "old"


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "some.json"
    write_json(path, {"a": [1, 2.5, None], "b": "ü"})
    assert read_json(path) == {"a": [1, 2.5, None], "b": "ü"}
    for damaged in (b'{"a": [1', b"\xff\xfe\x00"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"some\.json: not JSON") as caught:
            read_json(path)
        assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------ checkpoints


def test_weights_round_trip(tmp_path):
    path = tmp_path / "net.safetensors"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    net(torch.randn(2, 3, 5, 5))  # moves the BatchNorm buffers
    save_weights(net, path)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(other, path)
    saved, loaded = net.state_dict(), other.state_dict()
    assert set(saved) == set(loaded) == set(read_weights(path))
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


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
    save_weights(nn.Linear(3, 4), path)
    before = [p.detach().clone() for p in other.parameters()]
    with pytest.raises(
        InputError, match=rf"net\.safetensors: .*another architecture.*{wrong}"
    ) as e:
        load_weights(other, path)
    assert "\n" not in str(e.value)
    assert all(map(torch.equal, before, other.parameters()))


def test_weights_missing_or_damaged(tmp_path):
    path, net = tmp_path / "net.safetensors", nn.Linear(3, 4)
    with pytest.raises(InputError, match=r"net\.safetensors: no such file; remove .*"):
        load_weights(net, path)
    save_weights(net, path)
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:20], b"", b"not a checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"net\.safetensors: damaged") as caught:
            load_weights(net, path)
        assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ seeds


def test_derive_seed_is_the_same_everywhere():
    assert derive_seed(0, "stage", 1) == 3458482323458228181
    digest = hashlib.sha256(b"0/stage/1").hexdigest()
    assert derive_seed(0, "stage", 1) == int(digest[:16], 16) // 2
    seeds = {derive_seed(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_seed_everything_repeats_all_generators():
    def draw(*parts):
        seed_everything(*parts)
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    first, again, other = draw(1, "a"), draw(1, "a"), draw(2, "a")
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


# ---------------------------------------------------------------- devices, precisions


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
    with pytest.raises(InputError, match=message) as caught:
        make_fabric(*arguments)
    assert "\n" not in str(caught.value)


def test_make_fabric_on_the_cpu(monkeypatch):
    fabric = make_fabric("cpu", "bf16-mixed")
    assert fabric.device.type == "cpu"
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    monkeypatch.setattr(runtime, "best_precision", lambda device: "32-true")
    with make_fabric("cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")],
)
def test_best_precision_of_a_cpu(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert best_precision("cpu") == expected


def test_best_precision_without_the_probes(monkeypatch):
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    assert best_precision("cpu") == "32-true"


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_best_precision_elsewhere(monkeypatch, bf16, expected):
    def supported(including_emulation: bool) -> bool:
        assert not including_emulation, "emulated bf16 is slower than 16-mixed"
        return bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert best_precision("cuda") == expected
    assert best_precision("mps") == "32-true"


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_best_device(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == expected


def test_versions_are_storable():
    found = json.loads(json.dumps(versions()))
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["numpy"] == np.__version__


def test_progress_tells_phase_losses_and_time_left(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # in a notebook the bar vanishes
    progress = Progress()
    progress.expect(2)
    progress.phase("DANN, seed 0")
    progress.step({"domain": 0.6931})
    progress.step({"domain": 0.5})
    progress.close()
    line = capsys.readouterr().err
    assert "DANN, seed 0" in line
    assert "2/2 steps" in line
    assert "left" in line
    assert "domain 0.500" in line


def test_progress_is_silent_where_nothing_is_to_do(capsys):
    progress = Progress()
    progress.expect(0)
    progress.phase("AdaBN, seed 0")  # an evaluation alone takes no steps
    progress.step({"domain": 0.5})
    progress.close()
    assert capsys.readouterr().err == ""
