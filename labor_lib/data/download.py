"""Real data that can be fetched: MNIST, and the photographs that MNIST-M is made with.

A file appears under its name only when it is whole and its SHA-256 is right (pooch). The hashes are
those that TensorFlow Datasets (MNIST) and several papers' repositories (BSDS500) give. PACS,
Office-Home and DomainNet are fetched by hand: their publishers give no hash.
"""

import gzip
import tarfile
import tempfile
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


def fetch(name: str, root: str | Path) -> list[Path]:
    """Fetch "mnist" (below root/MNIST/raw) or "bsds500" (root/bsds500), unless it is there.

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
        return [_photographs(_retrieve([url], known, root), root / "bsds500")]
    raise InputError(
        f"data '{name}': unknown; choose mnist or bsds500 (PACS, Office-Home and DomainNet are "
        "fetched by hand, see data/README.md)"
    )


def _retrieve(urls: list[str], sha256: str, folder: Path) -> Path:
    """The file from the first address that gives it, or as it lies there with the right hash."""
    pooch.get_logger().setLevel("WARNING")
    file, errors = folder / urls[0].rpartition("/")[2], []
    for url in urls:
        try:
            return Path(pooch.retrieve(url, sha256, file.name, folder, progressbar=True))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            errors.append(f"{url}: {error}")
    raise InputError(
        f"{file}: could not be fetched ({'; '.join(errors)}); run again, or put the file there"
    )


def _photographs(archive: Path, folder: Path) -> Path:
    """BSDS500's photographs unpacked to folder/{train,val,test}; nothing else of the archive is."""
    inside = "BSR/BSDS500/data/images"
    if not folder.is_dir():
        with (
            tempfile.TemporaryDirectory(prefix=".bsds500.", dir=folder.parent) as part,
            tarfile.open(archive) as tar,
        ):
            wanted = [m for m in tar if m.isreg() and m.name.startswith(f"{inside}/")]
            tar.extractall(part, [m for m in wanted if m.name.endswith(".jpg")], filter="data")
            Path(part, inside).replace(folder)
    return folder
