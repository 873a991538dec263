"""JSON Lines, one object a line, as event logs are; a value within a nested object is a column `user.id`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl

from ssmrec.data.config import DataConfig
from ssmrec.data.place import Place
from ssmrec.data.remote import Remote
from ssmrec.data.sniff import asked_columns
from ssmrec.data.table import Table, readable
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

Keys = tuple[str, ...]
"""The way to a value: the key of a line's object, then those within it."""


def is_jsonl(text: str) -> bool:
    """Whether the first line of a text that is not blank is an object."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first.lstrip().startswith("{") and _object(first) is not None


def open_jsonl(
    path: Path | Remote, text: str, config: DataConfig, names: list[str] | None = None
) -> Table:
    """The values of a file of objects as columns of text; a key that a line lacks is null there.

    Args:
        text: the first lines, whose objects name the columns. Lists are none. A column that is asked for
            may come later.
        names: the columns to take in place of these, as of a file beside it.

    Raises:
        DataError: a line is no object, or the first ones hold no value.
    """
    where = Place(str(path), "jsonl")
    if not is_jsonl(text):
        raise DataError(f"{path}: the first line is no JSON object in braces, alone on its line")
    if config.delimiter is not None:
        log.warning("%s: is JSON Lines, for which data.delimiter says nothing", path)
    objects = list(filter(None, map(_object, text.split("\n"))))
    ways, known = _ways(objects), {key for one in objects for key in one}
    later = [n for n in asked_columns(config) if isinstance(n, str) and n not in {*ways, *known}]
    for name in later if names is None else names:
        ways.setdefault(name, (name,) if names is None else tuple(name.split(".")))
    frame = _scan(path, {name: ways[name] for name in names or ways})
    for name in later if names is None else ():
        with readable(where):
            if (
                not frame.select(pl.col(name).is_not_null().any())
                .collect(engine="streaming")
                .item()
            ):
                frame = frame.drop(name)
                del ways[name]
    if not ways:
        raise DataError(
            f"{path}: is JSON without a value in its first lines; write one object a row"
        )
    return Table(frame, where, text=True)


def _scan(path: Path | Remote, ways: dict[str, Keys]) -> pl.LazyFrame:
    """The values at the end of the ways, as text."""
    source = str(path) if isinstance(path, Remote) else escape(str(path))  # polars takes patterns
    frame = pl.scan_ndjson(source, schema={keys[0]: pl.String for keys in ways.values()})
    return frame.select(
        pl.col(first).str.json_path_match(_path(within)).alias(name) if within else pl.col(first)
        for name, (first, *within) in ways.items()
    )


def _path(keys: list[str]) -> str:
    return "$" + "".join(f"['{key}']" for key in keys)


def _ways(objects: list[dict[str, Any]]) -> dict[str, Keys]:
    """The values in the objects by name; what is null here and an object there is none."""
    found = {".".join(keys): keys for one in objects for keys in _values(one)}
    inner = {keys[:size] for keys in found.values() for size in range(1, len(keys))}
    return {name: keys for name, keys in found.items() if keys not in inner}


def _values(value: dict[str, Any], within: Keys = ()) -> Iterator[Keys]:
    for key, inner in value.items():
        keys = (*within, key)
        if isinstance(inner, dict):
            yield from _values(inner, keys)
        elif not isinstance(inner, list) and not (within and set("'\\") & set(key)):
            yield keys


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
