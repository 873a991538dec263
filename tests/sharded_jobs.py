"""Jobs for `processes.Processes` on tables that are divided: saved, read back, ranked by, written as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from conftest import two_tastes
from processes import tables_of
from ssmrec.distributed.sharded import ShardedMF
from ssmrec.evaluation import evaluate
from ssmrec.kernels.products import PANEL
from ssmrec.training import (
    Checkpoint,
    Listener,
    Trainer,
    Watch,
    checkpoint,
    resolve,
    save_run,
    train_run,
)
from ssmrec.training.peers import current
from ssmrec.training.run import give_rows

Array = np.ndarray


class Stop(Exception):
    """Ends a training as a lost process would."""


class Stopping(Listener):
    """Ends in an epoch (1, 2, ... over all phases), which is then not saved; remembers what was noted."""

    def __init__(self, epoch: int) -> None:
        self.left, self.notes = epoch, []

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stop

    def note(self, text: str) -> None:
        self.notes.append(text)


def saved(folder: Path, asked: dict[str, Any]) -> list[Array]:
    """Train, and save a checkpoint: the rows of best, model and moments that this process holds."""
    trainer = _trainer(asked)
    trainer.run()
    Checkpoint(folder, "key", {}, False).save("train", trainer)
    return _rows(trainer)


def restored(folder: Path, asked: dict[str, Any], to: Path) -> list[Array]:
    """Read a checkpoint and save it elsewhere: the rows that this process holds."""
    trainer = _trainer(asked)
    Checkpoint(folder, "key", {}, True).restore("train", trainer)
    assert trainer.state.epoch == trainer.epochs
    Checkpoint(to, "key", {}, False).save("train", trainer)
    return _rows(trainer)


def _trainer(asked: dict[str, Any]) -> Trainer:
    data, config = two_tastes(), resolve(asked)
    assert data.valid is not None
    return Trainer(config, data.train, config.train.epochs, Watch(data.valid, [data.train]))


def _rows(trainer: Trainer) -> list[Array]:
    (parameter,) = trainer.model.parameters()
    moments = trainer.optimizer.state[parameter]
    held = [trainer.state.best["table"], parameter, moments["exp_avg"], moments["exp_avg_sq"]]
    return [x.detach().clone().view(-1, trainer.config.model["dim"]).numpy() for x in held]


def broken_off(folder: Path, asked: dict[str, Any], epoch: int) -> list[str]:
    """A training with checkpoints that ends in an epoch; what was noted."""
    ear = Stopping(epoch)
    checkpoint._EVERY = 0.0
    try:
        made = Checkpoint(folder, "key", {}, False)
        if epoch > 100:  # the folder is gone, so that nothing can be written
            folder.rename(folder.with_name("gone")) if made.writes else None
        train_run(resolve(asked), two_tastes(), ear, made)
    except Stop:
        pass
    return ear.notes


def resumed(folder: Path, asked: dict[str, Any]) -> tuple[list[float], dict[str, Any], list[Array]]:
    """The rest of such a training: losses of all epochs, metrics, tables."""
    ear = Stopping(-1)
    trained = train_run(resolve(asked), two_tastes(), ear, Checkpoint(folder, "key", {}, True))
    last = "refit" if asked["train"].get("protocol") == "refit" else "select"
    assert current().rank or any(f"{last}: going on after epoch" in text for text in ear.notes)
    metrics = {name: trained.metrics[name] for name in ("test", "valid", "best_epoch")}
    return [record["loss"] for record in trained.history], metrics, tables_of(trained.model)


def run_folder(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Train and write the run folder, as the command does; what was measured."""
    trained = train_run(resolve(asked), two_tastes())
    if current().rank:
        give_rows(trained.model)
    else:
        save_run(folder, trained, "key")
    return trained.metrics["test"]


def judged(asked: dict[str, Any], table: Array, block: int, similarity: str) -> dict[str, Array]:
    """Metrics of each user by vectors of these values (n, d), exchanged in blocks.

    One process judges his users in lists of `PANEL` users, the others in one: rounds differ.
    """
    trainer, data = _trainer(asked), two_tastes()
    model, peers = trainer.model, current()
    with torch.no_grad():
        nodes = torch.from_numpy(table)
        if peers.divided(model):
            assert isinstance(model, ShardedMF)
            own = model.table.view(model.held, model.dim)
            mine = nodes[peers.rank :: peers.size]
            own[: len(mine)] = mine
            model.block = block  # type: ignore[misc]
        else:
            model.table.copy_(nodes)
    users, items, spread = peers.ranking(model, similarity)  # type: ignore[arg-type]
    found = evaluate(
        users, items, data.test, [data.train, data.valid], ["ndcg@5", "recall@20", "mrr@3"],
        allowed=data.train.item_degrees > 0, spread=_rounds(spread) if peers.rank else spread,
    )  # fmt: skip
    return {**found.per_user, "empty": np.array(found.counts["users_without_list"])}


def _rounds(spread: Any) -> Any:
    """The same work in lists of one panel at a time."""

    def spreading(judge: Any, count: int) -> Any:
        def one_by_one(part: slice) -> Any:
            parts = [
                judge(slice(at, min(at + PANEL, part.stop)))
                for at in range(part.start, part.stop, PANEL)
            ]
            values = {
                name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]
            }
            return values, sum(part[1] for part in parts)

        return spread(one_by_one, count)

    return spreading
