"""Download a named set: resume, check, and say what to do by hand when it fails."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ssmrec.data.named import NAMED, RemoteFile, cache, find, search
from ssmrec.errors import DataError

Progress = Callable[[str, int, int | None], None]
"""Called with file name, bytes so far, bytes in all (None where the server does not say)."""

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte


def _quiet(name: str, done: int, total: int | None) -> None:
    """No progress."""


def fetch(name: str, progress: Progress = _quiet) -> Path:
    """Download a named set into the user's cache, unless it is somewhere already.

    Args:
        name: an entry of `NAMED`.
        progress: told about every piece.

    Returns:
        The folder with the files.

    Raises:
        DataError: no public source is known, the download failed, or a checksum is wrong; the
            message says which file to put where by hand.
    """
    if name not in NAMED or not NAMED[name].files:
        return find(name)  # it is here already, or the error says how to get it by hand
    folder = cache() / name
    elsewhere = search(name)
    if elsewhere and elsewhere != folder:
        return elsewhere
    # Train last: a folder with it is taken for the whole set (`search`).
    for file in sorted(NAMED[name].files, key=lambda file: file.name.startswith("train")):
        download(file, folder, progress)
    return folder


def download(file: RemoteFile, folder: Path, progress: Progress = _quiet) -> Path:
    """Download one file; a partial `.part` file is continued, a whole right file is kept.

    Raises:
        DataError: as `fetch`. A broken-off part is kept for the next try, a wrong file is not.
    """
    target = folder / file.name
    if target.exists() and checksum(target, file.checksum) == file.checksum:
        return target
    part = folder / f"{file.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _receive(file, part, progress)
        found = checksum(part, file.checksum)
        if found == file.checksum:
            os.replace(part, target)
            return target
        part.unlink()
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{file.url}: {_reason(error)}; {_by_hand(file, target)}") from None
    raise DataError(
        f"{file.url}: wrong checksum {found}, expected {file.checksum}; {_by_hand(file, target)}"
    )


def checksum(path: Path, like: str) -> str:
    """`sha256:<hex>` or `git:<hex>` of a file, whichever kind `like` is."""
    kind = like.partition(":")[0]
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1()
    if kind == "git":
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"


def _receive(file: RemoteFile, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    try:
        response = _open(file.url, done)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # 416: nothing after `done`, so the part may be whole
            raise
        if checksum(part, file.checksum) == file.checksum:
            return
        part.unlink()
        done, response = 0, _open(file.url, 0)
    with response:
        if response.status != 206:  # the server sends all of it, whatever was asked
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if done else "wb") as stream:
            progress(file.name, done, total)
            while chunk := response.read(CHUNK):
                stream.write(chunk)
                done += len(chunk)
                progress(file.name, done, total)
    if total is not None and done < total:
        raise OSError(f"broke off at {done} of {total} bytes, run it again to go on from there")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "ssmrec", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _by_hand(file: RemoteFile, target: Path) -> str:
    return f"or get {file.url} by hand and put it at {target}"
