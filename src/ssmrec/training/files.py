"""Files that are whole or not there: written beside their place, flushed to disk, then moved."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ssmrec.errors import RunError

CHECKPOINT = "checkpoint.safetensors"
BEGUN = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""How safetensors names a file before it is whole."""


def target_of(path: Path) -> Path:
    """The file that is replaced: of a link the one it points to, so that the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def part_of(path: Path) -> Path:
    """Where `path` is written before it takes its place."""
    target = target_of(path)
    return target.with_name(target.name + ".part")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to; at the end it takes the place of `path`, after a failure it is deleted."""
    part = part_of(path)
    try:
        mode = _begin(part)
        yield part
        _finish(part, mode)
        os.replace(part, target_of(path))
    except BaseException:
        _forget(part)
        raise


def replace_together(writers: Mapping[Path, Callable[[Path], object]], last: Path) -> None:
    """Write several files that belong together, each function to the path it is given.

    No file is touched before all are written, so that a full disk leaves the old ones as they are.
    `last` is deleted first and moved last: where it is, the files belong together.
    """
    try:
        for path, write in writers.items():
            mode = _begin(part_of(path))
            write(part_of(path))
            _finish(part_of(path), mode)
        target_of(last).unlink(missing_ok=True)
        for path in sorted(writers, key=lambda path: path == last):
            os.replace(part_of(path), target_of(path))
    except BaseException:
        for path in writers:
            _forget(part_of(path))
        raise


def ready(folder: Path) -> None:
    """Make `folder` where it is missing, and write a byte into it: a full disk takes an empty file.

    Raises:
        RunError: it cannot be written; nothing of the attempt stays but the folder.
    """
    probe = folder / ".write"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("x")
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        _forget(probe)


def unwritable(path: Path, error: OSError) -> RunError:
    """What to say where nothing can be written."""
    return RunError(f"{path}: cannot be written ({error.strerror or error}); choose another --out")


def assert_regular(path: Path) -> None:
    """Raise a ValueError where there is a pipe or a device in the place of a file: to open it may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("is no regular file")


def sweep(folder: Path) -> None:
    """Delete what killed writers left in a run folder: parts, and files safetensors had begun."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix == ".part" or BEGUN.fullmatch(path.name):
            _forget(path)


def _begin(part: Path) -> int:
    """The mode of a new file here; safetensors alone would give its files to the owner only."""
    part.unlink(missing_ok=True)
    part.touch()
    return part.stat().st_mode & 0o777


def _finish(part: Path, mode: int) -> None:
    """Have the file on the disk before it gets its name: no power cut leaves half of it there."""
    part.chmod(mode)
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _forget(part: Path) -> None:
    with suppress(
        OSError
    ):  # where the folder is gone or read-only, the first error is the one to tell
        part.unlink(missing_ok=True)
