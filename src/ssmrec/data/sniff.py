"""What the first lines of a text file tell: its delimiter, a header, or one line a user."""

from __future__ import annotations

import logging
import re

from ssmrec.data.aliases import is_known, is_number
from ssmrec.data.config import DataConfig
from ssmrec.data.place import split_fields
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

DELIMITERS = ("::", "\t", ",", ";", "|", " ")
MAX_COLUMNS = 4  # user item rating timestamp
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
    """Blanks are the only delimiter of lines of text ids, and the first line is no header."""
    if any('"' in line for line in lines) or not any(" " in line.strip() for line in lines):
        return False
    if any(all(d in line for line in lines) for d in DELIMITERS if d != " "):
        return False
    return sum(is_known(field) for field in lines[0].split()) < 2


def guess_delimiter(lines: list[str], where: str) -> str:
    """The delimiter that every line holds equally often, or else at least once."""
    present = [d for d in DELIMITERS if all(d in line for line in lines)]
    even = [d for d in present if len({line.count(d) for line in lines}) == 1]
    if not present:
        present = [d for d in DELIMITERS if d in lines[0]]
    if not present:
        raise DataError(
            f"{where}: no delimiter found, the first line is {lines[0][:60]!r}; two columns are "
            "needed, user and item (set data.delimiter=... if they are there)"
        )
    return (even or present)[0]


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
