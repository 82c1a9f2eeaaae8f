"""Open a run folder and look at what is in it: networks, selections, what they saw of an image.

`open_run` is the notebooks' beginning: it opens the finished run of the streets where there is
one, and otherwise makes what is asked for at the small preset. Nothing here changes a finished
phase of a run.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from labor_lib.config import Config, filled, preset
from labor_lib.data.segmentation import SegmentationFolder, joint_transform
from labor_lib.errors import InputError
from labor_lib.lab.experiment import Domains, Experiment, Roots, drawn_folder
from labor_lib.lab.scene import Scene
from labor_lib.labels import CLASS_SETS, ClassSet
from labor_lib.methods.labor import PixelSelector
from labor_lib.methods.registry import METHODS, resolve
from labor_lib.nets import deeplab
from labor_lib.runtime import Progress, load_weights, make_fabric, read_json, save_weights
from labor_lib.selection.record import Masks, Selection
from labor_lib.train import estimate_statistics, predict

PROJECT = Path(__file__).parents[2]
NEEDED = {
    *("method", "seed", "stage", "budget", "miou", "pixels_per_image", "clicks_per_image"),
    *("train_seconds", "select_seconds"),
}  # columns of results.csv
_GIVEN_ROOTS = ("source_root", "target_root")  # in config.json; None: the embedded streets


# ------------------------------------------------------------------------------- the files


def read_table(out: Path) -> pd.DataFrame:
    """results.csv of a run folder; raises InputError where it is missing or damaged."""
    path = Path(out) / "results.csv"
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; give the folder of a run, such as runs/streets"
        ) from None
    except ValueError as error:  # empty or damaged
        raise InputError(f"{path}: not a table ({error}); run again to write it anew") from None
    if not set(table.columns) >= NEEDED or table.empty:
        raise InputError(f"{path}: not the results of a run; run again to write it anew")
    return table.astype({"method": str})


def read_record(out: Path) -> dict:
    """config.json of a run folder; raises InputError where it is missing or damaged."""
    path = Path(out) / "config.json"
    if not path.exists():
        raise InputError(f"{path}: no such file; give the folder of a run, such as runs/streets")
    record = read_json(path)
    if not isinstance(record, dict) or "settings" not in record:
        raise InputError(f"{path}: not the configuration of a run; remove the folder and run again")
    return record


def config_from_dict(settings: dict) -> Config:
    """The `Config` that `as_dict` was taken of; raises InputError where the settings are others."""
    try:
        return filled(Config(), settings)
    except (TypeError, AttributeError):
        raise InputError(
            "config.json: settings of another version of this program; run again to another --out"
        ) from None


def open_domains(record: dict, seed: int) -> Domains:
    """The folders of a run as they lie there; draws nothing."""
    config = config_from_dict(record["settings"])
    scene_seed = config.scene_seed + seed
    root = Path(record.get("data_root") or "data")
    drawn = drawn_folder(config, root, scene_seed)
    source = Path(record.get("source_root") or drawn / "gta5")
    target = Path(record.get("target_root") or drawn / "cityscapes")
    return Domains(config, Roots(root, source, target), scene_seed)


def last_folder(out: Path, seed: int, method: str) -> Path:
    """The folder of the method's last finished stage."""
    done = [path.parent for path in out.glob(f"seed{seed}/{method}/stage*/phase.json")]
    if not done:
        raise InputError(f"{out / f'seed{seed}' / method}: no finished stage; run the method")
    return max(done, key=lambda folder: int(folder.name.removeprefix("stage")))


def photo(folder: SegmentationFolder, index: int) -> np.ndarray:
    """One image as pictures are drawn: H x W x 3, uint8."""
    return folder.image(index).permute(1, 2, 0).numpy()


# ---------------------------------------------------------------------------------- the run


class Run:
    """A run folder opened for looking.

    config, class_set, stages     of the run
    table                         results.csv
    small                         made at the small preset: `title` says so in every figure
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        self.config = config_from_dict(self.record["settings"])
        self.table = read_table(self.folder)
        self.fabric = make_fabric()
        self.stages = self.config.budget.stages
        self.small = self.config.preset == "small"
        self.class_set: ClassSet = CLASS_SETS[self.config.data.class_set]
        # networks and images of late, so that going back and forth is quick
        self.domains = lru_cache(maxsize=8)(self._domains)
        self.truths = lru_cache(maxsize=8)(self._truths)
        self._loaded = lru_cache(maxsize=64)(self._load)
        self._opened = lru_cache(maxsize=64)(self._open)
        self._asker = lru_cache(maxsize=64)(self._load_asker)

    def __repr__(self) -> str:
        return f"{self.folder.name}: {len(self.methods)} methods, seeds {self.seeds}"

    def title(self, text: str) -> str:
        """The text with the run's preset where that is the small one."""
        return f"{text} (small preset)" if self.small else text

    @property
    def seeds(self) -> list[int]:
        """Those with a finished method."""
        done = self.table[self.table["stage"] == self.stages]
        return sorted(int(seed) for seed in done["seed"].unique())

    @property
    def methods(self) -> list[str]:
        """Finished in every stage of the first seed, in the registry's order."""
        return self.methods_of(self.seeds[0])

    def methods_of(self, seed: int) -> list[str]:
        """Finished in every stage of this seed, in the registry's order."""
        done = self.table[(self.table["stage"] == self.stages) & (self.table["seed"] == seed)]
        return [name for name in METHODS if name in set(done["method"])]

    @property
    def asked_methods(self) -> list[str]:
        """Those of `methods` that ask a person."""
        return [name for name in self.methods if METHODS[name].labels == "asked"]

    # ---------------------------------------------------------------------------- images

    def _domains(self, seed: int) -> Domains:
        """Draws the streets anew where the run's images are gone."""
        data = Path(self.record.get("data_root") or "")
        roots = Roots(
            data if data.is_absolute() and data.exists() else PROJECT / "data",
            *(Path(given) if given else None for given in map(self.record.get, _GIVEN_ROOTS)),
        )
        return Domains(self.config, roots, self.config.scene_seed + seed)

    def _truths(self, seed: int) -> SegmentationFolder:
        """The target's training images *with* their labels: to look at, never to train on."""
        target = self.domains(seed).target
        return SegmentationFolder(
            target.root,
            target.layout,
            target.split,
            target.class_set,
            target.size,
            cache=target.cache,
        )

    def normalised(self, folder: SegmentationFolder, index: int) -> Tensor:
        """One image as networks see it: 1 x 3 x H x W, on the run's device."""
        transform = joint_transform(False, self.config.data.mean, self.config.data.std)
        image = transform(folder.image(index), None)[0]
        return image[None].to(self.fabric.device)

    # -------------------------------------------------------------------------- networks

    def place(self, seed: int, *names: str) -> Path:
        return self.folder.joinpath(f"seed{seed}", *names)

    def segmenter(self, method: str, seed: int = 0, stage: int | None = None) -> nn.Module:
        """A after a stage of a method (the last one if not told), as it was scored."""
        return self._loaded(self.place(seed, method, f"stage{stage or self.stages}"))

    def warmed_up(self, name: str = "adversarial", seed: int = 0) -> nn.Module:
        """A after a warm-up phase: "source", "source_more" or "adversarial"; source statistics."""
        return self._loaded(self.place(seed, name))

    def asker(self, method: str, seed: int = 0, stage: int = 1) -> nn.Module:
        """A as the stage began: with the target's BatchNorm statistics."""
        warm_up = METHODS[method].warm_up
        return self._asker(warm_up if stage == 1 else method, seed, stage)

    def _load(self, folder: Path) -> nn.Module:
        net = deeplab.build(self.config.train.network, len(self.class_set))
        load_weights(net, folder / "segmenter.safetensors")
        return net.to(self.fabric.device).eval()

    def _load_asker(self, name: str, seed: int, stage: int) -> nn.Module:
        if stage > 1:  # stored as it was scored, which is with these statistics
            return self._load(self.place(seed, name, f"stage{stage - 1}"))
        path = self.place(seed, f"{name}_on_target.safetensors")
        net = self._load(self.place(seed, name))
        if path.exists():
            load_weights(net, path)
        else:
            folder = self.domains(seed).target
            estimate_statistics(self.fabric, net, folder, self.config)
            save_weights(net, path)
        return net

    def selector(self, method: str, seed: int = 0, stage: int = 1) -> PixelSelector:
        """B of a stage, as it chose."""
        return self._opened(method, seed, stage)

    def _open(self, method: str, seed: int, stage: int) -> PixelSelector:
        name = METHODS[method].selector
        if not name:
            raise InputError(f"method '{method}' has no pixel selector; choose ppl or an spl")
        net = PixelSelector(
            deeplab.build(self.config.train.network, len(self.class_set)),
            getattr(self.config, name),
        )
        load_weights(net, self.place(seed, method, f"stage{stage}", "selector.safetensors"))
        return net.to(self.fabric.device).eval()

    # ------------------------------------------------------------------- what they say

    def probabilities(self, net: nn.Module, folder: SegmentationFolder, index: int) -> np.ndarray:
        """A segmenter's C x H x W for one image of a folder, float32."""
        images = self.normalised(folder, index)
        return predict(self.fabric, net, images, folder.size)[0].cpu().numpy()

    def prediction(self, net: nn.Module, folder: SegmentationFolder, index: int) -> np.ndarray:
        """A segmenter's class ids for one image of a folder: H x W, uint8."""
        return self.probabilities(net, folder, index).argmax(axis=0).astype(np.uint8)

    def predictions(
        self, method: str, seed: int, indices: list[int], stage: int | None = None
    ) -> list[np.ndarray]:
        """Of a method's last stage (if not told) for images of the evaluation split."""
        net, folder = self.segmenter(method, seed, stage), self.domains(seed).evaluation
        return [self.prediction(net, folder, index) for index in indices]

    @torch.no_grad()
    def pair(self, method: str, seed: int, stage: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Both of the selector's classifiers on one training image, each C x H x W."""
        target = self.domains(seed).target
        with self.fabric.autocast():
            both = self.selector(method, seed, stage)(self.normalised(target, index))
        first, second = (deeplab.upsample(one, target.size).softmax(dim=1)[0] for one in both)
        return first.cpu().numpy(), second.cpu().numpy()

    def view(self, method: str, seed: int, stage: int, index: int) -> Scene:
        """What a stage of a method saw of one training image of the target, and asked there."""
        target, truths = self.domains(seed).target, self.truths(seed)
        selection = self.selection(method, seed, stage)
        return Scene(
            name=target.names[index],
            image=photo(target, index),
            truth=truths.label(index).numpy(),
            probs=self.probabilities(self.asker(method, seed, stage), target, index),
            mask=self.masks(method, seed, stage)[index] if METHODS[method].selector else None,
            positions=selection.positions[index],
            answers=selection.answers[index],
            points=METHODS[method].budget == "points",
        )

    def selection(self, method: str, seed: int = 0, stage: int = 1) -> Selection:
        """What a stage asked of every training image, with the answers."""
        return _selection(self.place(seed, method, f"stage{stage}", "selection.npz"))

    def asked_before(self, method: str, seed: int, stage: int) -> Selection:
        """All that the stages before this one asked."""
        known = Selection.nothing(len(self.domains(seed).target), self.config.data.target_size)
        for earlier in range(1, stage):
            known = known.merge(self.selection(method, seed, earlier))
        return known

    def masks(self, method: str, seed: int = 0, stage: int = 1) -> Masks:
        """Where the selector's two classifiers disagree, on every training image."""
        return _masks(self.place(seed, method, f"stage{stage}", "masks.npz"))

    def trace(self, method: str, seed: int = 0, stage: int = 1, selector=False) -> pd.DataFrame:
        """The losses of every step of a stage: of A, or of the pixel selector."""
        name = "selector_trace.csv" if selector else "trace.csv"
        return pd.read_csv(self.place(seed, method, f"stage{stage}", name))


@lru_cache(maxsize=64)
def _selection(path: Path) -> Selection:
    return Selection.load(path)


@lru_cache(maxsize=64)
def _masks(path: Path) -> Masks:
    return Masks.load(path)


# ------------------------------------------------------------------------- load or train


def open_run(*methods: str, seed: int = 0) -> Run:
    """The streets' finished run with these methods, or else a small one, made where it lacks them.

    methods: names of the registry, or "main" (if none is told). Says in a line which run it is.
    The environment variable LABOR_RUN may hold a run's folder; with "small" a run of the streets
    is not looked for. Raises InputError for an unknown method, and for a folder without a run.
    """
    wanted = resolve(list(methods) or ["main"])
    told = os.environ.get("LABOR_RUN", "")
    if told not in ("", "small"):
        run = Run(Path(told))
        _say(run, [])
        return run
    full = PROJECT / "runs" / "streets"
    if not told and not _missing(full, wanted, seed):
        run = Run(full)
        _say(run, [])
        return run
    small = PROJECT / "runs" / "small"
    missing = _missing(small, wanted, seed)
    if missing:
        why = "LABOR_RUN says so" if told else "runs/streets lacks them; `make run` trains it"
        print(
            f"Training {', '.join(missing)} at the small preset ({why}). "
            "Its figures show shapes, not results."
        )
        make_small(small, wanted, seed)
    run = Run(small)
    _say(run, missing)
    return run


def make_small(folder: Path, methods: list, seed: int) -> None:
    """Train methods at the small preset into a folder."""
    progress = Progress()
    roots = Roots(PROJECT / "data")
    experiment = Experiment(preset("small"), folder, roots, make_fabric(), progress)
    try:
        experiment.run(methods, [seed])
    finally:
        progress.close()


def _missing(folder: Path, methods: list, seed: int) -> list[str]:
    """The methods whose last stage is not finished in a run folder."""
    try:
        stages = config_from_dict(read_record(folder)["settings"]).budget.stages
    except InputError:
        stages = 0  # no run there
    done = folder / f"seed{seed}"
    return [
        method.name
        for method in methods
        if not stages or not (done / method.name / f"stage{stages}" / "phase.json").exists()
    ]


def _say(run: Run, made: list[str]) -> None:
    verb = "Trained and opened" if made else "Opened"
    seeds = "seed" if len(run.seeds) == 1 else "seeds"
    print(
        f"{verb} the run '{run.folder.name}': {len(run.methods)} methods, "
        f"{seeds} {', '.join(map(str, run.seeds))}."
    )
