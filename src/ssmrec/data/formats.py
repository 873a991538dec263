"""Files and frames to one lazy table: Parquet, delimited text, and "user item item ..." lines."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ssmrec.data.aliases import is_known, is_number
from ssmrec.data.config import DataConfig
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

DELIMITERS = ("::", "\t", ",", ";", "|", " ")
PARQUET = (".parquet", ".pq")
# A byte that no text file holds: a "row" then is a whole line.
WHOLE_LINE = "\x1f"
HEAD_BYTES = 1 << 16
# A damaged Parquet file can make polars panic, which is no Exception.
UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    EOFError,
    UnicodeDecodeError,
    zlib.error,
)
MAX_COLUMNS = 4  # user item rating timestamp


@dataclass(frozen=True)
class Table:
    """Columns not yet read.

    Args:
        frame: the lazy columns; text files hold strings only.
        where: the name of the file, for messages.
        named: whether the columns have names; if not they are called "0", "1", ...
        text: whether types still have to be told from the text.
    """

    frame: pl.LazyFrame
    where: str
    named: bool = True
    text: bool = False

    @property
    def names(self) -> list[str]:
        with readable(self.where):
            return self.frame.collect_schema().names()

    def collect(self, columns: dict[str, str]) -> pl.DataFrame:
        """Read only the columns needed: `columns` maps the new name to the one in the file."""
        with readable(self.where):
            frame = self.frame.select(pl.col(old).alias(new) for new, old in columns.items())
            if self.text:
                frame = frame.with_columns(pl.all().str.strip_chars())
            return frame.collect()


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn a reader's failure into one line that names the file."""
    try:
        yield
    except UNREADABLE as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise DataError(
            f"{where}: cannot be read, damaged or of another format ({reason})"
        ) from None


def open_table(path: Path, config: DataConfig) -> Table:
    """Open one file; its format comes from `config.format`, the suffix or the first lines."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    if config.format == "parquet" or (config.format != "csv" and path.suffix in PARQUET):
        with readable(str(path)):
            return Table(pl.scan_parquet(path), str(path))
    lines = _head(path)
    if config.format == "adjacency" or (config.format == "auto" and is_adjacency(lines, config)):
        log.info("%s: read as 'user item item ...' lines", path)
        return Table(_adjacency(path), str(path), named=False, text=True)
    return _delimited(path, lines, config)


def pinned(path: Path, config: DataConfig) -> DataConfig:
    """The settings with the format of `path` made explicit, so that files beside it agree.

    Alone, a test file with equally many items on each line would look like columns.
    """
    if config.format != "auto" or path.suffix in PARQUET or not path.is_file():
        return config
    adjacency = path.stat().st_size > 0 and is_adjacency(_head(path), config)
    return config.model_copy(update={"format": "adjacency"}) if adjacency else config


def is_adjacency(lines: list[str], config: DataConfig) -> bool:
    """Integers with blanks between, not equally many on every line, or more than columns need."""
    if config.delimiter is not None or config.header or any("\t" in line for line in lines):
        return False
    if not all(re.fullmatch(r"-?\d+( +-?\d+)* *", line) for line in lines):
        return False
    widths = {len(line.split()) for line in lines}
    return len(widths) > 1 or max(widths) > MAX_COLUMNS


def _head(path: Path) -> list[str]:
    with readable(str(path)):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            data = file.read(HEAD_BYTES)
    if data.startswith(b"PAR1"):
        raise DataError(f"{path}: is a Parquet file; set format=parquet or name it .parquet")
    if len(data) == HEAD_BYTES:
        data = data[: data.rfind(b"\n") + 1] or data
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file has no rows")
    return lines


def _lines(path: Path) -> pl.LazyFrame:
    with readable(str(path)):
        return pl.scan_csv(
            path,
            separator=WHOLE_LINE,
            quote_char=None,
            has_header=False,
            infer_schema=False,
            with_column_names=lambda _: ["line"],
        )


def _adjacency(path: Path) -> pl.LazyFrame:
    fields = pl.col("line").str.strip_chars().str.extract_all(r"\S+")
    return (
        _lines(path)
        .filter(pl.col("line").str.strip_chars().str.len_bytes() > 0)
        .select(fields.list.first().alias("0"), fields.list.slice(1).alias("1"))
        .filter(pl.col("1").list.len() > 0)  # a user without items has no row
        .explode("1")
    )


def _delimited(path: Path, lines: list[str], config: DataConfig) -> Table:
    delimiter = config.delimiter or guess_delimiter(lines, str(path))
    width = len(lines[0].split(delimiter))
    if width < 2:
        likely = next((d for d in DELIMITERS if d in lines[0]), None)
        advice = f"; it looks like delimiter {likely!r}" if likely else ""
        raise DataError(
            f"{path}: delimiter {delimiter!r} gives one column, the first line is "
            f"{lines[0][:60]!r}{advice}"
        )
    header = config.header
    if header is None:
        header = guess_header(lines, delimiter, config)
    log.info("%s: delimiter %r, %s", path, delimiter, "header" if header else "no header")
    if delimiter == " " and width > 2 and not header and config.format == "auto":
        log.warning("%s: read as columns; for 'user item item ...' set format=adjacency", path)
    frame = _scan(path, lines[0], delimiter, header)
    return Table(frame, str(path), named=header, text=True)


def guess_delimiter(lines: list[str], where: str) -> str:
    """The delimiter that every line holds equally often, or else at least once."""
    present = [d for d in DELIMITERS if all(d in line for line in lines)]
    even = [d for d in present if len({line.count(d) for line in lines}) == 1]
    if not present:
        present = [d for d in DELIMITERS if d in lines[0]]
    if not present:
        raise DataError(
            f"{where}: no delimiter found, the first line is {lines[0][:60]!r}; two columns are "
            "needed, user and item (set delimiter=... if they are there)"
        )
    return (even or present)[0]


def guess_header(lines: list[str], delimiter: str, config: DataConfig) -> bool:
    """A first line is a header when it holds known or asked names, or words above numbers."""
    first = [field.strip().strip('"') for field in lines[0].split(delimiter)]
    asked = (config.user, config.item, config.timestamp, config.rating, config.weight, config.event)
    if any(is_number(field) for field in first):
        return False
    if any(name in first for name in asked) or any(is_known(field) for field in first):
        return True
    second = lines[1].split(delimiter) if len(lines) > 1 else []
    return any(is_number(field) for field in second)


def _scan(path: Path, first: str, delimiter: str, header: bool) -> pl.LazyFrame:
    fields = [field.strip().strip('"') for field in first.split(delimiter)]
    names = fields if header else [str(position) for position in range(len(fields))]
    if len(delimiter.encode()) > 1:
        parts = pl.col("line").str.split_exact(delimiter, len(names) - 1)
        lines = _lines(path).slice(1 if header else 0)
        return lines.select(parts.struct.rename_fields(names).alias("line")).unnest("line")
    with readable(str(path)):
        frame = pl.scan_csv(
            path,
            separator=delimiter,
            has_header=header,
            infer_schema=False,
        )
        found = frame.collect_schema().names()
    return frame.rename(
        dict(zip(found, [n.strip() for n in found] if header else names, strict=False))
    )
