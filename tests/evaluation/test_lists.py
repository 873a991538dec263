"""Lists that are given: the values that `evaluate` has for the same places, by hand and by its own lists."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import ssmrec as command
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, DataError
from ssmrec.evaluation import evaluate, evaluate_lists, read_lists
from ssmrec.ranking import top_k

NAMES = ["ndcg@3", "recall@3", "precision@3", "hit@1", "mrr@3", "map@2"]


def pairs(rows: list[tuple[str, int]]) -> Interactions:
    """Over users a to d and items 1 to 6."""
    user = np.array(["abcd".index(u) for u, _ in rows])
    item = np.array([i - 1 for _, i in rows])
    return Interactions.from_pairs(
        user, item, Vocabulary(pl.Series(list("abcd"))), Vocabulary(pl.Series(range(1, 7)))
    )


TRAIN = pairs([("a", 1), ("b", 1), ("c", 2), ("a", 2)])
HELD_OUT = pairs([("a", 3), ("a", 4), ("b", 5), ("c", 6), ("d", 3)])


def file(folder: Path, text: str, name: str = "theirs.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_by_hand(tmp_path):
    """d has no train pair, c no list; 9 is unknown and 1 is known of a: both keep their places."""
    path = file(
        tmp_path,
        "customer,sku,rank\na,1,1\na,3,2\na,9,3\na,4,4\nb,5,2\nb,4,1\nb,5,3\nz,5,1\nd,3,1\n",
    )
    lists = read_lists(path, HELD_OUT, 3)
    assert lists.ids.tolist() == [[0, 2, -1], [3, 4, -1], [-1, -1, -1], [2, -1, -1]]
    assert lists.lengths.tolist() == [4, 2, 0, 1]
    found = evaluate_lists(lists, HELD_OUT, [TRAIN], NAMES)
    assert found.user_index.tolist() == [0, 1, 2]
    half = 1 / math.log2(3)
    want = {
        "ndcg@3": [half / (1 + half), half, 0],
        "recall@3": [0.5, 1, 0],
        "precision@3": [1 / 3, 1 / 3, 0],
        "hit@1": [0, 0, 0],
        "mrr@3": [0.5, 0.5, 0],
        "map@2": [0.25, 0.5, 0],
    }
    for name, values in want.items():
        assert found.per_user[name].tolist() == pytest.approx(values), name
        assert found.values[name] == pytest.approx(sum(values) / 3)
    counts = {"users": 3, "users_without_list": 1, "seen_places": 1, "list_rows": 9}
    counts |= {"repeated_rows": 1, "unknown_users": 1, "unknown_items": 1, "cold_users": 1}
    assert counts.items() <= found.counts.items()


@pytest.mark.parametrize(
    "text",
    [
        "user,item,rank\nb,5,2\na,4,2\na,3,1\n",
        "user,item,score\nb,5,-1\na,4,0.5\na,3,2\n",
        "user,item,rank,score\nb,5,1,1\na,4,7,9\na,3,5,2\n",
        "user,item\nb,5\na,3\na,4\n",
        '{"user": "b", "item": 5}\n{"user": "a", "item": 3}\n{"user": "a", "item": 4}\n',
    ],
)
def test_what_orders_a_list(tmp_path, text):
    lists = read_lists(file(tmp_path, text), HELD_OUT, 3)
    assert lists.ids[:2].tolist() == [[2, 3], [4, -1]]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_users_list_in_each_row(tmp_path, suffix):
    """In order, with an empty list and none; an id that is missing within one is told."""
    frame = pl.DataFrame({"user": ["b", "a", "c", "d"], "items": [[5, 4], [3, 1, 6], [], None]})
    path, write = (
        tmp_path / f"lists{suffix}",
        getattr(pl.DataFrame, "write_ndjson" if suffix == ".jsonl" else "write_parquet"),
    )
    write(frame, path)
    lists = read_lists(path, HELD_OUT, 2)
    assert lists.ids.tolist() == [[2, 0], [4, 3], [-1, -1], [-1, -1]]
    assert lists.lengths.tolist() == [3, 2, 0, 0]
    write(frame.with_columns(items=pl.Series([[1, None]] * 4)), path)
    with pytest.raises(DataError, match="4 of 8 rows have no item, first in row 2"):
        read_lists(path, HELD_OUT, 2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12), shuffled=st.booleans())
def test_own_lists_have_the_values_of_evaluate(tmp_path_factory, seed, k, shuffled):
    g = np.random.default_rng(seed)
    m, n = 20, 15
    cells = g.permutation(m * n)
    train, held_out = (
        Interactions.from_pairs(part // n, part % n, *_sides(m, n))
        for part in (cells[:60], cells[60:110])
    )
    users, items = torch.randn(m, 4), torch.randn(n, 4)
    names = [f"{name}@{at}" for name in ("ndcg", "map", "recall", "mrr") for at in (k, 3)]
    want = evaluate(users, items, held_out, [train], names)
    lists = top_k(users, items, max(k, 3), seen=[train])
    rows = [
        (user, item, float(score))
        for user, (ids, scores) in enumerate(zip(lists.ids, lists.scores, strict=True))
        for item, score in zip(ids.tolist(), scores, strict=True)
        if item >= 0
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "score"], orient="row")
    path = tmp_path_factory.mktemp("lists") / "own.parquet"
    (frame.sample(fraction=1, shuffle=True, seed=1) if shuffled else frame).write_parquet(path)
    found = evaluate_lists(read_lists(path, held_out, max(k, 3)), held_out, [train], names)
    for name in names:
        np.testing.assert_array_equal(found.per_user[name], want.per_user[name])
    assert found.counts["seen_places"] == 0 and found.values == want.values


def _sides(m: int, n: int) -> tuple[Vocabulary, Vocabulary]:
    return Vocabulary(pl.Series(range(m))), Vocabulary(pl.Series(range(n)))


FAULTS = {
    "no such column": ("who,item\na,1\n", "needs columns of users and items"),
    "rank": (
        "user,item,rank\na,1,1\na,2,x\n",
        "1 of 2 rows have no rank that is a number, first in line 3",
    ),
    "score": ("user,item,score\na,1,nan\n", "1 of 1 rows have no score that is a number"),
    "item": ("user,item,rank\na,1,1\na,,2\n", "1 of 2 rows have no item, first in line 3"),
    "strangers": ("user,item\nx,1\n", "the model knows none of its 1 users"),
    "other items": ("user,item\na,77\n", "the model knows none of its 1 items"),
    "empty": ("", "the file is empty"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_lists(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_lists(file(tmp_path, text), HELD_OUT, 3)


def test_of_other_users_and_without_metrics(tmp_path):
    lists = read_lists(file(tmp_path, "user,item\na,1\n"), HELD_OUT, 3)
    with pytest.raises(ConfigError, match="no metrics"):
        evaluate_lists(lists, HELD_OUT, [TRAIN], [])
    users, items = _sides(9, 6)
    other = Interactions.from_pairs(np.array([1]), np.array([2]), users, items)
    with pytest.raises(DataError, match="lists of 4 users, held-out pairs of 9"):
        evaluate_lists(lists, other, [], NAMES)


def test_the_command(tmp_path):
    """A run against itself and against half of its own lists."""
    rows = [(u, (u * 7 + n * n) % 40, n) for u in range(60) for n in range(12)]
    pl.DataFrame(rows, orient="row", schema=["user", "item", "time"]).write_csv(
        tmp_path / "shop.csv"
    )
    assert command("train", "shop.csv", "--model", "ease", "--out", "run", cwd=tmp_path)[0] == 0
    command("recommend", "run", "--top", 20, "--out", "own.csv", cwd=tmp_path)
    command("recommend", "run", "--top", 20, "--out", "own.jsonl", cwd=tmp_path)
    half = pl.read_csv(tmp_path / "own.csv").filter(pl.col("user") % 2 == 0)
    half.write_parquet(tmp_path / "half.parquet")
    words = (
        "evaluate",
        "run",
        "--metric",
        "recall@20",
        "--lists",
        "own.csv",
        "--lists",
        "half.parquet",
        "--lists",
        "own.jsonl",
    )
    code, text, _ = command(*words, cwd=tmp_path)
    table = {
        line.split("│")[1].strip(): line.split("│")[2] for line in text.splitlines() if "│" in line
    }
    assert code == 0 and table["ease"] == table["own.csv"] > table["half.parquet"]
    assert table["own.jsonl"] == table["own.csv"]
    assert "recall@20 of ease against own.csv: +0.0 %, p 1 (paired randomisation test over" in text
    assert "users have no list, which counts as 0" in text.split("against half.parquet")[1]
    code, text, _ = command(*words[:6], "--json", cwd=tmp_path)
    found = json.loads(text)
    assert found["others"]["own.csv"]["test"] == found["test"]
    assert found["others"]["own.csv"]["p"] == {"recall@20": 1.0}
    code, _, told = command(*words[:6], "--lists", "own.csv", cwd=tmp_path)
    assert code == 2 and "--lists own.csv: is named twice" in told


def test_lists_may_be_a_frame_of_any_library_and_a_name_of_a_file(tmp_path, monkeypatch):
    ranked = pl.DataFrame({"user": ["b", "a", "a"], "item": [5, 4, 3], "rank": [2, 2, 1]})
    scored = pl.DataFrame({"user": ["b", "a", "a"], "item": [5, 4, 3], "score": [-1.0, 0.5, 2]})
    ranked.write_csv(tmp_path / "lists.csv")
    monkeypatch.chdir(tmp_path)
    pandas = ranked.to_pandas()
    for source in (
        ranked, scored, ranked.lazy(), ranked.to_arrow(), pandas, pandas.set_index("user"),
        pandas.astype({"item": "Int64"}), scored.to_pandas(), "lists.csv",
    ):  # fmt: skip
        lists = read_lists(source, HELD_OUT, 3)
        assert lists.ids[:2].tolist() == [[2, 3], [4, -1]]
        direct = evaluate_lists(source, HELD_OUT, [TRAIN], NAMES)
        assert direct.values == evaluate_lists(lists, HELD_OUT, [TRAIN], NAMES).values


def test_frames_that_are_no_lists_are_told():
    for source, message in (
        ([("a", 1)], "lists must be a file, or a polars, .*not a list"),
        (pl.DataFrame({"a": [1]}), "lists: needs columns of users and items.*it has a"),
        (
            pl.DataFrame({"user": ["a", "b"], "item": [1, None]}),
            "lists: 1 of 2 rows have no item, first in row 2",
        ),
    ):
        with pytest.raises(DataError, match=message):
            read_lists(source, HELD_OUT, 3)


def test_results_and_lists_are_equal_to_themselves_only(tmp_path):
    frame = pl.DataFrame({"user": ["a"], "item": [3], "rank": [1]})
    lists, again = read_lists(frame, HELD_OUT, 3), read_lists(frame, HELD_OUT, 3)
    assert lists == lists and lists != again
    found = evaluate_lists(lists, HELD_OUT, [TRAIN], NAMES)
    assert found == found and found != evaluate_lists(again, HELD_OUT, [TRAIN], NAMES)
