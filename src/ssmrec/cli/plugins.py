"""Parts of one's own on the command line: modules that add them to the tables, imported first."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from ssmrec.errors import ConfigError

logger = logging.getLogger("ssmrec")
KINDS = ("model", "loss", "sampler")
VARIABLE = "SSMREC_PLUGIN"
"""Modules that are installed, and absolute paths: of files, and FOLDER/MODULE; a comma between several.

Processes that are started inherit it, with what `--plugin` names."""


def load_plugins(names: Sequence[str]) -> None:
    """Import files (`hinge.py`) and modules (`shop.losses`), each once; those of `VARIABLE` too.

    A module that is not installed is looked for in the current folder, which is searched for nothing else.

    Raises:
        ConfigError: one cannot be imported, or `VARIABLE` names one by what folder the command is called in.
    """
    inherited = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in inherited:
        if _is_path(name) and not Path(name).is_absolute():
            raise ConfigError(
                f"{VARIABLE}={name}: would be another file in each folder; set its absolute path"
            )
    every = list(dict.fromkeys([*inherited, *map(_placed, filter(None, map(str.strip, names)))]))
    if not every:
        return
    # Not above: it takes seconds, and a command without plugins may do without.
    from ssmrec import LOSSES, MODELS, SAMPLERS

    for name in every:
        told = f"{VARIABLE}={name}" if name in inherited else f"--plugin {name}"
        before = [dict(table) for table in (MODELS, LOSSES, SAMPLERS)]
        try:
            load = _import_file if name.endswith(".py") else _import_module
            load(Path(name))
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{told}: cannot be imported ({type(error).__name__}: {error}); --debug shows where"
            ) from error
        for kind, table, had in zip(KINDS, (MODELS, LOSSES, SAMPLERS), before, strict=True):
            for part in (part for part, cls in had.items() if table.get(part) is not cls):
                logger.warning("%s: takes the place of the %s %s", told, kind, part)
    os.environ[VARIABLE] = ",".join(every)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or Path(name).name != name


def _placed(name: str) -> str:
    """A name that means the same in every folder: an absolute path, or a module that is installed."""
    if _is_path(name):
        return str(Path(name).resolve())
    here = Path.cwd()  # where `python -m` finds modules as well
    return name if _folder(name) not in (None, here) else str(here / name)


def _folder(module: str) -> Path | None:
    """Where a module, or the package that it is of, is found now; None where it is not."""
    top = module.partition(".")[0]
    try:
        spec = find_spec(top)
    except ValueError:  # it is there, but does not say from where
        return Path(top)
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or []), spec.origin or top]
    return Path(places[0]).parent


def _import_module(name: Path) -> None:
    """One that is installed, or FOLDER/MODULE, which may import what lies beside it as well."""
    if not name.is_absolute():
        if _folder(str(name)) is None:
            raise ModuleNotFoundError("not installed; of one in a folder give the absolute path")
        import_module(str(name))
        return
    if (found := _folder(name.name)) not in (None, name.parent):
        raise ImportError(f"there is a module of this name in {found} already")
    if found is None:
        sys.path.append(str(name.parent))
    try:
        import_module(name.name)
    finally:
        if found is None:
            sys.path.remove(str(name.parent))


def _import_file(file: Path) -> None:
    """A file, under its own name, so that what it defines can be told where it is from."""
    if file.stem in sys.modules:
        if getattr(sys.modules[file.stem], "__file__", None) == str(file):
            return
        raise ImportError(f"there is a module {file.stem} already: give the file another name")
    if not file.is_file():
        raise FileNotFoundError("no such file")
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    sys.modules[file.stem] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
