"""`implicit`'s ALS and BPR: settings chosen on validation pairs, then NDCG@20 over seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness import csr
from ssmrec.data import Interactions, Split
from ssmrec.evaluation import evaluate

Judge = Callable[..., dict[str, float]]
GRID: dict[str, dict[str, tuple[float, ...]]] = {
    "als": {"alpha": (1.0, 5.0, 20.0, 50.0), "regularization": (0.1, 10.0, 50.0, 150.0)},
    "bpr": {"learning_rate": (0.02, 0.05, 0.1), "regularization": (0.003, 0.01, 0.03)},
}
ITERATIONS = {"als": 15, "bpr": 100}


def curves(
    train: Interactions, carved: Split, judge: Judge, small: bool, seed: int
) -> dict[str, Any]:
    """ALS of each number of factors, and BPR; nothing if `implicit` is not installed.

    Args:
        train: what the curves are trained on.
        carved: train without validation pairs, and these as its test; the settings come from it.
        judge: makes a point from seconds and vectors.
        small: one size, one setting.
        seed: random state.
    """
    try:
        import implicit  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError:
        return {}
    found = {}
    factors = (16,) if small else (64, 128, 256)
    with threadpool_limits(1, "blas"):  # implicit has threads of its own
        for name, size in [*(("als", size) for size in factors), ("bpr", factors[0])]:
            chosen, tried = _tune(name, size, carved, small, seed)
            threads = _best_threads(name, size, chosen, train)
            points: list[dict[str, float]] = []
            iterations = 2 if small else ITERATIONS[name]
            _fit(name, size, chosen, iterations, threads, train, seed, judge, points)
            found[f"implicit {name}-{size}"] = {
                "points": points,
                "settings": {**chosen, "factors": size, "num_threads": threads, "blas_threads": 1},
                "validation": tried,
            }
    return found


def _tune(
    name: str, size: int, carved: Split, small: bool, seed: int
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The settings of the grid with the best validation NDCG@20 after a fit, and all that were tried."""
    grid = GRID[name]
    tried = []
    assert carved.test is not None
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        model = _fit(
            name, size, options, 1 if small else ITERATIONS[name] // 2, 0, carved.train, seed
        )
        users, items = torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)
        result = evaluate(users, items, carved.test, [carved.train], ["ndcg@20"])
        tried.append({**options, **result.values})
        if small:
            break
    best = max(tried, key=lambda entry: entry["ndcg@20"])
    return {key: best[key] for key in grid}, tried


def _best_threads(name: str, size: int, options: dict[str, float], train: Interactions) -> int:
    """Whether one thread or all are faster in one iteration."""
    seconds = {}
    for threads in (1, 0):
        start = time.perf_counter()
        _fit(name, size, options, 1, threads, train, 0)
        seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def _fit(
    name: str,
    size: int,
    options: dict[str, float],
    iterations: int,
    threads: int,
    train: Interactions,
    seed: int,
    judge: Judge | None = None,
    points: list[dict[str, float]] | None = None,
) -> Any:
    """Fit; with `judge`, a point after chosen iterations, during which the clock stands still."""
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    cls: Any = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[name]
    clock = -time.perf_counter()
    matrix = csr(train)
    model = cls(
        factors=size, iterations=iterations, num_threads=threads, random_state=seed, **options
    )
    every = 1 if iterations <= 20 else 10

    def after(iteration: int, *_: Any) -> None:
        nonlocal clock
        now = clock + time.perf_counter()
        if judge is not None and points is not None and (iteration + 1) % every == 0:
            users = torch.from_numpy(model.user_factors.copy())
            items = torch.from_numpy(model.item_factors.copy())
            points.append(judge(now, users, items, iteration=iteration + 1))
        clock = now - time.perf_counter()

    model.fit(matrix, show_progress=False, callback=after if judge is not None else None)
    return model
