"""Fetching: right hashes only, whole files only, safe unpacking, one line for what goes wrong."""

import gzip
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import accepted, refused

from labor_lib.data import download
from labor_lib.data.download import fetch
from labor_lib.errors import InputError

CONTENT = bytes(range(256)) * 500
NOBODY = "http://127.0.0.1:9/"  # the port of "discard", where nothing listens


class Handler(SimpleHTTPRequestHandler):
    asked: list = []  # noqa: RUF012  (the fixture replaces it)

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """(address, folder that is served, paths that were asked for)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Served", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder, handler.asked
        running.shutdown()
        thread.join()


def offer(server, monkeypatch, content=None):
    """Serve a file in place of MNIST's, from the second mirror."""
    url, folder, _ = server
    content = gzip.compress(CONTENT) if content is None else content
    (folder / "images.gz").write_bytes(content)
    monkeypatch.setattr(download, "MNIST_MIRRORS", (NOBODY, url))
    monkeypatch.setattr(download, "MNIST", {"images": hashlib.sha256(content).hexdigest()})


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_fetched_whole_and_only_once(server, monkeypatch, tmp_path, capsys):
    offer(server, monkeypatch)
    root = tmp_path / "data"
    place = root / "MNIST/raw/images"
    for _ in range(2):
        accepted("data", "mnist", "--root", root)
        assert capsys.readouterr().out.strip() == str(place)
        assert place.read_bytes() == CONTENT
    assert names(root) == ["MNIST", "MNIST/raw", "MNIST/raw/images", "MNIST/raw/images.gz"]
    assert server[2] == ["/images.gz"]
    for path in (place, place.with_suffix(".gz")):  # damaged
        path.write_bytes(path.read_bytes()[:-1])
        assert fetch("mnist", root)[0].read_bytes() == CONTENT
    (server[1] / "images.gz").write_bytes(gzip.compress(CONTENT + b"?"))
    with pytest.raises(InputError, match=r"images\.gz: could not be fetched .*hash"):
        fetch("mnist", tmp_path / "other")
    assert names(tmp_path / "other") == ["MNIST", "MNIST/raw"]


def test_unknown_data_and_no_answer(monkeypatch, tmp_path, capsys):
    with pytest.raises(InputError, match=r"data 'pacs': unknown; choose camvid, mnist or bsds500"):
        fetch("pacs", tmp_path)
    monkeypatch.setattr(download, "BSDS500", (NOBODY + "photographs.tgz", "0" * 64))
    monkeypatch.setattr(download, "CAMVID", NOBODY + "camvid")
    for name, place in (("bsds500", "the file there"), ("camvid", "the folders train, trainannot")):
        said = refused(capsys, "data", name, "--root", tmp_path / name)
        assert "could not be fetched" in said
        assert f"or put {place}" in said
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


# Archives
IMAGES = "BSR/BSDS500/data/images"


def offer_archive(server, monkeypatch, members):
    """members: {name: bytes}, or {name: TarInfo changes}, served in place of BSDS500."""
    url, folder, _ = server
    with tarfile.open(folder / "photographs.tgz", "w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
                packed.addfile(info)
            else:
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    known = hashlib.sha256((folder / "photographs.tgz").read_bytes()).hexdigest()
    monkeypatch.setattr(download, "BSDS500", (url + "photographs.tgz", known))


def test_photographs_are_unpacked_and_nothing_else(server, monkeypatch, tmp_path):
    members = {
        f"{IMAGES}/train/1.jpg": b"a",
        f"{IMAGES}/test/2.jpg": b"b",
        f"{IMAGES}/train/Thumbs.db": b"c",
        "BSR/documentation/3.jpg": b"d",
        "../evil.jpg": b"e",
        f"{IMAGES}/train/link.jpg": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        f"{IMAGES}/train/hard.jpg": {"type": tarfile.LNKTYPE, "linkname": f"{IMAGES}/test/2.jpg"},
        f"{IMAGES}/train/pipe.jpg": {"type": tarfile.FIFOTYPE},
    }
    offer_archive(server, monkeypatch, members)
    root = tmp_path / "in" / "data"
    for _ in range(2):
        assert fetch("bsds500", root) == [root / "bsds500"]
        assert names(root / "bsds500") == ["test", "test/2.jpg", "train", "train/1.jpg"]
    assert (root / "bsds500/train/1.jpg").read_bytes() == b"a"
    assert names(root)[:2] == ["bsds500", "bsds500/test"]  # nothing hidden is left
    assert [name for name in names(tmp_path) if "evil" in name] == []


def test_unpacked_photographs_need_no_archive(server, monkeypatch, tmp_path):
    offer_archive(server, monkeypatch, {})
    (tmp_path / "bsds500" / "train").mkdir(parents=True)
    assert fetch("bsds500", tmp_path) == [tmp_path / "bsds500"]
    assert server[2] == []


def test_a_page_in_place_of_the_camvid_archive(server, monkeypatch, tmp_path):
    """What a captive portal or a proxy answers."""
    (server[1] / "camvid").write_text("<html>Please log in</html>")
    monkeypatch.setattr(download, "CAMVID", server[0] + "camvid")
    with pytest.raises(InputError, match=r"camvid: gave no whole ZIP archive .*or put the folders"):
        fetch("camvid", tmp_path / "data")
    assert names(tmp_path / "data") == []


def test_an_archive_that_leads_outside_is_refused(server, monkeypatch, tmp_path):
    offer_archive(server, monkeypatch, {f"{IMAGES}/../../../../../evil.jpg": b"e"})
    with pytest.raises(tarfile.OutsideDestinationError):
        fetch("bsds500", tmp_path / "in" / "data")
    assert [name for name in names(tmp_path) if "evil" in name] == []
