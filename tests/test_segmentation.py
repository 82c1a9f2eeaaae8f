"""Each reader on tiny folders in the published layout, every bad input, and real CamVid."""

import re
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from test_extend import SECTIONS
from torch.utils.data import DataLoader

from labor_lib.data.segmentation import LAYOUTS, SegmentationFolder, evaluation_split
from labor_lib.errors import InputError
from labor_lib.labels import CAMVID11, CITYSCAPES19, SYNTHIA16

SIZE = (12, 20)  # height, width
CLASSES = {
    "gta5": CITYSCAPES19,
    "synthia": SYNTHIA16,
    "cityscapes": CITYSCAPES19,
    "camvid": CAMVID11,
}
# raw ids of the label of the first image, left to right, and the classes they are
RAW = {
    "gta5": [7, 26, 34, 0],
    "synthia": [3, 8, 22, 11],
    "cityscapes": [7, 33, 255, 0],
    "camvid": [0, 10, 11, 3],
}
EXPECTED = {
    "gta5": [0, 13, 255, 255],
    "synthia": [0, 12, 255, 15],
    "cityscapes": [0, 18, 255, 255],
    "camvid": [0, 10, 255, 3],
}


def write_label(path: Path, raw: np.ndarray, layout: str) -> None:
    """Write h x w raw ids in the layout's own kind of picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "synthia":
        instances = np.arange(raw.size).reshape(raw.shape) * 7  # the second channel
        channels = np.stack([np.zeros_like(raw), instances, raw], axis=2)  # BGR
        cv2.imwrite(str(path), channels.astype(np.uint16))
        return
    picture = Image.fromarray(raw.astype(np.uint8))
    if layout == "gta5":
        picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
        assert picture.mode == "P"
    picture.save(path)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Write a random RGB image and return it, h x w x 3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def stripes(ids: list[int]) -> np.ndarray:
    """SIZE label of vertical stripes, one an id."""
    return np.repeat(np.array(ids), SIZE[1] // len(ids))[None].repeat(SIZE[0], axis=0)


# image and label file of item i, written out from the datasets' own documentation
PATHS = {
    "gta5": ("images/0000{}.png", "labels/0000{}.png"),
    "synthia": ("RGB/000000{}.png", "GT/LABELS/000000{}.png"),
    "cityscapes": (
        "leftImg8bit/{s}/aachen/aachen_00000{}_000019_leftImg8bit.png",
        "gtFine/{s}/aachen/aachen_00000{}_000019_gtFine_labelIds.png",
    ),
    "camvid": ("{s}/0001TP_00669{}.png", "{s}annot/0001TP_00669{}.png"),
}


def paths(root: Path, layout: str, i: int, split: str = "train") -> tuple[Path, Path]:
    """Image and label file of item i."""
    image, label = (root / path.format(i, s=split) for path in PATHS[layout])
    return image, label


def write(root: Path, layout: str, split: str = "train", count: int = 2) -> None:
    """A small dataset: random images, labels of stripes in `RAW[layout]`, reversed from item 1."""
    for i in range(count):
        image, label = paths(root, layout, i, split)
        write_image(image, i)
        write_label(label, stripes(RAW[layout][:: -1 if i else 1]), layout)


def folder(root: Path, layout: str, split: str = "train", **settings) -> SegmentationFolder:
    return SegmentationFolder(root, layout, split, CLASSES[layout], **settings)


@pytest.fixture(params=list(PATHS))
def layout(request) -> str:
    return request.param


def test_reads_published_layout(tmp_path, layout):
    write(tmp_path, layout)
    data = folder(tmp_path, layout)
    assert len(data) == 2
    stem = {"cityscapes": "aachen_000000_000019", "camvid": "0001TP_006690"}
    assert data.names[0] == stem.get(layout, "00000" if layout == "gta5" else "0000000")
    assert data.names == sorted(data.names)
    assert data.native_size(1) == SIZE
    image, label = data[0]
    assert (image.dtype, label.dtype) == (torch.uint8, torch.uint8)
    pixels = np.array(Image.open(paths(tmp_path, layout, 0)[0]))
    np.testing.assert_array_equal(image.numpy(), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(label.numpy(), stripes(EXPECTED[layout]))
    np.testing.assert_array_equal(data.label(1).numpy(), stripes(EXPECTED[layout][::-1]))
    data.check()


def test_resizes_image_and_label(tmp_path, layout):
    write(tmp_path, layout)
    data = folder(tmp_path, layout, size=(6, 8))
    image, label = data[0]
    assert (image.shape, label.shape) == ((3, 6, 8), (6, 8))
    assert data.native_label(0).shape == SIZE
    assert data.native_size(0) == SIZE
    np.testing.assert_array_equal(label[0].numpy(), np.repeat(EXPECTED[layout], 2))
    # Pillow's bilinear filter is antialiased too, and independent code
    picture = Image.open(paths(tmp_path, layout, 0)[0]).resize((8, 6), Image.Resampling.BILINEAR)
    difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.array(picture))
    assert difference.max() <= 1


def refused(root: Path, layout: str, message: str, split: str = "train", **settings) -> None:
    """Opening the folder raises InputError of one line that has `message`."""
    with pytest.raises(InputError, match=re.escape(message) + r"[^\n]*\Z"):
        folder(root, layout, split, **settings)


def refused_on_reading(data: SegmentationFolder, message: str, workers: int = 0) -> None:
    """So does reading it."""
    with pytest.raises(InputError, match=rf"\A{re.escape(message)}[^\n]*\Z"):
        list(DataLoader(data, num_workers=workers))


@pytest.mark.parametrize("missing", ["root", "labels", "files"])
def test_missing_folders_and_files(tmp_path, layout, missing):
    folders = [path.parent.relative_to(tmp_path) for path in paths(tmp_path, layout, 0)]
    folders = [folder.as_posix().removesuffix("/aachen") for folder in folders]  # a city
    if missing == "labels":
        write_image(paths(tmp_path, layout, 0)[0])
    elif missing == "files":
        (tmp_path / folders[0]).mkdir(parents=True)
    place = tmp_path / folders[missing == "labels"]
    refused(tmp_path, layout, f"{place}: holds no ")
    refused(tmp_path, layout, f"folder with {' and '.join(folders)} as --source-root")
    if missing == "root":
        refused(tmp_path, "gta5", "split 'val': gta5 has train", split="val")
        with pytest.raises(InputError, match="'gta5': has no split to score on"):
            evaluation_split(tmp_path, "gta5")
        return
    write(tmp_path, layout)
    for gone, message in ((1, "image without label"), (0, "label without image")):
        pair = paths(tmp_path, layout, 1)
        pair[gone].unlink()
        refused(tmp_path, layout, f"{pair[1 - gone]}: {message} (1 such files in all)")
        write(tmp_path, layout)


def test_names_of_files(tmp_path):
    write(tmp_path, "gta5")
    for path in paths(tmp_path, "gta5", 1):
        path.rename(path.with_suffix(".PNG"))
    assert folder(tmp_path, "gta5").names == ["00000", "00001"]
    write_image(paths(tmp_path, "gta5", 1)[0])
    refused(tmp_path, "gta5", "has the same name; remove one of them")
    write(tmp_path, "cityscapes")
    image, label = paths(tmp_path, "cityscapes", 0)
    (image.parent / f"._{image.name}").write_bytes(b"macOS")
    (label.parent / label.name.replace("labelIds", "color")).write_bytes(b"a colour picture")
    assert len(folder(tmp_path, "cityscapes")) == 2
    write_image(image.parent.parent / "bochum" / image.name)
    refused(tmp_path, "cityscapes", "has the same name")


def test_pairs_of_different_sizes(tmp_path, layout):
    write(tmp_path, layout)
    image, label = paths(tmp_path, layout, 1)
    write_image(image, size=(20, 12))
    message = f"{label}: 20 x 12 pixels but its image has 12 x 20"
    refused(tmp_path, layout, message)  # the pixels of the two do not belong together
    with pytest.warns(UserWarning, match=re.escape(f"{message} (1 such pairs in all)")):
        data = folder(tmp_path, layout, size=(6, 8))  # AdaptSegNet resizes both
    assert (data[1][0].shape, data[1][1].shape) == ((3, 6, 8), (6, 8))
    if "val" in LAYOUTS[layout].splits:  # what is scored is scored as stored
        write(tmp_path, layout, "val")
        write_image(paths(tmp_path, layout, 1, "val")[0], size=(20, 12))
        refused(tmp_path, layout, "but its image has 12 x 20", "val", size=(6, 8))


def few_bits(label: Path) -> None:
    """Grey of 2 bits: Pillow would stretch its ids 0..3 to 0, 85, 170, 255."""
    content = bytearray(label.read_bytes())
    content[24] = 2  # bit depth
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    label.write_bytes(content)


@pytest.mark.parametrize(
    ("layout", "spoil", "kind"),
    [
        ("camvid", write_image, "PNG RGB"),
        ("camvid", lambda path: Image.new("L", SIZE[::-1]).save(path, format="JPEG"), "JPEG L"),
        ("camvid", few_bits, "PNG L;2"),
        ("camvid", lambda path: write_label(path, stripes([0, 1]), "synthia"), "PNG RGB;16B"),
        ("synthia", lambda path: write_label(path, stripes([0, 1]), "camvid"), "PNG L"),
    ],
)
def test_label_of_another_kind(tmp_path, layout, spoil, kind):
    write(tmp_path, layout)
    label = paths(tmp_path, layout, 0)[1]
    spoil(label)
    wanted = {"camvid": "palette or 8-bit", "synthia": "16-bit RGB"}[layout]
    refused(tmp_path, layout, f"{label}: {kind} pixels where {layout} labels are {wanted}")


def test_id_of_another_dataset(tmp_path, layout):
    write(tmp_path, layout)
    label = paths(tmp_path, layout, 1)[1]
    bad = {"gta5": 35, "synthia": 259, "cityscapes": 34, "camvid": 12}[layout]  # 259 = 256 + 3
    write_label(label, stripes([0, 1, bad, 3]), layout)
    message = f"{label}: class id {bad} is none of {layout}'s"
    data = folder(tmp_path, layout)
    refused_on_reading(data, message, workers=layout == "gta5")  # another process, too
    label.write_bytes(label.read_bytes()[:60])
    refused_on_reading(data, f"{label}: cannot be decoded")


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_not_a_picture(tmp_path, layout, which):
    write(tmp_path, layout)
    path = paths(tmp_path, layout, 1)[which]
    for content in (b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", b"<html>404 Not Found</html>" * 9):
        path.write_bytes(content)
        refused(tmp_path, layout, f"{path}: cannot be decoded")


def test_check_of_a_sample_finds_what_stops_a_run_later(tmp_path):
    write(tmp_path, "camvid", "val", count=6)
    folder(tmp_path, "camvid", "val").check(sample=3)
    labels = [paths(tmp_path, "camvid", i, "val")[1] for i in range(6)]
    for label in labels:
        write_label(label, stripes([11] * 4), "camvid")
    for sample in (2, None):
        with pytest.raises(InputError, match="no labelled pixel in the val split"):
            folder(tmp_path, "camvid", "val").check(sample)
    write_label(labels[5], stripes([11, 11, 11, 0]), "camvid")
    folder(tmp_path, "camvid", "val").check(sample=2)
    labels[3].write_bytes(labels[3].read_bytes()[:45])
    folder(tmp_path, "camvid", "val", labels=False).check()
    with pytest.raises(InputError, match="cannot be decoded"):
        folder(tmp_path, "camvid", "val").check(sample=2)


@pytest.mark.parametrize("layout", ["cityscapes", "camvid"])
def test_scored_on_test_where_it_has_labels(tmp_path, layout):
    write(tmp_path, layout, "test")
    with warnings.catch_warnings(action="error"):
        assert evaluation_split(tmp_path, layout) == "test"
        for i in range(2):  # void, as Cityscapes ships them
            void = 0 if layout == "cityscapes" else 11
            write_label(paths(tmp_path, layout, i, "test")[1], stripes([void] * 4), layout)
        assert evaluation_split(tmp_path, layout) == "val"
    for i in range(2):
        paths(tmp_path, layout, i, "test")[1].unlink()
    with pytest.warns(UserWarning, match="no test split with labels, so .* scored on val"):
        assert evaluation_split(tmp_path, layout) == "val"


def test_worked_example_of_a_layout(tmp_path, monkeypatch):
    """The layout that docs/ adds reads a folder of that shape."""
    monkeypatch.setattr("labor_lib.data.segmentation.LAYOUTS", dict(LAYOUTS))
    exec(SECTIONS["A dataset layout"][0], {})
    write_image(tmp_path / "images/10k/train/0.jpg")
    label = tmp_path / "labels/sem_seg/masks/train/0.png"
    write_label(label, stripes([0, 18, 255, 9]), "camvid")
    data = SegmentationFolder(tmp_path, "bdd100k", "train", SYNTHIA16, size=(6, 8))
    assert (data.names, data.native_size(0), data.image(0).shape) == (["0"], SIZE, (3, 6, 8))
    np.testing.assert_array_equal(data.label(0)[0], np.repeat([0, 15, 255, 255], 2))
    write_label(label, stripes([0, 19, 255, 9]), "camvid")
    refused_on_reading(data, f"{label}: class id 19 is none of bdd100k's")
