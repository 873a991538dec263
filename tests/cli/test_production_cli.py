"""From a trained run to production on the command line: bulk lists, filters, new users, databases."""

from __future__ import annotations

import sqlite3

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec
from ssmrec.recommender import Recommender


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with shop.db (SQLite) and a run trained on its clicks."""
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    place = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", int(item), 15 * user + at)
        for user in range(40)
        for at, item in enumerate(random.choice(30, 15, replace=False))
    ]
    base = sqlite3.connect(place / "shop.db")
    with base:
        base.execute("CREATE TABLE clicks (user_id TEXT, item_id INTEGER, ts INTEGER)")
        base.executemany("INSERT INTO clicks VALUES (?, ?, ?)", rows)
    base.close()
    code, _, err = ssmrec(
        "train", "sqlite:///shop.db", "--query", "select user_id, item_id, ts from clicks",
        "--model", "mf", "--epochs", "2", "--set", "train.batch_size=64", "--out", "run", cwd=place,
    )  # fmt: skip
    assert code == 0, err
    assert "sqlite:///shop.db: 600 rows kept in run/data.parquet" in err
    return place


def test_a_run_from_a_database_can_be_measured_again(folder):
    rows = pl.read_parquet(folder / "run/data.parquet")
    assert rows.columns == ["user_id", "item_id", "ts"] and len(rows) == 600
    code, _, err = ssmrec("evaluate", "run", "--json", cwd=folder)
    assert code == 0, err


def test_everybody_to_a_file_and_to_a_table(folder):
    words = ["--all", "--top", 6]
    code, out, err = ssmrec("recommend", "run", *words, "--out", "recs.parquet", cwd=folder)
    assert (code, out) == (0, "240 recommendations for 40 users in recs.parquet\n"), err
    want = Recommender.load(folder / "run").recommend(k=6)
    assert pl.read_parquet(folder / "recs.parquet").equals(want)
    words += ["--to", "sqlite:///shop.db", "--table", "recs"]
    for _ in range(2):  # the second time replaces the first
        code, out, err = ssmrec("recommend", "run", *words, cwd=folder)
        assert (code, out) == (0, "240 recommendations for 40 users in recs\n"), err
    base = sqlite3.connect(folder / "shop.db")
    found = base.execute('SELECT user_id, "rank", item_id FROM recs').fetchall()
    base.close()
    assert found == want.select("user", "rank", "item").rows()


def test_filters_from_files(folder):
    (folder / "stock.txt").write_text("3\n4\n5\n6\n7\n")
    pairs = pl.DataFrame({"user": ["u1", "u1", "u2"], "item": [3, 5, 9]})
    pairs.write_csv(folder / "pairs.csv")
    words = ["--include-seen", "--allow", "stock.txt", "--deny", "4", "--candidates", "pairs.csv"]
    code, _, err = ssmrec("recommend", "run", "--all", *words, "--out", "f.csv", cwd=folder)
    assert code == 0, err
    found = pl.read_csv(folder / "f.csv")
    assert set(found["user"]) == {"u1"} and set(found["item"]) == {3, 5}


def test_a_new_user_by_the_items_he_likes(folder):
    words = ["--liked", "3", "--liked", "7", "--liked", "999", "--top", 4]
    code, out, err = ssmrec("recommend", "run", *words, cwd=folder)
    assert code == 0 and out.count("new user") == 4
    assert "--liked: not trained on, left out: 999" in err


def test_similar(folder):
    code, out, err = ssmrec("similar", "run", "3", "--top", "4", cwd=folder)
    assert code == 0, err
    want = Recommender.load(folder / "run").similar([3], 4)
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert [row[2] for row in cells] == [str(item) for item in want["similar"]]


def test_index_and_export(folder):
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    code, out, err = ssmrec("index", "run", "--kind", "hnsw", "--top", "5", cwd=folder)
    assert code == 0, err
    assert out == "hnsw: 30 items, finds 100.00% of the exact top 5; written to run/index.hnsw\n"
    code, out, err = ssmrec("export", "run", "--out", "vectors", "--format", "npy", cwd=folder)
    assert (code, out) == (0, "40 users and 30 items in vectors\n"), err
    assert np.load(folder / "vectors/items.npy").shape == (30, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["similar", "run", "999"], "1 item(s) were not trained on: '999'"),
        (["recommend", "run", "--liked", "999"], "none of the 1 items was trained on"),
        (["recommend", "run", "--all", "--users", "u1"], "choose one of --users, --all and --liked"),
        (["recommend", "run", "--allow", "999"], "allow: the model knows none of its 1 items"),
        (["recommend", "run", "--to", "oracle://x/y"], "oracle://: unknown database"),
        (["recommend", "run", "--to", "sqlite:///s.db", "--table", "a.b.c"], "must be a name"),
        (["train", "sqlite:///shop.db", "--out", "x"], "a database needs its address"),
        (["train", "sqlite:///shop.db", "--query", "select 1", "--out", "run"], "holds a finished run"),
        (["train", "sqlite:///shop.db", "--query", "selec 1", "--out", "x"], "syntax error"),
        (["index", "run", "--kind", "annoy"], "unknown kind of index 'annoy'"),
        (["export", "run", "--out", "v", "--format", "csv"], "choose from: parquet, npy"),
        (["serve", "nowhere"], "nowhere: not a finished run"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(folder, words, message):
    code, out, err = ssmrec("--quiet", *words, cwd=folder)
    assert code == 2 and message in err
    assert "Traceback" not in err and not out
    assert [line.startswith("error: ") for line in err.splitlines() if line][-1]
