"""The check of the set-up says ok, or how to fix it."""

from pathlib import Path
from types import SimpleNamespace

from benchmarks import family
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
    for row, fix in (
        ("1 other libraries", "pip install"), ("free disk", "1 GB are needed"),
        ("free memory", "2 GB are needed"), ("finished run", "make run"), ("Python", "install"),
    ):  # fmt: skip
        assert fix in verdict[row]


def test_the_familys_table_has_every_method(capsys):
    family.main(["--steps", "1", "--device", "cpu", "--precision", "32-true"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == list(family.problems())
