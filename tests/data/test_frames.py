"""Frames of Python: which columns a pandas frame has, and parts that are split as files are."""

from __future__ import annotations

import contextlib

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ssmrec.data import DataConfig, load, prepare
from ssmrec.data.read import read_frame
from ssmrec.errors import ConfigError, DataError

SHOP = pd.DataFrame({"customer": [1, 1, 2, 3], "item": [4, 4, 5, 6], "qty": [1, 1, 1, 2]})
SHOP_ROWS = [(1, 4), (1, 4), (2, 5), (3, 6)]


@pytest.mark.parametrize("index", ["customer", ["customer", "item"], ["item", "customer"], "qty"])
def test_the_named_index_of_a_pandas_frame_is_columns(index):
    assert read_frame(SHOP.set_index(index))[0].rows() == SHOP_ROWS


def test_an_index_without_a_name_is_no_column():
    frame = SHOP[["customer", "qty"]].iloc[::-1]
    assert read_frame(frame)[0].rows() == [(3, 2), (2, 1), (1, 1), (1, 1)]
    assert read_frame(SHOP.set_index(pd.Index(list("abcd"))))[0].rows() == SHOP_ROWS


def test_an_index_named_like_a_column_is_refused():
    frame = SHOP.set_index("customer", drop=False)
    with pytest.raises(
        DataError, match=r"frame: the index \(customer\) has the name of a column.*drop=True"
    ):
        read_frame(frame)
    assert read_frame(frame.reset_index(drop=True))[0].rows() == SHOP_ROWS
    with pytest.raises(DataError, match=r"the index \(item, item\) has the name"):
        read_frame(SHOP.set_index(["customer", "item"]).rename_axis(["item", "item"]))


@pytest.mark.parametrize("number", [int, str])
def test_a_number_that_is_a_label_means_the_label(tmp_path, number):
    raw = pd.DataFrame([[196, 242, 3], [186, 302, 3]])
    asked = {"user": number(0), "item": number(1)}
    assert read_frame(raw, **asked)[0].rows() == [(196, 242), (186, 302)]
    assert read_frame(raw[[1, 0]], **asked)[0].rows() == [(196, 242), (186, 302)]
    assert read_frame(raw.set_index(1), **asked)[0].rows() == [(196, 242), (186, 302)]
    with pytest.raises(DataError, match="frame: no column 0 for user, the labels are 2, 1"):
        read_frame(raw[[2, 1]], **asked)
    named = raw[[1, 0]].set_axis(["1", "0"], axis=1)
    named.to_parquet(tmp_path / "a.parquet")
    for source in (named, pl.from_pandas(named), tmp_path / "a.parquet"):
        assert read_frame(source, **asked)[0].rows() == [(196, 242), (186, 302)]


def test_a_number_is_a_position_among_names():
    assert read_frame(SHOP, user=2, item=0)[0].rows() == [(1, 1), (1, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("series", [pd.Series([1, 2]), pl.Series([1, 2])])
def test_a_series_is_no_table(series):
    for read in (load, prepare):
        with pytest.raises(
            DataError,
            match="cannot read a Series; give a path, or a polars, pandas or pyarrow table",
        ):
            read(series)


def test_tables_of_arrow_are_read_as_frames():
    """Of pyarrow, and of whatever else has its C stream: a relation of DuckDB, where that is installed."""
    frame = pl.DataFrame({"user": ["a", "a", "b"], "item": [1, 2, 2], "timestamp": [3, 1, 2]})
    table = frame.to_arrow()
    tables = [table, table.to_batches()[0]]
    with contextlib.suppress(ImportError):
        tables.append(__import__("duckdb").from_arrow(table))
    for one in tables:
        assert load(one) == load(frame) and load(one).counts == load(frame).counts
    with pytest.raises(DataError, match="cannot read a ChunkedArray"):
        load(table["user"])


def test_settings_are_a_config_or_names():
    frame = pl.DataFrame({"user": [1], "item": [2]})
    with pytest.raises(
        ConfigError, match="must be a DataConfig, not dict: give settings by name, as in min_user=3"
    ):
        load(frame, {"min_user": 3})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="beside a DataConfig: put min_user into it"):
        load(frame, DataConfig(), min_user=3)
    with pytest.raises(ConfigError, match="beside a DataConfig: put user into it"):
        prepare(DataConfig(), user="customer")


def events(**more: list) -> pl.DataFrame:
    ids = [(user, (5 * user + item) % 13) for item in range(10) for user in range(9)]
    rows = {"user": [f"u{u}" for u, _ in ids], "item": [i for _, i in ids]}
    return pl.DataFrame(rows | {"timestamp": [(7 * n) % 90 for n in range(90)]} | more)


@pytest.mark.parametrize("strategy", ["auto", "random", "last", "time"])
def test_a_frame_is_split_as_a_file_of_its_rows(tmp_path, strategy):
    frame = events()
    frame.write_csv(tmp_path / "a.csv")
    want = prepare(tmp_path / "a.csv", seed=3, split={"strategy": strategy})
    assert want.test is not None and len(want.test) > 0
    for source in (frame, frame.lazy(), frame.to_pandas(), frame.to_pandas().set_index("user")):
        found = prepare(source, seed=3, split={"strategy": strategy})
        assert found.fingerprint == want.fingerprint
        assert found.strategy == want.strategy and found.counts == want.counts


@pytest.mark.parametrize("held", [["test"], ["valid", "test"]])
def test_frames_are_parts_as_files_are(tmp_path, held):
    cuts = {"train": (0, 60), "valid": (60, 75), "test": (70, 90)}
    frames = {
        part: events().slice(a, b - a) for part, (a, b) in cuts.items() if part in ("train", *held)
    }
    for part, frame in frames.items():
        frame.write_parquet(tmp_path / f"{part}.parquet")
    want = prepare(tmp_path, seed=1, min_item=2)
    train = frames.pop("train")
    for lazy in (False, True):
        parts = {
            part: frame.lazy() if lazy else frame.to_pandas() for part, frame in frames.items()
        }
        found = prepare(train, seed=1, min_item=2, **parts)
        assert found.fingerprint == want.fingerprint and found.strategy == "given"
        assert found.counts == want.counts
    everything = load(train, None, **frames)
    assert everything.fingerprint == load(tmp_path).fingerprint


def test_frames_that_cannot_be_parts_are_told(tmp_path, caplog):
    frame = events()
    frame.write_csv(tmp_path / "a.csv")
    path = str(tmp_path / "a.csv")
    with pytest.raises(
        ConfigError, match="data.test is a file, and source a frame: give frames only"
    ):
        prepare(frame, test=path)
    with pytest.raises(
        ConfigError, match="data.source is a file, and test a frame: give frames only"
    ):
        prepare(path, test=frame)
    with pytest.raises(ConfigError, match="valid file needs a test file"):
        prepare(frame, valid=frame)
    with pytest.raises(DataError, match="data.test: cannot read a dict; give a path"):
        prepare(frame, test={"user": [1]})
    with pytest.raises(DataError, match="data.source: cannot read a list; give a path"):
        prepare([("u1", 2)])
    with pytest.raises(DataError, match="test frame: 1 of 90 rows have no item, first in row 2"):
        prepare(frame, test=events(item=[1, None, *range(88)]))
    prepare(frame[:60], test=frame[60:], split={"test": 0.3}, delimiter=";")
    told = [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()]
    assert told == [
        "the test part is a frame, so without effect: data.split.test",
        "no text file, so without effect: data.delimiter",
    ]


def test_paths_of_parts_may_be_paths(tmp_path):
    events()[:60].write_csv(tmp_path / "a.csv")
    events()[60:].write_csv(tmp_path / "b.csv")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    assert prepare(a, test=b).fingerprint == prepare(str(a), test=str(b)).fingerprint


TWICE = "frame: several columns are named user: the first one is read"


def test_of_two_columns_of_one_name_the_first_is_read_and_told(caplog):
    pandas = pd.DataFrame([[1, 2, 9], [2, 3, 8]], columns=["user", "item", "user"])
    arrow = pa.table([[1, 2], [2, 3], [9, 8]], names=["user", "item", "user"])
    for table in (pandas, arrow, arrow.to_batches()[0]):
        caplog.clear()
        assert read_frame(table)[0].rows() == [(1, 2), (2, 3)]
        assert caplog.messages == [TWICE]


def test_of_names_of_several_levels_the_last_one_counts(caplog):
    def frame(*names):
        return pd.DataFrame([[1, 2], [2, 3]], columns=pd.MultiIndex.from_tuples(names))

    shop = frame(("shop", "user"), ("shop", "item"))
    for one in (shop, frame(("user", ""), ("item", "")), shop.set_index(("shop", "user"))):
        assert read_frame(one)[0].rows() == [(1, 2), (2, 3)]
    index = shop[[("shop", "item")]].set_axis(pd.Index([7, 8], name="user"))
    assert read_frame(index)[0].rows() == [(7, 2), (8, 3)]
    assert not caplog.messages
    both = pd.concat([shop, frame(("till", "user"), ("till", "price"))], axis=1)
    assert read_frame(both)[0].rows() == [(1, 2), (2, 3)] and caplog.messages == [TWICE]


@pytest.mark.parametrize("kind", ["polars", "pandas", "csv"])
def test_guessed_columns_are_a_warning_until_they_are_named(tmp_path, caplog, kind):
    table = pl.DataFrame({"watched": [1, 2], "who": [3, 4]})
    table.write_csv(tmp_path / "a.csv")
    source = {"polars": table, "pandas": table.to_pandas(), "csv": tmp_path / "a.csv"}[kind]
    assert read_frame(source)[0].rows() == [(1, 3), (2, 4)]
    (told,) = caplog.messages
    assert "user=watched, item=who are guessed: set data.user=... and data.item=..." in told
    caplog.clear()
    read_frame(source, item="watched")
    (told,) = caplog.messages
    assert "user=who is guessed: set data.user=..." in told
    caplog.clear()
    assert read_frame(source, user="who", item="watched")[0].rows() == [(3, 1), (4, 2)]
    assert not caplog.messages


def test_sparse_columns_are_read_as_the_others():
    ids = pd.arrays.SparseArray([0, 1, 0])
    assert read_frame(pd.DataFrame({"user": ids, "item": ids}))[0].rows() == [
        (0, 0),
        (1, 1),
        (0, 0),
    ]


def test_an_infinite_weight_is_dropped_as_other_useless_ones(caplog):
    frame = pl.DataFrame({"user": [1, 2, 3], "item": [4, 5, 6], "weight": [1.0, float("inf"), 2.0]})
    with pytest.raises(DataError, match="1 of 3 weights .*first in row 2: inf.*data.nulls=drop"):
        read_frame(frame)
    rows, counts = read_frame(frame, nulls="drop")
    assert rows["weight"].to_list() == [1.0, 2.0] and counts["dropped_weights"] == 1
