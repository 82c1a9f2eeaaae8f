"""Three wings, one direction: the lab may use the drawn worlds and the core, never the reverse."""

import ast
from pathlib import Path

import pytest

import labor_lib

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
