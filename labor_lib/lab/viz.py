"""Figures: pure functions that return a `matplotlib.figure.Figure`; no pyplot state, no file.

A method has one colour, marker and line in every figure (`style_of`). The hue says what it was
given (Okabe and Ito's colours, which colour-blind readers can tell apart): grey for no target
labels, blue for points, orange for pixels, black for all labels.
"""

import io
import textwrap
from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from labor_lib.lab.scene import Dots, Pixels, Scene, Tint, dimmed, paint, swatch
from labor_lib.labels import IGNORE, ClassSet, colourise
from labor_lib.methods.registry import METHODS, Method, Style

DPI = 110
WIDTH = 9.4  # inches; about 1000 pixels
TALL = 7.6  # inches; what a screen shows at once
FAMILIES = {
    "none": "no target labels", "points": "points", "pixels": "pixels", "few": "whole images",
    "tags": "tags", "class points": "a point of each class", "all": "all labels",
}  # fmt: skip
_LOOK = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
}
GRID = {"color": "#e4e4e4", "lw": 0.8}


_HUES = {
    "none": "#7a7a7a", "points": "#2b8cc4", "pixels": "#d98200", "few": "#009e73",
    "tags": "#cc79a7", "class points": "#9c4f7c", "all": "#000000",
}  # fmt: skip
_MARKERS = "ov^<>sPD*Xphd"
_STAGE_COLOURS = ("#56b4e9", "#e69f00", "#000000", "#009e73", "#cc79a7")


def style_of(method: str, registry: dict[str, Method] = METHODS) -> Style:
    """The method's style: its own, else its kind's hue and a marker by its place in the registry.

    Purple and dotted for a method that is not in the registry.
    """
    if method not in registry:
        return Style("#cc79a7", "o", ":")
    marker = _MARKERS[list(registry).index(method) % len(_MARKERS)]
    default = Style(_HUES.get(registry[method].kind, "#d98200"), marker, (0, (5, 1)))
    return registry[method].style or default


def markers(style: Style) -> dict:
    """Keyword arguments of Matplotlib for the style's markers."""
    face = style.colour if style.filled else "white"
    return {"marker": style.marker, "color": style.colour, "markerfacecolor": face}


def family_of(method: str) -> str:
    """One of `FAMILIES`; an unknown method counts as one that asks for pixels."""
    return METHODS[method].kind if method in METHODS else "pixels"


def short_title(method: str) -> str:
    """The method's title without what is in brackets."""
    return METHODS[method].title.split(" (")[0] if method in METHODS else plain(method)


def score_text(mean: float, spread: float = np.nan, sign: str = "") -> str:
    """ "67.9 ± 0.4", or without the spread for one seed; empty for NaN. sign: "+" to show it."""
    text = f"{mean:{sign}z.1f}".replace("-", "−")
    return "" if np.isnan(mean) else text if np.isnan(spread) else f"{text} ± {spread:.1f}"


def last_stage(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of results.csv that are of the last stage."""
    return table[table["stage"] == table["stage"].max()]


def plain(text: str) -> str:
    """Text without mathematics: matplotlib would set what stands between two dollars."""
    return text.replace("$", r"\$")


def to_png(figure: Figure) -> bytes:
    """The figure as PNG, at `DPI`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook, with a sentence for those who cannot see it."""
    from IPython.display import Image as Picture
    from IPython.display import display

    png = with_palette(to_png(figure))
    display(Picture(png, width=round(figure.get_figwidth() * DPI), alt=alt))


def with_palette(png: bytes) -> bytes:
    """The PNG in 256 colours: a quarter of the bytes where it shows photos.

    The palette covers rare colours as well as frequent ones: none moves by more than about 20
    of 255.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def figure_picture(figure: Figure) -> np.ndarray:
    """The figure as H x W x 3 uint8, at its own resolution."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


styled = matplotlib.rc_context(_LOOK)  # a decorator: draws so, and leaves settings as they were


def figure_of(width: float, height: float) -> Figure:
    """A figure with a constrained layout; in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def use_look() -> None:
    """For figures that a notebook draws itself: the fonts and frames of those made here."""
    matplotlib.rcParams.update(_LOOK)


def _in_order(methods: Iterable[str]) -> list[str]:
    """Unique names, in the registry's order, unknown ones last."""
    found = dict.fromkeys(methods)
    return [*(m for m in METHODS if m in found), *(m for m in found if m not in METHODS)]


# ------------------------------------------------------------------------------------ pictures


def label_overlay(
    image: np.ndarray, label: np.ndarray, class_set: ClassSet, strength: float = 0.6
) -> np.ndarray:
    """A photo under its label's colours: H x W x 3 uint8, H x W uint8 -> H x W x 3 uint8.

    Ignored pixels show the photo alone.
    """
    known = (label != IGNORE)[..., None]
    mixed = (1 - strength) * image + strength * colourise(label, class_set)
    return np.where(known, mixed, image).round().astype(np.uint8)


def mask_overlay(
    image: np.ndarray, mask: np.ndarray | None, asked: np.ndarray | None = None
) -> np.ndarray:
    """A dimmed grey photo, a mask in blue and asked pixels in yellow.

    image: H x W x 3 uint8. mask, asked: H x W booleans, or None. Returns H x W x 3 uint8.
    """
    layers = [] if mask is None else [Tint(mask)]
    layers += [] if asked is None else [Pixels(asked)]
    return paint(dimmed(image), layers, width=image.shape[1])


@styled
def selection_grid(
    rows: Sequence[Sequence[Scene]], class_set: ClassSet, columns: Sequence[str], title: str = ""
) -> Figure:
    """What was asked: images down, stages across. columns: a title for each stage."""

    def picture(scene: Scene) -> np.ndarray:
        layers = [] if scene.mask is None else [Tint(scene.mask)]
        answers = colourise(np.asarray(scene.answers, np.uint8), class_set)
        asked = Dots(scene.positions, colours=answers, radius=7 * max(len(columns), 2))
        layers.append(asked if scene.points else Pixels(scene.asked))
        return paint(dimmed(scene.image), layers)

    pictures = {str(number): [picture(one) for one in row] for number, row in enumerate(rows)}
    return image_grid(pictures, columns, title, names=0)


@styled
def image_grid(
    rows: dict[str, Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    title: str = "",
    names: float = 1.6,
) -> Figure:
    """Pictures in rows with names at the left.

    rows: name -> one H x W x 3 uint8 picture per column, all of one shape. columns: their titles.
    names: inches for the rows' names; 0 shows none.
    """
    pictures = list(rows.values())
    columns = columns or [""] * len(pictures[0])
    height, width = pictures[0][0].shape[:2]
    titled = (0.3 if any(columns) else 0) + (0.36 if title else 0)
    cell = (WIDTH - names) / max(len(columns), 2)
    cell = min(cell, ((TALL - titled) / len(rows) - 0.06) * width / height)
    tall = len(rows) * (cell * height / width + 0.06) + titled
    figure = figure_of(names + cell * len(columns), tall)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(plain(name), fontsize=11, fontweight="normal", loc="center", pad=4)
    for name, line, places in zip(rows, pictures, axes, strict=True):
        if names:
            look = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 6, "fontsize": 11}
            places[0].set_ylabel(textwrap.fill(plain(name), 15), **look)
        for picture, place in zip(line, places, strict=True):
            show_picture(place, picture)
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def show_picture(axes: Axes, picture: np.ndarray) -> None:
    """Without ticks or frame; small pictures with sharp pixels, large ones smoothed."""
    axes.imshow(picture, interpolation="nearest" if picture.shape[1] <= 400 else "antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


@styled
def legend_figure(handles: Sequence, columns: int = 6) -> Figure:
    """A legend alone, of Matplotlib's artists with labels."""
    figure = figure_of(WIDTH, 0.12 + 0.26 * -(-len(handles) // columns))
    figure.legend(handles=handles, ncols=columns, loc="center", handlelength=1.2, columnspacing=1.2)
    return figure


def class_legend(class_set: ClassSet) -> Figure:
    """The classes and their colours, with void in black."""
    return legend_figure(class_handles(class_set), columns=7)


def class_handles(class_set: ClassSet, found: Sequence[int] | None = None) -> list:
    """Entries for a legend of all classes and void (255), or of those that are `found`."""
    entries = [*enumerate(zip(class_set.palette, class_set.names, strict=True))]
    entries.append((IGNORE, ((0, 0, 0), "void")))
    return [swatch(*entry) for k, entry in entries if found is None or k in found]


# -------------------------------------------------------------------------------------- curves


@styled
def budget_curve(
    table: pd.DataFrame, axis: str | Sequence[str] = "clicks", score: str = "mIoU"
) -> Figure:
    """mIoU over what was asked, a connected point a stage, error bars one standard deviation.

    table: results.csv. axis: "clicks", "pixels" or "seconds" (of a person; where only bounds are
    known, a line runs from the least to the most), or two of them side by side. score: what the
    column `miou` holds, for titles. Methods that ask nothing, and those that are given everything,
    are horizontal lines at the mIoU of their last stage. The axis begins at the best method without
    target labels, or below it where one that asks is lower; the legend names all scores.
    """
    table = table.dropna(subset="miou")  # a class that occurs nowhere has no score
    names = (axis,) if isinstance(axis, str) else axis
    ends = {
        one: last_stage(table[table["method"] == one])["miou"].mean()
        for one in _in_order(table["method"])
    }
    width, step, right = (0.58, 0, 0.66) if len(names) == 1 else (0.265, 0.3, 0.65)
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI)  # a constrained layout takes twice the time
    for place, name in enumerate(names):
        axes = figure.add_axes((0.07 + step * place, 0.13, width, 0.78))
        handles = _draw_curves(axes, table, name, ends)
        axes.set_ylabel("" if place else f"{plain(score)} in %")
        axes.tick_params(labelleft=not place)  # the same scale in both
        alone = _finding(table, name, ends, score) if len(names) == 1 else ""
        axes.set_title(plain(alone or f"{score} against {name}"))
    # the best on top, as in the plot
    handles = [handles[method] for method in sorted(ends, key=ends.get, reverse=True)]
    place = {"loc": "center left", "bbox_to_anchor": (right, 0.5), "title": "last stage"}
    figure.legend(handles=handles, handlelength=3.2, labelspacing=0.6, **place)
    return figure


def _finding(table: pd.DataFrame, axis: str, ends: dict[str, float], score: str) -> str:
    """The best method that asks: its score, and what it asks for that; "" where none asks."""
    asking = [method for method in ends if family_of(method) not in ("none", "all")]
    if not asking:
        return ""
    best = max(asking, key=ends.get)
    asked = last_stage(table[table["method"] == best])[f"{axis}_per_image"].mean()
    title = f"{short_title(best)}: {ends[best]:.1f} {score} for {asked:,.0f} {axis} an image"
    title += f" (all labels: {ends['supervised']:.1f})" if "supervised" in ends else ""
    return textwrap.fill(title, 88)


def _draw_curves(
    axes: Axes, table: pd.DataFrame, axis: str, ends: dict[str, float]
) -> dict[str, Line2D]:
    """One axis of `budget_curve`; returns the entries of its legend."""
    handles, free, asked = {}, [], []
    for method, end in ends.items():
        rows, style = table[table["method"] == method], style_of(method)
        look = {"color": style.colour, "linestyle": style.line}
        if family_of(method) in ("none", "all"):
            look["linewidth"] = 1.9 if method == "supervised" else 1.4
            axes.axhline(end, zorder=1, **look)
            free += [end] if family_of(method) == "none" else []
        else:
            look |= markers(style) | {"markersize": 8, "linewidth": 1.8}
            stages, front = rows.groupby("stage"), 3 if style.filled else 4  # open ones hide less
            budget, scores = stages[f"{axis}_per_image"].mean(), stages["miou"]
            spread = scores.std() if rows["seed"].nunique() > 1 else None
            axes.errorbar(budget, scores.mean(), yerr=spread, capsize=3, zorder=front, **look)
            asked.append(scores.mean().min())
            if axis == "seconds":
                most = stages["most_seconds_per_image"].mean()
                axes.hlines(scores.mean(), budget, most, color=style.colour, lw=1, zorder=2)
        handles[method] = Line2D([], [], label=f"{short_title(method)}  {end:.1f}", **look)
    if free and asked:
        axes.set_ylim(bottom=min(max(free), *asked) - 1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{axis}{' of a person' * (axis == 'seconds')} an image (logarithmic)")
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    return handles


@styled
def class_heatmap(table: pd.DataFrame) -> Figure:
    """IoU in % of every class and method, mean over seeds at the last stage; first column mIoU.

    table: results.csv with its `iou_CLASS` columns. Beside the names: mIoU and, with several seeds,
    its standard deviation. A dash: the class occurs nowhere.
    """
    means = last_scores(table)
    spreads = last_stage(table).groupby("method")["miou"].std()
    names = [
        f"{short_title(method)}  {score_text(value, spreads[method])}"
        for method, value in means["miou"].items()
    ]
    height, left = 1.35 + 0.3 * len(means), 0.02 + 0.0078 * max(map(len, names))
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    axes = figure.add_axes((left, 0.95 / height, 0.93 - left, 0.3 * len(means) / height))
    scale = figure.add_axes((0.94, 0.95 / height, 0.015, 0.3 * len(means) / height))
    texts = means.map(lambda value: "–" if np.isnan(value) else f"{value:.0f}")
    sns.heatmap(
        means, vmin=0, vmax=100, cmap="cividis", annot=texts, fmt="", annot_kws={"fontsize": 10},
        ax=axes, cbar_ax=scale, cbar_kws={"ticks": [0, 50, 100]},
    )  # fmt: skip
    for text, value in zip(axes.texts, means.to_numpy().flat, strict=False):
        text.set_color("black" if np.isnan(value) else text.get_color())
    classes = ["mIoU", *means.columns[1:]]
    axes.set_xticks(axes.get_xticks(), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(axes.get_yticks(), names, rotation=0)
    axes.axvline(1, color="white", lw=4)
    axes.tick_params(length=0)
    axes.set(xlabel="", ylabel="", title="mIoU over these classes, and IoU by class, in %")
    return figure


def last_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the last stage: a row a method, columns `miou` and the classes' names."""
    classes = [name for name in table.columns if name.startswith("iou_")]
    means = last_stage(table).groupby("method")[["miou", *classes]].mean()
    means = means.reindex(_in_order(table["method"]))
    return means.dropna(how="all").rename(columns=lambda name: name.removeprefix("iou_"))


@styled
def seed_dots(rows: dict[str, tuple[Sequence[float], str]], title: str = "") -> Figure:
    """A row a name, in the given order: a circle a seed, a diamond at their mean with its value.

    rows: name -> (mIoU of every seed in percent, colour).
    """
    figure = figure_of(WIDTH, 0.9 + 0.28 * len(rows))
    axes = figure.subplots()
    for row, (scores, colour) in enumerate(rows.values()):
        mean = np.mean(scores)
        axes.plot(scores, [row] * len(scores), "o", color="#999999", mfc="none", ms=5)
        axes.plot(mean, row, "D", color=colour, ms=7)
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 10}
        axes.annotate(f"{mean:.1f}", (max(scores), row), (9, 0), **beside)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set(xlabel="mIoU in % (a circle a seed, a diamond their mean)", ylabel="")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    axes.grid(axis="both", **GRID)
    axes.set_axisbelow(True)
    return figure


@styled
def selector_curves(history: pd.DataFrame) -> Figure:
    """The pixel selector's training: how much of the batch its mask holds, and both losses.

    history: columns method, stage, step, mask_share, loss5, loss6. A row of panels a method.
    """
    history = history.assign(mask_share=100 * history["mask_share"])
    panels = {
        "mask_share": "mask, % of pixels",
        "loss5": "loss 5 (pseudo labels)",
        "loss6": "loss 6 (minus the discrepancy)",
    }
    methods = _in_order(history["method"])
    figure = figure_of(WIDTH, 2.2 * len(methods) + 0.7)
    axes = figure.subplots(len(methods), len(panels), squeeze=False)
    for method, places in zip(methods, axes, strict=True):
        stages = history[history["method"] == method].pivot(index="step", columns="stage")
        for (column, title), place in zip(panels.items(), places, strict=True):
            stages[column].plot(ax=place, color=_STAGE_COLOURS, lw=1.6, legend=False)
            place.set_title(title, fontsize=10.5, fontweight="normal")
            place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            place.grid(axis="y", **GRID)
            place.set_xlabel("step" if method == methods[-1] else "")
        places[0].set_ylim(bottom=0)
        places[0].set_ylabel(textwrap.fill(short_title(method), 14), fontweight="bold")
    names = [f"stage {stage}" for stage in sorted(history["stage"].unique())]
    figure.legend(axes[0, 0].lines, names, loc="outside upper center", ncols=len(names))
    return figure


@styled
def time_bars(table: pd.DataFrame) -> Figure:
    """Minutes of training and of selection, stage after stage, mean over seeds.

    table: results.csv, whose seconds are sums over the stages so far.
    """
    kinds = {"train_seconds": ("training", "#0072b2"), "select_seconds": ("selection", "#e69f00")}
    methods = _in_order(table["method"])
    minutes = table.groupby(["method", "stage"])[list(kinds)].mean() / 60
    steps = minutes.groupby("method").diff().fillna(minutes).unstack("stage")
    steps = steps.swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)
    figure = figure_of(WIDTH, 1.2 + 0.3 * len(methods))
    axes = figure.subplots()
    colours = [kinds[kind][1] for _, kind in steps.columns]
    steps = steps.loc[methods].rename(index=short_title)
    steps.plot.barh(
        stacked=True, width=0.8, color=colours, edgecolor="white", lw=0.7, ax=axes, legend=False
    )
    axes.invert_yaxis()
    axes.set(xlabel="minutes", ylabel="", title="Time by stage (the first holds the warm-up)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
    handles = [Patch(color=colour, label=name) for name, colour in kinds.values()]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


# -------------------------------------------------------------------------- figures of widgets


@styled
def note_figure(text: str) -> Figure:
    """Sentences where there is nothing to draw; lines end where they are too long."""
    text = "\n".join(textwrap.fill(plain(line), 112) for line in text.splitlines())
    figure = figure_of(WIDTH, 0.25 + 0.198 * (1 + text.count("\n")))
    figure.text(0.01, 0.5, text, va="center", fontsize=11)
    return figure


@styled
def stacked(rows: Sequence[Sequence[tuple[np.ndarray, str]]], title: str = "") -> Figure:
    """Rows of pictures below each other, each as wide as the figure, with captions above.

    rows: (H x W x 3 uint8, caption), side by side in equal widths.
    """
    figure = Figure(dpi=DPI)
    height, plan = 0.0, []  # inches from the top
    title_row = [[(None, title)]] if title else []
    for line in [*title_row, *rows]:
        width = WIDTH / len(line)
        captions = [textwrap.fill(plain(caption), round(10.4 * width)) for _, caption in line]
        head = max(0.08 + 0.19 * len(caption.splitlines()) for caption in captions)
        body = max(0 if p is None else width * p.shape[0] / p.shape[1] for p, _ in line)
        for place, ((picture, _), caption) in enumerate(zip(line, captions, strict=True)):
            plan.append((place * width, height, head, width, picture, caption))
        height += head + body
    figure.set_size_inches(WIDTH, height)
    for left, top, head, width, picture, caption in plan:
        x, y = left / WIDTH, 1 - (top + head) / height
        figure.text(x + 0.008, y + 0.03 / height, caption, va="bottom", weight="bold")
        if picture is not None:
            tall = width * picture.shape[0] / picture.shape[1] / height
            axes = figure.add_axes((x + 0.002, y - tall, width / WIDTH - 0.004, tall))
            show_picture(axes, picture)
    return figure
