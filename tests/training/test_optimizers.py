"""Lazy Adam against torch's dense Adam, and in a training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import ssmrec
from ssmrec.errors import ConfigError
from ssmrec.training import Trainer, resolve
from ssmrec.training.optimizers import LazyAdam


def walk(optimizer_class, sparse, touched, steps=20):
    random = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(6, 3, generator=random))
    start = table.detach().clone()
    optimizer = optimizer_class([table], lr=0.05)
    for step in range(steps):
        rows = touched(step)
        goal = torch.randn(len(rows), 3, generator=random)
        optimizer.zero_grad()
        (F.embedding(rows, table, sparse=sparse) - goal).pow(2).sum().backward()
        optimizer.step()
    return start, table.detach()


def test_equals_dense_adam_when_every_row_is_touched():
    rows = torch.tensor([3, 1, 0, 5, 2, 4, 1])  # one row twice
    _, lazy = walk(LazyAdam, True, lambda step: rows)
    _, dense = walk(torch.optim.Adam, False, lambda step: rows)
    torch.testing.assert_close(lazy, dense, rtol=1e-5, atol=1e-6)


def test_rows_that_are_not_touched_do_not_move():
    start, lazy = walk(LazyAdam, True, lambda step: torch.tensor([0, 2]))
    assert torch.equal(lazy[[1, 3, 4, 5]], start[[1, 3, 4, 5]])
    _, dense = walk(torch.optim.Adam, False, lambda step: torch.tensor([0, 2]))
    torch.testing.assert_close(lazy, dense, rtol=1e-5, atol=1e-6)  # no gradient, no moments


def test_dense_gradients_take_the_step_of_adam():
    _, lazy = walk(LazyAdam, False, lambda step: torch.tensor([0, step % 6]))
    _, dense = walk(torch.optim.Adam, False, lambda step: torch.tensor([0, step % 6]))
    torch.testing.assert_close(lazy, dense)


def config(model: str, optimizer: str = "lazy_adam"):
    return resolve(
        {
            "model": {"name": model, "dim": 8},
            "train": {"protocol": "fixed", "optimizer": optimizer, "batch_size": 256, "l2": 1e-3},
        }
    )


def test_training_lowers_the_loss_and_stays_near_dense_adam():
    train = ssmrec.data.synthetic(300, 100, 4000)
    losses = {}
    for name in ("adam", "lazy_adam"):
        state = Trainer(config("mf", name), train, 5).run()
        losses[name] = [record["loss"] for record in state.history]
    assert losses["lazy_adam"][-1] < losses["lazy_adam"][0]
    assert losses["lazy_adam"][-1] == pytest.approx(losses["adam"][-1], rel=0.02)


def test_graph_backbones_refuse_it():
    with pytest.raises(ConfigError, match="lazy_adam: the gradients of LightGCN"):
        Trainer(config("lightgcn"), ssmrec.data.synthetic(60, 40, 300), 1)
