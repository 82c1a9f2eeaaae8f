"""Domains, the embedded shifts, and the readers of real images of one label each."""

import itertools
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import accepted
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from test_pins import write_ccsa

from labor_lib import config as settings
from labor_lib.data import classification
from labor_lib.drawn import digits
from labor_lib.drawn import styles as drawing
from labor_lib.drawn.digits import SHIFTS
from labor_lib.drawn.styles import styles
from labor_lib.errors import InputError
from labor_lib.lab.runs import ClassificationRun

PARTS = ("source", "source_val", "target_train", "target_test")


def shared_images(first, second):
    """How many images of `first` lie, pixel by pixel, in `second` too."""
    there = {image.numpy().tobytes() for image in second.images}
    return sum(image.numpy().tobytes() in there for image in first.images)


def toy(counts=(10, 20, 30)):
    """Images that hold their own number, in classes of those sizes."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    return classification.Domain("toy", tuple("abc"[: len(counts)]), images, labels)


def numbers(domain):
    return domain.images[:, 0, 0, 0].tolist()


def picture(path, colour=(10, 20, 30), size=(8, 6)):
    """An image file of one colour, size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Two domains of two classes; image i of a domain has red value i."""
    for domain in ("art", "photo"):
        for i in range(4):
            picture(tmp_path / domain / ("cat", "dog")[i // 2] / f"{i}.png", (i, 50, 100))
    return tmp_path


@pytest.fixture(scope="module")
def shifts():
    return {name: make(0) for name, make in SHIFTS.items()}


@pytest.fixture(scope="module")
def drawn_styles():
    return styles(0)


# The surface that training code uses
@pytest.mark.parametrize("indices", [[3, 1], torch.tensor([3, 1]), np.array([3, 1]), (3, 1)])
def test_take_and_batch_keep_the_order(folders, indices):
    for domain in (toy(), classification.read_domains(folders, size=4)["art"]):
        taken = domain.take(indices)
        assert numbers(taken.load()) == [3, 1]
        assert taken.labels.tolist() == domain.labels[[3, 1]].tolist()
        assert (taken.name, taken.classes) == (domain.name, domain.classes)
        batch = domain.batch(indices)
        assert batch.shape == (2, 3, 4, 4)
        assert batch.dtype == torch.uint8
        torch.testing.assert_close(batch, taken.batch(range(2)))
        assert set(domain.take(domain.labels == 1).labels.tolist()) == {1}  # a mask
        assert len(domain.take([])) == 0


def test_split_is_stratified_disjoint_and_complete():
    whole = toy()
    parts = classification.split(whole, (0.5, 0.3, 0.2), seed=0)
    counts = [part.labels.bincount().tolist() for part in parts]
    assert counts == [[5, 10, 15], [3, 6, 9], [2, 4, 6]]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(60))
    again = classification.split(whole, (0.5, 0.3, 0.2), seed=0)
    assert [numbers(part) for part in again] == [numbers(part) for part in parts]
    halves = [numbers(classification.split(whole, (0.5, 0.5), seed)[0]) for seed in (0, 1)]
    assert halves[0] != halves[1]
    with pytest.raises(InputError, match="toy: 4 images in 2 classes are too few for a part of 20"):
        classification.split(toy((2, 2)), (0.8, 0.2), seed=0)


def test_few_of_each_class_and_more_hold_fewer():
    whole = toy()
    chosen = [set(numbers(classification.few(whole, n, seed=3))) for n in (1, 3, 5)]
    assert classification.few(whole, 5, seed=3).labels.bincount().tolist() == [5, 5, 5]
    assert chosen[0] < chosen[1] < chosen[2]
    assert chosen[2] != set(numbers(classification.few(whole, 5, seed=4)))
    with pytest.raises(InputError, match=r"11 images a class: class 'a' of toy has 10; ask for"):
        classification.few(whole, 11, seed=0)


# Embedded shifts
@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("fonts", (1, 16, 16), (2000, 500, 1078, 719)),
        ("textured", (3, 32, 32), (2872, 180, 2160, 359)),
    ],
)
def test_shapes_and_balance(shifts, name, shape, sizes):
    other = SHIFTS[name](1)
    domains = [getattr(shifts[name], part) for part in PARTS]
    for part, domain, size in zip(PARTS, domains, sizes, strict=True):
        assert domain.images.shape[1:] == shape
        assert (domain.images.dtype, domain.labels.dtype) == (torch.uint8, torch.int64)
        assert domain.classes == tuple("0123456789")
        assert abs(len(domain) - size) <= 10
        counts = domain.labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= max(3, 0.1 * counts.max())
        assert domain.images.flatten(1).float().std(1).min() > 10  # no empty picture
        assert not torch.equal(domain.images, getattr(other, part).images)
    for first, second in itertools.combinations(domains, 2):  # no picture in two parts
        assert shared_images(first, second) == 0


def test_no_handwritten_digit_in_two_parts_of_textured(monkeypatch):
    used = []
    placed = digits.placed
    monkeypatch.setattr(
        digits, "placed", lambda images, *rest: used.append(images) or placed(images, *rest)
    )
    shift = SHIFTS["textured"](5)
    assert [len(images) for images in used] == [len(getattr(shift, part)) for part in PARTS]
    kinds = [{image.tobytes() for image in images} for images in used]
    assert sum(map(len, kinds)) == len(set.union(*kinds)) == 1797


def test_digits_keep_their_labels(shifts):
    """Neighbours among pictures of the same kind find the label: drawing did not mix it up."""
    for name in SHIFTS:
        shift = shifts[name]
        near = KNeighborsClassifier(3).fit(shift.source.images.flatten(1), shift.source.labels)
        right = near.score(shift.source_val.images.flatten(1), shift.source_val.labels)
        assert right > 0.5
        moved = near.score(shift.target_test.images.flatten(1), shift.target_test.labels)
        assert moved < right - 0.15  # the shift is real
    shift = shifts["fonts"]
    near = KNeighborsClassifier(3).fit(
        shift.target_train.images.flatten(1), shift.target_train.labels
    )
    assert near.score(shift.target_test.images.flatten(1), shift.target_test.labels) > 0.95


# Styles
def test_styles_have_the_same_balanced_classes(drawn_styles):
    assert tuple(drawn_styles) == ("photo", "cartoon", "sketch", "painting")
    for name, domain in drawn_styles.items():
        assert domain.name == name
        assert domain.images.shape == (420, 3, 48, 48)
        assert domain.images.dtype == torch.uint8
        assert domain.labels.bincount().tolist() == [60] * 7
        assert domain.classes == drawing.CLASSES
        assert len({image.numpy().tobytes() for image in domain.images}) == 420


def test_colour_gives_the_class_away_in_its_style_and_misleads_in_another(drawn_styles):
    """The confound, in the middle of the image. Sketches have no colours but hatching."""
    seen = {
        name: domain.images[:, :, 18:30, 18:30].float().mean((2, 3))
        for name, domain in drawn_styles.items()
    }
    labels = drawn_styles["photo"].labels
    for name in ("photo", "cartoon", "painting"):
        rule = NearestCentroid().fit(seen[name][::2], labels[::2])
        assert rule.score(seen[name][1::2], labels[1::2]) > 0.3
        for other in {"photo", "cartoon", "painting"} - {name}:
            assert rule.score(seen[other], labels) < 0.25


# Folders
def test_folders_are_read_as_they_lie(folders):
    (folders / "art" / "cat" / "._0.png").write_bytes(b"macOS")
    (folders / "art" / "cat" / "Thumbs.db").write_bytes(b"Windows")
    (folders / ".hidden").mkdir()
    (folders / "__MACOSX" / "art").mkdir(parents=True)
    (folders / "readme.txt").write_text("text")
    read = classification.read_domains(folders, size=5)
    assert list(read) == ["art", "photo"]
    for name, domain in read.items():
        assert (domain.name, domain.classes) == (name, ("cat", "dog"))
        assert domain.labels.tolist() == [0, 0, 1, 1]
        assert domain.batch([2, 0])[:, :, 0, 0].tolist() == [[2, 50, 100], [0, 50, 100]]
        torch.testing.assert_close(domain.load().images, domain.batch(range(4)))
    assert list(classification.read_domains(folders, ["photo"])) == ["photo"]


def test_bad_folders_are_reported_in_one_line(folders, tmp_path):
    def refused(message, *arguments):
        with pytest.raises(InputError, match=message + r"[^\n]*\Z"):
            classification.read_domains(*arguments)

    refused("nowhere/DOMAIN: no such folder; .* should hold DOMAIN/CLASS", tmp_path / "nowhere")
    refused("DOMAIN: no such folder", folders / "art" / "cat")
    refused("clipart: no such folder; .* has art, photo", folders, ["photo", "clipart"])
    refused("art/cat/CLASS: no images in it; .* give the folder that holds", folders / "art")
    (folders / "art" / "horse").mkdir()
    refused("art/horse: no images in it; fill it", folders)
    (folders / "art" / "horse").rmdir()
    picture(folders / "photo" / "horse" / "0.png")
    refused("photo: 'horse' is a class of only one of art and photo", folders)
    (folders / "photo" / "horse").rename(folders / "art" / "horse")
    refused("photo: 'horse' is a class of only one of art and photo", folders)


def test_a_damaged_image_is_named(folders):
    bad = folders / "art" / "dog" / "2.png"
    bad.write_bytes(bad.read_bytes()[:50])
    domain = classification.read_domains(folders)["art"]
    domain.batch([0, 1])
    with pytest.raises(InputError, match=r"art/dog/2\.png: cannot be decoded"):
        domain.load()


@pytest.fixture
def lists(folders):
    """DomainNet's list files of the folders; `art_test.txt` has no dog."""
    for domain in ("art", "photo"):
        rows = [f"{domain}/{('cat', 'dog')[i // 2]}/{i}.png {i // 2}\n" for i in range(4)]
        (folders / f"{domain}_train.txt").write_text("".join(rows[::2]))
        (folders / f"{domain}_test.txt").write_text("".join(rows[1 : 2 if domain == "art" else 4]))
    return folders


def test_lists_give_the_images_they_name(lists):
    file = lists / "art_train.txt"  # with a byte-order mark, Windows' line ends, an empty line
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    (lists / "read_me.txt").write_text("hello world")
    read = classification.read_lists(lists, ["photo", "art"], "train", size=3)
    assert list(read) == ["photo", "art"]
    assert read["art"].labels.tolist() == [0, 1]
    assert numbers(read["art"].load()) == [0, 2]
    test = classification.read_lists(lists, ["art"], "test")["art"]
    assert test.classes == ("cat", "dog")  # as the other lists know
    assert test.labels.tolist() == [0]
    for content, message in (
        (None, "missing or empty; .* has art_test"),
        (b"\n", "missing or empty"),
    ):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(InputError, match=rf"art_train\.txt: {message}"):
            classification.read_lists(lists, ["art"], "train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("art/cat/none.png 0", r"art_train\.txt names .*none\.png, which is missing"),
        ("art/cat/0.png", r"art_train\.txt: line 3 is 'art/cat/0\.png' instead of 'path class_id'"),
        ("art/cat/0.png cat", r"line 3 is 'art/cat/0\.png cat' instead of"),
        ("art/cat/0.png -1", r"line 3 is 'art/cat/0\.png -1' instead of"),
        ("../cat/0.png 0", r"line 3 is .* instead of 'path class_id', the path below"),
        ("/art/cat/0.png 0", r"line 3 is .* instead of 'path class_id', the path below"),
        ("art/cat/0.png 1", r"its lists give class id 1 to 'cat', but every class has one id"),
        ("art/cat/0.png 2", r"give class id 2 to 'cat', but every class has one id"),
        ("art/horse/0.png 0", r"give class id 0 to 'horse', but every class has one id"),
        ("art/horse/0.png 900000000", r"id 900000000 to 'horse', .* and 2 would be next"),
    ],
)
def test_bad_lists_are_reported_by_line(lists, row, message):
    with (lists / "art_train.txt").open("a") as file:
        file.write(row + "\n")
    picture(lists / "art" / "horse" / "0.png")
    with pytest.raises(InputError, match=message):
        classification.read_lists(lists, ["art", "photo"], "train")


# Digits
@pytest.mark.parametrize(
    ("letter", "change", "message"),
    [
        ("y", lambda y: y[1:], r"\(10, 16, 16\), not 9 x 16 x 16"),
        ("y", lambda y: y + 1, r"\[0, 1, .*, 1\] images of each digit"),
        ("y", np.zeros_like, r"\[10, 0, 0, .* images of each digit"),
        ("X", lambda x: np.resize(x, (10, 32, 32)), r"\(10, 32, 32\)"),
        ("X", lambda x: x * 255, "in 0 to 1"),
        ("X", lambda x: x * np.nan, "in 0 to 1"),
        ("X", lambda x: x.astype(object), "as published .*pickle"),
        ("X", None, "as published .*No such file"),
    ],
)
def test_bad_ccsa_files(tmp_path, letter, change, message):
    domains = classification.read_ccsa(write_ccsa(tmp_path / "files"), 1, 0)
    assert [(domain.name, len(domain)) for domain in domains] == [
        ("MNIST", 200), ("USPS", 10), ("USPS", 100)
    ]  # fmt: skip
    tmp_path = tmp_path / "files"
    stem = "train_target_repetition_0_sample_per_class_1.npy"
    file = tmp_path / f"MNIST_to_USPS_{letter}_{stem}"
    changed = None if change is None else change(np.load(file))
    file.unlink()
    if changed is not None:
        np.save(file, changed)
    with pytest.raises(InputError, match=message):
        classification.read_ccsa(tmp_path, 1, 0)


def idx(path, array):
    """An array in the file format of MNIST."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    """120 training and 20 test digits of noise, and a photograph of noise: {part: images}."""
    generator = np.random.default_rng(0)
    made = {"photograph": generator.integers(0, 256, (40, 37, 3), np.uint8)}
    for part, count in (("train", 120), ("t10k", 20)):
        made[part] = generator.integers(0, 256, (count, 28, 28), np.uint8)
        idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", made[part])
        idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", np.arange(count) % 10)
    (tmp_path / "bsds500" / "train").mkdir(parents=True)
    Image.fromarray(made["photograph"]).save(tmp_path / "bsds500" / "train" / "a.png")
    return made


def test_mnistm_puts_digits_on_patches_of_photographs(mnist, tmp_path):
    shift = classification.mnistm_shift(tmp_path, seed=0)
    assert [len(getattr(shift, part)) for part in PARTS] == [100, 20, 120, 20]
    assert [getattr(shift, part).name for part in PARTS] == ["MNIST"] * 2 + ["MNIST-M"] * 2
    for part in PARTS:
        domain = getattr(shift, part)
        assert (domain.images.shape[1:], domain.images.dtype) == ((3, 32, 32), torch.uint8)
        assert domain.labels.bincount().unique().tolist() == [len(domain) // 10]
    plain = {name: np.pad(mnist[name], ((0, 0), (2, 2), (2, 2))) for name in ("train", "t10k")}
    mine = [image.tobytes() for image in plain["train"]]  # source and validation share no digit
    own = torch.cat([shift.source.images, shift.source_val.images]).numpy()
    assert sorted(image[0].tobytes() for image in own) == sorted(mine)
    assert (own == own[:, :1]).all()
    windows = np.lib.stride_tricks.sliding_window_view(mnist["photograph"], (32, 32), axis=(0, 1))
    places = set()
    for domain, name in ((shift.target_train, "train"), (shift.target_test, "t10k")):
        for image, digit in zip(domain.images.numpy(), plain[name], strict=True):
            expected = np.abs(windows.astype(int) - digit)  # 9 x 6 x 3 x 32 x 32
            (place,) = np.argwhere((expected == image).all((2, 3, 4))).tolist()
            places.add(tuple(place))
        assert domain.labels.tolist() == [i % 10 for i in range(len(domain))]
    assert len(places) > 40  # of 54
    again, other = (classification.mnistm_shift(tmp_path, seed) for seed in (0, 1))
    for part in PARTS:
        images = getattr(shift, part).images
        assert torch.equal(images, getattr(again, part).images)
        assert part == "target_test" or not torch.equal(images, getattr(other, part).images)


def test_dann_on_mnistm_from_a_terminal(mnist, tmp_path, monkeypatch, capsys):
    config = settings.SHIFTS["mnistm"]
    short = replace(config.training, steps=2, batch_size=10)
    monkeypatch.setitem(settings.SHIFTS, "mnistm", replace(config, training=short))
    command = ["family", "--shift", "mnistm", "--root", tmp_path, "--device", "cpu"]
    accepted(*command, "--methods", "source_only,adabn,dann", "--out", tmp_path / "run")
    assert "DANN" in capsys.readouterr().out
    run = ClassificationRun(tmp_path / "run")
    assert run.methods == ["source_only", "adabn", "dann"]
    assert len(run.problem(0, "", None).target_test) == 20


def test_missing_and_damaged_files_of_mnistm(mnist, tmp_path):
    images = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    whole = images.read_bytes()
    for content in (whole[:100], b"", b"<html>404</html>" * 9, whole[:8] + whole[8:][::-1], None):
        images.unlink() if content is None else images.write_bytes(content)
        with pytest.raises(InputError, match=r"MNIST/raw: .* labor_lib data mnist --root"):
            classification.mnistm_shift(tmp_path, seed=0)
    images.write_bytes(whole)
    photograph = tmp_path / "bsds500" / "train" / "a.png"
    photograph.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded"):
        classification.mnistm_shift(tmp_path, seed=0)
    photograph.unlink()
    with pytest.raises(InputError, match=r"bsds500: .* labor_lib data bsds500 --root"):
        classification.mnistm_shift(tmp_path, seed=0)
