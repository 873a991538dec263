"""Rows at unit length, and their squared lengths: gradients of a few operations each.

Plain torch takes a dozen, each of them a kernel to launch on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-12
"""Least length that a row is divided by: a row of zeros stays one."""


def unit_reference(x: Tensor) -> Tensor:
    """The definition: each row of x (..., d) divided by its length."""
    return F.normalize(x, dim=-1, eps=_LEAST)


def unit(x: Tensor) -> Tensor:
    """Rows of x (..., d) at unit length; zero stays zero."""
    return UnitRows.apply(x)  # type: ignore[return-value]


class UnitRows(torch.autograd.Function):
    """`apply(x)`: y = x / |x|, and for a gradient g of y that of x: (g - <g, y> y) / |x|."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[override]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(_LEAST)
        y = x / length
        ctx.save_for_backward(y, length)
        return y

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        y, length = ctx.saved_tensors
        along = (grads[0] * y).sum(-1, keepdim=True)
        return torch.addcmul(grads[0], y, along, value=-1).div_(length)


def squares_reference(rows: Tensor, counts: Tensor) -> Tensor:
    """The definition: the sum of counts (n,) times the squared lengths of rows (n, d)."""
    return (rows.pow(2).sum(1) * counts.to(rows.dtype)).sum()


def squares(rows: Tensor, counts: Tensor) -> Tensor:
    """As `squares_reference`, differentiable in `rows`."""
    return Squares.apply(rows, counts.to(rows.dtype))  # type: ignore[return-value]


class Squares(torch.autograd.Function):
    """`apply(rows, counts)`: sum_k c_k |x_k|^2; the gradient of x_k is 2 c_k x_k."""

    @staticmethod
    def forward(ctx, rows, counts):  # type: ignore[override]
        ctx.save_for_backward(rows, counts)
        return ((rows * rows).sum(1) * counts).sum()

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        rows, counts = ctx.saved_tensors
        return rows * (2 * grads[0] * counts)[:, None], None
