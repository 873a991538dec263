"""Growth: seconds and memory of every stage from Parquet to metrics, at 1, 10 and 100 million pairs.

Data are made up (`ssmrec.data.synthetic`), 50 pairs a user and 200 an item on average at every size.
Each size runs in processes of its own: one makes the data, one loads them, one learns and ranks. An
epoch of more than `STEPS` steps is measured on that many and scaled. The exponent is the slope of
log seconds over log pairs: 1 is linear.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.harness import Settings, child, peak_memory, serve, timed
from ssmrec.data import DataConfig, Interactions, Vocabulary, load, synthetic
from ssmrec.data.read import read_frame
from ssmrec.evaluation import evaluate
from ssmrec.models.graph import Graph
from ssmrec.negatives import Batch
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trainer, resolve
from ssmrec.training.seeds import numpy_generator

PER_USER, PER_ITEM = 50, 200
STEPS = 200
JUDGED = 10_000
LEARNERS: dict[str, dict[str, Any]] = {
    "mf": {"model": {"name": "mf"}},
    "mf, lazy_adam": {"model": {"name": "mf"}, "train": {"optimizer": "lazy_adam"}},
    "lightgcn": {
        "model": {"name": "lightgcn", "layers": 1},
        "negatives": {"name": "in_batch", "log_q": False},
    },
}
Report = dict[str, Any]


def run(settings: Settings) -> dict[str, Any]:
    """Every stage at every size, and the exponent of each stage."""
    sizes = (50_000, 100_000) if settings.small else (1_000_000, 10_000_000, 100_000_000)
    found = [_one_size(size, settings) for size in sizes]
    names = [stage["stage"] for stage in found[0]["stages"]]
    exponents = {}
    for name in names:
        pairs = [
            (size["pairs"], stage["seconds"])
            for size in found
            for stage in size["stages"]
            if stage["stage"] == name
        ]
        if len(pairs) >= 2:
            x, y = np.log(np.array(pairs)).T
            exponents[name] = {
                "whole": float(np.polyfit(x, y, 1)[0]),
                "last_step": float((y[-1] - y[-2]) / (x[-1] - x[-2])),
                "sizes": len(pairs),
            }
    return {"sizes": found, "exponents": exponents}


def _one_size(pairs: int, settings: Settings) -> dict[str, Any]:
    stages: list[Report] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for parts in (
            (["make", "load", "learn"],) if settings.small else (["make"], ["load"], ["learn"])
        ):
            arguments = {
                "parts": parts, "folder": folder, "pairs": pairs, "seed": settings.seed,
                "most": 5 if settings.small else STEPS,
            }  # fmt: skip
            for report in child("benchmarks.growth", arguments):
                if "failed" in report:
                    failed.append(f"{', '.join(parts)}: {report['failed']}")
                else:
                    stages.append(report)
    return {
        "pairs": pairs, "users": pairs // PER_USER, "items": pairs // PER_ITEM,
        "stages": stages, "failed": failed,
    }  # fmt: skip


def measure(parts: list[str], folder: str, pairs: int, seed: int, most: int) -> Iterator[Report]:
    """The stages of these parts at one size; an epoch is measured on `most` steps at most."""
    where = Path(folder)
    if "make" in parts:
        yield from _make(where, pairs, seed)
    if "load" in parts:
        yield from _load(where)
    if "learn" in parts:
        yield from _learn(_saved(where), seed, most)


def _staged(name: str, call: Callable[[], Any], **more: Any) -> tuple[Any, Report]:
    """Result of `call`, and its seconds and memory."""
    with peak_memory() as memory:
        result, seconds = timed(call)
    report = {"stage": name, "seconds": seconds, **more}
    return result, report | {"peak_gib": memory["peak"], "extra_gib": memory["extra"]}


def _make(where: Path, pairs: int, seed: int) -> Iterator[Report]:
    data, report = _staged(
        "synthetic", lambda: synthetic(pairs // PER_USER, pairs // PER_ITEM, pairs, seed)
    )
    pl.DataFrame({"user": data.rows, "item": data.indices}).write_parquet(where / "pairs.parquet")
    np.save(where / "indptr.npy", data.indptr)
    np.save(where / "indices.npy", data.indices)
    yield report


def _load(where: Path) -> Iterator[Report]:
    path = where / "pairs.parquet"
    tiny = where / "tiny.parquet"
    pl.DataFrame({"user": [1, 1, 2], "item": [1, 2, 1]}).write_parquet(tiny)
    load(tiny)  # libraries load on first use
    frame, report = _staged("read parquet", lambda: read_frame(path, DataConfig()))
    yield report
    del frame
    data, report = _staged("parquet to Interactions", lambda: load(path))
    yield report | {"pairs": len(data)}


def _saved(where: Path) -> Interactions:
    indptr, indices = np.load(where / "indptr.npy"), np.load(where / "indices.npy")
    items = int(indices.max()) + 1
    users, items = (
        Vocabulary(pl.Series(np.arange(n, dtype=np.int64))) for n in (len(indptr) - 1, items)
    )
    return Interactions(users, items, indptr, indices)


def _learn(data: Interactions, seed: int, most: int) -> Iterator[Report]:
    tiny = synthetic(200, 100, 2000)
    for name in LEARNERS:  # compilation is not counted
        _ranked(_trainer(name, tiny, seed), tiny, tiny)
    for cached in ("rows", "user_degrees", "item_degrees"):  # not charged to the stage they meet
        getattr(data, cached)
    graph, report = _staged("graph", lambda: Graph(data))
    yield report
    del graph
    held_out = _held_out(data, seed)
    for name in LEARNERS:
        yield from _trained(name, data, held_out, seed, most)


def _trained(
    name: str, data: Interactions, held_out: Interactions, seed: int, most: int
) -> Iterator[Report]:
    trainer, report = _staged(f"{name}: start", lambda: _trainer(name, data, seed))
    yield report
    yield _epoch(f"{name}: epoch", trainer, most)
    if name == "lightgcn":
        _, report = _staged("evaluate", lambda: _ranked(trainer, data, held_out))
        yield report | {"users": int((held_out.user_degrees > 0).sum())}


def _trainer(name: str, train: Interactions, seed: int) -> Trainer:
    parts = LEARNERS[name]
    config = resolve(
        {**parts, "train": {"protocol": "fixed", **parts.get("train", {})}, "seed": seed}
    )
    trainer = Trainer(config, train, epochs=1)
    if len(train) <= 2000:
        trainer.run()
    return trainer


def _epoch(name: str, trainer: Trainer, most: int) -> Report:
    """One pass over the pairs: whole, or its shuffle and `most` steps, scaled to all of them."""
    train, size = trainer.train, trainer.config.train.batch_size
    steps = -(-len(train) // size)
    if steps <= most:
        return _staged(name, trainer._one_epoch, measured_share=1.0, steps=steps)[1]

    def part() -> float:
        start = time.perf_counter()
        order = numpy_generator(trainer.config.seed, "shuffle", 1).permutation(len(train))
        users = torch.from_numpy(train.rows[order].astype(np.int64))
        items = torch.from_numpy(train.indices[order].astype(np.int64))
        shuffle = time.perf_counter() - start
        draws = numpy_generator(trainer.config.seed, "negatives", 1)
        took = []
        for step in range(most + 3):  # the first three make Adam's state
            start = time.perf_counter()
            rows = slice(step * size, (step + 1) * size)
            trainer.step(Batch(users[rows], items[rows]), draws)
            took.append(time.perf_counter() - start)
        return shuffle + float(np.mean(took[3:])) * steps

    scaled, report = _staged(name, part, measured_share=most / steps, steps=steps)
    return report | {"seconds": scaled}


def _held_out(data: Interactions, seed: int) -> Interactions:
    """One random item each for up to `JUDGED` random users."""
    generator = np.random.default_rng([seed, 1])
    count = min(JUDGED, data.n_users)
    chosen = generator.choice(data.n_users, count, replace=False)
    items = generator.integers(data.n_items, size=count)
    return Interactions.from_pairs(chosen, items, data.users, data.items)


def _ranked(trainer: Trainer, train: Interactions, held_out: Interactions) -> float:
    seen = [] if held_out is train else [train]
    users, items = ranking_vectors(trainer.model, "dot")
    return evaluate(users, items, held_out, seen, ["ndcg@20"]).values["ndcg@20"]


if __name__ == "__main__":
    serve(measure)
