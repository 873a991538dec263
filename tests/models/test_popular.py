"""Popularity with a half-life, against hand-computed values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import ssmrec
from ssmrec.blending.blend import blend
from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.errors import ConfigError
from ssmrec.ranking import ItemRows
from ssmrec.serving.foldin import FoldIn
from ssmrec.serving.live import Live
from ssmrec.training import load_run, resolve, save_run, train_run
from ssmrec.updating.grown import grown
from ssmrec.updating.update import update_run

DAY = 86400


@pytest.fixture
def pairs():
    """Item 0 today and ten days ago, item 1 ten and twenty days ago, item 2 today; item 3 never."""
    users, items = (Vocabulary(pl.Series(np.arange(n), dtype=pl.Int64)) for n in (3, 4))
    rows = np.array([[0, 0, 20], [0, 1, 0], [1, 0, 10], [1, 1, 10], [2, 2, 20]])
    return Interactions.from_pairs(
        rows[:, 0], rows[:, 1], users, items, timestamps=rows[:, 2] * DAY
    )


def config(half_life=None):
    return resolve(
        {"model": {"name": "popular", "half_life": half_life}, "train": {"protocol": "fixed"}}
    )


def solved(pairs, half_life=None):
    return train_run(config(half_life), Split(pairs, None, None, "given"))


@pytest.mark.parametrize(
    ("half_life", "counts"),
    [(None, [2, 2, 1, 0]), (10.0, [1.5, 0.75, 1, 0]), (5.0, [1.25, 0.3125, 1, 0])],
)
def test_the_score_is_the_logarithm_of_the_decayed_count(pairs, half_life, counts):
    vectors = solved(pairs, half_life).model.vectors()
    scores = vectors.users @ vectors.items.T
    np.testing.assert_allclose(scores, np.log1p([counts] * 3), rtol=1e-6)


def test_a_half_life_needs_timestamps(pairs):
    with pytest.raises(ConfigError, match="no timestamps; name their column with data.timestamp"):
        solved(replace(pairs, timestamps=None), 3.0)
    assert solved(replace(pairs, timestamps=None)).model.vectors().items[0] > 1


def test_the_folder_keeps_the_times_so_that_an_update_goes_on_with_them(pairs, tmp_path):
    """Ten more days on, the old pairs count half of what they did."""
    save_run(tmp_path / "run", solved(pairs, 10.0), "data")
    old, _ = load_run(tmp_path / "run")
    assert np.array_equal(old.train.timestamps, pairs.timestamps)
    new = Interactions.from_pairs(
        np.array([2]), np.array([3]), pairs.users, pairs.items, timestamps=np.array([30 * DAY])
    )
    found = update_run(old, grown(old, new, config(10.0)), config(10.0), {})
    np.testing.assert_allclose(
        found.model.vectors().items[:, 0], np.log1p([0.75, 0.375, 0.5, 1]), rtol=1e-6
    )
    save_run(tmp_path / "second", found, "data")
    again, _ = load_run(tmp_path / "second")
    assert again.train.timestamps.max() == 30 * DAY


def test_other_folders_do_not_keep_them_and_blends_with_it_do(pairs, tmp_path):
    svd = train_run(
        resolve({"model": {"name": "svd", "dim": 2}, "train": {"protocol": "fixed"}}),
        Split(pairs, None, None, "given"),
    )
    both = blend([svd, solved(pairs, 10.0)], Split(pairs, None, None, "given"), weights=[0.5, 0.5])
    for name, run, kept in (("svd", svd, False), ("both", both, True)):
        save_run(tmp_path / name, run, "data")
        loaded, _ = load_run(tmp_path / name)
        assert (loaded.train.timestamps is not None) == kept


def test_it_is_the_reference_that_stands_beside_every_result(tastes):
    rec = ssmrec.Recommender("popular").fit(tastes.train, tastes.valid, progress=False)
    metrics = train_run(
        resolve({"model": {"name": "popular"}, "train": {"protocol": "valid"}}), tastes
    ).metrics
    assert metrics["test"] == pytest.approx(metrics["reference"]["most_popular"])
    first = rec.recommend([tastes.train.users.ids[0]], k=5)
    degrees = dict(zip(tastes.train.items.ids, tastes.train.item_degrees, strict=True))
    found = [degrees[item] for item in first["item"]]
    assert found == sorted(found, reverse=True)


def test_days_are_those_of_the_unit_of_the_timestamps(pairs):
    """Milliseconds since 1970 are no seconds of the year 50,000."""
    epoch = 1_700_000_000
    found = []
    for factor in (1, 1000, 10**6, 10**9):
        times = (pairs.timestamps + epoch) * factor
        found.append(solved(replace(pairs, timestamps=times), 10.0).model.vectors().items)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6)


def test_it_has_no_similar_items_and_gives_no_reasons(pairs):
    live = Live.of(solved(pairs))
    with pytest.raises(ConfigError, match="popularity tells nothing of which items are alike"):
        live.ranker.similar([0])
    assert live.explain(0).is_empty()
    made = FoldIn(live.trained)
    rows = made.vectors(ItemRows.of([np.array([0]), np.zeros(0, np.int32)], 4))
    assert made.how == "the same for all" and rows.tolist() == [[1.0], [0.0]]


def test_similar_items_of_a_blend_leave_popularity_out(tastes):
    config = {"train": {"protocol": "fixed"}}
    runs = [
        train_run(resolve({"model": model, **config}), tastes)
        for model in ({"name": "svd", "dim": 4}, {"name": "popular"}, {"name": "ease"})
    ]
    alone = Live.of(runs[0]).ranker.similar(tastes.train.items.ids[:5], 4)
    inner = blend(runs[:2], tastes, [0.2, 0.8])
    for found in (inner, blend([inner, runs[2]], tastes, [0.5, 0.5])):
        similar = Live.of(found).ranker.similar(tastes.train.items.ids[:5], 4)
        assert similar["similar"].to_list() == alone["similar"].to_list()
        np.testing.assert_allclose(similar["score"], alone["score"], atol=1e-5)
    both = blend([runs[1], runs[2]], tastes, [0.5, 0.5])  # no vectors but those of popularity
    own = Live.of(runs[2]).ranker.similar(tastes.train.items.ids[:5], 4)
    found = Live.of(both).ranker.similar(tastes.train.items.ids[:5], 4)
    assert found["similar"].to_list() == own["similar"].to_list()


def test_a_blend_has_the_timestamps_of_the_run_that_has_them(pairs, tmp_path):
    """As runs from folders have them only where a model looks at them."""
    split = Split(pairs, None, None, "given")
    svd = train_run(
        resolve({"model": {"name": "svd", "dim": 2}, "train": {"protocol": "fixed"}}), split
    )
    for name, run in (("svd", svd), ("popular", solved(pairs, 10.0))):
        save_run(tmp_path / name, run, "data")
    runs = [load_run(tmp_path / name)[0] for name in ("svd", "popular")]
    both = blend(runs, split, [0.5, 0.5])
    assert np.array_equal(both.train.timestamps, pairs.timestamps)
    new = Interactions.from_pairs(
        np.array([2]), np.array([3]), pairs.users, pairs.items, timestamps=np.array([30 * DAY])
    )
    later = update_run(both, grown(both, new, both.config), both.config, {})
    np.testing.assert_allclose(
        later.model.parts[1].items[:, 0], np.log1p([0.75, 0.375, 0.5, 1]), rtol=1e-6
    )
