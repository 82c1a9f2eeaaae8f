"""Open a run folder and look at what is in it: networks, selections, what they saw of an image.

`open_run` and `open_shift` are the notebooks' beginning: they open the finished run where there is
one, and otherwise make what is asked for at a small size. Nothing here writes into a run.
"""

import os
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from labor_lib.annotation.cost import COUNTS
from labor_lib.config import (
    ClassificationConfig,
    Config,
    Where,
    filled,
    preset,
    shift_settings,
    smaller,
)
from labor_lib.data.segmentation import SegmentationFolder, joint_transform
from labor_lib.errors import InputError
from labor_lib.lab.classification import (
    ClassificationPhases,
    Data,
    Problem,
    build,
    label_numbers,
    phase_folder,
)
from labor_lib.lab.pipeline import finished, read_record
from labor_lib.lab.scene import Scene
from labor_lib.lab.segmentation import Domains, Roots, SegmentationPhases, asked_before
from labor_lib.labels import ClassSet, classes_of, colourise
from labor_lib.methods.adabn import estimate_statistics
from labor_lib.methods.labor import PixelSelector
from labor_lib.methods.registry import CLASSIFICATION, METHODS, Method, entered, resolve
from labor_lib.metrics import evaluate, mious
from labor_lib.nets import deeplab
from labor_lib.runtime import home, load_weights, make_fabric
from labor_lib.selection.record import Masks, Selection
from labor_lib.train import predict, prepare


def read_table(out: Path, *columns: str) -> pd.DataFrame:
    """results.csv of a run folder; raises InputError where it is missing or damaged."""
    path = Path(out) / "results.csv"
    if not path.exists():
        raise InputError(f"{path}: no such file; give the folder of a run, such as runs/streets")
    try:
        table = pd.read_csv(path)
    except ValueError:  # empty or damaged
        table = pd.DataFrame()
    if table.empty or not {"method", "seed", *columns} <= set(table.columns):
        raise InputError(f"{path}: not the results of a run; run again to write it anew")
    return table.astype({"method": str})


def photo(folder: SegmentationFolder, index: int) -> np.ndarray:
    """One image as pictures are drawn: H x W x 3, uint8."""
    return folder.image(index).permute(1, 2, 0).numpy()


def pictures(run, methods: dict[str, str], seed: int, numbers) -> dict[str, list[np.ndarray]]:
    """Evaluation images, their truth, and what the last stage of methods predicts, in colours.

    methods: by the name that the result has for them. Returns H x W x 3 uint8, one an image.
    """
    folder = run.domains(seed).evaluation
    maps = {"truth": [folder.label(number).numpy() for number in numbers]}
    maps |= {name: run.predictions(method, seed, numbers) for name, method in methods.items()}
    drawn = {name: [colourise(one, run.class_set) for one in rows] for name, rows in maps.items()}
    return {"image": [photo(folder, number) for number in numbers]} | drawn


class Run:
    """A run folder opened for looking.

    record: config.json. config: its settings. table: results.csv. small: made at the small size;
    `title` says so in every figure.
    """

    config: Config | ClassificationConfig
    table: pd.DataFrame
    registry: dict[str, Method]

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        self.fabric = make_fabric()
        self.small = (
            self.folder.name.startswith("small") or self.folder.parent.name == "family-small"
        )

    def __repr__(self) -> str:
        return f"{self.folder.name}: {', '.join(self.methods)}; seeds {self.seeds}"

    def title(self, text: str) -> str:
        """The text with the run's size where that is the small one."""
        size = "drawn stand-in" if self.folder.name == "small-lite" else "small run"
        return f"{text} ({size})" if self.small else text

    @property
    def last(self) -> pd.DataFrame:
        """The rows of finished methods: in segmentation those of the last stage."""
        return self.table

    @property
    def seeds(self) -> list[int]:
        """Those with a finished method."""
        return sorted(int(seed) for seed in self.last["seed"].unique())

    @property
    def methods(self) -> list[str]:
        """Finished in the first seed, in the registry's order."""
        return self.methods_of(self.seeds[0]) if self.seeds else []

    def methods_of(self, seed: int) -> list[str]:
        """Finished in this seed, in the registry's order."""
        there = set(self.last.loc[self.last["seed"] == seed, "method"])
        return [name for name in self.registry if name in there]


# ------------------------------------------------------------------------------ segmentation


class SegmentationRun(Run):
    """A run of `lab.segmentation`. class_set, stages: of the run."""

    registry = METHODS

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.config: Config = filled(Config(), self.record["settings"])
        if self.config.data.target_layout == "images":
            raise InputError(
                f"{folder}: a project on images without labels, so it has no scores; `python -m "
                f"labor_lib status {folder}` says how far it is"
            )
        paid = [f"{name}_per_image" for name in (*COUNTS, "seconds", "most_seconds")]
        self.table = read_table(self.folder, "stage", "miou", *paid, "train_seconds")
        for name in self.table["method"].unique():
            if "@" in name:  # of an arena
                entered(name)
        self.stages = self.config.budget.stages
        self.class_set: ClassSet = classes_of(self.config.data)
        # networks and images of late, so that going back and forth is quick; few large ones
        kept = 64 if self.config.data.cache else 4
        self.domains = lru_cache(maxsize=8)(self._domains)
        self._segmenter = lru_cache(maxsize=kept)(self._load)
        self._started = lru_cache(maxsize=kept)(self._on_target)
        self.selector = lru_cache(maxsize=kept)(self._selector)
        self.selection = lru_cache(maxsize=kept)(self._selection)
        self.masks = lru_cache(maxsize=kept)(self._masks)
        self.image_scores = lru_cache(maxsize=64)(self._image_scores)

    @property
    def last(self) -> pd.DataFrame:
        return self.table[self.table["stage"] == self.stages]

    @property
    def asked_methods(self) -> list[str]:
        """Those of `methods` that ask a person."""
        return [name for name in self.methods if METHODS[name].asks]

    def place(self, seed: int, *names: str) -> Path:
        """A folder of the run."""
        return self.folder.joinpath(f"seed{seed}", *names)

    def _domains(self, seed: int) -> Domains:
        """The images; draws the streets anew where the run's are gone."""
        given = Path(self.record.get("data_root") or "")
        data = given if given.is_absolute() and given.exists() else home() / "data"
        names = (self.record.get("source_root"), self.record.get("target_root"))
        roots = Roots(data, *(home() / name if name else None for name in names))
        split = self.record.get("scored_on") or self.config.evaluate_on  # as it was scored
        config = replace(self.config, evaluate_on=split)
        return Domains(config, roots, config.scene_seed + seed)

    def truths(self, seed: int) -> SegmentationFolder:
        """The target's training images with their labels: to look at, never to train on."""
        return self.domains(seed).labelled_target

    def normalised(self, folder: SegmentationFolder, index: int) -> Tensor:
        """One image as networks see it: 1 x 3 x H x W, on the run's device."""
        transform = joint_transform(False, self.config.data.mean, self.config.data.std)
        return transform(folder.image(index), None)[0][None].to(self.fabric.device)

    # networks

    def segmenter(self, method: str, seed: int = 0, stage: int | None = None) -> nn.Module:
        """A after a stage of a method (by default the last one), as it was scored."""
        return self._segmenter(self.place(seed, method, f"stage{stage or self.stages}"))

    def warmed_up(self, name: str = "adversarial", seed: int = 0) -> nn.Module:
        """A after a warm-up phase: "source", "source_more" or "adversarial"; source statistics."""
        return self._segmenter(self.place(seed, name))

    def at_start(self, method: str, seed: int = 0, stage: int = 1) -> nn.Module:
        """A as the stage began: with the target's BatchNorm statistics."""
        if stage > 1:  # stored as it was scored, which is with these statistics
            return self.segmenter(method, seed, stage - 1)
        return self._started(METHODS[method].warm_up, seed)

    def _load(self, folder: Path) -> nn.Module:
        net = deeplab.build(self.config.train.network, len(self.class_set))
        load_weights(net, folder / "segmenter.safetensors")
        return net.to(self.fabric.device).eval()

    def _on_target(self, warm_up: str, seed: int) -> nn.Module:
        net = self._load(self.place(seed, warm_up))
        estimate_statistics(self.fabric, net, self.domains(seed).target, self.config)
        return net

    def _selector(self, method: str, seed: int = 0, stage: int = 1) -> PixelSelector:
        """B of a stage, as it chose."""
        name = METHODS[method].selector
        if not name:
            raise InputError(f"method '{method}' has no pixel selector; choose ppl or an spl")
        segmenter = deeplab.build(self.config.train.network, len(self.class_set))
        net = PixelSelector(segmenter, getattr(self.config, name))
        load_weights(net, self.place(seed, method, f"stage{stage}", "selector.safetensors"))
        return net.to(self.fabric.device).eval()

    # what they say

    def probabilities(self, net: nn.Module, folder: SegmentationFolder, index: int) -> np.ndarray:
        """A segmenter's C x H x W for one image of a folder, float32."""
        images = self.normalised(folder, index)
        return predict(self.fabric, net, images, folder.size)[0].cpu().numpy()

    def prediction(self, net: nn.Module, folder: SegmentationFolder, index: int) -> np.ndarray:
        """A segmenter's class ids for one image of a folder: H x W, uint8."""
        return self.probabilities(net, folder, index).argmax(axis=0).astype(np.uint8)

    def predictions(self, method: str, seed: int, indices: list[int]) -> list[np.ndarray]:
        """Of a method's last stage for images of the evaluation split."""
        net, folder = self.segmenter(method, seed), self.domains(seed).evaluation
        return [self.prediction(net, folder, index) for index in indices]

    @torch.no_grad()
    def pair(self, method: str, seed: int, stage: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Both of the selector's classifiers on one training image, each C x H x W."""
        target = self.domains(seed).target
        with self.fabric.autocast():
            both = self.selector(method, seed, stage)(self.normalised(target, index))
        first, second = (deeplab.upsample(one, target.size).softmax(dim=1)[0] for one in both)
        return first.cpu().numpy(), second.cpu().numpy()

    def view(
        self, method: str, seed: int, stage: int, index: int, predicted=True, after=False
    ) -> Scene:
        """What a stage of a method saw of one training image of the target, and asked there.

        predicted: whether with probabilities: of A as the stage began, or after the stage.
        """
        domains, selection = self.domains(seed), self.selection(method, seed, stage)
        target, probs = domains.target, None
        if len(selection) != len(target):
            raise InputError(
                f"{self.place(seed, method)}: asked {len(selection)} images, but there are "
                f"{len(target)} now; restore the run's images"
            )
        if predicted:
            probs = self.probabilities(self.at_start(method, seed, stage + after), target, index)
        return Scene(
            name=target.names[index],
            image=photo(target, index),
            truth=domains.labelled_target.label(index).numpy(),
            probs=probs,
            mask=self.masks(method, seed, stage)[index] if METHODS[method].selector else None,
            positions=selection.positions[index],
            answers=selection.answers[index],
            points=METHODS[method].asks_points,
        )

    def _image_scores(self, method: str, seed: int, stage: int) -> np.ndarray:
        """mIoU of every training image of the target with A as a stage began."""
        net, folder = self.at_start(method, seed, stage), self.domains(seed).labelled_target
        return mious(evaluate(self.fabric, net, folder, self.config).confusions)

    def _selection(self, method: str, seed: int = 0, stage: int = 1) -> Selection:
        """What a stage asked of every training image, with the answers."""
        return Selection.load(self.place(seed, method, f"stage{stage}", "selection.npz"))

    def asked_before(self, method: str, seed: int, stage: int) -> Selection:
        """All that the stages before this one asked."""
        return asked_before(self.place(seed, method), stage, self.domains(seed).target)

    def _masks(self, method: str, seed: int = 0, stage: int = 1) -> Masks:
        """Where the selector's two classifiers disagree, on every training image."""
        return Masks.load(self.place(seed, method, f"stage{stage}", "masks.npz"))

    def history(self, method: str, seed: int = 0, stage: int = 1, selector=False) -> pd.DataFrame:
        """The losses of every step of a stage: of A, or of the pixel selector."""
        name = "selector_trace.csv" if selector else "trace.csv"
        return pd.read_csv(self.place(seed, method, f"stage{stage}", name))


# ---------------------------------------------------------------------------- classification


class ClassificationRun(Run):
    """A run of `lab.classification`: some of its methods, in the seeds that finished all of them.

    where: its images. In `table` few is 0 where a method has no labelled target images.
    """

    registry = CLASSIFICATION

    def __init__(self, folder: Path, methods: list[str] = (), few: tuple[int, ...] = ()):
        """methods, few: those wanted, all that are there by default. Raises InputError where the
        folder holds no run, or no seed with all of these."""
        super().__init__(folder)
        shift = self.record["settings"].get("shift")
        if not shift:
            raise InputError(f"{folder}: no run of image classification; `make family` makes one")
        config = filled(shift_settings(shift), self.record["settings"])
        where = filled(Where(), self.record)
        self.where = replace(where, root=Path(where.root)) if where.root else where
        self.shift = self.folder.name
        self.table = _whole_seeds(
            read_table(self.folder, "few", "target", "accuracy"), list(methods), few
        )
        there = sorted(set(self.table["few"]) - {0})
        self.config = replace(config, few=tuple(map(int, there)) or config.few)
        self.problem = lru_cache(maxsize=8)(self._problem)
        self._net = lru_cache(maxsize=8 if config.training.network == "resnet18" else 64)(
            self._load
        )

    @cached_property
    def data(self) -> Data:
        return Data(self.config, self.where)

    @property
    def targets(self) -> tuple[str, ...]:
        """The domains that are left out in turn; ("",) in adaptation."""
        return self.data.targets

    def _problem(self, seed: int = 0, target: str = "", n: int | None = None) -> Problem:
        """Of one seed, one domain left out, n labelled target images a class (None: none)."""
        return self.data.problem(seed, target, n)

    def path(self, method: str, seed: int = 0, target: str = "", n: int | None = None) -> Path:
        """The folder of a finished phase; raises InputError where there is none."""
        known = CLASSIFICATION[method]
        labelled = label_numbers(known, self.config) != (None,)
        folder = phase_folder(self.folder, known, seed, target, n if labelled else None)
        if not finished(folder):
            raise InputError(f"{folder.relative_to(self.folder.parent)}: not finished, or not run")
        return folder

    def load(
        self, name: str, method: str, seed: int = 0, target: str = "", n: int | None = None
    ) -> nn.Module:
        """A network of a finished phase by its name ("net", "discriminator", "style"), last step,
        in eval mode."""
        return self._net(name, f"{name}.safetensors", method, seed, target, n)

    def net(self, method: str, seed: int = 0, target: str = "", n: int | None = None) -> nn.Module:
        """The classifier that is scored: in generalisation with the selected weights."""
        selected = (self.path(method, seed, target, n) / "selected.safetensors").exists()
        file = "selected.safetensors" if selected else "net.safetensors"
        return self._net("net", file, method, seed, target, n)

    def _load(self, name: str, file: str, method: str, seed: int, target: str, n) -> nn.Module:
        path = self.path(method, seed, target, n) / file
        if not path.exists():
            raise InputError(f"{method} has no network '{name}'")
        problem = self.problem(seed, target, n)
        nets, _ = build(CLASSIFICATION[method], self.config, problem, seed)
        load_weights(nets[name], path)
        return nets[name].eval().to(self.fabric.device)

    def history(self, method: str, seed: int = 0, target: str = "", n=None) -> pd.DataFrame:
        """The losses of every step; step counts from 0."""
        return pd.read_csv(self.path(method, seed, target, n) / "trace.csv")

    def images(self, domain, numbers=None) -> Tensor:
        """B x C x H x W float32 on the device, normalised as the networks expect."""
        numbers = range(len(domain)) if numbers is None else numbers
        return prepare(domain.batch(numbers), self.config.training, self.fabric.device)

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


def _whole_seeds(table: pd.DataFrame, methods: list[str], few: tuple[int, ...]) -> pd.DataFrame:
    """The rows of these methods and numbers of labels, of the seeds that have all of them."""
    table = table.assign(few=table["few"].fillna(0).astype(int))
    methods = methods or list(table["method"].unique())
    table = table[table["method"].isin(methods)]
    if few:
        table = table[table["few"].isin((0, *few))]
    missing = set(few) - set(table["few"]) if any(table["few"]) else set()
    lacking = [*(set(methods) - set(table["method"])), *missing]
    if lacking:
        raise InputError(f"this run is without {', '.join(map(str, lacking))}")
    cells = table[["method", "target", "few"]].drop_duplicates()
    return table.groupby("seed").filter(lambda rows: len(rows) == len(cells)).reset_index(drop=True)


# ------------------------------------------------------------------------------ load or train


def open_run(
    *methods: str, seed: int = 0, preset: str = "streets", annotator: str = "oracle"
) -> SegmentationRun:
    """The finished run of a preset with these methods, or else a small one, made where need be.

    methods: names of the registry, or "main" (the default). preset: "streets" or "camvid". The
    small run of "camvid" is on the photographs in data/camvid, and without them a stand-in on drawn
    streets. annotator: "noisy" for the run beside it whose folder ends in "-noisy". Says in a line
    which run it is. The environment variable LABOR_RUN may hold a run's folder; with "small" a
    finished run is not looked for. Raises InputError for an unknown method or preset, and for a
    folder without a run.
    """
    wanted = resolve(list(methods) or ["main"])
    chosen = os.environ.get("LABOR_RUN", "")
    config, roots = _small(preset)
    end = "" if annotator == "oracle" else f"-{annotator}"
    full = home() / "runs" / f"{preset}{end}"
    small = home() / "runs" / f"{config.preset}{end}"
    if chosen not in ("", "small") and end:
        full, chosen = Path(f"{chosen}{end}"), ""
    if chosen not in ("", "small"):
        try:
            return _opened(SegmentationRun(Path(chosen)))
        except InputError as error:
            raise InputError(f"LABOR_RUN: {error}") from None
    if not chosen and not _missing(full, wanted, seed):
        return _opened(SegmentationRun(full))
    missing = _missing(small, wanted, seed)
    if missing:
        make = "make run" if preset == "streets" else "make camvid"
        if end:
            make = (
                f"python -m labor_lib run --annotator {annotator} --methods {','.join(missing)} "
                f"--out runs/{full.name}"
            )
        why = "LABOR_RUN says so" if chosen else f"runs/{full.name} lacks them; `{make}` trains it"
        size = "as a drawn stand-in" if config.preset == "small-lite" else "at the small preset"
        print(
            f"Training {', '.join(missing)} {size} ({why}). Its figures show shapes, not results."
        )
        phases = SegmentationPhases(config, small, roots, make_fabric(), annotator=annotator)
        phases.run(wanted, [seed])
    return _opened(SegmentationRun(small))


def finished_runs() -> list[SegmentationRun]:
    """The runs of segmentation in runs/ with a finished method, by name."""
    found = []
    for table in sorted((home() / "runs").glob("*/results.csv")):
        with suppress(InputError):  # of another kind, or damaged
            run = SegmentationRun(table.parent)
            found += [run] if len(run.last) else []
    return found


def _small(name: str) -> tuple[Config, Roots]:
    """What is trained where a preset's run is missing, and on which images."""
    data = home() / "data"
    if name == "streets":
        return preset("small"), Roots(data)
    if name != "camvid":
        raise InputError(f"preset '{name}': no small size of it; choose streets or camvid")
    if (data / "camvid" / "train").is_dir():
        return preset("small-camvid"), Roots(data, target=data / "camvid")
    return preset("small-lite"), Roots(data)


def _missing(folder: Path, wanted: list[Method], seed: int) -> list[str]:
    """The methods that a run folder has not finished in this seed."""
    try:
        there = SegmentationRun(folder).methods_of(seed)
    except InputError:
        there = []
    return [method.name for method in wanted if method.name not in there]


def finished_shift(
    name: str, *methods: str, few: tuple[int, ...] = (), seed: int = 0
) -> ClassificationRun | None:
    """The run runs/family/NAME, or None where it lacks one of these for this seed."""
    try:
        run = ClassificationRun(home() / "runs" / "family" / name, list(methods), few)
    except InputError:
        return None
    return run if seed in run.seeds else None


def open_shift(
    shift: str, *methods: str, few: tuple[int, ...] = (), seed: int = 0, quiet: bool = False
) -> ClassificationRun:
    """The finished run of a shift with these methods, or else a small one, made where it lacks.

    methods: names of the registry, "main" (the default) or "all". few: labelled target images a
    class; by default those of the run. With LABOR_RUN=small a finished run is not looked for.
    Raises InputError for an unknown shift or method, and for a shift whose images are not drawn.
    """
    config = smaller(shift_settings(shift))
    wanted = resolve(list(methods) or ["main"], config)
    names = [method.name for method in wanted]
    run = None
    if os.environ.get("LABOR_RUN") != "small":
        run = finished_shift(shift, *names, few=few, seed=seed)
    if run is None:
        config = replace(config, few=tuple(few) or config.few)
        small = home() / "runs" / "family-small" / shift
        ClassificationPhases(config, Where(), small, make_fabric()).run(wanted, [seed])
        labelled = any(label_numbers(method, config) != (None,) for method in wanted)
        run = ClassificationRun(small, names, config.few if labelled else ())
    return run if quiet else _opened(run)


def _opened(run: Run) -> Run:
    """Say which run it is; raises InputError where nothing is finished."""
    if not run.seeds:
        raise InputError(f"{run.folder}: no method has finished yet; wait for it, or open another")
    size = "small run" if run.small else "run"
    methods, seeds = ", ".join(run.methods), ", ".join(map(str, run.seeds))
    print(f"Opened the {size} '{run.folder.name}': {methods}; seeds {seeds}.")
    return run
