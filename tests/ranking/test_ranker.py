"""Filters and neighbours against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from ssmrec.errors import ConfigError, DataError
from ssmrec.ranking import ItemRows, Ranker, top_k


@pytest.fixture
def ranker(make_interactions):
    """6 users (100 ...), 9 items (100 ...); item 108 has no training pair; nor has user 105."""
    random = np.random.default_rng(0)
    mask = random.random((6, 9)) < 0.4
    mask[:, 8] = mask[5] = False
    mask[0, :8] = True
    pairs = make_interactions(mask)
    generator = torch.Generator().manual_seed(1)
    users, items = (torch.randn(n, 4, generator=generator) for n in (6, 9))
    return Ranker(users, items, pairs, pairs)


def brute(ranker, user, k, permitted, seen=True):
    """Ids best first, by a plain sort of all scores."""
    scores = (ranker.users[user] @ ranker.items.T).tolist()
    cut = ranker.seen.indptr
    has = set(ranker.seen.indices[cut[user] : cut[user + 1]]) if seen else set()
    items = [i for i in range(8) if i not in has and 100 + i in permitted]
    return [100 + i for i in sorted(items, key=lambda i: -scores[i])[:k]]


def lists(frame):
    return {user: part["item"].to_list() for (user,), part in frame.group_by("user")}


@pytest.mark.parametrize("include_seen", [True, False])
def test_allow_and_deny(ranker, include_seen):
    choice = ranker.choice(3, include_seen=include_seen, allow=[101, 102, 104, 107], deny=["104"])
    found = lists(ranker.recommend(pl.Series([101, 103]), choice))
    for user in (1, 3):
        want = brute(ranker, user, 3, {101, 102, 107}, not include_seen)
        assert found.get(100 + user, []) == want


def test_candidates_are_of_each_user(ranker, caplog):
    candidates = pl.DataFrame(
        {"user": [101, 101, 102, 102, 999, 999], "item": [103, 105, 108, 100, 100, 105]}
    )
    choice = ranker.choice(9, include_seen=True, candidates=candidates)
    found = lists(ranker.recommend(pl.Series([101, 102, 103]), choice))
    assert found == {101: brute(ranker, 1, 9, {103, 105}, False), 102: [100]}
    assert "candidates: 1 of 4 items were not trained on: 108" in caplog.text
    assert "candidates: 1 of 3 users were not trained on: 999" in caplog.text
    with pytest.raises(DataError, match="candidates: the model knows none of its 2 users"):
        ranker.choice(9, candidates=pl.DataFrame({"user": [7, 999, 7], "item": [103, 105, 105]}))
    with pytest.raises(ConfigError, match="unknown=popular cannot keep to candidates"):
        ranker.recommend(pl.Series([101, 999]), choice, "popular")
    assert set(ranker.recommend(pl.Series([101, 999]), choice, "skip")["user"]) == {101}


def test_who_or_what_is_named_twice_is_counted_once(ranker, caplog):
    candidates = pl.DataFrame({"user": [101], "item": [103]})
    choice = ranker.choice(2, deny=[107, "ghost", "ghost"], candidates=candidates)
    assert "deny: 1 of 2 items were not trained on: 'ghost'" in caplog.text
    ranker.recommend(pl.Series([101, 999, 999, 102, 102]), choice, "skip")
    assert "1 user(s) were not trained on: 999; left out" in caplog.text
    assert "1 user(s) have no candidates: 102; left out" in caplog.text
    with pytest.raises(DataError, match=r"1 item\(s\) were not trained on: 108"):
        ranker.similar([108, 108])
    with pytest.raises(DataError, match="allow: the model knows none of its 2 items"):
        ranker.choice(5, allow=[108, 7, 108])


def test_who_has_all_that_may_be_listed_is_told(ranker, caplog):
    everybody = pl.Series([100, 101, 100])
    mine = ranker.seen.indices[ranker.seen.indptr[1] : ranker.seen.indptr[2]]
    ranker.recommend(everybody, ranker.choice(3))
    assert "1 user(s) have all items that may be listed: 100; left out" in caplog.text
    ranker.recommend(everybody, ranker.choice(3, allow=(100 + mine).tolist()))
    assert "2 user(s) have all items that may be listed: 100, 101; left out" in caplog.text
    caplog.clear()
    ranker.recommend(everybody, ranker.choice(3, include_seen=True))
    assert "left out" not in caplog.text


def test_who_has_nothing_left_is_told_whatever_leaves_it_out(ranker, caplog):
    everybody = pl.Series([100, 101])
    for given, told in (
        ({"deny": list(range(100, 108))}, "2 user(s) have no item that may be listed: 100, 101"),
        (
            {"candidates": pl.DataFrame({"user": [100, 100], "item": [103, 104]})},
            "1 user(s) have candidates of which none may be listed: 100",
        ),
        (
            {
                "candidates": pl.DataFrame({"user": [101], "item": [103]}),
                "deny": [103],
                "include_seen": True,
            },
            "1 user(s) have candidates of which none may be listed: 101",
        ),
    ):
        caplog.clear()
        found = ranker.recommend(everybody, ranker.choice(3, **given))
        assert caplog.text.count(f"{told}; left out") == 1 and found.is_empty()


def test_candidates_may_be_a_frame_of_pandas_and_nothing_but_a_frame(ranker):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = {"user": [101, 102], "item": [103, 100]}
    want = ranker.choice(3, candidates=pl.DataFrame(table)).only
    for frame in (pandas.DataFrame(table), pl.LazyFrame(table)):
        only = ranker.choice(3, candidates=frame).only
        assert np.array_equal(only.indptr, want.indptr)
        assert np.array_equal(only.indices, want.indices)
    for other in (table, [(101, 103)], "pairs.csv"):
        with pytest.raises(DataError, match="candidates must be a polars or a pandas frame"):
            ranker.choice(3, candidates=other)
    with pytest.raises(DataError, match="candidates need columns user and item"):
        ranker.choice(3, candidates=pandas.DataFrame({"u": [1]}))


def test_a_short_list_is_never_filled(ranker):
    choice = ranker.choice(5, allow=[100, 108])
    assert ranker.recommend(pl.Series([100]), choice).is_empty()  # has 100, and 108 is unknown


def test_filters_of_unknown_items_are_an_error(ranker):
    with pytest.raises(DataError, match="allow: the model knows none of its 2 items"):
        ranker.choice(5, allow=[108, "ghost"])
    with pytest.raises(DataError, match="candidates need columns user and item"):
        ranker.choice(5, candidates=pl.DataFrame({"u": [1]}))
    with pytest.raises(ConfigError, match="k must be"):
        ranker.choice(True)


def test_text_finds_a_number_only_as_it_is_written(ranker):
    ids = pl.Series(["100", "0100", "+100", "100 ", "105", "x"])
    assert ranker.find_users(ids).tolist() == [0, -1, -1, -1, -1, -1]  # 105 has no pair
    assert ranker.find_items(pl.Series(["108", "107"])).tolist() == [-1, 7]


def test_a_length_may_be_a_numpy_number(ranker):
    """Such as the longest of some list lengths, computed by numpy or pandas."""
    choice = ranker.choice(np.array([2, 3], dtype=np.int16).max())
    assert choice.k == 3 and type(choice.k) is int
    for k in (0, np.int64(0), True, np.True_, 2.0, np.float64(2), "2"):
        with pytest.raises(ConfigError, match="k must be a whole number of at least 1"):
            ranker.choice(k)


def test_popular_keeps_to_the_filters(ranker):
    degrees = ranker.train.item_degrees
    frame = ranker.recommend(pl.Series([105]), ranker.choice(2, deny=[100]), "popular")
    order = sorted(range(1, 8), key=lambda i: (-degrees[i], i))[:2]
    assert frame["item"].to_list() == [100 + i for i in order]
    assert frame["score"].to_list() == [degrees[i] for i in order]


def test_popular_leaves_out_what_a_user_has_in_validation_only(ranker, make_interactions):
    """105 has the two most popular items and 108, which nobody trained on; 7 and "0105" are strangers."""
    degrees = ranker.train.item_degrees
    order = sorted(range(8), key=lambda i: (-degrees[i], i))
    mask = np.zeros((6, 9), bool)
    mask[5, [*order[:2], 8]] = True
    ranker = replace(ranker, seen=ranker.train.joined(make_interactions(mask)))
    asked = pl.Series(["7", "105", "0105"])
    frame = ranker.recommend(asked, ranker.choice(3), "popular")
    names = [100 + i for i in order]
    assert lists(frame) == {"7": names[:3], "105": names[2:5], "0105": names[:3]}
    assert frame["user"].unique(maintain_order=True).to_list() == asked.to_list()
    assert frame["score"].to_list()[3:6] == [degrees[i] for i in order[2:5]]
    assert frame["rank"].to_list() == [1, 2, 3] * 3
    longest = lists(ranker.recommend(asked, ranker.choice(9), "popular"))
    assert longest == {"7": names, "105": names[2:], "0105": names}
    everything = ranker.choice(3, include_seen=True)
    assert lists(ranker.recommend(asked[1:2], everything, "popular")) == {"105": names[:3]}


def test_similar_is_the_cosine_of_item_vectors(ranker):
    frame = ranker.similar([102, "104"], 4)
    unit = ranker.items / ranker.items.norm(dim=1, keepdim=True)
    for item in (2, 4):
        cosine = (unit @ unit[item]).tolist()
        order = sorted((i for i in range(8) if i != item), key=lambda i: -cosine[i])[:4]
        part = frame.filter(pl.col("item").cast(str) == str(100 + item))
        assert part["similar"].to_list() == [100 + i for i in order]
        assert part["score"].to_list() == pytest.approx([cosine[i] for i in order], abs=1e-6)
    with pytest.raises(DataError, match="not trained on: 108"):
        ranker.similar([102, 108])


def test_candidates_equal_a_mask_of_everything_else():
    """`only` against `seen` of the complement, over blocks."""
    random = np.random.default_rng(2)
    users, items = (torch.from_numpy(random.normal(size=(n, 3))) for n in (50, 30))
    mask = random.random((50, 30)) < 0.3
    only = ItemRows.of([np.flatnonzero(row) for row in mask], 30)
    rest = ItemRows.of([np.flatnonzero(~row) for row in mask], 30)
    one = top_k(users, items, 6, only=only, block=16)
    other = top_k(users, items, 6, seen=[rest])
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_rankers_choices_and_lists_are_equal_to_themselves_only(ranker):
    choice, rows = ranker.choice(3), ItemRows.of([np.array([1])], 9)
    lists = ranker.top(np.array([0]), choice)
    for one, other in (
        (ranker, replace(ranker)),
        (choice, ranker.choice(3)),
        (rows, replace(rows)),
        (lists, replace(lists)),
    ):
        assert one == one and one != other


def test_a_frame_is_no_list_of_ids(ranker):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for frame in (pl.DataFrame({"user": [101], "item": [101]}), {"item": [101]}):
        for call in (
            lambda frame=frame: ranker.choice(3, deny=frame),
            lambda frame=frame: ranker.choice(3, allow=frame),
            lambda frame=frame: ranker.similar(frame),
            lambda frame=frame: ranker.recommend(frame, ranker.choice(3)),
        ):
            with pytest.raises(DataError, match="must be a list of ids, not a .*: give its column"):
                call()
    twice = pandas.DataFrame([[101, 103, 102]], columns=["user", "item", "user"])
    with pytest.raises(DataError, match="candidates: several columns are named user"):
        ranker.choice(3, candidates=twice)
