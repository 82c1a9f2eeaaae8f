"""Open a finished run of the wider family, or make a small one, and look at what is in it.

`open_family` is the beginning of the notebooks on image classification, as `runs.open_run` is of
those on the streets. Nothing here changes a finished phase.
"""

import os
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from labor_lib.config import filled
from labor_lib.errors import InputError
from labor_lib.family_config import FamilyConfig, Where, settings, small
from labor_lib.family_train import Prepare
from labor_lib.lab.family_data import Data, Problem
from labor_lib.lab.family_experiment import FamilyExperiment, label_numbers, phase_folder
from labor_lib.lab.runs import PROJECT
from labor_lib.methods.family_registry import FAMILY, FamilyMethod, build, resolve
from labor_lib.runtime import Progress, load_weights, make_fabric, read_json

FINISHED = PROJECT / "runs" / "family"
SMALL = PROJECT / "runs" / "family-small"


class FamilyRun:
    """A run folder of the family, opened for looking at some of its methods.

    config, where   its settings, and where its images are
    table           results.csv of these methods and of the seeds that all of them finished; few: 0
                    where a method has no labelled target images
    small           made at the small size: `title` says so in every figure
    """

    def __init__(self, folder: Path, methods: list[str] = (), few: tuple[int, ...] = ()):
        """methods, few: those wanted, all that are there by default. Raises InputError where the
        folder holds no run, or no seed with all of these."""
        self.folder = Path(folder)
        self.config, self.where = _settings_of(self.folder)
        self.shift = self.folder.name
        self.small = self.folder.parent == SMALL
        self.table = _rows(self.folder, list(methods), tuple(few))
        there = sorted(set(self.table["few"]) - {0})
        self.config = replace(self.config, few=tuple(int(n) for n in there) or self.config.few)
        self.fabric = make_fabric()
        self.problem = lru_cache(maxsize=8)(self._problem)
        self.load = lru_cache(maxsize=64)(self._load)

    def __repr__(self) -> str:
        return f"{self.shift}: {', '.join(self.methods)}, seeds {self.seeds}"

    @property
    def methods(self) -> list[str]:
        """In the registry's order."""
        return [name for name in FAMILY if name in set(self.table["method"])]

    @property
    def seeds(self) -> list[int]:
        return sorted(int(seed) for seed in self.table["seed"].unique())

    @property
    def targets(self) -> tuple[str, ...]:
        """The domains that are left out in turn; ("",) in adaptation."""
        return self.data.targets

    def title(self, text: str) -> str:
        """The text with the run's size where that is the small one."""
        return f"{text} (small run)" if self.small else text

    @cached_property
    def data(self) -> Data:
        return Data(self.config, self.where)

    def _problem(self, seed: int = 0, target: str = "", n: int | None = None) -> Problem:
        """Of one seed, one domain left out, n labelled target images a class (None: none)."""
        return self.data.problem(seed, target, n)

    def path(self, method: str, seed: int = 0, target: str = "", n: int | None = None) -> Path:
        """The folder of a finished phase; raises InputError where there is none."""
        labelled = label_numbers(FAMILY[method], self.config) != (None,)
        folder = phase_folder(self.folder, FAMILY[method], seed, target, n if labelled else None)
        if not (folder / "phase.json").exists():
            raise InputError(f"{folder.relative_to(self.folder.parent)}: not finished, or not run")
        return folder

    def _load(
        self, name: str, method: str, seed: int = 0, target: str = "", n: int | None = None
    ) -> nn.Module:
        """A network of a finished phase by its name ("net", "discriminator", "style"), last step,
        in eval mode."""
        file = self.path(method, seed, target, n) / f"{name}.safetensors"
        if not file.exists():
            raise InputError(f"{method} has no network '{name}'")
        nets, _ = build(FAMILY[method], self.config, self.problem(seed, target, n), seed)
        load_weights(nets[name], file)
        return nets[name].eval().to(self.fabric.device)

    def net(self, method: str, seed: int = 0, target: str = "", n: int | None = None) -> nn.Module:
        """The classifier that is scored: in generalisation with the selected weights."""
        net = self.load("net", method, seed, target, n)
        selected = self.path(method, seed, target, n) / "selected.safetensors"
        if selected.exists():
            load_weights(net, selected)
        return net

    def trace(
        self, method: str, seed: int = 0, target: str = "", n: int | None = None
    ) -> pd.DataFrame:
        """The losses of every step; step counts from 0."""
        return pd.read_csv(self.path(method, seed, target, n) / "trace.csv")

    def images(self, domain, numbers=None) -> Tensor:
        """B x C x H x W float32 on the device, normalised as the networks expect."""
        numbers = range(len(domain)) if numbers is None else numbers
        return Prepare(self.config.training, self.fabric.device)(domain.batch(numbers))

    @torch.no_grad()
    def features(self, net: nn.Module, domain) -> np.ndarray:
        """What the classifier is given of every image: N x F."""
        return np.concatenate([net.features(x).float().cpu().numpy() for x in self._parts(domain)])

    @torch.no_grad()
    def predictions(self, net: nn.Module, domain) -> np.ndarray:
        """Class numbers: N."""
        return np.concatenate([net(x).argmax(dim=1).cpu().numpy() for x in self._parts(domain)])

    def _parts(self, domain):
        for numbers in torch.arange(len(domain)).split(self.config.training.inference_batch):
            yield self.images(domain, numbers)


def _settings_of(folder: Path) -> tuple[FamilyConfig, Where]:
    record = read_json(folder / "config.json") if (folder / "config.json").exists() else None
    if not isinstance(record, dict) or "shift" not in record:
        raise InputError(f"{folder}: no run of the family; make one with `make family`")
    names = {field.name for field in fields(FamilyConfig)}
    try:
        base = settings(record["shift"])
        config = filled(base, {key: value for key, value in record.items() if key in names})
    except (TypeError, AttributeError):
        raise InputError(
            f"{folder}: settings of another version of this program; remove it and run again"
        ) from None
    root = Path(record["root"]) if record.get("root") else None
    where = {key: record[key] for key in ("source", "target", "repetition") if key in record}
    return config, Where(root, **where)


def _rows(folder: Path, methods: list[str], few: tuple[int, ...]) -> pd.DataFrame:
    """results.csv of these methods and numbers of labels, and the seeds that have all of them."""
    path = folder / "results.csv"
    if not path.exists():
        raise InputError(f"{path}: no such file; finish the run with `make family`")
    try:
        table = pd.read_csv(path)
        table["few"] = table["few"].fillna(0).astype(int)
    except (ValueError, KeyError):
        table = pd.DataFrame()
    if table.empty:
        raise InputError(f"{path}: damaged; run the same command again, which writes it anew")
    methods = methods or list(table["method"].unique())
    table = table[table["method"].isin(methods)]
    if few:
        table = table[table["few"].isin((0, *few))]
    cells = table.groupby("seed").apply(
        lambda rows: set(zip(rows["method"], rows["target"], rows["few"], strict=True)),
        include_groups=False,
    )
    wanted = set().union(*cells)
    lacking = set(methods) - set(table["method"])
    missing = set(few) - set(table["few"]) if any(table["few"]) else set()
    if lacking or missing:
        raise InputError(f"{folder}: without {', '.join(map(str, [*lacking, *missing]))}")
    whole = [seed for seed, there in cells.items() if there == wanted]
    return table[table["seed"].isin(whole)].reset_index(drop=True)


def finished_family(
    name: str, *methods: str, few: tuple[int, ...] = (), seed: int = 0
) -> FamilyRun | None:
    """The run runs/family/NAME, or None where it lacks one of these for this seed."""
    try:
        run = FamilyRun(FINISHED / name, list(methods), few)
    except InputError:
        return None
    return run if seed in run.seeds else None


def open_family(
    shift: str, *methods: str, few: tuple[int, ...] = (), seed: int = 0, quiet: bool = False
) -> FamilyRun:
    """The finished run of a shift with these methods, or else a small one, made where it lacks.

    methods: names of the registry, "main" (if none is told) or "all". few: labelled target images a
    class; by default those of the run. Says in a line which run it is. With LABOR_RUN=small a
    finished run is not looked for. Raises InputError for an unknown shift or method, and for a
    shift whose images are not embedded.
    """
    config = settings(shift)
    wanted = resolve(list(methods) or ["main"], config)
    names = [method.name for method in wanted]
    run = None
    if os.environ.get("LABOR_RUN") != "small":
        run = finished_family(shift, *names, few=few, seed=seed)
    if run is None:
        run = make_small(shift, wanted, few, seed)
    if not quiet:
        print(
            f"Opened the {'small run' if run.small else 'run'} '{shift}': "
            f"{', '.join(run.methods)}; seeds {', '.join(map(str, run.seeds))}."
        )
    return run


def make_small(
    shift: str, methods: list[FamilyMethod], few: tuple[int, ...], seed: int
) -> FamilyRun:
    """Train what is missing of these methods at the small size."""
    config = small(settings(shift))
    config = replace(config, few=tuple(few) or config.few)
    progress = Progress()
    experiment = FamilyExperiment(config, Where(), SMALL / shift, make_fabric(), progress)
    try:
        experiment.run(methods, [seed])
    finally:
        progress.close()
    labelled = any(label_numbers(method, config) != (None,) for method in methods)
    names = [method.name for method in methods]
    return FamilyRun(SMALL / shift, names, config.few if labelled else ())
