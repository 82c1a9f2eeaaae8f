"""Figures: pure functions that return a `matplotlib.figure.Figure`; no pyplot state, no file.

A method has one colour, marker and line in every figure (`METHOD_STYLES`). The hue tells what it
was given (Okabe and Ito's colours, which colour-blind readers can tell apart): grey for no target
labels, blue for points, orange for pixels, black for all labels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

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
    return METHODS[method].title.split(" (")[0] if method in METHODS else plain(method)


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
    axes.set_title(plain(title))
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
            wrapped(plain(name), 16), rotation=0, ha="right", va="center", labelpad=6, fontsize=11
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
        place.set_title(plain(name), fontsize=11, loc="center", pad=4)
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure, axes


def wrapped(text: str, width: int) -> str:
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
    axes.set_ylabel(f"{plain(score)} in %")
    axes.set_title(f"{plain(score)} against {axis}")
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
        places[0].set_ylabel(wrapped(short_title(method), 14), fontweight="bold")
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


@styled
def note_figure(text: str) -> Figure:
    """A sentence where there is nothing to draw."""
    figure = figure_of(WIDTH, 0.8)
    figure.text(0.02, 0.5, wrapped(plain(text), 110), va="center")
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
    axes.set_title(plain(title))
    return figure


@styled
def stacked(figures: Sequence[Figure], title: str = "") -> Figure:
    """Figures below each other, as pictures."""
    pictures = [figure_picture(one) for one in figures]
    heights = [WIDTH * p.shape[0] / p.shape[1] for p in pictures]
    title = wrapped(plain(title), 90)
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
