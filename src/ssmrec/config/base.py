"""The base of every settings class, and the choice of a part (model, loss, sampler) by its name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ssmrec.errors import ConfigError, cut, shown

LARGEST, SMALLEST = 1e30, 1e-30
"""Sizes of a number that float32, which holds 3e38, can compute with."""
MOST = 2**31 - 1
"""The largest whole number, where a setting has no limit of its own: arrays of so many rows have sizes."""


class Config(BaseModel):
    """Frozen settings. An unknown key is an error that names the nearest valid one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """`yes` and `true` of YAML are no 1; pydantic alone would take them."""
        kinds = _plain_types(cls.model_fields[str(info.field_name)].annotation)
        values = value if isinstance(value, (list, tuple)) else [value]
        if (
            kinds & {int, float}
            and bool not in kinds
            and any(v is True or v is False for v in values)
        ):
            kind = "float" if float in kinds else "int"
            raise PydanticCustomError(f"{kind}_type", "must be a number")  # type: ignore[arg-type]
        return value

    @field_validator("*")
    @classmethod
    def _computable(cls, value: Any, info: ValidationInfo) -> Any:
        """What overflows in float32 would end as NaN, with advice on other settings."""
        field = cls.model_fields[str(info.field_name)]
        if _plain_types(field.annotation) & {str, dict}:  # a name, a moment: not computed with
            return value
        limited = any(getattr(rule, name, None) for rule in field.metadata for name in ("le", "lt"))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and number and not SMALLEST <= abs(number) <= LARGEST:
                raise PydanticCustomError("size", "must be 0, or from 1e-30 to 1e+30 in size")
            if isinstance(number, int) and abs(number) > MOST and not limited:
                raise PydanticCustomError("size", f"must be at most {MOST} in size")  # type: ignore[arg-type]
        return value


def _plain_types(annotation: Any) -> set[Any]:
    """The types a setting may have, members of unions and lists among them; those of a mapping not."""
    if get_origin(annotation) is dict:
        return {dict}
    if get_origin(annotation) is Annotated:
        return _plain_types(get_args(annotation)[0])
    return set().union(*map(_plain_types, get_args(annotation))) or {annotation}


def as_part(value: Any, what: str) -> dict[str, Any]:
    """A part as settings: `"bpr"` is `{"name": "bpr"}`.

    Raises:
        ConfigError: neither a name nor settings.
    """
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{what}: must be a name or settings as `key: value` (got {shown(value)})"
        )
    return dict(value)


def nearest(word: str, choices: Iterable[str], prefix: str = "", suffix: str = "") -> str:
    """`, did you mean 'x'?` for the choice most like `word`, or the list of all choices.

    `prefix` stands before the choice named, such as `loss.`, and `suffix` after it.
    """
    options = sorted(choices)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return (
        f", did you mean {prefix + close[0] + suffix!r}?"
        if close
        else f"; choose from: {', '.join(options)}"
    )


def choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    """`table[name]`, or a `ConfigError` that names the nearest entry."""
    if name not in table:
        raise ConfigError(f"unknown {what} {shown(name)}{nearest(name, table)}")
    return table[name]


def build(schema: type[Config], values: Mapping[str, Any], where: str = "") -> Any:
    """Validate `values` against `schema`; the first fault becomes a one-line `ConfigError`.

    `where` is the dotted prefix shown before the key, such as `loss`.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {WANTED['dict']} (got {shown(values)})")
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, schema, where)) from None


def settings_of(cls: Any, part: Mapping[str, Any], where: str) -> Any:
    """The settings of a part, a class of a registry, in those of a run: all but its name."""
    options = {key: value for key, value in part.items() if key != "name"}
    if not hasattr(cls, "Config"):
        raise ConfigError(
            f"{where}.name={part.get('name')!r}: {cls!r} is no part, but a class with settings "
            "in its Config is one (docs/extending.md)"
        )
    return build(cls.Config, options, where)


def explain(error: ValidationError, schema: type[BaseModel], where: str = "") -> str:
    """The first fault of values for `schema` in one line; `where` as for `build`."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if "[key]" in path:  # of a mapping inside a setting
        held = ".".join([*([where] if where else []), *path[: path.index("[key]") - 1]])
        return f"{held}: has a key that is no text: {shown(first['input'])}"
    if first["type"] in ("extra_forbidden", "invalid_key"):
        key = ".".join([*([where] if where else []), *path])
        owner = _owner(schema, path)
        return (
            f"unknown key {cut(key)}{nearest(path[-1], owner.model_fields, key[: -len(path[-1])])}"
        )
    inside, path = path, _settings_path(schema, path)
    key = ".".join([*([where] if where else []), *path])
    if first["type"] == "missing":
        return f"{key}: {'must be given' if inside == path else WANTED['too']}"
    wanted = _wanted(first, schema, path)
    close = _close(first)
    return f"{key}: {wanted} (got {shown(first['input'])}{close})"


def _owner(schema: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The class whose field the last part of `path` is."""
    owner: Any = schema
    for part in path[:-1]:
        owner = owner.model_fields[part].annotation
    return owner


def _settings_path(schema: type[BaseModel], path: list[str]) -> list[str]:
    """`path` down to the setting: what pydantic adds for a member of a union or a list is cut off."""
    owner: Any = schema
    for depth, part in enumerate(path):
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
            return path[:depth]
        field = owner.model_fields.get(part)
        owner = field.annotation if field is not None else None
    return path


WANTED = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
    "dict": "must hold settings as `key: value`",
    "model": "must hold settings as `key: value`",
    "tuple": "must be a list",
    "list": "must be a list",
    "too": "must hold more values",
}
"""What a setting must be, by the first word of pydantic's name for the fault."""
_BOUNDS = ("gt", "ge", "lt", "le")


def _wanted(fault: Any, schema: type[BaseModel], path: list[str]) -> str:
    """What a value must be, in our words, with the whole range where there is one."""
    kind = fault["type"]
    if kind == "too_long":
        return f"must hold at most {fault['ctx']['max_length']} values"
    if kind == "value_error":
        return fault["msg"].removeprefix("Value error, ")
    if kind == "literal_error":
        return f"must be one of {', '.join(_choices(fault))}"
    limits = {name: value for name, value in _limits(schema, path).items() if value is not None}
    limits = limits or {
        name: fault["ctx"][name] for name in _BOUNDS if name in fault.get("ctx", {})
    }
    word = kind.partition("_")[0]
    text = WANTED.get(word, "")
    if word in ("greater", "less") or (limits and word in ("int", "float", "finite")):
        text = text or "must be"
        return f"{text} {_range(limits)}" if limits else fault["msg"]
    return text or fault["msg"]


def _limits(schema: type[BaseModel], path: list[str]) -> dict[str, Any]:
    """Bounds of a setting: gt, ge, lt, le, each None where there is none."""
    owner: Any = schema
    for part in path[:-1]:
        owner = owner.model_fields[part].annotation
    metadata = owner.model_fields[path[-1]].metadata if path else []
    return {
        name: next((found for m in metadata if (found := getattr(m, name, None)) is not None), None)
        for name in _BOUNDS
    }


def _range(limits: Mapping[str, Any]) -> str:
    """`above 0 and below 1`, `from 1 to 16`, `at least 1`."""
    if "ge" in limits and "le" in limits:
        return f"from {limits['ge']} to {limits['le']}"
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return " and ".join(f"{words[name]} {value}" for name, value in limits.items())


def _choices(fault: Any) -> list[str]:
    """The allowed words of a fault such as "'a', 'b' or 'c'"."""
    return [
        word for word in fault["ctx"]["expected"].split("'") if word.strip(" ,") not in ("", "or")
    ]


def _close(fault: Any) -> str:
    """`, did you mean 'x'?` for a wrong word, where one of the choices is like it."""
    if fault["type"] != "literal_error" or not isinstance(fault["input"], str):
        return ""
    close = difflib.get_close_matches(fault["input"], _choices(fault), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""
