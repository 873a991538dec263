"""Popularity with a half-life, against hand-computed values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import ssmrec
from ssmrec.data import Interactions, Split, Vocabulary
from ssmrec.errors import ConfigError
from ssmrec.training import load_run, resolve, save_run, train_run
from ssmrec.training.blend import blend
from ssmrec.training.grown import grown
from ssmrec.training.update import update_run

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
