"""`ssmrec data encode`: rows with numbers for ids are the same data as the rows with their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from disks import small_files
from ssmrec.config import build
from ssmrec.data import DataConfig, load, prepare
from ssmrec.data.coded import write_coded
from ssmrec.errors import ConfigError, DataError


def config(source: Path, **values) -> DataConfig:
    return build(DataConfig, {"source": str(source), **values}, "data")


def clicks(folder: Path, kind: str = "parquet", n: int = 2000) -> Path:
    """Four files of rows with text users (one has a quote and a blank), integer items, and times."""
    random = np.random.default_rng(5)
    user = pl.Series([f"user '{k:03d}' of the shop, ü" for k in random.integers(0, 150, n)])
    frame = pl.DataFrame({"customer": user, "item": random.integers(-3, 80, n)})
    frame = frame.with_columns(date=pl.Series(random.permutation(n)), stars=pl.lit(4.0))
    folder.mkdir()
    for part in range(4):
        rows = frame[part * n // 4 : (part + 1) * n // 4]
        getattr(rows, f"write_{kind}")(folder / f"{part}.{kind}")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_coded_rows_are_the_same_data(tmp_path, kind):
    source, out = clicks(tmp_path / "clicks", kind), tmp_path / "coded"
    counts = write_coded(config(source, min_rating=1), out, "256MB")
    assert counts == {"user": 150, "train": 2000}
    assert sorted(path.name for path in out.iterdir()) == ["_user_ids.parquet", "train.parquet"]
    rows = pl.read_parquet(out / "train.parquet")
    assert rows.schema["user"] == pl.Int32
    ids = pl.read_parquet(out / "_user_ids.parquet")["id"]
    assert ids.to_list() == sorted(ids.to_list())
    original = load(source, min_rating=1)
    coded = load(out, min_rating=1)
    assert coded.fingerprint == original.fingerprint and coded.counts == original.counts
    assert coded.users.ids.dtype == pl.String
    asked = {"min_user": 8, "split": {"strategy": "random"}}
    assert prepare(out, seed=3, **asked).fingerprint == prepare(source, seed=3, **asked).fingerprint


def test_parts_share_the_tables(tmp_path):
    (folder := tmp_path / "shop").mkdir()
    (folder / "train.csv").write_text("user,item\na,x\na,y\nb,x\nb,z\nNA,x\n")
    (folder / "test.csv").write_text("user,item\nb,y\nc,x\n")
    out = tmp_path / "coded"
    with pytest.raises(DataError, match=r"1 of 5 rows have no user, first in line 6"):
        write_coded(config(folder), out)
    counts = write_coded(config(folder, nulls="drop"), out)
    assert counts == {"user": 3, "item": 3, "train": 5, "test": 2}
    asked = {"nulls": "drop", "split": {"valid": 0}}
    split, original = prepare(out, **asked), prepare(folder, **asked)
    assert split.fingerprint == original.fingerprint and split.counts == original.counts
    assert split.counts["train_dropped_nulls"] == 1
    with pytest.raises(DataError, match="5 rows have no user"):
        prepare(out)
    with pytest.raises(DataError, match=r"_user_ids\.parquet: numbers the users of the files"):
        prepare(out, test=str(folder / "test.csv"), **asked)
    with pytest.raises(DataError, match=r"leave data\.ids at auto"):
        prepare(out, ids="str", **asked)


def test_ids_that_are_integers_stay_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n7,1.0\n10,2\n7,2\n")
    out = tmp_path / "coded"
    assert write_coded(config(tmp_path / "a.csv"), out) == {"train": 3}
    assert load(out).fingerprint == load(tmp_path / "a.csv").fingerprint
    write_coded(config(tmp_path / "a.csv", ids="str"), out2 := tmp_path / "texts")
    assert load(out2).fingerprint == load(tmp_path / "a.csv", ids="str").fingerprint
    assert load(out2).users.ids.to_list() == ["10", "7"]
    pl.DataFrame({"user": [1.0], "item": [2]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match="column user holds Float64: write its ids as text"):
        write_coded(config(tmp_path / "b.parquet", ids="str"), tmp_path / "floats")


def test_what_cannot_be_coded_leaves_nothing(tmp_path):
    lines = "\n".join(["user,item", "x,1", *(f"{n},1" for n in range(20))])
    (tmp_path / "a.csv").write_text(lines)
    out = tmp_path / "coded"
    with pytest.raises(DataError, match=r"mixed ids: 20 integers, 1 text; set data\.ids=str"):
        write_coded(config(tmp_path / "a.csv"), out)
    (tmp_path / "b.csv").write_text("user,item\nx,1\ny,2,3\n")
    with pytest.raises(DataError, match=r"b\.csv: line 3 has 3 fields"):
        write_coded(config(tmp_path / "b.csv"), out)
    with pytest.raises(ConfigError, match="memory 'much': not a size such as 4GB"):
        write_coded(config(tmp_path / "a.csv", ids="str"), out, "much")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(DataError, match="coded: is there already"):
        write_coded(config(tmp_path / "a.csv", ids="str"), out)


def test_the_command_and_a_training_on_its_folder(tmp_path, command):
    clicks(tmp_path / "clicks")
    code, out, _ = command("data", "encode", "clicks", "--out", "coded", "--memory", "256MB")
    assert code == 0 and "coded: user 150, train 2,000" in out
    asked = ("--model", "mf", "--epochs", "1", "--seed", "1")
    metrics = []
    for source in ("clicks", "coded"):
        assert command("train", source, *asked, "--out", f"runs/{source}")[0] == 0
        metrics.append(
            (tmp_path / "runs" / source / "metrics.json").read_text().split('"seconds"')[0]
        )
        code, out, _ = command(
            "recommend", f"runs/{source}", "--users", "user '003' of the shop, ü"
        )
        assert code == 0
    assert '"test"' in metrics[0] and metrics[0].split("peak")[0] == metrics[1].split("peak")[0]


def test_numbers_of_one_folder_mean_nothing_in_another(tmp_path):
    for name in ("one", "two"):
        source = clicks(tmp_path / f"raw-{name}", n=200)
        write_coded(config(source), tmp_path / "all" / name)
    with pytest.raises(DataError, match="its ids are numbers of its own: name that folder alone"):
        load(tmp_path / "all")
    with pytest.raises(DataError, match="name that folder alone"):
        load(tmp_path / "all" / "one" / "*.parquet")
    with pytest.raises(DataError, match="was written by `ssmrec data encode` already"):
        write_coded(config(tmp_path / "all" / "one"), tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids: ids.head(3), "has 3 ids, and the rows beside it users numbered from 0 to"),
        (lambda ids: ids.rename({"id": "name"}), "is not the table of ids that was written"),
        (lambda ids: pl.concat([ids, ids]), "is not the table of ids that was written"),
        (None, "cannot be read, damaged"),
    ],
)
def test_damaged_tables_of_ids_are_told(tmp_path, change, said):
    out = tmp_path / "coded"
    write_coded(config(clicks(tmp_path / "raw", n=200)), out)
    table = out / "_user_ids.parquet"
    table.write_bytes(b"garbage") if change is None else change(
        pl.read_parquet(table)
    ).write_parquet(table)
    with pytest.raises(DataError, match=said) as caught:
        load(out)
    assert "_user_ids.parquet" in str(caught.value)


@pytest.mark.parametrize("memory", ["-1", "much", "4", "1KB"])
def test_memory_that_is_no_size_or_not_enough(tmp_path, memory):
    source = clicks(tmp_path / "raw")
    with pytest.raises(ConfigError, match="not a size such as|too little to number the ids"):
        write_coded(config(source), tmp_path / "out", memory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_folders_of_other_people_stay(tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "theirs.txt").touch()
    write_coded(config(clicks(tmp_path / "raw", n=200)), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.part", "raw"]
    assert (tmp_path / "out.part" / "theirs.txt").exists()


def test_ratings_are_kept_and_may_be_asked_for_later(tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "coded"
    source.write_text("user,item,stars\na,x,5\na,y,2\nb,x,4.5\n")
    write_coded(config(source), out)
    assert load(out, min_rating=4).fingerprint == load(source, min_rating=4).fingerprint
    assert load(out).fingerprint == load(source).fingerprint


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item": [1.0, 2.0, 1.5]}, "column item holds fractions, row 3 is 1.5"),
        ({"item": pl.Series([1, 2, 2**63], dtype=pl.UInt64)}, "column item, row 3: 9223372036854775808"),
        ({"item": [1, 2, None]}, "1 of 3 rows have no item, first in row 3"),
        ({"user": ["a", None, "b"]}, "1 of 3 rows have no user, first in row 2"),
        ({"timestamp": ["2011-10-31", "2011-11-01", "soon"]}, "such as row 3: 'soon'"),
        ({"weight": [1.0, 0.0, 1.0]}, "weights are not above 0, first in row 2"),
        ({"item": pl.Series([], dtype=pl.Int64), "user": pl.Series([], dtype=pl.String)}, "has no rows"),
    ],
)  # fmt: skip
def test_what_load_refuses_is_refused_with_its_row(tmp_path, columns, said, monkeypatch):
    """Also where rows are checked two at a time: the row is that of the file."""
    monkeypatch.setattr("ssmrec.data.coded._ROWS", 2)
    source = tmp_path / "a.parquet"
    pl.DataFrame({"user": ["a", "b", "c"], "item": [1, 2, 3]} | columns).write_parquet(source)
    for read in (load, lambda file: write_coded(config(file), tmp_path / "coded")):
        with pytest.raises(DataError, match=said.replace("1 of 3", r"1 of \d")) as caught:
            read(source)
        assert str(caught.value).startswith(f"{source}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_the_line_of_a_text_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ssmrec.data.coded._ROWS", 1)
    (folder := tmp_path / "clicks").mkdir()
    (folder / "a.csv").write_text("user,item,ts\na,x,1\na,y,2\n")
    (folder / "b.csv").write_text("user,item,ts\nb,x,1\nb,y,soon\n")
    with pytest.raises(DataError, match=r"line 3 of .*b\.csv: 'soon'"):
        write_coded(config(folder), tmp_path / "coded")


def test_settings_without_effect_are_told(tmp_path, caplog):
    asked = {
        "min_user": 5,
        "split": {"test": 0.5},
        "nulls": "drop",
        "min_rating": 1,
        "rating": "stars",
    }
    write_coded(config(clicks(tmp_path / "raw", n=200), **asked), out := tmp_path / "coded")
    told = [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()]
    said = f"when {out} is read, so without effect: data.min_rating, data.min_user, data.split"
    assert told == [f"rows are dropped, merged and split {said}"]


def test_where_to_write_is_looked_at_before_anything_is_read(tmp_path):
    (source := tmp_path / "clicks").mkdir()
    (source / "a.csv").write_text("user,item\na,1,2\n")  # reading it would give another error
    (taken := tmp_path / "taken").mkdir()
    (taken / "mine").touch()
    with pytest.raises(DataError, match="taken: is there already"):
        write_coded(config(source), taken)
    with pytest.raises(ConfigError, match="memory 'much'"):
        write_coded(config(source), tmp_path / "out", "much")
    for inside, given in ((source / "coded", source), (tmp_path / "coded", tmp_path / "*")):
        with pytest.raises(DataError, match=r"coded: lies in .*, and would be read with it"):
            write_coded(config(given), inside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks", "taken"]


def test_a_full_disk_is_told_of_what_is_written(tmp_path):
    source, out = clicks(tmp_path / "clicks"), tmp_path / "coded"
    with small_files(1000), pytest.raises(DataError, match="File too large") as caught:
        write_coded(config(source), out)
    said = str(caught.value)
    assert said.startswith(f"{out}: cannot be written (") and "\n" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["clicks"]


@pytest.mark.parametrize("name", ["a [1]", "b*", "c?", "d'e", "ü"])
def test_a_folder_whose_name_is_like_a_pattern(tmp_path, name):
    (tmp_path / "a.csv").write_text("user,item\nu1,a\nu2,b\n")
    out = tmp_path / name / name
    write_coded(DataConfig(source=str(tmp_path / "a.csv")), out)
    assert load(out).fingerprint == load(tmp_path / "a.csv").fingerprint
