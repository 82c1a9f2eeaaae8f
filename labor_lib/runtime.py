"""The machine under a run: device, precision, seeds, files written whole, progress."""

import hashlib
import json
import logging
import os
import platform
import random
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm.auto import tqdm  # in a notebook, a widget

from labor_lib.errors import InputError, one_of

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def home() -> Path:
    """The folder of `runs/` and `data/`: LABOR_HOME, or the checkout that holds this package, or
    the current folder."""
    if os.environ.get("LABOR_HOME"):
        return Path(os.environ["LABOR_HOME"])
    checkout = Path(__file__).parents[1]
    whole = (checkout / "pyproject.toml").exists() and (checkout / "notebooks").is_dir()
    return checkout if whole else Path.cwd()


def best_device() -> str:
    """cuda, then mps, then cpu: the first this machine has."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_precision(device: str) -> str:
    """What the machine does fast: bf16 only where it has instructions for it."""
    if device == "cuda":
        real = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if real else "16-mixed"
    if device == "cpu":
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            if getattr(torch.cpu, probe, lambda: False)():
                return "bf16-mixed"
    return "32-true"


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """Lightning Fabric on one device; raises InputError for what the machine lacks."""
    one_of("device", device, DEVICES)
    one_of("precision", precision, PRECISIONS)
    device = best_device() if device == "auto" else device
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device, True):
        raise InputError(
            f"device '{device}': this machine has none that torch can use; pass --device cpu"
        )
    if precision == "16-mixed" and device == "cpu":
        raise InputError("precision '16-mixed': a CPU has bf16-mixed or 32-true")
    precision = best_precision(device) if precision == "auto" else precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator=device, devices=1, precision=precision)


def precision_of(fabric: Fabric) -> str:
    """Such as bf16-mixed; Fabric has no public name for it."""
    return fabric._precision.precision


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from names and numbers, the same on every machine and Python."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed torch, NumPy and random from names and numbers, so that a step can be repeated."""
    seed = derive_seed(*parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def writing(path: Path):
    """Write a file whole or not at all: yields a temporary path beside it, then renames it.

    A killed process or a full disk leaves the earlier file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows syncs only what it may write
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path):
    """Raises InputError where the file is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error}); remove it and run again") from None


def save_weights(module: nn.Module, path: Path) -> None:
    """A module's parameters and buffers as safetensors."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    with writing(path) as temporary:
        temporary.write_bytes(save(tensors))  # by Python, which can tell of a full disk


def imagenet_weights(url: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights from torch's cache, fetched where they are not there.

    The file's name ends in the first digits of its SHA-256, which are compared; no pickle is run.
    Raises InputError for a file that is not these weights, and where they cannot be fetched.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    digits = path.stem.rsplit("-", 1)[1]
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digits):
            raise InputError(f"{path}: not the file of {url}; remove it, or put that file there")
        return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"ImageNet weights cannot be fetched or read ({str(error).splitlines()[0]}): put {url} "
            f"into {path.parent}, or pass --no-imagenet"
        ) from None


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill `module` from a safetensors file; raises InputError where it is missing, damaged or of
    another architecture."""
    try:
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise InputError(
            f"{path}: missing or damaged ({error}); remove {path.parent} and run again"
        ) from None
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != found:
        wrong = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise InputError(
            f"{path}: checkpoint of another architecture ('{wrong}' is "
            f"{found.get(wrong, 'absent')} there and {wanted.get(wrong, 'absent')} here); "
            "use the preset it was made with, or another --out"
        )
    if not all(value.isfinite().all() for value in tensors.values()):
        raise InputError(
            f"{path}: not finite, so the training diverged; lower its learning rate, remove "
            f"{path.parent} and run again"
        )
    module.load_state_dict(tensors)


def versions() -> dict[str, str]:
    """Library versions and the machine's kind, for the record of a run."""
    libraries = ("torch", "torchvision", "lightning-fabric", "torchmetrics", "numpy", "pillow")
    return {name: version(name) for name in libraries} | {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


class Progress:
    """One live line: what is being done, the latest losses, the share done and the time left."""

    def __init__(self):
        self._bar = tqdm(disable=True)  # until `expect`

    def expect(self, steps: int) -> None:
        """How many steps are to come in all; with none there is no line."""
        notebook = "ipykernel" in sys.modules  # there the bar vanishes when done
        live = notebook or sys.stderr.isatty()
        self._bar = tqdm(
            total=steps,
            mininterval=0.2 if live else 30,
            leave=not notebook,
            smoothing=0.02,
            bar_format="{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} steps, "
            "{elapsed} gone, {remaining} left{postfix}",
            disable=not steps,
        )

    def phase(self, text: str) -> None:
        """What begins now."""
        self._bar.set_description_str(text, refresh=True)

    def step(self, losses: dict[str, float]) -> None:
        """One step is done."""
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
