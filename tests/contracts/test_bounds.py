"""A catalogue of a million items stays within the memory of a laptop."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Interactions, Vocabulary
from ssmrec.data.synthetic import synthetic
from ssmrec.evaluation import evaluate
from ssmrec.ranking import recommend_frame, top_k
from ssmrec.training import resolve
from ssmrec.training.loop import Trainer

ITEMS = 1_000_000
GB = 2**30


@contextmanager
def memory(more: int):
    """At most `more` bytes beyond what is in use; an allocation above that fails."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def few(users: int, seed: int) -> Interactions:
    """5 items of a million for each user."""
    random = np.random.default_rng(seed)
    items = np.concatenate([random.choice(ITEMS, 5, replace=False) for _ in range(users)])
    sides = (Vocabulary(pl.Series(range(n))) for n in (users, ITEMS))
    return Interactions.from_pairs(np.repeat(np.arange(users), 5), items, *sides)


@pytest.fixture
def linux():
    pytest.importorskip("resource")
    if not hasattr(resource, "RLIMIT_AS"):
        pytest.skip("memory can be limited on Linux only")


def test_a_million_items_rank_in_little_memory(linux):
    """600 users: the dense scores would take 2.4 GB, and 0.7 GB are given."""
    users, train, held = 600, few(600, 0), few(600, 1)
    random = torch.Generator().manual_seed(0)
    rows, items = (torch.randn(n, 2, generator=random) for n in (users, ITEMS))
    top_k(rows[:1], items[:100], 3)  # threads and kernels are there before memory is counted
    blocks = []
    with memory(int(0.7 * GB)):
        with pytest.raises(RuntimeError, match="memory"):
            rows @ items.T
        found = evaluate(
            rows, items, held, [train], ["recall@20"], progress=lambda done, _: blocks.append(done)
        )
        lists = top_k(rows[:32], items, 50, seen=[train], user_index=np.arange(32))
        frame = recommend_frame(lists, train.users.decode(np.arange(32)), train.items)
    assert 0 <= found.values["recall@20"] <= 1 and found.counts["users"] == users
    assert max(np.diff(blocks, prepend=0)) <= 256  # whose tiles of 8,192 items take 8 MB
    assert len(frame) == 32 * 50
    # and the lists are right: the first user's best item is the best of all that she has not seen
    scores = rows[0] @ items.T
    scores[torch.from_numpy(train.indices[:5].astype(np.int64))] = -torch.inf
    assert int(scores.argmax()) == lists.ids[0, 0]


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {"name": "mf"}, "loss": {"name": "ssm"}},
        {"model": {"name": "lightgcn", "layers": 1}, "loss": {"name": "bpr"}},
        {"model": {"name": "mf"}, "loss": {"name": "ssm"}, "negatives": {"name": "popularity"}},
        {"model": {"name": "mf"}, "loss": {"name": "softmax"}},
    ],
)
def test_a_million_items_train(linux, parts):
    """A dense matrix of users and items would take 2 GB; all items as negatives one of 0.8 GB."""
    full = parts["loss"]["name"] == "softmax"
    train = synthetic(100, ITEMS, 200, seed=0) if full else synthetic(500, ITEMS, 2_000, seed=0)
    parts = {**parts, "model": {**parts["model"], "dim": 4}}
    settings = {"epochs": 1, "batch_size": 1000, "threads": 1}
    trainer = Trainer(resolve({**parts, "train": settings}), synthetic(20, 100, 60), 1)
    trainer.run()
    with memory(int((0.7 if full else 1.0) * GB)):
        trainer = Trainer(resolve({**parts, "train": settings}), train, 1)
        trainer.run()
    assert np.isfinite(trainer.state.history[0]["loss"])


@pytest.mark.slow
def test_a_million_items_of_64_numbers_rank_in_a_tile_more(linux):
    """1000 users: the scores would take 4 GB. Beside the vectors (0.26 GB) 0.2 GB are given."""
    random = torch.Generator().manual_seed(1)
    rows, items = (torch.randn(n, 64, generator=random) for n in (1000, ITEMS))
    train = few(1000, 2)
    top_k(rows[:32], items[:100], 3)
    with memory(int(0.2 * GB)):
        lists = top_k(rows, items, 20, seen=[train], user_index=np.arange(1000))
    assert (np.diff(lists.scores, axis=1) <= 0).all() and (lists.ids >= 0).all()
    for user in (0, 999):
        scores = rows[user].double() @ items.double().T
        mine = train.indices[train.indptr[user] : train.indptr[user + 1]]
        scores[torch.from_numpy(mine.astype(np.int64))] = -torch.inf
        best = scores.topk(20)
        assert lists.ids[user].tolist() == best.indices.tolist()
        np.testing.assert_allclose(lists.scores[user], best.values.numpy(), rtol=1e-5)
