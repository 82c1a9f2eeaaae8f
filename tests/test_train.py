"""Batches, statistics, and a training that survives being killed."""

import numpy as np
import pytest
import torch
from torch import nn

from labor_lib import train
from labor_lib.config import changed
from labor_lib.methods.adabn import estimate_statistics
from labor_lib.methods.adaptsegnet import adaptsegnet_step
from labor_lib.methods.classwise import class_networks
from labor_lib.methods.dacs import labor_teacher_step, teacher_networks
from labor_lib.methods.labor import labor_step
from labor_lib.methods.source_only import source_only_step
from labor_lib.methods.wda import wda_points_step
from labor_lib.runtime import derive_seed, make_fabric, seed_everything

CPU = torch.device("cpu")


def test_sampler_is_a_permutation_each_epoch():
    steps = list(train.shuffled_batches(7, 3, 0, 14, seed=5))
    flat = [number for step in steps for number in step]
    epochs = [flat[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert steps == list(train.shuffled_batches(7, 3, 0, 14, seed=5))
    assert steps != list(train.shuffled_batches(7, 3, 0, 14, seed=6))
    for step in train.shuffled_batches(4, 10, 0, 6, seed=2):  # more than there are
        assert len(step) == 10
        assert set(step) == set(range(4))


@pytest.mark.parametrize(("images", "batch_size"), [(1, 1), (4, 10), (7, 3), (100, 3)])
@pytest.mark.parametrize("start", [1, 6, 19])
def test_sampler_from_a_step_is_the_tail_of_the_whole(images, batch_size, start):
    whole = list(train.shuffled_batches(images, batch_size, 0, 20, seed=1))
    tail = list(train.shuffled_batches(images, batch_size, start, 20, seed=1))
    assert len(tail) == 20 - start
    assert tail == whole[start:]


@pytest.mark.parametrize(("ramp", "power"), [(0, 0.9), (5, 0.9), (30, 2.0)])
def test_ramp_and_decay_closed_form(ramp, power):
    found = [train.ramp_and_decay(step, 20, ramp, power) for step in range(20)]
    for step, factor in enumerate(found):
        rising = (step + 1) / ramp if ramp and step + 1 < ramp else 1
        assert factor == pytest.approx(rising * (1 - step / 20) ** power)
        assert 0 < factor <= 1


def batches(fabric, config, folder, labels=None, **settings):
    """(images, labels) of every step."""
    whole = train.segmentation_batches(fabric, config, None, folder, labels, **settings)
    return ((batch.target_images, batch.target_labels) for batch in whole(0))


def numbers(images, batch_size, steps, seed):
    return train.shuffled_batches(images, batch_size, 0, steps, seed=derive_seed(seed, "target"))


@pytest.mark.parametrize("cache", [True, False])
def test_batches_are_normalised_and_keep_labels(fabric, tiny, make_folder, cache):
    folder = make_folder(count=5, cache=cache)
    data = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 1.0, 2.0)}
    config = changed(tiny, data=data, train={"flip": False})
    stream = batches(fabric, config, folder, folder.label, steps=3, seed=4, batch_size=4)
    for places, (images, labels) in zip(numbers(5, 4, 3, 4), stream, strict=True):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape == (4, 3, 16, 32)
        assert labels.shape == (4, 16, 32)
        for image, label, i in zip(images, labels, places, strict=True):
            pixels = folder.image(i).double().numpy() / 255
            mean, std = map(np.array, data.values())
            expected = (pixels - mean[:, None, None]) / std[:, None, None]
            np.testing.assert_allclose(image.numpy(), expected, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(label.numpy(), folder.label(i).numpy())
            assert (label == 255).any()
        images.fill_(9)  # what is kept stays as it is
        labels.fill_(9)


def test_batches_flip_image_and_label_together(fabric, tiny, pictures):
    folder = pictures(3, size=(4, 6))
    labels = folder.images[:, 0].numpy() % 19  # a label that knows its image
    stream = batches(fabric, tiny, folder, lambda i: labels[i], steps=20, seed=0, batch_size=2)
    seed_everything(0)
    flips = []
    for places, (images, found) in zip(numbers(3, 2, 20, 0), stream, strict=True):
        for image, label, i in zip(images, found, places, strict=True):
            raw = ((image * 0.25 + 0.45) * 255).round().to(torch.uint8)
            flips.append(not torch.equal(raw, folder.images[i]))
            expected = folder.images[i].flip(-1) if flips[-1] else folder.images[i]
            assert torch.equal(raw, expected)
            np.testing.assert_array_equal(label.numpy(), raw[0].numpy() % 19)
    assert 8 < sum(flips) < 32


def test_predict_is_the_main_output_softmaxed_at_full_size(fabric):
    class Two(nn.Module):
        def forward(self, images):
            return [images[:, :, ::2, ::2], -images]

    images = torch.randn(2, 3, 8, 12)
    probs = train.predict(fabric, Two(), images, (8, 12))
    full = nn.functional.interpolate(images[:, :, ::2, ::2].double(), (8, 12), mode="bilinear")
    expected = full.exp() / full.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(probs.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [5, 20, 30])
def test_statistics_are_the_plain_mean_and_variance(fabric, tiny, pictures, count):
    """One layer on the images themselves; batches of ten, in the order in which they were read."""
    folder = pictures(count)
    config = changed(tiny, data={"inference_batch": 10})
    norm = nn.BatchNorm2d(3, momentum=0.37)
    norm(torch.randn(4, 3, 5, 5) + 9)  # statistics of something else
    estimate_statistics(fabric, nn.Sequential(norm), folder, config)
    assert sorted(folder.read) == list(range(count))
    images = (folder.images[folder.read].double().numpy() / 255 - 0.45) / 0.25
    parts = [images[i : i + 10].transpose(1, 0, 2, 3).reshape(3, -1) for i in range(0, count, 10)]
    mean = np.mean([part.mean(axis=1) for part in parts], axis=0)
    variance = np.mean([part.var(axis=1, ddof=1) for part in parts], axis=0)
    np.testing.assert_allclose(norm.running_mean, mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, variance, rtol=1e-4)
    assert norm.momentum == 0.37
    assert not norm.training
    assert (norm.weight == 1).all()  # nothing that is learnt changes


def test_statistics_come_from_a_sample_of_all_images(fabric, tiny, pictures):
    """The first images of a folder may be one city, or dusk: 200 of all of them, mixed."""
    folder = pictures(1000, size=(2, 2))
    folder.images[500:] = 255
    config = changed(tiny, data={"inference_batch": 20})
    norm = nn.BatchNorm2d(3)
    estimate_statistics(fabric, nn.Sequential(norm), folder, config)
    assert len(set(folder.read)) == len(folder.read) == 200
    late = np.array(folder.read).reshape(10, 20) >= 500
    assert 0.4 < late.mean() < 0.6
    assert late.any(axis=1).all()
    assert not late.all(axis=1).any()
    images = (folder.images[folder.read].double() / 255 - 0.45) / 0.25
    expected = images.mean(dim=(0, 2, 3)).float()
    torch.testing.assert_close(norm.running_mean, expected, rtol=0, atol=1e-5)


@pytest.fixture
def material(make_folder):
    source = make_folder("gta5", count=5, cache=True)
    target = make_folder("cityscapes", count=4, labels=False)
    labels = np.random.default_rng(0).choice([0, 1, 9, 255], (4, 16, 32)).astype(np.uint8)
    return source, target, lambda i: labels[i]


def fresh(config):
    seed_everything(7, "networks")
    more = teacher_networks(config, 14) | class_networks(config, 14)
    return train.build_nets(config, 14) | more


class Killed(Exception):
    pass


def run(fabric, config, material, checkpoint, step=labor_step, kill_at=None, steps=7):
    """Train fresh networks; returns them, the history, and how many steps were really done."""
    nets, done = fresh(config), []

    def on_step(losses):
        done.append(losses)
        if len(done) == kill_at:
            raise Killed

    history = train.train_segmenter(
        fabric, nets, step, config, *material,
        steps=steps, learning_rate=1e-2, seed=3, checkpoint=checkpoint, on_step=on_step,
    )  # fmt: skip
    return nets, history, len(done)


@pytest.mark.parametrize(
    ("step", "kill_at", "left"),
    [
        (labor_step, 1, 7),  # before the first checkpoint
        (labor_step, 3, 5),
        (labor_step, 7, 1),
        (adaptsegnet_step, 5, 3),
        (source_only_step, 5, 3),
        (labor_teacher_step, 5, 3),
        (wda_points_step, 5, 3),
    ],
)
def test_killed_training_ends_with_the_same_bits(
    fabric, tiny, material, tmp_path, step, kill_at, left
):
    whole, history, done = run(fabric, tiny, material, tmp_path / "a" / "unfinished.pt", step)
    assert done == len(history) == 7
    checkpoint = tmp_path / "b" / "unfinished.pt"
    with pytest.raises(Killed):
        run(fabric, tiny, material, checkpoint, step, kill_at)
    assert checkpoint.exists() == (kill_at > 2)
    torch.rand(5)  # whatever else the process drew
    resumed, again, done = run(fabric, tiny, material, checkpoint, step)
    assert done == left
    assert again == history
    for name, net in whole.items():
        for key, value in net.state_dict().items():
            assert torch.equal(value, resumed[name].state_dict()[key]), f"{name} {key}"


def test_training_in_bf16_follows_fp32(fabric, tiny, material, tmp_path):
    """Every published number comes from bf16 training."""
    config = changed(tiny, train={"checkpoint_steps": 1000})
    half = make_fabric("cpu", "bf16-mixed")
    _, whole, _ = run(fabric, config, material, None, labor_step, steps=12)
    nets, found, _ = run(half, config, material, None, labor_step, steps=12)
    assert next(nets["segmenter"].parameters()).dtype == torch.float32
    for a, b in zip(whole, found, strict=True):
        assert a.keys() == b.keys()
        assert all(np.isfinite(value) for value in b.values())
    assert found[0]["source"] == pytest.approx(whole[0]["source"], rel=0.02)
    assert found[0] != whole[0], "these numbers were not rounded to bf16"
    assert np.mean([row["source"] for row in found[-3:]]) < 0.9 * found[0]["source"], "it learns"


def test_step_function_gets_its_batch_and_its_rate(fabric, tiny, material, tmp_path):
    seen = []
    config = changed(tiny, train={"head_factor": 3.0, "ramp_steps": 2})

    def spy(fabric, nets, opts, batch, config):
        assert nets["segmenter"].training
        rates = [group["lr"] for group in opts["segmenter"].param_groups]
        rates += [group["lr"] for group in opts["discriminator0"].param_groups]
        seen.append((batch, rates))
        return {"loss": 0.0}

    run(fabric, config, material, tmp_path / "a.pt", spy, steps=4)
    for step, (batch, rates) in enumerate(seen):
        factor = (0.5 if step == 0 else 1) * (1 - step / 4) ** 0.9
        assert rates == pytest.approx([1e-2 * factor, 3e-2 * factor, 1e-3 * factor])
        assert batch.source_images.shape == batch.target_images.shape == (2, 3, 16, 32)
        assert batch.source_labels.shape == batch.target_labels.shape == (2, 16, 32)
        assert set(batch.target_labels.unique().tolist()) <= {0, 1, 9, 255}

    source, target, _ = material
    run(fabric, config, (source, None), tmp_path / "b.pt", spy, steps=1)
    assert seen[-1][0].target_images is None
    run(fabric, config, (None, target), tmp_path / "c.pt", spy, steps=1)
    batch = seen[-1][0]
    assert batch.source_images is None
    assert batch.target_labels is None
    assert batch.target_images is not None
