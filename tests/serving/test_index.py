"""Indexes against exact ranking, with items of very different lengths."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from disks import small_files
from ssmrec.data import Interactions, Vocabulary
from ssmrec.errors import ConfigError, RunError
from ssmrec.ranking import Ranker
from ssmrec.serving import Live
from ssmrec.serving import index as index_room
from ssmrec.serving.export import export_vectors
from ssmrec.serving.index import build, facts_of, find, load, recall
from ssmrec.serving.libraries import KINDS, MODULES


@pytest.fixture(scope="module")
def ranker():
    """200 users, 3000 items of log-normal lengths; items 0-9 unknown."""
    random = np.random.default_rng(0)
    user, item = np.repeat(np.arange(200), 15), random.integers(10, 3000, 3000)
    pairs = np.unique(np.column_stack([user, item]), axis=0)
    rest = np.setdiff1d(np.arange(10, 3000), pairs[:, 1])
    pairs = np.concatenate([pairs, np.column_stack([rest % 200, rest])])
    sides = [Vocabulary(pl.Series(np.arange(n))) for n in (200, 3000)]
    train = Interactions.from_pairs(*pairs.T, *sides)
    items = random.normal(size=(3000, 16)) * random.lognormal(0, 0.8, (3000, 1))
    items[:10] *= 1000  # of items that are unknown, vectors mean nothing
    users = random.normal(size=(200, 16))
    return Ranker(*(torch.from_numpy(x.astype(np.float32)) for x in (users, items)), train, train)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_nearly_all_and_scores_exactly(ranker, kind, tmp_path):
    pytest.importorskip(MODULES[kind], reason="extra `index` is not installed")
    index = build(ranker, kind, "abc")
    assert index.size == 2990
    assert recall(index, ranker, 10) > 0.97
    users = np.arange(50)
    choice = ranker.choice(10, deny=list(range(10, 500)))
    exact, found = ranker.top(users, choice), index.top(ranker, users, choice)
    seen = ranker.seen
    for user in users:
        ids, scores = found.ids[user], found.scores[user]
        ids, scores = ids[ids >= 0], scores[ids >= 0]
        assert (ids >= 500).all() and not set(ids) & set(seen.indices[seen.rows == user])
        want = ranker.items[torch.from_numpy(ids.astype(np.int64))] @ ranker.users[user]
        np.testing.assert_allclose(scores, want, rtol=1e-5)
        assert (np.diff(scores) <= 0).all()
    assert np.mean(exact.ids == found.ids) > 0.9
    index.save(str(tmp_path))
    again = load(tmp_path / f"index.{kind}", ranker, "abc")
    np.testing.assert_array_equal(again.top(ranker, users, choice).ids, found.ids)
    with pytest.raises(RunError, match="belongs to another run"):
        load(tmp_path / f"index.{kind}", ranker, "abd")


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_that_does_not_fit_leaves_the_older_one(ranker, live, kind, tmp_path):
    """Files may grow to 64 KB here, and the new index has more: a write fails as on a full disk."""
    pytest.importorskip(MODULES[kind], reason="extra `index` is not installed")
    build(live.ranker, kind, "old").save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == [f"index.{kind}", f"index.{kind}.json"]
    large = build(ranker, kind, "new")
    with (
        small_files(1 << 16),
        pytest.raises(RunError, match=f"index.{kind}: cannot be written"),
    ):
        large.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    choice = live.ranker.choice(3)
    again = load(tmp_path / f"index.{kind}", live.ranker, "old")
    lists = again.top(live.ranker, np.arange(5), choice)
    np.testing.assert_array_equal(lists.ids, live.ranker.top(np.arange(5), choice).ids)


@pytest.mark.parametrize("share", [1 / 64, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_that_an_index_cannot_fill_are_ranked_exactly(ranker, kind, share, monkeypatch):
    """Filters that leave items far down in the order, and lists that take most of the catalogue."""
    pytest.importorskip(MODULES[kind], reason="extra `index` is not installed")
    monkeypatch.setattr(index_room, "_SHARE", share)
    index, users = build(ranker, kind), np.arange(20)
    short = torch.argsort(ranker.items[10:].norm(dim=1))[:5] + 10
    few, many = ranker.choice(10, allow=short.tolist()), ranker.choice(2000)
    found, exact = (make(users, few).ids for make in (partial(index.top, ranker), ranker.top))
    np.testing.assert_array_equal(found, exact)
    assert (index.top(ranker, users, many).ids >= 0).all()


def test_where_an_index_is_found(tmp_path):
    assert find("faiss", tmp_path) == tmp_path / "index.faiss"  # the run's own, built or not
    one, two = tmp_path / "index.hnsw", tmp_path / "index.faiss"
    with pytest.raises(RunError, match="the folder holds none; build one with ssmrec index"):
        find(str(tmp_path), tmp_path / "run")
    one.touch()
    assert find(str(tmp_path), tmp_path / "run") == find(str(one), tmp_path / "run") == one
    facts_of(one).touch()
    assert find(str(facts_of(one)), tmp_path / "run") == one
    two.touch()
    with pytest.raises(RunError, match="the folder holds several; name the file of one"):
        find(str(tmp_path), tmp_path / "run")
    with pytest.raises(RunError, match="usearh: no such file or folder.*did you mean 'usearch'"):
        find("usearh", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_that_is_not_as_it_was_written_is_refused(live, kind, tmp_path):
    """A damaged file would end the process in some libraries; and its name does not matter."""
    pytest.importorskip(MODULES[kind], reason="extra `index` is not installed")
    build(live.ranker, kind, "abc").save(tmp_path)
    file, facts = tmp_path / f"index.{kind}", facts_of(tmp_path / f"index.{kind}")
    moved = tmp_path / "shop.index"
    moved.write_bytes(file.read_bytes())
    facts_of(moved).write_bytes(facts.read_bytes())
    assert load(moved, live.ranker, "abc").kind == kind
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match="not as it was written; build it with ssmrec index"):
        load(file, live.ranker, "abc")
    file.write_bytes(moved.read_bytes())
    for name, other in (("size", 0), ("size", "x"), ("kind", "annoy"), ("more", 1)):
        facts.write_text(json.dumps({**json.loads(facts_of(moved).read_text()), name: other}))
        with pytest.raises(RunError, match="not as it was written; build it with ssmrec index"):
            load(file, live.ranker, "abc")
    unsealed = '{"kind": 1, "size": 1, "version": "abc"}'
    for told in ("[1]", "{}", "7", "null", '"text"', '{"kind": "hnsw"', unsealed):
        facts.write_text(told)
        with pytest.raises(RunError, match=f"index.{kind}: cannot be read"):
            load(file, live.ranker, "abc")
    held = load(moved, live.ranker, "abc")
    os.truncate(moved, 0)  # an index that maps its file would end the process here
    choice = live.ranker.choice(3)
    lists = held.top(live.ranker, np.arange(5), choice)
    np.testing.assert_array_equal(lists.ids, live.ranker.top(np.arange(5), choice).ids)


def test_a_catalogue_smaller_than_the_list(live):
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    choice = live.ranker.choice(100)
    users = np.arange(5)
    exact = live.ranker.top(users, choice)
    found = build(live.ranker, "hnsw").top(live.ranker, users, choice)
    np.testing.assert_array_equal(found.ids, exact.ids)


def test_item_item_models_and_unknown_kinds_are_refused(models, ranker, tmp_path):
    pytest.importorskip("hnswlib", reason="extra `index` is not installed")
    weights = Live.of(models("ease").trained_).ranker
    with pytest.raises(ConfigError, match="no vectors to index"):
        build(weights, "hnsw")
    with pytest.raises(ConfigError, match="no vectors to export"):
        export_vectors(weights, tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'faiss'"):
        build(ranker, "fais")
    with pytest.raises(RunError, match="build it with ssmrec index"):
        load(tmp_path / "index.hnsw", ranker, "abc")


def test_an_export_spares_files_of_others(live, tmp_path):
    titles = pl.DataFrame({"item": [1], "title": ["lamp"]})
    titles.write_parquet(tmp_path / "items.parquet")
    for form in ("parquet", "npy"):
        with pytest.raises(RunError, match="items.parquet: holds something else; choose another"):
            export_vectors(live.ranker, tmp_path, form)
    assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]
    assert pl.read_parquet(tmp_path / "items.parquet").equals(titles)
    (tmp_path / "items.parquet").unlink()
    for form in ("parquet", "npy", "parquet"):
        assert export_vectors(live.ranker, tmp_path, form)["items"] == 40


def test_vectors_of_two_exports_are_not_mixed_and_foreign_arrays_stay(run, tmp_path):
    ranker = Live.load(run).ranker
    export_vectors(ranker, str(tmp_path / "v"), "npy")
    export_vectors(ranker, tmp_path / "v", "parquet")
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == ["items.parquet", "users.parquet"]
    np.save(tmp_path / "users.npy", np.ones(3))
    with pytest.raises(RunError, match="users.npy: is there already"):
        export_vectors(ranker, tmp_path, "npy")
    assert np.load(tmp_path / "users.npy").tolist() == [1, 1, 1]


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_an_export_that_does_not_fit_leaves_the_older_one(ranker, tmp_path, form):
    """Files may grow to 64 KB here: the users would fit, and the items do not."""
    export_vectors(ranker, tmp_path, form)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = replace(ranker, users=2 * ranker.users, items=2 * ranker.items)
    with small_files(1 << 16), pytest.raises(RunError, match="cannot be written"):
        export_vectors(other, tmp_path, form)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_exported_vectors_give_the_scores(live, tmp_path, form):
    assert export_vectors(live.ranker, tmp_path, form) == {"users": 60, "items": 40}
    ids = {name: pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("users", "items")}
    if form == "npy":
        users, items = (np.load(tmp_path / f"{name}.npy") for name in ("users", "items"))
    else:
        users, items = (ids[name]["vector"].to_numpy() for name in ("users", "items"))
    frame = live.ranker.recommend(pl.Series([107]), live.ranker.choice(4))
    place = ids["users"]["id"].to_list().index(107)
    at = [ids["items"]["id"].to_list().index(item) for item in frame["item"]]
    np.testing.assert_allclose(items[at] @ users[place], frame["score"], rtol=1e-5)
