"""ssmrec: item recommenders from implicit feedback, with the sampled softmax loss at the centre.

import ssmrec

split = ssmrec.prepare("online-retail")
rec = ssmrec.Recommender("lightgcn", "ssm").fit(split.train, split.valid)
rec.evaluate(split.test).values["ndcg@20"]
rec.recommend([17850, 13047], k=10)
"""

from __future__ import annotations

import os
import sys

# torch and numba each bring a pool of OpenMP threads. By default an idle pool spins for milliseconds
# and takes the cores from the other one (ten times slower steps on a busy machine), so idle threads
# sleep at once. This must be set before either library is loaded; a setting of the user's wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _without_traceback(kind, error, trace) -> None:  # type: ignore[no-untyped-def]
    """Ctrl-C while the libraries load is one line; every other fault is shown as always."""
    if issubclass(kind, KeyboardInterrupt) and "--debug" not in sys.argv:
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


_program = os.path.basename(sys.argv[0] if sys.argv else "")
_is_command = _program in ("ssmrec", "ssmrec.exe") or sys.orig_argv[1:3] == ["-m", "ssmrec"]
"""Whether this process is the command, and not a user's program."""
if _is_command:
    sys.excepthook = _without_traceback

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssmrec.data import Interactions, Split, Vocabulary, load, prepare, split
    from ssmrec.errors import ConfigError, DataError, RunError, SsmrecError
    from ssmrec.losses import LOSSES, Loss
    from ssmrec.models import MODELS, Backbone
    from ssmrec.negatives import SAMPLERS, Sampler
    from ssmrec.recommender import Recommender
    from ssmrec.tuning import tune

__version__ = version("ssmrec")

_HOMES = {
    "data": ("Interactions", "Split", "Vocabulary", "load", "prepare", "split"),
    "errors": ("ConfigError", "DataError", "RunError", "SsmrecError"),
    "losses": ("LOSSES", "Loss"),
    "models": ("MODELS", "Backbone"),
    "negatives": ("SAMPLERS", "Sampler"),
    "recommender": ("Recommender",),
    "tuning": ("tune",),
}
"""Where each name is from. The command loads them at their first use: torch alone takes seconds."""

__all__ = [
    "LOSSES", "MODELS", "SAMPLERS", "Backbone", "ConfigError", "DataError", "Interactions", "Loss",
    "Recommender", "RunError", "Sampler", "Split", "SsmrecError", "Vocabulary", "__version__",
    "load", "prepare", "split", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is not None:
        value = globals()[name] = getattr(import_module(f"ssmrec.{home}"), name)
        return value
    if not name.startswith("_") and find_spec(f"ssmrec.{name}") is not None:
        return import_module(f"ssmrec.{name}")
    raise AttributeError(f"module 'ssmrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    rooms = (room.name for room in iter_modules(__path__))
    return sorted({*__all__, *(name for name in rooms if not name.startswith("_"))})


# A program loads them at once: threads that import parts of a package at the same time may meet half of one.
if not _is_command:
    for _home in _HOMES:
        import_module(f"ssmrec.{_home}")
