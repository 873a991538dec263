"""The tiled GPU kernel, run by Triton's interpreter on the CPU, against the definition in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton is not installed (it comes with torch for CUDA)")

from interpreter import interpreted

CHECK = """
import itertools
import torch
from torch.nn import functional as F
from ssmrec.kernels.softmax import shared_softmax_reference
from ssmrec.kernels.softmax_triton import TiledSoftmax

torch.set_float32_matmul_precision("highest")

def compare(b, n, d, temperature, corrected, masked, in_batch, dtype=torch.float32, whole=False):
    random = torch.Generator().manual_seed(b + n)
    u, pos, neg = (F.normalize(torch.randn(k, d, generator=random), dim=1).to(dtype) for k in (b, b, n))
    u = (u / temperature).to(dtype)
    weight = torch.rand(b, generator=random) + 0.1
    n = b if in_batch else n
    log_q = torch.linspace(-6, 1, n) if corrected else None
    pairs = (torch.rand(b, n, generator=random) < masked).nonzero().T if masked else None
    mask = torch.zeros(b, n, dtype=torch.bool)
    if pairs is not None:
        mask[pairs[0], pairs[1]] = True
    given = mask.clone() if whole else pairs
    if in_batch:
        mask.fill_diagonal_(True)
    found = []
    for exact in (False, True):
        leaves = [x.to(torch.float64 if exact else dtype).requires_grad_() for x in (u, pos, neg)]
        leaves = leaves[:2] if in_batch else leaves
        inputs = [*leaves, leaves[1]][:3]
        if exact:
            q = None if log_q is None else log_q.double()
            value = shared_softmax_reference(*inputs, q, mask)
        else:
            value = TiledSoftmax.apply(*inputs, log_q, given, in_batch)
            assert value.dtype == torch.float32
        grads = torch.autograd.grad((value * weight.to(value.dtype)).sum(), leaves)
        found.append((value.detach(), *grads))
    scale = max(1, 1 / temperature)
    rough = 2e-2 if dtype == torch.float16 else 1e-4
    for number, (got, want) in enumerate(zip(*found)):
        torch.testing.assert_close(
            got.double(), want, rtol=rough, atol=rough / 25 * scale * (scale if number else 1)
        )

for corrected, masked, in_batch in itertools.product((False, True), (0, 0.3), (False, True)):
    temperature = 0.05 if corrected != in_batch else 1.0  # both with and without either
    for whole in (False, True) if masked else (False,):
        compare(70, 130, 24, temperature, corrected, masked, in_batch, whole=whole)
for b, n in ((1, 1), (1, 7), (65, 1), (3, 64), (2, 0)):
    compare(b, n, 8, 0.1, False, 0, False)
compare(1, 1, 8, 0.1, False, 0, True)
compare(5, 9, 16, 0.1, False, 1.1, False)  # all masked
compare(5, 9, 16, 0.1, False, 1.1, False, whole=True)
compare(20, 40, 300, 0.1, True, 0.2, False)  # smaller tiles
compare(3, 600, 8, 0.1, False, 0.01, False)  # one block of rows, several parts
# bfloat16 cannot be tested here: the interpreter has no such type and multiplies its bits
compare(70, 66, 16, 0.2, True, 0.2, False, torch.float16)
print("equal")
"""


def test_equals_the_definition():
    assert interpreted(CHECK) == "equal"


COMPILED = """
import sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ssmrec.kernels.softmax import widest
from ssmrec.kernels.softmax_triton import _backward, options, tile_rows

generation, memory = map(int, sys.argv[1:])
for width in (128, widest(memory, 4)):
    fixed = options(torch.empty(1, width), True, True, False) | {"OF_ROWS": False}
    fixed["BM"] = fixed["BN"] = tile_rows(memory, 4 * width)
    how = {name: fixed.pop(name) for name in ("num_warps", "num_stages")}
    kinds = dict.fromkeys(_backward.arg_names, "*fp32")
    kinds |= dict.fromkeys(("m", "n", "d", "each"), "i32")
    kinds |= dict.fromkeys(("starts", "hit_rows", "hit_columns"), "*i32")
    kinds |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(_backward, kinds, constexprs=fixed)
    made = triton.compile(source, target=GPUTarget("cuda", generation, 32), options=how)
    print(width, made.metadata.shared)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generation", "memory", "longest"),
    [(75, 64 * 1024, 256), (90, 227 * 1024, 512)],
)
def test_tiles_fit_into_shared_memory(tmp_path, generation, memory, longest):
    """Compiled for a T4 and an H100, which tells what a program takes without a GPU.

    The gradient of the candidates takes most of the three kernels.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(generation), str(memory)],
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert found[-1][0] == longest and max(taken for _, taken in found) <= memory


@pytest.mark.parametrize(
    ("memory", "rows"), [(64, (64, 32, 16, 16)), (99, (64, 32, 16, 16)), (227, (64, 64, 32, 16))]
)
def test_tiles_of_each_width(memory, rows):
    """Of 64, 128, 256 and 512 numbers in float32: a fourth of the KiB there are, and 32 KiB at most."""
    from ssmrec.kernels.softmax import widest
    from ssmrec.kernels.softmax_triton import tile_rows

    found = tuple(tile_rows(memory * 1024, 4 * width) for width in (64, 128, 256, 512))
    assert found == rows
    assert widest(memory * 1024, 4) == (512 if memory > 128 else 256)
    assert widest(memory * 1024, 2) == 512
