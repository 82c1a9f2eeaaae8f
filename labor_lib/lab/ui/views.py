"""What the views of `widgets` show: painted pictures, counts, sentences and figures, no widget.

A view's picture and its figure without a kernel come from the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from labor_lib.annotation.cost import count_cost
from labor_lib.lab.ui import problems
from labor_lib.lab.viz import (
    ASKED_COLOUR,
    DPI,
    ERROR_COLOUR,
    MASK_COLOUR,
    PICTURE_WIDTH,
    WIDTH,
    Window,
    family_of,
    figure_of,
    figure_picture,
    paint,
    plain,
    short_title,
    styled,
    wrapped,
)
from labor_lib.labels import IGNORE, ClassSet, colourise


def _percent(part: float, whole: float) -> str:
    """ "7.3 %", "42 %", or a dash of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


# ---------------------------------------------------------------------------- one image's layers

BASES = ("image", "truth", "prediction")
OVERLAYS = ("error", "entropy", "mask", "asked")


@dataclass(frozen=True)
class Layers:
    """What is shown of a `runs.View`.

    base: one of `BASES`. overlays: of `OVERLAYS`. only: a class id; overlays and counts are then
    limited to the pixels that the model predicts as this class. window: the part that is shown.
    """

    base: str = "image"
    overlays: tuple[str, ...] = ("mask", "asked")
    only: int | None = None
    window: Window = field(default_factory=Window)


@dataclass(frozen=True)
class Counts:
    """Pixels of one image, or of those predicted as one class. Errors are the segmenter's.

    pixels all of them, known those whose true class is not void, errors among known;
    asked, asked_known, asked_errors the same of what was asked; clicks as in `annotation.cost`;
    mask, mask_known, mask_errors the same of the mask, None without a selector.
    """

    pixels: int
    known: int
    errors: int
    asked: int
    asked_known: int
    asked_errors: int
    clicks: int
    mask: int | None
    mask_known: int | None
    mask_errors: int | None


def asked_map(view) -> np.ndarray:
    """The pixels that a view's stage asked: H x W booleans."""
    asked = np.zeros(view.truth.size, bool)
    asked[view.positions] = True
    return asked.reshape(view.truth.shape)


def count_view(view, only: int | None = None) -> Counts:
    """The counts of a `runs.View`; only: among the pixels predicted as this class."""
    inside = np.ones(view.truth.shape, bool) if only is None else view.prediction == only
    known = inside & (view.truth != IGNORE)
    asked = inside & asked_map(view)
    mask = None if view.mask is None else inside & view.mask
    errors = view.errors
    return Counts(
        pixels=int(inside.sum()),
        known=int(known.sum()),
        errors=int((errors & inside).sum()),
        asked=int(asked.sum()),
        asked_known=int((asked & known).sum()),
        asked_errors=int((asked & errors).sum()),
        clicks=count_cost(asked, view.truth, view.truth.size).clicks,
        mask=None if mask is None else int(mask.sum()),
        mask_known=None if mask is None else int((mask & known).sum()),
        mask_errors=None if mask is None else int((mask & errors).sum()),
    )


def counts_sentence(counts: Counts, points: bool, only: str = "") -> str:
    """The counts' message in one sentence. only: the name of the class they are limited to."""
    everything = f"all pixels predicted {only}" if only else "all pixels"
    if counts.pixels == 0:
        return f"The model predicts no pixel of this image as {only}."
    rate = _percent(counts.errors, counts.known)
    what = "point" if points else "pixel"
    many = "" if counts.asked_known == 1 else "s"
    if counts.asked_known == 0:
        none = "Nothing was asked here" if not counts.asked else "All that was asked here is void"
        return f"{none}; the model is wrong on {rate} of {everything}."
    share = _percent(counts.asked_errors, counts.asked_known)
    return (
        f"The model is wrong on {counts.asked_errors:,} of the {counts.asked_known:,} "
        f"{what}{many} asked here ({share}), and on {rate} of {everything}."
    )


def counts_lines(counts: Counts, points: bool) -> list[tuple[str, str]]:
    """Name and value of what is counted, for tables. Clicks of regions are a lower bound."""
    clicks = f"{counts.clicks:,}" if points else f"≥ {counts.clicks:,}"
    lines = [
        ("points asked" if points else "pixels asked", f"{counts.asked:,}"),
        ("clicks", clicks if counts.asked else "0"),
        ("errors among asked", _percent(counts.asked_errors, counts.asked_known)),
        ("errors among all", _percent(counts.errors, counts.known)),
    ]
    if counts.asked > counts.asked_known:
        lines.insert(2, ("asked, but void", f"{counts.asked - counts.asked_known:,}"))
    if counts.mask is None:
        return [*lines, ("mask", "none: no selector")]
    return [
        *lines,
        ("mask", f"{counts.mask:,} pixels"),
        ("mask's share of all", _percent(counts.mask, counts.pixels)),
        ("errors in the mask", _percent(counts.mask_errors, counts.mask_known)),
    ]


def paint_view(view, class_set: ClassSet, layers: Layers) -> np.ndarray:
    """A `runs.View` with its layers, as `paint` enlarges it."""
    over = set(layers.overlays)
    inside = None if layers.only is None else view.prediction == layers.only
    base = {
        "image": view.image,
        "truth": colourise(view.truth, class_set),
        "prediction": colourise(view.prediction, class_set),
    }[layers.base]
    asked, points = None, ()
    if "asked" in over and view.points:
        points = asked_points(view, class_set, inside)
    elif "asked" in over:
        asked = asked_map(view)
    return paint(
        base,
        dim=layers.base == "image" and bool(over & {"mask", "error"}),
        inside=inside,
        field=view.entropy if "entropy" in over else None,
        mask=view.mask if "mask" in over else None,
        errors=view.errors if "error" in over else None,
        asked=asked,
        points=points,
        window=layers.window,
    )


def asked_points(view, class_set: ClassSet, inside: np.ndarray | None = None) -> list[tuple]:
    """(flat position, RGB of the answer) of what was asked, `inside` H x W booleans if given."""
    colours = colourise(view.answers, class_set)
    return [
        (int(position), tuple(int(c) for c in colour))
        for position, colour in zip(view.positions, colours, strict=True)
        if inside is None or inside.flat[position]
    ]


def layer_legend(view, class_set: ClassSet, layers: Layers) -> list[tuple[str, tuple, str]]:
    """(name, RGB, kind) of every colour that `paint_view` shows; kind: "class" or the overlay."""
    over = set(layers.overlays)
    shown = {"truth": view.truth, "prediction": view.prediction}.get(layers.base)
    found = set() if shown is None else set(np.unique(shown).tolist())
    if "asked" in over and view.points:
        found |= set(np.unique(view.answers).tolist())
    entries = [
        (name, tuple(class_set.palette[k].tolist()), "class")
        for k, name in enumerate(class_set.names)
        if k in found
    ]
    if IGNORE in found:
        entries.append(("void", (0, 0, 0), "class"))
    if "entropy" in over:
        entries.append(("entropy: blue 0, yellow 1", (0, 34, 78), "entropy"))
    if "error" in over:
        entries.append(("error of the model", ERROR_COLOUR, "error"))
    if "mask" in over and view.mask is not None:
        entries.append(("mask: the classifiers disagree", MASK_COLOUR, "mask"))
    if "asked" in over:
        dot = ("asked point, in the colour of its answer", (255, 255, 255), "point")
        entries.append(dot if view.points else ("asked pixel", ASKED_COLOUR, "asked"))
    return entries


@styled
def explorer_figure(view, class_set: ClassSet, layers: Layers, title: str = "") -> Figure:
    """What `SelectionExplorer` shows: a `runs.View` with its layers, the counts and the legend."""
    picture = paint_view(view, class_set, layers)
    entries = layer_legend(view, class_set, layers)
    columns = 5
    height, width = picture.shape[:2]
    figure = figure_of(WIDTH, WIDTH * height / width + 1.1 + 0.24 * -(-len(entries) // columns))
    axes = figure.subplots()
    axes.imshow(picture, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    only = "" if layers.only is None else class_set.names[layers.only]
    counts = count_view(view, layers.only)
    sentence = counts_sentence(counts, view.points, only)
    axes.set_title(plain(f"{title}\n{sentence}" if title else sentence))
    texts = [f"{name}: {value}" for name, value in counts_lines(counts, view.points)]
    half = -(-len(texts) // 2)
    axes.set_xlabel(
        "\n".join(" · ".join(part) for part in (texts[:half], texts[half:])), fontsize=10
    )
    if entries:
        figure.legend(
            handles=[_swatch(colour, kind, name) for name, colour, kind in entries],
            loc="outside lower center",
            ncols=columns,
            handlelength=1.2,
            columnspacing=1.2,
            fontsize=9,
        )
    return figure


def _swatch(colour: tuple, kind: str, name: str) -> Patch | Line2D:
    rgb = tuple(c / 255 for c in colour)
    if kind == "point":
        return Line2D([], [], color=rgb, marker="o", ls="", mec="black", mew=1.5, label=name)
    if kind == "error":
        return Patch(facecolor="white", edgecolor=rgb, hatch="//////", label=name)
    return Patch(facecolor=rgb, edgecolor="#555555", linewidth=0.6, label=name)


# ------------------------------------------------------------------------------ PPL's prototypes


@dataclass(frozen=True)
class Prototype:
    """PPL's choice for one predicted class k of one image (`widgets.prototypes_of`).

    members: D(k), flat positions of its n uncertain pixels. mean: mu(k), C probabilities.
    similarity: n cosines of the members to it. point: the flat position of the highest.
    """

    class_id: int
    members: np.ndarray
    mean: np.ndarray
    similarity: np.ndarray
    point: int


def paint_members(view, prototype: Prototype, window: Window | None = None) -> np.ndarray:
    """D(k) in blue on the photo, its chosen point ringed."""
    mask = np.zeros(view.truth.size, bool)
    mask[prototype.members] = True
    mask = mask.reshape(view.truth.shape)
    return paint(view.image, dim=True, mask=mask, rings=[prototype.point], window=window)


def paint_similarity(view, prototype: Prototype, window: Window | None = None) -> np.ndarray:
    """Every pixel of D(k) by its cosine to mu(k): blue the lowest tenth, yellow the highest."""
    low, high = _similarity_range(prototype)
    field = np.full(view.truth.size, np.nan)
    share = ((prototype.similarity - low) / max(high - low, 1e-9)).clip(0, 1)
    field[prototype.members] = 0.2 + 0.8 * share  # the darkest blue would not show
    field = field.reshape(view.truth.shape)
    dark = (0.15 * view.image).astype(np.uint8)
    return paint(dark, dim=True, field=field, rings=[prototype.point], window=window)


def paint_crop(view, prototype: Prototype, width: int = PICTURE_WIDTH // 2) -> np.ndarray:
    """A quarter of the photo's width and height round the chosen point."""
    height, columns = view.truth.shape
    row, column = divmod(prototype.point, columns)
    window = Window().around((column + 0.5) / columns, (row + 0.5) / height, 4)
    return paint(view.image, rings=[prototype.point], window=window, width=width)


def similarity_sentence(prototype: Prototype) -> str:
    """The range of `paint_similarity`."""
    low, high = _similarity_range(prototype)
    return f"Cosine to \u03bc(k): blue {low:.2f} or less, yellow {high:.2f}; ring: the highest."


def _similarity_range(prototype: Prototype) -> tuple[float, float]:
    """Most members are near the prototype: a tenth of them shares the lowest colour."""
    return float(np.quantile(prototype.similarity, 0.1)), float(prototype.similarity.max())


def answer_sentence(view, prototype: Prototype, class_set: ClassSet) -> str:
    """Predicted and true class of the chosen point."""
    predicted = class_set.names[prototype.class_id]
    return (
        f"The chosen point: predicted {predicted}, truly {_true_name(view, prototype, class_set)}."
    )


def _true_name(view, prototype: Prototype, class_set: ClassSet) -> str:
    truth = int(view.truth.flat[prototype.point])
    return "void" if truth == IGNORE else class_set.names[truth]


def marked_names(view, prototype: Prototype, class_set: ClassSet) -> list[str]:
    """Class names that say which is predicted and which is true at the chosen point."""
    truth, k = int(view.truth.flat[prototype.point]), prototype.class_id
    notes = {truth: " (true)", k: " (k, true)" if truth == k else " (k)"}
    return [name + notes.get(i, "") for i, name in enumerate(class_set.names)]


def prototype_sentence(view, prototype: Prototype, class_set: ClassSet) -> str:
    """What was asked for a class, and what the answer says about the prediction."""
    name = class_set.names[prototype.class_id]
    true = _true_name(view, prototype, class_set)
    ending = (
        "as predicted" if true == name
        else "which teaches nothing" if true == "void"
        else "which corrects the prediction"
    )  # fmt: skip
    many = f"{len(prototype.members):,} uncertain pixel" + "s" * (len(prototype.members) != 1)
    if prototype.point not in view.positions:
        return (
            f"For {many} predicted {name} nothing is asked: the stage's points went to larger "
            f"classes. The ringed one is {true}."
        )
    return f"One point asked for {many} predicted {name}: it is {true}, {ending}."


@styled
def prototype_figure(
    view,
    prototype: Prototype,
    class_set: ClassSet,
    title: str = "",
    window: Window | None = None,
) -> Figure:
    """What `PrototypeViewer` shows: D(k), mu(k), the similarity and the chosen point."""
    height, width = view.truth.shape
    figure = figure_of(WIDTH, WIDTH * height / width + 1.5)
    axes = figure.subplots(2, 2)
    pictures = {
        "D(k): uncertain, predicted k": paint_members(view, prototype, window),
        "cosine to \u03bc(k)": paint_similarity(view, prototype, window),
        answer_sentence(view, prototype, class_set): paint_crop(view, prototype),
    }
    places = (axes[0, 0], axes[0, 1], axes[1, 1])
    for place, (name, picture) in zip(places, pictures.items(), strict=True):
        place.imshow(picture, interpolation="antialiased")
        place.set_title(wrapped(plain(name), 46), fontsize=11)
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    axes[0, 1].set_xlabel(similarity_sentence(prototype), fontsize=9)
    bars = axes[1, 0]
    rows = range(len(class_set))
    bars.barh(rows, prototype.mean, color=class_set.palette / 255, edgecolor="#555555", lw=0.5)
    bars.set_yticks(rows, marked_names(view, prototype, class_set), fontsize=9)
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_title("\u03bc(k): mean probability", fontsize=11)
    sentence = wrapped(plain(prototype_sentence(view, prototype, class_set)), 88)
    figure.suptitle(
        f"{plain(title)}\n{sentence}" if title else sentence,
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


# ---------------------------------------------------------------- the mask as its selector trains


@dataclass(frozen=True)
class Disagreement:
    """A selector's mask of one image, step after step of its training.

    image: H x W x 3 uint8. truth, prediction: H x W uint8, 255 in truth = void. steps: n numbers.
    masks: n of H x W booleans, where the two classifiers disagree after that step.
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    steps: Sequence[int]
    masks: Sequence[np.ndarray]

    @cached_property
    def errors(self) -> np.ndarray:
        """H x W booleans: the prediction is wrong; a void pixel is no error."""
        return (self.prediction != self.truth) & (self.truth != IGNORE)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a step: `step`, and `mask_scores` of its mask."""
        rows = [mask_scores(np.asarray(mask), self.errors, self.truth) for mask in self.masks]
        return pd.DataFrame(rows, columns=["share", "precision", "recall"]).assign(step=self.steps)


def mask_scores(mask: np.ndarray, errors: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How well a mask finds errors; all H x W, mask and errors booleans.

    share: of all pixels in the mask. precision: of the mask's pixels that are not void, how many
    are errors. recall: of all errors, how many are in the mask. NaN where there is none.
    """
    known, hits = int((mask & (truth != IGNORE)).sum()), int((mask & errors).sum())
    return {
        "share": float(mask.mean()),
        "precision": hits / known if known else float("nan"),
        "recall": hits / int(errors.sum()) if errors.any() else float("nan"),
    }


def paint_disagreement(one: Disagreement, index: int, errors: bool = False) -> np.ndarray:
    """The mask of a step on the photo, with the true errors as stripes if wanted."""
    shown = one.errors if errors else None
    return paint(one.image, dim=True, mask=np.asarray(one.masks[index], bool), errors=shown)


def disagreement_sentence(one: Disagreement, index: int) -> str:
    """Size, precision and recall of a step's mask."""
    row = one.scores.iloc[index]
    share, precision, recall = (
        "none" if np.isnan(row[name]) else _percent(row[name], 1)
        for name in ("share", "precision", "recall")
    )
    return (
        f"Step {one.steps[index]}: the mask holds {share} of the pixels; {precision} of it are "
        f"errors (precision), {recall} of all errors are in it (recall)."
    )


_SCORE_LOOKS = {  # colour, line, marker
    "precision": ("#0072b2", "-", "o"),
    "recall": ("#d55e00", "--", "s"),
    "share": ("#555555", ":", "^"),
}


def _draw_scores(axes: Axes, one: Disagreement) -> None:
    """Share, precision and recall over the steps."""
    for name, (colour, line, _) in _SCORE_LOOKS.items():
        label = "mask, share of the image" if name == "share" else name
        values = 100 * one.scores[name].to_numpy()
        axes.plot(one.steps, values, color=colour, ls=line, lw=1.8, label=label)
    axes.set_ylim(0, 100)
    axes.set_xlabel("training step of the selector")
    axes.set_ylabel("%")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3, fontsize=9, handlelength=2)


def _mark_step(axes: Axes, one: Disagreement, index: int) -> None:
    axes.axvline(one.steps[index], color="#999999", lw=1.2, zorder=1)
    for name, (colour, _, marker) in _SCORE_LOOKS.items():
        value = 100 * one.scores[name].iloc[index]
        axes.plot(one.steps[index], value, color=colour, marker=marker, ms=8, ls="")


class ScoreCurve:
    """Share, precision and recall over the steps, drawn once; a step is marked quickly."""

    @styled
    def __init__(self, one: Disagreement):
        self.figure = Figure(figsize=(4.9, 3.0), dpi=DPI)
        axes = self.figure.add_axes((0.12, 0.17, 0.85, 0.68))
        _draw_scores(axes, one)
        self._picture = figure_picture(self.figure)  # H x W x 3
        values = 100 * one.scores[list(_SCORE_LOOKS)].to_numpy()  # steps x 3
        height = len(self._picture)
        points = np.stack([np.repeat(np.asarray(one.steps)[:, None], 3, axis=1), values], axis=2)
        self._places = axes.transData.transform(points.reshape(-1, 2)).reshape(points.shape)
        self._places[..., 1] = height - self._places[..., 1]  # pictures count rows from the top
        self._ends = axes.bbox.y0, axes.bbox.y1

    def at(self, index: int) -> np.ndarray:
        """The curves with a step marked: H x W x 3 uint8."""
        image = Image.fromarray(self._picture)
        draw = ImageDraw.Draw(image)
        bottom, top = (len(self._picture) - end for end in self._ends)
        x = self._places[index, 0, 0]
        draw.line((x, bottom, x, top), fill="#999999", width=2)
        for (x, y), (colour, _, _) in zip(self._places[index], _SCORE_LOOKS.values(), strict=True):
            if np.isfinite(y):
                draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour, outline="white")
        return np.array(image)


@styled
def disagreement_figure(
    one: Disagreement, index: int, errors: bool = False, title: str = ""
) -> Figure:
    """What `DisagreementSlider` shows at a step."""
    picture = paint_disagreement(one, index, errors)
    height = 0.58 * WIDTH * picture.shape[0] / picture.shape[1]
    figure = figure_of(WIDTH, max(height, 2.2) + 0.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    left.imshow(picture, interpolation="antialiased")
    left.set_xticks([])
    left.set_yticks([])
    left.spines[:].set_visible(False)
    stripes = "; stripes: errors of the model" if errors else ""
    left.set_xlabel(f"blue: the two classifiers disagree{stripes}", fontsize=10)
    _draw_scores(right, one)
    _mark_step(right, one, index)
    sentence = wrapped(disagreement_sentence(one, index), 95)
    figure.suptitle(
        plain(f"{title}\n{sentence}" if title else sentence),
        x=0.01,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    return figure


# ------------------------------------------------------------------------------- the comparison


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
    last = table[table["stage"] == table["stage"].max()]
    means = last.groupby("method")["miou"].mean()
    if means.notna().sum() == 0:
        return f"{score}: this class occurs nowhere in the images that are scored."

    def named(method: str) -> str:
        rows = last[last["method"] == method]
        spread = "" if len(rows) < 2 else f" \u00b1 {rows['miou'].std():.1f}"
        return f"{short_title(method)} ({means[method]:.1f}{spread})"

    best = means.idxmax()
    asking = means[[m for m in means.index if family_of(m) in ("points", "pixels")]].dropna()
    text = f"Highest {score}: {named(best)}"
    if not len(asking) or asking.idxmax() == best:
        return f"{text}."
    clicks = last[last["method"] == asking.idxmax()]["clicks_per_image"].mean()
    return f"{text}; of those that ask: {named(asking.idxmax())}, {clicks:.0f} clicks an image."


# ------------------------------------------------------------------ the table of the problems


@styled
def problems_figure(domain: str, task: str, labels: str, images: str) -> Figure:
    """The table of `problems`, the cell with these answers framed, its meaning below."""
    chosen = problems.cell_of(domain, task, labels, images)
    rows = problems.table()
    figure = figure_of(WIDTH, 4.6)
    axes = figure.subplots()
    for i, line in enumerate(rows):
        for j, problem in enumerate(line):
            here = (i, j) == chosen
            colour = "#0072b2" if here else "#eef2f5"
            axes.add_patch(Rectangle((j, i), 0.96, 0.94, facecolor=colour, edgecolor="none"))
            axes.text(
                j + 0.48,
                i + 0.47,
                wrapped(problem.name, 17),
                ha="center",
                va="center",
                fontsize=9.5,
                color="white" if here else "black",
                fontweight="bold" if here else "normal",
            )
    axes.set_xlim(0, len(problems.COLUMNS))
    axes.set_ylim(len(rows), 0)
    axes.set_xticks(
        np.arange(len(problems.COLUMNS)) + 0.48,
        [wrapped(name, 17) for name in problems.COLUMN_NAMES],
    )
    axes.set_yticks(np.arange(len(rows)) + 0.47, [wrapped(name, 14) for name in problems.ROW_NAMES])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    problem = problems.problem_of(domain, task, labels, images)
    name = problem.name[0].upper() + problem.name[1:]
    figure.suptitle(name, x=0.01, ha="left", fontsize=13, fontweight="bold")
    text = "\n".join(wrapped(t, 115) for t in (problem.meaning, f"Example: {problem.example}"))
    axes.set_xlabel(text, fontsize=10, loc="left")
    return figure
