"""The vocabulary and the one table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.errors import DataError

NUMBERS = st.integers(-(2**62), 2**62)


@given(st.lists(NUMBERS, unique=True, min_size=1), st.lists(NUMBERS))
def test_encode_equals_a_dictionary_for_any_numbers(ids, asked):
    """Wide gaps go through a join, narrow ones through a table; both mean the same."""
    known = {number: index for index, number in enumerate(ids)}
    asked = [*asked, *ids]
    found = Vocabulary(pl.Series(ids, dtype=pl.Int64)).encode(pl.Series(asked, dtype=pl.Int64))
    assert found.dtype == np.int32
    assert found.tolist() == [known.get(number, -1) for number in asked]


@given(st.sets(st.integers(-50, 50), min_size=1), st.lists(st.integers(-60, 60)))
def test_encode_equals_a_dictionary_for_narrow_numbers(ids, asked):
    ids = list(ids)
    known = {number: index for index, number in enumerate(ids)}
    vocabulary = Vocabulary(pl.Series(ids, dtype=pl.Int64))
    assert vocabulary._by_number is not None
    assert vocabulary.encode(asked).tolist() == [known.get(number, -1) for number in asked]


def test_text_finds_the_number_it_means_and_nothing_else():
    vocabulary = Vocabulary(pl.Series([17, 4], dtype=pl.Int64))
    assert vocabulary.encode(["17", "4", "x", "", None]).tolist() == [0, 1, -1, -1, -1]
    assert Vocabulary(pl.Series(["17", "a"])).encode([17, 4]).tolist() == [0, -1]
    assert vocabulary.encode([]).tolist() == []
    assert vocabulary.encode([17.0, 4.5, None]).tolist() == [0, -1, -1]


def test_ids_must_be_unique_whole_and_of_one_type():
    for ids in (pl.Series([1, 1]), pl.Series(["a", None]), pl.Series([1.5])):
        with pytest.raises(DataError):
            Vocabulary(ids)


def test_pairs_are_sorted_and_keep_their_columns():
    users, items = Vocabulary(pl.Series(["a", "b"])), Vocabulary(pl.Series([10, 20, 30]))
    table = Interactions.from_pairs(
        np.array([1, 0, 1]), np.array([2, 1, 0]), users, items, np.array([5, 6, 7])
    )
    assert table.indptr.tolist() == [0, 1, 3] and table.indices.tolist() == [1, 0, 2]
    assert table.frame().rows() == [("a", 20, 6), ("b", 10, 7), ("b", 30, 5)]
    assert table.item_degrees.tolist() == [1, 1, 1] and table.user_degrees.tolist() == [1, 2]
    with pytest.raises(DataError, match="repeated"):
        Interactions.from_pairs(np.array([0, 0]), np.array([1, 1]), users, items)


def test_fingerprint_follows_content_only():
    users, items = Vocabulary(pl.Series(["a", "b"])), Vocabulary(pl.Series([10, 20, 30]))
    one = Interactions.from_pairs(np.array([1, 0]), np.array([2, 1]), users, items)
    same = Interactions.from_pairs(np.array([0, 1]), np.array([1, 2]), users, items)
    other = Interactions.from_pairs(np.array([0, 1]), np.array([1, 1]), users, items)
    renamed = Vocabulary(pl.Series([10, 20, 31]))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    moved = Interactions.from_pairs(np.array([0, 1]), np.array([1, 2]), users, renamed)
    assert one.fingerprint != moved.fingerprint


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"timestamps": np.arange(5)},
            r"timestamps must have one value for each of 3 pairs, not \(5,\)",
        ),
        ({"weights": np.ones(2)}, r"weights must have one value for each of 3 pairs, not \(2,\)"),
        ({"item": np.arange(2)}, r"item must have one value for each of 3 pairs, not \(2,\)"),
        ({"weights": np.array([-1.0, 1, 1])}, "weights must be above 0 and finite"),
        ({"weights": np.array([1.0, np.nan, 1])}, "weights must be above 0 and finite"),
        ({"weights": np.array([1.0, 1, 0])}, "weights must be above 0 and finite"),
        ({"weights": np.array([1.0, 1, np.inf])}, "weights must be above 0 and finite"),
        ({"item": np.array([0, 1, 3])}, "item must hold indices 0 to 2, not 0 to 3"),
        ({"user": np.array([0, -1, 2])}, "user must hold indices 0 to 2, not -1 to 2"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changed, message):
    three = Vocabulary(pl.Series(range(3)))
    columns = {"user": np.arange(3), "item": np.arange(3), "users": three, "items": three}
    with pytest.raises(DataError, match=message):
        Interactions.from_pairs(**(columns | changed))


def test_equality_is_by_content():
    def made(ids=("a", "b"), item=(2, 1), weights=(1.0, 2.0), counts=None):
        users, items = Vocabulary(pl.Series(ids)), Vocabulary(pl.Series([10, 20, 30]))
        columns = np.array([1, 0]), np.array(item), users, items
        return Interactions.from_pairs(*columns, weights=np.array(weights), counts=counts)

    one, same = made(), made(counts={"rows": 5})
    others = [made(item=(2, 0)), made(weights=(1.0, 3.0)), made(ids=("a", "c"))]
    for other in others:
        assert one == same != other and hash(one) == hash(same)
        assert Split(one, None, other, "random") == Split(same, None, other, "random")
        assert Split(one, None, one, "random") != Split(one, None, other, "random")
    assert {one, same, *others} == {one, *others} and len({one, same, *others}) == 4
    assert one.users == same.users != others[2].users and hash(one.users) == hash(same.users)
    assert one.users != one and one != "a" and Split(one, None, None, "random") != one
    assert Vocabulary(pl.Series([1, 2])) != Vocabulary(pl.Series(["1", "2"]))
    assert {Split(one, None, None, "random"): 1}[Split(same, None, None, "random")] == 1


def test_printed_objects_are_one_short_line():
    users, items = Vocabulary(pl.Series(["a", "b"])), Vocabulary(pl.Series(range(1234)))
    pairs = Interactions.from_pairs(np.array([1, 0]), np.array([2, 1]), users, items)
    assert repr(pairs) == "Interactions(2 users x 1,234 items, 2 pairs)"
    full = Interactions.from_pairs(
        np.array([1]), np.array([2]), users, items, np.array([5]), np.array([1.0])
    )
    assert str(full) == "Interactions(2 users x 1,234 items, 1 pairs, timestamps, weights)"
    assert repr(items) == "Vocabulary(1,234 ids, Int64)"
    split = Split(pairs, None, full, "random")
    assert repr(split) == "Split(random: 2 users x 1,234 items, train 2, test 1)"
