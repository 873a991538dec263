"""Where the time of one training step goes, and how far each part is from what the machine can do.

Shares are self times of torch's profiler over whole steps. Limits are measured on the same machine just
before: the best rate of a large square float32 product, and the rate of copying memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import Settings, published, summary, timed
from benchmarks.step import BATCH, CASES, prepared
from ssmrec.kernels.products import times_transposed
from ssmrec.negatives import Batch
from ssmrec.training.seeds import numpy_generator

PARTS = {
    "mkldnn::_linear_pointwise": "products",
    "aten::mm": "products",
    "SharedSoftmax": "exponentials",
    "PropagateRows": "propagation forward",
    "PropagateRowsBackward": "propagation backward",
    "aten::_fused_adam_": "optimiser",
}
"""Part of each profiled name; all other names are `rest`."""


def run(settings: Settings) -> dict[str, Any]:
    """Milliseconds of each part of a step, for every model of the step benchmark, and the limits."""
    source = "online-retail" if settings.small else "yelp2018"
    batch, steps = (512, 3) if settings.small else (BATCH, 40)
    train, _ = published(source)
    limits = {"product_gflops": _product_rate(settings.small), "copy_gib": _copy_rate()}
    models: dict[str, Any] = {}
    for name in CASES:
        trainer, _, batches = prepared(name, train, settings.seed, 5 + 2 * steps, batch)
        draws = numpy_generator(settings.seed, "negatives", 1)
        todo = iter(batches)

        def step(trainer: Any = trainer, draws: Any = draws, todo: Any = todo) -> None:
            trainer.step(Batch(*next(todo)), draws)

        for _ in range(5):
            step()
        seconds = [timed(step)[1] for _ in range(steps)]
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(steps):
                step()
        parts = dict.fromkeys([*PARTS.values(), "rest"], 0.0)
        for event in found.key_averages():
            parts[PARTS.get(event.key, "rest")] += event.self_cpu_time_total / 1e6 / steps
        model: Any = trainer.model
        models[name] = {
            "seconds": summary(seconds),
            "parts": parts,
            "limits": _limits(model.table, batch, limits),
        }
    return {"data": source, "batch": batch, "dim": 64, "machine_limits": limits, "models": models}


def _limits(table: torch.Tensor, batch: int, limits: dict[str, float]) -> dict[str, float]:
    """Seconds the machine needs at least: three products; Adam reads four tables and writes three."""
    flops = 3 * 2 * batch * batch * table.shape[1]
    return {
        "products": flops / limits["product_gflops"] / 1e9,
        "optimiser": 7 * table.numel() * 4 / limits["copy_gib"] / 2**30,
    }


def _product_rate(small: bool) -> float:
    """10^9 operations a second of a large square product."""
    n = 512 if small else 4096
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(timed(lambda: times_transposed(a, b))[1] for _ in range(4)) / 1e9


def _copy_rate() -> float:
    """GiB a second, read and written, of a copy too large for the cache."""
    a = torch.ones(64 * 2**20)
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(timed(lambda: b.copy_(a))[1] for _ in range(4)) / 2**30
