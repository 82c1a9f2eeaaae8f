"""The page of `make dashboard`: the result of a run at a glance, and the rest behind tabs."""

import os

from IPython.display import clear_output
from ipywidgets import HTML, Tab, VBox

from labor_lib.lab import viz
from labor_lib.lab.report import render
from labor_lib.lab.runs import SegmentationRun, finished_runs, open_run
from labor_lib.lab.ui.compare import CompareDashboard
from labor_lib.lab.ui.controls import Picture
from labor_lib.lab.ui.explorer import SelectionExplorer
from labor_lib.methods.registry import MAIN


def run_to_show() -> SegmentationRun:
    """That of LABOR_RUN, or else a finished one, or else a small one, which is made first."""
    chosen = os.environ.get("LABOR_RUN", "")
    there = [run for run in finished_runs() if run.small or chosen != "small"]
    there.sort(key=lambda run: (run.small, run.folder.name not in ("streets", "small")))
    if there and chosen in ("", "small"):
        return there[0]
    run = open_run("source_only", "adaptsegnet", "ppl", "supervised")
    clear_output()
    return run


class Dashboard(VBox):
    """A result, its curve (a Picture), and tabs, each of which is made when it is first opened."""

    def __init__(self, run: SegmentationRun):
        seed, self.curve = run.seeds[0], Picture()
        main = [name for name in MAIN if name in run.methods] or run.methods
        self.curve.show(
            viz.budget_curve(run.table[run.table["method"].isin(main)], ("clicks", "pixels")),
            "mIoU against clicks and against pixels, one point a stage and method",
            "What labels buy: each point is a stage of a method",
        )
        self._makers = {
            "All methods": lambda: HTML(render(run, "table")),
            "Predictions": lambda: CompareDashboard(run, seed),
            "What is asked": lambda: SelectionExplorer(run, seed),
            "How to read": lambda: HTML(render(run, "reading")),
        }
        self.tabs = Tab([VBox() for _ in self._makers], titles=list(self._makers))
        self.tabs.observe(lambda change: self._open(change.new), names="selected_index")
        super().__init__([HTML(render(run, "lead")), self.curve, self.tabs])
        self._open(0)

    def _open(self, number: int) -> None:
        place = self.tabs.children[number]
        if not place.children:
            place.children = [HTML("This takes a few seconds.")]
            place.children = [list(self._makers.values())[number]()]
