"""What a run found: a table for the terminal, report.html, and the tables of docs/RESULTS.md.

All numbers come from results.csv, of both kinds of runs: segmentation (mIoU by stage) and
classification (accuracy by number of labels, or by domain left out). report.html is one file: its
pictures are inside it, and it loads and runs nothing.
"""

import base64
import html
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labor_lib.annotation import read_annotator
from labor_lib.annotation.cost import acts
from labor_lib.errors import InputError
from labor_lib.lab import arena, viz
from labor_lib.lab.classification import summarise as accuracies
from labor_lib.lab.pipeline import PAGES, read_record
from labor_lib.lab.runs import ClassificationRun, SegmentationRun, pictures
from labor_lib.lab.viz import last_stage, score_text
from labor_lib.methods.registry import CLASSIFICATION, METHODS
from labor_lib.metrics import mious
from labor_lib.runtime import write_text, writing

SHOWN_IMAGES = 3
SHOWN_PREDICTIONS = ("source_only", "adaptsegnet", "ppl", "spl", "spl_sampled", "supervised")
PERSON = "person's time an image"
SCORES = {"miou": "mIoU", "miou_16": "mIoU, 16 classes", "miou_13": "mIoU, 13 classes"}
FOLDERS = ("--root", "--source-root", "--target-root", "--data", "--out")  # options of a command
SHORT = ("source_only", "iast", "random_points", "margin_points", "ppl", "spl", "supervised")
COMPARED = {  # paired differences: each method with its rivals, where a run has both
    "random_points": ("random_points_target_only",),
    "ppl": ("random_points", "supervised"),
    "ppl_teacher": ("ppl",),
    "margin_points": ("ppl",),
    "spl_sampled_0.5": ("random_pixels_0.5",),
    "spl": ("random_pixels", "supervised"),
    "spl_sampled": ("random_pixels", "supervised", "supervised_target", "supervised_x4"),
    "spl_sampled_x2": ("supervised_x2",),
    "spl_teacher": ("spl_sampled",),
    "supervised": ("supervised_target_only",),
    "adaptsegnet": ("adabn",),
    "dacs": ("adabn", "source_only"),
    "iast": ("adaptsegnet",),
    "dann": ("adabn", "source_only"),
    "joint": ("finetune",),
    "ccsa": ("joint", "finetune"),
    "sagnet": ("source_only",),
    "sagnet_pooled": ("source_only",),
}


# -------------------------------------------------------------------------------- the numbers


def summarise(table: pd.DataFrame, native_pixels: float | None = None) -> pd.DataFrame:
    """A row for every method that has reached the last stage of `table` (results.csv).

    Columns: title, family (of `viz.FAMILIES`), seeds, budget; pixels and clicks an image, share
    (pixels as a part of the image file); person and person_most: seconds an image of somebody who
    labels, at the least and at the most; seconds of training and selection in all stages; each of
    `SCORES` in percent, and difference (to `supervised`, paired by seed), both with a column
    NAME_sd: their standard deviation over seeds, NaN for one seed.
    native_pixels: of an image file, for tables without full supervision, which pays for them all.
    """
    last = last_stage(table)
    rows, wide = last.groupby("method", sort=False), _by_seed(last, "miou")
    summary = pd.DataFrame(
        {
            "seeds": rows.size(),
            "budget": rows["budget"].first(),
            "pixels": rows["pixels_per_image"].mean(),
            "clicks": rows["clicks_per_image"].mean(),
            "person": rows["seconds_per_image"].mean(),
            "person_most": rows["most_seconds_per_image"].mean(),
            "seconds": rows["train_seconds"].mean() + rows["select_seconds"].mean(),
        }
    )
    summary.insert(0, "title", [_title(name, METHODS) for name in summary.index])
    summary.insert(1, "family", [viz.family_of(name) for name in summary.index])
    paid = summary.loc[summary["family"] == "all", "pixels"].mean()
    summary["share"] = summary["pixels"] / (native_pixels or np.nan if np.isnan(paid) else paid)
    for name in filter(last.columns.__contains__, SCORES):
        summary[name], summary[f"{name}_sd"] = rows[name].mean(), rows[name].std()
    others = wide.drop(columns="supervised", errors="ignore")
    gaps = others.sub(wide.get("supervised", np.nan), axis=0)
    summary["difference"], summary["difference_sd"] = gaps.mean(), gaps.std()
    return summary


def _title(method: str, registry: dict) -> str:
    return registry[method].title if method in registry else method


def _by_seed(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """A row per seed and a column per method; the mean where there are several domains."""
    return table.pivot_table(index="seed", columns="method", values=score)


def methods_table(summary: pd.DataFrame) -> pd.DataFrame:
    """`summarise` as a reader sees it: one row of texts per method."""
    scores = [name for name in SCORES if name in summary]
    rows = []
    for row in summary.to_dict("records"):
        # borders are not counted
        clicks = {"all": "–", "few": "–", "pixels": f"≥ {_count(row['clicks'])}"}
        rows.append(
            {
                "method": row["title"],
                "pixels an image": _pixels(row),
                "clicks an image": clicks.get(row["family"], _count(row["clicks"])),
                PERSON: _span(row["person"], row["person_most"]),
                **{f"{SCORES[s]} in %": score_text(row[s], row[f"{s}_sd"]) for s in scores},
                "seeds": str(row["seeds"]),
                "difference": score_text(row["difference"], row["difference_sd"], "+"),
                "budget": row["budget"],
                "time": _time(row["seconds"]),
            }
        )
    return pd.DataFrame(rows, index=summary.index)


def _count(value: float) -> str:
    return "0" if value == 0 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _pixels(row: dict) -> str:
    """ "552 (2.2 %)", without the share where it is unknown."""
    percent = 100 * row["share"]
    if not percent > 0:
        return _count(row["pixels"])
    return f"{_count(row['pixels'])} ({percent:{'.2g' if percent < 10 else '.0f'}} %)"


def _time(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _span(least: float, most: float) -> str:
    """ "5.5 to 8.0 min", or one time where both are alike."""
    if most == 0:
        return "0"
    first, last = _time(least), _time(most)
    if first.split()[1] == last.split()[1] and first != last:
        first = first.split()[0]
    return last if first == last else f"{first} to {last}"


def accuracy_table(table: pd.DataFrame) -> pd.DataFrame:
    """The texts of a classification run (`ClassificationRun.table`): one row per method.

    A column for every number of labels (none, few, all) or, in generalisation, domain left out.
    """
    summary = accuracies(table)
    if summary["target"].nunique() > 1:
        columns = summary["target"]
    else:
        ceiling = summary["method"].map(lambda name: CLASSIFICATION[name].sees == "all")
        few = summary["few"].mask(ceiling, 10**9)
        summary = summary.assign(few=few).sort_values("few", kind="stable")
        heads = {0: "no target labels", 10**9: "all"}
        columns = summary["few"].map(lambda n: heads.get(n, f"{n} a class"))
    cells = [score_text(*pair) for pair in summary[["accuracy_mean", "accuracy_std"]].to_numpy()]
    shown = summary.assign(column=columns, cell=cells).pivot(
        index="method", columns="column", values="cell"
    )
    order = [name for name in CLASSIFICATION if name in shown.index]
    shown = shown.loc[order, list(dict.fromkeys(columns))].fillna("")
    shown.insert(0, "method", [_title(name, CLASSIFICATION) for name in order])
    return shown.assign(seeds=summary.groupby("method")["seeds"].max().astype(str))


def paired_table(scores: pd.DataFrame, registry: dict, suffix: str = "") -> pd.DataFrame:
    """The differences of `COMPARED`, seed by seed, with 95 % intervals of Student's t.

    scores: a row per seed, a column per method, in percent. registry: where titles are. Returns
    texts; a row for every pair that a seed has both of.
    """
    rows = []
    for first, second in ((method, rival) for method in COMPARED for rival in COMPARED[method]):
        if not {first, second} <= set(scores):
            continue
        (pair,) = arena.paired_differences(scores[[first, second]]).itertuples()
        if pair.seeds == 0:
            continue
        mean, *ends = (score_text(one, sign="+") for one in (pair.mean, pair.low, pair.high))
        interval = " to ".join(ends) if pair.seeds > 1 else "one seed"
        titles = f"{_title(first, registry)} minus {_title(second, registry)}{suffix}"
        rows.append((titles, mean, interval, str(pair.seeds)))
    return pd.DataFrame(rows, columns=["difference", "mean", "95 % interval", "seeds"], dtype=str)


def print_table(table: pd.DataFrame) -> None:
    """The last stage of every method of a segmentation run, aligned, to the terminal."""
    if table.empty:
        print("no finished stage")
        return
    shown = methods_table(summarise(table)).drop(columns=["difference", "budget"])
    print(shown.set_index("method").to_string(index_names=False))
    print("Means ± standard deviations over seeds. Time: training and selection.")


# -------------------------------------------------------------------------------- report.html


def write_report(out: Path) -> Path:
    """Write `out/report.html` from the folder of a segmentation run; returns its path.

    Where images or checkpoints are gone, a sentence stands in the place of the picture. Raises
    InputError where results.csv or config.json is missing or damaged.
    """
    if _is_classification(out):
        raise InputError(
            f"{out}: holds a classification run, which has no report.html; "
            "`python -m labor_lib results` writes its table"
        )
    run = SegmentationRun(out)
    write_text(run.folder / "report.html", render(run))
    return run.folder / "report.html"


def render(run: SegmentationRun, part: str = "report") -> str:
    """HTML: "lead" (result, two predictions, a few numbers), "table", "reading", or all of it."""
    summary = summarise(run.table, _native_pixels(run))
    best, classes = summary.groupby("family")["miou"].idxmax(), run.class_set
    if "supervised" in summary.index:
        best["all"] = "supervised"  # the reference
    return PAGES.get_template("report.html.jinja").render(
        part=part,
        run=run,
        summary=summary,
        leader=_leader(summary),
        best=best,
        texts=methods_table(summary),
        families=viz.FAMILIES,
        colours=dict(zip(classes.names, classes.palette.tolist(), strict=True), void=(0, 0, 0)),
        figures=(_drawn(*section) for section in _sections(run, summary)),
        made_with=_made_with(run.record),
        style=viz.style_of,
        person=PERSON,
        acts=acts(),
    )


def _is_classification(out: Path) -> bool:
    return "shift" in read_record(out)["settings"]


def _native_pixels(run: SegmentationRun) -> float | None:
    """Pixels of an image file where the target is drawn; unknown for others."""
    data = run.config.data
    drawn = run.record.get("target_root") is None and data.embedded
    return float(np.prod(data.drawn_size)) if drawn else None


def _leader(summary: pd.DataFrame) -> str:
    """The method the page is about: PPL, or that with the fewest clicks, or else the best one."""
    asks = summary.loc[summary["family"].isin(["points", "pixels"]), "clicks"]
    return "ppl" if "ppl" in asks else asks.idxmin() if len(asks) else summary["miou"].idxmax()


def _drawn(title: str, caption: str, draw: Callable[[], Figure], legend: bool = False) -> dict:
    """A figure of the page, or why it is missing. legend: whether it needs the classes' colours."""
    try:
        source = base64.b64encode(viz.to_png(draw())).decode("ascii")
        return {"title": title, "caption": caption, "source": source, "legend": legend}
    except (InputError, OSError) as error:
        return {"title": title, "missing": f"Not shown: {error}"}


def _before_and_after(run: SegmentationRun, seed: int, *methods: str) -> Figure:
    """One evaluation image, what the methods see in it, the last one the leader, and its truth."""
    said, number = _by_score(run, methods[-1], seed)[1]
    words = ("before", "after")[-len(methods) :]
    titles = {f"{w}: {viz.short_title(m)}": m for w, m in zip(words, methods, strict=True)}
    shown = pictures(run, titles, seed, [number])
    shown["truth"] = shown.pop("truth")  # the last one
    title = f"Evaluation image {number}, {said} ({viz.short_title(methods[-1])})"
    line = [picture for (picture,) in shown.values()]
    return viz.image_grid({"": line}, list(shown), title, names=0)


def _by_score(run: SegmentationRun, method: str, seed: int) -> list[tuple[str, int]]:
    """The method's worst, median and best evaluation image, with what is said of it and its number;
    where no scores of images are stored, the first one, one between and the last."""
    images = len(run.domains(seed).evaluation)
    with suppress(InputError):
        scores = mious(arena.confusions(run.folder, method, seed, run.stages))
        order = np.argsort(scores)[: np.isfinite(scores).sum()].tolist()
        if order and len(scores) == images:
            places = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
            return [(f"{word}: {scores[k]:.0f} % mIoU", k) for word, k in places.items()]
    return list(zip(("first", "middle", "last"), _spread(images), strict=True))


def _sections(run: SegmentationRun, summary: pd.DataFrame) -> Iterator[tuple]:
    """The arguments of `_drawn` for every figure of the page."""
    table, seed, leader = run.table, int(run.table["seed"].min()), _leader(summary)
    ran = run.methods_of(seed)
    predicted = [name for name in SHOWN_PREDICTIONS if name in ran]
    free = summary.loc[summary["family"] == "none", "miou"].drop(leader, errors="ignore")
    yield (
        "Before and after",
        "An image that nobody trained on, what is predicted for it, and its true classes.",
        partial(_before_and_after, run, seed, *free.nsmallest(1).index, leader),
        True,
    )
    if not set(table["method"].map(viz.family_of)) <= {"none", "all"}:
        yield (
            "mIoU against clicks and pixels",
            "One point per stage; bars are one standard deviation over seeds. Grey lines: methods "
            "without target labels. Black lines: methods with all of them.",
            lambda: viz.budget_curve(table, ("clicks", "pixels")),
        )
        yield (
            "mIoU against a person's time",
            "Thin lines to the right: from the least to the most that a person needs.",
            lambda: viz.budget_curve(table, "seconds"),
        )
    yield (
        "Predictions",
        f"The worst, the median and the best evaluation image of {viz.short_title(leader)} in seed "
        f"{seed}, their truth (black: void, not scored), and the last stage of each method.",
        lambda: predictions_figure(run, predicted, seed, leader),
        True,
    )
    yield (
        "IoU by class",
        "Last stage, mean over seeds. A dash: the class does not occur in the split.",
        partial(viz.class_heatmap, table),
    )
    yield (
        "Time by stage",
        "Mean over seeds. White gaps separate the stages; the first contains the warm-up that "
        "methods share. A person's time for labelling is not included.",
        partial(viz.time_bars, table),
    )
    for method in ("spl", "ppl"):
        points = METHODS[method].sees == "points"
        what = "dots: asked points, in the class's colour" if points else "yellow: asked pixels"
        if method in ran:
            yield (
                f"What {viz.short_title(method)} asks",
                f"{SHOWN_IMAGES} training images of the target (rows) over the stages (columns), "
                f"seed {seed}. Blue: pixels on which the selector's two classifiers disagree; "
                f"{what}.",
                partial(asked_figure, run, method, seed),
                points,
            )


def _spread(images: int) -> list[int]:
    """The numbers of a few images, from first to last."""
    return [int(i) for i in np.linspace(0, images - 1, SHOWN_IMAGES)]


def predictions_figure(run: SegmentationRun, methods: list[str], seed: int, leader: str) -> Figure:
    """The leader's worst, median and best image, their truth, and each method's last stage."""
    columns, numbers = zip(*_by_score(run, leader, seed), strict=True)
    titles = {viz.short_title(method): method for method in methods}
    return viz.image_grid(pictures(run, titles, seed, numbers), columns)


def _with_classes(figure: Figure, run: SegmentationRun) -> Figure:
    """The figure with the colours of the classes below it."""
    handles = viz.class_handles(run.class_set)
    figure.set_figheight(figure.get_figheight() + 0.2 + 0.25 * -(-len(handles) // 7))
    place = {"ncols": 7, "loc": "outside lower center", "handlelength": 1.2, "frameon": False}
    figure.legend(handles=handles, **place)
    return figure


def asked_figure(run: SegmentationRun, method: str, seed: int) -> Figure:
    """Where a method's selector disagrees with itself, and what was asked there, by stage.

    Raises InputError where a stage's files are missing, damaged or of another number of images.
    """
    stages = range(1, run.stages + 1)
    rows = [
        [run.view(method, seed, stage, i, predicted=False) for stage in stages]
        for i in _spread(len(run.domains(seed).target))
    ]
    return viz.selection_grid(rows, run.class_set, [f"stage {stage}" for stage in stages])


# ---------------------------------------------------------------------------- docs/RESULTS.md


def write_table(
    out: Path, page: Path, short: Path | None = None, pictures: Path | None = None
) -> None:
    """Put a run's tables between `<!-- results:NAME -->` and `<!-- /results:NAME -->` in `page`.

    NAME: the preset, with "-noisy" where answers were; of a classification run its folder's; of an
    arena such as "arena-streets-points".
    short: a page for the small table, between the markers of the name "short" (segmentation only).
    pictures: a folder for predictions.png and asked.png (segmentation only).
    Raises InputError where markers or the run's files are missing; then nothing is written.
    """
    files: dict[Path, bytes] = {}
    if _is_classification(out):
        name, body = _classification_body(ClassificationRun(out))
    elif "unit" in read_record(out):
        name, body = _arena_body(out)
    else:
        run = SegmentationRun(out)
        name, body = _segmentation_body(run)
        if short:
            files[Path(short)] = _put_between(Path(short), "short", _short_body(run))
        if pictures:
            seed, folder = int(run.table["seed"].min()), Path(pictures)
            shown = predictions_figure(run, ["source_only", "ppl", "spl"], seed, "ppl")
            files[folder / "predictions.png"] = viz.to_png(_with_classes(shown, run))
            asked = asked_figure(run, "ppl", seed)
            files[folder / "asked.png"] = viz.to_png(_with_classes(asked, run))
    files[Path(page)] = _put_between(Path(page), name, body)
    for path, content in files.items():
        with writing(path.resolve()) as temporary:  # a symbolic link stays one
            temporary.write_bytes(content)


def _segmentation_body(run: SegmentationRun) -> tuple[str, str]:
    spread = "one seed" if len(run.seeds) == 1 else "mean ± standard deviation over seeds"
    table = markdown_table(summarise(run.table, _native_pixels(run)))
    paired = paired_table(_by_seed(last_stage(run.table), "miou"), METHODS)
    kind, _ = read_annotator(run.record["annotator"])
    end = {"oracle": "", "noisy": "-noisy", "store": "-people"}[kind]
    return run.config.preset + end, _body(table, f"Last stage, {spread}", paired, run.record)


def _classification_body(run: ClassificationRun) -> tuple[str, str]:
    about = "last step"
    if run.table["target"].nunique() > 1:
        about = "weights chosen on source validation"
    paired = pd.concat(
        paired_table(_by_seed(rows, "accuracy"), CLASSIFICATION, f", {few} a class" if few else "")
        for few, rows in run.table.groupby("few")
    )
    table = _markdown(accuracy_table(run.table))
    return run.shift, _body(table, f"Accuracy in percent, {about}", paired, run.record)


def _arena_body(out: Path) -> tuple[str, str]:
    """The table, and the recommended strategy (or the best) minus the others, at most budget."""
    table, record = arena.open_arena(out), read_record(out)
    texts, budget = arena.arena_table(table), table["budget"].max()
    one = arena.RECOMMENDED if arena.RECOMMENDED in texts.index else texts.index[0]
    pairs = arena.against(arena.wide(table, budget), one)
    about = f"Last stage, mIoU in percent, mean ± standard deviation over seeds{_made_with(record)}"
    blocks = [_markdown(texts), f"{about}."]
    if len(pairs):
        unit = record["unit"]
        what = f"{texts['strategy'][one]} minus the others at {budget:g} {unit}"
        blocks += [f"{what}, paired by seed:", _markdown(pairs)]
    return f"arena-{record['settings']['preset']}-{record['unit']}", "\n\n".join(blocks)


def _body(table: str, about: str, paired: pd.DataFrame, record: dict) -> str:
    blocks = [table, f"{about}{_made_with(record)}."]
    if len(paired):
        blocks += ["Differences in percentage points, paired by seed:", _markdown(paired)]
    return "\n\n".join(blocks)


def _short_body(run: SegmentationRun) -> str:
    summary = summarise(run.table, _native_pixels(run))
    shown = methods_table(summary.loc[[name for name in SHORT if name in summary.index]])
    names = ["method", PERSON, "clicks an image", "pixels an image", "mIoU in %"]
    return _markdown(shown[names])


def markdown_table(summary: pd.DataFrame) -> str:
    """`summarise` as Markdown: method, labels asked, scores, seeds."""
    return _markdown(methods_table(summary).drop(columns=["difference", "budget", "time"]))


def _markdown(texts: pd.DataFrame) -> str:
    """A table of texts: the first column to the left, the others to the right."""
    rows = [
        [html.escape(" ".join(cell.split()), quote=False).replace("|", "\\|") for cell in row]
        for row in (texts.columns, *texts.to_numpy())
    ]
    rows.insert(1, ["---", *["---:"] * (len(texts.columns) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _made_with(record: dict) -> str:
    """The command and device of a run; folders are left out, for they are a person's own."""
    made = ""
    if record.get("command"):
        words = shlex.split(re.sub(r"(?<= )(--[a-z-]+)=", r"\1 ", record["command"]))
        folders = {i + 1 for i, word in enumerate(words) if word in FOLDERS}
        words = ["FOLDER" if i in folders else word for i, word in enumerate(words)]
        words = [re.sub(r"^(store:|noisy:|--[a-z-]+=)?.*[/\\].*$", r"\1FOLDER", w) for w in words]
        made = f"; made with `{' '.join(words)}`"
    return f"{made} ({record.get('device', '?')}, {record.get('precision', '?')})"


def _put_between(page: Path, name: str, body: str) -> bytes:
    """The page with `body` between the markers of `name`; its line ends stay as they are."""
    begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    try:
        text = page.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{page}: no such file; name the page that the table goes into") from None
    body = f"\n{body}\n"
    if "\r\n" in text:
        body = body.replace("\n", "\r\n")
    between = f"(?s)(?<={re.escape(begin)}).*?(?={re.escape(end)})"
    text, found = re.subn(between, lambda _: body, text)
    if found != 1:
        raise InputError(f"{page}: write the lines '{begin}' and '{end}' once, in this order")
    return text.encode()
