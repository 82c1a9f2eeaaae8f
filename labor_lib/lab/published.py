"""What papers report: a small table of published figures, each with where it was read.

It is no benchmark of ours: other data, networks and budgets. Beside our results only the pattern
compares.
"""

from pathlib import Path

import pandas as pd

from labor_lib.errors import InputError
from labor_lib.methods.family_registry import FAMILY
from labor_lib.methods.registry import METHODS

FILE = Path(__file__).with_name("published.csv")
COLUMNS = (
    *("paper", "setting", "classes", "method", "network", "budget", "metric", "score"),
    *("checked", "ours", "source"),
)
CLASSES = {"mIoU": (13, 16, 19), "accuracy": (7, 10, 345)}  # by metric: how many are averaged


def published(metric: str = "mIoU", path: Path = FILE) -> pd.DataFrame:
    """Published figures in percent, of one metric: "mIoU" (segmentation) or "accuracy".

    paper, setting (source -> target), classes (how many there are), method as the paper calls it,
    network, budget (what was labelled of the target, in words), miou or accuracy.
    checked: False where the figure is second-hand and could not be verified.
    ours: the method of our registries that does the same, or "".
    source: where the figure stands, and "as quoted in" where that is not the paper itself.
    Raises InputError where the file is missing or damaged, or for another metric.
    """
    if metric not in CLASSES:
        raise InputError(f"metric '{metric}': choose from {', '.join(CLASSES)}")
    path = Path(path)
    mend = "restore it from the repository"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {mend}") from None
    except ValueError as error:  # empty, ragged or not text
        raise InputError(f"{path}: not a table ({error}); {mend}") from None
    if tuple(table.columns) != COLUMNS or table.empty:
        raise InputError(f"{path}: its columns have to be {', '.join(COLUMNS)}; {mend}")
    table["classes"] = pd.to_numeric(table["classes"], errors="coerce")
    table["score"] = pd.to_numeric(table["score"], errors="coerce")
    known = [
        n in CLASSES.get(m, ()) for m, n in zip(table["metric"], table["classes"], strict=True)
    ]
    sound = {
        "metric": table["metric"].isin(CLASSES),
        "classes": pd.Series(known),
        "score": table["score"].between(0, 100),
        "checked": table["checked"].isin(("yes", "no")),
        "ours": table["ours"].isin(("", *METHODS, *FAMILY)),
        "source": table["source"].str.strip() != "",
    }
    for column, right in sound.items():
        if not right.all():
            line = int(right.idxmin()) + 2  # the header is the first
            raise InputError(f"{path}: line {line}: no valid '{column}'; {mend}")
    table["classes"] = table["classes"].astype(int)
    table["checked"] = table["checked"] == "yes"
    table = table[table["metric"] == metric].drop(columns="metric")
    return table.rename(columns={"score": metric.lower()}).reset_index(drop=True)
