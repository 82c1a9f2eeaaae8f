"""What papers report: a small table of published figures, each with where it was read.

Data, networks and budgets differ from ours, so only the pattern can be compared with our results.
"""

from pathlib import Path

import pandas as pd

from labor_lib.errors import InputError

FILE = Path(__file__).with_name("published.csv")


def published(metric: str = "mIoU") -> pd.DataFrame:
    """Published figures in percent, of one metric: "mIoU" (segmentation) or "accuracy".

    paper, setting (source -> target), classes (how many there are), method as the paper calls it,
    network, budget (what was labelled of the target, in words; pixels counted at the images' native
    size), miou or accuracy.
    checked: False where the figure is second-hand: read elsewhere, or not verified.
    ours: the method of our registries that does the same, or "".
    source: where the figure was read. Raises InputError for another metric.
    """
    table = pd.read_csv(FILE, keep_default_na=False, true_values=["yes"], false_values=["no"])
    known = list(table["metric"].unique())
    if metric not in known:
        raise InputError(f"metric '{metric}': choose from {', '.join(known)}")
    table = table[table["metric"] == metric].drop(columns="metric")
    return table.rename(columns={"score": metric.lower()}).reset_index(drop=True)
