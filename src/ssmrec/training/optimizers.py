"""Adam, dense and fused, and its lazy form that leaves alone the rows a batch does not touch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmrec.errors import ConfigError
from ssmrec.models import Backbone


class LazyAdam(torch.optim.Adam):
    """Adam whose parameters with sparse gradients change in the touched rows only.

    A touched row takes the step of dense Adam with its own moments; those of the other rows wait as
    they are. Dense Adam goes on moving a row by its old momentum between two touches, so the two agree
    exactly only when every row is touched at every step.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; parameters with dense gradients are left to `torch.optim.Adam`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._rows(parameter, group)
                    parameter.grad = None
        return super().step(closure)

    def _rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows, g = grad.indices()[0], grad.values()
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        mean = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - beta1)
        square = (
            state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(g, g, value=1 - beta2)
        )
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        scale = square.div_(1 - beta2**step).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean.div_(scale), alpha=-group["lr"] / (1 - beta1**step))


def check_optimizer(name: str, model: type[Backbone]) -> None:
    """Whether an optimiser fits a backbone.

    Raises:
        ConfigError: `lazy_adam` for a backbone whose gradients reach more than the batch's rows.
    """
    if name != "adam" and not model.row_gradients:
        raise ConfigError(
            f"train.optimizer=lazy_adam: the gradients of {model.__name__} reach rows beyond "
            "the batch; it is for model=mf"
        )


def make_optimizer(
    name: str, model: Backbone, groups: list[dict[str, Any]], lr: float
) -> torch.optim.Adam:
    """The optimiser of `train.optimizer` over parameter groups.

    Raises:
        ConfigError: as `check_optimizer`.
    """
    check_optimizer(name, type(model))
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=True)
    model.sparse = True
    return LazyAdam(groups, lr=lr)
