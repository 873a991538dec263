"""Several processes on this machine: a training step beside that of one process, and what sharded tables take.

Each side runs in processes of its own, started by torchrun where there are several, and the sides take turns.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch.distributed as dist

from benchmarks.harness import Settings, child, published, resident, serve, summary
from ssmrec.data import Interactions, Vocabulary
from ssmrec.distributed import Place, Together
from ssmrec.training import Trainer, resolve
from ssmrec.training.peers import current, joined
from ssmrec.training.seeds import numpy_generator

Report = dict[str, Any]

SIDES = {
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes": (2, 1),
}
"""Processes, and threads of each."""
IN_BATCH = {"name": "in_batch", "log_q": True}
PLAIN = {"name": "in_batch", "log_q": False}
STEPS: dict[str, dict[str, Any]] = {
    "mf, 2,048 pairs": {"model": {"name": "mf"}, "negatives": IN_BATCH},
    "mf, 8,192 pairs": {
        "model": {"name": "mf"}, "negatives": IN_BATCH, "train": {"batch_size": 8192}
    },
    **{
        f"lightgcn, {n} layer{'s' * (n > 1)}": {
            "model": {"name": "lightgcn", "layers": n}, "negatives": PLAIN
        }
        for n in (1, 2, 3)
    },
}  # fmt: skip
WARM = 3
TABLES = ((1_000_000, 64, 2), (10_000_000, 16, 2), (10_000_000, 16, 4))
"""Users, of whom there are as many as items; numbers of a vector; processes."""


def run(settings: Settings) -> dict[str, Any]:
    """Steps of every side, some rounds of them, and the memory of sharded tables by their size."""
    steps, rounds = (3, 1) if settings.small else (15, 4)
    data = "online-retail" if settings.small else "yelp2018"
    tables = ((2000, 16, 2),) if settings.small else TABLES
    if find_spec("torchrec") is None:
        print("no torchrec: sharded tables are left out (make distributed-cpu)")
        tables = ()
    return {
        "data": data,
        "steps": _steps(data, steps, rounds, settings),
        "tables": [
            report
            for nodes, dim, processes in tables
            for report in _apart(processes, "tables", nodes=nodes, dim=dim, seed=settings.seed)
        ],
    }


def _steps(data: str, steps: int, rounds: int, settings: Settings) -> dict[str, dict[str, Any]]:
    """Summary of each side by what is trained: seconds of its steps in all rounds, and loss of the last one."""
    names = list(STEPS)[:1] if settings.small else list(STEPS)
    took: dict[str, dict[str, list[float]]] = {what: {side: [] for side in SIDES} for what in names}
    losses: dict[str, dict[str, float]] = {what: {} for what in names}
    for _ in range(rounds):
        for side, (processes, threads) in SIDES.items():
            more = {
                "data": data,
                "threads": threads,
                "steps": steps,
                "seed": settings.seed,
                "names": names,
            }
            for report in _apart(processes, "steps", **more):
                took[report["what"]][side] += report["seconds"]
                losses[report["what"]][side] = report["loss"]
    found = {}
    for what, sides in took.items():
        base = median(sides["one process, one thread"])
        found[what] = {
            "sides": {side: summary(seconds) for side, seconds in sides.items()},
            "times_faster": {side: base / median(seconds) for side, seconds in sides.items()},
            "losses": losses[what],
        }
    return found


def _apart(processes: int, part: str, **arguments: Any) -> Iterator[Report]:
    """What the processes of one side report.

    Raises:
        RuntimeError: they failed.
    """
    own = {"OMP_NUM_THREADS": "1"} if processes > 1 else {}  # what torchrun sets, with many words
    asked = {"part": part, **arguments}
    for report in child("benchmarks.processes", asked, own, processes):
        if "failed" in report:
            raise RuntimeError(f"{part} of {processes} process(es): {report['failed']}")
        yield report


def measure(part: str, **arguments: Any) -> Iterator[Report]:
    """One side: what process 0 reports."""
    with _together():
        yield from (_measured_steps if part == "steps" else _measured_tables)(**arguments)


@contextmanager
def _together() -> Iterator[None]:
    """As one of several processes, where it was started as one."""
    place = Place.found()
    if place is None:
        yield
        return
    dist.init_process_group("gloo")
    with joined(Together(place)) as peers:
        yield
        peers.meet()
    dist.destroy_process_group()


def _measured_steps(
    data: str, threads: int, steps: int, seed: int, names: list[str]
) -> Iterator[Report]:
    train, _ = published(data)
    for what in names:
        asked = STEPS[what]
        own = {"threads": threads, **asked.get("train", {})}
        trainer = Trainer(resolve({**asked, "train": own, "seed": seed}), train, 1)
        took, loss = _timed(trainer, steps, seed)
        yield {"what": what, "seconds": took, "loss": loss}


def _timed(trainer: Trainer, steps: int, seed: int) -> tuple[list[float], float]:
    """Seconds of each step after the first ones, which compile and make Adam's state; the last loss."""
    size = min(trainer.config.train.batch_size, len(trainer.train))
    draws, took, loss = numpy_generator(seed, "negatives", 1), [], 0.0
    order = numpy_generator(seed, "shuffle", 1)
    for step in range(WARM + steps):
        batch = trainer.batch_at(order.choice(len(trainer.train), size))
        start = time.perf_counter()
        loss = trainer.step(batch, draws).item()
        if step >= WARM:
            took.append(time.perf_counter() - start)
    return took, loss


def _measured_tables(nodes: int, dim: int, seed: int) -> Iterator[Report]:
    """Growth of the processes from before the table to after some steps, in bytes, and seconds of a step."""
    train, before = _two_each(nodes, seed), _own_memory()
    asked = {
        "model": {"name": "mf", "dim": dim}, "negatives": IN_BATCH, "seed": seed,
        "train": {"threads": 1}, "distributed": {"tables": "sharded"},
    }  # fmt: skip
    trainer = Trainer(resolve(asked), train, 1)
    took, loss = _timed(trainer, 5, seed)
    grown: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(grown, _own_memory() - before)
    yield {
        "users": nodes, "items": nodes, "dim": dim, "processes": len(grown), "grown": grown,
        "formula": 16 * 2 * nodes * dim // len(grown), "seconds": summary(took), "loss": loss,
        "bytes_given": current().bytes,  # type: ignore[attr-defined]
    }  # fmt: skip


def _two_each(nodes: int, seed: int) -> Interactions:
    """Two random items for each of as many users, one of either half."""
    half, draws = nodes // 2, np.random.default_rng(seed)
    items = np.stack([draws.integers(0, half, nodes), draws.integers(half, nodes, nodes)], axis=1)
    ids = Vocabulary(pl.Series(np.arange(nodes, dtype=np.int64)))
    bounds = np.arange(nodes + 1, dtype=np.int64) * 2
    return Interactions(ids, ids, bounds, items.astype(np.int32).ravel())


def _own_memory() -> int:
    """Bytes of this process that are no pages of files."""
    return int(resident("RssAnon") * 2**30)


if __name__ == "__main__":
    if os.environ.get("RANK", "0") != "0":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # process 0 reports
    serve(measure)
    sys.stdout.flush()
    os._exit(0)  # threads of the connections to others may not outlive an orderly end
