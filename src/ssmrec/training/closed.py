"""Models in closed form: one solution in the place of a training loop."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError, RunError
from ssmrec.models import Backbone
from ssmrec.training.config import RunConfig, make_model
from ssmrec.training.device import use_threads
from ssmrec.training.diverged import DivergedError
from ssmrec.training.given import remedy
from ssmrec.training.listener import Listener
from ssmrec.training.loop import State
from ssmrec.training.peers import current
from ssmrec.training.seeds import torch_generator

logger = logging.getLogger("ssmrec")


@dataclass(frozen=True)
class Solution:
    """A model that is ready, with what a `Trainer` knows of it after its training.

    Args:
        model: the backbone. train: what it was solved from, or learned from.
        state: of a solved one no epochs, and one record with the seconds.
    """

    model: Backbone
    train: Interactions
    state: State


def solve(config: RunConfig, train: Interactions, listener: Listener) -> Solution:
    """Solve the closed-form model of resolved settings on the CPU.

    Raises:
        ConfigError: no training pairs, or a catalogue larger than the model allows.
        DivergedError: there is no solution, or it holds NaN or infinity.
        RunError: memory ran out.
    """
    if not len(train):
        raise ConfigError("no training pairs are left: nothing to learn from")
    use_threads(config.train.threads or current().threads)
    start = time.perf_counter()
    name = config.model["name"]
    try:
        model = make_model(config, train, torch_generator(config.seed, "init"))
        with torch.no_grad():
            model.solve()
    except (MemoryError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        said = f"{name}: cannot be solved ({first})"
        if isinstance(error, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
            raise DivergedError(f"{said}; {remedy(config)}") from None
        raise RunError(f"{said}; take a smaller catalogue") from None
    # Sums, as an elementwise check would take another matrix.
    if not all(bool(tensor.sum().isfinite()) for tensor in model.state_dict().values()):
        raise DivergedError(f"{name}: the solution is not finite; {remedy(config)}")
    took = time.perf_counter() - start
    where = " on the CPU" if config.train.device == "cuda" else ""
    listener.note(
        f"{name}: solved{where} from {len(train):,} pairs in {took:.1f} s; "
        "loss, negatives and epochs play no part in it"
    )
    budget = config.train.budget
    if budget is not None and took > budget:
        logger.warning(
            "%s took %.1f s, more than the budget of %g s: a closed form cannot stop half-way; "
            "name no model, and the budget chooses one that fits", name, took, budget,
        )  # fmt: skip
    record = {"epoch": 0, "train_seconds": took}
    return Solution(model, train, State(history=[record], stopped="solved"))
