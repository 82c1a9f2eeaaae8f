"""Interactive views of a run: ipywidgets over the pictures of `views`, each a last line of a cell.

    SelectionExplorer(run)       what a stage saw of an image and asked there, layer by layer
    PrototypeViewer(run)         PPL's choice of one point a class, step by step
    DisagreementSlider(d)        the mask over the selector's training steps
    CompareDashboard(run)        methods, classes and budgets side by side
    SettingChooser()             which adaptation problem is this?

All pictures are `Picture`s. Every view has `figure()`, the same state without a kernel. A handler
that fails writes one line into the view's status and leaves the controls usable.
"""

import html
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from ipywidgets import (
    HTML,
    BoundedIntText,
    Button,
    Checkbox,
    Dropdown,
    HBox,
    Layout,
    Play,
    SelectionSlider,
    VBox,
)  # fmt: skip
from matplotlib.figure import Figure
from torch.nn import functional as F

from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.ui import markup, problems, views
from labor_lib.lab.ui.controls import (
    Panel,
    Picture,
    buttons,
    check_box,
    choose,
    column,
    no_pauses,
    row,
    wide,
)
from labor_lib.lab.ui.views import Disagreement, Layers, Prototype
from labor_lib.lab.viz import Window
from labor_lib.labels import colourise
from labor_lib.methods.labor import inconsistency_mask
from labor_lib.methods.registry import MAIN, METHODS
from labor_lib.selection.rules import representative_points

ALL = "all"  # a dropdown shows nothing where its value is None
_ZOOM_KEYS = "click or Enter zooms in, + and - zoom, arrows move, Escape shows everything"


# ------------------------------------------------------------------------------------- explorer


class _Stages(Panel):
    """A view of one image of one stage: the controls for seed, stage and image."""

    def __init__(self, run, css: str, methods: list[str], method, seed, stage: int, image: int):
        super().__init__(css)
        self.run = run
        titles = [(viz.short_title(name), name) for name in methods]
        self.method = Dropdown(
            options=titles, tooltip="the method that asked", **wide("method"),
            layout=Layout(width="290px"),
        )  # fmt: skip
        self.seed = Dropdown(
            options=[seed], tooltip="the seed of the run", **wide("seed"),
            layout=Layout(width="100px"),
        )  # fmt: skip
        stages = range(1, run.stages + 1)
        self.stage = buttons(
            "stage", [(str(s), s) for s in stages], [f"stage {s}" for s in stages], "3em"
        )
        self.image = BoundedIntText(
            min=0, max=10**6, value=max(image, 0), tooltip="number of the training image",
            **wide("image"), layout=Layout(width="135px"),
        )  # fmt: skip
        self.picture = Picture(clickable=True)
        self.window = Window()
        self._seen = (None, None)  # what `_look` opened last: key, view
        self._wish = (method, seed, stage)

    def _begin(self) -> None:
        """Take the wishes of the constructor, then draw."""
        self._guarded(self._start)
        self._on(self.method, self.seed, self.stage, self.image)
        self._on_event(self.picture, self._moved)

    def _start(self) -> None:
        method, seed, stage = self._wish
        if not self.method.options:
            for control in (self.method, self.seed, self.stage, self.image):
                control.disabled = True
            raise InputError("this run has no finished method that asks labels: run ppl or spl")
        if method is not None and method not in self._methods():
            raise InputError(f"method '{method}': choose from {', '.join(self._methods())}")
        if method is not None:
            self.method.value = method
        self.seed.options = self._seeds()
        if seed not in self._seeds():
            raise InputError(f"seed {seed}: choose from {', '.join(map(str, self._seeds()))}")
        self.seed.value = seed
        if stage not in range(1, self.run.stages + 1):
            raise InputError(f"stage {stage}: choose from 1 to {self.run.stages}")
        self.stage.value = stage
        self._update()
        for other in self._seeds():  # its images and networks, so that a change of seed is quick
            with suppress(InputError, OSError):  # told when it is chosen
                self.run.view(self.method.value, other, stage, 0)

    def _methods(self) -> list[str]:
        return [name for _, name in self.method.options]

    def _seeds(self) -> list[int]:
        """Those with all stages of the chosen method."""
        table = self.run.table
        done = table[(table["method"] == self.method.value) & (table["stage"] == self.run.stages)]
        return sorted(int(seed) for seed in done["seed"].unique())

    def _look(self):
        """The view of the controls' method, seed, stage and image."""
        choose(self.seed, self._seeds(), self._seeds()[0])
        self.image.max = len(self.run.domains(self.seed.value).target) - 1
        key = (self.method.value, self.seed.value, self.stage.value, self.image.value)
        if self._seen[0] != key:
            self._seen = (key, self.run.view(*key))
        return self._seen[1]

    def _where(self) -> str:
        """What is shown, for titles."""
        method, seed, stage, image = self._seen[0]
        text = f"{viz.short_title(method)}, seed {seed}, stage {stage}, image {image}"
        return self.run.title(text)

    def _moved(self, event: dict) -> None:
        """A click or key on the picture changes the part that is shown."""
        x, y = (min(max(float(event.get(name, 0.5)), 0.0), 1.0) for name in ("x", "y"))
        self.window = self.window.after(event.get("kind", ""), x, y)
        self._update()

    def _reset(self) -> None:
        self.window = Window()
        self._update()


class SelectionExplorer(_Stages):
    """What a stage of a method saw of a training image, and asked there.

    Controls: method, seed, stage, image; base; error, entropy, mask, asked (checkboxes, also in
    `overlays`); only (a class id, or "all"); reset. picture: click to zoom.
    """

    def __init__(self, run, seed: int = 0, method=None, stage: int = 1, image: int = 0):
        methods = list(run.asked_methods)
        if method is None and "ppl" in methods:
            method = "ppl"
        super().__init__(run, "labor-explorer", methods, method, seed, stage, image)
        self.base = buttons(
            "show",
            views.BASES,
            ["the photo", "the true classes", "what the model predicted"],
            "7em",
        )
        self.overlays = {
            "error": check_box("errors", False, "where the model is wrong"),
            "entropy": check_box("entropy", False, "how undecided the model is"),
            "mask": check_box("mask", True, "where the selector's two classifiers disagree"),
            "asked": check_box("asked", True, "what this stage asked a person"),
        }
        names = list(enumerate(run.class_set.names))
        self.only = Dropdown(
            options=[("all classes", ALL), *((name, k) for k, name in names)],
            **wide("layers and counts only where the model predicts"),
            tooltip="limits layers and counts to the pixels predicted as one class",
            layout=Layout(width="440px"),
        )
        self.reset = Button(
            description="Reset zoom", tooltip="show the whole image", layout=Layout(width="110px")
        )
        self.picture.label = f"Image with layers: {_ZOOM_KEYS}"
        self.counts, self.legend = HTML(), HTML()
        self.parts = [self.picture, self.counts, self.legend]
        side = column(self.counts, self.legend, flex="1 1 250px")
        self.picture.layout = Layout(flex="3 1 520px", min_width="0")
        self.children = [
            row(self.method, self.seed, self.stage, self.image),
            row(self.base, *self.overlays.values()),
            row(self.only, self.reset, HTML("click the picture to zoom in")),
            self.status,
            row(self.picture, side, align="flex-start"),
        ]
        self._begin()
        self._on(self.base, self.only, *self.overlays.values())
        self._on(self.reset, action=self._reset)

    def layers(self) -> Layers:
        """What the controls say."""
        over = tuple(n for n, c in self.overlays.items() if c.value and not c.disabled)
        only = None if self.only.value == ALL else self.only.value
        return Layers(self.base.value, over, only, self.window)

    def _update(self) -> None:
        view = self._look()
        mask = self.overlays["mask"]
        mask.disabled = view.mask is None
        mask.description = "mask (this method has no selector)" if mask.disabled else "mask"
        layers, classes = self.layers(), self.run.class_set
        only = "" if layers.only is None else classes.names[layers.only]
        counts = views.count_view(view, layers.only)
        sentence = views.counts_sentence(counts, view.points, only)
        what = " + ".join([layers.base, *layers.overlays])
        zoom = f", zoom {layers.window.zoom}×" if layers.window.zoom > 1 else ""
        alt = f"{what} of {self._where()} ({view.name}){zoom}"
        self.picture.show(views.paint_view(view, classes, layers), alt, sentence)
        self.counts.value = markup.value_table(views.counts_lines(counts, view.points))
        self.legend.value = markup.legend(views.layer_legend(view, classes, layers))

    def _picture(self) -> Figure:
        return views.explorer_figure(
            self._seen[1], self.run.class_set, self.layers(), self._where()
        )


# ----------------------------------------------------------------------------------- prototypes


def prototypes_of(first: np.ndarray, second: np.ndarray, taken: np.ndarray) -> dict[int, Prototype]:
    """PPL's steps on one image, class id -> prototype, in the order in which PPL asks.

    first, second: the classifiers' C x H x W. taken: H x W booleans, asked before.
    """
    one, two = torch.from_numpy(first), torch.from_numpy(second)
    uncertain = inconsistency_mask(one[None], two[None])[0] & ~torch.from_numpy(taken)
    where = uncertain.flatten().nonzero()[:, 0]
    vectors = ((one + two) / 2).flatten(1).T[where]  # n x C
    predicted = vectors.argmax(dim=1)
    found = {}
    for point in representative_points(vectors).tolist():
        inside = predicted == predicted[point]
        mean = vectors[inside].mean(dim=0)
        found[int(predicted[point])] = Prototype(
            class_id=int(predicted[point]),
            members=where[inside].numpy(),
            mean=mean.numpy(),
            similarity=F.cosine_similarity(vectors[inside], mean[None]).numpy(),
            point=int(where[point]),
        )
    return found


class PrototypeViewer(_Stages):
    """How PPL comes to one point a predicted class.

    Controls: seed, stage, image; chosen (a class id of those with uncertain pixels); reset.
    picture: D(k) on the photo; similarity: the cosines to mu(k); crop: round the chosen point;
    bars: mu(k). Pixels that earlier stages asked are left out.
    """

    def __init__(self, run, method: str = "ppl", seed: int = 0, stage: int = 1, image: int = 0):
        methods = [name for name in run.asked_methods if METHODS[name].rule == "ppl"]
        super().__init__(run, "labor-prototypes", methods, method, seed, stage, image)
        self.chosen = Dropdown(
            options=[], tooltip="the predicted class k", **wide("predicted class k"),
            layout=Layout(width="330px"),
        )  # fmt: skip
        self.reset = Button(
            description="Reset zoom", tooltip="show the whole image", layout=Layout(width="110px")
        )
        self.similarity, self.crop, self.bars = Picture(clickable=True), Picture(), HTML()
        self.picture.label = f"Uncertain pixels: {_ZOOM_KEYS}"
        self.similarity.label = f"Similarity map: {_ZOOM_KEYS}"
        self.parts = [self.picture, self.similarity, self.crop, self.bars]
        for part in self.parts:
            part.layout = Layout(flex="1 1 400px", min_width="0")
        self.children = [
            row(self.seed, self.stage, self.image, self.chosen, self.reset),
            self.status,
            row(self.picture, self.similarity, align="flex-end"),
            row(self.bars, self.crop, align="flex-start"),
        ]
        self._found: dict[int, Prototype] = {}
        self._found_for = None
        self._begin()
        self._on(self.chosen)
        self._on(self.reset, action=self._reset)
        self._on_event(self.similarity, self._moved)

    def _look(self):
        view = super()._look()
        key = self._seen[0]
        if self._found_for != key:
            method, seed, stage, image = key
            taken = self.run.asked_before(method, seed, stage).mask(image)
            self._found = prototypes_of(*self.run.pair(*key), taken)
            self._found_for = key
        names = self.run.class_set.names
        sizes = [(f"{names[k]} ({len(p.members):,})", k) for k, p in self._found.items()]
        if not sizes:
            self.chosen.options = []
            raise InputError("the two classifiers agree on this whole image; choose another image")
        choose(self.chosen, sizes, sizes[0][1])
        return view

    def _update(self) -> None:
        view, names = self._look(), self.run.class_set.names
        prototype = self._found[self.chosen.value]
        k, where = names[prototype.class_id], self._where()
        sentence = views.prototype_sentence(view, prototype, self.run.class_set)
        members = views.paint_members(view, prototype, self.window)
        self.picture.show(members, f"uncertain pixels predicted {k}; {where}", sentence)
        self.similarity.show(
            views.paint_similarity(view, prototype, self.window),
            f"cosine similarity of these pixels to their mean; {where}",
            views.similarity_sentence(prototype),
        )
        self.crop.show(
            views.paint_crop(view, prototype),
            f"the photo round the chosen point for {k}; {where}",
            views.answer_sentence(view, prototype, self.run.class_set),
        )
        self.bars.value = markup.prototype_bars(view, prototype, self.run.class_set)

    def _picture(self) -> Figure:
        prototype = self._found[self.chosen.value]
        return views.prototype_figure(
            self._seen[1], prototype, self.run.class_set, self._where(), self.window
        )


# --------------------------------------------------------------------------------- disagreement


class DisagreementSlider(Panel):
    """The mask over the selector's training steps, with its precision and recall against errors.

    Controls: step (a slider; its `index` counts the masks), play; errors (checkbox).
    picture: the mask on the photo; curve: share, precision, recall, marked at the step.
    """

    def __init__(self, disagreement: Disagreement, title: str = ""):
        super().__init__("labor-disagreement")
        self.disagreement, self.title = disagreement, title
        count = max(len(disagreement.steps), 1)
        self.step = SelectionSlider(
            options=[(str(s), i) for i, s in enumerate(disagreement.steps)] or [("none", 0)],
            value=count - 1, tooltip="training step of the selector", **wide("training step"),
            layout=Layout(width="460px"),
        )  # fmt: skip
        self.play = Play(min=0, max=count - 1, interval=600, tooltip="play the training steps")
        self.errors = check_box("errors of the model", False, "where the model is wrong")
        self.picture, self.curve = Picture(), Picture(smooth=True)
        self.picture.layout = Layout(flex="3 1 480px", min_width="0")
        self.curve.layout = Layout(flex="2 1 340px", min_width="0")
        self.parts = [self.picture, self.curve]
        self.children = [
            row(self.play, self.step, self.errors),
            self.status,
            row(self.picture, self.curve, align="flex-end"),
        ]
        self._guarded(self._start)
        self._on(self.step, self.errors)
        self._on(self.play, action=self._played)

    def _start(self) -> None:
        one = self.disagreement
        if not len(one.steps) or len(one.steps) != len(one.masks):
            raise InputError(
                f"{len(one.steps)} steps and {len(one.masks)} masks: give one mask a step"
            )
        shapes = {np.shape(part) for part in (one.truth, one.prediction, *one.masks)}
        if shapes != {np.shape(one.image)[:2]}:
            raise InputError("image, truth, prediction and masks differ in size")
        self._scores = views.ScoreCurve(one)
        self._update()

    def _played(self) -> None:
        self.step.value = self.play.value
        self._update()

    def _update(self) -> None:
        one, index = self.disagreement, self.step.value
        self.play.value = index  # it goes on from here
        sentence = views.disagreement_sentence(one, index)
        shown = " and true errors" if self.errors.value else ""
        self.picture.show(
            views.paint_disagreement(one, index, self.errors.value),
            f"the mask{shown} after step {one.steps[index]}",
            sentence,
        )
        alt = f"curves of share, precision and recall over the steps, at step {one.steps[index]}"
        self.curve.show(self._scores.at(index), alt)

    def _picture(self) -> Figure:
        return views.disagreement_figure(
            self.disagreement, self.step.value, self.errors.value, self.title
        )


# ----------------------------------------------------------------------------------- comparison


class CompareDashboard(Panel):
    """Methods side by side: score over budget, score by class, predictions.

    Controls: methods, classes (dictionaries of checkboxes by name), main_methods, all_methods,
    all_classes, no_classes (buttons); metric ("" = mIoU over the chosen classes, or a class); axis
    ("clicks" or "pixels"); page (of the predictions, three images a page). curve: a picture;
    heat: a table; strips: a picture a row by name ("image", "truth" and the methods).
    """

    PER_PAGE = 3

    def __init__(self, run, seed: int = 0, images: int = 12):
        super().__init__("labor-compare")
        self.run, self.seed = run, seed
        table = run.table[(run.table["stage"] == run.stages) & (run.table["seed"] == seed)]
        names = [name for name in run.methods if name in set(table["method"])]
        main = [name for name in MAIN if name in names] or names
        self._main = main
        self.methods = {m: check_box(viz.short_title(m), m in main) for m in names}
        self.classes = {c: check_box(c, True) for c in run.class_set.names}
        self.main_methods, self.all_methods, self.all_classes, self.no_classes = (
            Button(description=text, tooltip=tip, layout=Layout(width="auto"))
            for text, tip in {
                "Main methods": "the methods of the main comparison",
                "All methods": "every finished method",
                "All classes": "choose every class",
                "No class": "choose no class, to begin anew",
            }.items()
        )
        self.metric = Dropdown(
            options=[("mIoU over the chosen classes", "")], value="", **wide("metric"),
            tooltip="what the curve shows", layout=Layout(width="300px"),
        )  # fmt: skip
        self.axis = buttons(
            "budget in", ("clicks", "pixels"),
            ["what a person does", "what is labelled"], "5em",
        )  # fmt: skip
        self.curve, self.heat = Picture(smooth=True), HTML()
        self.page = buttons("images", [("1", 0)], ["page 1"], "3em")
        self._numbers: list[int] = []
        self._wanted_images = images
        self._predictions: dict[str, list[np.ndarray]] = {}  # row -> a picture an image
        self._drawn: dict[str, tuple] = {}  # part -> the state that it shows
        self.strips = {name: Picture() for name in ("image", "truth", *names)}
        self._rows = {name: self._strip_row(name) for name in self.strips}
        self._grid = VBox()
        self.parts = [self.curve, self.heat, *self.strips.values()]
        self.children = [
            row(self.axis, self.metric),
            *self._groups(),
            row(HTML("<b>classes</b>"), *self.classes.values(), self.all_classes, self.no_classes),
            self.status,
            self.curve,
            self.heat,
            row(HTML("<b>Predictions</b>"), self.page),
            self._grid,
            HTML(markup.legend(markup.class_entries(run.class_set))),
        ]
        self._guarded(self._start)
        self._on(self.axis, self.metric, self.page)
        self._on(*self.methods.values(), *self.classes.values())
        self._on(self.main_methods, action=partial(self._take, self.methods, main))
        self._on(self.all_methods, action=partial(self._take, self.methods, names))
        self._on(self.all_classes, action=partial(self._take, self.classes, self.classes))
        self._on(self.no_classes, action=partial(self._take, self.classes, ()))

    def _groups(self) -> list[HBox]:
        """The methods' checkboxes, a row for each kind of label they may see."""
        rows = []
        for family, title in viz.FAMILIES.items():
            members = [box for m, box in self.methods.items() if viz.family_of(m) == family]
            if members:
                rows.append(row(HTML(f"<b>{html.escape(title)}</b>"), *members))
        if rows:
            rows[-1].children += (self.main_methods, self.all_methods)
        return rows

    def _strip_row(self, name: str) -> HBox:
        """A row of the prediction grid: its name and its picture."""
        title = name if name in ("image", "truth") else viz.short_title(name)
        label = HTML(html.escape(title), layout=Layout(width="120px", flex="0 0 120px"))
        self.strips[name].add_class("labor-wide")
        self.strips[name].layout = Layout(flex="1 1 300px", min_width="0", max_width="1000px")
        return HBox([label, self.strips[name]], layout=Layout(align_items="center"))

    def _start(self) -> None:
        if not self.methods:
            raise InputError(f"no method has finished seed {self.seed}: seeds {self.run.seeds}")
        folder, classes = self.run.domains(self.seed).evaluation, self.run.class_set
        count = min(max(self._wanted_images, 1), len(folder))
        self._numbers = sorted({round(n) for n in np.linspace(0, len(folder) - 1, count)})
        pages = range(-(-len(self._numbers) // self.PER_PAGE))
        self.page.options = [(str(p + 1), p) for p in pages]
        self.page.tooltips = [f"images {self._on_page(p)}" for p in pages]
        self._predictions["image"] = [
            folder.image(n).permute(1, 2, 0).numpy() for n in self._numbers
        ]
        self._predictions["truth"] = [
            colourise(folder.label(n).numpy(), classes) for n in self._numbers
        ]
        for method in self.methods:
            found = self.run.predictions(method, self.seed, self._numbers)
            self._predictions[method] = [colourise(one, classes) for one in found]
        self._update()

    def _on_page(self, page: int) -> list[int]:
        return self._numbers[page * self.PER_PAGE : (page + 1) * self.PER_PAGE]

    def _take(self, boxes: dict[str, Checkbox], names: Iterable[str]) -> None:
        """Check these and no others."""
        chosen = set(names)
        for name, box in boxes.items():
            box.value = name in chosen
        self._update()

    def chosen(self, boxes: dict[str, Checkbox]) -> list[str]:
        """The names whose boxes are checked."""
        return [name for name, box in boxes.items() if box.value]

    def _score(self) -> str:
        """The metric's name."""
        classes = self.chosen(self.classes)
        if self.metric.value:
            return f"IoU of {self.metric.value}"
        return "mIoU" if len(classes) == len(self.classes) else f"mIoU over {_listed(classes)}"

    def _tables(self):
        """results.csv of the choice: with the metric, and with the mIoU over the classes."""
        methods, classes = self.chosen(self.methods), self.chosen(self.classes)
        if not methods:
            raise InputError("choose at least one method")
        if not classes:
            raise InputError("choose at least one class")
        options = [("mIoU over the chosen classes", ""), *((f"IoU of {c}", c) for c in classes)]
        choose(self.metric, options, "")
        table = self.run.table
        return (
            views.chosen_scores(table, methods, classes, self.metric.value),
            views.chosen_scores(table, methods, classes),
        )

    def _update(self) -> None:
        scored, by_class = self._tables()
        methods, classes = self.chosen(self.methods), self.chosen(self.classes)
        if self._changed("curve", methods, classes, self.metric.value, self.axis.value):
            score = self._score()
            with no_pauses():
                figure = viz.budget_curve(
                    scored, self.axis.value, self.run.title(score), quick=True
                )
                picture = viz.figure_picture(figure)
                del figure
            alt = f"{score} of {len(methods)} methods against {self.axis.value}"
            sentence = views.best_sentence(scored, score)
            self.curve.show(picture, alt, sentence)
        if self._changed("heat", methods, classes):
            self.heat.value = markup.heat_table(by_class)
        page, rows = self.page.value, ["image", "truth", *methods]
        for name in rows:
            if self._changed(name, page):
                alt = f"{name} of evaluation images {', '.join(map(str, self._on_page(page)))}"
                self.strips[name].show(_strip(self._shown(name)), alt)
        self._grid.children = [self._rows[name] for name in rows]

    def _changed(self, part: str, *state) -> bool:
        """Whether a part shows another state than this; notes that it shows it from now on."""
        before = self._drawn.get(part)
        self._drawn[part] = state
        return before != state

    def _blank(self) -> None:
        super()._blank()
        self._drawn = {}

    def _shown(self, name: str) -> list[np.ndarray]:
        """A row's pictures of the present page."""
        first = self.page.value * self.PER_PAGE
        return self._predictions[name][first : first + self.PER_PAGE]

    def _picture(self) -> Figure:
        scored, by_class = self._tables()
        rows = {name: self._shown(name) for name in ("image", "truth")}
        rows |= {viz.short_title(m): self._shown(m) for m in self.chosen(self.methods)}
        score = self.run.title(self._score())
        return viz.stacked(
            [
                viz.budget_curve(scored, self.axis.value, score),
                viz.class_heatmap(by_class),
                viz.image_grid(rows, [f"image {n}" for n in self._on_page(self.page.value)]),
                viz.class_legend(self.run.class_set),
            ],
            views.best_sentence(scored, self._score()),
        )


def _strip(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side, with gaps; the page enlarges them."""
    gap = np.full((pictures[0].shape[0], 4, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)


def _listed(names: list[str]) -> str:
    """A few names, or how many there are."""
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} classes"


# -------------------------------------------------------------------------- which problem is this


class SettingChooser(Panel):
    """Four questions that name an adaptation problem, and its place in their table.

    Controls: domain, task ("same" or "other"), labels ("all", "few", "none"), images ("yes",
    "no"). card: the problem in words; table: all of them, the chosen one highlighted.
    """

    def __init__(self, domain="other", task="same", labels="few", images="yes"):
        super().__init__("labor-settings")
        self._wish = {"domain": domain, "task": task, "labels": labels, "images": images}
        self._controls = {}
        for name, (question, answers) in problems.QUESTIONS.items():
            tips = [f"{question}: {answer}" for answer in answers]
            self._controls[name] = buttons(question, answers, tips, "5em")
            self._controls[name].style.description_width = "270px"
        self.domain, self.task, self.labels, self.images = self._controls.values()
        self.hint, self.card, self.table = HTML(), HTML(), HTML()
        self.parts = [self.hint, self.card, self.table]
        self.children = [
            *(self.domain, self.task, self.labels),
            row(self.images, self.hint),
            self.status,
            self.card,
            self.table,
        ]
        self._guarded(self._start)
        self._on(*self._controls.values())

    def answers(self) -> dict[str, str]:
        """The answer to every question."""
        return {name: control.value for name, control in self._controls.items()}

    def _start(self) -> None:
        problems.problem_of(**self._wish)  # says which answer there is not
        for name, control in self._controls.items():
            control.value = self._wish[name]
        self._update()

    def _update(self) -> None:
        complete = self.labels.value == "all"
        self.images.disabled = complete
        self.hint.value = "all images have labels: none is left without" if complete else ""
        self.card.value = markup.problem_card(problems.problem_of(**self.answers()))
        self.table.value = markup.problem_table(problems.cell_of(**self.answers()))

    def _picture(self) -> Figure:
        return views.problems_figure(**self.answers())
