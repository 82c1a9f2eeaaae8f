"""Make torchvision importable beside a CPU-only torch: import this before it.

PyPI's torchvision wheel is linked against CUDA. Beside a CPU build of torch its compiled operators
cannot load, which is meant to be survivable, but its Python part then stops at registering shape
functions for operators that do not exist (pytorch/vision#9085). Declaring those two operators lets
the import finish; nothing here ever calls them. Where torchvision loads as it should, its own
library is loaded here first and nothing is declared.
"""

import importlib.util
from pathlib import Path

import torch

_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared = None  # keeps the declarations alive


def _declare_missing_operators() -> None:
    global _declared
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return
    for library in Path(package.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:
            _declared = torch.library.Library("torchvision", "DEF")
            for operator in _MISSING:
                _declared.define(operator)


_declare_missing_operators()
