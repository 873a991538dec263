"""External ids: as one column, found among those of a model, and named in messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from ssmrec.data import Vocabulary
from ssmrec.data.vocabulary import as_ids
from ssmrec.errors import DataError

Array = np.ndarray


def as_pairs(frame: Any, what: str) -> tuple[pl.Series, pl.Series]:
    """The columns user and item of a polars or a pandas frame.

    Raises:
        DataError: it is no frame, lacks one of them, or one holds no ids; the message begins with `what`.
    """
    libraries = {kind.__module__.partition(".")[0] for kind in type(frame).__mro__}
    table = frame.collect() if isinstance(frame, pl.LazyFrame) else frame
    if not libraries & {"pandas", "polars"} or not hasattr(table, "columns"):
        raise DataError(
            f"{what} must be a polars or a pandas frame with columns user and item, not "
            f"{type(frame).__name__}"
        )
    names = list(table.columns)
    if not {"user", "item"} <= set(names):
        raise DataError(f"{what} need columns user and item, not {names}")
    if twice := [name for name in ("user", "item") if names.count(name) > 1]:
        raise DataError(f"{what}: several columns are named {twice[0]}: give one of them")
    return as_ids(table["user"], what), as_ids(table["item"], what)


def like(ids: pl.Series, vocabulary: Vocabulary) -> pl.Series:
    """The ids in the type of the vocabulary's, where all can be written so, else as they are."""
    kind = vocabulary.ids.dtype
    if ids.dtype in (kind, pl.Object):
        return ids
    written = ids.cast(kind, strict=False)
    same = written.cast(ids.dtype, strict=False).eq_missing(ids)  # "007" is not 7
    return written if same.all() else ids


def find(vocabulary: Vocabulary, ids: pl.Series, known: Array) -> Array:
    """Index of each id, -1 where it is unknown; text finds a number only when written like it."""
    if not len(ids) or not len(vocabulary):
        return np.full(len(ids), -1, dtype=np.int32)
    index = vocabulary.encode(ids)
    found = (index >= 0) & known[np.maximum(index, 0)]
    if ids.dtype == pl.String and vocabulary.ids.dtype == pl.Int64:
        text = ids.cast(pl.Int64, strict=False).cast(pl.String)
        found &= (text == ids).fill_null(False).to_numpy()  # "007" is not 7
    return np.where(found, index, np.int32(-1))


def distinct(ids: pl.Series, chosen: Array) -> pl.Series:
    """The ids where `chosen` (bool (n,)) holds, each once."""
    return ids.filter(pl.Series(chosen)).unique(maintain_order=True)


def untrained(missing: pl.Series, what: str) -> str:
    """Begin of a message on ids, each there once, that a model was not trained on."""
    return f"{len(missing)} {what}(s) were not trained on: {some(missing)}"


def some(ids: pl.Series) -> str:
    """The first three of some ids."""
    return ", ".join(map(repr, ids.head(3).to_list())) + (" ..." if len(ids) > 3 else "")


def none_known(name: str, count: int, what: str, examples: Iterable[Any]) -> str:
    """Message on `count` ids of which a model knows none.

    Args:
        name: where they were given; what: users or items; examples: ids that it knows.
    """
    return (
        f"{name}: the model knows none of its {count} {what} "
        f"(it knows such as {', '.join(map(repr, examples))})"
    )
