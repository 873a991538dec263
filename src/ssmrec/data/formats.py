"""Files to one lazy table: Parquet, JSON Lines, delimited text, and "user item item ..." lines."""

from __future__ import annotations

import gzip
import logging
import re
from pathlib import Path

import polars as pl

from ssmrec.data.columns import tell_twice
from ssmrec.data.config import DataConfig
from ssmrec.data.jsonl import is_jsonl, open_jsonl
from ssmrec.data.place import Place
from ssmrec.data.remote import Remote, assert_there, first_bytes, scan
from ssmrec.data.sniff import (
    DELIMITERS,
    LINES_ADVICE,
    MAX_COLUMNS,
    PARQUET,
    WHOLE_LINE,
    asked_columns,
    guess_delimiter,
    guess_header,
    integers,
    is_adjacency,
    refuse_lists,
    refuse_title,
    split_line,
)
from ssmrec.data.table import Table, readable, too_wide
from ssmrec.data.text import assert_lines
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

HEAD_BYTES = 1 << 16
MAGIC = {
    b"PAR1": "a Parquet file; set data.format=parquet or name it .parquet",
    b"\x1f\x8b": "a gzip file; name it .gz, such as .csv.gz",
    b"PK\x03\x04": "a zip archive (or an Excel file); unpack it, or save it as CSV",
    b"ARROW1": "an Arrow (Feather) file; convert it, as with polars: pl.read_ipc(...).write_parquet(...)",
    b"SQLite format 3": "an SQLite database; export the table as CSV or Parquet",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
}
"""How files begin that are no text, and what to do with them."""
TEXTS = {
    r"""\s*(\{\s*(\}|["'][^"']*["']\s*:)|\[\s*([{\[]|$))""": (
        "JSON that is not one object a line; convert it, as with polars: "
        "pl.read_json(...).write_ndjson(...)"
    ),
    r"(?i)\s*<(\?xml|!doctype|html)\b": "XML or HTML; save the table as CSV or Parquet",
}
"""The same for text that is no table."""


def open_table(path: Path | Remote, config: DataConfig, names: list[str] | None = None) -> Table:
    """Open one file or an address; the format comes from `config.format`, the suffix or the first lines.

    `names` are the columns to take of JSON Lines, each of whose objects may lack some.
    """
    assert_there(path) if isinstance(path, Remote) else _assert_file(path)
    if is_parquet(path, config):
        with readable(path):
            return Table(scan(path), Place(str(path)))
    text = _head(path)
    if config.format == "jsonl" or (config.format == "auto" and is_jsonl(text)):
        return open_jsonl(path, text, config, names)
    lines = _filled(text, path)
    if config.format != "adjacency":
        refuse_title(lines, str(path))
    if config.format == "adjacency" or (config.format == "auto" and is_adjacency(lines, config)):
        guessed = config.format == "auto" and not integers(lines)
        log.log(
            logging.WARNING if guessed else logging.INFO,
            "%s: read as 'user item item ...' lines; data.format=adjacency says so, for columns "
            "set data.format=csv", path,
        )  # fmt: skip
        place = Place(str(path), "adjacency", config.delimiter, bool(config.header))
        return Table(_adjacency(path, place), place, named=False, text=True)
    return _delimited(path, text, lines, config)


def is_parquet(path: Path | Remote, config: DataConfig) -> bool:
    """Whether a file is read as Parquet; so is an address whose name does not end as that of a table."""
    named = path.suffix in PARQUET or (isinstance(path, Remote) and not path.text)
    return config.format == "parquet" or (config.format in ("auto", "adjacency") and named)


def is_columns(path: Path) -> bool:
    """Whether a file names its columns whatever they hold: Parquet and JSON Lines."""
    return is_parquet(path, DataConfig()) or is_jsonl(_head(path))


def _assert_file(path: Path) -> None:
    try:
        size, folder = path.stat().st_size, path.is_dir()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    if folder:
        raise DataError(f"{path}: is a folder, not a file")
    if size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    if path.suffix == ".gz" and size >= 4:
        with readable(path):
            assert_lines(path)


def pinned(path: Path | Remote, config: DataConfig) -> DataConfig:
    """The settings with the format of `path` made explicit, so that files beside it agree.

    Alone, a test file with equally many items on each line would look like columns.
    """
    if config.format != "auto" or is_parquet(path, config):
        return config
    if isinstance(path, Path) and not (path.is_file() and path.stat().st_size):
        return config
    text = _head(path)
    if is_jsonl(text):
        return config.model_copy(update={"format": "jsonl"})
    refuse_title(lines := _filled(text, path), str(path))
    adjacency = is_adjacency(lines, config)
    return config.model_copy(update={"format": "adjacency"}) if adjacency else config


def first_lines(path: Path | Remote) -> list[str]:
    """The lines of the head of a text file, without the blank ones.

    Raises:
        DataError: it has none, or is no text of rows.
    """
    return _filled(_head(path), path)


def _filled(text: str, path: Path | Remote) -> list[str]:
    for pattern, remedy in TEXTS.items():
        if re.match(pattern, text):
            raise DataError(f"{path}: is {remedy}")
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file has no rows")
    if len(lines) == 1 and "\r" in lines[0]:
        raise DataError(f"{path}: lines end with a carriage return only; write it with line feeds")
    return lines


def _head(path: Path | Remote) -> str:
    with readable(path):
        if isinstance(path, Remote):
            data = first_bytes(path)
        else:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                data = file.read(HEAD_BYTES)
    for magic, remedy in MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"{path}: is {remedy}")
    if len(data) == HEAD_BYTES:
        data = data[: data.rfind(b"\n") + 1] or data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None


def _lines(path: Path | Remote) -> pl.LazyFrame:
    with readable(path):
        return pl.scan_csv(
            str(path),
            glob=False,
            separator=WHOLE_LINE,
            quote_char=None,
            has_header=False,
            infer_schema=False,
            new_columns=["line"],
        )


def _adjacency(path: Path | Remote, place: Place) -> pl.LazyFrame:
    if isinstance(path, Remote) and pl.__version__.startswith("1."):  # it takes it for a local file
        raise DataError(
            f"{path}: 'user item item ...' lines of a store are read with polars 2 and later (this is "
            f"{pl.__version__}): upgrade it, or download the file"
        )
    line, _ = _divided(place)
    blanks = place.delimiter is None
    _refuse_other_delimiters(path, place)
    _tell_without_items(path, place)
    fields = line.str.extract_all(r"\S+") if blanks else line.str.split(place.delimiter)
    return (
        _lines(path)
        .filter(line.str.len_bytes() > 0)
        .slice(1 if place.header else 0)
        .select(fields.list.first().alias("0"), fields.list.slice(1).alias("1"))
        .filter(pl.col("1").list.len() > 0)  # a user without items has no row
        .explode("1")
    )


def _divided(place: Place) -> tuple[pl.Expr, pl.Expr]:
    """A line without blanks around it, and whether it has several fields."""
    line = pl.col("line").str.strip_chars()
    return line, line.str.contains(place.delimiter or r"\s", literal=place.delimiter is not None)


def _refuse_other_delimiters(path: Path | Remote, place: Place) -> None:
    """Refuse a line of one field with a delimiter in it that no longer line holds: its items would be lost."""
    line, several = _divided(place)
    others = [d for d in DELIMITERS if d != place.delimiter and (place.delimiter or d.strip())]
    has = [line.str.contains(d, literal=True) for d in others]
    first = [
        pl.col("at").filter(h & ~several).min().alias(d) for d, h in zip(others, has, strict=True)
    ]
    meant = [(h & several).any().alias(d) for d, h in zip(others, has, strict=True)]
    with readable(path):
        lines = _lines(path).with_row_index("at", 1)
        at, known = (lines.select(asked).collect().row(0, named=True) for asked in (first, meant))
    for d in (d for d in others if at[d] is not None and not known[d]):
        raise DataError(
            f"{path}: line {at[d]} is divided by {d!r}, not by {place.delimiter or 'blanks'}: write all "
            "lines of all files alike"
        )


def _tell_without_items(path: Path | Remote, place: Place) -> None:
    """Log how many lines name a user and no item: a warning when they are most lines."""
    line, several = _divided(place)
    with readable(path):
        lines = _lines(path).filter(line.str.len_bytes() > 0)
        alone, total = lines.select((~several).sum(), pl.len().alias("n")).collect().row(0)
    if alone:
        level = logging.WARNING if 2 * alone > total else logging.INFO
        log.log(level, "%s: %s of %s lines name no item", path, f"{alone:,}", f"{total:,}")


def _delimited(path: Path | Remote, text: str, lines: list[str], config: DataConfig) -> Table:
    """Columns of a text file, by its head and the lines of it that are not blank."""
    delimiter = config.delimiter or guess_delimiter(lines, str(path))
    head = text.split("\n")
    # Lines above the first one that holds more than blanks and delimiters
    above = next((n for n, line in enumerate(head) if line.replace(delimiter, " ").strip()), 0)
    lines = lines[sum(bool(line.strip()) for line in head[:above]) :]
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
        header = guess_header(lines, delimiter, config, str(path))
    if not header:
        refuse_lists(lines, delimiter, config, str(path))
    if config.delimiter is None or config.header is None:
        log.info("%s: delimiter %r, %s", path, delimiter, "header" if header else "no header")
    doubtful = width > (2 if delimiter == " " else MAX_COLUMNS)
    if doubtful and not header and config.format == "auto" and not asked_columns(config):
        log.warning("%s: read as columns; %s", path, LINES_ADVICE)
    place = Place(str(path), "columns", delimiter, header)
    # A blank line is no row. Also, polars counts the fields of a line only when all columns are read.
    empty = pl.all_horizontal(pl.all().str.strip_chars().fill_null("") == "")
    return Table(_scan(path, lines[0], place, above).filter(~empty), place, named=header, text=True)


def _scan(path: Path | Remote, first: str, place: Place, above: int) -> pl.LazyFrame:
    """The columns of a file whose first line, after `above` empty ones, is `first`."""
    fields, delimiter = split_line(first, str(place.delimiter)), str(place.delimiter)
    names = fields if place.header else [str(position) for position in range(len(fields))]
    if len(delimiter.encode()) > 1:
        line = pl.col("line")
        filled = _lines(path).filter(line.str.strip_chars().str.len_bytes() > 0)
        lines = filled.slice(1 if place.header else 0)
        count = line.str.count_matches(delimiter, literal=True)
        with readable(place):
            if int(lines.select(count.max()).collect().item() or 0) >= len(names):
                raise DataError(too_wide(place, len(names)) or f"{place}: a line is too wide")
        parts = line.str.split_exact(delimiter, len(names) - 1)
        return lines.select(parts.struct.rename_fields(names).alias("line")).unnest("line")
    with readable(place):
        frame = pl.scan_csv(
            str(path),
            glob=False,
            separator=delimiter,
            has_header=place.header,
            skip_lines=above,
            infer_schema=False,
        )
        found = frame.collect_schema().names()
    if place.header:
        tell_twice(fields, place)
    stripped = [name.strip() for name in found]
    if place.header:  # "user" and "user " stay two columns
        names = stripped if len(set(stripped)) == len(found) else found
    return frame.rename(dict(zip(found, names, strict=False)))
