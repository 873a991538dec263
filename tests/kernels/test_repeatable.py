"""Same seed, same bits: in the process that compiles the kernels and in one that loads them."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest
from numba.core.dispatcher import Dispatcher

from ssmrec import kernels

TRAININGS = """
from hashlib import sha256

import numpy as np
import polars as pl

from ssmrec.data import Interactions, Vocabulary
from ssmrec.kernels.compiled import cold
from ssmrec.kernels.softmax import exp_rows
from ssmrec.training import Trainer, resolve


def show(name, *arrays):
    print(name, *(sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays))


print("cold" if cold() else "warm")
random = np.random.default_rng(0)
has = random.random((300, 200)) < np.linspace(0.2, 0.02, 200)
sides = [Vocabulary(pl.Series(range(n), dtype=pl.Int64)) for n in has.shape]
train = Interactions.from_pairs(*np.nonzero(has), *sides)
for model, loss, negatives in [
    ("mf", "ssm", {"name": "in_batch"}),
    ("lightgcn", "ssm", {"name": "uniform", "n": 100}),
    ("svdpp", "softmax", {"name": "all"}),
]:
    settings = {"batch_size": 300, "threads": 1, "device": "cpu"}
    parts = {"model": {"name": model, "dim": 16}, "loss": {"name": loss}, "negatives": negatives}
    trainer = Trainer(resolve({**parts, "train": settings}), train, 2)
    trainer.run()
    show(model, *(p.detach().numpy() for p in trainer.model.parameters()))

none = np.empty(0, np.int64)
for n in (5, 64, 300, 1000):
    logits, total = random.normal(0, 5, (50, n)).astype(np.float32), np.ones(50, np.float32)
    peak = logits[:, 0].copy()
    exp_rows(logits, none.astype(np.float32), 0, True, np.zeros(51, np.int64), none, peak, total)
    show(f"exp_rows {n}", logits, peak, total)
"""


def dispatchers() -> dict[str, Dispatcher]:
    """Every compiled function of `ssmrec.kernels`; the kernels in Triton need another library."""
    found = {}
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.name.endswith("_triton"):
            members = vars(import_module(f"{kernels.__name__}.{module.name}")).items()
            for name, value in members:
                kernel = (
                    value if isinstance(value, Dispatcher) else getattr(value, "__wrapped__", None)
                )
                found |= {name: kernel} if isinstance(kernel, Dispatcher) else {}
    return found


def test_no_kernel_lets_the_compiler_reorder_sums():
    """But that of `_any_above`, whose terms are 0 and 1: any order gives the same."""
    found = dispatchers()
    assert set(found.pop("_any_above").targetoptions["fastmath"]) == {"reassoc", "nsz"}
    assert {"exp_rows", "gather_rows", "gather_inverted", "sum_rows"} <= found.keys()
    assert not [name for name, kernel in found.items() if kernel.targetoptions.get("fastmath")]


@pytest.mark.slow
def test_compiling_and_loading_processes_give_the_same_bits(tmp_path):
    """numba compiles a parallel loop several times over; a cold process runs another copy than a warm."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    cold, warm = (
        subprocess.run(
            [sys.executable, "-c", TRAININGS], env=env, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert (cold[0], warm[0]) == ("cold", "warm")
    assert len(cold) == 8 and cold[1:] == warm[1:]
