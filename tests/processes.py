"""Jobs for several processes that train together, and the processes, which stay for further jobs."""

from __future__ import annotations

import multiprocessing
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from conftest import two_tastes
from ssmrec.distributed import Place, Together
from ssmrec.negatives import Batch
from ssmrec.training import Trainer, resolve, train_run
from ssmrec.training.peers import joined
from ssmrec.training.seeds import numpy_generator


class Processes:
    """So many processes on this machine that wait for jobs."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
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
    dist.destroy_process_group()


def one_step(asked: dict[str, Any], count: int) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Loss, gradients and parameters after one step on the first `count` pairs of an order."""
    config, train = resolve(asked), two_tastes().train
    trainer = Trainer(config, train, 1)
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


def whole_run(asked: dict[str, Any]) -> tuple[list[float], dict[str, Any], list[np.ndarray]]:
    """Losses of the epochs, metrics, and parameters of a training of some epochs."""
    trained = train_run(resolve(asked), two_tastes())
    tables = [p.detach().numpy().copy() for p in trained.model.parameters()]
    metrics = {
        name: trained.metrics[name]
        for name in ("test", "valid", "counts", "reference", "best_epoch")
    }
    return [record["loss"] for record in trained.history], metrics, tables
