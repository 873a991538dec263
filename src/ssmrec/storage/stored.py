"""What a model's file holds, checked once as it is read: compiled kernels trust it without looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmrec.data import Interactions, Vocabulary
from ssmrec.models.blend import scores_by_itself

Array = np.ndarray


def read_pairs(
    tensors: Mapping[str, Tensor], name: str, users: Vocabulary, items: Vocabulary
) -> Interactions:
    """The pairs `name`, which keep all that `Interactions` promises.

    Args:
        tensors: with NAME.indptr, NAME.indices and, where known, NAME.timestamps and NAME.weights.

    Raises:
        KeyError: there are none of that name. ValueError: they are not what a run holds.
    """
    indptr = _column(tensors[f"{name}.indptr"], f"{name}.indptr", torch.int64, len(users) + 1)
    indices = _column(tensors[f"{name}.indices"], f"{name}.indices", torch.int32)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"{name}.indptr does not divide {len(indices):,} pairs by users")
    if len(indices) and not (indices.min() >= 0 and indices.max() < len(items)):
        raise ValueError(f"{name}.indices names items that are not among the {len(items):,} ids")
    rises = indices[1:] > indices[:-1]
    starts = indptr[1:-1]  # where the next user begins they may fall
    rises[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    if not rises.all():
        raise ValueError(f"{name}.indices does not ascend within a user")
    more: dict[str, Any] = {
        kind: _column(found, f"{name}.{kind}", dtype, len(indices))
        for kind, dtype in (("timestamps", torch.int64), ("weights", torch.float32))
        if (found := tensors.get(f"{name}.{kind}")) is not None
    }
    weights = more.get("weights")
    if weights is not None and len(weights) and not (weights.min() > 0 and weights.max() < np.inf):
        raise ValueError(f"{name}.weights must be above 0 and finite")
    return Interactions(users, items, indptr, indices, **more)


def _column(tensor: Tensor, name: str, dtype: torch.dtype, length: int | None = None) -> Array:
    if tensor.dtype != dtype or tensor.ndim != 1 or length not in (None, len(tensor)):
        wanted = f"{dtype} of {'one dimension' if length is None else f'length {length:,}'}"
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not {wanted}")
    return tensor.numpy()


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `model` a state that `assert_alike` takes for one of its own.

    Raises:
        ValueError: it is none.
    """
    assert_alike(state, model.state_dict())
    # A matrix of n x n numbers is held once.
    model.load_state_dict(state, assign=scores_by_itself(model))


def assert_alike(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise a `ValueError` unless all of `state` is named, shaped and typed as `own`, and finite."""
    if odd := sorted(state.keys() ^ own.keys()):
        raise ValueError(f"tensors of another model: {', '.join(odd)}")
    for name, tensor in state.items():
        wanted = own[name]
        if tensor.dtype != wanted.dtype or tensor.shape != wanted.shape:
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not {wanted.dtype} of "
                f"{tuple(wanted.shape)}"
            )
        assert_finite(name, tensor)


def load_moments(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], moments: Mapping[str, Tensor]
) -> None:
    """Give Adam its `INDEX/step`, `INDEX/exp_avg` and `INDEX/exp_avg_sq` of each of `parameters`.

    There are none for a parameter that has not been trained.

    Raises:
        KeyError, ValueError: they cannot be its moments.
    """
    names = ("step", "exp_avg", "exp_avg_sq")
    for index, parameter in enumerate(parameters):
        if f"{index}/step" not in moments:
            continue
        own = {name: moments[f"{index}/{name}"] for name in names}
        like = parameter.detach()
        assert_alike(own, {"step": torch.zeros(()), "exp_avg": like, "exp_avg_sq": like})
        if any((own[name] < 0).any() for name in ("step", "exp_avg_sq")):
            raise ValueError(f"moments of parameter {index} are below 0")
        # The step of a fused one beside its parameter: else it would be read at every step.
        on = {"step": parameter.device if optimizer.defaults["fused"] else "cpu"}
        optimizer.state[parameter] = {
            name: own[name].to(on.get(name, parameter.device)) for name in names
        }


def assert_finite(name: str, tensor: Tensor) -> None:
    """Raise a `ValueError` for NaN and infinity; no table of answers is made."""
    if tensor.is_floating_point() and tensor.numel():
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ValueError(f"{name} holds numbers that are not finite")
