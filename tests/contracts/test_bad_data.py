"""Bad input is one clear line and exit code 2, or a defined result with counts."""

from __future__ import annotations

import gzip
import json
import os
from datetime import date, datetime

import polars as pl
import pytest

from ssmrec.data import DataConfig, load, prepare
from ssmrec.errors import DataError

PAIRS = [(user, (user * 7 + step * 3) % 11) for user in range(12) for step in range(6)]
TEXT = "user,item\n" + "".join(f"{u},{i}\n" for u, i in PAIRS)


def csv(rows, head="user,item"):
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"


def parquet(path, **columns):
    pl.DataFrame(PAIRS, schema=["user", "item"], orient="row").with_columns(
        **columns
    ).write_parquet(path)
    return path.read_bytes()


# name of the file, its bytes, part of the message
BAD = [
    ("zero.csv", b"", "zero.csv: the file is empty (0 bytes)"),
    ("zero.parquet", b"", "zero.parquet: the file is empty (0 bytes)"),
    ("head.csv", b"user,item\n", "head.csv: the file has no rows"),
    ("blank.csv", b"\n \n\n", "blank.csv: the file has no rows"),
    ("one.csv", b"user\n1\n2\n", "two columns are needed"),
    ("names.csv", csv([(1, 2, 3)], "a,b,c").encode(), "cannot tell the user column among a, b, c"),
    ("tilde.csv", TEXT.replace(",", "~").encode(), "no delimiter found, the first line is 'user~item'"),
    ("wide.csv", TEXT.encode() + b"1,2,3\n", "line 74 has 3 fields, but the header has 2"),
    ("quote.csv", b'user,item\n"1,2\n3,4\n', "quote.csv: cannot be read"),
    ("long.csv", TEXT.encode() + b"1," + b"9" * 200_000 + b"\n", "long.csv: line 74 cannot be read"),
    ("latin.csv", "user,item\ncafé,1\n".encode("latin-1"), "not UTF-8 text (byte 13)"),
    ("utf16.csv", TEXT.encode("utf-16"), "not UTF-8 text (byte 0)"),
    ("mac.csv", TEXT.replace("\n", "\r").encode(), "lines end with a carriage return only"),
    ("binary.csv", bytes(range(256)) * 8, "not UTF-8 text"),
    ("gzip.csv", gzip.compress(TEXT.encode()), "is a gzip file; name it .gz"),
    ("plain.csv.gz", TEXT.encode(), "plain.csv.gz: cannot be read"),
    ("cut.csv.gz", gzip.compress(TEXT.encode() * 90)[:-40], "cut.csv.gz: cannot be read"),
    ("book.csv", b"PK\x03\x04" + bytes(90), "is a zip archive (or an Excel file)"),
    ("shop.feather", b"ARROW1\0\0" + bytes(90), "is an Arrow (Feather) file; convert it"),
    ("shop.csv", b"SQLite format 3\x00" + bytes(90), "is an SQLite database"),
    ("text.parquet", TEXT.encode(), "text.parquet: cannot be read, damaged or of another format"),
    ("nan.csv", TEXT.encode() + b"nan,3\n", "1 of 73 rows have no user, first in line 74"),
    ("inf.csv", TEXT.encode() + b"inf,3\n", "72 integers, 1 text, first 'inf' in line 74"),
    ("mixed.csv", TEXT.encode() + b"u1,3\n", "72 integers, 1 text, first 'u1' in line 74"),
    ("bytes.csv", csv([(1, 2, "x")], "user,item,ts").encode(), "timestamps are not all numbers or ISO"),
    ("day.csv", csv([(1, 2, "3/4/2020")], "user,item,date").encode(), "such as line 2: '3/4/2020'"),
    ("late.csv", csv([(1, 2, 10**25)], "user,item,ts").encode(), "timestamp in line 2 is 1e+25"),
    ("equal.csv", csv([(1, 2)] * 50).encode(), "no test rows"),
    ("oneitem.csv", csv([(u, 1) for u in range(20)]).encode(), "no test rows"),
    ("onerow.csv", csv([(1, 2)]).encode(), "no test rows"),
    ("weight.csv", csv([(1, 2, 0)], "user,item,weight").encode(), "1 of 1 weights are not above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[name for name, _, _ in BAD])
def test_every_bad_file_is_one_line_and_exit_code_2(command, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    code, out, err = command("--quiet", "train", name, "--epochs", 1, "--out", "run")
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line]
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.csv", "nothing.csv: no such file"),
        ("", "empty"),
        ("folder", "folder: the folder has no train file"),
        ("loop.csv", "Too many levels of symbolic links"),
        ("~nobody-here/a.csv", "cannot be looked up"),
        ("x" * 300 + ".csv", "File name too long"),
        ("a\0b.csv", "null byte"),
        ("online-retial", "did you mean 'online-retail'?"),
    ],
)
def test_a_source_that_is_no_file_is_one_line(command, tmp_path, source, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    code, out, err = command("-q", "train", source, "--out", "run")
    (line,) = [line for line in err.splitlines() if line]
    assert (code, out) == (2, "") and message in line


@pytest.mark.parametrize("address", ["ftp://example.com/x.csv", "hdfs://shop/x", "file:///x"])
def test_an_address_is_named_as_it_was_given(command, address):
    """In Python, and by the commands that also take the address of a database."""
    said = f"{address}: is an address of a kind that is not read"
    with pytest.raises(DataError, match=f"^{said}"):
        load(address)
    for words in (["train", address], ["data", "stats", address]):
        code, out, err = command("-q", *words)
        assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith(f"error: {said}")


def test_an_address_is_shown_without_its_secrets():
    with pytest.raises(DataError, match=r"^s3://shop/x\.csv: a password, and what stands after"):
        load("s3://me:word@shop/x.csv?X-Amz-Signature=0a1b")


def test_debug_shows_the_traceback(command, tmp_path):
    (tmp_path / "zero.csv").touch()
    with pytest.raises(DataError, match="the file is empty"):
        command("--debug", "train", "zero.csv")


def test_files_without_permission(tmp_path):
    """As another user where the tests run as root, whom nothing is forbidden."""
    inside = tmp_path / "closed" / "a.csv"
    inside.parent.mkdir()
    inside.write_text(TEXT)
    closed = tmp_path / "b.csv"
    closed.write_text(TEXT)
    closed.chmod(0)
    inside.parent.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        for path in (closed, inside):
            with pytest.raises(DataError, match=r"cannot be .*[Pp]ermission denied") as caught:
                load(path)
            assert path.name in str(caught.value) and "\n" not in str(caught.value)
    finally:
        if root:
            os.seteuid(0)
        inside.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.col("user") + 0.5, "holds fractions, row 1 is"),
        (pl.lit(float("inf")), "row 1: inf is not an integer id"),
        (
            pl.col("user").cast(pl.UInt64) + 2**63,
            "is too large for an integer id; set data.ids=str",
        ),
        (
            pl.col("user").cast(pl.Int128) + 2**63,
            "is too large for an integer id; set data.ids=str",
        ),
        (pl.col("user").cast(pl.Decimal(20, 1)) + 0.5, "holds fractions, row 1 is 0.5"),
        (
            pl.lit(date(2020, 1, 2)),
            r"a\.parquet: column user holds Date, not ids: convert it to integers or text, or name "
            r"another column with data\.user=",
        ),
        (pl.lit(datetime(2020, 1, 2)), "column user holds Datetime"),
        (pl.lit(b"u1"), "column user holds Binary"),
        (pl.struct("user", "item"), "holds Struct"),
        (pl.concat_list("user"), r"holds List\(Int64\), not ids"),
        (pl.lit(None), "holds Null, not ids"),
        (pl.col("user") > 3, "holds Boolean, not ids"),
        (pl.when(pl.col("user") > 3).then("user"), "24 of 72 rows have no user, first in row 1"),
    ],
)
def test_parquet_columns_that_are_no_ids(tmp_path, column, message):
    parquet(tmp_path / "a.parquet", user=column)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.parquet")


def test_the_column_that_holds_no_ids_is_named_as_in_the_file(tmp_path):
    frame = pl.DataFrame({"customer_id": [b"a", b"b"], "product_id": [1, 2]})
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column customer_id holds Binary, not ids"):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "dtype",
    [
        pl.UInt8, pl.UInt64, pl.Int128, pl.Decimal(38, 0), pl.Decimal(9, 2), pl.Float32, pl.Categorical,
        pl.Enum([str(n) for n in range(12)]),
    ],
)  # fmt: skip
def test_ids_of_every_type_that_holds_whole_numbers_or_text(tmp_path, dtype):
    """The same pairs, users under the same numbers; those of text types under the same text."""
    users = pl.col("user").cast(pl.String) if dtype in (pl.Categorical, pl.Enum) else pl.col("user")
    parquet(tmp_path / "a.parquet", user=users.cast(dtype))
    for source in (tmp_path / "a.parquet", pl.read_parquet(tmp_path / "a.parquet")):
        assert {(int(u), i) for u, i in load(source).frame().select("user", "item").rows()} == set(
            PAIRS
        )


def test_ids_beyond_64_bits_are_text_when_told(tmp_path):
    """UInt64 hashes and HUGEINT of a database, which comes as a decimal."""
    for dtype in (pl.UInt64, pl.Int128, pl.Decimal(38, 0)):
        parquet(tmp_path / "a.parquet", user=pl.col("user").cast(dtype) + 2**63)
        read = load(tmp_path / "a.parquet", ids="str")
        assert set(read.users.ids) == {str(2**63 + u) for u, _ in PAIRS}


@pytest.mark.parametrize("kept", [1, 100, -20, -1])
def test_a_truncated_parquet_file_is_never_read_in_part(tmp_path, kept):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(path)[:kept])
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        load(path)


def test_parquet_of_several_types(tmp_path):
    """Files written a day each, one with text ids: read together as one type, or refused."""
    frame = pl.DataFrame(PAIRS, schema=["user", "item"], orient="row")
    frame.write_parquet(tmp_path / "train.parquet", row_group_size=7)
    for dtype in (pl.Int8, pl.UInt32, pl.Float64, pl.String, pl.Categorical):
        held = pl.DataFrame({"user": ["1", "2"], "item": ["1", "2"]})
        held = held.cast(pl.Int64).cast(dtype) if dtype != pl.Categorical else held.cast(dtype)
        held.write_parquet(tmp_path / "test.parquet")
        split = prepare(DataConfig(source=str(tmp_path), split={"valid": 0}), seed=0)  # type: ignore[arg-type]
        assert split.test is not None
        assert set(split.test.frame().rows()) == {(1, 1), (2, 2)} - set(PAIRS)
        assert split.train.users.ids.dtype == pl.Int64


def test_ids_1_and_text_1_across_files(command, tmp_path):
    pl.DataFrame(PAIRS, schema=["user", "item"], orient="row").write_parquet(tmp_path / "a.parquet")
    held = pl.DataFrame({"user": ["1", "2"], "item": ["1", "2"]})
    held.write_parquet(tmp_path / "b.parquet")
    words = ["train", "a.parquet", "--test", "b.parquet", "--epochs", 1, "--model", "mf"]
    code, _, err = command(*words, "--out", "run")
    assert code == 0 and "user ids are int in one file and str in another: read as int" in err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["counts"]["test"]["users"] == 2
    held.with_columns(user="u" + pl.col("user")).write_parquet(tmp_path / "b.parquet")
    code, _, err = command(*words, "--out", "run2")
    assert code == 2 and "test ids match no train id (0 of 2 users)" in err


def test_test_users_and_items_without_train_are_counted(command, tmp_path):
    (tmp_path / "train.csv").write_text(TEXT)
    # user 99 and item 77 are not in train, (0, 0) is in both, (0, 2) is the one to find
    assert (0, 0) in PAIRS and (0, 2) not in PAIRS
    (tmp_path / "test.csv").write_text("user,item\n99,1\n0,77\n0,0\n0,2\n0,2\n")
    code, _, err = command("train", ".", "--model", "mf", "--epochs", 1, "--out", "run")
    assert code == 0, err
    counts = json.loads((tmp_path / "run" / "metrics.json").read_text())["counts"]
    assert counts["data"]["test_cold_users"] == counts["data"]["test_cold_items"] == 1
    assert counts["data"]["test_overlap"] == counts["data"]["test_duplicates"] == 1
    test = {"users": 1, "cold_users": 1, "held_out_pairs": 2, "cold_pairs": 1, "cold_items": 1}
    assert counts["test"].items() >= test.items()


# name, rows, users and items that must be there
WHOLE = [
    ("negative", [(-u - 1, -i - 1) for u, i in PAIRS], [-1, -2]),
    ("huge", [(u + 9 * 10**17, i) for u, i in PAIRS], [9 * 10**17, 9 * 10**17 + 1]),
    ("thirty digits", [(u + 10**30, i) for u, i in PAIRS], [str(10**30), str(10**30 + 1)]),
    ("unicode", [(f"ü😀{u}", f"é {i}") for u, i in PAIRS], ["ü😀0", "ü😀1"]),
    ("two forms", [(("é", "e\u0301")[i % 2] + str(u), i) for u, i in PAIRS], ["é0", "e\u03010"]),
    ("blanks", [(f"  {u} ", f"\t{i}") for u, i in PAIRS], [0, 1]),
    ("leading zeros", [(f"{u:04}", i) for u, i in PAIRS], ["0000", "0001"]),
    ("one user", [(1, i) for i in range(20)], [1]),
    ("knows all", [*PAIRS, *((99, i) for i in range(11))], [0, 99]),
    ("milliseconds", [(u, i, 1_600_000_000_000 + n) for n, (u, i) in enumerate(PAIRS)], [0, 1]),
    ("before 1970", [(u, i, -n - 1) for n, (u, i) in enumerate(PAIRS)], [0, 1]),
    ("dates", [(u, i, f"2020-01-{n % 28 + 1:02}") for n, (u, i) in enumerate(PAIRS)], [0, 1]),
]


@pytest.mark.parametrize(("name", "rows", "users"), WHOLE, ids=[name for name, _, _ in WHOLE])
def test_odd_but_whole_data_train_with_defined_counts(command, tmp_path, name, rows, users):
    head = "user,item" if len(rows[0]) == 2 else "user,item,timestamp"
    (tmp_path / "a.csv").write_text(csv(rows, head), encoding="utf-8")
    whole = load(tmp_path / "a.csv")
    assert len(whole) == len(set(rows)) and whole.counts["rows_read"] == len(rows)
    words = ["--epochs", 1, "--model", "mf", "--out", "run"]
    code, _, err = command("train", "a.csv", *words)
    assert code == 0, err
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert all(0 <= value <= 1 for value in values.values())
    code, _, err = command("recommend", "run", "--out", "lists.parquet", "--top", 3)
    assert code == 0, err
    lists = pl.read_parquet(tmp_path / "lists.parquet")
    if name not in ("one user", "knows all"):  # with everything seen nothing is left to list
        assert set(users) <= set(lists["user"])


def test_running_out_of_memory_is_one_line(command, shop):
    """As many negatives as no machine has memory for: 4 TB of ids."""
    words = ["--loss", "ssm", "--negatives", "uniform", "--epochs", 1, "--out", "run"]
    more = ["--set", "negatives.n=2000000000", "--set", "negatives.shared=false"]
    code, _, err = command("train", shop, *words, *more)
    line = err.splitlines()[-1]
    assert code == 2 and line.startswith(
        "error: out of memory: lower train.batch_size, negatives.n"
    )
