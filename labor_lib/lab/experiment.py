"""Runs methods over seeds into a folder, going on where an earlier run stopped.

    runs/streets/config.json                       the resolved configuration and library versions
    runs/streets/results.csv                       one row per method, seed and stage
    runs/streets/seed0/source/                     warm-up on source labels, shared by all methods
    runs/streets/seed0/adversarial/                warm-up with the discriminator
    runs/streets/seed0/spl/stage1/                 one stage of one method:
        segmenter.safetensors, discriminator0.safetensors    network A and its adversary
        selector.safetensors, selector_trace.csv             the pixel selector and its losses
        masks.npz                                            where its two classifiers disagree
        selection.npz, cost.csv                              what was asked, answered, and its cost
        trace.csv                                            the losses of every step
        phase.json                                           seconds, scores; written last

A folder with a `phase.json` is finished and never touched again.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import AcquireReturnProxy, FileLock, Timeout

from labor_lib.annotation.cost import Cost
from labor_lib.annotation.oracle import Oracle
from labor_lib.config import Config
from labor_lib.data.segmentation import SegmentationFolder, evaluation_split
from labor_lib.drawn.streets import write_streets
from labor_lib.errors import InputError
from labor_lib.labels import CLASS_SETS
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.registry import METHODS, Method
from labor_lib.methods.source_only import source_only_step
from labor_lib.metrics import evaluate, summary
from labor_lib.runtime import (
    derive_seed,
    precision_of,
    read_json,
    save_weights,
    seed_everything,
    versions,
    write_json,
    writing,
)
from labor_lib.selection.record import Selection
from labor_lib.selection.select import select, train_selector, write_pseudo_labels
from labor_lib.train import Material, Nets, build_nets, estimate_statistics, train


@dataclass(frozen=True)
class Roots:
    """Where the images are. None: the embedded benchmark is drawn below `data`."""

    data: Path
    source: Path | None = None
    target: Path | None = None


# ----------------------------------------------------------------------------------- the data


class Domains:
    """The splits that one seed trains and is scored on.

    Training sees the target's training images without their labels; those are behind `oracle`.
    """

    def __init__(self, config: Config, roots: Roots, scene_seed: int):
        self.config = config
        self.source_root, self.target_root = _find_roots(config, roots, scene_seed)
        data = config.data
        self._common = {"class_set": CLASS_SETS[data.class_set], "cache": data.cache}
        self.source = SegmentationFolder(
            self.source_root, data.source_layout, "train", size=data.source_size, **self._common
        )
        self.target = self._target("train", labels=False)
        split = config.evaluate_on
        if split == "test":
            split = evaluation_split(self.target_root, data.target_layout)
        self.evaluation = self._target(split, labels=True)
        self.oracle = Oracle(partial(self._target, "train", labels=True))

    def _target(self, split: str, labels: bool) -> SegmentationFolder:
        data = self.config.data
        return SegmentationFolder(
            self.target_root,
            data.target_layout,
            split,
            size=data.target_size,
            labels=labels,
            **self._common,
        )

    def check(self) -> None:
        """Decode every file once, so that a bad one stops the run before it starts."""
        if self.config.data.cache:
            for folder in (self.source, self.target, self.evaluation):
                folder.check()


def drawn_folder(config: Config, data: Path, scene_seed: int) -> Path:
    """Where the embedded benchmark of a scene seed lies."""
    height, width = config.data.drawn_size
    return data / f"streets-{height}x{width}-{config.data.drawn_source}" / f"scenes{scene_seed}"


def _find_roots(config: Config, roots: Roots, scene_seed: int) -> tuple[Path, Path]:
    """Source and target root, drawing the embedded benchmark where one is not given."""
    if roots.source is not None and roots.target is not None:
        return roots.source, roots.target
    data = config.data
    if not data.embedded:
        missing = "--source-root" if roots.source is None else "--target-root"
        raise InputError(f"preset '{config.preset}' needs {missing}: pass the dataset's folder")
    if data.target_layout != "cityscapes" and roots.target is None:
        raise InputError(
            f"preset '{config.preset}' needs --target-root: the folder of {data.target_layout}"
        )
    source, target = write_streets(
        drawn_folder(config, roots.data, scene_seed),
        scene_seed=scene_seed,
        size=data.drawn_size,
        source=data.drawn_source,
        train=data.drawn_train,
        val=data.drawn_val,
        test=data.drawn_test,
    )
    return roots.source or source, roots.target or target


# ---------------------------------------------------------------------------------- the run


def lock(out: Path) -> AcquireReturnProxy:
    """One run at a time in a folder; the lock goes with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(out / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another run is using this folder; wait for it, or pass another --out"
        ) from None


class Experiment:
    """One run folder: its configuration, its finished phases and how to make the missing ones."""

    def __init__(self, config: Config, out: Path, roots: Roots, fabric, progress):
        self.config, self.out, self.roots = config, Path(out), roots
        self.fabric, self.progress = fabric, progress
        self._domains: dict[int, Domains] = {}

    def domains(self, seed: int) -> Domains:
        if seed not in self._domains:
            domains = Domains(self.config, self.roots, self.config.scene_seed + seed)
            domains.check()
            self._domains = {seed: domains}  # one seed's images in memory at a time
        return self._domains[seed]

    def _record_settings(self, split: str) -> None:
        """Write config.json, or compare with the one there; raises InputError if they differ."""
        path = self.out / "config.json"
        now = {
            "settings": self.config.as_dict(),
            "source_root": _text(self.roots.source),
            "target_root": _text(self.roots.target),
            "device": self.fabric.device.type,
            "precision": precision_of(self.fabric),
        }
        if path.exists():
            then = same_settings(self.out, now)
            older = differences(then.get("versions", {}), versions())
            if older:
                warnings.warn(f"{self.out} was begun with other versions: {older}", stacklevel=2)
            return
        if next(self.out.glob("seed*/**/phase.json"), None):
            raise InputError(
                f"{path}: missing, but {self.out} holds results; restore it, or pass another --out"
            )
        where = {"data_root": str(self.roots.data.resolve()), "scored_on": split}
        write_json(path, now | where | {"versions": versions()})

    def run(self, methods: list[Method], seeds: list[int]) -> pd.DataFrame:
        """Make what is missing of these methods and seeds; returns and writes all results."""
        for seed in seeds:  # a bad folder stops the run before anything is written
            domains = self.domains(seed)
            if any(method.labels in ("asked", "all") for method in methods):
                domains.oracle.check()
        with lock(self.out):
            self._record_settings(domains.evaluation.split)
            for leftover in self.out.rglob(".*.part"):  # of a killed run
                leftover.unlink()
            self.progress.expect(self._missing_steps(methods, seeds))
            for seed in seeds:
                for method in methods:
                    for stage in range(1, self.config.budget.stages + 1):
                        self.stage(method, seed, stage)
            return self.write_results()

    # ------------------------------------------------------------------------------ phases

    def folder(self, seed: int, *names: str) -> Path:
        return self.out.joinpath(f"seed{seed}", *names)

    def _plan(self, methods: list[Method], seeds: list[int]) -> dict[Path, int]:
        """Every phase these methods need, and its steps."""
        train = self.config.train
        plan = {}
        for seed in seeds:
            for method in methods:
                plan[self.folder(seed, "source")] = train.source_steps
                plan[self.folder(seed, method.warm_up)] = train.adversarial_steps
                trained = method.trains_as or method.name
                for stage in range(1, self.config.budget.stages + 1):
                    folder = self.folder(seed, trained, f"stage{stage}")
                    plan[folder] = train.stage_steps * method.steps_factor
                    if method.selector:
                        plan[folder] += getattr(self.config, method.selector).steps
        return plan

    def _missing_steps(self, methods: list[Method], seeds: list[int]) -> int:
        plan = self._plan(methods, seeds)
        return sum(steps for folder, steps in plan.items() if not finished(folder))

    def fresh_nets(self, seed: int) -> Nets:
        seed_everything(seed, "networks")
        return build_nets(self.config, len(CLASS_SETS[self.config.data.class_set]))

    def warm_up(self, seed: int, name: str) -> Path:
        """The folder of a warm-up phase: "source", or one that continues it."""
        folder = self.folder(seed, name)
        if finished(folder):
            return folder
        train_config = self.config.train
        domains = self.domains(seed)
        nets = self.fresh_nets(seed)
        material = Material(source=domains.source)
        if name == "source":
            steps, rate, step = (
                train_config.source_steps, train_config.learning_rate, source_only_step
            )  # fmt: skip
        else:
            nets.load(self.warm_up(seed, "source"))
            steps, rate = train_config.adversarial_steps, train_config.stage_learning_rate
            step = source_only_step
            if name == "adversarial":
                step, material.target = adaptsegnet_step, domains.target
        self.progress.phase(f"{name}, seed {seed}")
        seconds = self._train(folder, nets, step, material, steps, rate, derive_seed(seed, name))
        return self._finish(folder, nets, {"train_seconds": seconds})

    def stage(self, method: Method, seed: int, stage: int) -> Path:
        """The folder of one stage of one method, made if it is missing."""
        folder = self.folder(seed, method.name, f"stage{stage}")
        if finished(folder):
            return folder
        nets = self.fresh_nets(seed)
        if method.trains_as:
            nets.load(self.stage(METHODS[method.trains_as], seed, stage))
            return self._score(folder, method, nets, seed, {"train_seconds": 0.0})
        before = (
            self.warm_up(seed, method.warm_up)
            if stage == 1
            else self.stage(method, seed, stage - 1)
        )
        nets.load(before)
        self.progress.phase(
            f"{method.name}, seed {seed}, stage {stage}/{self.config.budget.stages}"
        )
        domains = self.domains(seed)
        labels, record = self._target_labels(folder, method, nets, domains, seed, stage)
        material = Material(
            source=domains.source if method.use_source else None,
            target=domains.target if method.use_target else None,
            target_labels=labels,
        )
        steps = self.config.train.stage_steps * method.steps_factor
        rate = self.config.train.stage_learning_rate
        # the same batches for every method: what differs between rows is the method
        seed_of_phase = derive_seed(seed, "stage", stage)
        record["train_seconds"] = self._train(
            folder, nets, method.step, material, steps, rate, seed_of_phase
        )
        del labels, material  # Windows keeps a file that somebody still reads
        (folder / "pseudo_labels.npy").unlink(missing_ok=True)
        return self._score(folder, method, nets, seed, record)

    def _train(self, folder, nets, step, material, steps, rate, seed) -> float:
        """Train and write the trace; returns seconds."""
        started = time.perf_counter()
        trace = train(
            self.fabric,
            nets,
            step,
            material,
            self.config,
            steps=steps,
            learning_rate=rate,
            seed=seed,
            checkpoint=folder / "unfinished.pt",
            on_step=self.progress.step,
        )
        seconds = time.perf_counter() - started
        write_trace(folder / "trace.csv", trace)
        return seconds

    def _score(self, folder: Path, method: Method, nets: Nets, seed: int, record: dict) -> Path:
        domains = self.domains(seed)
        if method.statistics == "target":
            estimate_statistics(self.fabric, nets.segmenter, domains.target, self.config)
        nets.segmenter.to(self.fabric.device)
        scores = evaluate(self.fabric, nets.segmenter, domains.evaluation, self.config)
        return self._finish(folder, nets, record | {"scores": summary(scores), "iou": scores.iou})

    def _finish(self, folder: Path, nets: Nets, record: dict) -> Path:
        nets.save(folder)
        write_json(folder / "phase.json", record)
        (folder / "unfinished.pt").unlink(missing_ok=True)
        self.write_results()
        return folder

    # ------------------------------------------------------------------------ target labels

    def _target_labels(
        self, folder: Path, method: Method, nets: Nets, domains: Domains, seed: int, stage: int
    ) -> tuple[Callable[[int], np.ndarray] | None, dict]:
        """What the method may know of the target in this stage, and what it cost so far."""
        if method.labels == "none":
            return None, {}
        started = time.perf_counter()
        if method.labels == "all":
            labels, costs = domains.oracle.ask_everything()
            return labels, _totals(costs) | {"select_seconds": 0.0}
        nets.segmenter.to(self.fabric.device)
        estimate_statistics(self.fabric, nets.segmenter, domains.target, self.config)
        if method.labels == "pseudo":
            alphas = self.config.self_training.alphas
            pseudo = write_pseudo_labels(
                self.fabric,
                nets.segmenter,
                domains.target,
                self.config,
                alphas[min(stage, len(alphas)) - 1],
                folder / "pseudo_labels.npy",
            )
            return pseudo, {"select_seconds": time.perf_counter() - started}
        selection, costs = self._ask(folder, method, nets, domains, seed, stage)
        known = self._asked_before(method, seed, stage).merge(selection)
        return known.labels, _totals(costs) | {"select_seconds": time.perf_counter() - started}

    def _asked_before(self, method: Method, seed: int, stage: int) -> Selection:
        """All that the earlier stages of a method asked."""
        size = self.config.data.target_size
        known = Selection.nothing(len(self.domains(seed).target), size)
        for earlier in range(1, stage):
            path = self.folder(seed, method.name, f"stage{earlier}", "selection.npz")
            known = known.merge(Selection.load(path))
        return known

    def _ask(self, folder, method, nets, domains, seed, stage) -> tuple[Selection, list[Cost]]:
        """Select, ask the oracle, store both."""
        seed_of_selection = derive_seed(seed, "selection", stage)
        net = nets.segmenter
        if method.selector:
            settings = getattr(self.config, method.selector)
            path = folder / "pseudo_labels.npy"
            pseudo = write_pseudo_labels(
                self.fabric, net, domains.target, self.config, settings.alpha, path
            )
            net, trace = train_selector(
                self.fabric,
                net,
                domains.target,
                pseudo,
                self.config,
                settings,
                seed_of_selection,
                self.progress.step,
            )
            save_weights(net, folder / "selector.safetensors")
            write_trace(folder / "selector_trace.csv", trace)
        selection, masks = select(
            self.fabric,
            net,
            domains.target,
            self.config,
            rule=method.rule,
            budget=self.stage_budget(method),
            taken=self._asked_before(method, seed, stage),
            seed=seed_of_selection,
        )
        selection, costs = domains.oracle.ask(selection)
        if method.selector:
            masks.save(folder / "masks.npz")
        selection.save(folder / "selection.npz")
        table = pd.DataFrame([vars(cost) for cost in costs])
        table.insert(0, "image", domains.target.names)
        with writing(folder / "cost.csv") as temporary:
            table.to_csv(temporary, index=False)
        return selection, costs

    def stage_budget(self, method: Method) -> int:
        """Pixels that a method may ask of an image in one stage, at the network's size."""
        budget = self.config.budget
        height, width = self.config.data.target_size
        if method.budget == "points":
            return max(1, budget.points // budget.stages)
        share = method.pixels or budget.pixels
        if method.budget == "mask":
            return max(1, round(budget.mask_cap * height * width))
        return max(1, round(share * height * width / budget.stages))

    # ----------------------------------------------------------------------------- results

    def write_results(self) -> pd.DataFrame:
        """results.csv from every finished stage in the folder."""
        folders = [f for f in self.out.glob("seed*") if f.name.removeprefix("seed").isdigit()]
        rows = [row for folder in folders for row in self._rows(folder)]
        table = pd.DataFrame(rows)
        if len(table):
            order = {name: place for place, name in enumerate(METHODS)}
            table["_place"] = table["method"].map(order)
            table = table.sort_values(["_place", "seed", "stage"]).drop(columns="_place")
            with writing(self.out / "results.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
        return table.reset_index(drop=True)

    def _rows(self, seed_folder: Path) -> list[dict]:
        seed = int(seed_folder.name.removeprefix("seed"))
        rows = []
        for method in METHODS.values():
            trained = METHODS[method.trains_as] if method.trains_as else method
            seconds = _phase_total(seed_folder, ("source", trained.warm_up), "train_seconds")
            totals = dict.fromkeys(("select_seconds", "pixels", "clicks", "pieces"), 0.0)
            for stage in range(1, self.config.budget.stages + 1):
                folder = seed_folder / method.name / f"stage{stage}"
                if not finished(folder):
                    break
                phase = read_phase(folder, "scores", "iou")
                shared = seed_folder / trained.name / f"stage{stage}"
                seconds += read_phase(shared)["train_seconds"]
                for name in totals:
                    # full supervision pays once; the others pay in every stage
                    paid = phase.get(name, 0.0)
                    once = method.labels == "all" and name != "select_seconds"
                    totals[name] = paid if once else totals[name] + paid
                rows.append(
                    {
                        "method": method.name,
                        "seed": seed,
                        "scene_seed": self.config.scene_seed + seed,
                        "stage": stage,
                        "budget": self.budget_text(method),
                        "precision": precision_of(self.fabric),
                        **phase["scores"],
                        "pixels_per_image": totals["pixels"],
                        "clicks_per_image": totals["clicks"],
                        "pieces_per_image": totals["pieces"],
                        "train_seconds": seconds,
                        "select_seconds": totals["select_seconds"],
                        **{f"iou_{name}": value for name, value in phase["iou"].items()},
                    }
                )
        return rows

    def budget_text(self, method: Method) -> str:
        """The budget as a reader would say it."""
        budget = self.config.budget
        if method.labels == "all":
            return "all pixels"
        if method.labels != "asked":
            return "none"
        if method.budget == "points":
            return f"{budget.points} points"
        if method.budget == "mask":
            return "mask"
        return f"{100 * (method.pixels or budget.pixels):g} %"


def finished(folder: Path) -> bool:
    """Whether a phase is complete: its record is written last."""
    return (folder / "phase.json").exists()


def read_phase(folder: Path, *names: str) -> dict:
    """phase.json; raises InputError where it lacks its seconds or `names`."""
    phase = read_json(folder / "phase.json")
    if not isinstance(phase, dict) or not {"train_seconds", *names} <= phase.keys():
        raise InputError(f"{folder / 'phase.json'}: damaged; remove {folder} and run again")
    return phase


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def same_settings(out: Path, now: dict) -> dict:
    """config.json of a run folder; raises InputError where it differs from `now`."""
    then = read_json(out / "config.json")
    if not isinstance(then, dict):
        raise InputError(f"{out / 'config.json'}: damaged; remove {out} and run again")
    changed = differences({key: then.get(key) for key in now}, now)
    if changed:
        raise InputError(
            f"{out} holds results made with other settings: {changed}; "
            "restore them, or pass another --out"
        )
    return then


def differences(then: dict, now: dict, prefix: str = "") -> str:
    """`a.b was 1, is 2` for the first few values that differ."""
    found = []
    for key in sorted(then.keys() | now.keys()):
        old, new = then.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = differences(old, new, f"{prefix}{key}.")
            found += [inner] if inner else []
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return ", ".join(found[:3])


def _totals(costs: list[Cost]) -> dict[str, float]:
    """Means over the images."""
    return {
        name: float(np.mean([getattr(cost, name) for cost in costs]))
        for name in (field.name for field in fields(Cost))
    }


def _phase_total(seed_folder: Path, phases: tuple[str, ...], name: str) -> float:
    return sum(
        read_phase(seed_folder / phase)[name] for phase in phases if finished(seed_folder / phase)
    )


def write_trace(path: Path, trace: list[dict[str, float]]) -> None:
    """The losses of every step as CSV."""
    table = pd.DataFrame(trace)
    table.index.name = "step"
    with writing(path) as temporary:
        table.to_csv(temporary, float_format="%.6g")
