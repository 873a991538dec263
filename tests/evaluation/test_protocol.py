"""Who is averaged, what is masked, what is counted."""

from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import METRICS, best_possible, evaluate, most_popular, protocol
from ssmrec.ranking import top_k

NAMES = [f"{name}@{k}" for name in METRICS for k in (1, 3, 10)]


def pairs(rows: list[list[int]], n_items: int) -> Interactions:
    user = np.array([u for u, items in enumerate(rows) for _ in items], dtype=int)
    item = np.array([i for items in rows for i in items], dtype=int)
    users, items = (Vocabulary(pl.Series(range(n))) for n in (len(rows), n_items))
    return Interactions.from_pairs(user, item, users, items)


def random_pairs(g: np.random.Generator, n_users: int, n_items: int, share: float) -> Interactions:
    mask = g.random((n_users, n_items)) < share
    return pairs([list(np.flatnonzero(row)) for row in mask], n_items)


def scored(scores: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors whose dot products are the given scores (users, items)."""
    table = torch.tensor(scores)
    return torch.eye(len(table)), table.T.contiguous()


def test_case_6_block_does_not_matter() -> None:
    g = np.random.default_rng(6)
    train, test = random_pairs(g, 23, 11, 0.3), random_pairs(g, 23, 11, 0.3)
    generator = torch.Generator().manual_seed(6)
    users, items = (torch.randn(n, 8, generator=generator) for n in (23, 11))
    results = [evaluate(users, items, test, [train], NAMES, block=b) for b in (1, 7, 23, 512, None)]
    assert 0 < results[0].values["ndcg@3"] < 1
    for other in results[1:]:
        assert other.values == results[0].values
        assert other.counts == results[0].counts


def test_pairs_over_other_ids_are_refused_though_the_numbers_are_equal() -> None:
    train, test = pairs([[0], [1]], 3), pairs([[2], [2]], 3)
    other = Interactions(Vocabulary(pl.Series([0, 7])), test.items, test.indptr, test.indices)
    vectors = scored([[3.0, 2, 1]] * 2)
    assert evaluate(*vectors, test, [train], ["recall@3"]).values == {"recall@3": 1.0}
    with pytest.raises(DataError, match="held-out pairs over other user or item ids"):
        evaluate(*vectors, other, [train], ["recall@3"])


def test_case_8_users_without_a_list_count_as_zero() -> None:
    train = pairs([[2], [2], [0, 1]], 3)
    test = pairs([[0], [0, 1], [2]], 3)
    allowed = np.array([True, True, False])
    result = evaluate(*scored([[3.0, 2, 1]] * 3), test, [train], ["recall@2"], allowed)
    assert result.values == {"recall@2": pytest.approx(2 / 3)}
    assert result.per_user["recall@2"].tolist() == [1.0, 1.0, 0.0]
    assert (result.counts["users"], result.counts["users_without_list"]) == (3, 1)


def test_case_10_train_items_never_fill_the_list() -> None:
    vectors = scored([[9.0, 8, 7, 1]])
    train, test = pairs([[0, 1]], 4), pairs([[2]], 4)
    assert evaluate(*vectors, test, [train], ["recall@1"]).values == {"recall@1": 1.0}
    assert evaluate(*vectors, test, [pairs([[3]], 4)], ["recall@1"]).values == {"recall@1": 0.0}


def test_validation_items_are_masked_too() -> None:
    train, valid, test = pairs([[0]], 4), pairs([[1]], 4), pairs([[2]], 4)
    result = evaluate(*scored([[9.0, 8, 7, 1]]), test, [train, valid], ["hit@1"])
    assert result.values == {"hit@1": 1.0}


def test_case_11_overlapping_pairs_are_removed_and_counted() -> None:
    train, valid, test = pairs([[0], [1]], 4), pairs([[1], []], 4), pairs([[0, 1, 2], [1]], 4)
    result = evaluate(*scored([[9.0, 8, 7, 1]] * 2), test, [train, valid], ["recall@1"])
    assert result.values == {"recall@1": 1.0}
    assert result.user_index.tolist() == [0]
    assert result.counts["overlapping_pairs"] == 3
    assert result.counts["held_out_pairs"] == 1


def test_cold_users_and_items_are_counted() -> None:
    # Users: 0 usual, 1 cold, 2 nothing held out, 3 only a cold item held out.
    train = pairs([[0], [], [1], [0]], 4)
    test = pairs([[1, 3], [0, 2], [], [3]], 4)
    result = evaluate(*scored([[0.0, 9, 1, 2]] * 4), test, [train], ["recall@1", "recall@2"])
    assert result.user_index.tolist() == [0, 3]
    assert result.per_user["recall@1"].tolist() == [0.5, 0.0]
    assert result.per_user["recall@2"].tolist() == [1.0, 1.0]
    assert result.values == {"recall@1": 0.25, "recall@2": 1.0}
    assert result.counts == {
        "users": 2,
        "cold_users": 1,
        "users_without_list": 0,
        "held_out_pairs": 3,
        "cold_pairs": 2,
        "cold_items": 1,
        "overlapping_pairs": 0,
    }
    assert result.seconds > 0


def test_best_possible_by_hand() -> None:
    train = pairs([[0], [0]], 6)
    test = pairs([[1, 2, 3, 4], [5]], 6)
    names = ["recall@2", "precision@2", "ndcg@2", "hit@2"]
    assert best_possible(test, [train], names) == {
        "recall@2": 0.75,
        "precision@2": 0.75,
        "ndcg@2": 1.0,
        "hit@2": 1.0,
    }
    trained = np.array([True, True, True, True, True, False])
    assert best_possible(test, [train], names, trained) == {
        "recall@2": 0.25,
        "precision@2": 0.5,
        "ndcg@2": 0.5,
        "hit@2": 0.5,
    }


def test_an_oracle_reaches_the_best_possible() -> None:
    g = np.random.default_rng(2)
    train, test = random_pairs(g, 40, 30, 0.2), random_pairs(g, 40, 30, 0.2)
    allowed = g.random(30) < 0.8
    truth = np.zeros((40, 30))
    truth[test.rows, test.indices] = 1.0
    result = evaluate(*scored(truth.tolist()), test, [train], NAMES, allowed)
    assert result.values == best_possible(test, [train], NAMES, allowed)
    assert result.values["recall@10"] < 1


def test_order_of_users_and_items_does_not_matter() -> None:
    g = np.random.default_rng(5)
    masks = [g.random((17, 25)) < 0.25 for _ in range(2)]
    vectors = [torch.from_numpy(g.standard_normal((n, 6)).astype(np.float32)) for n in (17, 25)]
    orders = [g.permutation(17), g.permutation(25)]
    values = []
    for u, i in ((np.arange(17), np.arange(25)), orders):
        sides = [pairs([list(np.flatnonzero(row)) for row in mask[u][:, i]], 25) for mask in masks]
        values.append(evaluate(vectors[0][u], vectors[1][i], sides[1], sides[:1], NAMES).values)
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_most_popular_ranks_by_train_degree() -> None:
    train = pairs([[0, 2], [2, 1], [2, 1], [3]], 5)
    users, items = most_popular(train)
    assert items[:, 0].tolist() == [1.0, 2.0, 3.0, 1.0, 0.0]
    assert top_k(users, items, 5).ids.tolist() == [[2, 1, 0, 3, 4]] * 4
    result = evaluate(users, items, pairs([[1], [], [], [1]], 5), [train], ["mrr@5"])
    assert result.per_user["mrr@5"].tolist() == [1.0, 0.5]


def test_errors() -> None:
    train, test = pairs([[0], []], 3), pairs([[], [1]], 3)
    users, items = torch.ones(2, 1), torch.ones(3, 1)
    with pytest.raises(DataError, match="no user to average over"):
        evaluate(users, items, test, [train], ["ndcg@1"])
    with pytest.raises(DataError, match="of 1 held-out pairs 1 are among the seen"):
        best_possible(train, [train], ["ndcg@1"])
    with pytest.raises(DataError, match="vectors of 2 users and 4 items"):
        evaluate(users, torch.ones(4, 1), test, [train], ["ndcg@1"])
    with pytest.raises(ConfigError, match="no metrics"):
        evaluate(users, items, test, [train], [])
    with pytest.raises(ConfigError, match="did you mean 'recall@1'"):
        evaluate(users, items, test, [train], ["recal@1"])


def test_without_seen_pairs_every_user_with_held_out_items_counts() -> None:
    result = evaluate(*scored([[1.0, 3, 2]] * 3), pairs([[1], [], [0]], 3), [], ["mrr@3"])
    assert result.per_user["mrr@3"].tolist() == [1.0, 1 / 3]
    assert (result.counts["users"], result.counts["cold_users"]) == (2, 0)


@pytest.mark.parametrize("name", METRICS)
def test_a_list_longer_than_any_catalogue_costs_nothing(name) -> None:
    """Ten items: K of 999,999,999 holds no more numbers than K of 10, and gives its values."""
    g = np.random.default_rng(1)
    train, test = random_pairs(g, 20, 10, 0.2), random_pairs(g, 20, 10, 0.3)
    users, items = torch.from_numpy(g.random((20, 4))), torch.from_numpy(g.random((10, 4)))
    found = {}
    for k in (10, 999_999_999):
        tracemalloc.start()
        result = evaluate(users, items, test, [train], [f"{name}@{k}"])
        best = best_possible(test, [train], [f"{name}@{k}"])
        assert tracemalloc.get_traced_memory()[1] < 1e7
        tracemalloc.stop()
        found[k] = result.values[f"{name}@{k}"], best[f"{name}@{k}"]
    shorter = 10 / 999_999_999 if name == "precision" else 1  # precision still divides by K
    np.testing.assert_allclose(found[999_999_999], np.array(found[10]) * shorter, rtol=1e-12)


def test_the_best_possible_is_found_some_users_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    g = np.random.default_rng(2)
    train, test = random_pairs(g, 100, 30, 0.2), random_pairs(g, 100, 30, 0.4)
    allowed = g.random(30) < 0.7
    whole = best_possible(test, [train], NAMES, allowed)
    assert 0.1 < whole["recall@10"] < 1
    monkeypatch.setattr(protocol, "LISTS", 16)
    seen = []
    real = protocol.measure
    monkeypatch.setattr(protocol, "measure", lambda *a: seen.append(len(a[0])) or real(*a))
    assert best_possible(test, [train], NAMES, allowed) == whole
    assert max(seen) == 16 and sum(seen) == 100


def test_a_result_is_one_short_line() -> None:
    train, test = pairs([[0]] * 1234, 3), pairs([[2]] * 1234, 3)
    result = evaluate(*scored([[3.0, 2, 1]] * 1234), test, [train], ["recall@2", "mrr@2"])
    assert repr(result) == "Result(recall@2 1.0000, mrr@2 0.5000; 1,234 users)"
