"""Methods, classes and budgets of a run side by side."""

import textwrap
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from ipywidgets import HTML, Checkbox
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.runs import pictures
from labor_lib.lab.scene import paint
from labor_lib.lab.ui import controls
from labor_lib.lab.ui.controls import Picture, RunPanel, button, check_box, row
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
    last = viz.last_stage(table).groupby("method")
    means, spreads = last["miou"].mean().dropna(), last["miou"].std()
    if not len(means):
        return f"{score}: this class occurs nowhere in the images that are scored."

    def named(method: str) -> str:
        return f"{viz.short_title(method)} ({viz.score_text(means[method], spreads[method])})"

    text = f"Highest {score}: {named(means.idxmax())}"
    asking = means[[viz.family_of(m) not in ("none", "all") for m in means.index]]
    if not len(asking) or asking.idxmax() == means.idxmax():
        return f"{text}."
    clicks = last["clicks_per_image"].mean()[asking.idxmax()]
    return f"{text}; of those that ask: {named(asking.idxmax())}, {clicks:.0f} clicks an image."


class CompareDashboard(RunPanel):
    """Methods side by side: score over budget, score by class, predictions.

    Controls: methods, classes (dictionaries of checkboxes by name), main_methods, all_methods,
    all_classes, no_classes (buttons); metric ("" = mIoU over the chosen classes, or a class); axis
    ("clicks", "pixels" or "seconds"); page (of the predictions, three images a page). Pictures:
    curve, heat, predictions (rows: image, truth and the methods), legend.
    """

    PER_PAGE = 3

    def __init__(self, run, seed: int = 0, images: int = 12):
        super().__init__()
        self.run, self.seed, self._wanted_images = run, seed, images
        names = run.methods_of(seed)
        main = [name for name in MAIN if name in names] or names
        self.methods = {m: check_box(viz.short_title(m), m in main) for m in names}
        self.classes = {c: check_box(c, True) for c in run.class_set.names}
        self.main_methods = button("Main methods", "the methods of the main comparison")
        self.all_methods = button("All methods", "every finished method")
        self.main_methods.disabled = self.all_methods.disabled = main == names  # no others
        self.all_classes = button("All classes", "choose every class")
        self.no_classes = button("No class", "choose no class, to begin anew")
        self.metric = controls.dropdown("metric", [_ALL], "what the curve shows", "300px")
        tips = ["what a person does", "what is labelled", "how long a person needs, computed"]
        self.axis = controls.buttons("budget in", ("clicks", "pixels", "seconds"), tips, "auto")
        self.page = controls.buttons("images", [("1", 0)], ["page 1"], "3em")
        self.curve, self.heat, self.predictions, self.legend = (Picture() for _ in range(4))
        self._numbers: list[int] = []
        self._rows: dict[str, list[np.ndarray]] = {}  # method, "image" or "truth" -> pictures
        families = {
            title: [box for m, box in self.methods.items() if viz.family_of(m) == family]
            for family, title in viz.FAMILIES.items()
        }
        self._build(
            row(self.axis, self.metric),
            *(row(HTML(f"<b>{title}</b>"), *boxes) for title, boxes in families.items() if boxes),
            row(self.main_methods, self.all_methods),
            row(HTML("<b>classes</b>"), *self.classes.values(), self.all_classes, self.no_classes),
            parts=[self.curve, self.heat],
        )
        # outside of the parts: predictions stay where no class is chosen
        self.children = [*self.children, self.page, self.predictions, self.legend]
        self._on(self.axis, self.metric, action=self._draw_curve)
        self._on(self.page, *self.methods.values(), *self.classes.values())
        for control, boxes, taken in (
            (self.main_methods, self.methods, main),
            (self.all_methods, self.methods, names),
            (self.all_classes, self.classes, run.class_set.names),
            (self.no_classes, self.classes, ()),
        ):
            self._on(control, action=partial(self._take, boxes, taken))

    def _start(self) -> None:
        if not self.methods:
            raise InputError(f"no method has finished seed {self.seed}: seeds {self.run.seeds}")
        folder, classes = self.run.domains(self.seed).evaluation, self.run.class_set
        count = min(max(self._wanted_images, 1), len(folder))
        self._numbers = sorted({round(n) for n in np.linspace(0, len(folder) - 1, count)})
        pages = range(-(-len(self._numbers) // self.PER_PAGE))
        self.page.options = [(str(p + 1), p) for p in pages]
        self.page.tooltips = [f"{self._on_page(self._numbers, p)} of {len(folder)}" for p in pages]
        self._rows = pictures(self.run, {m: m for m in self.methods}, self.seed, self._numbers)
        self.legend.show(
            viz.class_legend(classes), f"colours of the classes: {', '.join(classes.names)}"
        )
        self._update()

    def _on_page(self, images: list, page: int | None = None) -> list:
        """Those of a page, by default the present one."""
        first = self.PER_PAGE * (self.page.value if page is None else page)
        return images[first : first + self.PER_PAGE]

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

    def _update(self) -> None:
        self._draw_predictions()  # does not depend on classes
        self._draw_curve()
        table = chosen_scores(self.run.table, self.chosen(self.methods), self.chosen(self.classes))
        means = viz.last_scores(table)["miou"]
        values = ", ".join(f"{viz.short_title(m)} {value:.1f}" for m, value in means.items())
        self.heat.show(viz.class_heatmap(table), f"mIoU and IoU by class in %; {values}")

    def _draw_curve(self) -> None:
        methods, classes = self.chosen(self.methods), self.chosen(self.classes)
        if not methods:
            raise InputError("choose at least one method")
        if not classes:
            raise InputError("choose at least one class")
        controls.choose(self.metric, [_ALL, *((f"IoU of {c}", c) for c in classes)], "")
        axis, score = self.axis.value, self._score(classes)
        table = chosen_scores(self.run.table, methods, classes, self.metric.value)
        self.curve.show(
            viz.budget_curve(table, axis, self.run.title(score)),
            f"{score} of {len(methods)} methods against {axis}",
            best_sentence(table, score),
        )

    def _draw_predictions(self) -> None:
        """The chosen page's images, their truth, and what the chosen methods predict."""
        methods = {method: viz.short_title(method) for method in self.chosen(self.methods)}
        titles = {"image": "image", "truth": "truth"} | methods
        shown = {title: self._on_page(self._rows[name]) for name, title in titles.items()}
        numbers = ", ".join(map(str, self._on_page(self._numbers)))
        caption = f"Predictions for evaluation images {numbers}"
        self.predictions.show(_named_rows(shown), f"rows: {', '.join(shown)}", caption)

    def _picture(self) -> Figure:
        parts = [self.curve, self.heat, self.predictions, self.legend]
        return viz.stacked([[(part.shown, part.caption)] for part in parts])


_NAMES = 230  # pixels for the rows' names


def _named_rows(rows: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Rows of pictures of one size, each about 450 pixels wide, with names at the left.

    As `viz.image_grid`, which takes too long to follow a click.
    """
    gap = ((0, 8), (8, 0), (0, 0))
    parts = [
        [np.pad(paint(one, width=450), gap, constant_values=255) for one in row]
        for row in rows.values()
    ]
    grid = np.concatenate([np.concatenate(row, axis=1) for row in parts])
    picture = Image.fromarray(np.pad(grid, ((0, 0), (_NAMES, 0), (0, 0)), constant_values=255))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(29)
    height = len(grid) // len(rows)
    for number, name in enumerate(rows):
        place, look = (_NAMES - 8, (number + 0.5) * height - 4), {"anchor": "rm", "align": "right"}
        draw.multiline_text(place, textwrap.fill(name, 16), "black", font, **look)
    return np.asarray(picture)
