"""Splits: exact counts for every user, a defined tie rule, no look-ahead in `time`."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrec.config import build
from ssmrec.data import (
    DataConfig,
    Interactions,
    SplitConfig,
    load,
    merge,
    prepare,
    split,
    statistics,
)
from ssmrec.errors import ConfigError, DataError


def table(*rows: tuple) -> Interactions:
    names = ["user", "item", "timestamp"][: len(rows[0])]
    return load(pl.DataFrame(list(rows), schema=names, orient="row"))


def pairs(part: Interactions | None) -> set[tuple]:
    assert part is not None
    return set(part.frame().select("user", "item").rows())


@st.composite
def tables(draw) -> Interactions:
    rows = draw(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=120))
    times = draw(st.lists(st.integers(-5, 5), min_size=len(rows), max_size=len(rows)))
    return table(*[(u, i, t) for (u, i), t in zip(sorted(rows), times, strict=True)])


@settings(max_examples=60, deadline=None)
@given(
    tables(),
    st.sampled_from(["random", "temporal"]),
    st.sampled_from(["item", "random"]),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
)
def test_shares_are_exact_for_every_user(data, strategy, ties, share, seed):
    expected = np.floor(share * data.user_degrees + 1e-9).astype(int)
    counts = {}
    if not expected.any() and (data.user_degrees >= 3).any():
        expected = (data.user_degrees >= 3).astype(int)
        counts = {"test_minimum_rows": int(expected.sum())}
    if not expected.any():
        with pytest.raises(DataError, match="no test rows"):
            split(data, strategy, test=share, valid=0, seed=seed, ties=ties)
        return
    parts = split(data, strategy, test=share, valid=0, seed=seed, ties=ties)
    assert parts.test is not None
    assert parts.test.user_degrees.tolist() == expected.tolist()
    assert merge(parts.train, parts.test).fingerprint == data.fingerprint
    assert parts.counts["users_without_test"] == (expected == 0).sum()
    assert {k: n for k, n in parts.counts.items() if "minimum" in k} == counts
    if strategy == "temporal":
        assert_each_user_in_order(parts.train, parts.test, ties)


def assert_each_user_in_order(train: Interactions, test: Interactions, ties: str) -> None:
    """The (timestamp, item) of every train row of a user is below that of its test rows; or the timestamp."""
    for user in np.flatnonzero(test.user_degrees):
        last, first = max(keys(train, user)), min(keys(test, user))
        assert last < first if ties == "item" else last[0] <= first[0]


def keys(part: Interactions, user: int) -> list[tuple[int, int]]:
    rows = slice(part.indptr[user], part.indptr[user + 1])
    assert part.timestamps is not None
    return list(zip(part.timestamps[rows].tolist(), part.indices[rows].tolist(), strict=True))


@pytest.mark.parametrize("n", [4, 5, 9, 10])
def test_a_small_shop_has_all_parts_with_the_defaults(n):
    data = table(*[(user, item, item) for user in range(6) for item in range(n)], (9, 0, 0))
    parts = split(data)
    assert parts.test is not None and parts.valid is not None
    test = max(1, n // 5)
    assert parts.test.user_degrees.tolist() == [test] * 6 + [0]
    assert pairs(parts.valid) == {(user, n - test - 1) for user in range(6)}
    assert parts.counts["valid_minimum_rows"] == 6
    assert parts.counts.get("test_minimum_rows") == (6 if n < 5 else None)


def test_two_rows_a_user_are_too_few():
    data = table(*[(user, item) for user in range(3) for item in range(2)])
    with pytest.raises(DataError, match=r"no valid rows.*data\.split\.valid=0"):
        split(data, test=0.5)


def test_the_split_is_told_in_one_line(caplog):
    data = table(*[(u, i, i) for u in range(2) for i in range(20)])
    with caplog.at_level("INFO", logger="ssmrec"):
        split(data)
    assert [record.getMessage() for record in caplog.records] == [
        "split: temporal, 2 users, 20 items: train 30, valid 2, test 8 pairs"
    ]


def test_equal_timestamps_by_item_order():
    data = table(*[(1, item, 7) for item in (4, 2, 9, 6, 1)])
    parts = split(data, "temporal", test=0.4, valid=0.34, ties="item")
    assert pairs(parts.test) == {(1, 6), (1, 9)}
    assert pairs(parts.valid) == {(1, 4)}
    assert pairs(parts.train) == {(1, 1), (1, 2)}


def test_last_k_with_validation_before_it():
    data = table(*[(1, i, t) for t, i in enumerate("abcde")], (2, "a", 1), (3, "a", 1), (3, "b", 2))
    parts = split(data, "last", last_k=1)
    assert pairs(parts.test) == {(1, "e"), (3, "b")}
    assert pairs(parts.valid) == {(1, "d")}
    assert pairs(parts.train) == {(1, "a"), (1, "b"), (1, "c"), (2, "a"), (3, "a")}
    assert parts.counts["users_without_test"] == 1
    assert parts.counts["users_without_valid"] == 2


TIMED = [("u1", "a", 1), ("u1", "b", 5), ("u2", "c", 2), ("u2", "d", 6), ("u3", "e", 7)]


@pytest.mark.parametrize("cut", [6, "6", "1970-01-01T00:00:06", "1970-01-01T01:00:06+01:00", 0.6])
def test_global_time_cut(cut):
    parts = split(table(*TIMED), "time", cut=cut, valid=0)
    assert parts.test is not None
    assert pairs(parts.test) == {("u2", "d"), ("u3", "e")}
    assert parts.train.timestamps is not None and parts.test.timestamps is not None
    assert parts.train.timestamps.max() < parts.test.timestamps.min()
    assert parts.counts["test_cold_users"] == 1
    assert parts.counts["test_cold_items"] == 2


def test_a_date_of_yaml_is_a_cut():
    assert (
        SplitConfig.model_validate({"strategy": "time", "cut": date(2011, 10, 1)}).cut
        == "2011-10-01"
    )


def test_time_validation_is_the_end_of_train():
    data = table(*[(1, i, i) for i in range(10)])
    parts = split(data, "time", test=0.2, valid=0.25)
    assert pairs(parts.test) == {(1, 8), (1, 9)}
    assert pairs(parts.valid) == {(1, 6), (1, 7)}


def test_true_is_no_cut():
    with pytest.raises(ConfigError, match=r"data\.split\.cut: must be an ISO date"):
        split(table(*TIMED), "time", cut=True)


def test_a_cut_outside_says_so():
    data = table(*[(u, i, t * 10**12) for u, i, t in TIMED])
    with pytest.raises(DataError, match=r"leaves no row in train.*look like milliseconds"):
        split(data, "time", cut="2020-01-01")
    with pytest.raises(DataError, match="leaves no row in test"):
        split(table(*TIMED), "time", cut="2020-01-01")


@pytest.mark.parametrize("cut", ["soon", "2020-13-45", ""])
def test_a_cut_that_is_no_moment_is_refused_with_the_settings(cut):
    said = rf"data\.split\.cut: must be an ISO date, seconds, or a quantile.*got '{cut}'"
    with pytest.raises(ConfigError, match=said):
        build(DataConfig, {"split": {"strategy": "time", "cut": cut}}, "data")
    with pytest.raises(ConfigError, match=said):
        split(table(*TIMED), "time", cut=cut)


def test_auto_takes_time_when_there_is_time():
    rows = [(1, i, i) for i in range(10)]
    assert split(table(*rows), valid=0).strategy == "temporal"
    assert split(table(*[row[:2] for row in rows]), valid=0).strategy == "random"


def test_seeds_decide_the_random_split():
    data = table(*[(u, i) for u in range(20) for i in range(10)])
    first, same, other = (split(data, "random", valid=0, seed=seed).test for seed in (1, 1, 2))
    assert first is not None and same is not None and other is not None
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_random_split_takes_every_item_equally_often():
    data = table(*[(u, i) for u in range(2000) for i in range(10)])
    test = split(data, "random", test=0.2, valid=0).test
    assert test is not None
    # 2000 draws of 2 of 10 items: 400 of each, standard deviation sqrt(2000 * 0.2 * 0.8) = 17.9
    assert np.abs(test.item_degrees - 400).max() < 5 * 17.9


def test_large_timestamps_still_sort():
    far = 2**62
    data = table((1, 1, far), (1, 2, -far), (1, 3, 0), (2, 4, 5), (2, 1, 9), (2, 2, far))
    parts = split(data, "temporal", test=0.34, valid=0)
    assert pairs(parts.test) == {(1, 1), (2, 2)}


def test_many_users_and_wide_times_do_not_overflow():
    data = table(*[(u, i, 10**9 + (7 * i % 5) * 10**8) for u in range(500) for i in range(5)])
    test = split(data, "temporal", test=0.2, valid=0).test
    assert pairs(test) == {(u, 2) for u in range(500)}  # 7 * 2 % 5 = 4 is the latest


def test_settings_that_do_not_fit():
    data = table((1, 1), (1, 2))
    with pytest.raises(DataError, match="needs timestamps"):
        split(data, "temporal")
    with pytest.raises(
        DataError, match=r"largest user's 2 rows is below 1; raise data\.split\.test"
    ):
        split(data, "random")
    with pytest.raises(ConfigError, match=r"split\.test"):
        split(data, test=1.5)
    with pytest.raises(ConfigError, match=r"split\.strategy"):
        split(data, "leave-one-out")
    with pytest.raises(ConfigError, match="given needs files"):
        split(data, "given")


def test_merge_needs_one_vocabulary():
    with pytest.raises(DataError, match="same users and items"):
        merge(table((1, 1)), table((1, 2)))
    data = table((1, 1), (1, 2))
    with pytest.raises(DataError, match="repeated"):
        merge(data, data)


@pytest.mark.parametrize("seed", [-1, "x", None, float("nan"), 2**70, 1.5, True])
def test_a_seed_that_is_none_is_one_line(seed, tmp_path):
    rows = "".join(f"{user},{item}\n" for user in range(3) for item in range(5))
    (file := tmp_path / "a.csv").write_text(f"user,item\n{rows}")
    with pytest.raises(ConfigError, match="^seed: must be "):
        split(load(file), seed=seed)
    with pytest.raises(ConfigError, match="^seed: must be "):
        prepare(tmp_path / "missing.csv", seed=seed)
    assert split(load(file), seed=np.int64(3)).fingerprint == prepare(file, seed=3).fingerprint


@pytest.mark.parametrize("cut", [1e300, -1e300, "1e400", "nan", float("nan"), float("inf")])
def test_a_cut_that_is_no_moment_is_one_short_line(cut):
    with pytest.raises(
        ConfigError, match="^data.split.cut: must be an ISO date, seconds, or"
    ) as caught:
        build(SplitConfig, {"strategy": "time", "cut": cut}, "data.split")
    assert len(str(caught.value)) < 150


def test_a_quantile_next_to_1_leaves_the_last_row():
    data = table(*[(1, item, item) for item in range(1000)])
    for asked in ({"cut": 1 - 1e-13}, {"test": 1e-12}):
        assert pairs(split(data, "time", valid=0, **asked).test) == {(1, 999)}


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([(1, 1), (1, 2)], {"strategy": "last"}, "the largest user has 1 rows; set data.split.valid=0"),
        (
            [(1, 1), (1, 2), (1, 3)], {"strategy": "last", "last_k": 2, "valid": 0},
            None,
        ),
        (
            [(1, 1), (1, 2)], {"strategy": "last", "last_k": 2},
            "no test rows: the largest user has 2 rows; lower data.split.last_k",
        ),
        (
            [(1, 1), (1, 2)], {"strategy": "random", "test": 0.5},
            "is below 1; raise data.split.valid, or set data.split.valid=0",
        ),
        (
            [(1, 1), (1, 2), (2, 1)], {"strategy": "time", "cut": 3},
            "leaves no row in train: timestamps run from 1 to 1; set another data.split.valid, or 0",
        ),
    ],
)  # fmt: skip
def test_a_part_without_rows_names_what_can_be_changed(rows, options, said):
    last = {(1, 3), (2, 1)} if options.get("cut") else set()
    data = table(*[(*row, 3 if row in last else 1) for row in rows])
    if said is None:
        options = {**options, "ties": "item"}
        assert pairs(split(data, **options).test) == {(1, 2), (1, 3)}
        return
    with pytest.raises(DataError) as caught:
        split(data, **options)
    assert str(caught.value).endswith(said)


def test_facts_of_a_table_without_pairs():
    facts = statistics(table((1, 1)).take(np.array([False])))
    assert (facts["interactions"], facts["per_user_max"], facts["gini"]) == (0, 0, 0)


def test_rows_of_one_time_are_held_out_by_item_or_at_random(caplog):
    """2,000 baskets of items 0 to 4, after one older item: item 4 is always held out, or one time in five."""
    data = table(*[(user, item, 7) for user in range(2000) for item in range(5)],
                 *[(user, 9, 1) for user in range(2000)])  # fmt: skip
    parts = split(data, "last", valid=0, ties="item")
    assert parts.test is not None and parts.test.item_degrees.tolist() == [0, 0, 0, 0, 2000, 0]
    assert parts.counts["test_cut_in_ties"] == 2000
    for strategy in ("last", "temporal"):
        drawn = split(data, strategy, valid=0, seed=1)
        assert drawn.test is not None and drawn.test.user_degrees.tolist() == [1] * 2000
        held = drawn.test.item_degrees
        assert held[5] == 0 and abs(held[:5] - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)
        again = split(data, strategy, valid=0, ties="random", seed=2)
        assert drawn.fingerprint == again.fingerprint  # no seed changes it
    assert caplog.text == ""


def test_ties_that_are_not_cut_are_not_counted():
    rows = [(1, 1, 5), (1, 2, 5), (1, 3, 6), (1, 4, 6)]
    parts = split(table(*rows), "temporal", test=0.5, valid=0)
    assert pairs(parts.test) == {(1, 3), (1, 4)} and "test_cut_in_ties" not in parts.counts
    drawn = split(table(*rows), "temporal", test=0.5, valid=0, ties="item")
    assert pairs(drawn.test) == {(1, 3), (1, 4)}


@pytest.mark.parametrize(("last", "warned"), [(7, True), (3, False)])
def test_many_rows_at_the_time_of_the_cut_are_told(last, warned, caplog):
    """Of ten rows, so many have the last timestamp; two were asked for."""
    rows = [(user, 1, min(user, 10 - last)) for user in range(10)]
    parts = split(table(*rows), "time", test=0.2, valid=0)
    assert len(parts.test) == last
    told = f"data.split.test=0.2: {10 * last} % of the rows are held out"
    assert (told in caplog.text) == warned
    split(table(*rows), "time", cut=10 - last, valid=0)  # as asked
    assert caplog.text.count("are held out") == warned
