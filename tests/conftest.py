"""What several test files need: golden values, tiny folders, a CPU fabric, a tiny configuration."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labor_lib.__main__ import main
from labor_lib.config import SMOKE, changed
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import STREETS14
from labor_lib.nets.deeplab import SmallDeepLab
from labor_lib.runtime import make_fabric

NATIVE = (16, 32)  # height, width of the files that `write_split` makes
RAW = (7, 8, 11, 21, 23, 26, 0)  # road, sidewalk, building, vegetation, sky, car, void


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of `fixtures/` and `data/`; skips where it is absent, or fails with
    LABOR_GOLDEN=must."""
    root = Path(os.environ.get("LABOR_SHARED") or Path(__file__).parents[2] / "shared")
    if not (root / "fixtures").is_dir():
        absent("golden values are not on this machine (set LABOR_SHARED to their folder)")
    return root


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path; without a run's lock."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def accepted(*arguments) -> None:
    """Run the command line in this process; it has to end with exit code 0."""
    assert main([str(argument) for argument in arguments]) == 0


def refused(capsys, *arguments) -> str:
    """Run the command line, which ends with exit code 2; returns its one line on standard error."""
    assert main([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("labor: ")]
    assert len(lines) == 1
    return lines[0]


def assert_same_run(one: Path, other: Path) -> None:
    """The same files; every network, selection, cost, loss and picture bit for bit."""
    first, second = files(one), files(other)
    assert first.keys() == second.keys()
    ends = (".safetensors", ".npz", "trace.csv", "cost.csv", ".png")
    same = [name for name in first if name.endswith(ends)]
    assert len(same) >= 3
    assert [name for name in same if first[name] != second[name]] == []


def absent(why: str) -> None:
    if os.environ.get("LABOR_GOLDEN") == "must":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def golden(shared):
    """Reads one file of golden values by name."""

    def read(name: str):
        path = shared / "fixtures" / name
        if not path.exists():
            absent(f"golden values {name} are not on this machine")
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    return read


@pytest.fixture
def segmenter():
    """A tiny untrained network whose predictions differ from pixel to pixel."""
    torch.manual_seed(0)
    net = SmallDeepLab(14, widths=(6, 8, 8, 10), rates=(1, 2))
    with torch.no_grad():
        for convolution in net.classifier.conv2d_list:
            convolution.weight.mul_(500)
    return net.eval()


@pytest.fixture(scope="session")
def fabric():
    return make_fabric("cpu", "32-true")


@pytest.fixture
def tiny():
    """The smallest configuration: 16 x 32 pixels, two images a step, a short discriminator."""
    return changed(
        SMOKE,
        data={"source_size": NATIVE, "target_size": NATIVE, "inference_batch": 5},
        train={"batch_size": 2, "ramp_steps": 3},
        adversarial={"widths": (8,)},  # more would not fit the pixels
    )


def write_split(root: Path, layout: str, split: str, count: int, size=NATIVE, seed: int = 0):
    """Random images and labels of 2 x 2 blocks in a published layout; returns the root."""
    generator = np.random.default_rng([seed, *split.encode()])
    for i in range(count):
        if layout == "gta5":
            image, label = root / f"images/{i:05}.png", root / f"labels/{i:05}.png"
        else:
            stem = f"{split}/aachen/aachen_{i:06}_000019"
            image = root / f"leftImg8bit/{stem}_leftImg8bit.png"
            label = root / f"gtFine/{stem}_gtFine_labelIds.png"
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
        blocks = generator.choice(RAW, (size[0] // 2, size[1] // 2)).astype(np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((2, 2), np.uint8))).save(label)
    return root


@pytest.fixture
def make_folder(tmp_path):
    """Writes a tiny split and opens it: make_folder(layout, split, count, **reader settings)."""

    def make(layout="cityscapes", split="train", count=3, native=NATIVE, size=NATIVE, **settings):
        root = write_split(tmp_path / layout, layout, split, count, native)
        return SegmentationFolder(root, layout, split, STREETS14, size, **settings)

    return make


class Pictures:
    """A folder in memory: N x 3 x H x W uint8 images without labels; `read`: in which order."""

    def __init__(self, images: torch.Tensor):
        self.images, self.read = images, []

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> torch.Tensor:
        self.read.append(index)
        return self.images[index]


@pytest.fixture
def pictures():
    """Makes a folder in memory of so many random images."""

    def make(count: int, size=(8, 12), seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        shape = (count, 3, *size)
        return Pictures(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))

    return make
