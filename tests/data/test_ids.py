"""Ids: one type, told from the values; missing and doubtful ones are never passed over."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from ssmrec.data.read import read_frame
from ssmrec.errors import DataError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_integer_ids_only_when_every_one_is_an_integer(tmp_path):
    rows, _ = read_frame(write(tmp_path, "a.csv", "user,item\n007,1\n7,2\n"))
    assert rows.dtypes == [pl.Categorical, pl.Int64]
    assert rows["user"].to_list() == ["007", "7"]
    rows, _ = read_frame(tmp_path / "a.csv", ids="int")
    assert rows["user"].to_list() == [7, 7]
    rows, _ = read_frame(tmp_path / "a.csv", ids="str")
    assert rows["item"].to_list() == ["1", "2"]


def test_a_few_words_among_integers_are_refused_under_auto(tmp_path):
    lines = [f"{n},{n % 7}" for n in range(1200)]
    lines[499] = "abc,1"
    path = write(tmp_path, "a.csv", "\n".join(["user,item", *lines]) + "\n")
    message = "mixed ids: 1,199 integers, 1 text, first 'abc' in line 501; set data.ids=str"
    with pytest.raises(DataError, match=message):
        read_frame(path)
    assert read_frame(path, ids="str")[0]["user"][499] == "abc"


def test_many_words_among_integers_are_told(tmp_path, caplog):
    path = write(tmp_path, "a.csv", "user,item\n1,a\n2,b\nx,a\n")
    assert read_frame(path)[0]["user"].to_list() == ["1", "2", "x"]
    assert "2 integers, 1 text, first 'x' in line 4" in caplog.text
    caplog.clear()
    read_frame(path, ids="str")
    assert caplog.text == ""


@pytest.mark.parametrize("word", ["", "NaN", "NULL", "null", "None", "NA", "N/A", r"\N"])
def test_words_for_nothing_are_missing(tmp_path, word):
    path = write(tmp_path, "a.csv", f"user,item,x\n1,2,x\n{word},3,x\n")
    with pytest.raises(DataError, match=r"1 of 2 rows have no user, first in line 3.*data\.nulls"):
        read_frame(path)
    rows, counts = read_frame(path, nulls="drop")
    assert rows.rows() == [(1, 2)] and counts["dropped_nulls"] == 1


def test_whole_numbers_with_a_point_are_integers_in_text_as_in_parquet(tmp_path):
    frame = pl.DataFrame({"user": [1.0, 20.0, None], "item": [3, 4, 5]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert read_frame(tmp_path / name, nulls="drop")[0].rows() == [(1, 3), (20, 4)]
    assert read_frame(tmp_path / "a.csv", nulls="drop", ids="int")[0]["user"].to_list() == [1, 20]
    assert read_frame(write(tmp_path, "b.csv", "user,item\n1.5,2\n1.0,3\nx,4\n"))[0][
        "user"
    ].to_list() == ["1.5", "1.0", "x"]


def test_ids_of_mixed_type_need_a_declared_type():
    frame = pd.DataFrame({"user": [1, "1", 2], "item": [1, 2, 3]})
    with pytest.raises(
        DataError, match=r"column 'user' mixes types \(int, str\); set data\.ids=str"
    ):
        read_frame(frame)
    assert read_frame(frame, ids="int")[0]["user"].to_list() == [1, 1, 2]
    assert read_frame(frame, ids="str")[0]["user"].to_list() == ["1", "1", "2"]


def test_integers_that_pandas_turned_into_floats():
    rows, counts = read_frame(pd.DataFrame({"user": [1.0, None], "item": [3, 4]}), nulls="drop")
    assert rows.rows() == [(1, 3)]
    assert counts == {"rows_read": 2, "dropped_nulls": 1}


@pytest.mark.parametrize("values", [[1.5, 2.0], [True, False]])
def test_values_that_are_no_ids(values):
    with pytest.raises(DataError, match="column user holds"):
        read_frame(pl.DataFrame({"user": values, "item": [1, 2]}))


@pytest.mark.parametrize(("dtype", "first"), [(pl.Float64, 2**53), (pl.Float32, 2**24)])
@pytest.mark.parametrize("ids", ["auto", "int", "str"])
def test_floats_so_large_that_ids_fall_together_are_refused(dtype, first, ids):
    """pandas makes floats of integers beside a missing one: 2^53 and 2^53 + 1 are one user then."""
    frame = pl.DataFrame({"user": [3, first, first + 1], "item": [1, 2, 3]})
    floats = frame.with_columns(pl.col("user").cast(dtype))
    assert floats["user"].n_unique() == 2
    with pytest.raises(
        DataError, match=rf"column user, row 2: .* is of a size that {dtype.__name__} rounds"
    ):
        read_frame(floats, ids=ids)
    rows, _ = read_frame(floats.head(1).vstack(floats.head(1)), ids=ids)
    assert rows["user"].cast(pl.Int64).to_list() == [3, 3]
