"""Every setting of a run, in frozen dataclasses, and the presets that fill them.

A comment `paper:` gives the published value where ours differs, with its source.
"""

from dataclasses import asdict, dataclass, field, is_dataclass, replace

from labor_lib.errors import InputError


@dataclass(frozen=True)
class DataConfig:
    """Two folders and how they are read. Sizes are (height, width) in pixels."""

    source_layout: str = "gta5"
    target_layout: str = "cityscapes"
    class_set: str = "streets14"
    source_size: tuple[int, int] = (112, 224)  # paper: 720 x 1280 (AdaptSegNet, 4)
    target_size: tuple[int, int] = (112, 224)  # paper: 512 x 1024
    embedded: bool = True  # the source (and, where no target root is given, the target) is drawn
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
    imagenet: bool = False  # start from ImageNet weights (resnet101 only)
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
    clip_norm: float = 0.0  # gradient norm limit; 0: none, as published
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

    The published regularisers belong to its tiny learning rate (3e-5). With the streets' short
    training they pull the network to one class: on val, scenes 0, the third stage ends at 25.4
    mIoU with both, 40.2 with both at 0.1, 47.4 with an entropy weight of 0.03, 49.1 without.
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


@dataclass(frozen=True)
class Config:
    """A whole run."""

    preset: str = "streets"
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)  # PPL and sampled SPL
    # SPL asks the whole mask, so the mask must be small. The discrepancy's weight sets its size:
    # at 0.001 loss 6 only slows the agreement of the two heads, at 0.02 it parts them (7 %).
    spl_selector: SelectorConfig = SelectorConfig(weight=0.001, noise=0.2)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    scene_seed: int = 0
    evaluate_on: str = "test"  # "val" while settings are being chosen

    def as_dict(self) -> dict:
        """Plain nested dictionaries and lists, as JSON stores them."""
        return _listed(asdict(self))


def _listed(value):
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


STREETS = Config()

SMOKE = Config(
    preset="smoke",
    data=DataConfig(
        source_size=(32, 64),
        target_size=(32, 64),
        drawn_size=(32, 64),
        drawn_source=12,
        drawn_train=8,
        drawn_val=4,
        drawn_test=4,
    ),
    train=TrainConfig(
        batch_size=2, source_steps=6, adversarial_steps=4, stage_steps=4, checkpoint_steps=2
    ),
    self_training=SelfTrainingConfig(start=0.0),  # so short a training is never sure
    selector=SelectorConfig(steps=4, batch_size=2),
    spl_selector=SelectorConfig(steps=4, batch_size=2),
)

SMALL = replace(  # what the notebooks train where no finished run lies: shapes, not results
    STREETS,
    preset="small",
    data=replace(
        STREETS.data,
        source_size=(80, 160),
        target_size=(80, 160),
        drawn_size=(80, 160),
        drawn_source=120,
        drawn_train=60,
        drawn_val=10,
        drawn_test=30,
    ),
    train=replace(STREETS.train, source_steps=160, adversarial_steps=60, stage_steps=40),
)

CAMVID = replace(
    STREETS,
    preset="camvid",
    data=replace(
        STREETS.data,
        target_layout="camvid",
        class_set="camvid11",
        drawn_train=0,  # the target is real
        drawn_val=0,
        drawn_test=0,
        source_size=(180, 240),
        target_size=(180, 240),
        drawn_size=(180, 240),
    ),
)

_PAPER = Config(
    preset="gta5",
    data=DataConfig(
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
    train=TrainConfig(
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
        checkpoint_steps=1000,
    ),
    adversarial=AdversarialConfig(
        level_weights=(0.001, 0.0002), widths=(64, 128, 256, 512), learning_rate=1e-4
    ),
    self_training=SelfTrainingConfig(
        alphas=(0.2, 0.25, 0.3), batch_size=1, entropy_weight=3.0, kld_weight=0.1
    ),
    selector=SelectorConfig(steps=5000, batch_size=1, learning_rate=2.5e-4),
    spl_selector=SelectorConfig(
        steps=5000, batch_size=1, learning_rate=2.5e-4, weight=0.001, noise=0.2
    ),
)

GTA5 = _PAPER

SYNTHIA = replace(
    _PAPER,
    preset="synthia",
    data=replace(
        _PAPER.data, source_layout="synthia", class_set="synthia16", source_size=(760, 1280)
    ),
)

PRESETS = {config.preset: config for config in (STREETS, SMOKE, SMALL, CAMVID, GTA5, SYNTHIA)}


def preset(name: str) -> Config:
    """The preset called `name`; raises InputError with the choices where there is none."""
    if name not in PRESETS:
        raise InputError(f"unknown preset '{name}': choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def filled(example, values: dict):
    """A dataclass like `example` with `values`; lists become tuples."""
    new = {}
    for name, value in values.items():
        if is_dataclass(getattr(example, name)):
            value = filled(getattr(example, name), value)
        new[name] = tuple(value) if isinstance(value, list) else value
    return replace(example, **new)
