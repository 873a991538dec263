"""Readers: every layout gives the same rows; bad input gives one line that names the place."""

from __future__ import annotations

import gzip
import logging
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import ssmrec.data.named as named
from ssmrec.config import build
from ssmrec.data import DataConfig, load
from ssmrec.data.read import read_frame
from ssmrec.errors import ConfigError, DataError

ROWS = [(0, 5, 880000003), (0, 7, 880000001), (1, 5, 880000002)]
PAIRS = [(user, item) for user, item, _ in ROWS]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def text(delimiter: str, header: str = "", end: str = "\n") -> str:
    lines = [delimiter.join(map(str, (u, i, 4, t))) for u, i, t in ROWS]
    return end.join([*([delimiter.join(header.split())] if header else []), *lines]) + end


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " "])
@pytest.mark.parametrize("header", ["", "user_id movieId rating timestamp"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimited_text_is_guessed(tmp_path, delimiter, header, end):
    rows, counts = read_frame(write(tmp_path, "a.csv", text(delimiter, header, end)))
    assert rows.rows() == ROWS
    assert rows.columns == ["user", "item", "timestamp"]
    assert counts == {"rows_read": 3}


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " "])
@pytest.mark.parametrize("header", ["", "user_id movieId rating timestamp"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["", "  ", "\t", ",,"])
def test_blank_lines_are_no_rows(tmp_path, delimiter, header, end, blank):
    blank = blank.replace(",", delimiter)
    if blank.strip() and header:
        pytest.skip("what stands above names must be deleted")
    lines = text(delimiter, header).splitlines()
    content = end.join([blank, blank, *lines[:-1], blank, lines[-1], blank, blank]) + end
    rows, counts = read_frame(write(tmp_path, "a.csv", content))
    assert rows.rows() == ROWS and counts == {"rows_read": 3}


def test_names_below_a_blank_line_are_no_row(tmp_path):
    rows, _ = read_frame(write(tmp_path, "a.dat", "\nuser::item\n1::2\n"))
    assert rows.rows() == [(1, 2)]


@pytest.mark.parametrize("delimiter", [",", "::"])
def test_the_line_of_a_row_counts_blank_lines(tmp_path, delimiter):
    lines = ["", "user,item", "", "1,2", " ", ",", ",3", ""]
    path = write(tmp_path, "a.csv", "\n".join(lines).replace(",", delimiter))
    with pytest.raises(DataError, match="1 of 2 rows have no user, first in line 7;"):
        read_frame(path)


def test_the_guess_is_logged(tmp_path, caplog):
    path = write(tmp_path, "a.csv", text(";", "user_id movieId rating timestamp"))
    with caplog.at_level(logging.INFO):
        read_frame(path)
    assert "delimiter ';', header" in caplog.text
    assert "user=user_id, item=movieId, timestamp=timestamp" in caplog.text


def test_columns_by_name_position_and_own_delimiter(tmp_path):
    path = write(tmp_path, "a.txt", "t~who~what\n9~b~x\n8~a~y\n")
    rows, _ = read_frame(path, delimiter="~", user="who", item=2, timestamp=0)
    assert rows.rows() == [("b", "x", 9), ("a", "y", 8)]


def test_pair_lines_gzip_and_byte_order_mark(tmp_path):
    pairs = "0,5\n0,7\n1,5\n"
    assert read_frame(write(tmp_path, "a.train", pairs))[0].rows() == PAIRS
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(pairs.encode()))
    assert read_frame(packed)[0].rows() == PAIRS
    marked = write(tmp_path, "b.csv", "\ufeffuser,item\n" + pairs)
    assert read_frame(marked)[0].rows() == PAIRS


def test_parquet_and_frames(tmp_path):
    frame = pl.DataFrame(ROWS, schema=["uid", "iid", "time"], orient="row")
    frame.write_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", frame, frame.lazy(), frame.to_pandas()):
        assert read_frame(source)[0].rows() == ROWS


@pytest.mark.parametrize("role", ["user", "item", "timestamp", "rating", "weight", "event"])
def test_true_and_false_are_no_columns(role):
    with pytest.raises(ConfigError, match=rf"data\.{role}: must be a column name or position"):
        read_frame(pl.DataFrame({"user": [1], "item": [2]}), **{role: False})


def test_one_event_needs_no_list():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 1], "kind": [7, 8]})
    assert read_frame(frame, event="kind", events=7)[0]["user"].to_list() == [1]
    frame = frame.with_columns(kind=pl.Series(["buy", "view"]))
    assert read_frame(frame, event="kind", events="buy")[0]["user"].to_list() == [1]
    with pytest.raises(ConfigError, match=r"data\.events: must be the name of an event"):
        read_frame(frame, event="kind", events=True)


@pytest.mark.parametrize("weight", ["0", "-1"])
def test_weights_are_above_zero(tmp_path, weight):
    path = write(tmp_path, "a.csv", f"user,item,weight\n1,2,3\n1,3,{weight}\n")
    message = rf"1 of 2 weights are not above 0, first in line 3: {weight}; .*data\.nulls=drop"
    with pytest.raises(DataError, match=message):
        read_frame(path)
    rows, counts = read_frame(path, nulls="drop")
    assert rows.rows() == [(1, 2, 3.0)] and counts["dropped_weights"] == 1
    path.write_text("user,item,weight\n1,2,nan\n")
    with pytest.raises(DataError, match="1 of 1 rows have no weight, first in line 2"):
        read_frame(path)


def test_a_rating_that_is_not_used_is_told(caplog):
    frame = pl.DataFrame({"user": [1], "item": [2], "rating": [3]})
    with caplog.at_level(logging.INFO):
        read_frame(frame)
    assert "rating=rating (not used: set data.min_rating)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        read_frame(frame, min_rating=1)
    assert "rating=rating" in caplog.text and "not used" not in caplog.text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-02 00:00:05", 86405),
        ("1970-01-02T00:00:05Z", 86405),
        ("1970-01-02T00:00:05+01:00", 82805),
        ("86400.0", 86400),
    ],
)
def test_timestamps(tmp_path, given, seconds):
    path = write(tmp_path, "a.csv", f"user,item,date\n1,2,{given}\n")
    assert read_frame(path)[0]["timestamp"].to_list() == [seconds]


def test_dates_of_frames():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": ["1970-01-02", "1970-01-03"]})
    frame = frame.with_columns(pl.col("time").str.to_date())
    assert read_frame(frame)[0]["timestamp"].to_list() == [86400, 172800]


def test_ratings_and_events_filter_and_count():
    frame = pl.DataFrame(
        {"user": [1, 2, 3, 4], "item": [1, 1, 1, 1], "stars": [5, 3, 4, 5], "kind": list("bbbv")}
    )
    rows, counts = read_frame(frame, min_rating=4, event="kind", events=("b",))
    assert rows["user"].to_list() == [1, 3]
    assert counts == {"rows_read": 4, "dropped_events": 1, "dropped_min_rating": 1}


def test_columns_without_names_are_told_by_their_numbers(tmp_path):
    path = write(tmp_path, "a.tsv", "1\t2\t880000001\t5\n1\t3\t880000002\t2\n")
    rows, counts = read_frame(path, min_rating=3)
    assert rows.rows() == [(1, 2, 880000001)]
    assert counts["dropped_min_rating"] == 1


def test_weights_only_when_named_so():
    frame = pl.DataFrame({"user": [1], "item": [2], "quantity": [3]})
    assert read_frame(frame)[0].columns == ["user", "item"]
    assert read_frame(frame, weight="quantity")[0].rows() == [(1, 2, 3.0)]


BAD_TEXT = {
    "": "the file is empty (0 bytes)",
    "\n\n": "the file has no rows",
    "user,item\n": "the file has no rows",
    "user\n1\n": "no delimiter found, the first line is 'user'",
    "user,item\n1,2\n,3\n": "1 of 2 rows have no user, first in line 3; mend them or set data.nulls=drop",
    "user,item\n1,2\n4,nan\n": "1 of 2 rows have no item, first in line 3",
    "a,b,c\n1,2,3\n": "cannot tell the user column among a, b, c; set data.user=...",
    "user,item\n1,2\n1,2,3\n": "line 3 has 3 fields, but the header has 2; mend the line",
    "user,item,date\n1,2,12/1/2010\n": "timestamps are not all numbers or ISO dates",
    "user,item,date\n1,2,2020-01-01\n1,3,2020-13-01\n": "such as line 3: '2020-13-01'",
    "user,item,ts\n1,2,2020-01-01 10:00\n1,3,2020-01-02 10:00\n1,4,2020-13-45 00:00\n1,5,2020-01-01 10:00\n": (
        "such as line 4: '2020-13-45 00:00' (before it '2020-01-02 10:00')"
    ),
    "user,item,date\n1,2,2020-01-01T10:00:00Z\n1,3,2020-01-02T10:00:00\n": (
        "ISO dates of one form (2011-10-31, 2011-10-31T12:00:00Z), such as line 3: "
        "'2020-01-02T10:00:00' (before it '2020-01-01T10:00:00Z')"
    ),
    "user,item,weight\n1,2,3\n1,2,x\n": "column weight, line 3: 'x' is not a number",
    "user;item;weight\n1;2;3\n1;2;1.045,56\n": "'1.045,56' is not a number; a decimal comma must",
}


@pytest.mark.parametrize(("content", "message"), BAD_TEXT.items())
def test_bad_text_is_one_clear_line(tmp_path, content, message):
    path = write(tmp_path, "bad.csv", content)
    with pytest.raises(DataError) as caught:
        read_frame(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_settings_name_the_remedy(tmp_path):
    path = write(tmp_path, "a.csv", "user_id\titem\n1\t2\nx\t3\n")
    with pytest.raises(DataError, match=r"delimiter ',' gives one column.*looks like delimiter"):
        read_frame(path, delimiter=",")
    with pytest.raises(DataError, match="no column 'usr_id' for user, did you mean 'user_id'"):
        read_frame(path, user="usr_id")
    with pytest.raises(DataError, match="no column 5 for item, there are 2"):
        read_frame(path, item=5)
    with pytest.raises(DataError, match="data.min_rating needs a rating column"):
        read_frame(path, min_rating=3)
    with pytest.raises(
        DataError, match="column user, line 3: 'x' is not an integer id; set data.ids=str"
    ):
        read_frame(path, ids="int")
    with pytest.raises(
        ConfigError, match="unknown key data.delimeter, did you mean 'data.delimiter'"
    ):
        read_frame(path, delimeter=",")


def test_an_event_that_no_row_has_is_told_beside_one_that_some_have(caplog):
    frame = pl.DataFrame({"user": [1, 1], "item": [1, 2], "kind": ["view", "buy"]})
    read_frame(frame, event="kind", events=("purchase", "buy"))
    assert "no event is purchase (data.events)" in caplog.text and "is buy" not in caplog.text


def test_row_numbers_are_those_of_the_file():
    frame = pl.DataFrame({"user": ["", "1", "x"], "item": [1, 2, 3]})
    with pytest.raises(DataError, match="row 3: 'x'"):
        read_frame(frame, ids="int", nulls="drop")


def test_event_names_present_are_listed():
    frame = pl.DataFrame({"user": [1, 1], "item": [1, 2], "kind": ["view", "buy"]})
    with pytest.raises(
        DataError, match="no event is purchase .data.events.; the names present are buy, view"
    ):
        read_frame(frame, event="kind", events=("purchase",))


def test_nothing_left_says_why():
    frame = pl.DataFrame({"user": [1, 1], "item": [1, 2], "rating": [1, 2]})
    with pytest.raises(DataError, match=r"no rows left: 2 read, 2 dropped by data.min_rating=3\.0"):
        read_frame(frame, min_rating=3)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_frame(tmp_path / "none.csv")
    whole = (named.BUNDLED / "online-retail" / "train.parquet").read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.parquet: cannot be read, damaged"):
        read_frame(cut)
    disguised = tmp_path / "a.csv"
    disguised.write_bytes(whole)
    with pytest.raises(DataError, match="is a Parquet file"):
        read_frame(disguised)
    with pytest.raises(DataError, match="cannot read a list; give a path"):
        read_frame([(1, 2)])
    latin = tmp_path / "l.csv"
    latin.write_bytes("user,item\ncafé,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_frame(latin)


@pytest.mark.parametrize("columns", ["user,title,item,price", "user,item,title,price"])
def test_a_line_too_wide_is_told_whatever_columns_are_read(tmp_path, columns):
    rows = [f"{n},{n + 1},{n + 2},{n + 3}" for n in range(40)]
    rows.insert(30, "3,Foo, 777,6,9")
    path = write(tmp_path, "wide.csv", "\n".join([columns, *rows]))
    with pytest.raises(DataError, match="line 32 has 5 fields, but the header has 4"):
        read_frame(path, build(DataConfig, {"source": str(path)}, "data"))


def test_decimal_commas_between_semicolons(tmp_path):
    path = write(tmp_path, "a.csv", "1;2;3,5\n2;3;4,5\n3;4;1,0\n")
    assert read_frame(path)[0].rows() == [(1, 2), (2, 3), (3, 4)]
    path = write(tmp_path, "b.csv", "1,2,x;y\n2,3,y;z\n")
    assert read_frame(path)[0].rows() == [(1, 2), (2, 3)]


def test_names_that_differ_by_a_blank_are_two_columns(tmp_path):
    path = write(tmp_path, "a.csv", "user,item,user \n1,2,5\n2,3,5\n")
    assert read_frame(path)[0].rows() == [(1, 2), (2, 3)]


def test_a_position_is_of_plain_digits():
    with pytest.raises(DataError, match="no column '²' for user"):
        read_frame(pl.DataFrame({"a": [1], "item": [2]}), user="²")


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((20111031, 20120101), True),
        ((20111031, 20121301), False),
        ((1320019200, 1325376000), False),
    ],
)
def test_dates_written_as_numbers_are_told(caplog, days, told):
    frame = pl.DataFrame({"user": [1, 1], "item": [5, 6], "timestamp": days})
    assert read_frame(frame)[0]["timestamp"].to_list() == list(days)
    assert ("20120101 look like dates and are read as seconds" in caplog.text) == told


TOLD = "column timestamp: 2 of 3 rows have a fraction of a second, which is cut off"


@pytest.mark.parametrize(
    ("times", "seconds", "told"),
    [
        ([0.2, 0.9, 5.0], [0, 0, 5], True),
        ([Decimal("1.5"), Decimal("1.25"), Decimal("2.00")], [1, 1, 2], True),
        (["1970-01-01T00:00:01.25Z", "1970-01-01T00:00:01Z", "1970-01-01T00:00:01.5Z"], [1, 1, 1], True),
        ([datetime(1970, 1, 1, 0, 0, 1, 5), datetime(1970, 1, 1, 0, 0, 2, 999999), datetime(1970, 1, 2)],
         [1, 2, 86400], True),
        ([1.0, 2.0, 3.0], [1, 2, 3], False),
        ([datetime(1970, 1, 1), datetime(1970, 1, 1, 0, 0, 1), datetime(1970, 1, 2)], [0, 1, 86400], False),
        ([date(1970, 1, 1), date(1970, 1, 1), date(1970, 1, 2)], [0, 0, 86400], False),
        ([1320019200123, 1320019200456, 1320019200789], [1320019200123, 1320019200456, 1320019200789], False),
    ],
)  # fmt: skip
def test_fractions_of_a_second_are_cut_off_and_told(caplog, times, seconds, told):
    frame = pl.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "timestamp": times})
    assert read_frame(frame)[0]["timestamp"].to_list() == seconds
    assert (TOLD in caplog.text) == ("fraction" in caplog.text) == told
    assert ("give integers of milliseconds or microseconds" in caplog.text) == told


def test_fractions_in_a_text_file_are_told(tmp_path, caplog):
    path = write(tmp_path, "a.csv", "user,item,timestamp\n1,2,1.5\n1,3,1.25\n1,4,1\n")
    assert read_frame(path)[0]["timestamp"].to_list() == [1, 1, 1]
    assert f"a.csv: {TOLD}" in caplog.text


def test_a_delimiter_between_quotes_divides_nothing(tmp_path):
    path = write(tmp_path, "a.csv", '1,2,"a b, c"\n2,3,"d e f"\n3,4,"g h i"\n')
    assert read_frame(path)[0].rows() == [(1, 2), (2, 3), (3, 4)]
    text = 'user id,item id,title\n1,2,"a b c"\n2,3,"x, y z"\n'
    assert read_frame(write(tmp_path, "b.csv", text))[0].rows() == [(1, 2), (2, 3)]


@pytest.mark.parametrize("weight", [1e39, 1e300, 1e-40])
def test_weights_that_float32_cannot_hold_are_named(weight):
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "weight": [1.0, weight]})
    with pytest.raises(
        DataError, match="1 of 2 weights are not from 1e-24 to 1e24, first in row 2"
    ):
        read_frame(frame)
    assert len(read_frame(frame, nulls="drop")[0]) == 1


EVENTS = pl.DataFrame(
    {
        "user": [1, 1, 1, 2, 2],
        "item": [10, 10, 11, 10, 12],
        "event": ["view", "buy", "view", "cart", "buy"],
        "weight": [1.0, 2.0, 1.0, 1.0, 3.0],
    }
)


@pytest.mark.parametrize(("weight", "want"), [(None, [6, 1, 5]), ("weight", [11, 1, 15])])
def test_events_have_weights_that_repeated_pairs_add_up(weight, want):
    frame = EVENTS if weight else EVENTS.drop("weight")
    found = load(frame, event="event", events=["buy", "view"], event_weights=[5, 1], weight=weight)
    assert found.frame().select("user", "item").rows() == [(1, 10), (1, 11), (2, 12)]
    assert found.weights.tolist() == want


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"events": ["buy"], "event_weights": [5, 1]}, "one for each of data.events"),
        ({"event_weights": [1]}, "one for each of data.events"),
        ({"events": ["buy"], "event_weights": 0}, "data.event_weights: must be at least 1e-06"),
        ({"events": "buy", "event_weights": 2, "duplicates": "count"}, "makes other weights"),
    ],
)
def test_weights_of_events_that_cannot_be(settings, told):
    with pytest.raises(ConfigError, match=told):
        load(EVENTS, event="event", **settings)
