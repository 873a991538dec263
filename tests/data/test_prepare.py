"""Cleaning and given files: duplicates, overlap, k-core, vocabularies, validation out of train."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.config import build
from ssmrec.data import DataConfig, Interactions, Split, SplitConfig, load, prepare
from ssmrec.errors import ConfigError, DataError


def folder(tmp_path: Path, **files: str) -> DataConfig:
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return DataConfig(source=str(tmp_path), split=SplitConfig(valid=0))


def pairs(part: Interactions | None) -> set[tuple]:
    assert part is not None
    return set(part.frame().select("user", "item").rows())


REPEATED = pl.DataFrame(
    {"user": [1, 1, 1, 2], "item": [5, 5, 5, 5], "timestamp": [9, 4, 6, 1], "weight": [1, 2, 4, 8]}
)


@pytest.mark.parametrize(
    ("policy", "times", "weights"),
    [("first", [4, 1], [7, 8]), ("last", [9, 1], [7, 8]), ("count", [4, 1], [3, 1])],
)
def test_repeated_pairs_become_one(policy, times, weights):
    data = load(REPEATED, duplicates=policy)
    assert data.timestamps is not None and data.weights is not None
    assert data.timestamps.tolist() == times
    assert data.weights.tolist() == weights
    assert data.counts["duplicates"] == 2
    assert data.item_degrees.tolist() == [2]


def test_repeated_pairs_may_be_refused():
    with pytest.raises(DataError, match=r"2 repeated.*set data\.duplicates=first"):
        load(REPEATED, duplicates="error")


def test_no_rows_left_says_why():
    frame = pl.DataFrame({"user": [1, 1, 2, 3], "item": [1, 2, 1, 1]})
    with pytest.raises(DataError, match="no rows left: 4 read, 4 dropped by data.min_user=5"):
        load(frame, min_user=5)


def test_k_core_goes_on_until_all_hold():
    # item 9 has one user; without it user 3 has one item; without her item 2 has one user ...
    rows = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (3, 9), (4, 1), (4, 3)]
    data = load(pl.DataFrame(rows, schema=["user", "item"], orient="row"), min_user=2, min_item=2)
    assert pairs(data) == {(2, 1), (2, 3), (4, 1), (4, 3)}
    assert data.users.ids.to_list() == [2, 4]
    assert data.items.ids.to_list() == [1, 3]
    assert data.counts["dropped_min_user"] + data.counts["dropped_min_item"] == 4


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_k_core_is_the_largest_that_holds(rows, min_user, min_item):
    core = set(rows)
    while True:
        users, items = [u for u, _ in core], [i for _, i in core]
        kept = {p for p in core if users.count(p[0]) >= min_user and items.count(p[1]) >= min_item}
        if kept == core:
            break
        core = kept
    frame = pl.DataFrame(sorted(rows), schema=["user", "item"], orient="row")
    if not core:
        with pytest.raises(DataError, match="no rows left"):
            load(frame, min_user=min_user, min_item=min_item)
        return
    assert pairs(load(frame, min_user=min_user, min_item=min_item)) == core


def test_given_files_share_vocabularies(tmp_path):
    split = prepare(folder(tmp_path, train="10 1 2\n7 2\n", test="7 1 5\n10\n"), seed=0)
    assert split.test is not None and split.strategy == "given" and split.valid is None
    assert split.train.users.ids.to_list() == split.test.users.ids.to_list() == [7, 10]
    assert split.train.items.ids.to_list() == [1, 2, 5]
    assert pairs(split.train) == {(10, 1), (10, 2), (7, 2)}
    assert pairs(split.test) == {(7, 1), (7, 5)}
    assert split.counts["test_cold_items"] == 1
    assert split.counts["users_without_test"] == 1


def test_a_test_file_of_even_lines_follows_the_format_of_train(tmp_path):
    split = prepare(folder(tmp_path, train="0 1 2\n1 2\n", test="0 3 4\n1 3 1\n"), seed=0)
    assert pairs(split.test) == {(0, 3), (0, 4), (1, 3), (1, 1)}


def test_overlap_and_repeated_held_out_rows(tmp_path):
    config = folder(
        tmp_path, train="1,1\n1,2\n2,4\n2,3\n", valid="1,3\n1,1\n", test="1,4\n1,4\n1,3\n1,2\n"
    )
    config = config.model_copy(update={"split": SplitConfig()})
    split = prepare(config, seed=0)
    train = {(1, 1), (1, 2), (2, 3), (2, 4)}
    assert (pairs(split.train), pairs(split.valid)) == (train, {(1, 3)})
    assert pairs(split.test) == {(1, 4)}
    assert split.counts["test_duplicates"] == 1
    assert split.counts["valid_overlap"] == 1
    assert split.counts["test_overlap"] == 2
    strict = config.model_copy(update={"split": SplitConfig(overlap="error")})
    with pytest.raises(DataError, match="1 in valid, 2 in test"):
        prepare(strict, seed=0)


def test_validation_comes_out_of_train_only(tmp_path):
    rows = [(user, user + i, 880000000 + i) for user in range(4) for i in range(10)]
    held = {0: 12, 1: 0, 2: 0, 3: 0}
    config = folder(
        tmp_path,
        train="".join(f"{u},{i},{t}\n" for u, i, t in rows),
        test="".join(f"{u},{i},900000000\n" for u, i in held.items()),
    )
    split = prepare(config.model_copy(update={"split": SplitConfig(valid=0.2)}), seed=0)
    assert pairs(split.valid) == {(u, u + i) for u in range(4) for i in (8, 9)}  # the latest
    assert pairs(split.test) == set(held.items())
    assert len(split.train) == 32


def test_ids_of_other_type_match_or_are_refused(tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [1, 2]}).write_parquet(tmp_path / "train.parquet")
    pl.DataFrame({"user": ["1", "2"], "item": ["2", "1"]}).write_parquet(tmp_path / "test.parquet")
    config = DataConfig(source=str(tmp_path), split=SplitConfig(valid=0))
    split = prepare(config, seed=0)
    assert pairs(split.test) == {(1, 2), (2, 1)}
    pl.DataFrame({"user": ["u1"], "item": ["2"]}).write_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"test ids match no train id \(0 of 1 users\).*'u1'"):
        prepare(config, seed=0)


def test_asked_strategy_resplits_the_rows_of_all_files(tmp_path):
    config = folder(tmp_path, train="0 1 2 3 4\n1 2\n", test="0 5\n1 3 4 5 6\n")
    random = SplitConfig(strategy="random", test=0.4, valid=0)
    split = prepare(config.model_copy(update={"split": random}), seed=3)
    assert split.test is not None
    assert split.test.user_degrees.tolist() == [2, 2]
    assert pairs(split.train) | pairs(split.test) == {
        *((0, i) for i in (1, 2, 3, 4, 5)), *((1, i) for i in (2, 3, 4, 5, 6))
    }  # fmt: skip


@pytest.mark.parametrize("strategy", ["auto", "random", "temporal", "last", "time"])
def test_without_a_test_part_all_rows_are_learned_from(tmp_path, caplog, strategy):
    """Those of a test file, and of a valid file, too."""
    lines = [f"{user},{item},{10 * user + item}" for user in range(6) for item in range(8)]
    texts = {"train": lines[:30], "valid": lines[30:34], "test": lines[34:]}
    for name, part in texts.items():
        (tmp_path / f"{name}.csv").write_text("user,item,timestamp\n" + "\n".join(part) + "\n")
    with caplog.at_level("INFO"):
        parts = prepare(tmp_path, split={"test": 0, "valid": 0.25, "strategy": strategy})
    assert parts.test is None and "test" not in parts.counts
    assert parts.valid is not None and 0 < len(parts.valid) <= 12
    assert pairs(parts.known) == {(user, item) for user in range(6) for item in range(8)}
    assert "data.split.test=0 splits the rows of train, valid, test anew" in caplog.text
    assert "without effect" not in caplog.text


@pytest.mark.parametrize("other", [{"strategy": "given"}, {"strategy": "time", "cut": 0.5}])
def test_no_test_part_is_refused_with_what_makes_one(other):
    with pytest.raises(ConfigError, match=r"data\.split: test=0 leaves no test part: leave data"):
        build(SplitConfig, {"test": 0, **other}, "data.split")


def test_k_core_of_given_files_counts_all_parts(tmp_path):
    config = folder(tmp_path, train="0 1 2\n1 1\n2 1 3\n", test="0 3\n2 2\n")
    split = prepare(config.model_copy(update={"min_user": 3}), seed=0)
    assert split.train.users.ids.to_list() == [0, 2]
    assert split.counts["dropped_min_user"] == 1
    assert split.counts["train"] == 4


def test_valid_zero_leaves_a_valid_file_out_and_says_so(tmp_path):
    split = prepare(folder(tmp_path, train="0 1 2\n1 4\n", valid="0 3\n", test="0 4\n"), seed=0)
    assert split.valid is None
    assert split.counts["valid_left_out"] == 1


def test_files_and_strategy_must_fit(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 2\n")
    source = str(tmp_path)
    with pytest.raises(ConfigError, match="given needs a test file"):
        prepare(DataConfig(source=source, split=SplitConfig(strategy="given")), seed=0)
    with pytest.raises(ConfigError, match="valid file needs a test file"):
        prepare(DataConfig(source=source, valid=f"{source}/train.txt"), seed=0)
    with pytest.raises(DataError, match="no pair that is not in train"):
        prepare(DataConfig(source=source, test=f"{source}/train.txt"), seed=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": {"test": 0.3, "valid": 0}}, "the test part is a file, so without effect: data.split.test"),
        ({"split": {"valid": 0.3}}, "the valid part is a file, so without effect: data.split.valid"),
        ({"split": {"strategy": "random", "overlap": "error"}},
         "all parts come from one table, so without effect: data.split.overlap"),
        ({}, ""),
        ({"split": {"strategy": "random", "test": 0.3}}, ""),
    ],
)  # fmt: skip
def test_data_settings_without_effect_are_told(tmp_path, caplog, settings, said):
    folder(tmp_path, train="0 1 2 3 4\n1 2 4 5\n", valid="0 5\n", test="1 3\n0 6\n")
    prepare(build(DataConfig, {"source": str(tmp_path), **settings}, "data"), seed=0)
    told = [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()]
    assert told == ([said] if said else [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": {"strategy": "last", "test": 0.3}},
         "data.split.strategy=last, so without effect: data.split.test"),
        ({"split": {"strategy": "time", "cut": 15, "test": 0.3}},
         "data.split.cut, so without effect: data.split.test"),
        ({"event": "kind"}, "data.events=[], so without effect: data.event"),
        ({"delimiter": ";", "header": False}, "Parquet, so without effect: data.delimiter, data.header"),
    ],
)  # fmt: skip
def test_data_settings_of_a_table_without_effect_are_told(tmp_path, caplog, settings, said):
    rows = {"user": [0, 1] * 10, "item": list(range(20)), "timestamp": list(range(20))}
    pl.DataFrame(rows | {"kind": ["buy", "view"] * 10}).write_parquet(tmp_path / "a.parquet")
    prepare(build(DataConfig, {"source": str(tmp_path / "a.parquet"), **settings}, "data"), seed=0)
    assert [r.getMessage() for r in caplog.records if "without effect" in r.getMessage()] == [said]


def test_10_core_of_the_bundled_set():
    """Its README: 3,691 users, 2,779 items, 259,294 pairs are left."""
    data = load("online-retail", min_user=10, min_item=10)
    assert (data.n_users, data.n_items, len(data)) == (3691, 2779, 259294)


def test_bundled_split_is_the_temporal_split_of_its_rows():
    """Its README defines it as ours: order (timestamp, item), floor(20 %) of each user last."""
    given_split = prepare(DataConfig(split=SplitConfig(valid=0)), seed=0)
    ours = prepare(DataConfig(split=SplitConfig(strategy="temporal", valid=0, ties="item")), seed=0)
    assert fingerprints(ours) == fingerprints(given_split)


def fingerprints(split: Split) -> list[str]:
    assert split.test is not None
    return [split.train.fingerprint, split.test.fingerprint]


def test_same_data_same_fingerprint_from_any_layout(tmp_path):
    data = load("online-retail")
    shuffled = data.frame().sample(fraction=1, shuffle=True, seed=1)
    shuffled.write_csv(tmp_path / "a.csv")
    shuffled.write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        assert load(tmp_path / name).fingerprint == data.fingerprint


def test_a_source_by_name_or_path_is_prepared_like_the_command_line_does(tmp_path):
    config = folder(tmp_path, train="0 1 2\n1 2 3\n", test="0 3\n1 1\n")
    want = prepare(config, seed=0)
    found = prepare(config.source, split={"valid": config.split.valid})
    assert found.fingerprint == want.fingerprint and found.strategy == want.strategy == "given"


def test_load_tells_that_it_puts_given_parts_together(tmp_path, caplog):
    config = folder(tmp_path, train="0 1 2\n1 2\n", test="0 3\n")
    with caplog.at_level("WARNING", logger="ssmrec"):
        assert len(load(config.source)) == 4
    assert "comes in parts (train, test)" in caplog.text and "ssmrec.prepare(" in caplog.text
