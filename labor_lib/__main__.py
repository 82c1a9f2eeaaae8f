"""Command line: `python -m labor_lib run --preset streets`."""

import argparse
import errno
import re
import sys
from dataclasses import replace
from pathlib import Path

from labor_lib.errors import InputError


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="python -m labor_lib",
        description="Domain adaptation with few labels: LabOR and its rivals.",
    )
    commands = main.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, score and report methods; goes on where it was")
    run.add_argument("--preset", default="streets", help="streets, camvid, gta5, synthia or smoke")
    run.add_argument("--methods", default="main", help="names with commas between, or main, or all")
    run.add_argument("--seeds", default="0", help="such as 0, or 0-4, or 0,3")
    run.add_argument("--stages", type=int, help="rounds of select, label, train")
    run.add_argument(
        "--budget", type=float, help="share of the pixels, such as 0.022 (spl asks its mask)"
    )
    run.add_argument("--points", type=int, help="points an image, over all stages")
    run.add_argument("--device", default="auto", help="cpu, cuda, mps; the best by default")
    run.add_argument("--precision", default="auto", help="32-true, bf16-mixed, 16-mixed")
    run.add_argument("--scene-seed", type=int, help="of the drawn scenes; seed i uses this + i")
    run.add_argument("--source-root", type=Path, help="folder of the source dataset")
    run.add_argument("--target-root", type=Path, help="folder of the target dataset")
    run.add_argument("--data", type=Path, default=Path("data"), help="where scenes are drawn")
    run.add_argument("--out", type=Path, help="run folder; runs/PRESET by default")
    run.add_argument("--evaluate-on", choices=("test", "val"), help="val: to choose settings by")
    run.add_argument("--no-imagenet", action="store_true", help="ResNet-101 from random weights")
    family = commands.add_parser("family", help="classification: DANN, CCSA, SagNet and baselines")
    family.add_argument("--shift", default="textured", help="textured, fonts, styles, ccsa, folder")
    family.add_argument("--root", type=Path, help="folder of images (DOMAIN/CLASS/*) or of CCSA's")
    family.add_argument("--source", default="", help="domain of --root to adapt from; else one is")
    family.add_argument("--target", default="", help="domain to adapt to;      left out at a time")
    family.add_argument("--methods", default="main", help="names with commas between, main, or all")
    family.add_argument("--seeds", default="0", help="such as 0, or 0-4, or 0,3")
    family.add_argument("--few", default="", help="labelled target images a class, such as 1,3,5,7")
    family.add_argument("--repetition", type=int, default=0, help="of CCSA's split files")
    family.add_argument("--network", choices=("small", "resnet18"), help="for --shift folder")
    family.add_argument("--no-imagenet", action="store_true", help="ResNet-18 from random weights")
    family.add_argument("--device", default="auto", help="cpu, cuda, mps; the best by default")
    family.add_argument("--precision", default="auto", help="32-true, bf16-mixed, 16-mixed")
    family.add_argument("--out", type=Path, help="run folder; runs/family/SHIFT by default")
    download = commands.add_parser("download", help="fetch real data, its hashes checked")
    download.add_argument("name", help="mnist or bsds500")
    download.add_argument("--root", type=Path, default=Path("data"), help="where it is put")
    report = commands.add_parser("report", help="write report.html of a run folder again")
    report.add_argument("out", type=Path, help="run folder, such as runs/streets")
    results = commands.add_parser("results", help="write a run's tables into docs/RESULTS.md")
    results.add_argument("out", type=Path, help="run folder, such as runs/streets")
    results.add_argument("--page", type=Path, default=Path("docs/RESULTS.md"))
    results.add_argument("--short", type=Path, help="page for the small table, such as README.md")
    results.add_argument("--pictures", type=Path, help="folder for predictions.png and asked.png")
    return main


def number_list(text: str, option: str = "--seeds") -> list[int]:
    """ "0-2,5" -> [0, 1, 2, 5]; raises InputError for anything else."""
    numbers = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not found or int(found[1]) > int(found[2] or found[1]):
            raise InputError(f"{option} '{text}': give numbers such as 0 or 0-4 or 0,3")
        last = min(int(found[2] or found[1]), int(found[1]) + 1000)
        numbers += range(int(found[1]), last + 1)
        if len(numbers) > 1000:
            raise InputError(f"{option} '{text}': at most 1000 numbers in a run")
    return list(dict.fromkeys(numbers))


def configure(options: argparse.Namespace):
    """The preset with the options' changes; raises InputError for values that make no sense."""
    from labor_lib.config import preset

    config = preset(options.preset)
    budget = config.budget
    if options.stages is not None:
        budget = replace(budget, stages=options.stages)
    if options.budget is not None:
        budget = replace(budget, pixels=options.budget)
    if options.points is not None:
        budget = replace(budget, points=options.points)
    if budget.stages < 1:
        raise InputError(f"--stages {budget.stages}: give at least 1")
    if not 0 < budget.pixels <= 1:
        raise InputError(f"--budget {budget.pixels}: give a share of the pixels, in (0, 1]")
    if budget.points < budget.stages:
        raise InputError(f"--points {budget.points}: give at least one for each stage")
    config = replace(config, budget=budget)
    if options.scene_seed is not None:
        config = replace(config, scene_seed=options.scene_seed)
    if options.evaluate_on is not None:
        config = replace(config, evaluate_on=options.evaluate_on)
    if options.no_imagenet:
        config = replace(config, train=replace(config.train, imagenet=False))
    return config


def run(options: argparse.Namespace) -> None:
    from labor_lib.lab.experiment import Experiment, Roots
    from labor_lib.lab.report import print_table, write_report
    from labor_lib.methods.registry import resolve
    from labor_lib.runtime import Progress, make_fabric

    config = configure(options)
    methods = resolve(options.methods.split(","))
    seeds = number_list(options.seeds)
    fabric = make_fabric(options.device, options.precision)
    out = options.out or Path("runs") / config.preset
    roots = Roots(options.data, options.source_root, options.target_root)
    progress = Progress()
    experiment = Experiment(config, out, roots, fabric, progress)
    try:
        table = experiment.run(methods, seeds)
    finally:
        progress.close()
    print_table(table)
    print(f"report: {write_report(out)}")


def family(options: argparse.Namespace) -> None:
    from labor_lib.family_config import Where, configure
    from labor_lib.lab.family_experiment import FamilyExperiment, print_summary
    from labor_lib.methods.family_registry import resolve
    from labor_lib.runtime import Progress, make_fabric

    few = number_list(options.few, "--few") if options.few else []
    where = Where(options.root, options.source, options.target, options.repetition)
    config = configure(options.shift, where, options.network, few, not options.no_imagenet)
    methods, seeds = resolve(options.methods.split(","), config), number_list(options.seeds)
    fabric = make_fabric(options.device, options.precision)
    out = options.out or Path("runs/family") / config.shift
    progress = Progress()
    try:
        table = FamilyExperiment(config, where, out, fabric, progress).run(methods, seeds)
    finally:
        progress.close()
    print_summary(table)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 for bad input, told in one line; 130 when interrupted."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "run":
            run(options)
        elif options.command == "family":
            family(options)
        elif options.command == "download":
            from labor_lib.data.download import fetch

            print(*fetch(options.name, options.root), sep="\n")
        elif options.command == "report":
            from labor_lib.lab.report import write_report

            print(write_report(options.out))
        elif options.command == "results":
            from labor_lib.lab.report import write_table

            write_table(options.out, options.page, options.short, options.pictures)
    except InputError as error:
        print(f"labor_lib: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "the run folder"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "make room or choose another folder" if full else "mend that"
        print(
            f"labor_lib: {where}: {error.strerror}; {mend}, then run the same command again: what "
            "is finished is kept",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("labor_lib: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
