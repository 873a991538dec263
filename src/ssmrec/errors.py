"""Errors a user can mend: each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_SHOWN = 100
"""Most characters of a value in a message."""
_MESSAGE = 4000
"""Most characters of a whole message: of a longer one the middle is left out, which is what it quotes."""


_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory")


class SsmrecError(Exception):
    """Base of all errors that ssmrec raises on purpose. The CLI prints it as one line, exit code 2.

    A message is one line whatever it quotes: line breaks in names and values become blanks.
    """

    def __init__(self, message: object = "") -> None:
        text = " ".join(str(message).splitlines())
        if len(text) > _MESSAGE:
            half = _MESSAGE // 2
            text = f"{text[:half]} … {text[-half:]}"
        super().__init__(text)


class DataError(SsmrecError):
    """A file, column or row cannot be used as interactions."""


class ConfigError(SsmrecError):
    """A setting is unknown, out of range, or does not fit another one."""


class RunError(SsmrecError):
    """A run folder cannot be read, written or continued."""


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error means so; on a CPU torch raises a plain RuntimeError."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def cut(text: str) -> str:
    """The first 100 characters of `text`, and an ellipsis where there are more."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def shown(value: Any) -> str:
    """`repr(value)` for a message, cut as by `cut`; what is cut is not even written out."""
    found = ""
    for piece in _pieces(value):
        found += piece
        if len(found) > _SHOWN:
            break
    return cut(found)


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        pairs = ([_pieces(key), [": "], _pieces(held)] for key, held in value.items())
        yield from _listed("{", pairs, "}")
    elif isinstance(value, list | tuple):
        begin, end = (
            ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        )
        yield from _listed(begin, ([_pieces(each)] for each in value), end)
    elif isinstance(value, str | bytes):
        yield repr(value[: _SHOWN + 1])
    elif (
        isinstance(value, int) and value.bit_length() > 4 * _SHOWN
    ):  # Python may refuse to write it
        yield f"a whole number of {value.bit_length():,} bits"
    else:
        yield repr(value)


def _listed(begin: str, entries: Iterable[Iterable[Iterable[str]]], end: str) -> Iterator[str]:
    yield begin
    for number, parts in enumerate(entries):
        yield ", " * (number > 0)
        for part in parts:
            yield from part
    yield end
