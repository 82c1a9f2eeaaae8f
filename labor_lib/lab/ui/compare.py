"""Methods, classes and budgets of a run side by side."""

import html
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from ipywidgets import HTML, Checkbox, Dropdown, HBox, Layout
from matplotlib.figure import Figure

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.ui.controls import Panel, Picture, button, buttons, check_box, choose, row, wide
from labor_lib.labels import colourise
from labor_lib.methods.registry import MAIN

_ALL = ("mIoU over the chosen classes", "")


def chosen_scores(
    table: pd.DataFrame, methods: Sequence[str], classes: Sequence[str], metric: str = ""
) -> pd.DataFrame:
    """results.csv of some methods and classes alone; `miou` becomes the mean over these classes.

    metric: a class, whose IoU then stands in `miou`. A class that occurs nowhere is left out.
    """
    columns = [f"iou_{name}" for name in classes]
    others = [c for c in table.columns if c.startswith("iou_") and c not in columns]
    chosen = table[table["method"].isin(list(methods))].drop(columns=others)
    score = chosen[f"iou_{metric}"] if metric else chosen[columns].mean(axis=1)
    return chosen.assign(miou=score)


def best_sentence(table: pd.DataFrame, score: str) -> str:
    """The best of the methods at the last stage, and the best of those that ask a person."""
    last = table[table["stage"] == table["stage"].max()].groupby("method")
    means, spreads = last["miou"].mean().dropna(), last["miou"].std()
    if not len(means):
        return f"{score}: this class occurs nowhere in the images that are scored."

    def named(method: str) -> str:
        spread = "" if np.isnan(spreads[method]) else f" ± {spreads[method]:.1f}"
        return f"{viz.short_title(method)} ({means[method]:.1f}{spread})"

    text = f"Highest {score}: {named(means.idxmax())}"
    asking = means[[viz.family_of(m) in ("points", "pixels") for m in means.index]]
    if not len(asking) or asking.idxmax() == means.idxmax():
        return f"{text}."
    clicks = last["clicks_per_image"].mean()[asking.idxmax()]
    return f"{text}; of those that ask: {named(asking.idxmax())}, {clicks:.0f} clicks an image."


class CompareDashboard(Panel):
    """Methods side by side: score over budget, score by class, predictions.

    Controls: methods, classes (dictionaries of checkboxes by name), main_methods, all_methods,
    all_classes, no_classes (buttons); metric ("" = mIoU over the chosen classes, or a class); axis
    ("clicks" or "pixels"); page (of the predictions, three images a page). Pictures: curve, heat,
    legend; strips: one a row of predictions by name ("image", "truth" and the methods).
    """

    PER_PAGE = 3

    def __init__(self, run, seed: int = 0, images: int = 12):
        super().__init__("labor-compare")
        self.run, self.seed, self._wanted_images = run, seed, images
        table = run.table[(run.table["stage"] == run.stages) & (run.table["seed"] == seed)]
        names = [name for name in run.methods if name in set(table["method"])]
        main = [name for name in MAIN if name in names] or names
        self.methods = {m: check_box(viz.short_title(m), m in main) for m in names}
        self.classes = {c: check_box(c, True) for c in run.class_set.names}
        self.main_methods = button("Main methods", "the methods of the main comparison")
        self.all_methods = button("All methods", "every finished method")
        self.all_classes = button("All classes", "choose every class")
        self.no_classes = button("No class", "choose no class, to begin anew")
        self.metric = Dropdown(
            options=[_ALL], value="", **wide("metric"),
            tooltip="what the curve shows", layout=Layout(width="300px"),
        )  # fmt: skip
        tips = ["what a person does", "what is labelled"]
        self.axis = buttons("budget in", ("clicks", "pixels"), tips, "5em")
        self.page = buttons("images", [("1", 0)], ["page 1"], "3em")
        self.curve, self.heat, self.legend = Picture(), Picture(), Picture()
        self._numbers: list[int] = []
        self._predictions: dict[str, list[np.ndarray]] = {}  # row -> a picture an image
        self.strips = {name: Picture() for name in ("image", "truth", *names)}
        self._rows = {name: self._strip_row(name) for name in self.strips}
        self._grid = row()
        self._build(
            row(self.axis, self.metric),
            *self._groups(),
            row(HTML("<b>classes</b>"), *self.classes.values(), self.all_classes, self.no_classes),
            parts=[self.curve, self.heat],
        )
        heading = row(HTML("<b>Predictions</b>"), self.page)
        self.children = [*self.children, heading, self._grid, self.legend]
        self._on(self.axis, self.metric, action=self._draw_curve)
        self._on(self.page, action=self._turn)
        self._on(*self.methods.values(), *self.classes.values())
        for control, boxes, taken in (
            (self.main_methods, self.methods, main),
            (self.all_methods, self.methods, names),
            (self.all_classes, self.classes, run.class_set.names),
            (self.no_classes, self.classes, ()),
        ):
            self._on(control, action=partial(self._take, boxes, taken))

    def _groups(self) -> list[HBox]:
        """The methods' checkboxes, a row for each kind of label they may see."""
        rows = []
        for family, title in viz.FAMILIES.items():
            members = [box for m, box in self.methods.items() if viz.family_of(m) == family]
            if members:
                rows.append(row(HTML(f"<b>{html.escape(title)}</b>"), *members))
        return [*rows, row(self.main_methods, self.all_methods)]

    def _strip_row(self, name: str) -> HBox:
        """A row of the prediction grid: its name and its picture."""
        label = HTML(html.escape(_title(name)), layout=Layout(width="120px", flex="0 0 120px"))
        self.strips[name].add_class("labor-wide")
        self.strips[name].layout = Layout(flex="1 1 300px", min_width="0", max_width="1000px")
        return HBox([label, self.strips[name]], layout=Layout(align_items="center", width="100%"))

    def _start(self) -> None:
        if not self.methods:
            raise InputError(f"no method has finished seed {self.seed}: seeds {self.run.seeds}")
        folder, classes = self.run.domains(self.seed).evaluation, self.run.class_set
        count = min(max(self._wanted_images, 1), len(folder))
        self._numbers = sorted({round(n) for n in np.linspace(0, len(folder) - 1, count)})
        pages = range(-(-len(self._numbers) // self.PER_PAGE))
        self.page.options = [(str(p + 1), p) for p in pages]
        self.page.tooltips = [f"images {self._on_page(p)} of {len(folder)}" for p in pages]
        images = [folder.image(n).permute(1, 2, 0).numpy() for n in self._numbers]
        maps = {"truth": [folder.label(n).numpy() for n in self._numbers]}
        for method in self.methods:
            maps[method] = self.run.predictions(method, self.seed, self._numbers)
        coloured = {name: [colourise(one, classes) for one in row] for name, row in maps.items()}
        self._predictions = {"image": images, **coloured}
        self.legend.show(
            viz.class_legend(classes), f"colours of the classes: {', '.join(classes.names)}"
        )
        self._turn()
        self._update()

    def _turn(self) -> None:
        """Show the chosen page of the predictions."""
        numbers = ", ".join(map(str, self._on_page(self.page.value)))
        for name, strip in self.strips.items():
            strip.show(_strip(self._shown(name)), f"{name} of evaluation images {numbers}")
        self._draw_curve()

    def _on_page(self, page: int) -> list[int]:
        return self._numbers[page * self.PER_PAGE : (page + 1) * self.PER_PAGE]

    def _take(self, boxes: dict[str, Checkbox], names: Iterable[str]) -> None:
        """Check these and no others."""
        for name, box in boxes.items():
            box.value = name in names
        self._update()

    def chosen(self, boxes: dict[str, Checkbox]) -> list[str]:
        """The names whose boxes are checked."""
        return [name for name, box in boxes.items() if box.value]

    def _score(self, classes: list[str]) -> str:
        """The metric's name."""
        if self.metric.value or len(classes) == 1:
            return f"IoU of {self.metric.value or classes[0]}"
        if len(classes) == len(self.classes):
            return "mIoU"
        return f"mIoU over {', '.join(classes) if len(classes) <= 3 else f'{len(classes)} classes'}"

    def _draw_curve(self) -> None:
        methods, classes = self.chosen(self.methods), self.chosen(self.classes)
        self._grid.children = [self._rows[name] for name in ("image", "truth", *methods)]
        if not methods:
            raise InputError("choose at least one method")
        if not classes:
            raise InputError("choose at least one class")
        choose(self.metric, [_ALL, *((f"IoU of {c}", c) for c in classes)], "")
        axis, score = self.axis.value, self._score(classes)
        table = chosen_scores(self.run.table, methods, classes, self.metric.value)
        self.curve.show(
            viz.budget_curve(table, axis, self.run.title(score)),
            f"{score} of {len(methods)} methods against {axis}",
            best_sentence(table, score),
        )

    def _update(self) -> None:
        self._draw_curve()
        methods, classes = self.chosen(self.methods), self.chosen(self.classes)
        table = chosen_scores(self.run.table, methods, classes)
        means = viz.last_scores(table)["miou"]
        values = ", ".join(f"{viz.short_title(m)} {value:.1f}" for m, value in means.items())
        self.heat.show(viz.class_heatmap(table), f"mIoU and IoU by class in %; {values}")

    def _shown(self, name: str) -> list[np.ndarray]:
        """A row's pictures of the present page."""
        first = self.page.value * self.PER_PAGE
        return self._predictions[name][first : first + self.PER_PAGE]

    def _picture(self, title: str = "") -> Figure:
        names = ["image", "truth", *self.chosen(self.methods)]
        columns = [f"image {number}" for number in self._on_page(self.page.value)]
        grid = viz.image_grid({_title(name): self._shown(name) for name in names}, columns)
        parts = [self.curve.shown, self.heat.shown, viz.figure_picture(grid), self.legend.shown]
        return viz.stacked([[(part, "")] for part in parts], title or self.curve.caption)


def _title(name: str) -> str:
    return name if name in ("image", "truth") else viz.short_title(name)


def _strip(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, with gaps, every pixel doubled."""
    parts = [np.pad(picture, ((0, 0), (0, 4), (0, 0)), constant_values=255) for picture in pictures]
    return np.concatenate(parts, axis=1)[:, :-4].repeat(2, axis=0).repeat(2, axis=1)
