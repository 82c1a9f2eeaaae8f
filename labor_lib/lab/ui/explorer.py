"""What a stage of a method saw of a training image, and asked there, layer by layer."""

from contextlib import suppress
from functools import lru_cache, partial

import numpy as np
from ipywidgets import HTML, BoundedIntText, IntSlider, Layout
from traitlets import link

from labor_lib.annotation.cost import count_cost
from labor_lib.errors import InputError
from labor_lib.lab import scene as layer
from labor_lib.lab import viz
from labor_lib.lab.scene import Scene, dimmed, faded, paint
from labor_lib.lab.ui import controls
from labor_lib.lab.ui.controls import Picture, RunPanel, Text, row
from labor_lib.labels import IGNORE, ClassSet, colourise

ALL, NONE, OTHER = "all", "none", "other"  # a dropdown shows nothing where its value is None
BASES = {
    "image": ("image", "the photo"),
    "truth": ("truth", "the true classes"),
    "prediction": ("prediction", "what the model predicts"),
}
OVERLAYS = {
    "error": ("errors", False, "where the model is wrong"),
    "entropy": ("entropy", False, "how undecided the model is"),
    "mask": ("mask", True, "where the selector's two classifiers disagree"),
    "asked": ("asked", True, "what this stage asked a person"),
    "difference": ("difference", False, "where only one of the two pictures' models is correct"),
}


# -------------------------------------------------------------------------- layers and counts


def layers_of(
    scene: Scene, class_set: ClassSet, names: set[str], inside: np.ndarray, on_classes: bool = False
) -> list[layer.Layer]:
    """The chosen overlays as layers. inside: H x W booleans, where they are drawn.

    on_classes: whether over the colours of classes, where mask and errors are white.
    """
    layers: list[layer.Layer] = []
    white = [layer.WHITE] * on_classes
    if "entropy" in names:
        values = np.where(inside, scene.entropy, np.nan)
        layers.append(layer.Heat(values, "entropy: blue 0, yellow 1"))
    if "mask" in names and scene.mask is not None:
        hidden = "asked" in names and not scene.points and (scene.asked >= scene.mask).all()
        note = "all of it asked" if hidden else "the classifiers disagree"
        layers.append(layer.Tint(scene.mask & inside, f"mask: {note}", *white))
    if "error" in names:
        layers.append(layer.Stripes(scene.errors & inside, "error of the model", *white))
    if "asked" in names and scene.points:
        kept = inside.flat[scene.positions]
        colours = colourise(scene.answers, class_set)[kept]
        layers.append(
            layer.Dots(scene.positions[kept], "asked point, colour of its answer", colours)
        )
    elif "asked" in names:
        layers.append(layer.Pixels(scene.asked & inside, "asked pixel"))
    return layers


def counts(scene: Scene, inside: np.ndarray) -> list[tuple[str, str]]:
    """Names and values of what is counted. inside: H x W booleans, where.

    Errors are the segmenter's, among pixels that are not void. Clicks of regions are a lower bound.
    """
    asked = scene.asked & inside
    clicks = count_cost(asked, scene.truth, scene.truth.size).clicks
    void = int((asked & (scene.truth == IGNORE)).sum())
    lines = [
        ("points asked" if scene.points else "pixels asked", f"{asked.sum():,}"),
        ("clicks", f"{'' if scene.points or not clicks else '≥ '}{clicks:,}"),
        *([("asked, but void", f"{void:,}")] if void else []),
        ("errors among asked", percent(*_errors(scene, asked))),
        ("errors among all", percent(*_errors(scene, inside))),
    ]
    if scene.mask is None:
        return [*lines, ("mask", "none: no selector")]
    mask = scene.mask & inside
    return [
        *lines,
        ("mask", f"{mask.sum():,} pixels"),
        ("mask's share of all", percent(mask.sum(), inside.sum())),
        ("errors in the mask", percent(*_errors(scene, mask))),
    ]


def differences(one: Scene, two: Scene) -> list[layer.Layer]:
    """Where only the first model (left) is correct, only the second (right), or neither."""
    return [
        layer.Tint(at, f"{name}: {percent(at.sum(), (one.truth != IGNORE).sum())}", colour)
        for name, at, colour in (
            ("only left correct", ~one.errors & two.errors, (0, 114, 178)),
            ("only right correct", one.errors & ~two.errors, (230, 159, 0)),
            ("neither correct", one.errors & two.errors, layer.WHITE),
        )
    ]


def sentence(scene: Scene, inside: np.ndarray, name: str = "") -> str:
    """The counts' message. name: of the class that is predicted `inside`."""
    if not inside.any():
        return f"The model predicts no pixel of this image as {name}."
    asked = scene.asked & inside
    wrong, known = _errors(scene, asked)
    everything = f"all pixels predicted {name}" if name else "all pixels"
    rest = f"{percent(*_errors(scene, inside))} of {everything}"
    if not known:
        none = "All that was asked here is void" if asked.any() else "Nothing was asked here"
        return f"{none}; the model is wrong on {rest}."
    what = ("point" if scene.points else "pixel") + "s" * (known != 1)
    return (
        f"The model is wrong on {wrong:,} of the {known:,} {what} asked here "
        f"({percent(wrong, known)}), and on {rest}."
    )


def _errors(scene: Scene, where: np.ndarray) -> tuple[int, int]:
    """The segmenter's errors among some pixels, and how many of these are not void."""
    return int((scene.errors & where).sum()), int((where & (scene.truth != IGNORE)).sum())


def percent(part: float, whole: float) -> str:
    """ "7.3 %", "42 %", or a dash of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


# ------------------------------------------------------------------------------------- widgets


class StagePanel(RunPanel):
    """A view of one image of one stage: the controls for method, seed, stage, image and zoom."""

    def __init__(self, run, methods: list[str], method, seed, stage: int, image: int):
        super().__init__()
        self.run, self._wish = run, (method, seed, stage)
        titles = [(viz.short_title(name), name) for name in methods]
        self.method = controls.dropdown("method", titles, "the method that asked", "290px")
        self.seed = controls.dropdown("seed", [seed], "the seed of the run", "100px")
        stages = range(1, run.stages + 1)
        names = [(str(stage), stage) for stage in stages]
        self.stage = controls.buttons("stage", names, [f"stage {stage}" for stage in stages], "3em")
        self.image = BoundedIntText(
            min=0, max=10**6, value=max(image, 0), tooltip="number of the training image",
            **controls.wide("image"), layout=Layout(width="135px"),
        )  # fmt: skip
        self.reset = controls.button("Reset zoom", "show the whole image")
        self.many = HTML()
        self.picture = Picture(zoomable=True)
        self._place = [self.method, self.seed, self.stage, self.image]  # what `_open` is given
        self._scene = lru_cache(maxsize=1)(self._open)

    def _listen(self, *controls) -> None:
        """Update after a change of the controls."""
        self._on(self.method, self.seed, self.stage, self.image, *controls)
        self._on(self.reset, action=lambda: setattr(self.picture, "view", [0, 0, 1]))

    def _start(self) -> None:
        method, seed, stage = self._wish
        if not self.method.options:
            for control in (self.method, self.seed, self.stage, self.image):
                control.disabled = True
            raise InputError("this run has no finished method that asks labels: run ppl or spl")
        controls.pick(self.method, method or self.method.options[0][1])
        self.seed.options = self._seeds()
        controls.pick(self.seed, seed)
        controls.pick(self.stage, stage)
        self._update()
        for other in self._seeds():  # its images and networks, so that a change of seed is quick
            with suppress(InputError, OSError):  # reported when it is chosen
                self.run.view(self.method.value, other, stage, 0)

    def _seeds(self) -> list[int]:
        """Those with all stages of the chosen method."""
        method, run = self.method.value, self.run
        return [seed for seed in run.seeds if method in run.methods_of(seed)]

    def _look(self) -> Scene:
        """The scene of the controls' method, seed, stage and image."""
        controls.choose(self.seed, self._seeds(), self._seeds()[0])
        count = len(self.run.domains(self.seed.value).target)
        self.image.max, self.many.value = count - 1, f"of {count}, from 0"
        method, seed, stage, image, *model = (control.value for control in self._place)
        scene = self._scene(method, seed, stage, image, *model)
        text = f"{viz.short_title(method)}, seed {seed}, stage {stage}, image {image}"
        self.title = self.run.title(text)
        return scene

    def _open(self, method: str, seed: int, stage: int, image: int, after=False) -> Scene:
        return self.run.view(method, seed, stage, image, after=after)


class SelectionExplorer(StagePanel):
    """What a stage of a method saw of a training image, and asked there.

    Controls: method, seed, stage, image; previous, next, and whether these go by mIoU (worst);
    model (False: as the stage began, True: after it); beside (a second method, "other" for the
    other model of this one, or "none"); base; error, entropy, mask, asked, difference (checkboxes,
    also in `overlays`); opacity of these; only (a class id, or "all"); reset. picture: click to
    zoom; second: the other one's; counts; legend.
    """

    def __init__(self, run, seed: int = 0, method=None, stage: int = 1, image: int = 0, beside=""):
        methods = list(run.asked_methods)
        if method is None and "ppl" in methods:
            method = "ppl"
        super().__init__(run, methods, method, seed, stage, image)
        options = [("before this stage", False), ("after it", True)]
        tips = ["which the stage asked about", "which has learnt from the answers"]
        self.model = controls.buttons("model", options, tips, "auto")
        self._place.append(self.model)
        self.previous = controls.button("◀ previous", "the image before this one in the order")
        self.next = controls.button("next ▶", "the next image in the order")
        tip = "order of previous and next; predicts all images, which takes its time"
        self.worst = controls.check_box("worst mIoU first", False, tip)
        bases = [(text, base) for text, (base, _) in BASES.items()]
        self.base = controls.buttons("show", bases, [tip for _, tip in BASES.values()], "auto")
        self.overlays = {name: controls.check_box(*look) for name, look in OVERLAYS.items()}
        self.opacity = IntSlider(
            100, 0, 100, 10, tooltip="of all overlays, in %", continuous_update=False,
            layout=Layout(width="220px"), **controls.wide("opacity"),
        )  # fmt: skip
        names, colours = run.class_set.names, map(tuple, run.class_set.palette.tolist())
        classes = [("all classes", ALL), *((name, k) for k, name in enumerate(names))]
        tips = ["everywhere", *(f"layers and counts only where it predicts {c}" for c in names)]
        self.only = controls.buttons("only where the model predicts", classes, tips, "auto")
        self.only.add_class(own := f"labor-{self.only.model_id}")
        css = (  # the buttons are the legend of the classes
            f".{own} button:nth-child({k}) {{ border-left: 14px solid rgb{colour}; }}"
            for k, colour in enumerate(colours, 2)
        )
        others = [("none", NONE), ("the other model of this method", OTHER)]
        others += [(viz.short_title(name), name) for name in methods]
        tip = "a second method of this run, or model, on the same image"
        self.beside = controls.dropdown("beside", others, tip, "290px")
        self.counts, self.legend, self.second = Text(), Picture(), Picture(zoomable=True)
        link((self.picture, "view"), (self.second, "view"))  # the same part of both
        self._wished = beside
        self._build(
            row(self.method, self.seed, self.stage, self.model),
            row(self.image, self.many, self.previous, self.next, self.worst),
            row(self.base, *self.overlays.values(), self.opacity),
            row(self.beside, self.reset, HTML(f"<style>{' '.join(css)}</style>")),
            self.only,
            parts=[[self.picture, self.second], self.counts, self.legend],
        )
        self._listen(
            *(self.model, self.base, self.only, self.beside, self.opacity), *self.overlays.values()
        )
        for control, by in ((self.previous, -1), (self.next, 1), (self.worst, 0)):
            self._on(control, action=partial(self._step, by))

    def _start(self) -> None:
        if self._wished:
            controls.pick(self.beside, self._wished)
        super()._start()

    def _scores(self) -> np.ndarray:
        """mIoU of every image with the chosen model."""
        method, seed, stage, _, after = (control.value for control in self._place)
        self.status.value = "Predicting all images …"
        return self.run.image_scores(method, seed, stage + after)

    def _step(self, by: int) -> None:
        """Go on by so many images in the order; 0: to the first, where that is the worst."""
        worst, count = self.worst.value, self.image.max + 1
        order = self._scores().argsort().tolist() if worst else list(range(count))
        if by or worst:
            self.image.value = order[(order.index(self.image.value) + by) % count if by else 0]
        self._update()

    def _update(self) -> None:
        scene, classes, base, extra = self._look(), self.run.class_set, self.base.value, []
        if self.worst.value:
            scores = self._scores()
            score = scores[self.image.value]
            self.many.value += f"; mIoU {score:.1f} %, {(scores < score).sum()} images are worse"
        mask, difference = self.overlays["mask"], self.overlays["difference"]
        mask.disabled = scene.mask is None
        mask.description = "mask (this method has no selector)" if mask.disabled else "mask"
        difference.disabled = self.beside.value == NONE
        self.second.layout.display = "none" if difference.disabled else None
        self.second.clear()
        if not difference.disabled:
            method, *place, after = (control.value for control in self._place)
            if self.beside.value == OTHER:
                after, name = not after, f"{'before' if after else 'after'} this stage"
            else:
                method, name = self.beside.value, viz.short_title(self.beside.value)
            other = self._open(method, *place, after)
            extra = differences(scene, other) if difference.value else []
            self._paint(self.second, other, extra, name, f"{name}: ")
        title, head = f"{self.title} ({scene.name})", "after this stage: " * self.model.value
        layers, inside = self._paint(self.picture, scene, extra, title, head)
        self.counts.show(counts(scene, inside))
        found = np.unique(getattr(scene, base)) if base != "image" else ()
        if scene.points and self.overlays["asked"].value:
            found = {*found, *scene.answers.tolist()}
        handles = [*viz.class_handles(classes, found), *(one.handle() for one in layers)]
        if handles:
            labels = ", ".join(handle.get_label() for handle in handles)
            self.legend.show(viz.legend_figure(handles, 4 if extra else 6), f"colours: {labels}")
        else:
            self.legend.clear()

    def _paint(self, picture: Picture, scene: Scene, extra: list, title: str, head: str):
        """Show a scene with the chosen layers; returns these, and where they are drawn.

        extra: the lowest layers. head: of the caption.
        """
        classes, base = self.run.class_set, self.base.value
        names = {name for name, box in self.overlays.items() if box.value}
        if scene.mask is None:
            names.discard("mask")
        if not extra:
            names.discard("difference")
        inside, name = np.ones_like(scene.truth, bool), ""
        if self.only.value != ALL:
            inside, name = scene.prediction == self.only.value, classes.names[self.only.value]
        layers = extra + layers_of(scene, classes, names, inside, base != "image")
        below = scene.image if base == "image" else colourise(getattr(scene, base), classes)
        if base == "image" and names & {"mask", "error", "difference"}:
            below = dimmed(below)
        what = " + ".join([base, *(name for name in OVERLAYS if name in names)])
        picture.show(
            paint(faded(below, inside), layers, opacity=self.opacity.value / 100),
            f"{what} of {title}",
            head + sentence(scene, inside, name),
        )
        picture.reading(scene, classes.names)
        return layers, inside
