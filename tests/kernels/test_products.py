"""Products equal those of float64, whichever library makes them."""

import pytest
import torch

from ssmrec.kernels.products import times, times_transposed


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (256, 64, 300), (0, 4, 3)])
def test_products_equal_float64(shape):
    m, k, n = shape
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(m, k, generator=generator)
    b, c = torch.randn(n, k, generator=generator), torch.randn(k, n, generator=generator)
    torch.testing.assert_close(times_transposed(a, b).double(), a.double() @ b.double().T,
                               rtol=1e-5, atol=1e-5)  # fmt: skip
    torch.testing.assert_close(times(a, c).double(), a.double() @ c.double(), rtol=1e-5, atol=1e-5)


def test_other_types_are_left_to_torch():
    a, b = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert torch.equal(times_transposed(a, b), a @ b.T)
    assert torch.equal(times(a, b.T), a @ b.T)
