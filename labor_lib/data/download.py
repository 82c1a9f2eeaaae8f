"""Real data that can be fetched: each file with its addresses, its size and its SHA-256.

A file appears under its name only when it is whole and its hash is right. What an interrupted
transfer left (`NAME.part`) is gone on with where the size is known. Archives are unpacked beside
their place and moved there when complete; nothing in them can write outside of it.

The hashes are those that TensorFlow Datasets (MNIST, SVHN), torchvision's prototypes (USPS) and
several independent papers' repositories (BSDS500) give. PACS, Office-Home and DomainNet are not
here: their publishers give no hash. Fetch them by hand; `read_domains` reads their folders.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from labor_lib.errors import InputError
from labor_lib.runtime import writing


@dataclass(frozen=True)
class Remote:
    """One file to fetch. Paths are below the root that it is fetched to."""

    urls: tuple[str, ...]  # the first that answers is taken
    sha256: str
    bytes: int | None  # None: not published
    path: str  # where it is kept
    unpack: str = ""  # "gz": beside it, without the ending; else the folder for an archive's files
    only: str = ""  # of an archive: the members below this folder, which is left out of their paths


_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_USPS = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_BSDS = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"


def _mnist(name: str, size: int, sha256: str) -> Remote:
    return Remote(tuple(m + name for m in _MNIST), sha256, size, f"MNIST/raw/{name}", "gz")


DATA: dict[str, tuple[Remote, ...]] = {
    "mnist": (
        _mnist(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "usps": (
        Remote(
            (_USPS + "usps.bz2",),
            "3771e9dd6ba685185f89867b6e249233dd74652389f263963b3b741e994b034f",
            None,
            "usps.bz2",
        ),
        Remote(
            (_USPS + "usps.t.bz2",),
            "a9c0164e797d60142a50604917f0baa604f326e9a689698763793fa5d12ffc4e",
            None,
            "usps.t.bz2",
        ),
    ),
    "svhn": (
        Remote(
            (_SVHN + "train_32x32.mat",),
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            182_040_794,
            "train_32x32.mat",
        ),
        Remote(
            (_SVHN + "test_32x32.mat",),
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            64_275_384,
            "test_32x32.mat",
        ),
    ),
    "bsds500": (
        Remote(
            (_BSDS,),
            "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",
            70_763_455,
            "BSR_bsds500.tgz",
            "bsds500",
            "BSR/BSDS500/data/images",
        ),
    ),
}


def fetch(name: str, root: str | Path, *, progress: bool = True) -> list[Path]:
    """Fetch one of `DATA` below root, unless it is there; returns its files and folders.

    Raises InputError for an unknown name, an address that does not answer, a file with another
    size or hash than it should have, and an archive that cannot or must not be unpacked.
    """
    if name not in DATA:
        raise InputError(
            f"data '{name}': unknown; choose one of {', '.join(DATA)} (PACS, Office-Home and "
            "DomainNet are fetched by hand, see data/README.md)"
        )
    places = []
    for remote in DATA[name]:
        file = Path(root) / remote.path
        if not (file.is_file() and _sha256(file) == remote.sha256):
            download(remote, file, progress=progress)
        if remote.unpack == "gz":
            file = _gunzipped(file)
        elif remote.unpack:
            file = unpack(file, Path(root) / remote.unpack, remote.only)
        places.append(file)
    return places


# ------------------------------------------------------------------------------- transfer

_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20  # bytes


def download(remote: Remote, file: Path, *, progress: bool = True) -> None:
    """Fetch one file, from the first of its addresses that gives it; raises InputError else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    errors = []
    for url in remote.urls:
        try:
            _transfer(url, part, remote.bytes, progress)
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            errors.append(f"{url}: {error}")
            continue
        found = _sha256(part)
        if found == remote.sha256:
            part.replace(file)
            return
        part.unlink()
        errors.append(f"{url}: SHA-256 is {found[:12]}... instead of {remote.sha256[:12]}...")
    raise InputError(
        f"{file}: could not be fetched ({'; '.join(errors)}); run again, or put the file there"
    )


def _transfer(url: str, part: Path, size: int | None, progress: bool) -> None:
    """Append to `part` what it lacks of url; OSError where it ends early or too late."""
    have = part.stat().st_size if part.exists() and size is not None else 0
    if have == size:
        return  # all there, only not checked
    headers = {"User-Agent": "labor-lib"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        goes_on = answer.status == 206 and (answer.headers["Content-Range"] or "").startswith(
            f"bytes {have}-"
        )
        have = have if goes_on else 0
        length = answer.headers["Content-Length"]
        total = size or (have + int(length) if length else None)
        with (
            part.open("ab" if goes_on else "wb") as written,
            tqdm(
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                desc=url.rpartition("/")[2],
                disable=not progress,
            ) as bar,
        ):
            while block := answer.read(_BLOCK):
                written.write(block)
                have += len(block)
                bar.update(len(block))
                if total is not None and have > total:
                    break
    if total is not None and have > total:
        part.unlink()
        raise OSError(f"gives more than the {total:,} bytes it should have")
    if total is not None and have < total:
        raise OSError(f"ended after {have:,} of {total:,} bytes")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ------------------------------------------------------------------------------- archives


def _gunzipped(file: Path) -> Path:
    """The file without .gz, beside it."""
    target = file.with_suffix("")
    if not target.exists():
        try:
            with (
                gzip.open(file) as packed,
                writing(target) as temporary,
                temporary.open("wb") as out,
            ):
                shutil.copyfileobj(packed, out, _BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{file}: cannot be unpacked ({error}); remove it, run again"
            ) from None
    return target


def unpack(archive: str | Path, folder: str | Path, only: str = "") -> Path:
    """Unpack a tar (also compressed) or zip into a new folder; returns the folder.

    only  take the members below this folder of the archive, and leave it out of their paths

    A folder that exists is left as it is; it was whole when it appeared.

    Raises InputError, and leaves nothing behind, for a file that is no archive or is damaged, a
    member outside of the folder (`..`, absolute), and one that is a link or a device.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
            _unzip(archive, unpacked, only)
        else:
            _untar(archive, unpacked, only)
        if not any(unpacked.iterdir()):
            raise InputError(f"{archive}: holds nothing{f' below {only}' if only else ''}")
        unpacked.chmod(0o755)  # mkdtemp makes it private
        unpacked.replace(folder)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); fetch it again") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return folder


def _untar(archive: Path, folder: Path, only: str) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            place = _place(archive, member.name, folder, only)
            if place is None or member.isdir():
                continue
            if not member.isreg():
                raise InputError(f"{archive}: '{member.name}' is a link or device; not unpacked")
            _write(tar.extractfile(member), place)


def _unzip(archive: Path, folder: Path, only: str) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            place = _place(archive, member.filename, folder, only)
            if place is None or member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise InputError(
                    f"{archive}: '{member.filename}' is a link or device; not unpacked"
                )
            with packed.open(member) as stream:
                _write(stream, place)


def _place(archive: Path, name: str, folder: Path, only: str) -> Path | None:
    """Where a member goes; None: it does not. Raises InputError for one that leads outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise InputError(f"{archive}: '{name}' leads out of the folder; not unpacked")
    if only:
        if not path.is_relative_to(only):
            return None
        path = path.relative_to(only)
    return folder / path


def _write(stream, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as written:
        shutil.copyfileobj(stream, written, _BLOCK)
