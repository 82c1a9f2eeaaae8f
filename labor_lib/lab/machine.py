"""Is this machine ready for the notebooks? Each answer is "ok", or how to fix it, in one line."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import psutil  # ipython brings it

from labor_lib.runtime import best_device, best_precision

PYTHON = (3, 11)
DISK, MEMORY = 1, 2  # GB: the drawn images and a run with its networks; training, with room
NAMED = ("torch", "torchvision", "numpy", "jupyterlab", "ipywidgets", "anywidget")
INSTALL = "pip install -r requirements.txt, then restart the kernel"


def pinned(requirements: Path) -> dict[str, str]:
    """{library: version} of a requirements.txt that pins everything with `==`."""
    lines = Path(requirements).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def installed(name: str) -> str:
    """The version of a library without its build (+cpu); "none" where it is missing."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return "none"


def setup_table(project: Path) -> pd.DataFrame:
    """What the notebooks need: columns found, verdict ("ok", or how to fix it)."""
    wanted = pinned(project / "requirements.txt")
    others = {name: installed(name) for name in wanted if name not in NAMED}
    wrong = [f"{name} {found}" for name, found in others.items() if found != wanted[name]]
    device = best_device()
    precision = best_precision(device)
    slow = precision == "32-true" and device == "cpu"
    disk = shutil.disk_usage(project).free / 1e9
    memory = psutil.virtual_memory().available / 1e9
    run = (project / "runs" / "streets" / "results.csv").exists()
    checks = [
        ("Python", platform.python_version(), sys.version_info >= PYTHON,
         "install Python 3.11 or newer, remove .venv, `make lab`"),
        *((name, installed(name), installed(name) == wanted[name], f"{wanted[name]}: {INSTALL}")
          for name in NAMED if name in wanted),
        (f"{len(others)} other libraries", ", ".join(wrong) or "as pinned", not wrong, INSTALL),
        ("device", device, True, ""),
        ("precision", precision, not slow,
         "ok; without bf16 instructions training takes up to twice as long"),
        ("free disk", f"{disk:.0f} GB", disk >= DISK, f"{DISK} GB are needed: free disk space"),
        ("free memory", f"{memory:.0f} GB", memory >= MEMORY,
         f"{MEMORY} GB are needed: close other programs"),
        ("finished run", "runs/streets" if run else "none", run,
         "notebooks train small ones; `make run` makes it (8 minutes on two cores)"),
    ]  # fmt: skip
    rows = {name: (found, "ok" if fine else fix) for name, found, fine, fix in checks}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found", "verdict"])
