"""What several processes can train together, checked before anything is read."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch
from torch import nn

from ssmrec.data import Interactions
from ssmrec.distributed.place import Place
from ssmrec.errors import ConfigError
from ssmrec.kernels.memory import all_memory
from ssmrec.losses import LOSSES
from ssmrec.models import Graph
from ssmrec.negatives import SAMPLERS
from ssmrec.training import RunConfig
from ssmrec.training.config import closed_form
from ssmrec.training.device import pick_device
from ssmrec.training.room import needed

logger = logging.getLogger("ssmrec")

_SHARE = 0.5
"""Share of the memory that replicated tables may take, with all that is held of them."""


def admit(config: RunConfig, place: Place) -> None:
    """Refuse what several processes cannot train.

    Raises:
        ConfigError: the reason, and what to do.
    """
    name = config.model["name"]
    if config.train.choose_model:
        raise ConfigError(
            "train.budget with no model named tries several models in one process: name one (--model), "
            "or start one process"
        )
    if closed_form(config):
        raise ConfigError(
            f"model={name} is solved at once, by one process: start it without torchrun"
        )
    loss = config.loss["name"]
    if not LOSSES[loss].row_by_row:
        able = sorted(name for name, cls in LOSSES.items() if cls.row_by_row)
        raise ConfigError(
            f"loss={loss} looks at all rows of a batch at once or has parameters of its own (it does not say "
            "row_by_row = True), and cannot be split over processes: start one, or choose from "
            f"{', '.join(able)}"
        )
    if SAMPLERS[config.negatives["name"]].mixes:
        raise ConfigError(
            f"negatives.name={config.negatives['name']} mixes layers of vectors, which several processes do "
            "not exchange: start one process, or choose dns"
        )
    _sharding(config)
    _device(config, place)


def _device(config: RunConfig, place: Place) -> None:
    """One GPU for each process, where GPUs are used."""
    if config.train.device == "cpu" or not torch.cuda.is_available():
        return
    there = torch.cuda.device_count()
    if place.local_size > there:
        raise ConfigError(
            f"{place.local_size} processes on a machine with {there} GPU(s): start one for each GPU, "
            "or set train.device=cpu"
        )


def divides(model: nn.Module, config: RunConfig) -> bool:
    """Whether the layers of a graph backbone are divided by rows among the processes."""
    asked = config.distributed.propagation
    possible = isinstance(getattr(model, "graph", None), Graph)
    on_cpu = next(model.parameters()).device.type == "cpu"
    if asked == "rows" and possible and not on_cpu:
        raise ConfigError("distributed.propagation=rows is for the CPU: leave it at auto on a GPU")
    return asked != "whole" and possible and on_cpu


def shards(config: RunConfig, n_users: int, n_items: int, place: Place) -> bool:
    """Whether the table is to be divided among the processes, as far as this one can tell."""
    asked = config.distributed.tables
    if asked != "auto" or not _shardable(config):
        return asked == "sharded"
    room, whole = _room(config, place), needed(config, n_users, n_items, 0)
    return room is not None and sum(whole.values()) > _SHARE * room


def tell_memory(config: RunConfig, train: Interactions, place: Place, share: float) -> None:
    """Log what this process will hold of tables, pairs and batch, and of how much memory."""
    parts = needed(config, train.n_users, train.n_items, len(train), share)
    room = _room(config, place)
    logger.info(
        "memory of each process: about %.1f MB (%s)%s; tables %s",
        sum(parts.values()) / 1e6,
        ", ".join(f"{name} {size / 1e6:.1f}" for name, size in parts.items()),
        "" if room is None else f" of {room / 1e6:.0f} MB",
        f"sharded over {place.size} processes" if share < 1 else "replicated",
    )


def _shardable(config: RunConfig) -> bool:
    return (
        config.model["name"] == "mf"
        and config.train.optimizer == "adam"
        and config.model["init"] == "xavier"
        and config.loss["name"] != "sl_at_k"  # it reads all vectors
    )


def _sharding(config: RunConfig) -> None:
    if config.distributed.tables == "sharded" and not _shardable(config):
        raise ConfigError(
            "distributed.tables=sharded is for model=mf with model.init=xavier and "
            "train.optimizer=adam, and no loss=sl_at_k: leave it at replicated for others"
        )
    if config.distributed.tables == "sharded":
        for package in ("torchrec", "fbgemm_gpu"):
            if find_spec(package) is None:
                raise ConfigError(lacking(f"no {package}"))


def lacking(what: str) -> str:
    """What to say where TorchRec cannot be used."""
    return (
        f"distributed.tables=sharded needs TorchRec ({what}): `make distributed-cpu`, or "
        "`pip install 'ssmrec[distributed]'` on a GPU"
    )


def _room(config: RunConfig, place: Place) -> float | None:
    """Bytes of memory that this process may take of the machine, or has on its GPU."""
    device = pick_device(config.train.device)
    every = all_memory(device)
    return every if every is None or device.type == "cuda" else every / place.local_size
