"""What may not change by accident: every drawn pixel, and the exact results of tiny runs.

Drawn pixels are the same on every machine. Trained numbers depend on the processor's instructions
and on the version of torch, so they are compared on machines like the one that recorded them and
skipped elsewhere, saying so. To record them after a change that is meant:

    python tests/test_pins.py
"""

import hashlib
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labor_lib.config import Where, changed, configure, preset
from labor_lib.drawn.digits import SHIFTS
from labor_lib.drawn.streets import write_streets
from labor_lib.drawn.styles import STYLES, draw_styles
from labor_lib.lab.classification import ClassificationPhases
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.methods.registry import resolve
from labor_lib.runtime import best_precision, make_fabric

PINS = Path(__file__).with_name("pins.json")
STREETS = ((0, (112, 224)), (3, (112, 224)), (0, (180, 240)), (1, (80, 160)), (0, (32, 64)))
SHORT = {"steps": 6, "finetune_steps": 3, "checkpoint_steps": 4, "inference_batch": 50}


def digest(*arrays) -> str:
    """SHA-256 of the shapes, types and bytes of arrays."""
    total = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def machine() -> dict[str, str]:
    """What trained numbers depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        known = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
        processor = [known.get(name, "").strip() for name in ("model name", "cpu family", "model")]
    except OSError:
        processor = [platform.processor()]
    return {
        "processor": " ".join(processor),
        "torch": torch.__version__.split("+")[0],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": best_precision("cpu"),  # whether the processor multiplies in it
        "threads": str(torch.get_num_threads()),
    }


def drawn_streets(folder: Path) -> dict[str, str]:
    """Every image and label of a few small sets."""
    found = {}
    for seed, size in STREETS:
        root = folder / f"{seed}-{size[0]}"
        counts = {"source": 3, "train": 2, "val": 2, "test": 2}
        write_streets(root, scene_seed=seed, size=size, progress=False, workers=1, **counts)
        files = sorted(root.rglob("*.png"))
        pixels = [np.asarray(Image.open(path)) for path in files]
        found[f"scenes {seed}, {size[0]} x {size[1]}"] = digest(*pixels)
    return found


def drawn_images() -> dict[str, str]:
    """Digits and shapes: all domains of the drawn shifts."""
    found = {}
    for name, seed in (("fonts", 0), ("fonts", 2), ("textured", 0), ("textured", 2)):
        shift = SHIFTS[name](seed)
        domains = (shift.source, shift.source_val, shift.target_train, shift.target_test)
        arrays = [part.numpy() for one in domains for part in (one.images, one.labels)]
        found[f"{name}, seed {seed}"] = digest(*arrays)
    for style in STYLES:
        found[f"{style}, seed 0"] = digest(*draw_styles(style, per_class=5, seed=0))
    found["photo, seed 1, 32 pixels"] = digest(*draw_styles("photo", 3, seed=1, size=32))
    return found


def smoke(folder: Path, methods: tuple[str, ...], precision: str) -> dict[str, str]:
    """Scores and weights of the last stage of methods at the smoke preset."""
    phases = SegmentationPhases(
        preset("smoke"), folder, Roots(folder / "data"), make_fabric("cpu", precision)
    )
    table = phases.run(resolve(list(methods)), [0])
    scores = [name for name in table if name == "miou" or name.startswith("iou_")]
    found = {}
    for method, rows in table.groupby("method"):
        last = folder / "seed0" / str(method) / "stage3"
        weights = (last / "segmenter.safetensors").read_bytes()
        asked = last / "selection.npz"
        parts = [rows[scores].to_numpy(float), np.frombuffer(weights, np.uint8)]
        if asked.exists():
            with np.load(asked) as file:
                parts += [file["positions"], file["answers"]]
        found[str(method)] = digest(*parts)
    return found


def classification(folder: Path, shift: str, root: Path | None, source="", target=""):
    """Scores and weights of a few steps of every method of a shift."""
    where = Where(root, source, target)
    config = configure(shift, where, "small" if shift == "folder" else None, few=(1,))
    short = SHORT | ({"select_every": 3} if config.training.select_every else {})
    if shift == "folder":
        short |= {"size": 16, "batch_size": 4}
    config = changed(config, training=short)
    fabric = make_fabric("cpu", "32-true")
    table = ClassificationPhases(config, where, folder, fabric).run(resolve(["all"], config), [0])
    found = {}
    for phase in sorted(folder.rglob("phase.json")):
        weights = (phase.parent / "net.safetensors").read_bytes()
        name = "/".join(phase.parent.relative_to(folder).parts)
        found[f"{shift}: {name}"] = digest(np.frombuffer(weights, np.uint8))
    scores = [name for name in table if "accuracy" in name]
    found[f"{shift}{' ' + source if source else ''}: table"] = digest(table[scores].to_numpy(float))
    return found


def write_images(root: Path, count: int = 12) -> Path:
    """Three domains of two classes of random images."""
    rng = np.random.default_rng(0)
    for domain in ("art", "photo", "sketch"):
        for name in ("cat", "dog"):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


def write_ccsa(root: Path) -> Path:
    """Files as CCSA's authors have them, of random images, one labelled image a class."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for part, each in (("train_source", 20), ("train_target", 1), ("test_target", 10)):
        labels = np.repeat(np.arange(10.0), each)
        end = f"{part}_repetition_0_sample_per_class_1.npy"
        np.save(root / f"MNIST_to_USPS_y_{end}", labels)
        images = rng.random((len(labels), 16, 16), dtype=np.float32)
        np.save(root / f"MNIST_to_USPS_X_{end}", images)
    return root


RUNS = {  # name: makes the pins of one run in an empty folder
    "smoke": lambda folder: smoke(folder, ("all",), "32-true"),
    "smoke, bf16": lambda folder: smoke(folder, ("ppl", "spl"), "bf16-mixed"),
    "fonts": lambda folder: classification(folder, "fonts", None),
    "textured": lambda folder: classification(folder, "textured", None),
    "styles": lambda folder: classification(folder, "styles", None),
    "ccsa": lambda folder: classification(folder / "run", "ccsa", write_ccsa(folder / "files")),
    "folder": lambda folder: classification(
        folder / "run", "folder", write_images(folder / "files")
    ),
    "folder, adapted": lambda folder: classification(
        folder / "run", "folder", write_images(folder / "files"), "art", "photo"
    ),
}


@pytest.fixture(scope="module")
def pins() -> dict:
    return json.loads(PINS.read_text(encoding="utf-8"))


def test_streets_are_drawn_pixel_by_pixel_as_before(tmp_path, pins):
    assert drawn_streets(tmp_path) == pins["streets"]


def test_digits_and_shapes_are_drawn_pixel_by_pixel_as_before(pins):
    assert drawn_images() == pins["images"]


@pytest.mark.parametrize("name", list(RUNS))
def test_runs_end_with_the_same_bits_as_before(name, tmp_path, pins):
    if machine() != pins["machine"]:
        pytest.skip(f"recorded on another machine: {pins['machine']}, this is {machine()}")
    assert RUNS[name](tmp_path / "run") == pins["runs"][name]


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pins = {
            "machine": machine(),
            "streets": drawn_streets(root / "streets"),
            "images": drawn_images(),
            "runs": {name: run(root / name.replace(", ", "-")) for name, run in RUNS.items()},
        }
    PINS.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
