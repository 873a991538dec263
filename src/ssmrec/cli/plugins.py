"""Parts of one's own on the command line: modules that add them to the tables, imported first."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ssmrec.errors import ConfigError

logger = logging.getLogger("ssmrec")
KINDS = ("model", "loss", "sampler")
VARIABLE = "SSMREC_PLUGIN"
"""Its value is what `--plugin` names, with a comma between several; processes that are started inherit it."""


def load_plugins(names: Sequence[str]) -> None:
    """Import files (`hinge.py`) and modules (`shop.losses`), each once; those of `VARIABLE` too.

    Raises:
        ConfigError: one cannot be imported.
    """
    inherited = os.environ.get(VARIABLE, "").split(",")
    every = [name.strip() for name in (*inherited, *names) if name.strip()]
    every = [str(Path(name).resolve()) if name.endswith(".py") else name for name in every]
    if not every:
        return
    # Not above: it takes seconds, and a command without plugins may do without.
    from ssmrec import LOSSES, MODELS, SAMPLERS

    for name in (every := list(dict.fromkeys(every))):
        before = [dict(table) for table in (MODELS, LOSSES, SAMPLERS)]
        try:
            load = _import_file if name.endswith(".py") else _import_module
            load(name)
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"--plugin {name}: cannot be imported ({type(error).__name__}: {error}); --debug shows where"
            ) from error
        for kind, table, had in zip(KINDS, (MODELS, LOSSES, SAMPLERS), before, strict=True):
            for part in (part for part, cls in had.items() if table.get(part) is not cls):
                logger.warning("--plugin %s: takes the place of the %s %s", name, kind, part)
    os.environ[VARIABLE] = ",".join(every)


def _import_module(name: str) -> None:
    """One that is installed, or lies in the current folder, which `python -m` would search as well."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    import_module(name)


def _import_file(name: str) -> None:
    """A file, under its own name, so that what it defines can be told where it is from."""
    file = Path(name)
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
