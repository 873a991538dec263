"""Ids that a program gives: of which kinds a list may be, and what is none."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from ssmrec.data import Vocabulary
from ssmrec.data.vocabulary import as_ids
from ssmrec.errors import DataError

FRAME = pd.DataFrame({"user": [1, 2], "item": [3, 4]})

LISTS = {
    "list": [1, 2],
    "range": range(1, 3),
    "keys": {1: "a", 2: "b"}.keys(),
    "polars": pl.Series([1, 2]),
    "objects": pl.Series([1, 2], dtype=pl.Object),
    "pandas": FRAME["user"],
    "index": pd.Index([1, 2]),
    "categories": pd.Series([1, 2], dtype="category"),
    "sparse": pd.Series(pd.arrays.SparseArray([1, 2])),
    "numpy": np.array([1, 2], dtype=np.uint16),
    "floats": np.array([1.0, 2.0]),
    "tensor": torch.tensor([1, 2]),
    "tensors": [torch.tensor(1), np.array(2)],
    "arrow": pa.chunked_array([[1], [2]]),
    "decimals": [Decimal(1), Decimal(2)],
}
MISSING = {
    "Int64": pd.Series([1, None], dtype="Int64"),
    "arrow": pd.Series([1, None], dtype="int64[pyarrow]"),
    "NA": [1, pd.NA],
    "NaT": [1, pd.NaT],
    "NaN": [1, float("nan")],
    "None": [1, None],
    "decimal": [Decimal(1), Decimal("NaN")],
    "pyarrow": pa.array([1, None]),
}
NO_IDS = {
    r"a DataFrame: give its column, such as frame\['user'\]": FRAME,
    "not a DataFrame: give its column": pl.from_pandas(FRAME),
    "not a LazyFrame: give its column": pl.LazyFrame({"user": [1]}),
    "not a Table: give its column": pa.table({"user": [1]}),
    "not a dict: give its column": {"user": [1]},
    r"not an array of shape \(2, 1\): give one column of it": FRAME[["user"]].values,
    "the single value '17'": "17",
    "the single value b'17'": b"17",
    "the single value 17": 17,
    r"the single value array\(17\)": np.array(17),
    "text, not tuple": [(1, 2)],
    "numbers or text, not tuple": pd.MultiIndex.from_tuples([(1, 2)]),
    "text, not bytes": [b"17"],
    "text, not list": [[1], [2]],
    "text, not DataFrame": [FRAME],
    "text, not Timestamp": pd.to_datetime(["2011-10-31"]),
    "text, not Date": pl.Series([1]).cast(pl.Date),
    "text, not complex": [1j],
    "True and False are none": pd.Series([True, None], dtype="boolean"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_every_list_and_column_is_ids(kind):
    vocabulary = Vocabulary(pl.Series([2, 1]))
    assert vocabulary.encode(LISTS[kind]).tolist() == [1, 0]


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_id_is_nobody(kind):
    found = as_ids(MISSING[kind])
    assert found.null_count() == 1
    assert Vocabulary(pl.Series([2, 1])).encode(found).tolist() == [1, -1]
    assert Vocabulary(pl.Series(["1", "nan"])).encode(found.cast(pl.Int64)).tolist() == [0, -1]


@pytest.mark.parametrize("message", NO_IDS)
def test_what_is_no_list_of_ids_is_one_line(message):
    with pytest.raises(DataError, match=message) as caught:
        as_ids(NO_IDS[message], "users")
    assert str(caught.value).startswith("users must be") and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="^ids must be"):
        Vocabulary(pl.Series([17])).encode(NO_IDS[message])


def test_fractions_of_decimals_are_nobody():
    assert Vocabulary(pl.Series([17])).encode([Decimal("17.5"), Decimal(17)]).tolist() == [-1, 0]


def test_text_beside_numbers_and_nothing_at_all():
    assert as_ids([1, "a", pd.NA]).to_list() == ["1", "a", None]
    assert as_ids(np.array([1, 2**64 - 1], dtype=np.uint64)).to_list() == ["1", str(2**64 - 1)]
    assert as_ids([]).to_list() == [] and as_ids([None]).to_list() == [None]
