"""What the faster ways do to quality: test NDCG@20 after the same epochs, over three seeds.

Our kernels against plain torch, Adam that moves the rows of the batch only against the dense one, and larger
batches with a larger learning rate against the usual ones. Epochs are fixed beforehand; nothing is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Settings, published
from benchmarks.step import prepared
from ssmrec.config import merged
from ssmrec.data import Interactions
from ssmrec.evaluation import evaluate
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trainer, resolve
from ssmrec.training.seeds import numpy_generator

METRIC = "ndcg@20"
PAIR = {
    "model": {"name": "lightgcn", "layers": 1},
    "loss": {"name": "ssm", "temperature": 0.14},
    "negatives": {"name": "in_batch"},
    "ranking": {"similarity": "dot"},
}
"""The paper's pair for LightGCN."""
MF = {"model": {"name": "mf"}, "loss": {"name": "ssm", "temperature": 0.14}}


@dataclass(frozen=True)
class Case:
    """One way to train, compared with the first of its group."""

    group: str
    name: str
    settings: dict[str, Any]
    epochs: int


def _train(**values: Any) -> dict[str, Any]:
    return {"train": values}


CASES = (
    *(
        Case("optimiser, MF", name, merged(MF, _train(optimizer=name)), 12)
        for name in ("adam", "lazy_adam")
    ),
    *(
        Case("batch, LightGCN-1", f"B {size}, lr {lr:g}", merged(PAIR, _train(batch_size=size, lr=lr)), 6)
        for size, lr in (
            (2048, 1e-3), (4096, 1e-3), (4096, 1.4e-3), (4096, 2e-3), (8192, 2e-3), (8192, 4e-3),
        )
    ),
)  # fmt: skip


def run(settings: Settings, source: str) -> dict[str, Any]:
    """NDCG@20 of every seed and seconds of an epoch, for each way."""
    source = "online-retail" if settings.small else source
    train, test = published(source)
    if settings.small:
        train, test = (pairs.take(pairs.rows < 300) for pairs in (train, test))
    seeds = [settings.seed + k for k in range(1 if settings.small else 3)]
    rows = []
    for group, name, epochs, trained in _ways(train, settings.small):
        found = [_judged(*trained(seed), train, test) for seed in seeds]
        rows.append({
            "group": group, "name": name, "epochs": epochs,
            METRIC: [value for value, _ in found],
            "epoch_seconds": float(np.median([seconds for _, seconds in found])),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return {"data": source, "seeds": seeds, "ways": rows}


def _ways(train: Interactions, small: bool) -> Iterator[tuple[str, str, int, Any]]:
    epochs = 1 if small else 4
    for side in ("plain torch", "ours"):
        yield (
            "kernels, LightGCN-1", side, epochs,
            lambda seed, side=side: _kernels(side, train, seed, epochs),
        )  # fmt: skip
    for case in CASES:
        passes = 1 if small else case.epochs
        yield (
            case.group, case.name, passes,
            lambda seed, case=case, passes=passes: _trained(case, train, seed, passes),
        )  # fmt: skip


def _kernels(side: str, train: Interactions, seed: int, epochs: int) -> tuple[Trainer, float]:
    """The step benchmark's training, by our step or by plain torch's; the model holds the result."""
    trainer, plain, _ = prepared("lightgcn-1", train, seed, 1)
    trainer.epochs = epochs
    if side == "ours":
        return trainer, float(np.median([r["train_seconds"] for r in trainer.run().history]))
    start = time.perf_counter()
    size = trainer.config.train.batch_size
    for epoch in range(1, epochs + 1):
        order = numpy_generator(seed, "shuffle", epoch).permutation(len(train))
        users, items = (
            torch.from_numpy(ids[order].astype(np.int64)) for ids in (train.rows, train.indices)
        )
        for at in range(0, len(order), size):
            plain["torch"].step(users[at : at + size], items[at : at + size])
    seconds = (time.perf_counter() - start) / epochs
    model: Any = trainer.model
    with torch.no_grad():
        model.table.copy_(plain["torch"].table)
    return trainer, seconds


def _trained(case: Case, train: Interactions, seed: int, epochs: int) -> tuple[Trainer, float]:
    fixed = {"train": {"protocol": "fixed", "device": "cpu"}, "seed": seed}
    trainer = Trainer(resolve(merged(case.settings, fixed)), train, epochs)
    return trainer, float(np.median([r["train_seconds"] for r in trainer.run().history]))


def _judged(
    trainer: Trainer, seconds: float, train: Interactions, test: Interactions
) -> tuple[float, float]:
    vectors = ranking_vectors(trainer.model, trainer.config.ranking.similarity)  # type: ignore[arg-type]
    found = evaluate(*vectors, test, [train], [METRIC], allowed=train.item_degrees > 0)
    return found.values[METRIC], seconds
