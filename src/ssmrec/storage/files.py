"""Files that are whole or not there: written beside their place, flushed to disk, then moved.

A link in the place of a file is replaced, and never followed: in a folder that came from elsewhere it may
lead anywhere. Only of a file that the user names `target_of` gives the one to replace.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ssmrec.errors import RunError

CHECKPOINT = "checkpoint.safetensors"
PART = ".ssmrec.part"
"""How the name of a file ends before it is whole: no other program's do, so it may be deleted."""


def target_of(path: Path) -> Path:
    """What to replace where the user named `path`: of a link the file it points to; the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def part_of(path: Path) -> Path:
    """Where `path` is written before it takes its place."""
    return path.with_name(path.name + PART)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to; at the end it takes the place of `path`, after a failure it is deleted."""
    part = part_of(path)
    try:
        mode = _begin(part)
        yield part
        _finish(part, mode)
        os.replace(part, path)
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
        last.unlink(missing_ok=True)
        for path in sorted(writers, key=lambda path: path == last):
            os.replace(part_of(path), path)
    except BaseException:
        for path in writers:
            _forget(part_of(path))
        raise


def ready(folder: Path) -> None:
    """Make `folder` where it is missing, and write a byte into it: a full disk takes an empty file.

    Raises:
        RunError: it cannot be written; nothing of the attempt stays but the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"x")
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(path: Path, error: OSError) -> RunError:
    """What to say where nothing can be written."""
    return RunError(f"{path}: cannot be written ({error.strerror or error}); choose another --out")


def spare(places: Iterable[Path], owner: str, remedy: str) -> None:
    """Raise a RunError where one of `places` is taken; to be asked in a folder that holds nothing of ours.

    Args:
        owner: of the files to be written there, as in `a run`. remedy: what the user can do.
    """
    for place in places:
        if os.path.lexists(place):
            raise RunError(f"{place}: is not of {owner}, and would be replaced; {remedy}")


def assert_inside(folder: Path, path: Path) -> None:
    """Raise a RunError where a link leads from `path`, which lies in `folder`, to a place outside of it."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise RunError(
            f"{path}: is a link that leads out of {folder}, where nothing is written; delete the link, or "
            "choose another --out"
        )


def assert_regular(path: Path) -> None:
    """Raise a ValueError where there is a pipe or a device in the place of a file: to open it may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("is no regular file")


def sweep(folder: Path) -> None:
    """Delete the parts that killed writers left in a run folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith(PART):
            _forget(path)


def _begin(part: Path) -> int:
    """The mode of a new file here; safetensors alone would give its files to the owner only."""
    part.unlink(missing_ok=True)
    part.touch(exist_ok=False)  # nothing else is opened, least of all what a link leads to
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
