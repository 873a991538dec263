"""How much memory a training will take, from its sizes alone; told before it begins when there is less."""

from __future__ import annotations

import math

from ssmrec.kernels.memory import free_memory
from ssmrec.kernels.softmax import KEEP
from ssmrec.losses import LOSSES
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training.ahead import PROBES, tried
from ssmrec.training.config import RunConfig, closed_form
from ssmrec.training.device import pick_device
from ssmrec.training.peers import current

_NUMBER = 4
_PAIR = 72
"""Bytes of a pair: its edges both ways, its place in the order of an epoch, and what sorting takes."""

_OWN = ("dns", "ahns", "given")
"""Samplers that draw for each row, and have no setting that says so."""


def too_little(config: RunConfig, n_users: int, n_items: int, n_pairs: int) -> str:
    """What to say where a training in one process needs more memory than is free; else nothing."""
    if not current().alone:
        return ""
    device = pick_device(config.train.device)
    free, parts = free_memory(device), needed(config, n_users, n_items, n_pairs)
    total = sum(parts.values())
    if free is None or total <= free:
        return ""
    told = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
    return (
        f"this training needs about {total / 1e9:.1f} GB of memory ({told}), and {free / 1e9:.1f} GB are "
        f"free: {_remedy(config, max(parts, key=lambda name: parts[name]))}"
    )


def _remedy(config: RunConfig, largest: str) -> str:
    if largest == "batch":
        return "lower train.batch_size, or the numbers of negatives"
    if closed_form(config):
        return "drop rare items with data.min_item, or take model=lightgcn"
    found = "lower model.dim, drop rare users and items with data.min_user and data.min_item"
    if MODELS[config.model["name"]].row_gradients:
        found += ", take train.optimizer=lazy_adam, or divide the tables (docs/howto/several-machines.md)"
    return found


def needed(config: RunConfig, n_users: int, n_items: int, n_pairs: int) -> dict[str, int]:
    """Bytes at the peak of a training of resolved settings in one process, by what they are for.

    For mf and lightgcn within a factor of 1.5 of what was measured (tests/training/test_room.py), where
    it is more than some 100 MB; other models were not measured.

    Args:
        n_pairs: to learn from, or to choose the epoch on.
    """
    cls = MODELS[config.model["name"]]
    if cls.own_scores:
        return {"item-item matrices": 3 * _NUMBER * n_items**2, "pairs": _PAIR * n_pairs}
    tables = _NUMBER * _numbers(config, n_users, n_items)
    pairs = _PAIR * n_pairs
    if cls.closed_form:
        return {"vectors": 3 * tables, "pairs": pairs}
    watched = config.train.protocol != "fixed"
    lazy = config.train.optimizer == "lazy_adam"
    return {
        "tables": (2 if watched else 1) * tables,
        "optimiser": (2 if lazy else 3) * tables,
        "vectors": (3 if cls.message_passing else 2) * tables,
        "pairs": pairs,
        "batch": _batch(config, n_items, n_pairs),
    }


def _numbers(config: RunConfig, n_users: int, n_items: int) -> int:
    """Of all tensors of the model, which grow with users, items or neither; 0 where that is unknown."""
    found = [sum(map(math.prod, one.values())) for one in tried(config)]
    if not found:
        return 0
    first, more_users, more_items = found
    per_user, per_item = more_users - first, more_items - first
    users, items = PROBES[0]
    return first + per_user * (n_users - users) + per_item * (n_items - items)


def _batch(config: RunConfig, n_items: int, n_pairs: int) -> int:
    """Logits, with their gradients where no kernel takes these in place; vectors of own negatives."""
    size, chosen = min(config.train.batch_size, n_pairs), config.negatives
    n = n_items if chosen["name"] == "all" else chosen.get("pool") or chosen.get("n") or size
    if chosen["name"] in _OWN or not chosen.get("shared", True):
        once = SAMPLERS[chosen["name"]].chooses  # a pool to choose from has no gradient
        return (1 if once else 2) * _NUMBER * size * n * config.model.get("dim", 1)
    if hasattr(LOSSES[config.loss["name"]], "fused"):
        return _NUMBER * min(size * n, KEEP)
    return 2 * _NUMBER * size * n
