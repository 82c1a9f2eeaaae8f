"""Odd picture files, and plain folders of them."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from labor_lib.data.pictures import image_size, read_rgb
from labor_lib.data.segmentation import SegmentationFolder
from labor_lib.errors import InputError
from labor_lib.labels import STREETS14, own_classes

UPRIGHT = np.zeros((24, 40, 3), np.uint8)  # each corner in a colour of its own
UPRIGHT[:12, :20], UPRIGHT[:12, 20:], UPRIGHT[12:, :20] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
# EXIF 2.32, tag 0x0112: where row 0 and column 0 of the stored pixels are in the upright picture
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),  # the upright picture is the stored one turned clockwise
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("value", STORED)
def test_pictures_are_turned_upright(tmp_path, value, ending):
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / f"a.{ending}"
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    picture = Image.fromarray(np.ascontiguousarray(STORED[value]))
    picture.save(path, exif=exif, **options.get(ending, {}))
    assert image_size(path) == (24, 40)
    np.testing.assert_allclose(read_rgb(path), UPRIGHT, atol=4)


def test_a_damaged_note_on_orientation_is_none(tmp_path):
    path = tmp_path / "a.jpg"
    for exif in (
        b"Exif\0\0nonsense",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63",
    ):
        Image.new("RGB", (8, 4), "red").save(path, exif=exif)
        with warnings.catch_warnings(action="error"):
            assert image_size(path) == read_rgb(path).shape[:2] == (4, 8)


def test_kinds_of_pixels(tmp_path):
    def colour(picture, ending="png", **options):
        path = tmp_path / f"a.{ending}"
        picture.save(path, **options)
        with warnings.catch_warnings(action="error"):
            pixels = read_rgb(path)
        assert (pixels.shape, pixels.dtype) == ((4, 8, 3), np.uint8)
        return pixels[0, 0].tolist()

    assert colour(Image.new("L", (8, 4), 7)) == [7, 7, 7]
    assert colour(Image.new("1", (8, 4), 1)) == [255, 255, 255]
    assert colour(Image.new("LA", (8, 4), (7, 255))) == [7, 7, 7]
    assert colour(Image.new("RGBA", (8, 4), (10, 20, 30, 255))) == [10, 20, 30]
    assert colour(Image.new("RGBA", (8, 4), (10, 20, 30, 0))) == [255, 255, 255]
    palette = Image.new("P", (8, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert colour(palette) == [9, 8, 7]
    assert colour(palette, transparency=b"\x00\xff") == [9, 8, 7]
    red = colour(Image.new("CMYK", (8, 4), (0, 255, 255, 0)), "jpg", quality=100)
    assert red[0] > 200 > 60 > max(red[1:])
    for name, dtype in (("a.png", "u2"), ("b.tiff", "u2"), ("c.tiff", "i4"), ("d.tiff", "f4")):
        Image.fromarray(np.full((4, 8), 4000, dtype)).save(tmp_path / name)
        for read in (image_size, read_rgb):  # 8 bits would cut such values off
            with pytest.raises(InputError, match=rf"{name}: \w+ [IF]\S* pixels; save .* 8 bits"):
                read(tmp_path / name)


def test_files_that_cannot_be_used(tmp_path, monkeypatch):
    path = tmp_path / "a 'b' <i>c.png"
    Image.new("RGB", (30, 30)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"GIF", whole[:60]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a 'b' <i>c\.png: cannot be decoded.* remove it"):
            read_rgb(path)
    path.write_bytes(whole)
    for limit in (500, 400):  # Pillow only warns up to twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(InputError, match=r"more than 0 million pixels; save it smaller"),
        ):
            image_size(path)


# ------------------------------------------------------------------------------------ folders


def photographs(root, *names):
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        memory = io.BytesIO()
        Image.new("RGB", (8 + number, 6), "red").save(memory, "PNG" if "png" in name else "JPEG")
        (root / name).write_bytes(memory.getvalue())
    return root


def plain(root, **settings):
    return SegmentationFolder(root, "images", "train", STREETS14, labels=False, **settings)


def test_a_plain_folder(tmp_path):
    root = photographs(tmp_path / "mine", "b.JPG", "a b's <i>.jpeg", "c.x.png", "._d.png", "e.txt")
    folder = plain(root, size=(4, 4))
    assert folder.names == ["a b's <i>", "b", "c.x"]
    assert [folder.native_size(i) for i in range(3)] == [(6, 9), (6, 8), (6, 10)]
    assert folder[1].shape == (3, 4, 4)
    folder.check()
    with pytest.raises(InputError, match="layout images has no labels"):
        SegmentationFolder(root, "images", "train", STREETS14)


def test_folders_that_hold_nothing(tmp_path):
    root = photographs(tmp_path / "holiday/day one", "b.jpg").parent
    with pytest.raises(InputError, match=r"holiday: holds no \.png or .*, such as .*day one$"):
        plain(root)
    photographs(root, "a.jpg", "a.png")
    with pytest.raises(InputError, match="has the same name; remove one of them"):
        plain(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no .*give the folder in which they lie$"):
        plain(tmp_path / "empty")
    with pytest.raises(InputError, match=r"gone: holds no "):
        plain(tmp_path / "gone")


def test_pairs_with_ids_of_ones_own(tmp_path):
    root = photographs(tmp_path / "source/images", "a.jpg").parent
    (root / "labels").mkdir()
    ids = np.array([[0, 3, 40, 255] * 2] * 6, np.uint8)
    Image.fromarray(ids).save(root / "labels/a.png")
    classes = own_classes([("soil", "#804000", (3, 40)), ("plant", "#00ff00", (0,))])
    assert classes.palette.tolist() == [[128, 64, 0], [0, 255, 0]]
    folder = SegmentationFolder(root, "pairs", "train", classes)
    assert folder.label(0)[0].tolist() == [1, 0, 0, 255] * 2
