"""Metric values: by hand, from an independent library, and as properties."""

from __future__ import annotations

import tracemalloc

import ir_measures
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import METRIC_VERSION, METRICS, find_hits, parse_metric
from ssmrec.evaluation.metrics import contains


def value(name: str, hits: list[int], relevant: int) -> float:
    row = np.array([hits], dtype=bool)
    return float(parse_metric(name).per_user(row, np.array([relevant]))[0])


def held_out(sets: list[list[int]], n_items: int) -> Interactions:
    user = [u for u, items in enumerate(sets) for _ in items]
    item = [i for items in sets for i in items]
    users, items = (Vocabulary(pl.Series(range(n))) for n in (len(sets), n_items))
    return Interactions.from_pairs(np.array(user, int), np.array(item, int), users, items)


# Cases drawn from public reports: name, hits by rank, number of held-out items, value.
@pytest.mark.parametrize(
    ("name", "hits", "relevant", "expected"),
    [
        ("ndcg@3", [1, 0, 0], 3, 0.46928),  # one hit is not perfect
        ("ndcg@3", [1, 0, 1], 3, 0.70392),
        ("ndcg@10", [1] * 10, 20, 1.0),  # the ideal is cut at K
        ("recall@10", [1] * 10, 20, 0.5),
        ("precision@10", [1] * 10, 20, 1.0),
        ("ndcg@10", [1] + [0] * 9, 1, 1.0),  # and at the number of held-out items
        ("ndcg@10", [0, 1] + [0] * 8, 1, 0.63093),
        ("precision@10", [1] * 5 + [0] * 5, 5, 0.5),  # precision divides by K
        ("recall@10", [1] * 5 + [0] * 5, 5, 1.0),
        ("precision@20", [1] * 5 + [0] * 15, 5, 0.25),
        ("precision@3", [1, 0, 0], 1, 1 / 3),  # three equal held-out rows, merged to one
        ("recall@3", [1, 0, 0], 1, 1.0),
        ("ndcg@3", [1, 0, 0], 1, 1.0),
        ("map@3", [1, 0, 0], 1, 1.0),
        ("precision@10", [1, 0, 1], 2, 0.2),  # K above the catalogue: a list of three
        ("ndcg@10", [0, 0, 1], 1, 0.5),
        ("map@4", [0, 1, 0, 1], 2, (1 / 2 + 2 / 4) / 2),
        ("map@2", [1, 1], 5, 1.0),  # trec_eval would say 2 / 5
        ("map@2", [0, 1], 5, 0.25),
        ("mrr@5", [0, 0, 1, 1, 0], 2, 1 / 3),
        ("mrr@2", [0, 0, 1, 1, 0], 2, 0.0),
        ("hit@2", [0, 0, 1, 1, 0], 2, 0.0),
        ("hit@3", [0, 0, 1, 1, 0], 2, 1.0),
    ],
)
def test_values_by_hand(name: str, hits: list[int], relevant: int, expected: float) -> None:
    assert value(name, hits, relevant) == pytest.approx(expected, abs=5e-6)


def test_case_5_duplicates_cannot_reach_a_metric() -> None:
    with pytest.raises(DataError, match="repeated"):
        held_out([[1, 1, 1]], 3)


def test_case_9_perfect_lists_are_exactly_one() -> None:
    hits = np.ones((100, 10), dtype=bool)
    for name in METRICS:
        per_user = parse_metric(f"{name}@10").per_user(hits, np.full(100, 10))
        assert (per_user == 1.0).all(), name


@pytest.mark.parametrize("name", METRICS)
def test_an_empty_list_is_worth_nothing(name: str) -> None:
    assert value(f"{name}@3", [], 2) == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(1, 30), k=st.integers(1, 40))
def test_equals_ir_measures(seed: int, n_items: int, k: int) -> None:
    """Against trec_eval's definitions; `map` after undoing its other denominator."""
    g = np.random.default_rng(seed)
    sets = [sorted(g.permutation(n_items)[: g.integers(1, n_items + 1)]) for _ in range(6)]
    sets[0] = sets[0][:1]
    lists = np.stack([g.permutation(n_items) for _ in sets])[:, :k].astype(np.int32)
    truth = held_out(sets, n_items)
    hits = find_hits(lists, truth, np.arange(6))
    relevant = truth.user_degrees

    qrels = {str(u): {str(i): 1 for i in items} for u, items in enumerate(sets)}
    runs = {
        str(u): {str(i): float(-rank) for rank, i in enumerate(row)} for u, row in enumerate(lists)
    }
    theirs = {
        "ndcg": nDCG @ k,
        "precision": P @ k,
        "recall": R @ k,
        "hit": Success @ k,
        "mrr": RR @ k,
        "map": AP @ k,
    }
    found = {
        (m.measure, m.query_id): m.value
        for m in ir_measures.iter_calc(theirs.values(), qrels, runs)
    }
    for name, measure in theirs.items():
        ours = parse_metric(f"{name}@{k}").per_user(hits, relevant)
        expected = np.array([found[measure, str(u)] for u in range(6)])
        if name == "map":
            expected *= relevant / np.minimum(relevant, k)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    hits=st.lists(st.booleans(), min_size=1, max_size=30),
    missed=st.integers(0, 30),
    k=st.integers(1, 40),
)
def test_range_and_growth_in_k(hits: list[bool], missed: int, k: int) -> None:
    relevant = max(sum(hits) + missed, 1)
    for name in METRICS:
        assert 0.0 <= value(f"{name}@{k}", hits, relevant) <= 1.0
    for name in ("recall", "hit", "mrr"):
        assert value(f"{name}@{k}", hits, relevant) <= value(f"{name}@{k + 1}", hits, relevant)


def test_find_hits() -> None:
    truth = held_out([[0, 2], [], [1]], 3)
    lists = np.array([[2, 1, 0], [0, 1, 2], [-1, -1, -1], [0, 1, -1]], dtype=np.int32)
    hits = find_hits(lists, truth, np.array([0, 1, 2, 2]))
    assert hits.tolist() == [
        [True, False, True],
        [False, False, False],
        [False, False, False],
        [False, True, False],
    ]
    assert not find_hits(lists, held_out([[], [], []], 3), np.array([0, 1, 2, 2])).any()


def test_names() -> None:
    assert str(parse_metric("ndcg@20")) == "ndcg@20"
    assert METRIC_VERSION == 1
    for name, message in [
        ("ndgc@20", "unknown metric 'ndgc@20', did you mean 'ndcg@20'?"),
        ("NDCG@20", "did you mean 'ndcg@20'?"),
        ("ndcg20", "unknown metric 'ndcg20', did you mean 'ndcg@20'?"),
        ("auc", "unknown metric 'auc'"),
        ("ndcg", "needs a cut-off from 1 to 999999999, such as 'ndcg@20'"),
        ("ndcg@0", "needs a cut-off"),
        ("ndcg@020", "needs a cut-off"),  # else measured as @20, and looked for as @020
        ("ndcg@-5", "needs a cut-off"),
        ("ndcg@ten", "needs a cut-off"),
    ]:
        with pytest.raises(ConfigError) as error:
            parse_metric(name)
        assert message in str(error.value)


def test_hits_of_some_users_take_no_room_for_the_pairs_of_the_others() -> None:
    """Users are judged some at a time: each part must not cost a pass over all pairs."""
    n_users, n_items = 100_000, 50
    users, items = (Vocabulary(pl.Series(np.arange(n))) for n in (n_users, n_items))
    indices = np.tile(np.arange(0, 20, 2, dtype=np.int32), n_users)
    pairs = Interactions(users, items, np.arange(0, 10 * n_users + 1, 10), indices)
    assert len(pairs.rows) == 1_000_000  # made before, as evaluation has it
    index = np.array([99_999, 0, 99_998])
    found = find_hits(np.array([[0, 1, 18], [4, -1, 5], [20, 2, 3]]), pairs, index)
    assert found.tolist() == [[True, False, True], [True, False, False], [False, True, False]]
    tracemalloc.start()
    part = find_hits(np.array([[0, 1, 18], [4, 19, 5]]), pairs, np.array([70_000, 70_100]))
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()
    assert part.tolist() == [[True, False, True], [True, False, False]]
    assert find_hits(np.zeros((0, 3), int), pairs, np.zeros(0, int)).shape == (0, 3)


def test_all_pairs_are_looked_for_without_copies_of_their_keys() -> None:
    """The overlap of parts is found in one key a pair: 8 bytes, and not four times as many."""
    n_users, n_items = 200_000, 50
    users, items = (Vocabulary(pl.Series(np.arange(n))) for n in (n_users, n_items))
    indices = np.tile(np.arange(0, 20, 2, dtype=np.int32), n_users)
    pairs = Interactions(users, items, np.arange(0, 10 * n_users + 1, 10), indices)
    assert len(pairs.rows) == 2_000_000
    ends = np.array([0, n_users - 1, n_users - 1, 0])
    tracemalloc.start()
    found = contains(pairs, ends, np.array([18, 18, 19, 49]))
    assert tracemalloc.get_traced_memory()[1] < 1.2 * 8 * len(pairs)
    tracemalloc.stop()
    assert found.tolist() == [True, True, False, False]
