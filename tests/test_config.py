"""Presets: frozen, storable, and the published numbers where they claim to be."""

import dataclasses
import json

import pytest

from labor_lib.config import PRESETS, STREETS, Config, preset
from labor_lib.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_frozen_and_can_be_stored(name):
    config = preset(name)
    assert config.preset == name
    for holder in (config, *filter(dataclasses.is_dataclass, vars(config).values())):
        for field in dataclasses.fields(holder):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(holder, field.name, None)
            hash(getattr(holder, field.name))  # no list or dictionary that could be changed
    stored = json.loads(json.dumps(config.as_dict()))
    assert stored == config.as_dict()
    assert set(stored) == {field.name for field in dataclasses.fields(Config)}
    assert stored["train"]["batch_size"] == config.train.batch_size
    assert Config() == STREETS == preset("streets")
    with pytest.raises(InputError, match=r"'gta'.*streets, smoke, small, camvid, .*gta5, synthia"):
        preset("gta")


PAPER = {
    "data": {"target_layout": "cityscapes", "target_size": (512, 1024)},
    "train": {
        "network": "resnet101", "batch_size": 1, "optimizer": "sgd", "learning_rate": 2.5e-4,
        "head_factor": 10, "weight_decay": 5e-4, "poly_power": 0.9, "ramp_steps": 0,
        "adversarial_steps": 150_000,
    },
    "adversarial": {
        "level_weights": (0.001, 0.0002), "auxiliary_weight": 0.1, "widths": (64, 128, 256, 512),
        "learning_rate": 1e-4, "betas": (0.9, 0.99),
    },
    "self_training": {
        "alphas": (0.2, 0.25, 0.3), "beta": 0.9, "gamma": 8, "start": 0.9, "entropy_weight": 3.0,
        "kld_weight": 0.1, "batch_size": 1,
    },
    "budget": {"stages": 3, "pixels": 0.022, "points": 40},
}  # fmt: skip
OWN = {
    "gta5": {"source_layout": "gta5", "class_set": "cityscapes19", "source_size": (720, 1280)},
    "synthia": {"source_layout": "synthia", "class_set": "synthia16", "source_size": (760, 1280)},
}


@pytest.mark.parametrize("name", OWN)
def test_published_settings(name):
    config = preset(name)
    for part, values in (*PAPER.items(), ("data", OWN[name])):
        for setting, value in values.items():
            assert getattr(getattr(config, part), setting) == value, setting
    assert not config.data.embedded
