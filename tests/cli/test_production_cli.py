"""From a trained run to production on the command line: bulk lists, filters, new users, databases."""

from __future__ import annotations

import sqlite3
from shutil import copyfile, copytree

import numpy as np
import polars as pl
import pytest

from command_line import ssmrec
from ssmrec.cli.rows import Query, rows_of
from ssmrec.errors import ConfigError
from ssmrec.recommender import Recommender
from ssmrec.reporting.cells import score
from ssmrec.serving import Live

CLICKS = "select user_id, item_id, ts from clicks"


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
        "train", "sqlite:///shop.db", "--query", CLICKS,
        "--model", "mf", "--epochs", "2", "--set", "train.batch_size=64", "--out", "run", cwd=place,
    )  # fmt: skip
    assert code == 0, err
    assert "sqlite:///shop.db: 600 rows, to be kept in run/data.parquet" in err
    return place


def test_a_run_from_a_database_can_be_measured_again(folder):
    rows = pl.read_parquet(folder / "run/data.parquet")
    assert rows.columns == ["user_id", "item_id", "ts"] and len(rows) == 600
    code, _, err = ssmrec("evaluate", "run", "--json", cwd=folder)
    assert code == 0, err


def test_the_rows_of_a_run_move_with_it(folder, tmp_path):
    """Asked for by its whole path from elsewhere, and moved while another lies in its old place."""
    code, _, err = ssmrec("evaluate", folder / "run", "--json", cwd=tmp_path)
    assert code == 0, err
    copytree(folder / "run", tmp_path / "moved")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/data.parquet").touch()
    code, _, err = ssmrec("evaluate", "moved", "--json", cwd=tmp_path)
    assert code == 0, err


def test_an_older_run_that_does_not_tell_where_its_rows_are_moves_too(folder, tmp_path):
    copytree(folder / "run", tmp_path / "moved")
    told = (tmp_path / "moved/config.yaml").read_text()
    assert "data_kept: true\n" in told and "source: run/data.parquet\n" in told
    (tmp_path / "moved/config.yaml").write_text(told.replace("data_kept: true\n", ""))
    code, _, err = ssmrec("evaluate", "moved", "--json", cwd=tmp_path)
    assert code == 0, err
    code, _, err = ssmrec("evaluate", tmp_path / "moved", "--json", cwd=folder)
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
    code, out, err = ssmrec("recommend", "run", "--all", *words, "--out", "f.csv", cwd=folder)
    assert (code, out) == (0, "2 recommendations for 1 of 40 users in f.csv\n"), err
    assert "38 user(s) have no candidates: 'u0', 'u10', 'u11' ...; left out" in err
    found = pl.read_csv(folder / "f.csv")
    assert set(found["user"]) == {"u1"} and set(found["item"]) == {3, 5}


def test_a_list_that_is_filtered_away_is_told(folder):
    words = ["recommend", "run", "--users", "u1", "--allow", "3", "--deny", "3"]
    for out in ([], ["--out", "none.csv"]):
        code, _, err = ssmrec(*words, *out, cwd=folder)
        assert code == 0 and err.splitlines() == [
            "1 user(s) have no item that may be listed: 'u1'; left out",
            "nothing to recommend: no known user has an item left",
        ]


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


def test_explain(folder):
    code, out, err = ssmrec("explain", "run", "u1", "3", "7", "--reasons", "2", cwd=folder)
    assert code == 0, err
    want = Live.load(folder / "run").explain("u1", [3, 7], reasons=2)
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    items = [str(row["item"]) if row["rank"] == 1 else "" for row in want.iter_rows(named=True)]
    assert [row[0] for row in cells] == items
    assert [row[1:] for row in cells] == [
        [str(reason), score(effect)]
        for reason, effect in want.select("reason", "effect").iter_rows()
    ]
    code, _, err = ssmrec("explain", "run", "nobody", cwd=folder)
    assert code == 2 and err == "error: 1 user(s) were not trained on: 'nobody'\n"


def test_index_and_export(folder):
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    code, out, err = ssmrec("index", "run", "--kind", "hnsw", "--top", "5", cwd=folder)
    assert code == 0, err
    assert out.splitlines() == [
        "hnsw: 30 items, finds 100.00% of the exact top 5; written to run/index.hnsw",
        "serve it: ssmrec serve run --index hnsw",
    ]
    code, out, err = ssmrec("index", "run", "--kind", "hnsw", "--out", "elsewhere", cwd=folder)
    told = "serve it: ssmrec serve run --index elsewhere/index.hnsw"
    assert code == 0 and out.splitlines()[1] == told, err
    code, out, err = ssmrec("export", "run", "--out", "vectors", "--format", "npy", cwd=folder)
    assert (code, out) == (0, "40 users and 30 items in vectors\n"), err
    assert np.load(folder / "vectors/items.npy").shape == (30, 64)


def test_an_index_of_another_run_or_of_none_is_refused_in_one_line(folder):
    for extra in ("hnswlib", "uvicorn"):
        pytest.importorskip(extra, reason="extra `index` or `serve` is not installed")
    words = ["--query", CLICKS, "--model", "mf", "--epochs", "1", "--out", "other"]
    assert ssmrec("train", "sqlite:///shop.db", *words, cwd=folder)[0] == 0
    assert ssmrec("index", "run", "--kind", "hnsw", "--out", "places", cwd=folder)[0] == 0
    copyfile(folder / "places/index.hnsw", folder / "places/index.faiss")
    for asked, message in (
        ("places/index.hnsw", "places/index.hnsw: belongs to another run; build it with"),
        ("places/index.faiss", "places/index.faiss: cannot be read ([Errno 2] No such file"),
        ("usearch", "other/index.usearch: cannot be read ([Errno 2] No such file"),
        ("hnws", "index hnws: no such file or folder, nor a kind of index, did you mean 'hnsw'?"),
        ("places", "index places: the folder holds several; name the file of one"),
    ):
        words = ["--quiet", "serve", "other", "--index", asked, "--port", 0]
        code, _, err = ssmrec(*words, cwd=folder)
        assert code == 2 and err.startswith(f"error: {message}") and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["similar", "run", "999"], "1 item(s) were not trained on: '999'"),
        (["recommend", "run", "--liked", "999"], "--liked 999: the model knows none of its 1 items"),
        (["recommend", "run", "--all", "--users", "u1"], "choose one of --users, --all and --liked"),
        (["recommend", "run", "--allow", "no.txt"], "--allow no.txt: neither a file nor an id that the run"),
        (["recommend", "run", "--deny", "no/stock"], "--deny no/stock: neither a file nor an id that"),
        (["recommend", "run", "--users", "u1", "u.csv"], "--users u.csv: neither a file nor an id that"),
        (["recommend", "run", "--liked", "3", "--liked", "l.tsv"], "--liked l.tsv: neither a file nor"),
        (["recommend", "run", "--liked", "3", "--unknown", "skip"], "leave it out with --liked"),
        (["recommend", "run", "--allow", "999"], "--allow 999: the model knows none of its 1 items"),
        (["recommend", "run", "--deny", "999"], "--deny 999: the model knows none of its 1 items"),
        (["recommend", "run", "--to", "oracle://x/y"], "oracle://: unknown database"),
        (["recommend", "run", "--to", "sqlite:///s.db", "--table", "a.b.c"], "must be a name"),
        (["recommend", "run", "--table", "recs"], "--table is a table of --to"),
        (["recommend", "run", "--to", "sqlite:///no/s.db"], "no/s.db: there is no folder no"),
        (["train", "sqlite:///typo.db", "--query", "select 1", "--out", "x"], "typo.db: no such file"),
        (["train", "sqlite:///shop.db", "--out", "x"], "a database needs its address"),
        (["train", "mysql://host/shop"], "mysql://: unknown database; choose from: postgresql"),
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


def held(folder, name="data.parquet"):
    """The names in a run folder, and the bytes of the rows it keeps."""
    return sorted(path.name for path in folder.iterdir()), (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "los.temperature=1"], "los"),
        (["--set", "train.lr=-1"], "train.lr"),
        (["--set", "data.source=other.csv"], "leave --set data.source out with --query"),
        (["--set", "data.user=nobody"], "sqlite:///shop.db, --query: "),
        (["--set", "data.min_user=1000"], "sqlite:///shop.db, --query: "),
    ],
)
def test_a_training_that_fails_leaves_the_run_and_its_rows(folder, words, message):
    """Other rows are asked for, but they are of a run that never was."""
    before = held(folder / "run")
    query = f"{CLICKS} where ts < 300"
    words = ["train", "sqlite:///shop.db", "--query", query, "--out", "run", "--overwrite", *words]
    code, _, err = ssmrec(*words, cwd=folder)
    last = err.strip().partition("error: ")[2]
    assert code == 2 and message in last and "next.parquet" not in last, err
    assert held(folder / "run") == before
    assert ssmrec("evaluate", "run", "--json", cwd=folder)[0] == 0


@pytest.mark.parametrize("query", ["selec 1", "select 1 as one", f"{CLICKS} where ts < 0"])
def test_a_failed_query_leaves_no_folder(folder, query):
    words = ["train", "sqlite:///shop.db", "--query", query, "--out", "new/run"]
    assert ssmrec(*words, cwd=folder)[0] == 2
    assert not (folder / "new/run").exists()


def test_a_run_and_its_rows_are_replaced_together(folder):
    for most, rows in ((500, 500), (400, 400)):
        words = ["--query", f"{CLICKS} where ts < {most}", "--out", "again", "--overwrite"]
        words += ["--model", "mf", "--epochs", "1", "--set", "model.dim=8"]
        code, _, err = ssmrec("train", "sqlite:///shop.db", *words, cwd=folder)
        assert code == 0, err
        assert len(pl.read_parquet(folder / "again/data.parquet")) == rows
        assert ssmrec("evaluate", "again", "--json", cwd=folder)[0] == 0
    assert not list((folder / "again").glob("*.next.parquet"))


def test_an_update_keeps_the_rows_of_the_run(folder):
    words = ["--query", f"{CLICKS} where ts < 400", "--out", "nightly", "--epochs", "1"]
    assert ssmrec("train", "sqlite:///shop.db", *words, "--model", "mf", cwd=folder)[0] == 0
    before = (folder / "nightly/data.parquet").read_bytes()
    for least in (500, 400):
        words = ["--query", f"{CLICKS} where ts >= {least}", "--out", "nightly", "--overwrite"]
        words += ["--epochs", "1", "--set", "train.protocol=fixed"]
        code, _, err = ssmrec("update", "nightly", "sqlite:///shop.db", *words, cwd=folder)
        assert code == 0, err
    assert (folder / "nightly/data.parquet").read_bytes() == before
    found = pl.read_parquet(folder / "nightly/update.parquet")
    assert len(found) == 200 and found["ts"].min() == 400
    code, _, err = ssmrec("recommend", "nightly", "--users", "u39", cwd=folder)
    assert code == 0, err


def test_a_resumed_training_goes_on_with_the_rows_it_began_with(folder, tmp_path, caplog):
    """A checkpoint keeps the rows that were fetched for it; without one they are fetched again."""
    query = Query(
        f"sqlite:///{folder}/shop.db", f"{CLICKS} where ts < 50", tmp_path / "run/data.parquet"
    )
    for checkpoint, resume, rows in ((True, True, 50), (True, False, 70), (False, True, 70)):
        with pytest.raises(KeyError), rows_of(query, query.file.parent, False) as file:
            assert file is not None and len(pl.read_parquet(file)) == 50
            (file.parent / "checkpoint.safetensors").touch()
            raise KeyError("killed")
        if not checkpoint:
            (tmp_path / "run/checkpoint.safetensors").unlink()
        other = Query(query.address, f"{CLICKS} where ts < 70", query.file)
        if checkpoint and resume:
            refused = pytest.raises(ConfigError, match="rows of another query or database, with")
            with refused, rows_of(other, query.file.parent, resume):
                pass
            with caplog.at_level("INFO"), rows_of(query, query.file.parent, resume) as file:
                assert len(pl.read_parquet(file)) == rows
            assert "the database is not asked again" in caplog.text
            continue
        with rows_of(other, query.file.parent, resume) as file:
            assert len(pl.read_parquet(file)) == rows


def test_lists_as_windows_writes_them(folder):
    """A mark at the beginning of a file, and lines that end in two characters, belong to no id."""
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbf3\r\n4\r\n777\r\n")
    (folder / "one.txt").write_bytes(b"\xef\xbb\xbfu1\r\n")
    words = ["recommend", "run", "--users", "one.txt", "--include-seen", "--top", "30"]
    code, _, err = ssmrec(*words, "--deny", "marked.txt", "--out", "marked.csv", cwd=folder)
    assert code == 0, err
    assert "deny: 1 of 3 items were not trained on: '777'" in err
    assert "--top 30: --allow and --deny leave 28 items, so the lists are shorter" in err
    found = pl.read_csv(folder / "marked.csv")
    assert set(found["user"]) == {"u1"} and set(range(30)) - set(found["item"]) == {3, 4}
    code, _, err = ssmrec(*words, "--allow", "marked.txt", "--out", "marked.csv", cwd=folder)
    assert code == 0, err
    assert set(pl.read_csv(folder / "marked.csv")["item"]) == {3, 4}


def test_an_id_longer_than_a_file_name_is_an_id(folder):
    long = "9" * 300
    words = ["recommend", "run", "--users", long, "u1", "--deny", long, "--deny", "3"]
    code, _, err = ssmrec(*words, cwd=folder)
    assert code == 0 and f"1 user(s) were not trained on: '{long}'" in err.replace("\n", ""), err
    assert f"1 of 2 items were not trained on: '{long}'" in err.replace("\n", "")


def test_a_file_of_lists_gets_its_folder(folder):
    words = ["recommend", "run", "--users", "u1", "--top", "2", "--out"]
    code, out, err = ssmrec(*words, "far/away/recs.parquet", cwd=folder)
    assert (code, out) == (0, "2 recommendations for 1 users in far/away/recs.parquet\n"), err
    assert len(pl.read_parquet(folder / "far/away/recs.parquet")) == 2
    (folder / "file").touch()
    code, _, err = ssmrec("--quiet", *words, "file/recs.csv", cwd=folder)
    assert code == 2 and "error: file/recs.csv: cannot be written (" in err and ".part" not in err


def test_no_password_is_told_on_the_way(folder):
    """A database that is not there, in each place that takes one."""
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    shop = "postgresql://127.0.0.1:1/shop?user=me&password=topsecret"
    for words in (
        ["recommend", "run", "--users", "u1", "--to", shop],
        ["train", shop, "--query", "select 1", "--out", "x"],
        ["update", "run", shop, "--query", "select 1", "--out", "x"],
    ):
        code, out, err = ssmrec(*words, cwd=folder)
        assert code == 2 and "password=***" in err and "topsecret" not in out + err
    assert not (folder / "x").exists()


def test_users_without_candidates_are_told(folder):
    pl.DataFrame({"user": ["u1", "u2"], "item": [3, 5]}).write_csv(folder / "two.csv")
    words = ["recommend", "run", "--include-seen", "--candidates", "two.csv", "--out", "c.csv"]
    code, out, err = ssmrec(*words, "--users", "u1", "nobody", "u3", cwd=folder)
    assert (code, out) == (0, "1 recommendations for 1 of 3 users in c.csv\n"), err
    assert "1 user(s) were not trained on: 'nobody'; left out" in err
    assert "1 user(s) have no candidates: 'u3'; left out" in err
    code, out, err = ssmrec(*words, "--users", "u1", "u2", cwd=folder)
    assert (code, out) == (0, "2 recommendations for 2 users in c.csv\n") and "left out" not in err


def test_a_link_to_the_lists_stays(folder):
    (folder / "today").mkdir()
    words = ["recommend", "run", "--users", "u1", "--top", "2", "--out"]
    assert ssmrec(*words, "today/recs.csv", cwd=folder)[0] == 0
    (folder / "link.csv").symlink_to("today/recs.csv")
    code, _, err = ssmrec(*words[:-3], "--top", "3", "--out", "link.csv", cwd=folder)
    assert code == 0, err
    assert (folder / "link.csv").is_symlink() and len(pl.read_csv(folder / "today/recs.csv")) == 3


def test_small_scores_are_told_apart():
    """An svd of many items has scores of a few thousandths, which four decimals would make one."""
    for value, text in ((0.0, "0.0000"), (0.5, "0.5000"), (-12.34567, "-12.3457"), (0.1, "0.1000"),
                        (0.0123456, "0.01235"), (-2.3456e-6, "-0.000002346"), (280, "280.0000")):  # fmt: skip
        assert score(value) == text
