"""Figures of classification: scores over seeds and labels, embeddings, domains left out.

All return a `Figure`, in the look of `labor_lib.lab.viz`.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from labor_lib.lab.alignment import EVERY, Alignment
from labor_lib.lab.ui import guide
from labor_lib.lab.viz import DPI, TALL, WIDTH, figure_of, markers, score_text, style_of, styled
from labor_lib.methods.registry import CLASSIFICATION

STYLES = {name: style_of(name, CLASSIFICATION) for name in CLASSIFICATION}
CLASS_COLOURS = (  # Okabe-Ito, then grey tones; a digit beside each point tells them apart, too
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#b8a900", "#000000", "#8c3b00", "#999999",
)  # fmt: skip


def _name(method: str, few: int = 0) -> str:
    """Such as: CCSA, 3 a class."""
    title = CLASSIFICATION[method].title if method in CLASSIFICATION else method
    return f"{title}, {few} a class" if few else title


def _marks(method: str) -> dict:
    return markers(style_of(method, CLASSIFICATION))


# ------------------------------------------------------------------------------------- scores


@styled
def score_dots(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy by method: every seed a small dot, the mean a marker, its standard deviation a bar.

    table: `ClassificationRun.table` of an adaptation run; a row for every number of labels.
    """
    keys = list(zip(table["method"], table["few"], strict=True))
    rows = sorted(set(keys), key=lambda key: (list(CLASSIFICATION).index(key[0]), key[1]))
    names = [_name(*row) for row in rows]
    return _dots(table.assign(place=[rows.index(key) for key in keys]), names, 1.0, title)


@styled
def domain_dots(table: pd.DataFrame, title: str = "", classes: int = 0) -> Figure:
    """Generalisation: accuracy of each method on each domain left out, and on their mean.

    Small dots: seeds; bars: standard deviation over seeds, of the mean that of the seeds' means.
    classes: how many there are, for a line at chance; 0 for none.
    """
    by_seed = table.groupby(["method", "seed"], as_index=False)["accuracy"].mean()
    table = pd.concat([table, by_seed.assign(target="mean")])
    targets, methods = list(dict.fromkeys(table["target"])), set(table["method"])
    methods = [method for method in CLASSIFICATION if method in methods]
    step = 1 / (len(methods) + 0.6)
    within = table["method"].map(methods.index) - (len(methods) - 1) / 2
    table["place"] = table["target"].map(targets.index) + step * within
    figure = _dots(table, targets, step, title)
    if classes:
        figure.axes[0].axvline(100 / classes, color="#555555", ls="--", lw=1, zorder=1)
        figure.axes[0].text(100 / classes, len(targets) - 0.53, " chance", fontsize=9)
    figure.axes[0].axhspan(len(targets) - 1.5, len(targets) - 0.5, color="#f0f0f0", zorder=0)
    marks = [Line2D([], [], ls="", label=_name(m), **_marks(m)) for m in methods]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(methods))
    return figure


def _dots(table: pd.DataFrame, names: list[str], step: float, title: str) -> Figure:
    """The table's rows at their `place`; names: of the places 0, 1, ...; step: between two rows."""
    figure = figure_of(WIDTH, min(1.3 + 0.42 * len(names) / step, TALL))
    axes = figure.subplots()
    for (place, method), scores in table.groupby(["place", "method"])["accuracy"]:
        look, mean = _marks(method), scores.mean()
        if len(scores) > 1:
            below = [place + 0.25 * step] * len(scores)
            axes.plot(scores, below, "o", color=look["color"], ms=3.5, alpha=0.6)
        axes.errorbar(mean, place, xerr=scores.std(), ms=9, mew=1.8, capsize=4, **look)
        above = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
        axes.annotate(score_text(mean, scores.std()), (mean, place), (0, 7), **above)
    axes.set_yticks(range(len(names)), names)
    low, high = table["place"].min(), table["place"].max()
    axes.set_ylim(high + 0.6 * step, low - 0.8 * step)
    axes.set(xlabel="accuracy on the target's test images in %", title=title)
    axes.grid(axis="x", alpha=0.3)
    return figure


@styled
def few_curve(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy against labelled target images a class; methods without such labels as lines.

    Bars: standard deviation over seeds. Needs rows with `few` > 0 (`ClassificationRun.table`).
    """
    figure = figure_of(WIDTH, 4.2)
    axes = figure.subplots()
    numbers = sorted(set(table["few"]) - {0})
    ends = {}  # name: the height at which its line ends
    for method, rows in table.groupby("method", sort=False):
        look = {**_marks(method), "linestyle": style_of(method, CLASSIFICATION).line}
        if rows["few"].max() == 0:
            rows = pd.concat([rows.assign(few=number) for number in (numbers[0], numbers[-1])])
            look["marker"] = ""
        rows = rows[rows["few"] > 0]
        sns.lineplot(
            rows, x="few", y="accuracy", errorbar="sd" if look["marker"] else None, legend=False,
            err_style="bars", err_kws={"capsize": 3}, markeredgecolor=look["color"], markersize=7,
            label=_name(method), ax=axes, **look,
        )  # fmt: skip
        ends[_name(method)] = rows[rows["few"] == rows["few"].max()]["accuracy"].mean()
    handles = {line.get_label(): line for line in axes.get_lines()}
    names = sorted(ends, key=ends.get, reverse=True)
    figure.legend([handles[n] for n in names], names, loc="outside right center", handlelength=3)
    axes.set(xticks=numbers, xlabel="labelled target images of each class", title=title)
    axes.set_ylabel("accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    return figure


# ---------------------------------------------------------------------------------- embeddings


@dataclass(frozen=True)
class Embedded:
    """Points of a 2-d embedding. points: N x 2. labels: N class numbers. domains: N, 0 = source."""

    points: np.ndarray
    labels: np.ndarray
    domains: np.ndarray


@styled
def embedding_figure(
    panels: dict[str, Embedded], title: str = "", classes: Sequence[str] = ()
) -> Figure:
    """Embeddings side by side: class by colour, source as hollow circles, target as crosses.

    panels: name -> Embedded. classes: their names; numbers by default. A class's name stands at the
    median of its source points.
    """
    figure = figure_of(WIDTH, WIDTH / max(len(panels), 2) + 0.9)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, embedded) in zip(places, panels.items(), strict=True):
        for label in np.unique(embedded.labels):
            colour = CLASS_COLOURS[int(label) % len(CLASS_COLOURS)]
            source, target = (
                embedded.points[(embedded.labels == label) & (embedded.domains == domain)]
                for domain in (0, 1)
            )
            axes.scatter(*source.T, s=14, facecolors="none", edgecolors=colour, lw=0.7)
            axes.scatter(*target.T, s=16, marker="x", c=colour, lw=0.9)
            if len(source):
                axes.text(
                    *np.median(source, axis=0), classes[int(label)] if classes else str(label),
                    fontsize=12, weight="bold", ha="center", va="center", color=colour,
                    bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "lw": 0},
                )  # fmt: skip
        axes.set_title(name, fontsize=11)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    marks = [
        Line2D([], [], ls="", marker=marker, color="#444444", markerfacecolor="none", label=name)
        for marker, name in (("o", "source"), ("x", "target"))
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
    return figure


# ------------------------------------------------------------ styles and contents swapped (SagNet)


def sample_photographs(size: int = 96) -> tuple[Tensor, tuple[str, ...]]:
    """Three public photographs, 3 x 3 x size x size in [0, 1], and their names.

    scikit-learn's `china.jpg` and `flower.jpg` (CC BY 2.0) and matplotlib's Grace Hopper (public
    domain); cut square, of a portrait the top.
    """
    hopper = get_sample_data("grace_hopper.jpg")
    pictures = [*load_sample_images().images, np.asarray(Image.open(hopper))]
    squares = []
    for picture in pictures:
        side = min(picture.shape[:2])
        left = (picture.shape[1] - side) // 2
        crop = Image.fromarray(picture[:side, left : left + side])
        squares.append(np.array(crop.resize((size, size), Image.Resampling.LANCZOS)))
    stacked = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    return stacked / 255, ("pagoda", "flower", "Hopper")


@styled
def swap_figure(blocks: dict[str, tuple[Tensor, Sequence[str]]], title: str = "") -> Figure:
    """Grids of images side by side: a row keeps a content, a column gives a style.

    blocks: name -> (N*N x 3 x H x H in [0, 1], row by row, and N names). The originals, content and
    style of one image, are framed.
    """
    figure = figure_of(WIDTH, 5.2)
    places = figure.subplots(1, len(blocks), squeeze=False)[0]
    for axes, (name, (images, names)) in zip(places, blocks.items(), strict=True):
        side, count = images.shape[-1], len(names)
        pixels = (255 * images.detach().clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
        page = pixels.reshape(count, count, side, side, 3).swapaxes(1, 2)
        axes.imshow(page.reshape(count * side, count * side, 3), interpolation="nearest")
        middles = side * (np.arange(count) + 0.5) - 0.5
        axes.set_xticks(middles, names)
        axes.set_yticks(middles, names, rotation=90, va="center")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="takes the style of", ylabel="keeps the content of")
        axes.set_title(name, size=11, loc="center", weight="normal")
        for corner in side * (np.arange(count) + 0.015) - 0.5:
            place, width = (corner, corner), side * 0.97
            axes.add_patch(Rectangle(place, width, width, fill=False, ec="#e69f00", lw=3))
    figure.suptitle(title, x=0.01, ha="left", weight="bold", size=12)
    return figure


# ----------------------------------------------------------------- pairs pulled and pushed (CCSA)

DRAWN = 25  # of each class's other target images; more would hide each other
_SHAPE = 0.735  # of a panel: its height over its width


def alignment_lines(one: Alignment, frame: int) -> list[tuple[str, str]]:
    """The pairs in numbers, before training and at a step."""
    before, now = one.distances(0), one.distances(frame)
    same, other = one.same, ~one.same
    close = [f"{(d[other] < one.margin).sum():,}" for d in (before, now)]
    lines = [("pairs of one class", f"{same.sum():,}"), ("of two classes", f"{other.sum():,}")]
    for name, pairs in (("mean distance in one class", same), ("of two classes", other)):
        lines.append((name, f"{before[pairs].mean():.2f} → {now[pairs].mean():.2f}"))
    lines.append(("of these closer than the margin", " → ".join(close)))
    for name, points in (("source", one.shift.source), ("labelled target", one.few)):
        first, last = (f"{one.right(at, points):.0f} %" for at in (0, frame))
        lines.append((f"{name} images that get their class", f"{first} → {last}"))
    return lines


@styled
def alignment_figure(
    one: Alignment, frame: int, pulled: bool = True, pushed: bool = True
) -> Figure:
    """The embedding before CCSA and at a step; pulled, pushed: whether such pairs are drawn."""
    figure = Figure(figsize=(WIDTH, 4.3), dpi=DPI)  # a constrained layout would take 0.1 s
    larger = _extent(one, 0)[1][0] / _extent(one, frame)[1][0]
    names = ("source only", f"after {EVERY * frame} steps of CCSA, drawn {larger:.2g} x as large")
    for at, name, left in zip((0, frame), names, (0.003, 0.503), strict=True):
        axes = figure.add_axes((left, 0.14, 0.494, 0.79))
        _draw_alignment(axes, one, at, pulled, pushed)
        axes.set_title(name, fontsize=11)
    others = one.shift.others
    drawn = np.bincount(others.labels).clip(max=DRAWN).sum()
    marks = (
        "circle: source image · diamond: labelled target image · hollow square: other target image "
        f"({drawn} of {len(others)} drawn) · tint and large pale digit: the class that the network "
        "names there · line: a pair that is pulled · dots: a pair of two classes closer than the "
        "margin, which is pushed · bar: the margin, which shows the scale of each panel"
    )
    figure.text(0.005, 0.12, textwrap.fill(marks, 145), fontsize=9, va="top")
    return figure


def _extent(one: Alignment, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a panel and half its sides: nearly all points lie in it."""
    places = [one.embedded(frame, p) for p in (one.shift.source, one.few, one.shift.others)]
    ends = np.concatenate([places[1], *(np.percentile(p, (1, 99), axis=0) for p in places)])
    low, high = ends.min(axis=0), ends.max(axis=0)
    half = 0.56 * max(high[0] - low[0], (high[1] - low[1]) / _SHAPE, 1e-3) * np.array((1, _SHAPE))
    return (low + high) / 2, half


def _draw_alignment(axes: Axes, one: Alignment, frame: int, pulled: bool, pushed: bool) -> None:
    """A unit is as long in both directions."""
    groups = one.shift.source, one.few, one.shift.others
    places = [one.embedded(frame, points) for points in groups]
    middle, half = _extent(one, frame)
    (left, bottom), (right, top) = middle - half, middle + half
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_box_aspect(_SHAPE)
    colours = np.array(CLASS_COLOURS[: len(one.shift.classes)])

    # which class the network names where
    grid = np.stack(np.meshgrid(np.linspace(left, right, 140), np.linspace(bottom, top, 103)), -1)
    named = one.named(frame, grid)
    strength = np.array((0.38, 0.3, 0.16, 0.3))[named % 4, None]  # blue and green look alike
    tints = 1 - strength * (1 - to_rgba_array(colours)[named, :3])
    tints[:-1][named[:-1] != named[1:]] = 0.6
    tints[:, :-1][named[:, :-1] != named[:, 1:]] = 0.6
    extent = left, right, bottom, top
    axes.imshow(tints, extent=extent, origin="lower", aspect="auto", interpolation="nearest")

    # pairs: lines between source and labelled target images
    source, few, others = places
    pairs = np.stack(np.broadcast_arrays(source[:, None], few[None]), axis=2)  # S x T x 2 x 2
    own = np.broadcast_to(colours[one.few.labels], one.same.shape)[one.same]
    pull = LineCollection(pairs[one.same], colors=own, lw=0.6, alpha=0.25, visible=pulled)
    close = ~one.same & (one.distances(frame) < one.margin)
    push = LineCollection(pairs[close], colors="black", lw=0.9, alpha=0.5, visible=pushed)
    push.set_linestyle((0, (1, 2)))
    for lines in (pull, push):
        axes.add_collection(lines, autolim=False)

    # images
    of_source, of_few, of_others = (group.labels.numpy() for group in groups)
    shown = (pd.Series(of_others).groupby(of_others).cumcount() < DRAWN).to_numpy()
    others, of_others = others[shown], of_others[shown]
    edges = colours[of_others]
    axes.scatter(*others.T, s=70, marker="s", facecolors="none", edgecolors=edges, lw=0.9)
    axes.scatter(*source.T, s=17, c=colours[of_source], alpha=0.75, lw=0)
    look = {"edgecolors": "black", "lw": 1.3, "zorder": 4}
    axes.scatter(*few.T, s=150, marker="D", c=colours[of_few], **look)
    for label, (name, colour) in enumerate(zip(one.shift.classes, colours, strict=True)):
        axes.scatter(*others[of_others == label].T, s=17, marker=f"${name}$", c=colour, lw=0.2)
        look = {"marker": f"${name}$", "c": "white", "lw": 0.3, "zorder": 5}
        axes.scatter(*few[of_few == label].T, s=38, **look)
        inside = grid[named == label]
        if len(inside) > 0.01 * named.size:  # tints alone look alike to some
            look = {"fontsize": 44, "weight": "bold", "alpha": 0.22, "zorder": 0.5}
            x, y = np.median(inside, axis=0)
            axes.text(x, y, name, color=colour, ha="center", va="center", **look)
    x, y = left + 0.06 * half[0], bottom + 0.1 * half[1]
    axes.plot([x, x + one.margin], [y, y], color="black", lw=3, solid_capstyle="butt", zorder=6)
    axes.text(x, y + 0.03 * half[1], f"margin {one.margin:g}", fontsize=10, zorder=6)


# ------------------------------------------------------------------------------- which method

_TAKEN, _LEFT_OUT = "#0072b2", "#9a9a9a"


@styled
def guide_figure(**answers: str) -> Figure:
    """The tree of `guide`, a line for each answer; the way that the answers take is blue and bold.

    At each end the advice and the numbers of its notebooks, dashed where reading is named.
    """
    chosen, lines = guide.path(**answers), list(guide.lines())
    rows = {line.way: number for number, line in enumerate(lines)}
    figure = Figure(figsize=(WIDTH, 0.25 * len(lines) + 0.1), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(len(lines) - 0.4, -0.6))
    axes.set_axis_off()
    for y, line in enumerate(lines):
        taken, x = line.lies_on(chosen), 0.12 + 0.34 * len(line.way)
        colour, width = (_TAKEN, 3.0) if taken else (_LEFT_OUT, 1.0)
        look = {"va": "center", "fontsize": 9.5, "weight": "bold" if taken else "normal"}
        if line.way:
            bend, above = x - 0.26, rows[line.way[:-1]] + 0.4
            axes.plot([bend, bend, x - 0.05], [above, y, y], color=colour, lw=width, zorder=taken)
        answer = axes.text(x, y, line.answer or " ", zorder=3, **look)
        if line.advice is None:
            axes.annotate(
                line.question, (1, 0), (8 if line.way else 0, 0), xycoords=answer, va="bottom",
                textcoords="offset points", fontsize=9.5, weight="bold", style="italic",
                color=_TAKEN if taken else "#404040",
            )  # fmt: skip
            continue
        answer.set_bbox({"facecolor": "white", "lw": 0, "pad": 2})
        axes.plot([x, 6.1], [y, y], color=colour, lw=width, ls="-" if taken else (0, (1, 2)))
        numbers = ", ".join(name[:2] for name in line.advice.notebooks)
        axes.text(
            6.15, y, f"{line.advice.title} ({numbers})", color="white" if taken else "black",
            bbox={
                "boxstyle": "round,pad=0.25", "edgecolor": colour,
                "facecolor": _TAKEN if taken else "#eef2f5",
                "ls": "--" if line.advice.reading and not taken else "-",
            },
            **look,
        )  # fmt: skip
    return figure
