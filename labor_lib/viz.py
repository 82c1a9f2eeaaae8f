"""Figures: pure functions that return a `matplotlib.figure.Figure`; no pyplot state, no file.

A method has one colour, marker and line in every figure (`METHOD_STYLES`). The hue tells what it
was given (Okabe and Ito's colours, which colour-blind readers can tell apart): grey for no target
labels, blue for points, orange for pixels, black for all labels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, wraps

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from labor_lib import problems
from labor_lib.annotation.cost import count_cost
from labor_lib.labels import IGNORE, ClassSet, colourise
from labor_lib.methods.registry import METHODS

DPI = 110
WIDTH = 9.4  # inches; about 1000 pixels
MASK_COLOUR = (86, 180, 233)  # sky blue, over a dimmed photo
ASKED_COLOUR = (240, 228, 66)  # yellow
ERROR_COLOUR = (204, 121, 167)  # magenta, striped: seen in grey, too
PICTURE_WIDTH = 896  # pixels of a painted picture
FAMILIES = {
    "none": "no target labels",
    "points": "points",
    "pixels": "pixels",
    "all": "all labels",
}
_CIVIDIS = matplotlib.colormaps["cividis"]
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


@dataclass(frozen=True)
class Style:
    """How a method is drawn. filled: whether its marker is."""

    colour: str
    marker: str = "o"
    line: str | tuple = "-"
    filled: bool = True


METHOD_STYLES = {
    "source_only": Style("#9a9a9a", "x", (0, (1, 2))),
    "adabn": Style("#8a8a8a", "+", (0, (4, 3))),
    "adaptsegnet": Style("#6e6e6e", "1", (0, (6, 2, 1, 2))),
    "iast": Style("#555555", "2", (0, (10, 3))),
    "random_points": Style("#56b4e9", "v", filled=False),
    "margin_points": Style("#2b8cc4", "^", filled=False),
    "ppl": Style("#0072b2", "o"),
    "random_pixels_0.5": Style("#e69f00", "<", "--", filled=False),
    "spl_sampled_0.5": Style("#b04a00", "p", "--", filled=False),
    "random_pixels": Style("#e69f00", "s"),
    "spl": Style("#d55e00", "P"),
    "spl_sampled": Style("#8c3b00", "D"),
    "supervised_target": Style("#000000", "h", (0, (1, 1))),
    "supervised": Style("#000000", "*"),
    "supervised_x2": Style("#000000", "d", (0, (5, 2))),
    "supervised_x4": Style("#000000", "X", (0, (8, 2, 1, 2))),
}
_UNKNOWN = Style("#cc79a7", "o", ":")
_STAGE_COLOURS = ("#56b4e9", "#e69f00", "#000000", "#009e73", "#cc79a7")


def style_of(method: str) -> Style:
    """The method's style; purple and dotted for one that is not in the registry."""
    return METHOD_STYLES.get(method, _UNKNOWN)


def family_of(method: str) -> str:
    """One of `FAMILIES`; an unknown method counts as one that asks pixels."""
    if method not in METHODS:
        return "pixels"
    known = METHODS[method]
    if known.labels == "asked":
        return "points" if known.budget == "points" else "pixels"
    return "all" if known.labels == "all" else "none"


def short_title(method: str) -> str:
    """The method's title without what is in brackets."""
    return METHODS[method].title.split(" (")[0] if method in METHODS else _plain(method)


def _plain(text: str) -> str:
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


def styled(function):
    """Draw with `_LOOK` and leave matplotlib's settings as they were."""

    @wraps(function)
    def inner(*args, **kwargs):
        with matplotlib.rc_context(_LOOK):
            return function(*args, **kwargs)

    return inner


def figure_of(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def use_look() -> None:
    """For figures that a notebook draws itself: the fonts and frames of those made here."""
    matplotlib.rcParams.update(_LOOK)


def _in_order(methods) -> list[str]:
    """Unique names, in the registry's order, unknown ones last."""
    order = list(METHODS)
    return sorted(
        dict.fromkeys(methods), key=lambda m: order.index(m) if m in METHODS else len(order)
    )


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
    grey = image.astype(float).mean(axis=2, keepdims=True)
    shown = np.repeat(0.55 * grey + 25, 3, axis=2)
    if mask is not None:
        shown[mask] = 0.35 * shown[mask] + 0.65 * np.array(MASK_COLOUR)
    if asked is not None:
        shown[asked] = ASKED_COLOUR
    return shown.round().astype(np.uint8)


@dataclass
class Asked:
    """What one stage asked of one image, for `draw_selection` and `selection_grid`.

    image: H x W x 3 uint8. positions: flat (row * W + column). answers: as many class ids, 255 for
    void. mask: H x W booleans, where the selector's two classifiers disagree, or None.
    points: draw a marker in the class's colour for each position; otherwise paint pixels yellow.
    """

    image: np.ndarray
    positions: np.ndarray
    answers: np.ndarray
    mask: np.ndarray | None = None
    points: bool = False


def _draw_asked(axes: Axes, asked: Asked, class_set: ClassSet, area: float) -> None:
    height, width = asked.image.shape[:2]
    painted = None
    if not asked.points:
        painted = np.zeros(height * width, bool)
        painted[asked.positions] = True
        painted = painted.reshape(height, width)
    _show(axes, mask_overlay(asked.image, asked.mask, painted))
    if asked.points and len(asked.positions):
        rows, columns = np.divmod(np.asarray(asked.positions), width)
        colours = colourise(np.asarray(asked.answers, np.uint8), class_set) / 255
        # a white ring outside the dark one: the markers show on light and dark ground
        axes.scatter(columns, rows, s=2.1 * area, color="white", linewidths=0)
        axes.scatter(columns, rows, s=area, c=colours, edgecolors="black", linewidths=1.2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


@styled
def draw_selection(asked: Asked, class_set: ClassSet, title: str = "") -> Figure:
    """One image with what was asked of it, `WIDTH` / 2 inches wide."""
    height, width = asked.image.shape[:2]
    figure = figure_of(WIDTH / 2, WIDTH / 2 * height / width + (0.35 if title else 0))
    axes = figure.subplots()
    _draw_asked(axes, asked, class_set, area=45)
    axes.set_title(_plain(title))
    return figure


@styled
def selection_grid(
    rows: Sequence[Sequence[Asked | None]],
    class_set: ClassSet,
    columns: Sequence[str],
    title: str = "",
) -> Figure:
    """Images down, stages across; None leaves a gap. columns: a title for each stage."""
    figure, axes = _picture_axes(rows, columns, lambda asked: asked.image.shape[:2], title=title)
    for line, places in zip(rows, axes, strict=True):
        for asked, place in zip(line, places, strict=True):
            if asked is not None:
                _draw_asked(place, asked, class_set, area=40)
    return figure


@styled
def image_grid(
    rows: dict[str, Sequence[np.ndarray]], columns: Sequence[str] = (), title: str = ""
) -> Figure:
    """Pictures in rows with names at the left.

    rows: name -> one H x W x 3 uint8 picture per column, all of one size.
    """
    pictures = list(rows.values())
    columns = columns or [""] * len(pictures[0])
    figure, axes = _picture_axes(
        pictures, columns, lambda picture: picture.shape[:2], names=1.6, title=title
    )
    for name, line, places in zip(rows, pictures, axes, strict=True):
        places[0].set_ylabel(
            _wrapped(_plain(name), 16), rotation=0, ha="right", va="center", labelpad=6, fontsize=11
        )
        for picture, place in zip(line, places, strict=True):
            _show(place, picture)
    return figure


def _show(axes: Axes, picture: np.ndarray) -> None:
    """Small pictures with sharp pixels, those larger than their place smoothed."""
    axes.imshow(picture, interpolation="nearest" if picture.shape[1] <= 400 else "antialiased")


def _picture_axes(
    rows, columns, size_of, names: float = 0.0, title: str = ""
) -> tuple[Figure, np.ndarray]:
    """Bare axes for pictures, rows x columns; `names`: inches kept free at the left."""
    height, width = size_of(next(item for line in rows for item in line if item is not None))
    cell = (WIDTH - names) / max(len(columns), 2)
    titled = (0.3 if any(columns) else 0) + (0.3 if title else 0)
    tall = len(rows) * (cell * height / width + 0.06) + titled
    figure = figure_of(names + cell * len(columns), tall)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(_plain(name), fontsize=11, loc="center", pad=4)
    if title:
        figure.suptitle(_plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure, axes


def _wrapped(text: str, width: int) -> str:
    """Line breaks at spaces, lines of about `width` characters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


@styled
def class_legend(class_set: ClassSet, columns: int = 7) -> Figure:
    """The classes and their colours, with void in black."""
    entries = [*zip(class_set.names, class_set.palette / 255, strict=True), ("void", (0, 0, 0))]
    lines = -(-len(entries) // columns)
    figure = figure_of(WIDTH, 0.12 + 0.26 * lines)
    handles = [Patch(facecolor=c, edgecolor="#555555", linewidth=0.6) for _, c in entries]
    # a legend fills column by column; readers go line by line
    order = [i for c in range(columns) for i in range(c, len(entries), columns)]
    figure.legend(
        [handles[i] for i in order],
        [entries[i][0] for i in order],
        ncols=columns,
        loc="center",
        handlelength=1.2,
        columnspacing=1.2,
    )
    return figure


# -------------------------------------------------------------------------------------- curves


@styled
def budget_curve(
    table: pd.DataFrame, axis: str = "clicks", score: str = "mIoU", quick: bool = False
) -> Figure:
    """mIoU over what was asked, a connected point a stage, error bars one standard deviation.

    table: results.csv. axis: "clicks" or "pixels". score: what the column `miou` holds, for titles.
    quick: a layout that is not measured, drawn in half the time. Methods that ask nothing, and
    those that are given everything, are horizontal lines at the mIoU of their last stage.
    """
    figure = figure_of(WIDTH, 4.2 if quick else 5.0)
    if quick:
        figure.set_layout_engine("none")
    axes = figure.add_axes((0.07, 0.13, 0.6, 0.78)) if quick else figure.subplots()
    handles = []
    for method in _in_order(table["method"]):
        rows, style = table[table["method"] == method], style_of(method)
        name = short_title(method)
        if family_of(method) in ("none", "all"):
            last = rows[rows["stage"] == rows["stage"].max()]["miou"].mean()
            width = 1.9 if method == "supervised" else 1.4
            axes.axhline(last, color=style.colour, linestyle=style.line, lw=width, zorder=1)
            handles.append(Line2D([], [], color=style.colour, ls=style.line, lw=width, label=name))
            continue
        stages = rows.groupby("stage")
        x, y = stages[f"{axis}_per_image"].mean(), stages["miou"].mean()
        sd = stages["miou"].std()
        look = {
            "color": style.colour,
            "marker": style.marker,
            "linestyle": style.line,
            "markerfacecolor": style.colour if style.filled else "white",
            "markersize": 8,
            "linewidth": 1.8,
        }
        spread = sd if sd.notna().any() else None  # one seed has none
        axes.errorbar(x, y, yerr=spread, capsize=3, zorder=3, **look)
        handles.append(Line2D([], [], label=name, **look))
    _log_axis(axes)
    axes.set_xlabel(f"{axis} an image (logarithmic)")
    axes.set_ylabel(f"{_plain(score)} in %")
    axes.set_title(f"{_plain(score)} against {axis}")
    axes.grid(axis="y", color="#e4e4e4", lw=0.8)
    axes.set_axisbelow(True)
    # full supervision on top, as in the plot
    place = {"loc": "outside right center"}
    if quick:
        place = {"loc": "center left", "bbox_to_anchor": (0.69, 0.5)}
    figure.legend(handles=handles[::-1], handlelength=3.2, labelspacing=0.6, **place)
    return figure


def _log_axis(axes: Axes) -> None:
    """Logarithmic, with ticks written as plain numbers at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@styled
def class_heatmap(table: pd.DataFrame) -> Figure:
    """IoU in % of every class and method, mean over seeds at the last stage; first column mIoU.

    table: results.csv with its `iou_CLASS` columns. A dash: the class occurs nowhere.
    """
    means = last_scores(table)
    methods, values = list(means.index), means.to_numpy(float)  # methods x (1 + classes)
    figure = figure_of(WIDTH, 1.35 + 0.3 * len(methods))
    axes = figure.subplots()
    shown = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            "–" if np.isnan(value) else f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=10,
            color=heat_colours(value)[1],
            fontweight="bold" if column == 0 else "normal",
        )
    names = ["mIoU", *means.columns[1:]]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(methods)), [short_title(m) for m in methods])
    axes.axvline(0.5, color="white", lw=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("IoU by class, in %")
    figure.colorbar(shown, ax=axes, pad=0.01, fraction=0.03, ticks=[0, 50, 100])
    return figure


def last_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at the last stage: a row a method, columns `miou` and the classes' names."""
    classes = [name for name in table.columns if name.startswith("iou_")]
    last = table[table["stage"] == table["stage"].max()]
    means = last.groupby("method")[["miou", *classes]].mean().reindex(_in_order(table["method"]))
    return means.dropna(how="all").rename(columns=lambda name: name.removeprefix("iou_"))


def heat_colours(value: float) -> tuple[str, str]:
    """Background and text colour of a cell of the heat map; value in percent."""
    if np.isnan(value):
        return "#ffffff", "black"
    red, green, blue, _ = _CIVIDIS(value / 100)
    light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18  # luminance
    return to_hex((red, green, blue)), "black" if light else "white"


@styled
def selector_trace(trace: pd.DataFrame) -> Figure:
    """The pixel selector's training: how much of the batch its mask holds, and both losses.

    trace: columns method, stage, step, mask_share, loss5, loss6. A row of panels a method.
    """
    panels = {
        "mask_share": "mask, % of pixels",
        "loss5": "loss 5 (pseudo labels)",
        "loss6": "loss 6 (agreement)",
    }
    methods = _in_order(trace["method"])
    figure = figure_of(WIDTH, 2.2 * len(methods) + 0.7)
    axes = figure.subplots(len(methods), len(panels), squeeze=False, sharex="row")
    for method, places in zip(methods, axes, strict=True):
        for (column, title), place in zip(panels.items(), places, strict=True):
            for stage, rows in trace[trace["method"] == method].groupby("stage"):
                factor = 100 if column == "mask_share" else 1
                colour = _STAGE_COLOURS[(stage - 1) % len(_STAGE_COLOURS)]
                place.plot(
                    rows["step"],
                    factor * rows[column],
                    color=colour,
                    lw=1.6,
                    label=f"stage {stage}",
                )
            place.set_title(title, fontsize=10.5, fontweight="normal")
            place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            place.grid(axis="y", color="#e4e4e4", lw=0.8)
        places[0].set_ylim(bottom=0)
        places[0].set_ylabel(_wrapped(short_title(method), 14), fontweight="bold")
    for place in axes[-1]:
        place.set_xlabel("step")
    found = {}  # one entry a stage, though it is in every panel
    for place in axes.flat:
        for handle in place.get_lines():
            found.setdefault(handle.get_label(), handle)
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=len(found))
    return figure


@styled
def time_bars(table: pd.DataFrame) -> Figure:
    """Minutes of training and of selection, stage after stage, mean over seeds.

    table: results.csv, whose seconds are sums over the stages so far.
    """
    methods = _in_order(table["method"])
    figure = figure_of(WIDTH, 1.2 + 0.3 * len(methods))
    axes = figure.subplots()
    colours = {"train_seconds": "#0072b2", "select_seconds": "#e69f00"}
    names = {"train_seconds": "training", "select_seconds": "selection"}
    minutes = table.groupby(["method", "stage"])[list(colours)].mean() / 60
    for row, method in enumerate(methods):
        left = 0.0
        steps = minutes.loc[method].diff().fillna(minutes.loc[method])  # stages x 2
        for _, stage in steps.iterrows():
            for column, colour in colours.items():
                axes.barh(
                    row, stage[column], left=left, color=colour, edgecolor="white", linewidth=0.7
                )
                left += stage[column]
    axes.set_yticks(range(len(methods)), [short_title(m) for m in methods])
    axes.invert_yaxis()
    axes.set_xlabel("minutes")
    axes.set_title("Time by stage (the first holds the warm-up)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e4e4", lw=0.8)
    axes.set_axisbelow(True)
    handles = [Patch(color=colours[column], label=names[column]) for column in colours]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


# ------------------------------------------------------------- pictures that widgets show, too


@dataclass(frozen=True)
class Window:
    """The part of a picture that is shown, the same part of its width and of its height.

    left, top: fractions of the whole. zoom: 1 shows everything, 2 a half of each side, up to
    `CLOSEST`.
    """

    left: float = 0.0
    top: float = 0.0
    zoom: int = 1

    CLOSEST = 16

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels of an image of this size."""
        side = 1 / self.zoom
        return (
            self.left * width,
            self.top * height,
            (self.left + side) * width,
            (self.top + side) * height,
        )

    def around(self, x: float, y: float, zoom: int) -> "Window":
        """A window round a point of this one (fractions of what is shown), inside the picture."""
        zoom = min(max(zoom, 1), self.CLOSEST)
        side, centre = 1 / zoom, (self.left + x / self.zoom, self.top + y / self.zoom)
        left, top = (min(max(c - side / 2, 0.0), 1 - side) for c in centre)
        return Window(left, top, zoom)

    def after(self, kind: str, x: float = 0.5, y: float = 0.5) -> "Window":
        """The window after an event of a `Picture`: a click zooms in there, keys zoom and pan."""
        pans = {"left": (0.25, 0.5), "right": (0.75, 0.5), "up": (0.5, 0.25), "down": (0.5, 0.75)}
        if kind in pans:
            return self.around(*pans[kind], self.zoom)
        if kind in ("click", "in"):
            return self.around(x, y, 2 * self.zoom)
        if kind == "out":
            return self.around(0.5, 0.5, self.zoom // 2)
        return Window()


def paint(
    base: np.ndarray,
    *,
    dim: bool = False,
    inside: np.ndarray | None = None,
    field: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    errors: np.ndarray | None = None,
    asked: np.ndarray | None = None,
    points: Sequence[tuple[int, Sequence[int]]] = (),
    rings: Sequence[int] = (),
    window: Window | None = None,
    width: int = PICTURE_WIDTH,
) -> np.ndarray:
    """An enlarged picture with layers, h x `width` x 3 uint8; every pixel a sharp square.

    base: H x W x 3 uint8. dim: grey and darker, so that layers stand out. inside: H x W booleans;
    what is not inside fades and shows no layer but points. field: H x W in [0, 1], NaN = nothing,
    in the colours of cividis. mask (blue), errors (magenta stripes), asked (yellow): H x W
    booleans. points: (flat position, RGB), drawn as ringed dots. rings: flat positions, drawn as
    rings that leave the pixel free. window: the part to show.
    """
    rows, columns = base.shape[:2]
    box = (window or Window()).box(rows, columns)
    shown = base.astype(float)
    grey = np.repeat(shown.mean(axis=2, keepdims=True), 3, axis=2)
    if dim:
        shown = 0.55 * grey + 25
    allowed = np.ones((rows, columns), bool) if inside is None else inside
    if field is not None:
        there = np.isfinite(field)
        colours = _CIVIDIS(np.nan_to_num(field))[..., :3] * 255
        shown[there] = 0.15 * grey[there] + 0.85 * colours[there]
    if mask is not None:
        shown[mask] = 0.35 * shown[mask] + 0.65 * np.array(MASK_COLOUR)
    shown[~allowed] = 0.25 * grey[~allowed] + 20
    height = max(1, round(width * rows / columns))
    picture = _enlarged(shown.round().astype(np.uint8), box, (width, height))
    if errors is not None:
        there = _enlarged((allowed & errors).astype(np.uint8), box, (width, height)) > 0
        stripes = np.add.outer(np.arange(height), np.arange(width)) % 8 < 4
        picture[there & stripes] = ERROR_COLOUR
    if asked is not None:
        there = _enlarged((allowed & asked).astype(np.uint8), box, (width, height)) > 0
        picture[binary_dilation(there)] = (0, 0, 0)  # an outline: seen on yellow entropy, too
        picture[there] = ASKED_COLOUR
    return _with_markers(picture, points, rings, columns, box)


def _enlarged(array: np.ndarray, box, size: tuple[int, int]) -> np.ndarray:
    """A part of an array at another size, (width, height), without mixing pixels."""
    return np.array(Image.fromarray(array).resize(size, Image.Resampling.NEAREST, box=box))


def _with_markers(picture: np.ndarray, points, rings, columns: int, box) -> np.ndarray:
    """Dots and rings, dark and white so that they show on any ground, at flat positions."""
    left, top, right, _ = box
    scale = picture.shape[1] / (right - left)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)

    def circle(position: int, radius: float, **look) -> None:
        row, column = divmod(int(position), columns)
        x, y = (column + 0.5 - left) * scale, (row + 0.5 - top) * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), **look)

    for position, colour in points:
        circle(position, 9, fill=(255, 255, 255))
        circle(position, 7, fill=(0, 0, 0))
        circle(position, 5.5, fill=tuple(int(c) for c in colour))
    for position in rings:
        radius = max(12, 0.9 * scale)
        circle(position, radius + 2, outline=(0, 0, 0), width=7)
        circle(position, radius, outline=(255, 255, 255), width=3)
    return np.array(image)


def picture_png(picture: np.ndarray) -> bytes:
    """H x W x 3 uint8 as PNG, written quickly."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


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
    window: Window = Window()


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
    axes.set_title(_plain(f"{title}\n{sentence}" if title else sentence))
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


@styled
def note_figure(text: str) -> Figure:
    """A sentence where there is nothing to draw."""
    figure = figure_of(WIDTH, 0.8)
    figure.text(0.02, 0.5, _wrapped(_plain(text), 110), va="center")
    return figure


@styled
def png_figure(png: bytes, title: str = "") -> Figure:
    """A PNG as a figure."""
    if not png:
        return note_figure(title or "nothing to show")
    picture = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    figure = figure_of(WIDTH, WIDTH * picture.shape[0] / picture.shape[1] + 0.35)
    axes = figure.subplots()
    axes.imshow(picture, interpolation="antialiased")
    axes.set_axis_off()
    axes.set_title(_plain(title))
    return figure


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
        place.set_title(_wrapped(_plain(name), 46), fontsize=11)
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
    sentence = _wrapped(_plain(prototype_sentence(view, prototype, class_set)), 88)
    figure.suptitle(
        f"{_plain(title)}\n{sentence}" if title else sentence,
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
    sentence = _wrapped(disagreement_sentence(one, index), 95)
    figure.suptitle(
        _plain(f"{title}\n{sentence}" if title else sentence),
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


@styled
def stacked(figures: Sequence[Figure], title: str = "") -> Figure:
    """Figures below each other, as pictures."""
    pictures = [figure_picture(one) for one in figures]
    heights = [WIDTH * p.shape[0] / p.shape[1] for p in pictures]
    title = _wrapped(_plain(title), 90)
    head = 0.15 + 0.22 * len(title.splitlines()) if title else 0
    figure = Figure(figsize=(WIDTH, sum(heights) + head), dpi=DPI)
    if title:
        figure.text(0.01, 1 - 0.5 * head / (sum(heights) + head), title, va="center", weight="bold")
    top = sum(heights)
    for picture, height in zip(pictures, heights, strict=True):
        top -= height
        axes = figure.add_axes((0, top / (sum(heights) + head), 1, height / (sum(heights) + head)))
        axes.imshow(picture, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()
    return figure


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
                _wrapped(problem.name, 17),
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
        [_wrapped(name, 17) for name in problems.COLUMN_NAMES],
    )
    axes.set_yticks(
        np.arange(len(rows)) + 0.47, [_wrapped(name, 14) for name in problems.ROW_NAMES]
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    problem = problems.problem_of(domain, task, labels, images)
    name = problem.name[0].upper() + problem.name[1:]
    figure.suptitle(name, x=0.01, ha="left", fontsize=13, fontweight="bold")
    text = "\n".join(_wrapped(t, 115) for t in (problem.meaning, f"Example: {problem.example}"))
    axes.set_xlabel(text, fontsize=10, loc="left")
    return figure
