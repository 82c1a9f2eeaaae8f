"""The check of the set-up says ok, or the mend."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from labor_lib.errors import InputError
from labor_lib.lab import machine

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "# arrays\nnumpy==1.0\n# networks\ntorch==9.9\n# none such\nno-such-library==3.1\n"
    )
    return tmp_path


def test_every_requirement_is_pinned_and_looked_at():
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = machine.pinned(PROJECT / "requirements.txt")
    assert len(wanted) == sum(not line.startswith("#") for line in lines if line.strip())
    assert set(machine.NAMED) <= set(wanted)
    table = machine.setup_table(PROJECT)
    assert f"{len(wanted) - len(machine.NAMED)} other libraries" in table.index


def test_versions_are_compared_without_the_build(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "2.13.0+cpu")
    assert machine.installed("torch") == "2.13.0"
    assert machine._library("2.13.0", "2.13.0") == ("2.13.0", "ok")


def test_what_is_wrong_comes_with_a_mend(project, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=4e8))
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=0.9e9))
    monkeypatch.setattr(machine, "best_precision", lambda device: "32-true")
    monkeypatch.setattr(machine, "best_device", lambda: "cpu")
    table = machine.setup_table(project)
    verdict = table["verdict"]
    assert "9.9 is wanted: pip install" in verdict["torch"]
    assert table.loc["1 other libraries", "found"] == "no-such-library none"
    assert "pip install" in verdict["1 other libraries"]
    assert verdict["free disk"] == "1 GB are needed: free disk space"
    assert verdict["free memory"] == "2 GB are needed: close other programs"
    assert "twice as long" in verdict["precision"]
    assert "make run" in verdict["finished run"]
    assert machine._python((3, 10))[1].startswith("install Python 3.11")
    assert not table["verdict"].str.contains("\n").any()


def test_a_folder_that_is_not_the_project(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        machine.setup_table(tmp_path)
