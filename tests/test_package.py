"""The built package, installed: `labor` runs from an empty folder and writes only there.

Only with LABOR_PACKAGE=must (`make test-package`): building a wheel needs the package index.
"""

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import labor_lib

PROJECT = Path(__file__).parents[1]


@pytest.mark.skipif(os.environ.get("LABOR_PACKAGE") != "must", reason="set LABOR_PACKAGE=must")
def test_an_installed_package_runs_from_an_empty_folder(tmp_path):
    wheels, place, here = tmp_path / "wheels", tmp_path / "environment", tmp_path / "empty"
    here.mkdir()
    # a PYTHONPATH to the sources would make pip believe that the package is installed
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LABOR", "PYTHON"))}
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, PROJECT]
    subprocess.run(build, check=True, cwd=here, env=clean)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = place / "bin" / "python"
    (wheel,) = wheels.glob("labor_lib-*.whl")
    install = [python, "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True, cwd=here, env=clean)
    site = next((place / "lib").glob("python*/site-packages"))
    # the libraries of this environment, which a user's pip would install
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [place / "bin" / "labor", "run", "--preset", "smoke", "--methods", "ppl"]
    done = subprocess.run(command, cwd=here, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (here / "runs/smoke/report.html").exists()
    assert (here / "data").is_dir()
    where = [python, "-c", "import labor_lib; print(labor_lib.__file__)"]
    found = subprocess.run(where, cwd=here, env=clean, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(site)
    assert not any((site / name).exists() for name in ("runs", "data"))


ROOT = Path(labor_lib.__file__).parent
FORBIDDEN = {"core": ("labor_lib.drawn", "labor_lib.lab"), "drawn": ("labor_lib.lab",), "lab": ()}


def wing(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first if first in ("drawn", "lab") else "core"


def imported(source: str, package: str) -> set[str]:
    """Full names of all modules that a file imports, inside functions, too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, node.module or ""] if node.level else [node.module])
            names |= {f"{base.rstrip('.')}.{alias.name}" for alias in node.names}
    return names


# the command line stands above the wings
@pytest.mark.parametrize(
    "path", [path for path in sorted(ROOT.rglob("*.py")) if path.name != "__main__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_imports_go_one_way(path):
    package = ".".join([ROOT.name, *path.parent.relative_to(ROOT).parts])
    found = imported(path.read_text(encoding="utf-8"), package)
    wrong = [
        name for name in found for up in FORBIDDEN[wing(path)] if f"{name}.".startswith(f"{up}.")
    ]
    assert not wrong, f"{wing(path)} must not import {', '.join(wrong)}"
