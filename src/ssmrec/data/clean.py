"""Rows with external ids to distinct coded pairs: merge duplicates, drop overlap, k-core."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ssmrec.data.config import DataConfig
from ssmrec.data.ids import same_type
from ssmrec.data.interactions import Interactions
from ssmrec.data.text import Distinct
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

PAIR = ("part", "user", "item")


@dataclass(frozen=True, eq=False)
class Coded:
    """Rows of one or several parts over shared vocabularies.

    Args:
        rows: columns part UInt8, user Int32, item Int32 (indices), maybe timestamp and weight.
        users, items: the vocabularies that the indices refer to.
    """

    rows: pl.DataFrame
    users: Vocabulary
    items: Vocabulary

    def keys(self, part: pl.Expr | int = 0) -> pl.Series:
        """One Int64 for each pair, or for each pair of a part."""
        user = part * len(self.users) + pl.col("user").cast(pl.Int64)
        return self.rows.select(key=user * len(self.items) + pl.col("item"))["key"]

    def part(self, number: int, counts: dict[str, int] | None = None) -> Interactions:
        """The pairs of one part."""
        rows = self.rows.filter(pl.col("part") == number)
        optional = {c: rows[c].to_numpy() for c in ("timestamp", "weight") if c in rows.columns}
        return Interactions.from_pairs(
            rows["user"].to_numpy(),
            rows["item"].to_numpy(),
            self.users,
            self.items,
            timestamps=optional.get("timestamp"),
            weights=optional.get("weight"),
            counts=counts,
        )


def encode(frames: list[pl.DataFrame]) -> Coded:
    """Join parts; the vocabularies are the sorted union of the ids of all parts."""
    for side in ("user", "item"):
        frames = same_type(frames, side)
    common = [c for c in frames[0].columns if all(c in f.columns for f in frames)]
    for name in sorted({c for f in frames for c in f.columns} - set(common)):
        log.warning("column %s is not in every file and is left out", name)
    users, user = numbered([frame["user"] for frame in frames])
    items, item = numbered([frame["item"] for frame in frames])
    coded = [
        frame.select(common).with_columns(
            pl.Series("user", user[number]),
            pl.Series("item", item[number]),
            pl.lit(number, pl.UInt8).alias("part"),
        )
        for number, frame in enumerate(frames)
    ]
    return Coded(pl.concat(coded), users, items)


def numbered(columns: list[pl.Series]) -> tuple[Vocabulary, list[np.ndarray]]:
    """The sorted ids of columns of one type, and the index of each row's id, int32 for each column."""
    if columns[0].dtype == pl.Int64:
        vocabulary = Vocabulary.of(*columns)
        return vocabulary, [vocabulary.encode(column) for column in columns]
    # By one sort of the distinct texts: tables of hashes would take more memory than the ids.
    parts = [Distinct(column) for column in columns]
    texts = pl.concat([part.values for part in parts])
    order = texts.arg_sort()
    ids = texts.gather(order)
    first = (ids != ids.shift(1)).fill_null(True)
    number = np.empty(len(ids), dtype=np.int32)
    number[order.to_numpy()] = np.cumsum(first.to_numpy()) - 1
    ends = np.cumsum([len(part.values) for part in parts])[:-1]
    pairs = zip(parts, np.split(number, ends), strict=True)
    return Vocabulary(ids.filter(first)), [p.spread(pl.Series(n)).to_numpy() for p, n in pairs]


def merge_duplicates(
    coded: Coded, policy: str, prefixes: list[str]
) -> tuple[Coded, dict[str, int]]:
    """One row for each repeated pair of a part; see `DataConfig.duplicates`.

    Args:
        coded: the rows.
        policy: first, last, count or error.
        prefixes: of the count `duplicates`, one for each part.
    """
    rows = coded.rows
    if policy == "count":
        rows = rows.with_columns(pl.lit(1.0).alias("weight"))
    before = _part_sizes(rows, len(prefixes))
    # Sorted once, here: repeated pairs are then neighbours, and `Coded.part` finds sorted rows.
    rows = rows.with_columns(coded.keys(pl.col("part").cast(pl.Int64)))
    rows = rows.sort("key", maintain_order=True)
    key, rows = rows["key"], rows.drop("key")
    repeated = ((key == key.shift(1)) | (key == key.shift(-1))).fill_null(False)
    if repeated.any():
        latest = pl.col("timestamp").max() if policy == "last" else pl.col("timestamp").min()
        rules = {"timestamp": latest, "weight": pl.col("weight").sum()}
        present = [rule for name, rule in rules.items() if name in rows.columns]
        merged = rows.filter(repeated).group_by(PAIR, maintain_order=True).agg(present)
        rows = pl.concat([rows.filter(~repeated), merged.select(rows.columns)])
    lost = before - _part_sizes(rows, len(prefixes))
    if policy == "error" and lost.any():
        raise DataError(
            f"{lost.sum()} repeated (user, item) rows; merge them or set data.duplicates=first"
        )
    counts = {f"{p}duplicates": int(n) for p, n in zip(prefixes, lost, strict=True)}
    return replace(coded, rows=rows), counts


def _part_sizes(rows: pl.DataFrame, n: int) -> np.ndarray:
    return np.bincount(rows["part"].to_numpy(), minlength=n)


def drop_overlap(coded: Coded, policy: str, names: list[str]) -> tuple[Coded, dict[str, int]]:
    """Keep a pair only in the first part that holds it (train before valid before test).

    Raises:
        DataError: with policy `error`, when a held-out pair is in an earlier part.
    """
    rows = coded.rows
    if coded.keys().n_unique() < len(rows):
        rows = rows.filter(pl.col("part").min().over("user", "item") == pl.col("part"))
    lost = _part_sizes(coded.rows, len(names)) - _part_sizes(rows, len(names))
    if policy == "error" and lost.any():
        where = ", ".join(f"{n} in {name}" for name, n in zip(names, lost, strict=True) if n)
        raise DataError(
            f"held-out pairs are in train as well: {where}; set data.split.overlap=drop"
        )
    counts = {f"{name}_overlap": int(n) for name, n in zip(names[1:], lost[1:], strict=True)}
    return replace(coded, rows=rows), counts


def k_core(coded: Coded, config: DataConfig) -> tuple[Coded, dict[str, int]]:
    """Drop users and items with too few pairs until none is left, and shrink the vocabularies."""
    counts: dict[str, int] = {}
    rows = coded.rows
    size = -1
    while size != len(rows):
        size = len(rows)
        for side, least in (("user", config.min_user), ("item", config.min_item)):
            if least > 1:
                kept = rows.filter(pl.len().over(side) >= least)
                reason = f"dropped_min_{side}"
                counts[reason] = counts.get(reason, 0) + len(rows) - len(kept)
                rows = kept
    if len(rows) == len(coded.rows):
        return coded, counts
    users, user = _shrink(coded.users, rows["user"])
    items, item = _shrink(coded.items, rows["item"])
    return Coded(rows.with_columns(user=user, item=item), users, items), counts


def _shrink(vocabulary: Vocabulary, codes: pl.Series) -> tuple[Vocabulary, pl.Series]:
    present = np.bincount(codes.to_numpy(), minlength=len(vocabulary)) > 0
    position = (np.cumsum(present) - 1).astype(np.int32)
    return Vocabulary(vocabulary.ids.filter(pl.Series(present))), pl.Series(
        position[codes.to_numpy()]
    )
