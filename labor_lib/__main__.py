"""Command line: `python -m labor_lib run --preset streets`, or `labor run --preset streets`."""

# ruff: noqa: RUF009  (`_option` makes fields)

import argparse
import errno
import os
import re
import shlex
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from labor_lib.config import Where, changed, check_budget, configure, preset, with_network
from labor_lib.errors import InputError, Waiting
from labor_lib.runtime import home, make_fabric


def _option(default: Any, text: str, kind: type = str, **settings):
    """A field that becomes an option; without a default, an argument."""
    return field(default=default, metadata={"help": text, "type": kind} | settings)


@dataclass
class Training:
    """What `run`, `arena` and `family` share."""

    seeds: str = _option("0", "such as 0, or 0-4, or 0,3")
    device: str = _option("auto", "cpu, cuda or mps; the best by default")
    precision: str = _option("auto", "32-true, bf16-mixed or 16-mixed")
    out: str | None = _option(None, "run folder; by default in runs/")
    no_imagenet: bool = _option(False, "the network from random weights", bool)

    def folder(self, *default: str) -> Path:
        """The run folder; `default` is below the folder of runs."""
        if self.out is not None and not self.out.strip():
            raise InputError("--out '': give a folder")
        return Path(self.out) if self.out else home().joinpath("runs", *default)


@dataclass
class Segmentation(Training):
    """What `run` and `arena` share."""

    preset: str = _option("streets", "streets, camvid[-dusk, -full], gta5, synthia or smoke")
    stages: int | None = _option(None, "rounds of select, label, train", int)
    scene_seed: int | None = _option(None, "of the drawn scenes; seed i uses this + i", int)
    source_root: Path | None = _option(None, "folder of the source dataset", Path)
    target_root: Path | None = _option(None, "folder of the target dataset", Path)
    data: str = _option("", "where scenes are drawn; ./data by default")
    network: str | None = _option(None, "small or lite; the preset's by default")
    annotator: str = _option("oracle", "oracle, noisy, noisy:FILE.json, or store:PATH for people")
    evaluate_on: str | None = _option(None, "val: to choose settings by", choices=("test", "val"))
    budget = points = None  # options of `run` alone

    def config(self):
        """The preset with the options' changes; raises InputError for values that make no sense."""
        from labor_lib.annotation import read_noise

        config = preset(self.preset)
        if self.network:
            config = with_network(config, self.network)
        config = changed(
            config,
            budget=_given(stages=self.stages, pixels=self.budget, points=self.points),
            train={"imagenet": False} if self.no_imagenet else {},
            **_given(scene_seed=self.scene_seed, evaluate_on=self.evaluate_on),
        )
        check_budget(config)
        read_noise(self.annotator)  # before anything is drawn
        return config

    def run(self, kind, config, methods, out: Path, command: str, **further):
        """Make the phases of a folder: kind is `SegmentationPhases`, or one of its kind."""
        from labor_lib.lab.segmentation import Roots

        data = Path(self.data) if self.data else home() / "data"
        roots = Roots(data, self.source_root, self.target_root)
        seeds, fabric = number_list(self.seeds), make_fabric(self.device, self.precision)
        phases = kind(config, out, roots, fabric, command, self.annotator)
        return phases.run(methods, seeds, **further)


@dataclass
class Run(Segmentation):
    """train, score and report segmentation methods; continues where it was stopped"""

    methods: str = _option("main", "names separated by commas, or main, or all")
    budget: float | None = _option(None, "share of the pixels, as 0.022 (spl ignores it)", float)
    points: int | None = _option(None, "points an image, over all stages", int)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.report import print_table, write_report
        from labor_lib.lab.segmentation import SegmentationPhases
        from labor_lib.methods.registry import resolve

        config, methods = self.config(), resolve(self.methods.split(","))
        out = self.folder(config.preset)
        table = self.run(SegmentationPhases, config, methods, out, command)
        report = write_report(out)
        print_table(table)
        print(f"report: {report}")


@dataclass
class Arena(Segmentation):
    """compare ways to choose pixels at equal steps and budgets; continues where it was stopped"""

    strategies: str = _option("default", "names separated by commas, or default, or all")
    unit: str = _option("points", "of the budgets: points, percent (of the pixels) or seconds")
    budgets: str = _option("10,20,40", "of an image, over all stages")

    def __call__(self, command: str) -> None:
        from labor_lib.lab import arena

        config = self.config()
        budgets = [_number(text, "--budgets") for text in self.budgets.split(",")]
        groups = {"default": arena.DEFAULT, "all": arena.strategies()}
        names = [n for name in self.strategies.split(",") for n in groups.get(name, [name])]
        methods = arena.entries(list(dict.fromkeys(names)), budgets, self.unit, config)
        out = self.folder(f"arena-{config.preset}-{self.unit}")
        self.run(arena.ArenaPhases, config, methods, out, command, unit=self.unit)
        table = arena.open_arena(out)
        figures = arena.write_figures(out, table)
        print(arena.arena_table(table).to_string(index=False))
        print(f"mIoU in %, means ± standard deviations over seeds; figures: {figures}")


@dataclass
class Family(Training):
    """train and score image classifiers: DANN, CCSA, SagNet and baselines"""

    methods: str = _option("main", "names separated by commas, or main, or all")
    shift: str = _option(
        "textured", "textured, fonts, styles (drawn); mnistm, ccsa, folder (files below --root)"
    )
    root: Path | None = _option(
        None, "folder of images (DOMAIN/CLASS/*), MNIST, or CCSA's files", Path
    )
    source: str = _option("", "domain of --root to adapt from; else one is left out at a time")
    target: str = _option("", "domain of --root to adapt to")
    few: str = _option("", "labelled target images a class, such as 1,3,5,7")
    repetition: int = _option(0, "of CCSA's split files", int)
    network: str | None = _option(None, "for --shift folder", choices=("small", "resnet18"))

    def __call__(self, command: str) -> None:
        from labor_lib.lab.classification import ClassificationPhases, print_summary
        from labor_lib.methods.registry import resolve

        few = number_list(self.few, "--few") if self.few else []
        where = Where(self.root, self.source, self.target, self.repetition)
        config = configure(self.shift, where, self.network, few, not self.no_imagenet)
        methods, seeds = resolve(self.methods.split(","), config), number_list(self.seeds)
        out, fabric = self.folder("family", config.shift), make_fabric(self.device, self.precision)
        phases = ClassificationPhases(config, where, out, fabric, command)
        print_summary(phases.run(methods, seeds))


@dataclass
class Data:
    """fetch real data, its hashes checked"""

    name: str = _option(MISSING, "camvid, mnist or bsds500")
    root: Path | None = _option(None, "where it is put; ./data by default", Path)

    def __call__(self, command: str) -> None:
        from labor_lib.data.download import fetch

        print(*fetch(self.name, self.root or home() / "data"), sep="\n")


@dataclass
class Report:
    """write report.html of a run folder again"""

    out: Path = _option(MISSING, "run folder, such as runs/streets", Path)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.report import write_report

        print(write_report(self.out))


@dataclass
class Results:
    """write a run's tables into docs/RESULTS.md"""

    out: Path = _option(MISSING, "run folder, such as runs/streets", Path)
    page: Path = _option(Path("docs/RESULTS.md"), "the page with the run's markers", Path)
    short: Path | None = _option(None, "page for the small table, such as README.md", Path)
    pictures: Path | None = _option(None, "folder for predictions.png and asked.png", Path)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.report import write_table

        write_table(self.out, self.page, self.short, self.pictures)


@dataclass
class Export:
    """write a store's open questions for Label Studio, CVAT, or a tool that reads COCO"""

    store: Path = _option(MISSING, "store of answers, such as my-project/store.sqlite", Path)
    format: str = _option("label-studio", "label-studio, cvat or coco")
    out: Path | None = _option(None, "file; questions.json or .xml beside the store", Path)
    images: str | None = _option(None, "where Label Studio finds images, such as http://host/dir/")

    def __call__(self, command: str) -> None:
        from labor_lib.annotation.exchange import LOCAL_FILES, export_questions
        from labor_lib.annotation.store import Store

        ending = ".xml" if self.format == "cvat" else ".json"
        out = self.out or self.store.with_name(f"questions{ending}")
        images = LOCAL_FILES if self.images is None else self.images
        count, files = export_questions(Store(self.store), self.format, out, images)
        print(f"questions: {count}", *files, sep="\n")


@dataclass
class Import:
    """bring answers from Label Studio, CVAT, or a COCO file into a store"""

    store: Path = _option(MISSING, "store of answers, such as my-project/store.sqlite", Path)
    file: Path = _option(MISSING, "what the tool exported", Path)
    format: str = _option("label-studio", "label-studio, cvat or coco")
    annotator: str | None = _option(None, "who answered; by default who the file names")

    def __call__(self, command: str) -> None:
        from labor_lib.annotation.exchange import import_answers
        from labor_lib.annotation.store import Store

        store = Store(self.store)
        count, beside = import_answers(store, self.format, self.file, self.annotator)
        print(f"answers: {count}")
        if beside:
            print(f"labelled pixels beside the questions, left out: {beside}")
        print(store.progress().to_string(index=False))


@dataclass
class Start:
    """begin a project: LabOR on images of your own, which people answer questions about"""

    folder: Path = _option(MISSING, "the project's folder, which is made", Path)
    images: Path | None = _option(None, "folder of photographs, PNG or JPEG", Path)
    source: str = _option("drawn", "drawn (streets), or the folder of a labelled dataset")
    source_layout: str | None = _option(
        None, "of that folder: gta5, synthia, cityscapes, camvid, or pairs (images/ and labels/)"
    )
    classes: str | None = _option(
        None, "CSV file with the columns name, colour, source; or a set, such as streets14"
    )
    method: str = _option("ppl", "one that asks, such as ppl, margin_points or spl_sampled")
    points: int | None = _option(None, "points an image, over all stages; 40 by default", int)
    stages: int | None = _option(None, "rounds of select, label, train; 3 by default", int)
    answers: int = _option(1, "different people who answer each question", int)
    size: str | None = _option(None, "HEIGHTxWIDTH for the network; from the images by default")
    warm_up: int | None = _option(None, "training steps on the source; 600 by default", int)
    steps: int | None = _option(None, "training steps in a stage; 150 by default", int)
    network: str = _option("lite", "small or lite")
    device: str = _option("auto", "cpu, cuda or mps; the best by default")
    precision: str = _option("auto", "32-true, bf16-mixed or 16-mixed")
    no_imagenet: bool = _option(False, "the network from random weights", bool)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.project import Project, fitted

        if self.images is None:
            raise InputError("--images is missing: give the folder of your photographs")
        source = None if self.source == "drawn" else Path(self.source)
        config = fitted(
            self.config(), self.images, source, self.source_layout, self.classes, self.size
        )
        project = Project(
            self.folder, self.images, source, self.method, config, self.device, self.precision
        )
        project.save(self.answers)
        print(project.plan(), flush=True)
        project.advance(command)
        print(project.status())

    def config(self):
        """The settings that are given, on those of every project."""
        from labor_lib.lab import project

        if min(self.warm_up or 2, self.steps or 2, self.answers) < 1:
            raise InputError("--warm-up, --steps, --answers: give numbers from 1 on")
        config = with_network(project.BASE, self.network)
        train = _given(stage_steps=self.steps, imagenet=False if self.no_imagenet else None)
        if self.warm_up is not None:
            adversarial = self.warm_up // 3  # as in the presets
            train |= dict(source_steps=self.warm_up - adversarial, adversarial_steps=adversarial)
        budget = _given(stages=self.stages, points=self.points)
        return changed(config, preset="project", train=train, budget=budget)


@dataclass
class Next:
    """take a project's answers, train, and ask again; in the end write the predictions"""

    folder: Path = _option(MISSING, "the project's folder", Path)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.project import Project

        project = Project.open(self.folder)
        if not project.page.exists():  # written last
            project.must_be_answered()
            project.advance(command)
        print(project.status())


@dataclass
class Status:
    """say how far a project is, who answered, and what comes next"""

    folder: Path = _option(MISSING, "the project's folder", Path)

    def __call__(self, command: str) -> None:
        from labor_lib.lab.project import Project

        print(Project.open(self.folder).status())


COMMANDS = {"run": Run, "arena": Arena, "family": Family, "data": Data,
            "report": Report, "results": Results, "start": Start, "next": Next, "status": Status,
            "export": Export, "import": Import}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="labor", description="Domain adaptation with few labels: LabOR and its rivals."
    )
    commands = main.add_subparsers(dest="command", required=True)
    for name, options in COMMANDS.items():
        sub = commands.add_parser(name, help=options.__doc__, description=options.__doc__)
        # a command's own options first, then those that it shares
        for one in sorted(fields(options), key=lambda one: one.name not in options.__annotations__):
            settings = dict(one.metadata)
            if settings["type"] is bool:
                settings = {"help": settings["help"], "action": "store_true"}
            flag = f"--{one.name.replace('_', '-')}"
            if one.default is MISSING:
                sub.add_argument(one.name, **settings)
            else:
                sub.add_argument(flag, default=one.default, **settings)
    return main


def number_list(text: str, option: str = "--seeds") -> list[int]:
    """ "0-2,5" -> [0, 1, 2, 5]; raises InputError for anything else."""
    numbers = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + 1000:
            raise InputError(f"{option} '{text}': give numbers such as 0 or 0-4 or 0,3")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} '{text}': give numbers such as 10,20,40") from None


def _given(**changes) -> dict:
    """Without the options that were not given."""
    return {name: value for name, value in changes.items() if value is not None}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 for bad input and 3 where people have to answer, both reported in one line;
    130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):  # not every terminal can print every sign
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else arguments
    options = vars(parser().parse_args(arguments))
    command = COMMANDS[options.pop("command")](**options)
    try:
        command(shlex.join(["python", "-m", "labor_lib", *map(str, arguments)]))
        sys.stdout.flush()
    except InputError as error:
        print(f"labor: {error}", file=sys.stderr)
        return 3 if isinstance(error, Waiting) else 2
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not full:
            raise
        fix = "make room or choose another folder" if full else "fix that"
        print(
            f"labor: {error.filename or 'the run folder'}: {error.strerror}; {fix}, then run the "
            "same command again: what is finished is kept",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("labor: interrupted; the same command continues from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
