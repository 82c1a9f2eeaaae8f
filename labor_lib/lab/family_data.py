"""What every phase trains on and is scored on: sources, held-out images, target, few labels."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from labor_lib.data import classification
from labor_lib.errors import InputError
from labor_lib.family_config import FamilyConfig, Where

MEAN = "mean"  # over the domains left out, in tables
TEST_LIST = "(test list)"  # beside the names of domains
MEMORY = 4e9  # bytes of decoded images that are kept; larger folders are decoded at every step


@dataclass(frozen=True)
class Problem:
    """What one phase trains on and is scored on.

    sources, validation: one domain or several, in the same order. few: the labelled target images.
    target_train: the target's training images; its labels are for the ceiling.
    """

    sources: tuple
    validation: tuple
    target_test: object
    target_train: object | None = None
    few: object | None = None

    @property
    def channels(self) -> int:
        return self.target_test.batch([0]).shape[1]

    @property
    def seen(self) -> Tensor:
        """N bool: test images that are among the few, pixel by pixel (CCSA's split files)."""
        test = self.target_test.batch(range(len(self.target_test))).flatten(1)
        mine = self.few.batch(range(len(self.few))).flatten(1)
        return torch.stack([(test == image).all(dim=1) for image in mine]).any(dim=0)


class Data:
    """Makes the problems of a run. `targets`: the domains to leave out, or ("",) in adaptation."""

    def __init__(self, config: FamilyConfig, where: Where):
        self.config, self.where = config, where
        if config.shift in ("ccsa", "folder") and where.root is None:
            raise InputError(f"shift '{config.shift}' needs --root: the folder of its images")
        if bool(where.source) != bool(where.target):
            raise InputError("--source and --target go together: give both domains, or neither")
        self.generalises = config.shift == "styles" or (
            config.shift == "folder" and not where.target
        )
        self._folder = self._read() if config.shift == "folder" else None
        self.domains = lru_cache(maxsize=1)(self._domains)  # one seed's images at a time
        self.targets = tuple(self.domains(0)) if self.generalises else ("",)
        if self.generalises and len(self.targets) < 2:
            raise InputError(f"{where.root}: one domain; leaving one out needs at least two")

    def _read(self) -> dict:
        """A folder's domains, in memory where they fit: all, or the source and the target alone.

        Where DomainNet's lists lie beside these two, they say what is for training, and `TEST_LIST`
        is what the target is tested on.
        """
        where, size = self.where, self.config.training.size
        pair = (where.source, where.target)
        if not where.target:
            read = classification.read_domains(where.root, size=size)
            if MEAN in read:
                raise InputError(f"{where.root / MEAN}: a domain of this name; rename it")
        elif (where.root / f"{where.target}_train.txt").exists():
            read = classification.read_lists(where.root, pair, "train", size)
            test = classification.read_lists(where.root, pair[1:], "test", size)
            read[TEST_LIST] = test[where.target]
        else:
            read = classification.read_domains(where.root, pair, size)
        if sum(map(len, read.values())) * 3 * size**2 < MEMORY:
            return {name: domain.load() for name, domain in read.items()}
        return read

    def counted(self) -> dict:
        """A folder's classes, and how many images each domain has."""
        counts = {name: len(domain) for name, domain in self._folder.items()}
        return {"classes": list(next(iter(self._folder.values())).classes), "images": counts}

    def _domains(self, seed: int):
        """Domains by name, or a `Shift`."""
        if self.config.shift == "folder":
            return self._folder
        if self.config.shift == "styles":
            return classification.styles(seed)
        return classification.SHIFTS[self.config.shift](seed)

    def problem(self, seed: int, target: str, n: int | None) -> Problem:
        """Of one seed, one domain left out, n labelled target images a class (None: none)."""
        config, where = self.config, self.where
        if config.shift == "ccsa":
            source, few, test = classification.read_ccsa(where.root, n, where.repetition)
            return Problem((source,), (), test, few=few)
        domains = self.domains(seed)
        if self.generalises:
            share = config.validation
            parts = [
                classification.split(domain, (1 - share, share), seed)
                for name, domain in domains.items()
                if name != target
            ]
            training, validation = zip(*parts, strict=True)
            return Problem(training, validation, domains[target])
        shift = domains
        if config.shift == "folder":
            shift = _shift_of(domains, where, config.validation, seed)
        few = None if n is None else classification.few(shift.target_train, n, seed)
        return Problem(
            (shift.source,), (shift.source_val,), shift.target_test, shift.target_train, few
        )


def _shift_of(domains: dict, where: Where, share: float, seed: int) -> classification.Shift:
    """A source and a target of a folder. Without lists 60 % of the target is for training."""
    source = classification.split(domains[where.source], (1 - share, share), seed)
    if TEST_LIST in domains:
        target = domains[where.target], domains[TEST_LIST]
    else:
        target = classification.split(domains[where.target], (0.6, 0.4), seed)
    return classification.Shift(
        source=source[0], source_val=source[1], target_train=target[0], target_test=target[1]
    )
