"""Free memory from what the system tells, and what a shortage of it changes: nothing but the blocks."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.evaluation import evaluate, protocol
from ssmrec.kernels import memory
from ssmrec.kernels.memory import all_memory, fitting, free_memory
from ssmrec.kernels.products import PANEL
from ssmrec.models import HistoryRows
from ssmrec.negatives import SAMPLERS, Batch, drawn
from ssmrec.ranking import ItemRows, topk
from ssmrec.ranking.topk import top_k
from ssmrec.serving import bulk
from ssmrec.testing import toy

GB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """`system({"meminfo": ...})` writes files of a made-up system below proc and cgroup."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_left_of_addresses", lambda: None)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_what_is_free_is_the_least_of_machine_and_groups(system):
    assert free_memory() is None
    system({"proc/meminfo": "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:   5000 kB\n"})
    assert free_memory() == 5000 * 1024
    system({"proc/self/cgroup": "1:name=systemd:/x\n0::/a/b\n", "cgroup/memory.max": "max\n"})
    assert free_memory() == 5000 * 1024
    system(
        {
            "cgroup/a/b/memory.max": "3000000\n",
            "cgroup/a/b/memory.current": "2500000\n",
            "cgroup/a/b/memory.stat": "anon 100\ninactive_file 400000\n",
        }
    )
    assert free_memory() == 900_000
    system({"cgroup/a/memory.max": "1000000", "cgroup/a/memory.current": "300000"})
    assert free_memory() == 700_000
    system({"cgroup/a/memory.current": "1200000"})
    assert free_memory() == 0


def test_all_memory_is_the_least_of_machine_and_groups(system, monkeypatch):
    monkeypatch.setattr(memory, "_most_addresses", lambda: None)
    assert all_memory() is None
    system({"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:   5000 kB\n"})
    assert all_memory() == 9000 * 1024
    system({"proc/self/cgroup": "0::/a/b\n", "cgroup/a/b/memory.max": "max\n"})
    assert all_memory() == 9000 * 1024
    system({"cgroup/a/memory.max": "3000000\n", "cgroup/a/memory.current": "2500000\n"})
    assert all_memory() == 3_000_000


def test_a_limit_of_the_address_space_counts():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + GB // 4, hard))
    try:
        free = free_memory()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert free is not None and 0 <= free <= GB // 4


def test_this_machine_tells_something_sensible():
    free = free_memory()
    pages = Path("/proc/meminfo").read_text().split()[1]
    assert free is not None and 0 < free <= 1024 * int(pages)


def test_fitting_by_hand(monkeypatch):
    for free, want in ((None, 100), (0, 1), (79, 1), (80, 2), (399, 9), (4000, 100), (10**9, 100)):
        monkeypatch.setattr(memory, "free_memory", lambda device=None, free=free: free)
        assert fitting(100, 10) == want
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 400)
    assert fitting(100, 0) == 100  # rows of nothing


@pytest.fixture
def short(monkeypatch):
    """As good as no free memory: every block becomes the smallest."""
    return lambda: monkeypatch.setattr(memory, "free_memory", lambda device=None: 1)


@pytest.mark.parametrize("kind", ["vectors", "histories", "candidates"])
def test_lists_are_the_same_when_memory_is_short(short, kind):
    random = torch.Generator().manual_seed(5)
    m, n = 83, 400
    mask = np.random.default_rng(1).random((m, n)) < 0.1
    seen = ItemRows.of([np.flatnonzero(row) for row in mask], n)
    users, items = torch.randn(m, 9, generator=random), torch.randn(n, 9, generator=random)
    only = None
    if kind == "histories":
        users, items = (
            HistoryRows(seen.indptr, seen.indices, n),
            torch.randn(n, n, generator=random),
        )
    if kind == "candidates":
        only = ItemRows.of([np.flatnonzero(row) for row in mask[:, ::-1]], n)

    def listed() -> tuple:
        heard: list[int] = []
        found = top_k(
            users, items, 7, seen=[seen], only=only, progress=lambda d, _: heard.append(d)
        )
        return found.ids, found.scores, heard

    whole = listed()
    assert whole[2] == [m]
    short()
    part = listed()
    assert part[2] == [*range(PANEL, m, PANEL), m]
    np.testing.assert_array_equal(part[0], whole[0])
    np.testing.assert_array_equal(part[1], whole[1])


def test_one_panel_asks_for_no_memory(monkeypatch):
    """A request of a service ranks a user or two: reading the system's files would cost more."""
    monkeypatch.setattr(topk, "fitting", lambda *_: pytest.fail("asked"))
    assert top_k(torch.ones(PANEL, 2), torch.ones(50, 2), 3).ids.shape == (PANEL, 3)


def test_metrics_are_the_same_when_memory_is_short(short, tastes):
    random = torch.Generator().manual_seed(2)
    users, items = torch.randn(60, 8, generator=random), torch.randn(40, 8, generator=random)

    def judged():
        heard: list[tuple[int, int]] = []
        found = evaluate(
            users, items, tastes.valid, [tastes.train], ["ndcg@5", "map@10", "recall@20"],
            progress=lambda *now: heard.append(now),
        )  # fmt: skip
        return found, heard

    whole, once = judged()
    short()
    part, often = judged()
    total = len(whole.user_index)
    assert once == [(total, total)] and often == [
        (d, total) for d in (*range(16, total, 16), total)
    ]
    assert part.values == whole.values and part.counts == whole.counts
    for name, values in whole.per_user.items():
        np.testing.assert_array_equal(part.per_user[name], values)


def test_more_users_than_lists_held(tastes, monkeypatch):
    random = torch.Generator().manual_seed(2)
    users, items = torch.randn(60, 8, generator=random), torch.randn(40, 8, generator=random)
    whole = evaluate(users, items, tastes.valid, [tastes.train], ["ndcg@5"])
    monkeypatch.setattr(protocol, "LISTS", 32)
    part = evaluate(users, items, tastes.valid, [tastes.train], ["ndcg@5"])
    assert part.values == whole.values
    np.testing.assert_array_equal(part.user_index, whole.user_index)


def test_bulk_lists_are_the_same_when_memory_is_short(monkeypatch):
    train = toy()
    random = torch.Generator().manual_seed(4)
    users, items = (torch.randn(size, 6, generator=random) for size in (12, 30))
    ranker = bulk.Ranker(users, items, train, train)
    choice = ranker.choice(5)
    whole = list(bulk.blocks(ranker, None, choice))
    monkeypatch.setattr(bulk, "fitting", lambda best, row_bytes: 3)
    part = list(bulk.blocks(ranker, None, choice))
    assert len(whole) == 1 and len(part) == 4
    assert pl.concat(part).equals(whole[0])


@pytest.mark.parametrize("numbers", [1, 16 * 8 * 5, 1 << 21])
def test_draws_are_the_same_in_any_blocks(monkeypatch, numbers):
    train = toy()
    batch = Batch(torch.arange(11), torch.zeros(11, dtype=torch.int64))
    cls = SAMPLERS["popularity"]

    def draw() -> torch.Tensor:
        sampler = cls(cls.Config(n=8, shared=False, log_q=True, full_users="skip"), train)
        return sampler.draw(batch, np.random.default_rng(3)).ids

    whole = draw()
    monkeypatch.setattr(drawn, "_NUMBERS", numbers)
    assert torch.equal(draw(), whole)
