"""One training step (B 2048, d 64, in-batch sampled softmax): ours against plain torch.

All sides start from the same table and see the same batches, A B A B. Their losses and their tables are
compared, so that the faster side cannot be the one that does less.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Settings, child, compared, interleaved, published, serve, summary
from benchmarks.plain import PlainStep, adjacency
from ssmrec.data import Interactions
from ssmrec.negatives import Batch
from ssmrec.training import Trainer, resolve
from ssmrec.training.seeds import numpy_generator

BATCH = 2048


@dataclass(frozen=True)
class Case:
    """A model, and how many times faster than plain torch it is meant to be."""

    model: dict[str, Any]
    target: float


CASES = {
    "lightgcn-1": Case({"name": "lightgcn", "layers": 1}, 6.0),
    "lightgcn-3": Case({"name": "lightgcn", "layers": 3}, 3.0),
    "svdpp": Case({"name": "svdpp"}, 4.0),
    "mf": Case({"name": "mf"}, 1.8),
}


def run(settings: Settings) -> dict[str, Any]:
    """Ratio, agreement and target of every model."""
    source = "online-retail" if settings.small else "yelp2018"
    repeats = 3 if settings.small else 60
    batch = 512 if settings.small else BATCH
    train, _ = published(source)
    found: dict[str, Any] = {"data": source, "batch": batch, "dim": 64, "models": {}}
    for name in CASES:
        found["models"][name] = _compare(name, train, settings.seed, repeats, batch)
        if not settings.small:
            found["models"][name] |= _alone(name, source, settings.seed)
    return found


def _compare(name: str, train: Interactions, seed: int, repeats: int, batch: int) -> dict[str, Any]:
    warm = 3
    trainer, plain, batches = prepared(name, train, seed, warm + repeats, batch)
    model: Any = trainer.model
    start = model.table.detach().clone()
    draws = numpy_generator(seed, "negatives", 1)
    losses: dict[str, list[float]] = {"ours": [], **{side: [] for side in plain}}

    def ours(number: int) -> None:
        users, items = batches[number]
        losses["ours"].append(trainer.step(Batch(users, items), draws).item())

    def theirs(side: str) -> Callable[[int], None]:
        return lambda number: losses[side].append(plain[side](*batches[number]))

    seconds = interleaved({"ours": ours} | {side: theirs(side) for side in plain}, repeats, warm)
    apart, moved = (
        model.table.detach() - other for other in (plain["torch"].table.detach(), start)
    )
    return {
        **compared(seconds),
        "target": CASES[name].target,
        "largest_loss_difference": float(
            max(np.abs(np.subtract(losses["ours"], losses[side])).max() for side in plain)
        ),
        "last_loss": losses["torch"][-1],
        "table_difference": float(apart.norm() / moved.norm()),
        "steps": len(losses["ours"]),
    }


def prepared(
    name: str,
    train: Interactions,
    seed: int,
    steps: int,
    batch: int = BATCH,
    device: str = "cpu",
) -> tuple[Trainer, dict[str, PlainStep], list[tuple[Tensor, Tensor]]]:
    """Our trainer, plain steps with copies of its table, and the first batches of epoch 1.

    `torch` keeps the transpose of the adjacency; `torch_autograd` (where there is one) lets autograd
    find it, as most code does.
    """
    config = resolve(
        {
            "model": CASES[name].model,
            "loss": {"name": "ssm", "temperature": 0.14},
            "negatives": {"name": "in_batch"},
            "ranking": {"similarity": "dot"},
            "train": {"protocol": "fixed", "batch_size": batch, "device": device},
            "seed": seed,
        }
    )
    trainer = Trainer(config, train, epochs=1)
    model: Any = trainer.model
    weights = getattr(model, "layer_weights", (1.0,))
    matrices: dict[str, tuple[Tensor | None, Tensor | None]] = {"torch": (None, None)}
    if len(weights) > 1:
        side = config.model.get("side", "both")
        matrix, transposed = (
            found.to(device) for found in adjacency(train, tuple(config.model["alpha"]), side)
        )
        matrices = {"torch": (matrix, transposed), "torch_autograd": (matrix, None)}
    plain = {
        side: PlainStep(
            torch.nn.Parameter(model.table.detach().clone()), *pair, weights, train.n_users,
            0.14, config.train.l2, config.train.lr,
        )
        for side, pair in matrices.items()
    }  # fmt: skip
    order = numpy_generator(seed, "shuffle", 1).permutation(len(train))
    order = np.resize(order, steps * batch).reshape(steps, batch)
    batches = [
        tuple(torch.from_numpy(side[part].astype(np.int64)) for side in (train.rows, train.indices))
        for part in order
    ]
    return trainer, plain, batches  # type: ignore[return-value]


def _alone(name: str, source: str, seed: int) -> dict[str, Any]:
    """Plain torch by itself under OpenMP's own wait policy, which ssmrec changes in its process."""
    if os.environ.get("OMP_WAIT_POLICY") != "PASSIVE":
        return {}
    arguments = {"name": name, "source": source, "seed": seed, "repeats": 30}
    reports = child("benchmarks.step", arguments, {"OMP_WAIT_POLICY": ""})
    return {"torch_alone": {k: v for report in reports for k, v in report.items()}}


def alone(name: str, source: str, seed: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Plain torch's step with nothing else in the process."""
    train, _ = published(source)
    _, plain, batches = prepared(name, train, seed, repeats + 3)
    seconds = interleaved({"torch": lambda number: plain["torch"](*batches[number])}, repeats, 3)
    yield summary(seconds["torch"])


if __name__ == "__main__":
    serve(alone)
