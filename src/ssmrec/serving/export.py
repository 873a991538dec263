"""Vectors and ids of a run in files that anything reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from ssmrec.errors import ConfigError, RunError
from ssmrec.models import HistoryRows
from ssmrec.ranking import Ranker
from ssmrec.training import replaced

FORMATS = ("parquet", "npy")


def export_vectors(ranker: Ranker, folder: Path, form: str = "parquet") -> dict[str, int]:
    """Write the ranking vectors of the known users and items: their inner product is the score.

    `parquet`: users.parquet and items.parquet with columns id and vector (fixed length, float32).
    `npy`: users.npy and items.npy (m, d), and users.parquet and items.parquet with the ids, row by row.

    Returns:
        Rows written of each side.

    Raises:
        ConfigError: an unknown format, or an item-item model. RunError: it cannot be written.
    """
    if form not in FORMATS:
        raise ConfigError(f"format {form!r}: choose from: {', '.join(FORMATS)}")
    if isinstance(ranker.users, HistoryRows):
        raise ConfigError("an item-item model has no vectors to export")
    train = ranker.train
    sides = {
        "users": (train.users.ids, ranker.users, train.user_degrees > 0),
        "items": (train.items.ids, ranker.items, ranker.known_items),
    }
    counts, new = {}, not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (ids, vectors, known) in sides.items():
            rows = vectors.detach().cpu().float()[torch.from_numpy(known)].numpy()
            table = pl.DataFrame({"id": ids.filter(pl.Series(known))})
            if form == "parquet":
                kind = pl.Array(pl.Float32, rows.shape[1])
                table = table.with_columns(vector=pl.Series(rows, dtype=kind))
            else:
                with replaced(folder / f"{name}.npy") as part, open(part, "wb") as file:
                    np.save(file, rows)
            with replaced(folder / f"{name}.parquet") as part:
                table.write_parquet(part)
            counts[name] = len(table)
    except (OSError, pl.exceptions.PolarsError) as error:
        if new and not any(folder.glob("*")):
            folder.rmdir()
        raise RunError(f"{folder}: cannot be written ({error})") from None
    return counts
