"""Readers on any ids and on any bytes."""

from __future__ import annotations

import runpy
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmrec.data import load
from ssmrec.data.text import MISSING
from ssmrec.errors import DataError

FUZZ = runpy.run_path(str(Path(__file__).parents[1] / "fuzz_readers.py"))
QUIET = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Blanks around an id are no part of it in a text file; words for "nothing" are no ids anywhere.
WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8
).filter(lambda word: word.strip() == word and word not in MISSING)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


def written(rows: set[tuple], folder: Path, name: str) -> Path:
    frame = pl.DataFrame(sorted(rows), schema=["user", "item"], orient="row")
    path = folder / name
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, quote_style="always")
    return path


@QUIET
@given(st.sets(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
def test_any_ids_survive_csv_and_parquet(tmp_path, rows):
    for name in ("a.csv", "a.parquet"):
        found = load(
            written(rows, tmp_path, name), ids="str", header=True if name == "a.csv" else None
        )
        assert set(found.frame().rows()) == rows
        assert found.users.decode(found.users.encode([u for u, _ in rows])).to_list() == [
            u for u, _ in rows
        ]


@QUIET
@given(st.sets(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_any_whole_numbers_survive_csv_and_parquet(tmp_path, rows):
    for name in ("a.csv", "a.parquet"):
        path = written(rows, tmp_path, name)
        assert set(load(path, ids="int").frame().rows()) == rows
        assert set(load(path, ids="str").frame().rows()) == {(str(u), str(i)) for u, i in rows}


@QUIET
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.parquet", "a.txt.gz", "a"]))
def test_any_bytes_are_pairs_or_one_line(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    assert FUZZ["verdict"](path, {}) in ("pairs", "DataError")


def test_any_bytes_give_pairs_or_one_line(tmp_path):
    """The small form of `python tests/fuzz_readers.py 10000`."""
    kinds, faults = FUZZ["fuzz"](250, 7, tmp_path)
    assert faults == []
    assert kinds["pairs"] >= 10 and kinds["DataError"] >= 100


def test_the_fuzzer_sees_faults(tmp_path):
    whole = load(pl.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2]}))
    assert FUZZ["broken"](whole) == ""
    whole.counts["rows_read"] = 4  # type: ignore[index]
    assert "rows are missing" in FUZZ["broken"](whole)


def test_a_header_of_names_that_tell_nothing_is_one_line(tmp_path):
    """Found by fuzzing: two columns of which one is the time, and a name with line breaks."""
    (tmp_path / "a.csv").write_text("user.item,timestamp\n7,1000000000\n")
    with pytest.raises(DataError, match="cannot tell the item column among user.item, timestamp"):
        load(tmp_path / "a.csv", header=True)
    (tmp_path / "a.csv").write_text('"user\nname";x;y\n1;2;3\n')
    with pytest.raises(DataError) as caught:
        load(tmp_path / "a.csv", header=True, delimiter=";")
    assert "\n" not in str(caught.value)
