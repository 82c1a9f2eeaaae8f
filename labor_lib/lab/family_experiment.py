"""The wider family: adaptation and generalisation of image classifiers, compared over seeds.

    runs/family/textured/config.json                  the settings and library versions
    runs/family/textured/results.csv                  one row per finished phase
    runs/family/textured/seed0/dann/                  one method; with labels: ccsa-3 (3 a class)
    runs/family/styles/seed0/sketch/sagnet/           generalisation: the domain left out, then
        net.safetensors, discriminator.safetensors    networks of the last step
        selected.safetensors                          generalisation: of the best source validation
        trace.csv                                     the losses of every step
        phase.json                                    seconds, scores; written last

A folder with a `phase.json` is finished and never touched again. Within a seed all methods start
from the same weights and are given the same images in the same order.

*Adaptation* has a source and a target and is scored at the last step. *Generalisation* leaves out
one domain at a time, as DomainBed does (Gulrajani & Lopez-Paz, ICLR 2021): trains on the others,
keeps the weights with the best mean accuracy on held-out images of the *training* domains, and is
scored on all images of the domain left out, which nothing before that has seen.
"""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from torch import nn

from labor_lib.errors import InputError
from labor_lib.family_config import FamilyConfig, Where
from labor_lib.family_train import Prepare, correct, percent, train, validate
from labor_lib.lab.experiment import finished, lock, read_phase, same_settings, write_trace
from labor_lib.lab.family_data import MEAN, Data, Problem
from labor_lib.methods.erm import adapt_batchnorm, sample_in_batches
from labor_lib.methods.family_registry import FAMILY, FamilyMethod, build
from labor_lib.runtime import (
    derive_seed,
    load_weights,
    precision_of,
    save_weights,
    versions,
    write_json,
    writing,
)


def label_numbers(method: FamilyMethod, config: FamilyConfig) -> tuple:
    """Labels a class with which a method is run. CCSA's split files differ for each number."""
    labelled = method.target == "few" or config.shift == "ccsa"
    return config.few if labelled else (None,)


def phase_folder(out: Path, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
    """Where a method's weights and scores lie."""
    name = method.name if n is None else f"{method.name}-{n}"
    return out / f"seed{seed}" / target / name


class FamilyExperiment:
    """One run folder: its settings, its finished phases and how to make the missing ones."""

    def __init__(self, config: FamilyConfig, where: Where, out: Path, fabric, progress):
        self.config, self.where, self.out = config, where, Path(out)
        self.fabric, self.progress = fabric, progress
        self.data = Data(config, where)

    def run(self, methods: list[FamilyMethod], seeds: list[int]) -> pd.DataFrame:
        """Make what is missing of these methods and seeds; returns and writes all results."""
        plan = self._plan(methods, seeds)
        mixes = any(method.name.startswith("sagnet") for method, *_ in plan)
        for target, n in dict.fromkeys(entry[2:] for entry in plan):
            problem = self.data.problem(seeds[0], target, n)  # what is bad stops the run here
            if mixes:
                self._check_mixing(problem)
        with lock(self.out):
            self._record_settings()
            self._phases()  # a damaged record stops it, too
            leftovers = [path for seed in self._seed_folders() for path in seed.rglob(".*.part")]
            for leftover in (*leftovers, *self.out.glob(".*.part")):  # of a killed run
                leftover.unlink()
            missing = [entry for entry in plan if not finished(self.folder(*entry))]
            self.progress.expect(sum(self._steps(method) for method, *_ in missing))
            for entry in plan:
                self.phase(*entry)
            return self.write_results()

    def _check_mixing(self, problem: Problem) -> None:
        size = self.config.training.batch_size
        images = sum(min(size, len(domain)) for domain in problem.sources)
        if images < 2:
            names = ", ".join(domain.name for domain in problem.sources)
            raise InputError(f"{names}: SagNet mixes images, and a step has one; add images")

    def _plan(self, methods: list[FamilyMethod], seeds: list[int]) -> list[tuple]:
        """(method, seed, target, n) of every phase; what one needs stands before it."""
        plan = {}
        for seed in seeds:
            for target in self.data.targets:
                for method in methods:
                    for n in label_numbers(method, self.config):
                        needed = method.begins_with or method.trains_as
                        if needed:
                            before = FAMILY[needed]
                            own = n if n in label_numbers(before, self.config) else None
                            plan[before, seed, target, own] = None
                        plan[method, seed, target, n] = None
        return list(plan)

    def _steps(self, method: FamilyMethod) -> int:
        if method.trains_as:
            return 0
        return getattr(self.config.training, method.steps)

    def folder(self, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
        return phase_folder(self.out, method, seed, target, n)

    def phase(self, method: FamilyMethod, seed: int, target: str, n: int | None) -> Path:
        """The folder of one method, made if it is missing."""
        folder = self.folder(method, seed, target, n)
        if finished(folder):
            return folder
        problem = self.data.problem(seed, target, n)
        nets, opts = build(method, self.config, problem, seed)
        needed = method.begins_with or method.trains_as
        if needed:
            before = FAMILY[needed]
            own = n if n in label_numbers(before, self.config) else None
            load_weights(nets["net"], self.folder(before, seed, target, own) / "net.safetensors")
        words = [method.title, target, "" if n is None else f"{n} a class", f"seed {seed}"]
        self.progress.phase(", ".join(filter(None, words)))
        started = time.perf_counter()
        if not method.trains_as:
            trace = train(
                self.fabric, nets, opts, method, problem, self.config,
                steps=self._steps(method), seed=derive_seed(seed, target or "run"),
                folder=folder, on_step=self.progress.step,
            )  # fmt: skip
            write_trace(folder / "trace.csv", trace)
        if method.adapts and not self._adapt(nets["net"], problem) and method.trains_as:
            raise InputError(
                f"{method.name}: the network '{self.config.training.network}' has no BatchNorm"
            )
        seconds = time.perf_counter() - started
        for name, net in nets.items():
            save_weights(net, folder / f"{name}.safetensors")
        record = {
            "method": method.name,
            "seed": seed,
            "target": target or problem.target_test.name,
            "few": n,
            "steps": self._steps(method),
            "train_seconds": seconds,
            "scores": self._scores(nets["net"], problem, folder),
        }
        write_json(folder / "phase.json", record)
        (folder / "unfinished.pt").unlink(missing_ok=True)
        return folder

    def _adapt(self, net: nn.Module, problem: Problem) -> int:
        """Give the network the target's BatchNorm statistics; returns the number of its layers."""
        training, target = self.config.training, problem.target_train
        prepare = Prepare(training, self.fabric.device)
        numbers = sample_in_batches(len(target), training.inference_batch)
        net.to(self.fabric.device)
        return adapt_batchnorm(self.fabric, net, (prepare(target.batch(i)) for i in numbers))

    def _scores(self, net: nn.Module, problem: Problem, folder: Path) -> dict[str, float]:
        """Accuracies in percent.

        accuracy: on the target's test images; in generalisation of the selected weights, with
        `accuracy_last` of the last step. source_accuracy: mean over the sources' held-out images.
        accuracy_unseen, test_seen: CCSA's test sets hold some of the few labelled images; the
        accuracy without them, and how many they are.
        """
        training = self.config.training
        right = correct(self.fabric, net, problem.target_test, training)
        scores = {"accuracy": percent(right)}
        if problem.validation:
            scores["source_accuracy"] = validate(self.fabric, net, problem.validation, training)
        if self.config.shift == "ccsa":
            seen = problem.seen
            scores |= {"accuracy_unseen": percent(right[~seen]), "test_seen": int(seen.sum())}
        if (folder / "selected.safetensors").exists():
            last = scores["accuracy"]
            load_weights(net, folder / "selected.safetensors")
            scores["accuracy"] = percent(correct(self.fabric, net, problem.target_test, training))
            scores["source_accuracy"] = validate(self.fabric, net, problem.validation, training)
            scores["accuracy_last"] = last
        return scores

    def _record_settings(self) -> None:
        """Write config.json, or compare with the one there; raises InputError if they differ."""
        path = self.out / "config.json"
        fixed = asdict(self.config)
        for name in ("few", "methods", "main"):  # more of these extend a run
            del fixed[name]
        now = json.loads(json.dumps(fixed)) | {
            "root": None if self.where.root is None else str(self.where.root.resolve()),
            "source": self.where.source,
            "target": self.where.target,
            "repetition": self.where.repetition,
            "device": self.fabric.device.type,
            "precision": precision_of(self.fabric),
        }
        if self.config.shift == "folder":
            now |= self.data.counted()
        if not path.exists() and self._phases():
            raise InputError(
                f"{path}: missing, but {self.out} holds results; restore it, or pass another --out"
            )
        if path.exists() and self._seed_folders():
            same_settings(self.out, now)
            return
        write_json(path, now | {"versions": versions()})

    def _seed_folders(self) -> list[Path]:
        return [path for path in self.out.glob("seed*") if path.name[4:].isdecimal()]

    def _phases(self) -> list[dict]:
        """The records of all finished phases; raises InputError for a damaged one."""
        phases = []
        for path in (path for seed in self._seed_folders() for path in seed.rglob("phase.json")):
            phase = read_phase(path.parent, "method", "seed", "target", "few", "scores")
            scores, few = phase["scores"], phase["few"]
            sound = (
                phase["method"] in FAMILY
                and isinstance(phase["seed"], int)
                and (few is None or isinstance(few, int))
                and isinstance(scores, dict)
                and isinstance(scores.get("accuracy"), float)
            )
            if not sound:
                raise InputError(f"{path}: damaged; remove {path.parent} and run again")
            phases.append(phase)
        return phases

    def write_results(self) -> pd.DataFrame:
        """results.csv from every finished phase in the folder."""
        rows = []
        for phase in self._phases():
            scores = phase.pop("scores")
            rows.append(phase | scores | {"precision": precision_of(self.fabric)})
        table = pd.DataFrame(rows)
        if len(table):
            table["title"] = [FAMILY[name].title for name in table["method"]]
            place = {name: number for number, name in enumerate(FAMILY)}
            table["few"] = table["few"].astype("Int64")
            table = table.sort_values(
                ["target", "few", "method", "seed"],
                key=lambda column: column.map(place) if column.name == "method" else column,
                na_position="first",
            )
            with writing(self.out / "results.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
        return table.reset_index(drop=True)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (N - 1) over seeds of every accuracy column, and the seeds.

    One row per method, target and number of labels; in generalisation also per method the mean over
    the targets ("mean"), whose spread is that of the seeds' means.
    """
    table = table.assign(few=table["few"].fillna(0).astype(int))
    scores = [name for name in table.columns if "accuracy" in name]
    keys = ["target", "few", "method", "title"]
    parts = [table]
    if table["target"].nunique() > 1:
        wanted = table["target"].nunique()
        by_seed = table.groupby(["few", "method", "title", "seed"])
        whole = by_seed[[*scores, "train_seconds"]].mean()[by_seed.size() == wanted].reset_index()
        parts.append(whole.assign(target=MEAN))
    grouped = pd.concat(parts).groupby(keys, sort=False)
    summary = grouped[scores].agg(["mean", "std"])
    summary.columns = [f"{name}_{what}" for name, what in summary.columns]
    summary["seeds"] = grouped.size()
    summary["seconds"] = grouped["train_seconds"].mean()
    return summary.reset_index()


def print_summary(table: pd.DataFrame) -> None:
    """`summarise` as an aligned table, to the terminal."""
    shown = []
    for row in summarise(table).itertuples():
        spread = "" if math.isnan(row.accuracy_std) else f" ± {row.accuracy_std:.1f}"
        shown.append(
            {
                "target": row.target,
                "labels a class": row.few or "",
                "method": FAMILY[row.method].title,
                "accuracy in %": f"{row.accuracy_mean:.1f}{spread}",
                "seeds": row.seeds,
                "seconds": f"{row.seconds:.0f}",
            }
        )
    print(pd.DataFrame(shown).to_string(index=False))
