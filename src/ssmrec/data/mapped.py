"""Files that processes of one machine map into memory: a split, or an order, is held once by all of them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from ssmrec.data.interactions import Interactions, Split
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import RunError

ARRAYS = ("indptr", "indices", "rows", "timestamps", "weights")
SIDES = ("users", "items")
FACTS = "split.json"


def write_split(split: Split, folder: Path) -> None:
    """Write all parts of a split, and its train and validation pairs together, into a folder."""
    named = {"train": split.train, "valid": split.valid, "test": split.test}
    if split.valid is not None:
        named["known"] = split.known
    parts = {name: part for name, part in named.items() if part is not None}
    for name, part in parts.items():
        for array in ARRAYS:
            if (values := getattr(part, array)) is not None:
                np.save(folder / f"{name}.{array}.npy", values)
    for side in SIDES:
        ids = getattr(split.train, side).ids.rename("id").to_frame()
        ids.write_ipc(folder / f"{side}.arrow", compression="uncompressed")
    facts = {
        "strategy": split.strategy,
        "counts": dict(split.counts),
        "fingerprint": split.fingerprint,
        "parts": {name: dict(part.counts) for name, part in parts.items()},
    }
    (folder / FACTS).write_text(json.dumps(facts))


def shared_folder(write: Callable[[Path], object]) -> str:
    """A new temporary folder with what `write` puts into it; after a failure it is gone.

    Raises:
        RunError: there is no room for it.
    """
    folder = tempfile.mkdtemp(prefix="ssmrec-")
    with ExitStack() as failed:
        failed.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            write(Path(folder))
        except OSError as error:
            raise RunError(
                f"{folder}: what all processes read there cannot be written ({error.strerror or error}); "
                "make room, or set TMPDIR to another place"
            ) from None
        failed.pop_all()
    return folder


def map_split(folder: Path) -> Split:
    """The split of `write_split`. Its pages are read when they are used, and shared by all who map them.

    The files may be deleted once they are mapped, where the system is not Windows.
    """
    facts = json.loads((folder / FACTS).read_text())
    users, items = (_ids(folder / f"{side}.arrow") for side in SIDES)
    parts = {
        name: _part(folder, name, users, items, counts) for name, counts in facts["parts"].items()
    }
    valid, test = parts.get("valid"), parts.get("test")
    split = Split(parts["train"], valid, test, facts["strategy"], facts["counts"])
    # Both were computed where the split was made.
    found = {"fingerprint": facts["fingerprint"], "known": parts.get("known", split.train)}
    split.__dict__.update(found)
    return split


def _ids(file: Path) -> Vocabulary:
    """By pyarrow: polars would copy them."""
    frame = pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(file))).read_all())
    return Vocabulary(frame["id"])  # type: ignore[index]


def _part(
    folder: Path, name: str, users: Vocabulary, items: Vocabulary, counts: dict[str, int]
) -> Interactions:
    files = {array: folder / f"{name}.{array}.npy" for array in ARRAYS}
    # "c": a page would be copied when it is written to; torch wants no arrays that cannot be.
    found = {
        array: np.asarray(np.load(file, mmap_mode="c"))
        for array, file in files.items()
        if file.exists()
    }
    rows = found.pop("rows")
    part = Interactions(users, items, **found, counts=counts)
    part.__dict__["rows"] = rows
    return part
