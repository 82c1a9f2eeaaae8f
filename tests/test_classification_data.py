"""Domains, the embedded shifts, and the readers of real images of one label each."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from labor_lib import config as settings
from labor_lib.__main__ import main
from labor_lib.data.classification import (
    Domain,
    blended,
    few,
    mnistm_shift,
    read_ccsa,
    read_domains,
    read_lists,
    split,
)
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
    return Domain("toy", tuple("abc"[: len(counts)]), images, labels)


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
    for domain in (toy(), read_domains(folders, size=4)["art"]):
        taken = domain.take(indices)
        assert len(taken) == 2
        assert numbers(taken.load()) == [3, 1]
        assert taken.labels.tolist() == domain.labels[[3, 1]].tolist()
        assert (taken.name, taken.classes) == (domain.name, domain.classes)
        batch = domain.batch(indices)
        assert batch.shape == (2, 3, 4, 4)
        assert batch.dtype == torch.uint8
        torch.testing.assert_close(batch, taken.batch(range(2)))


def test_take_one_a_mask_and_nothing(folders):
    for domain in (toy(), read_domains(folders, size=4)["art"]):
        mask = domain.labels == 1
        assert set(domain.take(mask).labels.tolist()) == {1}
        assert len(domain.take(mask).images) == mask.sum()
        assert len(domain.take([])) == 0
        assert numbers(domain.take(torch.tensor([2])).load()) == [2]


def test_split_is_stratified_disjoint_and_complete():
    whole = toy()
    parts = split(whole, (0.5, 0.3, 0.2), seed=0)
    assert [part.labels.bincount().tolist() for part in parts] == [
        [5, 10, 15],
        [3, 6, 9],
        [2, 4, 6],
    ]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(60))
    again = split(whole, (0.5, 0.3, 0.2), seed=0)
    assert [numbers(part) for part in again] == [numbers(part) for part in parts]
    assert numbers(split(whole, (0.5, 0.5), seed=1)[0]) != numbers(split(whole, (0.5, 0.5), 0)[0])
    with pytest.raises(InputError, match="toy: 4 images in 2 classes are too few for a part of 20"):
        split(toy((2, 2)), (0.8, 0.2), seed=0)


def test_few_of_each_class_and_more_hold_fewer():
    whole = toy()
    chosen = [set(numbers(few(whole, n, seed=3))) for n in (1, 3, 5)]
    assert few(whole, 5, seed=3).labels.bincount().tolist() == [5, 5, 5]
    assert chosen[0] < chosen[1] < chosen[2]
    assert chosen[2] != set(numbers(few(whole, 5, seed=4)))
    with pytest.raises(InputError, match=r"11 images a class: class 'a' of toy has 10; ask for"):
        few(whole, 11, seed=0)


# Embedded shifts


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("fonts", (1, 16, 16), (2000, 500, 1078, 719)),
        ("textured", (3, 32, 32), (2872, 180, 2160, 359)),
    ],
)
def test_shapes_and_balance(shifts, name, shape, sizes):
    for part, size in zip(PARTS, sizes, strict=True):
        domain = getattr(shifts[name], part)
        assert domain.images.shape[1:] == shape
        assert domain.images.dtype == torch.uint8
        assert domain.labels.dtype == torch.int64
        assert domain.classes == tuple("0123456789")
        assert abs(len(domain) - size) <= 10
        counts = domain.labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= max(3, 0.1 * counts.max())
        assert domain.images.flatten(1).float().std(1).min() > 10  # no empty picture


@pytest.mark.parametrize("name", SHIFTS)
def test_same_seed_same_pixels(shifts, name):
    again, other = SHIFTS[name](0), SHIFTS[name](1)
    for part in PARTS:
        first, second = getattr(shifts[name], part), getattr(again, part)
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
    for part in PARTS:
        assert not torch.equal(getattr(shifts[name], part).images, getattr(other, part).images)


@pytest.mark.parametrize("name", SHIFTS)
def test_no_picture_in_two_parts(shifts, name):
    pictures = [getattr(shifts[name], part) for part in PARTS]
    for i, first in enumerate(pictures):
        for second in pictures[:i]:
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


def glyph(font, digit):
    """A font's digit, cropped: 24 x 16."""
    mask = digits._font(font).getmask(str(digit))
    image = Image.frombytes("L", mask.size, bytes(mask))
    return np.asarray(image.crop(image.getbbox()).resize((16, 24)), float)


@pytest.mark.parametrize("name", digits.FONTS)
def test_every_font_has_its_digits(name):
    """Most look like the other fonts' mean digit: no boxes, no symbols in the digits' places."""
    others = [font for font in digits.FONTS if font != name]
    means = np.stack([np.mean([glyph(f, d) for f in others], 0) for d in range(10)])
    found = [int(np.abs(means - glyph(name, digit)).mean((1, 2)).argmin()) for digit in range(10)]
    assert np.mean(np.array(found) == np.arange(10)) >= 0.8


def test_textures_are_many_colours_and_many_patterns():
    drawn = digits.textures(200, 32, np.random.default_rng(0))
    assert drawn.shape == (200, 3, 32, 32)
    assert drawn.dtype == np.uint8
    means = drawn.mean((2, 3))  # 200 x 3
    assert (means.std(0) > 15).all()
    rough = np.abs(np.diff(drawn.astype(int), axis=3)).mean((1, 2, 3))
    assert rough.max() > 5 * rough.min()


# Styles


def test_styles_have_the_same_balanced_classes(drawn_styles):
    assert tuple(drawn_styles) == ("photo", "cartoon", "sketch", "painting")
    for name, domain in drawn_styles.items():
        assert domain.name == name
        assert domain.images.shape == (420, 3, 48, 48)
        assert domain.images.dtype == torch.uint8
        assert domain.labels.bincount().tolist() == [60] * 7
        assert domain.classes == drawing.CLASSES
        assert shared_images(domain, domain) == 420
        assert len({image.numpy().tobytes() for image in domain.images}) == 420


@pytest.mark.parametrize("style", drawing.STYLES)
def test_same_seed_same_styles(style):
    first, second, other = (drawing.draw_styles(style, 2, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any(axis=(1, 2, 3)).all()


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


def test_no_class_has_the_same_look_in_two_styles():
    for seed in range(20):
        looks = np.array([drawing._looks(style, seed) for style in drawing.STYLES])  # 4 x 7
        assert all(sorted(row) == list(range(7)) for row in looks)
        assert all(len(set(column)) == 4 for column in looks.T)


def test_most_images_wear_their_class_colours():
    worn = [drawing._worn(3, np.random.default_rng(i)) for i in range(2000)]
    share = np.mean(np.array(worn) == 3)
    assert abs(share - (drawing.BOND + (1 - drawing.BOND) / 7)) < 0.03
    assert set(worn) == set(range(7))


def test_shapes_are_told_apart_by_their_outline_alone():
    """The shape signal: masks of other places, sizes and turns find their class."""
    generator = np.random.default_rng(0)

    def masks(count):
        labels = np.repeat(np.arange(7), count)
        drawn = [
            drawing._mask(drawing._placed(drawing.CLASSES[label], 24, generator), 24)
            for label in labels
        ]
        return np.stack(drawn).reshape(len(labels), -1), labels

    near = KNeighborsClassifier(1).fit(*masks(150))
    assert near.score(*masks(20)) > 0.75


# Folders


def test_folders_are_read_as_they_lie(folders):
    (folders / "art" / "cat" / "._0.png").write_bytes(b"macOS")
    (folders / "art" / "cat" / "Thumbs.db").write_bytes(b"Windows")
    (folders / ".hidden").mkdir()
    (folders / "__MACOSX" / "art").mkdir(parents=True)
    (folders / "readme.txt").write_text("text")
    read = read_domains(folders, size=5)
    assert list(read) == ["art", "photo"]
    for name, domain in read.items():
        assert (domain.name, domain.classes) == (name, ("cat", "dog"))
        assert domain.labels.tolist() == [0, 0, 1, 1]
        assert domain.batch([2, 0])[:, :, 0, 0].tolist() == [[2, 50, 100], [0, 50, 100]]
        torch.testing.assert_close(domain.load().images, domain.batch(range(4)))
    assert list(read_domains(folders, ["photo"])) == ["photo"]


def test_grey_palette_and_transparent_images_become_rgb(folders):
    cat = folders / "art" / "cat"
    Image.new("L", (3, 3), 7).save(cat / "a.png")
    Image.new("RGBA", (3, 3), (1, 2, 3, 0)).save(cat / "b.png")
    palette = Image.new("P", (3, 3), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(cat / "c.png")
    domain = read_domains(folders, size=2)["art"]
    names = [path.rsplit("/")[-1] for path in domain.images.tolist()]
    found = domain.batch([names.index(f"{letter}.png") for letter in "abc"])
    assert found[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3], [9, 8, 7]]


def test_bad_folders_are_reported_in_one_line(folders, tmp_path):
    def refused(message, *arguments):
        with pytest.raises(InputError, match=message) as caught:
            read_domains(*arguments)
        assert "\n" not in str(caught.value)

    refused("nowhere/DOMAIN: no such folder; .* should hold DOMAIN/CLASS", tmp_path / "nowhere")
    refused("DOMAIN: no such folder", folders / "art" / "cat")
    refused("clipart: no such folder; .* has art, photo", folders, ["photo", "clipart"])
    refused("art/cat/CLASS: no images in it; .* give the folder that holds", folders / "art")
    refused("art: no images in it; .* give the folder that holds", folders.parent, [folders.name])
    (folders / "art" / "horse").mkdir()
    refused("art/horse: no images in it; fill it", folders)
    (folders / "art" / "horse").rmdir()
    picture(folders / "photo" / "horse" / "0.png")
    refused("photo: 'horse' is a class of photo but not of art", folders)
    (folders / "photo" / "horse").rename(folders / "art" / "horse")
    refused("photo: 'horse' is a class of art but not of photo", folders)


def test_an_image_that_does_not_decode_is_named(folders):
    bad = folders / "art" / "dog" / "2.png"
    whole = bad.read_bytes()
    for content in (b"", b"no picture", whole[:50]):
        bad.write_bytes(content)
        domain = read_domains(folders)["art"]
        domain.batch([0, 1])
        for read in (lambda domain=domain: domain.batch([1, 2]), domain.load):
            with pytest.raises(InputError, match=r"art/dog/2\.png: cannot be decoded"):
                read()


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "u2"), ("I", "i4"), ("F", "f4")])
def test_pixels_that_would_be_cut_off_are_refused(folders, mode, dtype):
    bad = folders / "art" / "dog" / "2.tiff"
    Image.fromarray((np.arange(36).reshape(6, 6) * 1000).astype(dtype)).save(bad)
    with pytest.raises(InputError, match=rf"2\.tiff: TIFF {mode}\S* pixels; save .* with 8 bits"):
        read_domains(folders)["art"].load()


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
    read = read_lists(lists, ["photo", "art"], "train", size=3)
    assert list(read) == ["photo", "art"]
    assert read["art"].labels.tolist() == [0, 1]
    assert numbers(read["art"].load()) == [0, 2]
    test = read_lists(lists, ["art"], "test")["art"]
    assert test.classes == ("cat", "dog")  # as the other lists know
    assert test.labels.tolist() == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("art/cat/none.png 0", r"art_train\.txt: line 3 names .*none\.png, which is missing"),
        ("art/cat/0.png", r"art_train\.txt: line 3 is 'art/cat/0\.png' instead of 'path class_id'"),
        ("art/cat/0.png cat", r"line 3 is 'art/cat/0\.png cat' instead of"),
        ("art/cat/0.png -1", r"line 3 is 'art/cat/0\.png -1' instead of"),
        ("../cat/0.png 0", r"line 3 is .* instead of 'path class_id', the path below"),
        ("/art/cat/0.png 0", r"line 3 is .* instead of 'path class_id', the path below"),
        ("art/cat/0.png 1", r"gives class id \d to '\w+'; elsewhere that id or that class is"),
        ("art/cat/0.png 2", r"gives class id \d to 'cat'; elsewhere"),
        ("art/horse/0.png 900000000", r"no list has an image of class id 2; add its list"),
    ],
)
def test_bad_lists_are_reported_by_line(lists, row, message):
    with (lists / "art_train.txt").open("a") as file:
        file.write(row + "\n")
    picture(lists / "art" / "horse" / "0.png")
    with pytest.raises(InputError, match=message):
        read_lists(lists, ["art", "photo"], "train")


def test_missing_empty_and_unreadable_lists(lists):
    with pytest.raises(InputError, match=r"art_val\.txt: missing or empty; .* has art_test\.txt, "):
        read_lists(lists, ["art"], "val")
    (lists / "art_train.txt").write_text("\n")
    with pytest.raises(InputError, match=r"art_train\.txt: missing or empty"):
        read_lists(lists, ["art"], "train")
    (lists / "art_train.txt").write_bytes("art/chät/0.png 0".encode("latin-1"))
    with pytest.raises(InputError, match=r"art_train\.txt: not UTF-8; save it as that"):
        read_lists(lists, ["art"], "train")


def test_pacs_subset(shared):
    read = read_domains(shared / "data" / "pacs_subset", size=32)
    assert list(read) == ["art_painting", "cartoon", "photo", "sketch"]
    for domain in read.values():
        assert len(domain.classes) == 7
        assert domain.labels.bincount().tolist() == [40] * 7
    photo = read["photo"].batch([0, 279])
    assert photo.shape == (2, 3, 32, 32)
    with Image.open(read["photo"].images[279]) as file:
        mean = np.asarray(file.convert("RGB")).mean((0, 1))
    np.testing.assert_allclose(photo[1].float().mean((1, 2)), mean, atol=2)


# Digits


def write_ccsa(folder, n=2, source=30, test=20):
    generator = np.random.default_rng(0)
    for part, count in (("train_source", source), ("train_target", 10 * n), ("test_target", test)):
        images = generator.random((count, 16, 16), np.float32)
        labels = np.arange(count) % 10
        stem = f"{part}_repetition_4_sample_per_class_{n}.npy"
        np.save(folder / f"MNIST_to_USPS_X_{stem}", images)
        np.save(folder / f"MNIST_to_USPS_y_{stem}", labels.astype(float))
    return folder


def test_ccsa_files(tmp_path):
    domains = read_ccsa(write_ccsa(tmp_path), 2, 4)
    assert [domain.name for domain in domains] == ["MNIST", "USPS", "USPS"]
    assert [len(domain) for domain in domains] == [30, 20, 20]
    for domain in domains:
        assert domain.images.shape[1:] == (1, 16, 16)
        assert domain.images.dtype == torch.float32
        assert domain.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("letter", "change", "message"),
    [
        ("y", lambda y: y[1:], r"\(20, 16, 16\) images and float64 \(19,\) labels, where"),
        ("y", lambda y: y + 1, r"where there should be .* N digits"),
        ("y", np.zeros_like, r"\[20, 0, 0, .* target images a class where 2 of each should be"),
        ("X", lambda x: np.resize(x, (20, 32, 32)), r"\(20, 32, 32\) images"),
        ("X", lambda x: x * 255, "in 0 to 1"),
        ("X", lambda x: x * np.nan, "in 0 to 1"),
        ("X", lambda x: x.astype(str), "<U"),
        ("X", lambda x: x.astype(object), "cannot be read .*pickle"),
        ("X", None, "cannot be read .*No such file"),
        ("X", lambda x: {"X": x}, "<U"),  # an archive of arrays
    ],
)
def test_bad_ccsa_files(tmp_path, letter, change, message):
    write_ccsa(tmp_path)
    stem = "train_target_repetition_4_sample_per_class_2.npy"
    file = tmp_path / f"MNIST_to_USPS_{letter}_{stem}"
    changed = None if change is None else change(np.load(file))
    file.unlink()
    if isinstance(changed, dict):
        with file.open("wb") as archive:
            np.savez(archive, **changed)
    elif changed is not None:
        np.save(file, changed)
    with pytest.raises(InputError, match=message):
        read_ccsa(tmp_path, 2, 4)


def test_published_ccsa_files(shared):
    folder = shared / "data" / "ccsa_digits"
    repeated = {}
    for n in range(1, 8):
        source, target, test = read_ccsa(folder, n, 0)
        assert (len(source), len(target), len(test)) == (2000, 10 * n, 1800)
        repeated[n] = shared_images(target, test)
    assert any(repeated.values())  # published so: the test sets hold some of the few


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
    shift = mnistm_shift(tmp_path, seed=0)
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
    again, other = mnistm_shift(tmp_path, seed=0), mnistm_shift(tmp_path, seed=1)
    for part in PARTS:
        images = getattr(shift, part).images
        assert torch.equal(images, getattr(again, part).images)
        assert part == "target_test" or not torch.equal(images, getattr(other, part).images)


def test_dann_on_mnistm_from_a_terminal(mnist, tmp_path, monkeypatch, capsys):
    config = settings.SHIFTS["mnistm"]
    few = replace(config.training, steps=2, batch_size=10)
    monkeypatch.setitem(settings.SHIFTS, "mnistm", replace(config, training=few))
    command = ["family", "--shift", "mnistm", "--root", str(tmp_path), "--device", "cpu"]
    command += ["--methods", "source_only,adabn,dann", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "DANN" in capsys.readouterr().out
    run = ClassificationRun(tmp_path / "run")
    assert run.methods == ["source_only", "adabn", "dann"]
    assert len(run.problem(0, "", None).target_test) == 20
    assert main([*command[:3], "--out", str(tmp_path / "other")]) == 2
    assert "'mnistm' needs --root" in capsys.readouterr().err


def test_blend_is_the_absolute_difference():
    generator = np.random.default_rng(0)
    plain = generator.integers(0, 256, (4, 5, 6), np.uint8)
    grounds = generator.integers(0, 256, (4, 3, 5, 6), np.uint8)
    expected = (torch.tensor(grounds).double() - torch.tensor(plain).double()[:, None]).abs()
    np.testing.assert_array_equal(blended(plain, grounds), expected.numpy())


def test_missing_and_damaged_files_of_mnistm(mnist, tmp_path):
    images = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    whole = images.read_bytes()
    for content in (whole[:100], b"", b"<html>404</html>" * 9, whole[:8] + whole[8:][::-1], None):
        images.unlink() if content is None else images.write_bytes(content)
        with pytest.raises(InputError, match=r"raw/train-\*: .* labor_lib data mnist --root"):
            mnistm_shift(tmp_path, seed=0)
    images.write_bytes(whole)
    photograph = tmp_path / "bsds500" / "train" / "a.png"
    Image.new("RGB", (60, 31)).save(photograph)
    with pytest.raises(InputError, match=r"a\.png: smaller than a digit's 32 x 32"):
        mnistm_shift(tmp_path, seed=0)
    photograph.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png: cannot be decoded"):
        mnistm_shift(tmp_path, seed=0)
    photograph.unlink()
    with pytest.raises(InputError, match=r"bsds500: .* labor_lib data bsds500 --root"):
        mnistm_shift(tmp_path, seed=0)
