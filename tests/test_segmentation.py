"""Each reader on tiny folders in the published layout, every bad input, and real CamVid."""

import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labor_lib.data.segmentation import (
    LAYOUTS,
    SegmentationFolder,
    evaluation_split,
    joint_transform,
)
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


def png16(path: Path, values: np.ndarray) -> None:
    """Write h x w x 3 values as a 16-bit RGB PNG, which Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    h, w, _ = values.shape
    header = struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))


def write_label(path: Path, raw: np.ndarray, layout: str) -> None:
    """Write h x w raw ids in the layout's own kind of picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "synthia":
        instances = np.arange(raw.size).reshape(raw.shape) * 7  # the second channel
        png16(path, np.stack([raw, instances, np.zeros_like(raw)], axis=2))
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


@pytest.fixture(params=list(LAYOUTS))
def layout(request) -> str:
    return request.param


# ------------------------------------------------------------------------------ good folders


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


def test_label_resize_takes_centre_pixels(tmp_path):
    write_image(paths(tmp_path, "camvid", 0)[0], size=(9, 9))
    raw = np.arange(9)[None].repeat(9, axis=0)
    write_label(paths(tmp_path, "camvid", 0)[1], raw, "camvid")
    label = folder(tmp_path, "camvid", size=(3, 3)).label(0)
    assert label[0].tolist() == [1, 4, 7]


def test_sixteen_bit_ids_are_not_cut_to_a_byte(tmp_path):
    write(tmp_path, "synthia")
    write_label(paths(tmp_path, "synthia", 0)[1], stripes([3, 3 + 256, 3, 3]), "synthia")
    with pytest.raises(InputError, match=r"class id 259 is not one of synthia's 0\.\.22"):
        folder(tmp_path, "synthia").label(0)


def test_cache_keeps_tensors(tmp_path, layout):
    write(tmp_path, layout)
    data = folder(tmp_path, layout, size=(6, 8), cache=True)
    fresh = folder(tmp_path, layout, size=(6, 8))
    data.check()
    for path in paths(tmp_path, layout, 0):
        path.unlink()
    assert data.image(0) is data.image(0)
    assert data.label(0) is data.label(0)
    assert not torch.equal(data.label(0), data.label(1))
    assert torch.equal(data.image(1), fresh.image(1))
    assert torch.equal(data.label(1), fresh.label(1))
    with pytest.raises(InputError, match="cannot be decoded"):
        fresh.image(0)  # without a cache the file is read


def test_without_labels(tmp_path, layout):
    write(tmp_path, layout)
    for i in range(2):
        paths(tmp_path, layout, i)[1].unlink()
    data = folder(tmp_path, layout, labels=False, cache=True)
    data.check()
    assert isinstance(data[0], torch.Tensor)
    assert data[0].shape == (3, *SIZE)
    for read in (data.label, data.native_label):
        with pytest.raises(RuntimeError, match="only reachable through the annotation oracle"):
            read(0)


def test_without_labels_never_opens_those_that_exist(tmp_path, layout):
    write(tmp_path, layout)
    for i in range(2):
        paths(tmp_path, layout, i)[1].write_bytes(b"")
    folder(tmp_path, layout, labels=False).check()


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    write(tmp_path, "cityscapes")
    image, label = paths(tmp_path, "cityscapes", 0)
    (image.parent / f"._{image.name}").write_bytes(b"macOS")
    (label.parent / label.name.replace("labelIds", "color")).write_bytes(b"a colour picture")
    assert len(folder(tmp_path, "cityscapes")) == 2


def test_goes_through_a_data_loader(tmp_path):
    write(tmp_path, "gta5")
    image, label = next(iter(torch.utils.data.DataLoader(folder(tmp_path, "gta5"), batch_size=2)))
    assert (image.shape, label.shape) == ((2, 3, *SIZE), (2, *SIZE))


# ------------------------------------------------------------------------------ bad folders


def refused(root: Path, layout: str, message: str, split: str = "train", **settings) -> None:
    """Opening or checking the folder raises InputError of one line that has `message`."""
    with pytest.raises(InputError) as caught:
        folder(root, layout, split, **settings).check()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def refused_at_once(root: Path, layout: str, message: str, split: str = "train") -> None:
    """Opening it alone raises so."""
    refused(root, layout, message, split)
    with pytest.raises(InputError):
        folder(root, layout, split)


def test_missing_root(tmp_path, layout):
    refused_at_once(tmp_path / "none", layout, "--source-root or --target-root")


def test_missing_image_folder(tmp_path, layout):
    folders = {
        "gta5": "images/ and labels/",
        "synthia": "RGB/ and GT/LABELS/",
        "cityscapes": "leftImg8bit/train/ and gtFine/train/",
        "camvid": "train/ and trainannot/",
    }
    refused_at_once(tmp_path, layout, f"no such folder; a {layout} folder holds {folders[layout]}")


def test_missing_label_folder(tmp_path, layout):
    write_image(paths(tmp_path, layout, 0)[0])
    refused_at_once(tmp_path, layout, "no such folder")


def test_empty_split(tmp_path, layout):
    for path in paths(tmp_path, layout, 0):
        path.parent.mkdir(parents=True)
    refused_at_once(tmp_path, layout, f".png in it; is this a {layout} folder?")


def test_unknown_layout_and_split(tmp_path):
    with pytest.raises(InputError, match="'kitti': unknown"):
        SegmentationFolder(tmp_path, "kitti", "train", CITYSCAPES19)
    refused(tmp_path, "gta5", "split 'val': gta5 has train", split="val")


def test_image_without_label(tmp_path, layout):
    write(tmp_path, layout)
    image, label = paths(tmp_path, layout, 1)
    label.unlink()
    refused_at_once(tmp_path, layout, f"{image}: image without label (1 such in all)")


def test_label_without_image(tmp_path, layout):
    write(tmp_path, layout)
    image, label = paths(tmp_path, layout, 1)
    image.unlink()
    refused_at_once(tmp_path, layout, f"{label}: label without image (1 such in all)")


def test_pair_of_different_sizes(tmp_path, layout):
    write(tmp_path, layout)
    image, label = paths(tmp_path, layout, 1)
    write_image(image, size=(20, 12))
    refused_at_once(tmp_path, layout, f"{label}: 20 x 12 pixels but its image has 12 x 20")


def test_same_name_in_two_cities(tmp_path):
    write(tmp_path, "cityscapes")
    image = paths(tmp_path, "cityscapes", 0)[0]
    write_image(image.parent.parent / "bochum" / image.name)
    refused_at_once(tmp_path, "cityscapes", "has the same name")


def test_colour_picture_for_a_label(tmp_path, layout):
    write(tmp_path, layout)
    label = paths(tmp_path, layout, 0)[1]
    write_image(label)
    refused_at_once(tmp_path, layout, f"{label}: 8-bit RGB PNG where {layout} labels are")


def test_jpeg_for_a_label(tmp_path, layout):
    write(tmp_path, layout)
    label = paths(tmp_path, layout, 0)[1]
    Image.new("L", SIZE[::-1]).save(label, format="JPEG")
    refused_at_once(tmp_path, layout, f"{label}: not a PNG")


def test_label_kind_of_another_dataset(tmp_path, layout):
    write(tmp_path, layout)
    other = "camvid" if layout == "synthia" else "synthia"
    write_label(paths(tmp_path, layout, 0)[1], stripes([0, 1, 2, 3]), other)
    refused_at_once(tmp_path, layout, f"is this a {layout} folder?")


def test_grey_label_of_few_bits(tmp_path):
    # Pillow would stretch its ids 0..3 to 0, 85, 170, 255
    write(tmp_path, "camvid")
    label = paths(tmp_path, "camvid", 0)[1]
    content = bytearray(label.read_bytes())
    content[24] = 2  # bit depth
    label.write_bytes(content)
    refused_at_once(tmp_path, "camvid", f"{label}: 2-bit grey PNG")


def test_id_outside_the_mapping(tmp_path, layout):
    write(tmp_path, layout)
    label = paths(tmp_path, layout, 1)[1]
    bad = {"gta5": 35, "synthia": 23, "cityscapes": 34, "camvid": 12}[layout]
    write_label(label, stripes([0, 1, bad, 3]), layout)
    refused(tmp_path, layout, f"{label}: class id {bad} is not one of {layout}'s 0..")


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
def test_truncated(tmp_path, layout, which):
    write(tmp_path, layout)
    path = paths(tmp_path, layout, 1)[which]
    path.write_bytes(path.read_bytes()[:60])
    refused(tmp_path, layout, f"{path}: cannot be decoded")


@pytest.mark.parametrize("which", [0, 1], ids=["image", "label"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", b"<html>404 Not Found</html>" * 9],
    ids=["empty", "half a header", "web page"],
)
def test_not_a_picture(tmp_path, layout, which, content):
    write(tmp_path, layout)
    path = paths(tmp_path, layout, 1)[which]
    path.write_bytes(content)
    refused_at_once(tmp_path, layout, f"{path}: not a PNG")


def test_swapped_folders(tmp_path):
    write(tmp_path, "synthia")
    (tmp_path / "GT/LABELS").rename(tmp_path / "labels")
    (tmp_path / "RGB").rename(tmp_path / "GT/LABELS")
    (tmp_path / "labels").rename(tmp_path / "RGB")
    refused_at_once(tmp_path, "synthia", "are image and label folders swapped?")


# ------------------------------------------------------------------------------ split to score on


def test_evaluation_split_is_test_where_labelled(tmp_path):
    for layout in ("cityscapes", "camvid"):
        write(tmp_path / layout, layout, "val")
        assert evaluation_split(tmp_path / layout, layout) == "val"
        write(tmp_path / layout, layout, "test")
        assert evaluation_split(tmp_path / layout, layout) == "test"


@pytest.mark.parametrize("which", [0, 1], ids=["images", "labels"])
@pytest.mark.parametrize("layout", ["cityscapes", "camvid"])
def test_evaluation_split_is_val_where_test_is_half_there(tmp_path, layout, which):
    write(tmp_path, layout, "test")
    for i in range(2):
        paths(tmp_path, layout, i, "test")[which].unlink()
    assert evaluation_split(tmp_path, layout) == "val"


def test_evaluation_split_is_val_where_test_is_void(tmp_path):
    write(tmp_path, "cityscapes", "test")
    for i in range(2):
        label = paths(tmp_path, "cityscapes", i, "test")[1]
        write_label(label, stripes([0, 1, 2, 3]), "cityscapes")  # void, as Cityscapes ships them
    assert evaluation_split(tmp_path, "cityscapes") == "val"


def test_evaluation_split_of_a_source_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="'gta5': has no split to score on"):
        evaluation_split(tmp_path, "gta5")


# ------------------------------------------------------------------------------ transform


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose red channel is its label, so that they can be seen to stay together."""
    label = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    return torch.stack([label, label + 100, label + 200]), label


def test_flip_keeps_image_and_label_together():
    image, label = pair()
    apply = joint_transform(True, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)  # back to 0..255
    torch.manual_seed(0)
    flipped = 0
    for _ in range(40):
        x, y = apply(image, label)
        torch.testing.assert_close(x[0], y.float())
        assert torch.equal(y, label.long()) or torch.equal(y, label.long().flip(1))
        flipped += torch.equal(y, label.long().flip(1))
    assert 10 <= flipped <= 30


def test_no_flip_when_off():
    image, label = pair()
    apply = joint_transform(False)
    assert all(torch.equal(apply(image, label)[1], label.long()) for _ in range(20))


def test_values_and_types():
    image, label = pair()
    label = label.clone()
    label[0, 0] = 255
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    x, y = joint_transform(False, mean, std)(image, label)
    assert type(x) is torch.Tensor
    assert type(y) is torch.Tensor
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert y[0, 0] == 255  # not scaled
    for c in range(3):
        torch.testing.assert_close(x[c], (image[c] / 255 - mean[c]) / std[c])
    x, y = joint_transform(False)(image, None)
    assert y is None
    torch.testing.assert_close(x, (image / 255 - 0.45) / 0.25)


def test_repeats_under_the_global_seed_and_leaves_its_input_alone():
    image, label = pair()
    apply = pickle.loads(pickle.dumps(joint_transform(True)))
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(torch.stack([apply(image, label)[1] for _ in range(12)]))
    assert torch.equal(*runs)
    assert torch.equal(image, pair()[0])


# ------------------------------------------------------------------------------ real data


@pytest.fixture
def camvid() -> Path:
    shared = os.environ.get("LABOR_SHARED") or Path(__file__).parents[2] / "shared"
    root = Path(shared) / "data" / "camvid"
    if not root.is_dir():
        pytest.skip("real CamVid is not on this machine (set LABOR_SHARED to the folder above)")
    return root


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_real_camvid(camvid, split, count):
    data = folder(camvid, "camvid", split, size=(180, 240))
    assert len(data) == count
    assert {data.native_size(i) for i in range(count)} == {(360, 480)}
    values = set()
    for i in range(0, count, 10):
        image, label = data[i]
        assert (image.shape, label.shape) == ((3, 180, 240), (180, 240))
        values |= set(data.native_label(i).unique().tolist())
    assert values == {*range(11), 255}


def test_real_camvid_sky_is_above_road(camvid):
    data = folder(camvid, "camvid", "val")
    label = torch.stack([data.label(i) for i in range(0, 101, 20)])
    rows = torch.arange(360.0)[None, :, None].expand_as(label)
    sky, road = (rows[label == CAMVID11.names.index(name)].mean() for name in ("sky", "road"))
    assert sky < 120 < 220 < road


def test_real_camvid_without_test_split_is_scored_on_val(camvid):
    assert evaluation_split(camvid, "camvid") == "val"
