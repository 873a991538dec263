"""Lists from vectors: exact, independent of the block, seen and disallowed items left out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.kernels.topk import select_more
from ssmrec.ranking import recommend_frame, top_k, topk


def pairs(mask: np.ndarray) -> Interactions:
    sides = [Vocabulary(pl.Series(range(size), dtype=pl.Int64)) for size in mask.shape]
    return Interactions.from_pairs(*np.nonzero(mask), *sides)


def plain(users, items, k, seen=(), allowed=None) -> list[list[int]]:
    """Python lists sorted by (-score, index), from integer vectors whose products are exact."""
    scores = users.numpy().astype(int) @ items.numpy().astype(int).T
    lists = []
    for user, row in enumerate(scores):
        offered = [
            i
            for i in range(len(row))
            if (allowed is None or allowed[i]) and not any(mask[user, i] for mask in seen)
        ]
        best = sorted(offered, key=lambda i: (-row[i], i))[:k]
        lists.append(best + [-1] * (min(k, len(row)) - len(best)))
    return lists


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    k=st.integers(1, 80),
    block=st.one_of(st.none(), st.integers(1, 50)),
)
def test_equals_sorting_with_ties(seed, shape, k, block) -> None:
    g = np.random.default_rng(seed)
    users, items = (torch.from_numpy(g.integers(-2, 3, (s, 3)).astype(np.float32)) for s in shape)
    masks = [g.random(shape) < 0.4, g.random(shape) < 0.1]
    allowed = g.random(shape[1]) < 0.7
    lists = top_k(users, items, k, seen=list(map(pairs, masks)), allowed=allowed, block=block)
    assert lists.ids.tolist() == plain(users, items, k, masks, allowed)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 40), st.integers(1, 60)),
    k=st.integers(1, 80),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    block=st.one_of(st.none(), st.integers(1, 50)),
)
def test_one_list_for_all_equals_sorting_with_ties(seed, shape, k, shares, block) -> None:
    g = np.random.default_rng(seed)
    users = torch.ones(shape[0], 1)
    items = torch.from_numpy(g.integers(-3, 4, (shape[1], 1)).astype(np.float32))
    masks = [g.random(shape) < shares[0], g.random(shape) < 0.1]
    allowed, told = g.random(shape[1]) < shares[1], []
    lists = top_k(
        users, items, k, seen=list(map(pairs, masks)), allowed=allowed, block=block,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert lists.ids.tolist() == plain(users, items, k, masks, allowed)
    listed = lists.ids >= 0
    assert (lists.scores[listed] == items.numpy()[lists.ids[listed], 0]).all()
    assert (lists.scores[~listed] == -np.inf).all()
    assert not told or told[-1] == (shape[0], shape[0])


def test_one_list_for_all_looks_at_few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []

    def noting(ids, best, first, scores, *more):
        widths.append(scores.shape[1])
        select_more(ids, best, first, scores, *more)

    monkeypatch.setattr(topk, "select_more", noting)
    known = pairs(np.arange(1000) < np.array([[3], [1], [0]]))
    items = torch.arange(1000, 0, -1.0)[:, None]
    lists = top_k(torch.ones(3, 1), items, 4, seen=[known], block=2)
    assert widths == [4 + 3, 4]
    assert lists.ids.tolist() == [[3, 4, 5, 6], [1, 2, 3, 4], [0, 1, 2, 3]]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_one_list_for_all_of_scores_that_are_no_numbers(broken: float) -> None:
    items = torch.tensor([[1.0], [broken], [3.0]])
    if np.isnan(broken):
        with pytest.raises(DataError, match="not a number"):
            top_k(torch.ones(2, 1), items, 2)
    else:
        assert top_k(torch.ones(2, 1), items, 2).ids.tolist() == [[1, 2]] * 2


@pytest.mark.parametrize("d", [1, 8, 64, 100])
def test_block_does_not_matter_to_the_last_bit(d: int) -> None:
    g = torch.Generator().manual_seed(3)
    users, items = torch.randn(123, d, generator=g), torch.randn(2011, d, generator=g)
    whole = top_k(users, items, 10)
    for block in (1, 7, 16, 23, 64, 512):
        part = top_k(users, items, 10, block=block)
        np.testing.assert_array_equal(part.ids, whole.ids)
        np.testing.assert_array_equal(part.scores, whole.scores)
    alone = top_k(users[77:78], items, 10)
    np.testing.assert_array_equal(alone.scores[0], whole.scores[77])


def test_user_index_selects_the_seen_rows() -> None:
    train = pairs(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=bool))
    items = torch.tensor([[3.0], [2.0], [1.0]])
    index = np.array([2, 0, 2])
    lists = top_k(torch.ones(3, 1), items, 2, seen=[train], user_index=index)
    assert lists.ids.tolist() == [[0, 2], [1, 2], [0, 2]]
    assert lists.scores.tolist() == [[3.0, 1.0], [2.0, 1.0], [3.0, 1.0]]


def test_case_7_k_above_the_catalogue() -> None:
    train = pairs(np.array([[1, 0, 0, 1, 0]], dtype=bool))
    lists = top_k(torch.ones(1, 1), torch.arange(5.0)[:, None], 10, seen=[train])
    assert lists.ids.tolist() == [[4, 2, 1, -1, -1]]
    users, items = pl.Series(["ann"]), Vocabulary(pl.Series(["a", "b", "c", "d", "e"]))
    frame = recommend_frame(lists, users, items)
    assert frame.rows() == [("ann", 1, "e", 4.0), ("ann", 2, "c", 2.0), ("ann", 3, "b", 1.0)]


def test_frame_keeps_the_order_of_users() -> None:
    lists = top_k(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [2.0]]), 2)
    frame = recommend_frame(lists, pl.Series([20, 10]), Vocabulary(pl.Series([7, 8])))
    assert frame.columns == ["user", "rank", "item", "score"]
    assert frame["user"].to_list() == [20, 20, 10, 10]
    assert frame["rank"].to_list() == [1, 2, 1, 2]
    assert frame["item"].to_list() == [8, 7, 7, 8]
    with pytest.raises(DataError, match="1 users for 2 lists"):
        recommend_frame(lists, pl.Series([20]), Vocabulary(pl.Series([7, 8])))


def test_no_users_and_no_items() -> None:
    assert top_k(torch.ones(0, 2), torch.ones(5, 2), 3).ids.shape == (0, 3)
    assert top_k(torch.ones(4, 2), torch.ones(0, 2), 3).ids.shape == (4, 0)


def test_gradients_and_half_precision_are_accepted() -> None:
    items = torch.tensor([[1.0], [2.0]], requires_grad=True)
    assert top_k(torch.ones(1, 1), items, 1).ids.tolist() == [[1]]
    assert top_k(torch.ones(1, 1).bfloat16(), items.bfloat16(), 1).scores.tolist() == [[2.0]]


def test_progress_reaches_the_end() -> None:
    steps: list[tuple[int, int]] = []
    top_k(torch.ones(5, 1), torch.ones(3, 1), 1, block=2, progress=lambda *s: steps.append(s))
    assert steps == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ConfigError, "at least 1"),
        ({"block": 0}, ConfigError, "at least 1"),
        ({"items": torch.ones(3, 5)}, DataError, "do not fit"),
        ({"items": torch.ones(4, 2)}, DataError, "4 item vectors, but seen pairs have 3 items"),
        ({"user_index": np.array([0])}, DataError, "user_index has 1 rows"),
        ({"user_index": np.array([0, 2])}, DataError, "0 to 1"),
        ({"user_index": np.array([-1, 0])}, DataError, "0 to 1"),
        ({"allowed": np.ones(2, dtype=bool)}, DataError, "allowed must be bool"),
        ({"allowed": np.ones(3)}, DataError, "allowed must be bool"),
        ({"users": torch.full((2, 2), torch.nan)}, DataError, "scores of 2 rows"),
    ],
)
def test_errors(change, error, message) -> None:
    call = {
        "users": torch.ones(2, 2),
        "items": torch.ones(3, 2),
        "k": 1,
        "seen": [pairs(np.zeros((2, 3), dtype=bool))],
    }
    with pytest.raises(error, match=message):
        top_k(**{**call, **change})


def test_threads_may_rank_at_once() -> None:
    g = torch.Generator().manual_seed(1)
    users, items = torch.randn(40, 4, generator=g), torch.randn(300, 4, generator=g)
    whole = top_k(users, items, 5).ids
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda u: top_k(users[u : u + 1], items, 5).ids[0], range(40)))
    np.testing.assert_array_equal(np.stack(rows), whole)
