"""Time to quality: test NDCG@20 over seconds, for ours, `implicit` and RecBole's LightGCN.

Data are in memory at the start; everything after counts: graph, initial weights, sampling, steps.
Compilation of kernels (kept on disk between runs) and evaluation do not. All vectors are judged by
`ssmrec.evaluation.evaluate`, by dot product, train items left out. Settings of `implicit` are chosen
by NDCG@20 on validation pairs, and that search is not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import implicit_side, recbole_env
from benchmarks.harness import ROOT, Settings, published
from ssmrec.config import merged, read_recipe
from ssmrec.data import Interactions, split, synthetic
from ssmrec.evaluation import evaluate
from ssmrec.ranking.vectors import ranking_vectors
from ssmrec.training import Trainer, resolve
from ssmrec.training.closed import solve
from ssmrec.training.listener import Listener

METRICS = ["ndcg@20", "recall@20"]
Point = dict[str, float]


def run(settings: Settings, source: str) -> dict[str, Any]:
    """Curves of every method on one data set, and when ours passed the best of each other."""
    source = "online-retail" if settings.small else source
    found = _curves(source, settings)
    if not settings.small:
        plot(source, found["curves"], ROOT / "docs" / f"quality-{source}.svg")
    return found


def _curves(source: str, settings: Settings) -> dict[str, Any]:
    train, test = published(source)
    judge = Judge(train, test)
    curves: dict[str, Any] = {}
    for name, changes, epochs in _ours(settings):
        curves[name] = ours(source, train, judge, changes, epochs, settings.seed)
    curves["ours, svd"] = closed(
        train,
        judge,
        (16,) if settings.small else (64, 96, 128, 160, 192, 224, 256, 320, 384, 512),
        settings.seed,
    )
    carved = split(train, "random", test=0.1, valid=0, seed=settings.seed)
    curves |= implicit_side.curves(train, carved, judge, settings.small, settings.seed)
    if not settings.small or recbole_env.ready(settings.venvs):
        curves["recbole lightgcn-1"] = _recbole(train, test, judge, settings)
    return {"data": source, "curves": curves, "against": _against(curves)}


def _ours(settings: Settings) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Name, changes to the recipe, and epochs: the beginning, where the curves differ."""
    if settings.small:
        few_steps = {"train": {"batch_size": 1024, "lr": 3e-3}}
        yield "ours", few_steps, 1
        yield "ours, spectral start", few_steps | {"model": {"init": "spectral"}}, 1
        return
    yield "ours", {}, 6
    for dim, epochs in ((64, 4), (128, 5), (256, 4)):
        yield f"ours, spectral start, d {dim}", {"model": {"init": "spectral", "dim": dim}}, epochs


class Judge:
    """Test NDCG@20 and Recall@20 of vectors."""

    def __init__(self, train: Interactions, test: Interactions) -> None:
        self.train, self.test = train, test

    def __call__(self, seconds: float, users: Tensor, items: Tensor, **more: float) -> Point:
        """One point of a curve."""
        allowed = self.train.item_degrees > 0
        result = evaluate(users, items, self.test, [self.train], METRICS, allowed=allowed)
        return {"seconds": seconds, **more, **result.values}


def ours(
    source: str, train: Interactions, judge: Judge, changes: dict[str, Any], epochs: int, seed: int
) -> dict[str, Any]:
    """Train the recipe of a data set; the clock stands still while a point is judged."""
    recipe = read_recipe(f"{source}-lightgcn-ssm")
    config = resolve(merged(recipe, changes, {"train": {"protocol": "fixed"}, "seed": seed}))
    _compile(config)
    clock = -time.perf_counter()
    trainer = Trainer(config, train, epochs)
    points: list[Point] = []

    def after_epoch(current: Trainer) -> None:
        nonlocal clock
        clock += time.perf_counter()
        epoch = current.state.epoch
        if epoch <= 5 or epoch % 5 == 0 or epoch == epochs:
            vectors = ranking_vectors(current.model, config.ranking.similarity)  # type: ignore[arg-type]
            points.append(judge(clock, *vectors, epoch=epoch))
        clock -= time.perf_counter()

    started = clock + time.perf_counter()
    vectors = ranking_vectors(trainer.model, config.ranking.similarity)  # type: ignore[arg-type]
    points.append(judge(started, *vectors, epoch=0))
    clock = started - time.perf_counter()
    trainer.run(after_epoch)
    return {"points": points, "settings": {"model": config.model, "loss": config.loss,
            "negatives": config.negatives, "train": config.train.model_dump(mode="json")}}  # fmt: skip


def closed(train: Interactions, judge: Judge, dims: tuple[int, ...], seed: int) -> dict[str, Any]:
    """The closed-form SVD of each size, every one from the start: a point is one whole solution."""
    points = []
    for dim in dims:
        config = resolve({"model": {"name": "svd", "dim": dim}, "seed": seed})
        _solve(config, synthetic(200, 100, 2000))
        start = time.perf_counter()
        model = _solve(config, train)
        seconds = time.perf_counter() - start
        points.append(judge(seconds, *ranking_vectors(model, "dot"), dim=dim))  # type: ignore[arg-type]
    return {"points": points, "settings": {"model": config.model}}


def _solve(config: Any, train: Interactions) -> Any:
    return solve(config, train, Listener()).model


def _compile(config: Any) -> None:
    """Two steps on made-up data, so that the kernels are there."""
    tiny = synthetic(200, 100, 2000)
    Trainer(config, tiny, 1).run()


def _recbole(
    train: Interactions, test: Interactions, judge: Judge, settings: Settings
) -> dict[str, Any]:
    """RecBole's LightGCN (1 layer, BPR, batch 2048), the first epochs."""
    python = recbole_env.venv(settings.venvs)
    epochs = [1] if settings.small else [1, 2]
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        recbole_env.write_data(Path(folder), train, test)
        arguments = {
            "folder": folder, "layers": 1, "batch": 2048, "epochs": epochs, "seed": settings.seed,
        }  # fmt: skip
        for report in recbole_env.reports(python, arguments):
            if "epoch" in report:
                users, items = recbole_env.read_vectors(
                    report["file"], train.n_users, train.n_items
                )
                vectors = torch.from_numpy(users), torch.from_numpy(items)
                points.append(judge(report["seconds"], *vectors, epoch=report["epoch"]))
    return {"points": points, "settings": {"layers": 1, "batch": 2048, "pins": recbole_env.PINS}}


def _against(curves: dict[str, Any]) -> list[dict[str, Any]]:
    """For the best point of each other method: when a curve of ours reached it, and the ratio."""
    own = {name: curve["points"] for name, curve in curves.items() if name.startswith("ours")}
    found = []
    for name, curve in curves.items():
        if name in own:
            continue
        best = max(curve["points"], key=lambda point: point["ndcg@20"])
        reached = {
            ours_name: min(
                (p["seconds"] for p in points if p["ndcg@20"] >= best["ndcg@20"]), default=None
            )
            for ours_name, points in own.items()
        }
        ahead = [_best_by(own, p["seconds"]) >= p["ndcg@20"] for p in curve["points"]]
        known = [seconds for seconds in reached.values() if seconds is not None]
        found.append(
            {
                "method": name,
                "best_ndcg@20": best["ndcg@20"],
                "seconds": best["seconds"],
                "ours_reached_it_after": reached,
                "times_faster": best["seconds"] / min(known) if known else None,
                "ours_best_by_then": _best_by(own, best["seconds"]),
                "ours_ahead_at_its_points": [sum(ahead), len(ahead)],
                "ours_best_at_all": max(p["ndcg@20"] for points in own.values() for p in points),
            }
        )
    return found


def _best_by(curves: dict[str, list[Point]], seconds: float) -> float:
    """The best NDCG@20 that any of the curves had by then, 0 before the first point."""
    points = [point for curve in curves.values() for point in curve]
    return max((p["ndcg@20"] for p in points if p["seconds"] <= seconds), default=0.0)


def plot(source: str, curves: dict[str, Any], path: Path) -> None:
    """NDCG@20 over seconds (logarithmic), one line a method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes: Any = figure.subplots()
    for name, curve in curves.items():
        points = sorted(curve["points"], key=lambda point: point["seconds"])
        style: dict[str, Any] = (
            {"linewidth": 2.2} if name.startswith("ours") else {"linestyle": "--"}
        )
        seconds = [max(point["seconds"], 1e-2) for point in points]
        axes.plot(seconds, [p["ndcg@20"] for p in points], marker=".", label=name, **style)
    axes.set_xscale("log")
    axes.set_xlabel("seconds after the data are in memory")
    axes.set_ylabel("test NDCG@20")
    axes.set_title(source)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
