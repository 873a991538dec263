"""Losses by name, attached to the toy data, and logits to feed them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssmrec.config import build
from ssmrec.losses import LOSSES, Context
from ssmrec.testing import toy


def make_attached(name: str, train=None, **values):
    """`LOSSES[name]` with these settings, attached to `train` (default: the toy data)."""
    loss = LOSSES[name](build(LOSSES[name].Config, values, "loss"))
    loss.attach(toy() if train is None else train, torch.Generator().manual_seed(0))
    return loss


def random_logits(rows: int = 6, n: int = 9, scale: float = 3.0, seed: int = 0):
    """Float64 leaves (rows,) and (rows, n)."""
    generator = torch.Generator().manual_seed(seed)
    pos = scale * (2 * torch.rand(rows, generator=generator, dtype=torch.float64) - 1)
    neg = scale * (2 * torch.rand(rows, n, generator=generator, dtype=torch.float64) - 1)
    return pos.requires_grad_(), neg.requires_grad_()


def toy_context(rows: int, n: int, extra=None) -> Context:
    """A context of toy pairs with shared negatives 0 .. n-1."""
    train = toy()
    at = np.linspace(0, len(train) - 1, rows).astype(np.int64)
    users, items = (torch.from_numpy(x[at].astype(np.int64)) for x in (train.rows, train.indices))
    return Context(users, items, torch.arange(n), extra)


@pytest.fixture(scope="session")
def attached():
    return make_attached


@pytest.fixture(scope="session")
def logits():
    return random_logits


@pytest.fixture(scope="session")
def context():
    return toy_context
