"""Every method of the comparison by name: one line each, tests run over all of them."""

from dataclasses import dataclass

from labor_lib.errors import InputError
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.iast import iast_step
from labor_lib.methods.labor import labor_step
from labor_lib.methods.source_only import (
    source_only_step,
    supervised_step,
    supervised_target_step,
)
from labor_lib.train import Step


@dataclass(frozen=True)
class Method:
    """What one row of the table does after the warm-up that all share.

    warm_up     "source" then "source_more" (source labels alone, at equal steps), or "adversarial"
    labels      what it may know of the target: "none", "pseudo", "asked" or "all"
    rule        for "asked": the selection rule in `labor_lib.selection.rules`
    budget      for "asked": "pixels", "points", or "mask" (what the mask holds, capped)
    selector    for "asked": the pixel selector's settings in the configuration, if it needs one
    statistics  the BatchNorm statistics that it is evaluated with: "source" or "target"
    trains_as   the method whose networks it shares, where only the evaluation differs
    """

    name: str
    title: str
    step: Step
    warm_up: str = "adversarial"
    labels: str = "none"
    rule: str = ""
    budget: str = ""
    selector: str = ""
    statistics: str = "target"
    trains_as: str = ""
    use_source: bool = True
    use_target: bool = True
    steps_factor: int = 1
    pixels: float | None = None  # share of an image instead of the configuration's


_METHODS = (
    Method(
        "source_only", "source only", source_only_step,
        warm_up="source_more", statistics="source", use_target=False,
    ),
    Method(
        "adabn", "AdaBN (target BatchNorm statistics)", source_only_step,
        warm_up="source_more", trains_as="source_only", use_target=False,
    ),
    Method("adaptsegnet", "AdaptSegNet (UDA)", adaptsegnet_step),
    Method("iast", "IAST's pseudo labels (UDA)", iast_step, labels="pseudo"),
    Method(
        "random_points", "random points", labor_step,
        labels="asked", rule="random", budget="points",
    ),
    Method(
        "margin_points", "margin points", labor_step,
        labels="asked", rule="margin", budget="points",
    ),
    Method(
        "ppl", "LabOR PPL", labor_step,
        labels="asked", rule="ppl", budget="points", selector="selector",
    ),
    Method(
        "random_pixels_0.5", "random pixels, 0.5 %", labor_step,
        labels="asked", rule="random", budget="pixels", pixels=0.005,
    ),
    Method(
        "spl_sampled_0.5", "LabOR SPL, sampled, 0.5 %", labor_step,
        labels="asked", rule="spl_sampled", budget="pixels", selector="selector", pixels=0.005,
    ),
    Method(
        "random_pixels", "random pixels", labor_step,
        labels="asked", rule="random", budget="pixels",
    ),
    Method(
        "spl", "LabOR SPL, whole mask", labor_step,
        labels="asked", rule="spl", budget="mask", selector="spl_selector",
    ),
    Method(
        "spl_sampled", "LabOR SPL, sampled", labor_step,
        labels="asked", rule="spl_sampled", budget="pixels", selector="selector",
    ),
    Method(
        "supervised_target", "supervised, target only", supervised_target_step,
        labels="all", use_source=False,
    ),
    Method("supervised", "supervised, source + target", supervised_step, labels="all"),
    Method("supervised_x2", "supervised, 2 x stage steps", supervised_step, labels="all",
           steps_factor=2),
    Method("supervised_x4", "supervised, 4 x stage steps", supervised_step, labels="all",
           steps_factor=4),
)  # fmt: skip

METHODS = {method.name: method for method in _METHODS}

MAIN = (
    "source_only",
    "adabn",
    "adaptsegnet",
    "iast",
    "random_pixels",
    "ppl",
    "spl",
    "spl_sampled",
    "supervised",
)


def resolve(names: list[str]) -> list[Method]:
    """Methods by name; "main" and "all" stand for groups. Raises InputError for an unknown one."""
    groups = {"all": list(METHODS), "main": list(MAIN)}
    flat = [member for name in names for member in groups.get(name, [name])]
    for name in flat:
        if name not in METHODS:
            raise InputError(
                f"unknown method '{name}': choose from {', '.join(METHODS)}, or main, or all"
            )
    return [METHODS[name] for name in dict.fromkeys(flat)]
