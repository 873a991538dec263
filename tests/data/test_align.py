"""Pairs from elsewhere are matched by id, never by position."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest

import ssmrec
from ssmrec.data import Interactions, merge, statistics
from ssmrec.data.align import aligned, extends, over, same_ids, widened
from ssmrec.data.vocabulary import Vocabulary
from ssmrec.errors import DataError


def pairs(rows: list[tuple[object, object]], **more) -> Interactions:
    """Pairs of external ids over the sorted vocabularies of their own."""
    users, items = (pl.Series([row[side] for row in rows]) for side in (0, 1))
    known = Vocabulary.of(users), Vocabulary.of(items)
    return Interactions.from_pairs(known[0].encode(users), known[1].encode(items), *known, **more)


MODEL = pairs([(1, 10), (2, 20), (3, 30)])


def test_matched_by_id_with_what_is_unknown_left_out_and_counted(caplog):
    """User 0 comes before all others here, so every position differs; user 0 and item 40 are unknown."""
    other = pairs([(0, 10), (1, 30), (2, 40), (3, 10), (3, 20)],
                  timestamps=np.arange(5), weights=np.arange(1, 6) / 2)  # fmt: skip
    with caplog.at_level(logging.WARNING, "ssmrec"):
        found = aligned(other, MODEL)
    assert list(found.frame().select("user", "item").rows()) == [(1, 30), (3, 10), (3, 20)]
    assert found.timestamps is not None and found.timestamps.tolist() == [1, 3, 4]
    assert found.weights is not None and found.weights.tolist() == [1.0, 2.0, 2.5]
    assert found.users is MODEL.users and found.items is MODEL.items
    assert found.counts["unknown_pairs"] == 2
    assert "2 of 5 pairs have ids the model does not know" in caplog.text


def test_ids_of_different_type_match_as_text():
    found = aligned(pairs([("007", "10"), ("2", "10"), ("x", "10")]), MODEL)
    assert found.frame().rows() == [(2, 10)]  # "007" is not 7, and nobody's


def test_equal_ids_are_left_alone(caplog):
    same = pairs([(1, 20), (2, 10), (3, 30)])
    assert aligned(same, MODEL) is same and same_ids(same, MODEL) and not caplog.text
    assert not same_ids(pairs([("1", 10), ("2", 20), ("3", 30)]), MODEL)


def test_nothing_in_common_shows_ids_of_both():
    with pytest.raises(DataError, match=r"none of the 1 pairs .* \['x1'\] here, \[1, 2\] in the"):
        aligned(pairs([("x1", "x10")]), MODEL)


@pytest.mark.parametrize("use", [ssmrec.split, statistics, lambda table: merge(MODEL, table)])
def test_a_frame_in_the_place_of_pairs_is_told(use):
    with pytest.raises(
        DataError, match=r"must be Interactions, not DataFrame: read it with ssmrec"
    ):
        use(pl.DataFrame({"user": [1], "item": [2]}))


def test_one_vocabulary_is_asked_for_where_pairs_are_put_together():
    with pytest.raises(DataError, match="over the same users and items"):
        merge(MODEL, pairs([(1, 10), (2, 20), (4, 30)]))


def test_what_the_model_does_not_know_follows_its_ids(caplog):
    other = pairs([(0, 10), (1, 30), (2, 40), (3, 10)],
                  timestamps=np.arange(4), weights=np.arange(1, 5) / 2)  # fmt: skip
    with caplog.at_level(logging.WARNING, "ssmrec"):
        found = widened(other, MODEL)
    assert found.users.ids.to_list() == [1, 2, 3, 0]
    assert found.items.ids.to_list() == [10, 20, 30, 40]
    want = [(1, 30, 1, 1.0), (2, 40, 2, 1.5), (3, 10, 3, 2.0), (0, 10, 0, 0.5)]
    assert found.frame().rows() == want
    assert found.counts["unknown_pairs"] == 2 and "2 of 4 pairs have ids" in caplog.text
    assert extends(found, MODEL) and not extends(MODEL, found) and not extends(other, MODEL)
    mine = over(MODEL, found)
    assert mine.frame().rows() == MODEL.frame().rows() and same_ids(mine, found)
    assert mine.user_degrees.tolist() == [1, 1, 1, 0] and mine.item_degrees.tolist() == [1, 1, 1, 0]


def test_unknown_ids_of_another_type_follow_as_text():
    found = widened(pairs([("2", "10"), ("x", "10"), ("2", "007")]), MODEL)
    assert found.users.ids.to_list() == ["1", "2", "3", "x"]
    assert found.items.ids.to_list() == ["10", "20", "30", "007"] and extends(found, MODEL)
    assert widened(MODEL, MODEL) is MODEL is over(MODEL, MODEL)
    with pytest.raises(DataError, match="none of the 1 pairs"):
        widened(pairs([("x1", "x10")]), MODEL)
