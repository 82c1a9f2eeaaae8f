"""The family on folders of images: which images are used, what is scored, what is refused."""

import json
import shutil
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from test_pins import write_images

from labor_lib import config as settings_of
from labor_lib.config import ADAPTATION, Where, changed, configure
from labor_lib.data.classification import Domain
from labor_lib.errors import InputError
from labor_lib.lab.classification import ClassificationPhases, Data, Problem
from labor_lib.lab.runs import ClassificationRun
from labor_lib.methods.adabn import adapt_batchnorm
from labor_lib.methods.registry import resolve
from labor_lib.nets.deeplab import ResNetBackbone
from labor_lib.nets.digits import resnet18_net
from labor_lib.runtime import load_weights

IMAGES = 7  # of each class of a domain


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three domains of two classes, and settings of a few steps and pixels."""
    small = replace(
        settings_of.FOLDER_SMALL, steps=4, finetune_steps=2, select_every=2, batch_size=4,
        widths=(4, 4, 4), size=16,
    )  # fmt: skip
    monkeypatch.setattr(settings_of, "FOLDER_SMALL", small)
    return write_images(tmp_path / "images", IMAGES)


def experiment(fabric, root, out, source="", target="", **changes) -> ClassificationPhases:
    where = Where(root, source, target)
    config = changed(configure("folder", where, "small", few=(1,)), training=changes)
    return ClassificationPhases(config, where, out, fabric)


def run(fabric, root, out, source="", target="", methods=("source_only",), seeds=(0,)):
    made = experiment(fabric, root, out, source, target)
    return made.run(resolve(list(methods), made.config), list(seeds))


def test_adaptation_is_scored_at_the_last_step(fabric, root, tmp_path):
    out = tmp_path / "run"
    table = run(fabric, root, out, "art", "photo", ("all",))
    assert set(table["method"]) == set(ADAPTATION)
    assert not list(out.rglob("selected.safetensors"))
    assert "accuracy_last" not in table
    opened = ClassificationRun(out)
    test = opened.problem(0).target_test
    for name in ("dann", "target"):
        net = opened.net(name)
        load_weights(net, out / f"seed0/{name}/net.safetensors")  # of the last step
        right = (opened.predictions(net, test) == test.labels.numpy()).mean()
        assert table.set_index("method").loc[name, "accuracy"] == pytest.approx(100 * right)


def problem_of(root, source="art", target="photo"):
    where = Where(root, source, target)
    return Data(configure("folder", where, "small"), where).problem(0, "", None)


def write_lists(root, train, test):
    for domain in ("art", "photo"):
        for part, numbers in (("train", train), ("test", test)):
            rows = [(k, name, n) for k, name in enumerate(("cat", "dog")) for n in numbers]
            text = "".join(f"{domain}/{name}/{n:02}.png {k}\n" for k, name, n in rows)
            (root / f"{domain}_{part}.txt").write_text(text)


def test_adaptation_reads_its_two_domains_alone(root):
    (root / "sketch" / "cat" / "00.png").write_bytes(b"no picture")
    (root / "photo").rename(root / "test")  # no name is taken
    problem = problem_of(root, target="test")
    assert len(problem.sources[0]) + len(problem.validation[0]) == 2 * IMAGES
    assert len(problem.target_train) + len(problem.target_test) == 2 * IMAGES
    assert problem.target_test.name == "test"


def test_lists_beside_the_domains_say_what_is_tested(root):
    write_lists(root, range(4), (4, 5))
    problem = problem_of(root)
    assert len(problem.sources[0]) + len(problem.validation[0]) == 8  # the source's train list
    assert len(problem.target_train) == 8
    assert problem.target_test.labels.tolist() == [0, 0, 1, 1]
    expected = np.array(Image.open(root / "photo/cat/04.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(problem.target_test.batch([0])[0], expected)


def too_few(root):
    for path in root.rglob("*.png"):
        if path.name != "00.png":
            path.unlink()


def one_class(root):
    for domain in root.iterdir():
        shutil.rmtree(domain / "dog")


@pytest.mark.parametrize(
    ("spoil", "domains", "message"),
    [
        (None, ("art", "art"), "--source and --target are both 'art': give two domains"),
        (None, ("art", "clipart"), "clipart: no such folder; .* has art, photo, sketch"),
        (lambda root: (root / "sketch").rename(root / "mean"), (), "mean: a domain .* rename it"),
        (too_few, (), "2 images in 2 classes are too few for a part of .* %; add images"),
        (too_few, ("art", "photo"), "2 images in 2 classes are too few for a part of"),
        (one_class, (), "one class, 'cat'; give at least two"),
    ],
)
def test_bad_folders_are_told_before_training(fabric, root, tmp_path, spoil, domains, message):
    if spoil:
        spoil(root)
    with pytest.raises(InputError, match=message):  # noqa: PT012
        made = experiment(fabric, root, tmp_path / "run", *domains)
        made.run(resolve(["source_only", "sagnet"], made.config), [0])
    assert not list(tmp_path.rglob("phase.json"))


def test_imagenet_weights_out_of_reach_or_of_another_file(monkeypatch, tmp_path):
    """A file in torch's cache is compared with its hash, and no pickle in it is run."""

    def unreachable(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    for build in (lambda: resnet18_net(2, imagenet=True), lambda: ResNetBackbone(imagenet=True)):
        with pytest.raises(InputError, match=r"no route.*resnet.*--no-imagenet"):
            build()
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    file.write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth: not the file of"):
        resnet18_net(2, imagenet=True)


def test_a_folder_that_has_changed_is_refused(fabric, root, tmp_path):
    out = tmp_path / "run"
    run(fabric, root, out)
    shutil.copytree(root / "art", root / "clipart")
    with pytest.raises(InputError, match=r"other settings: images\.clipart was None, is 14"):
        run(fabric, root, out)
    shutil.rmtree(root / "clipart")
    Image.new("RGB", (12, 12)).save(root / "art" / "cat" / "0.png")  # as many, but another
    with pytest.raises(InputError, match=r"other settings: files\.art was"):
        run(fabric, root, out)


def test_damaged_records_and_tables_are_told(fabric, root, tmp_path):
    out = tmp_path / "run"
    run(fabric, root, out, "art", "photo")
    for content in ("", "method,seed\n", "seed,few\n1,x\n", '"'):
        (out / "results.csv").write_text(content)
        with pytest.raises(InputError, match=r"results\.csv: not .*; run again to write it anew"):
            ClassificationRun(out)
    path = out / "seed0/source_only/phase.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": "gone"}))
    assert run(fabric, root, out, "art", "photo", ("dann",))["method"].tolist() == ["dann"]


def test_every_target_image_has_the_same_weight(fabric, root, tmp_path):
    plain = {"inference_batch": 20, "mean": 0.0, "std": 1.0}
    made = experiment(fabric, root, tmp_path / "run", "art", "photo", **plain)
    images = torch.zeros(21, 3, 4, 4)
    images[-1] = 10  # with batches of 20 and 1 it would weigh as much as all others
    target = Domain("t", ("a", "b"), images, torch.zeros(21, dtype=torch.int64))
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    assert made._adapt(net, Problem((), (), target, target)) == 1
    mean = net[0].running_mean
    torch.testing.assert_close(mean, torch.full((3,), 10 / 21), atol=0.03, rtol=0)
    alone = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    adapt_batchnorm(fabric, alone, images.split(20))
    assert alone[0].running_mean[0] == 5  # what the check above would not accept
