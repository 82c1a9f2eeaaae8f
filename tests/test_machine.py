"""The check of the set-up says ok, or how to fix it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from labor_lib.errors import InputError
from labor_lib.lab import machine

PROJECT = Path(__file__).parents[1]


def test_every_requirement_is_pinned_and_checked():
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = machine.pinned(PROJECT / "requirements.txt")
    assert len(wanted) == sum(not line.startswith("#") for line in lines if line.strip())
    assert set(machine.NAMED) <= set(wanted)
    table = machine.setup_table(PROJECT)
    assert f"{len(wanted) - len(machine.NAMED)} other libraries" in table.index


def test_what_is_wrong_comes_with_a_fix(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text(
        "# arrays\nnumpy==1.0\n# networks\ntorch==9.9\n# none such\nno-such-library==3.1\n"
    )
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=4e8))
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=0.9e9))
    monkeypatch.setattr(machine, "version", lambda name: {"numpy": "1.0+cpu"}.get(name, "0.1"))
    monkeypatch.setattr(machine, "best_precision", lambda device: "32-true")
    monkeypatch.setattr(machine, "best_device", lambda: "cpu")
    monkeypatch.setattr(machine, "PYTHON", (9, 0))
    table = machine.setup_table(tmp_path)
    verdict = table["verdict"]
    assert verdict["numpy"] == "ok"  # compared without the build
    assert "9.9: pip install" in verdict["torch"]
    assert table.loc["1 other libraries", "found"] == "no-such-library 0.1"
    assert "pip install" in verdict["1 other libraries"]
    assert verdict["free disk"] == "1 GB are needed: free disk space"
    assert verdict["free memory"] == "2 GB are needed: close other programs"
    assert verdict["precision"].startswith("ok; ")
    assert "make run" in verdict["finished run"]
    assert verdict["Python"].startswith("install Python")
    (tmp_path / "requirements.txt").unlink()
    with pytest.raises(InputError, match="no such file"):
        machine.setup_table(tmp_path)


def test_a_library_that_is_missing():
    assert machine.installed("no-such-library") == "none"
