"""The family on folders of images: which images are used, what is scored, what is refused."""

import json
import shutil
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from labor_lib import config as settings_of
from labor_lib.__main__ import main
from labor_lib.config import ADAPTATION, Where, configure
from labor_lib.data.classification import Domain
from labor_lib.errors import InputError
from labor_lib.lab.classification import ClassificationPhases, Data, Problem
from labor_lib.lab.runs import ClassificationRun
from labor_lib.methods.adabn import adapt_batchnorm
from labor_lib.methods.registry import resolve
from labor_lib.nets.deeplab import ResNetBackbone
from labor_lib.nets.digits import resnet18_net
from labor_lib.runtime import Progress, load_weights

IMAGES = 6  # of each class of a domain


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three domains of two classes, and settings of a few steps and pixels."""
    rng = np.random.default_rng(0)
    for domain in ("art", "photo", "sketch"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / domain / name
            folder.mkdir(parents=True)
            for number in range(IMAGES):
                pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    small = replace(
        settings_of.FOLDER_SMALL, steps=4, finetune_steps=2, select_every=2, batch_size=4,
        widths=(4, 4, 4), size=12,
    )  # fmt: skip
    monkeypatch.setattr(settings_of, "FOLDER_SMALL", small)
    return tmp_path / "images"


def experiment(fabric, root, out, source="", target="", **changes) -> ClassificationPhases:
    where = Where(root, source, target)
    config = configure("folder", where, "small", few=(1,))
    config = replace(config, training=replace(config.training, **changes))
    return ClassificationPhases(config, where, out, fabric, Progress())


def run(fabric, root, out, source="", target="", methods=("source_only",), seeds=(0,)):
    made = experiment(fabric, root, out, source, target)
    return made.run(resolve(list(methods), made.config), list(seeds))


# ------------------------------------------------------------------------- what is used, scored


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


def test_generalisation_is_scored_with_selected_weights(fabric, root, tmp_path):
    table = run(fabric, root, tmp_path / "run")
    assert set(table["target"]) == {"art", "photo", "sketch"}
    assert len(list((tmp_path / "run").rglob("selected.safetensors"))) == 3
    assert table["accuracy_last"].notna().all()


def test_adaptation_reads_its_two_domains_alone(root):
    (root / "sketch" / "cat" / "0.png").write_bytes(b"no picture")
    (root / "notes").mkdir()
    where = Where(root, "art", "photo")
    problem = Data(configure("folder", where, "small"), where).problem(0, "", None)
    assert len(problem.sources[0]) + len(problem.validation[0]) == 2 * IMAGES
    assert len(problem.target_train) + len(problem.target_test) == 2 * IMAGES


def write_list(root, domain, part, rows):
    lines = [f"{domain}/{name}/{number}.png {label}\n" for name, number, label in rows]
    (root / f"{domain}_{part}.txt").write_text("".join(lines))


def both(numbers):
    return [
        (name, number, label) for label, name in enumerate(("cat", "dog")) for number in numbers
    ]


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_lists_beside_the_domains_say_what_is_tested(root):
    for domain in ("art", "photo"):
        write_list(root, domain, "train", both(range(4)))
        write_list(root, domain, "test", both((4, 5)))
    where = Where(root, "art", "photo")
    problem = Data(configure("folder", where, "small"), where).problem(0, "", None)
    assert len(problem.sources[0]) + len(problem.validation[0]) == 8  # the source's train list
    assert len(problem.target_train) == 8
    assert problem.target_test.labels.tolist() == [0, 0, 1, 1]
    first = problem.target_test.batch([0])[0]
    assert torch.equal(first, pixels(root / "photo/cat/4.png"))


def test_a_domain_may_be_called_test(root):
    (root / "sketch").rename(root / "test")
    where = Where(root, "test", "photo")
    problem = Data(configure("folder", where, "small"), where).problem(0, "", None)
    assert {d.name for d in (*problem.sources, problem.target_test)} == {"test", "photo"}
    assert problem.target_test.name == "photo"


def test_a_list_that_names_a_missing_image_stops_the_run(root, tmp_path, capsys):
    for domain in ("art", "photo"):
        write_list(root, domain, "train", both(range(5)))
        write_list(root, domain, "test", both((5, 99)))
    command = ["family", "--shift", "folder", "--network", "small", "--root", str(root)]
    command += ["--source", "art", "--target", "photo", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "photo_test.txt names" in said
    assert "99.png, which is missing" in said
    assert said.count("\n") == 1


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("art", "art", "--source and --target are both 'art': give two domains"),
        ("art", "clipart", "clipart: no such folder; .* has art, photo, sketch"),
    ],
)
def test_bad_pairs_of_domains(fabric, root, tmp_path, source, target, message):
    with pytest.raises(InputError, match=message):
        run(fabric, root, tmp_path / "run", source, target)


def test_a_domain_with_the_name_of_the_mean(fabric, root, tmp_path):
    (root / "sketch").rename(root / "mean")
    with pytest.raises(InputError, match="mean: a domain of this name; rename it"):
        run(fabric, root, tmp_path / "run")


def test_one_class_is_no_problem_of_classification(fabric, root, tmp_path):
    for domain in root.iterdir():
        shutil.rmtree(domain / "dog")
    with pytest.raises(InputError, match="one class, 'cat'; give at least two"):
        run(fabric, root, tmp_path / "run")


@pytest.mark.parametrize(("source", "target"), [("", ""), ("art", "photo")])
def test_too_few_images_to_hold_some_out(fabric, root, tmp_path, source, target):
    for path in root.rglob("*.png"):
        if path.name != "0.png":
            path.unlink()
    message = "2 images in 2 classes are too few for a part of .* %; add images"
    with pytest.raises(InputError, match=message):
        run(fabric, root, tmp_path / "run", source, target)
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


# ---------------------------------------------------------------------- what a run folder holds


def test_a_folder_that_has_changed_is_refused(fabric, root, tmp_path):
    out = tmp_path / "run"
    run(fabric, root, out)
    shutil.copytree(root / "art", root / "clipart")
    with pytest.raises(InputError, match=r"other settings: images\.clipart was None, is 12"):
        run(fabric, root, out)
    shutil.rmtree(root / "clipart")
    Image.new("RGB", (12, 12)).save(root / "art" / "cat" / "0.png")  # as many, but another
    with pytest.raises(InputError, match=r"other settings: files\.art was"):
        run(fabric, root, out)


def test_results_without_their_settings_are_refused(fabric, root, tmp_path):
    out = tmp_path / "run"
    run(fabric, root, out)
    (out / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: missing, but .* holds results"):
        run(fabric, root, out)


def test_settings_without_results_are_written_anew(fabric, root, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text('{"shift": "folder"}')  # of a run that could not begin
    assert len(run(fabric, root, out)) == 3


@pytest.mark.parametrize("wrong", [{"method": "gone"}, {"scores": [1]}])
def test_a_damaged_record_is_told_before_training(fabric, root, tmp_path, wrong):
    out = tmp_path / "run"
    run(fabric, root, out, "art", "photo")
    path = out / "seed0/source_only/phase.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(InputError, match=r"source_only/phase\.json: damaged; remove"):
        run(fabric, root, out, "art", "photo", ("dann",))
    assert not (out / "seed0/dann").exists()


def test_copies_and_foreign_files_in_a_run_are_left_alone(fabric, root, tmp_path):
    out = tmp_path / "run"
    run(fabric, root, out, "art", "photo")
    shutil.copytree(out / "seed0", out / "seed0 (copy)")
    mine = out / "photos" / ".download.part"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert len(run(fabric, root, out, "art", "photo")) == 1
    assert mine.exists()


@pytest.mark.parametrize("content", ["", "method,seed\n", "seed,few\n1,x\n", '"'])
def test_a_damaged_table_is_told(fabric, root, tmp_path, content):
    out = tmp_path / "run"
    run(fabric, root, out, "art", "photo")
    (out / "results.csv").write_text(content)
    with pytest.raises(InputError, match=r"results\.csv: not .*; run again to write it anew"):
        ClassificationRun(out)


# ------------------------------------------------------------------------ BatchNorm statistics


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
