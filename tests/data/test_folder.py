"""Folders of files and patterns of names: one table, whatever the number of its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ssmrec.data import load, prepare
from ssmrec.data.folder import files_of_source
from ssmrec.data.read import read_frame
from ssmrec.errors import DataError


def clicks(text: bool = False) -> pl.DataFrame:
    """300 rows with repeated pairs and weights; ids are numbers or long text."""
    random = np.random.default_rng(3)
    user, item = random.integers(0, 25, 300), random.integers(0, 40, 300)
    frame = pl.DataFrame({"user": user, "item": item, "ts": random.permutation(300)})
    frame = frame.with_columns(weight=pl.Series(random.integers(1, 5, 300), dtype=pl.Float64))
    if text:
        names = (
            pl.format(f"{side}-{{}}-of-the-shop", side).alias(side) for side in ("user", "item")
        )
        frame = frame.with_columns(names)
    return frame


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_one_file_or_ten_are_the_same_data(tmp_path, kind, text):
    """The ids, pairs, times, weights and the split; the order of the files does not matter."""
    frame = clicks(text)
    one, ten, turned = tmp_path / f"one.{kind}", tmp_path / "ten", tmp_path / "turned"
    getattr(frame, f"write_{kind}")(one)
    for folder, order in ((ten, range(10)), (turned, range(10)[::-1])):
        folder.mkdir()
        for n, part in zip(order, range(10), strict=True):
            rows = frame[30 * part : 30 * part + 30]
            getattr(rows, f"write_{kind}")(folder / f"part-{n}.{kind}")
    whole = load(one)
    assert whole.counts["rows_read"] == 300 and whole.counts["duplicates"] > 0
    for folder in (ten, turned):
        data = load(folder)
        assert data.fingerprint == whole.fingerprint
        assert data.counts == whole.counts
        assert prepare(folder).fingerprint == prepare(one).fingerprint
    assert load(str(ten / f"part-*.{kind}")).fingerprint == whole.fingerprint


def test_lines_of_items_in_several_files(tmp_path):
    """The first file says that they are such lines: the second alone would be columns."""
    folder = put(tmp_path / "a", {"1.txt": "0 1 2\n1 2\n", "2.txt": "2 5\n3 1\n"})
    assert read_frame(folder)[0].rows() == [(0, 1), (0, 2), (1, 2), (2, 5), (3, 1)]


def test_rows_come_by_path_and_what_is_hidden_is_left_out(tmp_path):
    names = {"b.csv": 2, "a.csv": 1, "_temporary/x.csv": 8, ".a.csv.crc": 9, "_SUCCESS": 0}
    folder = put(tmp_path / "a", {n: f"user,item\n{v},5\n" for n, v in names.items()})
    put(folder, {"c.csv": "", "d.csv": "user,item\n", "items.csv": "item,title\n5,fig\n"})
    assert read_frame(folder)[0].rows() == [(1, 5), (2, 5)]
    assert files_of_source(folder) == [folder / f"{name}.csv" for name in "abd"]


def test_folders_named_by_a_value_are_columns(tmp_path):
    rows = pl.DataFrame({"user": ["u", "v"], "item": ["i", "j"]})
    for day in ("2011-10-31", "2011-11-01"):
        for event in ("buy", "a%20look"):
            place = tmp_path / "a" / f"date={day}" / f"event={event}" / "part-0.parquet"
            place.parent.mkdir(parents=True)
            rows.write_parquet(place)
    found, counts = read_frame(tmp_path / "a", event="event", events=("buy",))
    seconds = [1320019200, 1320019200, 1320105600, 1320105600]
    assert found["timestamp"].to_list() == seconds and counts["dropped_events"] == 4
    found, _ = read_frame(tmp_path / "a", event="event", events=("a look",))
    assert found["user"].to_list() == ["u", "v", "u", "v"]
    found, _ = read_frame(tmp_path / "a" / "date=2011-*" / "*", event="event", events="buy")
    assert found["timestamp"].to_list() == seconds


def test_values_in_folders_are_ids_of_the_type_they_look_like(tmp_path):
    for user in ("7", "10", "__HIVE_DEFAULT_PARTITION__"):
        (place := tmp_path / "a" / f"user={user}").mkdir(parents=True)
        pl.DataFrame({"item": [1, 2]}).write_parquet(place / "0.parquet")
    found, counts = read_frame(tmp_path / "a", nulls="drop")
    assert found.rows() == [(10, 1), (10, 2), (7, 1), (7, 2)]
    assert counts == {"rows_read": 6, "dropped_nulls": 2}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.csv": "user,item\n1,2\n", "b.csv": "user,article\n1,2\n"},
            r"b\.csv: has columns user, article, but .*a\.csv has user, item",
        ),
        ({"a.csv": "user,item\n1,2\n", "b.csv": "1,2\n"}, r"b\.csv: has columns 1, 2, but .*a\.csv"),
        ({"a.csv": "1,2\n", "b.csv": "user,item\n1,2\n"}, r"b\.csv: begins with names, and .*a\.csv"),
        ({"a.csv": "1,2\n", "b.csv": "1\t2\n"}, r"b\.csv: delimiter ',' gives one column"),
        ({"a.csv": "1,2\n", "x=1/b.csv": "1,2\n"}, r"b\.csv: has columns 0, 1, x, but .*a\.csv has 0"),
        ({"a.csv": "1,2\n", "b.md": "notes\n"}, r"b\.md: is none of \.parquet.*such as '.*/\*\.csv'"),
        ({"a.csv": "1,2\n", "b.parquet": "x\n"}, r"b\.parquet: is of another kind than .*a\.csv"),
        ({"a.csv": "user,item\n1,2\n", "b.csv": "user,item\n3,4\n,5\n"}, r"line 3 of .*b\.csv"),
        ({"a.csv": "user,item\n1,2\n", "b.csv": "user,item\n3,4\n5,6,7\n"}, r"b\.csv: line 3 has 3"),
        ({"a.txt": "0 1 2\n1 2\n", "b.txt": "2 3\n3 NA 1\n"}, r"no item, first in line 2 of .*b\.txt"),
        ({"a.csv": ""}, r"no train file and no other with rows"),
        ({"test.csv": "1,2\n"}, "has no train file"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_that_names_the_file(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as caught:
        load(put(tmp_path / "clicks", files))
    assert "\n" not in str(caught.value)


def test_parquet_of_other_types_is_refused_and_of_other_sizes_is_not(tmp_path):
    pl.DataFrame({"user": [1], "item": [2]}).write_parquet(tmp_path / "a.parquet")
    small = pl.DataFrame({"item": [3], "user": [1]}, schema={"item": pl.Int32, "user": pl.UInt8})
    small.write_parquet(tmp_path / "b.parquet")
    assert read_frame(tmp_path)[0].rows() == [(1, 2), (1, 3)]
    pl.DataFrame({"user": ["x"], "item": [2]}).write_parquet(tmp_path / "c.parquet")
    message = r"c\.parquet: column user holds String, but Int64 in .*a\.parquet"
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path)


def test_parts_may_be_folders(tmp_path):
    folder = put(tmp_path / "shop", {
        "train/1.csv": "0,1\n0,2\n", "train/2.csv": "1,1\n2,3\n", "test.csv/1.csv": "0,3\n1,2\n",
    })  # fmt: skip
    split = prepare(folder, split={"valid": 0})
    assert split.strategy == "given"
    assert (len(split.train), len(split.test or ())) == (4, 2)


def test_a_pattern_that_nothing_fits(tmp_path):
    with pytest.raises(DataError, match=r"201\*\.csv: no file with rows fits"):
        load(str(tmp_path / "201*.csv"))


def test_what_would_be_missed_is_refused(tmp_path):
    folder = put(tmp_path / "clicks", {"a.csv": "user,item\n1,2\n3,4\n"})
    (folder / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="gone.csv: is a link to nothing"):
        load(folder)
    (folder / "gone.csv").unlink()
    put(tmp_path / "more", {"b.csv": "user,item\n5,6\n"})
    (folder / "more").symlink_to(tmp_path / "more")
    with pytest.raises(DataError, match="more: is a link to a folder; name that folder itself"):
        load(folder)


def test_a_column_here_and_a_folder_of_its_name_there(tmp_path):
    texts = {"a.csv": "user,item,event\n1,2,buy\n", "event=buy/b.csv": "user,item\n3,4\n"}
    with pytest.raises(DataError, match="has columns user, item"):
        load(put(tmp_path / "clicks", texts))


def test_tables_beside_a_train_file_are_told(tmp_path, caplog):
    texts = {
        "train.csv": "user,item\n1,2\n3,4\n",
        "more.csv": "user,item\n5,6\n",
        "items.csv": "item,title\n2,a\n",
    }
    folder = put(tmp_path / "shop", texts)
    assert len(load(folder)) == 2
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"{folder / 'more.csv'}: left out, as train.csv is beside it"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_whose_name_looks_like_a_pattern(tmp_path, kind):
    file = tmp_path / f"clicks [2011] *.{kind}"
    getattr(clicks(), f"write_{kind}")(file)
    assert load(file).fingerprint == load(clicks()).fingerprint


def test_a_column_that_contradicts_its_folders_is_told_with_a_count(tmp_path, caplog):
    rows = {"event=view": "1,2,view\n3,4,buy\n5,6,\n", "event=buy": "7,8,buyer\n"}
    texts = {f"{name}/a.csv": f"user,item,event\n{text}" for name, text in rows.items()}
    folder = put(tmp_path / "a", texts)
    assert len(load(folder, event="event", events="buy")) == 1  # the column counts
    told = [r.getMessage() for r in caplog.records if "says other" in r.getMessage()]
    said = "column event says other than the names of the folders in 2 rows: the column counts"
    assert told == [f"{folder}: {said}"]
    caplog.clear()
    days = pl.DataFrame(
        {"user": [1, 2], "item": [3, 4], "date": ["2011-10-31T08:00", "2011-10-31"]}
    )
    (place := tmp_path / "b" / "Date=2011-10-31").mkdir(parents=True)
    days.write_parquet(place / "0.parquet")
    days.write_parquet(place / "1.parquet")
    load(tmp_path / "b")
    assert "says other" not in caplog.text
    with pytest.raises(DataError, match=r"a\.csv: its folders name a column twice"):
        load(
            put(
                tmp_path / "c",
                {"x=1/x=2/a.csv": "user,item\n1,2\n", "x=1/b.csv": "user,item\n1,2\n"},
            )
        )


def test_a_folder_with_a_value_for_a_name_may_be_given_itself(tmp_path, monkeypatch):
    texts = {f"event={e}/{n}.csv": f"user,item\n{n},{e}\n" for e in ("buy", "view") for n in (1, 2)}
    folder = put(tmp_path / "clicks", texts)
    asked = {"event": "event", "events": "buy"}
    whole = load(folder, **asked).fingerprint
    for source in (folder / "event=buy", folder / "event=buy" / "*.csv"):
        assert load(source, **asked).fingerprint == whole
    assert len(load(folder / "event=buy" / "1.csv", **asked)) == 1
    with pytest.raises(DataError, match="the names present are view"):
        load(folder / "event=view", **asked)
    monkeypatch.chdir(folder / "event=buy")
    assert load(".", **asked).fingerprint == whole
    with pytest.raises(DataError, match="no column 'event' for event"):
        load(put(tmp_path / "plain", {"a.csv": "user,item\n1,2\n"}), **asked)


def test_titles_are_no_rows_of_a_pattern_either(tmp_path):
    folder = put(tmp_path / "a", {"b.csv": "user,item\n1,2\n", "c.csv": "user,item\n1,3\n"})
    put(folder, {"items.csv": "item,title\n2,fig\n"})
    assert load(folder / "*.csv").frame().rows() == load(folder).frame().rows() == [(1, 2), (1, 3)]
