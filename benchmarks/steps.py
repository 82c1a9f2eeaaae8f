"""Time per step and per stage of every method, beside a plain supervised loop, in one run.

    python -m benchmarks.steps [--device cuda] [--steps 20]

Draws the streets if they are absent, times `--steps` training steps of every method after three
unmeasured ones, and one selection of each asking method; prints a Markdown table.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from labor_lib.config import STREETS
from labor_lib.lab.segmentation import Domains, Roots
from labor_lib.methods.iast import write_pseudo_labels
from labor_lib.methods.labor import train_selector
from labor_lib.methods.registry import METHODS
from labor_lib.methods.source_only import supervised_step
from labor_lib.runtime import make_fabric, precision_of, seed_everything
from labor_lib.selection.record import Selection
from labor_lib.selection.select import select
from labor_lib.train import build_nets, train_segmenter

WARM = 3  # steps that are not counted


def step_times(fabric, step, material, steps: int) -> list[float]:
    """Seconds of every step, between one `on_step` and the next."""
    seed_everything("benchmark")
    nets = build_nets(STREETS, 14)
    moments = []

    def note(losses):
        moments.append(time.perf_counter())  # losses are numbers: the device has finished

    train_segmenter(
        fabric, nets, step, STREETS, *material,
        steps=steps + WARM, learning_rate=1e-3, seed=0, on_step=note,
    )  # fmt: skip
    return np.diff(moments)[WARM - 1 :].tolist()


def selection_seconds(fabric, method, domains: Domains) -> float:
    """Pseudo labels, selector and rule over the whole training split."""
    seed_everything("benchmark")
    segmenter = build_nets(STREETS, 14)["segmenter"].to(fabric.device)
    started = time.perf_counter()
    net = segmenter
    if method.selector:
        settings = getattr(STREETS, method.selector)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pseudo.npy"
            pseudo = write_pseudo_labels(
                fabric, segmenter, domains.target, STREETS, settings.alpha, path
            )
            net, _ = train_selector(fabric, segmenter, domains.target, pseudo, STREETS, settings, 0)
    nothing = Selection.nothing(len(domains.target), STREETS.data.target_size)
    select(
        fabric, net, domains.target, STREETS, rule=method.rule, budget=100, taken=nothing, seed=0
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    fabric = make_fabric(options.device, options.precision)
    domains = Domains(STREETS, Roots(options.data), 0)
    domains.check()
    labels, _ = domains.oracle.ask_everything()
    size, stage = STREETS.data.target_size, STREETS.train.stage_steps

    both = (domains.source, domains.target, labels)
    baseline = statistics.median(step_times(fabric, supervised_step, both, options.steps))
    print(f"torch {torch.__version__}, {platform.machine()}, {fabric.device}, ", end="")
    print(f"{precision_of(fabric)}, {torch.get_num_threads()} threads, {size[0]} x {size[1]}")
    print(
        "\n| method | ms a step | times supervised | training, s a stage | selection, s a stage |"
    )
    print("|---|---|---|---|---|")
    for method in METHODS.values():
        if method.trains_as or method.steps_factor > 1 or method.pixels or method.arena:
            continue
        material = (
            domains.source if method.source else None,
            domains.target if method.sees != "nothing" else None,
            labels,
        )
        median = statistics.median(step_times(fabric, method.step, material, options.steps))
        seconds = selection_seconds(fabric, method, domains) if method.rule else 0.0
        print(
            f"| {method.name} | {1000 * median:.0f} | {median / baseline:.2f} "
            f"| {median * stage:.1f} | {seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
