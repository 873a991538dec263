"""The kernel that looks known items up on a GPU, run by Triton's interpreter, against plain torch."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="triton is not installed (it comes with torch for CUDA)")

from interpreter import interpreted

CHECK = """
import torch
from ssmrec.data import synthetic
from ssmrec.kernels.known import KnownItems
from ssmrec.kernels.known_triton import look_up

train = synthetic(90, 200, 4000, seed=1)
known = KnownItems(train, torch.device("cpu"))
random = torch.Generator().manual_seed(0)
for m, n in ((1, 1), (64, 64), (70, 130), (3, 200), (0, 5), (5, 0)):
    users = torch.randint(90, (m,), generator=random)
    items = torch.randint(200, (n,), generator=random)
    found = look_up(known.table, users, items)
    assert found.dtype == torch.bool and torch.equal(found, known.mask(users, items)), (m, n)
    assert n < 64 or 0 < found.float().mean() < 1
print("equal")
"""


def test_equals_plain_torch():
    assert interpreted(CHECK) == "equal"
