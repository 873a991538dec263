"""How much memory a training will take, from its sizes alone; told before it begins when there is less."""

from __future__ import annotations

import math

from ssmrec.config import settings_of
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
_EDGES = 16
"""The part of it that each of several processes holds of its own, where there is a graph."""
_SHARED = 36
"""The part of it that all processes of a machine hold together."""

_ROW = 5
"""Vectors that a row of a batch takes at the peak: user and item, prepared and divided, with gradients."""
_DRAW = 64
"""Bytes of a candidate drawn: random numbers, ids, places, and the tables that find known ones."""
_OFTEN = 100
"""Times that an item is drawn in a step from which on it is told."""
_MANY_NUMBERS = 2**25
"""Numbers of a table from which on Adam takes longer on a CPU than the rest of a step: some 25 milliseconds."""
_OWN = ("dns", "ahns", "mixgcf", "given")
"""Samplers that draw for each row, and have no setting that says so."""


def too_little(config: RunConfig, n_users: int, n_items: int, n_pairs: int) -> str:
    """What to say where a training needs more memory than is free on this machine; else nothing."""
    peers, device = current(), pick_device(config.train.device)
    share = peers.share(config, n_users, n_items)
    free, parts = free_memory(device), needed(config, n_users, n_items, n_pairs, share)
    total, here = sum(parts.values()), peers.local if device.type == "cpu" else 1
    if free is None or here * total <= free:
        return ""
    told = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
    each = f" in each of {here} processes" if here > 1 else ""
    return (
        f"this training needs about {total / 1e9:.1f} GB of memory{each} ({told}), and {free / 1e9:.1f} GB "
        f"are free: {_remedy(config, max(parts, key=lambda name: parts[name]))}"
    )


def _remedy(config: RunConfig, largest: str) -> str:
    if largest == "batch":
        return "lower train.batch_size, model.dim or the numbers of negatives"
    if closed_form(config):
        return "drop rare items with data.min_item, or take model=lightgcn"
    found = "lower model.dim, drop rare users and items with data.min_user and data.min_item"
    if MODELS[config.model["name"]].row_gradients:
        found += ", take train.optimizer=lazy_adam, or divide the tables (docs/howto/several-machines.md)"
    return found


def needed(
    config: RunConfig, n_users: int, n_items: int, n_pairs: int, share: float = 1.0
) -> dict[str, int]:
    """Bytes at the peak of a training of resolved settings in this process, by what they are for.

    For mf and lightgcn within a factor of 1.5 of what was measured (tests/training/test_room.py), where
    it is more than some 100 MB; other models were not measured.

    Args:
        n_pairs: to learn from, or to choose the epoch on.
        share: of the tables that this process holds.
    """
    cls, whole = MODELS[config.model["name"]], model_bytes(config, n_users, n_items)
    if cls.own_scores:
        return {"item-item matrix": whole, "pairs": _PAIR * n_pairs}
    tables = int(share * whole)
    pairs = _pair(cls.message_passing) * n_pairs
    if cls.closed_form:
        return {"vectors": 3 * tables, "pairs": pairs}
    ranking = int(
        share * _NUMBER * (n_users + n_items) * _width(config)
    )  # ngcf: layers side by side
    watched = config.train.protocol != "fixed"
    lazy = config.train.optimizer == "lazy_adam"
    return {
        "tables": (2 if watched else 1) * tables,
        "optimiser": (2 if lazy else 3) * tables,
        "vectors": (3 if cls.message_passing else 2) * max(tables, ranking),
        "pairs": pairs,
        "batch": _batch(config, n_items, n_pairs) // current().size,
    }


def _pair(graph: bool) -> int:
    """Bytes of a pair in this process."""
    peers = current()
    return _PAIR if peers.alone else (_EDGES if graph else 0) + _SHARED // peers.local


def model_bytes(config: RunConfig, n_users: int, n_items: int) -> int:
    """Of all tensors of the model, which grow with users, items or neither; 0 where that is unknown."""
    if MODELS[config.model["name"]].own_scores:
        return _NUMBER * n_items**2
    found = [sum(map(math.prod, one.values())) for one in tried(config)]
    if not found:
        return 0
    first, more_users, more_items = found
    per_user, per_item = more_users - first, more_items - first
    users, items = PROBES[0]
    return _NUMBER * (first + per_user * (n_users - users) + per_item * (n_items - items))


def _batch(config: RunConfig, n_items: int, n_pairs: int) -> int:
    """What a step takes: vectors of rows and candidates, with gradients; logits; draws."""
    size, chosen = min(config.train.batch_size, n_pairs), config.negatives
    sampler, loss = SAMPLERS[chosen["name"]], config.loss
    n = n_items if chosen["name"] == "all" else chosen.get("pool") or chosen.get("n") or 0
    own = chosen["name"] in _OWN or not chosen.get("shared", True)
    drawn = size * n if own else n
    once = sampler.chooses  # a pool to choose from has no gradient, what is chosen has
    vectors = _ROW * size + (1 if once else 2) * drawn + 2 * size * loss.get("n_positives", 0)
    vectors += 2 * size * min(n, chosen.get("n", n)) if once else 0
    logits = size * (n if own or chosen["name"] in ("all", "uniform", "popularity") else n + size)
    fused = hasattr(LOSSES[loss["name"]], "fused") and not own and not once
    logits = min(logits, KEEP) if fused else 2 * logits
    draws = _DRAW * (drawn + loss.get("sampled", 0))
    return _NUMBER * (vectors * _width(config) + logits) + draws


def _width(config: RunConfig) -> int:
    """Numbers of a vector; 1 where that is unknown."""
    cls = MODELS[config.model["name"]]
    return cls.width(settings_of(cls, config.model, "model")) or 1


def too_often(config: RunConfig, n_items: int) -> str:
    """What to say where a step draws very many more negatives than there are items; else nothing."""
    key = "pool" if "pool" in config.negatives else "n"
    often = config.negatives.get(key, 0) // max(n_items, 1)
    if often < _OFTEN:
        return ""
    return (
        f"negatives.{key}={config.negatives[key]} takes each of the {n_items:,} items about {often:,} times in "
        "a step: lower it, or take negatives.name=all"
    )


def moves_all(config: RunConfig, n_users: int, n_items: int) -> str:
    """What to say where Adam, on a CPU, takes longer to move all rows than the rest of a step; else nothing."""
    able = MODELS[config.model["name"]].row_gradients and config.train.optimizer == "adam"
    if not able or not current().alone or pick_device(config.train.device).type != "cpu":
        return ""
    rows = n_users + n_items
    if rows * config.model["dim"] < _MANY_NUMBERS:
        return ""
    return (
        f"train.optimizer=adam moves all {rows:,} rows at every step; lazy_adam moves those of the batch, in a "
        "fraction of the time (and reached 1.2 % less NDCG@20 on Gowalla)"
    )
