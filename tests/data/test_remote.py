"""Files of an object store, served by a local one (moto): the same rows, and one line for what is wrong."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import polars as pl
import pytest

from conftest import two_tastes
from ssmrec.data import load, prepare
from ssmrec.data.folder import source_name
from ssmrec.data.remote import Remote, located
from ssmrec.errors import DataError

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
ROWS = two_tastes().train.frame()


def parquet(rows: pl.DataFrame) -> bytes:
    rows.write_parquet(held := io.BytesIO())
    return held.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def store(server, monkeypatch) -> Iterator[Callable[..., None]]:
    """`store({"clicks/a.parquet": bytes})` puts objects into the bucket `shop`; keys lie in the environment."""
    import boto3

    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").create_bucket(Bucket="shop")

    def put(files: dict[str, bytes], **how: str) -> None:
        for name, content in files.items():
            bucket.put_object(Key=name, Body=content, **how)

    yield put
    bucket.objects.all().delete()


def fails(source: str, said: str, **options) -> None:
    with pytest.raises(DataError) as caught:
        load(source, **options)
    assert str(caught.value).startswith(said), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_a_folder_and_a_pattern_give_what_local_files_give(store, tmp_path):
    parts = ROWS[:300], ROWS[300:]
    (tmp_path / "clicks/more").mkdir(parents=True)
    files = {
        f"clicks/{name}.parquet": parquet(p) for name, p in zip(("a", "more/b"), parts, strict=True)
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    store({**files, "clicks/_SUCCESS": b"", "clicks/_ids.parquet": parquet(ROWS[:1])})
    near = load(tmp_path / "clicks")
    for source in (
        "s3://shop/clicks/",
        "S3://shop/clicks",
        "s3://shop/clicks/**/[ab].parquet",
        "s3://shop/",
    ):
        assert load(source).fingerprint == near.fingerprint
    assert len(load("s3://shop/clicks/a.parquet")) == 300
    whole = prepare("s3://shop/clicks/", seed=3), prepare(tmp_path / "clicks", seed=3)
    assert whole[0].fingerprint == whole[1].fingerprint


@pytest.mark.parametrize(
    ("ending", "count"),
    [("", 300), ("/*.parquet", 100), ("/**/*.parquet", 300), ("/**/*b.*", 100), ("/d*/*a.parquet", 100)],
)  # fmt: skip
def test_what_is_hidden_at_any_depth_is_left_out(store, tmp_path, ending, count):
    """What Spark leaves of a job that failed or still runs, Databricks' notes, the log of a Delta table."""
    a, b, c = (parquet(ROWS[100 * n : 100 * n + 100]) for n in range(3))
    files = {
        "a.parquet": a,
        "d/a.parquet": b,
        "d/x/b.parquet": c,
        "d/0.parquet": b"",
        "_SUCCESS": b"",
    }
    for name in ("_temporary/0/_attempt/a", "d/_tmp/x/a", ".spark/a", "_delta_log/a", "d/.a", "_a"):
        files[f"{name}.parquet"] = b"PAR1, the rest of it comes later"
    files["_committed_17"] = b"{}"
    for name, content in files.items():
        (file := tmp_path / "clicks" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    store({f"clicks/{name}": content for name, content in files.items()})
    far, near = load(f"s3://shop/clicks{ending}"), load(f"{tmp_path}/clicks{ending}")
    assert far.fingerprint == near.fingerprint and len(far) == count


def test_folders_that_name_a_column(store, tmp_path):
    for number, event in enumerate(("buy", "look")):
        rows = parquet(ROWS[number::2])
        store({f"log/event={event}/day=2011-10-0{number + 1}/x.parquet": rows})
        (folder := tmp_path / f"log/event={event}/day=2011-10-0{number + 1}").mkdir(parents=True)
        (folder / "x.parquet").write_bytes(rows)
    asked = {"event": "event", "events": "buy", "timestamp": "day"}
    far, near = load("s3://shop/log", **asked), load(tmp_path / "log", **asked)
    assert far.fingerprint == near.fingerprint and len(far) == (len(ROWS) + 1) // 2
    assert len(load("s3://shop/log/*/*/*.parquet", **asked)) == len(far)


def test_a_folder_of_parts_keeps_them(store):
    split = two_tastes()
    store(
        {
            f"parts/{name}.parquet": parquet(getattr(split, name).frame())
            for name in ("train", "test")
        }
    )
    store({"parts/valid/1.parquet": parquet(split.valid.frame())})
    far = prepare("s3://shop/parts")
    assert (far.strategy, len(far.valid), len(far.test)) == (
        "given",
        len(split.valid),
        len(split.test),
    )
    store({"rest/test.parquet": parquet(ROWS)})
    fails("s3://shop/rest", "s3://shop/rest: the folder has no train.parquet")
    store({f"named/toy.{name}.parquet": parquet(ROWS) for name in ("train", "test")})
    fails(
        "s3://shop/named",
        "s3://shop/named: holds a part *.test.parquet, and one table would mix it",
    )
    far = prepare("s3://shop/parts/train.parquet", test="s3://shop/parts/test.parquet")
    assert len(far.test) == len(split.test)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.txt", "a.jsonl", "a.jsonl.gz"])
def test_a_text_file(store, name):
    import gzip

    text = ROWS.write_csv(separator="," if "csv" in name else "\t").encode()
    if name == "a.txt":
        groups = ROWS.group_by("user", maintain_order=True).agg("item").rows()
        text = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in groups).encode()
    if "jsonl" in name:
        text = ROWS.write_ndjson().encode()
    store({name: gzip.compress(text) if name.endswith("gz") else text})
    if name == "a.txt" and pl.__version__.startswith("1."):
        return fails(
            f"s3://shop/{name}", f"s3://shop/{name}: 'user item item ...' lines of a store"
        )
    assert load(f"s3://shop/{name}").fingerprint == load(ROWS).fingerprint


def test_a_text_file_with_a_bad_row_names_it(store):
    store({"bad.csv": b"user,item,weight\n1,2,1\n3,4,none\n3,5,x\n"})
    fails(
        "s3://shop/bad.csv",
        "s3://shop/bad.csv: column weight, row 3: 'x' is not a number",
        nulls="drop",
    )
    store({"wide.csv": b"user,item\n1,2\n3,4,5\n"})
    fails("s3://shop/wide.csv", "s3://shop/wide.csv: cannot be read, damaged or of another format")
    store({"cut.jsonl": b'{"user": 1, "item": 2}\n{"user": 1, "it'})
    fails(
        "s3://shop/cut.jsonl", "s3://shop/cut.jsonl: cannot be read, damaged or of another format"
    )


def test_what_is_not_there(store):
    store({"other/a.csv": b"user,item\n1,2\n"})
    fails("s3://shop/none.parquet", "s3://shop/none.parquet: there is no such file")
    fails("s3://shop/none.csv", "s3://shop/none.csv: there is no such file")
    fails("s3://shop/none-*.parquet", "s3://shop/none-*.parquet: there is no such file")
    fails("s3://shop/other", "s3://shop/other: there is no Parquet file in it")
    fails(
        "s3://void/clicks/",
        "s3://void/clicks: cannot be read (The specified bucket does not exist); asked",
    )
    store({"damaged.parquet": b"PAR1 no more"})
    fails("s3://shop/damaged.parquet", "s3://shop/damaged.parquet: cannot be read (")


def test_the_command_trains_and_tells_of_wrong_keys(store, command, monkeypatch):
    store({"clicks/a.parquet": parquet(ROWS)})
    words = ("train", "s3://shop/clicks/", "--model", "mf", "--epochs", "1", "--set", "model.dim=4")
    code, out, err = command(*words)
    assert code == 0 and "run folder: runs/clicks-mf-" in out, err
    code, _, err = command("-q", "train", "s3://shop/none/", "--out", "none")
    assert (code, err) == (2, "error: s3://shop/none: there is no Parquet file in it\n")
    from moto.core import set_initial_no_auth_action_count

    asked = "-q", "train", "s3://shop/clicks/", "--out", "refused"
    code, _, err = set_initial_no_auth_action_count(0)(command)(*asked)
    assert code == 2 and err.count("\n") == 1
    assert err.startswith(
        "error: s3://shop/clicks: cannot be read (The AWS Access Key Id you provided"
    )
    assert "; asked with AWS_ACCESS_KEY_ID" in err


def test_rows_of_a_store_are_coded_on_this_machine(store, tmp_path):
    pytest.importorskip("duckdb")
    from ssmrec.data.coded import write_coded
    from ssmrec.data.config import DataConfig

    rows = ROWS.with_columns(pl.format("u{}", "user").alias("user"))
    store({"clicks/a.parquet": parquet(rows)})
    write_coded(DataConfig(source="s3://shop/clicks"), tmp_path / "coded")
    assert load(tmp_path / "coded").fingerprint == load(rows).fingerprint
    for file in (tmp_path / "coded").iterdir():
        store({f"coded/{file.name}": file.read_bytes()})
    assert load("s3://shop/coded").fingerprint == load(rows).fingerprint


def test_one_file_of_a_web_server(store, server):
    store({"a.parquet": parquet(ROWS), "a.csv": ROWS.write_csv().encode()}, ACL="public-read")
    for name in ("a.parquet", "a.csv"):
        assert load(f"{server}/shop/{name}").fingerprint == load(ROWS).fingerprint
    fails(f"{server}/shop/none.parquet", f"{server}/shop/none.parquet: ")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "ftp://shop/x.csv",
            "ftp://shop/x.csv: is an address of a kind that is not read; take one of s3, gs",
        ),
        ("file:///x", "file:///x: is an address of a kind that is not read"),
        ("s3://me:word@shop/x.csv?sign=1", "s3://shop/x.csv: a password, and what stands after a"),
        ("s3://me:wo/rd@shop/x.csv", "s3://shop/x.csv: a password, and what stands after a"),
        ("az://box:wo/rd@shop/x.csv", "az://shop/x.csv: a password, and what stands after a"),
        ("mysql://me:w/o?rd@shop/x", "mysql://shop/x: is an address of a kind that is not read"),
        ("gs://word@shop/x.csv", "gs://shop/x.csv: a password, and what stands after a"),
        ("https://shop/x.csv?sign=1", "https://shop/x.csv: a password, and what stands after a"),
        ("az://box/x.parquet?sig=1", "az://box/x.parquet: a password, and what stands after a"),
        ("https://shop/clicks/", "https://shop/clicks: several files are read of a store"),
        (
            "s3://shop/*.csv",
            "s3://shop/*.csv: several files are read of a store, and only as Parquet",
        ),
    ],
)
def test_an_address_that_is_not_read(source, said):
    fails(source, said)


def test_a_port_or_a_name_with_an_at_is_no_password():
    for text in ("https://shop:8443/a@b.csv", "s3://shop/a@b.csv", "az://box@shop/x.parquet"):
        assert str(located(text)) == text


def test_parts_of_an_address():
    place = located("s3://shop/clicks/2011-*.parquet")
    assert isinstance(place, Remote) and str(place / "x") == "s3://shop/clicks/2011-*.parquet/x"
    assert str(place.parent) == "s3://shop/clicks" and place.pattern and not place.parent.pattern
    assert (
        source_name("s3://shop/clicks/2011-*.parquet")
        == source_name("gs://shop/clicks/")
        == "clicks"
    )
    assert str(located("abfss://box@account.dfs.core.windows.net/a")).startswith(
        "abfss://box@account"
    )
