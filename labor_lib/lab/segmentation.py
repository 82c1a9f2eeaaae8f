"""The phases of a segmentation run: a warm-up that methods share, then stages of each method.

runs/streets/seed0/source/                     warm-up on source labels, shared by all methods
runs/streets/seed0/adversarial/                warm-up with the discriminator
runs/streets/seed0/spl/stage1/                 one stage of one method:
    segmenter.safetensors, discriminator0.safetensors    network A and its adversary
    selector.safetensors, selector_trace.csv             the pixel selector and its losses
    masks.npz                                            where its two classifiers disagree
    selection.npz, asked.json                            what is asked, and then its answers
    cost.csv                                             written when all is answered: its cost
    trace.csv, phase.json                                the losses of every step; the scores
    confusions.npz                                       of every evaluation image, C x C pixels
"""

import itertools
import time
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from labor_lib.annotation import annotator_name, open_annotator, read_annotator, read_noise
from labor_lib.annotation.cost import COUNTS, person_seconds
from labor_lib.annotation.oracle import Oracle
from labor_lib.config import Config
from labor_lib.data.segmentation import LAYOUTS, SegmentationFolder, evaluation_split
from labor_lib.drawn.streets import write_streets
from labor_lib.errors import InputError
from labor_lib.lab.pipeline import (
    Phase,
    Phases,
    finished,
    images_digest,
    load_nets,
    save_nets,
    seed_folders,
    write_history,
)
from labor_lib.labels import IGNORE, classes_of
from labor_lib.methods.adabn import estimate_statistics
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.iast import write_pseudo_labels
from labor_lib.methods.labor import train_selector
from labor_lib.methods.regions import choose_tolerance, filled_label
from labor_lib.methods.registry import METHODS, Method
from labor_lib.methods.source_only import source_only_step
from labor_lib.metrics import evaluate, summary
from labor_lib.runtime import (
    derive_seed,
    precision_of,
    read_json,
    save_weights,
    seed_everything,
    write_json,
    writing,
)
from labor_lib.selection.record import Selection
from labor_lib.selection.select import select
from labor_lib.train import (
    Labels,
    Nets,
    build_nets,
    image_batches,
    predict,
    train_segmenter,
)

# ------------------------------------------------------------------------------------ the data


@dataclass(frozen=True)
class Roots:
    """Where the images are. None: the embedded benchmark is drawn below `data`."""

    data: Path
    source: Path | None = None
    target: Path | None = None


class Domains:
    """The splits that one seed trains and is scored on.

    Training sees the target's training images without their labels; those are behind `oracle`.
    Images of one's own (layout "images") have none, and then nothing is scored on: `evaluation` is
    None.
    Questions go to the annotator: "oracle", "noisy", "noisy:PATH", or "store:PATH" for people.
    """

    def __init__(self, config: Config, roots: Roots, scene_seed: int, annotator: str = "oracle"):
        self.config, self.roots = config, roots
        self.source_root, self.target_root = _find_roots(config, roots, scene_seed)
        data = config.data
        self.source = self._open("source", "train")
        self.target = self._open("target", "train", labels=False)
        self.evaluation = None
        if LAYOUTS[data.target_layout].labels:
            split = config.evaluate_on
            if split == "test":
                split = evaluation_split(self.target_root, data.target_layout)
            self.evaluation = self._open("target", split)
        self.oracle = Oracle(partial(self._open, "target", "train"))
        self._annotator = annotator

    @cached_property
    def annotator(self):
        """Who answers; a store that is missing is made."""
        config = self.config
        return open_annotator(
            self._annotator, self.oracle, self.target, classes_of(config.data),
            config.budget.held_out,
        )  # fmt: skip

    def _open(self, domain: str, split: str, labels: bool = True) -> SegmentationFolder:
        """A split of the "source" or the "target"."""
        data, root = self.config.data, getattr(self, f"{domain}_root")
        layout, size = getattr(data, f"{domain}_layout"), getattr(data, f"{domain}_size")
        return SegmentationFolder(
            root, layout, split, classes_of(data), size, labels=labels, cache=data.cache
        )

    @property
    def labelled_target(self) -> SegmentationFolder:
        """The target's training images with their labels: to look at, never to train on."""
        return self.oracle.folder

    def check(self) -> None:
        """Decode every file once, or where files are not kept in memory some of each split, so that
        a bad one stops the run before it starts."""
        for folder in (self.source, self.target, self.evaluation):
            if folder is not None:
                folder.check(None if self.config.data.cache else 20)

    def fingerprint(self) -> dict[str, str]:
        """What identifies the images of each split: their number, names and, of files that were not
        drawn, sizes."""
        found = {}
        for name in ("source", "target", "evaluation"):
            if getattr(self, name) is None:
                continue
            real = self.roots.source if name == "source" else self.roots.target
            paths = getattr(self, name).paths
            found[name] = f"{len(paths)} images ({images_digest(paths, sizes=bool(real))})"
        return found


def _find_roots(config: Config, roots: Roots, scene_seed: int) -> tuple[Path, Path]:
    """Source and target root, drawing the embedded benchmark where one is not given."""
    data, target = config.data, roots.target
    source = roots.source or (target if data.one_root else None)
    if source and target:
        return source, target
    for name, root, drawn in (
        ("source", source, data.embedded or data.one_root),
        ("target", target, data.embedded and data.target_layout == "cityscapes"),
    ):
        if not (root or drawn):
            layout = getattr(data, f"{name}_layout")
            raise InputError(
                f"preset '{config.preset}' needs --{name}-root: the folder of {layout}"
            )
    names = ("size", "source", "train", "val", "test")
    settings = {name: getattr(data, f"drawn_{name}") for name in names}
    height, width = data.drawn_size
    place = roots.data / f"streets-{height}x{width}-{data.drawn_source}" / f"scenes{scene_seed}"
    drawn = write_streets(place, scene_seed=scene_seed, **settings)
    return source or drawn[0], target or drawn[1]


# ----------------------------------------------------------------------------------- the phases


class SegmentationPhases(Phases):
    """Stages of methods, and the warm-ups that they share."""

    def __init__(
        self, config: Config, out: Path, roots: Roots, fabric, command="", annotator="oracle"
    ):
        super().__init__(config, out, fabric, command)
        self.roots, self.annotator = roots, annotator
        self.domains = lru_cache(maxsize=1)(self._domains)  # one seed's images at a time

    def run(self, methods: list[Method], seeds: list[int], **further) -> pd.DataFrame:
        """Make what is missing of these methods and seeds; returns and writes all results.

        further: for config.json.
        """
        rivals = [method.name for method in methods if method.rival]
        if rivals and read_annotator(self.annotator)[0] == "store":
            raise InputError(
                f"method '{rivals[0]}': asks for more than pixels, which people's sheet cannot; "
                "choose --annotator oracle or noisy"
            )
        images = {}
        for seed in seeds:  # a bad folder stops the run before anything is written
            domains = self.domains(seed)
            answering = {domains.annotator for method in methods if method.asks}
            answering |= {domains.oracle for method in methods if method.sees == "all"}
            for one in answering:
                one.check()
            images[f"seed{seed}"] = domains.fingerprint()
        record = further | {
            "images": images,
            "annotator": annotator_name(self.annotator, self.out),
            "data_root": str(self.roots.data.resolve()),
            "scored_on": domains.evaluation.split if domains.evaluation else None,
        }
        noise = read_noise(self.annotator)
        if noise is not None:
            record["noise"] = noise.as_dict()
        for name in ("source", "target"):
            root = getattr(self.roots, name)
            record[f"{name}_root"] = None if root is None else str(root.resolve())
        numbers = range(1, self.config.budget.stages + 1)
        phases = [self.stage(m, seed, n) for seed in seeds for m in methods for n in numbers]
        return self.make(phases, record)

    def _domains(self, seed: int) -> Domains:
        scene_seed = self.config.scene_seed + seed
        domains = Domains(self.config, self.roots, scene_seed, self.annotator)
        domains.check()
        return domains

    def folder(self, seed: int, *names: str) -> Path:
        return self.out.joinpath(f"seed{seed}", *names)

    def fresh_nets(self, seed: int) -> Nets:
        """What every method has: alike for all methods of a seed."""
        seed_everything(seed, "networks")
        return build_nets(self.config, len(classes_of(self.config.data)))

    def further_nets(self, seed: int, method: Method) -> Nets:
        """What a method adds."""
        seed_everything(seed, "networks", method.name)
        classes = len(classes_of(self.config.data))
        return method.networks(self.config, classes) if method.networks else {}

    def warm_up(self, seed: int, name: str) -> Phase:
        """ "source", or a phase that continues it: "adversarial", "source_more"."""
        settings = self.config.train
        start = None if name == "source" else self.warm_up(seed, "source")
        steps = settings.source_steps if start is None else settings.adversarial_steps

        def make(folder: Path) -> dict:
            domains, nets = self.domains(seed), self.fresh_nets(seed)
            rate, step, target = settings.learning_rate, source_only_step, None
            if start is not None:
                load_nets(nets, start.path)
                rate = settings.stage_learning_rate
            if name == "adversarial":
                step, target = adaptsegnet_step, domains.target
            seconds = self._train(
                folder, nets, step, domains.source, target, None, steps, rate,
                derive_seed(seed, name),
            )  # fmt: skip
            save_nets(nets, folder)
            return {"train_seconds": seconds}

        return Phase(self.folder(seed, name), start, steps, f"{name}, seed {seed}", make)

    def stage(self, method: Method, seed: int, number: int) -> Phase:
        """One stage of a method; it starts from the stage or the warm-up before it."""
        if method.trains_as:
            start = self.stage(METHODS[method.trains_as], seed, number)
        elif number == 1:
            start = self.warm_up(seed, method.warm_up) if method.warm_up else None
        else:
            start = self.stage(method, seed, number - 1)
        steps, folder = 0, self.folder(seed, method.name, f"stage{number}")
        if not method.trains_as:
            steps = self._steps(method, number)
            if method.selector and not (folder / "asked.json").exists():
                steps += getattr(self.config, method.selector).steps
        title = f"{method.name}, seed {seed}, stage {number}/{self.config.budget.stages}"
        make = partial(self._make_stage, method, seed, number, start.path if start else None)
        return Phase(folder, start, steps, title, make)

    def _steps(self, method: Method, number: int) -> int:
        """Of a stage; the first one makes up for a warm-up that a method does not have."""
        settings = self.config.train
        missing = settings.source_steps + settings.adversarial_steps
        first = number == 1 and not method.warm_up
        return settings.stage_steps * method.steps_factor + (missing if first else 0)

    def _make_stage(
        self, method: Method, seed: int, number: int, start: Path | None, folder: Path
    ) -> dict:
        domains, nets = self.domains(seed), self.fresh_nets(seed)
        further = self.further_nets(seed, method)
        if start is not None:
            whole = number > 1 or method.trains_as
            load_nets(nets | further if whole else nets, start)
        nets |= further
        if method.trains_as:
            if method.scored != "segmenter":
                nets = {"segmenter": nets[method.scored].net}
            return {"train_seconds": 0.0} | self._score(method, nets, domains, folder)
        labels, record = self._target_labels(folder, method, nets, domains, seed, number)
        labelled = ()
        if method.sees == "few":
            asked = asked_before(folder.parent, number + 1, domains.target)
            labelled = [index for index, one in enumerate(asked.positions) if len(one)]
        seconds = self._train(
            folder,
            nets,
            method.step,
            domains.source if method.source else None,
            domains.target if method.sees != "nothing" else None,
            labels,
            self._steps(method, number),
            self.config.train.stage_learning_rate,
            # the same batches for every method: what differs between rows is the method
            derive_seed(seed, "stage", number),
            labelled,
        )
        del labels  # Windows keeps a file that somebody still reads
        (folder / "pseudo_labels.npy").unlink(missing_ok=True)
        return record | {"train_seconds": seconds} | self._score(method, nets, domains, folder)

    def _train(
        self, folder, nets, step, source, target, labels, steps: int, learning_rate: float, seed,
        labelled=(),
    ) -> float:  # fmt: skip
        """Train and write the losses; returns seconds."""
        started = time.perf_counter()
        history = train_segmenter(
            self.fabric, nets, step, self.config, source, target, labels,
            steps=steps, learning_rate=learning_rate, seed=seed, labelled=labelled,
            checkpoint=folder / "unfinished.pt", on_step=self.progress.step,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        write_history(folder / "trace.csv", history)
        return seconds

    def _score(self, method: Method, nets: Nets, domains: Domains, folder: Path) -> dict:
        if method.adapts:
            estimate_statistics(self.fabric, nets["segmenter"], domains.target, self.config)
        net = nets["segmenter"].to(self.fabric.device)
        if domains.evaluation is None:
            scores, iou = self._agreement(method, net, domains), {}
        else:
            found = evaluate(self.fabric, net, domains.evaluation, self.config)
            scores, iou = summary(found), found.iou
            with writing(folder / "confusions.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, confusions=found.confusions)
        save_nets(nets, folder)
        return {"scores": scores, "iou": iou}

    def _agreement(self, method: Method, net, domains: Domains) -> dict[str, float]:
        """In the place of scores where the target has no labels: how often the model says what
        people said of the points kept aside, in percent, and the number of points. Of a segment
        its first pixel counts; where people disagree or cannot tell, none."""
        if not hasattr(domains.annotator, "store"):
            return {}
        table, (height, width) = domains.annotator.store.answers(), self.config.data.target_size
        own = table["selection"].str.startswith(f"{method.name}/")
        table = table[table["held_out"] & own & (table["part"] == 0)]
        places = Selection.nothing(len(domains.target), (height, width))
        for (image, row, column), said in table.groupby(["image", "row", "column"])["label"]:
            label, *tied = said.mode()
            if image in domains.target.names and label != IGNORE and not tied:
                index = domains.target.names.index(image)
                places.positions[index] = np.append(places.positions[index], row * width + column)
                places.answers[index] = np.append(places.answers[index], label)
        guesses = self._guesses(net, domains, places)
        same = np.concatenate(guesses) == np.concatenate(places.answers)
        score = {"agreement": 100 * float(same.mean())} if len(same) else {}
        return score | {"held_out": len(same)}

    # ------------------------------------------------------------------------ target labels

    def _target_labels(
        self, folder: Path, method: Method, nets: Nets, domains: Domains, seed: int, stage: int
    ) -> tuple[Labels | None, dict]:
        """What the method may know of the target in this stage, and what it cost."""
        started, config = time.perf_counter(), self.config
        if method.sees in ("nothing", "images"):
            return None, {}
        if method.sees == "all":
            labels, costs = domains.oracle.ask_everything()
            return labels, _means(pd.DataFrame(map(vars, costs))) | {"select_seconds": 0.0}
        net = nets["segmenter"].to(self.fabric.device)
        estimate_statistics(self.fabric, net, domains.target, config)
        if method.sees == "pseudo":
            labels = self._pseudo_labels(folder, net, domains.target, stage)
            return labels, {"select_seconds": time.perf_counter() - started}
        known = asked_before(folder.parent, stage, domains.target)
        questions, answered = folder / "selection.npz", folder / "cost.csv"
        name = f"{method.name}/seed{seed}/stage{stage}"
        if not (folder / "asked.json").exists():  # chosen once, however long the answers take
            asking = method
            if not method.warm_up and stage == 1:  # there is no model to choose by
                asking = replace(method, rule="random", selector="")
            answered.unlink(missing_ok=True)
            choice = derive_seed(seed, "selection", stage)
            self._choose(folder, asking, nets, domains, known, stage, choice).save(questions)
            write_json(folder / "asked.json", {"select_seconds": time.perf_counter() - started})
        if not answered.exists():  # written last: a person is never asked twice
            selection = Selection.load(questions, known)
            guesses = partial(self._guesses, net, domains, selection)
            selection, costs = domains.annotator.ask(
                selection, name, stage=stage,
                kind="point" if method.asks_points else "segment",
                guesses=guesses if method.warm_up or stage > 1 else None,
            )  # fmt: skip
            selection.save(questions)
            table = pd.DataFrame(map(vars, costs))
            table.insert(0, "image", domains.target.names)
            if method.sees == "tags":
                table["pixels"] = 0.0  # a class is named; its pixel only carries the answer
            with writing(answered) as temporary:
                table.to_csv(temporary, index=False)
        costs = pd.read_csv(answered)
        now = Selection.load(questions, known)
        known = known.merge(now)
        said = np.concatenate(now.answers)
        record = _means(costs) | read_json(folder / "asked.json") | {"asked": len(said) / len(now)}
        if not config.budget.held_out:  # else what is kept aside looks like void
            record |= {"void": int((said == IGNORE).sum()) / len(now)}
        if not method.fill:
            return known.labels, record
        tolerance, pseudo = 0.0, None
        if "regions" in method.fill:
            tolerance, agreement = choose_tolerance(domains.target, known, config.regions)
            record |= {"tolerance": tolerance}
            record |= {"held_back_agreement": agreement} if tolerance else {}
        if "pseudo" in method.fill:
            pseudo = self._pseudo_labels(folder, net, domains.target, stage)
        filled = (domains.target, known, tolerance, config.regions.radius, pseudo)
        return partial(filled_label, *filled), record

    def _pseudo_labels(self, folder: Path, net, target: SegmentationFolder, stage: int) -> Labels:
        """IAST's, with the share that it keeps in this stage."""
        alphas = self.config.self_training.alphas
        alpha, path = alphas[min(stage, len(alphas)) - 1], folder / "pseudo_labels.npy"
        return write_pseudo_labels(self.fabric, net, target, self.config, alpha, path)

    def _choose(self, folder, method, nets, domains, known: Selection, stage, seed) -> Selection:
        """Train the selector where the method has one; select. Nobody is asked yet.

        Which classes are in an image is asked once, in the first stage.
        """
        target, config, net = domains.target, self.config, nets["segmenter"]
        if method.sees in ("tags", "class points"):
            if any(map(len, known.positions)):
                return Selection.nothing(len(target), config.data.target_size)
            return domains.oracle.one_of_each_class(seed)
        if method.selector:
            settings, pseudo = getattr(config, method.selector), folder / "pseudo_labels.npy"
            net, history = train_selector(
                self.fabric,
                net,
                target,
                write_pseudo_labels(self.fabric, net, target, config, settings.alpha, pseudo),
                config,
                settings,
                seed,
                checkpoint=folder / "selector_unfinished.pt",
                checkpoint_steps=config.train.checkpoint_steps,
                on_step=self.progress.step,
            )
            save_weights(net, folder / "selector.safetensors")
            write_history(folder / "selector_trace.csv", history)
            (folder / "selector_unfinished.pt").unlink(missing_ok=True)
        selection, masks = select(
            self.fabric, net, target, config,
            rule=method.rule, budget=self.stage_budget(method, stage), taken=known, seed=seed,
            discriminator=nets["discriminator0"].to(self.fabric.device),
        )  # fmt: skip
        if method.selector:
            masks.save(folder / "masks.npz")
        return selection

    @torch.no_grad()
    def _guesses(self, net, domains: Domains, selection: Selection) -> list[np.ndarray]:
        """The model's classes at the positions of each image, for a person to confirm."""
        net.eval()
        size, guesses = self.config.data.target_size, []
        for images in image_batches(domains.target, self.config, self.fabric.device):
            for classes in predict(self.fabric, net, images, size).argmax(dim=1).cpu().numpy():
                guesses.append(classes.reshape(-1)[selection.positions[len(guesses)]])
        return guesses

    def stage_budget(self, method: Method, stage: int) -> int:
        """Pixels that a method may ask of an image in one stage, at the network's size."""
        budget = self.config.budget
        if method.points:  # exactly so many in all stages, where the configuration's leave a rest
            done, now = (method.points * n // budget.stages for n in (stage - 1, stage))
            return now - done
        height, width = self.config.data.target_size
        if method.sees == "points":
            return max(1, budget.points // budget.stages)
        if method.whole_mask:
            return max(1, round(budget.mask_cap * height * width))
        share = method.pixels or budget.pixels
        return max(1, round(share * height * width / budget.stages))

    # ----------------------------------------------------------------------------- results

    def results(self) -> pd.DataFrame:
        """A row for every finished stage in the folder, methods in the registry's order."""
        pairs = itertools.product(METHODS.values(), seed_folders(self.out).items())
        rows = (self._rows(method, seed, folder) for method, (seed, folder) in pairs)
        return pd.DataFrame(itertools.chain.from_iterable(rows))

    def _rows(self, method: Method, seed: int, seed_folder: Path) -> list[dict]:
        rows = []
        trained = METHODS[method.trains_as] if method.trains_as else method
        warm_ups = [seed_folder / name for name in ("source", trained.warm_up) if trained.warm_up]
        seconds = sum(read_json(f / "phase.json")["train_seconds"] for f in warm_ups if finished(f))
        select_seconds, paid = 0.0, []
        for stage in range(1, self.config.budget.stages + 1):
            folder = seed_folder / method.name / f"stage{stage}"
            if not finished(folder):
                break
            phase = read_json(folder / "phase.json")
            training = read_json(seed_folder / trained.name / f"stage{stage}" / "phase.json")
            seconds += training["train_seconds"]
            select_seconds += training.get("select_seconds", 0.0)
            # full supervision pays once; the others pay in every stage
            paid = [training] if method.sees == "all" else [*paid, training]
            rows.append(
                {
                    "method": method.name,
                    "seed": seed,
                    "scene_seed": self.config.scene_seed + seed,
                    "stage": stage,
                    "budget": self.budget_text(method),
                    "precision": precision_of(self.fabric),
                    **phase["scores"],
                    **paid_by_person(paid, method.kind),
                    "train_seconds": seconds,
                    "select_seconds": select_seconds,
                    **{f"iou_{name}": value for name, value in phase["iou"].items()},
                }
            )
        return rows

    def budget_text(self, method: Method) -> str:
        """The budget as a reader would say it."""
        budget = self.config.budget
        if method.sees == "all":
            return "all pixels"
        if not method.asks:
            return "none"
        if method.sees == "points":
            return f"{method.points or budget.points} points"
        if method.sees in ("tags", "class points"):
            return method.sees
        share = f"{100 * (method.pixels or budget.pixels):g} %"
        share += " of the images" if method.sees == "few" else ""
        return "mask" if method.whole_mask else share


def asked_before(folder: Path, stage: int, target: SegmentationFolder) -> Selection:
    """All that a method asked of the target before a stage; folder: that of the method's stages."""
    known = Selection.nothing(len(target), target.size)
    for earlier in range(1, stage):
        known = known.merge(Selection.load(folder / f"stage{earlier}" / "selection.npz", known))
    return known


def _means(costs: pd.DataFrame) -> dict[str, float]:
    """Means over the images; of measured seconds only where every image has them."""
    known = costs.reindex(columns=[*COUNTS, "seconds"])
    return known.mean(skipna=False).dropna().to_dict()


def paid_by_person(phases: list[dict], kind: str) -> dict[str, float]:
    """What some phases paid together, as columns of results.csv. kind: see `person_seconds`.

    Seconds are computed for the phases that have no measured ones. void_share: the part of the
    asked pixels that was void; NaN where it was not counted.
    """
    paid = pd.DataFrame(phases, columns=[*COUNTS, "seconds", "asked", "void"], dtype=float)
    total, computed = paid.sum(), paid[paid["seconds"].isna()].sum()
    least, most = person_seconds(*computed[list(COUNTS)], kind)
    return {
        **{f"{name}_per_image": total[name] for name in COUNTS},
        "seconds_per_image": least + total["seconds"],
        "most_seconds_per_image": most + total["seconds"],
        "void_share": paid["void"].sum(skipna=False) / total["asked"] if total["asked"] else np.nan,
    }
