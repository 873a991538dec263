"""Downloads against a real server: whole, resumed, refused, wrong, broken off."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import ssmrec.data.named as named
from ssmrec.data.fetch import checksum, download, fetch
from ssmrec.data.named import NamedSet, RemoteFile
from ssmrec.errors import DataError

CONTENT = bytes(range(256)) * 4000
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole ignores ranges, /short breaks off, /file serves ranges, the rest is missing."""

    def do_GET(self) -> None:
        start = 0
        asked = self.headers.get("Range")
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        if asked and self.path != "/whole":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if self.path not in ("/whole", "/file", "/short"):
            self.send_error(404)
        elif start >= len(CONTENT):
            self.send_error(416)
        else:
            body = CONTENT[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000] if self.path == "/short" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def remote(server: ThreadingHTTPServer, path: str, check: str = SHA256) -> RemoteFile:
    return RemoteFile("train.txt", f"http://127.0.0.1:{server.server_port}/{path}", check)


def test_checksums(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello\n")
    # the ids that `git hash-object` and `sha256sum` print
    assert checksum(path, "git:") == "git:ce013625030ba8dba906f756967f9e9ca394464a"
    assert checksum(path, "sha256:") == (
        "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )


def test_whole_download_with_progress(server, tmp_path):
    seen = []
    path = download(remote(server, "file"), tmp_path, lambda *told: seen.append(told))
    assert path.read_bytes() == CONTENT
    assert seen[0] == ("train.txt", 0, len(CONTENT))
    assert seen[-1] == ("train.txt", len(CONTENT), len(CONTENT))
    assert [p.name for p in tmp_path.iterdir()] == ["train.txt"]


@pytest.mark.parametrize("path", ["file", "whole"])
def test_a_part_is_continued(server, tmp_path, path):
    (tmp_path / "train.txt.part").write_bytes(CONTENT[:300_000])
    assert download(remote(server, path), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


def test_a_part_that_is_whole_or_too_long(server, tmp_path):
    (tmp_path / "train.txt.part").write_bytes(CONTENT)
    assert download(remote(server, "file"), tmp_path).read_bytes() == CONTENT
    (tmp_path / "train.txt").unlink()
    (tmp_path / "train.txt.part").write_bytes(CONTENT + b"x")
    assert download(remote(server, "file"), tmp_path).read_bytes() == CONTENT


def test_a_right_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "train.txt").write_bytes(CONTENT)
    download(remote(server, "nowhere"), tmp_path)
    assert server.asked == []


def test_a_broken_download_keeps_its_part(server, tmp_path):
    with pytest.raises(DataError, match=f"broke off at 1000 of {len(CONTENT)} bytes"):
        download(remote(server, "short"), tmp_path)
    assert download(remote(server, "file"), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


def test_a_wrong_file_is_not_kept(server, tmp_path):
    with pytest.raises(DataError, match=r"wrong checksum sha256:.*expected sha256:00") as caught:
        download(remote(server, "file", "sha256:00"), tmp_path)
    assert f"by hand and put it at {tmp_path / 'train.txt'}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_failures_say_what_to_do_by_hand(server, tmp_path):
    with pytest.raises(DataError, match=r"answers 404 Not Found; or get http.* by hand"):
        download(remote(server, "nowhere"), tmp_path)
    gone = RemoteFile("train.txt", "http://127.0.0.1:9/x", SHA256)
    with pytest.raises(DataError, match=r"refused.*by hand"):
        download(gone, tmp_path)


def test_fetch_by_name(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SSMREC_DATA", raising=False)
    toy = NamedSet(1, 1, 1, "none", "nowhere", (remote(server, "file"),))
    monkeypatch.setitem(named.NAMED, "toy", toy)
    assert fetch("toy") == tmp_path / "ssmrec" / "data" / "toy"
    assert named.find("toy") == tmp_path / "ssmrec" / "data" / "toy"
    with pytest.raises(DataError, match="ml-100k is not here: put its files"):
        fetch("ml-100k")
    with pytest.raises(DataError, match="did you mean 'toy'"):
        fetch("toi")
    assert fetch("online-retail") == named.BUNDLED / "online-retail"


def test_a_set_of_which_a_file_is_missing_is_not_taken_for_a_whole_one(
    server, tmp_path, monkeypatch
):
    """Its train file alone would be split anew, as if it were all there is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SSMREC_DATA", raising=False)
    gone = RemoteFile("test.txt", f"http://127.0.0.1:{server.server_port}/nowhere", SHA256)
    monkeypatch.setitem(
        named.NAMED, "toy", NamedSet(1, 1, 1, "none", "nowhere", (remote(server, "file"), gone))
    )
    with pytest.raises(DataError, match="answers 404"):
        fetch("toy")
    with pytest.raises(DataError, match="data set toy is not here"):
        named.find("toy")
