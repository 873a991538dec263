"""What is known to fail from the settings and the machine alone, refused before data are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmrec.config import build
from ssmrec.errors import ConfigError
from ssmrec.models import MODELS
from ssmrec.negatives import SAMPLERS
from ssmrec.training.config import RunConfig, closed_form
from ssmrec.training.device import Products, pick_device
from ssmrec.training.optimizers import check_optimizer


def refuse_early(config: RunConfig) -> None:
    """Refuse resolved settings with which no training can begin on this machine, whatever the data.

    Reading a run does not ask this: its device, or a file of negatives, may be gone.

    Raises:
        ConfigError: no validation part for a protocol that needs one, a device or a precision that is
            not here, an optimiser that does not fit the model, prefixes longer than a vector.
        DataError: a file of negatives that does not exist.
    """
    protocol = config.train.protocol
    if protocol in ("valid", "refit") and config.data.split.valid == 0:
        raise ConfigError(no_validation(protocol))
    if closed_form(config):
        return
    Products(config.train.precision, pick_device(config.train.device))
    model, sampler = MODELS[config.model["name"]], SAMPLERS[config.negatives["name"]]
    check_optimizer(config.train.optimizer, model)
    sampler.check(build(sampler.Config, _settings(config.negatives), "negatives"))
    width = model.width(build(model.Config, _settings(config.model), "model"))
    longest = max(config.loss.get("prefixes", ()), default=0)
    if width is not None and longest > width:
        raise ConfigError(too_long(longest, width))


def _settings(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "name"}


def no_validation(protocol: str) -> str:
    """What to say where there are no validation pairs to choose the epoch on."""
    return (
        f"train.protocol={protocol} chooses the epoch on validation pairs, and there are none: "
        "set data.split.valid=0.1, or train.protocol=fixed with a number of epochs"
    )


def too_long(longest: int, width: int) -> str:
    """What to say of a prefix that is longer than a vector."""
    return f"loss.prefixes: {longest} is more than the {width} numbers of a vector"
