"""Interactive views of a run, each a last line of a cell, each in a file of its own.

    SelectionExplorer(run)       what a stage saw of an image and asked there, layer by layer
    PrototypeViewer(run)         PPL's choice of one point a class, step by step
    DisagreementSlider(scene)    the mask over the selector's training steps
    CompareDashboard(run)        methods, classes and budgets side by side
    SettingChooser()             which adaptation problem is this?
    AnnotationWidget(store)      answer what a method asks, by mouse or keyboard

Every view has `figure()`, the same state without a kernel.
"""

from labor_lib.lab.ui.annotate import AnnotationWidget
from labor_lib.lab.ui.compare import CompareDashboard
from labor_lib.lab.ui.controls import Panel, Picture, Text
from labor_lib.lab.ui.disagreement import DisagreementSlider
from labor_lib.lab.ui.explorer import SelectionExplorer
from labor_lib.lab.ui.prototypes import PrototypeViewer
from labor_lib.lab.ui.settings import SettingChooser

__all__ = [
    "AnnotationWidget",
    "CompareDashboard",
    "DisagreementSlider",
    "Panel",
    "Picture",
    "PrototypeViewer",
    "SelectionExplorer",
    "SettingChooser",
    "Text",
]
