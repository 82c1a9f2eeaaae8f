"""The embedded benchmark: exact pixels, published layouts, and a gap no colour transform closes."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

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


def files(root):
    """Every file below root, by its relative path."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets") / "set"
    assert write_streets(root, workers=1, **FEW) == (root / "gta5", root / "cityscapes")
    return root


# Scenes


@pytest.mark.parametrize("domain", ["game", "camera"])
def test_same_seed_same_pixels(domain):
    (image, labels), again = draw_scene(domain, (3, 5), SMALL), draw_scene(domain, (3, 5), SMALL)
    assert image.shape == (*SMALL, 3)
    assert labels.shape == SMALL
    assert image.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(image, again[0])
    np.testing.assert_array_equal(labels, again[1])
    for other in ((3, 6), (4, 5)):
        assert (draw_scene(domain, other, SMALL)[1] != labels).any()


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
def test_all_fourteen_classes_and_no_other(domain):
    _, labels = scenes(domain, 60, (56, 112))
    ids, counts = np.unique(labels, return_counts=True)
    assert ids.tolist() == sorted(IDS.values())
    if domain == "camera":
        assert counts.min() / labels.size > 0.003


@pytest.mark.parametrize("domain", ["game", "camera"])
def test_labels_lie_on_the_image(domain):
    images, labels = scenes(domain, 20, (56, 112))
    rows = np.broadcast_to(np.arange(56)[:, None], labels.shape[1:])
    for above, below in ((IDS["sky"], IDS["building"]), (IDS["building"], IDS["road"])):
        assert rows[(labels == above).any(0)].mean() < rows[(labels == below).any(0)].mean()
    # The sky is bluer than all else, in every scene that shows much of it.
    blue = images[..., 2].astype(int) - images[..., 0]
    for image_blue, ids in zip(blue, labels, strict=True):
        if (ids == IDS["sky"]).mean() > 0.05:
            assert image_blue[ids == IDS["sky"]].mean() > image_blue[ids != IDS["sky"]].mean() + 10
    # Colours change at the borders of the labels: several times as much as elsewhere.
    step = np.abs(np.diff(images.astype(int), axis=2)).sum(-1)
    border = labels[:, :, 1:] != labels[:, :, :-1]
    assert step[border].mean() > 2.5 * step[~border].mean()


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (45, 60), (64, 128)])
def test_any_size(size):
    image, labels = draw_scene("camera", 7, size)
    assert image.shape[:2] == labels.shape == size
    assert {IDS["road"], IDS["sky"]} <= set(labels.flat)


# Files


def test_layouts_and_modes(written):
    def names(folder):
        return sorted(path.name for path in (written / folder).iterdir())

    assert names("gta5/images") == names("gta5/labels") == [f"0000{n}.png" for n in range(1, 6)]
    for split in ("train", "val", "test"):
        stems = [f"camera_00000{n}_000019" for n in range(1, 1 + FEW[split])]
        images = f"cityscapes/leftImg8bit/{split}/camera"
        assert names(images) == [f"{stem}_leftImg8bit.png" for stem in stems]
        labels = f"cityscapes/gtFine/{split}/camera"
        assert names(labels) == [f"{stem}_gtFine_labelIds.png" for stem in stems]

    game, game_labels = draw_scene("game", (0, SPLITS["source"][1]), SMALL)
    with Image.open(written / "gta5/images/00002.png") as file:
        assert file.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(file), game)
    with Image.open(written / "gta5/labels/00002.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), game_labels)
        colours = np.asarray(file.convert("RGB"))
    assert set(map(tuple, colours[game_labels == IDS["road"]])) == {(128, 64, 128)}
    assert set(map(tuple, colours[game_labels == IDS["sky"]])) == {(70, 130, 180)}

    folder, stem = written / "cityscapes", "val/camera/camera_000001_000019"
    camera, camera_labels = draw_scene("camera", (0, SPLITS["val"][0]), SMALL)
    with Image.open(folder / "leftImg8bit" / f"{stem}_leftImg8bit.png") as file:
        assert file.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(file), camera)
    with Image.open(folder / "gtFine" / f"{stem}_gtFine_labelIds.png") as file:
        assert file.mode == "L"
        np.testing.assert_array_equal(np.asarray(file), camera_labels)


def test_splits_are_disjoint(written):
    numbers = list(SPLITS.values())
    for index, one in enumerate(numbers):
        assert not any(
            one.start < other.stop and other.start < one.stop for other in numbers[:index]
        )
    contents = [data for name, data in files(written).items() if name.endswith(".png")]
    assert len(contents) == 2 * (5 + 4 + 2 + 3)
    assert len(set(contents)) == len(contents)


def test_another_scene_seed_gives_other_scenes(written, tmp_path):
    write_streets(tmp_path / "set", scene_seed=1, workers=1, **FEW)
    pictures = [set(files(root).values()) for root in (written, tmp_path / "set")]
    assert not pictures[0] & pictures[1]


def test_workers_change_nothing(written, tmp_path):
    write_streets(tmp_path / "set", workers=2, **FEW)
    assert files(tmp_path / "set") == files(written)


def test_workers_start_without_torch():
    code = "import sys, labor_lib.drawn.streets; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_a_finished_set_is_used_again(written, monkeypatch):
    record = json.loads((written / "streets.json").read_text(encoding="utf-8"))
    assert record == json.loads(
        json.dumps(asdict(write.StreetsConfig(0, SMALL, source=5, train=4, val=2, test=3)))
    )
    monkeypatch.setattr(write, "draw_scene", None)  # drawing anything would fail
    assert write_streets(written, **FEW) == (written / "gta5", written / "cityscapes")


def test_other_parameters_are_refused(written):
    with pytest.raises(
        InputError, match=r"set holds streets .*gap is 0\.7 there, 0\.2 here.*delete"
    ):
        write_streets(written, gap=0.2, **FEW)
    before = files(written)
    with pytest.raises(InputError, match=r"source is 5 there, 6 here"):
        write_streets(written, **{**FEW, "source": 6})
    assert files(written) == before


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        write_streets(tmp_path, **FEW)
    assert (tmp_path / "note.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"gap": 1.5}, "gap"),
        ({"size": (8, 8)}, "size"),
        ({"scene_seed": -1}, "scene_seed"),
        ({"val": -1}, "val"),
    ],
)
def test_bad_settings_are_named(setting, named, tmp_path):
    with pytest.raises(InputError, match=named):
        write_streets(tmp_path / "set", **{**FEW, **setting})
    assert not list(tmp_path.iterdir())


def test_leftovers_are_cleared(written, tmp_path):
    root = tmp_path / "set"
    (tmp_path / ".set.drawing" / "gta5").mkdir(parents=True)  # of a process that was killed
    root.mkdir()  # an empty folder is no obstacle
    write_streets(root, workers=1, **FEW)
    assert not (tmp_path / ".set.drawing").exists()
    assert files(root) == files(written)


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


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_streets(tmp_path / "set", workers=1, **FEW)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]


# The gap


def match_histograms(images, reference):
    """Give images the colour distribution of the reference, channel by channel."""
    matched = np.empty_like(images)
    for channel in range(3):
        ranks, wanted = (
            np.bincount(pixels[..., channel].ravel(), minlength=256).cumsum() / pixels[..., 0].size
            for pixels in (images, reference)
        )
        table = np.interp(ranks, wanted, np.arange(256)).astype(np.uint8)
        matched[..., channel] = table[images[..., channel]]
    return matched


def features(images):
    """Every pixel's colour and place, and their products: a quadratic model's inputs."""
    count, height, width = images.shape[:3]
    rows = np.broadcast_to(np.linspace(-1, 1, height)[:, None], (count, height, width))
    columns = np.broadcast_to(np.abs(np.linspace(-1, 1, width)), (count, height, width))
    plain = [images[..., channel] / 127.5 - 1 for channel in range(3)]
    plain = np.stack([*plain, rows, columns], -1).reshape(-1, 5)
    left, right = np.triu_indices(5)
    return np.concatenate([np.ones_like(plain[:, :1]), plain, plain[:, left] * plain[:, right]], 1)


def accuracy(train_images, train_labels, images, labels):
    """Mean accuracy over the classes of a least-squares classifier, each class weighing alike."""
    inputs, truth = features(train_images), train_labels.ravel()
    moments, targets = 0.0, []
    for label in IDS.values():
        chosen = inputs[truth == label]
        moments = moments + chosen.T @ chosen / len(chosen)
        targets.append(chosen.mean(0))
    ridge = 1e-4 * np.eye(inputs.shape[1])
    weights = np.linalg.solve(moments + ridge, np.stack(targets, 1))
    guess = np.array(list(IDS.values()))[(features(images) @ weights).argmax(1)]
    return np.mean([(guess == label)[labels.ravel() == label].mean() for label in IDS.values()])


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
