"""Presets: frozen, storable, and the published numbers where they claim to be."""

import dataclasses
import json

import pytest

from labor_lib.config import GTA5, PRESETS, STREETS, SYNTHIA, Config, preset
from labor_lib.data.segmentation import LAYOUTS
from labor_lib.errors import InputError
from labor_lib.labels import CLASS_SETS


@pytest.mark.parametrize("name", PRESETS)
def test_frozen_at_every_level(name):
    config = preset(name)
    assert config.preset == name
    for holder in (config, *vars(config).values()):
        if not dataclasses.is_dataclass(holder):
            continue
        for field in dataclasses.fields(holder):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(holder, field.name, None)
            hash(getattr(holder, field.name))  # no list or dictionary that could be changed


@pytest.mark.parametrize("name", PRESETS)
def test_as_dict_survives_json(name):
    config = preset(name)
    stored = json.loads(json.dumps(config.as_dict()))
    assert stored == config.as_dict()
    assert set(stored) == {field.name for field in dataclasses.fields(Config)}
    assert stored["data"]["source_size"] == list(config.data.source_size)
    assert stored["train"]["batch_size"] == config.train.batch_size


@pytest.mark.parametrize("name", PRESETS)
def test_names_what_exists(name):
    data = preset(name).data
    assert data.class_set in CLASS_SETS
    assert data.source_layout in LAYOUTS
    assert data.target_layout in LAYOUTS


def test_unknown_preset():
    with pytest.raises(
        InputError, match=r"'gta'.*streets, smoke, small, camvid, gta5, synthia"
    ) as caught:
        preset("gta")
    assert "\n" not in str(caught.value)


def test_default_is_streets():
    assert Config() == STREETS == preset("streets")


@pytest.mark.parametrize(
    ("config", "layout", "class_set", "classes", "source_size"),
    [
        (GTA5, "gta5", "cityscapes19", 19, (720, 1280)),
        (SYNTHIA, "synthia", "synthia16", 16, (760, 1280)),
    ],
)
def test_paper_data(config, layout, class_set, classes, source_size):
    data = config.data
    assert (data.source_layout, data.target_layout) == (layout, "cityscapes")
    assert data.class_set == class_set
    assert len(CLASS_SETS[class_set]) == classes
    assert data.source_size == source_size
    assert data.target_size == (512, 1024)
    assert not data.embedded


@pytest.mark.parametrize("config", [GTA5, SYNTHIA])
def test_paper_training(config):
    train, adversarial, labels = config.train, config.adversarial, config.self_training
    assert (train.network, train.batch_size, train.optimizer) == ("resnet101", 1, "sgd")
    assert (train.learning_rate, train.head_factor, train.weight_decay) == (2.5e-4, 10, 5e-4)
    assert (train.poly_power, train.ramp_steps) == (0.9, 0)
    assert train.adversarial_steps == 150_000
    assert adversarial.level_weights == (0.001, 0.0002)
    assert adversarial.auxiliary_weight == 0.1
    assert adversarial.widths == (64, 128, 256, 512)
    assert (adversarial.learning_rate, adversarial.betas) == (1e-4, (0.9, 0.99))
    assert (labels.alphas, labels.beta, labels.gamma) == ((0.2, 0.25, 0.3), 0.9, 8)
    assert (labels.start, labels.entropy_weight, labels.kld_weight) == (0.9, 3.0, 0.1)
    assert labels.batch_size == 1
    budget = config.budget
    assert (budget.stages, budget.pixels, budget.points) == (3, 0.022, 40)
