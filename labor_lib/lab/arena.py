"""The arena: every way to choose pixels at the same network, warm-up, steps and budget.

A run of `segmentation` whose methods are `registry.arena_method`s. Its results.csv has, beside the
columns of every run, `strategy`, `flavour`, `budget` (a number) and `unit`; figures and tables here
read nothing else, but for the bootstrap, which reads each image's confusion matrix.
"""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from scipy import stats

from labor_lib.config import preset
from labor_lib.errors import InputError
from labor_lib.lab import viz
from labor_lib.lab.pipeline import read_record
from labor_lib.lab.runs import SegmentationRun, read_table
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.lab.viz import last_stage, score_text
from labor_lib.methods.registry import METHODS, arena_method, entered, strategies, strategy_title
from labor_lib.metrics import mious
from labor_lib.runtime import home, make_fabric, writing
from labor_lib.selection.record import read_arrays
from labor_lib.selection.rules import COMPARE, SCORED, Candidates

FIRST = (
    *("strategy", "flavour", "budget", "unit", "seed", "stage", "miou", "pixels_per_image"),
    *("clicks_per_image", "seconds_per_image", "void_share", "select_seconds"),
)  # columns of results.csv that a reader looks for
AXES = {"pixels": "pixels an image", "clicks": "clicks an image", "seconds": "a person's seconds"}
RECOMMENDED = "margin_spaced"  # docs/RESULTS.md, "The arena"
SMALL = ("random", "margin", "margin_spaced", "ppl", "rare_margin_spaced_filled")
DEFAULT = ("random", "margin", "margin_sampled", "margin_spaced", "ppl", "ppl_filled")


class ArenaPhases(SegmentationPhases):
    """The phases of an arena's folder, and its table."""

    def results(self) -> pd.DataFrame:
        for path in self.out.glob("seed*/*@*"):  # of earlier commands
            entered(path.name)
        table = super().results()
        if table.empty:
            return table
        keys = [entered(name) for name in table["method"]]
        table["strategy"], table["budget"], table["unit"] = zip(*keys, strict=True)
        table["flavour"] = [flavour(strategy) for strategy in table["strategy"]]
        return table[[*FIRST, *(name for name in table if name not in FIRST)]]


def flavour(strategy: str) -> str:
    """How a score becomes a choice: "highest", "sampled" or "spaced"; "" for rules without one."""
    if strategy not in SCORED:
        return ""
    end = strategy.rpartition("_")[2]
    return end if end in ("sampled", "spaced") else "highest"


def entries(names: list[str], budgets: list[float], unit: str, config) -> list:
    """The methods of an arena: every strategy at every budget, cheapest budget first.

    Raises InputError for unknown strategies, and for budgets that an image does not hold or that
    are too small for a question in every stage.
    """
    height, width = config.data.target_size
    found = []
    for budget in sorted(budgets):
        for name in names:
            method = arena_method(name, budget, unit)
            asked = method.pixels * height * width if method.points is None else method.points
            if not config.budget.stages <= asked <= height * width:
                raise InputError(
                    f"a budget of {budget:g} {unit} is {asked:.0f} pixels: give at least one for "
                    f"each of the {config.budget.stages} stages, and at most the "
                    f"{height * width} of an image"
                )
            found.append(method)
    return found


def open_arena(out: Path) -> pd.DataFrame:
    """results.csv of an arena's folder, last stage; raises InputError for other folders."""
    table = read_table(out, "stage", "miou")
    if "strategy" not in table or "unit" not in read_record(out):
        raise InputError(f"{out}: no arena; `python -m labor_lib arena` makes one")
    return last_stage(table.fillna({"flavour": ""}))


def open_run(unit: str = "points") -> SegmentationRun:
    """The finished arena of the streets, or else a small one, made where need be.

    With LABOR_RUN=small a finished one is not looked for. Says in a line which one it is.
    """
    full = home() / "runs" / f"arena-streets-{unit}"
    if os.environ.get("LABOR_RUN") != "small" and (full / "results.csv").exists():
        run = SegmentationRun(full)
    else:
        config = preset("small")
        small = home() / "runs" / f"small-arena-{unit}"
        print("A small arena: its figures show shapes, not results (`make arena` makes the whole).")
        phases = ArenaPhases(config, small, Roots(home() / "data"), make_fabric())
        phases.run(entries(list(SMALL), [9, 39], unit, config), [0], unit=unit)
        run = SegmentationRun(small)
    budgets = ", ".join(f"{budget:g}" for budget in sorted(run.table["budget"].unique()))
    count = run.table["strategy"].nunique()
    print(f"Opened '{run.folder.name}': {count} strategies, {budgets} {unit}; seeds {run.seeds}.")
    return run


def candidates(
    run: SegmentationRun, index: int, budget: int, strategy: str = "margin", seed: int = 0
) -> Candidates:
    """One training image as a strategy's rule sees it in the first stage of an arena.

    A rule of two classifiers is given those of the selector, where the arena has one; any other
    the network's own probabilities, twice. The mean probability of each class is that of the first
    20 images.
    """
    target = run.domains(seed).target
    compares = strategies()[strategy].get("rule", strategy) in COMPARE
    with_selector = [m for m in run.methods_of(seed) if compares and METHODS[m].selector]
    net = run.at_start(run.methods_of(seed)[0], seed)  # all strategies start from this one
    if with_selector:
        first, second = map(torch.from_numpy, run.pair(with_selector[0], seed, 1, index))
    else:
        first = second = torch.from_numpy(run.probabilities(net, target, index))

    @torch.no_grad()
    def features() -> torch.Tensor:
        return net.backbone(run.normalised(target, index))[0].float().cpu()

    def class_means() -> torch.Tensor:
        shown = range(min(20, len(target)))
        maps = [run.probabilities(net, target, i).mean(axis=(1, 2)) for i in shown]
        return torch.from_numpy(np.mean(maps, axis=0))

    return Candidates(
        first, second, budget, generator=torch.Generator().manual_seed(seed),
        compute_features=features, compute_class_means=class_means,
    )  # fmt: skip


# ------------------------------------------------------------------------------------ numbers


def wide(table: pd.DataFrame, budget: float) -> pd.DataFrame:
    """mIoU at one budget: a row a seed, a column a strategy, in the registry's order."""
    rows = table[table["budget"] == budget]
    found = rows.pivot(index="seed", columns="strategy", values="miou")
    return found[[name for name in strategies() if name in found]]


def area_under_curve(table: pd.DataFrame) -> pd.DataFrame:
    """Mean mIoU over the logarithm of the budget, by strategy (index) and seed (columns).

    The area under mIoU against log(budget) over the range of budgets: with one budget its mIoU.
    NaN where a strategy lacks a budget in that seed.
    """
    cells = table.pivot(index=["strategy", "seed"], columns="budget", values="miou")
    places = np.log(cells.columns.to_numpy(float))
    if len(places) > 1:
        area = np.trapezoid(cells, places, axis=1) / (places[-1] - places[0])
    else:
        area = cells.iloc[:, 0].to_numpy()
    found = pd.Series(area, cells.index).unstack("seed")
    return found.reindex([name for name in strategies() if name in found.index])


def paired_differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Every strategy minus every other, seed by seed, corrected for the number of pairs.

    scores: a row a seed, a column a strategy (`wide`). Returns a row a pair: first, second, mean,
    low, high (95 %, Student's t, for all pairs together: Bonferroni), p (paired t
    test, Holm), seeds. Interval and p are NaN where a pair has one seed.
    """
    rows, pairs = [], list(combinations(scores, 2))
    for first, second in pairs:
        gaps = (scores[first] - scores[second]).dropna()
        mean, half, p = gaps.mean(), np.nan, np.nan
        if len(gaps) > 1:
            quantile = stats.t.ppf(1 - 0.05 / (2 * len(pairs)), len(gaps) - 1)
            half = quantile * gaps.sem()
            p = stats.ttest_1samp(gaps, 0).pvalue if gaps.std() > 0 else float(mean == 0)
        rows.append((first, second, mean, mean - half, mean + half, p, len(gaps)))
    found = pd.DataFrame(rows, columns=["first", "second", "mean", "low", "high", "p", "seeds"])
    found["p"] = holm(found["p"].to_numpy(float))
    return found


def against(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """One strategy minus every other (scores: as in `wide`), texts; none of a single seed.

    ahead: in how many seeds. The interval is that of the pair alone; p is corrected for all pairs.
    """
    pairs, rows = paired_differences(scores), []
    for other in scores.columns.drop(name):
        (alone,) = paired_differences(scores[[name, other]]).itertuples()
        if alone.seeds < 2:
            continue
        among = pairs[pairs[["first", "second"]].isin([name, other]).all(axis=1)]
        p, ahead = among["p"].item(), int((scores[name] > scores[other]).sum())
        ends = [score_text(end, sign="+") for end in (alone.low, alone.high)]
        rows.append(
            (
                strategy_title(other),
                score_text(alone.mean, sign="+"),
                f"{ahead} of {alone.seeds}",
                " to ".join(ends),
                f"{p:.2f}" if p >= 0.01 else "< 0.01",
            )
        )
    columns = ["minus", "mean", "ahead in seeds", "95 % interval of the pair", "corrected p"]
    return pd.DataFrame(rows, columns=columns, dtype=str)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction: the i-th smallest of n values times n - i, never falling, at most 1."""
    known = pd.Series(p).dropna().sort_values()
    corrected = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1)
    return corrected.reindex(range(len(p))).to_numpy()


def image_bootstrap(
    first: np.ndarray, second: np.ndarray, draws: int = 2000
) -> tuple[float, float, float]:
    """The difference of two mIoU in one seed, and how far it depends on which images are scored.

    first, second: N x C x C confusions of the same images. Returns the difference in percentage
    points, and its 95 % interval over `draws` resamples of the images (percentile bootstrap).
    """
    images, generator = len(first), np.random.default_rng(0)
    weights = generator.multinomial(images, np.full(images, 1 / images), draws)
    weights = np.concatenate([np.ones((1, images), int), weights])  # the images themselves first
    counts = (np.tensordot(weights, one, 1) for one in (first, second))
    gaps = np.subtract(*map(mious, counts))
    return float(gaps[0]), *np.percentile(gaps[1:], [2.5, 97.5]).tolist()


def confusions(out: Path, method: str, seed: int, stage: int) -> np.ndarray:
    """Of the evaluation images of a finished stage: N x C x C."""
    folder = Path(out) / f"seed{seed}" / method / f"stage{stage}"
    return read_arrays(folder / "confusions.npz", "confusions")[0]


def arena_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a strategy, the best area first: area, and mIoU at every budget, texts."""
    area = area_under_curve(table)
    mean, spread = area.mean(axis=1), area.std(axis=1)
    order = mean.sort_values(ascending=False, na_position="last").index
    unit = table["unit"].iloc[0]
    columns: dict = {"strategy": [strategy_title(name) for name in order]}
    budgets = sorted(table["budget"].unique())
    if len(budgets) > 1:
        columns["mean over budgets"] = [score_text(mean[name], spread[name]) for name in order]
    for budget in budgets:
        scores = wide(table, budget)
        columns[f"{budget:g} {unit}"] = [
            score_text(scores[name].mean(), scores[name].std()) if name in scores else ""
            for name in order
        ]
    top = table[table["budget"] == budgets[-1]].groupby("strategy").mean(numeric_only=True)
    top = top.reindex(order)
    for name, head in (("clicks", "clicks"), ("seconds", "person's seconds")):
        columns[f"{head} at {budgets[-1]:g}"] = top[f"{name}_per_image"].map("{:.1f}".format)
    columns["void in %"] = (100 * top["void_share"]).map("{:.0f}".format)
    columns["seeds"] = table.groupby("strategy")["seed"].nunique().reindex(order).map(str)
    return pd.DataFrame(columns, index=order).replace("nan", "")


# ------------------------------------------------------------------------------------ figures


@viz.styled
def arena_curves(table: pd.DataFrame, axis: str = "pixels") -> Figure:
    """mIoU against what was paid, a line a strategy, bars one standard deviation over seeds.

    axis: "pixels", "clicks" or "seconds". The strategies with most budgets are drawn. With one
    budget there are no lines: the strategies stand below each other, the best first.
    """
    counts = table.groupby("strategy")["budget"].nunique()
    shown = [name for name in strategies() if counts.get(name) == counts.max()]
    if counts.max() == 1:
        return _ranking(table[table["strategy"].isin(shown)], axis)
    figure = viz.figure_of(viz.WIDTH, 4.6)
    axes = figure.subplots()
    for name in shown:
        rows = table[table["strategy"] == name]
        groups, style = rows.groupby("budget"), viz.style_of(rows["method"].iloc[0])
        spread = groups["miou"].std() if rows["seed"].nunique() > 1 else None
        axes.errorbar(
            groups[f"{axis}_per_image"].mean(), groups["miou"].mean(), yerr=spread,
            label=strategy_title(name), color=style.colour, marker=style.marker, capsize=3,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(axis="x", which="minor", labelsize=8)
    axes.set(xlabel=f"{AXES[axis]} (logarithmic)", ylabel="mIoU in %")
    axes.set_title(f"mIoU against {AXES[axis]}, by strategy")
    axes.grid(axis="y", **viz.GRID)
    order = sorted(shown, key=lambda n: -table.loc[table["strategy"] == n, "miou"].mean())
    lines = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    titles = [strategy_title(name) for name in order]
    handles = [lines[title] for title in titles]
    figure.legend(handles, titles, loc="outside right upper", fontsize=9)
    return figure


def _ranking(table: pd.DataFrame, axis: str) -> Figure:
    """A row a strategy, the best first: mIoU with its spread, and what was paid for it."""
    groups = table.groupby("strategy")
    means = groups["miou"].mean().sort_values(ascending=False)
    rows = {}
    for name in means.index:
        of_it = groups.get_group(name)
        label = f"{strategy_title(name)}   {of_it[f'{axis}_per_image'].mean():.0f}"
        rows[label] = of_it["miou"], viz.style_of(of_it["method"].iloc[0]).colour
    near, first = (means > means.max() - 2).sum(), table.iloc[0]
    said = f"{near} of {len(means)} strategies end within two points of the best"
    said += f", at {first['budget']:g} {first['unit']}"
    figure = viz.seed_dots(rows, said)
    figure.axes[0].set_xlabel(f"mIoU in %: a circle a seed; beside the names: {AXES[axis]}")
    return figure


@viz.styled
def arena_matrix(scores: pd.DataFrame, title: str = "") -> Figure:
    """Row minus column in percentage points; bold where the corrected interval leaves out 0.

    The best strategy first; columns have the numbers of the rows.
    """
    pairs = paired_differences(scores)
    order = list(scores.mean().sort_values(ascending=False).index)
    means = pd.DataFrame(np.nan, order, order)
    sure = pd.DataFrame(False, order, order)
    for row in pairs.itertuples():
        means.loc[row.first, row.second], means.loc[row.second, row.first] = row.mean, -row.mean
        beyond = row.low > 0 or row.high < 0
        sure.loc[row.first, row.second] = sure.loc[row.second, row.first] = beyond
    numbers = list(range(1, len(order) + 1))
    names = [f"{strategy_title(name)}  {n}" for n, name in zip(numbers, order, strict=True)]
    figure = viz.figure_of(viz.WIDTH, 0.9 + 0.3 * len(order))
    axes = figure.subplots()
    texts = means.map(lambda v: "" if np.isnan(v) else f"{v:+z.{0 if abs(v) >= 9.95 else 1}f}")
    limit = np.nanmax(np.abs(means.to_numpy()), initial=1)
    sns.heatmap(
        means, annot=texts, fmt="", cmap="RdBu", vmin=-limit, vmax=limit, ax=axes, cbar=False,
        xticklabels=numbers, yticklabels=names, annot_kws={"fontsize": 8}, linewidths=0.5,
    )  # fmt: skip
    marks = sure.to_numpy()
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        text.set_fontweight("bold" if marks[row, column] else "normal")
    axes.tick_params(length=0)
    axes.set(xlabel="", ylabel="", title=title or "mIoU, row minus column")
    return figure


def write_figures(out: Path, table: pd.DataFrame) -> Path:
    """Curves, and of every budget the matrix of differences and its table: `out/figures`."""
    folder = Path(out) / "figures"
    folder.mkdir(exist_ok=True)
    pictures = {f"{axis}.png": arena_curves(table, axis) for axis in AXES}
    for budget in sorted(table["budget"].unique()):
        scores, unit = wide(table, budget), table["unit"].iloc[0]
        title = f"mIoU at {budget:g} {unit}, row minus column"
        pictures[f"matrix-{budget:g}{unit}.png"] = arena_matrix(scores, title)
        with writing(folder / f"differences-{budget:g}{unit}.csv") as temporary:
            paired_differences(scores).to_csv(temporary, index=False, float_format="%.6g")
    for name, figure in pictures.items():
        with writing(folder / name) as temporary:
            temporary.write_bytes(viz.to_png(figure))
    return folder
