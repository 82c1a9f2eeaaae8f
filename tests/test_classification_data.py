"""Domains, the embedded shifts, and the readers of real images of one label each."""

import bz2
import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from labor_lib.data import classification
from labor_lib.data.classification import (
    SHIFTS,
    Domain,
    few,
    mnist_m,
    read_ccsa,
    read_digits,
    read_domains,
    read_lists,
    resized,
    shared_images,
    split,
    styles,
)
from labor_lib.drawn import digits
from labor_lib.drawn import styles as drawing
from labor_lib.errors import InputError

PARTS = ("source", "source_val", "target_train", "target_test")


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
        assert numbers(taken if isinstance(taken, Domain) else taken.load()) == [3, 1]
        assert taken.labels.tolist() == domain.labels[[3, 1]].tolist()
        assert (taken.name, taken.classes) == (domain.name, domain.classes)
        batch = domain.batch(indices)
        assert batch.shape == (2, 3, 4, 4)
        assert batch.dtype == torch.uint8
        torch.testing.assert_close(batch, taken.batch(range(2)))


def test_take_a_mask_and_nothing(folders):
    for domain in (toy(), read_domains(folders, size=4)["art"]):
        mask = domain.labels == 1
        assert set(domain.take(mask).labels.tolist()) == {1}
        assert len(domain.take(mask)) == mask.sum()
        assert len(domain.take([])) == 0


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
    for wrong in ((0.5, 0.4), (1.2, -0.2)):
        with pytest.raises(InputError, match="must be positive and add up to 1"):
            split(whole, wrong, seed=0)


def test_few_of_each_class_and_more_hold_fewer():
    whole = toy()
    chosen = [set(numbers(few(whole, n, seed=3))) for n in (1, 3, 5)]
    assert few(whole, 5, seed=3).labels.bincount().tolist() == [5, 5, 5]
    assert chosen[0] < chosen[1] < chosen[2]
    assert chosen[2] != set(numbers(few(whole, 5, seed=4)))
    with pytest.raises(InputError, match=r"11 images a class: class 'a' of toy has 10; ask for"):
        few(whole, 11, seed=0)
    with pytest.raises(InputError, match="0 images a class: ask for at least 1"):
        few(whole, 0, seed=0)


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


def test_blend_is_the_absolute_difference():
    generator = np.random.default_rng(0)
    plain = generator.integers(0, 256, (4, 5, 6), np.uint8)
    grounds = generator.integers(0, 256, (4, 3, 5, 6), np.uint8)
    expected = (torch.tensor(grounds).double() - torch.tensor(plain).double()[:, None]).abs()
    np.testing.assert_array_equal(digits.blended(plain, grounds), expected.numpy())


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
    (folders / "readme.txt").write_text("text")
    read = read_domains(folders, size=5)
    assert list(read) == ["art", "photo"]
    for name, domain in read.items():
        assert (domain.name, domain.classes) == (name, ("cat", "dog"))
        assert domain.labels.tolist() == [0, 0, 1, 1]
        assert domain.batch([2, 0]).shape == (2, 3, 5, 5)
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
    names = [path.rsplit("/")[-1] for path in domain.paths.tolist()]
    found = domain.batch([names.index(f"{letter}.png") for letter in "abc"])
    assert found[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3], [9, 8, 7]]


def test_split_and_few_of_folders(folders):
    domain = read_domains(folders, size=2)["art"]
    first, second = split(domain, (0.5, 0.5), seed=0)
    assert first.labels.tolist() == second.labels.tolist() == [0, 1]
    assert not set(first.paths) & set(second.paths)
    assert few(domain, 1, seed=0).labels.tolist() == [0, 1]


def test_bad_folders_are_told_in_one_line(folders, tmp_path):
    def message(*arguments):
        with pytest.raises(InputError) as caught:
            read_domains(*arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nowhere: no such folder" in message(tmp_path / "nowhere")
    assert "holds no folders" in message(folders / "art" / "cat")
    assert "no domain 'clipart'; it has art, photo" in message(folders, ["photo", "clipart"])
    assert f"{folders / 'art' / 'cat'}: holds no class folders" in message(folders / "art")
    (folders / "art" / "horse").mkdir()
    assert f"{folders / 'art' / 'horse'}: no images in it" in message(folders)
    (folders / "art" / "horse").rmdir()
    picture(folders / "photo" / "horse" / "0.png")
    assert "photo: 'horse' is a class of photo but not of art" in message(folders)
    (folders / "photo" / "horse").rename(folders / "art" / "horse")
    assert "photo: 'horse' is a class of art but not of photo" in message(folders)


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


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pixels_that_would_be_cut_off_are_refused(folders, mode):
    bad = folders / "art" / "dog" / "2.tiff"
    ramp = np.arange(36).reshape(6, 6) * 1000
    Image.fromarray(ramp.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])).save(
        bad
    )
    with pytest.raises(InputError, match=rf"2\.tiff: {mode}\S* pixels; save it with 8 bits"):
        read_domains(folders)["art"].load()


def test_roots_that_are_not_quite_right(folders, tmp_path):
    with pytest.raises(InputError, match=rf"give the folder that holds .*, such as {folders}$"):
        read_domains(folders.parent, [folders.name])
    (folders / "__MACOSX" / "art").mkdir(parents=True)
    assert list(read_domains(folders)) == ["art", "photo"]


def test_a_part_without_images_is_refused(folders):
    domain = read_domains(folders)["art"]
    with pytest.raises(
        InputError, match="art: 4 images in 2 classes are too few for a part of 20 %"
    ):
        split(domain, (0.8, 0.2), seed=0)


@pytest.fixture
def lists(folders):
    """DomainNet's list files of the folders; `art_test.txt` has no dog."""
    for domain in ("art", "photo"):
        rows = [f"{domain}/{('cat', 'dog')[i // 2]}/{i}.png {i // 2}\n" for i in range(4)]
        (folders / f"{domain}_train.txt").write_text("".join(rows[::2]))
        (folders / f"{domain}_test.txt").write_text("".join(rows[1 : 2 if domain == "art" else 4]))
    return folders


def test_lists_give_the_images_they_name(lists):
    read = read_lists(lists, ["photo", "art"], "train", size=3)
    assert list(read) == ["photo", "art"]
    assert read["art"].labels.tolist() == [0, 1]
    assert read["art"].load().images[:, 0, 0, 0].tolist() == [0, 2]
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
        ("art/cat/0.png 1", r"gives class id \d to '\w+'; elsewhere that id or that class is"),
        ("art/cat/0.png 2", r"gives class id \d to 'cat'; elsewhere"),
        ("art/horse/0.png 3", r"no list has an image of class id 2"),
    ],
)
def test_bad_lists_are_told_by_line(lists, row, message):
    with (lists / "art_train.txt").open("a") as file:
        file.write(row + "\n")
    picture(lists / "art" / "horse" / "0.png")
    with pytest.raises(InputError, match=message):
        read_lists(lists, ["art", "photo"], "train")


def test_lists_with_a_mark_and_other_texts_beside_them(lists):
    file = lists / "art_train.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (lists / "read_me.txt").write_text("hello world")
    assert read_lists(lists, ["art"], "train")["art"].labels.tolist() == [0, 1]
    file.write_bytes("art/chät/0.png 0".encode("latin-1"))
    with pytest.raises(InputError, match=r"art_train\.txt: not UTF-8; save it as that"):
        read_lists(lists, ["art"], "train")
    file.write_text("art/cat/0.png 0\nart/cow/0.png 900000000\n")
    picture(lists / "art" / "cow" / "0.png")
    with pytest.raises(InputError, match="no list has an image of class id 2; add its list"):
        read_lists(lists, ["art"], "train")


def test_missing_and_empty_lists(lists):
    with pytest.raises(InputError, match=r"art_val\.txt: no such list; .* has art_test\.txt, art_"):
        read_lists(lists, ["art"], "val")
    with pytest.raises(InputError, match=r"clipart_train\.txt: no such list"):
        read_lists(lists, ["clipart"], "train")
    (lists / "art_train.txt").write_text("\n")
    with pytest.raises(InputError, match=r"art_train\.txt: names no image"):
        read_lists(lists, ["art"], "train")


def test_pacs_subset(shared):
    read = read_domains(shared / "data" / "pacs_subset", size=32)
    assert list(read) == ["art_painting", "cartoon", "photo", "sketch"]
    for domain in read.values():
        assert len(domain.classes) == 7
        assert domain.labels.bincount().tolist() == [40] * 7
    photo = read["photo"].batch([0, 279])
    assert photo.shape == (2, 3, 32, 32)
    with Image.open(read["photo"].paths[279]) as file:
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
    source, target, test = read_ccsa(write_ccsa(tmp_path), 2, 4)
    assert [domain.name for domain in (source, target, test)] == ["MNIST", "USPS", "USPS"]
    assert [len(domain) for domain in (source, target, test)] == [30, 20, 20]
    for domain in (source, target, test):
        assert domain.images.shape[1:] == (1, 16, 16)
        assert domain.images.dtype == torch.float32
        assert domain.labels.dtype == torch.int64


def test_bad_ccsa_files(tmp_path):
    write_ccsa(tmp_path)
    with pytest.raises(InputError, match=r"repetition_4_sample_per_class_3\.npy: no such file"):
        read_ccsa(tmp_path, 3, 4)
    stem = "train_target_repetition_4_sample_per_class_2.npy"
    labels = np.load(tmp_path / f"MNIST_to_USPS_y_{stem}")
    for wrong, message in (
        (labels[1:], r"\(19,\) labels beside \(20, 16, 16\) images"),
        (labels + 1, r"labels other than the digits 0 to 9"),
        (np.zeros(20), r"\[20, 0, 0, .* target images a class where 2 of each should be"),
    ):
        np.save(tmp_path / f"MNIST_to_USPS_y_{stem}", wrong)
        with pytest.raises(InputError, match=message):
            read_ccsa(tmp_path, 2, 4)
    (tmp_path / f"MNIST_to_USPS_y_{stem}").write_bytes(b"no array")
    with pytest.raises(InputError, match=rf"{stem}: not a NumPy file"):
        read_ccsa(tmp_path, 2, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: np.resize(x, (20, 32, 32)), r"\(20, 32, 32\) images, not N x 16 x 16"),
        (lambda x: x * 255, "pixels outside 0 to 1"),
        (lambda x: x * np.nan, "pixels outside 0 to 1, or no numbers"),
        (lambda x: x.astype(str), "not numbers, or an archive of arrays"),
    ],
)
def test_ccsa_files_of_other_images(tmp_path, change, message):
    write_ccsa(tmp_path)
    file = tmp_path / "MNIST_to_USPS_X_train_target_repetition_4_sample_per_class_2.npy"
    np.save(file, change(np.load(file)))
    with pytest.raises(InputError, match=message):
        read_ccsa(tmp_path, 2, 4)


def test_an_archive_under_the_name_of_a_ccsa_file(tmp_path):
    write_ccsa(tmp_path)
    file = tmp_path / "MNIST_to_USPS_X_train_target_repetition_4_sample_per_class_2.npy"
    with file.open("wb") as archive:
        np.savez(archive, X=np.zeros(3))
    with pytest.raises(InputError, match="archive of arrays"):
        read_ccsa(tmp_path, 2, 4)


def test_published_ccsa_files(shared):
    folder = shared / "data" / "ccsa_digits"
    repeated = {}
    for n in range(1, 8):
        source, target, test = read_ccsa(folder, n, 0)
        assert (len(source), len(target), len(test)) == (2000, 10 * n, 1800)
        assert source.images.min() >= 0
        assert source.images.max() <= 1
        repeated[n] = shared_images(target, test)
    assert any(repeated.values())  # published so: the test sets hold some of the few
    assert all(count <= 10 * n for n, count in repeated.items())


def idx(path, array):
    """An array in the file format of MNIST."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root, count=12):
    generator = np.random.default_rng(0)
    images = {}
    for part in ("train", "t10k"):
        images[part] = generator.integers(0, 256, (count, 28, 28), np.uint8)
        idx(root / f"MNIST/raw/{part}-images-idx3-ubyte", images[part])
        idx(root / f"MNIST/raw/{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return images


def test_mnist_files(tmp_path):
    images = write_mnist(tmp_path)
    for train, part in ((True, "train"), (False, "t10k")):
        domain = read_digits("MNIST", tmp_path, train)
        np.testing.assert_array_equal(domain.images[:, 0], images[part])
        assert domain.labels.tolist() == [i % 10 for i in range(12)]


def test_usps_files(tmp_path):
    rows = [
        f"{i + 1} " + " ".join(f"{k + 1}:{(-1, 1)[k == i]}" for k in range(256)) for i in range(10)
    ]
    (tmp_path / "usps.bz2").write_bytes(bz2.compress("\n".join(rows).encode()))
    domain = read_digits("USPS", tmp_path, True)
    assert domain.images.shape == (10, 1, 16, 16)
    assert domain.labels.tolist() == list(range(10))
    assert domain.images.flatten(1).argmax(1).tolist() == list(range(10))


def test_svhn_files(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (32, 32, 3, 5), np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.array([[10], [1], [2], [9], [10]])})
    md5 = hashlib.md5((tmp_path / "test_32x32.mat").read_bytes()).hexdigest()
    monkeypatch.setitem(
        classification.datasets.SVHN.split_list, "test", ["", "test_32x32.mat", md5]
    )
    domain = read_digits("SVHN", tmp_path, False)
    assert domain.labels.tolist() == [0, 1, 2, 9, 0]
    np.testing.assert_array_equal(domain.images[3], images[..., 3].transpose(2, 0, 1))


def test_missing_and_damaged_digits(tmp_path):
    for name in ("MNIST", "USPS", "SVHN"):
        with pytest.raises(
            InputError, match=f"{name} is not there or damaged.* download {name.lower()}"
        ):
            read_digits(name, tmp_path, True)
    with pytest.raises(InputError, match="unknown digits 'KMNIST': choose MNIST, USPS or SVHN"):
        read_digits("KMNIST", tmp_path, True)
    write_mnist(tmp_path)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    for content in (file.read_bytes()[:100], gzip.compress(b"packed"), b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match="MNIST is not there or damaged"):
            read_digits("MNIST", tmp_path, True)
    (tmp_path / "usps.bz2").write_bytes(b"no archive")
    with pytest.raises(InputError, match="USPS is not there or damaged"):
        read_digits("USPS", tmp_path, True)


def test_resized_changes_size_and_channels():
    grey = Domain("grey", ("a",), torch.full((2, 1, 28, 28), 9, dtype=torch.uint8), torch.zeros(2))
    large = resized(grey, 32, 3)
    assert large.images.shape == (2, 3, 32, 32)
    assert large.images.unique().tolist() == [9]
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8)
    small = resized(Domain("colour", ("a",), colour, torch.zeros(2)), 4, 1)
    assert small.images.shape == (2, 1, 4, 4)
    weights = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert (small.images.float() - weights @ torch.tensor([200.0, 100, 50])).abs().max() <= 1


def test_mnist_m_takes_patches_of_the_photographs(tmp_path):
    write_mnist(tmp_path)
    plain = read_digits("MNIST", tmp_path, True)
    photographs = tmp_path / "photographs"
    generator = np.random.default_rng(1)
    (photographs / "deep").mkdir(parents=True)
    pixels = generator.integers(0, 256, (40, 35, 3), np.uint8)
    Image.fromarray(pixels).save(photographs / "deep" / "a.png")
    made = mnist_m(plain, photographs, seed=0)
    assert made.name == "MNIST-M"
    assert made.images.shape == (12, 3, 28, 28)
    assert made.labels.tolist() == plain.labels.tolist()
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (28, 28), axis=(0, 1))
    places = set()
    for image, digit in zip(made.images.numpy(), plain.images[:, 0].numpy(), strict=True):
        expected = np.abs(windows.astype(int) - digit)  # 13 x 8 x 3 x 28 x 28
        (place,) = np.argwhere((expected == image).all((2, 3, 4))).tolist()
        places.add(tuple(place))
    assert len(places) > 6
    again = mnist_m(plain, photographs, seed=0).images
    assert torch.equal(made.images, again)
    assert not torch.equal(made.images, mnist_m(plain, photographs, seed=1).images)


def test_bad_photographs(tmp_path):
    write_mnist(tmp_path)
    plain = read_digits("MNIST", tmp_path, True)
    with pytest.raises(InputError, match="no images below it; give the folder of BSDS500"):
        mnist_m(plain, tmp_path, seed=0)
    small = picture(tmp_path / "photographs" / "small.png", size=(27, 60))
    with pytest.raises(InputError, match=r"small\.png: smaller than a digit's 28 x 28"):
        mnist_m(plain, tmp_path / "photographs", seed=0)
    small.write_bytes(b"")
    with pytest.raises(InputError, match=r"small\.png: cannot be decoded"):
        mnist_m(plain, tmp_path / "photographs", seed=0)
