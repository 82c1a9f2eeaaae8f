"""What a run found: a table for the terminal, report.html, and the table in README.md.

All numbers come from results.csv. report.html is one file: its pictures are inside it, it loads
nothing and runs nothing.
"""

import base64
import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from labor_lib.config import PRESETS, Config
from labor_lib.data.segmentation import SegmentationFolder, joint_transform
from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.experiment import Domains
from labor_lib.lab.runs import last_folder, open_domains, photo, read_record, read_table
from labor_lib.labels import CLASS_SETS, ClassSet, colourise
from labor_lib.methods.registry import MAIN, METHODS
from labor_lib.nets import deeplab
from labor_lib.runtime import load_weights, make_fabric, write_text, writing
from labor_lib.selection.record import Masks, Selection
from labor_lib.train import predict

SHOWN_IMAGES = 3
SHOWN_PREDICTIONS = ("source_only", "adaptsegnet", "ppl", "spl", "spl_sampled", "supervised")
SCORES = {"miou": "mIoU", "miou_16": "mIoU, 16 classes", "miou_13": "mIoU, 13 classes"}


# -------------------------------------------------------------------------------- the numbers


@dataclass(frozen=True)
class Line:
    """One method at its last stage. A pair is (mean, standard deviation over seeds); the latter is
    NaN with one seed. Scores in percent; pixels, clicks an image; seconds of all stages."""

    method: str
    title: str
    seeds: int
    scores: dict[str, tuple[float, float]]  # by name of `SCORES`
    difference: tuple[float, float] | None  # to `supervised`, paired by seed
    budget: str
    pixels: float
    share: float | None  # pixels as a part of the image, where its size is known
    clicks: float
    seconds: float


def summarise(table: pd.DataFrame, native_pixels: float | None = None) -> list[Line]:
    """The methods that have reached the last stage of `table` (results.csv), in its order.

    native_pixels: of an image file, for tables without full supervision, which pays for them all.
    """
    last = table[table["stage"] == table["stage"].max()]
    paid = last[last["method"].map(viz.family_of) == "all"]["pixels_per_image"]
    if len(paid):
        native_pixels = paid.mean()
    full = last[last["method"] == "supervised"].set_index("seed")["miou"]
    lines = []
    for method, rows in last.groupby("method", sort=False):
        paired = (rows.set_index("seed")["miou"] - full).dropna()
        pixels = rows["pixels_per_image"].mean()
        lines.append(
            Line(
                method=str(method),
                title=METHODS[method].title if method in METHODS else str(method),
                seeds=len(rows),
                scores={name: _pair(rows[name]) for name in SCORES if name in rows},
                difference=_pair(paired) if len(paired) and method != "supervised" else None,
                budget=str(rows["budget"].iloc[0]),
                pixels=pixels,
                share=pixels / native_pixels if native_pixels else None,
                clicks=rows["clicks_per_image"].mean(),
                seconds=(rows["train_seconds"] + rows["select_seconds"]).mean(),
            )
        )
    return lines


def _pair(values: pd.Series) -> tuple[float, float]:
    return values.mean(), values.std(ddof=1)


def _score(pair: tuple[float, float], sign: str = "") -> str:
    """ "67.9 ± 0.4", or without the spread where there is one seed."""
    mean, spread = pair
    text = f"{mean:{sign}.1f}".replace("-", "−")
    return text if np.isnan(spread) else f"{text} ± {spread:.1f}"


def _count(value: float) -> str:
    return "0" if value == 0 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _share(share: float | None) -> str:
    """ "2.2 %", or nothing where it is unknown or zero."""
    if not share:
        return ""
    percent = 100 * share
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def _pixels(line: Line) -> str:
    share = _share(line.share)
    return f"{_count(line.pixels)} ({share})" if share else _count(line.pixels)


def _clicks(line: Line) -> str:
    """Exact for points; for regions at least so many; of full supervision unknown."""
    family = viz.family_of(line.method)
    if family == "all":
        return "–"
    return f"≥ {_count(line.clicks)}" if family == "pixels" else _count(line.clicks)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def seed_text(seeds) -> str:
    """[0, 1, 2, 5] -> "0-2,5", as the command line takes it."""
    runs: list[list[int]] = []
    for seed in sorted({int(seed) for seed in seeds}):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def print_table(table: pd.DataFrame) -> None:
    """The last stage of every method, aligned, to the terminal."""
    if table.empty:
        print("no finished stage")
        return
    lines = summarise(table)
    scores = list(lines[0].scores)
    heads = ["method", *(SCORES[s] for s in scores), "seeds", "pixels", "clicks", "time"]
    cells = [
        [
            line.title,
            *(_score(line.scores[name]) for name in scores),
            str(line.seeds),
            _pixels(line),
            _clicks(line),
            _time(line.seconds),
        ]
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in [heads, *cells]:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))
    print(
        "mIoU in %, mean ± standard deviation over seeds; pixels and clicks an image; "
        "time: training and selection"
    )


# -------------------------------------------------------------------------------- report.html


def write_report(out: Path, domains: Domains | None = None) -> Path:
    """Write `out/report.html` from the run folder `out`; returns its path.

    domains: of the first seed, where they are open already; otherwise they are opened from the
    folders that config.json names. Without its images the report lacks the pictures alone.
    Raises InputError where results.csv or config.json is missing or damaged.
    """
    out = Path(out)
    table, record = read_table(out), read_record(out)
    lines = summarise(table, _native_pixels(record))
    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(template).render(
        preset=record["settings"].get("preset", "?"),
        statement=_statement(table, record),
        tiles=_tiles(lines),
        scores={name: SCORES[name] for name in lines[0].scores},
        groups=_groups(lines),
        unfinished=_unfinished(table, lines),
        one_seed=all(line.seeds == 1 for line in lines),
        figures=_figures(table),
        pictures=_pictures(out, table, record, domains),
        score=_score,
        pixels=_pixels,
        clicks=_clicks,
        time=_time,
        style=viz.style_of,
    )
    write_text(out / "report.html", page)
    return out / "report.html"


@dataclass(frozen=True)
class Shown:
    """A figure of the report, or why it is missing."""

    title: str
    caption: str = ""
    source: str = ""  # data: URL
    alt: str = ""
    missing: str = ""
    heading: bool = True  # False: for screen readers alone


def _shown(title: str, caption: str, figure, alt: str) -> Shown:
    code = base64.b64encode(viz.to_png(figure)).decode("ascii")
    return Shown(title, caption, f"data:image/png;base64,{code}", alt)


def _native_pixels(record: dict) -> float | None:
    """Pixels of an image file where the target is drawn, else unknown."""
    data = record["settings"].get("data", {})
    if record.get("target_root") is None and data.get("embedded"):
        height, width = data["drawn_size"]
        return height * width
    return None


def _statement(table: pd.DataFrame, record: dict) -> str:
    """One sentence: what was run, on what, with what."""
    settings = record["settings"]
    data = settings.get("data", {})

    def domain(name: str, images: str) -> str:
        height, width = data.get(f"{name}_size", ("?", "?"))
        drawn = data.get("embedded") and record.get(f"{name}_root") is None
        what = f"{data.get(images)} drawn images" if drawn else data.get(f"{name}_layout")
        return f"{name}: {what} at {height} × {width} pixels"

    parts = [
        f"{table['method'].nunique()} methods, seeds {seed_text(table['seed'])}, "
        f"{table['stage'].max()} stages",
        domain("source", "drawn_source"),
        domain("target", "drawn_train"),
        f"classes: {data.get('class_set')}",
        f"scored on: {record.get('scored_on') or settings.get('evaluate_on')}",
        f"device {record.get('device')}, precision {record.get('precision')}",
        ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
    ]
    return f"{'; '.join(parts)}."


def _groups(lines: list[Line]) -> dict[str, list[Line]]:
    """Lines by what the methods were given."""
    groups = {
        name: [line for line in lines if viz.family_of(line.method) == family]
        for family, name in viz.FAMILIES.items()
    }
    return {name: members for name, members in groups.items() if members}


def _tiles(lines: list[Line]) -> list[dict]:
    """The message: of every family the highest mIoU, of full supervision the reference itself."""
    tiles = []
    for name, members in _groups(lines).items():
        best = max(members, key=lambda line: line.scores["miou"][0])
        best = next((line for line in members if line.method == "supervised"), best)
        asked = ""
        if best.pixels:
            share = f" ({_share(best.share)})" if best.share else ""
            clicks = "" if viz.family_of(best.method) == "all" else f", {_clicks(best)} clicks"
            asked = f"{_count(best.pixels)} pixels{share}{clicks} an image"
        tiles.append({"family": name, "line": best, "asked": asked})
    return tiles


def _unfinished(table: pd.DataFrame, lines: list[Line]) -> list[str]:
    done = {line.method for line in lines}
    return [name for name in table["method"].unique() if name not in done]


def _figures(table: pd.DataFrame) -> list[Shown]:
    """What needs results.csv alone."""
    shown = []
    asks = table["method"].map(viz.family_of).isin(["points", "pixels"]).any()
    for axis in ("clicks", "pixels") if asks else ():
        shown.append(
            _shown(
                f"mIoU against {axis}",
                "One point a stage, joined; bars are one standard deviation over seeds. Grey lines "
                "saw no target label; black lines saw all of them.",
                viz.budget_curve(table, axis),
                f"mIoU of every method over the {axis} it asked an image, logarithmic; the numbers "
                "of the last stage are in the table above.",
            )
        )
    shown.append(
        _shown(
            "IoU by class",
            "Last stage, mean over seeds. A dash: the class occurs nowhere in the split.",
            viz.class_heatmap(table),
            "Heat map of methods by classes; its numbers are written in the cells.",
        )
    )
    shown.append(
        _shown(
            "Time by stage",
            "Mean over seeds. White gaps part the stages; the first holds the warm-up that "
            "methods share. A person's time for labelling is not in it.",
            viz.time_bars(table),
            "Bars of minutes of training and of selection, stage after stage, by method.",
        )
    )
    return [replace(one, heading=False) for one in shown]  # these figures have titles


# ------------------------------------------------------------------------------- the pictures


def _pictures(out: Path, table: pd.DataFrame, record: dict, domains: Domains | None) -> list[Shown]:
    """What needs images, checkpoints and selections; a sentence in place of what is gone."""
    seed = int(table["seed"].min())
    shown = _if_there("The selector's training", lambda: _traces(out, table, seed))
    try:
        if domains is None:
            domains = open_domains(record, seed)
        config = domains.config
    except (InputError, OSError) as error:
        missing = f"Not shown, because the images cannot be read: {error}"
        return [Shown("Predictions and selections", missing=missing), *shown]
    predictions = _if_there(
        "Predictions beside the truth",
        lambda: _predictions(out, table, config, domains.evaluation, seed),
    )
    asked = []
    for method in ("spl", "ppl"):
        if method in set(table["method"]):
            asked += _if_there(
                f"What is asked: {viz.short_title(method)}",
                lambda method=method: _asked(out, method, domains.target, seed),
            )
    if predictions or asked:
        predictions.append(_legend(domains.evaluation.class_set))
    return predictions + asked + shown


def _if_there(title: str, make: Callable[[], Iterator[Shown]]) -> list[Shown]:
    try:
        return list(make())
    except (InputError, OSError) as error:
        return [Shown(title, missing=f"Not shown: {error}")]


def _spread(images: int) -> list[int]:
    """The numbers of a few images, from first to last."""
    return sorted({int(i) for i in np.linspace(0, images - 1, SHOWN_IMAGES)})


def _bare_segmenter(config: Config) -> torch.nn.Module:
    """To be filled from a checkpoint: random weights, nothing is downloaded."""
    return deeplab.build(config.train.network, len(CLASS_SETS[config.data.class_set]))


def _predictions(
    out: Path, table: pd.DataFrame, config: Config, folder: SegmentationFolder, seed: int
) -> Iterator[Shown]:
    """The last stage of a few methods on a few images of the evaluation split."""
    ran = set(table[table["seed"] == seed]["method"])
    methods = [name for name in SHOWN_PREDICTIONS if name in ran]
    yield _shown(
        "Predictions beside the truth",
        f"Evaluation images, seed {seed}, last stage. Black in the truth: void, not scored.",
        predictions_figure(out, methods, config, folder, seed),
        f"Rows: image, truth, {', '.join(methods)}. Columns: {SHOWN_IMAGES} evaluation images.",
    )


def predictions_figure(
    out: Path, methods: list[str], config: Config, folder: SegmentationFolder, seed: int
) -> Figure:
    """A few images of `folder`, their truth, and what each method's last stage predicts.

    Raises InputError where a method has no finished stage of this seed.
    """
    fabric = make_fabric("cpu", "32-true")
    numbers = _spread(len(folder))
    size, classes = config.data.target_size, folder.class_set
    rows = {
        "image": [photo(folder, i) for i in numbers],
        "truth": [colourise(folder.label(i).numpy(), classes) for i in numbers],
    }
    transform = joint_transform(False, config.data.mean, config.data.std)
    net = _bare_segmenter(config).eval()
    for method in methods:
        load_weights(net, last_folder(out, seed, method) / "segmenter.safetensors")
        rows[viz.short_title(method)] = [
            colourise(_classes(fabric, net, transform(folder.image(i), None)[0], size), classes)
            for i in numbers
        ]
    return viz.image_grid(rows)


def _classes(fabric, net, image, size) -> np.ndarray:
    """Predicted class ids of one normalised 3 x H x W image: H x W, uint8."""
    return predict(fabric, net, image[None], size)[0].argmax(dim=0).to(torch.uint8).numpy()


def _legend(class_set: ClassSet) -> Shown:
    return _shown(
        "Colours of the classes",
        "",
        viz.class_legend(class_set),
        "Colours of " + ", ".join(class_set.names) + "; void is black.",
    )


def _asked(out: Path, method: str, folder: SegmentationFolder, seed: int) -> Iterator[Shown]:
    points = METHODS[method].budget == "points"
    what = "dots: the points asked, in their class's colour" if points else "yellow: pixels asked"
    yield _shown(
        f"What is asked: {viz.short_title(method)}",
        f"Training images of the target, seed {seed}. Blue: pixels on which the selector's two "
        f"classifiers disagree; {what}.",
        asked_figure(out, method, folder, seed),
        f"Rows: {SHOWN_IMAGES} training images. Columns: the stages. The selector's inconsistency "
        "mask and what was asked.",
    )


def asked_figure(out: Path, method: str, folder: SegmentationFolder, seed: int) -> Figure:
    """Where a method's selector disagrees with itself, and what was asked there, by stage.

    Raises InputError where a stage's files are missing, damaged or of other images than `folder`'s.
    """
    numbers = _spread(len(folder))
    points = METHODS[method].budget == "points"
    last = int(last_folder(out, seed, method).name.removeprefix("stage"))
    columns = []  # a stage each
    for stage in range(1, last + 1):
        place = out / f"seed{seed}" / method / f"stage{stage}"
        selection = Selection.load(place / "selection.npz")
        if len(selection) != len(folder):
            raise InputError(
                f"{place / 'selection.npz'}: of {len(selection)} images, but the split has "
                f"{len(folder)}; the images are others than the run's"
            )
        masks = Masks.load(place / "masks.npz")
        columns.append(
            [
                viz.Scene(
                    image=photo(folder, i),
                    positions=selection.positions[i],
                    answers=selection.answers[i],
                    mask=masks[i],
                    points=points,
                )
                for i in numbers
            ]
        )
    return viz.selection_grid(
        list(zip(*columns, strict=True)),
        folder.class_set,
        [f"stage {stage + 1}" for stage in range(last)],
    )


def write_pictures(out: Path, folder: Path) -> list[Path]:
    """Two of the report's pictures as files of their own: predictions.png and asked.png."""
    table, record = read_table(out), read_record(out)
    seed = int(table["seed"].min())
    domains = open_domains(record, seed)
    figures = {
        "predictions.png": predictions_figure(
            out, ["source_only", "ppl", "spl"], domains.config, domains.evaluation, seed
        ),
        "asked.png": asked_figure(out, "ppl", domains.target, seed),
    }
    for name, figure in figures.items():
        with writing(folder / name) as temporary:
            temporary.write_bytes(viz.to_png(figure))
    return [folder / name for name in figures]


def _traces(out: Path, table: pd.DataFrame, seed: int) -> Iterator[Shown]:
    """selector_trace.csv of every method that has one."""
    parts = []
    for method in table["method"].unique():
        if method not in METHODS or not METHODS[method].selector:
            continue
        for stage in range(1, int(table["stage"].max()) + 1):
            path = out / f"seed{seed}" / method / f"stage{stage}" / "selector_trace.csv"
            if path.exists():
                parts.append(pd.read_csv(path).assign(method=method, stage=stage))
    if parts:
        yield _shown(
            "The selector's training",
            f"Seed {seed}. The pseudo labels teach both classifiers (loss 5); loss 6 rewards their "
            "disagreement, by its weight more (PPL, sampled SPL) or less (whole-mask SPL) than "
            "they come to agree. Where they disagree at the end, a person may be asked.",
            viz.selector_trace(pd.concat(parts)),
            "Share of the inconsistency mask and losses 5 and 6 over the selector's steps, "
            "a line a stage, a row of panels a method.",
        )


# ---------------------------------------------------------------------------------- README.md


def write_readme_table(out: Path, readme: Path) -> None:
    """Put the run's table between `<!-- results:PRESET -->` and `<!-- /results:PRESET -->`.

    Raises InputError where the markers or the run's files are missing; then nothing is written.
    """
    table, record = read_table(out), read_record(out)
    body = markdown_table(summarise(table, _native_pixels(record)))
    preset = record["settings"].get("preset", "?")
    put_between(Path(readme), preset, f"{body}\n\n{_made_with(table, record)}")


def put_between(readme: Path, name: str, body: str) -> None:
    """Replace what stands between `<!-- results:NAME -->` and `<!-- /results:NAME -->`.

    Raises InputError where the file or the markers are missing; then nothing is written.
    """
    begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    try:
        text = readme.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{readme}: no such file; pass --readme") from None
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{readme}: write the lines '{begin}' and '{end}' once, in this order")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    write_text(readme, f"{before}{begin}\n{body}\n{end}{after}")


def markdown_table(lines: list[Line]) -> str:
    """Method, labels asked, scores, seeds."""
    scores = list(lines[0].scores)
    heads = ["method", "pixels an image", "clicks an image"]
    heads += [f"{SCORES[name]} in %" for name in scores] + ["seeds"]
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for line in lines:
        title = html.escape(line.title, quote=False).replace("|", "\\|")
        values = [_score(line.scores[name]) for name in scores]
        rows.append([title, _pixels(line), _clicks(line), *values, str(line.seeds)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _made_with(table: pd.DataFrame, record: dict) -> str:
    """The line below the README's table."""
    seeds = table["seed"].nunique()
    spread = "one seed" if seeds == 1 else "mean ± standard deviation over seeds"
    return (
        f"Last stage, {spread}; made with `{_command(table, record)}` "
        f"({record.get('device', '?')}, {record.get('precision', '?')})."
    )


def _command(table: pd.DataFrame, record: dict) -> str:
    """The command that makes this table: the preset and every option that differs from it."""
    settings = record["settings"]
    name = settings.get("preset", "?")
    words = ["python -m labor_lib run", f"--preset {name}"]
    methods = list(table["method"].unique())
    if set(methods) == set(METHODS):
        words.append("--methods all")
    elif set(methods) != set(MAIN):
        words.append(f"--methods {','.join(methods)}")
    words.append(f"--seeds {seed_text(table['seed'])}")
    usual = PRESETS[name].as_dict() if name in PRESETS else settings
    for option, path in {
        "--stages": ("budget", "stages"),
        "--budget": ("budget", "pixels"),
        "--points": ("budget", "points"),
        "--scene-seed": ("scene_seed",),
        "--evaluate-on": ("evaluate_on",),
    }.items():
        value, default = _at(settings, path), _at(usual, path)
        if value != default:
            words.append(f"{option} {value}")
    if _at(usual, ("train", "imagenet")) and not _at(settings, ("train", "imagenet")):
        words.append("--no-imagenet")
    for domain in ("source", "target"):
        if record.get(f"{domain}_root") is not None:
            words.append(f"--{domain}-root FOLDER")
    return " ".join(words)


def _at(settings: dict, path: tuple[str, ...]):
    for key in path:
        settings = settings[key]
    return settings
