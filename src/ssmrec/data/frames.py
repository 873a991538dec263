"""Tables of polars, pandas and Arrow: what they are, and their columns as polars has them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import polars as pl

from ssmrec.data.columns import tell_twice
from ssmrec.data.place import Place
from ssmrec.data.table import Table
from ssmrec.data.text import prepared
from ssmrec.errors import DataError


def is_table(source: Any) -> bool:
    """Whether it is a table of polars, pandas or Arrow."""
    return isinstance(source, pl.LazyFrame) or is_pandas(source) or _is_arrow(source)


def is_pandas(source: Any) -> bool:
    """Whether it is a frame of pandas, which need not be installed, or of a class derived from it."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(source).__mro__}
    return ("pandas", "DataFrame") in kinds


def _is_arrow(source: Any) -> bool:
    """Whether it can be read as Arrow: tables of polars and pyarrow, relations of DuckDB."""
    return hasattr(type(source), "__arrow_c_stream__") and hasattr(
        source, "columns"
    )  # a Series has none


def read_table(
    source: Any, where: Place, choose: Callable[..., dict[str, str]], ids: str = "auto"
) -> pl.DataFrame:
    """The columns of a table of polars, pandas or Arrow that `choose` takes, by the names it gives them.

    Args:
        choose: called with the names there are and, where types are known, as `table=` with the `Table`.
        ids: as `data.ids`, for a pandas column that mixes types.

    Raises:
        DataError: a column cannot be read.
    """
    if is_pandas(source):
        rows = _from_pandas(one_level(source, where), where, choose, ids)
        return rows.with_columns(prepared(rows.schema))
    lazy = source if isinstance(source, pl.LazyFrame) else _from_arrow(source, where).lazy()
    table = Table(lazy, where)
    return table.collect(choose(table.names, table=table))


def _from_arrow(source: Any, where: Place) -> pl.DataFrame:
    """A table of Arrow as a frame, which has no name twice."""
    if isinstance(source, pl.DataFrame):
        return source
    names = list(getattr(source, "column_names", source.columns))  # pyarrow calls them so
    if len(set(names)) == len(names):
        return pl.DataFrame(source)
    tell_twice(names, where)
    first = sorted({name: at for at, name in reversed(list(enumerate(names)))}.values())
    return pl.DataFrame(import_module("pyarrow").table(source).select(first))


def one_level(source: Any, where: Place) -> Any:
    """A pandas frame with its index as columns, if that has a name, and of each column one name.

    An index without a name only numbers rows. Of names of several levels the last that is not empty counts.
    Other tables stay.
    """
    if not is_pandas(source):
        return source
    source = _without_index(source, where)
    if source.columns.nlevels == 1:
        return source
    last = [next((part for part in reversed(label) if part != ""), "") for label in source.columns]
    return source.set_axis(last, axis=1)


def _without_index(source: Any, where: Place) -> Any:
    names = [name for name in source.index.names if name is not None]
    if not names:
        return source
    if (
        source.columns.nlevels == 1
    ):  # as objects: pandas 3.1 puts 1 before the labels 0, 2 as 0, 1, 2, 3
        source = source.set_axis(source.columns.astype(object), axis=1)
    try:
        return source.reset_index()
    except ValueError:
        raise DataError(
            f"{where}: the index ({', '.join(map(str, names))}) has the name of a column: leave it out "
            "with reset_index(drop=True), or rename it with rename_axis"
        ) from None


def _from_pandas(
    source: Any, where: Place, choose: Callable[..., dict[str, str]], ids: str
) -> pl.DataFrame:
    names = [str(name) for name in source.columns]
    tell_twice(names, where)
    series = []
    for role, name in choose(names).items():
        values = source.iloc[:, names.index(name)]
        if hasattr(values, "sparse"):
            values = values.sparse.to_dense()
        try:
            series.append(pl.Series(role, pl.from_pandas(values, nan_to_null=True)))
        except Exception:  # pyarrow raises several kinds for an object column of mixed types
            if ids == "auto":
                kinds = ", ".join(sorted({type(v).__name__ for v in values.dropna()}))
                raise DataError(
                    f"{where}: column {name!r} mixes types ({kinds}); set data.ids=str or data.ids=int"
                ) from None
            texts = values.map(str, na_action="ignore").astype(object)
            series.append(pl.Series(role, texts.where(texts.notna(), None).to_list(), pl.String))
    return pl.DataFrame(series)
