"""Full ranking, top 20 of all test users, train items left out: users a second.

Every side ranks with the same vectors (one LightGCN layer over the spectral start, so that scores
look like those of a trained model). `product` (oneDNN where ours uses it) and `matmul` (torch's own)
compute the scores and forget them: no exact full ranking that makes its scores so can be faster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import recbole_env
from benchmarks.harness import Settings, compared, csr, interleaved, published
from ssmrec.data import Interactions
from ssmrec.evaluation import evaluate
from ssmrec.kernels.products import times_transposed
from ssmrec.models.lightgcn import LightGCN, LightGCNConfig
from ssmrec.ranking import top_k
from ssmrec.ranking.topk import tile_shape
from ssmrec.training.seeds import torch_generator

K = 20
PEER_TILE = 24 * 2**20
"""Bytes of scores that torch's sides make at once: of whole rows, which they need, and best for them."""

BARE = ("product", "matmul")
"""Sides that compute the scores and forget them."""


def run(settings: Settings) -> dict[str, Any]:
    """Users a second of each side, the ratio to the limit, and whether the lists are the same."""
    source = "online-retail" if settings.small else "yelp2018"
    repeats = 3 if settings.small else 7
    train, test = published(source)
    model = LightGCN(
        LightGCNConfig(layers=1, init="spectral"), train, torch_generator(settings.seed, "init")
    )
    with torch.no_grad():
        vectors = model.vectors()
    index = np.flatnonzero((test.user_degrees > 0) & (train.user_degrees > 0))
    users, items = vectors.users[torch.from_numpy(index)].contiguous(), vectors.items.contiguous()
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: top_k(users, items, K, seen=[train], user_index=index).ids,
        "product": lambda: _products(users, items),
        "matmul": lambda: blocks(users, items, None),
        "matmul_topk": lambda: blocks(users, items, lambda tile, _: tile.topk(K).indices),
        "torch": lambda: blocks(users, items, _masked_topk(train, index)),
    }
    calls |= _implicit(train, index, users, items)
    lists = {name: np.asarray(call()) for name, call in calls.items() if name not in BARE}
    found = compared(interleaved({k: _repeat(v) for k, v in calls.items()}, repeats, 1))
    medians = {name: facts["median"] for name, facts in found["seconds"].items()}
    metrics = interleaved(
        {"ours": lambda _: evaluate(vectors.users, vectors.items, test, [train], ["ndcg@20"])},
        repeats, 1,
    )  # fmt: skip
    return {
        "data": source,
        "users": len(index),
        "items": len(items),
        "users_per_second": {name: len(index) / median for name, median in medians.items()},
        "share_of_limit": min(medians[name] for name in BARE) / medians["ours"],
        "same_items": {
            name: float((np.sort(lists[name]) == np.sort(lists["ours"])).mean())
            for name in lists
            if name not in ("ours", "matmul_topk")
        },
        "with_metrics": {"ours": compared(metrics)["seconds"]["ours"]}
        | _recbole(settings, train, test),
        **found,
    }


def _repeat(call: Callable[[], Any]) -> Callable[[int], Any]:
    return lambda _: call()


def blocks(
    users: Tensor, items: Tensor, then: Callable[[Tensor, slice], Tensor] | None
) -> np.ndarray:
    """Scores by blocks of users in one buffer; `then` makes lists of a block."""
    size = max(1, PEER_TILE // (4 * len(items)))
    tile = torch.empty(size, len(items))
    found = []
    for start in range(0, len(users), size):
        part = slice(start, min(start + size, len(users)))
        scores = torch.mm(users[part], items.T, out=tile[: part.stop - start])
        if then is not None:
            found.append(then(scores, part))
    return torch.cat(found).numpy() if found else np.empty((0, K))


def _products(users: Tensor, items: Tensor) -> None:
    """The scores by the product that ours uses, in tiles of the same shape."""
    at_once, width = tile_shape(users, len(items), None)
    for some in users.split(at_once):
        for rows in items.split(width):
            times_transposed(some, rows)


def _masked_topk(train: Interactions, index: np.ndarray) -> Callable[[Tensor, slice], Tensor]:
    """The usual way: write minus infinity at the train pairs of the block, then `torch.topk`."""

    def then(scores: Tensor, part: slice) -> Tensor:
        chosen = index[part]
        degrees = train.user_degrees[chosen]
        rows = np.repeat(np.arange(len(chosen)), degrees)
        columns = np.concatenate(
            [train.indices[train.indptr[u] : train.indptr[u + 1]] for u in chosen]
        )
        scores[torch.from_numpy(rows), torch.from_numpy(columns.astype(np.int64))] = -torch.inf
        return scores.topk(K).indices

    return then


def _implicit(
    train: Interactions, index: np.ndarray, users: Tensor, items: Tensor
) -> dict[str, Callable[[], np.ndarray]]:
    """`implicit`'s recommend for all users at once, with the same vectors; one BLAS thread, as it
    asks, and all of them."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError:
        return {}
    model = AlternatingLeastSquares(factors=users.shape[1])
    model.user_factors, model.item_factors = users.numpy(), items.numpy()
    seen = csr(train)[index]
    numbers = np.arange(len(index))

    def recommend(threads: int | None) -> np.ndarray:
        with threadpool_limits(threads, "blas"):
            return model.recommend(numbers, seen, N=K, filter_already_liked_items=True)[0]

    return {"implicit": lambda: recommend(1), "implicit_all_blas": lambda: recommend(None)}


def _recbole(settings: Settings, train: Interactions, test: Interactions) -> dict[str, Any]:
    """RecBole's own evaluator (ranking and metrics) with 64 and 512 users a block; the faster counts."""
    if settings.small and not recbole_env.ready(settings.venvs):
        return {}
    python = recbole_env.venv(settings.venvs)
    tried = {}
    with tempfile.TemporaryDirectory() as folder:
        recbole_env.write_data(Path(folder), train, test)
        for block in (64, 512):
            arguments = {
                "folder": folder, "layers": 1, "batch": 2048, "epochs": [],
                "seed": settings.seed, "evaluate_cells": block * (train.n_items + 1),
            }  # fmt: skip
            last = list(recbole_env.reports(python, arguments))[-1]
            tried[f"recbole_{block}_users_a_block"] = {
                "median": last["seconds"], "repeats": 1, "users": last["evaluated_users"],
            }  # fmt: skip
    return tried
