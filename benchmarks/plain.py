"""The same mathematics in straightforward torch: whole-graph sparse products, autograd, dense Adam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmrec.data import Interactions


@dataclass
class PlainStep:
    """In-batch sampled softmax with cosine similarity, one step a call.

    Args:
        table: layer-0 rows, users before items; trained in place.
        adjacency: sparse CSR of the normalised graph, or None for matrix factorisation.
        transposed: the transpose, kept for the backward pass; None leaves it to autograd, which for
            CSR makes it anew at every step.
        weights: weight of each layer, layer 0 first.
        n_users: rows of `table` that are users.
        temperature, l2, lr: as in `TrainConfig` and `LossConfig`.
    """

    table: torch.nn.Parameter
    adjacency: Tensor | None
    transposed: Tensor | None
    weights: tuple[float, ...]
    n_users: int
    temperature: float
    l2: float
    lr: float

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam([self.table], lr=self.lr)

    def __call__(self, users: Tensor, items: Tensor) -> float:
        """One step on a batch of pairs; the loss without the L2 term."""
        return self.step(users, items).item()

    def step(self, users: Tensor, items: Tensor) -> Tensor:
        """The same, without waiting for the loss."""
        ego_users, ego_items = self.table[users], self.table[items + self.n_users]
        if self.adjacency is None:
            user_rows, item_rows = ego_users, ego_items
        else:
            x = self.table
            out = self.weights[0] * x
            for weight in self.weights[1:]:
                x = self._layer(x)
                out = out + weight * x
            user_rows, item_rows = out[users], out[items + self.n_users]
        logits = F.normalize(user_rows) @ F.normalize(item_rows).T / self.temperature
        loss = F.cross_entropy(logits, torch.arange(len(users), device=logits.device))
        penalty = 0.5 * self.l2 / len(users) * (ego_users.pow(2).sum() + ego_items.pow(2).sum())
        self.optimizer.zero_grad()
        (loss + penalty).backward()
        self.optimizer.step()
        return loss.detach()

    def _layer(self, x: Tensor) -> Tensor:
        assert self.adjacency is not None
        if self.transposed is None:
            return self.adjacency @ x
        return KeptTranspose.apply(x, self.adjacency, self.transposed)  # type: ignore[return-value]


class KeptTranspose(torch.autograd.Function):
    """adjacency @ x, whose backward pass multiplies by a transpose that was made once."""

    @staticmethod
    def forward(ctx, x, adjacency, transposed):  # type: ignore[no-untyped-def, override]
        ctx.transposed = transposed
        return adjacency @ x

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[no-untyped-def, override]
        return ctx.transposed @ grads[0], None, None


def adjacency(
    train: Interactions, alpha: tuple[float, float], receivers: str = "both"
) -> tuple[Tensor, Tensor]:
    """Weighted adjacency (n, n) and its transpose as sparse CSR, built from the pairs alone.

    The weight of neighbour n at node r is degree(r)^-alpha[0] * degree(n)^-alpha[1].

    Args:
        train: the pairs.
        alpha: exponents.
        receivers: `user`, `item` or `both`: whose rows are not zero.
    """
    user, item = train.rows.astype(np.int64), train.indices.astype(np.int64) + train.n_users
    size = train.n_users + train.n_items
    degree = np.bincount(np.concatenate([user, item]), minlength=size).astype(np.float64)
    edges = {"user": [(user, item)], "item": [(item, user)]}
    chosen = edges.get(receivers, edges["user"] + edges["item"])
    row, column = (np.concatenate(side) for side in zip(*chosen, strict=True))
    values = degree[row] ** -alpha[0] * degree[column] ** -alpha[1]
    matrix = sp.csr_matrix((values.astype(np.float32), (row, column)), shape=(size, size))
    return _csr(matrix), _csr(matrix.T.tocsr())


def _csr(matrix: sp.csr_matrix) -> Tensor:
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int64)),
        torch.from_numpy(matrix.data),
        size=matrix.shape,
        check_invariants=False,
    )
