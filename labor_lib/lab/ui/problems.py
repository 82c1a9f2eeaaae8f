"""The table of adaptation problems: what is given, and what that is called.

Every problem has a labelled source and a target on which the network shall work. Four answers
(`QUESTIONS`) name it; `problem_of` finds it. For `widgets.SettingChooser`.
"""

from dataclasses import dataclass

from labor_lib.errors import InputError

QUESTIONS = {  # name: the question, its answers
    "domain": ("target's domain (how images look)", ("same", "other")),
    "task": ("target's task (which classes)", ("same", "other")),
    "labels": ("labels on the target", ("all", "few", "none")),
    "images": ("unlabelled target images in training", ("yes", "no")),
}
COLUMNS = (  # labels, images: the columns of the table; all labels leave nothing unlabelled
    ("all", "yes"),
    ("few", "yes"),
    ("few", "no"),
    ("none", "yes"),
    ("none", "no"),
)
COLUMN_NAMES = (
    "all labels",
    "few labels, rest unlabelled",
    "few labels, no more images",
    "no labels, but images",
    "nothing of the target",
)
ROWS = (("same", "same"), ("other", "same"), ("same", "other"), ("other", "other"))
ROW_NAMES = (
    "same domain, same task",
    "other domain, same task",
    "same domain, other task",
    "other domain, other task",
)
_ANY = ("yes", "no")


@dataclass(frozen=True)
class Problem:
    """One kind of adaptation.

    domains, tasks, labels, images: the answers that lead here. meaning: one sentence. notebooks:
    file names without ending, of those that treat it.
    """

    name: str
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    images: tuple[str, ...]
    meaning: str
    example: str
    notebooks: tuple[str, ...] = ()

    def fits(self, domain: str, task: str, labels: str, images: str) -> bool:
        return (
            domain in self.domains
            and task in self.tasks
            and labels in self.labels
            and images in self.images
        )


PROBLEMS = (
    # the same domain, the same task
    Problem(
        "supervised learning", ("same",), ("same",), ("all",), _ANY,
        "Every image has its labels, and new ones come from the same domain.",
        "Train on labelled camera streets, predict other camera streets.",
        ("02_source_only_and_supervised",),
    ),
    Problem(
        "semi-supervised learning", ("same",), ("same",), ("few", "none"), ("yes",),
        "One domain; a part of its images has labels, and the rest helps without them.",
        "Pseudo labels on the images that nobody has labelled.",
        ("04_pseudo_labels",),
    ),
    Problem(
        "supervised learning", ("same",), ("same",), ("few", "none"), ("no",),
        "The target looks like the source, which has labels: there is nothing to adapt.",
        "Train on the game, predict other images of the game.",
        ("02_source_only_and_supervised",),
    ),
    # another domain, the same task: domain adaptation
    Problem(
        "supervised domain adaptation", ("other",), ("same",), ("all",), _ANY,
        "The target has all its labels, too: the ceiling that every other row is measured by.",
        "Train on the labelled game and on fully labelled camera streets.",
        ("02_source_only_and_supervised", "09_compare"),
    ),
    Problem(
        "semi-supervised or active domain adaptation", ("other",), ("same",), ("few",), ("yes",),
        "Few target labels and many target images without; active, where the method chooses "
        "which labels to ask: that is LabOR.",
        "Ask a person for 40 points an image, where two classifiers disagree.",
        ("05_pixel_selector", "06_spl", "07_ppl", "08_the_loop", "09_compare"),
    ),
    Problem(
        "few-shot supervised domain adaptation", ("other",), ("same",), ("few",), ("no",),
        "A few labelled target samples are all there is of the target.",
        "Pull samples of one class together across the domains, push others apart (CCSA).",
        ("13_ccsa",),
    ),
    Problem(
        "unsupervised domain adaptation", ("other",), ("same",), ("none",), ("yes",),
        "Target images without a single label; the source has them all.",
        "An adversary makes predictions on both domains look alike; pseudo labels.",
        ("03_adversarial_warmup", "04_pseudo_labels", "12_dann"),
    ),
    Problem(
        "domain generalisation", ("other",), ("same",), ("none",), ("no",),
        "Nothing of the target is seen before the test: training has to prepare for any domain.",
        "Train on the game alone and hope (source only), or take the style out of it (SagNet).",
        ("01_domain_shift", "02_source_only_and_supervised", "14_sagnet"),
    ),
    # another task: transfer learning
    Problem(
        "transfer learning by fine-tuning", ("same", "other"), ("other",), ("all",), _ANY,
        "Take a trained network, give it a new last layer and train it on the new task.",
        "ImageNet's 1,000 classes first, street classes then: how ResNet-101 begins.",
    ),
    Problem(
        "transfer learning with few labels", ("same", "other"), ("other",), ("few",), _ANY,
        "The new task has few labels: keep most of the trained network as it is.",
        "A linear classifier on frozen features, from five labelled images a class.",
    ),
    Problem(
        "category discovery", ("same",), ("other",), ("none",), ("yes",),
        "New classes without any label: find them as clusters, with features of the old ones.",
        "Group unlabelled vehicles into kinds that the source does not name.",
    ),
    Problem(
        "open-set domain adaptation", ("other",), ("other",), ("none",), ("yes",),
        "Another domain with other classes and no label: only classes that both share carry over.",
        "Recognise cars in another city, and say \u201cunknown\u201d to its rickshaws.",
    ),
    Problem(
        "zero-shot transfer", ("same", "other"), ("other",), ("none",), ("no",),
        "Neither images nor labels of the new task: only a description of its classes can help.",
        "Match images with the names of classes in a model of images and words (CLIP).",
    ),
)  # fmt: skip


def problem_of(domain: str, task: str, labels: str, images: str) -> Problem:
    """The problem with these answers to `QUESTIONS`; raises InputError for an unknown answer."""
    given = {"domain": domain, "task": task, "labels": labels, "images": images}
    for name, answer in given.items():
        if answer not in QUESTIONS[name][1]:
            raise InputError(f"{name} '{answer}': choose from {', '.join(QUESTIONS[name][1])}")
    return next(problem for problem in PROBLEMS if problem.fits(**given))


def cell_of(domain: str, task: str, labels: str, images: str) -> tuple[int, int]:
    """Row and column of the answers in the table."""
    column = 0 if labels == "all" else COLUMNS.index((labels, images))
    return ROWS.index((domain, task)), column


def table() -> list[list[Problem]]:
    """The problems of `ROWS` by `COLUMNS`."""
    return [[problem_of(*row, *column) for column in COLUMNS] for row in ROWS]
