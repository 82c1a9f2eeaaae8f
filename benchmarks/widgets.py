"""Milliseconds from a change of a control to the new picture, for every control of every widget.

    python -m benchmarks.widgets [--rounds 10]

Opens the finished runs (or makes small ones), changes each control in turn as a
reader would, on one core, and prints a Markdown table: median and worst, in wall-clock time and,
for a machine that others use too, in processor time.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from ipywidgets import Button

from labor_lib.lab.alignment import small_shift
from labor_lib.lab.runs import open_run, open_shift
from labor_lib.lab.ui.family import AlignmentPlayground, MethodChooser
from labor_lib.lab.ui.widgets import (
    CompareDashboard,
    DisagreementSlider,
    Picture,
    PrototypeViewer,
    SelectionExplorer,
    SettingChooser,
)

METHODS = ("source_only", "adaptsegnet", "random_points", "ppl", "spl", "spl_sampled", "supervised")
CONTROLS = {
    "SelectionExplorer": (
        *("method", "seed", "stage", "image", "model", "next", "base", "only", "beside", "opacity"),
        *("overlays.error", "overlays.entropy", "overlays.mask", "overlays.asked"),
        *("overlays.difference", "picture", "reset"),
    ),
    "PrototypeViewer": ("seed", "stage", "image", "chosen", "picture", "similarity", "reset"),
    "DisagreementSlider": ("step", "play", "errors"),
    "CompareDashboard": (
        *("axis", "metric", "page", "main_methods", "all_methods", "no_classes", "all_classes"),
        *("methods.ppl", "methods.supervised", "classes.road", "classes.car"),
    ),
    "SettingChooser": ("domain", "task", "labels", "images"),
    "AlignmentPlayground": ("alpha", "margin", "labels", "step", "pulled", "pushed"),
    "MethodChooser": (
        *("data", "questions.source", "questions.labels", "questions.images"),
        *("questions.output", "questions.classes"),
    ),
}
BEFORE = {  # a button, and the one that is pressed before it, so that it changes something
    "main_methods": "all_methods",
    "all_methods": "main_methods",
    "no_classes": "all_classes",
    "all_classes": "no_classes",
}


def values_of(control) -> Iterator:
    """Values to go through, again and again."""
    if isinstance(control, Picture):
        return itertools.cycle([[0.0, 0.0, 1.0], [0.4, 0.5, 2.0]])
    if hasattr(control, "options"):
        values = [o[1] if isinstance(o, tuple) else o for o in control.options]
    elif hasattr(control, "max"):
        last = min(control.max, control.min + 40 * control.step)
        values = np.arange(control.min, last + control.step / 2, control.step).tolist()
    else:
        values = [True, False]
    return itertools.cycle(values)


def changes(widget, name: str) -> Callable[[], None]:
    """A function that changes a control to its next value."""
    owner, _, key = name.partition(".")
    control = getattr(widget, owner)[key] if key else getattr(widget, owner)
    if isinstance(control, Button):
        return control.click
    trait, values = "view" if isinstance(control, Picture) else "value", values_of(control)

    def change() -> None:
        value = next(values)
        if value == getattr(control, trait):
            value = next(values)
        setattr(control, trait, value)

    return change


def measure(widget, name: str, rounds: int) -> tuple[list[float], list[float]]:
    """Wall-clock and processor milliseconds of so many changes of a control."""
    change, wall, busy = changes(widget, name), [], []
    for _ in range(rounds):
        if widget.error:  # a choice that cannot be: back to where something is shown
            for button in ("all_methods", "all_classes"):
                if hasattr(widget, button):
                    getattr(widget, button).click()
        if name in BEFORE:
            getattr(widget, BEFORE[name]).click()
        started, started_busy = time.perf_counter(), time.process_time()
        change()
        wall.append(1000 * (time.perf_counter() - started))
        busy.append(1000 * (time.process_time() - started_busy))
    return wall, busy


def growing_mask(run) -> DisagreementSlider:
    """The mask of one image, growing from the top."""
    view = run.view("ppl", run.seeds[0], 1, 0)
    rows = torch.arange(view.truth.shape[0])[:, None].numpy()
    steps = range(0, 44, 4)
    masks = [view.mask & (rows <= len(rows) * step / 40) for step in steps]
    return DisagreementSlider(view, steps, masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    run, digits = open_run(*METHODS), open_shift("fonts", "source_only")
    makers = {
        "SelectionExplorer": lambda: SelectionExplorer(run),
        "PrototypeViewer": lambda: PrototypeViewer(run),
        "DisagreementSlider": lambda: growing_mask(run),
        "CompareDashboard": lambda: CompareDashboard(run),
        "SettingChooser": lambda: SettingChooser(),
        "AlignmentPlayground": lambda: AlignmentPlayground(small_shift(digits.problem(0, "", 7))),
        "MethodChooser": lambda: MethodChooser(),
    }
    print("\n| widget | control | median ms | worst ms | median CPU ms | worst CPU ms |")
    print("|---|---|---|---|---|---|")
    for widget_name, make in makers.items():
        started, started_busy = time.perf_counter(), time.process_time()
        widget = make()
        wall = f"{1000 * (time.perf_counter() - started):.0f}"
        busy = f"{1000 * (time.process_time() - started_busy):.0f}"
        print(f"| {widget_name} | (construction) | {wall} | {wall} | {busy} | {busy} |")
        for name in CONTROLS[widget_name]:
            times = measure(widget, name, rounds)
            numbers = (f"{f(part):.0f}" for part in times for f in (statistics.median, max))
            print(f"| {widget_name} | {name} | {' | '.join(numbers)} |")


if __name__ == "__main__":
    main()
