"""Matrix products of tall, thin float32 matrices on a CPU, by the faster of the two libraries in torch.

torch multiplies float32 with MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN, also
inside torch, uses AVX-512 wherever the processor has it. Both work in full float32; they differ in the
order of the sums only. The choice depends on the processor alone, so one machine gives one result.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PANEL = 16
"""Rows are multiplied in multiples of this many, the last panel filled with zeros.

Matrix products round differently for odd row counts and for single rows. Whole panels make a user's
scores the same whether ranked alone or among thousands.
"""


def _find_onednn() -> bool:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        torch.ops.mkldnn._linear_pointwise(torch.ones(2, 2), torch.ones(2, 2), None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True


ONEDNN = _find_onednn()


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a @ b.T for a (m, k) and b (n, k): (m, n). No gradients on the fast path.

    Takes oneDNN for contiguous float32 on a CPU with AVX-512, torch's own product for all else.
    """
    if (
        ONEDNN
        and a.device.type == "cpu"
        and a.dtype == b.dtype == torch.float32
        and a.numel()
        and b.numel()
    ):
        return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return a @ b.T


def in_panels(a: Tensor, b: Tensor) -> Tensor:
    """a @ b.T for a (m, k) and b (n, k), each row of `a` rounded as if it were alone."""
    return times_transposed(F.pad(a, (0, 0, 0, -len(a) % PANEL)), b)[: len(a)]


def times(a: Tensor, b: Tensor) -> Tensor:
    """a @ b for a (m, k) and b (k, n)."""
    return times_transposed(a, b.T)
