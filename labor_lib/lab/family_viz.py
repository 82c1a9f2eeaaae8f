"""Figures of the wider family: scores over seeds and labels, embeddings, domains left out.

All return a `Figure`, in the look of `labor_lib.lab.viz`.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from labor_lib.lab.alignment import Alignment, SmallShift, classify
from labor_lib.lab.classification import summarise
from labor_lib.lab.ui import guide
from labor_lib.lab.viz import WIDTH, Style, figure_of, figure_picture, style_of, styled
from labor_lib.methods.registry import CLASSIFICATION

STYLES = {name: method.style for name, method in CLASSIFICATION.items()}
CLASS_COLOURS = (  # Okabe-Ito, then grey tones; a digit beside each point tells them apart, too
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
    "#d55e00", "#b8a900", "#000000", "#8c3b00", "#999999",
)  # fmt: skip


def _name(method: str, few: int = 0) -> str:
    """Such as: CCSA, 3 a class."""
    title = CLASSIFICATION[method].title if method in CLASSIFICATION else method
    return f"{title}, {few} a class" if few else title


def _style(method: str) -> Style:
    return style_of(method, CLASSIFICATION)


def _face(style: Style) -> str:
    return style.colour if style.filled else "white"


@styled
def score_dots(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy by method: every seed a small dot, the mean a marker, its standard deviation a bar.

    table: `ClassificationRun.table` of an adaptation run; a row for every number of labels.
    """
    rows = [
        (m, few) for m in CLASSIFICATION for few in sorted(set(table[table["method"] == m]["few"]))
    ]
    figure = figure_of(9.4, 1.3 + 0.42 * len(rows))
    axes = figure.subplots()
    for place, (method, few) in enumerate(rows):
        scores = table[(table["method"] == method) & (table["few"] == few)]["accuracy"]
        _dots(axes, scores, place, _style(method))
    axes.set_yticks(range(len(rows)), [_name(*row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.8)  # room above for the first row's number
    axes.set_xlabel("accuracy on the target's test images in %")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title)
    return figure


def _dots(axes: Axes, scores: pd.Series, place: float, style: Style, below: float = 0.22) -> None:
    mean, spread = scores.mean(), scores.std()
    if len(scores) > 1:
        axes.scatter(scores, np.full(len(scores), place + below), s=12, c=style.colour, alpha=0.6)
        axes.errorbar(mean, place, xerr=spread, color=style.colour, capsize=4, lw=1.6)
    hollow = style.marker not in "x+"
    axes.plot(
        mean, place, style.marker, color=style.colour, ms=9,
        markerfacecolor=_face(style) if hollow else style.colour, mew=1.8,
    )  # fmt: skip
    told = f"{mean:.1f}" if len(scores) == 1 else f"{mean:.1f} ± {spread:.1f}"
    axes.annotate(told, (mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)


@styled
def few_curve(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy against labelled target images a class; methods without such labels as lines.

    Bars: standard deviation over seeds. Needs rows with `few` > 0 (`ClassificationRun.table`).
    """
    figure = figure_of(9.4, 4.2)
    axes = figure.subplots()
    numbers = sorted(set(table["few"]) - {0})
    ends = []
    for row in summarise(table).groupby("method", sort=False):
        method, scores = row
        style = _style(method)
        if scores["few"].max() == 0:
            x, y = [numbers[0], numbers[-1]], [scores["accuracy_mean"].iloc[0]] * 2
            axes.plot(x, y, color=style.colour, ls=style.line, lw=1.6)
        else:
            scores = scores[scores["few"] > 0].sort_values("few")
            x, y = scores["few"].tolist(), scores["accuracy_mean"].tolist()
            spread = scores["accuracy_std"] if scores["accuracy_std"].notna().all() else None
            axes.errorbar(
                x, y, yerr=spread, color=style.colour, ls=style.line, marker=style.marker,
                markerfacecolor=_face(style), capsize=3, ms=7,
            )  # fmt: skip
        ends.append((y[-1], _name(method), style.colour))
    for place, (_, name, colour) in zip(_apart([y for y, *_ in ends], axes), ends, strict=True):
        axes.annotate(
            name, (1.01, place), xycoords=("axes fraction", "data"), color=colour, va="center",
            fontsize=10, annotation_clip=False,
        )  # fmt: skip
    axes.set_xticks(numbers)
    axes.set_xlabel("labelled target images of each class")
    axes.set_ylabel("accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    axes.set_title(title)
    return figure


def _apart(values: Sequence[float], axes: Axes) -> list[float]:
    """Places for labels near the values, at least a line's height from each other."""
    low, high = axes.get_ylim()
    gap = 0.065 * (high - low)
    places = list(values)
    order = np.argsort(values)
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + gap)
    return places


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
    figure = figure_of(9.4, 9.4 / max(len(panels), 2) + 0.9)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, embedded) in zip(places, panels.items(), strict=True):
        points, labels, domains = embedded.points, embedded.labels, embedded.domains
        for label in np.unique(labels):
            colour = CLASS_COLOURS[int(label) % len(CLASS_COLOURS)]
            here = (labels == label) & (domains == 0)
            axes.scatter(*points[here].T, s=14, facecolors="none", edgecolors=colour, lw=0.7)
            there = (labels == label) & (domains == 1)
            axes.scatter(*points[there].T, s=16, marker="x", c=colour, lw=0.9)
            if here.any():
                text = classes[int(label)] if classes else str(label)
                axes.text(
                    *np.median(points[here], axis=0), text, fontsize=12, weight="bold",
                    ha="center", va="center", color=colour,
                    bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "lw": 0},
                )  # fmt: skip
        axes.set_title(name, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(True)
    marks = [
        Line2D([], [], marker="o", ls="", markerfacecolor="none", color="#444444", label="source"),
        Line2D([], [], marker="x", ls="", color="#444444", label="target"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    if title:
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12)
    return figure


@styled
def domain_dots(table: pd.DataFrame, title: str = "") -> Figure:
    """Generalisation: accuracy of each method on each domain left out, and on their mean.

    Small dots: seeds; bars: standard deviation over seeds, of the mean that of the seeds' means.
    """
    targets = [*dict.fromkeys(table["target"]), "mean"]
    by_seed = table.groupby(["method", "seed"])["accuracy"].mean().reset_index()
    whole = pd.concat([table, by_seed.assign(target="mean")])
    methods = [m for m in CLASSIFICATION if m in set(table["method"])]
    figure = figure_of(9.4, 0.9 + 0.42 * len(targets) * (len(methods) + 0.6))
    axes = figure.subplots()
    step = 1 / (len(methods) + 0.6)
    for line, target in enumerate(targets):
        for number, method in enumerate(methods):
            rows = whole[(whole["target"] == target) & (whole["method"] == method)]
            _dots(axes, rows["accuracy"], line + (number - (len(methods) - 1) / 2) * step,
                  _style(method), below=0.3 * step)  # fmt: skip
    axes.axhspan(len(targets) - 1.5, len(targets) - 0.5, color="#f0f0f0", zorder=0)
    axes.set_yticks(range(len(targets)), targets)
    axes.set_ylim(len(targets) - 0.5, -0.5)
    axes.set_xlabel("accuracy on the domain left out in %")
    axes.grid(axis="x", alpha=0.3)
    marks = [
        Line2D([], [], marker=_style(m).marker, ls="", color=_style(m).colour,
               markerfacecolor=_face(_style(m)), label=_name(m))
        for m in methods
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=len(methods))
    axes.set_title(title)
    return figure


# ----------------------------------------------------------------- pairs pulled and pushed (CCSA)

DRAWN = 25  # of each class's other target images; more would hide each other


def alignment_marks(shift: SmallShift) -> str:
    """What the marks mean."""
    drawn = np.bincount(shift.others.labels).clip(max=DRAWN).sum()
    return (
        "circle: source image · diamond: labelled target image · hollow square: other target image "
        f"({drawn} of {len(shift.others)} drawn) · tint and large pale digit: the class that the "
        "network names there · line: a pair that is pulled · dots: a pair of two classes closer "
        "than the margin, which is pushed"
    )


def alignment_sentence(one: Alignment, frame: int) -> str:
    """What became of the other target images, at a step."""
    others = one.shift.others
    before, now = (100 * one.right(at, others).mean() for at in (0, frame))
    start = f"{before:.0f} % of the {len(others)} other target images get their class"
    if frame == 0:
        return f"Before any target label: {start}."
    return (
        f"{now:.0f} % of the {len(others)} other target images get their class after "
        f"{one.steps[frame]} steps ({before:.0f} % before)."
    )


def alignment_lines(one: Alignment, frame: int) -> list[tuple[str, str]]:
    """The pairs in numbers, before training and at a step."""
    lines = []
    for name, count in (
        ("pairs of one class", lambda d: f"{one.same.sum():,}"),
        ("… their mean distance", lambda d: f"{d[one.same].mean():.2f}"),
        ("pairs of two classes", lambda d: f"{(~one.same).sum():,}"),
        ("… their mean distance", lambda d: f"{d[~one.same].mean():.2f}"),
        ("… closer than the margin", lambda d: f"{(d[~one.same] < one.margin).sum():,}"),
    ):
        before, now = (count(one.distances(at)) for at in (0, frame))
        lines.append((name, now if before == now else f"{before} → {now}"))
    for name, points in (("source", one.shift.source), ("labelled target", one.few)):
        before, now = (f"{100 * one.right(at, points).mean():.0f} %" for at in (0, frame))
        lines.append((f"{name} images named rightly", f"{before} → {now}"))
    return lines


def _draw_alignment(
    axes: Axes, one: Alignment, frame: int, pulled: bool, pushed: bool, shape: float = 0.735
) -> None:
    """shape: height of the axes over their width; a unit is as long in both directions."""
    groups = one.shift.source, one.few, one.shift.others
    places = [one.embedded(frame, points) for points in groups]
    ends = np.concatenate([np.percentile(p, (0, 100) if p is places[1] else (1, 99), axis=0)
                           for p in places])  # fmt: skip
    low, high = ends.min(axis=0), ends.max(axis=0)
    half = 0.56 * max(high[0] - low[0], (high[1] - low[1]) / shape, 1e-3)
    (left, bottom), (right, top) = ((low + high) / 2 + side * half * np.array((1, shape))
                                    for side in (-1, 1))  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_box_aspect(shape)
    colours = [CLASS_COLOURS[label] for label in range(len(one.shift.classes))]
    grid = np.stack(np.meshgrid(np.linspace(left, right, 140), np.linspace(bottom, top, 103)), -1)
    named = classify(one.frames[frame], grid.reshape(-1, 2)).reshape(grid.shape[:2])
    tints = 1 - 0.2 * (1 - to_rgba_array(colours)[named, :3])
    border = np.zeros(named.shape, bool)
    border[:-1] |= named[:-1] != named[1:]
    border[:, :-1] |= named[:, :-1] != named[:, 1:]
    tints[border] = 0.6
    axes.imshow(
        tints, extent=(left, right, bottom, top), origin="lower", aspect="auto", zorder=0,
        interpolation="nearest",
    )  # fmt: skip
    for label, (name, colour) in enumerate(zip(one.shift.classes, colours, strict=True)):
        inside = grid[named == label]
        if len(inside) > 0.01 * named.size:  # tints alone look alike to some
            style = {"fontsize": 44, "weight": "bold", "alpha": 0.22, "zorder": 0.5}
            axes.text(*np.median(inside, axis=0), name, color=colour, ha="center", va="center",
                      **style)  # fmt: skip
    _draw_pairs(axes, one, frame, places, colours if pulled else None, pushed)
    shown = [slice(None), slice(None), _first_of_each(one.shift.others.labels, DRAWN)]
    source, few, others = (place[part] for place, part in zip(places, shown, strict=True))
    labels = [group.labels[part] for group, part in zip(groups, shown, strict=True)]
    fills = [np.array(colours)[part] for part in labels]
    axes.scatter(*others.T, s=70, marker="s", facecolors="none", edgecolors=fills[2], lw=0.9)
    axes.scatter(*source.T, s=17, c=fills[0], alpha=0.75, lw=0)
    axes.scatter(*few.T, s=150, marker="D", c=fills[1], edgecolors="black", lw=1.3, zorder=4)
    for label, (name, colour) in enumerate(zip(one.shift.classes, colours, strict=True)):
        digits = others[labels[2] == label], few[labels[1] == label]
        axes.scatter(*digits[0].T, s=17, marker=f"${name}$", c=colour, lw=0.2)
        axes.scatter(*digits[1].T, s=38, marker=f"${name}$", c="white", lw=0.3, zorder=5)
    x, y = left + 0.03 * (right - left), bottom + 0.05 * (top - bottom)
    axes.plot([x, x + one.margin], [y, y], color="black", lw=3, solid_capstyle="butt", zorder=6)
    axes.text(x, y + 0.015 * (top - bottom), f"margin {one.margin:g}", fontsize=10, zorder=6)


def _first_of_each(labels: np.ndarray, most: int) -> np.ndarray:
    """The places of the first `most` of each class."""
    return np.concatenate([np.flatnonzero(labels == k)[:most] for k in np.unique(labels)])


def _draw_pairs(axes: Axes, one: Alignment, frame: int, places, colours, pushed: bool) -> None:
    """Lines between source and labelled target images; colours: of the pulled, None for none."""
    source, few = places[:2]
    ends = np.stack(np.broadcast_arrays(source[:, None], few[None]), axis=2)  # S x T x 2 x 2
    if colours:
        own = np.array(colours)[np.broadcast_to(one.few.labels, one.same.shape)[one.same]]
        lines = LineCollection(ends[one.same], colors=own, lw=0.6, alpha=0.25)
        axes.add_collection(lines, autolim=False)
    if pushed:
        close = ~one.same & (one.distances(frame) < one.margin)
        dots = LineCollection(ends[close], colors="black", lw=0.9, ls=(0, (1, 2)), alpha=0.5)
        axes.add_collection(dots, autolim=False)


@styled
def paint_alignment(
    one: Alignment, frame: int, pulled: bool = True, pushed: bool = True
) -> np.ndarray:
    """The embedding at a step, as `AlignmentPlayground` shows it: H x W x 3 uint8."""
    figure = Figure(figsize=(6.4, 6.4 * 0.735), dpi=100)
    _draw_alignment(figure.add_axes((0.004, 0.004, 0.992, 0.992)), one, frame, pulled, pushed)
    return figure_picture(figure)


@styled
def alignment_figure(
    one: Alignment, frame: int, pulled: bool = True, pushed: bool = True, title: str = ""
) -> Figure:
    """The embedding before CCSA and at a step, side by side."""
    figure = figure_of(WIDTH, 4.7)
    names = ("source only", f"{one.steps[frame]} steps of CCSA later")
    for axes, at, name in zip(figure.subplots(1, 2), (0, frame), names, strict=True):
        _draw_alignment(axes, one, at, pulled, pushed)
        share = 100 * one.right(at, one.shift.others).mean()
        axes.set_title(f"{name}: {share:.0f} % of the others right", fontsize=11)
    labels = "label" if one.n == 1 else "labels"
    told = f"α {one.alpha:g}, margin {one.margin:g}, {one.n} {labels} a class"
    figure.suptitle(
        f"{title}: {told}" if title else told, x=0.01, ha="left", weight="bold", fontsize=12
    )
    figure.supxlabel(
        textwrap.fill(alignment_marks(one.shift), 118), fontsize=9.5, x=0.01, ha="left"
    )
    return figure


# ------------------------------------------------------------------------------- which method

_LINE, _INDENT, _LEAF = 0.27, 0.34, 6.1  # inches: a line, a step to the right, where advice is
_TAKEN = "#0072b2"


@styled
def guide_figure(**answers: str) -> Figure:
    """The tree of `guide`, a line for each answer; the way that the answers take is blue and bold.

    Above: the advice at its end; below: why.
    """
    chosen, advice = guide.path(**answers), guide.advise(**answers)
    lines = list(guide.lines())
    why = textwrap.fill(advice.why, 122)
    below = 0.2 + 0.185 * (1 + why.count("\n"))
    height = _LINE * len(lines) + 0.45 + below
    figure = figure_of(WIDTH, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(0.1, 0.2, f"These answers lead to: {advice.title}", fontsize=13,
              fontweight="bold", va="center")  # fmt: skip
    axes.text(0.1, height - below + 0.05, why, fontsize=9.5, va="top", linespacing=1.35)
    places = [0.58 + _LINE * number for number in range(len(lines))]
    for number in sorted(range(len(lines)), key=lambda n: lines[n].lies_on(chosen)):
        _draw_line(axes, lines, number, places, lines[number].lies_on(chosen))
    return figure


def _draw_line(
    axes: Axes, lines: list[guide.Line], number: int, places: list[float], taken: bool
) -> None:
    """One line of the guide's tree, and its connection to the question above it."""
    line, y = lines[number], places[number]
    colour, width = (_TAKEN, 3.0) if taken else ("#9a9a9a", 1.0)
    weight, ink = ("bold", "black") if taken else ("normal", "#404040")
    x = 0.12 + _INDENT * line.depth
    if line.way:
        parent = max(n for n in range(number) if lines[n].way == line.way[:-1])
        bend = x - _INDENT + 0.08
        axes.plot([bend, bend, x - 0.05], [places[parent] + 0.1, y, y], color=colour, lw=width,
                  solid_joinstyle="miter", zorder=2 + taken)  # fmt: skip
    text = axes.text(x, y, line.answer, va="center", fontsize=9.5, color=ink,
                     fontweight=weight)  # fmt: skip
    end = x + _text_width(text)
    if line.advice is None:
        axes.text(end + (0.12 if line.way else 0), y, line.question, va="center",
                  fontsize=9.5, fontweight="bold", fontstyle="italic",
                  color=_TAKEN if taken else ink)  # fmt: skip
        return
    axes.plot([end + 0.08, _LEAF - 0.05], [y, y], color=colour, lw=width,
              ls="-" if taken else (0, (1, 2)))  # fmt: skip
    box = FancyBboxPatch(
        (_LEAF, y - 0.115), WIDTH - _LEAF - 0.1, 0.23, boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=_TAKEN if taken else "#eef2f5", edgecolor=_TAKEN if taken else "#9a9a9a",
        linestyle="--" if line.advice.reading and not taken else "-",
    )  # fmt: skip
    axes.add_patch(box)
    numbers = ", ".join(name[:2] for name in line.advice.notebooks)
    axes.text(_LEAF + 0.08, y, line.advice.title, va="center", fontsize=9.5,
              color="white" if taken else "black", fontweight=weight)  # fmt: skip
    axes.text(WIDTH - 0.18, y, numbers, va="center", ha="right", fontsize=8.5,
              color="white" if taken else "#404040")  # fmt: skip


def _text_width(text: Text) -> float:
    """Inches, of text in axes whose units are inches."""
    return text.get_window_extent().width / text.figure.dpi
