"""Every setting of both kinds of run, in frozen dataclasses, and the presets that fill them.

A comment `paper:` gives the published value where ours differs, with its source.
"""

import json
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path

from labor_lib.errors import InputError, one_of


@dataclass(frozen=True)
class DataConfig:
    """Two folders and how they are read. Sizes are (height, width) in pixels."""

    source_layout: str = "gta5"
    target_layout: str = "cityscapes"
    class_set: str = "streets14"
    classes: tuple = ()  # of one's own, in its place: see `labels.own_classes`
    source_size: tuple[int, int] = (112, 224)  # paper: 720 x 1280 (AdaptSegNet, 4)
    target_size: tuple[int, int] = (112, 224)  # paper: 512 x 1024
    embedded: bool = True  # the source (and, where no target root is given, the target) is drawn
    one_root: bool = False  # source and target lie in the same folder, the target's
    drawn_size: tuple[int, int] = (112, 224)
    drawn_source: int = 400  # images
    drawn_train: int = 300
    drawn_val: int = 60
    drawn_test: int = 100
    cache: bool = True  # keep decoded images in memory; False reads them from disk again
    workers: int = 0  # processes that read images when they are not cached
    inference_batch: int = 20  # images at once where nothing is learnt
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class TrainConfig:
    """Steps, batches and optimisers of the segmentation network."""

    network: str = "small"
    imagenet: bool = False  # start from ImageNet weights (lite and resnet101)
    batch_size: int = 4  # images of each domain in a step; paper: 1 + 1 (AdaptSegNet)
    source_steps: int = 400  # warm-up on source labels
    adversarial_steps: int = 200  # warm-up with the output-space discriminator
    stage_steps: int = 150  # training after each selection
    optimizer: str = "adamw"  # paper: sgd, momentum 0.9, weight decay 5e-4
    learning_rate: float = 2e-3  # paper: 2.5e-4
    stage_learning_rate: float = 2e-3  # after the warm-up on source
    head_factor: float = 1.0  # times the learning rate, for the classifier heads; paper: 10
    weight_decay: float = 1e-2
    poly_power: float = 0.9
    ramp_steps: int = 30  # linear increase of the learning rate at the start of a phase
    flip: bool = True  # random horizontal flips
    checkpoint_steps: int = 1000  # also save within a phase, every so many steps
    labelled_weight: float = 1.0  # of loss 2


@dataclass(frozen=True)
class AdversarialConfig:
    """AdaptSegNet's output-space adversary."""

    level_weights: tuple[float, ...] = (0.005,)  # paper: 0.001 main, 0.0002 auxiliary
    auxiliary_weight: float = 0.1  # of the auxiliary cross-entropy, two-level networks
    widths: tuple[int, ...] = (32, 64)  # paper: 64, 128, 256, 512
    learning_rate: float = 1e-3  # paper: 1e-4
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True)
class SelfTrainingConfig:
    """IAST (Mei et al., ECCV 2020): instance-adaptive pseudo labels and their regularisers.

    The published regularisers belong to a learning rate of 3e-5. On the streets (val, scenes 0, end
    of stage 3) they lower the score: 41.7 mIoU at the published weights, 48.2 without.
    """

    alphas: tuple[float, ...] = (0.5, 0.6, 0.7)  # share kept, one a stage; paper: 0.2, 0.25, 0.3
    beta: float = 0.9  # memory of the threshold
    gamma: float = 8.0  # fewer labels for classes of low confidence
    start: float = 0.9  # first threshold of every class
    batch_size: int = 4  # images a threshold update
    entropy_weight: float = 0.0  # on ignored pixels; paper: 3.0, see above
    kld_weight: float = 0.0  # on labelled pixels; paper: 0.1
    label_weight: float = 1.0


@dataclass(frozen=True)
class TeacherConfig:
    """The mean teacher and the mixed images of DACS, with DAFormer's values."""

    decay: float = 0.99  # of the averaged weights
    threshold: float = 0.968  # probability from which the teacher counts as sure
    jitter: float = 0.2  # brightness, contrast, saturation and hue of mixed images


@dataclass(frozen=True)
class RegionConfig:
    """How far an answer counts round its point (`methods.regions`)."""

    tolerances: tuple[float, ...] = (4, 6, 8, 12, 16)  # of colours in [0, 255], tried in order
    purity: float = 0.9  # share of held-back points that the others' regions have to get right
    radius: int = 24  # pixels
    weight: float = 1.0  # of the loss on grown labels


@dataclass(frozen=True)
class RivalConfig:
    """ASS and WDA; the weights of WDA's published code, not chosen anew for the streets."""

    class_weight: float = 0.001  # of the classes' adversary
    tag_weight: float = 0.2  # of the pooled prediction's cross-entropy with the tags


@dataclass(frozen=True)
class SelectorConfig:
    """LabOR's pixel selector: two classifiers on a shared backbone.

    `discrepancy`: `l1` pushes the softmax outputs apart (loss 6 as in MCD), `cosine` the parameters
    of the two classifiers. Chosen on val, scenes 0, at the end of the warm-up: with heads drawn
    anew, `cosine` (weight 1) disagreed on 4.9 % of the pixels, in 8.2 predicted classes an image,
    `l1` (weight 0.5) on 29 % in 11.2; disturbed copies of A's head with `l1` at weight 0.02 on
    about 7 % in 12.8, and PPL ended at 66.6 mIoU instead of 65.5. Hence the defaults.
    """

    discrepancy: str = "l1"
    weight: float = 0.02  # of loss 6; steers the size of the mask
    steps: int = 40
    batch_size: int = 8  # images
    learning_rate: float = 1e-3
    reinitialise: bool = False  # draw both heads anew, instead of copying A's
    noise: float = 0.3  # relative noise on both heads; exact copies would never disagree
    train_backbone: bool = False  # the paper is silent; frozen keeps the selector to seconds
    alpha: float = 0.5  # share of pixels that the pseudo labels of loss 5 keep, per class


@dataclass(frozen=True)
class BudgetConfig:
    """What may be asked of a person, over all stages."""

    stages: int = 3
    pixels: float = 0.022  # share of an image's pixels (SPL and the random pixels beside it)
    points: int = 40  # points an image, in equal parts a stage (so 39 of 40 in three stages)
    mask_cap: float = 0.05  # share of an image that SPL may ask in one stage
    held_out: float = (
        0.0  # share of the questions to people that is compared with, never trained on
    )


@dataclass(frozen=True)
class Config:
    """A whole run."""

    preset: str = "streets"
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    regions: RegionConfig = field(default_factory=RegionConfig)
    rivals: RivalConfig = field(default_factory=RivalConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)  # PPL and sampled SPL
    # SPL asks the whole mask, so the mask must be small. At 0.02 loss 6 parts the two heads (7 % of
    # the pixels); at 0.001 it does nothing: the mask is what the noise leaves (docs/RESULTS.md).
    spl_selector: SelectorConfig = SelectorConfig(weight=0.001, noise=0.2)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    scene_seed: int = 0
    evaluate_on: str = "test"  # "val" while settings are being chosen

    def as_dict(self) -> dict:
        """All settings, as JSON stores them."""
        return _stored(self)


STREETS = Config()


def changed(config, **changes):
    """A configuration with other values; those of one of its parts are a dictionary, such as
    `changed(STREETS, preset="own", train={"batch_size": 2})`."""
    return replace(
        config,
        **{
            name: replace(getattr(config, name), **value) if isinstance(value, dict) else value
            for name, value in changes.items()
        },
    )


def _sized(height: int, width: int) -> dict:
    """The same size for images of the source, of the target and of the drawn streets."""
    return dict.fromkeys(("source_size", "target_size", "drawn_size"), (height, width))


SMOKE = changed(
    STREETS,
    preset="smoke",
    data=_sized(32, 64) | dict(drawn_source=12, drawn_train=8, drawn_val=4, drawn_test=4),
    train=dict(
        batch_size=2, source_steps=6, adversarial_steps=4, stage_steps=4, checkpoint_steps=2
    ),
    self_training=dict(start=0.0),  # so short a training is never sure
    selector=dict(steps=4, batch_size=2),
    spl_selector=SelectorConfig(steps=4, batch_size=2),
)

SMALL = changed(  # what the notebooks train where no finished run lies: shapes, not results
    STREETS,
    preset="small",
    data=_sized(80, 160) | dict(drawn_source=120, drawn_train=60, drawn_val=10, drawn_test=30),
    train=dict(source_steps=160, adversarial_steps=60, stage_steps=40),
)

# The streets with each network, for what belongs to the network.
_NETWORKS = {
    "small": STREETS,
    "lite": changed(
        STREETS,
        data=dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        # the rates were chosen on CamVid's val split by full supervision of 300 steps: 5e-4 reached
        # 56.0 mIoU, 1e-3 58.7, 2e-3 58.8
        train=dict(network="lite", imagenet=True, head_factor=4.0)
        | dict(learning_rate=1e-3, stage_learning_rate=1e-3),
    ),
}
_OF_NETWORK = (
    *("network", "imagenet", "optimizer", "learning_rate", "stage_learning_rate", "head_factor"),
    *("weight_decay", "ramp_steps"),
)


def with_network(config: Config, network: str) -> Config:
    """The configuration with another network and what belongs to it: normalisation, optimiser,
    adversary. Raises InputError with the choices for an unknown one."""
    if network == config.train.network:
        return config
    own = _NETWORKS[one_of("network", network, _NETWORKS)]
    data = {name: getattr(own.data, name) for name in ("mean", "std")}
    train = {name: getattr(own.train, name) for name in _OF_NETWORK}
    return changed(config, data=data, train=train, adversarial=own.adversarial)


CAMVID = with_network(
    changed(
        STREETS,
        preset="camvid",
        data=_sized(180, 240)
        | dict(target_layout="camvid", class_set="camvid11")
        | dict(drawn_train=0, drawn_val=0, drawn_test=0),  # the target is real
    ),
    "lite",
)

# What notebook 10 trains where no finished run on photographs lies: on them, or without them on
# drawn streets, with the photographs' network. Shapes, not results.
_FEW_STEPS = {"source_steps": 80, "adversarial_steps": 30, "stage_steps": 25}
SMALL_CAMVID = changed(
    CAMVID,
    preset="small-camvid",
    data=_sized(90, 120) | dict(drawn_source=SMALL.data.drawn_source),
    train=_FEW_STEPS,
)
SMALL_LITE = changed(with_network(SMALL, "lite"), preset="small-lite", train=_FEW_STEPS)

CAMVID_FULL = changed(
    CAMVID,
    preset="camvid-full",
    data=_sized(360, 480),
    train=dict(stage_steps=4 * CAMVID.train.stage_steps),
)

CAMVID_DUSK = changed(  # a shift between real photographs: by day, at dusk
    CAMVID,
    preset="camvid-dusk",
    data=dict(
        source_layout="camvid-day", target_layout="camvid-dusk", embedded=False, one_root=True
    ),
)

GTA5 = changed(
    STREETS,
    preset="gta5",
    data=dict(
        class_set="cityscapes19",
        source_size=(720, 1280),
        target_size=(512, 1024),
        embedded=False,
        cache=False,
        workers=4,
        inference_batch=2,
        mean=(0.485, 0.456, 0.406),  # torchvision's ImageNet weights; the original's are Caffe's
        std=(0.229, 0.224, 0.225),
    ),
    train=dict(
        network="resnet101",
        imagenet=True,
        batch_size=1,
        source_steps=0,  # AdaptSegNet trains both losses from its first step
        adversarial_steps=150_000,  # decays to 0 here; theirs to 0 at 250k, stopped at 150k
        stage_steps=50_000,  # LabOR does not say
        optimizer="sgd",
        learning_rate=2.5e-4,
        stage_learning_rate=2.5e-4,
        head_factor=10.0,
        weight_decay=5e-4,
        ramp_steps=0,
    ),
    adversarial=dict(level_weights=(0.001, 0.0002), widths=(64, 128, 256, 512), learning_rate=1e-4),
    self_training=dict(alphas=(0.2, 0.25, 0.3), batch_size=1, entropy_weight=3.0, kld_weight=0.1),
    selector=dict(steps=5000, batch_size=1, learning_rate=2.5e-4),
    spl_selector=dict(steps=5000, batch_size=1, learning_rate=2.5e-4),
)

SYNTHIA = changed(
    GTA5,
    preset="synthia",
    data=dict(source_layout="synthia", class_set="synthia16", source_size=(760, 1280)),
)

PRESETS = {
    config.preset: config
    for config in (
        *(STREETS, SMOKE, SMALL, CAMVID, CAMVID_DUSK, CAMVID_FULL, GTA5, SYNTHIA),
        *(SMALL_LITE, SMALL_CAMVID),
    )
}


def preset(name: str) -> Config:
    """The preset called `name`; raises InputError with the choices where there is none."""
    return PRESETS[one_of("preset", name, PRESETS)]


def check_budget(config: Config) -> None:
    """Raises InputError for a budget of `run` or `start` that makes no sense."""
    budget, (height, width) = config.budget, config.data.target_size
    if not 1 <= budget.stages <= 1000:
        raise InputError(f"--stages {budget.stages}: give 1 to 1000")
    if not 0 < budget.pixels <= 1:
        raise InputError(f"--budget {budget.pixels}: give a share of the pixels, in (0, 1]")
    if not budget.stages <= budget.points <= height * width:
        raise InputError(
            f"--points {budget.points}: give at least one for each of the {budget.stages} "
            f"stages, and at most the {height * width} pixels of an image"
        )


# --------------------------------------------------------------------- image classification


@dataclass(frozen=True)
class DannConfig:
    """DANN's discriminator. Optimiser, rate and batches are the shift's, alike for all methods."""

    widths: tuple[int, ...] = (100,)  # hidden units; paper: 100 for MNIST -> MNIST-M
    gamma: float = 10.0  # how fast lambda rises; paper: 10
    weight: float = 1.0  # times lambda; paper: 1


@dataclass(frozen=True)
class CcsaConfig:
    """CCSA's loss and pairs, as in the authors' `main.py` and `Initialization.py`."""

    alpha: float = 0.25
    margin: float = 1.0
    negatives: int = 3  # pairs of two classes for each pair of one class


@dataclass(frozen=True)
class SagNetConfig:
    """Where SagNet cuts the network, and its adversary."""

    stages: int = 2  # before the cut, stem included; paper: 2 of ResNet's 4 ("stage 3")
    adversarial_weight: float = 0.1
    clip: float = 0.1  # norm of the adversary's gradient


@dataclass(frozen=True)
class TrainingConfig:
    """Network, batches and optimiser of a shift: the same for all of its methods."""

    network: str = "small"  # "small", "ccsa", "dann" or "resnet18"
    widths: tuple[int, ...] = (32, 64, 128)  # of the small network's stages
    stride: int = 1  # of its first convolution
    dropout: float = 0.0  # before the classifier; the ccsa network has its own
    imagenet: bool = False  # start from ImageNet weights (resnet18 only)
    steps: int = 1000
    batch_size: int = 64  # images of each domain in a step
    optimizer: str = "sgd"  # "sgd" (momentum 0.9) or "adadelta" (rho 0.95, epsilon 1e-8)
    learning_rate: float = 0.01
    schedule: str = "dann"  # of the learning rate: "dann", "cosine" or "constant"
    weight_decay: float = 0.0
    finetune_steps: int = 300  # after source only, on the few labels alone
    select_every: int = 0  # generalisation: steps from one source validation to the next
    checkpoint_steps: int = 500
    augment: bool = False  # random crops, flips and colours, as SagNet's authors have them
    size: int = 64  # pixels along each side, of a folder's images
    mean: float = 0.5  # images in [0, 1] are normalised by these
    std: float = 0.25
    inference_batch: int = 200  # images at once where nothing is learnt


@dataclass(frozen=True)
class ClassificationConfig:
    """A whole run. methods: those that apply to the shift; main: those that run without asking."""

    shift: str
    methods: tuple[str, ...]
    main: tuple[str, ...]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    dann: DannConfig = field(default_factory=DannConfig)
    ccsa: CcsaConfig = field(default_factory=CcsaConfig)
    sagnet: SagNetConfig = field(default_factory=SagNetConfig)
    few: tuple[int, ...] = (1, 3, 5, 7)  # labelled target images of each class
    validation: float = 0.2  # generalisation: share of a training domain held out

    def as_dict(self) -> dict:
        """What fixes the results, as JSON stores it; more methods or labels extend a run."""
        left_out = ("few", "methods", "main")
        return {name: value for name, value in _stored(self).items() if name not in left_out}


UNSUPERVISED = ("source_only", "adabn", "dann", "target")
FEW_LABELS = ("source_only", "finetune", "joint", "ccsa")
ADAPTATION = (
    "source_only", "sagnet", "adabn", "dann", "finetune", "joint", "ccsa", "target",
)  # fmt: skip
GENERALISATION = ("source_only", "sagnet", "sagnet_pooled")

# CCSA's authors on their split files: 80 epochs of 2,000 source images, 256 pairs a step. Here a
# step takes 64 source images with all their pairs, which are 256 at n = 1 and 256 n at n: so an
# epoch has 2 x 32 updates at every n, where theirs has 2 x 31 n.
CCSA_DIGITS = ClassificationConfig(
    shift="ccsa",
    methods=FEW_LABELS,
    main=FEW_LABELS,
    training=TrainingConfig(
        network="ccsa",
        steps=2500,
        optimizer="adadelta",
        learning_rate=1.0,  # Keras's Adadelta of 2017
        schedule="constant",
        mean=0.0,
        std=1.0,
    ),
)

FONTS = changed(
    CCSA_DIGITS,
    shift="fonts",
    methods=("source_only", "dann", "finetune", "joint", "ccsa", "target"),
    main=(*FEW_LABELS, "target"),
    training=dict(steps=1000),
)

TEXTURED = ClassificationConfig(
    shift="textured",
    methods=ADAPTATION,
    main=UNSUPERVISED,
    # paper: 64 + 64 images, rate 0.01 / (1 + 10 p)^0.75, momentum 0.9 (DANN, 5.2.4)
    training=TrainingConfig(network="dann"),
    sagnet=SagNetConfig(stages=1),  # of two
)

# DANN's own experiment: MNIST -> MNIST-M, from files of a folder.
MNISTM = changed(TEXTURED, shift="mnistm", training=dict(steps=5000))

STYLES = ClassificationConfig(
    shift="styles",
    methods=GENERALISATION,
    main=GENERALISATION,
    training=TrainingConfig(
        stride=2,
        steps=300,  # paper: 2,000
        batch_size=16,  # of each domain; paper: 32
        learning_rate=0.05,  # paper: 0.004, from ImageNet weights
        schedule="cosine",
        weight_decay=1e-4,
        dropout=0.5,
        select_every=30,
    ),
)

FOLDER = replace(
    STYLES,
    shift="folder",
    training=TrainingConfig(
        network="resnet18",
        dropout=0.5,
        imagenet=True,
        steps=2000,
        batch_size=32,
        learning_rate=0.004,
        schedule="cosine",
        weight_decay=1e-4,
        select_every=100,
        augment=True,
        mean=0.45,
        std=0.225,
    ),
)

# A folder's images at 64 pixels, from random weights, on a CPU. Chosen on source validation (PACS
# without its photos, source only, seed 0): 63 % there, 28 % with SagNet's augmentation, for which
# 600 steps are too few.
FOLDER_SMALL = replace(STYLES.training, steps=600)

SHIFTS = {c.shift: c for c in (TEXTURED, FONTS, STYLES, MNISTM, CCSA_DIGITS, FOLDER)}
FROM_FOLDERS = ("mnistm", "ccsa", "folder")  # shifts whose images are not drawn


@dataclass(frozen=True)
class Where:
    """Where real images are. source, target: domains of a folder; without them, one is left out
    at a time. repetition: of CCSA's split files."""

    root: Path | None = None
    source: str = ""
    target: str = ""
    repetition: int = 0


def shift_settings(shift: str) -> ClassificationConfig:
    """The settings of a shift; raises InputError with the choices where there is none."""
    return SHIFTS[one_of("shift", shift, SHIFTS)]


def smaller(config: ClassificationConfig) -> ClassificationConfig:
    """A third of the steps, and 1 and 3 labels a class: shows shapes, not results."""
    t = config.training
    shorter = {name: getattr(t, name) // 3 for name in ("steps", "finetune_steps", "select_every")}
    return changed(config, training=shorter, few=(1, 3))


def configure(
    shift: str, where: Where, network: str | None = None, few=(), imagenet: bool = True
) -> ClassificationConfig:
    """The settings of a shift with a user's choices; raises InputError for those that clash."""
    config = shift_settings(shift)
    if (network or where.target) and shift != "folder":
        option = "--network" if network else "--source and --target"
        raise InputError(f"{option}: only for --shift folder, not for '{shift}'")
    if network == "small":
        config = replace(config, training=FOLDER_SMALL)
    if not imagenet:
        config = changed(config, training=dict(imagenet=False))
    if where.target:
        if where.source == where.target:
            raise InputError(f"--source and --target are both '{where.target}': give two domains")
        last = dict(select_every=0)  # adaptation is scored at the last step
        config = changed(config, methods=ADAPTATION, main=UNSUPERVISED, training=last)
    if few:
        if min(few) < 1:
            raise InputError("--few: give numbers of images from 1 on, such as 1,3,5,7")
        config = replace(config, few=tuple(few))
    return config


# ------------------------------------------------------------------------------------ both


def _stored(config) -> dict:
    """A configuration as JSON stores it: plain nested dictionaries and lists."""
    return json.loads(json.dumps(asdict(config)))


def filled(example, values: dict):
    """A dataclass like `example` with `values` of a config.json; settings that are gone are left
    out, and those that an older file lacks keep their value of today."""
    new = {}
    for name, value in values.items():
        if is_dataclass(getattr(example, name, None)):
            new[name] = filled(getattr(example, name), value)
        elif hasattr(example, name):
            new[name] = tuple(value) if isinstance(value, list) else value
    return replace(example, **new)
