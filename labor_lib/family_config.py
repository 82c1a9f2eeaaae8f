"""The settings of every shift: network, batches, optimiser, and which methods apply."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from labor_lib.errors import InputError
from labor_lib.methods.ccsa import CcsaConfig
from labor_lib.methods.dann import DannConfig
from labor_lib.methods.sagnet import SagNetConfig


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
    schedule: str = "dann"  # see `rate_factor`
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
class FamilyConfig:
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


UNSUPERVISED = ("source_only", "adabn", "dann", "target")
FEW_LABELS = ("source_only", "finetune", "joint", "ccsa")
ADAPTATION = (
    "source_only", "sagnet", "adabn", "dann", "finetune", "joint", "ccsa", "target",
)  # fmt: skip
GENERALISATION = ("source_only", "sagnet", "sagnet_pooled")

# CCSA's authors on their split files: 80 epochs of 2,000 source images, 256 pairs a step. Here a
# step takes 64 source images with all their pairs, which are 256 at n = 1 and 256 n at n: so an
# epoch has 2 x 32 updates at every n, where theirs has 2 x 31 n.
CCSA_DIGITS = FamilyConfig(
    shift="ccsa",
    methods=FEW_LABELS,
    main=FEW_LABELS,
    training=TrainingConfig(
        network="ccsa",
        steps=2500,
        batch_size=64,
        optimizer="adadelta",
        learning_rate=1.0,  # Keras's Adadelta of 2017
        schedule="constant",
        mean=0.0,
        std=1.0,
    ),
)

FONTS = replace(
    CCSA_DIGITS,
    shift="fonts",
    methods=("source_only", "dann", "finetune", "joint", "ccsa", "target"),
    main=(*FEW_LABELS, "target"),
    training=replace(CCSA_DIGITS.training, steps=1000),
)

TEXTURED = FamilyConfig(
    shift="textured",
    methods=ADAPTATION,
    main=UNSUPERVISED,
    training=TrainingConfig(
        network="dann",
        steps=1000,
        batch_size=64,  # paper: 64 + 64 (DANN, 5.2.4)
        learning_rate=0.01,  # paper: 0.01 / (1 + 10 p)^0.75, momentum 0.9
        schedule="dann",
    ),
    sagnet=SagNetConfig(stages=1),  # of two
)

STYLES = FamilyConfig(
    shift="styles",
    methods=GENERALISATION,
    main=GENERALISATION,
    training=TrainingConfig(
        widths=(32, 64, 128),
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

FOLDER = FamilyConfig(
    shift="folder",
    methods=GENERALISATION,
    main=GENERALISATION,
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

SETTINGS = {config.shift: config for config in (TEXTURED, FONTS, STYLES, CCSA_DIGITS, FOLDER)}


@dataclass(frozen=True)
class Where:
    """Where real images are. source, target: domains of a folder; without them, one is left out
    at a time. repetition: of CCSA's split files."""

    root: Path | None = None
    source: str = ""
    target: str = ""
    repetition: int = 0


def settings(shift: str) -> FamilyConfig:
    """The settings of a shift; raises InputError with the choices where there is none."""
    if shift not in SETTINGS:
        raise InputError(f"unknown shift '{shift}': choose one of {', '.join(SETTINGS)}")
    return SETTINGS[shift]


def small(config: FamilyConfig) -> FamilyConfig:
    """A third of the steps, and 1 and 3 labels a class: shows shapes, not results."""
    t = config.training
    shorter = {name: getattr(t, name) // 3 for name in ("steps", "finetune_steps", "select_every")}
    return replace(config, training=replace(t, **shorter), few=(1, 3))


def configure(
    shift: str, where: Where, network: str | None = None, few=(), imagenet: bool = True
) -> FamilyConfig:
    """The settings of a shift with a user's choices; raises InputError for those that clash."""
    config = settings(shift)
    if network and shift != "folder":
        raise InputError(f"--network is for --shift folder: '{shift}' has its own network")
    if network == "small":
        config = replace(config, training=FOLDER_SMALL)
    if not imagenet:
        config = replace(config, training=replace(config.training, imagenet=False))
    if where.target:
        if shift != "folder":
            raise InputError(f"--source and --target are for --shift folder, not '{shift}'")
        if where.source == where.target:
            raise InputError(f"--source and --target are both '{where.target}': give two domains")
        last = replace(config.training, select_every=0)  # adaptation is scored at the last step
        config = replace(config, methods=ADAPTATION, main=UNSUPERVISED, training=last)
    if few:
        if min(few) < 1:
            raise InputError("--few: give numbers of images from 1 on, such as 1,3,5,7")
        config = replace(config, few=tuple(few))
    return config
