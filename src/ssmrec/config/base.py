"""The base of every settings class, and the choice of a part (model, loss, sampler) by its name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ssmrec.errors import ConfigError


class Config(BaseModel):
    """Frozen settings. An unknown key is an error that names the nearest valid one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def nearest(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """`, did you mean 'x'?` for the choice most like `word`, or the list of all choices.

    `prefix` stands before the choice named, such as `loss.`.
    """
    options = sorted(choices)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return (
        f", did you mean {prefix + close[0]!r}?"
        if close
        else f"; choose from: {', '.join(options)}"
    )


def choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    """`table[name]`, or a `ConfigError` that names the nearest entry."""
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}{nearest(name, table)}")
    return table[name]


def build(schema: type[Config], values: Mapping[str, Any], where: str = "") -> Any:
    """Validate `values` against `schema`; the first fault becomes a one-line `ConfigError`.

    `where` is the dotted prefix shown before the key, such as `loss`.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, schema, where)) from None


def _explain(error: ValidationError, schema: type[Config], where: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join([*([where] if where else []), *path])
    if first["type"] == "extra_forbidden":
        owner: Any = schema
        for part in path[:-1]:
            owner = owner.model_fields[part].annotation
        return f"unknown key {key}{nearest(path[-1], owner.model_fields, key[: -len(path[-1])])}"
    shown = f" (got {first['input']!r})" if first["type"] != "missing" else ""
    return f"{key}: {first['msg'].removeprefix('Value error, ')}{shown}"
