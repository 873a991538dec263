"""Table 7 of Wu et al. (TOIS 2024): time and memory of a step as the catalogue grows.

Items without any interaction are added to the data. Softmax over all items works with every one of
them at every step, sampled softmax only with those of the batch. LightGCN with 3 layers as in the paper.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.harness import Settings, child, peak_memory, published, serve
from ssmrec.data import Interactions, Vocabulary
from ssmrec.negatives import Batch
from ssmrec.training import Trainer, resolve

LOSSES = {
    "softmax": {"loss": {"name": "softmax"}},
    "ssm": {"loss": {"name": "ssm"}, "negatives": {"name": "in_batch", "log_q": False}},
}
Report = dict[str, Any]


def run(settings: Settings, source: str) -> dict[str, Any]:
    """Seconds of a step and peak memory for each loss and number of added items."""
    small = settings.small
    added = (0, 2_000) if small else (0, 100_000, 200_000, 300_000, 400_000, 500_000)
    rows: list[Report] = []
    for loss in LOSSES:
        for items in added:  # a process each, so that peaks do not mix
            arguments = {
                "source": "online-retail" if small else source, "loss": loss, "added": items,
                "batch": 256 if small else 2048, "steps": 2 if small else 7, "seed": settings.seed,
            }  # fmt: skip
            for report in child("benchmarks.padding", arguments):
                rows.append({"loss": loss, "added": items, **report})
    return {"data": source, "rows": rows, "growth": _growth(rows)}


def _growth(rows: list[Report]) -> dict[str, dict[str, float]]:
    """Seconds and memory with the most items, relative to none added."""
    found = {}
    for loss in LOSSES:
        own = [row for row in rows if row["loss"] == loss and "step" in row]
        if len(own) > 1:
            found[loss] = {key: own[-1][key] / own[0][key] for key in ("step", "peak_gib")}
    return found


def measure(
    source: str, loss: str, added: int, batch: int, steps: int, seed: int
) -> Iterator[Report]:
    """Median seconds of `steps` steps after two more, and the memory held while they ran."""
    train = padded(published(source)[0], added)
    parts = {"model": {"name": "lightgcn", "layers": 3}, "train": {"protocol": "fixed"}}
    trainer = Trainer(resolve({**parts, **LOSSES[loss], "seed": seed}), train, 1)
    draws = np.random.default_rng(seed)
    took = []
    with peak_memory() as memory:
        for _ in range(steps + 2):
            chosen = draws.integers(len(train), size=batch)
            users, items = train.rows[chosen], train.indices[chosen]
            pairs = Batch(*(torch.from_numpy(ids.astype(np.int64)) for ids in (users, items)))
            start = time.perf_counter()
            trainer.step(pairs, draws)
            took.append(time.perf_counter() - start)
    step = float(np.median(took[2:]))
    yield {
        "items": train.n_items, "step": step, "epoch": step * -(-len(train) // batch),
        "peak_gib": memory["peak"],
    }  # fmt: skip


def padded(train: Interactions, added: int) -> Interactions:
    """`train` with items that nobody has; their ids follow the largest one."""
    last = int(np.asarray(train.items.ids.cast(pl.Int64)).max())
    ids = pl.Series([*train.items.ids.cast(pl.Int64), *range(last + 1, last + 1 + added)])
    return Interactions(train.users, Vocabulary(ids), train.indptr, train.indices)


if __name__ == "__main__":
    serve(measure)
