"""External ids and their contiguous indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ssmrec.errors import DataError

Array = np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    """External ids of one side (users or items); the position of an id is its index.

    Equal are those of the same ids in the same order.

    Args:
        ids: unique external ids, all Int64 or all String, never mixed.
    """

    ids: pl.Series

    def __post_init__(self) -> None:
        if self.ids.dtype not in (pl.Int64, pl.String):
            raise DataError(f"ids must be integers or strings, not {self.ids.dtype}")
        if self.ids.null_count() or not _distinct(self.ids):
            raise DataError("ids of a vocabulary must be unique and not null")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} ids, {self.ids.dtype})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return False
        same_type = self.ids.dtype == other.ids.dtype
        return self is other or (same_type and self.ids.equals(other.ids))

    def __hash__(self) -> int:
        return hash((len(self), *self.ids[:8]))

    @classmethod
    def of(cls, *values: pl.Series) -> Vocabulary:
        """Sorted distinct values of one or several id columns of the same type."""
        return cls(pl.concat([v.unique() for v in values]).unique().sort())

    @cached_property
    def _table(self) -> pl.DataFrame:
        return pl.DataFrame({"id": self.ids, "index": np.arange(len(self.ids), dtype=np.int32)})

    @cached_property
    def _by_number(self) -> tuple[int, Array] | None:
        """(lowest id, index of each id from there on) when ids are numbers without wide gaps."""
        if self.ids.dtype != pl.Int64 or not len(self.ids):
            return None
        numbers = self.ids.to_numpy()
        low, high = int(numbers.min()), int(numbers.max())
        if high - low > 8 * len(numbers) + 1024:
            return None
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[numbers - low] = np.arange(len(numbers), dtype=np.int32)
        return low, table

    def encode(self, values: pl.Series | Iterable[Any]) -> Array:
        """Index of each external id, int32 (n,); -1 for an unknown id.

        Ids of the other type match when they mean the same text, so "17" finds 17.
        """
        column = values if isinstance(values, pl.Series) else pl.Series(list(values), strict=False)
        if column.dtype.is_float() and self.ids.dtype == pl.Int64:
            column = column.set(column != column.floor(), None)  # 1.5 is nobody, not user 1
        if column.dtype != self.ids.dtype:
            column = column.cast(self.ids.dtype, strict=False)
        if self._by_number is not None and not column.null_count():
            low, table = self._by_number
            numbers = column.to_numpy()
            inside = (numbers >= low) & (numbers < low + len(table))
            return np.where(inside, table[np.where(inside, numbers - low, 0)], np.int32(-1))
        found = (
            column.rename("id")
            .to_frame()
            .join(self._table, on="id", how="left", maintain_order="left")
        )
        return found["index"].fill_null(-1).to_numpy().astype(np.int32)

    def decode(self, indices: Array) -> pl.Series:
        """External ids of indices (n,)."""
        return self.ids.gather(np.asarray(indices, dtype=np.uint32))


def _distinct(ids: pl.Series) -> bool:
    """Whether no id comes twice; of sorted ones neighbours tell, without a table of hashes."""
    if ids.is_sorted():
        return not (ids[1:] == ids[:-1]).any()
    return ids.n_unique() == len(ids)
