"""Every method by name: a row of the tables is an entry here, and the tests run over all of them.

A new method is a file with its loss and step, and one entry.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from torch import nn

from labor_lib.annotation.cost import acts
from labor_lib.config import SHIFTS, ClassificationConfig
from labor_lib.errors import InputError
from labor_lib.methods.aada import aada_step
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.ass import ass_step
from labor_lib.methods.ccsa import ccsa_step
from labor_lib.methods.classwise import class_networks
from labor_lib.methods.dacs import dacs_step, labor_teacher_step, teacher_networks
from labor_lib.methods.dann import dann_networks, dann_step
from labor_lib.methods.erm import erm_step, joint_step, target_step
from labor_lib.methods.iast import iast_step
from labor_lib.methods.labor import labor_step
from labor_lib.methods.regions import filled_step
from labor_lib.methods.sagnet import (
    pooled_networks,
    pooled_step,
    sagnet_networks,
    sagnet_parameters,
    sagnet_step,
)
from labor_lib.methods.source_only import source_only_step, supervised_step, supervised_target_step
from labor_lib.methods.wda import wda_points_step, wda_tags_step
from labor_lib.nets import digits
from labor_lib.runtime import seed_everything
from labor_lib.selection.rules import COMPARE, RULES, SCORED
from labor_lib.train import Nets, Optimizers, Step


@dataclass(frozen=True)
class Style:
    """How figures draw a method. filled: whether its marker is."""

    colour: str
    marker: str = "o"
    line: str | tuple = "-"
    filled: bool = True


@dataclass(frozen=True)
class Method:
    """What one row of a table is: its step, and what it may know of the target."""

    name: str
    title: str
    step: Step
    # "nothing", "images", "pseudo" labels, "points", "pixels", "few" labelled images, "tags" (which
    # classes are in an image), "class points" (one of each), or "all"
    sees: str = "nothing"
    source: bool = True  # whether its steps take source images
    trains_as: str = ""  # the method whose networks it shares, where only the evaluation differs
    adapts: bool = False  # whether it ends with the target's BatchNorm statistics
    # builds further networks by name: of segmentation from (config, classes), of classification
    # from (net, a second one of its kind, config)
    networks: Callable[..., Nets] | None = None
    style: Style | None = None  # how figures draw it; by default what `sees` suggests

    # Segmentation, after the warm-up that all methods share: "adversarial", or "source_more"
    # (source labels alone, at equal steps), or "": none; then the first stage has the warm-up's
    # steps too, and asks at random
    warm_up: str = "adversarial"
    rule: str = ""  # of `selection.rules`, or where whole images are asked of `selection.images`
    selector: str = ""  # field of `Config` with the pixel selector's settings, where it has one
    whole_mask: bool = False  # whether it asks the whole mask (capped) instead of a budget
    pixels: float | None = None  # share of an image instead of the configuration's
    points: int | None = None  # of an image over all stages, instead of the configuration's
    fill: tuple[str, ...] = ()  # labels nobody gave: "regions" round answers, "pseudo" elsewhere
    steps_factor: int = 1  # times the configuration's stage steps
    scored: str = "segmenter"  # the network that is evaluated
    # "all" stands for none of these: a control, which answers a question about another method; one
    # of the comparison of choices of pixels; another paper's way to use few labels, which is not
    # for people: their sheet asks for pixels
    control: bool = False
    arena: bool = False
    rival: bool = False

    # Classification
    # (nets, config) -> parameters of further optimisers by name
    parameters: Callable[..., dict[str, list[nn.Parameter]]] | None = None
    settings: str = ""  # the field of `ClassificationConfig` with its settings
    pairs: bool = False  # whether its batches are pairs of source and target images
    begins_with: str = ""  # the method whose last weights it starts from
    steps: str = "steps"  # the field of `TrainingConfig` with the number of its steps

    @property
    def asks(self) -> bool:
        """Whether a person is asked for a part of the labels."""
        return self.kind not in ("none", "all")

    @property
    def asks_points(self) -> bool:
        """Whether single pixels are asked."""
        return self.sees in ("points", "tags", "class points")

    @property
    def kind(self) -> str:
        """What tables and figures group by: "none", or what is seen of the labels."""
        return "none" if self.sees in ("nothing", "images", "pseudo") else self.sees


# ---------------------------------------------------------------------------- segmentation

_SEGMENTATION = (
    Method("source_only", "source only", source_only_step, warm_up="source_more",
           style=Style("#9a9a9a", "x", (0, (1, 2)))),
    Method("adabn", "AdaBN (target BatchNorm statistics)", source_only_step, sees="images",
           warm_up="source_more", trains_as="source_only", adapts=True,
           style=Style("#a6a6a6", "o", (0, (4, 3)), filled=False)),
    Method("adaptsegnet", "AdaptSegNet (UDA)", adaptsegnet_step, sees="images", adapts=True,
           style=Style("#737373", "D", (0, (6, 2, 1, 2)))),
    Method("iast", "IAST's pseudo labels (UDA)", iast_step, sees="pseudo", adapts=True,
           style=Style("#333333", "s", (0, (10, 3)))),
    Method("dacs", "DACS (UDA)", dacs_step, sees="images", adapts=True, warm_up="source_more",
           networks=teacher_networks, style=Style("#1a1a1a", "^", (0, (3, 1, 1, 1)))),
    Method("random_points", "random points", labor_step, sees="points", adapts=True,
           rule="random", style=Style("#56b4e9", "v", filled=False)),
    Method("margin_points", "margin points", labor_step, sees="points", adapts=True,
           rule="margin", style=Style("#2b8cc4", "^", filled=False)),
    Method("ppl", "LabOR PPL", labor_step, sees="points", adapts=True, rule="ppl",
           selector="selector", style=Style("#0072b2", "o")),
    Method("ppl_teacher", "LabOR PPL + teacher", labor_teacher_step, sees="points", adapts=True,
           rule="ppl", selector="selector", networks=teacher_networks,
           style=Style("#004a75", "p")),
    Method("random_pixels_0.5", "random pixels, 0.5 %", labor_step, sees="pixels", adapts=True,
           rule="random", pixels=0.005, style=Style("#e69f00", "<", "--", filled=False)),
    Method("spl_sampled_0.5", "LabOR SPL, sampled, 0.5 %", labor_step, sees="pixels", adapts=True,
           rule="spl", selector="selector", pixels=0.005,
           style=Style("#b04a00", "p", "--", filled=False)),
    Method("random_pixels", "random pixels", labor_step, sees="pixels", adapts=True,
           rule="random", style=Style("#e69f00", "s")),
    Method("spl", "LabOR SPL, whole mask", labor_step, sees="pixels", adapts=True, rule="spl",
           selector="spl_selector", whole_mask=True, style=Style("#d55e00", "P")),
    Method("spl_sampled", "LabOR SPL, sampled", labor_step, sees="pixels", adapts=True,
           rule="spl", selector="selector", style=Style("#8c3b00", "D")),
    Method("spl_teacher", "LabOR SPL, sampled + teacher", labor_teacher_step, sees="pixels",
           adapts=True, rule="spl", selector="selector", networks=teacher_networks,
           style=Style("#5c2700", "h")),
    Method("supervised_target", "supervised, target only", supervised_target_step, sees="all",
           adapts=True, source=False, style=Style("#000000", "h", (0, (1, 1)))),
    Method("supervised", "supervised, source + target", supervised_step, sees="all", adapts=True,
           style=Style("#000000", "*")),
    Method("supervised_x2", "supervised, 2 x stage steps", supervised_step, sees="all",
           adapts=True, steps_factor=2, style=Style("#000000", "d", (0, (5, 2)))),
    Method("supervised_x4", "supervised, 4 x stage steps", supervised_step, sees="all",
           adapts=True, steps_factor=4, style=Style("#000000", "X", (0, (8, 2, 1, 2)))),
)  # fmt: skip
METHODS = {method.name: method for method in _SEGMENTATION}


def _controls() -> list[Method]:
    """Without any source image; with more steps; with the teacher's averaged weights evaluated.

    Not of the whole mask without source: its size in the first stage is a model's.
    """
    found = []
    asking = ("random_points", "margin_points", "ppl", "random_pixels", "spl_sampled")
    for one in (METHODS[name] for name in (*asking, "supervised")):
        found.append(
            replace(one, name=f"{one.name}_target_only", title=f"{one.title}, no source",
                    step=supervised_target_step, source=False, warm_up="",
                    style=replace(one.style, line=":", filled=False))
        )  # fmt: skip
    for one in (METHODS[name] for name in (*asking, "spl")):
        for factor, line in ((2, (0, (5, 2))), (4, (0, (8, 2, 1, 2)))):
            found.append(
                replace(one, name=f"{one.name}_x{factor}", title=f"{one.title}, {factor} x steps",
                        steps_factor=factor, style=replace(one.style, line=line))
            )  # fmt: skip
    for one in (METHODS[name] for name in ("dacs", "ppl_teacher", "spl_teacher")):
        found.append(
            replace(one, name=f"{one.name}_averaged", title=f"{one.title}, averaged weights",
                    trains_as=one.name, scored="teacher", style=replace(one.style, line="-."))
        )  # fmt: skip
    return [replace(one, control=True) for one in found]


METHODS |= {method.name: method for method in _controls()}

# --------------------------------------------------------------------------------- the arena

UNITS = {"points": "points", "percent": "pixels", "seconds": "points"}  # what a method then sees
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def arena_method(strategy: str, budget: float, unit: str = "points") -> Method:
    """LabOR's network, warm-up and steps with another choice of pixels, or another budget.

    strategy: one of `strategies()`. budget, unit: of an image over all stages, in points, percent
    of its pixels, or seconds of a person, who needs those of a point for every asked pixel. It is
    called `STRATEGY@BUDGETunit`, such as "margin@40points", and METHODS knows it from now on.
    Raises InputError for other names and for a budget that is not above 0.
    """
    if unit not in UNITS:
        raise InputError(f"unit '{unit}' is unknown: choose from {', '.join(UNITS)}")
    known = strategies()
    if strategy not in known:
        nearest = get_close_matches(strategy, known, 1, 0)[0]
        raise InputError(
            f"strategy '{strategy}' is unknown; did you mean '{nearest}'? "
            f"There are {', '.join(known)}"
        )
    if not 0 < budget < float("inf") or (unit == "percent" and budget > 100):
        raise InputError(f"a budget of {budget:g} {unit}: give a number above 0, in {unit}")
    number = list(known).index(strategy)
    own = {"points": int(budget)}
    if unit == "percent":
        own = {"pixels": budget / 100}
    elif unit == "seconds":
        own = {"points": int(budget / acts().loc["point", "seconds"])}
    rule = known[strategy].get("rule", strategy)
    method = Method(
        f"{strategy}@{budget:g}{unit}", f"{strategy_title(strategy)}, {budget:g} {unit}",
        sees=UNITS[unit], adapts=True, arena=True, selector="selector" if rule in COMPARE else "",
        style=Style(_COLOURS[number % 6], "ov^<>sDpPX*hd"[number // 6 % 13]),
        **own, **{"rule": rule, "step": labor_step} | known[strategy],
    )  # fmt: skip
    return METHODS.setdefault(method.name, method)


def strategy_title(strategy: str) -> str:
    """As readers know it: "RIPU points", "class-balanced margin, sampled"."""
    rule, fill = strategy, ()
    if strategy in COMBINED:
        rule, fill = COMBINED[strategy]["rule"], COMBINED[strategy]["fill"]
    words = rule.replace("balanced_", "class-balanced_").replace("rare_", "rare-class_").split("_")
    words = [word.upper() if word in ("ripu", "ppl", "spl") else word for word in words]
    flavour = words.pop() if rule in SCORED and words[-1] in ("sampled", "spaced") else ""
    parts = [" ".join(words) + (f", {flavour}" if flavour else "")]
    return " + ".join([*parts, *(_FILLS[one] for one in fill)])


def entered(name: str) -> tuple[str, float, str]:
    """Strategy, budget and unit of a name such as "margin@40points", which METHODS knows from now
    on; raises InputError for others."""
    found = re.fullmatch(r"(\w+)@([\d.e+-]+)([a-z]+)", name)
    if not found:
        raise InputError(f"'{name}' is no entry of an arena, such as margin@40points")
    strategy, budget, unit = found[1], float(found[2]), found[3]
    arena_method(strategy, budget, unit)
    return strategy, budget, unit


# what differs from LabOR's step with the rule of the same name
_FILLS = {"regions": "regions", "pseudo": "pseudo labels"}
COMBINED: dict[str, dict] = {
    f"{rule}_{end}": {"rule": rule, "step": filled_step, "fill": fill}
    for rule in ("random", "margin", "rare_margin_spaced")
    for end, fill in {
        "regions": ("regions",), "pseudo": ("pseudo",), "filled": ("regions", "pseudo")
    }.items()
}  # fmt: skip


def strategies() -> dict[str, dict]:
    """Every strategy of the arena by name: the rules, and what is combined with one."""
    return {rule: {} for rule in RULES} | COMBINED


# ------------------------------------------------------------------------- few-label rivals

_RIVALS = (
    Method("random_images", "random images", aada_step, sees="few", adapts=True,
           rule="random_images", style=Style("#009e73", "v", filled=False)),
    Method("aada", "AADA's images", aada_step, sees="few", adapts=True, rule="aada",
           style=Style("#009e73", "o")),
    Method("ass", "ASS, random images", ass_step, sees="few", adapts=True, rule="random_images",
           networks=class_networks, style=Style("#00573f", "s")),
    Method("wda_tags", "WDA, image tags", wda_tags_step, sees="tags", adapts=True,
           networks=class_networks, style=Style("#cc79a7", "^", filled=False)),
    Method("wda_points", "WDA, a point of each class", wda_points_step, sees="class points",
           adapts=True, networks=class_networks, style=Style("#9c4f7c", "D")),
)  # fmt: skip
METHODS |= {method.name: replace(method, rival=True) for method in _RIVALS}

MAIN = (
    *("source_only", "adabn", "adaptsegnet", "iast", "random_pixels", "ppl", "spl", "spl_sampled"),
    "supervised",
)


# -------------------------------------------------------------------------- classification

_CLASSIFICATION = (
    Method("source_only", "source only (ERM)", erm_step, style=Style("#9a9a9a", "x", (0, (1, 2)))),
    Method("adabn", "AdaBN", erm_step, sees="images", adapts=True, trains_as="source_only",
           style=Style("#707070", "+", (0, (4, 3)))),
    Method("dann", "DANN", dann_step, sees="images", adapts=True, settings="dann",
           networks=dann_networks, style=Style("#0072b2", "o")),
    Method("finetune", "fine-tuning", target_step, sees="few", source=False,
           begins_with="source_only", steps="finetune_steps",
           style=Style("#e69f00", "^", "--", filled=False)),
    Method("joint", "joint training", joint_step, sees="few",
           style=Style("#7a3300", "D", (0, (6, 2, 1, 2)), filled=False)),
    Method("ccsa", "CCSA", ccsa_step, sees="few", pairs=True, settings="ccsa",
           style=Style("#d55e00", "s")),
    Method("sagnet", "SagNet", sagnet_step, settings="sagnet", networks=sagnet_networks,
           parameters=sagnet_parameters, style=Style("#009e73", "P")),
    Method("sagnet_pooled", "SagNet as in DomainBed", pooled_step, settings="sagnet",
           networks=pooled_networks, style=Style("#56b4e9", "v", filled=False)),
    Method("target", "all target labels", target_step, sees="all", source=False,
           style=Style("#000000", "*")),
)  # fmt: skip
CLASSIFICATION = {method.name: method for method in _CLASSIFICATION}


def resolve(names: list[str], config: ClassificationConfig | None = None) -> list[Method]:
    """Methods by name; "main", "all", "controls" and "rivals" stand for groups: of segmentation, or
    with a configuration "main" and "all" of those that apply to its shift. Raises InputError for
    others."""
    known = METHODS
    if config is not None:
        listed = {name for shift in SHIFTS.values() for name in shift.methods}
        given = {CLASSIFICATION[name].sees for name in config.methods}
        # those that no shift lists apply where there is what they see
        own = [name for name, m in CLASSIFICATION.items() if name not in listed and m.sees in given]
        known = {name: CLASSIFICATION[name] for name in (*config.methods, *own)}
    groups = {
        "all": [name for name, m in known.items() if not (m.control or m.arena or m.rival)],
        "main": list(MAIN if config is None else config.main),
    }
    if config is None:
        groups["controls"] = [name for name in known if known[name].control]
        groups["rivals"] = [name for name in known if known[name].rival]
    flat = [member for name in names for member in groups.get(name, [name])]
    for name in flat:
        if name not in known:
            why = "is unknown"
            if config is not None and name in CLASSIFICATION:
                why = f"does not apply to '{config.shift}'"
            names = [name for name in known if not known[name].arena]
            raise InputError(f"method '{name}' {why}: choose from {', '.join([*names, *groups])}")
    return [known[name] for name in dict.fromkeys(flat)]


def build_classification(
    method: Method, config: ClassificationConfig, classes: int, channels: int, seed: int
) -> tuple[Nets, Optimizers]:
    """Fresh networks and optimisers of a method; "net" starts alike for all methods of a seed."""
    training = config.training
    seed_everything(seed, "networks")
    nets = {"net": digits.build(training, classes, channels, distances=method.pairs)}
    if method.networks:
        seed_everything(seed, "networks", method.name)
        twin = digits.build(training, classes, channels)
        nets |= method.networks(nets["net"], twin, config)
    parameters = {name: list(net.parameters()) for name, net in nets.items()}
    if method.parameters:
        parameters |= method.parameters(nets, config)
    return nets, {name: digits.optimizer(p, training) for name, p in parameters.items()}
