"""A training whose numbers are no longer finite, and how that is found."""

from __future__ import annotations

import math

import torch

from ssmrec.errors import RunError
from ssmrec.models import Backbone
from ssmrec.training.config import RunConfig
from ssmrec.training.given import remedy
from ssmrec.training.peers import current


class DivergedError(RunError):
    """The loss or the model is no longer finite.

    Attributes:
        best_epoch: the epoch whose model was kept; 0 for none.
    """

    best_epoch = 0


def finite(loss: float, epoch: int, config: RunConfig) -> float:
    """`loss`, if it is one.

    Raises:
        DivergedError: it is NaN or infinite.
    """
    if math.isfinite(loss):
        return loss
    raise DivergedError(f"the loss is {loss} in epoch {epoch}: training diverged; {remedy(config)}")


def assert_finite(
    model: Backbone, optimizer: torch.optim.Optimizer, epoch: int, config: RunConfig
) -> None:
    """A gradient whose square is infinite moves nothing: its row would stay as it is, without a word.

    Raises:
        DivergedError: the model or the optimiser's memory of it holds NaN or infinity.
    """
    for name, tensor in model.named_parameters():
        moments = optimizer.state.get(tensor, {}).values()
        held = {name: [tensor], f"Adam's memory of {name}": moments}
        for what, tensors in held.items():
            if current().any(not all(bool(x.detach().isfinite().all()) for x in tensors)):
                raise DivergedError(
                    f"{what} of the model holds NaN or infinity after epoch {epoch}: training "
                    f"diverged; {remedy(config)}"
                )
