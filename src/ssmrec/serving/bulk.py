"""Lists for very many users: block by block, so that memory holds one block, into one whole file."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from ssmrec.errors import ConfigError, RunError
from ssmrec.kernels.memory import fitting
from ssmrec.ranking import Choice, Progress, Ranker, Unknown
from ssmrec.storage.files import replaced, target_of

BLOCK = 1 << 14
"""Most users ranked and written at once; more would be no faster."""
_ROW_BYTES = 320
"""What a row of a list takes while its block is ranked, named and written: 170 to 310 were seen."""
SUFFIXES = (".parquet", ".csv", ".jsonl")
COLUMNS = ["user", "rank", "item", "score"]
KEYS = ["user", "items", "scores"]
"""Of a line of JSON, which is a user's list."""


def blocks(
    ranker: Ranker,
    users: pl.Series | None,
    choice: Choice,
    unknown: Unknown = "skip",
    progress: Progress | None = None,
    size: int | None = None,
) -> Iterator[pl.DataFrame]:
    """The rows of `Ranker.recommend`, some users at a time, in the order of the users.

    `size` users are ranked at once; None takes `BLOCK`, or fewer where memory is short for them.

    Users that are unknown, or have no candidates, are told, once, before the first block.
    """
    size = size or fitting(BLOCK, _ROW_BYTES * min(choice.k, len(ranker.items)))
    wanted = ranker.known_users if users is None else users
    ranker.tell_left_out(wanted, choice, unknown)
    for start in range(0, max(len(wanted), 1), size):
        part = wanted.slice(start, size)
        yield ranker.recommend(part, choice, unknown, told=True)
        if progress is not None:
            progress(min(start + size, len(wanted)), len(wanted))


def write_lists(out: Path, frames: Iterator[pl.DataFrame]) -> tuple[int, int]:
    """Write the frames to a file, which appears whole or not at all: a row an item, in .jsonl a line a user.

    It takes the place of lists that an earlier call wrote, and of nothing else.

    Returns:
        Rows and users written.

    Raises:
        ConfigError: another suffix. RunError: the file cannot be written, or holds other columns.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: must end in {', '.join(SUFFIXES)}")
    refuse_other(out, KEYS if out.suffix == ".jsonl" else COLUMNS)
    rows = users = 0
    writer = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target_of(out)) as part, open(part, "wb") as file:
            try:
                for frame in frames:
                    if out.suffix != ".parquet":
                        # Written here: not every polars tells that the disk is full.
                        file.write(_text(frame, out.suffix, header=rows == 0 and file.tell() == 0))
                    else:
                        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                        writer.write_table(table)
                    rows, users = rows + len(frame), users + frame["user"].n_unique()
            finally:  # it would try later, when the file is closed
                if writer is not None:
                    writer.close()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or error  # its own text names the part
        raise RunError(f"{out}: cannot be written ({reason})") from None
    return rows, users


def _text(frame: pl.DataFrame, suffix: str, header: bool) -> bytes:
    """The rows as CSV, or the lists of the users as lines of JSON."""
    if suffix == ".csv":
        return frame.write_csv(include_header=header).encode()
    lists = frame.group_by("user", maintain_order=True).agg(items="item", scores="score")
    return lists.write_ndjson().encode()


def refuse_other(file: Path, *columns: list[str]) -> None:
    """Spare a file that was not written by an earlier call: it may be somebody's data.

    Args:
        columns: those that it may have.

    Raises:
        RunError: it is there and has others.
    """
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return
    try:
        if file.suffix == ".jsonl":
            scan = pl.scan_ndjson(escape(str(file)))
        else:
            scan = (pl.scan_csv if file.suffix == ".csv" else pl.scan_parquet)(file, glob=False)
        found = scan.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError):
        found = []
    if found not in columns:
        raise RunError(f"{file}: holds something else; choose another --out, or delete it")
