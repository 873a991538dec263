"""A loss that keeps popularity out of the vectors by giving it an encoder of its own: InvCF."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ssmrec.data import Interactions
from ssmrec.kernels.softmax import has_kernel, shared_softmax
from ssmrec.losses.base import Context, Loss, LossConfig, prepare, widened
from ssmrec.models.graph import Graph

_NEAR = 1e-6
"""Squared distance of unit vectors that counts as none: in float32 it would be rounding."""
_FLAT = 1e-12
"""Squared distance correlation, and product of variances, that count as zero."""


class InvCFConfig(LossConfig):
    """Attributes:
    similarity: cosine; vectors and popularity are compared at unit length.
    temperature: of all softmax terms; published 0.13 to 0.15.
    pop_weight: weight of the popularity encoder's own softmax; published 0.01.
    joint_weight: weight of the two softmaxes over vector and popularity together; published 0.01 and
        1e-5.
    independence: weight of the distance correlation of vector and popularity; published 1e-6 to 1 (the
        default is ours).
    pop_dim: length of the popularity vectors.
    pop_layers: their propagation layers; they are the mean of layers 0 to this.
    """

    similarity: Literal["cosine"] = "cosine"  # type: ignore[assignment]
    temperature: float = Field(0.15, gt=0)
    pop_weight: float = Field(default=0.01, ge=0)
    joint_weight: float = Field(default=0.01, ge=0)
    independence: float = Field(default=1e-3, ge=0)
    pop_dim: int = Field(default=64, ge=1, le=4096)
    pop_layers: int = Field(default=2, ge=1, le=16)


class InvCF(Loss):
    """Invariant collaborative filtering under popularity shift (Zhang et al., WWW 2023).

    loss = S(z) + pop_weight S(p) + joint_weight ( S(z, p) + S(z, p') ) + independence dCor(z, p)

    z are the vectors that rank, p those of the popularity encoder: LightGCN over one free vector for
    each distinct degree of users and of items. S is the sampled softmax over the items of the batch, of
    cosines; S(z, p) that of both vectors side by side, each at unit length; p' the popularity of another
    pair of the batch: the vectors have to rank whatever the popularity is. dCor is the mean of the
    distance correlations of users and of items over the rows of the batch.

    Ours: the degrees as buckets, their start from normal values of standard deviation 0.1, the other
    pair (in a fixed pseudo-random order of the batch's pairs, the next one), the mean of both sides,
    and that the row's own item is no negative where it is in the batch again.
    """

    Config = InvCFConfig
    on_vectors = True
    default_negatives: ClassVar[dict[str, Any] | None] = {"name": "in_batch"}
    level: Tensor

    def attach(self, train: Interactions, generator: torch.Generator) -> None:
        parts, count = [], 0
        for degrees in (train.user_degrees, train.item_degrees):
            values, level = np.unique(degrees, return_inverse=True)
            parts.append(level + count)
            count += len(values)
        level = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        self.register_buffer("level", level)
        self.of_level = nn.Parameter(
            0.1 * torch.randn(count, self.config.pop_dim, generator=generator)
        )
        self.graph = Graph(train)

    def from_vectors(self, users: Tensor, items: Tensor, context: Context) -> Tensor:
        config, again = self.config, context.items[:, None] == context.items
        masked = again.fill_diagonal_(False).nonzero().T

        def softmax(u: Tensor, v: Tensor) -> Tensor:
            return in_batch_softmax(u / config.temperature, v, masked)

        def joint(p_u: Tensor, p_v: Tensor) -> Tensor:
            return softmax(torch.cat([z_u, p_u], 1) / 2, torch.cat([z_v, p_v], 1))

        z_u, z_v = (prepare(widened(x), "cosine") for x in (users, items))
        p_u, p_v = (prepare(x, "cosine") for x in self.popularity(context))
        other = next_pair(context)
        moved = [F.embedding(other, x) for x in (p_u, p_v)]
        loss = softmax(z_u, z_v) + config.pop_weight * softmax(p_u, p_v)
        loss = loss + config.joint_weight * (joint(p_u, p_v) + joint(*moved))
        near = distance_correlation(z_u, p_u) + distance_correlation(z_v, p_v)
        return loss + config.independence * near / 2

    def popularity(self, context: Context) -> tuple[Tensor, Tensor]:
        """Propagated popularity vectors of each row's user and item, (B, pop_dim) both."""
        nodes = torch.cat([context.users, context.items + self.graph.n_users])
        rows, at = nodes.unique(return_inverse=True)
        layers = self.config.pop_layers + 1
        # Not by indexing: its gradient is added up in the order in which threads come to it.
        table = F.embedding(self.level, self.of_level)
        found = F.embedding(at, self.graph.rows(table, (1 / layers,) * layers, rows)[0])
        return found[: len(context.users)], found[len(context.users) :]


def next_pair(context: Context) -> Tensor:
    """For each pair the one that follows it, int64 (B,), in an order that only the pairs decide."""
    order = ((context.users * 1_000_003 + context.items * 7_919) % 2_147_483_647).argsort()
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def in_batch_softmax(u: Tensor, v: Tensor, masked: Tensor) -> Tensor:
    """-log( e^{u_i.v_i} / sum_j e^{u_i.v_j} ) of each row, (B,), without the (i, j) of masked (2, M)."""
    if has_kernel(u):
        return shared_softmax(u, v, v, None, masked if masked.numel() else None, True)
    logits = u @ v.T
    left = logits.index_put((masked[0], masked[1]), logits.new_tensor(-torch.inf))
    return torch.logsumexp(left, 1) - logits.diagonal()


def distance_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Distance correlation of rows (B, d) and (B, e), 0 to 1 (Székely et al., Ann. Statist. 2007).

    0 for rows that are all alike, or only one.
    """
    with torch.autocast(one.device.type, enabled=False):  # small differences of large sums
        a, b = _distances(one), _distances(other)
        variances = (_covariance(a, a) * _covariance(b, b)).clamp_min(_FLAT**2).sqrt()
        square = _covariance(a, b) / variances
        return torch.where(square > _FLAT, square.clamp_min(_FLAT).sqrt(), 0.0)


def _distances(rows: Tensor) -> Tensor:
    """Between all rows, (B, B)."""
    length = rows.pow(2).sum(1)
    square = length[:, None] + length - 2 * (rows @ rows.T)
    none = square <= _NEAR
    return square.masked_fill(none, 1.0).sqrt().masked_fill(none, 0.0)


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """Mean product of two matrices of distances after each lost the means of its rows and columns.

    Written out, so that no centred matrix is made.
    """
    of_a, of_b = a.mean(0), b.mean(0)
    product = (a.flatten() @ b.flatten()) / a.numel()
    return product + of_a.mean() * of_b.mean() - 2 * (of_a * of_b).mean()
