"""JSON Lines: the same rows as in a table, whatever the objects hold besides."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ssmrec
from command_line import ssmrec as command
from ssmrec.data.read import read_frame
from ssmrec.data.titles import read_titles
from ssmrec.errors import DataError


def lines(*rows: Any) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def write(path: Path, *rows: Any) -> Path:
    data = lines(*rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


FIRST, SECOND = {"user": 1, "item": "a"}, {"item": "b", "user": "2"}
NESTED = (
    {"who": {"id": 7}, "product": {"sku": "x", "sizes": [1, 2]}, "at": {"t": {"s": 5}}},
    {"who": {"id": 8}, "product": None, "at": {"t": {"s": 9}}},
    {"who": {"id": 9}, "product": {"sku": "y"}, "at": 3},
)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.ndjson", "a.json", "a.json.gz", "a[1].csv", "*.jsonl"]
)
def test_objects_are_rows(tmp_path, name):
    write(tmp_path / "other.jsonl", {"user": 9, "item": "z"})
    path = write(tmp_path / name, FIRST, "", {**SECOND, "tags": [1], "seen": None}, "  ")
    rows, counts = read_frame(path)
    assert rows.rows() == [(1, "a"), (2, "b")] and counts == {"rows_read": 2}


def test_moments_and_numbers_are_read_as_in_a_text_file(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"user": 12345678901234567, "item": "é\n", "ts": "2011-10-31T23:59:59Z", "weight": 0.5},
        {"user": 2.0, "item": " ü ", "ts": "2011-11-01T00:00:00Z", "weight": 3},
    )
    rows, _ = read_frame(path)
    assert rows.rows() == [(12345678901234567, "é", 1320105599, 0.5), (2, "ü", 1320105600, 3.0)]


def test_values_of_nested_objects_have_dotted_names(tmp_path):
    path = write(tmp_path / "a.jsonl", *NESTED)
    names = {"user": "who.id", "item": "product.sku", "timestamp": "at.t.s"}
    rows, counts = read_frame(path, **names, nulls="drop")
    assert rows.rows() == [(7, "x", 5)] and counts == {"rows_read": 3, "dropped_nulls": 2}
    with pytest.raises(DataError, match="1 of 3 rows have no item, first in line 2"):
        read_frame(path, user="who.id", item="product.sku")
    with pytest.raises(DataError, match="no column 'product' for item"):
        read_frame(path, user="who.id", item="product")


def test_a_column_may_come_late(tmp_path):
    """Long after the lines that tell the names."""
    path = write(tmp_path / "a.jsonl", *[FIRST] * 5000, {**SECOND, "stars": 5})
    rows, _ = read_frame(path, rating="stars", min_rating=4)
    assert rows.rows() == [(2, "b")]
    with pytest.raises(DataError, match="no column 'star' for rating"):
        read_frame(path, rating="star", min_rating=4)


FAULTS = {
    "cut off": (lines(FIRST, "", '{"user": 2, "it'), "line 3 cannot be read as JSON .*column 13"),
    "a number": (lines(FIRST, 7), "line 2 cannot be read as JSON .it is no object in braces"),
    "two in a line": (lines(FIRST, '{"user":2}{"user":3}'), "line 2 .*Extra data, column 11"),
    "a missing id": (lines(FIRST, {"user": 2}), "1 of 2 rows have no item, first in line 2"),
    "a byte order mark": ("\ufeff" + lines(FIRST), "line 1 .*Unexpected UTF-8 BOM"),
    "lists only": ('{"user": [1], "item": [2]}', "is JSON without a value in its first lines"),
    "late bytes": (lines(*[FIRST] * 4000).encode() + b'{"user":1,"item":"\xff"}', "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_broken_json_lines_are_named(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_frame(path)


def test_another_format_is_told(tmp_path, caplog):
    path = tmp_path / "a.csv"
    path.write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="the first line is no JSON object"):
        read_frame(path, format="jsonl")
    path.write_text(lines(FIRST))
    with pytest.raises(DataError, match="is JSON that is not"):
        read_frame(path, format="csv")
    caplog.set_level(logging.WARNING)
    assert read_frame(path, delimiter=";")[0].rows() == [(1, "a")]
    assert "for which data.delimiter says nothing" in caplog.text


def test_files_of_a_folder_may_lack_what_others_have(tmp_path):
    write(tmp_path / "a.jsonl", {**FIRST, "coupon": "x", "at": {"s": 1}})
    write(tmp_path / "b.jsonl", SECOND, {"at": {"s": 4}, "more": {"x": 1}, "item": "c", "user": 3})
    rows, _ = read_frame(tmp_path, timestamp="at.s", nulls="drop")
    assert rows.rows() == [(1, "a", 1), (3, "c", 4)]
    (tmp_path / "c.csv").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match=r"c\.csv: the first line is no JSON object"):
        read_frame(tmp_path)
    (tmp_path / "c.csv").unlink()
    write(tmp_path / "c.jsonl", FIRST, "{")
    with pytest.raises(DataError, match=r"c\.jsonl: line 2 cannot be read as JSON"):
        read_frame(tmp_path)


words = st.text(st.characters(codec="utf-8")).map("x{}x".format)
value = st.one_of(st.integers(-(2**40), 2**40), words)
row = st.fixed_dictionaries(
    {"user": value, "item": value}, optional={"note": value, "x": st.none()}
)


@settings(max_examples=40, deadline=None)
@given(st.lists(row, min_size=1, max_size=20))
def test_the_same_rows_as_in_parquet(tmp_path_factory, rows):
    """Ids of text, as the types of one column may differ here."""
    folder = tmp_path_factory.mktemp("rows")
    texts = [{side: str(one[side]) for side in ("user", "item")} for one in rows]
    pl.DataFrame(texts).write_parquet(folder / "a.parquet")
    write(folder / "a.jsonl", *rows)
    found, wanted = (
        read_frame(folder / f"a.{kind}", ids="str")[0] for kind in ("jsonl", "parquet")
    )
    assert found.rows() == wanted.rows()


def test_titles_and_lists_of_ids(tmp_path):
    titles = write(tmp_path / "items.jsonl", {"sku": 5, "name": {"en": "Mug"}, "title": "Cup"})
    assert read_titles(titles).rows() == [(5, "Cup")]


def test_from_a_log_to_lists(tmp_path):
    pairs = [(u, f"p{(u + n) % 9}", 100 * u + n) for u in range(30) for n in range(5)]
    log = write(
        tmp_path / "log.jsonl", *({"user": {"id": u}, "sku": i, "time": t} for u, i, t in pairs)
    )
    write(tmp_path / "asked.jsonl", {"user": 3}, {"user": 4})
    code, _, told = command("train", log, "--model", "ease", "--out", "run", cwd=tmp_path)
    assert code == 0 and "columns user=user.id, item=sku, timestamp=time" in told
    code, told, _ = command(
        "recommend", "run", "--users", "asked.jsonl", "--top", 2, "--out", "lists.csv", cwd=tmp_path
    )
    assert code == 0 and "4 recommendations for 2 users" in told
    assert pl.read_csv(tmp_path / "lists.csv")["user"].to_list() == [3, 3, 4, 4]
    frame = pl.DataFrame(pairs, orient="row", schema=["user", "item", "time"])
    assert ssmrec.load(log).fingerprint == ssmrec.load(frame).fingerprint
