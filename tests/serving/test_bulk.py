"""Lists in blocks equal lists at once, in whole files only."""

from __future__ import annotations

import gc
import json

import polars as pl
import pytest

from ssmrec.errors import DataError, RunError
from ssmrec.serving.bulk import blocks, write_lists

READERS = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": lambda file: (
        pl.read_ndjson(file).explode("items", "scores").rename({"items": "item", "scores": "score"})
    ),
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_blocks_change_nothing(live, tmp_path, suffix, size):
    ranker, choice = live.ranker, live.ranker.choice(5)
    want = ranker.recommend(None, choice)
    told = []
    frames = blocks(ranker, None, choice, progress=lambda *now: told.append(now), size=size)
    out = tmp_path / f"recs{suffix}"
    assert write_lists(out, frames) == (len(want), want["user"].n_unique())
    found = READERS[suffix](out)
    assert found["item"].to_list() == want["item"].to_list()
    assert found["user"].to_list() == want["user"].to_list()
    assert found["score"].to_list() == pytest.approx(want["score"].to_list(), rel=1e-6)
    assert told[-1] == (60, 60) and len(told) == -(-60 // size)


def test_unknown_users_are_told_once_and_keep_their_place(live, caplog):
    users = pl.Series([100, 5, 101, 6])
    choice = live.ranker.choice(2)
    frames = list(blocks(live.ranker, users, choice, "popular", size=1))
    assert [frame["user"].unique().to_list() for frame in frames] == [[100], [5], [101], [6]]
    assert caplog.text.count("2 user(s) were not trained on: 5, 6") == 1
    with pytest.raises(DataError, match="2 user"):
        list(blocks(live.ranker, users, choice, "error"))


def test_nobody_gives_an_empty_table(live, tmp_path):
    frames = blocks(live.ranker, pl.Series([1, 2]), live.ranker.choice(2), "skip")
    assert write_lists(tmp_path / "r.parquet", frames) == (0, 0)
    assert pl.read_parquet(tmp_path / "r.parquet").columns == ["user", "rank", "item", "score"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_failure_leaves_the_old_file(live, tmp_path):
    out = tmp_path / "recs.parquet"
    write_lists(out, blocks(live.ranker, None, live.ranker.choice(3)))
    old = out.read_bytes()

    def failing():
        yield live.ranker.recommend(pl.Series([100]), live.ranker.choice(2))
        raise OSError("disk full")

    with pytest.raises(RunError, match=r"recs\.parquet: cannot be written"):
        write_lists(out, failing())
    gc.collect()  # a writer that is still open would write to a closed file
    assert out.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["recs.parquet"]


def test_a_line_of_json_is_a_list(live, tmp_path):
    users, choice = pl.Series([107, 103]), live.ranker.choice(4)
    want = live.ranker.recommend(users, choice)
    write_lists(tmp_path / "r.jsonl", blocks(live.ranker, users, choice))
    found = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [one["user"] for one in found] == [107, 103]
    assert [one["items"] for one in found] == [
        want["item"].to_list()[:4],
        want["item"].to_list()[4:],
    ]
    assert found[1]["scores"] == pytest.approx(want["score"].to_list()[4:])


@pytest.mark.parametrize("suffix", READERS)
def test_lists_replace_lists_and_nothing_else(live, tmp_path, suffix):
    """A mistyped --out is not the end of the clicks."""
    out, choice = tmp_path / f"clicks{suffix}", live.ranker.choice(3)
    clicks = live.trained.train.frame()
    kind = {".csv": "csv", ".parquet": "parquet", ".jsonl": "ndjson"}[suffix]
    getattr(clicks, f"write_{kind}")(out)
    data = out.read_bytes()
    for content in (data, b"\x00half a file", b"user,item\n"):
        out.write_bytes(content)
        with pytest.raises(RunError, match="holds something else; choose another --out, or del"):
            write_lists(out, blocks(live.ranker, None, choice))
        assert out.read_bytes() == content
    out.write_bytes(b"")
    for users in (60, 1):
        frames = blocks(live.ranker, live.ranker.known_users.head(users), choice)
        assert write_lists(out, frames) == (3 * users, users)
