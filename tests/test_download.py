"""Fetching: right hashes only, whole files only, going on where it stopped; safe unpacking."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labor_lib.__main__ import main
from labor_lib.data.download import DATA, Remote, fetch, unpack
from labor_lib.errors import InputError

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than a block


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder. `cut`: stop after so many bytes; `ranges`: whether it can go on."""

    cut: int | None = None
    ranges = True
    asked: list = []  # noqa: RUF012  (the tests replace it)

    def do_GET(self):
        body = open(self.translate_path(self.path), "rb").read()  # noqa: SIM115
        wanted = self.headers["Range"]
        self.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """(address, folder that is served, its handler)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Served", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder, handler
        running.shutdown()
        thread.join()


@pytest.fixture
def offer(server, monkeypatch):
    """Serves bytes under a name and registers them as the data "thing"; returns the Remote."""

    def register(content=CONTENT, name="thing.bin", **changes):
        url, folder, _ = server
        (folder / name).write_bytes(content)
        settings = {
            "urls": (url + name,),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "path": name,
        }
        remote = Remote(**settings | changes)
        monkeypatch.setitem(DATA, "thing", (remote,))
        return remote

    return register


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def fetched(root):
    return fetch("thing", root, progress=False)


def test_registry_is_well_formed():
    for remotes in DATA.values():
        for remote in remotes:
            assert re.fullmatch("[0-9a-f]{64}", remote.sha256)
            assert all(url.startswith(("https://", "http://")) for url in remote.urls)
            assert all(url.endswith(remote.path.rpartition("/")[2]) for url in remote.urls)
            assert not remote.path.startswith("/")
            assert ".." not in remote.path
    paths = [remote.path for remotes in DATA.values() for remote in remotes]
    assert len(set(paths)) == len(paths)


def test_fetched_whole_and_only_once(offer, server, tmp_path):
    offer()
    (place,) = fetched(tmp_path / "data")
    assert place.read_bytes() == CONTENT
    assert names(tmp_path / "data") == ["thing.bin"]
    fetched(tmp_path / "data")
    assert len(server[2].asked) == 1


def test_damaged_file_is_fetched_again(offer, tmp_path):
    offer()
    (place,) = fetched(tmp_path / "data")
    place.write_bytes(CONTENT[:-1] + b"?")
    assert fetched(tmp_path / "data")[0].read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_wrong_hash_is_refused_and_leaves_nothing(offer, tmp_path, size):
    offer(sha256="0" * 64, bytes=size)
    with pytest.raises(InputError, match=r"thing\.bin: could not be fetched .*SHA-256 is"):
        fetched(tmp_path / "data")
    assert names(tmp_path / "data") == []


def test_goes_on_where_it_stopped(offer, server, tmp_path):
    offer()
    handler = server[2]
    handler.cut = 500_000
    with pytest.raises(InputError, match=r"ended after 500,000 of 1,280,000 bytes.*run again"):
        fetched(tmp_path / "data")
    assert names(tmp_path / "data") == ["thing.bin.part"]
    handler.cut = None
    assert fetched(tmp_path / "data")[0].read_bytes() == CONTENT
    assert handler.asked == [None, "bytes=500000-"]
    assert names(tmp_path / "data") == ["thing.bin"]


def test_starts_again_where_the_server_cannot_go_on(offer, server, tmp_path):
    offer()
    handler = server[2]
    handler.ranges = False
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thing.bin.part").write_bytes(b"something else")
    assert fetched(tmp_path / "data")[0].read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT[:-1] + b"?", CONTENT + b"?", b"?" * 1000])
def test_wrong_remains_are_refused_once_then_replaced(offer, tmp_path, left):
    offer()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thing.bin.part").write_bytes(left)
    with pytest.raises(InputError):
        fetched(tmp_path / "data")
    assert fetched(tmp_path / "data")[0].read_bytes() == CONTENT


def test_more_bytes_than_registered_are_refused(offer, tmp_path):
    offer(bytes=1000)
    with pytest.raises(InputError, match="more than the 1,000 bytes"):
        fetched(tmp_path / "data")
    assert names(tmp_path / "data") == []


def test_second_address_when_the_first_fails(offer, server, tmp_path):
    remote = offer()
    offer(urls=("http://127.0.0.1:9/thing.bin", *remote.urls))
    assert fetched(tmp_path / "data")[0].read_bytes() == CONTENT


def test_unknown_data_and_no_answer(offer, tmp_path, capsys):
    with pytest.raises(InputError, match=r"data 'pacs': unknown; choose one of mnist, usps"):
        fetch("pacs", tmp_path)
    offer(urls=("http://127.0.0.1:9/thing.bin",))
    assert main(["download", "thing", "--root", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "thing.bin: could not be fetched" in message
    assert message.count("\n") == 1


def test_command_line_prints_the_places(offer, tmp_path, capsys):
    offer(gzip.compress(CONTENT), "thing.gz", unpack="gz")
    assert main(["download", "thing", "--root", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "data" / "thing")
    assert (tmp_path / "data" / "thing").read_bytes() == CONTENT


def test_damaged_gzip_with_the_right_hash(offer, tmp_path):
    offer(gzip.compress(CONTENT)[:-20], "thing.gz", unpack="gz")
    with pytest.raises(InputError, match="cannot be unpacked"):
        fetched(tmp_path / "data")
    assert names(tmp_path / "data") == ["thing.gz"]


# Archives


def tar(path, members, mode="w:gz"):
    """members: {name: bytes} or {name: TarInfo changes}."""
    with tarfile.open(path, mode) as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for key, value in content.items():
                    setattr(info, key, value)
                packed.addfile(info)
            else:
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


GOOD = {"top/images/a.jpg": b"a", "top/images/deep/b.jpg": b"b", "top/readme.txt": b"c"}


@pytest.mark.parametrize("pack", [tar, zipped, lambda p, m: tar(p, m, "w")])
def test_archives_unpack_whole_or_in_part(tmp_path, pack):
    archive = pack(tmp_path / "archive", GOOD)
    folder = unpack(archive, tmp_path / "all")
    assert {n: (folder / n).read_bytes() for n in GOOD} == GOOD
    folder = unpack(archive, tmp_path / "some", "top/images")
    assert names(folder) == ["a.jpg", "deep", "deep/b.jpg"]


def test_fetch_unpacks_once(offer, tmp_path):
    content = tar(tmp_path / "archive.tgz", GOOD).read_bytes()
    offer(content, "archive.tgz", unpack="thing", only="top/images")
    for _ in range(2):
        assert fetched(tmp_path / "data") == [tmp_path / "data" / "thing"]
    assert names(tmp_path / "data" / "thing") == ["a.jpg", "deep", "deep/b.jpg"]


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "..\\evil"])
def test_members_that_lead_outside_are_refused(tmp_path, pack, name):
    archive = pack(tmp_path / "archive", {"good": b"", name: b"evil"})
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack(archive, tmp_path / "in" / "folder")
    assert names(tmp_path) == ["archive", "in"]


@pytest.mark.parametrize(
    "kind",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc"},
        {"type": tarfile.LNKTYPE, "linkname": "good"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ],
)
def test_tar_links_and_devices_are_refused(tmp_path, kind):
    archive = tar(tmp_path / "archive", {"good": b"", "link": kind})
    with pytest.raises(InputError, match="'link' is a link or device"):
        unpack(archive, tmp_path / "in" / "folder")
    assert names(tmp_path) == ["archive", "in"]


def test_zip_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as packed:
        packed.writestr(link, "/etc")
    with pytest.raises(InputError, match="'link' is a link or device"):
        unpack(tmp_path / "archive", tmp_path / "folder")
    assert names(tmp_path) == ["archive"]


@pytest.mark.parametrize("pack", [tar, zipped])
def test_damaged_and_empty_archives(tmp_path, pack):
    archive = pack(tmp_path / "archive", {"good": CONTENT})
    whole = bytearray(archive.read_bytes())
    half = tmp_path / "half"
    half.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text"
    text.write_text("no archive")
    for damaged in (half, text):
        with pytest.raises(InputError, match=f"{damaged.name}: cannot be unpacked"):
            unpack(damaged, tmp_path / "folder")
    with pytest.raises(InputError, match="holds nothing below other"):
        unpack(archive, tmp_path / "folder", "other")
    assert names(tmp_path) == ["archive", "half", "text"]


def test_zip_with_a_wrong_checksum(tmp_path):
    archive = zipped(tmp_path / "archive", {"good": CONTENT})
    content = bytearray(archive.read_bytes())
    content[100] ^= 255
    archive.write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "folder")
    assert names(tmp_path) == ["archive"]
