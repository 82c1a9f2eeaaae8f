"""The embedded benchmark: exact pixels, published layouts, and a gap no colour transform closes."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
from conftest import files, full_disk
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import PolynomialFeatures

from labor_lib.drawn.streets import draw_scene, write, write_streets
from labor_lib.drawn.streets.look import IDS
from labor_lib.drawn.streets.write import SPLITS
from labor_lib.errors import InputError

SMALL = (32, 64)
FEW = {"size": SMALL, "source": 5, "train": 4, "val": 2, "test": 3, "progress": False}


def scenes(domain, count, size=SMALL, first=0, **settings):
    """Images (n x height x width x 3) and labels (n x height x width)."""
    drawn = [draw_scene(domain, (0, first + number), size, **settings) for number in range(count)]
    return tuple(np.stack(layer) for layer in zip(*drawn, strict=True))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "set"
    assert write_streets(root, workers=1, **FEW) == (root / "gta5", root / "cityscapes")
    return root


# Scenes
@pytest.mark.parametrize("size", [(16, 16), (32, 64), (45, 60)])
@pytest.mark.parametrize("domain", ["game", "camera"])
def test_same_seed_same_pixels(domain, size):
    (image, labels), again = draw_scene(domain, (3, 5), size), draw_scene(domain, (3, 5), size)
    assert image.shape == (*size, 3)
    assert labels.shape == size
    assert image.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(labels, again[1])
    for other in ((3, 6), (4, 5)):
        assert (draw_scene(domain, other, size)[1] != labels).any()


def test_gap_zero_is_the_game_and_the_gap_widens():
    game, labels = draw_scene("game", (0, 1), SMALL)
    near, near_labels = draw_scene("camera", (0, 1), SMALL, gap=0.0)
    np.testing.assert_array_equal(near, game)
    np.testing.assert_array_equal(near_labels, labels)
    far, far_labels = draw_scene("camera", (0, 1), SMALL, gap=1.0)
    assert (far != game).mean() > 0.9
    assert (far_labels != labels).any()
    np.testing.assert_array_equal(draw_scene("game", (0, 1), SMALL, gap=1.0)[0], game)


@pytest.mark.parametrize("domain", ["game", "camera"])
def test_all_fourteen_classes_lie_on_the_image(domain):
    images, labels = scenes(domain, 60, (56, 112))
    ids, counts = np.unique(labels, return_counts=True)
    assert ids.tolist() == sorted(IDS.values())
    assert domain == "game" or counts.min() / labels.size > 0.003
    # Colours change at the borders of the labels: several times as much as elsewhere.
    step = np.abs(np.diff(images.astype(int), axis=2)).sum(-1)
    border = labels[:, :, 1:] != labels[:, :, :-1]
    assert step[border].mean() > 2.5 * step[~border].mean()


# Files
def test_layouts_and_modes(written):
    def names(folder):
        return sorted(path.name for path in (written / folder).iterdir())

    assert names("gta5/images") == names("gta5/labels") == [f"0000{n}.png" for n in range(1, 6)]
    for split in ("train", "val", "test"):
        stems = [f"camera_00000{n}_000019" for n in range(1, 1 + FEW[split])]
        for folder, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            expected = [f"{stem}_{end}.png" for stem in stems]
            assert names(f"cityscapes/{folder}/{split}/camera") == expected
    stem = "val/camera/camera_000001_000019"
    for domain, number, image_file, label_file, mode in (
        ("game", SPLITS["source"][1], "gta5/images/00002.png", "gta5/labels/00002.png", "P"),
        ("camera", SPLITS["val"][0], f"cityscapes/leftImg8bit/{stem}_leftImg8bit.png",
         f"cityscapes/gtFine/{stem}_gtFine_labelIds.png", "L"),
    ):  # fmt: skip
        image, labels = draw_scene(domain, (0, number), SMALL)
        with Image.open(written / image_file) as picture, Image.open(written / label_file) as label:
            assert (picture.mode, label.mode) == ("RGB", mode)
            np.testing.assert_array_equal(np.asarray(picture), image)
            np.testing.assert_array_equal(np.asarray(label), labels)
            road = np.asarray(label.convert("RGB"))[labels == IDS["road"]]
            assert mode == "L" or set(map(tuple, road)) == {(128, 64, 128)}


def test_splits_are_disjoint(written):
    numbers = list(SPLITS.values())
    for index, one in enumerate(numbers):
        assert not any(
            one.start < other.stop and other.start < one.stop for other in numbers[:index]
        )
    contents = [data for name, data in files(written).items() if name.endswith(".png")]
    assert len(contents) == 2 * (5 + 4 + 2 + 3)
    assert len(set(contents)) == len(contents)


def test_workers_and_leftovers_change_nothing(written, tmp_path):
    (tmp_path / ".set.drawing" / "gta5").mkdir(parents=True)  # of a process that was killed
    (tmp_path / "set").mkdir()  # an empty folder is no obstacle
    write_streets(tmp_path / "set", workers=2, **FEW)
    assert not (tmp_path / ".set.drawing").exists()
    assert files(tmp_path / "set") == files(written)


def test_a_finished_set_is_used_again(written, monkeypatch):
    record = json.loads((written / "streets.json").read_text(encoding="utf-8"))
    assert record == json.loads(
        json.dumps(asdict(write.StreetsConfig(0, SMALL, source=5, train=4, val=2, test=3)))
    )
    monkeypatch.setattr(write, "draw_scene", None)  # drawing anything would fail
    assert write_streets(written, **FEW) == (written / "gta5", written / "cityscapes")


def test_what_is_refused_changes_nothing(written, tmp_path, monkeypatch):
    before = files(written)
    for change, message in (
        ({"gap": 0.2}, r"set holds streets .*gap is 0\.7 there, 0\.2 here.*delete"),
        ({"source": 6}, r"source is 5 there, 6 here"),
    ):
        with pytest.raises(InputError, match=message):
            write_streets(written, **{**FEW, **change})
    assert files(written) == before
    for name, bad in (("gap", 1.5), ("size", (8, 8)), ("scene_seed", -1), ("val", -1)):
        with pytest.raises(InputError, match=name):
            write_streets(tmp_path / "set", **{**FEW, name: bad})
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(write, "draw_scene", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_streets(tmp_path / "set", workers=1, **FEW)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        write_streets(tmp_path, **FEW)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "from labor_lib.drawn.streets import write_streets\n"
        "if __name__ == '__main__':\n"
        f"    write_streets({str(tmp_path / 'set')!r}, workers=2, progress=False)\n"
    )
    script = tmp_path / "draw.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)])
    drawing = tmp_path / ".set.drawing"
    deadline = time.monotonic() + 60
    while not any(drawing.rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert any(drawing.rglob("*.png"))
    parent.kill()
    parent.wait()
    time.sleep(3)
    before = len(list(drawing.rglob("*.png")))
    time.sleep(1)
    assert len(list(drawing.rglob("*.png"))) == before < 860


# The gap
def match_histograms(images, reference):
    """Give images the colour distribution of the reference, channel by channel."""
    shares = np.linspace(0, 1, 256)
    channels = []
    for here, there in zip(np.moveaxis(images, -1, 0), np.moveaxis(reference, -1, 0), strict=True):
        channels.append(np.interp(here, np.quantile(here, shares), np.quantile(there, shares)))
    return np.stack(channels, axis=-1)


def inputs(images):
    """Every pixel's colour and place, and their products."""
    rows, columns = (
        np.indices(images.shape[:3])[1:] / np.array(images.shape[1:3])[:, None, None, None]
    )
    plain = np.concatenate([images / 255, rows[..., None], abs(columns - 0.5)[..., None]], axis=-1)
    return PolynomialFeatures(2).fit_transform(plain.reshape(-1, 5))


def accuracy(train_images, train_labels, images, labels):
    """Mean accuracy over the classes of a least-squares classifier, each class weighing alike."""
    model = RidgeClassifier(1e-4, class_weight="balanced")
    model.fit(inputs(train_images), train_labels.ravel())
    return balanced_accuracy_score(labels.ravel(), model.predict(inputs(images)))


def test_no_global_colour_transform_closes_the_gap():
    size = (28, 56)
    game, game_labels = scenes("game", 80, size)
    camera, camera_labels = scenes("camera", 80, size, first=SPLITS["train"].start)
    test = scenes("camera", 40, size, first=SPLITS["val"].start)

    source = accuracy(game, game_labels, *test)
    matched = accuracy(match_histograms(game, camera), game_labels, *test)
    target = accuracy(camera, camera_labels, *test)
    assert target - source > 0.08
    assert matched - source < (target - source) / 3
