"""Initial embedding tables: Xavier, or spectral (a randomised SVD of the normalised matrix)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from torch import Tensor

from ssmrec.data import Interactions

Init = Literal["xavier", "spectral"]


def initial_table(train: Interactions, dim: int, init: Init, generator: torch.Generator) -> Tensor:
    """Layer-0 rows of users, then items, float32 (n_users + n_items, dim).

    Both starts have the row length that Xavier's uniform bound gives, so that one learning rate
    suits both.
    """
    tables = [_xavier(n, dim, generator) for n in (train.n_users, train.n_items)]
    if init == "spectral":
        tables = [
            _rescaled(torch.from_numpy(factor), xavier)
            for factor, xavier in zip(_spectral(train, dim, generator), tables, strict=True)
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


def _spectral(
    train: Interactions, dim: int, generator: torch.Generator, iterations: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """U sqrt(S) and V sqrt(S) of D_u^-1/2 R D_i^-1/2 by subspace iteration (Halko et al. 2011)."""
    user = np.maximum(train.user_degrees, 1) ** -0.5
    item = np.maximum(train.item_degrees, 1) ** -0.5
    values = (user[train.rows] * item[train.indices]).astype(np.float32)
    shape = (train.n_users, train.n_items)
    matrix = sp.csr_matrix((values, train.indices, train.indptr), shape=shape)
    rank = min(dim, min(shape) - 1) if min(shape) > 1 else 1
    width = min(rank + 10, min(shape))
    probe = torch.randn(train.n_items, width, generator=generator).numpy()
    basis = np.linalg.qr(matrix @ probe)[0]
    for _ in range(iterations):
        basis = np.linalg.qr(matrix.T @ basis)[0]
        basis = np.linalg.qr(matrix @ basis)[0]
    left, singular, right = scipy.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    root = np.sqrt(singular[:rank])
    users = np.zeros((train.n_users, dim), dtype=np.float32)
    items = np.zeros((train.n_items, dim), dtype=np.float32)
    users[:, :rank] = (basis @ left[:, :rank]) * root
    items[:, :rank] = right[:rank].T * root
    return users, items
