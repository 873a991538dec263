"""Groups, metrics split by group, and how unevenly lists are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.analysis.popularity import (
    exposure,
    gini,
    in_tail,
    ndcg_by_group,
    popularity_groups,
    recall_by_group,
)
from ssmrec.errors import ConfigError, DataError


def test_groups_by_hand():
    # Ascending degrees 0 1 1 2 4 8, running sums 0 1 2 4 8 16 of 16: quarters end at 4, 8, 12, 16.
    degrees = np.array([8, 1, 2, 0, 1, 4])
    assert popularity_groups(degrees, 4).tolist() == [3, 0, 0, -1, 0, 1]
    assert popularity_groups(degrees, 1).tolist() == [0, 0, 0, -1, 0, 0]


def test_equal_degrees_make_equal_groups_in_order_of_index():
    assert popularity_groups(np.full(6, 7), 3).tolist() == [0, 0, 1, 1, 2, 2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 12))
def test_groups_hold_equal_shares_up_to_one_item(degrees, n):
    degrees = np.array(degrees)
    if not degrees.sum():
        with pytest.raises(DataError, match="no item has an interaction"):
            popularity_groups(degrees, n)
        return
    groups = popularity_groups(degrees, n)
    assert ((groups == -1) == (degrees == 0)).all() and groups.max() == n - 1
    held = np.array([degrees[groups <= g].sum() for g in range(n)])
    share = degrees.sum() * np.arange(1, n + 1) / n
    assert (held <= share + 1e-9).all() and (held > share - degrees.max() - 1e-9).all()
    for g in range(n - 1):  # no item of a group is more popular than one of the next
        below, above = degrees[groups == g], degrees[groups > g]
        assert not len(below) or not len(above) or below.max() <= above.min()


def test_groups_need_a_number():
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        popularity_groups(np.ones(3, int), 0)
    with pytest.raises(DataError, match="the degree of item 1 is -2, and must be at least 0"):
        popularity_groups(np.array([1, -2]), 2)


YES = [[True, False], [True, False]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"relevant": [1, 0]}, "number of held-out items of user 1 is 0, and must be at least 1"),
        ({"ids": np.zeros((0, 2), int), "hits": np.zeros((0, 2), bool), "relevant": []}, "no user"),
        ({"ids": [[0, 1], [2, 3]]}, "a list holds item 3, but there are 3 items"),
        ({"groups": [0, 1, 2]}, "groups must be -1 to 1, not 0 to 2"),
        ({"hits": YES[:1]}, r"hits must have the shape \(2, 2\), not \(1, 2\)"),
        ({"hits": [[1, 0], [1, 0]]}, "hits must be bool, not int64"),
        ({"hits": [[True, True], [False, True]]}, "hits must be False where a list holds no item"),
        ({"relevant": [2]}, r"relevant must have the shape \(2,\), not \(1,\)"),
        (
            {"hits": [[True, True], [False, False]], "relevant": [1, 1]},
            "user 0 has 2 hits, but 1 held-out",
        ),
        ({"ids": [0, 1]}, r"ids must have the shape \(m, K\)"),
    ],
)
def test_lists_without_a_mean_are_refused(changed, message):
    given = {
        "ids": [[0, 1], [2, -1]],
        "hits": YES,
        "relevant": [2, 1],
        "groups": [0, 1, 1],
    }
    ids, hits, relevant, groups = (np.array(value) for value in (given | changed).values())
    for metric in (recall_by_group, ndcg_by_group):
        with pytest.raises(DataError, match=message):
            metric(ids, hits, relevant, groups, 2)


def test_metrics_by_group_by_hand():
    ids = np.array([[0, 1, 2], [3, -1, -1]])
    hits = np.array([[True, False, True], [True, False, False]])
    relevant, groups = np.array([4, 1]), np.array([1, 1, 0, 0])
    recall = recall_by_group(ids, hits, relevant, groups, 2)
    # User 0 finds items 0 (head) and 2 (tail) of 4; user 1 finds item 3 (tail) of 1.
    assert recall.by_group.tolist() == [(1 / 4 + 1) / 2, (1 / 4) / 2]
    assert recall.total == pytest.approx((2 / 4 + 1) / 2)
    assert recall.standard_error.tolist() == pytest.approx([0.75 / 2, 0.25 / 2])
    ndcg = ndcg_by_group(ids, hits, relevant, groups, 2)
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert ndcg.by_group.tolist() == pytest.approx([(0.5 / ideal + 1) / 2, 1 / ideal / 2])
    assert ndcg.total == pytest.approx((1.5 / ideal + 1) / 2)


def test_gini_in_closed_form():
    assert gini(np.full(5, 3)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 7])) == pytest.approx(1 - 1 / 4)
    assert gini(np.arange(1, 101)) == pytest.approx((100 - 1) / (3 * 100))  # 1 .. n: (n - 1) / (3n)
    assert gini(np.zeros(4)) == 0
    x = np.random.default_rng(0).integers(0, 9, 30)
    differences = np.abs(x[:, None] - x[None, :]).mean()
    assert gini(x) == pytest.approx(differences / (2 * x.mean()))


def test_exposure_by_hand():
    degrees = np.array([0, 1, 2, 3, 10])
    assert in_tail(degrees).tolist() == [False, True, True, True, False]
    # User 0 has items 4 and 1, user 2 has item 4; item 0 is not listable.
    found = exposure(np.array([0, 0, 2, 2]), np.array([4, 1, 4, 0]), degrees)
    assert found.mean_popularity == ((10 + 1) / 2 + 10) / 2
    assert found.coverage == 2 / 4 and found.tail_share == pytest.approx(1 / 3)
    assert found.gini == pytest.approx(gini(np.array([0, 0, 1, 2])))
    with pytest.raises(DataError, match="no pair is on an item"):
        exposure(np.array([0]), np.array([0]), degrees)
    for row, item, message in ((0, 5, "item 5, but there are 5"), (0, -1, "item of pair 0 is -1"),
                               (-1, 1, "user of pair 0 is -1")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            exposure(np.array([row]), np.array([item]), degrees)
    with pytest.raises(DataError, match=r"items must have the shape \(2,\), not \(1,\)"):
        exposure(np.array([0, 2]), np.array([4]), degrees)
    with pytest.raises(DataError, match="count of item 1 is -2"):
        gini(np.array([1, -2]))


def test_hits_outside_the_groups_count_in_the_total_only():
    ids, hits = np.array([[0, 2, 1]]), np.array([[True, True, False]])
    share = recall_by_group(ids, hits, np.array([4]), np.array([0, 1, -1]), 2)
    assert share.total == 0.5 and share.by_group.tolist() == [0.25, 0.0]
