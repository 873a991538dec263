"""Initial embedding tables: Xavier, or spectral (a randomised SVD of the normalised matrix)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.models.graph import Graph

Init = Literal["xavier", "spectral"]


def initial_table(train: Interactions, dim: int, init: Init, generator: torch.Generator) -> Tensor:
    """Layer-0 rows of users, then items, float32 (n_users + n_items, dim).

    Both starts have the row length that Xavier's uniform bound gives, so that one learning rate
    suits both.
    """
    tables = [_xavier(n, dim, generator) for n in (train.n_users, train.n_items)]
    if init == "spectral":
        tables = [
            _rescaled(factor, xavier)
            for factor, xavier in zip(singular_factors(train, dim, generator), tables, strict=True)
        ]
    return torch.cat(tables)


def _xavier(n: int, dim: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-sqrt(6 / (n + dim)), per table (Glorot & Bengio 2010)."""
    bound = (6 / (n + dim)) ** 0.5
    return torch.empty(n, dim).uniform_(-bound, bound, generator=generator)


def _rescaled(factor: Tensor, like: Tensor) -> Tensor:
    """`factor` with the root-mean-square of `like`; zero rows take the rows of `like`."""
    empty = factor.norm(dim=1) == 0
    scale = like.pow(2).mean().sqrt() / factor.pow(2).mean().sqrt().clamp_min(1e-12)
    out = factor * scale
    out[empty] = like[empty]
    return out


def singular_factors(
    train: Interactions, dim: int, generator: torch.Generator, iterations: int = 4
) -> tuple[Tensor, Tensor]:
    """U sqrt(S) and V sqrt(S) of D_u^-1/2 R D_i^-1/2 by subspace iteration (Halko et al. 2011).

    Columns beyond min(n_users, n_items) - 1 are zero. More iterations separate close singular values.

    Both products of an iteration are one layer of the graph, restricted to one side.
    """
    graph, m = Graph(train), train.n_users
    rank = max(1, min(dim, min(m, train.n_items) - 1))
    width = min(rank + 10, m, train.n_items)
    sides = np.arange(m), np.arange(m, graph.n_nodes)
    table = np.zeros((graph.n_nodes, width), dtype=np.float32)
    table[m:] = torch.randn(train.n_items, width, generator=generator).numpy()
    for _ in range(iterations):
        for side in sides:
            table[side] = _orthonormal(graph.layer_rows(table, side))
    table[:m] = _orthonormal(graph.layer_rows(table, sides[0]))
    rest = torch.from_numpy(graph.layer_rows(table, sides[1]))  # R' basis, so R ~ basis rest'
    square, turn = _eigen(rest)
    singular, turn = square[:rank].sqrt(), turn[:, :rank]
    users, items = torch.zeros(m, dim), torch.zeros(train.n_items, dim)
    users[:, :rank] = torch.from_numpy(table[:m]) @ turn * singular.sqrt()
    items[:, :rank] = rest @ turn * torch.where(singular > 0, singular.rsqrt(), 0)
    return users, items


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns; zero columns where they depend on each other.

    By the eigenvectors of the Gram matrix in float64, many times faster than QR for tall tables.
    """
    tensor = torch.from_numpy(columns)
    square, turn = _eigen(tensor)
    return (tensor @ (turn * torch.where(square > 0, square.rsqrt(), 0))).numpy()


def _eigen(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values, largest first, and right singular vectors of a tall matrix."""
    exact = columns.double()
    square, turn = torch.linalg.eigh(exact.T @ exact)
    square = torch.where(square > 1e-12 * square[-1], square, 0)
    return square.flip(0).float(), turn.flip(1).float()
