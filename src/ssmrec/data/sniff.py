"""What the first lines of a text file tell: its delimiter, a header, or one line a user."""

from __future__ import annotations

import logging
import re

from ssmrec.data.aliases import find_alias, is_known, is_number
from ssmrec.data.config import DataConfig
from ssmrec.data.place import split_fields
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

PARQUET = (".parquet", ".pq")
_TEXT = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".inter")
SUFFIXES = (*PARQUET, *_TEXT, *(f"{suffix}.gz" for suffix in _TEXT))
# A byte that no text file holds: a "row" then is a whole line.
WHOLE_LINE = "\x1f"
DELIMITERS = ("::", "\t", ",", ";", "|", " ")
MAX_COLUMNS = 4  # user item rating timestamp
TITLE_LINES = 20  # so many lines at most are taken for what stands above the columns
MOST = 0.9  # the share of lines that a rule for all of them must hold for: a footer may follow
INTEGERS = re.compile(r"-?\d+( +-?\d+)* *")
LINES_ADVICE = "if the lines are 'user item item ...', set data.format=adjacency"


def asked_columns(config: DataConfig) -> tuple[str | int, ...]:
    """The columns named in the settings."""
    roles = (config.user, config.item, config.timestamp, config.rating, config.weight, config.event)
    return tuple(column for column in roles if column is not None)


def is_adjacency(lines: list[str], config: DataConfig) -> bool:
    """Blanks between ids, and not equally many on every line or more than columns need."""
    if config.delimiter is not None or config.header or asked_columns(config):
        return False
    if any("\t" in line for line in lines):
        return False
    widths = {len(line.split()) for line in lines}
    if len(widths) == 1 and max(widths) <= MAX_COLUMNS:
        return False
    return integers(lines) or _words(lines)


def integers(lines: list[str]) -> bool:
    """Whether the lines hold integers with blanks between, and nothing else."""
    return all(INTEGERS.fullmatch(line) for line in lines)


def _words(lines: list[str]) -> bool:
    """Blanks are what divides most lines of text ids, and the first line is no header."""
    if any('"' in line for line in lines) or share(lines, " ") < 0.5:
        return False
    if any(share(lines, d) > 0.5 for d in DELIMITERS if d != " "):
        return False
    return sum(is_known(field) for field in lines[0].split()) < 2


def share(lines: list[str], delimiter: str) -> float:
    """The share of lines that hold a delimiter, blanks around a line not counted."""
    return sum(delimiter in line.strip(" ") for line in lines) / max(len(lines), 1)


def refuse_title(lines: list[str], where: str) -> None:
    """A title or a comment above the columns would be taken for their first row.

    Such are lines without the delimiter of (nearly) all lines below, and lines above names of a user
    and an item column.

    Raises:
        DataError: there are such lines.
    """
    if lines[0].count('"') % 2:  # a quoted field goes on in the next line
        return
    above = next((n for n in range(1, min(len(lines), TITLE_LINES)) if is_header(lines[n])), 0)
    for delimiter in (d for d in DELIMITERS if d != " "):
        first = next((n for n, line in enumerate(lines) if delimiter in line), 0)
        below = lines[first:]
        if first <= TITLE_LINES and len(below) > 1 and share(below, delimiter) >= MOST:
            above = max(above, first)
    if not above or is_header(lines[0]):
        return
    title = "the first line" if above == 1 else f"the first {above} lines"
    raise DataError(
        f"{where}: {title}, {lines[0][:60]!r}, and the lines below do not have the same columns: "
        f"delete what stands above the rows and their names; {LINES_ADVICE}"
    )


def is_header(line: str) -> bool:
    """Whether a line is names, of a user and an item column among them."""
    for delimiter in DELIMITERS:
        fields = split_line(line, delimiter)
        plain = delimiter != " " or all(map(is_known, fields))
        if plain and find_alias("user", fields) and find_alias("item", fields):
            return True
    return False


def guess_delimiter(lines: list[str], where: str) -> str:
    """The delimiter that every line holds equally often, or else at least once.

    Those between quotes do not count. Of `,` and `;` the more frequent one: the others are decimal
    commas, or lists in a field.
    """
    lines = [re.sub(r'"[^"]*"', '""', line) for line in lines]
    present = [d for d in DELIMITERS if all(d in line for line in lines)]
    even = [d for d in present if len({line.count(d) for line in lines}) == 1]
    if not present:
        present = [d for d in DELIMITERS if d in lines[0]]
    if not present:
        raise DataError(
            f"{where}: no delimiter found, the first line is {lines[0][:60]!r}; two columns are "
            "needed, user and item (set data.delimiter=... if they are there)"
        )
    found = (even or present)[0]
    if found == "," and ";" in even and lines[0].count(";") > lines[0].count(","):
        return ";"
    return found


def guess_header(lines: list[str], delimiter: str, config: DataConfig, where: str) -> bool:
    """A first line is a header when it holds known or asked names, or words above numbers.

    Words above words that do not come again leave it open: read as a row, with a warning.
    """
    first = split_line(lines[0], delimiter)
    if any(is_number(field) for field in first):
        return False
    if any(name in first for name in asked_columns(config)) or any(map(is_known, first)):
        return True
    rest = [split_line(line, delimiter) for line in lines[1:]]
    if rest and any(is_number(field) for field in rest[0]):
        return True
    later = [set(column) for column in zip(*rest, strict=False)]
    if not any(field in column for field, column in zip(first, later, strict=False)):
        log.warning(
            "%s: the first line %r is read as a row; if it holds names, set data.header=true, if "
            "not, data.header=false", where, lines[0][:60],
        )  # fmt: skip
    return False


def refuse_lists(lines: list[str], delimiter: str, config: DataConfig, where: str) -> None:
    """Without names, lines that look like lists of items are no columns: the rest would be lost.

    Such are lines of unequal length that are long or hold text after the second field, and text
    between blanks there.

    Raises:
        DataError: such lines, and neither columns nor a format is asked for.
    """
    if config.format != "auto" or asked_columns(config) or any('"' in line for line in lines):
        return
    rows = [split_fields(line.strip(), delimiter) for line in lines]
    uneven = next((n for n, row in enumerate(rows) if len(row) != len(rows[0])), None)
    words = (word.strip() for row in rows for word in row[2:])
    text = next((word for word in words if word and not is_number(word)), None)
    if uneven is not None and (text or max(map(len, rows)) > MAX_COLUMNS):
        fault = f"line {uneven + 1} has {len(rows[uneven])} fields, the first one {len(rows[0])}"
    elif text and delimiter == " ":
        fault = f"{text!r} is neither a rating nor a timestamp"
    else:
        return
    other = "" if delimiter == " " else f" and data.delimiter={delimiter!r}"
    raise DataError(
        f"{where}: {fault}, and there are no names; {LINES_ADVICE}{other}; if they are columns, "
        "set data.format=csv"
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """The fields without blanks and quotes around them."""
    return [field.strip().strip('"') for field in line.split(delimiter)]
