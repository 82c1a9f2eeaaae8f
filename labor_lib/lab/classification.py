"""The phases of a classification run: methods over seeds, domains left out, numbers of labels.

    runs/family/textured/seed0/dann/                  one method; with labels: ccsa-3 (3 a class)
    runs/family/styles/seed0/sketch/sagnet/           generalisation: the domain left out, then
        net.safetensors, discriminator.safetensors    networks of the last step
        selected.safetensors                          generalisation: of the best source validation
        trace.csv, phase.json                         the losses of every step; the scores

Within a seed all methods start from the same weights and are given the same images in the same
order.

*Adaptation* has a source and a target and is scored at the last step. *Generalisation* leaves out
one domain at a time, as DomainBed does (Gulrajani & Lopez-Paz, ICLR 2021): trains on the others,
keeps the weights with the best mean accuracy on held-out images of the *training* domains, and is
scored on all images of the domain left out, which nothing before that has seen.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from labor_lib.config import FROM_FOLDERS, ClassificationConfig, Where
from labor_lib.data import classification as data
from labor_lib.data.classification import Domain, Shift
from labor_lib.drawn.digits import SHIFTS as DRAWN_SHIFTS
from labor_lib.drawn.styles import styles
from labor_lib.errors import InputError
from labor_lib.lab.pipeline import (
    Phase,
    Phases,
    images_digest,
    save_nets,
    seed_folders,
    write_history,
)
from labor_lib.methods.adabn import adapt_batchnorm, sample_in_batches
from labor_lib.methods.ccsa import make_pairs
from labor_lib.methods.registry import CLASSIFICATION, Method, build_classification
from labor_lib.metrics import accuracy, correct
from labor_lib.runtime import derive_seed, load_weights, precision_of, read_json, save_weights
from labor_lib.train import (
    Nets,
    Optimizers,
    classification_batches,
    learning_rate_factor,
    prepare,
    train,
)

MEAN = "mean"  # over the domains left out, in tables
TEST_LIST = "(test list)"  # beside the names of domains
MEMORY = 4e9  # bytes of decoded images that are kept; larger folders are decoded at every step


# ------------------------------------------------------------------------------------ the data


@dataclass(frozen=True)
class Problem:
    """What one phase trains on and is scored on.

    sources, validation: one domain or several, in the same order. few: the labelled target images.
    target_train: the target's training images; its labels are for the ceiling.
    """

    sources: tuple[Domain, ...]
    validation: tuple[Domain, ...]
    target_test: Domain
    target_train: Domain | None = None
    few: Domain | None = None

    @property
    def channels(self) -> int:
        return self.target_test.batch([0]).shape[1]

    @property
    def seen(self) -> Tensor:
        """N booleans: test images that are among the few, pixel by pixel (CCSA's split files)."""
        test = self.target_test.batch(range(len(self.target_test))).flatten(1)
        mine = self.few.batch(range(len(self.few))).flatten(1)
        return torch.stack([(test == image).all(dim=1) for image in mine]).any(dim=0)


class Data:
    """Makes the problems of a run. `targets`: the domains to leave out, or ("",) in adaptation."""

    def __init__(self, config: ClassificationConfig, where: Where):
        self.config, self.where = config, where
        if config.shift in FROM_FOLDERS and where.root is None:
            raise InputError(f"shift '{config.shift}' needs --root: the folder of its images")
        if bool(where.source) != bool(where.target):
            raise InputError("--source and --target go together: give both domains, or neither")
        self._files: dict[str, str] = {}  # what identifies the files of each domain
        self._folder = self._read() if config.shift == "folder" else {}
        self.domains = lru_cache(maxsize=1)(self._domains)  # one seed's images at a time
        alone = config.shift == "folder" and not where.target
        self.generalises = config.shift == "styles" or alone
        self.targets = tuple(self.domains(0)) if self.generalises else ("",)
        if self.generalises and len(self.targets) < 2:
            raise InputError(f"{where.root}: one domain; leaving one out needs at least two")

    def _read(self) -> dict[str, Domain]:
        """A folder's domains, in memory where they fit: all, or the source and the target alone.

        Where DomainNet's lists lie beside these two, they say what is for training, and `TEST_LIST`
        is what the target is tested on.
        """
        where, size = self.where, self.config.training.size
        pair = (where.source, where.target) if where.target else None
        if pair and (where.root / f"{where.target}_train.txt").exists():
            read = data.read_lists(where.root, pair, "train", size)
            read[TEST_LIST] = data.read_lists(where.root, pair[1:], "test", size)[where.target]
        else:
            read = data.read_domains(where.root, pair, size)
        if MEAN in read:
            raise InputError(f"{where.root / MEAN}: a domain of this name; rename it")
        classes = next(iter(read.values())).classes
        if len(classes) < 2:
            raise InputError(f"{where.root}: one class, '{classes[0]}'; give at least two")
        for name, domain in read.items():
            self._files[name] = images_digest(list(map(Path, domain.images)))
        if sum(map(len, read.values())) * 3 * size**2 < MEMORY:
            return {name: domain.load() for name, domain in read.items()}
        return read

    def counted(self) -> dict:
        """A folder's classes, and of each domain how many images, and which."""
        if not self._folder:
            return {}
        counts = {name: len(domain) for name, domain in self._folder.items()}
        classes = next(iter(self._folder.values())).classes
        return {"classes": list(classes), "images": counts, "files": self._files}

    def _domains(self, seed: int) -> dict[str, Domain] | Shift:
        """Domains by name, or a shift."""
        if self.config.shift == "folder":
            return self._folder
        if self.config.shift == "styles":
            return styles(seed)
        if self.config.shift == "mnistm":
            return data.mnistm_shift(self.where.root, seed)
        return DRAWN_SHIFTS[self.config.shift](seed)

    def problem(self, seed: int, target: str, n: int | None) -> Problem:
        """Of one seed, one domain left out, n labelled target images a class (None: none)."""
        parts, where = (1 - self.config.validation, self.config.validation), self.where
        if self.config.shift == "ccsa":
            source, few, test = data.read_ccsa(where.root, n, where.repetition)
            return Problem((source,), (), test, few=few)
        domains = self.domains(seed)
        if self.generalises:
            others = [domain for name, domain in domains.items() if name != target]
            halves = [data.split(domain, parts, seed) for domain in others]
            return Problem(*zip(*halves, strict=True), domains[target])
        shift = domains
        if self.config.shift == "folder":
            of_target = (domains[where.target], domains.get(TEST_LIST))
            if of_target[1] is None:  # without lists 60 % of the target is for training
                of_target = data.split(of_target[0], (0.6, 0.4), seed)
            shift = Shift(*data.split(domains[where.source], parts, seed), *of_target)
        few = None if n is None else data.few(shift.target_train, n, seed)
        return Problem(
            (shift.source,), (shift.source_val,), shift.target_test, shift.target_train, few
        )


def label_numbers(method: Method, config: ClassificationConfig) -> tuple:
    """Labels a class with which a method is run. CCSA's split files differ for each number."""
    labelled = method.sees == "few" or config.shift == "ccsa"
    return config.few if labelled else (None,)


def phase_folder(out: Path, method: Method, seed: int, target: str, n: int | None) -> Path:
    """Where a method's weights and scores lie."""
    return out / f"seed{seed}" / target / (method.name if n is None else f"{method.name}-{n}")


def build(
    method: Method, config: ClassificationConfig, problem: Problem, seed: int
) -> tuple[Nets, Optimizers]:
    """Fresh networks and optimisers of a method for a problem."""
    classes = len(problem.target_test.classes)
    return build_classification(method, config, classes, problem.channels, seed)


def train_classifier(
    fabric,
    nets: Nets,
    opts: Optimizers,
    method: Method,
    problem: Problem,
    config: ClassificationConfig,
    *,
    steps: int,
    seed: int,
    folder: Path | None = None,
    **options,
) -> list[dict[str, float]]:
    """`train` on a problem; returns the losses of every step. options: of `train`.

    With `select_every`, the network with the best mean accuracy on the training domains' held-out
    images is kept in `folder` as selected.safetensors (the earliest of equals).
    """
    training = config.training
    of_target = {"few": problem.few, "nothing": None}.get(method.sees, problem.target_train)
    pairs = None
    if method.pairs:
        labels = problem.sources[0].labels, problem.few.labels
        pairs = make_pairs(*labels, config.ccsa.negatives, derive_seed(seed, "pairs"))

    def validate(done: int, history: list[dict[str, float]]) -> None:
        every = training.select_every
        if not every or (done % every and done != steps):
            return
        best = max((row.get("validation", -1.0) for row in history), default=-1.0)
        score = accuracy(fabric, nets["net"], problem.validation, training)
        history[-1]["validation"] = score
        if score > best:
            save_weights(nets["net"], folder / "selected.safetensors")

    return train(
        fabric,
        nets,
        opts,
        method.step,
        classification_batches(
            fabric, training, problem.sources if method.source else (), of_target,
            pairs=pairs, target_labels=method.sees != "images", steps=steps, seed=seed,
        ),
        getattr(config, method.settings) if method.settings else None,
        steps=steps,
        seed=seed,
        rate=lambda number: learning_rate_factor(number / steps, training.schedule),
        checkpoint=folder and folder / "unfinished.pt",
        checkpoint_steps=training.checkpoint_steps,
        after_step=validate,
        **options,
    )  # fmt: skip


# ----------------------------------------------------------------------------------- the phases


class ClassificationPhases(Phases):
    """Methods, for every domain left out and number of labels."""

    def __init__(self, config: ClassificationConfig, where: Where, out: Path, fabric, command=""):
        super().__init__(config, out, fabric, command)
        self.where, self.data = where, Data(config, where)

    def run(self, methods: list[Method], seeds: list[int]) -> pd.DataFrame:
        """Make what is missing of these methods and seeds; returns and writes all results."""
        phases = []
        for seed in seeds:
            for target in self.data.targets:
                for method in methods:
                    for n in label_numbers(method, self.config):
                        if seed == seeds[0]:  # what is bad stops the run here
                            self.data.problem(seed, target, n)
                        phases.append(self.phase(method, seed, target, n))
        where = asdict(self.where)
        where["root"] = where["root"] and str(where["root"].resolve())
        return self.make(phases, where | self.data.counted())

    def phase(self, method: Method, seed: int, target: str, n: int | None) -> Phase:
        """One method; it starts from the phase whose weights it begins with or shares."""
        needed, start = method.begins_with or method.trains_as, None
        if needed:
            before = CLASSIFICATION[needed]
            own = n if n in label_numbers(before, self.config) else None
            start = self.phase(before, seed, target, own)
        steps = 0 if method.trains_as else getattr(self.config.training, method.steps)
        words = [method.title, target, "" if n is None else f"{n} a class", f"seed {seed}"]
        return Phase(
            phase_folder(self.out, method, seed, target, n),
            start,
            steps,
            ", ".join(filter(None, words)),
            partial(self._make, method, seed, target, n, start, steps),
        )

    def _make(self, method, seed, target, n, start: Phase | None, steps: int, folder) -> dict:
        problem = self.data.problem(seed, target, n)
        nets, opts = build(method, self.config, problem, seed)
        for net in nets.values():
            net.to(self.fabric.device, memory_format=torch.channels_last)
        if start is not None:
            load_weights(nets["net"], start.path / "net.safetensors")
        started = time.perf_counter()
        if steps:
            history = train_classifier(
                self.fabric, nets, opts, method, problem, self.config,
                steps=steps, seed=derive_seed(seed, target or "run"), folder=folder,
                on_step=self.progress.step,
            )  # fmt: skip
            write_history(folder / "trace.csv", history)
        if method.adapts and not self._adapt(nets["net"], problem) and method.trains_as:
            name = self.config.training.network
            raise InputError(f"{method.name}: the network '{name}' has no BatchNorm")
        seconds = time.perf_counter() - started
        save_nets(nets, folder)
        return {
            "method": method.name,
            "seed": seed,
            "target": target or problem.target_test.name,
            "few": n,
            "steps": steps,
            "train_seconds": seconds,
            "scores": self._scores(nets["net"], problem, folder),
        }

    def _adapt(self, net: nn.Module, problem: Problem) -> int:
        """Give the network the target's BatchNorm statistics; returns the number of its layers."""
        training, device, target = self.config.training, self.fabric.device, problem.target_train
        net.to(device)
        numbers = sample_in_batches(len(target), training.inference_batch)
        batches = (prepare(target.batch(some), training, device) for some in numbers)
        return adapt_batchnorm(self.fabric, net, batches)

    def _scores(self, net: nn.Module, problem: Problem, folder: Path) -> dict[str, float]:
        """Accuracies in percent.

        accuracy: on the target's test images; in generalisation of the selected weights, with
        `accuracy_last` of the last step. source_accuracy: mean over the sources' held-out images.
        accuracy_unseen, test_seen: CCSA's test sets hold some of the few labelled images; the
        accuracy without them, and how many they are.
        """
        training, last = self.config.training, {}
        if (folder / "selected.safetensors").exists():
            last["accuracy_last"] = accuracy(self.fabric, net, (problem.target_test,), training)
            load_weights(net, folder / "selected.safetensors")
        right = correct(self.fabric, net, problem.target_test, training).double()
        scores = {"accuracy": 100 * right.mean().item()}
        if problem.validation:
            scores["source_accuracy"] = accuracy(self.fabric, net, problem.validation, training)
        if self.config.shift == "ccsa":
            scores["accuracy_unseen"] = 100 * right[~problem.seen].mean().item()
            scores["test_seen"] = int(problem.seen.sum())
        return scores | last

    # ------------------------------------------------------------------------------ results

    def results(self) -> pd.DataFrame:
        """A row for every finished phase in the folder, of the methods that there are."""
        rows = []
        for seed_folder in seed_folders(self.out).values():
            for path in seed_folder.rglob("phase.json"):
                phase = read_json(path)
                scores = phase.pop("scores") | {"precision": precision_of(self.fabric)}
                if phase["method"] in CLASSIFICATION:
                    rows.append(phase | scores)
        table = pd.DataFrame(rows)
        if table.empty:
            return table
        table["title"] = [CLASSIFICATION[name].title for name in table["method"]]
        table["few"] = table["few"].astype("Int64")
        order = list(CLASSIFICATION)
        return table.sort_values(
            ["target", "few", "method", "seed"],
            key=lambda column: column.map(order.index) if column.name == "method" else column,
            na_position="first",
        )


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
    summary = summarise(table)
    spread = summary["accuracy_std"].map(lambda std: "" if math.isnan(std) else f" ± {std:.1f}")
    columns = {
        "target": summary["target"],
        "labels a class": summary["few"].astype(str).replace("0", ""),
        "method": summary["title"],
        "accuracy in %": summary["accuracy_mean"].map("{:.1f}".format) + spread,
        "seeds": summary["seeds"],
        "seconds": summary["seconds"].map("{:.0f}".format),
    }
    print(pd.DataFrame(columns).to_string(index=False))
