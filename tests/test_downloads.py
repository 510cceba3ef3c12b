"""Fetching original files, from a server on this machine."""

import hashlib
import re
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from betavae.data import catalogue
from betavae.data.catalogue import CATALOGUE, KnownData, RemoteFile
from betavae.data.downloads import fetch
from betavae.data.loading import load_data
from tests import layouts

NAME = "shapes3d"


class Handler(SimpleHTTPRequestHandler):
    """Serves ranges, as hosts of large files do."""

    ranges: list[str] = []  # noqa: RUF012

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        wanted = self.headers.get("Range")
        if wanted:
            self.ranges.append(wanted)
        start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A server with 3dshapes.h5; the catalogue names it."""
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    file = Path(layouts.shapes3d(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/3dshapes.h5"
    checksum = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    known = KnownData("Shapes3D", "24", "Apache 2.0", "https://example.org", (RemoteFile(file.name, checksum, url),))
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, known)
    yield server
    server.shutdown()
    server.server_close()


def test_files_are_fetched_once_and_resumed(host, tmp_path):
    folder = tmp_path / "cache" / "downloads" / NAME
    content = (tmp_path / "served" / "3dshapes.h5").read_bytes()
    folder.mkdir(parents=True)
    (folder / "3dshapes.h5.part").write_bytes(content[:1_000])
    seen = []
    assert fetch(NAME, lambda *progress: seen.append(progress)) == folder
    assert Handler.ranges[-1] == "bytes=1000-"
    assert seen[-1] == ("3dshapes.h5", len(content), len(content))
    assert [file.name for file in folder.iterdir()] == ["3dshapes.h5"]
    seen.clear()
    fetch(NAME, lambda *progress: seen.append(progress))
    assert not seen
    data = load_data(NAME)
    assert (data.name, len(data)) == (NAME, 24)


def test_wrong_checksums_are_named_and_nothing_is_kept(host, tmp_path):
    (tmp_path / "served" / "3dshapes.h5").write_bytes(b"<html>quota</html>")
    with pytest.raises(ValueError, match=r"is not the original 3dshapes\.h5: its sha256 is not [0-9a-f]{64}; noth"):
        fetch(NAME)
    assert not list((tmp_path / "cache" / "downloads" / NAME).iterdir())


def test_archives_at_a_new_address_are_kept_with_a_warning(host, tmp_path, monkeypatch):
    (moved,) = (replace(file, moved=True) for file in CATALOGUE[NAME].files)
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, replace(CATALOGUE[NAME], files=(moved,)))
    served = tmp_path / "served" / "3dshapes.h5"
    file = fetch(NAME) / "3dshapes.h5"
    file.unlink()
    served.write_bytes(b"<html>quota</html>")
    with pytest.raises(ValueError, match="is not the original"):
        fetch(NAME)
    assert not file.exists()
    with zipfile.ZipFile(served, "w") as archive:
        archive.writestr("images.npy", b"")
    with pytest.warns(UserWarning, match=r"3dshapes\.h5 has the sha256 [0-9a-f]{64}, and the file at its former addr"):
        fetch(NAME)
    assert file.exists()


def test_without_network_the_message_says_what_to_do(host, tmp_path):
    host.shutdown()
    host.server_close()
    with pytest.raises(OSError, match=r"could not be fetched \(.*\); download http://127.*sha256:.* by hand and"):
        fetch(NAME)


def test_some_data_are_fetched_by_hand():
    with pytest.raises(ValueError, match=r"CelebA cannot be fetched by a program: download img_align_celeba\.zip"):
        fetch("celeba")
    with pytest.raises(FileNotFoundError, match=r"MPI3D real is not here: fetch it with `betavae data fetch mpi3d"):
        load_data("mpi3d-real")


def test_checksums_of_the_catalogue_are_complete():
    lengths = {"md5": 32, "sha256": 64}
    for known in CATALOGUE.values():
        for file in known.files:
            kind, _, digits = file.checksum.partition(":")
            assert len(digits) == lengths[kind]
            assert set(digits) <= set("0123456789abcdef")
