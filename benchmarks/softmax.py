"""Full softmax over a large catalogue: the blocked kernel against torch with all logits in memory.

Forward and backward pass for B users against every item, each measurement in its own process so
that its peak memory is its own. Both sides compute the same loss and gradients, which is checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Settings, child, peak_memory, serve, summary
from ssmrec.kernels.softmax import SharedSoftmax

DIM = 64
TARGET_BATCH = 2048


def run(settings: Settings) -> dict[str, Any]:
    """Seconds, memory and agreement of both sides at each batch size that is measured."""
    items, batches = (20_000, (64, 128)) if settings.small else (1_000_000, (128, 256, 512))
    repeats = 2 if settings.small else 5
    sizes = [_pair(settings, items, batch, repeats) for batch in batches]
    last = batches[-1] if settings.small else TARGET_BATCH
    ours = sizes[-1]["ours"]
    if last != batches[-1]:
        ours = _measured("ours", settings, items, last, repeats)
    growth = [size["torch"]["extra_gib"] for size in sizes if "extra_gib" in size["torch"]]
    result = {"items": items, "dim": DIM, "sizes": sizes, "ours_at_largest": ours}
    if len(growth) >= 2:
        used = batches[: len(growth)]
        slope, base = np.polyfit(used, growth, 1)
        result["torch_extrapolated"] = {
            "batch": last,
            "extra_gib": base + slope * last,
            "how": f"straight line through the measured batches {list(used)}",
        }
        result["memory_ratio_at_largest"] = (base + slope * last) / ours["extra_gib"]
    return result


def _pair(settings: Settings, items: int, batch: int, repeats: int) -> dict[str, Any]:
    sides = {side: _measured(side, settings, items, batch, repeats) for side in ("ours", "torch")}
    found: dict[str, Any] = {"batch": batch, **sides}
    if "failed" not in sides["torch"]:
        ours, torch_side = sides["ours"], sides["torch"]
        found["times_faster"] = torch_side["seconds"]["median"] / ours["seconds"]["median"]
        found["memory_ratio"] = torch_side["extra_gib"] / ours["extra_gib"]
        found["largest_difference"] = max(
            abs(ours["sums"][name] / torch_side["sums"][name] - 1) for name in ours["sums"]
        )
    return found


def _measured(
    side: str, settings: Settings, items: int, batch: int, repeats: int
) -> dict[str, Any]:
    arguments = {
        "side": side, "items": items, "batch": batch, "repeats": repeats, "seed": settings.seed,
    }  # fmt: skip
    return {k: v for report in child("benchmarks.softmax", arguments) for k, v in report.items()}


def measure(side: str, items: int, batch: int, repeats: int, seed: int) -> Iterator[dict[str, Any]]:
    """One side at one size: memory of the first call, median seconds of the next ones."""
    once(side, *inputs(50, 4, seed))  # compilation is not counted
    users, table, targets = inputs(items, batch, seed)
    with peak_memory() as memory:
        sums = once(side, users, table, targets)
    yield {"sums": sums, "extra_gib": memory["extra"]}
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        once(side, users, table, targets)
        seconds.append(time.perf_counter() - start)
    yield {"seconds": summary(seconds)}


def inputs(items: int, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Users (B, d) over a temperature of 0.1, the item table (N, d), and the B positives."""
    generator = torch.Generator().manual_seed(seed)
    users = F.normalize(torch.randn(batch, DIM, generator=generator)) / 0.1
    table = F.normalize(torch.randn(items, DIM, generator=generator))
    targets = torch.randint(items, (batch,), generator=generator)
    return users.requires_grad_(), table.requires_grad_(), targets


def once(side: str, users: Tensor, table: Tensor, targets: Tensor) -> dict[str, float]:
    """Forward and backward; sums that tell whether both sides computed the same."""
    users.grad = table.grad = None
    if side == "ours":
        rows = torch.arange(len(users))
        masked = torch.stack([rows, targets])
        loss = SharedSoftmax.apply(users, table[targets], table, None, masked, False)
        mean = loss.mean()  # type: ignore[union-attr]
    else:
        mean = F.cross_entropy(users @ table.T, targets)
    mean.backward()
    assert users.grad is not None and table.grad is not None
    return {
        "loss": mean.item(),
        "user_gradient": users.grad.norm().item(),
        "item_gradient": table.grad.norm().item(),
    }


if __name__ == "__main__":
    serve(measure)
