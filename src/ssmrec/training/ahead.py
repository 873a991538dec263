"""What is known to fail from the settings and the machine alone, refused before data are read."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from ssmrec.config import settings_of
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, SsmrecError
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training.config import RunConfig, closed_form, make_model
from ssmrec.training.device import Products, pick_device
from ssmrec.training.optimizers import check_optimizer

PROBES = (3, 5), (4, 5), (3, 6)
"""Numbers of users and items of the models that tell which tensors have a row for each of them."""


def refuse_early(config: RunConfig) -> None:
    """Refuse resolved settings with which no training can begin on this machine, whatever the data.

    Reading a run does not ask this: its device, or a file of negatives, may be gone.

    Raises:
        ConfigError: no validation part for a protocol that needs one, or as `refuse_parts`.
        DataError: as `refuse_parts`.
    """
    protocol = config.train.protocol
    if protocol in ("valid", "refit") and config.data.split.valid == 0:
        raise ConfigError(no_validation(protocol))
    refuse_parts(config)


def refuse_parts(config: RunConfig) -> None:
    """As `refuse_early`, without its look at the split.

    Raises:
        ConfigError: a device, a precision or a library that is not here, settings that the model
            refuses, an optimiser that does not fit it, prefixes longer than a vector.
        DataError: a file of negatives that does not exist.
    """
    model, sampler = MODELS[config.model["name"]], SAMPLERS[config.negatives["name"]]
    model.check()
    if closed_form(config):
        return
    Products(config.train.precision, pick_device(config.train.device))
    check_optimizer(config.train.optimizer, model)
    sampler.check(settings_of(sampler, config.negatives, "negatives"))
    tried(config)
    width = model.width(settings_of(model, config.model, "model"))
    longest = max(config.loss.get("prefixes", ()), default=0)
    if width is not None and longest > width:
        raise ConfigError(too_long(longest, width))


def shapes(config: RunConfig, n_users: int, n_items: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a model for so many users and items, by making it."""
    users, items = (Vocabulary(pl.Series(np.arange(n), dtype=pl.Int64)) for n in (n_users, n_items))
    pair = np.zeros(1, dtype=np.int64)
    tiny = Interactions.from_pairs(pair, pair, users, items)
    model = make_model(without_start(config), tiny, torch.Generator())
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def tried(config: RunConfig) -> list[dict[str, tuple[int, ...]]]:
    """`shapes` for the sizes of `PROBES`; none where a model of one's own cannot be made so small.

    Raises:
        ConfigError: the model refuses its settings.
    """
    try:
        return [shapes(config, *sizes) for sizes in PROBES]
    except SsmrecError:
        raise
    except Exception:
        return []


def without_start(config: RunConfig) -> RunConfig:
    """The settings with a cheap start: the weights are read, not made."""
    cheap = {**config.model, "init": "xavier"} if "init" in config.model else config.model
    return config.model_copy(update={"model": cheap})


def no_validation(protocol: str) -> str:
    """What to say where there are no validation pairs to choose the epoch on."""
    return (
        f"train.protocol={protocol} chooses the epoch on validation pairs, and there are none: "
        "set data.split.valid=0.1, or train.protocol=fixed with a number of epochs"
    )


NO_TEST = "train.protocol=published chooses the epoch on test, and there is none"


def too_long(longest: int, width: int) -> str:
    """What to say of a prefix that is longer than a vector."""
    return f"loss.prefixes: {longest} is more than the {width} numbers of a vector"
