"""Which method to choose: questions, the advice they lead to, and code that runs it.

`TREE` is a decision tree of questions; each of its leaves is an `Advice`. For
`widgets.MethodChooser` and `viz.guide_figure`. Only what this project has run is
recommended; where it has nothing, the advice says so and names what to read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from labor_lib.config import shift_settings as settings
from labor_lib.errors import InputError


@dataclass(frozen=True)
class Question:
    """answers: name -> what the reader sees."""

    text: str
    answers: dict[str, str]


QUESTIONS = {
    "classes": Question(
        "Which classes does the target have?",
        {"same": "the source's", "new": "others, too", "fewer": "some of the source's"},
    ),
    "output": Question(
        "What is predicted?",
        {"image": "a class for each image", "pixel": "a class for each pixel",
         "other": "something else"},
    ),
    "images": Question(
        "Are there target images at training time?",
        {"many": "many", "few": "only a few, with labels", "no": "none"},
    ),
    "sources": Question("How many source domains?", {"one": "one", "several": "several"}),
    "labels": Question(
        "Are there labels on the target?",
        {"none": "none", "ask": "none, but a person can be asked", "few": "a few", "all": "all"},
    ),
    "source": Question(
        "Are the labelled source images at hand?",
        {"yes": "yes", "no": "no, only a network trained on them"},
    ),
    "budget": Question(
        "How many labels are there?", {"handful": "1 to 5 a class", "more": "more"}
    ),
    "answer": Question(
        "What can the person name in an image?",
        {"points": "about 40 points", "pixels": "2 % of its pixels"},
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------- advice

DATA = {
    "textured": "digits, white on black -> other digits on textures",
    "fonts": "printed digits -> handwritten digits",
    "styles": "shapes in four styles, one of them left out at a time",
    "streets": "streets of a game -> streets of a camera",
}


@dataclass(frozen=True)
class Advice:
    """A leaf of the tree.

    why: two or three sentences, limits included. given: what the method is given of the target.
    notebooks: file names without ending. data: names in `DATA`. run: methods of the registry that
    the code compares; those that do not apply to the chosen data are left out. code: a key of
    `TEMPLATES`. reading: where this project has no method.
    """

    name: str
    title: str
    given: str
    why: str
    notebooks: tuple[str, ...]
    data: tuple[str, ...]
    run: tuple[str, ...]
    code: str
    reading: str = ""


_ADVICE = (
    Advice(
        "source_only", "source only (ERM)", "nothing",
        "With one source and nothing of the target there is nothing to adapt to: plain training is "
        "what everything else has to beat. SagNet runs on one source, too, with only the styles "
        "inside it to mix; on the textures it came out ahead, at several times the training time, "
        "so run both there. The better investment is to get target images, even without labels.",
        ("02_source_only_and_supervised", "15_choose_a_method"), ("textured", "fonts", "styles"),
        ("source_only", "sagnet", "target"), "compare",
    ),
    Advice(
        "sagnet", "SagNet", "nothing",
        "Several sources show what may change while the class stays the same: SagNet mixes their "
        "styles in training, so that the class has to be read from the content. It helps where the "
        "shift is one of style, and its gain varies by the domain left out and by the seed, so "
        "keep plain training on the pooled sources (ERM) beside it. Choose settings on held-out "
        "images of the sources, never on the target.",
        ("14_sagnet",), ("styles", "textured"),
        ("source_only", "sagnet", "sagnet_pooled", "target"), "compare",
    ),
    Advice(
        "adabn", "AdaBN", "images without labels",
        "A trained network can still be given the target's BatchNorm statistics: one pass over "
        "unlabelled images, no training and no source. On the textures that alone closes much of "
        "the gap, and every other method has to be compared with it. It does nothing for a "
        "network without BatchNorm, and it cannot help where more than contrast and colour differ.",
        ("12_dann",), ("textured",), ("source_only", "adabn", "target"), "compare",
    ),
    Advice(
        "dann", "DANN", "images without labels",
        "With the source's labels and the target's images, an adversary makes the features of "
        "both domains look alike; on the textures that is clearly more than BatchNorm statistics "
        "alone. It aligns domains, not classes: where class shares differ it can align the wrong "
        "ones, and without target labels nothing tells you that it did. Keep AdaBN beside it "
        "where the network has BatchNorm.",
        ("12_dann",), ("textured", "fonts"), ("source_only", "adabn", "dann", "target"), "compare",
    ),
    Advice(
        "both", "DANN beside CCSA", "images, a few with labels",
        "You have what both need: images without labels for DANN, labels for CCSA. No method of "
        "this project uses both at once to classify images, and which of the two is better "
        "changes: on the textures many images without labels were worth more than one label a "
        "class, on handwritten digits it was the other way round. Run both, and let labels "
        "that you keep out of training decide.",
        ("12_dann", "13_ccsa", "15_choose_a_method"), ("textured", "fonts"),
        ("source_only", "adabn", "dann", "joint", "ccsa", "target"), "few",
        "Both at once: Saito et al., Semi-Supervised Domain Adaptation via Minimax Entropy, "
        "ICCV 2019.",
    ),
    Advice(
        "finetune", "fine-tuning", "a few labelled images",
        "With a trained network and a few target labels, but no source, go on training on these "
        "labels alone: it takes seconds. With one label a class it leans on those very images, "
        "and it forgets the source as it learns the target. The more labels there are, the less a "
        "cleverer method adds.",
        ("13_ccsa",), ("textured", "fonts"), ("source_only", "finetune", "target"), "few",
    ),
    Advice(
        "joint", "joint training beside CCSA", "a few labelled images",
        "With more labels CCSA's lead shrinks: at five a class joint training was ahead on the "
        "textures, at seven CCSA still led on the handwritten digits. Joint training takes source "
        "and target labels together, each domain's mean with the same weight: nothing to set, and "
        "it keeps what the network knows of the source. On the target alone fine-tuning can be "
        "as good. Run all three before you decide.",
        ("13_ccsa",), ("textured", "fonts"),
        ("source_only", "finetune", "joint", "ccsa", "target"), "few",
    ),
    Advice(
        "ccsa", "CCSA", "a few labelled images",
        "With a handful of labels a class, use them in pairs: CCSA pulls images of one class "
        "together across the domains and pushes other classes apart, so one label meets every "
        "source image. Its lead over fine-tuning is largest at one label a class; with more it "
        "shrinks, and at five on the textures little is left of it. It needs the source images, "
        "and it makes no use of images without labels.",
        ("13_ccsa",), ("fonts", "textured"),
        ("source_only", "finetune", "joint", "ccsa", "target"), "few",
    ),
    Advice(
        "target", "supervised on the target", "all labels",
        "Where the target has its labels, train on them: this is the ceiling that all other "
        "methods are measured by. The source then adds little or nothing. Spend your time on "
        "training longer and on checking the labels.",
        ("02_source_only_and_supervised",), ("textured", "fonts"),
        ("source_only", "target"), "compare",
    ),
    Advice(
        "streets_source_only", "source only", "nothing",
        "For segmentation without any target image this project has only plain training on the "
        "source, and it fails on most classes of the camera's streets. What the literature adds is "
        "style augmentation and SagNet's kind of randomisation, which we have run on images of one "
        "class only. A folder of unlabelled target images changes the picture: then see AdaBN.",
        ("01_domain_shift", "02_source_only_and_supervised"), ("streets",),
        ("source_only", "adabn", "supervised"), "streets",
        "Domain generalisation of segmentation: Choi et al., RobustNet, CVPR 2021.",
    ),
    Advice(
        "streets_adabn", "AdaBN", "images without labels",
        "Estimate the segmenter's BatchNorm statistics anew on target images: no source, no "
        "training. On the drawn streets this is most of what unsupervised adaptation gains; on "
        "real photographs it gained little. It needs a network with BatchNorm.",
        ("03_adversarial_warmup",), ("streets",),
        ("source_only", "adabn", "adaptsegnet", "supervised"), "streets",
    ),
    Advice(
        "iast", "AdaptSegNet, then IAST", "images without labels",
        "An adversary makes the segmentations of both domains look alike (AdaptSegNet), then the "
        "network's own sure pixels serve as labels, with a threshold for each class (IAST). On "
        "the drawn streets the pseudo labels add more than the adversary, which adds little to "
        "AdaBN. Both can confirm mistakes, and across a wide gap (real photographs) neither "
        "helped much: a few asked labels do far more.",
        ("03_adversarial_warmup", "04_pseudo_labels"), ("streets",),
        ("source_only", "adabn", "adaptsegnet", "iast", "supervised"), "streets",
    ),
    Advice(
        "given_pixels", "use the labels that there are", "a few labelled pixels",
        "Labels that somebody has chosen already are used as they are: train on source and on the "
        "labelled pixels, with the adversary. Pixels spread at random over all images are a strong "
        "choice, on photographs even the best that we measured. If you can still choose, look at "
        "PPL and SPL.",
        ("07_ppl", "09_compare"), ("streets",),
        ("source_only", "iast", "random_pixels", "supervised"), "streets",
    ),
    Advice(
        "ppl", "LabOR PPL", "about 40 points an image, asked",
        "LabOR asks for one point of each class where two classifiers disagree (PPL), in three "
        "rounds. For few clicks it goes most of the way from adaptation to full supervision. "
        "Margin points, which need no second network, did as well or slightly better here, and on "
        "photographs random points did: most of the gain is having points at all.",
        ("05_pixel_selector", "07_ppl", "08_the_loop"), ("streets",),
        ("source_only", "iast", "ppl", "supervised"), "streets",
    ),
    Advice(
        "spl", "LabOR SPL", "about 2 % of the pixels, asked",
        "LabOR asks for every pixel where two classifiers disagree (SPL), in three rounds: on the "
        "drawn streets that comes close to full supervision at equal steps. The regions lie at "
        "borders, so a click count flatters them; and random pixels are only a little worse there, "
        "and better on photographs.",
        ("05_pixel_selector", "06_spl", "08_the_loop"), ("streets",),
        ("source_only", "random_pixels", "spl", "spl_sampled", "supervised"), "streets",
    ),
    Advice(
        "supervised", "supervised, source and target", "all labels",
        "With all pixels labelled, train on them: the ceiling. It profits from longer training, so "
        "compare with the row of equal steps and with the best. A street scene costs a person over "
        "an hour, which is why the other answers exist.",
        ("02_source_only_and_supervised", "09_compare"), ("streets",),
        ("source_only", "spl", "supervised"), "streets",
    ),
    Advice(
        "open_set", "none here: open-set adaptation", "see the reading",
        "Every method of this project gives each image one of the source's classes, so images of "
        "new classes are named wrongly without a word, and aligning the domains pulls them into "
        "the known ones. First find the overlap, and measure plain training on the shared classes. "
        "Then either ask for labels of the new classes and train with them, or read on.",
        ("01_domain_shift",), ("textured", "fonts", "styles"), ("source_only",), "overlap",
        "Open-set: Saito et al., ECCV 2018. Classes unknown on either side: You et al., Universal "
        "Domain Adaptation, CVPR 2019.",
    ),
    Advice(
        "partial", "none here: partial adaptation", "see the reading",
        "Where the target has only some of the source's classes, an adversary aligns it with all "
        "of them, and may end below plain training. If you know which classes are there, the first "
        "thing to do needs no method: forbid the others, as the cell does. Where you do not know, "
        "read on.",
        ("01_domain_shift",), ("textured", "fonts", "styles"), ("source_only",), "overlap",
        "Partial adaptation: Cao et al., ECCV 2018 (weights of classes in the adversary).",
    ),
    Advice(
        "other_output", "none here: other outputs", "see the reading",
        "This project classifies images and pixels. The idea carries over (adapt the features, "
        "not the outputs), the code does not. What you can do here is measure how far apart two "
        "domains are: the cell trains a linear classifier to tell them apart by their features.",
        ("01_domain_shift",), ("textured", "fonts", "styles"), ("source_only",), "distance",
        "Regression and more: the guide of ADAPT (de Mathelin et al., 2021). Detection: Chen et "
        "al., Domain Adaptive Faster R-CNN, CVPR 2018.",
    ),
)  # fmt: skip

ADVICE = {advice.name: advice for advice in _ADVICE}


# -------------------------------------------------------------------------------------- the tree


@dataclass(frozen=True)
class Branch:
    """A question and where its answers lead: to another branch, or to a name in `ADVICE`."""

    question: str
    to: dict[str, "Branch | str"]

    def groups(self) -> list[tuple[tuple[str, ...], "Branch | str"]]:
        """(answers, where they lead), answers that lead to the same place together."""
        found: list[tuple[tuple[str, ...], Branch | str]] = []
        for answer, place in self.to.items():
            if found and found[-1][1] == place:
                found[-1] = ((*found[-1][0], answer), place)
            else:
                found.append(((answer,), place))
        return found


_IMAGES = Branch(
    "images",
    {
        "many": Branch(
            "labels",
            {
                "none": Branch("source", {"yes": "dann", "no": "adabn"}),
                "ask": "both",
                "few": "both",
                "all": "target",
            },
        ),
        "few": Branch(
            "source",
            {"yes": Branch("budget", {"handful": "ccsa", "more": "joint"}), "no": "finetune"},
        ),
        "no": Branch("sources", {"one": "source_only", "several": "sagnet"}),
    },
)
_PIXELS = Branch(
    "images",
    {
        "many": Branch(
            "labels",
            {
                "none": Branch("source", {"yes": "iast", "no": "streets_adabn"}),
                "ask": Branch("answer", {"points": "ppl", "pixels": "spl"}),
                "few": "given_pixels",
                "all": "supervised",
            },
        ),
        "few": "given_pixels",
        "no": "streets_source_only",
    },
)
TREE = Branch(
    "classes",
    {
        "same": Branch("output", {"image": _IMAGES, "pixel": _PIXELS, "other": "other_output"}),
        "new": "open_set",
        "fewer": "partial",
    },
)


def check_answers(answers: dict[str, str]) -> None:
    """Raises InputError for a question that there is not, or an answer."""
    for name, answer in answers.items():
        if name not in QUESTIONS:
            raise InputError(f"no question '{name}': choose from {', '.join(QUESTIONS)}")
        if answer not in QUESTIONS[name].answers:
            choices = ", ".join(QUESTIONS[name].answers)
            raise InputError(f"{name} '{answer}': choose from {choices}")


def path(**answers: str) -> list[tuple[str, str]]:
    """(question, answer) in the order in which they are asked; of a question left out, the first.

    Answers to questions that are not asked on the way change nothing.
    """
    check_answers(answers)
    place, way = TREE, []
    while isinstance(place, Branch):
        answer = answers.get(place.question, next(iter(place.to)))
        way.append((place.question, answer))
        place = place.to[answer]
    return way


def advise(**answers: str) -> Advice:
    """The advice that the answers lead to; see `path`."""
    place = TREE
    for _, answer in path(**answers):
        place = place.to[answer]
    return ADVICE[place]


@dataclass(frozen=True)
class Line:
    """One line of the tree, as text shows it: an answer, and the question or advice after it.

    way: the (question, answers) up to this one; () for the first line, which is a question alone.
    """

    way: tuple[tuple[str, tuple[str, ...]], ...]
    question: str = ""
    advice: Advice | None = None

    @property
    def depth(self) -> int:
        return len(self.way)

    @property
    def answer(self) -> str:
        """The last answer in words."""
        if not self.way:
            return ""
        name, answers = self.way[-1]
        return " / ".join(QUESTIONS[name].answers[answer] for answer in answers)

    def lies_on(self, chosen: list[tuple[str, str]]) -> bool:
        """Whether the answers `chosen`, as from `path`, pass through here."""
        return len(self.way) <= len(chosen) and all(
            answer in answers for (_, answers), (_, answer) in zip(self.way, chosen, strict=False)
        )


def lines(place: Branch | str = TREE, way: tuple = ()) -> Iterator[Line]:
    """The whole tree, a line each, what follows a line below it."""
    if isinstance(place, str):
        yield Line(way, advice=ADVICE[place])
        return
    yield Line(way, question=QUESTIONS[place.question].text)
    for answers, to in place.groups():
        yield from lines(to, (*way, (place.question, answers)))


def leaves() -> list[Line]:
    """The lines that end in an advice."""
    return [line for line in lines() if line.advice]


def answers_to(line: Line) -> dict[str, str]:
    """Answers that lead to a line."""
    return {question: answers[0] for question, answers in line.way}


# ------------------------------------------------------------------------------- code that runs it

TEMPLATES = {
    "compare": """\
# {title}
# A finished run is opened; where there is none, a small one is trained first.
from labor_lib.lab.classification import print_summary
from labor_lib.lab.runs import open_shift
from labor_lib.lab.family_viz import {figure}
from labor_lib.lab.viz import show

methods = [{methods}]
run = open_shift("{data}", *methods)
print_summary(run.table)
figure = {figure}(run.table, run.title("{title} on '{data}'"))
show(figure, alt="Accuracy on '{data}': a line for each method, a dot for every seed.")
# Your own images, in folders DOMAIN/CLASS, from a terminal:
# python -m labor_lib family --shift folder --root DIR{pair} \\
#     --methods {listed}
""",
    "few": """\
# {title}
# A finished run is opened; where there is none, a small one is trained first.
from labor_lib.lab.classification import print_summary
from labor_lib.lab.runs import open_shift
from labor_lib.lab.family_viz import few_curve
from labor_lib.lab.viz import show

methods = [{methods}]
run = open_shift("{data}", *methods)  # few=(1, 3) asks for other numbers of labels a class
print_summary(run.table)
figure = few_curve(run.table, run.title("What do a few labels buy on '{data}'?"))
show(figure, alt="Accuracy on '{data}' against labels a class, a line for each method.")
# Your own images, in folders DOMAIN/CLASS, from a terminal:
# python -m labor_lib family --shift folder --root DIR{pair} \\
#     --methods {listed}
""",
    "streets": """\
# {title}
# A finished run is opened; where there is none, a small one is trained first.
from labor_lib.labels import colourise
from labor_lib.lab.runs import open_run, photo
from labor_lib.lab.viz import image_grid, short_title, show

methods = [{methods}]
run = open_run(*methods)
last = run.table[(run.table["stage"] == run.stages) & run.table["method"].isin(methods)]
means = last.groupby("method")[["miou", "pixels_per_image", "clicks_per_image"]].mean()
print(means.loc[methods].round(1).to_string())

test, numbers = run.domains(0).evaluation, [0, 1, 2]
rows = {{"image": [photo(test, i) for i in numbers]}}
for method in methods:
    classes = run.predictions(method, 0, numbers)
    rows[short_title(method)] = [colourise(one, run.class_set) for one in classes]
figure = image_grid(rows, title=run.title("Predictions on test images"))
show(figure, alt="Three test images and what each method predicts on them.")
# Your own streets, from a terminal: python -m labor_lib run --help
""",
    "overlap": """\
# {title}
# Which classes do the domains share, and what can be said of those?
import numpy as np
import torch

from labor_lib.lab.runs import open_shift

run = open_shift("{data}", "source_only")
left_out = run.targets[0]  # "" where there is one source and one target
problem = run.problem(0, left_out)
known = problem.target_test.classes
yours = {yours}  # put the names of your target's classes here
shared = [k for k, name in enumerate(known) if name in yours]
print("in both:           ", *(known[k] for k in shared))
print("only in the source:", *(name for name in known if name not in yours))
print("only in the target:", *(name for name in yours if name not in known))

test = problem.target_test
test = test.take(np.isin(test.labels, shared))
with torch.no_grad():
    logits = run.net("source_only", 0, left_out)(run.images(test)).float().cpu()
free, bound = logits.argmax(dim=1), torch.tensor(shared)[logits[:, shared].argmax(dim=1)]
print(f"accuracy on shared classes: {{100 * (free == test.labels).float().mean():.1f}} %")
print(f"other classes forbidden:    {{100 * (bound == test.labels).float().mean():.1f}} %")
""",
    "distance": """\
# {title}
# How far apart are two domains, for features learnt on the source?
from labor_lib.lab.analysis import proxy_a_distance
from labor_lib.lab.runs import open_shift

run = open_shift("{data}", "source_only")
left_out = run.targets[0]  # "" where there is one source and one target
problem = run.problem(0, left_out)
net = run.net("source_only", 0, left_out)
held_out, target = problem.validation[0], problem.target_test
parts = held_out.take(range(0, len(held_out), 2)), held_out.take(range(1, len(held_out), 2))
same, other = parts, (held_out, target)
for name, pair in (("source to itself", same), ("source to target", other)):
    first, second = (run.features(net, domain) for domain in pair)
    print(f"{{name}}: proxy A-distance {{proxy_a_distance(first, second):.2f}} (0 same, 2 apart)")
""",
}
_YOURS = {"open_set": '(*known[2:], "letter a")', "partial": "known[2:]"}


def methods_of(advice: Advice, data: str) -> list[str]:
    """The methods that the advice's code compares on these data."""
    if data not in advice.data:
        raise InputError(f"data '{data}': choose from {', '.join(advice.data)}")
    if data == "streets":
        return list(advice.run)
    return [name for name in advice.run if name in settings(data).methods]


def code(advice: Advice | str, data: str = "") -> str:
    """Python that runs the advice on embedded data (its first if none is told).

    Raises InputError for data that it does not go with.
    """
    advice = ADVICE[advice] if isinstance(advice, str) else advice
    data = data or advice.data[0]
    names = methods_of(advice, data)
    return TEMPLATES[advice.code].format(
        title=advice.title,
        data=data,
        methods=", ".join(f'"{name}"' for name in names),
        listed=",".join(names),
        figure="domain_dots" if data == "styles" else "score_dots",
        pair="" if data == "styles" else " --source A --target B",
        yours=_YOURS.get(advice.name, "known"),
    )


def open_cell(chooser) -> None:
    """Put a cell with the chooser's code below the one that calls this.

    chooser: a `MethodChooser`. Until one of its controls has been used, and where no notebook can
    be written to (a terminal), it says what to do instead.
    """
    if not chooser.used:
        print("Answer the questions above or choose data, then run this cell: it opens a new one.")
        return
    shell = _shell()
    if shell is None:
        print(chooser.code)
        return
    shell.set_next_input(chooser.code, replace=False)
    print(f"Opened a cell below: {chooser.advice.title}, on '{chooser.data.value}'.")


def _shell():
    """IPython's, None outside of it."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()
