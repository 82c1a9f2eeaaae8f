"""The family's results as Markdown tables, for README.md."""

from pathlib import Path

import pandas as pd

from labor_lib.lab.family_experiment import summarise
from labor_lib.lab.family_runs import FamilyRun
from labor_lib.lab.report import put_between, seed_text
from labor_lib.methods.family_registry import FAMILY

ALL = -1  # stands for "all labels" among numbers of labels a class


def markdown_table(table: pd.DataFrame) -> str:
    """A row a method; a column for every number of labels (none, few, all), or domain left out.

    table: `FamilyRun.table`. Cells: accuracy in percent, mean ± standard deviation over seeds.
    """
    summary = summarise(table)
    by = "target" if table["target"].nunique() > 1 else "few"
    if by == "few":
        ceilings = [name for name, method in FAMILY.items() if method.target == "all"]
        summary["few"] = summary["few"].mask(summary["method"].isin(ceilings), ALL)
    summary["cell"] = [
        f"{row.accuracy_mean:.1f}" + ("" if row.seeds == 1 else f" ± {row.accuracy_std:.1f}")
        for row in summary.itertuples()
    ]
    cells = summary.pivot(index="method", columns=by, values="cell").fillna("")
    columns = list(dict.fromkeys(summary[by]))
    if by == "few":
        columns = sorted(columns, key=lambda few: (few == ALL, few))
    heads = [_head(by, column) for column in columns]
    rows = [["method", *heads, "seeds"], ["---", *["---:"] * (len(heads) + 1)]]
    for method in (name for name in FAMILY if name in cells.index):
        seeds = int(summary[summary["method"] == method]["seeds"].max())
        values = [cells.loc[method, column] for column in columns]
        rows.append([FAMILY[method].title, *values, str(seeds)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _head(by: str, column) -> str:
    if by == "target":
        return str(column)
    return {0: "no target labels", ALL: "all"}.get(column, f"{column} a class")


def write_family_table(out: Path, readme: Path) -> None:
    """Put a run's table between the markers `<!-- results:NAME -->`, NAME the run's folder.

    Raises InputError where the markers or the run's files are missing.
    """
    run = FamilyRun(out)
    put_between(Path(readme), run.shift, f"{markdown_table(run.table)}\n\n{_made_with(run)}")


def _made_with(run: FamilyRun) -> str:
    methods = "all" if set(run.methods) == set(run.config.methods) else ",".join(run.methods)
    words = [f"python -m labor_lib family --shift {run.config.shift} --methods {methods}"]
    if run.where.root is not None:
        words.append("--root FOLDER")
    if run.where.target:
        words.append(f"--source {run.where.source} --target {run.where.target}")
    if run.config.training.network == "small" and run.config.shift == "folder":
        words.append("--network small")
    labelled = sorted(set(run.table["few"]) - {0})
    if labelled:
        words.append(f"--few {','.join(map(str, labelled))}")
    words.append(f"--seeds {seed_text(run.table['seed'])}")
    generalises = run.table["target"].nunique() > 1
    chosen = "weights chosen on source validation" if generalises else "last step"
    return f"Accuracy in percent, {chosen}; made with `{' '.join(words)}`."
