"""ssmrec: item recommenders from implicit feedback, with the sampled softmax loss at the centre.

import ssmrec

split = ssmrec.prepare("online-retail")
rec = ssmrec.Recommender("lightgcn", "ssm").fit(split.train, split.valid)
rec.evaluate(split.test).values["ndcg@20"]
rec.recommend([17850, 13047], k=10)
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
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

# torch and numba each bring a pool of OpenMP threads. By default an idle pool spins for milliseconds
# and takes the cores from the other one (ten times slower steps on a busy machine), so idle threads
# sleep at once. This must be set before either library is loaded; a setting of the user's wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _without_traceback(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C while the libraries load is one line; every other fault is shown as always."""
    if issubclass(kind, KeyboardInterrupt) and "--debug" not in sys.argv:
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0] if sys.argv else "").stem == "ssmrec" or sys.orig_argv[1:3] == ["-m", "ssmrec"]:
    sys.excepthook = _without_traceback  # this process is the command, and not a user's program

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
"""Where each name is from. They are loaded at their first use: torch alone takes seconds."""

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
    return sorted({*globals(), *__all__, *(room.name for room in iter_modules(__path__))})
