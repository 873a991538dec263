"""Text files: columns or one line a user, headers, line numbers, and nothing cut."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from ssmrec.data import prepare
from ssmrec.data.read import read_frame
from ssmrec.errors import DataError

PAIRS = [(0, 5), (0, 7), (1, 5)]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_adjacency_lines(tmp_path):
    path = write(tmp_path, "train.txt", "0 5 7\n1 5 \n2\n")
    assert read_frame(path)[0].rows() == PAIRS
    strings = write(tmp_path, "names.txt", "ann x y\nbob x\n")
    rows, _ = read_frame(strings, format="adjacency")
    assert rows.rows() == [("ann", "x"), ("ann", "y"), ("bob", "x")]


def test_even_lines_of_integers_are_columns_with_a_warning(tmp_path, caplog):
    path = write(tmp_path, "a.txt", "0 5 7\n1 5 6\n")
    assert read_frame(path)[0].rows() == [(0, 5), (1, 5)]
    assert "set data.format=adjacency" in caplog.text
    assert len(read_frame(path, format="adjacency")[0]) == 4


ITEMS = [f"item{n}" for n in range(12)]


@pytest.mark.parametrize("lengths", [[12, 12, 12], [12, 3, 7], [2, 12, 1]])
def test_lines_of_text_ids_keep_every_item(tmp_path, lengths):
    lines = [(f"user{n}", ITEMS[:length]) for n, length in enumerate(lengths)]
    path = write(tmp_path, "a.txt", "".join(f"{u} {' '.join(items)}\n" for u, items in lines))
    rows, counts = read_frame(path)
    assert rows.rows() == [(user, item) for user, items in lines for item in items]
    assert counts == {"rows_read": sum(lengths)}


def test_adjacency_with_a_header_and_another_delimiter(tmp_path):
    path = write(tmp_path, "a.txt", "user,items\nann,x,y\nbob,x y\n")
    rows, _ = read_frame(path, format="adjacency", delimiter=",", header=True)
    assert rows.rows() == [("ann", "x"), ("ann", "y"), ("bob", "x y")]


def test_quoted_and_named_columns_are_no_adjacency(tmp_path):
    quoted = write(tmp_path, "a.txt", '1 "pear juice" 2\n2 apple 3\n')
    assert read_frame(quoted)[0].rows() == [(1, "pear juice"), (2, "apple")]
    named = write(tmp_path, "b.txt", "user item a b c\nx y 1 2 3\n")
    assert read_frame(named)[0].rows() == [("x", "y")]


TOO_WIDE = {
    "user,item\n1,2\n\n1,2,3\n": "line 4 has 3 fields, but the header has 2",
    "user,item,time\n1,2,3\n4,5,6,7\n": "line 3 has 4 fields, but the header has 3",
    "1::2\n1::2\n1::2::3\n": "line 3 has 3 fields, but the first line has 2",
    "user::item\na::b::c\n": "line 2 has 3 fields, but the header has 2",
    'user,item,x\n1,"a,b\nc",1\n2,a,b,c\n': "line 4 has 4 fields, but the header has 3",
    "user item\nx y z\nx y\n": "line 2 has 3 fields, but the header has 2",
}


@pytest.mark.parametrize(("content", "message"), TOO_WIDE.items())
def test_a_row_with_more_fields_than_the_first_line_is_never_cut(tmp_path, content, message):
    path = write(tmp_path, "wide.txt", content)
    with pytest.raises(DataError, match=message) as caught:
        read_frame(path, nulls="drop")
    assert str(path) in str(caught.value) and "set data.format=adjacency" in str(caught.value)


def test_a_wide_row_far_below_is_found_in_a_gzip_file(tmp_path):
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"user,item,rating\n" + b"1,2,3\n" * 70_000 + b"1,2,3,4\n"))
    with pytest.raises(DataError, match="line 70002 has 4 fields"):
        read_frame(packed)


@pytest.mark.parametrize("delimiter", ["\t", ",", "::"])
def test_uneven_lines_without_names_are_refused(tmp_path, delimiter):
    path = write(tmp_path, "a.txt", delimiter.join("pabcdef") + "\n" + delimiter.join("vab") + "\n")
    with pytest.raises(DataError, match=r"line 2 has 3 fields, the first one 7.*format=adjacency"):
        read_frame(path)
    rows, _ = read_frame(path, format="adjacency", delimiter=delimiter)
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("ann x y\nbob z x\n", "'y' is neither a rating nor a timestamp"),
        ("ann,x,y\nbob,z\n", "line 2 has 2 fields, the first one 3"),
    ],
)
def test_short_lines_that_may_be_lists_of_items_are_refused(tmp_path, content, fault):
    path = write(tmp_path, "a.txt", content)
    with pytest.raises(DataError, match=f"{fault}.*set data.format=adjacency"):
        read_frame(path)
    assert read_frame(path, format="csv")[0].rows() == [("ann", "x"), ("bob", "z")]


def test_columns_that_are_not_used_are_told(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        read_frame(write(tmp_path, "a.csv", "1,2,buy,shop\n1,3,buy,web\n"))
    assert "columns user=0, item=1, not used: 2 3" in caplog.text


def test_guessed_lists_of_text_ids_are_told_until_declared(tmp_path, caplog):
    path = write(tmp_path, "a.txt", "ann x y z\nbob x\n")
    read_frame(path)
    assert "data.format=adjacency says so" in caplog.text
    caplog.clear()
    read_frame(path, format="adjacency")
    assert caplog.text == ""


def test_a_first_line_that_may_be_names_is_told(tmp_path, caplog):
    path = write(tmp_path, "a.csv", "name,thing\nann,pear\nann,fig\nbob,pear\n")
    assert len(read_frame(path)[0]) == 4
    assert "first line 'name,thing' is read as a row" in caplog.text
    assert "data.header=true" in caplog.text
    assert read_frame(path, header=True)[0].rows()[0] == ("ann", "pear")
    caplog.clear()
    read_frame(write(tmp_path, "b.csv", "ann,pear\nann,fig\nbob,pear\n"))
    assert caplog.text == ""


ROWS = "".join(f"{n},{n * 7 % 11}\n" for n in range(20))
TITLED = {
    "a title": ("Export of clicks\nuser,item\n" + ROWS, "the first line, 'Export of clicks'"),
    "a comment": ("# exported 2024\nuser;item\n" + ROWS.replace(",", ";"), "'# exported 2024'"),
    "tabs": ("Export of\nclicks\nuser\titem\n" + ROWS.replace(",", "\t"), "the first 2 lines"),
    "blanks": ("Export\nuser item\n" + ROWS.replace(",", " "), "the first line, 'Export'"),
    "a spreadsheet": ("Clicks,,\nuser,item,ts\n1,2,3\n1,3,4\n", "the first line, 'Clicks,,'"),
    "another delimiter": ("Clicks, 2024\nuser;item\n1;2\n2;3\n", "the first line, 'Clicks, 2024'"),
    "unknown names": ("Export of clicks\nKunde,Artikel\n" + ROWS, "'Export of clicks'"),
    "a title and a footer": (f"My clicks\nuser,item\n{ROWS}in all 20\n", "'My clicks'"),
}


@pytest.mark.parametrize(("content", "message"), TITLED.values(), ids=TITLED.keys())
def test_a_title_above_the_columns_is_refused(tmp_path, content, message):
    """Read as 'user item item ...' lines it would leave one user of all the rows."""
    path = write(tmp_path, "a.csv", content)
    for settings in ({}, {"format": "csv"}):
        with pytest.raises(DataError, match=f"{message}.*delete what stands above the rows"):
            read_frame(path, **settings)
    with pytest.raises(DataError, match=message):
        prepare(path)


def test_a_line_without_the_delimiter_does_not_make_lists_of_columns(tmp_path):
    """Nor does a blank in a name beside it."""
    path = write(tmp_path, "a.csv", f"user,item\n{ROWS}Ann B,3\n4\n")
    with pytest.raises(DataError, match=r"1 of 22 rows have no item, first in line 23"):
        read_frame(path, ids="str")
    rows, counts = read_frame(path, ids="str", nulls="drop")
    assert rows.rows()[-1] == ("Ann B", "3") and counts == {"rows_read": 22, "dropped_nulls": 1}


def test_lines_without_an_item_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert len(read_frame(write(tmp_path, "a.txt", "0 5 7\n1 5\n2 6\n3\n"))[0]) == 4
    assert [r.levelname for r in caplog.records if "1 of 4 lines name no item" in r.message] == [
        "INFO"
    ]
    assert len(read_frame(write(tmp_path, "b.txt", "0 5 7\n1\n2\n"))[0]) == 2
    assert [r.levelname for r in caplog.records if "2 of 3 lines name no item" in r.message] == [
        "WARNING"
    ]


JSON = '{"user": 1, "item": 2}'
TEXTS = {
    "array in a line": (f"[{JSON}, {JSON}]", "is JSON that is not one object a line"),
    "array": (f"[\n  {JSON},\n  {JSON}\n]\n", "is JSON that is not one object a line"),
    "array of pairs": ("[[1, 2], [3, 4]]", "is JSON that is not one object a line"),
    "indented": (
        '\n{\n  "user": [1],\n  "item": [2]\n}\n',
        "is JSON that is not one object a line",
    ),
    "xml": ("<?xml version='1.0'?>\n<rows/>\n", "is XML or HTML; save"),
    "page": ("<!DOCTYPE html>\n<p>Not found, 404</p>\n", "is XML or HTML; save"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
}


@pytest.mark.parametrize(("content", "message"), TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.csv.gz"])
def test_text_that_is_no_table_is_named(tmp_path, name, content, message):
    path, data = tmp_path / name, content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for read in (read_frame, prepare):
        with pytest.raises(DataError, match=message):
            read(path)


def test_names_in_brackets_are_no_json(tmp_path):
    path = write(tmp_path, "a.csv", "[user],[item]\n1,2\n")
    assert read_frame(path)[0].rows() == [(1, 2)]


def test_lines_are_those_of_the_file(tmp_path):
    adjacency = write(tmp_path, "a.txt", "1 2 3 9\n\n4 5 NULL\n")
    with pytest.raises(DataError, match="have no item, first in line 3"):
        read_frame(adjacency)
    quoted = write(tmp_path, "b.csv", '\nuser,item\n"a\nb",1\nc,\n')
    with pytest.raises(DataError, match="have no item, first in line 5"):
        read_frame(quoted)


@pytest.mark.parametrize(
    ("delimiter", "lines", "said"),
    [
        (None, "1 2 3\n\n4 5\n6,7,8\n", r"line 4 is divided by ',', not by blanks"),
        (None, "1,2,3\n4,5\n", r"line 1 is divided by ','"),
        (",", "1,2,3\n4;5\n", r"line 2 is divided by ';', not by ,"),
        (",", "1,2,3\n4 5 6\n", r"line 2 is divided by ' '"),
        (None, "a,1 x\nb,2 y\nc,3\n", ""),
        (",", "a, x\nb c\n", ""),
    ],
)
def test_lines_of_items_that_are_divided_otherwise_are_refused(tmp_path, delimiter, lines, said):
    """Their items would be lost. What lines with items hold as well may be a part of ids."""
    path = write(tmp_path, "a.txt", lines)
    options = {"format": "adjacency", "delimiter": delimiter}
    if not said:
        read_frame(path, **options)
        return
    with pytest.raises(DataError, match=said):
        read_frame(path, **options)
