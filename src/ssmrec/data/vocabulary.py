"""External ids and their contiguous indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ssmrec.errors import DataError

Array = np.ndarray

_NUMBERS = int, float, Decimal
_MAYBE_NAN = float, Decimal
_NONE = "NAType", "NaTType"
"""Types of what pandas has in the place of a missing value."""


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

        Raises:
            DataError: as `as_ids`.
        """
        column = as_ids(values, "ids")
        fractions = column.dtype.is_float() or column.dtype.is_decimal()
        if fractions and self.ids.dtype == pl.Int64:
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


def as_ids(values: pl.Series | Iterable[Any], what: str = "users") -> pl.Series:
    """External ids (n,) as one column; numbers beside text, or too large for an id, become text.

    Args:
        values: a list, or a column of polars, pandas, numpy or pyarrow. What is missing in it (None, NaN,
            NA) is null, an id that nobody has.
        what: what they are, for messages.

    Raises:
        DataError: a single value, a table, or what is neither number nor text, such as True or a tuple.
    """
    refuse_table(values, what)
    single = isinstance(values, (str, bytes, bytearray)) or getattr(values, "ndim", 1) == 0
    if single or not isinstance(values, Iterable):
        raise DataError(f"{what} must be a list of ids, not the single value {values!r}")
    if (shape := tuple(getattr(values, "shape", ()))) and len(shape) > 1:
        raise DataError(
            f"{what} must be a list of ids, not an array of shape {shape}: give one column of it"
        )
    if isinstance(values, pl.Series) and values.dtype != pl.Object:
        _check_type(values.dtype, what)
        return values
    ids = _plain(values)
    kinds = set(map(type, ids)) - {type(None)}
    if bool in kinds:
        raise DataError(f"{what} must be ids, numbers or text: True and False are none")
    if other := [kind.__name__ for kind in kinds if not issubclass(kind, (str, *_NUMBERS))]:
        raise DataError(f"{what} must be ids, numbers or text, not {min(other)}")
    large = int in kinds and any(type(one) is int and abs(one) >= 2**63 for one in ids)
    if large or not kinds or any(issubclass(kind, str) for kind in kinds):
        return pl.Series([None if one is None else str(one) for one in ids], dtype=pl.String)
    return pl.Series(ids, strict=False)


def refuse_table(values: Any, what: str) -> None:
    """Raise a `DataError` where a table or a mapping stands in the place of a list."""
    if isinstance(values, Mapping) or hasattr(type(values), "columns"):
        column = "user" if what.startswith("user") else "item"
        raise DataError(
            f"{what} must be a list of ids, not a {type(values).__name__}: give its column, such as "
            f"frame[{column!r}]"
        )


def _check_type(dtype: pl.DataType, what: str) -> None:
    if dtype == pl.Boolean:
        raise DataError(f"{what} must be ids, numbers or text: True and False are none")
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise DataError(f"{what} must be ids, numbers or text, not {dtype}")


def _plain(values: Iterable[Any]) -> list[Any]:
    """Values of Python, of what numpy, pandas, pyarrow and torch hold too; None for what is missing."""
    listed = getattr(values, "to_pylist", None) or getattr(values, "tolist", None)
    ids: list[Any] = list(values) if listed is None else listed()
    kinds = set(map(type, ids))
    if any(hasattr(kind, "item") for kind in kinds):
        ids = [one.item() if getattr(one, "ndim", 1) == 0 else one for one in ids]
        kinds = set(map(type, ids))
    doubtful = {kind for kind in kinds if kind.__name__ in _NONE or issubclass(kind, _MAYBE_NAN)}
    return [None if type(one) in doubtful and _is_missing(one) else one for one in ids]


def _is_missing(one: Any) -> bool:
    return type(one).__name__ in _NONE or one != one


def _distinct(ids: pl.Series) -> bool:
    """Whether no id comes twice; of sorted ones neighbours tell, without a table of hashes."""
    if ids.is_sorted():
        return not (ids[1:] == ids[:-1]).any()
    return ids.n_unique() == len(ids)
