"""Which files of a folder are parts: train.*, those of one NAME, RecBole's; and what is doubtful."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ssmrec.data import load, prepare
from ssmrec.data.coded import write_coded
from ssmrec.data.config import DataConfig
from ssmrec.errors import DataError

TRAIN = [(u, i, 100 + i) for u in range(6) for i in range(u, u + 5)]
VALID = [(u, u + 5, 200) for u in range(5)]
TEST = [(u, u + 6, 300) for u in range(4)]
HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def inter(rows: list[tuple[int, int, int]]) -> str:
    """Rows as RecBole writes them."""
    return HEADER + "".join(f"{u}\t{i}\t{t}.0\n" for u, i, t in rows)


def content(rows: list[tuple[int, int, int]], suffix: str) -> bytes:
    frame = pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row")
    if suffix == ".parquet":
        frame.write_parquet(held := io.BytesIO())
        return held.getvalue()
    text = frame.write_csv() if suffix.startswith(".csv") else inter(rows)
    return gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode()


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, text in files.items():
        (place := folder / name).parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def pairs(part) -> set[tuple[int, int]]:
    return {(row[0], row[1]) for row in part.frame().rows()}


@pytest.mark.parametrize("suffix", [".inter", ".inter.gz", ".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("dot", ["", "toy.", "toy-1.core."])
def test_parts_of_one_name_are_parts(tmp_path, suffix, valid, dot):
    rows = {"train": TRAIN, "test": TEST, **({"valid": VALID} if valid else {})}
    files: dict[str, bytes | str] = {
        f"{dot}{part}{suffix}": content(held, suffix) for part, held in rows.items()
    }
    split = prepare(put(tmp_path / "rb", files), split={} if valid else {"valid": 0})
    assert split.strategy == "given"
    assert split.test is not None
    assert pairs(split.train) == {row[:2] for row in TRAIN}
    assert pairs(split.test) == {row[:2] for row in TEST}
    assert (pairs(split.valid) if split.valid else None) == (
        {row[:2] for row in VALID} if valid else None
    )


def test_parts_of_one_name_may_be_folders_and_have_files_beside_them(tmp_path, caplog):
    folder = put(tmp_path / "shop", {
        "toy.train/1.csv": "user,item\n0,1\n0,2\n", "toy.train/2.csv": "user,item\n1,1\n2,3\n",
        "toy.test.csv/1.csv": "user,item\n0,3\n1,2\n", "toy.csv": "user,item\n7,7\n",
        "toy.item": "item_id:token\n1\n", "items.csv": "item,title\n1,fig\n", "README.md": "toys",
    })  # fmt: skip
    split = prepare(folder, split={"valid": 0})
    assert (len(split.train), len(split.test or ())) == (4, 2)
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    said = "left out, as toy.train is beside it"
    assert told == [f"{folder / name}: {said}" for name in ("toy.csv", "toy.item")]


@pytest.mark.parametrize("name", ["toy.train.inter", "toy.t*.inter"])
def test_a_file_or_a_pattern_given_by_name_is_what_it_says(tmp_path, name, caplog):
    files: dict[str, bytes | str] = {"toy.train.inter": inter(TRAIN), "toy.test.inter": inter(TEST)}
    folder = put(tmp_path / "rb", files)
    asked = len(TRAIN) + (len(TEST) if "*" in name else 0)
    assert load(str(folder / name)).counts["rows_read"] == asked
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_a_set_by_name_may_have_such_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("SSMREC_DATA", str(tmp_path))
    put(tmp_path / "rb", {"toy.train.inter": inter(TRAIN), "toy.test.inter": inter(TEST)})
    assert prepare("rb", split={"valid": 0}).strategy == "given"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a.train.inter", "a.test.inter", "b.train.inter"],
            r"holds parts of several data sets, such as a\.train\.inter and b\.train\.inter: give each a "
            r"folder of its own.*/a\.train\.inter with data\.test=.*/a\.test\.inter$",
        ),
        (
            ["a.test.inter", "b.train.inter", "b.valid.inter", "b.test.inter"],
            r"/b\.train\.inter with data\.valid=.*/b\.valid\.inter and data\.test=.*/b\.test\.inter$",
        ),
        (
            ["toy.train.inter", "more/b.inter"],
            r"b\.inter lies beside toy\.train\.inter, and there is no toy\.test\.\*: move it, or name the "
            r"files that count, such as .*/toy\.train\.inter$",
        ),
        (["toy.test.inter", "b.inter"], r"has no train file beside toy\.test\.inter: add toy\.train\.\*"),
        (["up/toy.train.inter", "up/toy.test.inter"], r"toy\.test\.inter: is the test part beside .*train"),
        (["up/train.inter", "up/valid.inter.gz"], r"valid\.inter\.gz: is the valid part beside .*train"),
        (["up/train/1.inter", "up/test/1.inter"], r"up/test: is the test part beside .*up/train"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_one_line_with_the_remedy(tmp_path, names, message):
    folder = put(tmp_path / "rb", {name: inter(TRAIN) for name in names})
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_train_part_alone_is_all_rows(tmp_path):
    assert len(load(put(tmp_path / "rb", {"toy.train.inter": inter(TRAIN)}))) == len(TRAIN)


def test_folders_of_a_value_are_no_parts(tmp_path):
    rows = "user,item\n1,2\n"
    folder = put(tmp_path / "a", {f"day=a.{part}/1.csv": rows for part in ("train", "test")})
    assert load(folder).counts["rows_read"] == 2


def test_of_a_set_of_recbole_the_interactions_are_read(tmp_path, caplog):
    folder = put(tmp_path / "toy", {
        "toy.inter": inter(TRAIN), "toy.item": "item_id:token\tgenre:token\n1\ta\n",
        "toy.user": "user_id:token\n1\n", "README.md": "toys",
    })  # fmt: skip
    assert pairs(load(folder)) == {row[:2] for row in TRAIN}
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert told == [
        f"{folder / name}: left out, as toy.inter is beside it" for name in ("toy.item", "toy.user")
    ]
    assert prepare(folder).strategy == "temporal"
    caplog.clear()
    write_coded(DataConfig(source=str(folder)), tmp_path / "coded")
    assert "toy.item: left out" in caplog.text


@pytest.mark.parametrize(
    ("names", "example"),
    [
        (["a.inter", "b.inter", "a.item"], "rb [[]1]/*.inter"),
        (["a.inter.gz", "b.item"], "rb [[]1]/*.inter.gz"),
        (["more/a.inter", "more/a.item"], "rb [[]1]/**/*.inter"),
    ],
)
def test_the_example_of_a_pattern_fits_a_file(tmp_path, names, example):
    files = {name: content(TRAIN, ".gz" if name.endswith(".gz") else "") for name in names}
    folder = put(tmp_path / "rb [1]", files)
    with pytest.raises(DataError, match=r"\.item: is none of") as caught:
        load(folder)
    assert str(caught.value).endswith(f"such as '{tmp_path}/{example}'")
    assert len(load(f"{tmp_path}/{example}")) == len(TRAIN)


def test_a_folder_without_a_table_has_no_example(tmp_path):
    with pytest.raises(DataError, match=r"toy\.item: is none of .*name the files that count$"):
        load(put(tmp_path / "rb", {"toy.item": "item_id:token\n1\n"}))


def test_the_command_tells_it_in_one_line(tmp_path):
    put(
        tmp_path / "rb",
        {f"{n}.{part}.inter": inter(TRAIN) for n in "ab" for part in ("train", "test")},
    )
    command = [sys.executable, "-m", "ssmrec", "data", "stats", str(tmp_path / "rb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "holds parts of several data sets" in done.stderr
