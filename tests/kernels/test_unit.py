"""Unit rows against their definition in plain torch."""

from __future__ import annotations

import pytest
import torch

from ssmrec.kernels.unit import squares, squares_reference, unit, unit_reference


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_equals_the_definition(shape, size):
    x = (size * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(shape, dtype=torch.float64)
    values, grads = [], []
    for function in (unit, unit_reference):
        values.append(function(x))
        grads += torch.autograd.grad((values[-1] * weight).sum(), x)
    torch.testing.assert_close(values[0], values[1], rtol=1e-14, atol=0)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-12 / size)


def test_gradient():
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(unit, x.requires_grad_())


def test_a_row_of_zeros_stays_one():
    x = torch.zeros(2, 3, requires_grad=True)
    y = unit(x)
    assert torch.equal(y, torch.zeros(2, 3))
    (found,) = torch.autograd.grad(y.sum(), x)
    (wanted,) = torch.autograd.grad(unit_reference(x).sum(), x)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_floats_keep_their_type(dtype):
    x = torch.randn(9, 16).to(dtype)
    assert unit(x).dtype == dtype
    torch.testing.assert_close(unit(x), unit_reference(x))


@pytest.mark.parametrize("size", [0, 1, 5])
def test_squares(size):
    rows = torch.randn(size, 3, dtype=torch.float64).requires_grad_()
    counts = torch.arange(size)
    values = [function(rows, counts) for function in (squares, squares_reference)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(3 * value, rows)[0] for value in values))
    assert not size or torch.autograd.gradcheck(lambda x: squares(x, counts), rows)
