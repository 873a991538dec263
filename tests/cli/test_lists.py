"""Ids by files on the command line: lists, tables, quotes, and what is no list of known ids."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.cli.lists import Side, ids_of, read_ids
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import DataError
from ssmrec.ranking import Ranker
from ssmrec.recommender import Recommender

WORDS = [f"{n:05d}" for n in range(8)]
NUMBERS = list(range(8))


def pairs_of(users, items) -> Interactions:
    """Six users with four of eight items each."""
    return Interactions.from_pairs(
        np.arange(24) // 4,
        (np.arange(24) // 4 + np.arange(24) % 4) % 8,
        Vocabulary(pl.Series(users)),
        Vocabulary(pl.Series(items)),
    )


def side(role, items=WORDS, users=("k0", "k1", "k2", "k3", "k4", "k5")):
    pairs = pairs_of(list(users), items)
    return Side(Ranker(torch.ones(6, 2), torch.ones(8, 2), pairs, pairs), role)


@pytest.mark.parametrize(
    "text",
    [
        "00002\n00005\n",
        "\ufeff00002\r\n\r\n00005\r\n",
        '"00002"\n"00005"\n',
        "sku\n00002\n00005\n",
        '"sku"\n"00002"\n"00005"\n',
        "sku,reason\n00002,sold out\n00005,broken\n",
        'reason,product_id\n"sold out, at last","00002"\nbroken,00005\nnothing,\n',
        '\ufeffProduct_ID;why\r\n"00002";a\r\n"00005";b\r\n',
        "user\titem\nk1\t00002\nk2\t00005\n",
    ],
)
def test_a_list_and_a_table_give_the_same_ids(tmp_path, text):
    file = tmp_path / "ids.csv"
    file.write_bytes(text.encode())
    assert read_ids(file, side("item")) == ["00002", "00005"]
    packed = tmp_path / "ids.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_ids(packed, side("item")) == ["00002", "00005"]


def test_parquet_files_and_folders_of_them(tmp_path):
    (tmp_path / "stock").mkdir()
    for number, name in ((2, "a"), (5, "b")):
        rows = pl.DataFrame({"n": [1], "sku": [f"{number:05d}"]})
        rows.write_parquet(tmp_path / f"stock/{name}.parquet")
    assert ids_of([f"{tmp_path}/stock"], "--allow", side("item")) == ["00002", "00005"]
    file = tmp_path / "floats.parquet"  # what pandas makes of integers beside a missing one
    pl.DataFrame({"item": [2.0, None, 5.0]}).write_parquet(file)
    assert read_ids(file, side("item", NUMBERS)) == ["2", "5"]
    (tmp_path / "floats.csv").write_text("item,n\n2.0,1\n5.0,2\n")
    assert read_ids(tmp_path / "floats.csv", side("item", NUMBERS)) == ["2", "5"]


def test_an_id_that_looks_like_a_name_or_has_quotes_is_an_id(tmp_path):
    file = tmp_path / "ids.txt"
    known = ["sku", "game, the", '"Heroes"', "a", "b", "c", "d", "e"]
    for text in ("sku\na\n", "game, the\na\n", '"Heroes"\n"a"\n'):
        file.write_text(text)
        first = text.splitlines()[0]
        assert read_ids(file, side("item", known)) == [first, "a"]


def test_users_and_the_order_they_were_asked_in(tmp_path):
    (tmp_path / "vip.csv").write_text("customer,since\nk3,2020\nk1,2021\n")
    asked = ["k4", str(tmp_path / "vip.csv"), "k0", "k3"]
    assert ids_of(asked, "--users", side("user"), needed=False) == ["k4", "k3", "k1", "k0"]
    assert ids_of([], "--users", side("user")) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("00002,sold out\n00005,broken\n", "knows none of its 2 items .*'00000', '00001'.*; in a file"),
        ("code,reason\n00002,sold out\n", "none of its 2 items .*write one id a line, or a table with"),
        ("2\n5\n2\n", "none of its 2 items .* a column named as item, sku, product_id or the like"),
        ("sku,reason\n", "no ids in it; write one id a line"),
    ],
)  # fmt: skip
def test_a_list_that_would_do_nothing_is_an_error(tmp_path, text, told):
    (tmp_path / "deny.csv").write_text(text)
    place = str(tmp_path / "deny.csv")
    for more in ([], ["00003"]):
        with pytest.raises(DataError, match=f"^--deny {place}: .*{told}"):
            ids_of([place, *more], "--deny", side("item"))


def test_a_table_of_other_names_and_what_is_no_text(tmp_path):
    pl.DataFrame({"code": ["00002"], "n": [1]}).write_parquet(tmp_path / "odd.parquet")
    with pytest.raises(
        DataError, match="odd.parquet: cannot tell the item column among code, n; wri"
    ):
        read_ids(tmp_path / "odd.parquet", side("item"))
    (tmp_path / "late.txt").write_bytes(b"00002\n" * 20_000 + b"\xff\n")
    for name, content in (("late.txt", None), ("utf16.txt", "00002\n".encode("utf-16"))):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: (cannot be read|not UTF-8)"):
            read_ids(tmp_path / name, side("item"))


def test_a_deny_list_denies_on_the_command_line(tmp_path, command):
    settings = {"epochs": 1, "batch_size": 8, "threads": 1}
    pairs = pairs_of([f"k{n}" for n in range(6)], WORDS)
    fitted = Recommender({"name": "mf", "dim": 4}, train=settings).fit(pairs, progress=False)
    fitted.save(tmp_path / "run")
    (tmp_path / "deny.csv").write_text("sku,reason\n00002,sold out\n00005,broken\nold,gone\n")
    pl.DataFrame({"product_id": ["00002", "00006"]}).write_parquet(tmp_path / "stock.parquet")
    words = ["recommend", "run", "--include-seen", "--out", "lists.csv", "--top", "9"]

    def listed(*more):
        code, _, err = command(*words, *more)
        assert code == 0, err
        return set(
            pl.read_csv(tmp_path / "lists.csv", schema_overrides={"item": pl.String})["item"]
        ), err

    found, err = listed("--deny", "deny.csv")
    assert found == set(WORDS) - {"00002", "00005"}
    assert "deny: 1 of 3 items were not trained on: 'old'" in err
    assert listed("--allow", "stock.parquet")[0] == {"00002", "00006"}
    assert listed("--liked", "stock.parquet", "--allow", "deny.csv")[0] == {"00002", "00005"}
    for nothing in ("", "\n", "sku\n", "sku,reason\n"):  # no product is sold out today
        (tmp_path / "deny.csv").write_text(nothing)
        found, err = listed("--deny", "deny.csv")
        assert found == set(WORDS) and "--deny deny.csv: no ids in it" in err
        assert command(*words, "--allow", "deny.csv")[0] == 2
    (tmp_path / "deny.csv").write_text("code\n2\n5\n")
    code, _, err = command(*words, "--deny", "deny.csv")
    assert code == 2 and err.strip().splitlines()[-1].startswith(
        "error: --deny deny.csv: the model"
    )
