"""Full softmax over a large catalogue: the blocked kernel against torch with all logits in memory.

Forward and backward pass for B users against every item, each side in its own process so that its
peak memory is its own. Both sides compute the same loss and gradients, which is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Settings, child, interleaved, peak_memory, serve, summary
from ssmrec.kernels.softmax import SharedSoftmax

DIM = 64
TARGET_BATCH = 2048


def run(settings: Settings) -> dict[str, Any]:
    """Seconds, memory and agreement of both sides at each batch size that is measured."""
    items, batches = (20_000, (64, 128)) if settings.small else (1_000_000, (128, 256, 512))
    last = batches[-1] if settings.small else TARGET_BATCH
    ours = _measured("ours", settings, items, sorted({*batches, last}))
    other = _measured("torch", settings, items, batches)
    result = {
        "items": items,
        "dim": DIM,
        "sizes": [_pair(batch, ours[batch], other[batch]) for batch in batches],
        "ours_at_largest": ours[last],
    }
    fitting = [batch for batch in batches if "failed" not in other[batch]]
    if len(fitting) >= 2:
        slope, base = np.polyfit(fitting, [other[batch]["extra_gib"] for batch in fitting], 1)
        result["torch_extrapolated"] = {
            "batch": last,
            "extra_gib": base + slope * last,
            "how": f"straight line through the measured batches {fitting}",
        }
        result["memory_ratio_at_largest"] = (base + slope * last) / ours[last]["extra_gib"]
    return result


def _pair(batch: int, ours: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"batch": batch, "ours": ours, "torch": other}
    if "failed" not in other:
        found["times_faster"] = other["seconds"]["median"] / ours["seconds"]["median"]
        found["memory_ratio"] = other["extra_gib"] / ours["extra_gib"]
        found["largest_difference"] = max(
            abs(ours["sums"][name] / other["sums"][name] - 1) for name in ours["sums"]
        )
    return found


def _measured(
    side: str, settings: Settings, items: int, batches: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Reports by batch; a batch that the process did not live to report says how it ended."""
    arguments = {
        "side": side, "items": items, "batches": list(batches),
        "repeats": 2 if settings.small else 5, "seed": settings.seed,
    }  # fmt: skip
    reports = list(child("benchmarks.softmax", arguments))
    failed = next((report for report in reports if "failed" in report), {})
    found = {report["batch"]: report for report in reports if "batch" in report}
    return {batch: found.get(batch, failed) for batch in batches}


def measure(
    side: str, items: int, batches: list[int], repeats: int, seed: int
) -> Iterator[dict[str, Any]]:
    """One side, from small to large: memory of the first call, median seconds of the next ones."""
    once(side, *inputs(50, 4, seed))  # compilation is not counted
    for batch in batches:
        users, table, targets = inputs(items, batch, seed)
        with peak_memory() as memory:
            sums = once(side, users, table, targets)
        calls = {side: lambda _, given=(users, table, targets): once(side, *given)}
        seconds = interleaved(calls, repeats, warm=0)[side]
        yield {
            "batch": batch, "sums": sums, "extra_gib": memory["extra"],
            "seconds": summary(seconds),
        }  # fmt: skip


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
