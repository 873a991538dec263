"""Jobs for several processes that train together, and the processes, which stay for further jobs.

Processes are forked from one that has imported everything: it takes seconds that each would take.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from conftest import two_tastes
from ssmrec.data import Split, prepare
from ssmrec.distributed import Place, Together
from ssmrec.distributed.graph import DividedGraph
from ssmrec.models import Backbone
from ssmrec.negatives import Batch
from ssmrec.training import Trainer, resolve, room, train_run
from ssmrec.training.peers import current, joined
from ssmrec.training.seeds import numpy_generator
from ssmrec.training.step import Places

SMALL = {
    "model": {"name": "mf", "dim": 8},
    "train": {
        "epochs": 3,
        "batch_size": 100,
        "lr": 0.02,
        "metric": "ndcg@5",
        "threads": 1,
        "l2": 1e-3,
    },
    "evaluation": {"metrics": ["recall", "ndcg"], "ks": [5]},
}
IN_BATCH = {"name": "in_batch", "log_q": True, "exclude_known": True}
CASES: dict[str, dict[str, Any]] = {
    "mf in-batch": {"negatives": IN_BATCH},
    "mf in-batch, plain": {"negatives": {"name": "in_batch", "log_q": False}},
    "mf uniform shared": {"negatives": {"name": "uniform", "n": 12}},
    "mf uniform own": {"negatives": {"name": "uniform", "n": 5, "shared": False, "log_q": True}},
    "mf lazy": {"negatives": IN_BATCH, "train": {"optimizer": "lazy_adam"}},
    "mf mixed": {"negatives": {"name": "mixed", "n": 9}},
    "mf chosen": {"negatives": {"name": "tron", "n": 3, "pool": 15}},
    "mf prefixes": {"negatives": IN_BATCH, "loss": {"name": "ssm", "prefixes": [4, 8]}},
    "mf spectrum": {"negatives": IN_BATCH, "train": {"stable_rank": 0.1, "resn": 0.01}},
    "mf context": {"loss": {"name": "mscl"}},
    "lightgcn ssm": {"model": {"name": "lightgcn", "dim": 8}, "negatives": IN_BATCH},
    "lightgcn bpr": {"model": {"name": "lightgcn", "dim": 8}, "loss": {"name": "bpr"}},
    "simgcl": {"model": {"name": "simgcl", "dim": 8}, "negatives": IN_BATCH},
    "ngcf": {"model": {"name": "ngcf", "dim": 8, "layers": 3}, "negatives": IN_BATCH},
}


def same(one: list[np.ndarray], other: list[np.ndarray], rtol=1e-5, atol=2e-6) -> None:
    assert len(one) == len(other) > 0
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=rtol, atol=atol)


def starter() -> Any:
    """What starts processes; where nothing can be forked, they import for themselves."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    found = [name for name in ("torchrec",) if importlib.util.find_spec(name)]
    context.set_forkserver_preload(["processes", "ssmrec.cli", *found])
    return context


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Processes:
    """So many processes on this machine that wait for jobs."""

    def __init__(self, size: int) -> None:
        context, port = starter(), free_port()
        self.lines, self.members = [], []
        for rank in range(size):
            mine, theirs = context.Pipe()
            member = context.Process(target=_serve, args=(theirs, rank, size, port), daemon=True)
            member.start()
            self.lines.append(mine)
            self.members.append(member)

    def run(self, job: Callable[..., Any], *words: Any, **settings: Any) -> list[Any]:
        """What `job(...)` gives in each process."""
        for line in self.lines:
            line.send((job, words, settings))
        answers = [line.recv() for line in self.lines]
        for well, answer in answers:
            assert well, answer
        return [answer for _, answer in answers]

    def close(self) -> None:
        for line in self.lines:
            line.send(None)
        for member in self.members:
            member.join(timeout=20)


def _serve(line: Any, rank: int, size: int, port: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, size, is_master=rank == 0)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    with joined(Together(Place(rank, size, rank, size))):
        while (told := line.recv()) is not None:
            job, words, settings = told
            try:
                line.send((True, job(*words, **settings)))
            except Exception:
                line.send((False, traceback.format_exc()))
    os._exit(0)  # at once: the ends of all connections would wait for each other


def one_step(
    asked: dict[str, Any], count: int, exact: bool = False
) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Loss, gradients and parameters after one step on the first `count` pairs of an order.

    `exact`: in float64.
    """
    config, train = resolve(asked), two_tastes().train
    trainer = Trainer(config, train, 1)
    if exact:
        trainer.model.double()
    order = numpy_generator(0, "shuffle", 1).permutation(len(train))[:count]
    batch = Batch(
        *(torch.from_numpy(side[order].astype(np.int64)) for side in (train.rows, train.indices))
    )
    kept: list[torch.Tensor] = []
    step = trainer.optimizer.step

    def noting() -> Any:
        kept.extend(
            p.grad.to_dense().clone() for p in trainer.model.parameters() if p.grad is not None
        )
        return step()

    trainer.optimizer.step = noting  # type: ignore[method-assign]
    loss = trainer.step(batch, numpy_generator(0, "negatives", 1)).item()
    after = [p.detach().numpy().copy() for p in trainer.model.parameters()]
    return loss, [g.numpy() for g in kept], after


def plain_steps(asked: dict[str, Any], steps: int, rate: float) -> list[np.ndarray]:
    """Parameters in float64 after some steps of plain gradient descent on batches of 100 pairs."""
    trainer = Trainer(resolve(asked), two_tastes().train, 1)
    trainer.model.double()
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=rate)  # type: ignore[assignment]
    draws = numpy_generator(0, "negatives", 1)
    for step in range(steps):
        order = numpy_generator(0, "shuffle", step).permutation(len(trainer.train))
        trainer.step(trainer.batch_at(order[:100]), draws)
    return tables_of(trainer.model)


def bytes_of_a_step(asked: dict[str, Any]) -> tuple[int, int, int]:
    """What this process gives to the others in a step on 101 pairs; its distinct users and items."""
    trainer, draws = (
        Trainer(resolve(asked), two_tastes().train, 1),
        numpy_generator(0, "negatives", 1),
    )
    batch = trainer.batch_at(np.arange(101) * 5)
    negatives = trainer.sampler.draw(batch, draws)
    places = Places.of(batch, negatives, regularised=trainer.sampler.regularised)
    before = current().bytes  # type: ignore[attr-defined]
    trainer.step(batch, draws, negatives)
    given = current().bytes - before  # type: ignore[attr-defined]
    return given, len(places.users), len(places.items)


def bytes_of_an_epoch(asked: dict[str, Any]) -> tuple[int, int]:
    """What this process gives in the pass of an epoch, not the first one; the number of its steps."""
    trainer = Trainer(resolve(asked), two_tastes().train, 1)
    trainer._pass(1)
    before = current().bytes  # type: ignore[attr-defined]
    trainer._pass(2)
    given = current().bytes - before  # type: ignore[attr-defined]
    return given, -(-len(trainer.train) // trainer.config.train.batch_size)


def warned(asked: dict[str, Any], free: int) -> tuple[str, int]:
    """What is said of a training of a million pairs with so much free memory, and what it needs here."""
    config, sizes = resolve(asked), (1000, 500, 1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "free_memory", lambda device: free)
        return room.too_little(config, *sizes), sum(room.needed(config, *sizes).values())


def whole_run(asked: dict[str, Any]) -> tuple[list[float], dict[str, Any], list[np.ndarray]]:
    """Losses of the epochs, metrics, and parameters of a training of some epochs."""
    trained = train_run(resolve(asked), two_tastes())
    tables = tables_of(trained.model)
    metrics = {
        name: trained.metrics[name]
        for name in ("test", "valid", "counts", "reference", "best_epoch")
    }
    return [record["loss"] for record in trained.history], metrics, tables


def tables_of(model: Backbone) -> list[np.ndarray]:
    """The parameters; of a divided model, the vectors of all nodes in one table."""
    if current().divided(model):
        with torch.no_grad():
            vectors = model.vectors()
        return [torch.cat([vectors.users, vectors.items]).numpy()]
    return [p.detach().numpy().copy() for p in model.parameters()]


def divided_layers(divided: bool) -> tuple[np.ndarray, np.ndarray]:
    """A whole layer and a transposed one of random rows."""
    config = resolve({"model": {"name": "lightgcn", "dim": 8}, "train": {"threads": 1}})
    graph = Trainer(config, two_tastes().train, 1).model.graph
    assert isinstance(graph, DividedGraph) == divided
    x = np.random.default_rng(3).normal(size=(graph.n_nodes, 8)).astype(np.float32)
    return graph.layer(x, None), graph.layer_transposed(x)


def held_rows(asked: dict[str, Any]) -> int | None:
    """Rows of the table that this process holds; None where TorchRec is not installed."""
    if importlib.util.find_spec("torchrec") is None:
        return None
    model = Trainer(resolve(asked), two_tastes().train, 1).model
    return sum(p.numel() for p in model.parameters()) // int(asked["model"]["dim"])


def shuffled_together(count: int, epochs: int) -> tuple[list[np.ndarray], int, list[str]]:
    """The orders of some epochs, how often this process shuffled, and temporary files after that."""
    called, orders = [], []

    def shuffle(order: np.ndarray) -> None:
        called.append(True)
        numpy_generator(0, "shuffle", len(called)).shuffle(order)

    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            for _ in range(epochs):
                orders.append(current().shuffled(count, shuffle).copy())
        finally:
            tempfile.tempdir = None
        current().meet()
        left = os.listdir(folder)
    return orders, len(called), left


def read_together(source: str) -> tuple[str, int, bool, list[str]]:
    """Fingerprint and pairs of a split, whether this process read it, and temporary files after that."""
    read: list[bool] = []

    def make() -> Split:
        read.append(True)
        return prepare(source, seed=1)

    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            split = current().prepared(make)
        finally:
            tempfile.tempdir = None
        current().meet()
        left = os.listdir(folder)
    again = Split(split.train, split.valid, split.test, split.strategy)
    return again.fingerprint, len(split.known), bool(read), left
