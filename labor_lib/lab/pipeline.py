"""Runs phases into a folder and continues where an earlier run stopped.

A phase is a training that leaves a folder. A folder with a `phase.json`, which is written last, is
finished and never touched again. Both kinds of run (`segmentation`, `classification`) are lists of
phases; what they have in common is here.

    runs/NAME/config.json     settings, the commands that made the run, library versions
    runs/NAME/results.csv     one row for each method, seed, stage or number of labels
    runs/NAME/seed0/...       a folder for each phase: networks, losses (trace.csv), phase.json
"""

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from filelock import AcquireReturnProxy, FileLock, Timeout

from labor_lib.errors import InputError
from labor_lib.runtime import (
    Progress,
    load_weights,
    precision_of,
    read_json,
    save_weights,
    versions,
    write_json,
    writing,
)
from labor_lib.train import Nets

VERSION = 2  # of config.json
OWN_FILES = ("config.json", "results.csv", "report.html")
PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """One training of a run.

    path: its folder. start: the phase that has to be finished before. steps: for the progress line.
    make: trains, writes networks into the folder and returns what phase.json is to hold.
    """

    path: Path
    start: "Phase | None"
    steps: int
    title: str
    make: Callable[[Path], dict]


def in_order(phases: list[Phase]) -> list[Phase]:
    """The phases and all that they start from, each once, after what it starts from."""
    found: dict[Path, Phase] = {}
    for phase in phases:
        chain = [phase]
        while chain[-1].start is not None:
            chain.append(chain[-1].start)
        for one in reversed(chain):
            found.setdefault(one.path, one)
    return list(found.values())


class Phases:
    """Makes the phases of one run folder. Each kind of run is a subclass.

    fabric: of `runtime.make_fabric`. command: the command line, for config.json.
    """

    def __init__(self, config, out: Path, fabric, command: str = ""):
        self.config, self.out = config, Path(out)
        self.fabric, self.command, self.progress = fabric, command, Progress()

    def results(self) -> pd.DataFrame:
        """The table of all finished phases."""
        raise NotImplementedError

    def make(self, phases: list[Phase], record: dict) -> pd.DataFrame:
        """Make the phases that are missing; returns all results of the folder, which it writes.

        record: what config.json says beside the settings and the machine.
        """
        phases = in_order(phases)
        record = record | {
            "version": VERSION,
            "command": self.command,
            "settings": self.config.as_dict(),
            "device": self.fabric.device.type,
            "precision": precision_of(self.fabric),
            "versions": versions(),
        }
        with lock(self.out), closing(self.progress):
            missing = [phase for phase in phases if not finished(phase.path)]
            write_record(self.out, record if missing else record | {"command": ""})
            leftovers = [path for phase in missing for path in phase.path.glob(".*.part")]
            leftovers += [path for name in OWN_FILES for path in self.out.glob(f".{name}.*.part")]
            for path in leftovers:  # of a run that was killed while it wrote
                path.unlink()
            table = self._write_results()
            self.progress.expect(sum(phase.steps for phase in missing))
            for phase in missing:
                self.progress.phase(phase.title)
                write_json(phase.path / "phase.json", phase.make(phase.path))
                (phase.path / "unfinished.pt").unlink(missing_ok=True)
                table = self._write_results()
        return table

    def _write_results(self) -> pd.DataFrame:
        """results.csv, where there is a result."""
        table = self.results()
        if len(table):
            with writing(self.out / "results.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
        return table.reset_index(drop=True)


def images_digest(paths: list[Path], sizes: bool = True) -> str:
    """What identifies images: a digest of their files' names and, unless drawn, sizes."""
    texts = [f"{path.name} {path.stat().st_size if sizes else ''}" for path in paths]
    return hashlib.sha256(os.fsencode("\n".join(texts))).hexdigest()[:12]


def lock(out: Path) -> AcquireReturnProxy:
    """One run at a time in a folder; the lock goes with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(out / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another run is using this folder; wait for it, or pass another --out"
        ) from None


# ------------------------------------------------------------------------------------- phases


def finished(folder: Path) -> bool:
    return (folder / "phase.json").exists()


def seed_folders(out: Path) -> dict[int, Path]:
    """The folders `seedN` of a run by N."""
    found = {path.name.removeprefix("seed"): path for path in out.glob("seed*") if path.is_dir()}
    return {int(number): found[number] for number in sorted(found) if number.isdecimal()}


def save_nets(nets: Nets, folder: Path) -> None:
    """One safetensors file for each network."""
    for name, net in nets.items():
        save_weights(net, folder / f"{name}.safetensors")


def load_nets(nets: Nets, folder: Path) -> None:
    """Raises InputError where a file is missing, damaged or of another architecture."""
    for name, net in nets.items():
        load_weights(net, folder / f"{name}.safetensors")


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """The losses of every step as CSV."""
    table = pd.DataFrame(history)
    table.index.name = "step"
    with writing(path) as temporary:
        table.to_csv(temporary, float_format="%.6g")


# -------------------------------------------------------------------------------- config.json


def read_record(out: Path) -> dict:
    """config.json of a run folder; raises InputError where it is missing or no run's.

    Files of version 1 have no command; those of classification hold their settings at top level.
    Where no annotator is named, the oracle answered.
    """
    path = Path(out) / "config.json"
    if not path.exists():
        raise InputError(f"{path}: no such file; give the folder of a run, such as runs/streets")
    record = read_json(path)
    if "shift" in record:
        names = ("shift", "training", "dann", "ccsa", "sagnet", "validation")
        record["settings"] = {name: record.pop(name) for name in names if name in record}
    if "settings" not in record:
        raise InputError(f"{path}: not the settings of a run; restore it, or pass another folder")
    return {"command": "", "annotator": "oracle"} | record


def write_record(out: Path, now: dict) -> None:
    """Write config.json, or compare with the one there; raises InputError where a setting differs.

    A folder without a finished phase takes the new settings; what others began there is removed,
    so that no training continues with settings that it was not begun with. A command that adds to
    results follows those that began them (`a && b`), unless the first is not known (version 1).
    """
    path = out / "config.json"
    folders = seed_folders(out).values()
    if not any(next(folder.rglob("phase.json"), None) for folder in folders):
        if path.exists() and changed_settings(read_record(out), now):
            for folder in folders:
                shutil.rmtree(folder)
        write_json(path, now)
        return
    if not path.exists():
        raise InputError(
            f"{path}: missing, but {out} holds results; restore it, or pass another --out"
        )
    then = read_record(out)
    changed = changed_settings(then, now)
    if changed:
        raise InputError(
            f"{out} holds results made with other settings: {changed}; "
            "restore them, or pass another --out"
        )
    older = differences(then.get("versions", {}), now["versions"])
    if older:
        warnings.warn(f"{out} was begun with other versions: {older}", stacklevel=2)
    new = then | {
        name: then.get(name, {}) | now[name] for name in ("images", "files") if name in now
    }
    commands = then["command"].split(" && ")
    if then["command"] and now["command"] and now["command"] not in commands:
        new["command"] = " && ".join([*commands, now["command"]])
    if new != then:
        write_json(path, new | {"version": VERSION})


def changed_settings(then: dict, now: dict) -> str:
    """How the settings and images of two records differ, as `differences` says it."""
    free = {"version", "command", "versions", "data_root", "scored_on"}
    if "images" in then:  # the same images may lie elsewhere
        free |= {"root", "source_root", "target_root"}
    fixed = {key: value for key, value in now.items() if key not in free}
    images = now.get("images", {})
    # a setting that only one of the two versions has is no difference; an image is, and a budget's
    # unit, which an arena has
    return (
        differences({"unit": then.get("unit")}, {"unit": now.get("unit")})
        or differences(then, fixed)
        or differences(then.get("images", images), images, "images.", strict=True)
    )


def differences(then: dict, now: dict, prefix: str = "", strict: bool = False) -> str:
    """`a.b was 1, is 2` for the first few values that differ; strict: or that one of them lacks.

    A whole dictionary that one of them lacks, such as a seed's, is no difference.
    """
    found = []
    for key in sorted(then.keys() | now.keys() if strict else then.keys() & now.keys()):
        old, new = then.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = differences(old, new, f"{prefix}{key}.", strict)
            found += [inner] if inner else []
        elif old != new and dict not in (type(old), type(new)):
            found.append(f"{prefix}{key} was {old}, is {new}")
    return ", ".join(found[:3])
