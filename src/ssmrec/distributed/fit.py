"""What several processes can train together, checked before anything is read."""

from __future__ import annotations

import torch
from torch import nn

from ssmrec.distributed.place import Place
from ssmrec.errors import ConfigError
from ssmrec.losses import LOSSES
from ssmrec.models import Graph
from ssmrec.training import RunConfig
from ssmrec.training.config import closed_form

ROW_BY_ROW = (
    "ssm", "softmax", "bpr", "bce", "sl", "psl", "sl_at_k", "ccl", "mmcl", "sce", "gbce", "popdcl",
    "dcl", "hcl", "ihn", "dpl", "mscl",
)  # fmt: skip
"""Losses whose value of a row depends on that row alone, and which learn nothing of their own."""


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
    if loss not in ROW_BY_ROW:
        own = sorted(name for name in LOSSES if name in ROW_BY_ROW)
        raise ConfigError(
            f"loss={loss} looks at all rows of a batch at once or has parameters of its own, and cannot "
            f"be split over processes: start one, or choose from {', '.join(own)}"
        )
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
