"""`ssmrec data`: the printed facts, the list, and errors that reach the root."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ssmrec.cli.data import app
from ssmrec.data.named import NAMED
from ssmrec.errors import ConfigError, DataError

runner = CliRunner()


@pytest.fixture(autouse=True)
def _places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SSMREC_DATA", raising=False)


def facts(*arguments: str) -> dict[str, str]:
    result = runner.invoke(app, ["stats", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    cells = [line.split("│") for line in result.output.splitlines() if "│" in line]
    return {row[1].strip(): row[2].strip() for row in cells}


def test_stats_of_the_bundled_set():
    found = facts("online-retail")
    expected = {
        "users": "4,334", "items": "3,659", "interactions": "266,221", "density": "1.67877%",
        "train": "214,707", "test": "51,514", "gini": "0.6132", "duplicates": "0",
        "test cold items": "76", "per user median": "28", "per user mean": "49.54",
        "first": "2010-12-01 08:26:00",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_stats_takes_the_read_options(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "who|what|when|stars|kind\na|x|5|1|buy\na|y|7|5|buy\nb|x|9|4|view\na|x|8|5|buy\n"
    )
    options = "--user who --item 1 --timestamp when --rating stars --min-rating 2 --event kind"
    found = facts(
        str(path), *options.split(), "--events", "buy", "--delimiter", "|", "--ids", "str"
    )
    assert (found["users"], found["items"], found["interactions"]) == ("1", "2", "2")
    assert (found["rows read"], found["dropped events"], found["dropped min rating"]) == (
        "4", "1", "1",
    )  # fmt: skip
    assert (found["first"], found["last"]) == ("1970-01-01 00:00:07", "1970-01-01 00:00:08")


def test_stats_of_given_files(tmp_path):
    (tmp_path / "a.txt").write_text("0\t1\n0\t2\n1\t1\n")
    (tmp_path / "b.txt").write_text("0\t3\n2\t1\n")
    found = facts(str(tmp_path / "a.txt"), "--test", str(tmp_path / "b.txt"), "--delimiter", r"\t")
    assert (found["split"], found["train"], found["test"]) == ("given", "3", "2")
    assert (found["test cold users"], found["test cold items"]) == ("1", "1")


def test_stats_takes_any_data_setting():
    found = facts("online-retail", "--set", "data.split.strategy=temporal")
    assert (found["users"], found["items"]) == ("4,334", "3,659")
    with pytest.raises(ConfigError, match="only data settings here"):
        runner.invoke(
            app, ["stats", "online-retail", "--set", "train.lr=1"], catch_exceptions=False
        )


def test_set_is_a_k_core_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,item\n1,1\n1,2\n2,1\n")
    found = facts(str(path), "--set", "data.min_user=2")
    assert (found["users"], found["dropped min user"]) == ("1", "1")


@pytest.mark.parametrize("columns", ["80", "200"])
def test_list_shows_whole_names_place_size_and_licence(columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("SSMREC_DATA", str(tmp_path / "own"))
    for folder in (tmp_path / "own" / "ml-1m", tmp_path / "ssmrec" / "data" / "yelp2018"):
        folder.mkdir(parents=True)
        (folder / "train.txt").write_text("0 1 2\n")
    lines = runner.invoke(app, ["list"], catch_exceptions=False).output.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert set(NAMED) <= set(rows)
    table = [line for line in lines if not line.startswith("cache:")]
    assert max(map(len, table)) <= int(columns)
    for name, facts_ in NAMED.items():
        assert f"{facts_.users:,}" in rows[name] and f"{facts_.pairs:,}" in rows[name]
    assert "CC BY 4.0" in rows["online-retail"]
    where = {name: rows[name].split()[-1] for name in ("online-retail", "ml-1m", "yelp2018")}
    assert where == {"online-retail": "bundled", "ml-1m": "$SSMREC_DATA", "yelp2018": "cache"}
    assert rows["gowalla"].rstrip().endswith("to fetch")
    assert rows["ml-100k"].rstrip().endswith("by hand")


def test_fetch_of_a_set_that_is_here():
    result = runner.invoke(app, ["fetch", "online-retail"], catch_exceptions=False)
    assert "online-retail is in" in result.output


def test_errors_are_left_to_the_root():
    with pytest.raises(DataError, match="no such file"):
        runner.invoke(app, ["stats", "none.csv"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"data\.ids"):
        runner.invoke(app, ["stats", "online-retail", "--ids", "word"], catch_exceptions=False)
    with pytest.raises(DataError, match="put its files"):
        runner.invoke(app, ["fetch", "ml-1m"], catch_exceptions=False)


def test_a_folder_and_a_pattern_are_sources(tmp_path, command):
    """The run is named after the folder; an empty one, and what fits no file, is one line."""
    (tmp_path / "clicks").mkdir()
    for part in range(3):
        lines = [f"{user},{(7 * user + part * k) % 20}" for user in range(12) for k in (1, 2, 3)]
        (tmp_path / "clicks" / f"{part}.csv").write_text("\n".join(["user,item", *lines]) + "\n")
    (tmp_path / "clicks" / "_SUCCESS").touch()
    found = facts(str(tmp_path / "clicks"))
    assert (found["users"], found["rows read"]) == ("12", "108")
    asked = ("--model", "mf", "--epochs", "1")
    code, out, err = command("train", "clicks/[01].csv", *asked)
    assert code == 0 and "run folder: runs/clicks-mf-ssm" in out, err
    (tmp_path / "empty").mkdir()
    for source, said in (
        ("empty", "empty: the folder has no train file"),
        ("x*.csv", "no file with"),
    ):
        code, _, err = command("train", source, *asked)
        assert code == 2 and err.count("\n") == 1 and said in err


def test_stats_with_settings_of_the_split(tmp_path, command):
    """They are kept beside a test file, and show the split of a single one."""
    (tmp_path / "a.txt").write_text("0\t1\n0\t2\n1\t1\n")
    (tmp_path / "b.txt").write_text("0\t2\n1\t2\n")
    words = ("data", "stats", "a.txt", "--test", "b.txt")
    code, _, err = command("-q", *words, "--set", "data.split.overlap=error")
    assert code == 2 and "held-out pairs are in train as well: 1 in test" in err
    single = (str(tmp_path / "a.txt"), "--set", "data.split.test=0.5", "--set")
    found = facts(*single, "data.split.strategy=random")
    assert (found["split"], found["train"], found["test"]) == ("random", "2", "1")
    assert "valid" not in found


@pytest.mark.parametrize("delimiter", ["\t", r"\t"])
def test_a_tab_is_a_delimiter(tmp_path, command, delimiter):
    (tmp_path / "a.txt").write_text("0\t1\n0\t2\n1\t1\n")
    code, out, err = command("-q", "data", "stats", "a.txt", "--delimiter", delimiter)
    assert code == 0 and "interactions" in out, err
    code, _, err = command("-q", "data", "stats", "a.txt", "--delimiter", "")
    assert code == 2 and "--delimiter: empty" in err
