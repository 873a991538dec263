"""Sparse matrices of scipy: cells are the rows of a table."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ssmrec.data import load, prepare
from ssmrec.errors import DataError

sparse = pytest.importorskip("scipy.sparse", reason="scipy is not installed")


def matrix(values):
    return sparse.coo_array((values, ([0, 2, 2, 3], [1, 0, 4, 1])), shape=(5, 6))


@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array", "lil_array"])
def test_cells_are_users_items_and_weights(form):
    frame = pl.DataFrame({"user": [0, 2, 2, 3], "item": [1, 0, 4, 1]})
    made = getattr(sparse, form)
    for kind in (bool, np.int8, np.float32):
        assert load(made(matrix(np.ones(4, kind)))) == load(frame)
    weighted = frame.with_columns(weight=pl.Series([1.0, 2.0, 0.5, 3.0]))
    assert load(made(matrix([1.0, 2.0, 0.5, 3.0]))) == load(weighted)


def test_cells_of_zero_are_left_out_and_counted_and_the_matrix_stays():
    given = matrix([1.0, 0.0, 1.0, 1.0]).tocsr()
    found = load(given)
    assert found.weights is None and len(found) == 3
    assert found.counts["rows_read"] == 4 and found.counts["dropped_zeros"] == 1
    assert given.nnz == 4


def test_cells_that_come_twice_are_added_up():
    twice = sparse.coo_array(([1, 1, 1], ([0, 0, 1], [1, 1, 2])), shape=(2, 3))
    assert load(twice).frame().rows() == [(0, 1, 2.0), (1, 2, 1.0)]


@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, "have no weight"), (-1, "are not above 0"), (np.inf, "are not from 1e-24")],
)
def test_values_that_are_no_weights_are_as_in_frames(value, fault):
    given = matrix([1, 2, value, 1])
    with pytest.raises(
        DataError, match=rf"frame: 1 of 4 .*{fault}.*first in cell \(2, 4\).*data\.nulls=drop"
    ):
        load(given)
    assert load(given, nulls="drop").frame()["item"].to_list() == [1, 0, 1]


def test_values_are_ratings_where_a_least_one_is_asked_for():
    assert load(matrix([1, 5, 4, 2]), min_rating=4).frame().rows() == [(2, 0), (2, 4)]


def test_a_matrix_is_split_as_a_frame():
    given = sparse.random_array((30, 20), density=0.5, rng=0, format="csr")
    user, item = given.tocoo().coords
    frame = pl.DataFrame({"user": user, "item": item, "weight": given.tocoo().data})
    assert prepare(given, seed=1) == prepare(frame, seed=1)


def test_what_is_no_matrix_of_numbers_is_told():
    with pytest.raises(DataError, match=r"cannot read a ndarray.*by scipy\.sparse\.csr_array"):
        load(np.eye(3))
    with pytest.raises(DataError, match=r"users and items, not the shape \(3,\)"):
        load(sparse.coo_array(np.array([1, 0, 2])))
    with pytest.raises(DataError, match="holds complex128, not numbers"):
        load(matrix([1j, 2, 3, 4]))
    with pytest.raises(DataError, match="no column 'who' for user"):
        load(matrix([1, 1, 1, 1]), user="who")
