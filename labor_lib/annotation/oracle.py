"""The oracle: the only way in which a training gets labels of the target's training split.

It stands for a person. It reads the label file of an image when it is asked about that image, and
answers for the asked pixels alone.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from labor_lib.annotation.cost import Cost, count_cost
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.labels import IGNORE
from labor_lib.selection.record import Selection


class Oracle:
    """Answers selections from the label files of a split.

    open_labelled: opens the split with its labels; called at the first question, so that the
    files need not exist before.
    """

    def __init__(self, open_labelled: Callable[[], SegmentationFolder]):
        self._open = open_labelled

    @cached_property
    def folder(self) -> SegmentationFolder:
        """The split with its labels."""
        return self._open()

    def check(self) -> None:
        """Read every label file once, so that a bad one stops a run before its warm-up.

        Raises InputError where one is missing or damaged.
        """
        for index in range(len(self.folder)):
            self.truth(index)

    def truth(self, index: int) -> np.ndarray:
        """The whole label of one image, H x W: for those who stand for a person."""
        return self.folder.label(index).numpy()

    def ask(self, selection: Selection, name: str = "", **_) -> tuple[Selection, list[Cost]]:
        """The same selection with its answers, and what each image cost.

        Other annotators use a name and more (see `StoreAnnotator.ask`), the oracle does not. A void
        pixel costs like any other and is answered 255. Raises InputError where a label file is
        missing or damaged.
        """
        answers, costs = [], []
        for index, positions in enumerate(selection.positions):
            if len(positions) == 0:
                answers.append(np.empty(0, np.uint8))
                costs.append(Cost(0.0, 0, 0))
                continue
            truth, (height, width) = self.truth(index), self.folder.native_size(index)
            answers.append(truth.reshape(-1)[positions])
            costs.append(count_cost(selection.mask(index), truth, height * width))
        return Selection(selection.size, selection.positions, answers), costs

    def one_of_each_class(self, seed: int) -> Selection:
        """A random pixel of each class that is in an image: what the person who looks at it would
        point at."""
        selection = Selection(tuple(self.folder.size))
        for index in range(len(self.folder)):
            truth, random = self.truth(index).reshape(-1), np.random.default_rng([seed, index])
            present = np.setdiff1d(truth, [IGNORE])
            places = [random.choice(np.flatnonzero(truth == one)) for one in present]
            selection.positions.append(np.array(sorted(places), np.int64))
        return selection

    def ask_everything(self) -> tuple[Callable[[int], np.ndarray], list[Cost]]:
        """Full supervision: a function from image number to its label, and what each image cost."""
        costs = []
        for index in range(len(self.folder)):
            truth, (height, width) = self.truth(index), self.folder.native_size(index)
            costs.append(count_cost(np.ones(truth.shape, bool), truth, height * width))
        return self.truth, costs
