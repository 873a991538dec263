"""The rows of a query, kept as a Parquet file that knows what was asked."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import polars as pl

from ssmrec.errors import RunError
from ssmrec.serving.address import shown
from ssmrec.serving.sql import read_query
from ssmrec.storage.files import replaced

_ASKED = "ssmrec.query"


def _mark(uri: str, query: str) -> str:
    """What tells two questions apart, and neither the address nor its password."""
    return sha256(f"{shown(uri)}\n{query.strip()}".encode()).hexdigest()


def asked_by(uri: str, query: str, file: Path) -> bool:
    """Whether `file` has the rows of this question to this address, as far as it says."""
    return pl.read_parquet_metadata(file).get(_ASKED) in (None, _mark(uri, query))


def is_snapshot(file: Path) -> bool:
    """Whether `snapshot` wrote a file, which may be missing."""
    with suppress(OSError, pl.exceptions.PolarsError):
        return file.is_file() and _ASKED in pl.read_parquet_metadata(file)
    return False


def snapshot(uri: str, query: str, file: Path) -> int:
    """Keep the rows of a query as a Parquet file, so that a run can be measured on them again.

    Returns:
        The number of rows.

    Raises:
        DataError, ConfigError: as `read_query`. RunError: the file cannot be written.
    """
    rows = read_query(uri, query)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced(file) as part:
            rows.write_parquet(part, metadata={_ASKED: _mark(uri, query)})
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{file}: cannot be written ({reason})") from None
    return len(rows)
