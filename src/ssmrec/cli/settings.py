"""`ssmrec settings`: every setting with its default, its values and its meaning, from the classes."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssmrec.config import Config, nearest
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RunConfig
from ssmrec.training.config import completed

PARTS: dict[str, dict[str, Any]] = {"model": MODELS, "loss": LOSSES, "negatives": SAMPLERS}
OWN: dict[str, str] = {
    "model.name": "the backbone",
    "loss.name": "the loss",
    "negatives.name": "the sampler; `auto` takes the one that fits the loss",
    "seed": "decides all randomness",
}
BOUNDS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}
INTRODUCTION = """# Settings

Every setting, made from the settings classes by `ssmrec settings --markdown`. The names are the same
in a YAML file (nested), after `--set` (dotted), and in Python. `model`, `loss` and `negatives` are parts
chosen by name: the section `loss.bpr` holds the keys there are with `loss.name=bpr`. `null` is not set.
Beyond the values named, a number is 0 or 1e-30 to 1e+30 in size, and a whole one at most 2147483647.
"""


@dataclass(frozen=True)
class Setting:
    """One row: dotted key, default, allowed values, meaning."""

    key: str
    default: str
    values: str
    meaning: str


def settings(
    prefix: Annotated[
        str | None, typer.Argument(help="Only keys that begin so, such as data or loss.ssm.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
) -> None:
    """Every setting: default, allowed values, meaning.

    Examples:

      ssmrec settings data.split

      ssmrec settings negatives.popularity
    """
    sections = dict(_chosen(prefix))
    if markdown:
        typer.echo(page(sections), nl=False)
        return
    for title, rows in sections.items():
        table = Table(title=escape(title), title_justify="left")
        table.add_column("setting", no_wrap=True)
        for name in ("default", "values", "meaning"):
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, (row.key, row.default, row.values, row.meaning)))
        Console().print(table)


def page(sections: dict[str, list[Setting]] | None = None) -> str:
    """The sections (default: all) as a Markdown page."""
    lines = [INTRODUCTION]
    for title, rows in (sections or dict(_sections())).items():
        lines += [
            f"## {title}",
            "",
            "| setting | default | values | meaning |",
            "|---|---|---|---|",
        ]
        for row in rows:
            default, values, meaning = (
                re.sub(r"([|*])", r"\\\1", text) for text in (row.default, row.values, row.meaning)
            )
            lines.append(f"| `{row.key}` | `{default}` | {values} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _chosen(prefix: str | None) -> Iterator[tuple[str, list[Setting]]]:
    """Sections with the keys below a prefix; `loss.ssm` is the section of that part."""
    sections = dict(_sections())
    if prefix is None:
        yield from sections.items()
        return
    found = False
    for title, rows in sections.items():
        below = title == prefix or title.startswith(f"{prefix}.")
        kept = [r for r in rows if below or r.key == prefix or r.key.startswith(f"{prefix}.")]
        if kept:
            found = True
            yield title, kept
    if not found:
        names = {*sections, *(row.key for rows in sections.values() for row in rows)}
        raise ConfigError(f"no setting {prefix!r}{nearest(prefix, names)}")


def _sections() -> Iterator[tuple[str, list[Setting]]]:
    top = []
    for name, field in RunConfig.model_fields.items():
        if name in PARTS:
            yield name, [_name_of(name, field)]
            for part, cls in PARTS[name].items():
                if rows := list(_rows(cls.Config, name)):
                    yield f"{name}.{part}", rows
        elif _is_config(field.annotation):
            yield from _of_class(name, field.annotation)
        else:
            top.append(_setting(name, field, ""))
    yield "top level", top


def _of_class(where: str, schema: Any) -> Iterator[tuple[str, list[Setting]]]:
    yield where, list(_rows(schema, where))
    for name, field in schema.model_fields.items():
        if _is_config(field.annotation):
            yield from _of_class(f"{where}.{name}", field.annotation)


def _rows(schema: type[Config], where: str) -> Iterator[Setting]:
    texts = meanings(schema)
    for name, field in schema.model_fields.items():
        if not _is_config(field.annotation):
            yield _setting(f"{where}.{name}", field, texts.get(name, ""))


def _name_of(part: str, field: FieldInfo) -> Setting:
    names = [*PARTS[part], *(["auto"] if part == "negatives" else [])]
    key = f"{part}.name"
    default = field.default.get("name") or getattr(completed({}), part)["name"]
    return Setting(key, default, ", ".join(names), OWN[key])


def _setting(key: str, field: FieldInfo, meaning: str) -> Setting:
    return Setting(key, _shown(field.default), _values(field), meaning or OWN.get(key, ""))


def meanings(schema: type[Config]) -> dict[str, str]:
    """The text of each field in the `Attributes:` part of the docstrings, those of bases first."""
    found: dict[str, str] = {}
    for cls in reversed(schema.__mro__):
        text = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
        _, _, body = text.partition("Attributes:\n")
        body = inspect.cleandoc("\n" + body.split("\n\n")[0])
        for entry in re.split(r"\n(?=\S)", body):
            names, colon, meaning = entry.partition(": ")
            if colon:
                found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()).rstrip("."))
    return {name: text for name, text in found.items() if name in schema.model_fields}


def _values(field: FieldInfo) -> str:
    return " ".join([_type(field.annotation), ", ".join(_bounds(field))]).strip()


def _bounds(field: FieldInfo) -> list[str]:
    return [
        shape.format(getattr(rule, name))
        for rule in field.metadata
        for name, shape in BOUNDS.items()
        if hasattr(rule, name)
    ]


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_type(arguments[0]), *_bounds(arguments[1])])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin is tuple:
        inner = [_type(a) for a in arguments if a is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"[{', '.join(inner)}]"
    names = {str: "text", int: "integer", float: "number", bool: "true, false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _shown(value: Any) -> str:
    """As it is written in YAML."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)
