"""Is this machine ready for the notebooks? Each answer is "ok", or the mend in one line."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import psutil  # ipython brings it

from labor_lib.errors import InputError
from labor_lib.runtime import best_device, best_precision

OLDEST_PYTHON = (3, 11)
DISK = 1.0  # GB: the drawn images and a run of one seed with all its networks
MEMORY = 2.0  # GB: what training and the largest notebook take, with room
NAMED = ("torch", "torchvision", "numpy", "jupyterlab", "ipywidgets", "anywidget")
_INSTALL = "pip install -r requirements.txt, then restart the kernel"


def pinned(requirements: Path) -> dict[str, str]:
    """{library: version} of a requirements.txt that pins everything with `==`."""
    try:
        lines = Path(requirements).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{requirements}: no such file; give the project's folder") from None
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip(): wanted.strip() for name, wanted in pairs}


def installed(name: str) -> str:
    """The version of a library, "none" where it is missing; a build's name (+cpu) is left out."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "none"


def setup_table(project: Path) -> pd.DataFrame:
    """What the notebooks need, what is there, and "ok" or a mend: columns found, verdict."""
    wanted = pinned(project / "requirements.txt")
    others = {name: wanted[name] for name in wanted if name not in NAMED}
    device = best_device()
    rows = {
        "Python": _python(sys.version_info[:2]),
        **{name: _library(wanted[name], installed(name)) for name in NAMED if name in wanted},
        f"{len(others)} other libraries": _libraries(others),
        "device": (device, "ok"),
        "precision": _precision(device),
        "free disk": _space(shutil.disk_usage(project).free, DISK, "free disk space"),
        "free memory": _space(psutil.virtual_memory().available, MEMORY, "close other programs"),
        "finished run": _run(project / "runs" / "streets" / "results.csv"),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found", "verdict"])


def _python(found: tuple[int, int]) -> tuple[str, str]:
    mend = "install Python {}.{} or newer, remove .venv, then `make lab`".format(*OLDEST_PYTHON)
    return platform.python_version(), "ok" if found >= OLDEST_PYTHON else mend


def _library(wanted: str, found: str) -> tuple[str, str]:
    return found, "ok" if found == wanted else f"{wanted} is wanted: {_INSTALL}"


def _libraries(wanted: dict[str, str]) -> tuple[str, str]:
    found = {name: installed(name) for name in wanted}
    wrong = [f"{name} {found[name]}" for name in wanted if found[name] != wanted[name]]
    if not wrong:
        return "as pinned", "ok"
    return ", ".join(wrong), f"other than pinned: {_INSTALL}"


def _precision(device: str) -> tuple[str, str]:
    found = best_precision(device)
    slow = "ok; without bf16 instructions training takes up to twice as long"
    return found, slow if (device, found) == ("cpu", "32-true") else "ok"


def _space(free: int, wanted: float, mend: str) -> tuple[str, str]:
    """free: bytes; wanted: GB."""
    enough = free >= wanted * 1e9
    return f"{free / 1e9:.0f} GB", "ok" if enough else f"{wanted:.0f} GB are needed: {mend}"


def _run(results: Path) -> tuple[str, str]:
    if results.exists():
        return "runs/streets", "ok"
    return "none", "notebooks train small ones; `make run` makes it (8 minutes on two cores)"
