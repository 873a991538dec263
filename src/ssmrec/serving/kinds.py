"""Types of columns that PostgreSQL has and polars has not, to read and to write them."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from ssmrec.errors import DataError, RunError

_UUID = "(.{8})(.{4})(.{4})(.{4})(.{12})", "$1-$2-$3-$4-$5"


def named(field: pa.Field) -> str:
    """The type of a column, by its name in PostgreSQL, else by that in Arrow."""
    told = (field.metadata or {}).get(b"POSTGRESQL:type")
    return told.decode() if told else str(field.type)


def plain(table: pa.Table) -> pl.DataFrame:
    """Rows in types of polars: uuid and citext become text, numeric whole numbers where all are, else floats.

    Raises:
        DataError: a column of a type that cannot be read, or of the name of another.
    """
    for name in (name for name in table.column_names if table.column_names.count(name) > 1):
        raise DataError(f"several columns are named {name}: rename them by `as` in the query")
    return pl.DataFrame([_plain(*pair) for pair in zip(table.schema, table.columns, strict=True)])


def _plain(field: pa.Field, column: pa.ChunkedArray) -> pl.Series:
    if isinstance(field.type, pa.BaseExtensionType):
        column = pa.chunked_array([c.storage for c in column.chunks], field.type.storage_type)
    try:
        values = pl.Series(field.name, column)
    except pl.exceptions.PolarsError:
        raise DataError(
            f"column {field.name} is {named(field)}, which is not read: leave it out, or cast it in the "
            f"query, as in cast({field.name} as text)"
        ) from None
    match named(field):
        case "uuid":
            return values.bin.encode("hex").str.replace(*_UUID)
        case "citext":
            return values.cast(pl.String)
        case "numeric":
            whole = values.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
            exact = whole.null_count() == values.null_count()
            return whole if exact else values.cast(pl.Float64)
    return values


def with_uuids(frame: pl.DataFrame, there: pa.Schema, table: str) -> pl.DataFrame:
    """Rows for a table of the schema `there`: text as the 16 bytes that a column of uuid takes.

    Raises:
        RunError: a text that is no uuid.
    """
    for name in (name for name in frame.columns if frame[name].dtype == pl.String):
        if name not in there.names or named(there.field(name)) != "uuid":
            continue
        found = frame[name].str.replace_all("-", "").str.decode("hex", strict=False)
        odd = frame[name].filter(found.bin.size().ne_missing(16))
        if len(odd):
            raise RunError(
                f"table {table}: column {name} is uuid, {odd[0]!r} is not; nothing was changed"
            )
        frame = frame.with_columns(found.alias(name))
    return frame
