"""Vectors and ids of a run in files that anything reads, or in a database."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from ssmrec.errors import ConfigError, RunError
from ssmrec.models import ScoringRows
from ssmrec.ranking import Ranker
from ssmrec.serving.address import kind_of
from ssmrec.serving.bulk import refuse_other
from ssmrec.serving.sql import replace_rows
from ssmrec.storage.files import replace_together

FORMATS = ("parquet", "npy")


def vectors_of(ranker: Ranker) -> dict[str, pl.DataFrame]:
    """The known `users` and `items`: columns id and vector (fixed length, float32).

    The inner product of a user and an item is the score.

    Raises:
        ConfigError: an item-item model.
    """
    if isinstance(ranker.users, ScoringRows):
        raise ConfigError("an item-item model, or a blend with one, has no vectors to export")
    train = ranker.train
    sides = {
        "users": (train.users.ids, ranker.users, train.user_degrees > 0),
        "items": (train.items.ids, ranker.items, ranker.known_items),
    }
    found = {}
    for name, (ids, vectors, known) in sides.items():
        rows = vectors.detach().cpu().float()[torch.from_numpy(known)].numpy()
        kind = pl.Array(pl.Float32, rows.shape[1])
        found[name] = pl.DataFrame(
            {"id": ids.filter(pl.Series(known)), "vector": pl.Series(rows, dtype=kind)}
        )
    return found


def export_vectors(ranker: Ranker, folder: str | Path, form: str = "parquet") -> dict[str, int]:
    """Write `vectors_of` to files.

    `parquet`: users.parquet and items.parquet with columns id and vector.
    `npy`: users.npy and items.npy (m, d), and users.parquet and items.parquet with the ids, row by row.
    All are written before the first takes the place of an older one: those of two runs are not mixed.

    Returns:
        Rows written of each side.

    Raises:
        ConfigError: an unknown format, or an item-item model. RunError: it cannot be
            written, or another users.parquet or items.parquet is there.
    """
    if form not in FORMATS:
        raise ConfigError(f"format {form!r}: choose from: {', '.join(FORMATS)}")
    folder = Path(folder)
    tables, new = vectors_of(ranker), not folder.exists()
    for name in tables:
        ids, numbers = folder / f"{name}.parquet", folder / f"{name}.npy"
        refuse_other(ids, ["id"], ["id", "vector"])
        if numbers.exists() and not ids.exists():  # an earlier export would have left both
            raise RunError(f"{numbers}: is there already; choose another folder, or delete it")
    writers: dict[Path, Callable[[Path], object]] = {}
    for name, table in tables.items():
        if form == "npy":
            writers[folder / f"{name}.npy"] = partial(_save, table["vector"].to_numpy())
            table = table.select("id")
        writers[folder / f"{name}.parquet"] = table.write_parquet
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_together(writers, last=folder / "items.parquet")
        for name in tables if form == "parquet" else ():
            # The vectors of an earlier export would not be those of these ids.
            (folder / f"{name}.npy").unlink(missing_ok=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        if new and not any(folder.glob("*")):
            folder.rmdir()
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{folder}: cannot be written ({reason})") from None
    return {name: len(table) for name, table in tables.items()}


def _save(vectors: np.ndarray, path: Path) -> None:
    with open(path, "wb") as file:  # of a path numpy would change the name
        np.save(file, vectors)


def store_vectors(ranker: Ranker, uri: str, table: str) -> dict[str, int]:
    """Replace the rows of the tables `TABLE_users` and `TABLE_items` by `vectors_of`, in one transaction.

    The column vector is `real[]` in PostgreSQL, `FLOAT[d]` in DuckDB.

    Returns:
        Rows written of each side.

    Raises:
        ConfigError: an item-item model, SQLite, which has no arrays, or as `replace_rows`.
        RunError: as `replace_rows`.
    """
    kind = kind_of(uri)
    if kind == "sqlite":
        raise ConfigError(
            "SQLite has no arrays: take postgresql:// or duckdb://, or files by --out"
        )
    tables = vectors_of(ranker)
    if kind == "postgresql":
        lists = pl.col("vector").arr.to_list()
        tables = {name: frame.with_columns(lists) for name, frame in tables.items()}
    replace_rows(uri, {f"{table}_{name}": [frame] for name, frame in tables.items()})
    return {name: len(frame) for name, frame in tables.items()}
