"""Settings from a YAML file or a recipe, then `key=value` overrides."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ssmrec.errors import ConfigError, cut, shown

_RECIPES = resources.files("ssmrec.config") / "recipes"


def recipes() -> dict[str, str]:
    """Names of the shipped recipes, each with the first line of its comment."""
    found = {}
    for file in sorted(_RECIPES.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            first = file.read_text().splitlines()[0]
            found[file.name.removesuffix(".yaml")] = first.removeprefix("#").strip()
    return found


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a shipped recipe, or of a YAML file when `name` is a path to one.

    Raises:
        ConfigError: no such recipe or file, or no valid YAML.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return read_yaml(Path(name))
    if name not in recipes():
        close = difflib.get_close_matches(name, recipes(), n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(close)}" if close else "list them with: ssmrec recipes"
        raise ConfigError(f"no recipe named {shown(name)}; {hint}")
    return _parse((_RECIPES / f"{name}.yaml").read_text(), name)


def read_yaml(
    path: Path, remedy: str = "name a YAML file, or a recipe of `ssmrec recipes`"
) -> dict[str, Any]:
    """Settings of a YAML file; only plain values, no tags. `remedy` is for one that cannot be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}"
        ) from None
    return _parse(text, str(path))


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: plain values, no tags, within the limits of settings.

    Raises:
        yaml.YAMLError: no valid YAML, nested too deeply, or aliases that expand too far.
        ValueError: it looks like a date, but is none.
    """
    return _Limited(text).get_single_data()


def override(values: Mapping[str, Any], pairs: Iterable[str]) -> dict[str, Any]:
    """`values` with each dotted `key=value` set; the value is read as YAML (`1e-3`, `true`, `[5, 20]`).

    A part whose `name` changes starts afresh, as in `merged`, with what the pairs set beside it.

    Raises:
        ConfigError: a pair without `=`, or a key below a value that has no keys.
    """
    out = _copy(values)
    for pair in sorted(
        pairs, key=lambda pair: not pair.partition("=")[0].strip().endswith(".name")
    ):
        key, found, text = pair.partition("=")
        if not found or not key.strip():
            raise ConfigError(
                f"--set {cut(pair)}: must look like key=value, as in loss.temperature=0.1"
            )
        *parents, last = key.strip().split(".")
        level, value = out, _value(text)
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ConfigError(
                    f"--set {cut(pair)}: {cut(parent)} is a value and has no keys below it"
                )
        if last == "name" and level.get(last, value) != value:
            level.clear()
        level[last] = value
    return out


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win, key by key; a part whose `name` changes starts afresh.

    Raises:
        ConfigError: a layer has keys below what is a single value in an earlier one.
    """
    out: dict[str, Any] = {}
    for layer in layers:
        _merge(out, layer, "")
    return out


def _merge(out: dict[str, Any], layer: Mapping[str, Any], prefix: str) -> None:
    for key, value in layer.items():
        old = out.get(key)
        if not isinstance(value, Mapping):
            out[key] = value
        elif isinstance(old, dict):
            if "name" in value and value["name"] != old.get("name", value["name"]):
                out[key] = _copy(value)
            else:
                _merge(old, value, f"{prefix}{key}.")
        elif old is None:
            out[key] = _copy(value)
        else:  # it would be lost without a word
            raise ConfigError(
                f"{prefix}{key}: must hold settings as `key: value` (got {shown(old)})"
            )


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }


def _value(text: str) -> Any:
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError):  # ValueError: looks like a date, but is none
        return text
    plain = text.strip()
    if plain[:1] in ("'", '"'):
        return value
    if value is None and plain.lower() not in ("", "~", "null"):
        return plain  # "#id" is no comment
    if isinstance(value, str) and plain.startswith(value):
        value = plain  # nor is the end of "Customer #", and "|" begins no text
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


_DEPTH, _EXPANDED = 50, 10_000
"""Most levels of a YAML text, and most values that its aliases add where they are written out."""


class LimitError(yaml.YAMLError):
    """Levels or aliases beyond the limits: a few lines can stand for gigabytes."""


class _Limited(yaml.SafeLoader):
    """The safe loader within `_DEPTH` and `_EXPANDED`; without aliases a text may hold any number of values."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEPTH:
            raise LimitError(f"is nested more than {_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        node, sizes = super().get_single_node(), dict[int, float]()
        if node is not None and _expanded(node, sizes) > len(sizes) + _EXPANDED:
            raise LimitError(
                f"has aliases (*name) that stand for more than {_EXPANDED:,} values: write out what is needed"
            )
        return node


def _expanded(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Number of nodes with all aliases written out; infinite where one holds itself. `sizes`: by node."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # until it is known
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = isinstance(node, yaml.MappingNode)
        held = [one for pair in inner for one in pair] if pairs else inner
        sizes[id(node)] = 1 + sum(_expanded(one, sizes) for one in held)
    return sizes[id(node)]


class _TwiceError(Exception):
    """A key that stands twice in one mapping."""


class _Once(_Limited):
    """The same loader, for which a repeated key is an error: plain YAML drops the first one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and key.tag != "tag:yaml.org,2002:merge":
                raise _TwiceError(
                    f"{shown(name)} stands at line {lines[name]} and again at line {line}"
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        values = _Once(text).get_single_data()
    except _TwiceError as error:
        raise ConfigError(f"{where}: {error}; put all below one of them") from None
    except LimitError as error:
        raise ConfigError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = "" if line is None else f" at line {line + 1}"
        raise ConfigError(f"{where}: not valid YAML{at}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: holds a value that cannot be read ({cut(str(error))})"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: must hold settings as `key: value`")
    return values
