"""Warm start: a training that begins with what an earlier run has learned.

Rows are matched by id, never by position.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.errors import ConfigError
from ssmrec.models import Backbone
from ssmrec.training.ahead import PROBES, shapes
from ssmrec.training.checkpoint import Checkpoint
from ssmrec.training.config import RunConfig
from ssmrec.training.loop import Trainer
from ssmrec.training.protocols import Trained
from ssmrec.updating.grown import matched

Array = np.ndarray
Side = Literal["user", "item", "node"]

_KINDS: dict[tuple[bool, bool], tuple[Side, int]] = {
    (True, False): ("user", 3), (False, True): ("item", 5), (True, True): ("node", 8),
}  # fmt: skip
"""By whether one more user, and one more item, makes a tensor larger: what its rows are, and their number."""


def begin(
    old: Trained, model: Backbone, train: Interactions, config: RunConfig
) -> dict[str, Tensor]:
    """The state of `model` (of `config`, made for `train`) with all that `old` has learned.

    Tables with a row for each user, item or node get the rows of those that are known; in a table of
    nodes, new users are begun from their known items (`from_items`). What else is new keeps the row
    that `model` has; all other tensors are copied.
    """
    users = matched(old.train.users, train.users, old.train.user_degrees > 0)
    items = matched(old.train.items, train.items, old.train.item_degrees > 0)
    nodes = np.concatenate([users, np.where(items < 0, -1, items + old.train.n_users)])
    rows: dict[Side, Array] = {"user": users, "item": items, "node": nodes}
    before = {name: tensor.detach().cpu() for name, tensor in old.model.state_dict().items()}
    sides, state = row_sides(config), {}
    for name, tensor in model.state_dict().items():
        side = sides[name]
        if side is None:
            state[name] = before[name]
            continue
        known = rows[side] >= 0
        table = tensor.detach().cpu().clone()
        table[torch.from_numpy(known)] = before[name][torch.from_numpy(rows[side][known])]
        if side == "node" and table.ndim == 2 and table.is_floating_point():
            table = from_items(table, known, train)
        state[name] = table
    return state


def row_sides(config: RunConfig) -> dict[str, Side | None]:
    """For each tensor of a model whether its rows are users, items or both (`node`); None for others.

    Found by making small models: one user or item more makes one row more. So a tensor that happens
    to be as long as there are users is not taken for a table of them.

    Raises:
        ConfigError: a tensor depends on the users or items in another way.
    """
    first, *others = (shapes(config, *sizes) for sizes in PROBES)
    found: dict[str, Side | None] = {}
    for name, shape in first.items():
        grown = [other[name] != shape for other in others]
        if not any(grown):
            found[name] = None
            continue
        side, size = _KINDS[grown[0], grown[1]]
        if shape[0] != size or any(other[name][1:] != shape[1:] for other in others):
            raise ConfigError(
                f"model.name={config.model['name']}: {name} has no row for each {side}, so that no "
                "training can begin with it on other users or items: train afresh"
            )
        found[name] = side
    return found


def from_items(table: Tensor, known: Array, train: Interactions) -> Tensor:
    """A node table (n, d) in which new users with known items are begun from those.

    Such a row keeps its length and gets the direction of sum_i degree(i)^-1/2 e_i over the known items
    i of the user, so that the popular ones do not decide it. New items are not begun from their users:
    they took places in many lists that they had not earned (docs/update.md).

    Args:
        known: bool (n,), rows of users and then items that are not new.
    """
    m, learned = train.n_users, torch.from_numpy(known)
    users = torch.from_numpy(train.rows.astype(np.int64))
    items = torch.from_numpy(train.indices.astype(np.int64))
    weights = torch.from_numpy(train.item_degrees).clamp_min(1).to(table.dtype).pow(-0.5)
    take = ~learned[users] & learned[items + m]
    users, items = users[take], items[take]
    total = torch.zeros_like(table[:m]).index_add_(
        0, users, weights[items, None] * table[items + m]
    )
    length = total.norm(dim=1, keepdim=True)
    begun = torch.where(length > 0, table[:m].norm(dim=1, keepdim=True) * total / length, table[:m])
    return torch.cat([begun, table[m:]])


class WarmStart(Checkpoint):
    """A checkpoint whose trainings begin with what a run has learned, where they are not resumed.

    The start is a candidate itself: where validation pairs choose the epoch, it is epoch 0.

    Args:
        old: the run to begin from; the others as for `Checkpoint`.

    Attributes:
        values: the watched metric of each phase's start, where it was measured.
        seconds: that this took.
    """

    def __init__(
        self, old: Trained, folder: Path, data: str, settings: Mapping[str, Any], resume: bool
    ) -> None:
        super().__init__(folder, data, settings, resume)
        self.old = old
        self.values: dict[str, float] = {}
        self.seconds = 0.0

    def restore(self, phase: str, trainer: Trainer) -> None:
        """Set `trainer` to the saved state if this `phase` was saved, else to the run's."""
        trainer.learning.warm = True
        if phase not in self.phases or (trainer.watch and phase not in self.values):
            self._begin(phase, trainer)
        super().restore(phase, trainer)

    def _begin(self, phase: str, trainer: Trainer) -> None:
        """Set `trainer` to the start of a phase, and measure it, also for one that is resumed."""
        trainer.model.load_state_dict(begin(self.old, trainer.model, trainer.train, trainer.config))
        start, record = time.perf_counter(), {}
        trainer._evaluate(record)
        took = time.perf_counter() - start
        trainer.start += took  # evaluations do not count
        metric = trainer.config.train.metric
        if metric in record:
            self.values[phase] = record[metric]
            self.seconds += took
            trainer.listener.note(f"{phase}: the warm start has {metric} {record[metric]:.4f}")
