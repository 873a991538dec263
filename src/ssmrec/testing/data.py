"""Small training data with the awkward cases in it, and gradients that count zeros."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ssmrec.data import Interactions, Vocabulary


def toy(n_users: int = 12, n_items: int = 30, seed: int = 0) -> Interactions:
    """Small training data with the awkward cases in it.

    User 0 has all items but the last, the last user has none, and the last item has no user.
    """
    random = np.random.default_rng(seed)
    has = random.random((n_users, n_items)) < np.linspace(0.5, 0.1, n_items)
    has[np.arange(n_users), np.arange(n_users) % (n_items - 1)] = True
    has[0], has[-1], has[:, -1] = True, False, False
    users, items = (Vocabulary(pl.Series(range(n), dtype=pl.Int64)) for n in has.shape)
    user, item = np.nonzero(has)
    return Interactions.from_pairs(user, item, users, items)


def gradient(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Gradients of a scalar, zeros for an input it does not depend on."""
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True))
